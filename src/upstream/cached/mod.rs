//! A cache per tier, by moka: exact prompts, weighed in bytes, forgotten when
//! their time is up, equal prompts in flight asked once.
//!
//! Invariant: it stores what a tier said, never what we thought of it, and
//! never a failure. moka's own clock is not used: time is handed in.

mod memory;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};

use super::{Delivery, Flow, Heir, Holding, Reply, Said, Upstream};
use crate::answer::Answer;
use crate::clock::Clock;
use crate::openai::Endpoint;
use crate::policy::{Policy, Tier};
use crate::price::Cost;
use crate::prompt::{Freshness, Prompt};
use crate::shared::Shared;
use crate::trace::{CacheUse, Failure};
use memory::{Entry, Memory, Slot};
pub(super) use memory::{Key, identity};

/// Remembers what tiers said.
#[derive(Debug)]
pub struct Cached<U, C> {
    inner: U,
    clock: C,
    tiers: Vec<Option<Memory>>,
    evicts_at_once: bool,
    /// What other replicas remember.
    shared: Option<Arc<Shared>>,
}

impl<U, C: Clock> Cached<U, C> {
    /// Wraps `inner` with the caches of `policy`.
    pub fn new(inner: U, policy: &Policy, clock: C) -> Self {
        let memory = |tier: &Tier| tier.cache.map(|rule| Memory::new(tier, rule, policy));
        let tiers = policy.tiers.iter().map(memory).collect();
        Self { inner, clock, tiers, evicts_at_once: false, shared: None }
    }

    /// Looks for what is not here among what other replicas remember.
    #[must_use]
    pub fn sharing(self, shared: Option<Arc<Shared>>) -> Self {
        Self { shared, ..self }
    }

    /// Evicts with every insertion instead of when moka finds the time, so
    /// that two replays evict the same.
    #[must_use]
    pub fn evicting_at_once(mut self) -> Self {
        self.evicts_at_once = true;
        self
    }
}

impl<U: Heir, C> Heir for Cached<U, C> {
    fn inherit(&mut self, before: &Self) {
        for mine in self.tiers.iter_mut().flatten() {
            let fits = |other: &&Memory| other.identity == mine.identity && other.rule.capacity == mine.rule.capacity;
            if let Some(other) = before.tiers.iter().flatten().find(fits) {
                // An entry's age is looked at when it is read.
                mine.store = other.store.clone();
            }
        }
        self.inner.inherit(&before.inner);
    }
}

impl<U: Upstream, C: Clock> Upstream for Cached<U, C> {
    async fn ask(&self, tier: &Tier, prompt: &Prompt, delivery: Delivery) -> Result<Reply, Failure> {
        let Some(memory) = &self.tiers[tier.index] else {
            return self.inner.ask(tier, prompt, delivery).await;
        };
        if memory.keeps_out(prompt) {
            let mut reply = self.inner.ask(tier, prompt, delivery).await?;
            reply.cache = CacheUse::Bypass;
            return Ok(reply);
        }
        let slot = memory.slot(prompt, self.shared.as_ref());
        if prompt.freshness == Freshness::New {
            slot.forget().await;
        } else if let Some(entry) = slot.here(&self.clock).await {
            return Ok(entry.reply(CacheUse::Hit));
        }
        if delivery != Delivery::Hold && prompt.stream {
            return self.ask_flowing(slot, tier, prompt, delivery).await;
        }
        let mut asked = None;
        let asking = async {
            if let Some(entry) = slot.elsewhere(&self.clock, prompt).await {
                asked = Some((CacheUse::Hit, Cost::FREE));
                return Ok(entry);
            }
            // What is not streamed comes whole, however it may be delivered.
            let delivery = if prompt.stream { Delivery::Hold } else { delivery };
            let reply = self.inner.ask(tier, prompt, delivery).await?;
            let is_similar = reply.cache == CacheUse::Similar;
            asked = Some((if is_similar { CacheUse::Similar } else { CacheUse::Miss }, reply.judging));
            let Said::Whole(answer) = reply.said else {
                return Err(Failure::Unreachable("an upstream let frames flow that had to be held".to_owned()));
            };
            let entry = Entry {
                answer: Arc::new(answer.compact(prompt.endpoint, !tier.adds_logprobs(prompt))),
                stored_at: self.clock.now(),
                age: Duration::ZERO,
                recorded_cost: reply.recorded_cost,
                quality: reply.quality,
            };
            if !is_similar {
                slot.tell_others(&entry);
            }
            Ok(entry)
        };
        let entry = {
            // moka would hold it three times.
            let asking = std::pin::pin!(asking);
            if prompt.freshness == Freshness::New {
                // What others are being told is older.
                let entry = asking.await?;
                slot.store.insert(slot.key, entry.clone()).await;
                entry
            } else {
                let entry = slot.store.try_get_with(slot.key, asking).await;
                entry.map_err(|failure: Arc<Failure>| Failure::clone(&failure))?
            }
        };
        if asked.is_some() && self.evicts_at_once {
            slot.store.run_pending_tasks().await;
        }
        let (cache, judging) = asked.unwrap_or((CacheUse::Coalesced, Cost::FREE));
        if cache == CacheUse::Similar {
            // Older than it would seem here; who remembers it knows for how long.
            slot.store.invalidate(&slot.key).await;
        }
        Ok(Reply { judging, ..entry.reply(cache) })
    }

