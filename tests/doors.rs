//! Where clients come in: TLS, how many there is room for, and how long they may take.

mod support;

use std::path::Path;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use prompt_cascade::clock::{Clock, SystemClock};
use support::{Fake, Served, cascade, client, completion, response, two_tiers};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const ASK: &str = r#"{"model": "two", "messages": [{"role": "user", "content": "hi"}]}"#;

/// Writes a certificate of its own for 127.0.0.1 and returns it.
fn certify(folder: &Path) -> reqwest::Certificate {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).expect("a certificate");
    std::fs::write(folder.join("chain.pem"), made.cert.pem()).expect("written");
    std::fs::write(folder.join("key.pem"), made.signing_key.serialize_pem()).expect("written");
    reqwest::Certificate::from_pem(made.cert.pem().as_bytes()).expect("PEM")
}

fn trusting(certificate: reqwest::Certificate) -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().tls_certs_only([certificate]).pool_max_idle_per_host(0).build().expect("a client")
}

async fn confident() -> Fake {
    Fake::start(|_| response(200, "application/json", completion("hi", &[-0.01]).to_string())).await
}

/// The address without its scheme.
fn address(served: &Served) -> &str {
    served.url.split_once("://").expect("a scheme").1
}

#[tokio::test(flavor = "multi_thread")]
async fn it_speaks_tls_and_a_renewed_certificate_is_taken_up() {
    let folder = tempfile::tempdir().expect("a folder");
    let first = certify(folder.path());
    let (chain, key) = (folder.path().join("chain.pem"), folder.path().join("key.pem"));
    let tls = ["--tls-cert", chain.to_str().expect("UTF-8"), "--tls-key", key.to_str().expect("UTF-8")];
    let policy = two_tiers(folder.path(), &confident().await.base_url, "");
    let served = Served::start_as(Some(&policy), &[], &tls);
    assert!(served.url.starts_with("https://127.0.0.1:"), "{}", served.url);
    let ask = |client: reqwest::Client| {
        let url = format!("{}/v1/chat/completions", served.url);
        async move { client.post(url).body(ASK).send().await.map(|response| response.status().as_u16()) }
    };
    assert_eq!(ask(trusting(first.clone())).await.expect("an answer"), 200);
    let plain = client().post(format!("http://{}/v1/models", address(&served))).send().await;
    assert!(plain.is_err(), "plain HTTP is not answered where TLS is spoken");

    // A pair that does not belong together changes nothing.
    let before = std::fs::read(&key).expect("readable");
    certify(folder.path());
    std::fs::write(&key, &before).expect("written");
    SystemClock::start().sleep(Duration::from_millis(2500)).await;
    assert_eq!(ask(trusting(first.clone())).await.expect("the one before stays"), 200);

    let second = certify(folder.path());
    let clock = SystemClock::start();
    while ask(trusting(second.clone())).await.is_err() {
        assert!(clock.now() < Duration::from_secs(10), "the renewed certificate is not taken up");
        SystemClock::start().sleep(Duration::from_millis(100)).await;
    }
    assert!(ask(trusting(first)).await.is_err());
    let log = served.stop();
    assert!(log.contains("the one before stays: the certificate") && log.contains("is in force"), "{log}");
    assert!(!log.contains("PRIVATE KEY"), "{log}");
}

