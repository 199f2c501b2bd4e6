//! What is left out of texts that are written down.
//!
//! Invariant: a text that holds nothing of it stays byte for byte as it was.

use std::borrow::Cow;

use regex::Regex;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::openai::envelope::{SECRET_PREFIXES, secrets_in};

/// What stands for what was left out.
const LEFT_OUT: &str = "[redacted]";
/// Shorter secrets are none, in bytes.
const SHORTEST: usize = 8;

/// What is left out: secrets that are known, what looks like one, and what a policy names.
#[derive(Clone, Debug, Default)]
pub struct Redaction {
    /// Our own keys.
    pub secrets: Vec<String>,
    /// What a policy names.
    pub patterns: Vec<Regex>,
}

impl Redaction {
    /// A JSON text without it; none where it is no JSON.
    #[must_use]
    pub fn clean(&self, json: &[u8]) -> Option<Box<RawValue>> {
        if self.is_clean(json) {
            return RawValue::from_string(on_one_line(json)?).ok();
        }
        let mut value: Value = serde_json::from_slice(json).ok()?;
        let text = if self.clean_value(&mut value) { value.to_string() } else { on_one_line(json)? };
        RawValue::from_string(text).ok()
    }

    /// Whether it is seen at a glance that nothing is to be left out; most often it is.
    fn is_clean(&self, json: &[u8]) -> bool {
        let has = |part: &str| memchr::memmem::find(json, part.as_bytes()).is_some();
        let is_spelt_so = |secret: &String| !secret.contains(['"', '\\']);
        // Escapes may spell anything.
        self.patterns.is_empty()
            && !has("\\u")
            && !has("\\/")
            && self.secrets.iter().all(is_spelt_so)
            && !self.secrets.iter().any(|secret| has(secret))
            && !SECRET_PREFIXES.iter().any(|prefix| has(prefix))
    }

    /// Cleans every text in a value, names of members too; whether anything was.
    pub fn clean_value(&self, value: &mut Value) -> bool {
        match value {
            Value::String(text) => {
                let Cow::Owned(clean) = self.clean_text(text) else { return false };
                *text = clean;
                true
            }
            Value::Array(items) => items.iter_mut().fold(false, |any, item| self.clean_value(item) | any),
            Value::Object(members) => {
                let mut any = members.values_mut().fold(false, |any, member| self.clean_value(member) | any);
                let named: Vec<String> =
                    members.keys().filter(|name| matches!(self.clean_text(name), Cow::Owned(_))).cloned().collect();
                for name in named {
                    let (clean, member) = (self.clean_text(&name).into_owned(), members.remove(&name));
                    members.insert(clean, member.unwrap_or_default());
                    any = true;
                }
                any
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => false,
        }
    }

    /// A text without it.
    #[must_use]
    pub fn clean_text<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut clean = Cow::Borrowed(text);
        // A dummy, `none` for one, is a word like any other.
        for secret in self.secrets.iter().filter(|secret| secret.len() >= SHORTEST && text.contains(secret.as_str())) {
            clean = Cow::Owned(clean.replace(secret.as_str(), LEFT_OUT));
        }
        for run in secrets_in(&clean).into_iter().rev() {
            clean.to_mut().replace_range(run, LEFT_OUT);
        }
        for pattern in &self.patterns {
            if let Cow::Owned(less) = pattern.replace_all(&clean, LEFT_OUT) {
                clean = Cow::Owned(less);
            }
        }
        clean
    }
}

/// One line to an exchange: JSON has line ends between tokens only.
fn on_one_line(json: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(json).ok()?;
    let is_one = memchr::memchr2(b'\n', b'\r', json).is_none();
    Some(if is_one { text.to_owned() } else { text.replace(['\n', '\r'], " ") })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clean(json: &str) -> String {
        let patterns = vec![Regex::new(r"[\w.]+@[\w.]+").expect("a pattern")];
        let redaction = Redaction { secrets: vec!["own-key-1".to_owned(), "none".to_owned()], patterns };
        redaction.clean(json.as_bytes()).expect("JSON").get().to_owned()
    }

    #[test]
    fn secrets_and_what_a_policy_names_are_left_out() {
        let left_out =
            clean(r#"{"a":["my key is sk-proj-abcdefghijkl, mail x.y@z.org","own-key-1"],"sk-abcdefghijklm":1}"#);
        assert_eq!(left_out, r#"{"[redacted]":1,"a":["my key is [redacted], mail [redacted]","[redacted]"]}"#);
        // Escapes do not hide it.
        assert_eq!(clean(r#""\u0073k-abcdefghijklm""#), r#""[redacted]""#);
        let slashed = Redaction { secrets: vec!["abc/defg".to_owned()], ..Redaction::default() };
        assert_eq!(slashed.clean(br#""x abc\/defg""#).expect("JSON").get(), r#""x [redacted]""#);
    }

    #[test]
    fn all_else_stays_as_it_was() {
        let odd = r#"{ "b" : 1.50e0,  "a":"\u0041 sk- ask-me none"}"#;
        assert_eq!(clean(odd), odd);
        assert_eq!(clean("[1,\n2]"), "[1, 2]");
        assert!(Redaction::default().clean(b"<html>").is_none());
    }
}
