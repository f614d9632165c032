//! The DNS server: hickory in, core decides, hickory out.
