//! Short words between replicas, each for a while.

use std::time::Duration;

use redis::RedisResult;

use super::Shared;

/// A word of another replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hint {
    /// Unlike any other.
    pub word: String,
    /// How long it holds.
    pub left: Duration,
}

impl Shared {
    /// Says these for so long, and returns what others say under `names`. None where
    /// nobody can say.
    pub async fn exchange_hints(&self, told: &[(&str, Duration)], names: &[&str]) -> Option<Vec<Option<Hint>>> {
        if names.is_empty() {
            return Some(Vec::new());
        }
        let exchange = async {
            let mut pipe = redis::pipe();
            for (name, left) in told {
                let word = format!("{}:{:016x}", self.replica, fastrand::u64(..));
                let ms = u64::try_from(left.as_millis()).unwrap_or(u64::MAX).max(1);
                pipe.cmd("SET").arg(self.key("hint", name)).arg(word).arg("PX").arg(ms).ignore();
            }
            for name in names {
                let key = self.key("hint", name);
                pipe.cmd("GET").arg(&key).cmd("PTTL").arg(&key);
            }
            let said: RedisResult<Vec<redis::Value>> = pipe.query_async(&mut self.link()?).await;
            said
        };
        let said = self.ask(exchange).await?;
        let hint = |pair: &[redis::Value]| {
            let [word, left] = pair else { return None };
            let word: String = redis::from_redis_value_ref(word).ok()?;
            let left: u64 = redis::from_redis_value_ref(left).ok()?;
            (!word.starts_with(&self.replica)).then(|| Hint { word, left: Duration::from_millis(left) })
        };
        Some(said.chunks(2).map(hint).collect())
    }
}
