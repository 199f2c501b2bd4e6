//! What is not cascaded passes through untouched: any method, any path, any
//! body, streamed both ways, WebSockets too.

mod support;

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::Method;
use prompt_cascade::clock::{Clock, SystemClock};
use support::{Fake, Served, response, two_tiers};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn with_passthrough(folder: &tempfile::TempDir, base_url: &str) -> PathBuf {
    let path = two_tiers(folder.path(), base_url, "");
    let mut text = std::fs::read_to_string(&path).expect("readable");
    let _ = writeln!(text, "passthrough: {{ upstream: up, unknown_models: true }}");
    std::fs::write(&path, text).expect("written");
    path
}

async fn setup() -> (Served, Fake, tempfile::TempDir) {
    let fake = Fake::start(|seen| {
        let mut echo = response(207, "application/x-thing", seen.body.clone());
        let headers = echo.headers_mut();
        for (name, value) in
            [("x-request-id", "up-1"), ("location", "https://x.example/y"), ("connection", "x-gone"), ("x-gone", "1")]
        {
            headers.insert(name, value.parse().expect("ascii"));
        }
        echo
    })
    .await;
    let folder = tempfile::tempdir().expect("a folder");
    let served = Served::start(Some(&with_passthrough(&folder, &fake.base_url)));
    (served, fake, folder)
}

