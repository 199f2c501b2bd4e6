//! A cache per tier, by moka: exact prompts, weighed in bytes, forgotten when
//! their time is up, equal prompts in flight asked once.
//!
//! Invariant: it stores what a tier said, never what we thought of it, and
//! never a failure. moka's own clock is not used: time is handed in.

use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use moka::future::Cache;
use moka::policy::EvictionPolicy;

use super::{Delivery, Flow, Heir, Holding, Reply, Said, Upstream};
use crate::answer::Answer;
use crate::clock::Clock;
use crate::openai::Endpoint;
use crate::policy::{CacheRule, Policy, Tier};
use crate::price::{Cost, Usd};
use crate::prompt::{Freshness, Prompt};
use crate::trace::{CacheUse, Failure};

/// Remembers what tiers said.
#[derive(Debug)]
pub struct Cached<U, C> {
    inner: U,
    clock: C,
    tiers: Vec<Option<Memory>>,
    evicts_at_once: bool,
}

/// What one tier has said.
#[derive(Clone, Debug)]
struct Memory {
    identity: Key,
    rule: CacheRule,
    store: Store,
}

pub(super) type Key = [u8; 32];
type Store = Cache<Key, Entry, KeyIsHash>;

#[derive(Clone, Debug)]
struct Entry {
    answer: Arc<Answer>,
    stored_at: Duration,
    recorded_cost: Option<Usd>,
    quality: Option<f64>,
}

impl<U, C: Clock> Cached<U, C> {
    /// Wraps `inner` with the caches of `policy`.
    pub fn new(inner: U, policy: &Policy, clock: C) -> Self {
        let memory =
            |tier: &Tier| tier.cache.map(|rule| Memory { identity: identity(tier, policy), rule, store: store(rule) });
        let tiers = policy.tiers.iter().map(memory).collect();
        Self { inner, clock, tiers, evicts_at_once: false }
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

fn store(rule: CacheRule) -> Store {
    Cache::builder()
        .max_capacity(rule.capacity)
        .weigher(|_, entry: &Entry| u32::try_from(entry.answer.weight()).unwrap_or(u32::MAX))
        // moka's other policy keeps statistics hashed with a random seed.
        .eviction_policy(EvictionPolicy::lru())
        .build_with_hasher(KeyIsHash)
}

impl<U: Upstream, C: Clock> Upstream for Cached<U, C> {
    async fn ask(&self, tier: &Tier, prompt: &Prompt, delivery: Delivery) -> Result<Reply, Failure> {
        let Some(Memory { rule, store, identity }) = &self.tiers[tier.index] else {
            return self.inner.ask(tier, prompt, delivery).await;
        };
        if is_kept_out(*rule, prompt) {
            let mut reply = self.inner.ask(tier, prompt, delivery).await?;
            reply.cache = CacheUse::Bypass;
            return Ok(reply);
        }
        let key = key(identity, prompt, rule.shared);
        match store.get(&key).await {
            Some(_) if prompt.freshness == Freshness::New => store.invalidate(&key).await,
            Some(entry) if self.clock.now() < entry.stored_at + rule.ttl => return Ok(entry.reply(CacheUse::Hit)),
            Some(_) => store.invalidate(&key).await,
            None => {}
        }
        if delivery != Delivery::Hold && prompt.stream {
            return self.ask_flowing(store, key, tier, prompt, delivery).await;
        }
        let mut asked = None;
        let asking = async {
            // What is not streamed comes whole, however it may be delivered.
            let delivery = if prompt.stream { Delivery::Hold } else { delivery };
            let reply = self.inner.ask(tier, prompt, delivery).await?;
            let is_similar = reply.cache == CacheUse::Similar;
            asked = Some((if is_similar { CacheUse::Similar } else { CacheUse::Miss }, reply.judging));
            let Said::Whole(answer) = reply.said else {
                return Err(Failure::Unreachable("an upstream let frames flow that had to be held".to_owned()));
            };
            Ok(Entry {
                answer: Arc::new(answer.compact(prompt.endpoint, !tier.adds_logprobs(prompt))),
                stored_at: self.clock.now(),
                recorded_cost: reply.recorded_cost,
                quality: reply.quality,
            })
        };
        let entry = {
            // moka would hold it three times.
            let asking = std::pin::pin!(asking);
            store.try_get_with(key, asking).await
        };
        let entry = entry.map_err(|failure: Arc<Failure>| Failure::clone(&failure))?;
        if asked.is_some() && self.evicts_at_once {
            store.run_pending_tasks().await;
        }
        let (cache, judging) = asked.unwrap_or((CacheUse::Coalesced, Cost::FREE));
        if cache == CacheUse::Similar {
            // Older than it would seem here; who remembers it knows for how long.
            store.invalidate(&key).await;
        }
        Ok(Reply { judging, ..entry.reply(cache) })
    }

    async fn recall(&self, tier: &Tier, prompt: &Prompt) -> Option<Reply> {
        let Memory { rule, store, identity } = self.tiers[tier.index].as_ref()?;
        if is_kept_out(*rule, prompt) || prompt.freshness != Freshness::Any {
            return None;
        }
        let entry = store.get(&key(identity, prompt, rule.shared)).await?;
        (self.clock.now() < entry.stored_at + rule.ttl).then(|| entry.reply(CacheUse::Hit))
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

/// Whether a prompt is neither answered from a cache nor remembered.
fn is_kept_out(rule: CacheRule, prompt: &Prompt) -> bool {
    prompt.is_kept_upstream || prompt.freshness == Freshness::NotKept || prompt.temperature > 0.0 && !rule.sampled
}

impl<U: Upstream, C: Clock> Cached<U, C> {
    /// Lets frames flow by and remembers them once the answer is complete.
    async fn ask_flowing(
        &self,
        store: &Store,
        key: Key,
        tier: &Tier,
        prompt: &Prompt,
        delivery: Delivery,
    ) -> Result<Reply, Failure> {
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
                    recorded_cost: reply.recorded_cost,
                    quality: reply.quality,
                };
                store.insert(key, kept).await;
                if self.evicts_at_once {
                    store.run_pending_tasks().await;
                }
                Said::Whole(answer)
            }
            Said::Flow(flow) => {
                let headers = flow.headers.clone();
                let watch = Watch {
                    endpoint: prompt.endpoint,
                    flow,
                    kept: Vec::new(),
                    store: store.clone(),
                    key,
                    clock: self.clock.clone(),
                };
                Said::Flow(Flow { frames: Box::pin(stream::unfold(Some(watch), Watch::next)), headers })
            }
        };
        Ok(reply)
    }
}

impl Entry {
    fn reply(self, cache: CacheUse) -> Reply {
        let (said, judging) = (Said::Whole(self.answer), Cost::FREE);
        Reply { said, cache, recorded_cost: self.recorded_cost, judging, quality: self.quality }
    }
}

/// Frames on their way to a client, kept for the cache.
struct Watch<C> {
    endpoint: Endpoint,
    flow: Flow,
    kept: Vec<Bytes>,
    store: Store,
    key: Key,
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
                    let stored_at = watch.clock.now();
                    let entry = Entry { answer: Arc::new(answer), stored_at, recorded_cost: None, quality: None };
                    watch.store.insert(watch.key, entry).await;
                }
                None
            }
        }
    }
}

