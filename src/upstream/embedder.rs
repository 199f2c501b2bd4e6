//! Embeddings of short texts, asked of a live upstream and remembered.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use moka::future::Cache;
use reqwest::Client;
use serde::Deserialize;

use super::breaker::Breaker;
use super::client::{CannotStart, Key, client, innermost};
use crate::clock::Clock;
use crate::policy::{Policy, SimilarRule, Timeouts, UpstreamKind};
use crate::price::{Cost, Price};
use crate::tokens::Tokens;
use crate::trace::{Failure, Phase};

/// A text's place among texts, of length 1.
pub(super) type Vector = Arc<[f32]>;

/// Texts whose embeddings are remembered: those of the prompts in flight, which ask
/// for them once for each tier.
const REMEMBERED: u64 = 1000;
/// How long a prompt waits for an embedding: it is to save time.
const PATIENCE: Duration = Duration::from_secs(2);
/// The most bytes of an upstream's word.
const MAX_BODY: usize = 1 << 20;

/// Who makes embeddings for each tier; one for all that ask for the same.
#[derive(Debug)]
pub struct Embedders<C>(Vec<Option<Arc<Embedder<C>>>>);

impl<C: Clock> Embedders<C> {
    /// Nobody, as in a replay: nothing is alike.
    #[must_use]
    pub fn none() -> Self {
        Self(Vec::new())
    }

    /// Those that the policy names.
    ///
    /// # Errors
    /// Where no HTTP client can be made.
    pub fn of(policy: &Policy, clock: &C) -> Result<Self, CannotStart> {
        let mut all: Vec<Option<Arc<Embedder<C>>>> = Vec::new();
        for tier in &policy.tiers {
            let same = |rule: &SimilarRule| all.iter().flatten().find(|known| known.is_for(rule)).cloned();
            all.push(match &tier.similar {
                None => None,
                Some(rule) => match same(rule) {
                    Some(known) => Some(known),
                    None => Embedder::new(rule, policy, clock.clone())?.map(Arc::new),
                },
            });
        }
        Ok(Self(all))
    }

    /// That of a tier.
    pub(super) fn of_tier(&self, tier: usize) -> Option<Arc<Embedder<C>>> {
        self.0.get(tier)?.clone()
    }
}

/// Makes embeddings.
#[derive(Debug)]
pub struct Embedder<C> {
    client: Client,
    clock: C,
    timeouts: Timeouts,
    url: String,
    key: Option<Key>,
    rule: SimilarRule,
    breaker: Breaker,
    /// By the text's hash.
    remembered: Cache<[u8; 32], Vector>,
}

#[derive(Deserialize)]
struct Word {
    data: Vec<Data>,
    #[serde(default)]
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Data {
    embedding: Vec<f32>,
}

#[derive(Deserialize)]
struct Usage {
    total_tokens: u64,
}

impl<C: Clock> Embedder<C> {
    /// By a tier's rule; none where its upstream is not live, which is a problem of
    /// the policy.
    ///
    /// # Errors
    /// Where no HTTP client can be made.
    pub fn new(rule: &SimilarRule, policy: &Policy, clock: C) -> Result<Option<Self>, CannotStart> {
        let UpstreamKind::Live { base_url, api_key, timeouts } = &policy.upstreams[rule.upstream].kind else {
            return Ok(None);
        };
        Ok(Some(Self {
            client: client(base_url, *timeouts)?,
            clock,
            timeouts: *timeouts,
            url: format!("{base_url}/embeddings"),
            key: api_key.as_ref().map(|key| Key::new(base_url, key)).transpose()?,
            rule: rule.clone(),
            breaker: Breaker::new(policy.upstreams[rule.upstream].breaker),
            remembered: Cache::new(REMEMBERED),
        }))
    }

    fn is_for(&self, rule: &SimilarRule) -> bool {
        (self.rule.upstream, &self.rule.model) == (rule.upstream, &rule.model)
    }

    /// Where a text stands, and what it cost to learn that.
    ///
    /// # Errors
    /// Where the upstream does not say.
    pub async fn vector(&self, text: &str) -> Result<(Vector, Cost), Failure> {
        let mut cost = Cost::FREE;
        let asked = self.remembered.try_get_with(blake3::hash(text.as_bytes()).into(), async {
            let kept_out = self.breaker.enter(self.clock.now());
            kept_out.map_err(|retry_after| Failure::Open { retry_after })?;
            let asked = self.ask(text).await;
            self.breaker.note(self.clock.now(), asked.is_err());
            let (vector, spent) = asked?;
            cost = spent;
            Ok(vector)
        });
        let vector = asked.await.map_err(|failure: Arc<Failure>| Failure::clone(&failure))?;
        Ok((vector, cost))
    }

    async fn ask(&self, text: &str) -> Result<(Vector, Cost), Failure> {
        let body = serde_json::json!({"model": self.rule.model, "input": text, "encoding_format": "float"}).to_string();
        let mut request = self.client.post(&self.url).header("content-type", "application/json").body(body);
        if let Some(key) = &self.key {
            request = request.header("authorization", key.header());
        }
        let bound = self.timeouts.first_byte.min(PATIENCE);
        let asked = self.clock.within(bound, read(request)).await;
        let body = asked.ok_or(Failure::TimedOut { phase: Phase::WholeAnswer, bound })??;
        let malformed = |why: String| Failure::Malformed {
            content_type: "embeddings".to_owned(),
            why: crate::answer::NotAnAnswer::Shape(why),
        };
        let mut word: Word = serde_json::from_slice(&body).map_err(|error| malformed(error.to_string()))?;
        let vector = word.data.pop().map(|data| data.embedding).unwrap_or_default();
        let length = dot(&vector, &vector).sqrt();
        if !(length.is_finite() && length > 0.0) {
            return Err(malformed("an embedding without a length".to_owned()));
        }
        let tokens = word.usage.map(|usage| usage.total_tokens);
        let cost = self.rule.price.zip(tokens).map_or(Cost::UNKNOWN, |(price, input)| {
            let price = Price { input: price, cached_input: price, output: price };
            Cost::exact(price.of(Tokens { input, cached_input: 0, output: 0, estimated: false }))
        });
        Ok((vector.iter().map(|x| x / length).collect(), cost))
    }
}

async fn read(request: reqwest::RequestBuilder) -> Result<Bytes, Failure> {
    let mut response = request.send().await.map_err(|error| Failure::Unreachable(innermost(&error)))?;
    let status = response.status().as_u16();
    let mut body = Vec::new();
    while let Ok(Some(piece)) = response.chunk().await {
        body.extend_from_slice(&piece);
        if body.len() > MAX_BODY {
            return Err(Failure::TooLarge { bound: MAX_BODY });
        }
    }
    if status == 200 {
        Ok(body.into())
    } else {
        Err(Failure::Refused { status, body: Bytes::new(), retry_after: None })
    }
}

/// The dot product; of vectors of different lengths, 0.
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    if a.len() == b.len() { a.iter().zip(b).map(|(x, y)| x * y).sum() } else { 0.0 }
}
