//! What has happened to one prompt so far: the one record that decisions,
//! headers, logs and reports read.
//!
//! Invariant: attempts are in the order they were made; failures are data.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::answer::{Answer, NotAnAnswer};
use crate::openai::envelope::excerpt;
use crate::price::Cost;
use crate::scoring::{Score, Seen, Smaller};

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
}

impl CacheUse {
    /// Whether the answer came without asking the upstream.
    #[must_use]
    pub fn is_free(self) -> bool {
        matches!(self, Self::Hit | Self::Coalesced)
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
        }
    }
}

/// Why a tier gave no answer.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Failure {
    /// Our own limit for this tier is reached.
    #[error("its limit is reached; a place is free in {:.1} s", retry_after.as_secs_f64())]
    Limited {
        /// When to try again.
        retry_after: Duration,
    },
    /// The upstream took too long.
    #[error("no {phase} within {:.1} s", bound.as_secs_f64())]
    TimedOut {
        /// What was waited for.
        phase: Phase,
        /// How long.
        bound: Duration,
    },
    /// The upstream answered with an error status.
    #[error("status {status}")]
    Refused {
        /// The HTTP status, 300 or more.
        status: u16,
        /// The body, as it came.
        body: Bytes,
        /// What the upstream's `Retry-After` said.
        retry_after: Option<Duration>,
    },
    /// No connection.
    #[error("no connection: {0}")]
    Unreachable(String),
    /// The body broke off.
    #[error("the answer broke off after {received} bytes")]
    Cut {
        /// How much came.
        received: usize,
    },
    /// The body outgrew its bound.
    #[error("an answer of more than {bound} bytes")]
    TooLarge {
        /// The bound, in bytes.
        bound: usize,
    },
    /// Status 200, but no answer.
    #[error("{content_type} instead of an answer: {why}")]
    Malformed {
        /// The `Content-Type` it came with.
        content_type: String,
        /// What is wrong with it.
        why: NotAnAnswer,
    },
    /// The fixtures hold no answer of this tier to this prompt.
    #[error("no answer is recorded")]
    NotRecorded,
}

/// What was waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// A connection.
    Connect,
    /// The first byte of the answer.
    FirstByte,
    /// The next piece of the answer.
    NextPiece,
    /// The end of the answer.
    WholeAnswer,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "connection",
            Self::FirstByte => "first byte",
            Self::NextPiece => "further piece of the answer",
            Self::WholeAnswer => "whole answer",
        })
    }
}

impl Failure {
    /// What the upstream said for itself, short and without keys; empty where
    /// it said nothing.
    #[must_use]
    pub fn upstream_said(&self) -> String {
        match self {
            Self::Refused { body, .. } => excerpt(body),
            _ => String::new(),
        }
    }

    /// The word in `x-cascade-attempts` and in reports.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Limited { .. } => "limited",
            Self::TimedOut { .. } => "timeout",
            Self::Refused { .. } => "refused",
            Self::Unreachable(_) => "unreachable",
            Self::Cut { .. } => "cut",
            Self::TooLarge { .. } => "too_large",
            Self::Malformed { .. } => "malformed",
            Self::NotRecorded => "not_recorded",
        }
    }
}

impl Trace {
    /// The attempt that was served.
    #[must_use]
    pub fn served(&self) -> Option<&Attempt> {
        self.attempts.get(self.served?)
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
