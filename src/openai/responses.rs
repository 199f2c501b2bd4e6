//! The shapes of `/v1/responses`: one body, and typed events that tell the
//! same story piece by piece.
//!
//! Invariant: the last event holds the whole response, so that a stream and a
//! body are read alike; events keep their order and their `type`.

use std::borrow::Cow;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::chunk::{Usage, usage};

/// What `include` must hold for an upstream to send token logprobs.
pub const INCLUDE_LOGPROBS: &str = "\"message.output_text.logprobs\"";

/// A response as far as it is read.
#[derive(Debug, Deserialize)]
pub struct ResponseBody<'a> {
    /// `completed`, `incomplete`, `failed`...
    #[serde(borrow, default)]
    pub status: Option<Cow<'a, str>>,
    /// Why it is not complete.
    #[serde(borrow, default)]
    pub incomplete_details: Option<Incomplete<'a>>,
    /// Messages, calls, and kinds yet to come.
    #[serde(borrow, default)]
    pub output: Vec<Item<'a>>,
    /// Tokens counted by the upstream.
    #[serde(default, deserialize_with = "usage")]
    pub usage: Option<Usage>,
    /// Why it failed.
    #[serde(borrow, default)]
    pub error: Option<&'a RawValue>,
}

/// Why a response is not complete.
#[derive(Debug, Deserialize)]
pub struct Incomplete<'a> {
    /// `max_output_tokens` or `content_filter`.
    #[serde(borrow, default)]
    pub reason: Option<Cow<'a, str>>,
}

/// One item of the output. Its fields mean different things in different kinds,
/// so that they are read only in those that are known.
#[derive(Debug, Deserialize)]
pub struct Item<'a> {
    /// `message`, `function_call`, `reasoning`...
    #[serde(borrow, rename = "type", default)]
    pub kind: Cow<'a, str>,
    #[serde(borrow, default)]
    content: Option<&'a RawValue>,
    #[serde(borrow, default)]
    name: Option<&'a RawValue>,
    #[serde(borrow, default)]
    arguments: Option<&'a RawValue>,
    #[serde(borrow, default)]
    input: Option<&'a RawValue>,
}

/// One part of a message.
#[derive(Debug, Deserialize)]
pub struct Part<'a> {
    /// Of `output_text`.
    #[serde(borrow, default)]
    pub text: Option<Cow<'a, str>>,
    /// Of `refusal`.
    #[serde(borrow, default)]
    pub refusal: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    logprobs: Option<&'a RawValue>,
}

impl<'a> Item<'a> {
    /// The parts of a message; none for any other item.
    #[must_use]
    pub fn parts(&self) -> Vec<Part<'a>> {
        let raw = self.content.filter(|_| self.kind == "message");
        raw.and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default()
    }

    /// The name and the arguments of a call of a function or a custom tool.
    #[must_use]
    pub fn call(&self) -> Option<(String, String)> {
        let text =
            |raw: Option<&RawValue>| raw.and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default();
        match &*self.kind {
            "function_call" => Some((text(self.name), text(self.arguments))),
            "custom_tool_call" => Some((text(self.name), text(self.input))),
            _ => None,
        }
    }
}

impl Part<'_> {
    /// Natural-log probabilities of its tokens; empty where they are not given.
    #[must_use]
    pub fn logprobs(&self) -> Vec<f64> {
        #[derive(Deserialize)]
        struct Token {
            logprob: f64,
        }
        let tokens: Option<Vec<Token>> = self.logprobs.and_then(|raw| serde_json::from_str(raw.get()).ok());
        tokens.into_iter().flatten().map(|token| token.logprob).collect()
    }
}

/// One event of a stream.
#[derive(Debug, Deserialize)]
pub struct Event<'a> {
    /// `response.output_text.delta` and so on.
    #[serde(borrow, rename = "type", default)]
    pub kind: Cow<'a, str>,
    /// The whole response, in the first and last events.
    #[serde(borrow, default)]
    pub response: Option<&'a RawValue>,
}

impl Event<'_> {
    /// Whether this event ends the stream, with the whole response in it.
    #[must_use]
    pub fn is_last(&self) -> bool {
        matches!(&*self.kind, "response.completed" | "response.incomplete" | "response.failed")
    }
}

impl ResponseBody<'_> {
    /// Why it ended, in the words of chat completions.
    #[must_use]
    pub fn finish_reason(&self) -> Option<&'static str> {
        let reason = self.incomplete_details.as_ref().and_then(|d| d.reason.as_deref());
        match (self.status.as_deref()?, reason) {
            ("completed", _) => Some("stop"),
            ("incomplete", Some("content_filter")) => Some("content_filter"),
            ("incomplete", _) => Some("length"),
            _ => None,
        }
    }
}

