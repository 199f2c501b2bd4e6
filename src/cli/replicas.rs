//! Other replicas, as far as a gateway hears of them.

use std::sync::Arc;

use anyhow::Context;
use clap::Args;

use super::books::Elsewhere;
use crate::clock::SystemClock;
use crate::keys::{Key, KeyFile};
use crate::shared::{Shared, Version};
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
    version: Version,
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
        let Some(mut keys) = shared.keys().await else { return false };
        let lost = remembered(&mut keys, &self.elsewhere.keys);
        if !lost.is_empty() {
            let done = shared.put_keys(&lost).await.is_some();
            tracing::warn!(keys = lost.len(), done, "the shared state has forgotten keys; they are put back");
        }
        let has_changed = keys != self.elsewhere.keys;
        (self.version, self.elsewhere.keys) = (version, keys);
        has_changed
    }
}

/// Adds what is known of keys to what is there, and returns what was not there: nobody
/// takes a key away, and one that was revoked opens nothing any more.
fn remembered(there: &mut KeyFile, known: &KeyFile) -> Vec<Key> {
    let mut lost = Vec::new();
    for key in &known.keys {
        match there.keys.iter_mut().find(|other| other.id == key.id) {
            None => {
                there.keys.push(key.clone());
                lost.push(key.clone());
            }
            Some(other) if key.is_revoked && !other.is_revoked => {
                other.is_revoked = true;
                lost.push(other.clone());
            }
            Some(_) => {}
        }
    }
    there.sort();
    lost
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_has_forgotten_is_known_still() {
        let key = |name: &str, seed| Key::make(name, &[seed; 38]).0;
        let revoked = |key: &Key| Key { is_revoked: true, ..key.clone() };
        let (a, b, c) = (key("a", 1), key("b", 2), key("c", 3));
        let known = KeyFile { keys: vec![revoked(&a), b.clone()] };
        let mut there = KeyFile { keys: vec![a.clone(), c.clone()] };
        assert_eq!(remembered(&mut there, &known), [revoked(&a), b.clone()]);
        assert_eq!(there.keys, [revoked(&a), b, c]);
        assert!(remembered(&mut there.clone(), &there).is_empty());
    }
}
