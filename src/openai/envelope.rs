//! The error body of the OpenAI API: `{"error":{message,type,param,code}}`.
//!
//! Invariant: all four keys are always there; `param` and `code` may be null.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use serde::Serialize;
use serde_json::Value;

/// The inside of an error body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ErrorBody {
    /// One sentence for a person: what is wrong and what to do.
    pub message: String,
    /// The class of error, `invalid_request_error` for one.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The request field at fault, if one is.
    pub param: Option<String>,
    /// A word for programs, `model_not_found` for one.
    pub code: Option<&'static str>,
}

#[derive(Serialize)]
struct Envelope<'a> {
    error: &'a ErrorBody,
}

impl ErrorBody {
    /// The body as sent to a client.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(&Envelope { error: self }).unwrap_or_default()
    }
}

/// What an upstream's error body says, for our own message and log: its
/// message where it has one, cut short, and with what looks like a key hidden.
#[must_use]
pub fn excerpt(body: &[u8]) -> String {
    const MAX_CHARS: usize = 300;
    let value: Option<Value> = serde_json::from_slice(body).ok();
    let said = value.as_ref().and_then(|v| {
        let error = v.get("error").unwrap_or(v);
        ["message", "detail"].iter().find_map(|name| error.get(name)?.as_str()).or_else(|| error.as_str())
    });
    let text = said.map_or_else(|| String::from_utf8_lossy(&body[..body.len().min(4 * MAX_CHARS)]), Into::into);
    let words = text.split_whitespace().map(|word| if looks_secret(word) { "[hidden]" } else { word });
    let joined = words.collect::<Vec<_>>().join(" ");
    match joined.char_indices().nth(MAX_CHARS) {
        Some((at, _)) => format!("{}...", &joined[..at]),
        None => joined,
    }
}

/// The same bytes with stars where they hold a secret.
#[must_use]
pub fn hidden(bytes: Bytes, secret: &[u8]) -> Bytes {
    if secret.is_empty() || memchr::memmem::find(&bytes, secret).is_none() {
        return bytes;
    }
    let mut starred = BytesMut::from(&bytes[..]);
    for at in memchr::memmem::find_iter(&bytes, secret) {
        starred[at..at + secret.len()].fill(b'*');
    }
    starred.freeze()
}

/// What keys begin with: providers' and our own.
pub const SECRET_PREFIXES: [&str; 12] =
    ["sk-", "sk_", "gsk_", "xai-", "AIza", "hf_", "pck_", "ghp_", "gho_", "AKIA", "Bearer ", "bearer "];

/// Whether a text holds something like a provider's key.
#[must_use]
pub fn looks_secret(text: &str) -> bool {
    !secrets_in(text).is_empty()
}

/// Where a text holds what looks like keys, in bytes, in order.
#[must_use]
pub fn secrets_in(text: &str) -> Vec<Range<usize>> {
    const SHORTEST: usize = 12;
    let bytes = text.as_bytes();
    let is_key = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_*.".contains(byte);
    let mut found: Vec<Range<usize>> = Vec::new();
    for prefix in SECRET_PREFIXES {
        for start in memchr::memmem::find_iter(bytes, prefix.as_bytes()) {
            // Not in the middle of a word; but a JSON text in a text has its escapes.
            let is_escape = start >= 2 && bytes[start - 2] == b'\\' && b"nrt".contains(&bytes[start - 1]);
            let is_start = start == 0 || !bytes[start - 1].is_ascii_alphanumeric() || is_escape;
            let key = start + prefix.len();
            let end = key + bytes[key..].iter().position(|byte| !is_key(byte)).unwrap_or(bytes.len() - key);
            let length = if prefix.ends_with(' ') { end - key } else { end - start };
            if is_start && length >= SHORTEST && !found.iter().any(|other| other.start < end && start < other.end) {
                found.push(start..end);
            }
        }
    }
    found.sort_by_key(|range| range.start);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_however_they_stand() {
        let found = |text: &'static str| secrets_in(text).into_iter().map(|range| &text[range]).collect::<Vec<_>>();
        assert_eq!(found("**sk-abcdefghijkl** and _hf_abcdefghij_"), ["sk-abcdefghijkl**", "hf_abcdefghij_"]);
        assert_eq!(found(r#"{"text":"KEY\nsk-abcdefghijkl"}"#), ["sk-abcdefghijkl"]);
        assert_eq!(found("Authorization: Bearer eyJhbGciOiJI.x"), ["Bearer eyJhbGciOiJI.x"]);
        assert_eq!(found("ask-me-anything-now, a risk-free task_force"), [""; 0]);
    }

    #[test]
    fn an_excerpt_is_short_and_hides_keys() {
        let body = br#"{"error":{"message":"Incorrect API key provided: sk-proj-*****1234. See https://x.example"}}"#;
        assert_eq!(excerpt(body), "Incorrect API key provided: [hidden] See https://x.example");
        assert_eq!(excerpt(br#"{"detail":"no"}"#), "no");
        assert_eq!(excerpt(b"<html>\n\n  busy</html>"), "<html> busy</html>");
        assert_eq!(excerpt("x".repeat(10_000).as_bytes()).len(), 303);
    }
}
