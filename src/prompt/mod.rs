//! What the cascade sees of a request, whichever endpoint it came by.
//!
//! Invariant: the body stays as the client sent it; [`Prompt::body_for`]
//! splices in the few bytes that must differ upstream.

mod alike;
mod asked;
mod onward;

pub use alike::Question;
pub use asked::{Asked, numbers, without_examples};
pub use onward::{MAX_LIST, TooMany};

use std::borrow::Cow;
use std::sync::OnceLock;
use std::time::Duration;

use blake3::Hasher;
use bytes::Bytes;
use http::HeaderMap;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::openai::Endpoint;
use crate::openai::canonical::feed_member;
use crate::openai::chunk::content_text;
use crate::openai::contract::Contract;
use crate::openai::request::{Fields, include_usage};
use crate::openai::responses::INCLUDE_LOGPROBS;
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
    /// True where the provider keeps the answer, so that each request counts and
    /// none may be answered from a cache.
    pub is_kept_upstream: bool,
    /// How long the client waits before it gives up, where it says so.
    pub patience: Option<Duration>,
    /// The client's own name for the conversation.
    pub session: Option<String>,
    /// Who asks, where clients have keys: what they are told is remembered apart.
    pub tenant: Option<String>,
    /// How new an answer must be.
    pub freshness: Freshness,
    /// Whether the gateway made it, as it does for judges: nothing is like it.
    pub is_ours: bool,
    /// Request headers that go on to the upstream.
    pub headers: HeaderMap,
    body: Bytes,
    fields: Fields,
    contract: OnceLock<Contract>,
    cache_key: OnceLock<[u8; 32]>,
    content_key: OnceLock<[u8; 32]>,
    asked: OnceLock<Asked>,
}