    async fn recall(&self, tier: &Tier, prompt: &Prompt) -> Option<Reply> {
        let memory = self.tiers[tier.index].as_ref()?;
        if memory.keeps_out(prompt) || prompt.freshness != Freshness::Any {
            return None;
        }
        let slot = memory.slot(prompt, self.shared.as_ref());
        let entry = match slot.here(&self.clock).await {
            Some(entry) => entry,
            None => slot.found_elsewhere(&self.clock, prompt).await?,
        };
        Some(entry.reply(CacheUse::Hit))
    }

    fn holding(&self, tier: &Tier) -> Holding {
        let holding = self.inner.holding(tier);
        let Some(Memory { rule, store, .. }) = &self.tiers[tier.index] else { return holding };
        // As of moka's last housekeeping.
        Holding {
            cache_bytes: Some((store.weighted_size(), rule.capacity)),
            cached: Some(store.entry_count()),
            ..holding
        }
    }
}

impl<U: Upstream, C: Clock> Cached<U, C> {
    /// Lets frames flow by and remembers them once the answer is complete.
    async fn ask_flowing(
        &self,
        slot: Slot,
        tier: &Tier,
        prompt: &Prompt,
        delivery: Delivery,
    ) -> Result<Reply, Failure> {
        if let Some(entry) = slot.found_elsewhere(&self.clock, prompt).await {
            return Ok(entry.reply(CacheUse::Hit));
        }
        let mut reply = self.inner.ask(tier, prompt, delivery).await?;
        if reply.cache != CacheUse::Similar {
            reply.cache = CacheUse::Miss;
        }
        reply.said = match reply.said {
            Said::Whole(answer) if reply.cache == CacheUse::Similar => Said::Whole(answer),
            Said::Whole(answer) => {
                let kept = Entry {
                    answer: Arc::new(answer.compact(prompt.endpoint, !tier.adds_logprobs(prompt))),
                    stored_at: self.clock.now(),
                    age: Duration::ZERO,
                    recorded_cost: reply.recorded_cost,
                    quality: reply.quality,
                };
                slot.tell_others(&kept);
                slot.store.insert(slot.key, kept).await;
                if self.evicts_at_once {
                    slot.store.run_pending_tasks().await;
                }
                Said::Whole(answer)
            }
            Said::Flow(flow) => {
                let headers = flow.headers.clone();
                let (endpoint, clock) = (prompt.endpoint, self.clock.clone());
                let watch = Watch { endpoint, flow, kept: Vec::new(), slot, clock };
                Said::Flow(Flow { frames: Box::pin(stream::unfold(Some(watch), Watch::next)), headers })
            }
        };
        Ok(reply)
    }
}

/// Frames on their way to a client, kept for the cache.
struct Watch<C> {
    endpoint: Endpoint,
    flow: Flow,
    kept: Vec<Bytes>,
    slot: Slot,
    clock: C,
}

impl<C: Clock> Watch<C> {
    /// Hands one frame on; after the last one of a whole answer, remembers it.
    async fn next(watch: Option<Self>) -> Option<(Result<Bytes, Failure>, Option<Self>)> {
        let mut watch = watch?;
        match watch.flow.frames.next().await {
            Some(Ok(frame)) => {
                watch.kept.push(frame.clone());
                Some((Ok(frame), Some(watch)))
            }
            Some(Err(failure)) => Some((Err(failure), None)),
            None => {
                if let Ok(mut answer) = Answer::from_frames(watch.endpoint, watch.kept) {
                    answer.headers = watch.flow.headers;
                    let entry = Entry::of(Arc::new(answer), watch.clock.now(), Duration::ZERO);
                    watch.slot.tell_others(&entry);
                    watch.slot.store.insert(watch.slot.key, entry).await;
                }
                None
            }
        }
    }
}
