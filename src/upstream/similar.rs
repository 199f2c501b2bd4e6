//! Answers to questions that are alike, for tiers whose policy asks for that.
//!
//! Invariant: only what a tier really said is remembered, so that likeness is never
//! taken of likeness; where embeddings fail the tier is asked as ever.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use super::cached::{Key, identity};
use super::embedder::{Embedder, Embedders, Vector, dot};
use super::{Delivery, Heir, Holding, Reply, Said, Upstream};
use crate::answer::Answer;
use crate::clock::Clock;
use crate::policy::{CacheRule, Policy, SimilarRule, Tier};
use crate::prompt::{Freshness, Prompt, Question};
use crate::trace::{CacheUse, Failure};

/// Wraps what answers with memories of questions.
#[derive(Debug)]
pub struct Similar<U, C> {
    inner: U,
    clock: C,
    tiers: Vec<Option<Memory<C>>>,
}

#[derive(Debug)]
struct Memory<C> {
    /// What its answers, and what embeddings, depend on.
    of: (Key, String),
    rule: SimilarRule,
    cache: CacheRule,
    embedder: Arc<Embedder<C>>,
    known: Arc<RwLock<VecDeque<Known>>>,
}

/// One question that was answered.
#[derive(Debug)]
struct Known {
    rest: [u8; 32],
    tenant: Option<String>,
    vector: Vector,
    answer: Arc<Answer>,
    stored_at: Duration,
}

impl<U, C: Clock> Similar<U, C> {
    /// Wraps `inner`; nothing is alike at a tier for which nobody makes embeddings.
    pub fn new(inner: U, policy: &Policy, clock: C, embedders: &Embedders<C>) -> Self {
        let memory = |tier: &Tier| {
            let (rule, cache, embedder) = (tier.similar.clone()?, tier.cache?, embedders.of_tier(tier.index)?);
            let place = policy.upstreams[rule.upstream].kind.place();
            let of = (identity(tier, policy), format!("{place} {}", rule.model));
            Some(Memory { of, rule, cache, embedder, known: Arc::default() })
        };
        Self { inner, clock, tiers: policy.tiers.iter().map(memory).collect() }
    }
}

impl<U: Heir, C> Heir for Similar<U, C> {
    fn inherit(&mut self, before: &Self) {
        for mine in self.tiers.iter_mut().flatten() {
            let fits = |other: &&Memory<C>| other.of == mine.of;
            if let Some(other) = before.tiers.iter().flatten().find(fits) {
                mine.known = other.known.clone();
            }
        }
        self.inner.inherit(&before.inner);
    }
}

impl<C> Memory<C> {
    /// The answer to the question most like this one, if any is like enough.
    fn nearest(&self, now: Duration, question: &Question, tenant: Option<&str>, vector: &[f32]) -> Option<Arc<Answer>> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let fits = known.iter().filter(|known| {
            known.rest == question.rest && known.tenant.as_deref() == tenant && now < known.stored_at + self.cache.ttl
        });
        let alike = fits.map(|known| (dot(&known.vector, vector), known));
        let best = alike.filter(|(likeness, _)| *likeness >= self.rule.at_least).max_by(|a, b| a.0.total_cmp(&b.0));
        best.map(|(_, known)| known.answer.clone())
    }

    fn note(&self, known: Known) {
        let now = known.stored_at;
        let mut all = self.known.write().unwrap_or_else(PoisonError::into_inner);
        all.push_back(known);
        let mut held: u64 = all.iter().map(Known::weight).sum();
        let is_old = |known: &Known| now >= known.stored_at + self.cache.ttl;
        while let Some(first) = all.front()
            && (all.len() > self.rule.questions || held > self.cache.capacity || is_old(first))
        {
            held -= first.weight();
            all.pop_front();
        }
    }

    /// Whether a question that is alike may be known.
    fn knows(&self, rest: &Key) -> bool {
        self.known.read().unwrap_or_else(PoisonError::into_inner).iter().any(|known| known.rest == *rest)
    }
}

impl Known {
    /// Bytes that it holds.
    fn weight(&self) -> u64 {
        (self.answer.weight() + size_of_val(&*self.vector)) as u64
    }
}

impl<U: Upstream, C: Clock> Upstream for Similar<U, C> {
    async fn ask(&self, tier: &Tier, prompt: &Prompt, delivery: Delivery) -> Result<Reply, Failure> {
        let memory = self.tiers[tier.index].as_ref().filter(|_| prompt.freshness != Freshness::NotKept);
        let Some((memory, question)) = memory.and_then(|memory| Some((memory, prompt.question()?))) else {
            return self.inner.ask(tier, prompt, delivery).await;
        };
        // What flows is not remembered here.
        let flows = delivery != Delivery::Hold && prompt.stream;
        if flows && !memory.knows(&question.rest) {
            return self.inner.ask(tier, prompt, delivery).await;
        }
        let (vector, spent) = match memory.embedder.vector(&question.text).await {
            Ok(known) => known,
            Err(failure) => {
                tracing::warn!(tier = tier.name, "no embedding, so nothing is alike: {failure}");
                return self.inner.ask(tier, prompt, delivery).await;
            }
        };
        let tenant = prompt.tenant.as_deref().filter(|_| !memory.cache.shared);
        let nearest = memory.nearest(self.clock.now(), &question, tenant, &vector);
        if let Some(answer) = nearest.filter(|_| prompt.freshness == Freshness::Any) {
            let reply = Reply::live(Said::Whole(answer));
            return Ok(Reply { cache: CacheUse::Similar, judging: spent, ..reply });
        }
        let mut reply = self.inner.ask(tier, prompt, delivery).await?;
        if let Said::Whole(answer) = &reply.said {
            let (answer, tenant) =
                (Arc::new(answer.compact(prompt.endpoint, !tier.adds_logprobs(prompt))), tenant.map(str::to_owned));
            memory.note(Known { rest: question.rest, tenant, vector, answer, stored_at: self.clock.now() });
        }
        reply.judging = reply.judging.plus(spent);
        Ok(reply)
    }

    fn holding(&self, tier: &Tier) -> Holding {
        self.inner.holding(tier)
    }
}
