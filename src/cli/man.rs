//! `cascade man`: manual pages.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;

#[derive(Debug, Args)]
pub(super) struct Man {
    /// The folder to write them to, one for each command, as `cascade-serve.1`
    #[arg(value_name = "FOLDER")]
    to: PathBuf,
}

impl Man {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let failed = || format!("cannot write to {}", self.to.display());
        std::fs::create_dir_all(&self.to).with_context(failed)?;
        clap_mangen::generate_to(super::command(), &self.to).with_context(failed)?;
        Ok(ExitCode::SUCCESS)
    }
}
