//! The wire: what goes to the upstream, what comes back, and what a client
//! sees when an upstream misbehaves. Every error with its exact message.

mod support;

use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use futures_util::stream;
use prompt_cascade::clock::{Clock, SystemClock};
use serde_json::{Value, json};
use support::{END, Fake, ROLE, Seen, Served, USAGE, WORD, completion, response, sse, two_tiers};

const SURE: &[f64] = &[-0.01, -0.02];
const UNSURE: &[f64] = &[-0.01, -2.0];

struct Setup {
    served: Served,
    fake: Fake,
    _folder: tempfile::TempDir,
}

/// A gateway of two tiers over a fake upstream.
async fn setup(answer: impl Fn(&Seen) -> Response + Clone + Send + Sync + 'static) -> Setup {
    let fake = Fake::start(answer).await;
    let folder = tempfile::tempdir().expect("a folder");
    let policy = two_tiers(folder.path(), &fake.base_url, "");
    Setup { served: Served::start(Some(&policy)), fake, _folder: folder }
}

fn model(seen: &Seen) -> String {
    seen.json()["model"].as_str().unwrap_or_default().to_owned()
}

async fn body_of(response: reqwest::Response) -> Value {
    serde_json::from_slice(&response.bytes().await.expect("a body")).expect("JSON")
}

fn ok(body: &Value) -> Response {
    response(200, "application/json", body.to_string())
}

impl Setup {
    async fn post(&self, path: &str, body: &str) -> reqwest::Response {
        let request = support::client().post(format!("{}{path}", self.served.url)).body(body.to_owned());
        request
            .header("authorization", "Bearer the-clients-own")
            .header("openai-organization", "org-1")
            .send()
            .await
            .expect("a response")
    }

