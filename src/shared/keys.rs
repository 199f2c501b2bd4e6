//! Clients' keys that all replicas know: hashes, as in a file of `cascade keys`.

use redis::{AsyncCommands as _, RedisResult};

use super::{PATIENCE, Shared, Sum};
use crate::keys::{Key, KeyFile};

/// Keys as they are there, and a word that is another one where they were changed; none
/// where there never were any, or all were lost.
pub type Known = (KeyFile, Option<String>);

impl Shared {
    /// The word of the keys that are there. None where nobody can say.
    pub async fn keys_version(&self) -> Option<Option<String>> {
        let get = async { self.link()?.get(self.key("keys", "version")).await };
        self.ask(get).await
    }

    /// All keys, in the order of their names. None where nobody can say.
    pub async fn keys(&self) -> Option<Known> {
        let get = async {
            let mut both = redis::pipe();
            both.atomic().hvals(self.key("keys", "all")).get(self.key("keys", "version"));
            both.query_async(&mut self.link()?).await
        };
        let (each, version): (Vec<String>, Option<String>) = self.ask_within(PATIENCE, get).await?;
        let read = each.iter().filter_map(|text| match serde_json::from_str::<Key>(text) {
            Ok(key) => Some(key),
            Err(error) => {
                tracing::error!("a key of the shared state is none, and opens nothing: {error}");
                None
            }
        });
        let mut keys: Vec<Key> = read.collect();
        keys.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
        Some((KeyFile { keys }, version))
    }

    /// Puts a key there, in the place of that with its id.
    pub async fn put_key(&self, key: &Key) -> Option<()> {
        self.put(std::slice::from_ref(key), "HSET").await
    }

    /// Puts keys back that were lost; one that is there by now stays.
    pub async fn put_keys_back(&self, keys: &[Key]) -> Option<()> {
        self.put(keys, "HSETNX").await
    }

    async fn put(&self, keys: &[Key], how: &str) -> Option<()> {
        let put = async {
            let mut all = redis::pipe();
            all.atomic();
            for key in keys {
                let text = serde_json::to_string(key).unwrap_or_default();
                all.cmd(how).arg(self.key("keys", "all")).arg(&key.id).arg(text).ignore();
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
