//! Scores that someone else gives and that are paid for: a mark on the answer.
//!
//! Invariant: nobody is asked here. Who asks attaches the mark, and a recording
//! keeps it, so that a replay asks nobody.

use std::sync::Arc;

use super::{Evidence, Gate, Score, Scorer};

/// A mark by which an answer is scored.
#[derive(Clone, Debug, PartialEq)]
pub struct Marked {
    /// Who gives it.
    pub by: Judge,
    /// Only where the free score lies between these, both included; none: always.
    pub between: Option<(Score, Score)>,
}

/// Who says how good an answer is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judge {
    /// The tier that gave it (P(True); Kadavath et al. 2022).
    Itself,
    /// Another tier, by place.
    Tier(usize),
    /// A service at this URL.
    External(Arc<str>),
}

impl Judge {
    /// The name of the mark in exchanges.
    #[must_use]
    pub fn mark(&self) -> &'static str {
        match self {
            Self::Itself => "p_true",
            Self::Tier(_) => "judge",
            Self::External(_) => "external",
        }
    }

    /// The name in YAML, headers and reports.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Itself => "self_check",
            Self::Tier(_) => "judge",
            Self::External(_) => "external",
        }
    }
}

impl Marked {
    /// Whether the mark counts: the free score leaves it open, or there is none.
    #[must_use]
    pub fn is_wanted(&self, free: impl FnOnce() -> Option<Score>) -> bool {
        let Some((low, high)) = self.between else { return true };
        free().is_none_or(|score| (low..=high).contains(&score))
    }
}

/// The first score that costs nothing.
pub(super) fn free_score(scorers: &[Scorer], evidence: &Evidence<'_>) -> Option<Score> {
    scorers.iter().filter(|s| !matches!(s, Scorer::Marked(_))).find_map(|s| s.score(evidence))
}

/// Who must be asked about an answer, if anybody: the first judge whose word
/// would count, where every gate lets it pass.
#[must_use]
pub fn asks_for_mark<'s>(gates: &[Gate], scorers: &'s [Scorer], evidence: &Evidence<'_>) -> Option<&'s Judge> {
    let marked = scorers.iter().find_map(|scorer| match scorer {
        Scorer::Marked(marked) => Some(marked),
        _ => None,
    })?;
    let is_open = gates.iter().all(|gate| gate.passes(evidence));
    (is_open && marked.is_wanted(|| free_score(scorers, evidence))).then_some(&marked.by)
}
