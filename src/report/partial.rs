//! What a replay of a part of a recording has added up, to be merged with others'.
//!
//! Invariant: numbers come back as they were, to the last bit.

use serde::{Deserialize, Serialize};

use super::Tally;
use crate::policy::Policy;

/// How these files begin; the last byte counts their forms.
const MAGIC: &[u8; 16] = b"cascade-partial\x01";

/// A part of a replay.
#[derive(Debug, Serialize, Deserialize)]
pub struct Partial {
    /// The digest of the policy it ran under.
    pub digest: String,
    /// Where labels came from.
    pub labels: String,
    /// Which shard it is of how many, the first being 1.
    pub shard: Option<(u32, u32)>,
    /// Lines that were broken, and passed over.
    pub broken: u64,
    /// The sums.
    pub tally: Tally,
}

/// Why parts make no whole.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoWhole {
    /// There is none.
    #[error("there is nothing to merge")]
    Nothing,
    /// It ran under something else.
    #[error("part {0} ran under the policy {1}, which is not the one given")]
    Policy(usize, String),
    /// Labels mean different things.
    #[error("part {0} has its labels from `{1}`, the first one from `{2}`")]
    Labels(usize, String, String),
    /// A shard is there twice, or is of another number of shards.
    #[error("part {0} is shard {1}/{2}, which is there twice or of another number of shards")]
    Shard(usize, u32, u32),
    /// Shards that are not there.
    #[error("these shards are missing: {0}")]
    Missing(String),
    /// Some are shards, and some are not.
    #[error("part {0} is no shard, others are")]
    Mixed(usize),
}

impl Partial {
    /// As bytes of a file.
    ///
    /// # Errors
    /// Where they cannot be made.
    pub fn bytes(&self) -> Result<Vec<u8>, postcard::Error> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(postcard::to_stdvec(self)?);
        Ok(bytes)
    }

    /// From bytes of a file; none where they are no part of this form.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Self> {
        postcard::from_bytes(bytes.strip_prefix(MAGIC)?).ok()
    }

    /// All parts as one.
    ///
    /// # Errors
    /// Where they make no whole.
    pub fn merged(policy: &Policy, parts: Vec<Self>) -> Result<Self, NoWhole> {
        let mut shards = std::collections::BTreeSet::new();
        let of = parts.first().ok_or(NoWhole::Nothing)?.shard.map(|(_, of)| of);
        let labels = parts[0].labels.clone();
        for (number, part) in (1..).zip(&parts) {
            if part.digest != policy.digest {
                return Err(NoWhole::Policy(number, part.digest.clone()));
            }
            if part.labels != labels {
                return Err(NoWhole::Labels(number, part.labels.clone(), labels));
            }
            match (part.shard, of) {
                (Some((shard, all)), Some(of)) if all == of && shards.insert(shard) => {}
                (Some((shard, all)), Some(_)) => return Err(NoWhole::Shard(number, shard, all)),
                (None, None) => {}
                _ => return Err(NoWhole::Mixed(number)),
            }
        }
        let missing: Vec<String> =
            (1..=of.unwrap_or(0)).filter(|shard| !shards.contains(shard)).map(|shard| shard.to_string()).collect();
        if !missing.is_empty() {
            return Err(NoWhole::Missing(missing.join(", ")));
        }
        let mut parts = parts.into_iter();
        let mut whole = parts.next().ok_or(NoWhole::Nothing)?;
        whole.shard = None;
        for part in parts {
            whole.broken += part.broken;
            whole.tally.merge(part.tally);
        }
        Ok(whole)
    }
}
