//! What a tier said, whichever endpoint and shape it came by.
//!
//! Invariant: the payload is the upstream's own bytes, less logprobs that its client did
//! not ask for where it is kept; the rest is read from them once. Labels are not here, so
//! a scorer cannot see them.

mod gathered;

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use serde::{Deserialize, Serialize};

use crate::openai::Endpoint;
pub use crate::openai::chunk::Usage;
use crate::openai::convert::strip_body;

pub use gathered::{Gathered, Progress};

/// Signals attached to an answer by someone else, by name: `p_true` for one.
pub type Marks = BTreeMap<String, f64>;

/// One tier's answer to one prompt.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The upstream's bytes.
    pub payload: Payload,
    /// What was answered, at least one choice.
    pub choices: Vec<Choice>,
    /// Tokens as the upstream counted them.
    pub usage: Option<Usage>,
    /// Where a whole body has its logprobs, in bytes, as far as that is known.
    pub logprobs_at: Vec<Range<usize>>,
    /// A judge's or a self-check's word on this answer.
    pub marks: Marks,
    /// The upstream's response headers that a client may see.
    pub headers: HeaderMap,
}

/// An answer's bytes.
#[derive(Clone, Debug)]
pub enum Payload {
    /// A JSON body.
    Whole(Bytes),
    /// The data of each event of a stream, `[DONE]` left out.
    Frames(Vec<Bytes>),
}

/// One of the `n` choices of an answer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Choice {
    /// The text; empty where the answer is a tool call.
    pub text: String,
    /// The model's own words for declining.
    pub refusal: String,
    /// Calls of tools.
    pub tool_calls: Vec<ToolCall>,
    /// Natural-log probability of each token, at most 0; empty if unknown.
    pub logprobs: Vec<f64>,
    /// `stop`, `length`, `tool_calls`...; none where the upstream gave none.
    pub finish_reason: Option<String>,
}

/// A tool call as the model wrote it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolCall {
    /// The function's name.
    pub name: String,
    /// Its arguments, meant to be JSON.
    pub arguments: String,
}

/// Why bytes are not an answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAnAnswer {
    /// Not JSON, or not in the API's shape.
    #[error("not a completion: {0}")]
    Shape(String),
    /// JSON without any choice.
    #[error("a completion without choices")]
    NoChoices,
    /// An error body where an answer should be.
    #[error("an error instead of a completion: {0}")]
    Error(String),
}

impl Answer {
    /// Reads a whole JSON body.
    ///
    /// # Errors
    /// When the bytes are no completion.
    pub fn from_body(endpoint: Endpoint, body: Bytes) -> Result<Self, NotAnAnswer> {
        let mut gathered = Gathered::new(endpoint);
        gathered.add_body(&body)?;
        gathered.finish(Payload::Whole(body))
    }

    /// Reads the frames of a stream, `[DONE]` left out.
    ///
    /// # Errors
    /// When a frame is not in the API's shape or holds an error.
    pub fn from_frames(endpoint: Endpoint, frames: Vec<Bytes>) -> Result<Self, NotAnAnswer> {
        let mut gathered = Gathered::new(endpoint);
        for frame in &frames {
            gathered.add_frame(frame)?;
        }
        gathered.finish(Payload::Frames(frames))
    }

    /// Bytes of text over all choices, for estimating tokens.
    #[must_use]
    pub fn text_bytes(&self) -> usize {
        let of = |c: &Choice| {
            let calls = c.tool_calls.iter().map(|t| t.name.len() + t.arguments.len());
            c.text.len() + c.refusal.len() + calls.sum::<usize>()
        };
        self.choices.iter().map(of).sum()
    }

