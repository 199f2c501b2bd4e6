//! Frames to a client, as server-sent events.
//!
//! Invariant: `[DONE]` ends a whole answer; an answer that broke off ends in
//! an error frame instead, since SDKs take a mere end for success.

use std::pin::Pin;

use axum::body::Body;
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::{Stream, StreamExt, stream};

use super::api_error::ApiError;
use crate::openai::convert::{Unasked, strip_frame};
use crate::openai::sse;
use crate::trace::Failure;

/// The events of an answer that is all there, in one piece.
pub(super) fn whole(frames: &[Bytes]) -> Body {
    let size = frames.iter().map(|f| f.len() + 8).sum::<usize>() + 16;
    let mut out = BytesMut::with_capacity(size);
    frames.iter().map(|f| &f[..]).chain([sse::DONE]).for_each(|data| put_event(&mut out, data));
    Body::from(out.freeze())
}

fn put_event(out: &mut BytesMut, data: &[u8]) {
    out.put_slice(b"data: ");
    let start = out.len();
    out.put_slice(data);
    // A line end within the data would end its line; JSON has it only between
    // tokens, where a space means the same.
    for at in memchr::memchr2_iter(b'\n', b'\r', data) {
        out[start + at] = b' ';
    }
    out.put_slice(b"\n\n");
}

fn event(data: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(data.len() + 8);
    put_event(&mut out, data);
    out.freeze()
}

type Frames = Pin<Box<dyn Stream<Item = Result<Bytes, Failure>> + Send>>;

/// Frames as they come. Dropping the body drops the upstream's connection.
pub(super) fn live(frames: Frames, unasked: Unasked, id: String) -> Body {
    let events = stream::unfold(Some((frames, id)), move |state| async move {
        let (mut frames, id) = state?;
        loop {
            match frames.next().await {
                Some(Ok(frame)) => {
                    if let Some(kept) = strip_frame(&frame, unasked) {
                        return Some((event(&kept), Some((frames, id))));
                    }
                }
                Some(Err(failure)) => {
                    tracing::warn!(id, %failure, "stream broke off");
                    return Some((event(ApiError::frame(&failure).as_bytes()), None));
                }
                None => return Some((event(sse::DONE), None)),
            }
        }
    });
    Body::from_stream(events.map(Ok::<_, std::convert::Infallible>))
}
