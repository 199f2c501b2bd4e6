//! The few fields read of an upstream's body. A whole body and a frame of a
//! stream have the same ones, so one shape reads both, chat and legacy.
//!
//! Invariant: borrows from the body wherever it can; unknown fields are skipped.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// A whole answer, or one frame of a streamed one.
#[derive(Debug, Deserialize)]
pub struct Piece<'a> {
    /// One entry per choice; a usage-only frame has none.
    #[serde(borrow, default)]
    pub choices: Vec<PieceChoice<'a>>,
    /// Tokens counted by the upstream.
    #[serde(default, deserialize_with = "usage")]
    pub usage: Option<Usage>,
    /// An error in mid-stream, or an error body sent with status 200.
    #[serde(borrow, default)]
    pub error: Option<&'a RawValue>,
}

/// One choice of a [`Piece`].
#[derive(Debug, Deserialize)]
pub struct PieceChoice<'a> {
    /// Which of the `n` choices this belongs to.
    #[serde(default)]
    pub index: usize,
    /// Chat, whole.
    #[serde(borrow, default)]
    pub message: Option<Message<'a>>,
    /// Chat, streamed.
    #[serde(borrow, default)]
    pub delta: Option<Message<'a>>,
    /// Legacy completions.
    #[serde(borrow, default)]
    pub text: Option<Cow<'a, str>>,
    /// Token logprobs as they came; read by [`token_logprobs`].
    #[serde(borrow, default)]
    pub logprobs: Option<&'a RawValue>,
    /// `stop`, `length`, `tool_calls`...; null until the last frame.
    #[serde(borrow, default)]
    pub finish_reason: Option<Cow<'a, str>>,
}

/// A chat message, or what one frame adds to it.
#[derive(Debug, Default, Deserialize)]
pub struct Message<'a> {
    /// A string, null, or (with some providers) a list of parts.
    #[serde(borrow, default)]
    pub content: Option<&'a RawValue>,
    /// Why the model declined, where it says so.
    #[serde(borrow, default)]
    pub refusal: Option<Cow<'a, str>>,
    /// Calls of functions.
    #[serde(borrow, default)]
    pub tool_calls: Option<Vec<Call<'a>>>,
    /// The one call of a function, as it was before there were tools.
    #[serde(borrow, default)]
    pub function_call: Option<Function<'a>>,
}

/// One tool call, or what one frame adds to it.
#[derive(Debug, Deserialize)]
pub struct Call<'a> {
    /// Which call a frame adds to; absent in whole bodies.
    #[serde(default)]
    pub index: Option<usize>,
    /// The function called.
    #[serde(borrow, default)]
    pub function: Option<Function<'a>>,
}

/// The function of a tool call.
#[derive(Debug, Default, Deserialize)]
pub struct Function<'a> {
    /// Its name.
    #[serde(borrow, default)]
    pub name: Option<Cow<'a, str>>,
    /// Its arguments, JSON in a string.
    #[serde(borrow, default)]
    pub arguments: Option<Cow<'a, str>>,
}

/// Tokens counted by an upstream, in either family of names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens of the prompt, cached ones among them.
    pub prompt_tokens: Option<u64>,
    /// Tokens of the answer, reasoning among them.
    pub completion_tokens: Option<u64>,
    /// Tokens of the prompt that the provider had in its own prompt cache.
    pub cached_tokens: Option<u64>,
}

/// Reads a `usage` as far as it can be read: none of it is worth losing an
/// answer for. Some servers write both families, one of them with zeros.
///
/// # Errors
/// Only when the JSON itself is broken.
pub fn usage<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Usage>, D::Error> {
    #[derive(Default, Deserialize)]
    struct Shape<'a> {
        #[serde(borrow, default)]
        prompt_tokens: Option<&'a RawValue>,
        #[serde(borrow, default)]
        input_tokens: Option<&'a RawValue>,
        #[serde(borrow, default)]
        completion_tokens: Option<&'a RawValue>,
        #[serde(borrow, default)]
        output_tokens: Option<&'a RawValue>,
        #[serde(borrow, default)]
        prompt_tokens_details: Option<&'a RawValue>,
        #[serde(borrow, default)]
        input_tokens_details: Option<&'a RawValue>,
    }
    #[derive(Deserialize)]
    struct Details {
        #[serde(default)]
        cached_tokens: Option<u64>,
    }
    let Some(raw) = Option::<&RawValue>::deserialize(from)? else { return Ok(None) };
    let Ok(shape) = serde_json::from_str::<Shape<'_>>(raw.get()) else { return Ok(None) };
    let number = |raw: Option<&RawValue>| raw.and_then(|raw| serde_json::from_str::<u64>(raw.get()).ok());
    let details =
        |raw: Option<&RawValue>| raw.and_then(|raw| serde_json::from_str::<Details>(raw.get()).ok()?.cached_tokens);
    Ok(Some(Usage {
        prompt_tokens: number(shape.prompt_tokens).max(number(shape.input_tokens)),
        completion_tokens: number(shape.completion_tokens).max(number(shape.output_tokens)),
        cached_tokens: details(shape.prompt_tokens_details).max(details(shape.input_tokens_details)),
    }))
}

/// The text of a message's `content`: a string, or the `text` of its parts.
#[must_use]
pub fn content_text(raw: &RawValue) -> Cow<'_, str> {
    #[derive(Deserialize)]
    struct Part<'a> {
        #[serde(borrow, default)]
        text: Option<Cow<'a, str>>,
    }
    #[derive(Deserialize)]
    struct Plain<'a>(#[serde(borrow)] Cow<'a, str>);
    let text = raw.get();
    if text.starts_with('[') {
        let parts: Vec<Part<'_>> = serde_json::from_str(text).unwrap_or_default();
        return parts.iter().filter_map(|p| p.text.as_deref()).collect::<Vec<_>>().concat().into();
    }
    serde_json::from_str(text).map_or(Cow::Borrowed(""), |Plain(text)| text)
}

/// Natural-log probabilities of the answer's tokens, chat or legacy shape;
/// empty where there are none. A legacy echo's leading null is left out.
#[must_use]
pub fn token_logprobs(raw: &RawValue) -> Vec<f64> {
    #[derive(Deserialize)]
    struct Token {
        logprob: f64,
    }
    #[derive(Default, Deserialize)]
    struct Logprobs {
        #[serde(default)]
        content: Option<Vec<Token>>,
        #[serde(default)]
        token_logprobs: Option<Vec<Option<f64>>>,
    }
    let both: Logprobs = serde_json::from_str(raw.get()).unwrap_or_default();
    match (both.content, both.token_logprobs) {
        (Some(chat), _) => chat.into_iter().map(|t| t.logprob).collect(),
        (None, Some(legacy)) => legacy.into_iter().flatten().collect(),
        (None, None) => Vec::new(),
    }
}
