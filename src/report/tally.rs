//! Adds traces up to a report, in memory that does not grow with their number.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::gathered::Gathered;
use super::study_of;
use super::{CostReport, LatencyReport, QualityReport, Report, TierReport};
use crate::exchange::Exchange;
use crate::outcomes;
use crate::policy::{Policy, Tier};
use crate::price::{Cost, Usd};
use crate::tokens;
use crate::trace::{Attempt, CacheUse, Failure, Outcome, Trace, Why};

/// Sums over the traces of one policy.
#[derive(Debug, Serialize, Deserialize)]
pub struct Tally {
    pub(super) prompts: u64,
    pub(super) unanswered: u64,
    pub(super) stand_ins: u64,
    pub(super) not_recorded: u64,
    pub(super) escalated: u64,
    pub(super) priced: u64,
    pub(super) estimated: u64,
    pub(super) cost: Usd,
    pub(super) baseline: Usd,
    pub(super) quality: Labels,
    pub(super) baseline_quality: Labels,
    pub(super) labels_held: u64,
    pub(super) unjudged: u64,
    /// Microseconds, three digits.
    #[serde(with = "super::latencies")]
    pub(super) latency: Option<Histogram<u64>>,
    pub(super) tiers: Vec<TierTally>,
    pub(super) gathered: Gathered,
    /// Where labels come from, for the report.
    pub(super) labels: String,
}

#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct TierTally {
    pub(super) asked: u64,
    pub(super) accepted: u64,
    pub(super) escalated_by: BTreeMap<String, u64>,
    pub(super) limited: u64,
    pub(super) failed: BTreeMap<String, u64>,
    pub(super) cache_hits: u64,
    pub(super) coalesced: u64,
    pub(super) cost: Usd,
    pub(super) input_tokens: u64,
    pub(super) output_tokens: u64,
    pub(super) alone_quality: Labels,
    pub(super) alone_cost: Usd,
    pub(super) alone_priced: u64,
}

/// A sum of labels, in billionths so that it does not depend on order.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(super) struct Labels {
    pub(super) sum: i128,
    pub(super) count: u64,
}

impl Labels {
    const UNIT: f64 = 1e9;

