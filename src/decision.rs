//! All the rules of the cascade, as two pure functions: what to do next, and
//! what becomes of an answer.
//!
//! Invariant: no clock, no I/O, no state. The engine only carries out steps.

use std::num::NonZeroU32;

use crate::policy::{Accept, Ladder, Policy, StreamMode, Tier, Unscored};
use crate::scoring::Grade;
use crate::trace::{Outcome, Trace, Verdict, Why};

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
    /// Every tier of the ladder has failed.
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

/// The next step for a prompt: serve what was accepted, else ask the next
/// larger tier of the ladder, else give up. `streams` says whether the client
/// wants frames.
#[must_use]
pub fn next_step<'p>(policy: &'p Policy, ladder: &Ladder, streams: bool, trace: &Trace) -> Step<'p> {
    if let Some(last) = trace.attempts.last() {
        match &last.outcome {
            Outcome::Flowing { .. } => return Step::Serve(trace.attempts.len() - 1),
            Outcome::Answered { verdict, .. } if verdict.is_accepted => return Step::Serve(trace.attempts.len() - 1),
            Outcome::Answered { .. } | Outcome::Failed(_) => {}
        }
    }
    let asked = trace.attempts.last().map(|a| a.tier);
    match ladder.tiers().iter().find(|tier| asked.is_none_or(|asked| **tier > asked)) {
        Some(&tier) => {
            let is_last = tier == ladder.last() || policy.stream == StreamMode::Direct && streams;
            let delivery = match policy.stream {
                _ if is_last => Delivery::Flow,
                StreamMode::Prefix(tokens) if streams => Delivery::Prefix(tokens),
                _ => Delivery::Hold,
            };
            Step::Ask { tier: &policy.tiers[tier], is_last, delivery }
        }
        None => Step::GiveUp,
    }
}

/// What becomes of a tier's answer. `grade` is asked for only where it counts.
#[must_use]
pub fn judge(accept: &Accept, is_last: bool, grade: impl FnOnce() -> Grade) -> Verdict {
    let Accept::Checked(check) = accept else {
        return Verdict { is_accepted: true, why: Why::LastTier };
    };
    if is_last {
        return Verdict { is_accepted: true, why: Why::LastTier };
    }
    match grade() {
        Grade::Gated(gate) => Verdict { is_accepted: false, why: Why::Gate(gate) },
        Grade::Scored(score, _) => {
            Verdict { is_accepted: score >= check.at_least, why: Why::Score { score, at_least: check.at_least } }
        }
        // Without a scorer the gates alone decide, and they let it pass.
        Grade::Unscored => {
            Verdict { is_accepted: check.scorers.is_empty() || check.unscored == Unscored::Accept, why: Why::Unscored }
        }
    }
}
