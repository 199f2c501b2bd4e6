//! An upstream that misbehaves as it is told to: the prompt of each request says how,
//! and for which model.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use prompt_cascade::clock::{Clock, SystemClock};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// All it can do wrong, whole and streamed.
pub const FAULTS: &[&str] = &[
    "reset",
    "close",
    "hang",
    "half_head",
    "half_body",
    "reset_in_body",
    "garbage",
    "html",
    "html_500",
    "plain_503",
    "empty",
    "no_content",
    "redirect",
    "not_modified",
    "wrong_type",
    "not_json",
    "json_list",
    "deep_json",
    "bad_utf8",
    "no_choices",
    "null_choice",
    "wrong_types",
    "gzip_bomb",
    "drip",
    "negative_length",
    "two_lengths",
    "bad_chunk",
    "cut_chunk",
    "endless_head",
    "many_heads",
    "nul_in_head",
    "informs_for_good",
    "switches",
    "error_in_success",
    "error_frame",
    "stream_without_end",
    "stream_of_garbage",
];

/// What it can do oddly, and must be put up with.
pub const ODDITIES: &[&str] =
    &["crlf", "split_bytes", "no_length", "trailing_bytes", "comments", "continue_first", "close_after"];

/// An upstream on a port.
pub struct Hostile {
    pub base_url: String,
    /// Answers that were right and went out whole.
    pub answered: Arc<AtomicUsize>,
}

/// What one request asks of it.
struct Asked {
    model: String,
    streams: bool,
    nonce: String,
    how: String,
}

impl Hostile {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let base_url = format!("http://{}/v1", listener.local_addr().expect("an address"));
        let answered: Arc<AtomicUsize> = Arc::default();
        let counted = answered.clone();
        tokio::spawn(async move {
            loop {
                let Ok((socket, _)) = listener.accept().await else { continue };
                tokio::spawn(converse(socket, counted.clone()));
            }
        });
        Self { base_url, answered }
    }
}

async fn converse(mut socket: TcpStream, answered: Arc<AtomicUsize>) {
    let mut read = Vec::new();
    while let Some(asked) = request(&mut socket, &mut read).await {
        if misbehave(&mut socket, &asked).await {
            return;
        }
        if answer(&mut socket, &asked).await.is_none() {
            return;
        }
        answered.fetch_add(1, Ordering::Relaxed);
        if asked.how == "close_after" {
            return;
        }
    }
}

/// Reads one request. Its last message is `NONCE MODEL HOW`, by which the named model
/// (or `any`) misbehaves.
async fn request(socket: &mut TcpStream, read: &mut Vec<u8>) -> Option<Asked> {
    let mut more = [0; 8192];
    let head = loop {
        if let Some(at) = memchr::memmem::find(read, b"\r\n\r\n") {
            break at + 4;
        }
        match socket.read(&mut more).await {
            Ok(0) | Err(_) => return None,
            Ok(count) => read.extend_from_slice(&more[..count]),
        }
    };
    let text = String::from_utf8_lossy(&read[..head]).to_ascii_lowercase();
    let length = text.lines().find_map(|line| line.strip_prefix("content-length: ")?.trim().parse().ok()).unwrap_or(0);
    while read.len() < head + length {
        match socket.read(&mut more).await {
            Ok(0) | Err(_) => return None,
            Ok(count) => read.extend_from_slice(&more[..count]),
        }
    }
    let body: serde_json::Value = serde_json::from_slice(&read[head..head + length]).ok()?;
    read.drain(..head + length);
    let said = body["messages"].as_array()?.last()?["content"].as_str()?.to_owned();
    let mut words = said.split(' ');
    let (nonce, whom, how) = (words.next()?, words.next()?, words.next()?);
    let model = body["model"].as_str()?.to_owned();
    let how = if whom == "any" || whom == model { how } else { "well" };
    let (nonce, how) = (nonce.to_owned(), how.to_owned());
    Some(Asked { model, streams: body["stream"] == true, nonce, how })
}

fn whole(asked: &Asked) -> String {
    super::support::completion(&format!("{} by {}", asked.nonce, asked.model), &[-0.01, -0.02]).to_string()
}

