//! Listens and serves, with bounds that a slow or silent client cannot pass.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::Router;
use http::Request;
use hyper::body::Incoming;
use hyper::service::Service;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;

use crate::clock::Clock;

/// Bounds on connections.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// For the head of a request; `axum::serve` has no such bound, and half a
    /// request would hold a connection for good.
    pub header_read: Duration,
    /// For requests in flight when a shutdown begins.
    pub drain: Duration,
}

/// The routes in force; others can be put in their place while requests are in flight,
/// which go on with those they began with.
#[derive(Clone, Debug)]
pub struct Current(Arc<ArcSwap<Router>>);

impl Current {
    /// These routes.
    #[must_use]
    pub fn new(router: Router) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(router)))
    }

    /// Puts others in their place.
    pub fn replace(&self, router: Router) {
        self.0.store(Arc::new(router));
    }
}

impl Service<Request<Incoming>> for Current {
    type Response = <TowerToHyperService<Router> as Service<Request<Incoming>>>::Response;
    type Error = <TowerToHyperService<Router> as Service<Request<Incoming>>>::Error;
    type Future = <TowerToHyperService<Router> as Service<Request<Incoming>>>::Future;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        TowerToHyperService::new(Router::clone(&self.0.load())).call(request)
    }
}

/// Serves until `shutdown` is done, then lets what is in flight finish within
/// the drain bound. Returns whether all of it did.
pub async fn serve<C: Clock>(
    listener: TcpListener,
    current: Current,
    clock: C,
    bounds: Bounds,
    shutdown: impl Future<Output = ()>,
) -> bool {
    let graceful = GracefulShutdown::new();
    let mut http = auto::Builder::new(TokioExecutor::new()).http1_only();
    http.http1().timer(TokioTimer::new()).header_read_timeout(bounds.header_read);
    let mut shutdown = std::pin::pin!(shutdown);
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
        let _ = socket.set_nodelay(true);
        let connection =
            graceful.watch(http.serve_connection_with_upgrades(TokioIo::new(socket), current.clone()).into_owned());
        // A client that hangs up in the middle is no error worth a line.
        tokio::spawn(async move { _ = connection.await });
    }
    drop(listener);
    clock.within(bounds.drain, graceful.shutdown()).await.is_some()
}
