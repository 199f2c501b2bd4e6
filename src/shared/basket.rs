//! What one request takes from the shared state: all of it or nothing, in one round trip.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use redis::RedisResult;

use super::crowd::{Count, Crowd, Seat};
use super::quota::{Bucket, Quota, Want};
use super::{LEASE, Shared, Sum};
use crate::clock::Clock;

/// Who refused, for how many microseconds, what is left of each rate, what was spent.
type Said = (i64, u64, Vec<u32>, String);

/// What was asked for is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Short {
    /// Of the rate at this place, for this long.
    Rate(usize, Duration),
    /// A place for one more in flight.
    Places,
}

impl Short {
    /// When it may be there.
    #[must_use]
    pub fn wait(self) -> Duration {
        if let Self::Rate(_, wait) = self { wait } else { Duration::ZERO }
    }
}

/// What was taken from the shared state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// What is left of each rate.
    pub left: Vec<u32>,
    /// What was spent with the key, where that was asked.
    pub spent: Option<Sum>,
}

/// What is to be taken, all or nothing.
#[derive(Debug, Default)]
pub struct Basket<'a> {
    wants: Vec<Want>,
    /// With so many of this replica.
    crowd: Option<(&'a Crowd, Count)>,
    /// The most that may be in flight.
    bound: u32,
    /// A month, and the id of a key.
    money: Option<(&'a str, &'a str)>,
}

impl Shared {
    /// Takes what is in the basket, in one round trip. None where nobody can say.
    ///
    /// # Errors
    /// What is not there; nothing was taken then.
    pub async fn take(&self, basket: Basket<'_>) -> Option<Result<Taken, Short>> {
        if basket.wants.is_empty() && basket.crowd.is_none() && basket.money.is_none() {
            return Some(Ok(Taken::default()));
        }
        let owed: Vec<i64> = basket.wants.iter().map(|want| want.bucket.settle()).collect();
        let Some(said) = self.ask(self.run_take(&basket, &owed)).await else {
            // It may have been heard: better told twice that more was used than that less was.
            basket.wants.iter().zip(owed).for_each(|(want, owed)| want.bucket.owe(owed.max(0)));
            return None;
        };
        let (refused, wait, left, spent): Said = said;
        Some(match usize::try_from(refused) {
            Ok(0) => Ok(Taken { left, spent: basket.money.map(|_| Sum::read(&spent)) }),
            Ok(rate) => Err(Short::Rate(rate - 1, Duration::from_micros(wait))),
            Err(_) => Err(Short::Places),
        })
    }

    async fn run_take(&self, basket: &Basket<'_>, owed: &[i64]) -> RedisResult<Said> {
        let Basket { wants, crowd, bound, money } = basket;
        let mut call = self.take.prepare_invoke();
        call.arg(wants.len()).arg(u8::from(crowd.is_some())).arg(u8::from(money.is_some()));
        for (Want { bucket, amount, alone }, owed) in wants.iter().zip(owed) {
            call.key(&bucket.key);
            call.arg(micros(bucket.rule.period())).arg(bucket.rule.burst.get());
            call.arg(*amount).arg(*owed).arg(micros(*alone));
        }
        if let Some((crowd, Count { here, number })) = crowd {
            call.key(&crowd.key)
                .arg(bound)
                .arg(&self.replica)
                .arg(*here)
                .arg(*number)
                .arg(LEASE.as_micros().to_string());
        }
        if let Some((month, id)) = money {
            call.key(self.spent_key(month, id));
        }
        call.invoke_async(&mut self.link()?).await
    }
}

impl<'a> Basket<'a> {
    /// What a rate is owed, and nothing more.
    pub(super) fn owed(bucket: &Arc<Bucket>) -> Self {
        let want = Want { bucket: bucket.clone(), amount: 0, alone: Duration::ZERO };
        Self { wants: vec![want], ..Self::default() }
    }

    /// How many are in flight, and nothing more.
    pub(super) fn count(crowd: &'a Crowd, count: Count) -> Self {
        Self { crowd: Some((crowd, count)), bound: u32::MAX, ..Self::default() }
    }

    /// With so much of a rate, which was taken from this replica's own.
    pub fn rate<C: Clock>(&mut self, quota: &Quota<C>, amount: NonZeroU32) {
        self.wants.extend(quota.want(amount));
    }

    /// With this seat, of as many as there may be.
    pub fn seat(&mut self, seat: &'a Seat, bound: NonZeroU32) {
        (self.crowd, self.bound) = (Some((&*seat.crowd, seat.count)), bound.get());
    }

    /// With what was spent with a key in a month.
    pub fn money(&mut self, month: &'a str, id: &'a str) {
        self.money = Some((month, id));
    }
}

/// With a fraction: a minute has more than 2^32 parts.
fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
