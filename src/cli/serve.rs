//! `cascade serve`: the gateway.

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use tokio::net::TcpListener;

use super::load::{self, Loaded};
use super::serving::Serving;
use crate::clock::SystemClock;
use crate::gateway::{Bounds, Traces, serve};

#[derive(Debug, Args)]
pub(super) struct Serve {
    /// The policy; the embedded demo if left out
    #[arg(long, short)]
    policy: Option<PathBuf>,
    /// Where to listen; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "ADDRESS")]
    listen: SocketAddr,
    /// Allow an address that other machines can reach
    #[arg(long)]
    public: bool,
    /// How long requests in flight may take when shutting down, in seconds
    #[arg(long, default_value_t = 30, value_name = "SECONDS")]
    drain: u64,
    /// Append a line of JSON for each request: every tier asked, and why; `cascade
    /// explain` reads it. Texts are left out
    #[arg(long, value_name = "FILE")]
    traces: Option<PathBuf>,
    /// Where a scraper finds metrics: reloads, breakers, drift; an address of their own
    #[arg(long, value_name = "ADDRESS")]
    metrics: Option<SocketAddr>,
    /// Write no line per request
    #[arg(long, short)]
    quiet: bool,
}

impl Serve {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let loaded = load::load(self.policy.as_deref(), true)?;
        let is_open = |address: &&SocketAddr| !address.ip().is_loopback() && !self.public;
        if let Some(address) = Some(&self.listen).filter(is_open).filter(|_| loaded.policy.keys.is_none()) {
            bail!(
                "{address} can be reached by other machines, and nothing here asks for a key: name a file of `cascade keys` as `keys:` in the policy, or give --public if that is meant"
            );
        }
        if let Some(address) = self.metrics.as_ref().filter(is_open) {
            bail!(
                "{address} can be reached by other machines, and metrics ask nobody for a key; give --public if that is meant"
            );
        }
        let level = if self.quiet { tracing::Level::WARN } else { tracing::Level::INFO };
        tracing_subscriber::fmt()
            .with_max_level(level)
            .with_writer(std::io::stderr)
            .with_ansi(std::io::stderr().is_terminal())
            .with_target(false)
            // Whoever reads standard error may be gone.
            .log_internal_errors(false)
            .init();
        tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(self.serve(loaded))
    }

    async fn serve(self, loaded: Loaded) -> anyhow::Result<ExitCode> {
        let clock = SystemClock::start();
        let traces = self.traces.as_deref().map(|path| {
            let traces = Traces::to(path).with_context(|| format!("cannot write traces to {}", path.display()));
            traces.map(Arc::new)
        });
        let policy = loaded.policy.clone();
        let serving = Serving::begin(self.policy.clone(), loaded, clock, traces.transpose()?)?;
        if let Some(address) = self.metrics {
            let listener = TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
            let bounds = Bounds { header_read: Duration::from_secs(10), drain: Duration::ZERO };
            tokio::spawn(serve(listener, serving.metrics.clone(), clock, bounds, std::future::pending()));
        }
        let shutdown = shutdown_signal().context("cannot listen for signals")?;
        let listener =
            TcpListener::bind(self.listen).await.with_context(|| format!("cannot listen on {}", self.listen))?;
        let address = listener.local_addr()?;
        let names: Vec<&str> = policy.model_names().collect();
        let hint = if serving.hint.is_empty() { String::new() } else { format!("cascade: {}\n", serving.hint) };
        // Whoever reads these lines may have gone once it has the address.
        let _ = super::print(&format!(
            "cascade: listening on http://{address}/v1, policy {}, models {}\n{hint}",
            policy.digest,
            names.join(", ")
        ));
        let bounds = Bounds { header_read: Duration::from_secs(10), drain: Duration::from_secs(self.drain) };
        let (routes, books) = (serving.routes.clone(), serving.books.clone());
        tokio::spawn(serving.keep_up());
        let drained = serve(listener, routes, clock, bounds, shutdown).await;
        books.save();
        eprintln!(
            "cascade: {}",
            if drained { "stopped, nothing in flight" } else { "stopped; some requests did not finish in time" }
        );
        Ok(ExitCode::SUCCESS)
    }
}

/// Done at the first SIGINT or SIGTERM.
fn shutdown_signal() -> std::io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}
