//! The prompts of a replay that a study is made of, kept one by one: a sample by
//! hash where there are very many, so that it does not depend on their order.

use std::collections::{BTreeMap, BTreeSet};

use crate::exchange::Exchange;
use crate::outcomes::{Rows, alone_cost, number};
use crate::policy::Policy;
use crate::trace::{Outcome, Trace, Why};

/// Prompts kept. Past that, those with the lowest hashes.
const KEPT: usize = 10_000;
/// Of those, the ones for which it is worked out what the policy could have done.
pub(super) const CURVED: usize = 2_000;

/// One prompt under a policy.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    /// Prompts of one conversation share it.
    pub group: u64,
    pub task: Option<String>,
    /// Each tier's label and dollars.
    pub quality: Vec<f64>,
    pub cost: Vec<f64>,
    /// Tiers that answered, in order, with their scores.
    pub asked: Vec<(usize, Option<f64>)>,
    /// The tier served; none where all failed.
    pub served: Option<usize>,
    pub served_quality: f64,
    pub spent: f64,
    /// For the curve: what could have been.
    pub could: Option<super::family::Could>,
}

/// Prompts whose every tier is recorded, labelled and priced.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    /// By hash and place in the recording.
    kept: BTreeMap<(u64, u64), Kept>,
    /// The lowest of them, for the curve.
    curved: BTreeSet<(u64, u64)>,
    pub left_out: u64,
    pub not_sampled: u64,
    rows: Rows,
    seen: u64,
}

impl Gathered {
    /// Adds one prompt.
    pub(super) fn add(&mut self, policy: &Policy, exchange: &Exchange, trace: &Trace) {
        self.seen += 1;
        let hash = number(blake3::hash(exchange.id.as_bytes()).as_bytes());
        let key = (hash, self.seen);
        if self.kept.len() >= KEPT && self.kept.last_key_value().is_some_and(|(last, _)| *last < key) {
            self.not_sampled += 1;
            return;
        }
        let Some(mut kept) = self.kept(policy, exchange, trace) else {
            self.left_out += 1;
            return;
        };
        if self.curved.len() < CURVED || self.curved.last().is_some_and(|last| key < *last) {
            kept.could = super::family::Could::of(policy, exchange);
            self.curved.insert(key);
            if self.curved.len() > CURVED
                && let Some(out) = self.curved.pop_last()
                && let Some(kept) = self.kept.get_mut(&out)
            {
                kept.could = None;
            }
        }
        self.kept.insert(key, kept);
        if self.kept.len() > KEPT {
            self.kept.pop_last();
            self.not_sampled += 1;
        }
    }

    fn kept(&mut self, policy: &Policy, exchange: &Exchange, trace: &Trace) -> Option<Kept> {
        let label = |tier: &crate::policy::Tier| exchange.answer_of(tier)?.label_or_failure();
        let quality = policy.tiers.iter().map(label).collect::<Option<Vec<f64>>>()?;
        let dollars = |tier| Some(alone_cost(exchange, tier).usd?.dollars());
        let cost = policy.tiers.iter().map(dollars).collect::<Option<Vec<f64>>>()?;
        let asked = trace.attempts.iter().filter_map(|attempt| match &attempt.outcome {
            Outcome::Answered { verdict, .. } => Some((
                attempt.tier,
                match verdict.why {
                    Why::Score { score, .. } => Some(score.value()),
                    Why::LastTier | Why::Gate(_) | Why::Unscored => None,
                },
            )),
            Outcome::Flowing { .. } | Outcome::Failed(_) => None,
        });
        Some(Kept {
            group: self.rows.group(exchange),
            task: exchange.task.clone(),
            quality,
            cost,
            asked: asked.collect(),
            served: trace.served().map(|attempt| attempt.tier),
            served_quality: super::tally::served_quality(trace)?,
            spent: trace.cost().usd?.dollars(),
            could: None,
        })
    }

    /// The prompts, in order of hash.
    pub(super) fn rows(&self) -> Vec<&Kept> {
        self.kept.values().collect()
    }
}
