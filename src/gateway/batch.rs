//! A legacy list of prompts: as many cascades, independent of each other, and
//! one answer with their choices in order.

use std::sync::Arc;
use std::time::Duration;

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{HeaderMap, HeaderValue, header};
use serde_json::Value;
use serde_json::value::RawValue;

use super::aftermath::Decided;
use super::bill::Bill;
use super::served::{note, whole_of};
use super::{ApiError, Gateway, headers};
use crate::cascade::Run;
use crate::clock::Clock;
use crate::policy::{Ladder, Policy};
use crate::price::Cost;
use crate::prompt::Prompt;
use crate::trace::Trace;
use crate::upstream::Upstream;

/// How many of them are asked at once.
const AT_ONCE: usize = 16;

/// Answers each text of a list, or fails as the first that failed.
pub(super) async fn answer<U: Upstream, C: Clock>(
    gateway: &Arc<Gateway<U, C>>,
    ladder: &Ladder,
    all: &Prompt,
    list: &[&RawValue],
    id: &str,
    mut bill: Option<Bill<C>>,
) -> Response {
    let start = gateway.clock.now();
    let policy = &gateway.cascade.policy();
    let mut asked = Vec::new();
    for (number, text) in list.iter().copied().enumerate() {
        asked.push(ask(gateway, ladder, all, number, text));
    }
    let answered: Vec<_> = stream::iter(asked).buffered(AT_ONCE).collect().await;
    let elapsed = gateway.clock.now().saturating_sub(start);
    if let Some(bill) = &mut bill {
        bill.add(answered.iter().map(|(_, trace, _)| (all, trace)), None);
    }
    for (number, (arrived, trace, _)) in answered.iter().enumerate() {
        note(policy, trace, id, elapsed);
        if let Some(prompt) = &all.one_of_list(number, list[number]) {
            Decided { gateway, policy, ladder, prompt, trace, id: &format!("{id}-{number}"), arrived: *arrived }
                .note(None, None, None);
        }
    }
    let mut merged: Option<Value> = None;
    for (_, _, body) in &answered {
        match body {
            Ok(body) => match serde_json::from_slice(body) {
                Ok(body @ Value::Object(_)) => merge(&mut merged, body),
                _ => return ApiError::unreadable_answer().into_response(),
            },
            Err(error) => return error.clone().into_response(),
        }
    }
    let mut response = merged.unwrap_or_default().to_string().into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    describe(headers, policy, answered.iter().map(|(_, trace, _)| trace), id);
    response
}

/// One text of the list; its body is made when its turn comes.
async fn ask<U: Upstream, C: Clock>(
    gateway: &Gateway<U, C>,
    ladder: &Ladder,
    all: &Prompt,
    number: usize,
    text: &RawValue,
) -> (Duration, Trace, Result<Bytes, ApiError>) {
    let arrived = gateway.clock.now();
    let Some(prompt) = all.one_of_list(number, text) else {
        return (arrived, Trace::default(), Err(ApiError::unreadable_answer()));
    };
    let Run { trace, .. } = gateway.cascade.run(ladder, &prompt).await;
    let policy = &*gateway.cascade.policy();
    let body = match trace.served() {
        Some(served) => whole_of(policy, &prompt, served),
        None => Err(ApiError::exhausted(policy, &trace, &gateway.not_recorded_hint)),
    };
    (arrived, trace, body)
}

/// Appends the choices of one answer, numbered on, and adds its usage up.
fn merge(merged: &mut Option<Value>, mut body: Value) {
    let Some(all) = merged else {
        *merged = Some(body);
        return;
    };
    let choices = body["choices"].as_array_mut().map(std::mem::take).unwrap_or_default();
    if let Some(before) = all["choices"].as_array_mut() {
        for mut choice in choices {
            if let Some(choice) = choice.as_object_mut() {
                choice.insert("index".into(), before.len().into());
            }
            before.push(choice);
        }
    }
    match (all.get_mut("usage"), body.get("usage")) {
        (Some(all), Some(usage)) => add_up(all, usage),
        // A sum without one of its parts would be a lie.
        _ => _ = all.as_object_mut().map(|all| all.remove("usage")),
    }
}

/// Adds numbers to numbers, wherever they stand.
fn add_up(to: &mut Value, from: &Value) {
    match (to, from) {
        (Value::Object(to), Value::Object(from)) => {
            for (name, value) in from {
                add_up(to.entry(name.clone()).or_insert(Value::Null), value);
            }
        }
        (to, Value::Number(more)) => {
            if let (Some(more), before) = (more.as_u64(), to.as_u64().unwrap_or(0)) {
                *to = before.saturating_add(more).into();
            }
        }
        _ => {}
    }
}

/// What all of them did and cost together; `;` parts them, and past what a
/// client's HTTP library takes the rest is left out.
fn describe<'a>(to: &mut HeaderMap, policy: &Policy, traces: impl Iterator<Item = &'a Trace> + Clone, id: &str) {
    const MAX_CHARS: usize = 4000;
    let each: Vec<String> = traces.clone().map(|trace| headers::Attempts(policy, trace).to_string()).collect();
    let mut attempts = each.join(";");
    if attempts.len() > MAX_CHARS {
        attempts.truncate(MAX_CHARS);
        attempts.push_str("...");
    }
    if traces.clone().any(Trace::is_stand_in) {
        to.insert("x-cascade-stand-in", HeaderValue::from_static("true"));
    }
    let cost = traces.map(Trace::cost).fold(Cost::FREE, Cost::plus);
    for (name, value) in [
        ("x-request-id", id.to_owned()),
        ("x-cascade-request-id", id.to_owned()),
        ("x-cascade-policy", policy.digest.clone()),
        ("x-cascade-attempts", attempts),
        ("x-cascade-cost-usd", headers::Dollars(cost).to_string()),
    ] {
        if let Ok(value) = HeaderValue::try_from(value) {
            to.insert(name, value);
        }
    }
}