/// The events that a stream of this whole response would have had: its
/// beginning, each item with its text or arguments in one piece, its end. Empty
/// for bytes that are no JSON object.
#[must_use]
pub fn to_events(body: &[u8]) -> Vec<Bytes> {
    let Ok(whole @ Value::Object(_)) = serde_json::from_slice::<Value>(body) else { return Vec::new() };
    let mut begun = whole.clone();
    begun["status"] = "in_progress".into();
    begun["output"] = json!([]);
    begun["usage"] = Value::Null;
    let mut events = vec![
        json!({"type": "response.created", "response": begun}),
        json!({"type": "response.in_progress", "response": begun}),
    ];
    for (at, item) in whole["output"].as_array().into_iter().flatten().enumerate() {
        item_events(at, item, &mut events);
    }
    let end = match whole["status"].as_str() {
        Some("incomplete") => "response.incomplete",
        Some("failed") => "response.failed",
        _ => "response.completed",
    };
    events.push(json!({"type": end, "response": whole}));
    let numbered = events.into_iter().enumerate().map(|(number, mut event)| {
        event["sequence_number"] = number.into();
        Bytes::from(event.to_string())
    });
    numbered.collect()
}

fn item_events(at: usize, item: &Value, events: &mut Vec<Value>) {
    let mut begun = item.clone();
    if let Some(begun) = begun.as_object_mut() {
        for (name, value) in begun.iter_mut() {
            match (&**name, item["type"].as_str()) {
                ("status", _) => *value = "in_progress".into(),
                ("content", Some("message")) => *value = json!([]),
                ("arguments", Some("function_call")) => *value = "".into(),
                _ => {}
            }
        }
    }
    events.push(json!({"type": "response.output_item.added", "output_index": at, "item": begun}));
    let place = |kind: &str| json!({"type": kind, "item_id": item["id"], "output_index": at});
    let with = |kind: &str, more: Value| {
        let mut event = place(kind);
        if let (Some(event), Value::Object(more)) = (event.as_object_mut(), more) {
            event.extend(more);
        }
        event
    };
    let is_message = item["type"] == "message";
    for (index, part) in item["content"].as_array().into_iter().flatten().enumerate().filter(|_| is_message) {
        let (name, text) = if part["type"] == "refusal" { ("refusal", "refusal") } else { ("output_text", "text") };
        let mut empty = part.clone();
        let Some(members) = empty.as_object_mut() else { continue };
        members.insert(text.into(), "".into());
        let logprobs = || part.get("logprobs").cloned().unwrap_or_else(|| json!([]));
        events.push(with("response.content_part.added", json!({"content_index": index, "part": empty})));
        let delta = json!({"content_index": index, "delta": part[text], "logprobs": logprobs()});
        events.push(with(&format!("response.{name}.delta"), delta));
        let done = json!({"content_index": index, text: part[text], "logprobs": logprobs()});
        events.push(with(&format!("response.{name}.done"), done));
        events.push(with("response.content_part.done", json!({"content_index": index, "part": part})));
    }
    if let Some(arguments) = item.get("arguments").filter(|_| item["type"] == "function_call") {
        events.push(with("response.function_call_arguments.delta", json!({"delta": arguments})));
        let done = json!({"arguments": arguments, "name": item["name"]});
        events.push(with("response.function_call_arguments.done", done));
    }
    events.push(json!({"type": "response.output_item.done", "output_index": at, "item": item}));
}

/// The whole response that these events end in; none where they do not.
#[must_use]
pub fn to_body(events: &[Bytes]) -> Option<Bytes> {
    events.iter().rev().find_map(|data| {
        let event: Event<'_> = serde_json::from_slice(data).ok()?;
        let response = event.response.filter(|_| event.is_last())?;
        Some(data.slice_ref(response.get().as_bytes()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_survives_the_way_to_events_and_back() {
        let body = json!({"id": "resp_1", "object": "response", "status": "completed", "usage": {"input_tokens": 1},
            "output": [
                {"type": "message", "id": "msg_1", "status": "completed", "role": "assistant",
                 "content": [{"type": "output_text", "text": "hi there", "annotations": [], "logprobs": []}]},
                {"type": "reasoning", "id": "rs_1", "content": [{"type": "reasoning_text", "text": "hm"}], "arguments": {}},
                {"type": "function_call", "id": "fc_1", "call_id": "c", "name": "f", "arguments": "{}", "status": "completed"}]});
        let events = to_events(body.to_string().as_bytes());
        let kinds: Vec<String> = events
            .iter()
            .map(|e| serde_json::from_slice::<Event<'_>>(e).expect("an event").kind.into_owned())
            .collect();
        assert_eq!(
            kinds,
            [
                "response.created",
                "response.in_progress",
                "response.output_item.added",
                "response.content_part.added",
                "response.output_text.delta",
                "response.output_text.done",
                "response.content_part.done",
                "response.output_item.done",
                "response.output_item.added",
                "response.output_item.done",
                "response.output_item.added",
                "response.function_call_arguments.delta",
                "response.function_call_arguments.done",
                "response.output_item.done",
                "response.completed"
            ]
        );
        let back: Value = serde_json::from_slice(&to_body(&events).expect("its end")).expect("JSON");
        assert_eq!(back, body);
        assert_eq!(to_body(&events[..5]), None);
    }
}
