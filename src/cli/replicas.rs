//! Other replicas, as far as a gateway hears of them.

use std::sync::Arc;

use anyhow::Context;
use clap::Args;

use super::books::Elsewhere;
use crate::clock::SystemClock;
use crate::shared::Shared;
use crate::upstream::{Hints, NamedBreaker};

/// Where replicas share what they know.
#[derive(Debug, Args)]
pub(super) struct SharedAt {
    /// Share limits, keys, what was spent, answers and failures with other replicas
    /// through this Redis or Valkey, such as `redis://:password@host:6379/0`; `rediss://`
    /// for TLS
    #[arg(long, env = "CASCADE_REDIS", hide_env_values = true, value_name = "URL")]
    redis: Option<String>,
    /// Share with those replicas only that give the same name
    #[arg(long, default_value = "cascade", value_name = "NAME", requires = "redis")]
    redis_name: String,
}

impl SharedAt {
    /// What is shared, where anything is.
    ///
    /// # Errors
    /// Where the address is none.
    pub fn open(&self, clock: SystemClock) -> anyhow::Result<Option<Arc<Shared>>> {
        let Some(address) = &self.redis else { return Ok(None) };
        Ok(Some(Shared::at(address, &self.redis_name, clock).context("--redis")?))
    }
}

/// What other replicas know.
#[derive(Default)]
pub(super) struct Replicas {
    pub elsewhere: Elsewhere,
    /// The word of the keys that are there.
    version: Option<String>,
    hints: Hints,
}

impl Replicas {
    /// Those that share this.
    pub async fn join(shared: Option<Arc<Shared>>, clock: SystemClock) -> Self {
        let mut joined = Self { elsewhere: Elsewhere { shared, ..Elsewhere::default() }, ..Self::default() };
        if let Some(shared) = &joined.elsewhere.shared
            && let Err(why) = shared.begin().await
        {
            tracing::error!(why, "the shared state is out of reach: this replica goes on by what it knows itself");
        }
        joined.look(&[], clock).await;
        joined
    }

    /// Hears of upstreams that fail elsewhere, and of keys: whether there are others now.
    pub async fn look(&mut self, breakers: &[NamedBreaker], clock: SystemClock) -> bool {
        let Some(shared) = self.elsewhere.shared.clone().filter(|shared| shared.is_up()) else { return false };
        self.hints.exchange(&shared, breakers, &clock).await;
        let Some(version) = shared.keys_version().await.filter(|version| self.version != *version) else {
            return false;
        };
        if version.is_none() {
            // They were there, and were lost with all that was: nobody takes keys away so.
            let done = shared.put_keys_back(&self.elsewhere.keys.keys).await;
            tracing::warn!(is_done = done.is_some(), "the shared state has lost its keys; they are put back");
            return false;
        }
        let Some((keys, version)) = shared.keys().await else { return false };
        let has_changed = keys != self.elsewhere.keys;
        (self.version, self.elsewhere.keys) = (version, keys);
        has_changed
    }
}
