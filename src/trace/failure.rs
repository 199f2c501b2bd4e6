//! Why a tier gave no answer: failures are data, with their numbers.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;

use crate::answer::NotAnAnswer;
use crate::openai::envelope::{self, excerpt};

/// Why a tier gave no answer.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Failure {
    /// A limit of this tier is reached.
    #[error("{by}; try again in {:.1} s", retry_after.as_secs_f64())]
    Limited {
        /// Which one.
        by: Bound,
        /// When to try again.
        retry_after: Duration,
    },
    /// Every upstream of the tier keeps failing and is left alone.
    #[error("it keeps failing and is left alone; try again in {:.1} s", retry_after.as_secs_f64())]
    Open {
        /// When one prompt will try it.
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
    /// No connection, or none that spoke HTTP to the end of a head.
    #[error("no answer: {0}")]
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

/// What a tier is full by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// Prompts per minute.
    Requests,
    /// Tokens per minute.
    Tokens,
    /// Prompts at the same time.
    Concurrent,
    /// Its upstream asked to be left alone.
    Pause,
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Requests => "its limit of requests per minute is reached",
            Self::Tokens => "its limit of tokens per minute is reached",
            Self::Concurrent => "its limit of concurrent requests is reached",
            Self::Pause => "its upstream has asked for a pause",
        })
    }
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
    /// Whether the upstream says that what was paid for is used up, which no wait mends.
    #[must_use]
    pub fn is_out_of_quota(&self) -> bool {
        let word = b"\"insufficient_quota\"";
        matches!(self, Self::Refused { status: 429, body, .. } if memchr::memmem::find(body, word).is_some())
    }

    /// The same, with stars where the upstream repeats a secret.
    #[must_use]
    pub fn hiding(mut self, secret: &[u8]) -> Self {
        let hide = |text: &mut String| {
            let hidden = envelope::hidden(std::mem::take(text).into(), secret);
            *text = String::from_utf8_lossy(&hidden).into_owned();
            // An excerpt may end in the middle of it.
            let cut = text.trim_end_matches("...").len();
            let begun = (4..secret.len()).rev().find(|n| text.as_bytes()[..cut].ends_with(&secret[..*n]));
            if let Some(n) = begun {
                text.replace_range(cut - n..cut, &"*".repeat(n));
            }
        };
        match &mut self {
            Self::Refused { body, .. } => *body = envelope::hidden(std::mem::take(body), secret),
            Self::Malformed { content_type, why } => {
                hide(content_type);
                if let NotAnAnswer::Error(said) | NotAnAnswer::Shape(said) = why {
                    hide(said);
                }
            }
            _ => {}
        }
        self
    }

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
            Self::Open { .. } => "open",
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
