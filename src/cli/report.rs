//! `cascade report merge`: parts of a replay as one report.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, anyhow, bail};
use clap::{Args, Subcommand};

use super::load;
use super::replay::Shown;
use crate::report::{Differences, Partial};

#[derive(Debug, Args)]
pub(super) struct ReportOf {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Merge what `cascade replay --partial` has written into one report
    Merge(Merge),
}

#[derive(Debug, Args)]
struct Merge {
    /// The parts: every shard once, or replays of different files
    #[arg(required = true, value_name = "FILE")]
    parts: Vec<PathBuf>,
    /// The policy they ran under; the demo's if left out
    #[arg(long, short)]
    policy: Option<PathBuf>,
    #[command(flatten)]
    shown: Shown,
}

impl ReportOf {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let What::Merge(Merge { parts, policy, shown }) = self.what;
        if let Some(condition) = shown.fail_if.iter().find(|condition| condition.needs_two()) {
            eprintln!("cascade: --fail-if '{condition}' compares two policies: parts are of one");
            return Ok(ExitCode::from(2));
        }
        let policy = load::policy(policy.as_deref(), false)?;
        let mut read = Vec::new();
        for path in &parts {
            let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
            let Some(part) = Partial::read(&bytes) else {
                bail!("{} is no part of a replay by this version of cascade", path.display());
            };
            read.push(part);
        }
        let whole = Partial::merged(&policy, read).map_err(|why| anyhow!("{why}"))?;
        shown.show(vec![whole.tally.report(&policy)], Differences::keeping(0), whole.broken)
    }
}
