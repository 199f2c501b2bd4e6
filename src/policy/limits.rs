//! The `limits:` of a tier: how much it may be asked, and what becomes of a prompt
//! that finds it full.

use std::num::NonZeroU32;
use std::time::Duration;

use serde_json::{Value, json};

use super::acceptance::one_key;
use super::containers::At;
use super::problem::Problem;
use super::shape::{Reader, Shape, shape};
use super::yaml::Node;

/// How much a tier may be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitRule {
    /// Prompts per minute.
    pub requests: Option<RateRule>,
    /// Tokens per minute, of prompts and answers together.
    pub tokens: Option<RateRule>,
    /// Prompts at the same time.
    pub concurrent: Option<NonZeroU32>,
    /// What becomes of a prompt that finds it full.
    pub when_full: WhenFull,
}

/// So much per minute in the long run, and so much at once after a pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateRule {
    /// In the long run.
    pub per_minute: NonZeroU32,
    /// At once.
    pub burst: NonZeroU32,
}

impl RateRule {
    /// The time in which one more is free.
    #[must_use]
    pub fn period(self) -> Duration {
        // A minute has 6e10 ns, so that 0 ns is out of reach for u32.
        Duration::from_mins(1) / self.per_minute.get()
    }
}

/// What becomes of a prompt that finds a tier full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// A larger tier is asked.
    Escalate,
    /// It waits, no longer than this; then a larger tier is asked.
    Wait(Duration),
    /// The client is told to come back.
    Refuse,
}

shape! {
    /// How much a tier may be asked; at least one of the three bounds.
    pub struct LimitsFile {
        /// Prompts per minute, in the long run.
        requests_per_minute: Option<NonZeroU32>,
        /// Prompts at once after a pause; else `requests_per_minute`.
        burst: Option<At<NonZeroU32>>,
        /// Tokens per minute, of prompts and answers together: an estimate is taken
        /// at first, and put right by what the upstream counts.
        tokens_per_minute: Option<NonZeroU32>,
        /// Prompts at the same time.
        concurrent: Option<NonZeroU32>,
        /// What becomes of a prompt that finds the tier full.
        when_full: WhenFull = WhenFull::Escalate,
    }
}

shape! {
    /// A wait for a place.
    pub struct WaitFile {
        /// The longest it may take.
        up_to: Duration,
    }
}

impl Shape for WhenFull {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        match one_key(node, reader, &["escalate", "wait", "refuse"])? {
            (word, None) if word == "escalate" => Some(Self::Escalate),
            (word, None) if word == "refuse" => Some(Self::Refuse),
            (word, Some(value)) if word == "wait" => Some(Self::Wait(WaitFile::read(value, reader)?.up_to)),
            (word, Some(value)) => {
                reader.refuse(&value.span, format!("`{word}` takes no value"), format!("write `{word}` alone"))
            }
            (_, None) => reader.refuse(&node.span, "a wait needs a bound", "write { wait: { up_to: 2s } }"),
        }
    }
    fn stand_in() -> Option<Self> {
        Some(Self::Escalate)
    }
    fn schema() -> Value {
        json!({"oneOf": [
            {"enum": ["escalate", "refuse"]},
            {"type": "object", "properties": {"wait": WaitFile::schema()}, "required": ["wait"], "additionalProperties": false},
        ]})
    }
    fn node(&self) -> Node {
        match self {
            Self::Escalate => Node::plain("escalate"),
            Self::Refuse => Node::plain("refuse"),
            Self::Wait(up_to) => Node::map(vec![("wait", WaitFile { up_to: *up_to }.node())]),
        }
    }
}

/// The rule of a tier's `limits:`.
pub(super) fn limit(file: &At<LimitsFile>, problems: &mut Vec<Problem>) -> LimitRule {
    let At { value: limits, at } = file;
    if limits.requests_per_minute.is_none() && limits.tokens_per_minute.is_none() && limits.concurrent.is_none() {
        problems.push(
            Problem::new(at.clone(), "limits without a bound")
                .help("give requests_per_minute, tokens_per_minute or concurrent"),
        );
    }
    let requests = limits.requests_per_minute.map(|per_minute| {
        let burst = limits.burst.as_ref().map_or(per_minute, |b| b.value);
        if let Some(written) = &limits.burst {
            sensible_burst(per_minute, written, problems);
        }
        RateRule { per_minute, burst }
    });
    if let (None, Some(burst)) = (requests, &limits.burst) {
        problems.push(
            Problem::new(burst.at.clone(), "a burst without a rate")
                .help("add requests_per_minute, or write concurrent for prompts at the same time"),
        );
    }
    let tokens = limits.tokens_per_minute.map(|per_minute| RateRule { per_minute, burst: per_minute });
    LimitRule { requests, tokens, concurrent: limits.concurrent, when_full: limits.when_full }
}

fn sensible_burst(per_minute: NonZeroU32, burst: &At<NonZeroU32>, problems: &mut Vec<Problem>) {
    const MINUTES_A_DAY: u32 = 1440;
    if burst.value.get() / MINUTES_A_DAY > per_minute.get() {
        let what = format!("a burst of {} takes more than a day to come back at {per_minute} a minute", burst.value);
        problems.push(Problem::new(burst.at.clone(), what).help("write a smaller burst"));
    }
}
