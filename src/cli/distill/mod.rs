//! `cascade distill`: the smaller tiers learn from the larger ones.

mod adopt;
mod export;
mod kept;
mod plan;
mod simulate;
mod submit;
mod taken;

use std::process::ExitCode;

use clap::{Args, Subcommand};

#[derive(Debug, Args)]
pub(super) struct Distill {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Write training files from what a tier failed and a larger one answered
    Export(export::Export),
    /// Say what teaching a tier would save, and when it pays
    Plan(plan::Plan),
    /// Write the exchanges again with a student that has learned a share of the hard ones
    Simulate(simulate::Simulate),
    /// Upload training files and start the fine-tuning job
    Submit(submit::Submit),
    /// Say where the job stands, or follow it to its end
    Status(submit::Status),
    /// Write the policy with the model that was trained
    Adopt(adopt::Adopt),
}

impl Distill {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        match self.what {
            What::Export(export) => export.run(),
            What::Plan(plan) => plan.run(),
            What::Simulate(simulate) => simulate.run(),
            What::Submit(submit) => submit.run(),
            What::Status(status) => status.run(),
            What::Adopt(adopt) => adopt.run(),
        }
    }
}
