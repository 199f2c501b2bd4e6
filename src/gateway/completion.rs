//! `POST /v1/chat/completions` and `/v1/completions`: bytes to a prompt, the
//! cascade, and the answer back, whole or as frames.

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};

use super::{ApiError, Gateway, MAX_BODY, headers, stream};
use crate::answer::{Answer, Payload};
use crate::cascade::Run;
use crate::clock::Clock;
use crate::openai::Endpoint;
use crate::openai::convert;
use crate::openai::splice::Splice;
use crate::prompt::Prompt;
use crate::trace::Outcome;
use crate::upstream::Upstream;

/// What the gateway asked for and the client did not.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unasked {
    pub(super) logprobs: bool,
    pub(super) usage: bool,
}

pub(super) async fn answer<U: Upstream, C: Clock>(
    gateway: &Gateway<U, C>,
    endpoint: Endpoint,
    request: Request,
) -> Response {
    let id = gateway.request_ids.next();
    let mut response = match read(endpoint, request).await {
        Ok(prompt) => run(gateway, &prompt, &id).await,
        Err(error) => error.into_response(),
    };
    if let Ok(id) = HeaderValue::try_from(id) {
        response.headers_mut().entry("x-request-id").or_insert(id);
    }
    response
}

async fn read(endpoint: Endpoint, request: Request) -> Result<Prompt, ApiError> {
    let (head, body) = request.into_parts();
    if head.headers.get(header::CONTENT_ENCODING).is_some_and(|e| e != "identity") {
        return Err(ApiError::unsupported_encoding());
    }
    let body = to_bytes(body, MAX_BODY).await.map_err(|error| {
        let is_length = std::error::Error::source(&error)
            .is_some_and(<dyn std::error::Error + 'static>::is::<http_body_util::LengthLimitError>);
        if is_length { ApiError::too_large(MAX_BODY) } else { ApiError::unreadable("The request body broke off.") }
    })?;
    let mut prompt = Prompt::parse(endpoint, body)?;
    prompt.headers = headers::forwarded(&head.headers);
    Ok(prompt)
}

async fn run<U: Upstream, C: Clock>(gateway: &Gateway<U, C>, prompt: &Prompt, id: &str) -> Response {
    let start = gateway.clock.now();
    let policy = &gateway.cascade.policy;
    let ladder = match policy.ladder_for(prompt) {
        Ok(ladder) => ladder,
        Err(unknown) => return ApiError::unknown_model(&unknown, policy).into_response(),
    };
    let Run { trace, flow } = gateway.cascade.run(&ladder, prompt).await;
    let elapsed = gateway.clock.now().saturating_sub(start);
    let attempts = headers::attempts(policy, &trace);
    tracing::info!(
        id,
        attempts,
        cost_usd = trace.cost().usd.map(tracing::field::display),
        ms = elapsed.as_secs_f64() * 1000.0
    );
    let Some(served) = trace.served() else {
        let mut response = ApiError::exhausted(policy, &trace, &gateway.not_recorded_hint).into_response();
        response.headers_mut().extend(headers::describe(policy, &trace, id, &HeaderMap::new()));
        return response;
    };
    let tier = &policy.tiers[served.tier];
    let unasked = Unasked {
        logprobs: tier.needs_logprobs() && !prompt.asks_logprobs,
        usage: prompt.stream && !prompt.asks_usage,
    };
    let (body, upstream_headers) = match (&served.outcome, flow) {
        (Outcome::Answered { answer, .. }, _) if prompt.stream => {
            (stream::whole(&frames(prompt.endpoint, answer, unasked)), answer.headers.clone())
        }
        (Outcome::Answered { answer, .. }, _) => {
            (Body::from(whole(prompt.endpoint, answer, unasked)), answer.headers.clone())
        }
        (_, Some(flow)) => (stream::live(flow.frames, unasked, id.to_owned()), flow.headers),
        // A served attempt has an answer or a flow; decision serves no other.
        (_, None) => (Body::empty(), HeaderMap::new()),
    };
    let mut response = Response::new(body);
    *response.headers_mut() = headers::describe(policy, &trace, id, &upstream_headers);
    let content_type = if prompt.stream { "text/event-stream; charset=utf-8" } else { "application/json" };
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    if prompt.stream {
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    }
    response
}

/// The body for a client that wants it whole.
fn whole(endpoint: Endpoint, answer: &Answer, unasked: Unasked) -> Bytes {
    match &answer.payload {
        Payload::Whole(body) if unasked.logprobs && !answer.logprob_spans().is_empty() => {
            let mut splice = Splice::default();
            for span in answer.logprob_spans() {
                splice.replace(span.clone(), *b"null");
            }
            splice.apply(body).into()
        }
        Payload::Whole(body) => body.clone(),
        Payload::Frames(frames) => {
            let kept: Vec<Bytes> =
                frames.iter().filter_map(|f| convert::strip_frame(f, unasked.logprobs, false)).collect();
            convert::to_body(endpoint, &kept)
        }
    }
}

/// The frames for a client that streams.
fn frames(endpoint: Endpoint, answer: &Answer, unasked: Unasked) -> Vec<Bytes> {
    match &answer.payload {
        Payload::Whole(_) => convert::to_frames(endpoint, &whole(endpoint, answer, unasked), !unasked.usage),
        Payload::Frames(frames) => {
            frames.iter().filter_map(|f| convert::strip_frame(f, unasked.logprobs, unasked.usage)).collect()
        }
    }
}
