//! What a tier said, whichever endpoint and shape it came by.
//!
//! Invariant: the payload is the upstream's own bytes; the rest is read from
//! them once. Labels are not here, so a scorer cannot see them.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};

use crate::openai::Endpoint;
pub use crate::openai::chunk::Usage;
use crate::openai::chunk::{Piece, PieceChoice, content_text, token_logprobs};
use crate::openai::envelope::excerpt;
use crate::openai::responses::{Event, ResponseBody};

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
#[derive(Clone, Debug, Default, PartialEq)]
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
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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
    /// the larger buffer that it was read from.
    #[must_use]
    pub fn compact(&self) -> Self {
        let own = |bytes: &Bytes| Bytes::copy_from_slice(bytes);
        let payload = match &self.payload {
            Payload::Whole(body) => Payload::Whole(own(body)),
            Payload::Frames(frames) => Payload::Frames(frames.iter().map(own).collect()),
        };
        let own_value = |value: &HeaderValue| HeaderValue::from_bytes(value.as_bytes());
        let headers = self.headers.iter().filter_map(|(name, value)| Some((name.clone(), own_value(value).ok()?)));
        Self { payload, headers: headers.collect(), ..self.clone() }
    }
}

fn parse<'a, T: serde::Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, NotAnAnswer> {
    // serde takes a list for a struct; nobody means that.
    if bytes.trim_ascii_start().first() == Some(&b'[') {
        return Err(NotAnAnswer::Shape("a list where an object must be".to_owned()));
    }
    serde_json::from_slice(bytes).map_err(|e| NotAnAnswer::Shape(e.to_string()))
}

/// Adds frames up to an answer; a whole body is the case of one piece.
#[derive(Debug)]
pub struct Gathered {
    endpoint: Endpoint,
    choices: Vec<Choice>,
    usage: Option<Usage>,
}

impl Gathered {
    /// The most choices one answer may have: the API's own bound.
    const MAX_CHOICES: usize = 128;
    /// The most tool calls of one choice: as many as a request may offer tools.
    const MAX_CALLS: usize = 128;

    /// Nothing yet.
    #[must_use]
    pub fn new(endpoint: Endpoint) -> Self {
        Self { endpoint, choices: Vec::new(), usage: None }
    }

    /// Adds a whole body.
    ///
    /// # Errors
    /// When it is not in the API's shape, or holds an error.
    pub fn add_body(&mut self, body: &[u8]) -> Result<(), NotAnAnswer> {
        match self.endpoint {
            Endpoint::Chat | Endpoint::Completions => self.add_piece(&parse(body)?),
            Endpoint::Responses => self.take_response(&parse(body)?),
        }
    }

    /// Adds what one frame says.
    ///
    /// # Errors
    /// When it is not in the API's shape, or holds an error.
    pub fn add_frame(&mut self, frame: &[u8]) -> Result<(), NotAnAnswer> {
        if self.endpoint != Endpoint::Responses {
            return self.add_piece(&parse(frame)?);
        }
        let event: Event<'_> = parse(frame)?;
        match event.response {
            _ if event.kind == "error" => Err(NotAnAnswer::Error(excerpt(frame))),
            Some(response) if event.is_last() => self.take_response(&parse(response.get().as_bytes())?),
            _ => Ok(()),
        }
    }

    fn add_piece(&mut self, piece: &Piece<'_>) -> Result<(), NotAnAnswer> {
        if let Some(error) = piece.error.filter(|e| e.get() != "null") {
            return Err(NotAnAnswer::Error(excerpt(error.get().as_bytes())));
        }
        self.usage = piece.usage.or(self.usage);
        for choice in &piece.choices {
            if choice.index >= Self::MAX_CHOICES {
                return Err(NotAnAnswer::Shape(format!("choice number {}", choice.index)));
            }
            if choice.index >= self.choices.len() {
                self.choices.resize_with(choice.index + 1, Choice::default);
            }
            add_choice(&mut self.choices[choice.index], choice)?;
        }
        Ok(())
    }

    fn take_response(&mut self, response: &ResponseBody<'_>) -> Result<(), NotAnAnswer> {
        if let Some(error) = response.error.filter(|e| e.get() != "null") {
            return Err(NotAnAnswer::Error(excerpt(error.get().as_bytes())));
        }
        let mut choice = Choice { finish_reason: response.finish_reason().map(str::to_owned), ..Choice::default() };
        for item in &response.output {
            for part in item.parts() {
                choice.text.push_str(part.text.as_deref().unwrap_or(""));
                choice.refusal.push_str(part.refusal.as_deref().unwrap_or(""));
                choice.logprobs.extend(part.logprobs());
            }
            if let Some((name, arguments)) = item.call().filter(|_| choice.tool_calls.len() < Self::MAX_CALLS) {
                choice.tool_calls.push(ToolCall { name, arguments });
            }
        }
        self.usage = response.usage.or(self.usage);
        self.choices = vec![choice];
        Ok(())
    }

    /// True once every choice seen has said why it ended.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        !self.choices.is_empty() && self.choices.iter().all(|c| c.finish_reason.is_some())
    }

    fn finish(self, payload: Payload) -> Result<Answer, NotAnAnswer> {
        if self.choices.is_empty() {
            return Err(NotAnAnswer::NoChoices);
        }
        let Self { choices, usage, .. } = self;
        Ok(Answer { payload, choices, usage, marks: Marks::new(), headers: HeaderMap::new() })
    }
}

fn add_choice(to: &mut Choice, piece: &PieceChoice<'_>) -> Result<(), NotAnAnswer> {
    if let Some(text) = &piece.text {
        to.text.push_str(text);
    }
    for message in [&piece.message, &piece.delta].into_iter().flatten() {
        if let Some(content) = message.content {
            to.text.push_str(&content_text(content));
        }
        to.refusal.push_str(message.refusal.as_deref().unwrap_or(""));
        let legacy = message.function_call.iter().map(|function| (0, Some(function)));
        let calls = message.tool_calls.iter().flatten().enumerate();
        for (at, function) in calls.map(|(at, c)| (c.index.unwrap_or(at), c.function.as_ref())).chain(legacy) {
            if at >= Gathered::MAX_CALLS {
                return Err(NotAnAnswer::Shape(format!("tool call number {at}")));
            }
            if at >= to.tool_calls.len() {
                to.tool_calls.resize_with(at + 1, ToolCall::default);
            }
            let Some(function) = function else { continue };
            to.tool_calls[at].name.push_str(function.name.as_deref().unwrap_or(""));
            to.tool_calls[at].arguments.push_str(function.arguments.as_deref().unwrap_or(""));
        }
    }
    if let Some(raw) = piece.logprobs {
        to.logprobs.extend(token_logprobs(raw));
    }
    if let Some(reason) = &piece.finish_reason {
        to.finish_reason = Some(reason.clone().into_owned());
    }
    Ok(())
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
