//! How good an answer is: gates first, then one score in 0..=1.
//!
//! Invariant: pure. A scorer sees the prompt, the answer and what smaller
//! tiers said; never a label, a price or the clock.

mod agreement;
mod confidence;
pub mod features;
mod gates;
mod judges;
pub mod learned;
mod schema;

use std::cell::OnceCell;
use std::fmt;
use std::sync::Arc;

use regex::Regex;

use crate::answer::Answer;
use crate::prompt::Prompt;

pub use agreement::{Form, form};
pub use confidence::Pool;
pub use gates::{Gate, Length, Pattern};
pub use judges::{Judge, Marked, asks_for_mark};

pub use features::Seen;
use learned::Learned;

/// Estimated probability, 0..=1, that an answer is good enough. As long as no
/// calibration stands behind it, it is uncalibrated: an order, not a chance.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Score(f64);

impl Score {
    /// None unless `value` is in 0..=1.
    #[must_use]
    pub fn new(value: f64) -> Option<Self> {
        (0.0..=1.0).contains(&value).then_some(Self(value))
    }

    /// The value, 0..=1.
    #[must_use]
    pub fn value(self) -> f64 {
        self.0
    }
}

/// Two digits, never rounded up: 0.7199 must not read as having reached 0.72.
impl fmt::Display for Score {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The small term keeps 0.29, stored as 0.28999..., from reading 0.28.
        write!(f, "{:.2}", (self.0 * 100.0 + 1e-9).floor() / 100.0)
    }
}

/// All that a scorer may look at.
#[derive(Clone, Copy, Debug)]
pub struct Evidence<'a> {
    /// What was asked.
    pub prompt: &'a Prompt,
    /// The answer to be scored.
    pub answer: &'a Answer,
    /// What is worked out about `answer` is kept here.
    pub seen: &'a Seen,
    /// What smaller tiers answered to the same prompt, smallest first.
    pub smaller: &'a [Smaller<'a>],
    /// The tiers that were asked before: a bit for each place in the policy.
    pub after: u32,
    /// Where an answer's text has its final answer, if the policy says.
    pub answer_pattern: Option<&'a Regex>,
}

/// What a smaller tier answered.
#[derive(Clone, Copy, Debug)]
pub struct Smaller<'a> {
    /// Its answer.
    pub answer: &'a Answer,
    /// What is worked out about it is kept here.
    pub seen: &'a Seen,
}

impl<'a> Evidence<'a> {
    /// An answer with nothing before it.
    #[must_use]
    pub fn of(prompt: &'a Prompt, answer: &'a Answer, seen: &'a Seen) -> Self {
        Self { prompt, answer, seen, smaller: &[], after: 0, answer_pattern: None }
    }

    /// A smaller tier's answer by itself.
    fn of_smaller(&self, Smaller { answer, seen }: Smaller<'a>) -> Self {
        Self { answer, seen, smaller: &[], after: 0, ..*self }
    }
}

/// A way to score an answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Scorer {
    /// From the answer's token logprobs.
    Confidence(Pool),
    /// The share of the answers so far that say the same.
    Agreement,
    /// What a judge said of it.
    Marked(Marked),
    /// Learned from labelled answers: one for each set of smaller tiers that may
    /// have answered before.
    Learned(Arc<[Learned]>),
    /// Several as one, of those that have something to go by.
    Combined(Combined, Vec<Self>),
}

/// How several scores become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Combined {
    /// Their mean.
    Mean,
    /// The lowest.
    Min,
    /// The highest.
    Max,
}

impl Combined {
    /// The name in YAML and reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Mean => "mean",
            Self::Min => "min",
            Self::Max => "max",
        }
    }
}

