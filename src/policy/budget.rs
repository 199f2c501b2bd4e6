//! The `budget:` of a prompt: how far it may climb.
#![expect(clippy::struct_field_names, reason = "fields are the keys of the file")]

use std::num::NonZeroU32;
use std::time::Duration;

use super::containers::At;
use super::problem::Problem;
use super::shape::{Reader, Shape, shape, words};
use super::yaml::Node;
use crate::price::Usd;

/// How far a prompt may climb; none: not bounded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Budget {
    /// Tiers asked; the last of them is the ladder's last.
    pub max_attempts: Option<NonZeroU32>,
    /// Time that answers which were not served may take together.
    pub max_added_latency: Option<Duration>,
    /// Money, once an answer has passed its gates.
    pub max_cost: Option<Usd>,
}

impl From<&BudgetFile> for Budget {
    fn from(file: &BudgetFile) -> Self {
        Self { max_attempts: file.max_attempts, max_added_latency: file.max_added_latency, max_cost: file.max_cost_usd }
    }
}

shape! {
    /// How far a prompt may climb; what is left out is not bounded.
    pub struct BudgetFile {
        /// Tiers asked; the last of them is the ladder's last.
        max_attempts: Option<NonZeroU32>,
        /// Time that answers which were not served may take together; past that the
        /// ladder's last tier is asked.
        max_added_latency: Option<Duration>,
        /// Dollars; once they are spent the best answer so far is served.
        max_cost_usd: Option<Usd>,
    }
}

words! {
    /// What a client gets where the rest of the ladder fails.
    pub enum WhenAllFail {
        /// The best answer so far that every gate let pass, and a header that says so.
        BestAnswer = "best_answer",
        /// An error.
        Error = "error",
    }
}

/// Notes what a budget does to a promise.
pub(super) fn beside_a_calibration(budget: &At<BudgetFile>, problems: &mut Vec<Problem>) {
    let what = "a budget changes what is served, so that the calibration's promise holds only where it is not reached";
    problems
        .push(Problem::new(budget.at.clone(), what).help("remove `budget`, or take the promise for a hint").warning());
}