/// Frames of the same answer.
fn frames(asked: &Asked, line_end: &str) -> Vec<String> {
    let chunk = |delta: serde_json::Value, finish: Option<&str>| {
        let logprobs = serde_json::json!({"content": [{"token": "t", "logprob": -0.01}]});
        let choice = serde_json::json!({"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": finish});
        serde_json::json!({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]})
    };
    let words = [serde_json::json!({"role": "assistant", "content": ""}), serde_json::json!({"content": asked.nonce})];
    let more = [serde_json::json!({"content": " by "}), serde_json::json!({"content": asked.model})];
    let mut frames: Vec<String> = words.into_iter().chain(more).map(|delta| chunk(delta, None).to_string()).collect();
    frames.push(chunk(serde_json::json!({}), Some("stop")).to_string());
    frames.push("[DONE]".to_owned());
    frames.iter().map(|frame| format!("data: {frame}{line_end}{line_end}")).collect()
}

/// A right answer, in the way it is asked for. Nothing where the other side is gone.
async fn answer(socket: &mut TcpStream, asked: &Asked) -> Option<()> {
    let how = asked.how.as_str();
    let line_end = if how == "crlf" { "\r\n" } else { "\n" };
    let (kind, body) = if asked.streams {
        let frames = frames(asked, line_end);
        let joint = if how == "comments" { ": a comment\n\nevent: message\n" } else { "" };
        ("text/event-stream", joint.to_owned() + &frames.join(joint))
    } else {
        ("application/json", whole(asked))
    };
    if how == "continue_first" {
        socket.write_all(b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n").await.ok()?;
    }
    let length =
        if how == "no_length" { "connection: close".to_owned() } else { format!("content-length: {}", body.len()) };
    let text = format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\n{length}\r\n\r\n{body}");
    if how == "split_bytes" {
        let _ = socket.set_nodelay(true);
        for piece in text.as_bytes().chunks(7) {
            socket.write_all(piece).await.ok()?;
            tokio::task::yield_now().await;
        }
    } else {
        let mut text = text.into_bytes();
        if how == "trailing_bytes" {
            // A second answer that nobody asked for: the next one on this connection
            // must not get it.
            let stray = super::support::completion("stray by nobody", &[-0.01]).to_string();
            text.extend(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{stray}", stray.len()).bytes());
        }
        socket.write_all(&text).await.ok()?;
    }
    if how == "no_length" {
        let _ = socket.shutdown().await;
        return None;
    }
    Some(())
}

/// Does wrong what it is told to. Says whether it did, and is done.
#[expect(clippy::too_many_lines, reason = "a list")]
async fn misbehave(socket: &mut TcpStream, asked: &Asked) -> bool {
    let clock = SystemClock::start();
    let right = if asked.streams { frames(asked, "\n").concat() } else { whole(asked) };
    let kind = if asked.streams { "text/event-stream" } else { "application/json" };
    let of = |status: &str, kind: &str, body: &str| {
        format!("HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
            .into_bytes()
    };
    let ok = |body: &str| of("200 OK", kind, body);
    let announced = |length: usize, body: &str| {
        format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n{body}").into_bytes()
    };
    let headed = |heads: &str| format!("HTTP/1.1 200 OK\r\n{heads}content-length: 2\r\n\r\n{{}}").into_bytes();
    let half = &right[..right.len() / 2];
    let bytes = match asked.how.as_str() {
        "reset" => {
            let _ = socket.set_zero_linger();
            return true;
        }
        "close" => return true,
        "hang" => {
            wait_for_the_end(socket).await;
            return true;
        }
        "half_head" => b"HTTP/1.1 200 OK\r\ncontent-ty".to_vec(),
        "half_body" => announced(right.len(), half),
        "reset_in_body" => {
            let _ = socket.write_all(&announced(right.len(), half)).await;
            clock.sleep(Duration::from_millis(5)).await;
            let _ = socket.set_zero_linger();
            return true;
        }
        "garbage" => (0..=255).cycle().take(5000).collect(),
        "html" => of("200 OK", "text/html", "<html>Welcome to the captive portal</html>"),
        "html_500" => of("500 Internal Server Error", "text/html", "<html>oops</html>"),
        "plain_503" => of("503 Service Unavailable", "text/plain", "no healthy upstream"),
        "empty" => ok(""),
        "no_content" => b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(),
        "redirect" => {
            b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/elsewhere\r\ncontent-length: 0\r\n\r\n".to_vec()
        }
        "not_modified" => b"HTTP/1.1 304 Not Modified\r\n\r\n".to_vec(),
        "wrong_type" => of("200 OK", "image/png", "\u{89}PNG"),
        "not_json" => ok("{\"choices\": [{\"message\": {\"content\": \"unfin"),
        "json_list" => ok("[1, 2, 3]"),
        "deep_json" => ok(&("[".repeat(200_000) + &"]".repeat(200_000))),
        "bad_utf8" => {
            let mut bytes = announced(right.len() + 4, "");
            bytes.extend(
                right.replace(&asked.nonce, "\u{0}\u{0}\u{0}\u{0}").bytes().map(|b| if b == 0 { 0xff } else { b }),
            );
            bytes
        }
        "no_choices" => ok(r#"{"id": "c", "object": "chat.completion", "choices": []}"#),
        "null_choice" => ok(r#"{"id": "c", "choices": [null], "usage": null}"#),
        "wrong_types" => ok(r#"{"id": 7, "choices": {"a": "b"}, "usage": {"prompt_tokens": -1e400}}"#),
        "gzip_bomb" => {
            // What `gzip` makes of zeros: a head, then blocks that unpack a thousandfold.
            let zeros = [vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3], vec![0xed, 0xc1, 1, 1], vec![0; 100_000]].concat();
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n",
                zeros.len()
            );
            [head.into_bytes(), zeros].concat()
        }
        "drip" => {
            let _ = socket.write_all(&announced(1_000_000, "")).await;
            while socket.write_all(b" ").await.is_ok() {
                clock.sleep(Duration::from_millis(20)).await;
            }
            return true;
        }
        "negative_length" => b"HTTP/1.1 200 OK\r\ncontent-length: -5\r\n\r\n{}".to_vec(),
        "two_lengths" => {
            format!("HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: {}\r\n\r\n{right}", right.len())
                .into_bytes()
        }
        "bad_chunk" => format!(
            "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ntransfer-encoding: chunked\r\n\r\nZZ\r\n{right}\r\n0\r\n\r\n"
        )
        .into_bytes(),
        "cut_chunk" => format!(
            "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{half}",
            right.len()
        )
        .into_bytes(),
        "endless_head" => {
            let line = format!("x-long: {}\r\n", "a".repeat(1000));
            let _ = socket.write_all(b"HTTP/1.1 200 OK\r\n").await;
            while socket.write_all(line.as_bytes()).await.is_ok() {}
            return true;
        }
        "many_heads" => headed(&"x-a: 1\r\n".repeat(5000)),
        "nul_in_head" => headed("x-odd: a\0b\r\n"),
        "informs_for_good" => {
            while socket.write_all(b"HTTP/1.1 102 Processing\r\n\r\n").await.is_ok() {
                clock.sleep(Duration::from_millis(5)).await;
            }
            return true;
        }
        "switches" => b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\nhello".to_vec(),
        "error_in_success" => {
            ok(r#"{"error": {"message": "overloaded", "type": "server_error", "code": null, "param": null}}"#)
        }
        "error_frame" => ok("data: {\"error\": {\"message\": \"overloaded\", \"type\": \"server_error\"}}\n\n"),
        "stream_without_end" => of("200 OK", "text/event-stream", &frames(asked, "\n")[..3].concat()),
        "stream_of_garbage" => of("200 OK", "text/event-stream", &"data: {]\n\n".repeat(100)),
        // Some that can be heeded, and some that mean nothing.
        storm if storm.starts_with("storm") => {
            let heads = ["retry-after: 1", "retry-after-ms: 200", "retry-after: soon", "retry-after: -5", "x-odd: 1"];
            let head = heads[asked.nonce.len() % heads.len()];
            let body = r#"{"error": {"message": "slow down", "type": "requests", "param": null, "code": "rate_limit_exceeded"}}"#;
            format!("HTTP/1.1 429 Too Many Requests\r\n{head}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len())
                .into_bytes()
        }
        "huge_frame" => {
            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 99999999\r\n\r\ndata: \"";
            let _ = socket.write_all(head.as_bytes()).await;
            while socket.write_all(&[b'a'; 16384]).await.is_ok() {}
            return true;
        }
        _ => return false,
    };
    let _ = socket.write_all(&bytes).await;
    let _ = socket.flush().await;
    // A close that is no reset: the other side reads first what was written.
    let _ = socket.shutdown().await;
    let _ = clock.within(Duration::from_millis(500), wait_for_the_end(socket)).await;
    true
}

async fn wait_for_the_end(socket: &mut TcpStream) {
    let mut rest = [0; 1024];
    while !matches!(socket.read(&mut rest).await, Ok(0) | Err(_)) {}
}
