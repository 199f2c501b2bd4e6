//! `cascade check`: everything that is wrong with a policy, and its own tests.

use std::path::PathBuf;
use std::process::ExitCode;

use bytes::Bytes;
use clap::Args;

use super::load;
use crate::answer::Answer;
use crate::decision::judge;
use crate::openai::Endpoint;
use crate::policy::{Accept, Expect, Policy, PolicyTest};
use crate::prompt::Prompt;
use crate::scoring::{Evidence, Grade, Seen, grade};
use crate::trace::{Outcome, Why};

#[derive(Debug, Args)]
pub(super) struct Check {
    /// Policy files
    #[arg(required = true, value_name = "POLICY")]
    policies: Vec<PathBuf>,
    /// Print the policy with every default written out
    #[arg(long)]
    effective: bool,
    /// Do not require the environment variables a policy names
    #[arg(long)]
    no_env: bool,
}

impl Check {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let mut code = ExitCode::SUCCESS;
        for path in &self.policies {
            let policy = match load::policy(Some(path), !self.no_env) {
                Ok(policy) => policy,
                Err(problems) => {
                    eprintln!("cascade: {problems:#}\n");
                    code = ExitCode::FAILURE;
                    continue;
                }
            };
            let failed = failures(&policy);
            for failure in &failed {
                eprintln!("cascade: {}: {failure}", path.display());
                code = ExitCode::FAILURE;
            }
            if self.effective {
                super::print(&policy.effective)?;
            } else if failed.is_empty() {
                let (tiers, tests) = (policy.tiers.len(), policy.tests.len());
                let names: Vec<&str> = policy.tiers.iter().map(|t| t.name.as_str()).collect();
                super::print(&format!(
                    "{}: fine: {} of {tiers} tiers ({}), digest {}, {tests} of its tests pass\n",
                    path.display(),
                    policy.name,
                    names.join(", "),
                    policy.digest
                ))?;
            }
        }
        Ok(code)
    }
}

/// What went wrong with a policy's own tests.
pub(super) fn failures(policy: &Policy) -> Vec<String> {
    policy.tests.iter().filter_map(|test| fails(policy, test)).collect()
}

/// What went wrong with one test of a policy.
fn fails(policy: &Policy, test: &PolicyTest) -> Option<String> {
    let tier = &policy.tiers[test.tier];
    let body = serde_json::json!({"choices": [{"index": 0, "message": {"role": "assistant", "content": test.answer},
        "finish_reason": test.finish_reason}]});
    let answer = Answer::from_body(Endpoint::Chat, Bytes::from(body.to_string())).ok()?;
    let prompt = Prompt::parse(Endpoint::Chat, Bytes::from_static(br#"{"model":"","messages":[]}"#)).ok()?;
    let seen = Seen::default();
    let verdict = judge(policy, tier, false, 0, || match &tier.accept {
        Accept::Checked(check) => grade(&check.gates, &check.scorers, &Evidence::of(&prompt, &answer, &seen)),
        Accept::Always => Grade::Unscored,
    });
    // A test's answer has no logprobs and nothing to agree with: its gates decide.
    let is_gated = matches!(verdict.why, Why::Gate(_));
    if is_gated == (test.expect == Expect::Escalate) {
        return None;
    }
    let expected = if test.expect == Expect::Accept { "accept" } else { "escalate" };
    let outcome = Outcome::Answered { answer: answer.into(), seen, verdict };
    Some(format!("a test expects {expected} of {:?} from {}, but it is {outcome}", test.answer, tier.name))
}
