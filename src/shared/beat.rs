//! What goes on beside the requests: connecting again, and telling what is to be told.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use redis::RedisResult;

use super::purse::KEPT;
use super::{Basket, CONNECT, Shared, living};
use crate::clock::Clock as _;

/// How often others hear of this replica, at least.
const EVERY: Duration = Duration::from_millis(250);
/// How often at most: what ends within it is told together.
const APART: Duration = Duration::from_millis(5);

impl Shared {
    /// Connects for the first time; whether that worked. What does not is tried again by
    /// [`Shared::keep_up`].
    pub async fn begin(&self) -> bool {
        let is_there = self.greet().await.is_ok();
        self.is_up.store(is_there, Ordering::Relaxed);
        is_there
    }

    /// Tells what is to be told, and connects again, for good.
    pub async fn keep_up(self: Arc<Self>) {
        loop {
            self.clock.within(EVERY, self.news.notified()).await;
            if self.is_up() {
                self.tell().await;
                self.clock.sleep(APART).await;
                continue;
            }
            if self.greet().await.is_ok() {
                self.purse.tell_again();
                self.late.store(0, Ordering::Relaxed);
                self.is_up.store(true, Ordering::Relaxed);
                tracing::warn!("the shared state answers");
            } else {
                self.clock.sleep(EVERY).await;
            }
        }
    }

    async fn greet(&self) -> RedisResult<()> {
        let mut link = self.link.clone();
        let greeting = async {
            // Whoever may not run scripts is found out here.
            self.take.load_async(&mut link).await?;
            self.spend.load_async(&mut link).await
        };
        match self.clock.within(CONNECT, greeting).await {
            Some(said) => said.map(|_| ()),
            None => Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()),
        }
    }

    /// Tells others of all that was not told with a request.
    pub async fn tell(&self) {
        for bucket in living(&self.buckets).into_iter().filter(|bucket| bucket.owes()) {
            let _ = self.take(Basket::owed(&bucket)).await;
        }
        for crowd in living(&self.crowds) {
            let Some(count) = crowd.news() else { continue };
            let _ = self.take(Basket::count(&crowd, count)).await;
        }
        while let Some(word) = self.purse.word() {
            let told = async {
                let mut call = self.spend.prepare_invoke();
                call.arg(&self.replica).arg(KEPT);
                for (id, own, before) in &word.keys {
                    call.key(self.spent_key(&word.month, id)).arg(own.to_string()).arg(before.to_string());
                }
                call.invoke_async::<Vec<String>>(&mut self.link.clone()).await
            };
            let Some(sums) = self.ask(told).await else { return };
            self.purse.heard(&word, &sums);
        }
    }
}