#[tokio::test]
async fn every_other_path_and_method_goes_on_byte_for_byte() {
    let (served, fake, _folder) = setup().await;
    let multipart =
        "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.bin\"\r\n\r\n\0\u{1}binary\r\n--b--\r\n";
    for (method, path, body) in [
        (Method::POST, "/v1/files?purpose=batch", multipart),
        (Method::POST, "/v1/audio/transcriptions", multipart),
        (Method::POST, "/v1/embeddings", r#"{ "input": "x",  "model":"e" }"#),
        (Method::POST, "/v1/moderations", "{}"),
        (Method::POST, "/v1/images/generations", "{}"),
        (Method::POST, "/v1/batches", "{}"),
        (Method::POST, "/v1/fine_tuning/jobs", "{}"),
        (Method::GET, "/v1/chat/completions?limit=2", ""),
        (Method::GET, "/v1/vector_stores/vs%20_1/files", ""),
        (Method::DELETE, "/v1/files/file-1", ""),
        (Method::DELETE, "/v1/models/ft:x", ""),
        (Method::PUT, "/v1/something/new", "not json"),
        (Method::PATCH, "/files", "{"),
        (Method::GET, "/v1/models/an-unknown-one", ""),
        (Method::POST, "/v1/chat/completions", r#"{ "model": "an-unknown-one","messages":[] }"#),
    ] {
        let request = support::client().request(method.clone(), format!("{}{path}", served.url)).body(body);
        let request = request
            .header("authorization", "Bearer the-clients-own")
            .header("content-type", "multipart/form-data; boundary=b");
        let back = request
            .header("openai-beta", "assistants=v2")
            .header("x-cascade-session", "s")
            .send()
            .await
            .expect("a response");
        let seen = fake.seen().pop().expect("it went on");
        assert_eq!(seen.method, method);
        assert_eq!(seen.target, format!("/v1{}", path.strip_prefix("/v1").unwrap_or(path)));
        assert_eq!(seen.body, body, "{path}");
        assert_eq!(seen.headers["authorization"], "Bearer sk-test-0123456789abcdef");
        assert_eq!(seen.headers["content-type"], "multipart/form-data; boundary=b");
        assert_eq!(seen.headers["openai-beta"], "assistants=v2");
        assert!(!seen.headers.contains_key("x-cascade-session"));
        assert_eq!(back.status(), 207);
        for (name, value) in
            [("content-type", "application/x-thing"), ("x-request-id", "up-1"), ("location", "https://x.example/y")]
        {
            assert_eq!(back.headers()[name], value);
        }
        assert!(!back.headers().contains_key("x-gone"), "a header of one connection ends with it");
        assert_eq!(back.bytes().await.expect("a body"), body);
    }
    let count = fake.seen().len();
    let client = support::client();
    let head = client.head(format!("{}/v1/files/f", served.url)).send().await.expect("a response");
    assert_eq!((head.status().as_u16(), fake.seen().len()), (207, count + 1));
    let options = client.request(Method::OPTIONS, format!("{}/v1/files", served.url)).send().await.expect("a response");
    assert_eq!((options.status().as_u16(), fake.seen().len()), (204, count + 1), "answered here");
    assert!(!options.headers().contains_key("access-control-allow-origin"), "no other origin is invited");
}

#[tokio::test]
async fn without_a_passthrough_other_paths_are_refused_in_openais_shape() {
    let fake = Fake::start(|_| response(200, "text/plain", "reached")).await;
    let folder = tempfile::tempdir().expect("a folder");
    let served = Served::start(Some(&two_tiers(folder.path(), &fake.base_url, "")));
    let back = support::client().get(format!("{}/v1/files", served.url)).send().await.expect("a response");
    assert_eq!(back.status(), 404);
    assert!(back.headers().contains_key("x-request-id"));
    assert!(back.text().await.expect("a body").contains("Unknown request URL: GET /v1/files."));
    assert!(fake.seen().is_empty());
}

#[tokio::test]
async fn an_upstream_that_is_down_is_said_in_openais_shape() {
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("an address");
    let folder = tempfile::tempdir().expect("a folder");
    let served = Served::start(Some(&with_passthrough(&folder, &format!("http://{free}/v1"))));
    let back = support::client().get(format!("{}/v1/files", served.url)).send().await.expect("a response");
    assert_eq!(back.status(), 502);
    let text = back.text().await.expect("a body");
    assert_eq!(
        text,
        r#"{"error":{"message":"no answer: Connection refused (os error 111)","type":"upstream_error","param":null,"code":"upstream_unreachable"}}"#
    );
}

/// An upstream that swallows what is sent to it and sends back as much as the
/// path asks for, in pieces of 64 KiB, holding none of it.
async fn large() -> String {
    let app = axum::Router::new().fallback(|request: Request| async move {
        let wanted: usize = request.uri().path().rsplit('/').next().and_then(|n| n.parse().ok()).unwrap_or(0);
        let mut taken = 0usize;
        let mut body = request.into_body().into_data_stream();
        while let Some(Ok(piece)) = body.next().await {
            taken += piece.len();
        }
        let piece = Bytes::from(vec![b'x'; 64 << 10]);
        let pieces = stream::iter((0..wanted / piece.len()).map(move |_| Ok::<_, std::io::Error>(piece.clone())));
        let mut response = response(200, "application/octet-stream", Body::from_stream(pieces));
        response.headers_mut().insert("x-taken", taken.into());
        response
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let base_url = format!("http://{}/v1", listener.local_addr().expect("an address"));
    tokio::spawn(async move { axum::serve(listener, app).await });
    base_url
}

#[tokio::test]
async fn a_large_upload_and_a_large_download_pass_in_constant_memory() {
    let folder = tempfile::tempdir().expect("a folder");
    let served = Served::start(Some(&with_passthrough(&folder, &large().await)));
    let client = support::client();
    let post = |path: &str, megabytes: usize| {
        let piece = Bytes::from(vec![b'y'; 1 << 20]);
        let body = reqwest::Body::wrap_stream(stream::iter(
            (0..megabytes).map(move |_| Ok::<_, std::io::Error>(piece.clone())),
        ));
        client
            .post(format!("{}{path}", served.url))
            .header("content-type", "multipart/form-data; boundary=b")
            .body(body)
    };
    post("/v1/files/65536", 1).send().await.expect("a response").bytes().await.expect("a body");
    let before = served.resident_kib();
    let back = post("/v1/files/104857600", 20).send().await.expect("a response");
    assert_eq!(back.headers()["x-taken"], (20 << 20).to_string().as_str());
    let mut received = 0;
    let mut pieces = back.bytes_stream();
    while let Some(piece) = pieces.next().await {
        received += piece.expect("a piece").len();
    }
    assert_eq!(received, 100 << 20);
    let after = served.resident_kib();
    println!("resident memory: {before} KiB before, {after} KiB after 20 MiB up and 100 MiB down");
    assert!(after < before + 8 * 1024, "{before} KiB before, {after} KiB after");
}

#[tokio::test]
async fn a_websocket_passes_through() {
    // An upstream that switches protocols and then echoes in capitals.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let base_url = format!("http://{}/v1", listener.local_addr().expect("an address"));
    let upstream = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.expect("a connection");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(socket.read_u8().await.expect("a head"));
        }
        socket
            .write_all(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: abc\r\n\r\n")
            .await
            .expect("written");
        for _ in 0..2 {
            let mut said = [0; 5];
            socket.read_exact(&mut said).await.expect("five bytes");
            socket.write_all(&said.to_ascii_uppercase()).await.expect("written");
        }
        String::from_utf8(head).expect("ascii").to_lowercase()
    });
    let folder = tempfile::tempdir().expect("a folder");
    let served = Served::start(Some(&with_passthrough(&folder, &base_url)));
    let address = served.url.strip_prefix("http://").expect("an address");
    let mut socket = tokio::net::TcpStream::connect(address).await.expect("a connection");
    let ask = "GET /v1/realtime?model=m HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-key: k\r\nsec-websocket-version: 13\r\n\r\n";
    socket.write_all(ask.as_bytes()).await.expect("written");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await.expect("a head"));
    }
    let head = String::from_utf8(head).expect("ascii").to_lowercase();
    assert!(head.starts_with("http/1.1 101 "), "{head}");
    assert!(head.contains("upgrade: websocket\r\n") && head.contains("sec-websocket-accept: abc\r\n"), "{head}");
    for n in 0..2 {
        socket.write_all(b"hello").await.expect("written");
        let mut said = [0; 5];
        socket.read_exact(&mut said).await.expect("five bytes");
        assert_eq!(&said, b"HELLO");
        if n == 0 {
            // A shutdown waits for it.
            served.signal("TERM");
            SystemClock::start().sleep(Duration::from_millis(500)).await;
        }
    }
    drop(socket);
    assert!(served.stop().contains("stopped, nothing in flight"));
    let seen = upstream.await.expect("no panic");
    assert!(seen.starts_with("get /v1/realtime?model=m http/1.1\r\n"), "{seen}");
    assert!(seen.contains("connection: upgrade\r\n") && seen.contains("sec-websocket-key: k\r\n"), "{seen}");
}

