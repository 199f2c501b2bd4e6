//! The few fields read of a request.
//!
//! Invariant: borrows from the body, so that a field's place in it is known.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::Endpoint;
use super::responses::INCLUDE_LOGPROBS;
use super::splice::{Splice, span_of};

/// The fields of a completion request that the cascade reads.
#[derive(Deserialize)]
pub struct Peek<'a> {
    /// The model the client names.
    #[serde(borrow, default, deserialize_with = "present")]
    pub model: Option<&'a RawValue>,
    /// Whether frames are wanted as they come.
    #[serde(default)]
    pub stream: Option<bool>,
    /// Whether those end with the usage.
    #[serde(borrow, default, deserialize_with = "present")]
    pub stream_options: Option<&'a RawValue>,
    /// What a chat asks.
    #[serde(borrow, default)]
    pub messages: Option<&'a RawValue>,
    /// What a legacy completion asks.
    #[serde(borrow, default)]
    pub prompt: Option<&'a RawValue>,
    /// Whether token logprobs are wanted, or how many.
    #[serde(borrow, default, deserialize_with = "present")]
    pub logprobs: Option<&'a RawValue>,
    /// Tools offered.
    #[serde(borrow, default)]
    pub tools: Option<&'a RawValue>,
    /// Tools as they were called before.
    #[serde(borrow, default)]
    pub functions: Option<&'a RawValue>,
    /// Which tool must or must not be called.
    #[serde(borrow, default)]
    pub tool_choice: Option<&'a RawValue>,
    /// Whether JSON must come back.
    #[serde(borrow, default)]
    pub response_format: Option<&'a RawValue>,
    /// Sampling temperature.
    #[serde(default)]
    pub temperature: Option<f64>,
    /// Whether the provider keeps the answer.
    #[serde(default)]
    pub store: Option<bool>,
    /// Whether the prompt comes back too.
    #[serde(default)]
    pub echo: Option<bool>,
    /// Sound wanted.
    #[serde(borrow, default)]
    pub audio: Option<&'a RawValue>,
    /// Drafts drawn at the provider.
    #[serde(borrow, default)]
    pub best_of: Option<&'a RawValue>,
    /// Text after the gap.
    #[serde(borrow, default)]
    pub suffix: Option<&'a RawValue>,
    /// What a response is asked.
    #[serde(borrow, default)]
    pub input: Option<&'a RawValue>,
    /// What else a response holds, token logprobs for one.
    #[serde(borrow, default, deserialize_with = "present")]
    pub include: Option<&'a RawValue>,
    /// The form of a response's text.
    #[serde(borrow, default)]
    pub text: Option<&'a RawValue>,
    /// The response that this one goes on from, kept by the provider.
    #[serde(borrow, default)]
    pub previous_response_id: Option<&'a RawValue>,
    /// The conversation that this one belongs to, kept by the provider.
    #[serde(borrow, default)]
    pub conversation: Option<&'a RawValue>,
    /// Whether the response is made while nobody waits.
    #[serde(default)]
    pub background: Option<bool>,
    /// Token ids of one model.
    #[serde(borrow, default)]
    pub logit_bias: Option<&'a RawValue>,
}

/// Keeps the place of an explicit null, which `Option` alone would lose.
pub(super) fn present<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(from).map(Some)
}

impl Peek<'_> {
    /// Whether asking several tiers would be wrong: drafts kept upstream, sound,
    /// or what is bound to one model. A response is kept unless it says no.
    #[must_use]
    pub fn is_for_one_tier(&self, endpoint: Endpoint) -> bool {
        let kept_upstream = match endpoint {
            Endpoint::Chat | Endpoint::Completions => self.store == Some(true),
            Endpoint::Responses => {
                let elsewhere = [self.previous_response_id, self.conversation, self.prompt];
                self.store != Some(false) || self.background == Some(true) || elsewhere.iter().any(Option::is_some)
            }
        };
        // The frames of several cascades could not be told apart in time.
        let streams_a_list = |raw: &RawValue| self.stream == Some(true) && raw.get().starts_with('[');
        let bound = [self.audio, self.best_of, self.suffix, self.logit_bias];
        kept_upstream
            || self.echo == Some(true)
            || bound.iter().any(Option::is_some)
            || endpoint == Endpoint::Completions
                && self.prompt.is_some_and(|raw| is_token_ids(raw.get()) || streams_a_list(raw))
    }
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
