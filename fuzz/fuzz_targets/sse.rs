//! Events do not depend on where a stream is cut into pieces.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use prompt_cascade::openai::sse::Splitter;

fn events<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Option<Vec<Bytes>> {
    let (mut splitter, mut events) = (Splitter::default(), Vec::new());
    for piece in pieces {
        splitter.push(piece).ok()?;
        events.extend(std::iter::from_fn(|| splitter.next_event()));
    }
    events.extend(splitter.finish());
    Some(events)
}

fuzz_target!(|input: (u8, &[u8])| {
    let (size, stream) = input;
    let whole = events(std::iter::once(stream));
    assert_eq!(whole, events(stream.chunks(usize::from(size) + 1)));
    assert_eq!(whole, events(stream.chunks(1)));
    for event in whole.iter().flatten() {
        assert!(event.len() <= stream.len());
    }
});
