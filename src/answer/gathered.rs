//! Frames added up to an answer; a whole body is the case of one piece.
//!
//! Invariant: what grows is bounded, whatever an upstream sends.

use std::ops::Range;

use http::HeaderMap;

use super::{Answer, Choice, Marks, NotAnAnswer, Payload, ToolCall, Usage};
use crate::openai::Endpoint;
use crate::openai::chunk::{Piece, PieceChoice, content_text, token_logprobs};
use crate::openai::envelope::excerpt;
use crate::openai::glance::{Glance, MAX_CHOICES};
use crate::openai::logprobs::Lean;
use crate::openai::responses::{Event, ResponseBody};

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
    logprobs_at: Vec<Range<usize>>,
}

impl Gathered {
    /// The most tool calls of one choice: as many as a request may offer tools.
    const MAX_CALLS: usize = 128;

    /// Nothing yet.
    #[must_use]
    pub fn new(endpoint: Endpoint) -> Self {
        Self { endpoint, choices: Vec::new(), usage: None, logprobs_at: Vec::new() }
    }

    /// Adds a whole body.
    ///
    /// # Errors
    /// When it is not in the API's shape, or holds an error.
    pub fn add_body(&mut self, body: &[u8]) -> Result<(), NotAnAnswer> {
        match self.endpoint {
            Endpoint::Chat | Endpoint::Completions => match Lean::of(body) {
                Some(lean) => self.add_lean(lean, body),
                None => self.add_piece(&parse(body)?),
            },
            Endpoint::Responses => self.take_response(&parse(body)?),
        }
    }

    /// Adds a body whose logprobs were read on the way; where others than its choices'
    /// own are among them, the whole body is read instead.
    fn add_lean(&mut self, lean: Lean, body: &[u8]) -> Result<(), NotAnAnswer> {
        let Ok(piece) = parse::<Piece<'_>>(&lean.body) else {
            // It is the whole body's fault that must be told.
            return self.add_piece(&parse(body)?);
        };
        let own = || piece.choices.iter().filter(|choice| choice.logprobs.is_some_and(|raw| raw.get() == Lean::CUT));
        if own().count() != lean.logprobs.len() {
            return self.add_piece(&parse(body)?);
        }
        self.add_piece(&piece)?;
        for (choice, logprobs) in own().zip(lean.logprobs) {
            self.choices[choice.index].logprobs.extend(logprobs);
        }
        self.logprobs_at = lean.spans;
        Ok(())
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
            if choice.index >= MAX_CHOICES {
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

    /// The tokens counted in one frame, where it counts any; most do not.
    #[must_use]
    pub fn usage_in(endpoint: Endpoint, frame: &[u8]) -> Option<Usage> {
        memchr::memmem::find(frame, b"\"usage\"")?;
        let is_null = || Glance::at(frame).is_some_and(|seen| seen.usage.is_none_or(|usage| usage.is_null));
        if endpoint != Endpoint::Responses && is_null() {
            return None;
        }
        let mut alone = Self::new(endpoint);
        alone.add_frame(frame).ok()?;
        alone.usage
    }

    pub(super) fn finish(self, payload: Payload) -> Result<Answer, NotAnAnswer> {
        if self.choices.is_empty() {
            return Err(NotAnAnswer::NoChoices);
        }
        let Self { choices, usage, logprobs_at, .. } = self;
        Ok(Answer { payload, choices, usage, logprobs_at, marks: Marks::new(), headers: HeaderMap::new() })
    }
}

/// How far a streamed answer has come.
#[derive(Debug)]
pub struct Progress {
    endpoint: Endpoint,
    /// Which choices were seen, a bit each, and which of them have ended.
    choices: u128,
    ended: u128,
}

impl Progress {
    /// Nothing has come yet.
    #[must_use]
    pub fn new(endpoint: Endpoint) -> Self {
        Self { endpoint, choices: 0, ended: 0 }
    }

    /// Looks at one frame.
    ///
    /// # Errors
    /// When it is not in the API's shape, or holds an error.
    pub fn note(&mut self, frame: &[u8]) -> Result<(), NotAnAnswer> {
        if self.endpoint != Endpoint::Responses
            && let Some(seen) = Glance::at(frame).filter(|seen| !seen.is_error)
        {
            self.choices |= seen.choices;
            self.ended |= seen.ended;
            return Ok(());
        }
        let mut alone = Gathered::new(self.endpoint);
        alone.add_frame(frame)?;
        for (index, choice) in alone.choices.iter().enumerate() {
            self.choices |= 1 << index;
            self.ended |= u128::from(choice.finish_reason.is_some()) << index;
        }
        Ok(())
    }

    /// True once every choice seen has said why it ended.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.choices != 0 && self.choices == self.ended
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
    use bytes::Bytes;

    use super::*;

    #[test]
    fn logprobs_that_stand_elsewhere_are_not_an_answers_own() {
        let own = r#"{"content":[{"token":"a","logprob":-0.5}]}"#;
        let read = |body: String| {
            let answer = Answer::from_body(Endpoint::Chat, Bytes::from(body)).expect("an answer");
            answer.choices.into_iter().map(|choice| choice.logprobs).collect::<Vec<_>>()
        };
        let choice = |more: &str| format!(r#"{{"choices":[{{"message":{{"content":"x"}}{more}}}]}}"#);
        assert_eq!(read(choice(&format!(r#","logprobs":{own}"#))), [[-0.5]]);
        // Found by fuzzing: one member of that name, deeper than it should be.
        assert_eq!(read(choice(&format!(r#","odd":{{"logprobs":{own}}}"#))), [[0.0; 0]]);
        assert_eq!(read(choice(&format!(r#","odd":{{"logprobs":{own}}},"logprobs":null"#))), [[0.0; 0]]);
        let two = format!(r#"{{"choices":[{{"index":1,"logprobs":{own}}},{{"index":0,"logprobs":null}}]}}"#);
        assert_eq!(read(two), [vec![], vec![-0.5]]);
    }
}
