//! `cascade explain`: why a prompt went the way it did.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::bail;
use clap::Args;

use super::load;
use crate::explanation::Explanation;
use crate::recording::{Lines, files, lines_of_text};
use crate::replay::Replay;

#[derive(Debug, Args)]
pub(super) struct Explain {
    /// A request's id (`x-cascade-request-id`), or an exchange's
    id: String,
    /// Where it is: traces written by `serve --traces`, or exchanges
    #[arg(long = "in", required = true, value_name = "FILE")]
    places: Vec<PathBuf>,
    /// The policy to run an exchange under; the demo's if left out
    #[arg(long, short)]
    policy: Option<PathBuf>,
    /// Print JSON for programs
    #[arg(long)]
    json: bool,
}

impl Explain {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let paths = files(&self.places)?;
        for path in &paths {
            for line in lines_of_text(path)? {
                // A line that is no trace may be an exchange.
                let told = serde_json::from_str::<Explanation>(&line?).ok();
                if let Some(told) = told.filter(|told| told.id == self.id) {
                    return self.print(&told);
                }
            }
        }
        let policy = Arc::new(load::policy(self.policy.as_deref(), false)?);
        for path in &paths {
            for exchange in Lines::open(path)?.filter_map(Result::ok).filter(|exchange| exchange.id == self.id) {
                let (mut replay, mut done) = (Replay::new(policy.clone()), Vec::new());
                replay.push(Arc::new(exchange), &mut done);
                replay.finish(&mut done);
                if let Some(one) = done.first() {
                    return self.print(&Explanation::of(&policy, &one.exchange.prompt, &one.trace, &self.id, true));
                }
            }
        }
        bail!("neither a trace nor an exchange with the id {} is in the files given", self.id)
    }

    fn print(&self, told: &Explanation) -> anyhow::Result<ExitCode> {
        let text = if self.json { format!("{}\n", serde_json::to_string_pretty(told)?) } else { told.text() };
        super::print(&text)?;
        Ok(ExitCode::SUCCESS)
    }
}
