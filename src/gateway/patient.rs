//! A socket whose peer may be slow, but not for good: one that takes nothing of what
//! is written to it for too long is closed.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::clock::Clock;

/// A socket with a bound on how long a write may make no progress. Nothing is timed
/// while writes go through.
pub(super) struct Patient<S, C> {
    socket: S,
    clock: C,
    bound: Duration,
    /// Runs since a write made no progress.
    stalled: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl<S: Unpin, C: Clock + Unpin> Patient<S, C> {
    pub fn new(socket: S, clock: C, bound: Duration) -> Self {
        Self { socket, clock, bound, stalled: None }
    }

    fn bounded<T>(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut S>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let this = &mut *self;
        if let Poll::Ready(result) = write(Pin::new(&mut this.socket), context) {
            this.stalled = None;
            return Poll::Ready(result);
        }
        let stalled = this.stalled.get_or_insert_with(|| Box::pin(this.clock.sleep(this.bound)));
        match stalled.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncRead + Unpin, C: Clock + Unpin> AsyncRead for Patient<S, C> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(context, into)
    }
}

impl<S: AsyncWrite + Unpin, C: Clock + Unpin> AsyncWrite for Patient<S, C> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.bounded(context, |socket, context| socket.poll_write(context, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.bounded(context, |socket, context| socket.poll_write_vectored(context, parts))
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.bounded(context, AsyncWrite::poll_flush)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.bounded(context, AsyncWrite::poll_shutdown)
    }
}
