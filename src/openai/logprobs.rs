//! Where token logprobs stand in a body or a frame of any endpoint, so that
//! those nobody asked for can be cut out.
//!
//! Invariant: only a member called `logprobs` is found, never text that
//! happens to read so.

use std::ops::Range;

use memchr::memmem;

use super::Endpoint;
use super::scan::Cursor;
use super::splice::Splice;

/// The byte ranges of the values of all members called `logprobs`, outermost
/// first where one stands in another. `body` must be JSON.
#[must_use]
pub fn spans(body: &[u8]) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(start) = next(body, at) {
        let mut cursor = Cursor::new(body, start);
        // One without an end stays.
        at = start;
        if cursor.skip().is_some() {
            at = cursor.at();
            found.push(start..at);
        }
    }
    found
}

/// Where the value of the next member called `logprobs` starts.
fn next(body: &[u8], from: usize) -> Option<usize> {
    const NAME: &[u8] = b"\"logprobs\"";
    let mut at = from;
    loop {
        let name = at + memmem::find(&body[at..], NAME)?;
        at = name + NAME.len();
        // As a value it is followed by no colon; within a string its quotes are escaped.
        let is_escaped = name > 0 && body[name - 1] == b'\\';
        let Some(colon) = skip_space(body, at).filter(|i| body[*i] == b':' && !is_escaped) else { continue };
        if let Some(start) = skip_space(body, colon + 1) {
            return Some(start);
        }
    }
}

/// What stands where an endpoint sends no logprobs.
#[must_use]
pub fn none_of(endpoint: Endpoint) -> &'static [u8] {
    match endpoint {
        Endpoint::Chat | Endpoint::Completions => b"null",
        Endpoint::Responses => b"[]",
    }
}

/// The edits that cut all logprobs out, which stand at `known`; where that is empty they
/// are looked for.
#[must_use]
pub fn cut(endpoint: Endpoint, body: &[u8], known: &[Range<usize>]) -> Splice {
    let mut splice = Splice::default();
    let found = if known.is_empty() { spans(body) } else { known.to_vec() };
    for span in found {
        if &body[span.clone()] != none_of(endpoint) {
            splice.replace(span, none_of(endpoint));
        }
    }
    splice
}

fn skip_space(body: &[u8], from: usize) -> Option<usize> {
    let rest = body.get(from..)?;
    Some(from + rest.iter().position(|b| !b.is_ascii_whitespace())?)
}

/// A body without its logprobs, and those: read in one pass over what is most of it.
#[derive(Debug, PartialEq)]
pub struct Lean {
    /// The body with [`Self::CUT`] where they stood.
    pub body: Vec<u8>,
    /// Natural-log probabilities of each choice's tokens, in the body's order.
    pub logprobs: Vec<Vec<f64>>,
    /// Where they stood, in bytes.
    pub spans: Vec<Range<usize>>,
}

impl Lean {
    /// What no upstream writes for logprobs, so that it is seen whose they were.
    pub const CUT: &str = "0";

    /// None where there are none, or any is not in the shape of chat or of legacy
    /// completions.
    #[must_use]
    pub fn of(body: &[u8]) -> Option<Self> {
        let (mut splice, mut logprobs, mut spans, mut at) = (Splice::default(), Vec::new(), Vec::new(), 0);
        while let Some(start) = next(body, at) {
            let mut cursor = Cursor::new(body, start);
            logprobs.push(values(&mut cursor)?);
            at = cursor.at();
            std::str::from_utf8(&body[start..at]).ok()?;
            splice.replace(start..at, Self::CUT);
            spans.push(start..at);
        }
        (!spans.is_empty()).then(|| Self { body: splice.apply(body), logprobs, spans })
    }
}

