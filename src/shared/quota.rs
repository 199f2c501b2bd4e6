//! A rate that several replicas keep together: this one's own, and what is to be told
//! of it to the others.
//!
//! Invariant: the rate of a replica alone is never looser than the one that all share.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use super::Shared;
use crate::clock::Clock;
use crate::policy::RateRule;
use crate::rate::Rate;

/// A rate, and its place in the shared state where there is one.
#[derive(Debug)]
pub struct Quota<C: Clock> {
    rate: Rate<C>,
    bucket: Option<Arc<Bucket>>,
}

/// The place of a rate in the shared state.
#[derive(Debug)]
pub(super) struct Bucket {
    /// Its key.
    pub key: String,
    pub rule: RateRule,
    /// What was used beyond what was taken, or less, and is not told yet.
    owed: AtomicI64,
}

/// What was taken of a rate.
#[derive(Clone, Copy, Debug)]
pub struct Drawn {
    /// How much.
    pub amount: NonZeroU32,
    /// Whether it was taken from the rate of all, too.
    pub by_all: bool,
}

/// What is to be taken of a rate.
#[derive(Debug)]
pub(super) struct Want {
    pub bucket: Arc<Bucket>,
    pub amount: u32,
    /// In what time this replica alone would have it full again, were nothing taken now.
    pub alone: Duration,
}

impl<C: Clock> Quota<C> {
    /// A full one, shared as `name` where anything is.
    pub fn new(rule: RateRule, clock: &C, shared: Option<&Shared>, name: &str) -> Self {
        Self { rate: Rate::new(rule, clock), bucket: shared.map(|shared| shared.bucket(name, rule)) }
    }

    /// The rate of this replica.
    #[must_use]
    pub fn rate(&self) -> &Rate<C> {
        &self.rate
    }

    /// What all replicas are to be asked for where this one took `amount` of its own.
    pub(super) fn want(&self, amount: NonZeroU32) -> Option<Want> {
        let bucket = self.bucket.clone()?;
        let taken = self.rate.rule().period() * amount.get();
        Some(Want { bucket, amount: amount.get(), alone: self.rate.full_in().saturating_sub(taken) })
    }

    /// Puts right that `used` was used where so much was drawn. What was not taken from all
    /// they hear of by how full this replica has the rate.
    pub fn put_right(&self, drawn: Drawn, used: u64) {
        let Drawn { amount, by_all } = drawn;
        self.rate.put_right(amount, used);
        if let Some(bucket) = self.bucket.as_ref().filter(|_| by_all) {
            let most = u64::from(amount.get()) + u64::from(self.rate.rule().burst.get());
            bucket.owe(used.min(most).cast_signed() - i64::from(amount.get()));
        }
    }

    /// Gives back what was taken here, and not from all.
    pub fn take_back(&self, amount: NonZeroU32) {
        self.rate.put_right(amount, 0);
    }
}

impl Bucket {
    pub fn new(key: String, rule: RateRule) -> Self {
        Self { key, rule, owed: AtomicI64::new(0) }
    }

    pub fn owe(&self, amount: i64) {
        self.owed.fetch_add(amount, Ordering::Relaxed);
    }

    pub fn owes(&self) -> bool {
        self.owed.load(Ordering::Relaxed) != 0
    }

    /// What is owed, which whoever takes it tells.
    pub fn settle(&self) -> i64 {
        self.owed.swap(0, Ordering::Relaxed)
    }
}
