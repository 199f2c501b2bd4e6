//! The program `cascade`: parse, run, print the error once, exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    prompt_cascade::cli::run(std::env::args_os())
}
