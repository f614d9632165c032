//! The program: configuration, assembly, listeners, leader duties, shutdown, command line.
