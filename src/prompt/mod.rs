//! What the cascade sees of a request, whichever endpoint it came by.
//!
//! Invariant: the body stays as the client sent it; [`Prompt::body_for`]
//! splices in the few bytes that must differ upstream.

mod onward;

use std::borrow::Cow;
use std::ops::Range;
use std::sync::OnceLock;

use blake3::Hasher;
use bytes::Bytes;
use http::HeaderMap;
use memchr::memmem;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::openai::Endpoint;
use crate::openai::canonical::{Members, feed, feed_members};
use crate::openai::chunk::content_text;
use crate::openai::contract::Contract;
use crate::openai::request::{Peek, include_usage};
use crate::openai::responses::INCLUDE_LOGPROBS;
use crate::openai::splice::span_of;
use crate::openai::turn::Turn;

/// A request for a completion.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a field of a request")]
pub struct Prompt {
    /// The endpoint it came by.
    pub endpoint: Endpoint,
    /// The model the client named.
    pub model: String,
    /// Whether the client wants frames as they come.
    pub stream: bool,
    /// Whether a streaming client wants the usage frame.
    pub asks_usage: bool,
    /// Whether the client wants token logprobs.
    pub asks_logprobs: bool,
    /// Whether tools are offered.
    pub has_tools: bool,
    /// Whether a JSON object must come back.
    pub asks_json: bool,
    /// Sampling temperature; the API's default is 1.
    pub temperature: f64,
    /// True where asking several tiers would be wrong: drafts kept upstream
    /// (`store`), sound, or what is bound to one model, token ids for one.
    pub one_tier: bool,
    /// The client's own name for the conversation.
    pub session: Option<String>,
    /// Request headers that go on to the upstream.
    pub headers: HeaderMap,
    body: Bytes,
    spans: Spans,
    contract: OnceLock<Contract>,
    cache_key: OnceLock<[u8; 32]>,
    content_key: OnceLock<[u8; 32]>,
}

/// Where in the body the fields stand that may have to change.
#[derive(Clone, Debug)]
struct Spans {
    model: Range<usize>,
    /// For a response, where `include` stands.
    logprobs: Option<Range<usize>>,
    stream_options: Option<Range<usize>>,
    content: Option<Range<usize>>,
    tools: Option<Range<usize>>,
    tool_choice: Option<Range<usize>>,
    response_format: Option<Range<usize>>,
}

/// Why a body is no prompt.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAPrompt {
    /// Not JSON, or a field of the wrong type.
    #[error("We could not read the JSON body of your request: {0}.")]
    Json(String),
    /// A field that every request needs is not there.
    #[error("you must provide a {0} parameter")]
    Missing(&'static str),
}

