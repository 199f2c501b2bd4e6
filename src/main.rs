//! The program `cascade`: parse, run, print the error once, exit code.

use std::process::ExitCode;

/// Replays hand memory from thread to thread, which the system's allocator does
/// under a lock.
#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    prompt_cascade::cli::run(std::env::args_os())
}
