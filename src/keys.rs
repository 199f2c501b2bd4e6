//! The keys of clients: made once, shown once, kept as hashes.
//!
//! Invariant: what is kept cannot be turned back into a key. A key is 32 random bytes,
//! so that a fast hash is as good as a slow one; hashes are compared in constant time.

use std::fmt;
use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

/// What every key begins with, so that one that leaks is known for what it is.
const PREFIX: &str = "pck_";
const ID_CHARS: usize = 12;

/// The file that `cascade keys` keeps.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyFile {
    /// Keys in the order in which they were made.
    pub keys: Vec<Key>,
}

/// One key, and what its holder may do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// Twelve hex digits, the key's second part; no secret.
    pub id: String,
    /// Whose it is.
    pub name: String,
    /// The BLAKE3 hash of the whole key, in hex.
    pub hash: Hash,
    /// Whether it opens nothing any more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_revoked: bool,
    /// The models that may be named; none: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub models: Option<Vec<String>>,
    /// Requests per minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_per_minute: Option<NonZeroU32>,
    /// Tokens per minute, of prompts and answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_per_minute: Option<NonZeroU32>,
    /// Dollars a calendar month (UTC).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dollars_per_month: Option<f64>,
    /// What it may say in headers besides.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub may: Vec<Override>,
}

/// What a holder may decide for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Override {
    /// `x-cascade-bypass: cache`.
    Bypass,
    /// `x-cascade-min-tier` and `x-cascade-max-tier`.
    Tiers,
}

/// A hash of a key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Hash(blake3::Hash);

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hash(..)")
    }
}

impl Serialize for Hash {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.0.to_hex().as_str().serialize(to)
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let hex = String::deserialize(from)?;
        blake3::Hash::from_hex(&hex).map(Self).map_err(serde::de::Error::custom)
    }
}

impl Hash {
    /// Of a key as a client sends it.
    #[must_use]
    pub fn of(key: &str) -> Self {
        Self(blake3::hash(key.as_bytes()))
    }
}

/// Why a file is no key file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotKeys {
    /// Not JSON, or not this shape.
    #[error("not a file of `cascade keys`: {0}")]
    Shape(String),
    /// Two keys have one id.
    #[error("two keys have the id {0}")]
    Twice(String),
    /// A bound that is no amount of money.
    #[error("the dollars_per_month of {0} are not above 0")]
    Dollars(String),
}

impl KeyFile {
    /// In the order of their names, for those that are kept in none.
    pub fn sort(&mut self) {
        self.keys.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
    }

    /// Reads a file and checks it.
    ///
    /// # Errors
    /// Where it is none.
    pub fn read(text: &str) -> Result<Self, NotKeys> {
        let read: Self = serde_json::from_str(text).map_err(|e| NotKeys::Shape(e.to_string()))?;
        for (at, key) in read.keys.iter().enumerate() {
            if read.keys[..at].iter().any(|other| other.id == key.id) {
                return Err(NotKeys::Twice(key.id.clone()));
            }
            if key.dollars_per_month.is_some_and(|dollars| !(dollars > 0.0 && dollars < 1e12)) {
                return Err(NotKeys::Dollars(key.name.clone()));
            }
        }
        Ok(read)
    }
}

impl Key {
    /// A key without bounds, made of random bytes, and its text, which is nowhere else.
    #[must_use]
    pub fn make(name: &str, random: &[u8; 38]) -> (Self, String) {
        let hex = |bytes: &[u8]| bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
        let (id, secret) = (hex(&random[..ID_CHARS / 2]), hex(&random[ID_CHARS / 2..]));
        let text = format!("{PREFIX}{id}_{secret}");
        let key = Self {
            id,
            name: name.to_owned(),
            hash: Hash::of(&text),
            is_revoked: false,
            models: None,
            requests_per_minute: None,
            tokens_per_minute: None,
            dollars_per_month: None,
            may: Vec::new(),
        };
        (key, text)
    }

    /// The id that a key's text names.
    #[must_use]
    pub fn id_in(text: &str) -> Option<&str> {
        let (id, _) = text.strip_prefix(PREFIX)?.split_once('_')?;
        (id.len() == ID_CHARS).then_some(id)
    }

    /// Whether the holder may name this model.
    #[must_use]
    pub fn may_name(&self, model: &str) -> bool {
        self.models.as_ref().is_none_or(|models| models.iter().any(|known| known == model))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_known_by_its_hash_alone() {
        let (key, text) = Key::make("alice", &[7; 38]);
        assert_eq!((Key::id_in(&text), key.id.as_str()), (Some("070707070707"), "070707070707"));
        assert!(key.hash == Hash::of(&text) && key.hash != Hash::of(&text[1..]));
        let written = serde_json::to_string(&KeyFile { keys: vec![key.clone()] }).expect("json");
        assert!(!written.contains(&text["pck_070707070707_".len()..]), "{written}");
        assert!(!format!("{key:?}").contains(&text[17..]), "{key:?}");
        assert_eq!(KeyFile::read(&written).expect("the same").keys, [key]);
        for odd in ["", "pck_", "pck_07_x", "sk-123", "pck_070707070707"] {
            assert_eq!(Key::id_in(odd), None, "{odd}");
        }
    }

    #[test]
    fn a_file_that_is_none_says_why() {
        let why = |text: &str| KeyFile::read(text).expect_err(text).to_string();
        assert!(why("[]").starts_with("not a file of `cascade keys`: "));
        let (key, _) = Key::make("a", &[7; 38]);
        let written = |keys: &[Key]| serde_json::to_string(&KeyFile { keys: keys.to_vec() }).expect("json");
        assert_eq!(why(&written(&[key.clone(), key.clone()])), "two keys have the id 070707070707");
        let free = Key { dollars_per_month: Some(0.0), ..key };
        assert_eq!(why(&written(&[free])), "the dollars_per_month of a are not above 0");
    }
}
