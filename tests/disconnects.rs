//! A client that is gone: the upstream's connection is dropped within 100 ms,
//! whatever the gateway was waiting for.

mod support;

use std::time::Duration;

use prompt_cascade::clock::{Clock, SystemClock};
use support::{Served, two_tiers};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

const SOON: Duration = Duration::from_millis(100);

/// An upstream that sends `answer` and then nothing more. It reports each
/// connection twice: when a request has come, and when the other side closed.
async fn stalls_after(answer: &'static str) -> (String, mpsc::UnboundedReceiver<&'static str>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let base_url = format!("http://{}/v1", listener.local_addr().expect("an address"));
    let (report, reports) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.expect("a connection");
            let report = report.clone();
            tokio::spawn(async move {
                let mut buffer = [0; 4096];
                let _ = socket.read(&mut buffer).await;
                let _ = report.send("asked");
                let _ = socket.write_all(answer.as_bytes()).await;
                while !matches!(socket.read(&mut buffer).await, Ok(0) | Err(_)) {}
                let _ = report.send("dropped");
            });
        }
    });
    (base_url, reports)
}

/// Asks through the gateway, waits until the upstream was asked and (where the
/// answer flows) its first bytes are here, hangs up, and waits for the upstream
/// to be dropped.
async fn hang_up(base_url: &str, mut reports: mpsc::UnboundedReceiver<&'static str>, body: &str, wait_for: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    let served = Served::start(Some(&two_tiers(folder.path(), base_url, "")));
    let mut client = ask(&served, body).await;
    assert_eq!(reports.recv().await, Some("asked"));
    let mut seen = Vec::new();
    while !String::from_utf8_lossy(&seen).contains(wait_for) {
        seen.push(client.read_u8().await.expect("more"));
    }
    // Long enough for the gateway to have settled into waiting.
    let clock = SystemClock::start();
    clock.sleep(Duration::from_millis(50)).await;
    drop(client);
    let from = clock.now();
    let dropped = clock.within(Duration::from_secs(3), reports.recv()).await;
    let took = clock.now().saturating_sub(from);
    assert_eq!(dropped, Some(Some("dropped")), "the upstream was never dropped");
    assert!(took < SOON, "it took {took:?}");
}

async fn ask(served: &Served, body: &str) -> TcpStream {
    let mut socket =
        TcpStream::connect(served.url.strip_prefix("http://").expect("an address")).await.expect("a connection");
    let head = format!("POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", body.len());
    socket.write_all((head + body).as_bytes()).await.expect("written");
    socket
}

const WHOLE: &str = r#"{"model":"two","messages":[]}"#;
const STREAM: &str = r#"{"model":"two","stream":true,"messages":[]}"#;
const PINNED_STREAM: &str = r#"{"model":"large","stream":true,"messages":[]}"#;
const FRAME: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"hi\"}}]}\n\n";

#[tokio::test]
async fn before_the_upstreams_first_byte() {
    let (base_url, reports) = stalls_after("").await;
    hang_up(&base_url, reports, WHOLE, "").await;
}

#[tokio::test]
async fn in_the_middle_of_a_whole_answer() {
    let (base_url, reports) =
        stalls_after("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n{\"choices\"")
            .await;
    hang_up(&base_url, reports, WHOLE, "").await;
}

#[tokio::test]
async fn while_a_stream_is_held_back() {
    let (base_url, reports) = stalls_after(FRAME).await;
    hang_up(&base_url, reports, STREAM, "").await;
}

#[tokio::test]
async fn while_a_stream_flows() {
    let (base_url, reports) = stalls_after(FRAME).await;
    hang_up(&base_url, reports, PINNED_STREAM, "hi").await;
}

#[tokio::test]
async fn while_the_upstream_is_being_connected_to() {
    // A TLS handshake that never goes on: the connection is not there yet.
    let (base_url, reports) = stalls_after("").await;
    hang_up(&base_url.replace("http://", "https://"), reports, WHOLE, "").await;
}

#[tokio::test]
async fn while_it_waits_for_an_equal_prompt_and_when_that_one_is_gone() {
    let (base_url, mut reports) = stalls_after("").await;
    let folder = tempfile::tempdir().expect("a folder");
    let served = Served::start(Some(&two_tiers(folder.path(), &base_url, ", cache: { sampled: true }")));
    let first = ask(&served, WHOLE).await;
    assert_eq!(reports.recv().await, Some("asked"));
    let second = ask(&served, WHOLE).await;
    let third = ask(&served, WHOLE).await;
    let clock = SystemClock::start();
    clock.sleep(Duration::from_millis(50)).await;
    // One that only waits goes without a trace.
    drop(third);
    assert_eq!(clock.within(SOON, reports.recv()).await, None, "the upstream is still asked for the other two");
    // The one that asks goes: its connection is dropped, and the one that waits asks anew.
    drop(first);
    let mut next = [reports.recv().await, reports.recv().await];
    next.sort_unstable();
    assert_eq!(next, [Some("asked"), Some("dropped")]);
    drop(second);
    assert_eq!(clock.within(SOON, reports.recv()).await, Some(Some("dropped")));
}

#[tokio::test]
async fn while_it_waits_for_a_permit() {
    let (base_url, mut reports) = stalls_after("").await;
    let folder = tempfile::tempdir().expect("a folder");
    let limits = ", limits: { concurrent: 1, when_full: { wait: { up_to: 20s } } }";
    let served = Served::start(Some(&two_tiers(folder.path(), &base_url, limits)));
    let first = ask(&served, WHOLE).await;
    assert_eq!(reports.recv().await, Some("asked"));
    let waits = ask(&served, WHOLE).await;
    let clock = SystemClock::start();
    clock.sleep(Duration::from_millis(50)).await;
    drop(waits);
    assert_eq!(clock.within(SOON, reports.recv()).await, None, "the one that is asked for still wants its answer");
    // Its place in the queue is gone with it: the permit goes to the one after.
    let after = ask(&served, WHOLE).await;
    clock.sleep(Duration::from_millis(50)).await;
    drop(first);
    let from = clock.now();
    let mut next = [reports.recv().await, reports.recv().await];
    next.sort_unstable();
    assert_eq!(next, [Some("asked"), Some("dropped")]);
    assert!(clock.now().saturating_sub(from) < SOON, "the place was not free in time");
    assert_eq!(clock.within(SOON, reports.recv()).await, None, "nobody else is there");
    drop(after);
    assert_eq!(clock.within(SOON, reports.recv()).await, Some(Some("dropped")));
}
