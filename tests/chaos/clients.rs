//! Clients that misbehave, over raw sockets.

use std::time::Duration;

use prompt_cascade::clock::{Clock, SystemClock};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const PATH: &str = "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n";

fn with_length(body: &[u8]) -> Vec<u8> {
    let head = format!("{PATH}content-length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// What they send; nothing that could be answered with a success.
pub fn nonsense() -> Vec<(&'static str, Vec<u8>)> {
    let deep = "[".repeat(100_000);
    let text = |text: &str| text.as_bytes().to_vec();
    let good = r#"{"model": "two", "messages": [{"role": "user", "content": "x any well"}]}"#;
    vec![
        ("empty", with_length(b"")),
        ("not_json", with_length(b"{model: two}")),
        ("cut_json", with_length(&good.as_bytes()[..40])),
        ("two_values", with_length(format!("{good}{good}").as_bytes())),
        (
            "bad_utf8",
            with_length(b"{\"model\": \"two\", \"messages\": [{\"role\": \"user\", \"content\": \"\xff\xfe\"}]}"),
        ),
        ("lone_surrogate", with_length(br#"{"model": "\ud800", "messages": []}"#)),
        ("deep_json", with_length(format!("{{\"model\": \"two\", \"messages\": {deep}").as_bytes())),
        ("wrong_types", with_length(br#"{"model": ["two"], "messages": 7}"#)),
        ("name_twice", with_length(br#"{"model": "two", "model": "large", "messages": []}"#)),
        ("unknown_model", with_length(br#"{"model": "none", "messages": []}"#)),
        ("long_model", with_length(format!("{{\"model\": \"{}\", \"messages\": []}}", "m".repeat(1 << 20)).as_bytes())),
        ("encoded", [PATH.as_bytes(), b"content-encoding: gzip\r\ncontent-length: 2\r\n\r\n{}"].concat()),
        ("oversize", format!("{PATH}content-length: 99999999999\r\n\r\n{}", " ".repeat(1 << 20)).into_bytes()),
        ("long_head", format!("{PATH}x-long: {}\r\n\r\n", "a".repeat(200_000)).into_bytes()),
        ("many_heads", format!("{PATH}{}\r\n", "x-a: 1\r\n".repeat(500)).into_bytes()),
        ("long_path", format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "a".repeat(100_000)).into_bytes()),
        ("two_lengths", format!("{PATH}content-length: 5\r\ncontent-length: 50\r\n\r\n{{}}").into_bytes()),
        (
            "length_and_chunks",
            format!("{PATH}content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n").into_bytes(),
        ),
        ("bad_chunk", format!("{PATH}transfer-encoding: chunked\r\n\r\nXYZ\r\n{good}\r\n0\r\n\r\n").into_bytes()),
        ("negative_length", format!("{PATH}content-length: -1\r\n\r\n").into_bytes()),
        ("old_http", text("GET /v1/models\r\n\r\n")),
        ("http2", text("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")),
        ("tls_hello", vec![0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]),
        ("connect", text("CONNECT example.com:443 HTTP/1.1\r\nhost: example.com\r\n\r\n")),
        ("foreign_host", text("GET http://169.254.169.254/latest HTTP/1.1\r\nhost: x\r\n\r\n")),
        ("dots", text("GET /v1/../../etc/passwd HTTP/1.1\r\nhost: x\r\n\r\n")),
        ("nul_in_path", text("GET /v1/\0 HTTP/1.1\r\nhost: x\r\n\r\n")),
        ("bare_line_ends", text("GET /nowhere HTTP/1.1\nhost: x\n\n")),
        ("noise", (0u32..4096).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[1]).collect()),
        ("odd_method", text("BREW /v1/chat/completions HTTP/1.1\r\nhost: x\r\n\r\n")),
    ]
}

/// Sends bytes, closes its sending side, and reads what comes back until it is closed.
///
/// # Panics
/// Where the other side keeps the connection.
pub async fn send(address: &str, name: &str, bytes: &[u8]) -> Vec<u8> {
    let mut socket = TcpStream::connect(address).await.expect("connected");
    let _ = socket.write_all(bytes).await;
    let _ = socket.shutdown().await;
    let mut said = Vec::new();
    let read = SystemClock::start().within(Duration::from_secs(10), socket.read_to_end(&mut said)).await;
    assert!(read.is_some(), "{name}: the connection stays open; so far {:?}", String::from_utf8_lossy(&said));
    said
}

/// Asks, and hangs up after a while: within the request, or waiting for the answer.
pub async fn abort(address: &str, body: &str, after: Duration, part: f64) {
    let Ok(mut socket) = TcpStream::connect(address).await else { return };
    let bytes = with_length(body.as_bytes());
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a part of it"
    )]
    let sent = (bytes.len() as f64 * part) as usize;
    let _ = socket.write_all(&bytes[..sent.min(bytes.len())]).await;
    SystemClock::start().sleep(after).await;
    if after.as_millis().is_multiple_of(2) {
        let _ = socket.set_zero_linger();
    }
}

/// Sends a request's head a byte at a time until it is closed, or for so long.
pub async fn crawl(address: &str, time: Duration) {
    let Ok(mut socket) = TcpStream::connect(address).await else { return };
    let clock = SystemClock::start();
    for byte in PATH.bytes().cycle() {
        if clock.now() > time || socket.write_all(&[byte]).await.is_err() {
            return;
        }
        clock.sleep(Duration::from_millis(50)).await;
    }
}
