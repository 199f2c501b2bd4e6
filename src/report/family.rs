//! What a policy could have done: itself, with its thresholds moved together, or
//! with another price of money. Caches, limits and routes are left aside.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::answer::Answer;
use crate::calibration::Labelled;
use crate::exchange::Exchange;
use crate::outcomes::Row;
use crate::policy::{Accept, Check, Policy, Unscored};
use crate::scoring::{Evidence, Grade, Seen, Smaller, grade};
use crate::statistics::{logit, sigmoid};
use crate::stopping::{Act, Cuts, MAX_TIERS, Point, StateActs, all_states};

/// One prompt's labels, costs and scores in every state.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Could {
    row: Row,
    /// By state; of a policy with thresholds the same whatever was asked before.
    chance: Vec<f64>,
    easiness: f64,
}

/// Above every threshold: an answer that is served without a score.
const SERVED_UNSCORED: f64 = 2.0;

impl Could {
    /// None where some tier's answer, label or cost is not known, where it does not
    /// go down the whole ladder, or where judges are paid for, whose costs depend on
    /// more than a recording holds.
    pub(super) fn of(policy: &Policy, exchange: &Exchange) -> Option<Self> {
        let tiers = policy.tiers.len();
        if !(2..=MAX_TIERS).contains(&tiers) || policy.tiers.iter().any(crate::policy::Tier::has_judge) {
            return None;
        }
        let row = Row::of(policy, exchange).ok()?;
        let chance = if let Some(stopping) = &policy.stopping {
            let of = |(place, (tier, after)): (usize, (usize, u32))| {
                if row.refused[tier] { 0.0 } else { stopping.score(tier, after).chance(&row.features[place]) }
            };
            all_states(tiers).enumerate().map(of).collect()
        } else {
            let scores = ladder_scores(policy, exchange);
            all_states(tiers).map(|(tier, _)| scores[tier]).collect()
        };
        let easiness = policy.stopping.as_ref().and_then(|s| s.prompts.as_ref());
        let easiness = easiness.map_or(0.5, |model| model.at(&row.prompt, &row.grams));
        Some(Self { row, chance, easiness })
    }
}

/// Each tier's score where every smaller one has answered before.
fn ladder_scores(policy: &Policy, exchange: &Exchange) -> Vec<f64> {
    let (mut before, mut after): (Vec<(Arc<Answer>, Seen)>, u32) = (Vec::new(), 0);
    let mut scores = Vec::new();
    for tier in &policy.tiers {
        let recorded = exchange.answer_of(tier).and_then(|r| r.answer(exchange.prompt.endpoint).ok());
        let (Some(answer), Accept::Checked(check)) = (recorded, &tier.accept) else {
            scores.push(-1.0);
            continue;
        };
        let smaller: Vec<_> = before.iter().map(|(answer, seen)| Smaller { answer, seen }).collect();
        let seen = Seen::default();
        let answer_pattern = policy.answer_pattern.as_ref();
        let evidence = Evidence::of(&exchange.prompt, &answer, &seen);
        let evidence = Evidence { smaller: &smaller, after, answer_pattern, ..evidence };
        let graded = grade(&check.gates, &check.scorers, &evidence);
        scores.push(match graded {
            Grade::Scored(score, _) => score.value(),
            Grade::Unscored if is_served_unscored(check) => SERVED_UNSCORED,
            Grade::Unscored | Grade::Gated(_) => -1.0,
        });
        after |= 1 << tier.index;
        if !matches!(graded, Grade::Gated(_)) {
            before.push((answer, seen));
        }
    }
    scores
}

fn is_served_unscored(check: &Check) -> bool {
    check.scorers.is_empty() || check.unscored == Unscored::Accept
}

/// All prompts, by column.
pub(super) fn labelled(policy: &Policy, could: &[&Could]) -> Labelled {
    let tiers = policy.tiers.len();
    let states = all_states(tiers).count();
    let chance = (0..states).map(|place| could.iter().map(|c| c.chance[place]).collect()).collect();
    let rows: Vec<&Row> = could.iter().map(|c| &c.row).collect();
    Labelled::new(&rows, tiers, chance, Some(could.iter().map(|c| c.easiness).collect()))
}

/// The policy at other prices of money, or with its thresholds moved.
pub(super) fn points(policy: &Policy) -> Vec<Point> {
    const STEPS: i32 = 16;
    const STEP: f64 = 0.4;
    if let Some(stopping) = &policy.stopping {
        return stopping.points.clone();
    }
    (-STEPS..=STEPS).map(|step| moved(policy, STEP * f64::from(step))).collect()
}

/// The policy with the log odds of every threshold moved by `by`.
fn moved(policy: &Policy, by: f64) -> Point {
    let tiers = policy.tiers.len();
    let act = all_states(tiers).map(|(tier, _)| {
        let next = Act::Ask(tier + 1);
        let at_least = match &policy.tiers[tier].accept {
            Accept::Checked(check) => check.at_least.value(),
            Accept::Always => 0.0,
        };
        // Gates alone have no threshold to move.
        let bound = if at_least <= 0.0 { 0.0 } else { sigmoid(logit(at_least) + by) };
        let bound = if at_least >= 1.0 { 1.0 } else { bound };
        StateActs { gated: tier + 1, scored: Cuts(vec![(bound, next), (f64::MAX, Act::Serve)]) }
    });
    Point { lambda: 0.0, cost: 0.0, quality: 0.0, differs: 0.0, start: Cuts::always(Act::Ask(0)), act: act.collect() }
}
