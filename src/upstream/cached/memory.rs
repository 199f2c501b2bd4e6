//! Where a tier's answers are remembered: here, and by other replicas.

use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::time::Duration;

use moka::future::Cache;
use moka::policy::EvictionPolicy;

use crate::answer::Answer;
use crate::clock::Clock;
use crate::policy::{CacheRule, Policy, Tier};
use crate::price::{Cost, Usd};
use crate::prompt::{Freshness, Prompt};
use crate::shared::{Kept, Shared};
use crate::trace::CacheUse;
use crate::upstream::{Reply, Said};

/// What one tier has said.
#[derive(Clone, Debug)]
pub(super) struct Memory {
    pub identity: Key,
    pub rule: CacheRule,
    pub store: Store,
}

/// Where one prompt's answer is remembered.
#[derive(Clone)]
pub(super) struct Slot {
    pub key: Key,
    ttl: Duration,
    pub store: Store,
    shared: Option<Arc<Shared>>,
}

pub(in crate::upstream) type Key = [u8; 32];
pub(super) type Store = Cache<Key, Entry, KeyIsHash>;

#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub answer: Arc<Answer>,
    pub stored_at: Duration,
    /// How old it was by then: another replica may have remembered it.
    pub age: Duration,
    pub recorded_cost: Option<Usd>,
    pub quality: Option<f64>,
}

impl Memory {
    /// An empty one.
    pub fn new(tier: &Tier, rule: CacheRule, policy: &Policy) -> Self {
        Self { identity: identity(tier, policy), rule, store: store(rule) }
    }

    /// Where this prompt's answer is remembered.
    pub fn slot(&self, prompt: &Prompt, shared: Option<&Arc<Shared>>) -> Slot {
        let key = key(&self.identity, prompt, self.rule.shared);
        Slot { key, ttl: self.rule.ttl, store: self.store.clone(), shared: shared.cloned() }
    }

    /// Whether a prompt is neither answered from here nor remembered.
    pub fn keeps_out(&self, prompt: &Prompt) -> bool {
        prompt.is_kept_upstream
            || prompt.freshness == Freshness::NotKept
            || prompt.temperature > 0.0 && !self.rule.sampled
    }
}

impl Slot {
    /// What this replica remembers.
    pub async fn here<C: Clock>(&self, clock: &C) -> Option<Entry> {
        let entry = self.store.get(&self.key).await?;
        if clock.now() + entry.age < entry.stored_at + self.ttl {
            return Some(entry);
        }
        self.store.invalidate(&self.key).await;
        None
    }

    /// What other replicas remember.
    pub async fn elsewhere<C: Clock>(&self, clock: &C, prompt: &Prompt) -> Option<Entry> {
        let shared = self.shared.as_ref().filter(|_| prompt.freshness != Freshness::New)?;
        let Kept { answer, age } = Box::pin(shared.recall(&self.key)).await?;
        (age < self.ttl).then(|| Entry::of(answer, clock.now(), age))
    }

    /// The same, remembered here from now on.
    pub async fn found_elsewhere<C: Clock>(&self, clock: &C, prompt: &Prompt) -> Option<Entry> {
        let entry = self.elsewhere(clock, prompt).await?;
        self.store.insert(self.key, entry.clone()).await;
        Some(entry)
    }

    pub fn tell_others(&self, entry: &Entry) {
        if let Some(shared) = &self.shared {
            shared.remember(&self.key, &entry.answer, self.ttl);
        }
    }

    pub async fn forget(&self) {
        self.store.invalidate(&self.key).await;
        if let Some(shared) = &self.shared {
            shared.forget(&self.key);
        }
    }
}

impl Entry {
    pub fn of(answer: Arc<Answer>, stored_at: Duration, age: Duration) -> Self {
        Self { answer, stored_at, age, recorded_cost: None, quality: None }
    }

    pub fn reply(self, cache: CacheUse) -> Reply {
        let (said, judging) = (Said::Whole(self.answer), Cost::FREE);
        Reply { said, cache, recorded_cost: self.recorded_cost, judging, quality: self.quality }
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

/// What a tier's answers depend on besides the prompt: a tier that gets another model,
/// place or need forgets what was said before.
pub(in crate::upstream) fn identity(tier: &Tier, policy: &Policy) -> Key {
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
pub(super) struct KeyIsHash;

#[derive(Default)]
pub(super) struct FirstBytes(u64);

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
