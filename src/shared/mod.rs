//! What several replicas share through Redis or Valkey: rates, prompts in flight, money,
//! keys, answers, and which upstreams fail.
//!
//! Invariant: it is asked beside this replica's own state, never in its stead: nothing
//! waits for it longer than [`BOUND`], and while it cannot be reached each replica goes on
//! by what it knows itself.

mod answers;
mod basket;
mod beat;
mod crowd;
mod hints;
mod keys;
mod purse;
mod quota;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::{Client, IntoConnectionInfo as _, RedisError, RedisResult, Script};
use tokio::sync::{Notify, Semaphore};

use crate::clock::{Clock as _, SystemClock};
use crate::policy::RateRule;

pub use answers::Kept;
pub use basket::{Basket, Short, Taken};
pub use crowd::{Crowd, Seat};
pub use hints::Hint;
pub use keys::Version;
pub use purse::{Purse, Sum};
use quota::Bucket;
pub use quota::{Drawn, Quota};

/// The longest that a request waits for the shared state.
pub const BOUND: Duration = Duration::from_millis(50);
/// For how long it is believed what a replica had in flight.
const LEASE: Duration = Duration::from_secs(10);
/// So often in a row it may not fail.
const TOO_OFTEN: u32 = 3;
/// Answers that may be on their way there at the same time.
const BESIDE: usize = 64;
/// The longest that a new connection may take, and whatever no request waits for.
const PATIENCE: Duration = Duration::from_secs(2);

/// The state that replicas share.
pub struct Shared {
    client: Client,
    /// The connection in use; another takes its place where it fails.
    link: ArcSwapOption<MultiplexedConnection>,
    clock: SystemClock,
    /// What all keys begin with.
    name: String,
    /// This replica, unlike any other.
    replica: String,
    is_up: AtomicBool,
    /// Times in a row that it did not answer in time, or not as it should.
    failures: AtomicU32,
    take: Script,
    spend: Script,
    buckets: Mutex<Vec<Weak<Bucket>>>,
    crowds: Mutex<HashMap<String, Weak<Crowd>>>,
    /// What was spent with keys.
    pub purse: Purse,
    beside: Arc<Semaphore>,
    /// Something is to be told.
    news: Notify,
    counts: Counts,
}

/// How often the shared state was asked, and with what success.
#[derive(Debug, Default)]
pub struct Counts {
    /// Answered in time.
    pub answered: AtomicU64,
    /// Not answered, or too late.
    pub failed: AtomicU64,
    /// Not asked, since it could not be reached a moment ago.
    pub skipped: AtomicU64,
    /// Answers of tiers that another replica, or this one before, had remembered.
    pub hits: AtomicU64,
    /// Answers that were looked for in vain.
    pub misses: AtomicU64,
}

/// Why an address cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the address of a Redis or Valkey, such as redis://:password@host:6379/0: {0}")]
pub struct NotAnAddress(String);

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The link knows a password.
        f.debug_struct("Shared").field("name", &self.name).field("is_up", &self.is_up).finish_non_exhaustive()
    }
}

impl Shared {
    /// The state at `address`, of all replicas that give the same `name`; it is not
    /// connected to yet. Needs a tokio runtime.
    ///
    /// # Errors
    /// Where the address is none.
    pub fn at(address: &str, name: &str, clock: SystemClock) -> Result<Arc<Self>, NotAnAddress> {
        // Fails only where a provider is installed already, which serves as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let no_address = |error: RedisError| NotAnAddress(error.to_string());
        // What waits for an answer to its words waits for nothing else.
        let settings = TcpSettings::default().set_nodelay(true);
        let info = address.into_connection_info().map_err(no_address)?.set_tcp_settings(settings);
        let client = Client::open(info).map_err(no_address)?;
        let replica = format!("{:016x}", fastrand::u64(..));
        Ok(Arc::new(Self {
            client,
            link: ArcSwapOption::empty(),
            clock,
            name: name.to_owned(),
            replica,
            is_up: AtomicBool::new(false),
            failures: AtomicU32::new(0),
            take: Script::new(include_str!("take.lua")),
            spend: Script::new(include_str!("spend.lua")),
            buckets: Mutex::default(),
            crowds: Mutex::default(),
            purse: Purse::default(),
            beside: Arc::new(Semaphore::new(BESIDE)),
            news: Notify::new(),
            counts: Counts::default(),
        }))
    }