/// How new an answer must be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Freshness {
    /// One that is remembered will do.
    #[default]
    Any,
    /// It must be new, and may be remembered.
    New,
    /// It must be new, and must not be remembered.
    NotKept,
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
        let fields = Fields::read(&body).map_err(NotAPrompt::Json)?;
        let raw = |name| fields.raw(&body, name);
        let is_response = endpoint == Endpoint::Responses;
        let model = fields.typed(&body, "model").map_err(NotAPrompt::Json)?.ok_or(NotAPrompt::Missing("model"))?;
        // The API allows a completion, or a response, of nothing.
        if endpoint == Endpoint::Chat && raw("messages").is_none() {
            return Err(NotAPrompt::Missing("messages"));
        }
        let format = raw(if is_response { "text" } else { "response_format" });
        Ok(Self {
            endpoint,
            model,
            stream: fields.typed(&body, "stream").map_err(NotAPrompt::Json)?.unwrap_or(false),
            // A response's last event has its usage anyway.
            asks_usage: is_response || raw("stream_options").is_some_and(|options| include_usage(options).1),
            asks_logprobs: match endpoint {
                Endpoint::Responses => raw("include").is_some_and(|list| list.contains(INCLUDE_LOGPROBS)),
                Endpoint::Chat | Endpoint::Completions => raw("logprobs").is_some_and(|value| value != "false"),
            },
            has_tools: [raw("tools"), raw("functions")].iter().flatten().any(|list| *list != "[]"),
            asks_json: format.is_some_and(|format| format.contains("\"json_")),
            temperature: fields.typed(&body, "temperature").map_err(NotAPrompt::Json)?.unwrap_or(1.0),
            one_tier: fields.is_for_one_tier(endpoint, &body),
            is_kept_upstream: fields.is_kept_upstream(endpoint, &body),
            patience: None,
            session: None,
            tenant: None,
            freshness: Freshness::Any,
            is_ours: false,
            headers: HeaderMap::new(),
            contract: OnceLock::new(),
            cache_key: OnceLock::new(),
            content_key: OnceLock::new(),
            asked: OnceLock::new(),
            fields,
            body,
        })
    }

    /// A field as it is written; none where it is not given or null.
    #[must_use]
    pub fn raw(&self, name: &str) -> Option<&str> {
        self.fields.raw(&self.body, name)
    }

    /// The field that says what is asked.
    fn content_field(&self) -> &'static str {
        match self.endpoint {
            Endpoint::Chat => "messages",
            Endpoint::Completions => "prompt",
            Endpoint::Responses => "input",
        }
    }

    fn content(&self) -> &str {
        self.raw(self.content_field()).unwrap_or_default()
    }

    /// The body as the client sent it.
    #[must_use]
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// One key for all spellings of the same request, for the cache.
    pub fn cache_key(&self) -> &[u8; 32] {
        self.cache_key.get_or_init(|| self.key(|name| !Self::NOT_IN_KEY.contains(&name)))
    }

    /// One key for all requests that ask the same thing, whatever the model
    /// and the sampling, for finding a recorded answer.
    pub fn content_key(&self) -> &[u8; 32] {
        self.content_key.get_or_init(|| self.key(|name| Self::CONTENT.contains(&name)))
    }

    fn key(&self, counts: impl Fn(&str) -> bool) -> [u8; 32] {
        let mut hasher = Hasher::new();
        hasher.update(self.endpoint.path().as_bytes());
        let fields = self.fields.iter(&self.body).filter(|(name, _)| counts(name));
        fields.for_each(|(name, value)| feed_member(&mut hasher, name, value));
        hasher.finalize().into()
    }

    /// What is demanded of the answer's form.
    pub fn contract(&self) -> &Contract {
        self.contract.get_or_init(|| {
            let format = if self.endpoint == Endpoint::Responses { "text" } else { "response_format" };
            let tools = self.raw("tools").or_else(|| self.raw("functions"));
            Contract::read(tools, self.raw("tool_choice"), self.raw(format))
        })
    }

    /// Where it stands in a conversation.
    #[must_use]
    pub fn turn(&self) -> Turn {
        let mut turn = Turn::read(self.content(), self.raw("instructions"), self.session.as_deref());
        if let (Some(tenant), Some(conversation)) = (&self.tenant, &mut turn.conversation) {
            *conversation = Hasher::new().update(conversation).update(tenant.as_bytes()).finalize().into();
        }
        turn
    }

    /// The question, without the examples before it.
    pub fn asked(&self) -> &Asked {
        self.asked.get_or_init(|| Asked::read(self))
    }

    /// Whether the request holds pictures or sound.
    #[must_use]
    pub fn has_media(&self) -> bool {
        ["\"image_url\"", "\"input_image\"", "\"input_audio\""].iter().any(|kind| self.content().contains(kind))
    }

    /// The texts asked, in order: each message's, or the legacy prompt.
    #[must_use]
    pub fn texts(&self) -> Vec<Cow<'_, str>> {
        self.texts_until(|_| false)
    }

    /// The texts that open the conversation: up to the first message of a user.
    #[must_use]
    pub fn opening(&self) -> Vec<Cow<'_, str>> {
        self.texts_until(|role| role == "user")
    }

    /// The texts up to the first message by whom `is_last` says so.
    fn texts_until(&self, is_last: impl Fn(&str) -> bool) -> Vec<Cow<'_, str>> {
        #[derive(Deserialize)]
        struct Message<'a> {
            #[serde(borrow, default)]
            role: Option<Cow<'a, str>>,
            #[serde(borrow, default)]
            content: Option<&'a RawValue>,
        }
        let raw = self.content();
        let texts = match self.endpoint {
            _ if raw.is_empty() => return Vec::new(),
            _ if raw.starts_with('"') => serde_json::from_str(raw).map(|text| vec![text]),
            Endpoint::Completions => serde_json::from_str(raw),
            Endpoint::Chat | Endpoint::Responses => serde_json::from_str::<Vec<Message<'_>>>(raw).map(|mut all| {
                let last = all.iter().position(|m| m.role.as_deref().is_some_and(&is_last));
                all.truncate(last.map_or(all.len(), |last| last + 1));
                all.iter().filter_map(|m| m.content).map(content_text).collect()
            }),
        };
        // Of no shape known here: all of it counts, as it is written.
        texts.unwrap_or_else(|_| vec![raw.into()])
    }

    /// Bytes of text asked, tool definitions among them, for estimating tokens.
    #[must_use]
    pub fn text_bytes(&self) -> usize {
        let tools = self.raw("tools").or_else(|| self.raw("functions")).map_or(0, str::len);
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
        assert!(why(r#"{"model":"m","messages":[],"messages":[]}"#).contains("`messages` is given twice"));
        assert!(why(r#"["m",[]]"#).contains("expected an object"));
        assert!(why(r#"{"model":"m","messages":[],"stream":"yes"}"#).contains("`stream`: invalid type: string"));
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