    /// Roughly how many bytes of memory this answer holds.
    #[must_use]
    pub fn weight(&self) -> usize {
        let payload = match &self.payload {
            Payload::Whole(body) => body.len(),
            Payload::Frames(frames) => frames.iter().map(|f| f.len() + size_of::<Bytes>()).sum(),
        };
        let choice = |c: &Choice| {
            size_of::<Choice>() + c.logprobs.len() * size_of::<f64>() + c.tool_calls.len() * size_of::<ToolCall>()
        };
        let headers = self.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 64);
        size_of::<Self>()
            + payload
            + self.text_bytes()
            + self.choices.iter().map(choice).sum::<usize>()
            + headers.sum::<usize>()
    }

    /// The same answer in memory of its own, so that keeping it does not keep
    /// the larger buffer that it was read from; without its logprobs where they would only
    /// be cut out each time it is served.
    #[must_use]
    pub fn compact(&self, endpoint: Endpoint, with_logprobs: bool) -> Self {
        // A response's stand in its parts; nobody could put them back for a recording.
        let with_logprobs = with_logprobs || endpoint == Endpoint::Responses;
        let own = |bytes: &Bytes| {
            let cut = if with_logprobs { bytes.clone() } else { strip_body(endpoint, bytes, &self.logprobs_at) };
            // What was cut has memory of its own.
            if cut.len() < bytes.len() { cut } else { Bytes::copy_from_slice(bytes) }
        };
        let payload = match &self.payload {
            Payload::Whole(body) => Payload::Whole(own(body)),
            // Each token's stand in a frame of its own; nobody could put those back either.
            Payload::Frames(frames) => Payload::Frames(frames.iter().map(|f| Bytes::copy_from_slice(f)).collect()),
        };
        let logprobs_at = if with_logprobs { self.logprobs_at.clone() } else { Vec::new() };
        let own_value = |value: &HeaderValue| HeaderValue::from_bytes(value.as_bytes());
        let headers = self.headers.iter().filter_map(|(name, value)| Some((name.clone(), own_value(value).ok()?)));
        Self {
            payload,
            choices: self.choices.clone(),
            usage: self.usage,
            logprobs_at,
            marks: self.marks.clone(),
            headers: headers.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_adds_up_to_the_whole_answer() {
        let frames = [
            r#"{"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}"#,
            r#"{"choices":[{"index":0,"delta":{"content":"Hi"},"logprobs":{"content":[{"token":"Hi","logprob":-0.5}]}}]}"#,
            r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"name":"f","arguments":"{\"a"}}]}}]}"#,
            r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"\":1}"}}]}}]}"#,
            r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#,
            r#"{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":1}}"#,
        ];
        let whole = r#"{"choices":[{"index":0,"message":{"content":"Hi","tool_calls":[{"id":"x","function":
            {"name":"f","arguments":"{\"a\":1}"}}]},"logprobs":{"content":[{"token":"Hi","logprob":-0.5}]},
            "finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":1}}"#;
        let streamed =
            Answer::from_frames(Endpoint::Chat, frames.iter().map(|f| Bytes::from_static(f.as_bytes())).collect());
        let whole = Answer::from_body(Endpoint::Chat, Bytes::from_static(whole.as_bytes())).expect("whole");
        let streamed = streamed.expect("frames");
        assert_eq!(streamed.choices, whole.choices);
        assert_eq!(streamed.usage, whole.usage);
    }

    #[test]
    fn legacy_text_and_logprobs_are_read() {
        let body = r#"{"choices":[{"text":" pain","index":0,"logprobs":{"tokens":["x"," pain"],
            "token_logprobs":[null,-0.25]},"finish_reason":"stop"}]}"#;
        let answer = Answer::from_body(Endpoint::Completions, Bytes::from_static(body.as_bytes())).expect("an answer");
        assert_eq!(answer.choices[0].text, " pain");
        assert_eq!(answer.choices[0].logprobs, [-0.25]);
    }

    #[test]
    fn no_usage_is_worth_losing_an_answer_for() {
        let usage = |usage: &str| {
            let body = format!(r#"{{"choices":[{{"index":0,"message":{{"content":"x"}}}}],"usage":{usage}}}"#);
            Answer::from_body(Endpoint::Chat, body.into()).expect("an answer").usage
        };
        let both = r#"{"prompt_tokens":5,"completion_tokens":2,"input_tokens":0,"output_tokens":0,"prompt_tokens_details":{"cached_tokens":3}}"#;
        let counted = Usage { prompt_tokens: Some(5), completion_tokens: Some(2), cached_tokens: Some(3) };
        assert_eq!(usage(both), Some(counted));
        assert_eq!(usage(r#"{"prompt_tokens":"many"}"#), Some(Usage::default()));
        assert_eq!(usage("5"), None);
        assert_eq!(usage("null"), None);
    }

    #[test]
    fn what_is_no_answer_says_why() {
        let why = |text: &str| {
            Answer::from_body(Endpoint::Chat, Bytes::copy_from_slice(text.as_bytes())).expect_err(text).to_string()
        };
        assert_eq!(why("{}"), "a completion without choices");
        assert_eq!(why(r#"{"error":{"code":5}}"#), r#"an error instead of a completion: {"code":5}"#);
        assert_eq!(why(r#"{"error":{"message":"busy","code":5}}"#), "an error instead of a completion: busy");
        assert_eq!(why("[[]]"), "not a completion: a list where an object must be");
        assert!(why("<html>").starts_with("not a completion: expected value"));
    }
}
