//! `cascade schema`: the JSON Schema of policy files.

use std::process::ExitCode;

use clap::Args;

use crate::policy::Policy;

#[derive(Debug, Args)]
pub(super) struct Schema {}

impl Schema {
    #[expect(clippy::unused_self, reason = "the same shape as every other command")]
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        super::print(&format!("{:#}\n", Policy::schema()))?;
        Ok(ExitCode::SUCCESS)
    }
}