    async fn chat(&self) -> reqwest::Response {
        self.post("/v1/chat/completions", r#"{"model":"two","messages":[{"role":"user","content":"hi"}]}"#).await
    }

    /// Status, `x-should-retry` and the error's code and message.
    async fn error(&self) -> (u16, String, Value, String) {
        let response = self.chat().await;
        let status = response.status().as_u16();
        let retry = response.headers()["x-should-retry"].to_str().expect("ascii").to_owned();
        assert_eq!(response.headers()["content-type"], "application/json");
        let body: Value = body_of(response).await;
        let error = body["error"].as_object().unwrap_or_else(|| panic!("{body}"));
        for key in ["message", "type", "param", "code"] {
            assert!(error.contains_key(key), "{body}");
        }
        (status, retry, error["code"].clone(), error["message"].as_str().expect("text").to_owned())
    }
}

#[tokio::test]
async fn the_request_goes_on_with_only_the_model_and_logprobs_changed() {
    let s = setup(|_| ok(&completion("sure", SURE))).await;
    let body = r#"{ "seed": 18446744073709551617,"x": 1.0, "model": "two",  "messages":[{"role":"user","content":"\u00e9"}],"unknown":{"b":1,"a":2}}"#;
    assert_eq!(s.post("/chat/completions", body).await.status(), 200);
    let seen = s.fake.seen();
    let wanted = body.replacen('{', r#"{"logprobs":true,"#, 1).replace(r#""two""#, r#""small-model""#);
    assert_eq!(String::from_utf8_lossy(&seen[0].body), wanted);
    assert_eq!(seen[0].path, "/v1/chat/completions");
    assert_eq!(seen[0].headers["authorization"], "Bearer sk-test-0123456789abcdef");
    assert_eq!(seen[0].headers["openai-organization"], "org-1");
}

#[tokio::test]
async fn the_answer_comes_back_byte_for_byte_less_the_logprobs_nobody_asked_for() {
    let upstream = r#"{ "id":"x", "n": 1.0, "big":18446744073709551617, "choices":[{"index":0,"message":{"role":"assistant","content":"hi"},
        "logprobs": {"content":[{"token":"hi","logprob":-0.01}]},"finish_reason":"stop"}]}"#;
    let s = setup(move |_| response(200, "application/json", upstream)).await;
    let back = s.chat().await;
    assert_eq!(back.headers()["content-type"], "application/json");
    let stripped = upstream.replace(r#"{"content":[{"token":"hi","logprob":-0.01}]}"#, "null");
    assert_eq!(back.text().await.expect("a body"), stripped);
    let asked = s.post("/v1/chat/completions", r#"{"model":"two","logprobs":true,"messages":[]}"#).await;
    assert_eq!(asked.text().await.expect("a body"), upstream);
}

#[tokio::test]
async fn an_unsure_answer_escalates_and_the_headers_say_why() {
    let s = setup(|seen| {
        let body = if model(seen) == "small-model" { completion("no", UNSURE) } else { completion("yes", &[]) };
        let mut response = ok(&body);
        response.headers_mut().insert("x-request-id", "up-1".parse().expect("ascii"));
        response.headers_mut().insert("x-ratelimit-remaining-requests", "41".parse().expect("ascii"));
        response.headers_mut().insert("set-cookie", "a=b".parse().expect("ascii"));
        response
    })
    .await;
    let back = s.chat().await;
    let headers = back.headers().clone();
    assert_eq!(body_of(back).await["choices"][0]["message"]["content"], "yes");
    assert_eq!(s.fake.models(), ["small-model", "large-model"]);
    // By hand: exp of the tenth quantile of -2 and -0.01 is exp(-1.801) = 0.165.
    for (name, wanted) in [
        ("x-cascade-tier", "large"),
        ("x-cascade-attempts", "small:rejected(0.16<0.70),large:accepted"),
        ("x-cascade-cost-usd", "0.000165"),
        ("x-cascade-baseline-cost-usd", "0.00015"),
        ("x-cascade-cache", "off"),
        ("x-cascade-upstream-request-id", "up-1"),
        ("x-ratelimit-remaining-requests", "41"),
    ] {
        assert_eq!(headers[name], wanted, "{name}");
    }
    assert_eq!(headers["x-request-id"], headers["x-cascade-request-id"]);
    assert!(!headers.contains_key("set-cookie"));
}

#[tokio::test]
async fn legacy_completions_are_asked_for_logprobs_and_the_client_gets_none() {
    let s = setup(|_| {
        ok(&json!({"object":"text_completion","choices":[{"index":0,"text":" pain","finish_reason":"stop",
        "logprobs":{"tokens":[" pain"],"token_logprobs":[-0.01],"top_logprobs":null,"text_offset":[3]}}]}))
    })
    .await;
    let back = s.post("/v1/completions", r#"{"model":"two","prompt":"bread:"}"#).await;
    assert_eq!(back.headers()["x-cascade-tier"], "small");
    assert_eq!(body_of(back).await["choices"][0]["logprobs"], Value::Null);
    assert_eq!(s.fake.seen()[0].json()["logprobs"], 5);
}

#[tokio::test]
async fn a_legacy_list_is_as_many_cascades_and_one_answer() {
    let s = setup(|seen| {
        let asked = seen.json();
        let is_hard = asked["prompt"] == "hard" && asked["model"] == "small-model";
        let text = format!("{} by {}", asked["prompt"].as_str().unwrap_or("a list"), asked["model"].as_str().unwrap_or(""));
        ok(&json!({"id": "cmpl", "object": "text_completion", "usage": {"prompt_tokens": 10, "completion_tokens": 5},
            "choices": [{"index": 0, "text": text, "finish_reason": "stop", "logprobs": {"token_logprobs": [if is_hard { -3.0 } else { -0.01 }]}}]}))
    })
    .await;
    let back = s.post("/v1/completions", r#"{"model":"two","prompt":["easy","hard","easy too"]}"#).await;
    assert_eq!(
        back.headers()["x-cascade-attempts"],
        "small:accepted(0.99>=0.70);small:rejected(0.04<0.70),large:accepted;small:accepted(0.99>=0.70)"
    );
    // Three times 15 tokens at a dollar a million, and once at ten.
    assert_eq!(back.headers()["x-cascade-cost-usd"], "0.000195");
    let body = body_of(back).await;
    let choices: Vec<(u64, &str)> = body["choices"]
        .as_array()
        .expect("choices")
        .iter()
        .map(|c| (c["index"].as_u64().expect("a number"), c["text"].as_str().expect("text")))
        .collect();
    assert_eq!(choices, [(0, "easy by small-model"), (1, "hard by large-model"), (2, "easy too by small-model")]);
    assert_eq!(body["usage"], json!({"prompt_tokens": 30, "completion_tokens": 15}));
    assert!(body["choices"][0]["logprobs"].is_null(), "logprobs that only we asked for");
    let ids = s.post("/v1/completions", r#"{"model":"two","prompt":[[1,2],[3]]}"#).await;
    assert_eq!(ids.headers()["x-cascade-attempts"], "large:accepted", "token ids mean something to one model only");
}

const STREAM: &str = r#"{"model":"two","stream":true,"messages":[]}"#;

#[tokio::test]
async fn a_held_stream_is_judged_and_then_served_frame_by_frame() {
    let s = setup(|_| response(200, "text/event-stream", sse(&[ROLE, WORD, END, USAGE, "[DONE]"]))).await;
    let back = s.post("/v1/chat/completions", STREAM).await;
    assert_eq!(back.headers()["content-type"], "text/event-stream; charset=utf-8");
    assert_eq!(back.headers()["x-cascade-attempts"], "small:accepted(0.99>=0.70)");
    assert_eq!(back.headers()["x-cascade-cost-usd"], "0.000015");
    let word = WORD.replace(r#"{"content":[{"token":"hi","logprob":-0.01}]}"#, "null");
    assert_eq!(back.text().await.expect("a body"), sse(&[ROLE, &word, END, "[DONE]"]));
    assert_eq!(s.fake.seen()[0].json()["stream_options"], json!({"include_usage": true}));
}

#[tokio::test]
async fn usage_is_kept_where_the_client_asked_for_it() {
    let s = setup(|_| response(200, "text/event-stream", sse(&[ROLE, WORD, END, USAGE, "[DONE]"]))).await;
    let body = r#"{"model":"two","stream":true,"stream_options":{"include_usage":true},"messages":[]}"#;
    let text = s.post("/v1/chat/completions", body).await.text().await.expect("a body");
    assert!(text.ends_with(&sse(&[END, USAGE, "[DONE]"])), "{text}");
}

#[tokio::test]
async fn a_rejected_draft_is_never_shown_and_the_last_tier_flows() {
    let s = setup(|seen| {
        if model(seen) == "small-model" {
            let unsure = WORD.replace("-0.01", "-3").replace("hi", "a draft");
            return response(200, "text/event-stream", sse(&[ROLE, &unsure, END, "[DONE]"]));
        }
        // The second half comes only once the first has been seen: see below.
        let pieces = [sse(&[ROLE, WORD]), sse(&[END, USAGE, "[DONE]"])];
        let flowing = stream::unfold(0, move |at| {
            let piece = pieces.get(at).cloned();
            async move {
                if at == 1 {
                    SystemClock::start().sleep(Duration::from_millis(300)).await;
                }
                Some((Ok::<_, std::io::Error>(piece?), at + 1))
            }
        });
        response(200, "text/event-stream", Body::from_stream(flowing))
    })
    .await;
    let mut back = s.post("/v1/chat/completions", STREAM).await;
    assert_eq!(back.headers()["x-cascade-attempts"], "small:rejected(0.04<0.70),large:flowing");
    assert_eq!(back.headers()["x-cascade-cost-usd"], "unknown");
    let clock = SystemClock::start();
    let mut text = String::new();
    while !text.contains("hi") {
        text += std::str::from_utf8(&back.chunk().await.expect("a piece").expect("more")).expect("utf-8");
    }
    assert!(clock.now() < Duration::from_millis(250), "the first frames did not wait for the last");
    while let Some(piece) = back.chunk().await.expect("a piece") {
        text += std::str::from_utf8(&piece).expect("utf-8");
    }
    // The last tier has no scorer, so its logprobs are the upstream's own doing.
    assert_eq!(text, sse(&[ROLE, WORD, END, "[DONE]"]));
    assert!(!text.contains("draft"));
}

#[tokio::test]
async fn a_stream_that_breaks_off_ends_in_an_error_frame() {
    let s = setup(|seen| match model(seen).as_str() {
        "small-model" => response(500, "text/plain", "no"),
        _ => response(200, "text/event-stream", sse(&[ROLE, WORD])),
    })
    .await;
    let back = s.post("/v1/chat/completions", STREAM).await;
    assert_eq!(back.status(), 200);
    let text = back.text().await.expect("a body");
    let length = sse(&[ROLE, WORD]).len();
    let error = format!(
        r#"{{"error":{{"message":"The stream broke off: the answer broke off after {length} bytes.","type":"upstream_error","param":null,"code":"stream_interrupted"}}}}"#
    );
    assert_eq!(text, sse(&[ROLE, WORD, &error]));
}

#[tokio::test]
async fn an_error_in_mid_stream_of_a_held_tier_escalates() {
    let s = setup(|seen| match model(seen).as_str() {
        "small-model" => response(200, "text/event-stream", sse(&[ROLE, r#"{"error":{"message":"overloaded"}}"#])),
        _ => response(200, "text/event-stream", sse(&[ROLE, WORD, END, "[DONE]"])),
    })
    .await;
    let back = s.post("/v1/chat/completions", STREAM).await;
    assert_eq!(back.headers()["x-cascade-attempts"], "small:failed(malformed),large:flowing");
    assert_eq!(back.text().await.expect("a body"), sse(&[ROLE, WORD, END, "[DONE]"]));
}

#[tokio::test]
async fn an_upstream_that_is_down() {
    let folder = tempfile::tempdir().expect("a folder");
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("an address");
    let policy = two_tiers(folder.path(), &format!("http://{free}/v1"), "");
    let fake = Fake::start(|_| ok(&json!({}))).await;
    let s = Setup { served: Served::start(Some(&policy)), fake, _folder: folder };
    let refused = "no answer: Connection refused (os error 111)";
    let message = format!("No tier gave an answer that could be served: small: {refused}; large: {refused}.");
    assert_eq!(s.error().await, (502, "false".into(), json!("upstream_unreachable"), message));
}

#[tokio::test]
async fn an_upstream_that_returns_html() {
    let s = setup(|_| response(200, "text/html; charset=utf-8", "<html>sign in</html>")).await;
    let html = "text/html instead of an answer: not a completion: expected value at line 1 column 1";
    let message = format!("No tier gave an answer that could be served: small: {html}; large: {html}.");
    assert_eq!(s.error().await, (502, "false".into(), json!("upstream_malformed"), message));
}

#[tokio::test]
async fn an_upstream_that_is_over_its_limit() {
    let s = setup(|_| {
        let mut limited = response(429, "application/json", "slow down");
        limited.headers_mut().insert("retry-after", "7".parse().expect("ascii"));
        limited
    })
    .await;
    let first = s.chat().await;
    assert_eq!((first.status().as_u16(), &first.headers()["retry-after"]), (429, &"7".parse().expect("ascii")));
    let text = first.text().await.expect("a body");
    assert!(text.contains("small: status 429: slow down; large: status 429: slow down."), "{text}");
    // Until then it is left alone.
    let (status, should_retry, code, message) = s.error().await;
    assert_eq!((status, should_retry.as_str(), code), (429, "true", json!("rate_limit_exceeded")));
    assert!(message.contains("small: its upstream has asked for a pause; try again in "), "{message}");
    assert_eq!(s.fake.models(), ["small-model", "large-model"]);
}

#[tokio::test]
async fn an_upstream_that_fails() {
    let s = setup(|_| response(500, "text/plain", "oh no")).await;
    let message =
        "No tier gave an answer that could be served: small: status 500: oh no; large: status 500: oh no.".to_owned();
    assert_eq!(s.error().await, (502, "false".into(), json!("upstream_failed"), message));
}

#[tokio::test]
async fn an_upstream_that_refuses_our_key_is_not_the_clients_fault() {
    let s = setup(|_| response(401, "application/json", r#"{"error":{"message":"Incorrect API key"}}"#)).await;
    let message = "No tier gave an answer that could be served: small: status 401; large: status 401.".to_owned();
    assert_eq!(s.error().await, (502, "false".into(), json!("upstream_authentication"), message));
}

#[tokio::test]
async fn an_upstreams_word_on_a_bad_request_is_passed_on() {
    let theirs = r#"{"error":{"message":"'n' is too big","type":"invalid_request_error","param":"n","code":null}}"#;
    let s = setup(move |_| response(400, "application/json", theirs)).await;
    let back = s.chat().await;
    assert_eq!(back.status(), 400);
    assert_eq!(back.text().await.expect("a body"), theirs);
}

#[tokio::test]
async fn answers_of_odd_shapes_do_no_harm() {
    for odd in [
        r#"{"choices":[{"index":0,"message":{"role":"assistant","tool_calls":[[]]},"finish_reason":"tool_calls"}]}"#,
        r#"{"choices":[[0,null,null,"x",null,"stop"]]}"#,
        "[[[0]]]",
        r#"{"choices":[{"index":5000,"message":{"content":"x"}}]}"#,
        r#"{"choices":[{"index":0,"message":{"content":["x",{"text":5}]},"finish_reason":"stop"}]}"#,
    ] {
        let s = setup(move |_| response(200, "application/json", odd)).await;
        for body in [
            r#"{"model":"large","messages":[]}"#,
            r#"{"model":"large","stream":true,"messages":[]}"#,
            r#"{"model":"two","messages":[],"tools":[{"type":"function","function":{"name":"f"}}]}"#,
        ] {
            let back = s.post("/v1/chat/completions", body).await;
            assert!(matches!(back.status().as_u16(), 200 | 502 | 503), "{odd} {body}: {}", back.status());
        }
        let back = s.post("/v1/completions", r#"{"model":"large","prompt":["a","b"]}"#).await;
        assert!(matches!(back.status().as_u16(), 200 | 502 | 503), "{odd}: {}", back.status());
    }
}

#[tokio::test]
async fn an_answer_cut_in_the_middle() {
    let s = setup(|_| {
        // The cut waits until the first half is on its way.
        let cut = stream::once(async {
            SystemClock::start().sleep(Duration::from_millis(50)).await;
            Err(std::io::Error::other("cut"))
        });
        let half = stream::StreamExt::chain(stream::iter([Ok("{\"choices\":[{")]), cut);
        response(200, "application/json", Body::from_stream(half))
    })
    .await;
    let cut = "the answer broke off after 13 bytes";
    let message = format!("No tier gave an answer that could be served: small: {cut}; large: {cut}.");
    assert_eq!(s.error().await, (502, "false".into(), json!("upstream_malformed"), message));
}

#[tokio::test]
async fn an_upstream_that_never_answers_is_given_up() {
    let s = setup(|_| {
        response(200, "application/json", Body::from_stream(stream::pending::<Result<&str, std::io::Error>>()))
    })
    .await;
    let slow = "no further piece of the answer within 1.0 s";
    let message = format!("No tier gave an answer that could be served: small: {slow}; large: {slow}.");
    assert_eq!(s.error().await, (504, "false".into(), json!("upstream_timeout"), message));
}

#[tokio::test]
async fn a_client_that_says_how_long_it_waits_is_not_made_to_wait_longer() {
    let s = setup(|_| {
        response(200, "application/json", Body::from_stream(stream::pending::<Result<&str, std::io::Error>>()))
    })
    .await;
    let request = support::client()
        .post(format!("{}/v1/chat/completions", s.served.url))
        .header("x-stainless-read-timeout", "0.2");
    let clock = SystemClock::start();
    let back = request.body(r#"{"model":"two","messages":[]}"#).send().await.expect("a response");
    assert!((1200..1900).contains(&clock.now().as_millis()), "{:?}", clock.now());
    assert_eq!((back.status().as_u16(), &back.headers()["x-should-retry"]), (504, &"false".parse().expect("ascii")));
    assert_eq!(body_of(back).await["error"]["code"], "client_timeout");
}

#[tokio::test]
async fn uploads_in_every_manner_of_http() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let s = setup(|_| ok(&completion("x", SURE))).await;
    let body = r#"{"model":"two","messages":[]}"#;
    let length = body.len();
    let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\n";
    let talk = |head: String, then: String| {
        let address = s.served.url.strip_prefix("http://").expect("an address").to_owned();
        async move {
            let mut socket = tokio::net::TcpStream::connect(address).await.expect("a connection");
            socket.write_all(head.as_bytes()).await.expect("written");
            let mut said = vec![0; if then.is_empty() { 0 } else { 25 }];
            socket.read_exact(&mut said).await.expect("an interim response");
            socket.write_all(then.as_bytes()).await.expect("written");
            socket.read_to_end(&mut said).await.expect("a response");
            String::from_utf8_lossy(&said).into_owned()
        }
    };
    let expected =
        talk(format!("{head}expect: 100-continue\r\ncontent-length: {length}\r\n\r\n"), body.to_owned()).await;
    assert!(expected.starts_with("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n"), "{expected}");
    let (first, second) = body.split_at(10);
    let chunks = format!("{:x}\r\n{first}\r\n{:x}\r\n{second}\r\n0\r\n\r\n", first.len(), second.len());
    let chunked = talk(format!("{head}transfer-encoding: chunked\r\n\r\n{chunks}"), String::new()).await;
    assert!(chunked.starts_with("HTTP/1.1 200 OK\r\n"), "{chunked}");
    let gzip =
        talk(format!("{head}content-encoding: gzip\r\ncontent-length: {length}\r\n\r\n{body}"), String::new()).await;
    assert!(gzip.starts_with("HTTP/1.1 415 ") && gzip.contains(r#""code":"unsupported_content_encoding""#), "{gzip}");
    assert!(s.fake.seen().iter().all(|seen| seen.json()["model"] == "small-model"));
}

#[tokio::test]
async fn what_the_client_gets_wrong() {
    let s = setup(|_| ok(&completion("x", SURE))).await;
    for (path, body, status, message) in [
        (
            "/v1/chat/completions",
            "{",
            400,
            "We could not read the JSON body of your request: EOF while parsing an object at line 1 column 1.",
        ),
        ("/v1/chat/completions", r#"{"messages":[]}"#, 400, "you must provide a model parameter"),
        ("/v1/chat/completions", r#"{"model":"two"}"#, 400, "you must provide a messages parameter"),
        (
            "/v1/chat/completions",
            r#"{"model":"tow","messages":[]}"#,
            404,
            "The model `tow` does not exist. Did you mean `two`? The models here are two, small, large.",
        ),
        ("/v1/nope", "{}", 404, "Unknown request URL: POST /v1/nope."),
        ("/v1/models", "{}", 405, "Not allowed to POST on /v1/models."),
    ] {
        let back = s.post(path, body).await;
        assert_eq!(back.status(), status, "{path} {body}");
        assert_eq!(back.headers()["x-should-retry"], "false");
        let json: Value = body_of(back).await;
        assert_eq!(json["error"]["message"], message);
        assert!(json["error"].get("param").is_some() && json["error"].get("code").is_some(), "{json}");
    }
    let many = format!(r#"{{"model":"two","prompt":[{}]}}"#, ["\"\""; 129].join(","));
    let back = s.post("/v1/completions", &many).await;
    assert_eq!(back.status(), 400);
    assert!(body_of(back).await["error"]["message"].as_str().expect("text").contains("more than 128 prompts"));
    let named = format!(r#"{{"model":"{}","messages":[]}}"#, "m".repeat(1 << 20));
    let text = s.post("/v1/chat/completions", &named).await.text().await.expect("a body");
    assert!(text.len() < 1000, "a name is not echoed whatever its length");
    let huge = format!(r#"{{"model":"two","messages":[{{"content":"{}"}}]}}"#, "x".repeat(33 << 20));
    assert_eq!(s.post("/v1/chat/completions", &huge).await.status(), 413);
    assert!(s.fake.seen().is_empty(), "nothing of this reached the upstream");
}

#[tokio::test]
async fn a_shutdown_waits_for_what_is_in_flight_and_no_line_holds_a_secret() {
    let s = setup(|_| {
        let late = stream::once(async {
            SystemClock::start().sleep(Duration::from_millis(400)).await;
            Ok::<_, std::io::Error>(completion("late", SURE).to_string())
        });
        response(200, "application/json", Body::from_stream(late))
    })
    .await;
    let url = format!("{}/v1/chat/completions", s.served.url);
    let asking = tokio::spawn(async move {
        support::client().post(url).body(r#"{"model":"two","messages":[]}"#).send().await.expect("a response")
    });
    while s.fake.seen().is_empty() {
        tokio::task::yield_now().await;
    }
    let stderr = tokio::task::spawn_blocking(|| s.served.stop()).await.expect("stopped");
    assert_eq!(asking.await.expect("answered").status(), 200);
    assert!(stderr.contains("small:accepted(0.98>=0.70)"), "{stderr}");
    assert!(stderr.contains("stopped, nothing in flight"), "{stderr}");
    assert!(!stderr.contains("sk-test") && !stderr.contains("the-clients-own"), "{stderr}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_is_asked_through_the_proxy_of_the_environment() {
    let proxy = Fake::start(|_: &Seen| ok(&completion("yes", SURE))).await;
    let folder = tempfile::tempdir().expect("a folder");
    let policy = two_tiers(folder.path(), "http://nowhere.invalid/v1", "");
    let variables = [("HTTP_PROXY", proxy.base_url.trim_end_matches("/v1")), ("NO_PROXY", "127.0.0.1")];
    let served = Served::start_with(Some(&policy), &variables);
    let body = json!({"model": "two", "messages": [{"role": "user", "content": "hi"}]});
    let url = format!("{}/v1/chat/completions", served.url);
    let back = support::client().post(url).body(body.to_string()).send().await.expect("an answer");
    assert_eq!(back.status(), 200);
    assert_eq!(proxy.seen()[0].target, "http://nowhere.invalid/v1/chat/completions");
}
