//! A hostile upstream and hostile clients at once. Every request is answered with what
//! was asked, or with an error in OpenAI's shape, or its connection is closed; nobody
//! gets another's answer, nothing panics, and nothing stays taken.

#[path = "../support/mod.rs"]
mod support;

mod clients;
mod upstream;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt;
use prompt_cascade::clock::{Clock, SystemClock};
use support::Served;
use upstream::{FAULTS, Hostile, ODDITIES};

/// Requests in one run; `CHAOS_REQUESTS` asks for more.
const REQUESTS: usize = 3000;

fn policy(folder: &Path, base_url: &str) -> std::path::PathBuf {
    let path = folder.join("policy.yaml");
    let text = format!(
        r#"name: two
upstreams: {{ up: {{ base_url: "{base_url}", timeouts: {{ connect: 1s, first_byte: 2s, idle: 500ms, total: 3s }}, breaker: {{ failures: 1000000 }} }} }}
tiers:
  - {{ name: small, model: small, upstream: up, cache: {{ ttl: 1h }}, limits: {{ concurrent: 64 }}, accept: {{ score: confidence, at_least: 0.7 }} }}
  - {{ name: large, model: large, upstream: up, cache: {{ ttl: 1h }}, limits: {{ concurrent: 64 }}, retries: {{ times: 1, backoff: 10ms }} }}
"#
    );
    std::fs::write(&path, text).expect("written");
    path
}

fn ask(nonce: &str, whom: &str, how: &str, streams: bool) -> String {
    serde_json::json!({"model": "two", "stream": streams,
        "messages": [{"role": "user", "content": format!("{nonce} {whom} {how}")}]})
    .to_string()
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    Answered,
    Refused(u16),
    /// A stream that began and ended in an error.
    BrokeOff,
}

/// An error in OpenAI's shape: all four keys, and a text.
fn is_envelope(body: &[u8]) -> bool {
    let error = serde_json::from_slice::<serde_json::Value>(body).unwrap_or_default()["error"].take();
    let keys = ["message", "type", "param", "code"];
    keys.iter().all(|key| error.get(key).is_some()) && error["message"].as_str().is_some_and(|text| !text.is_empty())
}

/// The end of a request; the text of a success is its own.
async fn end_of(response: reqwest::Response, nonce: &str, what: &str) -> End {
    let status = response.status().as_u16();
    let streams = response.headers().get("content-type").is_some_and(|kind| kind.as_bytes().starts_with(b"text/event"));
    let body = response.bytes().await.unwrap_or_else(|error| panic!("{what}: {error}"));
    if status != 200 {
        assert!(is_envelope(&body), "{what}: {status} {}", String::from_utf8_lossy(&body));
        return End::Refused(status);
    }
    let whose = [format!("{nonce} by small"), format!("{nonce} by large")];
    let text = String::from_utf8(body.to_vec()).unwrap_or_else(|_| panic!("{what}: not UTF-8"));
    if !streams {
        let body: serde_json::Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{what}: {text}"));
        let said = body["choices"][0]["message"]["content"].as_str().unwrap_or_default();
        assert!(whose.iter().any(|own| own == said), "{what}: {text}");
        return End::Answered;
    }
    let frames: Vec<&str> = text.split("\n\n").filter_map(|event| event.strip_prefix("data: ")).collect();
    let mut said = String::new();
    for frame in &frames[..frames.len() - 1] {
        let frame: serde_json::Value = serde_json::from_str(frame).unwrap_or_else(|_| panic!("{what}: {frame}"));
        said += frame["choices"][0]["delta"]["content"].as_str().unwrap_or_default();
    }
    let last = frames.last().unwrap_or_else(|| panic!("{what}: no frames"));
    if *last == "[DONE]" {
        assert!(whose.contains(&said), "{what}: {text}");
        return End::Answered;
    }
    assert!(is_envelope(last.as_bytes()), "{what}: ends in {last}");
    assert!(whose.iter().any(|own| own.starts_with(&said)), "{what}: {text}");
    End::BrokeOff
}