    /// Tells others what is left to tell over a connection of its own, within this time;
    /// whether all of it was heard.
    pub async fn end(&self, within: Duration) -> bool {
        if self.is_up() {
            let telling = async {
                if self.greet().await.is_ok() {
                    self.tell().await;
                }
            };
            self.clock.within(within, telling).await;
        }
        !self.purse.owes()
    }

    /// Whether it answered a moment ago.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.is_up.load(Ordering::Relaxed)
    }

    /// How often it was asked.
    #[must_use]
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    fn key(&self, of: &str, name: &str) -> String {
        format!("{}:{of}:{name}", self.name)
    }

    fn spent_key(&self, month: &str, id: &str) -> String {
        self.key("spent", &format!("{month}:{id}"))
    }

    fn bucket(&self, name: &str, rule: RateRule) -> Arc<Bucket> {
        let bucket = Arc::new(Bucket::new(self.key("rate", name), rule));
        remember(&self.buckets, &bucket);
        bucket
    }

    /// Prompts in flight of this name: those that are, whatever the bound was before.
    #[must_use]
    pub fn crowd(self: &Arc<Self>, name: &str) -> Arc<Crowd> {
        let mut crowds = self.crowds.lock().unwrap_or_else(PoisonError::into_inner);
        crowds.retain(|_, crowd| crowd.strong_count() > 0);
        if let Some(known) = crowds.get(name).and_then(Weak::upgrade) {
            return known;
        }
        let crowd = Arc::new(Crowd::new(self.key("flight", name), self.clone()));
        crowds.insert(name.to_owned(), Arc::downgrade(&crowd));
        crowd
    }

    /// Notes what was spent with a key, which others hear of at once; see [`Purse::spend`].
    pub fn spend(&self, month: &str, id: &str, before: Sum, more: Sum) {
        self.purse.spend(month, id, before, more);
        self.news.notify_one();
    }

    /// The connection in use.
    fn link(&self) -> RedisResult<MultiplexedConnection> {
        let link = self.link.load_full();
        link.map(|link| (*link).clone()).ok_or_else(|| std::io::Error::from(std::io::ErrorKind::NotConnected).into())
    }

    /// Does something with it that a request waits for. None where that failed: it is left
    /// alone until it answers again where its connection is gone, or it fails for good.
    async fn ask<T>(&self, asking: impl Future<Output = RedisResult<T>> + Send) -> Option<T> {
        self.ask_within(BOUND, asking).await
    }

    /// The same where nobody waits.
    async fn ask_within<T>(&self, bound: Duration, asking: impl Future<Output = RedisResult<T>> + Send) -> Option<T> {
        if !self.is_up() {
            self.counts.skipped.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        let (why, is_gone) = match self.clock.within(bound, asking).await {
            Some(Ok(said)) => {
                self.counts.answered.fetch_add(1, Ordering::Relaxed);
                if bound == BOUND {
                    self.failures.store(0, Ordering::Relaxed);
                }
                return Some(said);
            }
            Some(Err(error)) => (error.to_string(), error.is_connection_dropped()),
            // This replica may be slow itself, for once.
            None => (format!("no answer in {} ms", bound.as_millis()), false),
        };
        self.counts.failed.fetch_add(1, Ordering::Relaxed);
        let failures = self.failures.fetch_add(1, Ordering::Relaxed) + 1;
        if (is_gone || failures >= TOO_OFTEN) && self.is_up.swap(false, Ordering::Relaxed) {
            tracing::error!(why, "the shared state is out of reach: this replica goes on by what it knows itself");
        }
        None
    }
}

fn remember<T>(all: &Mutex<Vec<Weak<T>>>, one: &Arc<T>) {
    let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
    all.retain(|other| other.strong_count() > 0);
    all.push(Arc::downgrade(one));
}

/// Those that are still used.
fn living<T>(all: &Mutex<Vec<Weak<T>>>) -> Vec<Arc<T>> {
    all.lock().unwrap_or_else(PoisonError::into_inner).iter().filter_map(Weak::upgrade).collect()
}
