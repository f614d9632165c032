//! The program itself, built beside the tests: Cargo hands no package the binaries of another.

use std::process::ExitCode;

fn main() -> ExitCode {
    tribune::cli::run(std::env::args_os())
}
