//! One answer, two shapes: a whole body as frames and frames as a whole body,
//! and frames without what only the gateway asked for.
//!
//! Invariant: a frame always has `choices`; clients reject any other.

use std::ops::Range;

use bytes::Bytes;
use memchr::memmem;
use serde_json::{Map, Value, json};

use super::glance::{Glance, UsageAt};
use super::splice::Splice;
use super::{Endpoint, logprobs, responses};

const EVERY_FRAME: [&str; 6] = ["id", "object", "created", "model", "system_fingerprint", "service_tier"];

/// The frames that a stream of this whole body would have had: one with the
/// role, some with the text, one with the reason it ended, and one with the usage
/// where `usage` asks for it. Empty for bytes that are no JSON object.
#[must_use]
pub fn to_frames(endpoint: Endpoint, body: &[u8], usage: bool) -> Vec<Bytes> {
    if endpoint == Endpoint::Responses {
        return responses::to_events(body);
    }
    let Ok(Value::Object(mut head)) = serde_json::from_slice(body) else { return Vec::new() };
    let choices = head.remove("choices");
    let counted = head.remove("usage");
    if endpoint == Endpoint::Chat {
        head.insert("object".into(), "chat.completion.chunk".into());
    }
    // What every frame of a real stream has; anything else rides on the first.
    let mut every = head.clone();
    every.retain(|name, _| EVERY_FRAME.contains(&&**name));
    let frame = |is_first: bool, choices: Value, counted: Option<&Value>| {
        let mut frame = if is_first { head.clone() } else { every.clone() };
        frame.insert("choices".into(), choices);
        if let Some(counted) = counted {
            frame.insert("usage".into(), counted.clone());
        }
        Bytes::from(Value::Object(frame).to_string())
    };
    let mut frames = Vec::new();
    for choice in choices.as_ref().and_then(Value::as_array).into_iter().flatten() {
        for piece in choice_pieces(endpoint, choice) {
            frames.push(frame(frames.is_empty(), json!([piece]), None));
        }
    }
    if let (true, Some(counted)) = (usage, counted) {
        frames.push(frame(false, json!([]), Some(&counted)));
    }
    frames
}

fn choice_pieces(endpoint: Endpoint, choice: &Value) -> Vec<Value> {
    let index = &choice["index"];
    let logprobs = choice.get("logprobs").cloned().unwrap_or(Value::Null);
    let end = &choice["finish_reason"];
    let none = Value::Null;
    if endpoint == Endpoint::Completions {
        let mut pieces: Vec<Value> = words(choice["text"].as_str().unwrap_or(""))
            .map(|word| json!({"text": word, "index": index, "logprobs": none, "finish_reason": none}))
            .collect();
        pieces.push(json!({"text": "", "index": index, "logprobs": logprobs, "finish_reason": end}));
        return pieces;
    }
    let piece = |delta: Value, logprobs: &Value, end: &Value| json!({"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": end});
    let mut first = choice["message"].as_object().cloned().unwrap_or_default();
    let content = first.insert("content".into(), "".into());
    first.retain(|name, value| name == "content" || !value.is_null());
    for (at, call) in first.get_mut("tool_calls").and_then(Value::as_array_mut).into_iter().flatten().enumerate() {
        if let Some(call) = call.as_object_mut() {
            call.insert("index".into(), at.into());
        }
    }
    let mut pieces = vec![piece(Value::Object(first), &none, &none)];
    match content {
        Some(Value::String(text)) => {
            pieces.extend(words(&text).map(|word| piece(json!({"content": word}), &none, &none)));
        }
        // A list of parts, with some providers: as it came.
        Some(parts) if !parts.is_null() => pieces.push(piece(json!({"content": parts}), &none, &none)),
        _ => {}
    }
    // All logprobs ride on the last frame: tokens and words need not agree.
    pieces.push(piece(json!({}), &logprobs, end));
    pieces
}

/// The text cut after white space into at most [`MAX_WORDS`] pieces or so; the
/// pieces add up to it.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let least = text.len() / MAX_WORDS;
    let mut rest = text;
    std::iter::from_fn(move || {
        let ends = rest.char_indices().filter(|(_, c)| c.is_whitespace()).map(|(at, c)| at + c.len_utf8());
        let end = ends.into_iter().find(|end| *end > least).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        rest = after;
        (!word.is_empty()).then_some(word)
    })
}

