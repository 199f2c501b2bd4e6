//! Listens and serves, with bounds that a slow or silent client cannot pass.

use std::future::{Future, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, Request, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::ApiError;
use super::certificate::Certificate;
use super::patient::Patient;
use super::room::{Place, Room};
use super::routes::{Answering, Routes};
use crate::clock::Clock;

/// The most bytes of a request's head; also what is read ahead of a body.
const MAX_HEAD: usize = 64 << 10;

/// Bounds on connections.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// For the head of a request, the wait for it included; `axum::serve` has no such
    /// bound, and half a request would hold a connection for good.
    pub head: Duration,
    /// For a client to take something of what is written to it.
    pub stalled: Duration,
    /// For requests in flight when a shutdown begins.
    pub drain: Duration,
}

/// Where clients come in.
#[derive(Debug)]
pub struct Door {
    /// Where they knock.
    pub listener: TcpListener,
    /// With it, they speak TLS.
    pub certificate: Option<Certificate>,
    /// For how many there is room.
    pub room: Arc<Room>,
    /// How long they may take.
    pub bounds: Bounds,
}

/// The routes in force; others can be put in their place while requests are in flight,
/// which go on with those they began with.
#[derive(Clone, Debug)]
pub struct Current(Arc<ArcSwap<Routes>>);

impl Current {
    /// These routes.
    #[must_use]
    pub fn new(routes: impl Into<Routes>) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(routes.into())))
    }

    /// Puts others in their place.
    pub fn replace(&self, routes: impl Into<Routes>) {
        self.0.store(Arc::new(routes.into()));
    }
}

/// One connection's client.
struct Client {
    current: Current,
    stay: Stay,
}

/// As long as it is held, its connection counts: it has its place, and a shutdown waits
/// for it. What a connection is handed over to takes it along.
#[derive(Clone)]
pub(super) struct Stay {
    place: Arc<Place>,
    stopping: watch::Receiver<()>,
}

impl Service<Request<Incoming>> for Client {
    type Response = Response;
    type Error = std::convert::Infallible;
    type Future = Answering;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        if self.stay.place.is_welcome {
            if request.headers().contains_key(header::UPGRADE) {
                request.extensions_mut().insert(self.stay.clone());
            }
            return self.current.0.load().answer(request);
        }
        let mut response = ApiError::overloaded().into_response();
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        Box::pin(ready(Ok(response)))
    }
}

/// Serves until `shutdown` is done, then lets what is in flight finish within
/// the drain bound. Returns whether all of it did.
pub async fn serve<C: Clock + Unpin>(
    door: Door,
    current: Current,
    clock: C,
    shutdown: impl Future<Output = ()>,
) -> bool {
    let Door { listener, certificate, room, bounds } = door;
    let (stop, stopping) = watch::channel(());
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(bounds.head).max_buf_size(MAX_HEAD);
    let mut shutdown: Pin<&mut _> = std::pin::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut shutdown => break,
        };
        let Ok((socket, _)) = accepted else {
            // Out of file descriptors, most likely: some will be free soon.
            clock.sleep(Duration::from_millis(10)).await;
            continue;
        };
        let Some(place) = room.connect() else { continue };
        let _ = socket.set_nodelay(true);
        let socket = Patient::new(socket, clock.clone(), bounds.stalled);
        let stay = Stay { place: Arc::new(place), stopping: stopping.clone() };
        let (http, client) = (http.clone(), Client { current: current.clone(), stay });
        let Some(certificate) = &certificate else {
            tokio::spawn(converse(http, socket, client));
            continue;
        };
        let (acceptor, clock) = (certificate.acceptor(), clock.clone());
        tokio::spawn(async move {
            if let Some(Ok(socket)) = clock.within(bounds.head, acceptor.accept(socket)).await {
                converse(http, socket, client).await;
            }
        });
    }
    drop(listener);
    drop(stopping);
    stop.send_replace(());
    // Closed once every connection has let go of its end.
    clock.within(bounds.drain, stop.closed()).await.is_some()
}

/// Answers what comes in on one connection; once all are stopping, what has begun.
async fn converse<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(http: http1::Builder, socket: S, client: Client) {
    let mut stopping = client.stay.stopping.clone();
    let mut connection = std::pin::pin!(http.serve_connection(TokioIo::new(socket), client).with_upgrades());
    tokio::select! {
        // A client that hangs up in the middle is no error worth a line.
        _ = &mut connection => return,
        _ = stopping.changed() => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}