/// What a tier's answers depend on besides the prompt: a tier that gets another model,
/// place or need forgets what was said before.
pub(super) fn identity(tier: &Tier, policy: &Policy) -> Key {
    let mut hasher = blake3::Hasher::new();
    let mut add = |part: &str| {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    };
    [&tier.name, &tier.model].into_iter().for_each(|part| add(part));
    for share in &tier.upstreams {
        add(policy.upstreams[share.upstream].kind.place());
        add(share.model.as_deref().unwrap_or_default());
    }
    add(if tier.needs_logprobs() { "logprobs" } else { "" });
    hasher.finalize().into()
}

/// The key of a prompt with one tier.
fn key(identity: &Key, prompt: &Prompt, is_shared: bool) -> Key {
    let mut hasher = blake3::Hasher::new();
    hasher.update(identity);
    hasher.update(prompt.cache_key());
    if let Some(tenant) = prompt.tenant.as_ref().filter(|_| !is_shared) {
        hasher.update(tenant.as_bytes());
    }
    hasher.finalize().into()
}

/// Keys are blake3 hashes: their first bytes are a hash already, the same in
/// every run.
#[derive(Clone, Copy, Debug, Default)]
struct KeyIsHash;

#[derive(Default)]
struct FirstBytes(u64);

impl BuildHasher for KeyIsHash {
    type Hasher = FirstBytes;
    fn build_hasher(&self) -> FirstBytes {
        FirstBytes::default()
    }
}

impl Hasher for FirstBytes {
    fn write(&mut self, bytes: &[u8]) {
        // An array writes its length first, eight bytes too; the last write counts.
        if let Some(first) = bytes.first_chunk::<8>() {
            self.0 = u64::from_le_bytes(*first);
        }
    }
    fn finish(&self) -> u64 {
        self.0
    }
}
