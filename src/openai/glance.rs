//! What a frame of a streamed chat or legacy completion says of its answer as a whole,
//! seen in one quick pass: most frames say nothing.

use std::ops::Range;

use super::scan::Cursor;
use super::splice::span_of;

/// The most choices that are told apart: the API's own bound.
pub const MAX_CHOICES: usize = 128;

/// One frame, looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Glance {
    /// Which choices it adds to, a bit each.
    pub choices: u128,
    /// Which of them end with it.
    pub ended: u128,
    /// Whether it is an error.
    pub is_error: bool,
    /// Where its `usage` stands.
    pub usage: Option<UsageAt>,
}

/// A `usage` member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageAt {
    /// From its name's quote to the end of its value, in bytes.
    pub member: Range<usize>,
    /// Whether it is null.
    pub is_null: bool,
}

impl Glance {
    /// None where a frame is no JSON object, or in another shape: whoever wants to know
    /// why parses it.
    #[must_use]
    pub fn at(frame: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(frame).ok()?;
        let (mut seen, mut cursor) = (Self::default(), Cursor::new(frame, 0));
        cursor.each_member(|cursor, name| match name {
            b"choices" if !cursor.null()? => cursor.each_item(|cursor| seen.take_choice(cursor)),
            b"error" => {
                seen.is_error = !cursor.null()?;
                if seen.is_error { cursor.skip() } else { Some(()) }
            }
            b"usage" => {
                let is_null = cursor.null()?;
                if !is_null {
                    cursor.skip()?;
                }
                let start = span_of(text.as_bytes(), std::str::from_utf8(name).ok()?).start - 1;
                seen.usage = Some(UsageAt { member: start..cursor.at(), is_null });
                Some(())
            }
            b"choices" => Some(()),
            _ => cursor.skip(),
        })?;
        // Nothing may come after it.
        cursor.peek().is_none().then_some(seen)
    }

    fn take_choice(&mut self, cursor: &mut Cursor<'_>) -> Option<()> {
        let (mut index, mut has_ended) = (0, false);
        cursor.each_member(|cursor, name| match name {
            b"index" => {
                index = cursor.whole()?;
                Some(())
            }
            b"finish_reason" => {
                has_ended = !cursor.null()?;
                if has_ended { cursor.string().map(|_| ()) } else { Some(()) }
            }
            _ => cursor.skip(),
        })?;
        let bit = if index < MAX_CHOICES { 1 << index } else { return None };
        self.choices |= bit;
        self.ended |= if has_ended { bit } else { 0 };
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(frame: &str) -> Option<Glance> {
        Glance::at(frame.as_bytes())
    }

    #[test]
    fn it_sees_choices_their_ends_errors_and_usage() {
        let frame = r#"{"id":"a\"","choices":[{"index":1,"delta":{"content":"\"usage\": 5"},"finish_reason":"stop"},{"delta":{},"finish_reason":null}], "usage" : null}"#;
        let seen = at(frame).expect("a frame");
        assert_eq!((seen.choices, seen.ended, seen.is_error), (0b11, 0b10, false));
        let usage = seen.usage.expect("usage");
        assert_eq!((&frame[usage.member], usage.is_null), (r#""usage" : null"#, true));
        let last = at(r#"{"choices":[],"usage":{"prompt_tokens":1}}"#).expect("a frame");
        assert_eq!((last.choices, last.usage.map(|usage| usage.is_null)), (0, Some(false)));
        assert!(at(r#"{"error":{"message":"x"}}"#).expect("a frame").is_error);
        assert!(!at(r#"{"error":null,"choices":null}"#).expect("a frame").is_error);
    }

    #[test]
    fn what_is_in_another_shape_is_left_to_others() {
        for frame in [
            "",
            "[]",
            "{]",
            r#"{"choices":{}}"#,
            r#"{"choices":[null]}"#,
            r#"{"choices":[{"index":-1}]}"#,
            r#"{"choices":[{"index":128}]}"#,
            r#"{"choices":[{"index":0.5}]}"#,
            "{} {}",
        ] {
            assert_eq!(at(frame), None, "{frame}");
        }
        assert_eq!(Glance::at(b"{\"a\":\"\xff\"}"), None);
    }
}
