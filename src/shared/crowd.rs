//! Prompts in flight, counted by all replicas together.
//!
//! Invariant: each replica tells how many it has, never how many more or fewer: a word
//! that is lost is made good by the next, and one that was overtaken says nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Shared;

/// How many this replica has.
#[derive(Debug)]
pub struct Crowd {
    pub(super) key: String,
    shared: Arc<Shared>,
    /// How many are here, and above that the number of the word that says so.
    here: AtomicU64,
    /// How many others know to be here.
    told: AtomicU64,
}

/// How many are here, by one word of many.
#[derive(Clone, Copy, Debug)]
pub(super) struct Count {
    pub here: u32,
    /// Of the word, from 0 again after 2^32: a lost word more or less.
    pub number: u32,
}

/// One of them; given back when it is dropped.
#[derive(Debug)]
pub struct Seat {
    pub(super) crowd: Arc<Crowd>,
    /// How many this replica had with it.
    pub(super) count: Count,
}

/// One word more.
const WORD: u64 = 1 << 32;

impl Count {
    fn of(packed: u64) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "it is packed so")]
        Self { here: packed as u32, number: (packed >> 32) as u32 }
    }
}

impl Crowd {
    pub(super) fn new(key: String, shared: Arc<Shared>) -> Self {
        Self { key, shared, here: AtomicU64::new(0), told: AtomicU64::new(0) }
    }

    /// A seat of this replica; that it is there for all is for the shared state to say.
    #[must_use]
    pub fn seat(self: &Arc<Self>) -> Seat {
        let packed = self.here.fetch_add(WORD + 1, Ordering::Relaxed).wrapping_add(WORD + 1);
        Seat { crowd: self.clone(), count: Count::of(packed) }
    }

    /// How many are here, where others are to be told.
    pub(super) fn news(&self) -> Option<Count> {
        let count = Count::of(self.here.fetch_add(WORD, Ordering::Relaxed).wrapping_add(WORD));
        (count.here > 0 || self.told.load(Ordering::Relaxed) > 0).then_some(count)
    }

    /// Others know of so many.
    pub(super) fn heard(&self, count: Count) {
        self.told.store(count.here.into(), Ordering::Relaxed);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.crowd.here.fetch_add(WORD - 1, Ordering::Relaxed);
        self.crowd.told.fetch_max(1, Ordering::Relaxed);
        // Others may have it.
        self.crowd.shared.news.notify_one();
    }
}
