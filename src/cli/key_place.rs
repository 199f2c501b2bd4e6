//! Where clients' keys are: in a file, or where replicas share them.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, anyhow};
use tokio::runtime::Runtime;

use super::keys::{spent_beside, write};
use super::replicas::SharedAt;
use crate::clock::{Clock as _, SystemClock};
use crate::gateway::{AllSpent, Spent};
use crate::keys::{Key, KeyFile};
use crate::shared::{Shared, Sum};

/// A place of keys.
pub(super) enum Place {
    /// A file, and that of what was spent beside it.
    File(PathBuf),
    /// The state that replicas share.
    Shared(Arc<Shared>, Runtime),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Shared(..) => f.write_str("the shared state"),
        }
    }
}

impl Place {
    /// That of replicas; none where no address is given.
    ///
    /// # Errors
    /// Where it cannot be reached.
    pub fn shared(at: &SharedAt) -> anyhow::Result<Option<Self>> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let entered = runtime.enter();
        let Some(shared) = at.open(SystemClock::start())? else { return Ok(None) };
        drop(entered);
        runtime.block_on(shared.begin()).map_err(|why| anyhow!("the shared state is out of reach: {why}"))?;
        Ok(Some(Self::Shared(shared, runtime)))
    }

    /// All keys; none where there is no file yet.
    ///
    /// # Errors
    /// Where they cannot be read.
    pub fn keys(&self) -> anyhow::Result<KeyFile> {
        match self {
            Self::File(path) => {
                let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {self}"))?;
                KeyFile::read(&text).with_context(|| self.to_string())
            }
            Self::Shared(shared, runtime) => {
                runtime.block_on(shared.keys()).context("the shared state does not answer")
            }
        }
    }

    /// Puts a key there, in the place of that with its id.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn put(&self, key: Key) -> anyhow::Result<()> {
        match self {
            Self::File(path) => {
                let mut file = if path.exists() { self.keys()? } else { KeyFile::default() };
                match file.keys.iter_mut().find(|known| known.id == key.id) {
                    Some(known) => *known = key,
                    None => file.keys.push(key),
                }
                write(path, &serde_json::to_string_pretty(&file)?)
            }
            Self::Shared(shared, runtime) => runtime
                .block_on(shared.put_keys(std::slice::from_ref(&key)))
                .context("the shared state does not answer"),
        }
    }

    /// What was spent with these keys.
    ///
    /// # Errors
    /// Where that cannot be read.
    pub fn spent(&self, keys: &KeyFile) -> anyhow::Result<AllSpent> {
        match self {
            Self::File(path) => match std::fs::read_to_string(spent_beside(path)) {
                Ok(text) => serde_json::from_str(&text).context("what was spent cannot be read"),
                Err(_) => Ok(AllSpent::new()),
            },
            Self::Shared(shared, runtime) => {
                let month = SystemClock::start().month();
                let ids: Vec<&str> = keys.keys.iter().map(|key| key.id.as_str()).collect();
                let sums = runtime.block_on(shared.spent(&month, &ids)).context("the shared state does not answer")?;
                let of = |(id, sum): (&&str, Sum)| ((*id).to_owned(), Spent::of(&month, sum));
                Ok(ids.iter().zip(sums).filter(|(_, sum)| *sum != Sum::default()).map(of).collect())
            }
        }
    }
}
