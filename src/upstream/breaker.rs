//! A circuit breaker: an upstream that keeps failing is left alone for a time, then
//! tried by one prompt. One that asks for a pause is left alone for that long.
//!
//! Invariant: closed, everybody is let through; open, nobody; half open, one in each
//! `open_for`. A prompt that is given up says nothing and holds nothing.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::policy::BreakerRule;

/// The breaker of one upstream.
#[derive(Debug)]
pub struct Breaker {
    rule: BreakerRule,
    state: Mutex<State>,
    /// Until when it is left alone as it asked, in nanoseconds of the clock.
    paused_until: AtomicU64,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// With so many failures in a row.
    Closed(u32),
    /// Until when; whether a prompt is trying it meanwhile.
    Open { until: Duration, is_tried: bool },
}

/// How a breaker stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Everybody is let through.
    Closed,
    /// The next prompt tries it, or one is trying it.
    HalfOpen,
    /// Nobody is let through.
    Open,
}

impl Breaker {
    /// Closed.
    #[must_use]
    pub fn new(rule: BreakerRule) -> Self {
        Self { rule, state: Mutex::new(State::Closed(0)), paused_until: AtomicU64::new(0) }
    }

    /// The rule that it keeps.
    #[must_use]
    pub fn rule(&self) -> BreakerRule {
        self.rule
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves the upstream alone for a time that it asked for.
    pub fn pause(&self, now: Duration, time: Duration) {
        let until = u64::try_from(now.saturating_add(time).as_nanos()).unwrap_or(u64::MAX);
        self.paused_until.fetch_max(until, Ordering::Relaxed);
    }

    /// How long it is still to be left alone as it asked; none: not at all.
    #[must_use]
    pub fn paused(&self, now: Duration) -> Option<Duration> {
        let left = Duration::from_nanos(self.paused_until.load(Ordering::Relaxed)).saturating_sub(now);
        Some(left).filter(|left| !left.is_zero())
    }

    /// Lets a prompt through.
    ///
    /// # Errors
    /// How long until the next one may try, where it does not.
    pub fn enter(&self, now: Duration) -> Result<(), Duration> {
        let mut state = self.state();
        match *state {
            State::Closed(_) => Ok(()),
            State::Open { until, .. } if now < until => Err(until.saturating_sub(now)),
            State::Open { .. } => {
                // Others wait as long again, should nothing come of this one.
                *state = State::Open { until: now + self.rule.open_for, is_tried: true };
                Ok(())
            }
        }
    }

    /// Notes what became of a prompt. Returns how it stands now, where that changed.
    pub fn note(&self, now: Duration, has_failed: bool) -> Option<Standing> {
        let mut state = self.state();
        let opened = State::Open { until: now + self.rule.open_for, is_tried: false };
        let (next, told) = match (*state, has_failed) {
            // The last: one that was asked before it opened.
            (State::Closed(0), false) | (State::Open { is_tried: false, .. }, true) => return None,
            (State::Closed(_), false) => (State::Closed(0), None),
            (State::Closed(failures), true) if failures + 1 >= self.rule.failures.get() => {
                (opened, Some(Standing::Open))
            }
            (State::Closed(failures), true) => (State::Closed(failures + 1), None),
            (State::Open { .. }, false) => (State::Closed(0), Some(Standing::Closed)),
            (State::Open { is_tried: true, .. }, true) => (opened, Some(Standing::Open)),
        };
        *state = next;
        told
    }

    /// How long nobody is let through; none: somebody is.
    #[must_use]
    pub fn open_for(&self, now: Duration) -> Option<Duration> {
        match *self.state() {
            State::Open { until, is_tried: false } if now < until => Some(until.saturating_sub(now)),
            State::Open { .. } | State::Closed(_) => None,
        }
    }

    /// Opens it at the next failure, where it is closed: somebody else has seen enough.
    pub fn suspect(&self) {
        let mut state = self.state();
        if let State::Closed(failures) = &mut *state {
            *failures = self.rule.failures.get() - 1;
        }
    }

    /// How it stands.
    #[must_use]
    pub fn standing(&self, now: Duration) -> Standing {
        match *self.state() {
            State::Closed(_) => Standing::Closed,
            State::Open { is_tried: true, .. } => Standing::HalfOpen,
            State::Open { until, .. } if now >= until => Standing::HalfOpen,
            State::Open { .. } => Standing::Open,
        }
    }
}
