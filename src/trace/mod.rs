//! What has happened to one prompt so far: the one record that decisions,
//! headers, logs and reports read.
//!
//! Invariant: attempts are in the order they were made; failures are data.

mod failure;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::answer::Answer;
use crate::price::{Cost, Usd};
use crate::scoring::{Score, Seen, Smaller};

pub use failure::{Bound, Failure, Phase};

/// All attempts of one prompt.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    /// Tiers asked, in order.
    pub attempts: Vec<Attempt>,
    /// The attempt that was served; none when every tier failed.
    pub served: Option<usize>,
    /// From the prompt's arrival to the decision.
    pub elapsed: Duration,
}

/// One tier asked once.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// The tier, by place in the policy.
    pub tier: usize,
    /// What came of it.
    pub outcome: Outcome,
    /// What it cost, its judge included.
    pub cost: Cost,
    /// What having it judged cost; unknown where a replay has no judge's word.
    pub judging: Cost,
    /// What the tier's cache did.
    pub cache: CacheUse,
    /// How long it took.
    pub elapsed: Duration,
    /// The recorded label of the answer, 0..=1. For reports only: no decision
    /// and no scorer reads it.
    pub quality: Option<f64>,
}

impl Attempt {
    /// What the answer itself cost, its judge left out.
    #[must_use]
    pub fn own_cost(&self) -> Option<Usd> {
        Some(self.cost.usd? - self.judging.usd?)
    }
}

/// What came of an attempt.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// The tier answered.
    Answered {
        /// What it said.
        answer: Arc<Answer>,
        /// What scorers worked out about it.
        seen: Seen,
        /// What became of it.
        verdict: Verdict,
    },
    /// The tier's frames flow to the client as they come.
    Flowing {
        /// What it was committed to for.
        why: Why,
    },
    /// The tier gave no answer.
    Failed(Failure),
}

/// What became of an answer, and why.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Verdict {
    /// Served, or a larger tier asked.
    pub is_accepted: bool,
    /// What decided it.
    pub why: Why,
    /// The tier to ask next, where a calibrated rule skips some; else the next
    /// larger one of the ladder.
    pub next: Option<usize>,
}

impl Verdict {
    /// Served.
    #[must_use]
    pub fn accepted(why: Why) -> Self {
        Self { is_accepted: true, why, next: None }
    }

    /// The next larger tier is asked.
    #[must_use]
    pub fn rejected(why: Why) -> Self {
        Self { is_accepted: false, why, next: None }
    }
}

/// What decided a verdict.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Why {
    /// The last tier of a ladder is always served.
    LastTier,
    /// A gate said no.
    Gate(&'static str),
    /// The score, against the threshold.
    Score {
        /// What the answer got.
        score: Score,
        /// What it had to reach.
        at_least: Score,
    },
    /// No scorer had anything to go by; the gates had let it pass.
    Unscored,
}

/// What a tier's cache did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheUse {
    /// The tier has no cache.
    Off,
    /// The prompt must not be answered from a cache.
    Bypass,
    /// The answer was not there.
    Miss,
    /// The answer was there.
    Hit,
    /// An equal prompt was in flight and its answer was waited for.
    Coalesced,
    /// The answer to a question that is alike was there.
    Similar,
}

impl CacheUse {
    /// Whether the answer came without asking the upstream.
    #[must_use]
    pub fn is_free(self) -> bool {
        matches!(self, Self::Hit | Self::Coalesced | Self::Similar)
    }

    /// The word in `x-cascade-cache`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Bypass => "bypass",
            Self::Miss => "miss",
            Self::Hit => "hit",
            Self::Coalesced => "coalesced",
            Self::Similar => "similar",
        }
    }
}

impl Trace {
    /// The attempt that was served.
    #[must_use]
    pub fn served(&self) -> Option<&Attempt> {
        self.attempts.get(self.served?)
    }

    /// Whether what was served had been rejected, and stands in for what failed.
    #[must_use]
    pub fn is_stand_in(&self) -> bool {
        let verdict = self.served().and_then(|attempt| match &attempt.outcome {
            Outcome::Answered { verdict, .. } => Some(verdict),
            Outcome::Flowing { .. } | Outcome::Failed(_) => None,
        });
        verdict.is_some_and(|verdict| !verdict.is_accepted)
    }

    /// What all attempts cost together.
    #[must_use]
    pub fn cost(&self) -> Cost {
        self.attempts.iter().fold(Cost::FREE, |sum, attempt| sum.plus(attempt.cost))
    }

    /// The score of the served answer, if it was scored.
    #[must_use]
    pub fn score(&self) -> Option<Score> {
        match &self.served()?.outcome {
            Outcome::Answered { verdict: Verdict { why: Why::Score { score, .. }, .. }, .. }
            | Outcome::Flowing { why: Why::Score { score, .. } } => Some(*score),
            _ => None,
        }
    }

    /// The tiers that were asked, a bit for each place in the policy.
    #[must_use]
    pub fn asked(&self) -> u32 {
        let bit = |attempt: &Attempt| 1u32.checked_shl(u32::try_from(attempt.tier).unwrap_or(32)).unwrap_or(0);
        self.attempts.iter().fold(0, |bits, attempt| bits | bit(attempt))
    }

    /// The answers so far that every gate let pass, smallest tier first.
    #[must_use]
    pub fn answers(&self) -> Vec<Smaller<'_>> {
        let answers = self.attempts.iter().filter_map(|a| match &a.outcome {
            Outcome::Answered { answer, seen, verdict } if !matches!(verdict.why, Why::Gate(_)) => {
                Some(Smaller { answer, seen })
            }
            _ => None,
        });
        answers.collect()
    }
}

/// `(0.41<0.72)`, `(complete)`; nothing for the last tier, which needs no reason.
impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LastTier => Ok(()),
            Self::Gate(gate) => write!(f, "({gate})"),
            Self::Score { score, at_least } if score >= at_least => write!(f, "({score}>={at_least})"),
            Self::Score { score, at_least } => write!(f, "({score}<{at_least})"),
            Self::Unscored => f.write_str("(unscored)"),
        }
    }
}

/// `rejected(0.41<0.72)`, `accepted(0.88)`, `failed(refused 429)`: what came of
/// an attempt, in the words of `x-cascade-attempts`.
impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answered { verdict, .. } => {
                write!(f, "{}{}", if verdict.is_accepted { "accepted" } else { "rejected" }, verdict.why)
            }
            Self::Flowing { why } => write!(f, "flowing{why}"),
            Self::Failed(Failure::Refused { status, .. }) => write!(f, "failed(refused {status})"),
            Self::Failed(failure) => write!(f, "failed({})", failure.word()),
        }
    }
}
