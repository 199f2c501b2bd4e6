//! `cascade completions`: what a shell needs to complete commands.

use std::process::ExitCode;

use clap::Args;
use clap_complete::Shell;

#[derive(Debug, Args)]
pub(super) struct Completions {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

impl Completions {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut super::command(), "cascade", &mut script);
        super::print(&String::from_utf8(script)?)?;
        Ok(ExitCode::SUCCESS)
    }
}
