//! A limit per tier: prompts per minute, by governor.
//!
//! Invariant: over any span of time a tier is asked at most its burst plus
//! the span's share of `requests_per_minute`. A refused prompt costs nothing.

use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::Clock as GovernorClock;
use governor::middleware::StateInformationMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use http::{HeaderMap, HeaderName};

use super::{Delivery, Reply, Upstream};
use crate::clock::Clock;
use crate::policy::{LimitRule, Policy, Tier};
use crate::prompt::Prompt;
use crate::trace::Failure;

/// Refuses what is over a tier's limit.
#[derive(Debug)]
pub struct Limited<U, C: Clock> {
    inner: U,
    clock: C,
    tiers: Vec<Option<(LimitRule, Limiter<C>)>>,
}

type Limiter<C> = RateLimiter<NotKeyed, InMemoryState, Handed<C>, StateInformationMiddleware>;

/// Our clock in governor's terms.
#[derive(Clone, Debug)]
struct Handed<C>(C);

impl<C: Clock> GovernorClock for Handed<C> {
    type Instant = Duration;
    fn now(&self) -> Duration {
        self.0.now()
    }
}

impl<U, C: Clock> Limited<U, C> {
    /// Wraps `inner` with the limits of `policy`.
    pub fn new(inner: U, policy: &Policy, clock: &C) -> Self {
        let limiter = |rule: LimitRule| {
            let limiter = RateLimiter::direct_with_clock(quota(rule), Handed(clock.clone()));
            (rule, limiter.with_middleware::<StateInformationMiddleware>())
        };
        let tiers = policy.tiers.iter().map(|tier| tier.limit.map(limiter)).collect();
        Self { inner, clock: clock.clone(), tiers }
    }
}

fn quota(rule: LimitRule) -> Quota {
    // A minute has 6e10 ns, so that a period of 0 ns is out of reach for u32.
    let period = Duration::from_mins(1) / rule.requests_per_minute.get();
    let per_period = Quota::with_period(period).unwrap_or(Quota::per_minute(NonZeroU32::MIN));
    per_period.allow_burst(rule.burst)
}

impl<U: Upstream, C: Clock> Upstream for Limited<U, C> {
    async fn ask(&self, tier: &Tier, prompt: &Prompt, delivery: Delivery) -> Result<Reply, Failure> {
        let Some((rule, limiter)) = &self.tiers[tier.index] else {
            return self.inner.ask(tier, prompt, delivery).await;
        };
        let refused = |until: governor::NotUntil<Duration>| Failure::Limited {
            retry_after: until.wait_time_from(self.clock.now()),
        };
        let left = limiter.check().map_err(refused)?.remaining_burst_capacity();
        let mut reply = self.inner.ask(tier, prompt, delivery).await?;
        tighten(reply.said.headers_mut(), *rule, left);
        Ok(reply)
    }
}

/// Tells a client of our limit where the upstream's own leaves it more.
fn tighten(headers: &mut HeaderMap, rule: LimitRule, left: u32) {
    let remaining = HeaderName::from_static("x-ratelimit-remaining-requests");
    let theirs = headers.get(&remaining).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if theirs.is_none_or(|theirs| u64::from(left) < theirs) {
        headers.insert(remaining, left.into());
        headers.insert("x-ratelimit-limit-requests", rule.requests_per_minute.get().into());
        // Theirs would belong to another count.
        headers.remove("x-ratelimit-reset-requests");
    }
}