/// Frames are some 200 bytes of wrapping each: more of them would only be slower.
const MAX_WORDS: usize = 256;

/// The whole body that these frames add up to; none where a frame cannot be
/// read, such as one that holds half of a surrogate pair.
#[must_use]
pub fn to_body(endpoint: Endpoint, frames: &[Bytes]) -> Option<Bytes> {
    if endpoint == Endpoint::Responses {
        return responses::to_body(frames);
    }
    let mut body = Map::new();
    let mut choices: Vec<Value> = Vec::new();
    for frame in frames {
        let Ok(Value::Object(frame)) = serde_json::from_slice(frame) else { return None };
        for (name, value) in frame {
            if name != "choices" {
                if !value.is_null() {
                    body.insert(name, value);
                }
                continue;
            }
            for piece in value.as_array().into_iter().flatten() {
                let index = usize::try_from(piece["index"].as_u64().unwrap_or(0)).unwrap_or(0).min(128);
                if index >= choices.len() {
                    choices.resize(index + 1, json!({}));
                }
                merge(&mut choices[index], piece);
            }
        }
    }
    for (index, choice) in choices.iter_mut().enumerate() {
        if let Some(choice) = choice.as_object_mut() {
            if let Some(mut message) = choice.remove("delta") {
                for call in message.get_mut("tool_calls").and_then(Value::as_array_mut).into_iter().flatten() {
                    call.as_object_mut().map(|call| call.remove("index"));
                }
                if message.get("tool_calls").is_some() && message["content"] == "" {
                    message["content"] = Value::Null;
                }
                message.as_object_mut().map(|m| m.entry("content").or_insert(Value::Null).is_null());
                choice.insert("message".into(), message);
            }
            choice.insert("index".into(), index.into());
        }
    }
    body.insert("choices".into(), choices.into());
    if endpoint == Endpoint::Chat {
        body.insert("object".into(), "chat.completion".into());
    }
    Some(Bytes::from(Value::Object(body).to_string()))
}

/// Text that grows from frame to frame; any other is the same in each.
const GROWING: [&str; 7] = ["content", "refusal", "reasoning", "reasoning_content", "text", "arguments", "name"];

/// Adds a frame's value to what came before: text and lists grow, items with an
/// `index` are merged by it, anything else but null takes the place.
fn merge(to: &mut Value, from: &Value) {
    match (to, from) {
        (Value::Object(to), Value::Object(from)) => {
            for (name, value) in from {
                match (to.get_mut(name), value) {
                    (Some(Value::String(before)), Value::String(more)) if GROWING.contains(&&**name) => {
                        before.push_str(more);
                    }
                    (Some(before), value) => merge(before, value),
                    (None, value) => _ = to.insert(name.clone(), value.clone()),
                }
            }
        }
        (Value::Array(to), Value::Array(from)) => {
            for item in from {
                // As many as a choice may have; see `Gathered::add`.
                let known = item.get("index").and_then(|i| to.iter().take(128).position(|t| t.get("index") == Some(i)));
                match known {
                    Some(at) => merge(&mut to[at], item),
                    None => to.push(item.clone()),
                }
            }
        }
        (_, Value::Null) => {}
        (to, from) => *to = from.clone(),
    }
}

/// What the gateway asked an upstream for and the client did not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unasked {
    /// Token logprobs.
    pub logprobs: bool,
    /// The usage frame at the end of a stream.
    pub usage: bool,
}

/// A frame less what the client did not ask for; none where nothing is left,
/// and none for a frame without `choices`, which clients take for a fault.
#[must_use]
pub fn strip_frame(endpoint: Endpoint, frame: &Bytes, unasked: Unasked) -> Option<Bytes> {
    if endpoint != Endpoint::Responses && memmem::find(frame, b"\"choices\"").is_none() {
        return None;
    }
    let frame = if unasked.usage { without_usage(frame)? } else { frame.clone() };
    Some(if unasked.logprobs { strip_body(endpoint, &frame, &[]) } else { frame })
}

