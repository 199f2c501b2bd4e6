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

use super::load;
use crate::cascade::Cascade;
use crate::clock::SystemClock;
use crate::gateway::{Bounds, Gateway, Traces, metrics_router, router, serve};
use crate::policy::{Policy, UpstreamKind};
use crate::recording;
use crate::upstream::{Balanced, Live, Origin, Passage, Recorded, layered};

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
    /// Where a scraper finds metrics of drift, an address of their own
    #[arg(long, value_name = "ADDRESS")]
    metrics: Option<SocketAddr>,
    /// Write no line per request
    #[arg(long, short)]
    quiet: bool,
}

impl Serve {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let policy = Arc::new(load::policy(self.policy.as_deref(), true)?);
        let reachable = [Some(self.listen), self.metrics].into_iter().flatten().find(|a| !a.ip().is_loopback());
        if let Some(address) = reachable.filter(|_| !self.public) {
            bail!(
                "{address} can be reached by other machines, and nothing here asks for a key; give --public if that is meant"
            );
        }
        let level = if self.quiet { tracing::Level::WARN } else { tracing::Level::INFO };
        tracing_subscriber::fmt()
            .with_max_level(level)
            .with_writer(std::io::stderr)
            .with_ansi(std::io::stderr().is_terminal())
            .with_target(false)
            .init();
        tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(self.serve(policy))
    }

    async fn serve(self, policy: Arc<Policy>) -> anyhow::Result<ExitCode> {
        let clock = SystemClock::start();
        let (origins, hint) = origins(&policy, clock)?;
        let balanced = Balanced::new(origins, &policy, clock);
        let breakers = balanced.breakers();
        let upstream = layered(balanced, &policy, clock).asking()?;
        let passage = passage(&policy, clock)?;
        let traces = self
            .traces
            .as_deref()
            .map(|path| Traces::to(path).with_context(|| format!("cannot write traces to {}", path.display())));
        let gateway = Gateway::new(Cascade::new(policy.clone(), upstream, clock), clock, passage, hint.clone());
        let gateway = Arc::new(gateway.tracing_to(traces.transpose()?).showing(breakers));
        if let Some(address) = self.metrics {
            let listener = TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
            let metrics = metrics_router(gateway.clone());
            let bounds = Bounds { header_read: Duration::from_secs(10), drain: Duration::ZERO };
            tokio::spawn(serve(listener, metrics, clock, bounds, std::future::pending()));
        }
        let shutdown = shutdown_signal().context("cannot listen for signals")?;
        let listener =
            TcpListener::bind(self.listen).await.with_context(|| format!("cannot listen on {}", self.listen))?;
        let address = listener.local_addr()?;
        let names: Vec<&str> = policy.model_names().collect();
        let hint = if hint.is_empty() { hint } else { format!("cascade: {hint}\n") };
        // Whoever reads these lines may have gone once it has the address.
        let _ = super::print(&format!(
            "cascade: listening on http://{address}/v1, policy {}, models {}\n{hint}",
            policy.digest,
            names.join(", ")
        ));
        let bounds = Bounds { header_read: Duration::from_secs(10), drain: Duration::from_secs(self.drain) };
        let drained = serve(listener, router(&gateway), clock, bounds, shutdown).await;
        eprintln!(
            "cascade: {}",
            if drained { "stopped, nothing in flight" } else { "stopped; some requests did not finish in time" }
        );
        Ok(ExitCode::SUCCESS)
    }
}

/// What finally answers, and what to tell a client whose prompt is not recorded.
fn origins(policy: &Policy, clock: SystemClock) -> anyhow::Result<(Vec<Origin<SystemClock>>, String)> {
    let mut origins = Vec::new();
    let mut hint = String::new();
    for upstream in &policy.upstreams {
        origins.push(match &upstream.kind {
            UpstreamKind::Live { base_url, api_key, timeouts } => {
                Origin::Live(Live::new(base_url, api_key.as_ref(), *timeouts, clock)?)
            }
            UpstreamKind::Fixtures(place) => {
                let recorded = Recorded::new(clock);
                let exchanges = recording::load(place)
                    .with_context(|| format!("the fixtures of the upstream `{}`", upstream.name))?;
                let example = exchanges
                    .iter()
                    .find_map(|e| e.prompt.texts().last().map(|t| t.lines().next().unwrap_or("").to_owned()));
                exchanges.into_iter().for_each(|exchange| recorded.hold(&Arc::new(exchange)));
                hint = hint_of(place, recorded.prompts(), &example.unwrap_or_default());
                Origin::Recorded(recorded)
            }
        });
    }
    Ok((origins, hint))
}

/// The way for what is not cascaded, where the policy gives one.
fn passage(policy: &Policy, clock: SystemClock) -> anyhow::Result<Option<Passage<SystemClock>>> {
    let place = policy.passthrough.map(|p| &policy.upstreams[p.upstream].kind);
    let Some(UpstreamKind::Live { base_url, api_key, timeouts }) = place else { return Ok(None) };
    Ok(Some(Passage::new(base_url, api_key.as_ref(), *timeouts, clock)?))
}

fn hint_of(place: &str, prompts: usize, example: &str) -> String {
    let place = if place == "embedded" { "its own fixtures (the folder fixtures/ of the source)" } else { place };
    format!(
        "This gateway asks no model; it answers the {prompts} prompts recorded in {place}, such as {example:?}. \
         To ask real models: cascade serve --policy policies/classic.yaml, with OPENAI_API_KEY set."
    )
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