#[tokio::test]
async fn frames_of_a_passed_stream_come_as_they_are_sent() {
    let fake = Fake::start(|_| {
        let slow = stream::unfold(0, |at| async move {
            if at > 0 {
                SystemClock::start().sleep(Duration::from_millis(300)).await;
            }
            (at < 2).then(|| (Ok::<_, std::io::Error>(format!("event: e\ndata: {at}\n\n")), at + 1))
        });
        response(200, "text/event-stream", Body::from_stream(slow))
    })
    .await;
    let folder = tempfile::tempdir().expect("a folder");
    let served = Served::start(Some(&with_passthrough(&folder, &fake.base_url)));
    let clock = SystemClock::start();
    let mut back = support::client()
        .post(format!("{}/v1/threads/t/runs", served.url))
        .body("{}")
        .send()
        .await
        .expect("a response");
    assert_eq!(back.chunk().await.expect("a piece").expect("one"), "event: e\ndata: 0\n\n");
    assert!(clock.now() < Duration::from_millis(250), "the first came before the second was sent");
    assert_eq!(back.chunk().await.expect("a piece").expect("one"), "event: e\ndata: 1\n\n");
}

#[tokio::test]
async fn embeddings_are_remembered_where_the_policy_says_so() {
    let fake = Fake::start(|seen| {
        // As a provider does: compressed where the client says that it may.
        if seen.headers.contains_key("accept-encoding") {
            let mut packed = response(200, "application/json", "gzip, as it were");
            packed.headers_mut().insert("content-encoding", "gzip".parse().expect("ascii"));
            return packed;
        }
        let status = if seen.body.windows(4).any(|w| w == b"fail") { 500 } else { 200 };
        response(status, "application/json", seen.body.clone())
    })
    .await;
    let folder = tempfile::tempdir().expect("a folder");
    let policy = two_tiers(folder.path(), &fake.base_url, "");
    support::append(&policy, "passthrough: { upstream: up, embeddings_cache: { ttl: 1m } }\n");
    let served = Served::start(Some(&policy));
    let mut said = Vec::new();
    for body in [
        r#"{"model":"e","input":"x","user":"a"}"#,
        r#"{ "input":"\u0078", "model":"e","user":"b" }"#,
        r#"{"model":"e","input":"x","dimensions":5}"#,
        r#"{"model":"e","input":"fail"}"#,
        r#"{"model":"e","input":"fail"}"#,
        "not json",
    ] {
        let back = support::client()
            .post(format!("{}/v1/embeddings", served.url))
            .body(body)
            .send()
            .await
            .expect("a response");
        let cache = back.headers().get("x-cascade-cache").map(|v| v.to_str().expect("ascii").to_owned());
        said.push((back.status().as_u16(), cache.unwrap_or_default()));
    }
    let said: Vec<(u16, &str)> = said.iter().map(|(status, cache)| (*status, cache.as_str())).collect();
    assert_eq!(said, [(200, "miss"), (200, "hit"), (200, "miss"), (500, ""), (500, ""), (200, "")]);
    assert_eq!(fake.seen().len(), 5);
}

