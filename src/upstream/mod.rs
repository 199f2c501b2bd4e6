//! The one seam: everything that can answer a prompt.
//!
//! Invariant: a layer knows only what it wraps. Cache outside, limit inside:
//! a hit costs no permit, and equal prompts in flight cost one call.

mod balanced;
mod breaker;
mod cached;
mod client;
mod embedder;
mod hints;
mod judged;
mod limited;
mod live;
mod passage;
mod probe;
mod recorded;
mod similar;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::Stream;
use http::HeaderMap;

use crate::answer::Answer;
use crate::clock::Clock;
pub use crate::decision::Delivery;
use crate::policy::{Policy, Tier};
use crate::price::{Cost, Usd};
use crate::prompt::Prompt;
use crate::shared::Shared;
use crate::trace::{CacheUse, Failure};

pub use balanced::{Balanced, NamedBreaker, Origin};
pub use breaker::{Breaker, Standing};
pub use cached::Cached;
pub use client::CannotStart;
pub use embedder::Embedders;
pub use hints::Hints;
pub use judged::Judged;
pub use limited::Limited;
pub use live::Live;
pub use passage::{Passage, end_to_end};
pub use probe::{Probe, Told};
pub use recorded::Recorded;
pub use similar::Similar;

/// Something that can answer a prompt.
pub trait Upstream: Send + Sync + 'static {
    /// Asks `tier` once. For a prompt that asks for a stream the answer may come
    /// as a flow, unless the delivery is [`Delivery::Hold`].
    fn ask(
        &self,
        tier: &Tier,
        prompt: &Prompt,
        delivery: Delivery,
    ) -> impl Future<Output = Result<Reply, Failure>> + Send;

    /// What is remembered of `tier` for this prompt; asks nobody. Layers without a
    /// memory remember nothing.
    fn recall(&self, _tier: &Tier, _prompt: &Prompt) -> impl Future<Output = Option<Reply>> + Send {
        std::future::ready(None)
    }

    /// What is held for `tier` right now, of the layer and those it wraps.
    fn holding(&self, _tier: &Tier) -> Holding {
        Holding::default()
    }
}

/// What is held for a tier at a moment; none where it has no such thing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holding {
    /// Bytes in its cache, of so many.
    pub cache_bytes: Option<(u64, u64)>,
    /// Answers in its cache.
    pub cached: Option<u64>,
    /// Requests that may be taken at once now, of so many when nothing was.
    pub requests: Option<(u64, u64)>,
    /// The same of tokens.
    pub tokens: Option<(u64, u64)>,
    /// The same of prompts in flight.
    pub concurrent: Option<(u64, u64)>,
}

/// A layer that takes over what the one before it has in memory, where a policy is
/// read again: what belongs to tiers that are the same.
pub trait Heir {
    /// Takes over from `before`, which goes on being used by what is in flight.
    fn inherit(&mut self, before: &Self);
}

/// What an upstream gave.
#[derive(Debug)]
pub struct Reply {
    /// The answer.
    pub said: Said,
    /// What the tier's cache did.
    pub cache: CacheUse,
    /// What a recording says it cost.
    pub recorded_cost: Option<Usd>,
    /// What having it judged, or its question compared with others, cost.
    pub judging: Cost,
    /// The recorded label, 0..=1. Scorers never see a `Reply`.
    pub quality: Option<f64>,
}

impl Reply {
    /// An answer from a live upstream, no cache involved.
    #[must_use]
    pub fn live(said: Said) -> Self {
        Self { said, cache: CacheUse::Off, recorded_cost: None, judging: Cost::FREE, quality: None }
    }
}

/// An answer, whole or on its way.
#[derive(Debug)]
pub enum Said {
    /// All of it.
    Whole(Arc<Answer>),
    /// Frames as they come.
    Flow(Flow),
}

impl Said {
    /// The response headers that a client may see.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        match self {
            Self::Whole(answer) => &answer.headers,
            Self::Flow(flow) => &flow.headers,
        }
    }

    /// The same, to be changed.
    pub fn headers_mut(&mut self) -> &mut HeaderMap {
        match self {
            // Copied where somebody else has it too, as recordings have.
            Self::Whole(answer) => &mut Arc::make_mut(answer).headers,
            Self::Flow(flow) => &mut flow.headers,
        }
    }
}

/// The frames of a streamed answer, `[DONE]` left out. The stream ends after a
/// failure; without one it ends only when the answer is complete.
pub struct Flow {
    /// The data of each event.
    pub frames: Pin<Box<dyn Stream<Item = Result<Bytes, Failure>> + Send>>,
    /// The upstream's response headers that a client may see.
    pub headers: HeaderMap,
}

impl std::fmt::Debug for Flow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Flow").field("headers", &self.headers).finish_non_exhaustive()
    }
}

/// The layers of a policy around what finally answers.
pub type Layers<U, C> = Judged<Cached<Similar<Limited<U, C>, C>, C>, C>;

/// The layers of the policy around what finally answers. Judges outermost: they are
/// asked through the caches and limits of their own tiers. Neither judges nor, without
/// `embedders`, anybody else is asked. Limits and caches are those of all replicas where
/// they have `shared` state.
pub fn layered<U: Upstream, C: Clock>(
    origin: U,
    policy: &Arc<Policy>,
    clock: C,
    embedders: &Embedders<C>,
    shared: Option<&Arc<Shared>>,
) -> Layers<U, C> {
    let limited = Limited::new(origin, policy, &clock, shared);
    let similar = Similar::new(limited, policy, clock.clone(), embedders);
    let cached = Cached::new(similar, policy, clock.clone()).sharing(shared.cloned());
    Judged::new(cached, policy.clone(), clock)
}
