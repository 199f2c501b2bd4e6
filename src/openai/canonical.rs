//! One hash for all spellings of the same JSON: key order, white space and
//! string escapes do not matter, numbers are compared as written.
//!
//! Invariant: two values with the same hash mean the same to an upstream.
//! Numbers are never parsed, since a seed above 2^53 would lose digits.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use blake3::Hasher;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// How deep values are taken apart; below that they count as written, so that
/// a hostile nesting cannot exhaust the stack.
const MAX_DEPTH: usize = 64;

/// The members of one JSON object in order of name. A name given twice is
/// there twice: upstreams differ in which of the two they believe.
#[derive(Debug)]
pub(super) struct Members<'a>(pub(super) Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct InOrder<'a>(PhantomData<&'a ()>);
        impl<'de: 'a, 'a> Visitor<'de> for InOrder<'a> {
            type Value = Members<'a>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'a>, A::Error> {
                let mut members = Vec::new();
                while let Some((Text(name), value)) = map.next_entry::<Text<'a>, &'a RawValue>()? {
                    members.push((name, value));
                }
                members.sort_by(|(a, _), (b, _)| a.cmp(b));
                Ok(Members(members))
            }
        }
        from.deserialize_map(InOrder(PhantomData))
    }
}

/// Feeds one value, as it is written, to `hasher`.
pub fn feed(hasher: &mut Hasher, value: &str) {
    feed_at(hasher, value, 0);
}

fn feed_at(hasher: &mut Hasher, text: &str, depth: usize) {
    let taken_apart = depth < MAX_DEPTH
        && match text.as_bytes().first() {
            Some(b'{') => serde_json::from_str::<Members<'_>>(text)
                .map(|members| feed_object(hasher, members.0.iter(), depth))
                .is_ok(),
            Some(b'[') => serde_json::from_str::<Vec<&RawValue>>(text)
                .map(|items| {
                    hasher.update(b"[");
                    items.iter().for_each(|item| feed_at(hasher, item.get(), depth + 1));
                    hasher.update(b"]");
                })
                .is_ok(),
            Some(b'"') => serde_json::from_str::<Text<'_>>(text).map(|Text(text)| feed_text(hasher, &text)).is_ok(),
            _ => false,
        };
    if !taken_apart {
        hasher.update(b"#");
        feed_text(hasher, text);
    }
}

/// A string that borrows where it holds no escapes; a bare `Cow` never does.
#[derive(serde::Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

fn feed_object<'a>(hasher: &mut Hasher, members: impl Iterator<Item = &'a (Cow<'a, str>, &'a RawValue)>, depth: usize) {
    hasher.update(b"{");
    for (name, value) in members {
        feed_text(hasher, name);
        feed_at(hasher, value.get(), depth + 1);
    }
    hasher.update(b"}");
}

/// Feeds a name and its value, as one member of an object.
pub fn feed_member(hasher: &mut Hasher, name: &str, value: &str) {
    feed_text(hasher, name);
    feed_at(hasher, value, 1);
}

/// The length goes first, so that no text can pass for two.
fn feed_text(hasher: &mut Hasher, text: &str) {
    hasher.update(b"\"");
    hasher.update(&(text.len() as u64).to_le_bytes());
    hasher.update(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(text: &str) -> blake3::Hash {
        let mut hasher = Hasher::new();
        feed(&mut hasher, text);
        hasher.finalize()
    }

    #[test]
    fn spelling_does_not_matter() {
        assert_eq!(hash(r#"{"a":"é","b":[1, 2]}"#), hash(r#"{ "b": [1,2], "a": "\u00e9" }"#));
    }

    #[test]
    fn meaning_does() {
        for (one, other) in [
            ("18446744073709551617", "18446744073709551618"),
            ("1", "1.0"),
            (r#"["ab"]"#, r#"["a","b"]"#),
            (r#""1""#, "1"),
            (r#"{"a":1}"#, r#"{"a":2}"#),
            (r#"{"a":1,"a":2}"#, r#"{"a":2}"#),
            (r#"{"a":1,"a":2}"#, r#"{"a":2,"a":1}"#),
        ] {
            assert_ne!(hash(one), hash(other), "{one} and {other}");
        }
    }

    #[test]
    fn deep_nesting_is_hashed_without_deep_recursion() {
        let deep = format!("{}1{}", "[".repeat(100), "]".repeat(100));
        assert_ne!(hash(&deep), hash("[1]"));
    }
}
