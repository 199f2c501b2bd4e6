//! A rate of something per minute, by governor, over our clock.
//!
//! Invariant: over any span of time at most the burst plus the span's share of the
//! rate is taken, once what was taken too much or too little has been put right.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use governor::clock::Clock as GovernorClock;
use governor::middleware::StateInformationMiddleware;
use governor::nanos::Nanos;
use governor::state::{NotKeyed, StateStore};
use governor::{Quota, RateLimiter};

use crate::clock::Clock;
use crate::policy::RateRule;

/// One rate, kept by all that hold it.
#[derive(Debug)]
pub struct Rate<C: Clock> {
    limiter: RateLimiter<NotKeyed, Shared, Handed<C>, StateInformationMiddleware>,
    state: Shared,
    clock: C,
    began: Duration,
    rule: RateRule,
}

/// Our clock in governor's terms.
#[derive(Clone, Debug)]
struct Handed<C>(C);

impl<C: Clock> GovernorClock for Handed<C> {
    type Instant = Duration;
    fn now(&self) -> Duration {
        self.0.now()
    }
}

/// When the bucket is full again, in nanoseconds since the rate began: governor's
/// state, where it can be put right afterwards, which governor itself cannot.
#[derive(Clone, Debug, Default)]
struct Shared(Arc<AtomicU64>);

impl StateStore for Shared {
    type Key = NotKeyed;

    fn measure_and_replace<T, F, E>(&self, _: &NotKeyed, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let mut now = self.0.load(Ordering::Acquire);
        loop {
            let (told, next) = decide((now != 0).then(|| now.into()))?;
            match self.0.compare_exchange_weak(now, next.into(), Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Ok(told),
                Err(other) => now = other,
            }
        }
    }
}

impl<C: Clock> Rate<C> {
    /// A full bucket.
    pub fn new(rule: RateRule, clock: &C) -> Self {
        let quota = Quota::with_period(rule.period()).unwrap_or(Quota::per_minute(NonZeroU32::MIN));
        let state = Shared::default();
        let limiter = RateLimiter::new(quota.allow_burst(rule.burst), state.clone(), Handed(clock.clone()));
        Self { limiter, state, clock: clock.clone(), began: clock.now(), rule }
    }

    /// The rule that is kept.
    #[must_use]
    pub fn rule(&self) -> RateRule {
        self.rule
    }

    /// In what time it is full again.
    #[must_use]
    pub fn full_in(&self) -> Duration {
        let full_at = self.began + Duration::from_nanos(self.state.0.load(Ordering::Acquire));
        full_at.saturating_sub(self.clock.now())
    }

    /// How much could be taken now.
    #[must_use]
    pub fn left(&self) -> u32 {
        let taken = self.full_in().as_nanos().div_ceil(self.rule.period().as_nanos().max(1));
        self.rule.burst.get().saturating_sub(u32::try_from(taken).unwrap_or(u32::MAX))
    }

    /// Takes `amount`, of which more than the burst counts as the burst. Returns what
    /// was taken, and how much is left.
    ///
    /// # Errors
    /// How long to wait, where so much is not there yet; nothing is taken then.
    pub fn take(&self, amount: NonZeroU32) -> Result<(NonZeroU32, u32), Duration> {
        let amount = amount.min(self.rule.burst);
        match self.limiter.check_n(amount) {
            Ok(Ok(left)) => Ok((amount, left.remaining_burst_capacity())),
            Ok(Err(until)) => Err(until.wait_time_from(self.clock.now())),
            // No amount is larger than the burst.
            Err(_) => Err(self.rule.period()),
        }
    }

    /// Puts right that `used` was used where `taken` was taken: gives back, or takes
    /// more, for which those that come later wait: for one burst more at most, since
    /// what an upstream counts may be nonsense.
    pub fn put_right(&self, taken: NonZeroU32, used: u64) {
        let taken = u64::from(taken.get());
        let used = used.min(taken + u64::from(self.rule.burst.get()));
        let each = u64::try_from(self.rule.period().as_nanos()).unwrap_or(u64::MAX);
        let change = |full_at: u64| {
            Some(if used > taken {
                full_at.saturating_add((used - taken).saturating_mul(each))
            } else {
                // 0 would read as never used, which is the same as full.
                full_at.saturating_sub((taken - used) * each)
            })
        };
        let _ = self.state.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, change);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    #[test]
    fn what_is_left_is_what_can_be_taken() {
        let clock = ManualClock::default();
        clock.advance_to(Duration::from_secs(7));
        let of = |count| NonZeroU32::new(count).expect("not 0");
        let rate = Rate::new(RateRule { per_minute: of(60), burst: of(10) }, &clock);
        assert_eq!(rate.left(), 10);
        let (_, left) = rate.take(of(4)).expect("there");
        assert_eq!((rate.left(), left), (6, 6));
        clock.advance_to(Duration::from_millis(8500));
        assert_eq!(rate.left(), 7);
        rate.put_right(of(4), 14);
        assert_eq!(rate.left(), 0);
        clock.advance_to(Duration::from_mins(2));
        assert_eq!(rate.left(), 10);
    }
}
