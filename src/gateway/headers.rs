//! Headers in and out: what goes on to the upstream, and what the cascade
//! says about its answer.

use std::fmt::{self, Display, Write};
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::ApiError;
use super::keyring::Holder;
use super::meters::baseline;
use crate::clock::Clock;
use crate::keys::Override;
use crate::policy::{Ladder, Policy};
use crate::price::Cost;
use crate::prompt::{Freshness, Prompt};
use crate::trace::Trace;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const OWN_REQUEST_ID: HeaderName = HeaderName::from_static("x-cascade-request-id");
const UPSTREAM_REQUEST_ID: HeaderName = HeaderName::from_static("x-cascade-upstream-request-id");
const POLICY: HeaderName = HeaderName::from_static("x-cascade-policy");
const ATTEMPTS: HeaderName = HeaderName::from_static("x-cascade-attempts");
const COST: HeaderName = HeaderName::from_static("x-cascade-cost-usd");
const OVERHEAD: HeaderName = HeaderName::from_static("x-cascade-overhead-ms");
const TIER: HeaderName = HeaderName::from_static("x-cascade-tier");
const CACHE: HeaderName = HeaderName::from_static("x-cascade-cache");
const STAND_IN: HeaderName = HeaderName::from_static("x-cascade-stand-in");
const SCORE: HeaderName = HeaderName::from_static("x-cascade-score");
const BASELINE_COST: HeaderName = HeaderName::from_static("x-cascade-baseline-cost-usd");

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
                | "traceparent"
                | "tracestate"
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
    // All values stand in one piece of memory.
    let mut text = BytesMut::with_capacity(512);
    let mut set = |name: HeaderName, value: fmt::Arguments<'_>| {
        // Memory grows.
        let _ = text.write_fmt(value);
        if let Ok(value) = HeaderValue::from_maybe_shared(text.split().freeze()) {
            headers.insert(name, value);
        }
    };
    set(REQUEST_ID, format_args!("{request_id}"));
    set(OWN_REQUEST_ID, format_args!("{request_id}"));
    set(POLICY, format_args!("{}", policy.digest));
    set(ATTEMPTS, format_args!("{}", Attempts(policy, trace)));
    set(COST, format_args!("{}", Dollars(trace.cost())));
    let overhead = overhead(trace).as_micros();
    set(OVERHEAD, format_args!("{}.{:03}", overhead / 1000, overhead % 1000));
    if let Some(served) = trace.served() {
        let tier = &policy.tiers[served.tier];
        set(TIER, format_args!("{}", tier.name));
        set(CACHE, format_args!("{}", served.cache.word()));
        if trace.is_stand_in() {
            set(STAND_IN, format_args!("true"));
        }
        if let Some(score) = trace.score() {
            let told = if policy.tiers[served.tier].is_calibrated() { "" } else { ";uncalibrated" };
            set(SCORE, format_args!("{score}{told}"));
        }
        let baseline = baseline(policy, prompt, served, None, |tokens| tokens).map_or(Cost::UNKNOWN, Cost::exact);
        set(BASELINE_COST, format_args!("{}", Dollars(baseline)));
    }
    for (name, value) in upstream {
        let ours = if name == REQUEST_ID { UPSTREAM_REQUEST_ID } else { name.clone() };
        headers.append(ours, value.clone());
    }
}

/// An amount, or that it is not known.
pub(super) struct Dollars(pub Cost);

impl Display for Dollars {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.usd {
            Some(usd) => usd.fmt(f),
            None => f.write_str("unknown"),
        }
    }
}

/// `ada:rejected(0.41<0.72),babbage:accepted(0.88>=0.68)`.
pub(super) struct Attempts<'a>(pub &'a Policy, pub &'a Trace);

impl Display for Attempts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(policy, trace) = self;
        for (at, attempt) in trace.attempts.iter().enumerate() {
            let comma = if at > 0 { "," } else { "" };
            write!(f, "{comma}{}:{}", policy.tiers[attempt.tier].name, attempt.outcome)?;
        }
        Ok(())
    }
}

/// Time that is ours: all of it less what upstreams and caches took.
fn overhead(trace: &Trace) -> Duration {
    trace.elapsed.saturating_sub(trace.attempts.iter().map(|a| a.elapsed).sum())
}