/// The logprobs of one member called so; see [`super::chunk::token_logprobs`].
fn values(cursor: &mut Cursor<'_>) -> Option<Vec<f64>> {
    if cursor.null()? {
        return Some(Vec::new());
    }
    let (mut chat, mut legacy) = (None, None);
    cursor.each_member(|cursor, name| match name {
        b"content" if chat.is_none() && !cursor.null()? => {
            let all = chat.insert(Vec::new());
            cursor.each_item(|cursor| {
                if let Some(logprob) = usual(cursor) {
                    all.push(logprob);
                    return Some(());
                }
                let mut found = None;
                cursor.each_member(|cursor, name| {
                    match (name, found) {
                        (b"logprob", None) => found = Some(cursor.number()?),
                        // A name that stands twice means one thing here and another there.
                        (b"logprob", Some(_)) => return None,
                        _ => cursor.skip()?,
                    }
                    Some(())
                })?;
                all.push(found?);
                Some(())
            })
        }
        b"token_logprobs" if legacy.is_none() && !cursor.null()? => {
            let all = legacy.insert(Vec::new());
            cursor.each_item(|cursor| {
                if !cursor.null()? {
                    all.push(cursor.number()?);
                }
                Some(())
            })
        }
        b"content" if chat.is_none() => Some(()),
        b"token_logprobs" if legacy.is_none() => Some(()),
        b"content" | b"token_logprobs" => None,
        _ => cursor.skip(),
    })?;
    Some(chat.or(legacy).unwrap_or_default())
}

/// The logprob of a token as OpenAI, vLLM and most others write it; stands still before one
/// that is written in another way.
fn usual(cursor: &mut Cursor<'_>) -> Option<f64> {
    let mut ahead = *cursor;
    ahead.word(b"{\"token\":")?;
    ahead.string()?;
    ahead.word(b",\"logprob\":")?;
    let logprob = ahead.number()?;
    ahead.word(b",\"bytes\":")?;
    ahead.whole_numbers()?;
    ahead.word(b",\"top_logprobs\":[]}")?;
    *cursor = ahead;
    Some(logprob)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(body: &str) -> Vec<&str> {
        spans(body.as_bytes()).into_iter().map(|span| &body[span]).collect()
    }

    #[test]
    fn members_are_found_and_text_is_not() {
        assert_eq!(
            found(r#"{"logprobs":null,"a":[{"logprobs" : {"content":[{"token":"]}"}]} }]}"#),
            ["null", r#"{"content":[{"token":"]}"}]}"#]
        );
        assert_eq!(found(r#"{"logprobs":[]}"#), ["[]"]);
        assert_eq!(found(r#"{"logprobs":"a\"b","x":1}"#), [r#""a\"b""#]);
        assert_eq!(found(r#"{"logprobs":true}"#), ["true"]);
        assert_eq!(found(r#"{"content":"\"logprobs\": {}","include":["logprobs"],"top_logprobs":5}"#), [""; 0]);
    }

    #[test]
    fn a_lean_body_has_all_but_the_logprobs() {
        let body = r#"{"choices":[{"index":0,"logprobs":{"content":[{"token":"]\"","logprob":-0.5,"bytes":[1],"top_logprobs":[{"token":"a","logprob":-9}]},{"logprob":-1e-3}],"refusal":null},"message":{"content":"x"}},{"logprobs":null}]}"#;
        let lean = Lean::of(body.as_bytes()).expect("lean");
        assert_eq!(lean.logprobs, [vec![-0.5, -0.001], vec![]]);
        let left = r#"{"choices":[{"index":0,"logprobs":0,"message":{"content":"x"}},{"logprobs":0}]}"#;
        assert_eq!(String::from_utf8(lean.body).expect("UTF-8"), left);
        let legacy = r#"{"logprobs":{"tokens":["a","b"],"token_logprobs":[null,-2],"text_offset":[0,1]}}"#;
        assert_eq!(Lean::of(legacy.as_bytes()).expect("lean").logprobs, [[-2.0]]);
        for other in [
            r#"{"logprobs":[]}"#,
            r#"{"logprobs":{"content":[{"token":"a"}]}}"#,
            r#"{"logprobs":{"content":[{"logprob":-1}}"#,
            "{}",
        ] {
            assert_eq!(Lean::of(other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn what_is_cut_short_does_no_harm() {
        for body in [r#"{"logprobs""#, r#"{"logprobs":"#, r#"{"logprobs":{"a":["#, r#"{"logprobs":"x\"#] {
            let _ = spans(body.as_bytes());
        }
    }
}
