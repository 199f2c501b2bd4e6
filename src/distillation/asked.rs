//! A prompt in the shape that fine-tuning takes.

use serde_json::{Map, Value, json};

use crate::exchange::Exchange;
use crate::openai::Endpoint;
use crate::openai::chunk::content_text;

/// The prompt as messages with the fields that fine-tuning takes, texts as texts.
pub(super) struct Asked {
    pub messages: Vec<Map<String, Value>>,
    pub offered: Map<String, Value>,
}

impl Asked {
    /// Fields of a message that files of training data may have.
    const OF_MESSAGE: [&'static str; 5] = ["role", "name", "tool_calls", "function_call", "tool_call_id"];

    /// None where there is more than text.
    pub fn of(exchange: &Exchange) -> Option<Self> {
        let prompt = &exchange.prompt;
        if prompt.endpoint == Endpoint::Completions {
            let text: String = serde_json::from_str(prompt.raw("prompt")?).ok()?;
            let Value::Object(message) = json!({"role": "user", "content": text}) else { return None };
            return Some(Self { messages: vec![message], offered: Map::new() });
        }
        if prompt.has_media() {
            return None;
        }
        let read: Vec<Map<String, Value>> = serde_json::from_str(prompt.raw("messages")?).ok()?;
        let message = |read: Map<String, Value>| {
            let kept = Self::OF_MESSAGE.iter().filter_map(|name| Some(((*name).to_owned(), read.get(*name)?.clone())));
            let mut message: Map<String, Value> = kept.filter(|(_, value)| !value.is_null()).collect();
            let content = match read.get("content") {
                Some(Value::String(text)) => text.clone().into(),
                Some(Value::Array(parts)) => {
                    // A file or a picture is part of what is asked.
                    if !parts.iter().all(|part| part["type"] == "text") {
                        return None;
                    }
                    let raw = serde_json::value::to_raw_value(parts).ok()?;
                    content_text(&raw).into_owned().into()
                }
                _ => Value::Null,
            };
            message.insert("content".to_owned(), content);
            Some(message)
        };
        let messages: Option<Vec<_>> = read.into_iter().map(message).collect();
        let of_request = ["tools", "functions", "parallel_tool_calls"].into_iter();
        let offered = of_request.filter_map(|name| {
            let value: Value = serde_json::from_str(prompt.raw(name)?).ok()?;
            let is_empty = value.as_array().is_some_and(Vec::is_empty);
            (!is_empty).then(|| (name.to_owned(), value))
        });
        Some(Self { messages: messages.filter(|all| !all.is_empty())?, offered: offered.collect() })
    }
}
