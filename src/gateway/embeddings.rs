//! `POST /v1/embeddings`: passed through, and remembered where the policy says
//! so. The same text has the same embedding, at any hour.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::TryStreamExt;
use http::{HeaderValue, StatusCode, header};
use moka::future::Cache;
use moka::policy::EvictionPolicy;

use super::keyring::Holder;
use super::{ApiError, Gateway, MAX_BODY, passthrough};
use crate::clock::Clock;
use crate::openai::canonical::feed_member;
use crate::openai::request::Fields;
use crate::policy::CacheRule;
use crate::upstream::Passage;

/// Embeddings that are remembered, by all of their request but who asks.
#[derive(Debug)]
pub(super) struct Remembered {
    rule: CacheRule,
    store: Cache<[u8; 32], Entry>,
}

#[derive(Clone, Debug)]
struct Entry {
    body: Bytes,
    stored_at: Duration,
}

impl Remembered {
    pub(super) fn new(rule: CacheRule) -> Self {
        let store = Cache::builder()
            .max_capacity(rule.capacity)
            .weigher(|_, entry: &Entry| u32::try_from(entry.body.len() + 128).unwrap_or(u32::MAX))
            .eviction_policy(EvictionPolicy::lru());
        Self { rule, store: store.build() }
    }

    /// Takes over what `before` remembers.
    pub(super) fn inherit(&mut self, before: &Self) {
        if self.rule.capacity == before.rule.capacity {
            self.store = before.store.clone();
        }
    }
}

/// Answers from memory, else through the passage.
pub(super) async fn answer<U, C: Clock>(gateway: &Gateway<U, C>, request: Request) -> Response {
    if let Some(Err(error)) = request.extensions().get::<Arc<Holder<C>>>().map(|holder| holder.may_pass()) {
        return error.into_response();
    }
    let (Some(passage), Some(remembered)) = (&gateway.passage, &gateway.embeddings) else {
        return passthrough::answer(gateway, request).await;
    };
    let (mut head, body) = request.into_parts();
    let (body, _held) = match super::body::read(&gateway.clock, &gateway.room, body).await {
        Ok(read) => read,
        Err(error) => return error.into_response(),
    };
    // What is kept must suit every client, whatever encodings the first one takes.
    head.headers.remove(header::ACCEPT_ENCODING);
    let onward = |body: &Bytes| Request::from_parts(head.clone(), Body::from(body.clone()));
    let Ok(fields) = Fields::read(&body) else { return passthrough::pass(passage, onward(&body)).await };
    let key = key(&fields, &body);
    match remembered.store.get(&key).await {
        Some(entry) if gateway.clock.now() < entry.stored_at + remembered.rule.ttl => return found(entry.body, "hit"),
        Some(_) => remembered.store.invalidate(&key).await,
        None => {}
    }
    let (mut is_fresh, mut refused) = (false, None);
    let asked = remembered.store.try_get_with(key, async {
        is_fresh = true;
        match ask(passage, onward(&body)).await {
            Ok(body) => Ok(Entry { body, stored_at: gateway.clock.now() }),
            Err(response) => {
                refused = Some(response);
                Err(NotKept)
            }
        }
    });
    match asked.await {
        Ok(entry) => found(entry.body, if is_fresh { "miss" } else { "coalesced" }),
        // What was refused went to the one who asked; any other asks for itself.
        Err(_) => match refused {
            Some(refused) => refused,
            None => passthrough::pass(passage, onward(&body)).await,
        },
    }
}

/// The response was not one to remember.
struct NotKept;

/// A body worth keeping, or the response as it came.
async fn ask<C: Clock>(passage: &Passage<C>, request: Request) -> Result<Bytes, Response> {
    let response = passthrough::pass(passage, request).await;
    let is_plain = !response.headers().contains_key(header::CONTENT_ENCODING);
    if response.status() != StatusCode::OK || !is_plain {
        return Err(response);
    }
    let whole = response.into_body().into_data_stream().try_fold(Vec::new(), |mut whole, piece| async move {
        whole.extend_from_slice(&piece);
        if whole.len() > MAX_BODY { Err(axum::Error::new("too large")) } else { Ok(whole) }
    });
    whole.await.map(Bytes::from).map_err(|_| ApiError::unreadable_answer().into_response())
}

fn found(body: Bytes, how: &'static str) -> Response {
    let mut response = Response::new(Body::from(body));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert("x-cascade-cache", HeaderValue::from_static(how));
    response
}

fn key(fields: &Fields, body: &[u8]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    let counted = fields.iter(body).filter(|(name, _)| *name != "user");
    counted.for_each(|(name, value)| feed_member(&mut hasher, name, value));
    hasher.finalize().into()
}
