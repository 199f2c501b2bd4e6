//! Listens and serves, with bounds that a slow or silent client cannot pass.

use std::future::Future;
use std::time::Duration;

use axum::Router;
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

/// Serves until `shutdown` is done, then lets what is in flight finish within
/// the drain bound. Returns whether all of it did.
pub async fn serve<C: Clock>(
    listener: TcpListener,
    router: Router,
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
        let service = TowerToHyperService::new(router.clone());
        let connection =
            graceful.watch(http.serve_connection_with_upgrades(TokioIo::new(socket), service).into_owned());
        // A client that hangs up in the middle is no error worth a line.
        tokio::spawn(async move { _ = connection.await });
    }
    drop(listener);
    clock.within(bounds.drain, graceful.shutdown()).await.is_some()
}
