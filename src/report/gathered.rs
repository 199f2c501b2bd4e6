//! The prompts of a replay that a study is made of, kept one by one: a sample by
//! hash where there are very many, so that it does not depend on their order.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::baselines::Tiers;
use crate::exchange::Exchange;
use crate::outcomes::{alone_cost, group_of, number};
use crate::policy::Policy;
use crate::trace::{Failure, Outcome, Trace, Verdict, Why};

/// Prompts kept. Past that, those with the lowest hashes.
const KEPT: usize = 4_000;

/// One prompt under a policy.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Kept {
    pub group: u64,
    pub task: Option<String>,
    /// Each tier's label and dollars.
    pub quality: Vec<f64>,
    pub cost: Vec<f64>,
    /// Tiers that answered or failed, in order, with their scores.
    pub asked: Vec<(usize, Option<f64>)>,
    /// The tier served; none where all failed.
    pub served: Option<usize>,
    pub served_quality: f64,
    pub spent: f64,
    /// For the curve: what could have been.
    pub could: Option<super::family::Could>,
}

/// Prompts whose every tier is recorded, labelled and priced.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Gathered {
    /// By hashes of the name and of what was asked, and place in the recording.
    kept: BTreeMap<(u64, u64, u64), Kept>,
    pub left_out: u64,
    pub not_sampled: u64,
    seen: u64,
}

impl Gathered {
    /// Adds one prompt.
    pub(super) fn add(&mut self, policy: &Policy, exchange: &Exchange, trace: &Trace) {
        self.seen += 1;
        // Before it is known whether there is room: which are left out depends on no order.
        let Some(known) = Known::of(policy, exchange, trace) else {
            self.left_out += 1;
            return;
        };
        let name = number(blake3::hash(exchange.id.as_bytes()).as_bytes());
        let key = (name, number(exchange.prompt.content_key()), self.seen);
        if self.kept.len() >= KEPT && self.kept.last_key_value().is_some_and(|(last, _)| *last < key) {
            self.not_sampled += 1;
            return;
        }
        self.kept.insert(key, known.kept(policy, exchange, trace));
        self.bound();
    }

    fn bound(&mut self) {
        while self.kept.len() > KEPT {
            self.kept.pop_last();
            self.not_sampled += 1;
        }
    }

    /// Adds what another gathered of other prompts.
    pub(super) fn merge(&mut self, other: Self) {
        self.left_out += other.left_out;
        self.not_sampled += other.not_sampled;
        // Places count on, so that none stands for two.
        let before = self.seen;
        self.seen += other.seen;
        self.kept.extend(other.kept.into_iter().map(|((name, asked, at), kept)| ((name, asked, before + at), kept)));
        self.bound();
    }

    /// The prompts, in order of hash.
    pub(super) fn rows(&self) -> Vec<&Kept> {
        self.kept.values().collect()
    }
}

/// Every tier's label; none where one is not known.
fn labels(policy: &Policy, exchange: &Exchange) -> Option<Vec<f64>> {
    policy.tiers.iter().map(|tier| exchange.answer_of(tier)?.label_or_failure()).collect()
}

/// What must be known of a prompt.
struct Known {
    quality: Vec<f64>,
    cost: Vec<f64>,
    served_quality: f64,
    spent: f64,
}

impl Known {
    fn of(policy: &Policy, exchange: &Exchange, trace: &Trace) -> Option<Self> {
        let dollars = |tier| Some(alone_cost(exchange, tier).usd?.dollars());
        Some(Self {
            quality: labels(policy, exchange)?,
            cost: policy.tiers.iter().map(dollars).collect::<Option<_>>()?,
            served_quality: super::tally::served_quality(trace)?,
            spent: trace.cost().usd?.dollars(),
        })
    }

    fn kept(self, policy: &Policy, exchange: &Exchange, trace: &Trace) -> Kept {
        let asked = trace.attempts.iter().filter_map(|attempt| {
            let score = match &attempt.outcome {
                Outcome::Answered { verdict: Verdict { why: Why::Score { score, .. }, .. }, .. } => Some(score.value()),
                // Refused by ourselves: it was never asked.
                Outcome::Failed(Failure::Limited { .. } | Failure::NotRecorded) => return None,
                Outcome::Answered { .. } | Outcome::Flowing { .. } | Outcome::Failed(_) => None,
            };
            Some((attempt.tier, score))
        });
        let Self { quality, cost, served_quality, spent } = self;
        Kept {
            group: group_of(exchange),
            task: exchange.task.clone(),
            quality,
            cost,
            asked: asked.collect(),
            served: trace.served().map(|attempt| attempt.tier),
            served_quality,
            spent,
            could: super::family::Could::of(policy, exchange),
        }
    }
}

impl Kept {
    /// What baselines need of it.
    pub(super) fn tiers(&self) -> Tiers<'_> {
        Tiers { quality: &self.quality, cost: &self.cost, served: self.served }
    }
}

/// The group of each prompt.
pub(super) fn groups_of(rows: &[&Kept]) -> Vec<u64> {
    rows.iter().map(|row| row.group).collect()
}
