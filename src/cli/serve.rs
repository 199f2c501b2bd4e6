//! `cascade serve`: the gateway.

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use arc_swap::ArcSwapOption;
use clap::Args;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder};

use super::books::Books;
use super::load::{self, Loaded};
use super::renewal::Renewed;
use super::replicas::{Replicas, SharedAt};
use super::serving::{Lasting, Serving};
use crate::clock::{Clock as _, SystemClock};
use crate::gateway::{Audience, Bounds, Door, Hosts, Recorder, Room, Spans, Traces, serve};
use crate::shared::Shared;

/// Lines of the log that may wait to be written.
const LINES_WAITING: usize = 4096;

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
    /// Where operators find the dashboard, and scrapers `/metrics`: an address of its own
    #[arg(long, value_name = "ADDRESS")]
    admin: Option<SocketAddr>,
    /// Speak TLS: the certificate's chain in PEM; read again when it changes
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The certificate's private key in PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// The most connections of clients; more are answered with a 503. At most three
    /// quarters of the files that may be open
    #[arg(long, default_value_t = 16_384, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    connections: u32,
    /// What requests in flight may hold, in MiB, at least 64 KiB each; more are answered
    /// with a 503
    #[arg(long, default_value_t = 512, value_name = "MIB", value_parser = clap::value_parser!(u32).range(1..=4095))]
    room: u32,
    /// How long a connection may be idle, and how long the head of a request may take,
    /// in seconds
    #[arg(long, default_value_t = 75, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    idle: u64,
    /// How long a client may take nothing of what is sent to it, in seconds
    #[arg(long, default_value_t = 60, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    stalled: u64,
    #[command(flatten)]
    shared: SharedAt,
    /// Write lines of the log as JSON
    #[arg(long)]
    log_json: bool,
    /// Write no line per request
    #[arg(long, short)]
    quiet: bool,
}

/// What is written once nothing is served any more.
struct Closing {
    is_drained: bool,
    /// How what went on beside it ended.
    ended: anyhow::Result<()>,
    books: Books,
    traces: Option<Arc<Traces>>,
    recorder: Arc<ArcSwapOption<Recorder>>,
    shared: Option<Arc<Shared>>,
}

/// Where it is found, as `http://127.0.0.1:8080`.
pub(super) struct Addresses {
    pub gateway: String,
    pub admin: Option<String>,
}

