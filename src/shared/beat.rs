//! What goes on beside the requests: connecting again, and telling what is to be told.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, RedisError, RedisResult};

use super::basket::Basket;
use super::purse::KEPT;
use super::{BOUND, PATIENCE, Shared, living};
use crate::clock::Clock as _;

/// How often others hear of this replica, at least.
const EVERY: Duration = Duration::from_millis(250);
/// How often at most: what ends within it is told together.
const APART: Duration = Duration::from_millis(5);

impl Shared {
    /// Connects for the first time. What does not work is tried again by
    /// [`Shared::keep_up`].
    ///
    /// # Errors
    /// Why it did not.
    pub async fn begin(&self) -> Result<(), String> {
        self.greet().await.map_err(|error| error.to_string())
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
                tracing::warn!("the shared state answers");
            }
            // Whatever comes of it: one that fails at each word is not asked for ever.
            self.clock.sleep(EVERY).await;
        }
    }

    /// A new connection, over which all that is needed works.
    pub(super) async fn greet(&self) -> RedisResult<()> {
        let config =
            AsyncConnectionConfig::new().set_connection_timeout(Some(PATIENCE)).set_response_timeout(Some(PATIENCE));
        let greeting = async {
            let mut link = self.client.get_multiplexed_async_connection_with_config(&config).await?;
            self.take.load_async(&mut link).await?;
            self.spend.load_async(&mut link).await?;
            // One that has no memory left, or is a copy of another, takes nothing.
            let mut set = redis::cmd("SET");
            set.arg(self.key("greeting", &self.replica)).arg("").arg("PX").arg(1000).exec_async(&mut link).await?;
            Ok::<_, RedisError>(link)
        };
        let late = || Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into());
        let mut link = self.clock.within(PATIENCE, greeting).await.unwrap_or_else(late)?;
        // One that is too far away for a request is out of reach.
        let ping = async { redis::cmd("PING").exec_async(&mut link).await };
        self.clock.within(BOUND, ping).await.unwrap_or_else(|| late().map(|_: MultiplexedConnection| ()))?;
        self.link.store(Some(Arc::new(link)));
        // It may have forgotten all.
        self.purse.tell_again();
        self.failures.store(0, Ordering::Relaxed);
        self.is_up.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Tells others of all that was not told with a request.
    pub(super) async fn tell(&self) {
        while let Some(word) = self.purse.word() {
            let told = async {
                let mut call = self.spend.prepare_invoke();
                call.arg(&self.replica).arg(KEPT);
                for (id, own, before) in &word.keys {
                    call.key(self.spent_key(&word.month, id)).arg(own.to_string()).arg(before.to_string());
                }
                call.invoke_async::<Vec<String>>(&mut self.link()?).await
            };
            let Some(sums) = self.ask_within(PATIENCE, told).await else { break };
            self.purse.heard(&word, &sums);
        }
        for bucket in living(&self.buckets).into_iter().filter(|bucket| bucket.owes()) {
            let _ = self.take(Basket::owed(&bucket)).await;
        }
        let crowds: Vec<_> =
            self.crowds.lock().map(|all| all.values().filter_map(Weak::upgrade).collect()).unwrap_or_default();
        for crowd in crowds {
            let Some(count) = crowd.news() else { continue };
            if self.take(Basket::count(&crowd, count)).await.is_some() {
                crowd.heard(count);
            }
        }
    }
}