async fn metric(url: &str, name: &str) -> f64 {
    let text = support::client().get(url).send().await.expect("metrics").text().await.expect("a body");
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{name}: {text:?}")).parse().expect("a number")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_upstream_and_hostile_clients() {
    let requests = std::env::var("CHAOS_REQUESTS").ok().and_then(|n| n.parse().ok()).unwrap_or(REQUESTS);
    let folder = tempfile::tempdir().expect("a folder");
    let hostile = Hostile::start().await;
    let policy = policy(folder.path(), &hostile.base_url);
    let traces = folder.path().join("traces.jsonl");
    let arguments = ["--idle", "2", "--traces", traces.to_str().expect("UTF-8")];
    let (served, metrics) = Served::start_with_metrics_as(&policy, &arguments);
    let address = served.url.strip_prefix("http://").expect("an address").to_owned();
    let url = format!("{}/v1/chat/completions", served.url);
    let client = support::client();
    let ends: Mutex<BTreeMap<(String, End), usize>> = Mutex::default();
    let seed = 7;

    let crawlers: Vec<_> = (0..50)
        .map(|_| {
            let address = address.clone();
            tokio::spawn(async move { clients::crawl(&address, Duration::from_secs(20)).await })
        })
        .collect();
    let nonsense = Arc::new(clients::nonsense());
    let work = futures_util::stream::iter(0..requests).for_each_concurrent(48, |n| {
        let mut random = fastrand::Rng::with_seed(seed + n as u64);
        let (client, url, address, ends, nonsense) = (&client, &url, &address, &ends, nonsense.clone());
        async move {
            let nonce = format!("n{n}");
            let streams = random.bool();
            let note = |kind: &str, end: End| {
                *ends.lock().expect("no panic before").entry((kind.to_owned(), end)).or_default() += 1;
            };
            match random.u8(0..10) {
                0 => {
                    let how = random.choice(["well", "hang", "drip", "split_bytes"]).expect("one");
                    let whom = random.choice(["any", "small"]).expect("one");
                    let after = Duration::from_millis(random.u64(0..120));
                    clients::abort(address, &ask(&nonce, whom, how, streams), after, random.f64() * 1.5).await;
                }
                1 => {
                    let (name, bytes) = random.choice(nonsense.iter()).expect("one");
                    let said = clients::send(address, name, bytes).await;
                    check_refusal(name, &said);
                }
                kind => {
                    let (whom, how) = match kind {
                        2..5 => ("any", "well"),
                        5 => ("any", *random.choice(ODDITIES).expect("one")),
                        6..8 => ("any", *random.choice(FAULTS).expect("one")),
                        _ => ("small", *random.choice(FAULTS).expect("one")),
                    };
                    let body = ask(&nonce, whom, how, streams);
                    let what = format!("{nonce}, {whom} does {how}, stream {streams}");
                    let response = client.post(url.as_str()).body(body).send().await;
                    let response = response.unwrap_or_else(|error| panic!("{what}: {error:?}"));
                    let end = end_of(response, &nonce, &what).await;
                    note(&format!("{whom} {how}"), end);
                    // Where one model misbehaves the other answers.
                    if whom == "small" || how == "well" || ODDITIES.contains(&how) {
                        assert_eq!(end, End::Answered, "{what}");
                    } else {
                        assert_ne!(end, End::Answered, "{what}");
                        assert!(!matches!(end, End::Refused(500)), "{what}");
                    }
                }
            }
        }
    });
    work.await;
    for crawler in crawlers {
        crawler.await.expect("no panic");
    }
    for ((kind, end), count) in ends.lock().expect("no panic before").iter() {
        println!("{kind:30} {end:?}: {count}");
    }
    all_places_are_free(&client, &url, &metrics, &hostile).await;

    // Nobody has read what it logs, which held up nothing.
    // What was answered is in the traces: as many as clients saw, those that hung up aside.
    let counted: usize = ends.lock().expect("no panic before").values().sum();
    let log = served.stop();
    let lines = std::fs::read_to_string(&traces).expect("traces").lines().count();
    println!("{requests} requests, {counted} answered, {lines} traced");
    assert!(lines >= counted, "{lines} traces of {counted} answers");
    assert!(!log.contains("panicked"), "{log}");
}

