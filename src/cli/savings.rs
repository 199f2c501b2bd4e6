//! `cascade savings`: what traces say was saved.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::bail;
use clap::Args;

use crate::explanation::Explanation;
use crate::recording::{files, lines_of_text};
use crate::savings::Savings;

#[derive(Debug, Args)]
pub(super) struct SavingsOf {
    /// Traces written by `serve --traces`
    #[arg(required = true, value_name = "FILE")]
    traces: Vec<PathBuf>,
    /// Print JSON for programs
    #[arg(long)]
    json: bool,
}

impl SavingsOf {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let (mut savings, mut odd) = (Savings::default(), 0u64);
        for path in files(&self.traces)? {
            for line in lines_of_text(&path)? {
                match serde_json::from_str::<Explanation>(&line?) {
                    Ok(told) => savings.add(&told),
                    Err(_) => odd += 1,
                }
            }
        }
        if savings.requests == 0 {
            bail!("there is no trace in the files given; `cascade serve --traces FILE` writes them");
        }
        if odd > 0 {
            eprintln!("cascade: {odd} lines are no traces, and were passed over");
        }
        let text =
            if self.json { format!("{}\n", serde_json::to_string_pretty(&savings)?) } else { savings.to_string() };
        super::print(&text)?;
        Ok(ExitCode::SUCCESS)
    }
}
