//! Conversations: once a conversation has needed a larger tier, it stays there
//! for a while. Switching tiers loses the provider's prompt cache, and a tier
//! that issued a tool call knows best what to make of its result.
//!
//! Invariant: it only ever narrows a ladder from below, and it forgets.

use std::time::Duration;

use moka::future::Cache;
use moka::policy::EvictionPolicy;

use crate::clock::Clock;
use crate::policy::{Ladder, Policy};
use crate::prompt::Prompt;
use crate::trace::{Outcome, Trace};

/// The most conversations that are remembered; the oldest are forgotten first.
const MAX_CONVERSATIONS: u64 = 100_000;
/// How long a tool's result is waited for.
const TOOL_LOOP: Duration = Duration::from_mins(10);

/// Which tier served which conversation last.
#[derive(Debug)]
pub struct Conversations<C> {
    clock: C,
    stay: Option<Duration>,
    served: Cache<[u8; 32], Served>,
}

#[derive(Clone, Copy, Debug)]
struct Served {
    tier: usize,
    at: Duration,
    called_tools: bool,
}

impl<C: Clock> Conversations<C> {
    /// Remembers as long as `policy` says.
    pub fn new(policy: &Policy, clock: C) -> Self {
        let served = Cache::builder().max_capacity(MAX_CONVERSATIONS).eviction_policy(EvictionPolicy::lru()).build();
        Self { clock, stay: policy.conversation_stay, served }
    }

    /// Takes over what `before` remembers; tiers must be the same.
    pub fn inherit(&mut self, before: &Self) {
        self.served = before.served.clone();
    }

    /// The part of the ladder that this turn of a conversation may be sent to.
    pub async fn narrowed(&self, ladder: &Ladder, prompt: &Prompt) -> Ladder {
        // Most prompts open a conversation, or the policy keeps none.
        if ladder.tiers().len() == 1 || (self.stay.is_none() && !prompt.has_tools) {
            return ladder.clone();
        }
        let turn = prompt.turn();
        let Some(key) = turn.conversation.filter(|_| turn.is_later) else { return ladder.clone() };
        let Some(served) = self.served.get(&key).await else { return ladder.clone() };
        let is_tool_loop = turn.follows_tool && served.called_tools;
        let stay = if is_tool_loop { Some(self.stay.unwrap_or(TOOL_LOOP)) } else { self.stay };
        let age = self.clock.now().saturating_sub(served.at);
        if stay.is_some_and(|stay| age < stay) { ladder.from(served.tier) } else { ladder.clone() }
    }

    /// Notes which tier served this turn, where a later one may have to know.
    pub async fn note(&self, ladder: &Ladder, prompt: &Prompt, trace: &Trace) {
        let Some(served) = trace.served() else { return };
        let called_tools = match &served.outcome {
            Outcome::Answered { answer, .. } => answer.choices.iter().any(|c| !c.tool_calls.is_empty()),
            // What flows is not read before it is gone.
            Outcome::Flowing { .. } => prompt.has_tools,
            Outcome::Failed(_) => false,
        };
        let has_escalated = Some(&served.tier) != ladder.tiers().first();
        let is_wanted = (has_escalated && self.stay.is_some()) || called_tools;
        if let Some(key) = is_wanted.then(|| prompt.turn().conversation).flatten() {
            self.served.insert(key, Served { tier: served.tier, at: self.clock.now(), called_tools }).await;
        }
    }
}
