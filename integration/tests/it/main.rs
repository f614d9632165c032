//! Tests of the real program from outside: one binary, one module per subject.

mod scenarios;
