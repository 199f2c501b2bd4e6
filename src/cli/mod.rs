//! The commands, one file each.
//!
//! Invariant: exit code 0 is fine, 1 failed, 2 is a wrong command line. An
//! error is printed once, on standard error; results go to standard output.

mod books;
mod calibrate;
mod check;
mod completions;
mod demo;
mod distill;
mod doctor;
mod explain;
mod export;
mod import;
mod init;
mod key_place;
mod keys;
mod load;
mod man;
mod renewal;
mod replay;
mod replicas;
mod report;
mod savings;
mod schema;
mod serve;
mod serving;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "cascade", version, about, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write a first policy from the keys and servers that are there
    Init(init::Init),
    /// Try a policy's upstreams and models, and whether the wire through the gateway is clean
    Doctor(doctor::Doctor),
    /// Serve the demo and send its own traffic through it, to look at
    Demo(demo::Demo),
    /// Serve an OpenAI-compatible API that asks the smallest tier first
    Serve(serve::Serve),
    /// Replay recorded exchanges through a policy: what it costs, how good it is
    Replay(replay::Replay),
    /// Merge reports of parts of a recording
    Report(report::ReportOf),
    /// Learn from labelled exchanges when to stop and where to start, with a certificate
    Calibrate(calibrate::Calibrate),
    /// Teach a smaller tier from what it failed: export, plan, submit, status, adopt
    Distill(distill::Distill),
    /// Say why a prompt went the way it did
    Explain(explain::Explain),
    /// Read others' logs as exchanges: LiteLLM, OpenAI's batches, Helicone, Langfuse, chats
    Import(import::Import),
    /// Write exchanges as tables: Parquet by date, for SQL
    Export(export::Export),
    /// Say what traces of served requests have saved, and lost
    Savings(savings::SavingsOf),
    /// Check policies and run their tests
    Check(check::Check),
    /// Make, list and revoke the keys of clients
    Keys(keys::Keys),
    /// Print the JSON Schema of policy files
    Schema(schema::Schema),
    /// Print a script that completes commands in a shell
    Completions(completions::Completions),
    /// Write manual pages
    Man(man::Man),
}

/// The whole command line, as clap knows it.
fn command() -> clap::Command {
    Arguments::command()
}

/// Runs the program with these arguments, the first being its own name.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(wrong) => {
            let _ = wrong.print();
            return ExitCode::from(if wrong.use_stderr() { 2 } else { 0 });
        }
    };
    let done = match arguments.command {
        Command::Init(init) => init.run(),
        Command::Doctor(doctor) => doctor.run(),
        Command::Demo(demo) => demo.run(),
        Command::Serve(serve) => serve.run(),
        Command::Replay(replay) => replay.run(),
        Command::Report(report) => report.run(),
        Command::Calibrate(calibrate) => calibrate.run(),
        Command::Distill(distill) => distill.run(),
        Command::Import(import) => import.run(),
        Command::Export(export) => export.run(),
        Command::Savings(savings) => savings.run(),
        Command::Check(check) => check.run(),
        Command::Explain(explain) => explain.run(),
        Command::Keys(keys) => keys.run(),
        Command::Schema(schema) => schema.run(),
        Command::Completions(completions) => completions.run(),
        Command::Man(man) => man.run(),
    };
    match done {
        Ok(code) => code,
        // A reader that has seen enough, `head` for one, is no failure.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cascade: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error.chain().find_map(|cause| cause.downcast_ref::<std::io::Error>());
    io.is_some_and(|io| io.kind() == std::io::ErrorKind::BrokenPipe)
}

/// Prints a result; unlike `println!` it fails where nobody reads any more.
fn print(text: &str) -> anyhow::Result<()> {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}
