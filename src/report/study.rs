//! What a replay says beyond its sums: curves, baselines, intervals. Numbers only;
//! `study_text` and `html` show them.
//!
//! Invariant: over the prompts whose every tier is recorded, labelled and priced;
//! how many were left out is told. All intervals are of 95 in 100, from the same
//! draws, so that differences are paired. Costs are dollars per prompt.

use serde::Serialize;

use crate::statistics::curve::Point;
use crate::statistics::ranking::Bin;
use crate::statistics::resample::Interval;
use crate::stopping::Certificate;

/// The study of one replay.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Study {
    /// Prompts it is over.
    pub prompts: usize,
    /// Prompts left out for want of an answer, a label or a price of some tier.
    pub left_out: u64,
    /// Prompts beyond those kept: a sample by hash where there are very many.
    pub not_sampled: u64,
    /// Where labels come from: `recorded`, `agreement with top`...
    pub labels: String,
    /// Whether scores are chances, learned from labels.
    pub is_calibrated: bool,
    /// The tiers, smallest first.
    pub tiers: Vec<String>,
    /// The promise the policy was made with, if it was.
    pub certificate: Option<Certificate>,
    /// What the policy did, and how sure that is.
    pub quality: Estimate,
    /// Dollars per prompt.
    pub cost: Estimate,
    /// `1 - cost / cost of the largest tier`.
    pub savings: Option<Estimate>,
    /// Quality less the largest tier's; the interval tells whether it differs.
    pub quality_to_top: Estimate,
    /// Each tier alone.
    pub singles: Vec<Point>,
    /// The share of prompts each tier served.
    pub served_share: Vec<f64>,
    /// What the policy reaches as its thresholds, or its price of money, move.
    pub curve: Vec<Point>,
    /// The hull of `curve` and the largest tier.
    pub hull: Vec<Point>,
    /// The hull of the tiers alone: a router that knows nothing.
    pub zero_router: Vec<Point>,
    /// Who knows every label: asks the best tier alone (router).
    pub oracle_router: Point,
    /// Who knows every label, but pays for smaller tiers on the way (cascade).
    pub oracle_cascade: Point,
    /// The router oracle at every price of money.
    pub oracle_hull: Vec<Point>,
    /// Mean quality of `hull` over the costs of the tiers (AIQ).
    pub mean_quality: Option<Estimate>,
    /// What shares of the largest tier's quality cost.
    pub cost_at: Vec<CostAt>,
    /// Oracle quality less served quality.
    pub regret: f64,
    /// Cost less the cascade oracle's.
    pub cost_regret: f64,
    /// The best single tier that costs no more than the policy.
    pub best_single: Option<usize>,
    /// The same numbers of answers served per tier, dealt at random.
    pub shuffled: Option<Shuffled>,
    /// Quality per dollar gained over the smallest tier, relative to the largest
    /// tier's (delta IBC); none where it means nothing.
    pub benefit: Option<f64>,
    /// Each tier that judges: how well its scores tell.
    pub rankings: Vec<Ranking>,
    /// Each way up that was taken.
    pub edges: Vec<Edge>,
    /// The same by kind of prompt, where there are several.
    pub tasks: Vec<TaskStudy>,
}

/// A number and how sure it is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// The number on these prompts.
    pub value: f64,
    /// Where it lies 95 times in 100; none where draws leave it undefined.
    pub interval: Option<Interval>,
}

/// What a share of the largest tier's quality costs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct CostAt {
    /// The share.
    pub share: f64,
    /// Dollars per prompt by the policy's hull; none where it is never reached.
    pub policy: Option<f64>,
    /// By the zero router.
    pub zero_router: Option<f64>,
    /// By the router oracle.
    pub oracle: Option<f64>,
    /// The largest tier's.
    pub top: f64,
}

/// Served tiers dealt at random among prompts.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Shuffled {
    /// Mean quality over the deals.
    pub quality: Estimate,
    /// The policy's quality less that.
    pub lift: f64,
    /// Whether the policy lies outside of the interval.
    pub is_significant: bool,
}

/// How well one tier's scores tell right from wrong, and what going from it to
/// the largest tier would win, lowest scores first.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Ranking {
    /// The tier, by place.
    pub tier: usize,
    /// Scored answers.
    pub answers: usize,
    /// Area under the ROC curve.
    pub auroc: Option<f64>,
    /// Area under the recovered gap to the largest tier; 0.5 tells nothing.
    pub apgr: Option<Estimate>,
    /// Least shares to escalate for 50, 80 and 95% of the gap.
    pub call_share: [Option<f64>; 3],
    /// Area under the deferral curve, and relative to a score that tells nothing.
    pub deferral: Option<(f64, f64)>,
    /// Mean error among the answers kept.
    pub aurc: Option<f64>,
    /// Mean squared distance of score and label.
    pub brier: Option<f64>,
    /// Mean distance of score and label over 15 bins of equal mass.
    pub calibration_error: Option<f64>,
    /// Those bins.
    pub bins: Vec<Bin>,
}

/// One way up, over the prompts for which its lower tier answered.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Edge {
    /// From this tier.
    pub from: usize,
    /// To this one.
    pub to: usize,
    /// Prompts for which the lower tier answered.
    pub asked: usize,
    /// Prompts that took this way.
    pub escalated: usize,
    /// Of those that took it, the share that it made better.
    pub precision: Option<f64>,
    /// Of those that it would make better, the share that took it.
    pub recall: Option<f64>,
    /// Of those that took it, the share whose lower answer was right.
    pub over_escalation: Option<f64>,
    /// Of those that took it, the share that it made worse.
    pub harm: Option<f64>,
    /// Of those served from the lower tier, the share that was wrong.
    pub missed_error: Option<f64>,
}

/// One kind of prompt.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TaskStudy {
    /// Its name.
    pub task: String,
    /// Its prompts.
    pub prompts: usize,
    /// The policy's quality.
    pub quality: Estimate,
    /// The policy's dollars per prompt.
    pub cost: Estimate,
    /// Quality less the largest tier's.
    pub quality_to_top: Estimate,
    /// The largest tier alone.
    pub top: Point,
    /// The share of prompts each tier served.
    pub served_share: Vec<f64>,
}

impl Estimate {
    /// Whether the interval leaves no room for "no difference": for differences.
    #[must_use]
    pub fn is_significant(&self) -> bool {
        self.interval.is_some_and(|interval| !interval.crosses_zero())
    }
}
