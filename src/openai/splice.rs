//! Changes a JSON body in place of rebuilding it: a list of byte ranges and
//! what stands there instead.
//!
//! Invariant: bytes outside the listed ranges leave exactly as they came.

use std::ops::Range;

/// Edits to one body, in any order, none overlapping another.
#[derive(Debug, Default)]
pub struct Splice {
    edits: Vec<(Range<usize>, Vec<u8>)>,
}

impl Splice {
    /// Puts `with` where `range` (bytes) stands; an empty range inserts.
    pub fn replace(&mut self, range: Range<usize>, with: impl Into<Vec<u8>>) {
        self.edits.push((range, with.into()));
    }

    /// True when nothing is to change, so that the body need not be copied.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.edits.is_empty()
    }

    /// The body with every edit made. Ranges that lie outside the body or
    /// overlap an earlier one are a programming error and panic.
    #[must_use]
    pub fn apply(mut self, body: &[u8]) -> Vec<u8> {
        self.edits.sort_by_key(|(range, _)| (range.start, range.end));
        let grown: usize = self.edits.iter().map(|(_, with)| with.len()).sum();
        let cut: usize = self.edits.iter().map(|(range, _)| range.len()).sum();
        let mut out = Vec::with_capacity((body.len() + grown).saturating_sub(cut));
        let mut at = 0;
        for (range, with) in self.edits {
            out.extend_from_slice(&body[at..range.start]);
            out.extend_from_slice(&with);
            at = range.end;
        }
        out.extend_from_slice(&body[at..]);
        out
    }
}

/// The byte range at which `part` stands inside `whole`; `part` must be a
/// slice of it, as a borrowed `RawValue` is.
#[must_use]
pub fn span_of(whole: &[u8], part: &str) -> Range<usize> {
    let start = part.as_ptr() as usize - whole.as_ptr() as usize;
    debug_assert!(start + part.len() <= whole.len(), "the part is not of this whole");
    start..start + part.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_are_made_in_order_of_place_whatever_the_order_given() {
        let mut splice = Splice::default();
        splice.replace(6..7, *b"9");
        splice.replace(1..1, *b"\"x\":0,");
        assert_eq!(splice.apply(br#"{"a": 1 }"#), br#"{"x":0,"a": 9 }"#);
    }
}
