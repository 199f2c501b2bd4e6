//! From traces to a report: what a policy cost, how good it was, what each
//! tier did, and how two policies differ.
//!
//! Invariant: sums are whole numbers, so a report does not depend on the
//! order in which prompts finish. What is unknown is none, never zero.

pub mod baselines;
mod compare;
mod condition;
pub mod edges;
mod family;
mod gathered;
mod html;
mod latencies;
mod merged;
mod partial;
pub mod study;
mod study_of;
mod study_text;
mod tally;
mod text;
pub mod words;

use serde::Serialize;

pub use compare::{Change, Comparison, Differences};
pub use condition::Condition;
pub use html::page;
pub use partial::{MOST_SHARDS, NoWhole, Partial};
pub use study::Study;
pub use study_text::study_text;
pub use tally::Tally;
pub use text::{comparison_text, report_text};

/// What became of the prompts of a replay under one policy.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// The policy's name.
    pub policy: String,
    /// Its digest.
    pub digest: String,
    /// Prompts replayed.
    pub prompts: u64,
    /// Prompts to which no tier of the ladder gave an answer.
    pub unanswered: u64,
    /// Prompts served an answer that had been rejected, since what was asked after it
    /// failed, or would have cost more than the budget.
    pub stand_ins: u64,
    /// Prompts for which a tier was asked whose answer is not recorded: what
    /// would have become of them is not known.
    pub not_recorded: u64,
    /// Prompts for which more than one tier was asked.
    pub escalated: u64,
    /// Labels outside 0..=1 that were held at the nearer end.
    pub labels_held: u64,
    /// Answers that a judge's word was wanted for and none is recorded: what would
    /// have become of them is not known.
    pub unjudged: u64,
    /// Dollars.
    pub cost: CostReport,
    /// Labels; none where no served answer has one.
    pub quality: Option<QualityReport>,
    /// From arrival to answer, in simulated time; none where no recording says
    /// how long answers took.
    pub latency: Option<LatencyReport>,
    /// One per tier, smallest first.
    pub tiers: Vec<TierReport>,
    /// Curves, baselines and intervals; none unless some prompt has an answer, a
    /// label and a price for every tier.
    pub study: Option<Study>,
}

/// What a replay cost, over the prompts whose cost is known under the policy
/// and for the last tier alone.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CostReport {
    /// Prompts summed here.
    pub prompts: u64,
    /// Prompts left out, since some price or recorded answer is missing.
    pub unpriced: u64,
    /// Prompts among those summed whose tokens were estimated from the text.
    pub estimated: u64,
    /// What the policy spent, rejected answers among it.
    pub usd: f64,
    /// What asking the last tier alone for every prompt costs, no cache.
    pub baseline_usd: f64,
    /// `1 - usd / baseline_usd`; none where the baseline is nothing.
    pub savings: Option<f64>,
}

/// How good the served answers were, by their labels. An unanswered prompt
/// counts 0.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct QualityReport {
    /// Prompts with a label for what was served.
    pub prompts: u64,
    /// Mean label, 0..=1.
    pub mean: f64,
    /// Mean label of the last tier's answers to the same prompts, where all
    /// of them are labelled.
    pub baseline: Option<f64>,
}

/// Latency in milliseconds, to three digits.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LatencyReport {
    /// Prompts whose every attempt was timed.
    pub prompts: u64,
    /// Half of them took no longer.
    pub p50_ms: f64,
    /// 95 in 100 took no longer.
    pub p95_ms: f64,
    /// 99 in 100 took no longer.
    pub p99_ms: f64,
}

/// What one tier did.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TierReport {
    /// Its name.
    pub tier: String,
    /// Times it was asked, those answered by its cache among them.
    pub asked: u64,
    /// Answers served.
    pub accepted: u64,
    /// Answers rejected, so that a larger tier was asked.
    pub escalated: u64,
    /// Why they were, by gate, `score` or `unscored`.
    pub escalated_by: std::collections::BTreeMap<String, u64>,
    /// Times its own limit refused.
    pub limited: u64,
    /// Times it failed otherwise, by kind.
    pub failed: std::collections::BTreeMap<String, u64>,
    /// Answers from its cache.
    pub cache_hits: u64,
    /// Answers shared with an equal prompt in flight.
    pub coalesced: u64,
    /// Dollars spent on it, as far as known.
    pub usd: f64,
    /// Tokens of prompts it was sent, as it counted them; its cache costs none.
    pub input_tokens: u64,
    /// Tokens of its answers, reasoning among them.
    pub output_tokens: u64,
    /// Mean label of its answers to all prompts, asked or not: what this tier
    /// alone would have been worth.
    pub alone_quality: Option<f64>,
    /// Over so many labels.
    pub alone_labelled: u64,
    /// What asking it alone for every prompt costs; none unless all are known.
    pub alone_usd: Option<f64>,
}

impl Report {
    /// The names that [`Report::metric`] knows.
    pub const METRICS: [&'static str; 9] =
        ["quality", "cost", "savings", "escalated", "unanswered", "prompts", "p50_ms", "p95_ms", "p99_ms"];

    /// One number of the report by name; none where it is unknown.
    /// `escalated` and `unanswered` are shares of all prompts.
    #[must_use]
    pub fn metric(&self, name: &str) -> Option<f64> {
        #[expect(clippy::cast_precision_loss, reason = "counts of prompts")]
        let share = |part: u64| (self.prompts > 0).then(|| part as f64 / self.prompts as f64);
        #[expect(clippy::cast_precision_loss, reason = "a count of prompts")]
        match name {
            "quality" => self.quality.as_ref().map(|q| q.mean),
            // A sum over some of the prompts would look like a saving.
            "cost" if self.cost.unpriced == 0 => (self.cost.prompts > 0).then_some(self.cost.usd),
            "savings" if self.cost.unpriced == 0 => self.cost.savings,
            "escalated" => share(self.escalated),
            "unanswered" => share(self.unanswered),
            "prompts" => Some(self.prompts as f64),
            "p50_ms" => self.latency.as_ref().map(|l| l.p50_ms),
            "p95_ms" => self.latency.as_ref().map(|l| l.p95_ms),
            "p99_ms" => self.latency.as_ref().map(|l| l.p99_ms),
            _ => None,
        }
    }
}
