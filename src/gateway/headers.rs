//! Headers in and out: what goes on to the upstream, and what the cascade
//! says about its answer.

use std::fmt::Display;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::ApiError;
use super::keyring::Holder;
use crate::clock::Clock;
use crate::keys::Override;
use crate::policy::{Ladder, Policy};
use crate::price::Cost;
use crate::prompt::{Freshness, Prompt};
use crate::tokens;
use crate::trace::{Attempt, Outcome, Trace};

/// Makes request ids: unique in this process, and not to be guessed.
#[derive(Debug, Default)]
pub(super) struct RequestIds {
    next: AtomicU64,
    seeds: [RandomState; 2],
}

impl RequestIds {
    pub(super) fn next(&self) -> String {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let [high, low] = [&self.seeds[0], &self.seeds[1]].map(|seed| seed.hash_one(number));
        format!("req_{high:016x}{low:016x}")
    }
}

/// The request headers that go on to an upstream.
pub(super) fn forwarded(headers: &HeaderMap) -> HeaderMap {
    let goes_on = |name: &HeaderName| {
        let name = name.as_str();
        matches!(
            name,
            "openai-organization"
                | "openai-project"
                | "openai-beta"
                | "idempotency-key"
                | "x-client-request-id"
                | "user-agent"
        ) || name.starts_with("x-stainless-")
    };
    headers.iter().filter(|(name, _)| goes_on(name)).map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// How long the client waits for an answer, as OpenAI's SDKs say in seconds.
pub(super) fn patience(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get("x-stainless-read-timeout")?.to_str().ok()?.parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok().filter(|time| !time.is_zero())
}

/// How new the client wants its answer: `x-cascade-bypass: cache`, or `Cache-Control`.
pub(super) fn freshness<C: Clock>(headers: &HeaderMap, holder: Option<&Holder<C>>) -> Result<Freshness, ApiError> {
    let says = |name: &str, word: &str| {
        let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).any(|part| part.trim().eq_ignore_ascii_case(word))
    };
    let freshness = if says("x-cascade-bypass", "cache") || says("cache-control", "no-store") {
        Freshness::NotKept
    } else if says("cache-control", "no-cache") {
        Freshness::New
    } else {
        return Ok(Freshness::Any);
    };
    // Browsers and libraries send the latter by themselves: without leave it says nothing.
    match holder.is_none_or(|holder| holder.may(Override::Bypass)) {
        true => Ok(freshness),
        false if headers.contains_key("x-cascade-bypass") => Err(ApiError::key_may_not("bypass the cache")),
        false => Ok(Freshness::Any),
    }
}

/// The ladder within `x-cascade-min-tier` and `x-cascade-max-tier`.
pub(super) fn bounded<C: Clock>(
    policy: &Policy,
    ladder: Ladder,
    headers: &HeaderMap,
    holder: Option<&Holder<C>>,
) -> Result<Ladder, ApiError> {
    let tier = |name: &str| {
        let Some(value) = headers.get(name) else { return Ok(None) };
        if holder.is_some_and(|holder| !holder.may(Override::Tiers)) {
            return Err(ApiError::key_may_not("choose tiers"));
        }
        let found = policy.tiers.iter().position(|tier| value == tier.name.as_str());
        let names: Vec<&str> = policy.tiers.iter().map(|tier| tier.name.as_str()).collect();
        found.map(Some).ok_or_else(|| ApiError::no_such_tiers(format!("{name} is none of {}.", names.join(", "))))
    };
    let (least, most) = (tier("x-cascade-min-tier")?, tier("x-cascade-max-tier")?);
    if least.is_none() && most.is_none() {
        return Ok(ladder);
    }
    let within = ladder.within(least.unwrap_or(0), most.unwrap_or(usize::MAX));
    within.ok_or_else(|| {
        ApiError::no_such_tiers(
            "No tier that this request may be sent to is within the tiers that its headers name.".to_owned(),
        )
    })
}

/// What the cascade says about an answer.
pub(super) fn describe(
    headers: &mut HeaderMap,
    policy: &Policy,
    prompt: &Prompt,
    trace: &Trace,
    request_id: &str,
    upstream: &HeaderMap,
) {
    // Ours are twelve at most; a map that grows moves all it has.
    headers.reserve(16 + upstream.len());
    let mut set = |name: &'static str, value: &dyn Display| {
        if let Ok(value) = HeaderValue::try_from(value.to_string()) {
            headers.insert(name, value);
        }
    };
    set("x-request-id", &request_id);
    set("x-cascade-request-id", &request_id);
    set("x-cascade-policy", &policy.digest);
    set("x-cascade-attempts", &attempts(policy, trace));
    set("x-cascade-cost-usd", &dollars(trace.cost()));
    set("x-cascade-overhead-ms", &format_args!("{:.3}", overhead(trace).as_secs_f64() * 1000.0));
    if let Some(served) = trace.served() {
        let tier = &policy.tiers[served.tier];
        set("x-cascade-tier", &tier.name);
        set("x-cascade-cache", &served.cache.word());
        if trace.is_stand_in() {
            set("x-cascade-stand-in", &true);
        }
        if let Some(score) = trace.score() {
            let told = if policy.tiers[served.tier].is_calibrated() { "" } else { ";uncalibrated" };
            set("x-cascade-score", &format_args!("{score}{told}"));
        }
        set("x-cascade-baseline-cost-usd", &baseline(policy, prompt, served));
    }
    for (name, value) in upstream {
        let ours = if name == "x-request-id" {
            HeaderName::from_static("x-cascade-upstream-request-id")
        } else {
            name.clone()
        };
        headers.append(ours, value.clone());
    }
}

/// An amount, or that it is not known.
pub(super) fn dollars(cost: Cost) -> String {
    cost.usd.map_or("unknown".to_owned(), |usd| usd.to_string())
}

/// `ada:rejected(0.41<0.72),babbage:accepted(0.88>=0.68)`.
pub(super) fn attempts(policy: &Policy, trace: &Trace) -> String {
    let each = trace.attempts.iter().map(|a| format!("{}:{}", policy.tiers[a.tier].name, a.outcome));
    each.collect::<Vec<_>>().join(",")
}

/// Time that is ours: all of it less what upstreams and caches took.
fn overhead(trace: &Trace) -> Duration {
    trace.elapsed.saturating_sub(trace.attempts.iter().map(|a| a.elapsed).sum())
}

/// What the last tier alone would have cost for as many tokens, by its price.
fn baseline(policy: &Policy, prompt: &Prompt, served: &Attempt) -> String {
    match (&policy.top().price, &served.outcome) {
        (Some(price), Outcome::Answered { answer, .. }) => price.of(tokens::count(prompt, answer)).to_string(),
        _ => "unknown".to_owned(),
    }
}
