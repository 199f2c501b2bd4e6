//! The exchanges that a student is taught from, run through the policy.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, anyhow, bail};
use clap::Args;

use super::super::load;
use crate::distillation::{Wanted, answers_alone};
use crate::exchange::Exchange;
use crate::labels::Labels;
use crate::policy::{Policy, UpstreamKind, did_you_mean};
use crate::recording::{Lines, Redaction, files};
use crate::replay::{Replay, Replayed};

/// What every command about a student is given.
#[derive(Clone, Debug, Args)]
pub(super) struct Taken {
    /// Exchange files (.jsonl, .jsonl.zst), or folders of them
    #[arg(required = true, value_name = "EXCHANGES")]
    pub exchanges: Vec<PathBuf>,
    /// The policy whose verdicts choose what is taught
    #[arg(long, short)]
    pub policy: PathBuf,
    /// The tier to be taught
    #[arg(long, value_name = "TIER")]
    pub student: String,
    /// Where labels come from: recorded, exact, numeric, answer, regex:PATTERN, mark:NAME, top
    #[arg(long, default_value = "recorded")]
    pub labels: Labels,
    /// The seed by which `cascade calibrate` keeps prompts for its test; that of the policy's
    /// own certificate, else 1
    #[arg(long)]
    pub seed: Option<u64>,
    /// Teach from all prompts: no certificate may be tested on these exchanges afterwards
    #[arg(long)]
    pub whole: bool,
    /// Pass over broken lines and count them
    #[arg(long)]
    pub skip_broken: bool,
}

/// The policy, and the student's place in it.
pub(super) struct Class {
    pub policy: Arc<Policy>,
    pub student: usize,
}

/// What was read besides what was replayed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Read {
    pub broken: u64,
    /// From the first arrival to the last, in milliseconds, over all files; none where
    /// nothing says when it arrived.
    pub spanned_ms: Option<f64>,
}

impl Taken {
    /// The policy without limits and caches, and who is to be taught.
    pub fn class(&self) -> anyhow::Result<Class> {
        let policy = answers_alone(&load::policy(Some(&self.policy), false)?);
        let names = || policy.tiers.iter().map(|tier| tier.name.as_str());
        let Some(student) = names().position(|name| name == self.student) else {
            let meant = did_you_mean(&self.student, names()).map_or(String::new(), |name| format!("; {name}?"));
            bail!("the policy has no tier {}{meant} It has {}", self.student, names().collect::<Vec<_>>().join(", "));
        };
        if policy.tiers.len() == 1 {
            bail!("the policy has one tier: there is no larger one to learn from");
        }
        if student + 1 == policy.tiers.len() {
            bail!("{} is the largest tier: there is no larger one to learn from", self.student);
        }
        Ok(Class { policy: Arc::new(policy), student })
    }

    /// What is to be taught, other numbers left to the caller.
    pub fn wanted(&self, class: &Class) -> anyhow::Result<Wanted> {
        let certified = class.policy.stopping.as_ref().map(|stopping| stopping.certificate.seed);
        if let (Some(certified), Some(seed)) = (certified, self.seed.filter(|seed| Some(*seed) != certified)) {
            bail!("the policy's certificate was tested on the prompts that seed {certified} keeps, not {seed}");
        }
        if self.whole && certified.is_some() {
            bail!("the policy has a certificate, whose tested prompts must not be taught: leave --whole out");
        }
        let secrets = class.policy.upstreams.iter().filter_map(|place| match &place.kind {
            UpstreamKind::Live { api_key: Some(key), .. } => Some(key.expose().to_owned()),
            _ => None,
        });
        let patterns = class.policy.record.as_ref().map(|record| record.redact.clone()).unwrap_or_default();
        Ok(Wanted {
            student: class.student,
            tested_by: (!self.whole).then(|| self.seed.or(certified).unwrap_or(1)),
            replay: 0.3,
            valid: 0.1,
            least_label: 0.5,
            gap: 0.1,
            redaction: Redaction { secrets: secrets.collect(), patterns },
        })
    }

    /// Runs all exchanges through the policy, each by itself.
    pub fn replay(&self, policy: &Arc<Policy>, mut each: impl FnMut(Replayed)) -> anyhow::Result<Read> {
        let mut replay = Replay::new(policy.clone());
        let (mut read, mut done) = (Read::default(), Vec::new());
        for path in files(&self.exchanges)? {
            let mut arrivals: Option<(f64, f64)> = None;
            for line in Lines::open(&path)? {
                let exchange = match line {
                    Ok(exchange) => exchange,
                    Err(error) if self.skip_broken && error.is_one_line() => {
                        read.broken += 1;
                        eprintln!("cascade: skipped {error}");
                        continue;
                    }
                    Err(error) if error.is_one_line() => {
                        return Err(anyhow!("{error}\n(--skip-broken passes over broken lines and counts them)"));
                    }
                    Err(error) => return Err(error.into()),
                };
                if let Some(ms) = exchange.arrived_ms {
                    let (first, last) = arrivals.unwrap_or((ms, ms));
                    arrivals = Some((first.min(ms), last.max(ms)));
                }
                let mut exchange = Exchange { arrived_ms: None, ..exchange };
                self.labels.apply(policy, &mut exchange);
                replay.push(Arc::new(exchange), &mut done);
                done.drain(..).for_each(&mut each);
            }
            if let Some((first, last)) = arrivals {
                read.spanned_ms = Some(read.spanned_ms.unwrap_or(0.0) + last - first);
            }
        }
        replay.finish(&mut done);
        done.drain(..).for_each(&mut each);
        Ok(read)
    }

    /// Fails where labels were asked for that no answer has.
    pub fn check_labels(&self, labelled: u64) -> anyhow::Result<()> {
        if labelled == 0 && !matches!(self.labels, Labels::Recorded) {
            bail!(
                "no answer has a label by --labels: it is no {}; exact, numeric, answer and regex need a `reference` in \
                 the exchange, mark:NAME a mark, top the largest tier's answer",
                self.labels
            );
        }
        Ok(())
    }

    /// The name of the student's tier and its place, once more.
    pub fn tier<'p>(&self, policy: &'p Policy) -> anyhow::Result<&'p crate::policy::Tier> {
        policy.tiers.iter().find(|tier| tier.name == self.student).context("the student is a tier")
    }
}

/// A share, 0 and 1 among them.
pub(super) fn share(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|s| (0.0..=1.0).contains(s)).ok_or_else(|| "a number from 0 to 1".to_owned())
}

/// Dollars, none too.
pub(super) fn dollars(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|usd: &f64| *usd >= 0.0 && usd.is_finite()).ok_or_else(|| "dollars, 0 or more".to_owned())
}
