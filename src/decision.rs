//! All the rules of the cascade, as two pure functions: what to do next, and
//! what becomes of an answer.
//!
//! Invariant: no clock, no I/O, no state. The engine only carries out steps.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::policy::{Accept, Budget, Ladder, Policy, StreamMode, Tier, Unscored, WhenAllFail};
use crate::scoring::{Grade, Score};
use crate::stopping::{Act, Stopping};
use crate::trace::{Attempt, Failure, Outcome, Trace, Verdict, Why};

/// What to do next.
#[derive(Clone, Copy, Debug)]
pub enum Step<'p> {
    /// Ask this tier.
    Ask {
        /// The tier.
        tier: &'p Tier,
        /// Whether its answer is served whatever it says.
        is_last: bool,
        /// When its frames may reach the client.
        delivery: Delivery,
    },
    /// Serve this attempt.
    Serve(usize),
    /// Every tier of the ladder has failed, and no answer can stand in.
    GiveUp,
}

/// When an answer's frames may reach the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// Once all of it is judged: it may still be rejected.
    Hold,
    /// Once its first so many tokens are judged.
    Prefix(NonZeroU32),
    /// As they come: it is served whatever it says.
    Flow,
}

/// The next step for a prompt: serve what was accepted, else ask the tier the
/// verdict names, else the next larger one of the ladder, as far as the budget goes;
/// else serve the best answer so far, else give up. A tier named that the ladder has
/// not stands for the next larger one that it has, or for its last. `streams` says whether the client wants frames.
#[must_use]
pub fn next_step<'p>(policy: &'p Policy, ladder: &Ladder, streams: bool, trace: &Trace) -> Step<'p> {
    let mut least = 0;
    if let Some(last) = trace.attempts.last() {
        least = last.tier + 1;
        match &last.outcome {
            Outcome::Flowing { .. } => return Step::Serve(trace.attempts.len() - 1),
            Outcome::Answered { verdict, .. } if verdict.is_accepted => return Step::Serve(trace.attempts.len() - 1),
            Outcome::Answered { verdict, .. } => {
                least = verdict.next.unwrap_or(0).clamp(least, ladder.last().max(least));
            }
            Outcome::Failed(Failure::Limited { .. }) if policy.tiers[last.tier].refuses_when_full() => {
                return Step::GiveUp;
            }
            // Calibrated as an answer that a gate refused.
            Outcome::Failed(_) => {
                let next = policy.stopping.as_ref().map_or(0, |s| s.after_gate(last.tier, trace.asked()));
                least = next.clamp(least, ladder.last().max(least));
            }
        }
    }
    let Some(&next) = ladder.tiers().iter().find(|tier| **tier >= least) else {
        let may_stand_in = policy.when_all_fail == WhenAllFail::BestAnswer;
        return best_so_far(trace).filter(|_| may_stand_in).map_or(Step::GiveUp, Step::Serve);
    };
    let (tier, may_climb) = match budget_left(&policy.budget, trace) {
        Left::Enough => (next, next < ladder.last()),
        Left::OneAttempt => (ladder.last(), false),
        Left::NoMoney => match best_so_far(trace) {
            Some(attempt) => return Step::Serve(attempt),
            // Without any answer the client's comes before the budget.
            None => (next, false),
        },
    };
    let is_last = !may_climb || policy.stream == StreamMode::Direct && streams;
    let delivery = match policy.stream {
        _ if is_last => Delivery::Flow,
        StreamMode::Prefix(tokens) if streams => Delivery::Prefix(tokens),
        _ => Delivery::Hold,
    };
    Step::Ask { tier: &policy.tiers[tier], is_last, delivery }
}

/// What a budget leaves.
enum Left {
    Enough,
    OneAttempt,
    NoMoney,
}

fn budget_left(budget: &Budget, trace: &Trace) -> Left {
    // Who was full was not asked.
    let was_asked = |attempt: &&Attempt| {
        !matches!(attempt.outcome, Outcome::Failed(Failure::Limited { .. } | Failure::Open { .. }))
    };
    let attempts = u32::try_from(trace.attempts.iter().filter(was_asked).count()).unwrap_or(u32::MAX);
    let took = || trace.attempts.iter().map(|attempt| attempt.elapsed).sum::<Duration>();
    if budget.max_cost.is_some_and(|most| trace.cost().usd.is_some_and(|spent| spent >= most && attempts > 0)) {
        Left::NoMoney
    } else if budget.max_attempts.is_some_and(|most| attempts + 1 >= most.get())
        || budget.max_added_latency.is_some_and(|most| attempts > 0 && took() >= most)
    {
        Left::OneAttempt
    } else {
        Left::Enough
    }
}

/// The attempt with the highest score among those that every gate let pass, of two
/// the larger tier's.
fn best_so_far(trace: &Trace) -> Option<usize> {
    // What nobody recorded would have been answered.
    let is_unknown = |attempt: &Attempt| matches!(attempt.outcome, Outcome::Failed(Failure::NotRecorded));
    if trace.attempts.iter().any(is_unknown) {
        return None;
    }
    let score = |attempt: &Attempt| match &attempt.outcome {
        Outcome::Answered { verdict, .. } => match verdict.why {
            Why::Gate(_) => None,
            Why::Score { score, .. } => Some(score.value()),
            Why::LastTier | Why::Unscored => Some(-1.0),
        },
        Outcome::Flowing { .. } | Outcome::Failed(_) => None,
    };
    let passed = trace.attempts.iter().enumerate().filter_map(|(at, attempt)| Some((at, score(attempt)?)));
    passed.max_by(|(_, a), (_, b)| a.total_cmp(b)).map(|(at, _)| at)
}

/// What becomes of a tier's answer; `after` has a bit for each tier that was
/// asked before. `grade` is asked for only where it counts.
#[must_use]
pub fn judge(policy: &Policy, tier: &Tier, is_last: bool, after: u32, grade: impl FnOnce() -> Grade) -> Verdict {
    let Accept::Checked(check) = &tier.accept else { return Verdict::accepted(Why::LastTier) };
    if is_last {
        return Verdict::accepted(Why::LastTier);
    }
    match (grade(), &policy.stopping) {
        (Grade::Scored(score, _), Some(stopping)) => stop_or_go(stopping, tier, after, score),
        (Grade::Scored(score, _), None) => {
            let why = Why::Score { score, at_least: check.at_least };
            if score >= check.at_least { Verdict::accepted(why) } else { Verdict::rejected(why) }
        }
        (Grade::Gated(gate), stopping) => {
            let next = stopping.as_ref().map(|s| s.after_gate(tier.index, after));
            Verdict { next, ..Verdict::rejected(Why::Gate(gate)) }
        }
        // Without a scorer the gates alone decide, and they let it pass.
        (Grade::Unscored, _) if check.scorers.is_empty() || check.unscored == Unscored::Accept => {
            Verdict::accepted(Why::Unscored)
        }
        (Grade::Unscored, _) => Verdict::rejected(Why::Unscored),
    }
}

/// The calibrated rule. The threshold told is the end of the range of scores
/// that are served: where it begins, or from where on this one would have been.
fn stop_or_go(stopping: &Stopping, tier: &Tier, after: u32, score: Score) -> Verdict {
    let cuts = stopping.cuts(tier.index, after);
    let (act, low, _) = cuts.around(score.value());
    let told = |at_least: f64| Why::Score { score, at_least: Score::new(at_least).unwrap_or(score) };
    match act {
        Act::Serve => Verdict::accepted(told(low)),
        Act::Ask(next) => Verdict { next: Some(next), ..Verdict::rejected(told(cuts.served_from(score.value()))) },
    }
}
