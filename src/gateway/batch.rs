//! A legacy list of prompts: as many cascades, independent of each other, and
//! one answer with their choices in order.

use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt, stream};
use http::{HeaderMap, HeaderValue, header};
use serde_json::Value;

use super::completion::{note, whole_of};
use super::{ApiError, Gateway, headers};
use crate::cascade::Run;
use crate::clock::Clock;
use crate::policy::Ladder;
use crate::price::Cost;
use crate::prompt::Prompt;
use crate::trace::Trace;
use crate::upstream::Upstream;

/// How many of them are asked at once.
const AT_ONCE: usize = 16;

/// Answers all of them, or fails as the first that failed.
pub(super) async fn answer<U: Upstream, C: Clock>(
    gateway: &Gateway<U, C>,
    ladder: &Ladder,
    prompts: &[Prompt],
    id: &str,
) -> Response {
    let start = gateway.clock.now();
    let policy = &gateway.cascade.policy;
    let asked: Vec<_> = prompts.iter().map(|prompt| gateway.cascade.run(ladder, prompt)).collect();
    let runs: Vec<Run> = stream::iter(asked).buffered(AT_ONCE).collect().await;
    let elapsed = gateway.clock.now().saturating_sub(start);
    let mut merged: Option<Value> = None;
    for (prompt, Run { trace, .. }) in prompts.iter().zip(&runs) {
        note(policy, trace, id, elapsed);
        let one = match trace.served() {
            Some(served) => whole_of(policy, prompt, served),
            None => Err(ApiError::exhausted(policy, trace, &gateway.not_recorded_hint)),
        };
        match one.map(|body| serde_json::from_slice::<Value>(&body)) {
            Ok(Ok(body)) => merge(&mut merged, body),
            Ok(Err(_)) => return ApiError::unreadable_answer().into_response(),
            Err(error) => return error.into_response(),
        }
    }
    let mut response = merged.unwrap_or_default().to_string().into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    describe(headers, gateway, &runs, id);
    response
}

/// Appends the choices of one answer, numbered on, and adds its usage up.
fn merge(merged: &mut Option<Value>, mut body: Value) {
    let Some(all) = merged else {
        *merged = Some(body);
        return;
    };
    let mut choices = body["choices"].as_array_mut().map(std::mem::take).unwrap_or_default();
    if let Some(before) = all["choices"].as_array_mut() {
        for choice in &mut choices {
            choice["index"] = before.len().into();
            before.push(choice.take());
        }
    }
    let counts = body["usage"].as_object().cloned().unwrap_or_default();
    for (name, count) in counts {
        if let (Some(before), Some(count)) = (all["usage"][&name].as_u64(), count.as_u64()) {
            all["usage"][&name] = (before + count).into();
        }
    }
}

/// What all of them did and cost together; `;` parts them.
fn describe<U: Upstream, C: Clock>(to: &mut HeaderMap, gateway: &Gateway<U, C>, runs: &[Run], id: &str) {
    let policy = &gateway.cascade.policy;
    let each: Vec<String> = runs.iter().map(|run| headers::attempts(policy, &run.trace)).collect();
    let cost = runs.iter().map(|run| &run.trace).map(Trace::cost).fold(Cost::FREE, Cost::plus);
    for (name, value) in [
        ("x-request-id", id.to_owned()),
        ("x-cascade-request-id", id.to_owned()),
        ("x-cascade-policy", policy.digest.clone()),
        ("x-cascade-attempts", each.join(";")),
        ("x-cascade-cost-usd", headers::dollars(cost)),
    ] {
        if let Ok(value) = HeaderValue::try_from(value) {
            to.insert(name, value);
        }
    }
}