impl Serve {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        self.run_beside(|_| std::future::pending::<anyhow::Result<()>>())
    }

    /// Serves as long as what is made with the addresses lasts, and nobody stops it.
    pub(super) fn run_beside<F>(self, beside: impl FnOnce(Addresses) -> F) -> anyhow::Result<ExitCode>
    where
        F: Future<Output = anyhow::Result<()>> + Send,
    {
        let loaded = load::load(self.policy.as_deref(), true)?;
        let is_open = |address: &&SocketAddr| !address.ip().is_loopback() && !self.public;
        if let Some(address) = Some(&self.listen).filter(is_open).filter(|_| loaded.policy.keys.is_none()) {
            bail!(
                "{address} can be reached by other machines, and nothing here asks for a key: name a file of `cascade keys` as `keys:` in the policy, or give --public if that is meant"
            );
        }
        if let Some(address) = self.admin.as_ref().filter(is_open) {
            bail!(
                "{address} can be reached by other machines, and the dashboard asks nobody for a key; give --public if that is meant"
            );
        }
        let level = if self.quiet { tracing::Level::WARN } else { tracing::Level::INFO };
        // Written by a thread of its own: whoever reads standard error may be slow.
        let (writer, until_written) = NonBlockingBuilder::default()
            .buffered_lines_limit(LINES_WAITING)
            .lossy(true)
            .thread_name("log")
            .finish(std::io::stderr());
        let log = writer.error_counter();
        let lines = tracing_subscriber::fmt()
            .with_max_level(level)
            .with_writer(writer)
            .with_ansi(std::io::stderr().is_terminal())
            .with_target(false)
            // Whoever reads standard error may be gone.
            .log_internal_errors(false);
        if self.log_json {
            lines.json().flatten_event(true).init();
        } else {
            lines.init();
        }
        let spans = Spans::of_environment(self.tls_cert.is_some())?.map(Arc::new);
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let closing = runtime.block_on(self.serve(loaded, log, spans.clone(), beside))?;
        // Streams that are still open end here; then they are noted, too.
        runtime.shutdown_timeout(Duration::from_secs(1));
        closing.books.save();
        closing.shared.iter().for_each(tell_the_rest);
        spans.iter().for_each(|spans| spans.end());
        closing.traces.iter().for_each(|traces| traces.flush());
        closing.recorder.load_full().iter().for_each(|recorder| recorder.flush());
        let how = if closing.is_drained {
            "stopped, nothing in flight"
        } else {
            "stopped; some requests did not finish in time"
        };
        tracing::warn!("{how}");
        drop(until_written);
        closing.ended.map(|()| ExitCode::SUCCESS)
    }

    /// Serves until it is told to stop; what is to be written then.
    async fn serve<F>(
        self,
        loaded: Loaded,
        log: ErrorCounter,
        spans: Option<Arc<Spans>>,
        beside: impl FnOnce(Addresses) -> F,
    ) -> anyhow::Result<Closing>
    where
        F: Future<Output = anyhow::Result<()>> + Send,
    {
        let clock = SystemClock::start();
        let traces = self.traces.as_deref().map(|path| {
            let traces = Traces::to(path).with_context(|| format!("cannot write traces to {}", path.display()));
            traces.map(Arc::new)
        });
        let traces = traces.transpose()?;
        let policy = loaded.policy.clone();
        let files = rlimit::increase_nofile_limit(u64::MAX).unwrap_or(1024);
        let connections = usize::try_from(u64::from(self.connections).min(files / 4 * 3))?;
        let room = Arc::new(Room::new(connections, (self.room as usize) << 20));
        let certificate = self.tls_cert.zip(self.tls_key).map(|(chain, key)| Renewed::read(chain, key)).transpose()?;
        let recorder = Arc::new(ArcSwapOption::empty());
        let shared = self.shared.open(clock)?;
        let serving = Serving::begin(
            self.policy.clone(),
            loaded,
            clock,
            Lasting {
                audience: Audience { traces: traces.clone(), recent: self.admin.map(|_| Arc::default()), spans },
                hosts: if self.public && self.admin.as_ref().is_some_and(|admin| !admin.ip().is_loopback()) {
                    Hosts::Any
                } else {
                    Hosts::Local
                },
                log,
                room: room.clone(),
                recorder: recorder.clone(),
                replicas: Replicas::join(shared.clone(), clock).await,
            },
        )?;
        let seconds = Duration::from_secs;
        let bounds = Bounds { head: seconds(self.idle), stalled: seconds(self.stalled), drain: seconds(self.drain) };
        let mut admin = None;
        if let Some(address) = self.admin {
            let listener = TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
            admin = Some(format!("http://{}", listener.local_addr()?));
            let bounds = Bounds { drain: Duration::ZERO, ..bounds };
            let door = Door { listener, certificate: None, room: Arc::new(Room::new(64, 1 << 20)), bounds };
            tokio::spawn(serve(door, serving.admin.clone(), clock, std::future::pending()));
        }
        let shutdown = shutdown_signal().context("cannot listen for signals")?;
        let listener =
            TcpListener::bind(self.listen).await.with_context(|| format!("cannot listen on {}", self.listen))?;
        let address = listener.local_addr()?;
        let names: Vec<&str> = policy.model_names().collect();
        let hint = if serving.hint.is_empty() { String::new() } else { format!("cascade: {}\n", serving.hint) };
        let gateway = format!("{}://{address}", if certificate.is_some() { "https" } else { "http" });
        let dashboard = admin.as_ref().map(|admin| format!("cascade: dashboard at {admin}\n")).unwrap_or_default();
        // Whoever reads these lines may have gone once it has the address.
        let _ = super::print(&format!(
            "cascade: listening on {gateway}/v1, policy {}, models {}\n{hint}{dashboard}",
            policy.digest,
            names.join(", ")
        ));
        let (routes, books) = (serving.routes.clone(), serving.books.clone());
        let mut keepers = JoinSet::new();
        keepers.spawn(serving.keep_up());
        shared.iter().for_each(|shared| _ = keepers.spawn(shared.clone().keep_up()));
        let in_force = certificate.as_ref().map(|certificate| certificate.in_force.clone());
        if let Some(certificate) = certificate {
            keepers.spawn(certificate.keep_up(clock));
        }
        let door = Door { listener, certificate: in_force, room, bounds };
        let beside = beside(Addresses { gateway, admin });
        let mut ended = Ok(());
        let ends = async {
            tokio::select! {
                () = shutdown => {}
                how = beside => ended = how,
            }
        };
        let is_drained = serve(door, routes, clock, ends).await;
        // What blocks in place would go on, and find that there are no timers any more.
        clock.within(Duration::from_secs(1), keepers.shutdown()).await;
        Ok(Closing { is_drained, ended, books, traces, recorder, shared })
    }
}

/// Tells other replicas what was spent to the end.
fn tell_the_rest(shared: &Arc<Shared>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    if !runtime.is_ok_and(|runtime| runtime.block_on(shared.end(Duration::from_secs(1)))) {
        tracing::error!("other replicas do not know all that was spent here; the file beside the keys does");
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
