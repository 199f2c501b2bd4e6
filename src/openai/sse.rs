//! Server-sent events: cuts a byte stream into the `data` of its events.
//!
//! Invariant: an event's data is yielded once, whole, however the bytes were
//! cut into pieces; comments and empty events are not yielded. LF, CRLF and a
//! last event without its blank line are all accepted (WHATWG HTML, 9.2.6).

use bytes::{Bytes, BytesMut};

/// The data that ends a stream.
pub const DONE: &[u8] = b"[DONE]";

/// The largest single event that is accepted, in bytes.
pub const MAX_EVENT: usize = 16 << 20;

/// Cuts pieces of a stream into events.
#[derive(Debug, Default)]
pub struct Splitter {
    held: BytesMut,
    searched: usize,
}

/// An event larger than [`MAX_EVENT`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong;

impl Splitter {
    /// Takes the next piece of the stream.
    ///
    /// # Errors
    /// When what is held without an event's end outgrows [`MAX_EVENT`].
    pub fn push(&mut self, piece: &[u8]) -> Result<(), TooLong> {
        self.held.extend_from_slice(piece);
        if self.held.len() > MAX_EVENT { Err(TooLong) } else { Ok(()) }
    }

    /// The data of the next whole event, if one is held.
    pub fn next_event(&mut self) -> Option<Bytes> {
        loop {
            let (end, next) = self.find_blank_line()?;
            let block = self.held.split_to(next).freeze();
            self.searched = 0;
            if let Some(data) = data_of(&block.slice(..end)) {
                return Some(data);
            }
        }
    }

    /// The data of an event that the stream ended in without a blank line.
    pub fn finish(&mut self) -> Option<Bytes> {
        let rest = self.held.split().freeze();
        self.searched = 0;
        data_of(&rest)
    }

    /// Where the next block ends and the one after it begins.
    fn find_blank_line(&mut self) -> Option<(usize, usize)> {
        for at in memchr::memchr_iter(b'\n', &self.held[self.searched..]) {
            let newline = self.searched + at;
            let rest = &self.held[newline + 1..];
            if rest.starts_with(b"\n") {
                return Some((newline, newline + 2));
            }
            if rest.starts_with(b"\r\n") {
                return Some((newline, newline + 3));
            }
        }
        // The last two bytes may be the beginning of a blank line.
        self.searched = self.held.len().saturating_sub(2);
        None
    }
}

/// The joined `data` lines of one event block; none where it has no data.
fn data_of(block: &Bytes) -> Option<Bytes> {
    let mut values = block.split(|&b| b == b'\n').filter_map(|line| {
        let value = line.strip_suffix(b"\r").unwrap_or(line).strip_prefix(b"data:")?;
        Some(value.strip_prefix(b" ").unwrap_or(value))
    });
    let first = values.next()?;
    let data = match values.next() {
        None => block.slice_ref(first),
        Some(second) => {
            let mut joined = BytesMut::from(first);
            for value in std::iter::once(second).chain(values) {
                joined.extend_from_slice(b"\n");
                joined.extend_from_slice(value);
            }
            joined.freeze()
        }
    };
    (!data.is_empty()).then_some(data)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn split(pieces: &[&[u8]]) -> Vec<String> {
        let mut splitter = Splitter::default();
        let mut events = Vec::new();
        for piece in pieces {
            splitter.push(piece).expect("short");
            events.extend(std::iter::from_fn(|| splitter.next_event()));
        }
        events.extend(splitter.finish());
        events.iter().map(|e| String::from_utf8_lossy(e).into_owned()).collect()
    }

    #[test]
    fn comments_crlf_other_fields_and_a_missing_last_blank_line() {
        let text = b": hello\n\nevent: x\r\ndata: 1\r\n\r\ndata:2\nid: 7\n\nretry: 5\n\ndata: a\ndata: b\n\ndata: end";
        assert_eq!(split(&[text]), ["1", "2", "a\nb", "end"]);
    }

    proptest! {
        #[test]
        fn cuts_do_not_matter(
            data in proptest::collection::vec("[a-z{}:\" ]{1,12}", 1..6),
            crlf: bool,
            cuts in proptest::collection::vec(0usize..200, 0..8),
        ) {
            let end = if crlf { "\r\n\r\n" } else { "\n\n" };
            let text = data.iter().fold(String::new(), |text, d| text + "data: " + d + end);
            let mut cuts: Vec<usize> = cuts.into_iter().map(|c| c.min(text.len())).collect();
            cuts.sort_unstable();
            let mut pieces = Vec::new();
            let mut at = 0;
            for cut in cuts.into_iter().chain([text.len()]) {
                pieces.push(&text.as_bytes()[at..cut]);
                at = cut;
            }
            prop_assert_eq!(split(&pieces), data);
        }
    }
}
