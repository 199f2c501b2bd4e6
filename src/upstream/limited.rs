//! A limit per tier: prompts per minute, by governor.
//!
//! Invariant: over any span of time a tier is asked at most its burst plus
//! the span's share of `requests_per_minute`. A refused prompt costs nothing.

use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::Clock as GovernorClock;
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};

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
    tiers: Vec<Option<Limiter<C>>>,
}

type Limiter<C> = RateLimiter<NotKeyed, InMemoryState, Handed<C>, NoOpMiddleware<Duration>>;

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
        let limiter = |rule: LimitRule| RateLimiter::direct_with_clock(quota(rule), Handed(clock.clone()));
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
        if let Some(limiter) = &self.tiers[tier.index] {
            limiter
                .check()
                .map_err(|until| Failure::Limited { retry_after: until.wait_time_from(self.clock.now()) })?;
        }
        self.inner.ask(tier, prompt, delivery).await
    }
}
