//! Where token logprobs stand in a body or a frame of any endpoint, so that
//! those nobody asked for can be cut out.
//!
//! Invariant: only a member called `logprobs` is found, never text that
//! happens to read so.

use std::ops::Range;

use memchr::memmem;

use super::Endpoint;
use super::splice::Splice;

/// The byte ranges of the values of all members called `logprobs`, outermost
/// first where one stands in another. `body` must be JSON.
#[must_use]
pub fn spans(body: &[u8]) -> Vec<Range<usize>> {
    const NAME: &[u8] = b"\"logprobs\"";
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(next) = memmem::find(&body[at..], NAME) {
        let after = at + next + NAME.len();
        at = after;
        // As a value it is followed by no colon; within a string its quotes are escaped.
        let Some(colon) = skip_space(body, after).filter(|i| body[*i] == b':') else { continue };
        let is_escaped = next > 0 && body[after - NAME.len() - 1] == b'\\';
        let Some(start) = skip_space(body, colon + 1).filter(|_| !is_escaped) else { continue };
        let end = end_of_value(body, start);
        found.push(start..end);
        at = end;
    }
    found
}

/// What stands where an endpoint sends no logprobs.
#[must_use]
pub fn none_of(endpoint: Endpoint) -> &'static [u8] {
    match endpoint {
        Endpoint::Chat | Endpoint::Completions => b"null",
        Endpoint::Responses => b"[]",
    }
}

/// The edits that cut all logprobs out.
#[must_use]
pub fn cut(endpoint: Endpoint, body: &[u8]) -> Splice {
    let mut splice = Splice::default();
    for span in spans(body) {
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

/// One past the last byte of the value that starts at `start`.
fn end_of_value(body: &[u8], start: usize) -> usize {
    let mut depth = 0usize;
    let mut at = start;
    while at < body.len() {
        match body[at] {
            b'"' => {
                at += 1;
                while at < body.len() && body[at] != b'"' {
                    at += if body[at] == b'\\' { 2 } else { 1 };
                }
            }
            b'[' | b'{' => depth += 1,
            b']' | b'}' | b',' if depth == 0 => return at,
            b']' | b'}' => depth -= 1,
            byte if depth == 0 && byte.is_ascii_whitespace() => return at,
            _ => {}
        }
        at += 1;
        if at > body.len() {
            break;
        }
        if depth == 0 && matches!(body[at - 1], b'"' | b']' | b'}') {
            return at;
        }
    }
    body.len()
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
    fn what_is_cut_short_does_no_harm() {
        for body in [r#"{"logprobs""#, r#"{"logprobs":"#, r#"{"logprobs":{"a":["#, r#"{"logprobs":"x\"#] {
            let _ = spans(body.as_bytes());
        }
    }
}
