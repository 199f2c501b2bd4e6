//! The HTTP side: an OpenAI-compatible API in front of the cascade.
//!
//! Invariant: every answer is either what the upstream said, or an error in
//! OpenAI's shape; a rejected draft never reaches a client.

mod api_error;
mod completion;
mod headers;
mod listen;
mod models;
mod stream;

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::response::IntoResponse;
use axum::routing::{get, post};

use crate::cascade::Cascade;
use crate::clock::Clock;
use crate::openai::Endpoint;
use crate::upstream::Upstream;

pub use api_error::ApiError;
pub use listen::{Bounds, serve};

/// The most bytes of a request's body that are read.
pub const MAX_BODY: usize = 32 << 20;

/// What every request needs.
#[derive(Debug)]
pub struct Gateway<U, C> {
    cascade: Cascade<U, C>,
    clock: C,
    request_ids: headers::RequestIds,
    /// What to tell a client whose prompt is not among recorded ones.
    not_recorded_hint: String,
}

impl<U: Upstream, C: Clock> Gateway<U, C> {
    /// A gateway over `cascade`. `not_recorded_hint` says what a gateway that
    /// answers from recordings can answer.
    pub fn new(cascade: Cascade<U, C>, clock: C, not_recorded_hint: String) -> Self {
        Self { cascade, clock, request_ids: headers::RequestIds::default(), not_recorded_hint }
    }
}

/// The routes, each with and without `/v1`.
pub fn router<U: Upstream, C: Clock>(gateway: Gateway<U, C>) -> Router {
    let gateway = Arc::new(gateway);
    let completion = |endpoint: Endpoint| {
        let gateway = gateway.clone();
        post(move |request: Request| async move { completion::answer(&gateway, endpoint, request).await })
    };
    let all_models = {
        let gateway = gateway.clone();
        get(move || async move { models::list(&gateway.cascade.policy) })
    };
    let one_model = {
        let gateway = gateway.clone();
        get(move |path| async move { models::one(&gateway.cascade.policy, path) })
    };
    let mut router = Router::new().route("/healthz", get(|| async { "ok\n" }));
    for prefix in ["/v1", ""] {
        for endpoint in [Endpoint::Chat, Endpoint::Completions] {
            router = router.route(&format!("{prefix}{}", endpoint.path()), completion(endpoint));
        }
        router = router
            .route(&format!("{prefix}/models"), all_models.clone())
            .route(&format!("{prefix}/models/{{*model}}"), one_model.clone());
    }
    router
        .fallback(|request: Request| async move {
            ApiError::unknown_url(request.method(), request.uri().path()).into_response()
        })
        .method_not_allowed_fallback(|request: Request| async move {
            ApiError::method_not_allowed(request.method(), request.uri().path()).into_response()
        })
}
