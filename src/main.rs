//! The program `cascade`: parse, run, print the error once, exit code.

use std::process::ExitCode;

/// A fifth less CPU for a request than the system's allocator, and two fifths less for a
/// replay, which hands memory from thread to thread. Huge pages are off: an idle gateway
/// would hold twice as much.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    prompt_cascade::cli::run(std::env::args_os())
}
