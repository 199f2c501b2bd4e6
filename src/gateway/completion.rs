//! What is cascaded: a request's bytes to a prompt, the cascade, and a response,
//! at once or after comments that keep the client.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, header};

use super::aftermath::Decided;
use super::bill::Bill;
use super::keyring::Holder;
use super::meters::{Meters, Way};
use super::room::Held;
use super::served::{hand_over, note};
use super::{ApiError, Gateway, batch, body, headers, passthrough, stream};
use crate::cascade::Run;
use crate::clock::Clock;
use crate::openai::Endpoint;
use crate::policy::Ladder;
use crate::prompt::{Prompt, TooMany};
use crate::tokens;
use crate::upstream::Upstream;

/// A client that waits: one that leaves is counted.
struct Waiting<'a>(&'a Meters);

impl Waiting<'_> {
    fn end(self) {
        std::mem::forget(self);
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.left_waiting();
    }
}

/// A client that gives up does so by itself, and says so in its own words; this
/// is for one that said it would and did not.
const PATIENCE_MARGIN: Duration = Duration::from_secs(1);

pub(super) async fn answer<U: Upstream, C: Clock>(
    gateway: Arc<Gateway<U, C>>,
    endpoint: Endpoint,
    request: Request,
    holder: Option<Arc<Holder<C>>>,
) -> Response {
    let id = gateway.request_ids.next();
    let (head, incoming) = request.into_parts();
    let mut response = match read(&gateway, endpoint, &head.headers, incoming, holder.as_deref()).await {
        Ok((prompt, room)) => match (gateway.cascade.policy().ladder_for(&prompt), gateway.passage_of_unknown_models())
        {
            (Ok(ladder), _) => match begin(&gateway, &head.headers, ladder, &prompt, holder).await {
                Ok((ladder, bill)) => run_kept_alive(gateway.clone(), ladder, prompt, room, id.clone(), bill).await,
                Err(error) => error.into_response(),
            },
            (Err(_), Some(passage)) => {
                passthrough::pass(passage, Request::from_parts(head, Body::from(prompt.body().clone()))).await
            }
            (Err(unknown), None) => ApiError::unknown_model(&unknown, &gateway.cascade.policy()).into_response(),
        },
        Err(error) => error.into_response(),
    };
    gateway.meters.request(Way::Cascaded(endpoint), response.status());
    if let Ok(id) = HeaderValue::try_from(id) {
        response.headers_mut().entry("x-request-id").or_insert(id);
    }
    response
}

/// The tiers that may be asked, by what the request's headers say, and the bill.
async fn begin<U, C: Clock>(
    gateway: &Gateway<U, C>,
    headers: &HeaderMap,
    ladder: Ladder,
    prompt: &Prompt,
    holder: Option<Arc<Holder<C>>>,
) -> Result<(Ladder, Option<Bill<C>>), ApiError> {
    let ladder = headers::bounded(&gateway.cascade.policy(), ladder, headers, holder.as_deref())?;
    let (Some(keyring), Some(holder)) = (&gateway.keyring, holder) else { return Ok((ladder, None)) };
    let taken = holder.take_tokens(|| tokens::at_most(prompt)).await?;
    Ok((ladder, Some(Bill::new(keyring.clone(), holder, taken))))
}

/// Runs a prompt; a streaming client that would wait for long gets the head of
/// its response and comments meanwhile. What the cascade says in headers is not
/// known by then, except the request's id.
async fn run_kept_alive<U: Upstream, C: Clock>(
    gateway: Arc<Gateway<U, C>>,
    ladder: Ladder,
    prompt: Prompt,
    held: Held,
    id: String,
    bill: Option<Bill<C>>,
) -> Response {
    let (clock, every) = (gateway.clock.clone(), gateway.cascade.policy().keep_alive);
    let (endpoint, streams) = (prompt.endpoint, prompt.stream);
    let mut running = Box::pin(async move {
        let Some(patience) = prompt.patience else { return run(&gateway, &ladder, &prompt, &id, bill, held).await };
        let answered =
            gateway.clock.within(patience + PATIENCE_MARGIN, run(&gateway, &ladder, &prompt, &id, bill, held)).await;
        answered.unwrap_or_else(|| {
            tracing::warn!(id, seconds = patience.as_secs_f64(), "the client's own time for an answer is up");
            ApiError::out_of_patience().into_response()
        })
    });
    if !streams {
        return running.await;
    }
    match clock.within(every, &mut running).await {
        Some(response) => response,
        None => event_stream(stream::kept_alive(endpoint, running, clock, every)),
    }
}

