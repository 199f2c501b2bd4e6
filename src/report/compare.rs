//! How two policies differ, prompt by prompt.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Report;
use super::study::Estimate;
use super::study_of::{DRAWS, SEED};
use super::tally::served_quality;
use crate::exchange::Exchange;
use crate::outcomes::{self, group_of};
use crate::policy::Policy;
use crate::statistics::resample::bootstrap;
use crate::trace::Trace;

/// A prompt that two policies treat differently.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    /// The exchange's id.
    pub id: String,
    /// The tier served by the policy compared against; none: unanswered.
    pub from: Option<String>,
    /// The tier served by the policy.
    pub to: Option<String>,
    /// What it costs more, in dollars; none where unknown.
    pub cost_usd: Option<f64>,
    /// How much better its label is; none where unknown.
    pub quality: Option<f64>,
}

/// Prompts whose differences are kept for the interval; past that, those with the
/// lowest hashes.
const PAIRED: usize = 10_000;

/// Gathers changes; keeps the first few, counts all.
#[derive(Debug, Default)]
pub struct Differences {
    compared: u64,
    other_tier: u64,
    better: u64,
    worse: u64,
    cheaper: u64,
    dearer: u64,
    kept: BTreeMap<u64, Change>,
    keep: usize,
    not_kept: u64,
    /// By hash: each prompt's group, and its differences where both are known.
    paired: BTreeMap<(u64, u64), (u64, f64, f64)>,
}

/// The two reports side by side and the changes between them.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// The report on the policy.
    pub report: Report,
    /// The report on the policy it is compared against.
    pub against: Report,
    /// How much better labels are on average, where both policies' are known; with its
    /// interval, paired prompt by prompt.
    pub quality: Option<Estimate>,
    /// How many dollars dearer a prompt is.
    pub cost: Option<Estimate>,
    /// Prompts compared.
    pub compared: u64,
    /// Prompts served by another tier.
    pub other_tier: u64,
    /// Prompts whose served label is higher.
    pub better: u64,
    /// Prompts whose served label is lower.
    pub worse: u64,
    /// Prompts that cost less.
    pub cheaper: u64,
    /// Prompts that cost more.
    pub dearer: u64,
    /// The prompts that change tier, cost or quality, as many as were asked for.
    pub changes: Vec<Change>,
    /// Changed prompts not listed.
    pub changes_not_listed: u64,
}

impl Differences {
    /// Keeps the first `keep` changes.
    #[must_use]
    pub fn keeping(keep: usize) -> Self {
        Self { keep, ..Self::default() }
    }

    /// Adds a prompt's traces: under the policy, and under the one it is
    /// compared against. `number` is its place in the recording.
    pub fn add(&mut self, number: u64, exchange: &Exchange, policy: (&Policy, &Trace), against: (&Policy, &Trace)) {
        let id = &exchange.id;
        let tier = |(policy, trace): (&Policy, &Trace)| Some(policy.tiers[trace.served()?.tier].name.clone());
        let cost_usd = policy.1.cost().usd.zip(against.1.cost().usd).map(|(now, then)| (now - then).dollars());
        let is_answered = policy.1.served.is_some() || against.1.served.is_some();
        let quality = served_quality(policy.1)
            .zip(served_quality(against.1))
            .map(|(now, then)| now - then)
            .filter(|_| is_answered);
        let change = Change { id: id.to_owned(), from: tier(against), to: tier(policy), cost_usd, quality };
        if let (Some(quality), Some(cost)) = (quality, cost_usd) {
            let key = (outcomes::number(blake3::hash(id.as_bytes()).as_bytes()), number);
            self.paired.insert(key, (group_of(exchange), quality, cost));
            if self.paired.len() > PAIRED {
                self.paired.pop_last();
            }
        }
        self.compared += 1;
        self.other_tier += u64::from(change.from != change.to);
        self.better += u64::from(quality.is_some_and(|q| q > 0.0));
        self.worse += u64::from(quality.is_some_and(|q| q < 0.0));
        self.cheaper += u64::from(cost_usd.is_some_and(|c| c < 0.0));
        self.dearer += u64::from(cost_usd.is_some_and(|c| c > 0.0));
        let differs = |delta: Option<f64>| delta.is_some_and(|d| d != 0.0);
        if change.from != change.to || differs(cost_usd) || differs(quality) {
            self.kept.insert(number, change);
            // The first in the recording stay, in whatever order they come.
            if self.kept.len() > self.keep {
                self.kept.pop_last();
                self.not_kept += 1;
            }
        }
    }

    /// The mean differences of labels and dollars.
    fn means(&self) -> Option<(Estimate, Estimate)> {
        let rows: Vec<&(u64, f64, f64)> = self.paired.values().collect();
        let groups: Vec<u64> = rows.iter().map(|(group, _, _)| *group).collect();
        let mean = |weights: &[u32], of: fn(&(u64, f64, f64)) -> f64| {
            let (sum, total) = rows.iter().zip(weights).fold((0.0, 0.0), |(sum, total), (row, times)| {
                (sum + f64::from(*times) * of(row), total + f64::from(*times))
            });
            sum / total
        };
        let both = |weights: &[u32]| [mean(weights, |r| r.1), mean(weights, |r| r.2)];
        let intervals = bootstrap(&groups, DRAWS, SEED, |weights| both(weights).map(Some).to_vec());
        let [quality, cost] = both(&vec![1; rows.len()]);
        let at = |value, at: usize| Estimate { value, interval: intervals.get(at).copied().flatten() };
        (!rows.is_empty()).then(|| (at(quality, 0), at(cost, 1)))
    }

    /// Both reports and what differs.
    #[must_use]
    pub fn comparison(self, report: Report, against: Report) -> Comparison {
        let (quality, cost) = self.means().unzip();
        Comparison {
            quality,
            cost,
            report,
            against,
            compared: self.compared,
            other_tier: self.other_tier,
            better: self.better,
            worse: self.worse,
            cheaper: self.cheaper,
            dearer: self.dearer,
            changes: self.kept.into_values().collect(),
            changes_not_listed: self.not_kept,
        }
    }
}