#[tokio::test]
async fn pages_of_an_invited_origin_may_call_and_no_other() {
    let fake = Fake::start(|_| response(200, "text/plain", "x")).await;
    let folder = tempfile::tempdir().expect("a folder");
    let policy = two_tiers(folder.path(), &fake.base_url, "");
    support::append(&policy, "cors: [\"https://app.example\"]\n");
    let served = Served::start(Some(&policy));
    for (origin, is_invited) in [("https://app.example", true), ("https://evil.example", false)] {
        let ask = support::client()
            .request(Method::OPTIONS, format!("{}/v1/chat/completions", served.url))
            .header("origin", origin);
        let back = ask
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "authorization");
        let back = back.send().await.expect("a response");
        assert_eq!(back.headers().get("access-control-allow-origin").is_some(), is_invited, "{origin}");
        let back = support::client()
            .get(format!("{}/v1/models", served.url))
            .header("origin", origin)
            .send()
            .await
            .expect("a response");
        assert_eq!(back.headers().get("access-control-allow-origin").is_some(), is_invited, "{origin}");
    }
}

#[tokio::test]
async fn no_path_leads_out_of_what_is_passed_through() {
    let (served, fake, _folder) = setup().await;
    for target in ["/v1/../../admin", "/v1/%2e%2E/admin", "/v1/./chat/completions", "/v1/x/%2e./y", "*"] {
        let mut socket = tokio::net::TcpStream::connect(served.url.strip_prefix("http://").expect("an address"))
            .await
            .expect("a connection");
        let ask = format!("POST {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
        socket.write_all(ask.as_bytes()).await.expect("written");
        let mut said = String::new();
        socket.read_to_string(&mut said).await.expect("a response");
        assert!(said.starts_with("HTTP/1.1 400 "), "{target}: {said}");
    }
    assert!(fake.seen().is_empty());
}

#[tokio::test]
async fn no_protocol_but_websocket_is_switched_to() {
    let (served, fake, _folder) = setup().await;
    let request =
        support::client().get(format!("{}/v1/files", served.url)).header("connection", "upgrade, http2-settings");
    let back = request.header("upgrade", "h2c").header("http2-settings", "AAMAAABk").send().await.expect("a response");
    assert_eq!(back.status(), 207);
    let seen = fake.seen().remove(0).headers;
    assert!(!seen.contains_key("upgrade") && !seen.contains_key("http2-settings"), "{seen:?}");
}
