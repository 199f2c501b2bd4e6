//! Clients' keys that all replicas know: hashes, as in a file of `cascade keys`.

use redis::{AsyncCommands as _, RedisResult};

use super::{PATIENCE, Shared, Sum};
use crate::keys::{Key, KeyFile};

/// A word that is another one where keys were changed, and how many there are.
pub type Version = (Option<String>, u64);

impl Shared {
    /// What version of the keys is there. None where nobody can say.
    pub async fn keys_version(&self) -> Option<Version> {
        let get = async {
            let mut both = redis::pipe();
            both.get(self.key("keys", "version")).hlen(self.key("keys", "all"));
            both.query_async(&mut self.link()?).await
        };
        self.ask(get).await
    }

    /// All keys, in the order of their names. None where nobody can say.
    pub async fn keys(&self) -> Option<KeyFile> {
        let get = async { self.link()?.hvals(self.key("keys", "all")).await };
        let each: Vec<String> = self.ask_within(PATIENCE, get).await?;
        let read = each.iter().filter_map(|text| match serde_json::from_str::<Key>(text) {
            Ok(key) => Some(key),
            Err(error) => {
                tracing::error!("a key of the shared state is none, and opens nothing: {error}");
                None
            }
        });
        let mut file = KeyFile { keys: read.collect() };
        file.sort();
        Some(file)
    }

    /// Puts keys there, each in the place of that with its id.
    pub async fn put_keys(&self, keys: &[Key]) -> Option<()> {
        let put = async {
            let mut all = redis::pipe();
            all.atomic();
            for key in keys {
                let text = serde_json::to_string(key).unwrap_or_default();
                all.hset(self.key("keys", "all"), &key.id, text).ignore();
            }
            all.set(self.key("keys", "version"), format!("{:016x}", fastrand::u64(..))).ignore();
            let done: RedisResult<()> = all.query_async(&mut self.link()?).await;
            done
        };
        self.ask_within(PATIENCE, put).await
    }

    /// What was spent in a month with each of these keys.
    pub async fn spent(&self, month: &str, ids: &[&str]) -> Option<Vec<Sum>> {
        let get = async {
            let mut each = redis::pipe();
            ids.iter().for_each(|id| _ = each.hget(self.spent_key(month, id), "="));
            let sums: RedisResult<Vec<Option<String>>> = each.query_async(&mut self.link()?).await;
            sums
        };
        let sums = if ids.is_empty() { Vec::new() } else { self.ask_within(PATIENCE, get).await? };
        Some(sums.into_iter().map(|sum| Sum::read(&sum.unwrap_or_default())).collect())
    }
}
