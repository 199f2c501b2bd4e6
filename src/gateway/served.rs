//! What is served, in the shape that the client asked for, less what it did not
//! ask for; and the line in the log.

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::HeaderMap;

use super::{ApiError, headers, stream};
use crate::answer::{Answer, Payload};
use crate::openai::Endpoint;
use crate::openai::convert::{self, Unasked};
use crate::policy::Policy;
use crate::prompt::Prompt;
use crate::trace::{Attempt, Outcome, Trace};
use crate::upstream::Flow;

/// The body of the answer that is served, and the upstream's headers.
pub(super) fn hand_over(
    policy: &Policy,
    prompt: &Prompt,
    served: &Attempt,
    flow: Option<Flow>,
    id: &str,
) -> Result<(Body, HeaderMap), ApiError> {
    let unasked = unasked(policy, prompt, served);
    match (&served.outcome, flow) {
        (_, Some(flow)) => Ok((stream::live(prompt.endpoint, flow.frames, unasked, id.to_owned()), flow.headers)),
        (Outcome::Answered { answer, .. }, None) => {
            let body = if prompt.stream {
                stream::whole(prompt.endpoint, &frames(prompt.endpoint, answer, unasked)?)
            } else {
                Body::from(whole(prompt.endpoint, answer, unasked)?)
            };
            // From the cache, the upstream's limits are those of another time.
            Ok((body, if served.cache.is_free() { HeaderMap::new() } else { answer.headers.clone() }))
        }
        // A served attempt has an answer or a flow; decision serves no other.
        (Outcome::Flowing { .. } | Outcome::Failed(_), None) => Err(ApiError::unreadable_answer()),
    }
}

/// What the tier was asked for and the client did not ask for.
fn unasked(policy: &Policy, prompt: &Prompt, served: &Attempt) -> Unasked {
    Unasked { logprobs: policy.tiers[served.tier].adds_logprobs(prompt), usage: prompt.stream && !prompt.asks_usage }
}

/// The whole body of an answer that is served.
pub(super) fn whole_of(policy: &Policy, prompt: &Prompt, served: &Attempt) -> Result<Bytes, ApiError> {
    match &served.outcome {
        Outcome::Answered { answer, .. } => whole(prompt.endpoint, answer, unasked(policy, prompt, served)),
        Outcome::Flowing { .. } | Outcome::Failed(_) => Err(ApiError::unreadable_answer()),
    }
}

/// One line for the request, and one for each tier that failed, with why.
pub(super) fn note(policy: &Policy, trace: &Trace, id: &str, elapsed: Duration) {
    for attempt in &trace.attempts {
        let Outcome::Failed(failure) = &attempt.outcome else { continue };
        let said = failure.upstream_said();
        tracing::warn!(id, tier = policy.tiers[attempt.tier].name, said, "failed: {failure}");
    }
    let cost_usd = trace.cost().usd.map(tracing::field::display);
    let stand_in = trace.is_stand_in().then_some(true);
    let ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
    tracing::info!(id, attempts = %headers::Attempts(policy, trace), cost_usd, stand_in, ms);
}

/// The body for a client that wants it whole.
fn whole(endpoint: Endpoint, answer: &Answer, unasked: Unasked) -> Result<Bytes, ApiError> {
    Ok(match &answer.payload {
        Payload::Whole(body) if unasked.logprobs => convert::strip_body(endpoint, body, &answer.logprobs_at),
        Payload::Whole(body) => body.clone(),
        Payload::Frames(frames) => {
            let kept: Vec<Bytes> = frames
                .iter()
                .filter_map(|f| convert::strip_frame(endpoint, f, Unasked { usage: false, ..unasked }))
                .collect();
            convert::to_body(endpoint, &kept).ok_or_else(ApiError::unreadable_answer)?
        }
    })
}

/// The frames for a client that streams.
fn frames(endpoint: Endpoint, answer: &Answer, unasked: Unasked) -> Result<Vec<Bytes>, ApiError> {
    Ok(match &answer.payload {
        Payload::Whole(_) => convert::to_frames(endpoint, &whole(endpoint, answer, unasked)?, !unasked.usage),
        Payload::Frames(frames) => frames.iter().filter_map(|f| convert::strip_frame(endpoint, f, unasked)).collect(),
    })
}
