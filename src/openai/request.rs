//! The fields of a request: where each stands in the body, found in one pass.
//!
//! Invariant: a name stands once. Upstreams differ in which of two they
//! believe, so that a body with two could mean one thing here and another there.

use std::ops::Range;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::Endpoint;
use super::canonical::Members;
use super::responses::INCLUDE_LOGPROBS;
use super::splice::{Splice, span_of};

/// The fields of one body, in order of name.
#[derive(Clone, Debug)]
pub struct Fields(Vec<(Box<str>, Range<usize>)>);

impl Fields {
    /// Finds the fields of a JSON object.
    ///
    /// # Errors
    /// In words, when the body is not UTF-8, not a JSON object, or a name stands
    /// in it twice.
    pub fn read(body: &[u8]) -> Result<Self, String> {
        // serde passes over broken UTF-8 in what it skips; upstreams differ.
        let text = std::str::from_utf8(body).map_err(|e| e.to_string())?;
        let Members(members) = serde_json::from_str(text).map_err(|e| e.to_string())?;
        if let Some(twice) = members.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(format!("`{}` is given twice", twice[0].0));
        }
        let fields = members.iter().map(|(name, value)| (Box::from(&**name), span_of(body, value.get())));
        Ok(Self(fields.collect()))
    }

    /// Where the value of a field stands, in bytes; none where it is not given.
    #[must_use]
    pub fn span(&self, name: &str) -> Option<Range<usize>> {
        let at = self.0.binary_search_by(|(other, _)| (**other).cmp(name)).ok()?;
        Some(self.0[at].1.clone())
    }

    /// The value of a field as it is written; none where it is not given or null.
    #[must_use]
    pub fn raw<'b>(&self, body: &'b [u8], name: &str) -> Option<&'b str> {
        let value = std::str::from_utf8(&body[self.span(name)?]).ok()?;
        (value != "null").then_some(value)
    }

    /// The value of a field; none where it is not given or null.
    ///
    /// # Errors
    /// In words, when it has another type.
    pub fn typed<T: DeserializeOwned>(&self, body: &[u8], name: &str) -> Result<Option<T>, String> {
        let value = self.raw(body, name).map(serde_json::from_str).transpose();
        value.map_err(|e| format!("`{name}`: {}", e.to_string().split(" at line ").next().unwrap_or_default()))
    }

    /// All names with their values as they are written, in order of name.
    pub fn iter<'b>(&self, body: &'b [u8]) -> impl Iterator<Item = (&str, &'b str)> {
        self.0.iter().map(|(name, span)| (&**name, std::str::from_utf8(&body[span.clone()]).unwrap_or_default()))
    }

    /// Whether the provider keeps the answer, or goes on from one it kept, so
    /// that each request counts. A response is kept unless it says no.
    #[must_use]
    pub fn is_kept_upstream(&self, endpoint: Endpoint, body: &[u8]) -> bool {
        let is = |name, word| self.raw(body, name) == Some(word);
        match endpoint {
            Endpoint::Chat => is("store", "true"),
            Endpoint::Completions => false,
            Endpoint::Responses => {
                let elsewhere = ["previous_response_id", "conversation", "prompt"];
                !is("store", "false")
                    || is("background", "true")
                    || elsewhere.into_iter().any(|name| self.raw(body, name).is_some())
            }
        }
    }

    /// Whether asking several tiers would be wrong: drafts kept upstream, sound,
    /// or what is bound to one model.
    #[must_use]
    pub fn is_for_one_tier(&self, endpoint: Endpoint, body: &[u8]) -> bool {
        let is = |name, word| self.raw(body, name) == Some(word);
        let prompt = self.raw(body, "prompt").filter(|_| endpoint == Endpoint::Completions);
        // The frames of several cascades could not be told apart in time.
        let is_one_models = |raw: &str| is_token_ids(raw) || is("stream", "true") && raw.starts_with('[');
        let bound = ["audio", "best_of", "suffix", "logit_bias"];
        self.is_kept_upstream(endpoint, body)
            || is("echo", "true")
            || prompt.is_some_and(is_one_models)
            || bound.into_iter().any(|name| self.raw(body, name).is_some())
    }
}

/// Keeps the place of an explicit null, which `Option` alone would lose.
pub(super) fn present<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(from).map(Some)
}

/// An `include` value with token logprobs in it.
#[must_use]
pub fn with_logprobs(include: &str) -> String {
    let inside = include.trim().strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).map_or("", str::trim);
    let comma = if inside.is_empty() { "" } else { "," };
    format!("[{INCLUDE_LOGPROBS}{comma}{inside}]")
}

/// Whether a legacy prompt is given as token ids, or as several such lists.
fn is_token_ids(raw: &str) -> bool {
    let first = raw.trim_start_matches(|c: char| c == '[' || c.is_ascii_whitespace());
    raw.starts_with('[') && first.starts_with(|c: char| c.is_ascii_digit())
}

/// A `stream_options` value with `include_usage` on, and whether it was.
#[must_use]
pub fn include_usage(raw: &str) -> (String, bool) {
    #[derive(Default, Deserialize)]
    struct Options<'a> {
        #[serde(borrow, default, deserialize_with = "present")]
        include_usage: Option<&'a RawValue>,
    }
    let on = "\"include_usage\":true";
    match serde_json::from_str::<Options<'_>>(raw) {
        Ok(Options { include_usage: Some(was) }) => {
            let mut splice = Splice::default();
            splice.replace(span_of(raw.as_bytes(), was.get()), *b"true");
            (String::from_utf8_lossy(&splice.apply(raw.as_bytes())).into_owned(), was.get() == "true")
        }
        Ok(_) if raw.trim_start().starts_with('{') => {
            let inside = raw.trim_start()[1..].trim_start();
            let comma = if inside.starts_with('}') { "" } else { "," };
            (format!("{{{on}{comma}{inside}"), false)
        }
        _ => (format!("{{{on}}}"), false),
    }
}
