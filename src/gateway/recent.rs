//! The last requests, and what all of them saved, for whoever looks.
//!
//! Invariant: bounded, and without texts of prompts or answers.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;

use crate::explanation::Explanation;
use crate::savings::Savings;

/// Requests that are kept.
const KEPT: usize = 200;

/// Keeps the last requests, and sums all of them up.
#[derive(Debug, Default)]
pub struct Recent(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// How many were noted.
    noted: u64,
    last: VecDeque<Arc<Explanation>>,
    savings: Savings,
}

/// What is told of them.
#[derive(Serialize)]
pub(super) struct Since<'a> {
    /// The digest of the policy in force.
    policy: &'a str,
    /// What to ask with next time.
    next: u64,
    /// What all requests saved.
    savings: Savings,
    /// The same in words.
    ledger: String,
    /// Those noted since, the oldest first.
    requests: Vec<Arc<Explanation>>,
}

impl Recent {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a request.
    pub(super) fn note(&self, told: Arc<Explanation>) {
        let mut inner = self.inner();
        inner.noted += 1;
        inner.savings.add(&told);
        if inner.last.len() == KEPT {
            inner.last.pop_front();
        }
        inner.last.push_back(told);
    }

    /// What was noted after the first `seen`, as far as it is kept.
    pub(super) fn since<'a>(&self, policy: &'a str, seen: u64) -> Since<'a> {
        let inner = self.inner();
        // Whoever has seen more has seen another gateway's.
        let seen = if seen > inner.noted { 0 } else { seen };
        let new = usize::try_from(inner.noted - seen).unwrap_or(usize::MAX).min(inner.last.len());
        let requests = inner.last.range(inner.last.len() - new..).cloned().collect();
        let (next, savings) = (inner.noted, inner.savings.clone());
        drop(inner);
        Since { policy, next, ledger: savings.to_string(), savings, requests }
    }
}