/// A response that is a stream of events.
fn event_stream(body: Body) -> Response {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

async fn read<U, C: Clock>(
    gateway: &Gateway<U, C>,
    endpoint: Endpoint,
    headers: &HeaderMap,
    incoming: Body,
    holder: Option<&Holder<C>>,
) -> Result<(Prompt, Held), ApiError> {
    if headers.get(header::CONTENT_ENCODING).is_some_and(|e| e != "identity") {
        return Err(ApiError::unsupported_encoding());
    }
    let (body, held) = body::read(&gateway.clock, &gateway.room, incoming).await?;
    let mut prompt = Prompt::parse(endpoint, body)?;
    prompt.headers = headers::forwarded(headers);
    prompt.patience = headers::patience(headers);
    let session = headers.get("x-cascade-session").and_then(|value| value.to_str().ok());
    prompt.session = session.map(str::to_owned);
    prompt.tenant = holder.map(|holder| holder.id().to_owned());
    prompt.freshness = headers::freshness(headers, holder)?;
    if holder.is_some_and(|holder| !holder.may_name(&prompt.model)) {
        let model: String = prompt.model.chars().take(100).collect();
        return Err(ApiError::key_may_not(&format!("name the model `{model}`")));
    }
    Ok((prompt, held))
}

async fn run<U: Upstream, C: Clock>(
    gateway: &Arc<Gateway<U, C>>,
    ladder: &Ladder,
    prompt: &Prompt,
    id: &str,
    bill: Option<Bill<C>>,
    held: Held,
) -> Response {
    let start = gateway.clock.now();
    let policy = &gateway.cascade.policy();
    let waiting = Waiting(&gateway.meters);
    match prompt.list() {
        Ok(None) => {}
        Ok(Some(list)) => {
            let answered = batch::answer(gateway, ladder, prompt, &list, id, bill).await;
            waiting.end();
            return answered;
        }
        Err(TooMany) => {
            waiting.end();
            return ApiError::too_many_prompts().into_response();
        }
    }
    let Run { trace, flow } = gateway.cascade.run(ladder, prompt).await;
    waiting.end();
    note(policy, &trace, id, gateway.clock.now().saturating_sub(start));
    let flow =
        Decided { gateway, policy, ladder, prompt, trace: &trace, id, arrived: start }.note(flow, bill, Some(held));
    if gateway.cascade.is_sampled() {
        let (gateway, policy, prompt, trace) = (gateway.clone(), policy.clone(), prompt.clone(), trace.clone());
        // Off the client's path.
        tokio::spawn(async move { gateway.cascade.compare_with_top(&policy, &prompt, &trace).await });
    }
    let (mut response, upstream) = match trace.served() {
        Some(served) => match hand_over(policy, prompt, served, flow, id) {
            Ok((body, upstream)) if prompt.stream => (event_stream(body), upstream),
            Ok((body, upstream)) => {
                let mut response = Response::new(body);
                response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
                (response, upstream)
            }
            Err(error) => (error.into_response(), HeaderMap::new()),
        },
        None => (ApiError::exhausted(policy, &trace, &gateway.not_recorded_hint).into_response(), HeaderMap::new()),
    };
    headers::describe(response.headers_mut(), policy, prompt, &trace, id, &upstream);
    response
}