#[test]
fn a_certificate_that_cannot_be_used_is_refused_before_a_port_is_bound() {
    let folder = tempfile::tempdir().expect("a folder");
    certify(folder.path());
    let at = |name: &str| folder.path().join(name).to_str().expect("UTF-8").to_owned();
    let other = tempfile::tempdir().expect("a folder");
    certify(other.path());
    std::fs::copy(other.path().join("key.pem"), at("other.pem")).expect("copied");
    std::fs::write(at("empty.pem"), "").expect("written");
    let cases = [
        (["--tls-cert", &at("none.pem"), "--tls-key", &at("key.pem")], "cannot read"),
        (["--tls-cert", &at("empty.pem"), "--tls-key", &at("key.pem")], "has no certificate in PEM's form"),
        (["--tls-cert", &at("chain.pem"), "--tls-key", &at("chain.pem")], "has no private key in PEM's form"),
        (["--tls-cert", &at("chain.pem"), "--tls-key", &at("other.pem")], "cannot be used with the key"),
    ];
    for (arguments, wanted) in cases {
        let output = cascade().args(["serve", "--listen", "127.0.0.1:0"]).args(arguments).output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(wanted), "{arguments:?}: {said}");
    }
    let half = cascade().args(["serve", "--tls-cert", "x"]).output().expect("it runs");
    assert!(String::from_utf8_lossy(&half.stderr).contains("--tls-key"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_too_many_is_told_so_and_the_next_finds_a_place_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let policy = two_tiers(folder.path(), &confident().await.base_url, "");
    let served = Served::start_as(Some(&policy), &[], &["--connections", "2"]);
    let first = TcpStream::connect(address(&served)).await.expect("connected");
    let _second = TcpStream::connect(address(&served)).await.expect("connected");
    SystemClock::start().sleep(Duration::from_millis(100)).await;

    let ask = || client().post(format!("{}/v1/chat/completions", served.url)).body(ASK).send();
    let told = ask().await.expect("an answer");
    assert_eq!((told.status().as_u16(), &told.headers()["retry-after"]), (503, &"1".parse().expect("ascii")));
    assert_eq!(
        (&told.headers()["connection"], &told.headers()["x-should-retry"]),
        (&"close".parse().expect("ascii"), &"true".parse().expect("ascii"))
    );
    let body: serde_json::Value = serde_json::from_slice(&told.bytes().await.expect("a body")).expect("JSON");
    assert_eq!(body["error"]["code"], "overloaded");

    drop(first);
    SystemClock::start().sleep(Duration::from_millis(100)).await;
    assert_eq!(ask().await.expect("an answer").status().as_u16(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_find_no_room_are_shed_and_memory_stays_where_it_was() {
    let folder = tempfile::tempdir().expect("a folder");
    let policy = two_tiers(folder.path(), &confident().await.base_url, "");
    let (served, metrics) = Served::start_with_metrics_as(&policy, &["--room", "8"]);
    // Forty bodies of 4 MiB that never end, at once: 160 MiB, of which 8 have room.
    let mut waiting = Vec::new();
    let mut told = 0;
    for _ in 0..40 {
        let mut socket = TcpStream::connect(address(&served)).await.expect("connected");
        let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 30000000\r\n\r\n";
        socket.write_all(head.as_bytes()).await.expect("written");
        let pieces = vec![b' '; 4 << 20];
        // Whoever is told hangs up on the rest.
        let _ = SystemClock::start().within(Duration::from_millis(200), socket.write_all(&pieces)).await;
        waiting.push(socket);
    }
    for socket in &mut waiting {
        let mut said = vec![0; 1024];
        if let Some(Ok(read)) = SystemClock::start().within(Duration::from_millis(50), socket.read(&mut said)).await {
            told += usize::from(String::from_utf8_lossy(&said[..read]).starts_with("HTTP/1.1 503 "));
        }
    }
    assert!(told >= 30, "told: {told}");
    let held = served.resident_kib();
    // Half of what was sent would be far too much; 40 to 53 MiB were seen.
    assert!(held < 80 << 10, "{held} KiB are resident");
    let metrics = client().get(metrics).send().await.expect("metrics").text().await.expect("a body");
    // Some may not have heard it: their connection was gone, or time was up.
    let shed = metrics.lines().find_map(|line| line.strip_prefix("cascade_requests_shed_total ")?.parse().ok());
    assert!(shed.is_some_and(|shed: usize| shed >= told && shed <= 40), "{told}: {metrics}");
    drop(waiting);
    SystemClock::start().sleep(Duration::from_millis(200)).await;
    let after = client().post(format!("{}/v1/chat/completions", served.url)).body(ASK).send().await;
    assert_eq!(after.expect("an answer").status().as_u16(), 200, "what was held is free again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_reads_nothing_is_let_go_and_so_is_its_upstream() {
    let folder = tempfile::tempdir().expect("a folder");
    let (sender, mut dropped) = tokio::sync::mpsc::unbounded_channel();
    let fake = Fake::start(move |_| {
        let guard = Dropped(sender.clone());
        let frame = Bytes::from(format!("data: {}\n\n", support::WORD).repeat(100));
        let endless = futures_util::stream::repeat_with(move || {
            let _ = &guard;
            Ok::<_, std::io::Error>(frame.clone())
        });
        response(200, "text/event-stream", Body::from_stream(endless))
    });
    let policy = folder.path().join("policy.yaml");
    let text = format!(
        "name: slow\nupstreams: {{ up: {{ base_url: \"{}\" }} }}\ntiers: [{{ name: one, model: m, upstream: up }}]\n",
        fake.await.base_url
    );
    std::fs::write(&policy, text).expect("written");
    let served = Served::start_as(Some(&policy), &[], &["--stalled", "1"]);
    let mut socket = TcpStream::connect(address(&served)).await.expect("connected");
    let body = r#"{"model": "one", "stream": true, "messages": [{"role": "user", "content": "hi"}]}"#;
    let ask = format!("POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    socket.write_all(ask.as_bytes()).await.expect("written");
    let clock = SystemClock::start();
    clock.within(Duration::from_secs(8), dropped.recv()).await.expect("the upstream is let go");
    assert!(clock.now() > Duration::from_millis(900));
    drop(socket);
}

/// Tells when it is dropped.
struct Dropped(tokio::sync::mpsc::UnboundedSender<()>);

impl Drop for Dropped {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_head_and_a_silent_handshake_are_closed() {
    let folder = tempfile::tempdir().expect("a folder");
    certify(folder.path());
    let at = |name: &str| folder.path().join(name).to_str().expect("UTF-8").to_owned();
    let policy = two_tiers(folder.path(), &confident().await.base_url, "");
    let plain = Served::start_as(Some(&policy), &[], &["--idle", "1"]);
    let tls = ["--idle", "1", "--tls-cert", &at("chain.pem"), "--tls-key", &at("key.pem")];
    let secret = Served::start_as(Some(&policy), &[], &tls);
    for served in [&plain, &secret] {
        let mut socket = TcpStream::connect(address(served)).await.expect("connected");
        socket.write_all(b"POST /v1/chat/comp").await.expect("written");
        let mut rest = Vec::new();
        let closed = SystemClock::start().within(Duration::from_secs(5), socket.read_to_end(&mut rest)).await;
        assert!(closed.is_some(), "{} keeps half a head", served.url);
    }
}