impl Scorer {
    /// The name in YAML, headers and reports.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Confidence(_) => "confidence",
            Self::Agreement => "agreement",
            Self::Marked(marked) => marked.by.name(),
            Self::Learned(_) => "learned",
            Self::Combined(how, _) => how.name(),
        }
    }

    /// Whether the upstream must be asked for token logprobs.
    #[must_use]
    pub fn needs_logprobs(&self) -> bool {
        match self {
            Self::Confidence(_) => true,
            Self::Agreement | Self::Marked(_) => false,
            Self::Learned(each) => each.iter().any(Learned::needs_logprobs),
            Self::Combined(_, of) => of.iter().any(Self::needs_logprobs),
        }
    }

    /// The score, or none where there is nothing to go by. With several
    /// choices the worst one counts, since a client gets them all.
    #[must_use]
    pub fn score(&self, evidence: &Evidence<'_>) -> Option<Score> {
        match self {
            Self::Confidence(pool) => {
                let each = evidence.answer.choices.iter().map(|c| pool.score(&c.logprobs));
                each.reduce(|a, b| Some(if a? < b? { a? } else { b? }))?
            }
            Self::Agreement => agreement::score(evidence),
            Self::Marked(marked) => evidence.answer.marks.get(marked.by.mark()).and_then(|mark| Score::new(*mark)),
            Self::Learned(each) => each.get(evidence.after as usize & (each.len() - 1))?.score(evidence),
            Self::Combined(how, of) => {
                let scores: Vec<f64> = of.iter().filter_map(|s| s.score(evidence)).map(Score::value).collect();
                let pooled = match how {
                    Combined::Mean => crate::statistics::mean(&scores),
                    Combined::Min => scores.into_iter().reduce(f64::min),
                    Combined::Max => scores.into_iter().reduce(f64::max),
                };
                pooled.and_then(Score::new)
            }
        }
    }
}

/// What gates and scorers make of one answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Grade {
    /// A gate said no.
    Gated(&'static str),
    /// Every gate let it pass, and a scorer had something to go by.
    Scored(Score, &'static str),
    /// Every gate let it pass; no scorer is set, or none had anything to go by.
    Unscored,
}

/// Grades an answer: every gate in order, then the first scorer that can say.
#[must_use]
pub fn grade(gates: &[Gate], scorers: &[Scorer], evidence: &Evidence<'_>) -> Grade {
    if let Some(shut) = gates.iter().find(|gate| !gate.passes(evidence)) {
        return Grade::Gated(shut.name());
    }
    let free = OnceCell::new();
    let counts = |scorer: &&Scorer| match scorer {
        Scorer::Marked(marked) => marked.is_wanted(|| *free.get_or_init(|| judges::free_score(scorers, evidence))),
        _ => true,
    };
    let scored = scorers.iter().filter(counts).find_map(|s| Some(Grade::Scored(s.score(evidence)?, s.name())));
    scored.unwrap_or(Grade::Unscored)
}

/// Grades the beginning of an answer for all of it; none where it cannot tell:
/// where a gate needs the whole answer, or no scorer can say yet.
#[must_use]
pub fn grade_prefix(gates: &[Gate], scorers: &[Scorer], evidence: &Evidence<'_>) -> Option<Grade> {
    if gates.iter().any(|gate| gate.needs_the_end(evidence.prompt)) {
        return None;
    }
    let told_early = |gate: &&Gate| matches!(gate, Gate::NotRefusal | Gate::NoRepetition);
    if gates.iter().filter(told_early).any(|gate| !gate.passes(evidence)) {
        return None;
    }
    // Only confidence means the same on a beginning.
    let scorer = scorers.first().filter(|s| matches!(s, Scorer::Confidence(_)))?;
    Some(Grade::Scored(scorer.score(evidence)?, scorer.name()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_score_is_never_shown_as_higher_than_it_is() {
        let shown = |v| Score::new(v).expect("in range").to_string();
        assert_eq!(shown(0.7199), "0.71");
        assert_eq!(shown(0.29), "0.29");
        assert_eq!(shown(1.0), "1.00");
        assert_eq!(Score::new(1.1), None);
        assert_eq!(Score::new(f64::NAN), None);
    }
}
