//! How much there is room for: connections, and bytes of requests in flight. Who
//! finds none is told so at once, before memory grows.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::ApiError;

/// What a request is taken to hold besides its body: its head, its state, and the
/// answers to it.
const LEAST: usize = 64 << 10;

/// The unit that is counted in; permits are counted in 32 bits.
const UNIT: usize = 1 << 10;

/// Room for connections and for requests in flight. Outlives reloads.
#[derive(Debug)]
pub struct Room {
    most_connections: usize,
    most_bytes: usize,
    free: Arc<Semaphore>,
    connections: AtomicUsize,
    turned_away: AtomicU64,
    shed: AtomicU64,
}

/// What there is in a [`Room`] now, and how often there was none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Occupancy {
    /// Connections that are open.
    pub connections: usize,
    /// Bytes that requests in flight are taken to hold.
    pub bytes: usize,
    /// Connections that were turned away.
    pub turned_away: u64,
    /// Requests that were answered with a 503.
    pub shed: u64,
}

impl Room {
    /// Room for so many connections, and for so many bytes of requests in flight.
    #[must_use]
    pub fn new(most_connections: usize, most_bytes: usize) -> Self {
        let most_bytes = most_bytes.clamp(LEAST, Semaphore::MAX_PERMITS.min(u32::MAX as usize));
        Self {
            most_connections,
            most_bytes,
            free: Arc::new(Semaphore::new(most_bytes / UNIT)),
            connections: AtomicUsize::new(0),
            turned_away: AtomicU64::new(0),
            shed: AtomicU64::new(0),
        }
    }

    /// What is taken.
    #[must_use]
    pub fn occupancy(&self) -> Occupancy {
        Occupancy {
            connections: self.connections.load(Ordering::Relaxed),
            bytes: self.most_bytes - self.free.available_permits() * UNIT,
            turned_away: self.turned_away.load(Ordering::Relaxed),
            shed: self.shed.load(Ordering::Relaxed),
        }
    }

    /// A place for a connection. A few more than there is room for get one, to be told.
    pub(super) fn connect(self: &Arc<Self>) -> Option<Place> {
        let before = self.connections.fetch_add(1, Ordering::Relaxed);
        let place = Place { room: self.clone(), is_welcome: before < self.most_connections };
        if !place.is_welcome {
            self.turned_away.fetch_add(1, Ordering::Relaxed);
        }
        (before <= self.most_connections.saturating_add(self.most_connections / 8)).then_some(place)
    }

    /// Room for a request, its body not yet counted.
    ///
    /// # Errors
    /// Where there is none.
    pub(super) fn enter(self: &Arc<Self>) -> Result<Held, ApiError> {
        let permit = self.take(LEAST)?;
        Ok(Held { room: self.clone(), permit, spare: 0 })
    }

    fn take(&self, bytes: usize) -> Result<OwnedSemaphorePermit, ApiError> {
        let units = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX);
        self.free.clone().try_acquire_many_owned(units).map_err(|_| {
            self.shed.fetch_add(1, Ordering::Relaxed);
            ApiError::overloaded()
        })
    }
}

/// A connection's place; free when dropped.
#[derive(Debug)]
pub(super) struct Place {
    room: Arc<Room>,
    /// Whether its requests are answered.
    pub is_welcome: bool,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.room.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a request holds; free when dropped.
#[derive(Debug)]
pub(super) struct Held {
    room: Arc<Room>,
    permit: OwnedSemaphorePermit,
    /// Bytes of the last unit taken that are not used yet.
    spare: usize,
}

impl Held {
    /// Room for so many bytes more.
    ///
    /// # Errors
    /// Where there is none.
    pub fn grow(&mut self, bytes: usize) -> Result<(), ApiError> {
        let missing = bytes.saturating_sub(self.spare);
        if missing > 0 {
            self.permit.merge(self.room.take(missing)?);
        }
        self.spare = self.spare + missing.next_multiple_of(UNIT) - bytes;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_counted_and_given_back() {
        let room = Arc::new(Room::new(2, 200 << 10));
        let mut held = room.enter().expect("room");
        assert_eq!(room.occupancy().bytes, 64 << 10);
        for _ in 0..1000 {
            held.grow(100).expect("room");
        }
        // 100,000 bytes are 98 units.
        assert_eq!(room.occupancy().bytes, (64 + 98) << 10);
        assert!(held.grow(39 << 10).is_err() && room.enter().is_err());
        assert_eq!(room.occupancy().shed, 2);
        drop(held);
        assert_eq!(room.occupancy().bytes, 0);
    }

    #[test]
    fn one_more_than_the_most_is_told_and_the_next_is_not_even_that() {
        let room = Arc::new(Room::new(2, 1 << 20));
        let places: Vec<_> = (0..4).map(|_| room.connect()).collect();
        let welcome: Vec<_> = places.iter().map(|place| place.as_ref().map(|place| place.is_welcome)).collect();
        assert_eq!(welcome, [Some(true), Some(true), Some(false), None]);
        assert_eq!((room.occupancy().connections, room.occupancy().turned_away), (3, 2));
        drop(places);
        assert_eq!(room.occupancy().connections, 0);
    }
}
