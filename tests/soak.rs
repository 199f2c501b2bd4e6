//! Load with aborts and reloads, for a while: memory and open files stay where they
//! are, and no request is lost. Twenty seconds here; a quarter of an hour by
//! `SOAK_SECONDS=900 cargo test --release --test soak -- --nocapture`.

mod support;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use prompt_cascade::clock::{Clock, SystemClock};
use support::{END, ROLE, Served, USAGE, WORD, client, completion, response, sse};
use tokio::io::AsyncWriteExt;

/// Workers that ask one after the other.
const WORKERS: usize = 16;

/// An upstream that keeps nothing, so that only the gateway's memory may grow.
async fn upstream() -> String {
    let app = axum::Router::new().fallback(|body: Bytes| async move {
        let streams = memchr::memmem::find(&body, b"\"stream\":true").is_some();
        let unsure = memchr::memmem::find(&body, b"unsure").is_some();
        let padding = "and so on ".repeat(80);
        if streams {
            let frames = [ROLE, WORD, WORD, END, USAGE, "[DONE]"]
                .map(|frame| Ok::<_, std::io::Error>(Bytes::from(sse(&[frame]))));
            return response(200, "text/event-stream", Body::from_stream(stream::iter(frames)));
        }
        let logprobs: &[f64] = if unsure { &[-3.0] } else { &[-0.01] };
        response(200, "application/json", completion(&padding, logprobs).to_string())
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let base_url = format!("http://{}/v1", listener.local_addr().expect("an address"));
    tokio::spawn(async move { axum::serve(listener, app).await });
    base_url
}

fn policy(base_url: &str, number: usize) -> String {
    format!(
        r#"name: two
upstreams: {{ up: {{ base_url: "{base_url}" }} }}
passthrough: {{ upstream: up }}
tiers:
  - {{ name: small, model: small, upstream: up, cache: {{ capacity: 1MiB, ttl: 2s }}, limits: {{ concurrent: 64 }}, accept: {{ score: confidence, at_least: 0.{} }} }}
  - {{ name: large, model: large, upstream: up, cache: {{ capacity: 1MiB, ttl: 2s }} }}
"#,
        6 + number % 3
    )
}

/// The slope of the line of least squares.
fn slope(points: &[(f64, f64)]) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a count")]
    let n = points.len() as f64;
    let (x, y) = points.iter().fold((0.0, 0.0), |(x, y), point| (x + point.0 / n, y + point.1 / n));
    let by = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum::<f64>();
    by / points.iter().map(|point| (point.0 - x).powi(2)).sum::<f64>()
}

struct Load {
    url: String,
    ends: AtomicBool,
    answered: AtomicUsize,
    aborted: AtomicUsize,
}

async fn work(load: &Load, worker: u64) {
    let (client, mut random) = (client(), fastrand::Rng::with_seed(worker));
    let address = load.url.strip_prefix("http://").expect("an address");
    while !load.ends.load(Ordering::Relaxed) {
        // Some are equal, so that caches are hit.
        let (number, kind) = (random.u32(0..5000), random.u8(0..20));
        let (word, streams) = (if kind < 5 { "unsure" } else { "sure" }, kind % 3 == 0);
        let body = format!(
            r#"{{"model":"two","temperature":0,"stream":{streams},"messages":[{{"role":"user","content":"{word} {number}"}}]}}"#
        );
        if kind == 19 {
            let mut socket = tokio::net::TcpStream::connect(address).await.expect("connected");
            let head =
                format!("POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", body.len());
            socket.write_all((head + &body[..random.usize(0..=body.len())]).as_bytes()).await.expect("written");
            SystemClock::start().sleep(Duration::from_millis(random.u64(0..5))).await;
            load.aborted.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        let path = if kind == 18 { "embeddings" } else { "chat/completions" };
        let back = client.post(format!("{}/v1/{path}", load.url)).body(body).send().await.expect("an answer");
        let status = back.status();
        let text = back.text().await.expect("a body");
        assert!(status == 200 && !text.contains("\"error\""), "{status}: {text}");
        load.answered.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_and_open_files_stay_where_they_are_and_no_request_is_lost() {
    let seconds: u64 = std::env::var("SOAK_SECONDS").ok().and_then(|n| n.parse().ok()).unwrap_or(20);
    let folder = tempfile::tempdir().expect("a folder");
    let (path, base_url) = (folder.path().join("policy.yaml"), upstream().await);
    std::fs::write(&path, policy(&base_url, 0)).expect("written");
    let (served, metrics) = Served::start_with_metrics_as(&path, &["--quiet"]);
    let idle_files = served.open_files();
    let load = Load {
        url: served.url.clone(),
        ends: AtomicBool::new(false),
        answered: AtomicUsize::new(0),
        aborted: AtomicUsize::new(0),
    };
    let watch = async {
        let clock = SystemClock::start();
        let mut resident = Vec::new();
        for second in 0..seconds {
            if second % 3 == 2 {
                let new = folder.path().join("new.yaml");
                std::fs::write(&new, policy(&base_url, usize::try_from(second).expect("small"))).expect("written");
                std::fs::rename(&new, &path).expect("renamed");
                served.signal("HUP");
            }
            clock.sleep(Duration::from_secs(second + 1).saturating_sub(clock.now())).await;
            #[expect(clippy::cast_precision_loss, reason = "seconds and KiB")]
            resident.push((second as f64, served.resident_kib() as f64));
        }
        load.ends.store(true, Ordering::Relaxed);
        resident
    };
    let workers = stream::iter(0..WORKERS as u64).for_each_concurrent(WORKERS, |worker| work(&load, worker));
    let (resident, ()) = tokio::join!(watch, workers);

    // Buffers and caches fill at first.
    let settled = &resident[resident.len() / 4..];
    let slope = slope(settled);
    let (first, last) = (settled[0].1, settled[settled.len() - 1].1);
    let most = settled.iter().map(|(_, kib)| *kib).fold(0.0, f64::max);
    println!(
        "{seconds} s: {} answered, {} aborted; resident {first:.0} KiB a quarter in, {last:.0} at the end, {most:.0} at most; {slope:+.2} KiB a second",
        load.answered.load(Ordering::Relaxed),
        load.aborted.load(Ordering::Relaxed),
    );
    let clock = SystemClock::start();
    while served.open_files() > idle_files + 2 * WORKERS {
        assert!(clock.now() < Duration::from_secs(10), "{} files are open, {idle_files} before", served.open_files());
        clock.sleep(Duration::from_millis(100)).await;
    }
    println!("open files: {idle_files} before, {} after", served.open_files());
    let metrics = client().get(metrics).send().await.expect("metrics").text().await.expect("text");
    let reloads = format!("cascade_reloads_total{{result=\"success\"}} {}\n", seconds / 3);
    assert!(metrics.contains(&reloads), "{metrics}");
    assert!(last < 1.2 * first + 4096.0, "memory grows: {first} KiB to {last} KiB");
    let log = served.stop();
    assert!(!log.contains("panicked"), "{log}");
}
