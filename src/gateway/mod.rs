//! The HTTP side: an OpenAI-compatible API in front of the cascade.
//!
//! Invariant: every answer is either what the upstream said, or an error in
//! OpenAI's shape; a rejected draft never reaches a client.

mod api_error;
mod batch;
mod completion;
mod embeddings;
mod headers;
mod listen;
mod metrics;
mod models;
mod passthrough;
mod served;
mod stream;
mod traces;

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use http::HeaderValue;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::{AllowHeaders, AllowMethods, CorsLayer};

use crate::cascade::Cascade;
use crate::clock::Clock;
use crate::openai::Endpoint;
use crate::upstream::{Heir, NamedBreaker, Passage, Upstream};

pub use api_error::ApiError;
pub use listen::{Bounds, Current, serve};
pub use metrics::{Reloads, metrics_router};
pub use traces::Traces;

/// The most bytes of a request's body that are read.
pub const MAX_BODY: usize = 32 << 20;

/// What every request needs.
#[derive(Debug)]
pub struct Gateway<U, C> {
    cascade: Cascade<U, C>,
    clock: C,
    request_ids: headers::RequestIds,
    /// Where everything goes that is not cascaded.
    passage: Option<Passage<C>>,
    /// Embeddings that passed through it.
    embeddings: Option<embeddings::Remembered>,
    /// What to tell a client whose prompt is not among recorded ones.
    not_recorded_hint: String,
    /// Where a line for each request goes.
    traces: Option<Arc<Traces>>,
    reloads: Arc<Reloads>,
    breakers: Vec<NamedBreaker>,
}

impl<U: Upstream, C: Clock> Gateway<U, C> {
    /// A gateway over `cascade`. Through `passage` goes what is not cascaded.
    /// `not_recorded_hint` says what a gateway that answers from recordings
    /// can answer.
    pub fn new(cascade: Cascade<U, C>, clock: C, passage: Option<Passage<C>>, not_recorded_hint: String) -> Self {
        let rule = cascade.policy().passthrough.and_then(|p| p.embeddings_cache);
        let embeddings = rule.map(embeddings::Remembered::new);
        Self {
            cascade,
            clock,
            request_ids: headers::RequestIds::default(),
            passage,
            embeddings,
            not_recorded_hint,
            traces: None,
            reloads: Arc::default(),
            breakers: Vec::new(),
        }
    }

    /// Shows these breakers among the metrics.
    #[must_use]
    pub fn showing(self, breakers: Vec<NamedBreaker>) -> Self {
        Self { breakers, ..self }
    }

    /// Shows among the metrics how often the policy was read again.
    #[must_use]
    pub fn counting(self, reloads: Arc<Reloads>) -> Self {
        Self { reloads, ..self }
    }

    /// Writes a line for each request.
    #[must_use]
    pub fn tracing_to(self, traces: Option<Arc<Traces>>) -> Self {
        Self { traces, ..self }
    }
}

impl<U: Heir, C: Clock> Heir for Gateway<U, C> {
    fn inherit(&mut self, before: &Self) {
        self.cascade.inherit(&before.cascade);
        if let (Some(mine), Some(theirs)) = (&mut self.embeddings, &before.embeddings) {
            mine.inherit(theirs);
        }
    }
}

impl<U, C: Clock> Gateway<U, C> {
    /// Where models go that the policy does not name, if they go anywhere.
    fn passage_of_unknown_models(&self) -> Option<&Passage<C>> {
        self.passage.as_ref().filter(|_| self.cascade.policy().passthrough.is_some_and(|p| p.unknown_models))
    }
}

/// The routes, each with and without `/v1`.
pub fn router<U: Upstream, C: Clock>(gateway: &Arc<Gateway<U, C>>) -> Router {
    let completion = |endpoint: Endpoint| {
        let gateway = gateway.clone();
        post(move |request: Request| completion::answer(gateway.clone(), endpoint, request))
    };
    let all_models = {
        let gateway = gateway.clone();
        get(move || async move { models::list(&gateway.cascade.policy()) })
    };
    let one_model = {
        let gateway = gateway.clone();
        get(move |path, request| async move { models::one(&gateway, path, request).await })
    };
    let mut router = Router::new().route("/healthz", get(|| async { "ok\n" }));
    for prefix in ["/v1", ""] {
        for endpoint in Endpoint::ALL {
            router = router.route(&format!("{prefix}{}", endpoint.path()), completion(endpoint));
        }
        router = router
            .route(&format!("{prefix}/models"), all_models.clone())
            .route(&format!("{prefix}/models/{{*model}}"), one_model.clone());
    }
    if gateway.embeddings.is_some() {
        for path in ["/v1/embeddings", "/embeddings"] {
            let gateway = gateway.clone();
            router = router
                .route(path, post(move |request: Request| async move { embeddings::answer(&gateway, request).await }));
        }
    }
    let has_passage = gateway.passage.is_some();
    let cors = cors(&gateway.cascade.policy().cors);
    let anything_else = {
        let gateway = gateway.clone();
        move |request: Request| async move { passthrough::answer(&gateway, request).await }
    };
    router = router.fallback(anything_else.clone());
    router = if has_passage {
        // `GET /v1/chat/completions` lists stored ones; only the upstream knows.
        router.method_not_allowed_fallback(anything_else)
    } else {
        router.method_not_allowed_fallback(|request: Request| async move {
            ApiError::method_not_allowed(request.method(), request.uri().path()).into_response()
        })
    };
    // A fault of ours is one client's error and no reset connection.
    let router = router.layer(CatchPanicLayer::custom(|_| ApiError::internal().into_response()));
    match cors {
        Some(cors) => router.layer(cors),
        None => router,
    }
}

/// What pages of these origins may do; none where no origin is invited.
fn cors(origins: &[String]) -> Option<CorsLayer> {
    let origins: Vec<HeaderValue> = origins.iter().filter_map(|origin| origin.parse().ok()).collect();
    let cors =
        CorsLayer::new().allow_methods(AllowMethods::mirror_request()).allow_headers(AllowHeaders::mirror_request());
    (!origins.is_empty()).then(|| cors.allow_origin(origins).expose_headers(tower_http::cors::Any))
}
