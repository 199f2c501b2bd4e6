//! Watches whether a calibration still holds: a sampled prompt is asked of the
//! largest tier too, off the client's path, and what differs is a loss to bet on.
//!
//! Invariant: an alarm is false with a chance of at most `1 - confidence`, however
//! long one watches (a betting e-process, see [`crate::statistics::betting`]). Each
//! alarm falls back to a safer point and begins anew.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::policy::{DriftRule, Policy};
use crate::statistics::betting::Watch;
use crate::stopping::Stopping;

/// Shadows in flight at most; past that a sample is let go, and counted.
const AT_ONCE: usize = 16;

/// The watch over one policy.
#[derive(Debug)]
pub struct Drift {
    rule: DriftRule,
    watch: Mutex<Watch>,
    places: Semaphore,
    dropped: AtomicU64,
    failed: AtomicU64,
    compared: AtomicU64,
    alarms: AtomicU64,
}

/// Where the watch stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DriftStatus {
    /// Prompts compared with the largest tier's answer.
    pub compared: u64,
    /// Samples let go since too many were in flight.
    pub dropped: u64,
    /// Samples that the largest tier did not answer.
    pub failed: u64,
    /// Alarms raised.
    pub alarms: u64,
    /// The wealth of the bets, 1 at first; the alarm is at `1 / (1 - confidence)`.
    pub wealth: f64,
    /// The point of the path in force; 0 is the largest tier alone.
    pub point: usize,
}

impl Drift {
    /// A watch where the policy asks for one.
    #[must_use]
    pub fn of(policy: &Policy) -> Option<Self> {
        let (rule, stopping) = (policy.drift?, policy.stopping.as_ref()?);
        Some(Self {
            rule,
            watch: Mutex::new(watch(rule, stopping)),
            places: Semaphore::new(AT_ONCE),
            dropped: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            compared: AtomicU64::new(0),
            alarms: AtomicU64::new(0),
        })
    }

    /// Whether a prompt is of the sample.
    #[must_use]
    pub fn picks(&self) -> bool {
        fastrand::f64() < self.rule.share
    }

    /// A place for one shadow; none where all are taken, which is counted.
    pub fn place(&self) -> Option<SemaphorePermit<'_>> {
        let place = self.places.try_acquire().ok();
        self.dropped.fetch_add(u64::from(place.is_none()), Ordering::Relaxed);
        place
    }

    /// Adds how far what was served differs from the largest tier's answer, 0..=1;
    /// none where that gave none. Returns the policy to fall back to where the alarm
    /// is raised.
    #[must_use]
    pub fn add(&self, policy: &Policy, loss: Option<f64>) -> Option<Policy> {
        let Some(loss) = loss else {
            self.failed.fetch_add(1, Ordering::Relaxed);
            return None;
        };
        self.compared.fetch_add(1, Ordering::Relaxed);
        let mut current = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
        if !current.add(loss) {
            return None;
        }
        self.alarms.fetch_add(1, Ordering::Relaxed);
        let safer = policy.safer();
        // With nothing safer the alarm stays as it is.
        if let Some(stopping) = safer.as_ref().and_then(|policy| policy.stopping.as_ref()) {
            *current = watch(self.rule, stopping);
        }
        safer
    }

    /// Where it stands under the policy in force.
    #[must_use]
    pub fn status(&self, policy: &Policy) -> DriftStatus {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        DriftStatus {
            compared: read(&self.compared),
            dropped: read(&self.dropped),
            failed: read(&self.failed),
            alarms: read(&self.alarms),
            wealth: self.watch.lock().unwrap_or_else(PoisonError::into_inner).wealth(),
            point: policy.stopping.as_ref().map_or(0, |stopping| stopping.in_force),
        }
    }
}

/// Bets on more differing than it did when the point was tested.
fn watch(rule: DriftRule, stopping: &Stopping) -> Watch {
    Watch::new(stopping.point().differs.clamp(0.005, 0.95), 1.0 - rule.confidence)
}
