//! What one request costs the holder of its key: settled when its answer has ended,
//! however it ended.

use std::num::NonZeroU32;
use std::sync::Arc;

use futures_util::{StreamExt, stream};

use super::keyring::{Holder, Keyring};
use crate::answer::Gathered;
use crate::clock::Clock;
use crate::openai::Endpoint;
use crate::price::{Cost, Price, Usd};
use crate::prompt::Prompt;
use crate::tokens::{self, Tokens};
use crate::trace::{Outcome, Trace};
use crate::upstream::Flow;

/// A request being answered on somebody's account.
#[derive(Debug)]
pub(super) struct Bill<C: Clock> {
    keyring: Arc<Keyring<C>>,
    holder: Arc<Holder<C>>,
    taken: Option<NonZeroU32>,
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
    pub fn new(keyring: Arc<Keyring<C>>, holder: Arc<Holder<C>>, taken: Option<NonZeroU32>) -> Self {
        let tokens = taken.map_or(0, |taken| u64::from(taken.get()));
        Self { keyring, holder, taken, due: Due { tokens, cost: None } }
    }

    /// What attempts have cost whose answers have come whole.
    pub fn add<'a>(&mut self, traces: impl Iterator<Item = (&'a Prompt, &'a Trace)>) {
        let (mut tokens, mut cost) = (0, Cost::FREE);
        for (prompt, trace) in traces {
            for attempt in &trace.attempts {
                match &attempt.outcome {
                    Outcome::Answered { answer, .. } if !attempt.cache.is_free() => {
                        let counted = tokens::count(prompt, answer);
                        tokens = sum(tokens, counted);
                    }
                    Outcome::Answered { .. } | Outcome::Failed(_) => {}
                    // Its turn comes when it ends; what was asked beside it is due.
                    Outcome::Flowing { .. } => {
                        cost = cost.plus(attempt.judging);
                        continue;
                    }
                }
                cost = cost.plus(attempt.cost);
            }
        }
        self.due = Due { tokens, cost: cost.usd };
    }

    /// The flow, whose tokens are added when it ends or nobody reads on.
    pub fn follow(self, flow: Flow, prompt: &Prompt, price: Option<Price>) -> Flow {
        let Flow { frames, headers } = flow;
        let input = tokens::estimate_prompt(prompt);
        let following = Following { bill: self, endpoint: prompt.endpoint, price, input, frames: 0, counted: None };
        let frames = stream::unfold((frames, following), |(mut frames, mut following)| async move {
            let frame = frames.next().await?;
            if let Ok(data) = &frame {
                following.note(data);
            }
            Some((frame, (frames, following)))
        });
        Flow { frames: Box::pin(frames), headers }
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

/// A bill whose answer is on its way.
struct Following<C: Clock> {
    bill: Bill<C>,
    endpoint: Endpoint,
    price: Option<Price>,
    input: u64,
    /// A frame holds a token, most often.
    frames: u64,
    counted: Option<Tokens>,
}

impl<C: Clock> Following<C> {
    fn note(&mut self, frame: &[u8]) {
        self.frames += 1;
        let counted = Gathered::usage_in(self.endpoint, frame).and_then(tokens::of_usage);
        self.counted = counted.or(self.counted);
    }
}

impl<C: Clock> Drop for Following<C> {
    fn drop(&mut self) {
        let estimated = Tokens { input: self.input, cached_input: 0, output: self.frames, estimated: true };
        let tokens = self.counted.unwrap_or(estimated);
        let due = &mut self.bill.due;
        due.tokens = sum(due.tokens, tokens);
        let of_flow = self.price.as_ref().map(|price| price.of(tokens));
        due.cost = due.cost.zip(of_flow).map(|(before, flow)| before + flow);
    }
}
