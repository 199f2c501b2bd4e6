//! `cascade demo`: the gateway, its dashboard, and traffic to look at.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::{Args, Parser};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use serde_json::{Value, json};

use super::serve::{Addresses, Serve};
use crate::clock::{Clock, SystemClock};
use crate::exchange::Exchange;
use crate::recording;
use crate::upstream::Probe;

/// Requests in flight at most.
const IN_FLIGHT: usize = 256;

#[derive(Debug, Args)]
pub(super) struct Demo {
    /// Where to listen; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "ADDRESS")]
    listen: SocketAddr,
    /// Where the dashboard is
    #[arg(long, default_value = "127.0.0.1:9090", value_name = "ADDRESS")]
    admin: SocketAddr,
    /// Requests a second, 1 to 1,000
    #[arg(long, default_value_t = 5, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=1000))]
    rate: u32,
    /// Stop after so many, and say what was saved; left out: until Ctrl-C
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    requests: Option<u32>,
    /// Allow an address that other machines can reach
    #[arg(long)]
    public: bool,
    /// Write no line per request
    #[arg(long, short)]
    quiet: bool,
}

/// So that what `serve` takes when nobody says otherwise is said in one place.
#[derive(Parser)]
struct AsServed {
    #[command(flatten)]
    serve: Serve,
}

impl Demo {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let [listen, admin] = [self.listen, self.admin].map(|address| address.to_string());
        let more = [self.quiet.then_some("--quiet"), self.public.then_some("--public")];
        let arguments =
            ["cascade", "--listen", &listen, "--admin", &admin].into_iter().chain(more.into_iter().flatten());
        let AsServed { serve } = AsServed::try_parse_from(arguments)?;
        let traffic = Traffic {
            exchanges: recording::load("embedded")?,
            every: Duration::from_secs(1) / self.rate,
            requests: self.requests,
        };
        serve.run_beside(
            |addresses| async move { traffic.send(addresses).await.context("the demo's traffic has ended") },
        )
    }
}

/// The fixtures' prompts, again and again.
struct Traffic {
    exchanges: Vec<Exchange>,
    every: Duration,
    requests: Option<u32>,
}

impl Traffic {
    async fn send(self, Addresses { gateway, admin }: Addresses) -> anyhow::Result<()> {
        let probe = Probe::new(&format!("{gateway}/v1"), None, Duration::from_secs(5))?;
        // The same prompts in the same order each time.
        let (clock, mut random) = (SystemClock::start(), fastrand::Rng::with_seed(1));
        let mut under_way = FuturesUnordered::new();
        let mut sent = 0u32;
        while self.requests.is_none_or(|all| sent < all) {
            let exchange = &self.exchanges[random.usize(..self.exchanges.len())];
            let body = body(exchange, random.u8(..4) == 0, (random.u8(..3) > 0).then_some(sent))?;
            under_way.push(probe.post(exchange.prompt.endpoint.path(), body));
            sent += 1;
            let next = clock.sleep((self.every * sent).saturating_sub(clock.now()));
            tokio::pin!(next);
            loop {
                tokio::select! {
                    () = &mut next, if under_way.len() < IN_FLIGHT => break,
                    Some(told) = under_way.next() => {
                        told.map_err(|why| anyhow!("{gateway}: {why}"))?;
                    }
                }
            }
        }
        while let Some(told) = under_way.next().await {
            told.map_err(|why| anyhow!("{gateway}: {why}"))?;
        }
        let admin = Probe::new(&admin.unwrap_or_default(), None, Duration::from_secs(5))?;
        let told = admin.get("/recent").await.map_err(|why| anyhow!("{why}"))?;
        let told: Value = serde_json::from_slice(&told.body).context("the dashboard's numbers")?;
        super::print(&format!("\n{}", told["ledger"].as_str().unwrap_or_default()))
    }
}

/// An exchange's request, as a client would send it now: some want the answer as it
/// comes, and with a seed of its own it is none that a cache knows.
fn body(exchange: &Exchange, streams: bool, seed: Option<u32>) -> anyhow::Result<String> {
    let mut body: Value = serde_json::from_slice(exchange.prompt.body())?;
    if streams {
        body["stream"] = json!(true);
    }
    if let Some(seed) = seed {
        body["seed"] = json!(seed);
    }
    Ok(body.to_string())
}