/// A frame without its `usage` member; none where it had nothing else to say.
fn without_usage(frame: &Bytes) -> Option<Bytes> {
    // Most frames have none, and need not be looked at.
    if memmem::find(frame, b"\"usage\"").is_none() {
        return Some(frame.clone());
    }
    let Some(Glance { choices, usage: Some(UsageAt { member, is_null }), .. }) = Glance::at(frame) else {
        return Some(frame.clone());
    };
    if choices == 0 && !is_null {
        return None;
    }
    let is_text = |b: &u8| !b.is_ascii_whitespace();
    // With the comma before it, or as the first member with the one after.
    let comma = frame[..member.start].iter().rposition(is_text).filter(|at| frame[*at] == b',');
    let after = member.end + frame[member.end..].iter().position(is_text)?;
    let range = match comma {
        Some(comma) => comma..member.end,
        None if frame[after] == b',' => member.start..after + 1,
        None => member,
    };
    let mut splice = Splice::default();
    splice.replace(range, *b"");
    Some(splice.apply(frame).into())
}

/// A body or a frame without logprobs, which stand at `known`; where that is empty they
/// are looked for.
#[must_use]
pub fn strip_body(endpoint: Endpoint, body: &Bytes, known: &[Range<usize>]) -> Bytes {
    let splice = logprobs::cut(endpoint, body, known);
    if splice.is_empty() { body.clone() } else { splice.apply(body).into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_survives_the_way_to_frames_and_back() {
        for (endpoint, body) in [
            (
                Endpoint::Chat,
                json!({"id":"x","object":"chat.completion","created":5,"model":"m","choices":[
                {"index":0,"message":{"role":"assistant","content":"two  words\n"},"logprobs":{"content":[{"token":"a","logprob":-1.0}]},"finish_reason":"stop"},
                {"index":1,"message":{"role":"assistant","content":null,"tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":"{}"}}]},
                 "logprobs":null,"finish_reason":"tool_calls"}],"usage":{"prompt_tokens":1,"completion_tokens":2}}),
            ),
            (
                Endpoint::Completions,
                json!({"id":"x","object":"text_completion","model":"m","choices":[
                {"text":" pain au\n","index":0,"logprobs":{"tokens":["a"]},"finish_reason":"length"}],"usage":{"prompt_tokens":1}}),
            ),
        ] {
            let frames = to_frames(endpoint, body.to_string().as_bytes(), true);
            assert!(frames.len() > 4, "{frames:?}");
            let back: Value = serde_json::from_slice(&to_body(endpoint, &frames).expect("readable")).expect("JSON");
            assert_eq!(back, body);
        }
    }

    #[test]
    fn only_what_was_not_asked_for_is_stripped() {
        let strip = |frame: &'static str, logprobs: bool, usage: bool| {
            let stripped =
                strip_frame(Endpoint::Chat, &Bytes::from_static(frame.as_bytes()), Unasked { logprobs, usage });
            stripped.map(|bytes| String::from_utf8(bytes.to_vec()).expect("utf-8"))
        };
        let frame = r#"{"choices":[{"index":0, "logprobs":{"content":[]},"delta":{"content":"\"usage\": u"}}] , "usage": null}"#;
        assert_eq!(strip(frame, false, false).as_deref(), Some(frame));
        let bare = r#"{"choices":[{"index":0, "logprobs":null,"delta":{"content":"\"usage\": u"}}] }"#;
        assert_eq!(strip(frame, true, true).as_deref(), Some(bare));
        let first = r#"{ "usage":{"prompt_tokens":1}, "choices":[{"index":0}]}"#;
        assert_eq!(strip(first, true, true).as_deref(), Some(r#"{  "choices":[{"index":0}]}"#));
        let usage = r#"{"choices":[],"usage":{"prompt_tokens":1}}"#;
        assert_eq!(strip(usage, true, true), None);
        assert_eq!(strip(usage, true, false).as_deref(), Some(usage));
        assert_eq!(strip(r#"{"object":"note"}"#, false, false), None, "a frame without choices is nobody's");
    }
}