impl Prompt {
    /// Fields that do not change what a tier answers, left out of the cache key.
    const NOT_IN_KEY: [&'static str; 5] = ["model", "stream", "stream_options", "user", "metadata"];
    /// Fields that say what is asked, by which a recorded answer is found.
    const CONTENT: [&'static str; 8] =
        ["messages", "prompt", "input", "instructions", "tools", "response_format", "text", "n"];

    /// Reads the few fields the cascade needs.
    ///
    /// # Errors
    /// When the body is no JSON object, a field read here has the wrong type,
    /// or `model` or the prompt itself is missing.
    pub fn parse(endpoint: Endpoint, body: Bytes) -> Result<Self, NotAPrompt> {
        // serde takes a list for a struct, and passes over broken UTF-8 in what
        // it skips; upstreams read either as something else.
        let text = std::str::from_utf8(&body).map_err(|e| NotAPrompt::Json(e.to_string()))?;
        if !text.trim_start().starts_with('{') && serde_json::from_str::<&RawValue>(text).is_ok() {
            return Err(NotAPrompt::Json("it must be an object".to_owned()));
        }
        let peek: Peek<'_> = serde_json::from_str(text).map_err(|e| NotAPrompt::Json(e.to_string()))?;
        let raw_model = peek.model.ok_or(NotAPrompt::Missing("model"))?;
        let model: String = serde_json::from_str(raw_model.get())
            .map_err(|_| NotAPrompt::Json("`model` must be a string".to_owned()))?;
        let content = match endpoint {
            Endpoint::Chat => Some(peek.messages.ok_or(NotAPrompt::Missing("messages"))?),
            // The API allows a completion, or a response, of nothing.
            Endpoint::Completions => peek.prompt,
            Endpoint::Responses => peek.input,
        };
        let is_response = endpoint == Endpoint::Responses;
        let format = if is_response { peek.text } else { peek.response_format };
        let asks_logprobs = match endpoint {
            Endpoint::Responses => peek.include.is_some_and(|raw| raw.get().contains(INCLUDE_LOGPROBS)),
            _ => peek.logprobs.is_some_and(|raw| !matches!(raw.get(), "null" | "false")),
        };
        let span = |raw: &RawValue| span_of(&body, raw.get());
        let spans = Spans {
            model: span(raw_model),
            logprobs: if is_response { peek.include } else { peek.logprobs }.map(span),
            stream_options: peek.stream_options.map(span),
            content: content.map(span),
            tools: peek.tools.or(peek.functions).map(span),
            tool_choice: peek.tool_choice.map(span),
            response_format: format.map(span),
        };
        Ok(Self {
            endpoint,
            model,
            stream: peek.stream.unwrap_or(false),
            // A response's last event has its usage anyway.
            asks_usage: is_response || peek.stream_options.is_some_and(|raw| include_usage(raw.get()).1),
            asks_logprobs,
            has_tools: [peek.tools, peek.functions].iter().flatten().any(|raw| raw.get() != "[]"),
            asks_json: format.is_some_and(|raw| raw.get().contains("\"json_")),
            temperature: peek.temperature.unwrap_or(1.0),
            one_tier: peek.is_for_one_tier(endpoint),
            session: None,
            headers: HeaderMap::new(),
            contract: OnceLock::new(),
            cache_key: OnceLock::new(),
            content_key: OnceLock::new(),
            spans,
            body,
        })
    }

    /// The body as the client sent it.
    #[must_use]
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// One key for all spellings of the same request, for the cache.
    pub fn cache_key(&self) -> &[u8; 32] {
        self.cache_key.get_or_init(|| {
            let mut hasher = self.hasher();
            match self.members() {
                Some(members) => feed_members(&mut hasher, &members, &Self::NOT_IN_KEY),
                None => _ = hasher.update(&self.body),
            }
            hasher.finalize().into()
        })
    }

    /// One key for all requests that ask the same thing, whatever the model
    /// and the sampling, for finding a recorded answer.
    pub fn content_key(&self) -> &[u8; 32] {
        self.content_key.get_or_init(|| {
            let mut hasher = self.hasher();
            for (name, value) in self.members().iter().flat_map(|m| &m.0) {
                if Self::CONTENT.contains(&&**name) {
                    hasher.update(name.as_bytes());
                    feed(&mut hasher, value);
                }
            }
            hasher.finalize().into()
        })
    }

    fn hasher(&self) -> Hasher {
        let mut hasher = Hasher::new();
        hasher.update(self.endpoint.path().as_bytes());
        hasher
    }

    fn members(&self) -> Option<Members<'_>> {
        serde_json::from_slice(&self.body).ok()
    }

    /// What is demanded of the answer's form.
    pub fn contract(&self) -> &Contract {
        self.contract.get_or_init(|| {
            let raw = |span: &Option<Range<usize>>| std::str::from_utf8(&self.body[span.clone()?]).ok();
            let Spans { tools, tool_choice, response_format, .. } = &self.spans;
            Contract::read(raw(tools), raw(tool_choice), raw(response_format))
        })
    }

    /// Where it stands in a conversation.
    #[must_use]
    pub fn turn(&self) -> Turn {
        let content = self.spans.content.clone().map_or(&[][..], |span| &self.body[span]);
        Turn::read(std::str::from_utf8(content).unwrap_or(""), self.session.as_deref())
    }

    /// Whether the request holds pictures or sound.
    #[must_use]
    pub fn has_media(&self) -> bool {
        let content = self.spans.content.clone().map_or(&[][..], |span| &self.body[span]);
        [&b"\"image_url\""[..], b"\"input_image\"", b"\"input_audio\""]
            .iter()
            .any(|kind| memmem::find(content, kind).is_some())
    }

    /// The texts asked, in order: each message's, or the legacy prompt.
    #[must_use]
    pub fn texts(&self) -> Vec<Cow<'_, str>> {
        #[derive(Deserialize)]
        struct Message<'a> {
            #[serde(borrow, default)]
            content: Option<&'a RawValue>,
        }
        let Some(span) = self.spans.content.clone() else { return Vec::new() };
        let Ok(raw) = serde_json::from_slice::<&RawValue>(&self.body[span]) else { return Vec::new() };
        let texts = match self.endpoint {
            _ if raw.get().starts_with('"') => Ok(vec![content_text(raw)]),
            Endpoint::Chat | Endpoint::Responses => serde_json::from_str::<Vec<Message<'_>>>(raw.get())
                .map(|all| all.iter().filter_map(|m| m.content).map(content_text).collect()),
            Endpoint::Completions => serde_json::from_str(raw.get()),
        };
        // Of no shape known here: all of it counts, as it is written.
        texts.unwrap_or_else(|_| vec![raw.get().into()])
    }

    /// Bytes of text asked, tool definitions among them, for estimating tokens.
    #[must_use]
    pub fn text_bytes(&self) -> usize {
        let tools = self.spans.tools.as_ref().map_or(0, ExactSizeIterator::len);
        tools + self.texts().iter().map(|text| text.len()).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chat(body: &str) -> Prompt {
        Prompt::parse(Endpoint::Chat, Bytes::copy_from_slice(body.as_bytes())).expect(body)
    }

    #[test]
    fn keys_see_what_matters_and_nothing_else() {
        let one = chat(r#"{"model":"m","messages":[{"role":"user","content":"é"}],"stream":true,"user":"u"}"#);
        let same = chat(r#"{"messages":[{"content":"\u00e9","role":"user"}],"model":"m"}"#);
        let warmer = chat(r#"{"model":"m","temperature":0.5,"messages":[{"role":"user","content":"é"}]}"#);
        assert_eq!(one.cache_key(), same.cache_key());
        assert_ne!(one.cache_key(), warmer.cache_key());
        assert_eq!(one.content_key(), warmer.content_key());
    }

    #[test]
    fn what_is_missing_is_named() {
        let why = |body: &'static str| Prompt::parse(Endpoint::Chat, body.into()).expect_err(body).to_string();
        assert_eq!(why(r#"{"messages":[]}"#), "you must provide a model parameter");
        assert_eq!(why(r#"{"model":"m"}"#), "you must provide a messages parameter");
        assert!(why("{").contains("EOF while parsing an object at line 1 column 1"));
        assert!(why(r#"{"model":"m","messages":[],"messages":[]}"#).contains("duplicate field `messages`"));
    }

    #[test]
    fn texts_of_messages_parts_and_legacy_prompts() {
        let p = chat(r#"{"model":"m","messages":[{"content":"a"},{"content":[{"type":"text","text":"b"}]},{}]}"#);
        assert_eq!(p.texts(), ["a", "b"]);
        let legacy =
            Prompt::parse(Endpoint::Completions, r#"{"model":"m","prompt":["x","y"]}"#.into()).expect("legacy");
        assert_eq!(legacy.texts(), ["x", "y"]);
    }
}
