//! Clients' keys that all replicas know: hashes, as in a file of `cascade keys`.

use redis::{AsyncCommands as _, RedisResult};

use super::{Shared, Sum};
use crate::keys::{Key, KeyFile};

impl Shared {
    /// How often keys were changed; another number means other keys.
    pub async fn keys_version(&self) -> Option<u64> {
        let get = async { self.link.clone().get(self.key("keys", "version")).await };
        let version: Option<u64> = self.ask(get).await?;
        Some(version.unwrap_or(0))
    }

    /// All keys, in the order of their names. None where nobody can say.
    pub async fn keys(&self) -> Option<KeyFile> {
        let get = async { self.link.clone().hvals(self.key("keys", "all")).await };
        let each: Vec<String> = self.ask(get).await?;
        let read = each.iter().filter_map(|text| match serde_json::from_str::<Key>(text) {
            Ok(key) => Some(key),
            Err(error) => {
                tracing::error!("a key of the shared state is none, and opens nothing: {error}");
                None
            }
        });
        let mut keys: Vec<Key> = read.collect();
        keys.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
        Some(KeyFile { keys })
    }

    /// What was spent in a month with each of these keys.
    pub async fn spent(&self, month: &str, ids: &[&str]) -> Option<Vec<Sum>> {
        let get = async {
            let mut each = redis::pipe();
            ids.iter().for_each(|id| _ = each.hget(self.spent_key(month, id), "="));
            let sums: RedisResult<Vec<Option<String>>> = each.query_async(&mut self.link.clone()).await;
            sums
        };
        let sums = if ids.is_empty() { Vec::new() } else { self.ask(get).await? };
        Some(sums.into_iter().map(|sum| Sum::read(&sum.unwrap_or_default())).collect())
    }

    /// Puts a key there, in the place of that with its id.
    pub async fn put_key(&self, key: &Key) -> Option<()> {
        let put = async {
            let text = serde_json::to_string(key).unwrap_or_default();
            let mut both = redis::pipe();
            both.atomic().hset(self.key("keys", "all"), &key.id, text).ignore();
            both.incr(self.key("keys", "version"), 1).ignore();
            let done: RedisResult<()> = both.query_async(&mut self.link.clone()).await;
            done
        };
        self.ask(put).await
    }
}