    fn add(&mut self, label: Option<f64>) {
        if let Some(label) = label {
            #[expect(clippy::cast_possible_truncation, reason = "labels are in 0..=1")]
            let billionths = (label * Self::UNIT).round() as i128;
            self.sum += billionths;
            self.count += 1;
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a mean is shown to a few digits")]
    fn mean(self) -> Option<f64> {
        (self.count > 0).then(|| self.sum as f64 / Self::UNIT / self.count as f64)
    }
}

impl Tally {
    /// Nothing yet. `labels` says where labels come from.
    #[must_use]
    pub fn new(policy: &Policy, labels: &str) -> Self {
        Self {
            prompts: 0,
            unanswered: 0,
            stand_ins: 0,
            not_recorded: 0,
            escalated: 0,
            priced: 0,
            estimated: 0,
            cost: Usd::ZERO,
            baseline: Usd::ZERO,
            quality: Labels::default(),
            baseline_quality: Labels::default(),
            labels_held: 0,
            unjudged: 0,
            latency: Histogram::new(3).ok(),
            tiers: policy.tiers.iter().map(|_| TierTally::default()).collect(),
            gathered: Gathered::default(),
            labels: labels.to_owned(),
        }
    }

    /// Prompts added.
    #[must_use]
    pub fn prompts(&self) -> u64 {
        self.prompts
    }

    /// Adds one prompt.
    pub fn add(&mut self, policy: &Policy, exchange: &Exchange, trace: &Trace) {
        self.prompts += 1;
        let is_unknown = lacks_an_answer(trace);
        self.not_recorded += u64::from(is_unknown);
        self.unanswered += u64::from(trace.served.is_none() && !is_unknown);
        self.stand_ins += u64::from(trace.is_stand_in());
        self.escalated += u64::from(trace.attempts.len() > 1);
        for attempt in &trace.attempts {
            self.tiers[attempt.tier].add(attempt);
            self.unjudged += u64::from(attempt.judging.usd.is_none());
        }
        self.labels_held += exchange.answers.values().map(|a| u64::from(a.is_label_held)).sum::<u64>();
        let mut baseline = Cost::UNKNOWN;
        for tier in &policy.tiers {
            let alone = alone_cost(exchange, tier, trace);
            let tally = &mut self.tiers[tier.index];
            tally.alone_quality.add(label(exchange, tier));
            if let Some(usd) = alone.usd {
                tally.alone_cost = tally.alone_cost + usd;
                tally.alone_priced += 1;
            }
            if tier.index == policy.top().index {
                baseline = alone;
            }
        }
        let cost = trace.cost();
        if let (Some(spent), Some(alone)) = (cost.usd, baseline.usd) {
            self.priced += 1;
            self.estimated += u64::from(cost.estimated || baseline.estimated);
            self.cost = self.cost + spent;
            self.baseline = self.baseline + alone;
        }
        self.add_quality(policy, exchange, trace);
        self.gathered.add(policy, exchange, trace);
        if let (Some(latency), true) = (&mut self.latency, is_timed(policy, exchange, trace)) {
            let micros = u64::try_from(trace.elapsed.as_micros()).unwrap_or(u64::MAX);
            // Resizes as it must, which cannot fail below a year.
            let _ = latency.record(micros.clamp(1, 31_536_000_000_000));
        }
    }

    fn add_quality(&mut self, policy: &Policy, exchange: &Exchange, trace: &Trace) {
        let top = label(exchange, policy.top());
        let served = served_quality(trace).filter(|_| {
            // Unanswered is worth nothing, but only where worth is known at all.
            trace.served.is_some() || policy.tiers.iter().any(|t| label(exchange, t).is_some())
        });
        self.quality.add(served);
        if served.is_some() {
            self.baseline_quality.add(top);
        }
    }

    /// The report on what was added so far.
    #[must_use]
    pub fn report(&self, policy: &Policy) -> Report {
        let savings = (self.baseline > Usd::ZERO).then(|| 1.0 - self.cost.dollars() / self.baseline.dollars());
        let all = |labels: Labels| labels.mean().filter(|_| labels.count == self.quality.count);
        Report {
            policy: policy.name.clone(),
            digest: policy.digest.clone(),
            prompts: self.prompts,
            unanswered: self.unanswered,
            stand_ins: self.stand_ins,
            not_recorded: self.not_recorded,
            escalated: self.escalated,
            labels_held: self.labels_held,
            unjudged: self.unjudged,
            cost: CostReport {
                prompts: self.priced,
                unpriced: self.prompts - self.priced,
                estimated: self.estimated,
                usd: self.cost.dollars(),
                baseline_usd: self.baseline.dollars(),
                savings,
            },
            quality: self.quality.mean().map(|mean| QualityReport {
                prompts: self.quality.count,
                mean,
                baseline: all(self.baseline_quality),
            }),
            latency: self.latency.as_ref().filter(|l| !l.is_empty()).map(latency_report),
            tiers: policy.tiers.iter().map(|tier| self.tiers[tier.index].report(tier, self.prompts)).collect(),
            study: study_of::study(policy, &self.gathered, &self.labels),
        }
    }
}

impl TierTally {
    fn add(&mut self, attempt: &Attempt) {
        self.asked += 1;
        self.cache_hits += u64::from(attempt.cache == CacheUse::Hit);
        self.coalesced += u64::from(attempt.cache == CacheUse::Coalesced);
        self.cost = self.cost + attempt.cost.usd.unwrap_or(Usd::ZERO);
        if let Outcome::Answered { answer, .. } = &attempt.outcome
            && !attempt.cache.is_free()
            && let Some(tokens) = answer.usage.and_then(tokens::of_usage)
        {
            self.input_tokens += tokens.input;
            self.output_tokens += tokens.output;
        }
        match &attempt.outcome {
            Outcome::Answered { verdict, .. } if verdict.is_accepted => self.accepted += 1,
            Outcome::Answered { verdict, .. } => {
                let by = match verdict.why {
                    Why::Gate(gate) => gate,
                    Why::Score { .. } => "score",
                    Why::Unscored | Why::LastTier => "unscored",
                };
                *self.escalated_by.entry(by.to_owned()).or_default() += 1;
            }
            Outcome::Flowing { .. } => self.accepted += 1,
            Outcome::Failed(Failure::Limited { .. }) => self.limited += 1,
            Outcome::Failed(failure) => *self.failed.entry(failure.word().to_owned()).or_default() += 1,
        }
    }

    fn report(&self, tier: &Tier, prompts: u64) -> TierReport {
        TierReport {
            tier: tier.name.clone(),
            asked: self.asked,
            accepted: self.accepted,
            escalated: self.escalated_by.values().sum(),
            escalated_by: self.escalated_by.clone(),
            limited: self.limited,
            failed: self.failed.clone(),
            cache_hits: self.cache_hits,
            coalesced: self.coalesced,
            usd: self.cost.dollars(),
            input_tokens: self.input_tokens,
            output_tokens: self.output_tokens,
            alone_quality: self.alone_quality.mean(),
            alone_labelled: self.alone_quality.count,
            alone_usd: (self.alone_priced == prompts && prompts > 0).then(|| self.alone_cost.dollars()),
        }
    }
}

/// Whether a tier was asked whose answer is not recorded, so that nobody knows
/// what this policy would have made of the prompt.
pub(super) fn lacks_an_answer(trace: &Trace) -> bool {
    trace.attempts.iter().any(|a| matches!(a.outcome, Outcome::Failed(Failure::NotRecorded)))
}

/// The label of what was served, 0 where every tier failed; none where that is
/// not known.
pub(super) fn served_quality(trace: &Trace) -> Option<f64> {
    match trace.served() {
        _ if lacks_an_answer(trace) => None,
        Some(attempt) => attempt.quality,
        None => Some(0.0),
    }
}

/// Whether the recording says how long everything took that was asked.
fn is_timed(policy: &Policy, exchange: &Exchange, trace: &Trace) -> bool {
    trace.attempts.iter().all(|attempt| {
        let recorded = || exchange.answer_of(&policy.tiers[attempt.tier]).and_then(|a| a.elapsed_ms);
        let is_ours = matches!(attempt.outcome, Outcome::Failed(Failure::Limited { .. }));
        is_ours || attempt.cache == CacheUse::Hit || recorded().is_some()
    })
}

/// The label of what a tier was recorded to say.
fn label(exchange: &Exchange, tier: &Tier) -> Option<f64> {
    exchange.answer_of(tier)?.label_or_failure()
}

/// What asking `tier` alone costs: as the trace has it, else by what was recorded.
fn alone_cost(exchange: &Exchange, tier: &Tier, trace: &Trace) -> Cost {
    let is_its_own = |a: &&Attempt| a.tier == tier.index && !a.cache.is_free() && a.judging == Cost::FREE;
    let asked = trace.attempts.iter().find(is_its_own);
    match asked.filter(|a| matches!(a.outcome, Outcome::Answered { .. })) {
        Some(attempt) => attempt.cost,
        None => outcomes::alone_cost(exchange, tier),
    }
}

fn latency_report(latency: &Histogram<u64>) -> LatencyReport {
    #[expect(clippy::cast_precision_loss, reason = "three digits are kept")]
    let ms = |quantile: f64| latency.value_at_quantile(quantile) as f64 / 1000.0;
    LatencyReport { prompts: latency.len(), p50_ms: ms(0.50), p95_ms: ms(0.95), p99_ms: ms(0.99) }
}
