//! What a replay of a part of a recording has added up, to be merged with others'.
//!
//! Invariant: numbers come back as they were, to the last bit.

use serde::{Deserialize, Serialize};

use super::Tally;
use crate::policy::Policy;

/// How these files begin; the last byte counts their forms.
const MAGIC: &[u8; 16] = b"cascade-partial\x01";

/// The most shards of a replay.
pub const MOST_SHARDS: u32 = 65_536;

/// A part of a replay.
#[derive(Debug, Serialize, Deserialize)]
pub struct Partial {
    /// The digest of the policy it ran under.
    pub digest: String,
    /// Where labels came from.
    pub labels: String,
    /// Which shard it is of how many, the first being 1.
    pub shard: Option<(u32, u32)>,
    /// A hash of the names of all exchanges that were read, other shards' too.
    pub content: [u8; 32],
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
    /// It is a shard of something else.
    #[error("part {0} is a shard of another recording than the first one, or of another state of it")]
    Content(usize),
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
        let body = postcard::to_stdvec(self)?;
        Ok([&MAGIC[..], blake3::hash(&body).as_bytes(), &body].concat())
    }

    /// From bytes of a file; none where they are no part of this form, or damaged.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let (hash, body) = bytes.strip_prefix(MAGIC)?.split_first_chunk::<32>()?;
        (blake3::hash(body) == *hash).then(|| postcard::from_bytes(body).ok())?
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
                (Some(_), Some(_)) if (part.content, part.broken) != (parts[0].content, parts[0].broken) => {
                    return Err(NoWhole::Content(number));
                }
                (Some((shard, all)), Some(of)) if all == of && (1..=of).contains(&shard) && shards.insert(shard) => {}
                (Some((shard, all)), Some(_)) => return Err(NoWhole::Shard(number, shard, all)),
                (None, None) => {}
                _ => return Err(NoWhole::Mixed(number)),
            }
        }
        let missing = (1..=of.unwrap_or(0).min(MOST_SHARDS)).filter(|shard| !shards.contains(shard));
        let missing: Vec<String> = missing.take(10).map(|shard| shard.to_string()).collect();
        if !missing.is_empty() {
            return Err(NoWhole::Missing(missing.join(", ")));
        }
        let mut parts = parts.into_iter();
        let mut whole = parts.next().ok_or(NoWhole::Nothing)?;
        whole.shard = None;
        for part in parts {
            // Every shard has read every line.
            whole.broken += if of.is_none() { part.broken } else { 0 };
            whole.tally.merge(part.tally);
        }
        Ok(whole)
    }
}