/// A refusal has a status of a client's fault, and OpenAI's shape where it has a body.
fn check_refusal(name: &str, said: &[u8]) {
    // HTTP/2 is told in its own words that HTTP/1.1 is asked for.
    if said.is_empty() || name == "http2" {
        return;
    }
    let text = String::from_utf8_lossy(said);
    let status = text.strip_prefix("HTTP/1.1 ").or(text.strip_prefix("HTTP/1.0 ")).and_then(|rest| rest.get(..3));
    assert!(status.is_some_and(|status| status.starts_with('4')), "{name}: {text:?}");
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{name}: {text:?}"));
    // What is no HTTP is refused by a bare status line.
    let is_bare = body.is_empty() && head.contains("content-length: 0");
    assert!(is_bare || is_envelope(body.as_bytes()), "{name}: {text:?}");
}

/// As many prompts as there are permits are in flight at once and answered, and nothing
/// is held afterwards.
async fn all_places_are_free(client: &reqwest::Client, url: &str, metrics: &str, hostile: &Hostile) {
    let clock = SystemClock::start();
    while metric(metrics, "cascade_held_bytes").await > 0.0 {
        assert!(clock.now() < Duration::from_secs(10), "something holds on to its body");
        clock.sleep(Duration::from_millis(100)).await;
    }
    let before = hostile.answered.load(std::sync::atomic::Ordering::Relaxed);
    let all = (0..64).map(|n| {
        let nonce = format!("last{n}");
        let request = client.post(url).body(ask(&nonce, "any", "well", false)).send();
        async move { end_of(request.await.expect("an answer"), &nonce, &nonce).await }
    });
    let all = futures_util::future::join_all(all).await;
    assert_eq!(all, [End::Answered; 64]);
    let after = hostile.answered.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!(after - before, 64, "each was answered by the small model");
    assert!(metric(metrics, "cascade_connections").await <= 64.0 + 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_429_is_weathered() {
    let folder = tempfile::tempdir().expect("a folder");
    let hostile = Hostile::start().await;
    let (served, metrics) = Served::start_with_metrics_as(&policy(folder.path(), &hostile.base_url), &[]);
    let (client, url) = (support::client(), format!("{}/v1/chat/completions", served.url));
    let ends: Mutex<BTreeMap<End, usize>> = Mutex::default();
    let all = futures_util::stream::iter(0..600).for_each_concurrent(24, |n| {
        let (client, url, ends) = (&client, &url, &ends);
        async move {
            // Of differing length, by which the upstream chooses its headers.
            let nonce = format!("s{n}{}", "x".repeat(n % 5));
            let how = if n % 3 == 0 { "storm" } else { "well" };
            let response = client.post(url).body(ask(&nonce, "any", how, n % 2 == 0)).send().await.expect("an answer");
            let waits = response.headers().get("retry-after").map(|wait| wait.to_str().expect("ascii").to_owned());
            let end = end_of(response, &nonce, how).await;
            assert_eq!(end == End::Answered, waits.is_none(), "{end:?} says to wait {waits:?}");
            assert!(matches!(end, End::Answered | End::Refused(429 | 503)), "{end:?}");
            *ends.lock().expect("no panic before").entry(end).or_default() += 1;
        }
    });
    all.await;
    println!("{:?}", ends.lock().expect("no panic before"));
    SystemClock::start().sleep(Duration::from_millis(1200)).await;
    all_places_are_free(&client, &url, &metrics, &hostile).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_that_never_end_are_cut_and_their_memory_used_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let hostile = Hostile::start().await;
    let served = Served::start(Some(&policy(folder.path(), &hostile.base_url)));
    let (client, url) = (support::client(), format!("{}/v1/chat/completions", served.url));
    let mut most = Vec::new();
    for n in 0..24 {
        let what = format!("huge{n}");
        let response =
            client.post(&url).body(ask(&what, "any", "huge_frame", n % 2 == 0)).send().await.expect("an answer");
        assert_eq!(end_of(response, &what, &what).await, End::Refused(502));
        most.push(served.resident_kib());
    }
    // Each would hold 16 MiB or more; the allocator keeps what a few held.
    println!("resident after so many endless frames, in KiB: {most:?}");
    assert!(most.iter().all(|resident| *resident < 200 << 10), "{most:?} KiB");
}
