//! What one request costs the holder of its key: settled when its answer has ended,
//! however it ended.

use std::sync::Arc;

use super::keyring::{Holder, Keyring};
use crate::clock::Clock;
use crate::price::{Cost, Usd};
use crate::prompt::Prompt;
use crate::shared::Drawn;
use crate::tokens::{self, Tokens};
use crate::trace::{Outcome, Trace};

/// A request being answered on somebody's account.
#[derive(Debug)]
pub(super) struct Bill<C: Clock> {
    keyring: Arc<Keyring<C>>,
    holder: Arc<Holder<C>>,
    taken: Option<Drawn>,
    due: Due,
}

/// What is due if nothing more is learned.
#[derive(Clone, Copy, Debug)]
struct Due {
    tokens: u64,
    cost: Option<Usd>,
}

impl<C: Clock> Bill<C> {
    /// On this account, for which tokens were taken. Given up before its answer is
    /// known it costs those, and nobody knows what in dollars.
    pub fn new(keyring: Arc<Keyring<C>>, holder: Arc<Holder<C>>, taken: Option<Drawn>) -> Self {
        let tokens = taken.map_or(0, |taken| u64::from(taken.amount.get()));
        Self { keyring, holder, taken, due: Due { tokens, cost: None } }
    }

    /// What attempts have cost; `flowed` tokens went into a stream, whose cost its attempt
    /// has by now.
    pub fn add<'a>(&mut self, traces: impl Iterator<Item = (&'a Prompt, &'a Trace)>, flowed: Option<Tokens>) {
        let (mut tokens, mut cost) = (flowed.map_or(0, |flowed| sum(0, flowed)), Cost::FREE);
        for (prompt, trace) in traces {
            for attempt in &trace.attempts {
                match &attempt.outcome {
                    Outcome::Answered { answer, .. } if !attempt.cache.is_free() => {
                        let counted = tokens::count(prompt, answer);
                        tokens = sum(tokens, counted);
                    }
                    Outcome::Answered { .. } | Outcome::Flowing { .. } | Outcome::Failed(_) => {}
                }
                cost = cost.plus(attempt.cost);
            }
        }
        self.due = Due { tokens, cost: cost.usd };
    }
}

/// With more tokens; what an upstream counts may be nonsense.
fn sum(tokens: u64, more: Tokens) -> u64 {
    tokens.saturating_add(more.input).saturating_add(more.output)
}

impl<C: Clock> Drop for Bill<C> {
    fn drop(&mut self) {
        self.holder.put_right(self.taken, self.due.tokens);
        self.keyring.charge(&self.holder, self.due.cost);
    }
}
