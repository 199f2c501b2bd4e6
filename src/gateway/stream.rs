//! Frames to a client, as server-sent events.
//!
//! Invariant: `[DONE]` ends a whole answer; an answer that broke off ends in
//! an error frame instead, since SDKs take a mere end for success.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::response::Response;
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::future::BoxFuture;
use futures_util::{Stream, StreamExt, stream};
use http_body_util::BodyExt;

use super::MAX_BODY;
use super::api_error::ApiError;
use crate::clock::Clock;
use crate::openai::Endpoint;
use crate::openai::convert::{Unasked, strip_frame};
use crate::openai::responses::Event;
use crate::trace::Failure;

/// The events of an answer that is all there, in one piece.
pub(super) fn whole(endpoint: Endpoint, frames: &[Bytes]) -> Body {
    let size = frames.iter().map(|f| f.len() + 64).sum::<usize>() + 16;
    let mut out = BytesMut::with_capacity(size);
    frames.iter().for_each(|data| put_event(&mut out, endpoint, data));
    out.put_slice(end_of(endpoint));
    Body::from(out.freeze())
}

/// What ends a stream. A response's last event says itself that it is the last.
fn end_of(endpoint: Endpoint) -> &'static [u8] {
    match endpoint {
        Endpoint::Chat | Endpoint::Completions => b"data: [DONE]\n\n",
        Endpoint::Responses => b"",
    }
}

fn put_event(out: &mut BytesMut, endpoint: Endpoint, data: &[u8]) {
    if endpoint == Endpoint::Responses
        && let Ok(Event { kind, .. }) = serde_json::from_slice(data)
    {
        out.put_slice(b"event: ");
        out.put_slice(kind.as_bytes());
        out.put_slice(b"\n");
    }
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

fn event(endpoint: Endpoint, data: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(data.len() + 64);
    put_event(&mut out, endpoint, data);
    out.freeze()
}

/// An error where events were promised. Responses have an event for it.
fn error_event(endpoint: Endpoint, envelope: &[u8]) -> Bytes {
    if endpoint != Endpoint::Responses {
        return event(endpoint, envelope);
    }
    let mut error: serde_json::Value = serde_json::from_slice(envelope).unwrap_or_default();
    let mut error = error["error"].take();
    error["type"] = "error".into();
    event(endpoint, error.to_string().as_bytes())
}

/// The one frame that keeps a connection and that every client understands.
const KEEP_ALIVE: &[u8] = b": keep-alive\n\n";

/// A comment every so often until the response is there, then its events. The
/// head was sent as a success, so an error becomes a frame.
pub(super) fn kept_alive<C: Clock>(
    endpoint: Endpoint,
    running: BoxFuture<'static, Response>,
    clock: C,
    every: Duration,
) -> Body {
    enum Waiting<C> {
        Running(BoxFuture<'static, Response>, C),
        Come(Body, bool),
        Over,
    }
    let first = stream::once(async { Ok::<_, axum::Error>(Bytes::from_static(KEEP_ALIVE)) });
    let rest = stream::unfold(Waiting::Running(running, clock), move |mut state| async move {
        loop {
            state = match state {
                Waiting::Running(mut running, clock) => match clock.within(every, &mut running).await {
                    None => {
                        let comment = Bytes::from_static(KEEP_ALIVE);
                        return Some((Ok(comment), Waiting::Running(running, clock)));
                    }
                    Some(response) => {
                        let is_error = !response.status().is_success();
                        Waiting::Come(response.into_body(), is_error)
                    }
                },
                Waiting::Come(body, true) => {
                    let error = to_bytes(body, MAX_BODY).await.unwrap_or_default();
                    return Some((Ok(error_event(endpoint, &error)), Waiting::Over));
                }
                Waiting::Come(mut body, false) => {
                    let frame = body.frame().await?;
                    let Ok(data) = frame.map(http_body::Frame::into_data) else { return None };
                    return data.ok().map(|data| (Ok(data), Waiting::Come(body, false)));
                }
                Waiting::Over => return None,
            }
        }
    });
    Body::from_stream(first.chain(rest))
}

type Frames = Pin<Box<dyn Stream<Item = Result<Bytes, Failure>> + Send>>;

/// Frames as they come. Dropping the body drops the upstream's connection.
pub(super) fn live(endpoint: Endpoint, frames: Frames, unasked: Unasked, id: String) -> Body {
    Body::from_stream(Live {
        endpoint,
        frames,
        unasked,
        id,
        events: BytesMut::new(),
        has_waited: false,
        is_over: false,
    })
}

/// Events of the frames that are there, in one piece.
struct Live {
    endpoint: Endpoint,
    frames: Frames,
    unasked: Unasked,
    id: String,
    /// What has come and is still to be handed on.
    events: BytesMut,
    /// Whether others had their turn since the last frame came: whoever reads from the
    /// upstream hands over one frame at a time.
    has_waited: bool,
    is_over: bool,
}

impl Live {
    /// Past so many bytes no more frames are waited for.
    const ENOUGH: usize = 16 << 10;

    fn take(&mut self, frame: Option<Result<Bytes, Failure>>) {
        match frame {
            Some(Ok(frame)) => {
                if let Some(kept) = strip_frame(self.endpoint, &frame, self.unasked) {
                    put_event(&mut self.events, self.endpoint, &kept);
                }
                return;
            }
            Some(Err(failure)) => {
                tracing::warn!(self.id, %failure, "stream broke off");
                self.events.put_slice(&error_event(self.endpoint, ApiError::frame(&failure).as_bytes()));
            }
            None => self.events.put_slice(end_of(self.endpoint)),
        }
        self.is_over = true;
    }
}

impl Stream for Live {
    type Item = Result<Bytes, std::convert::Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        while !this.is_over && this.events.len() < Self::ENOUGH {
            match this.frames.as_mut().poll_next(context) {
                Poll::Ready(frame) => {
                    this.take(frame);
                    this.has_waited = false;
                }
                Poll::Pending if this.events.is_empty() => return Poll::Pending,
                Poll::Pending if this.has_waited => break,
                Poll::Pending => {
                    this.has_waited = true;
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
            }
        }
        let events = this.events.split().freeze();
        Poll::Ready((!events.is_empty()).then_some(Ok(events)))
    }
}
