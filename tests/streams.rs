//! Streams: held, judged by their beginning, or let through; kept alive while
//! they wait.

mod support;

use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use futures_util::stream;
use prompt_cascade::clock::{Clock, SystemClock};
use support::{END, Fake, ROLE, Seen, Served, WORD, append, response, sse, two_tiers};

const STREAM: &str = r#"{"model":"two","stream":true,"messages":[]}"#;

struct Setup {
    served: Served,
    fake: Fake,
    _folder: tempfile::TempDir,
}

async fn setup(mode: &str, answer: impl Fn(&Seen) -> Response + Clone + Send + Sync + 'static) -> Setup {
    let fake = Fake::start(answer).await;
    let folder = tempfile::tempdir().expect("a folder");
    let policy = two_tiers(folder.path(), &fake.base_url, "");
    append(&policy, &format!("stream: {mode}\n"));
    Setup { served: Served::start(Some(&policy)), fake, _folder: folder }
}

impl Setup {
    async fn stream(&self) -> reqwest::Response {
        self.ask(STREAM).await
    }

    async fn ask(&self, body: &str) -> reqwest::Response {
        let request = support::client().post(format!("{}/v1/chat/completions", self.served.url)).body(body.to_owned());
        request.send().await.expect("a response")
    }
}

/// `words` frames with this logprob at once, and the end 300 ms later.
fn slowly(words: usize, logprob: &str, end: &'static [&'static str]) -> Response {
    let word = WORD.replace("-0.01", logprob);
    let begin = sse(&[ROLE]) + &sse(&vec![word.as_str(); words]);
    let flowing = stream::unfold(0, move |at| {
        let piece = [begin.clone(), sse(end)].get(at).cloned();
        async move {
            if at == 1 {
                SystemClock::start().sleep(Duration::from_millis(300)).await;
            }
            Some((Ok::<_, std::io::Error>(piece?), at + 1))
        }
    });
    response(200, "text/event-stream", Body::from_stream(flowing))
}

/// Reads until `text` has come; how long that took.
async fn until(response: &mut reqwest::Response, text: &str, clock: &SystemClock) -> (String, Duration) {
    let from = clock.now();
    let mut seen = String::new();
    while !seen.contains(text) {
        let piece = response.chunk().await.expect("a piece").unwrap_or_else(|| panic!("{text} never came: {seen}"));
        seen += std::str::from_utf8(&piece).expect("utf-8");
    }
    (seen, clock.now().saturating_sub(from))
}

const STRIPPED: &str = r#""logprobs":null"#;

#[tokio::test]
async fn a_good_beginning_is_committed_to_and_flows() {
    let s = setup("{ mode: { prefix: { tokens: 4 } } }", |_| slowly(6, "-0.01", &[END, "[DONE]"])).await;
    let clock = SystemClock::start();
    let mut back = s.stream().await;
    assert_eq!(back.headers()["x-cascade-attempts"], "small:flowing(0.99>=0.70)");
    let (begun, took) = until(&mut back, STRIPPED, &clock).await;
    assert!(took < Duration::from_millis(250), "the beginning did not wait for the end: {took:?}");
    let rest = back.text().await.expect("a body");
    let word = WORD.replace(r#"{"content":[{"token":"hi","logprob":-0.01}]}"#, "null");
    assert_eq!(begun + &rest, sse(&[ROLE]) + &sse(&[word.as_str(); 6]) + &sse(&[END, "[DONE]"]));
    assert_eq!(s.fake.models(), ["small-model"]);
}

#[tokio::test]
async fn a_bad_beginning_is_held_and_judged_whole() {
    let s = setup("{ mode: { prefix: { tokens: 4 } } }", |seen| match seen.json()["model"].as_str() {
        Some("small-model") => slowly(6, "-3", &[END, "[DONE]"]),
        _ => slowly(1, "-0.01", &[END, "[DONE]"]),
    })
    .await;
    let back = s.stream().await;
    assert_eq!(back.headers()["x-cascade-attempts"], "small:rejected(0.04<0.70),large:flowing");
    assert!(!back.text().await.expect("a body").contains("-3"));
}

#[tokio::test]
async fn an_answer_shorter_than_the_beginning_is_judged_whole() {
    let s = setup("{ mode: prefix }", |_| slowly(2, "-0.01", &[END, "[DONE]"])).await;
    assert_eq!(s.stream().await.headers()["x-cascade-attempts"], "small:accepted(0.99>=0.70)");
}

#[tokio::test]
async fn a_beginning_says_nothing_of_json_or_tools() {
    let s = setup("{ mode: { prefix: { tokens: 2 } } }", |_| slowly(6, "-0.01", &[END, "[DONE]"])).await;
    for (demand, attempts) in [
        (r#""response_format":{"type":"json_object"}"#, "small:rejected(json),large:flowing"),
        (r#""tools":[{"type":"function","function":{"name":"f"}}]"#, "small:accepted(0.99>=0.70)"),
    ] {
        let body = STREAM.replacen('{', &format!("{{{demand},"), 1);
        assert_eq!(s.ask(&body).await.headers()["x-cascade-attempts"], attempts, "{demand}");
    }
}

#[tokio::test]
async fn a_committed_stream_that_breaks_off_ends_in_an_error_frame() {
    let s = setup("{ mode: { prefix: { tokens: 4 } } }", |_| slowly(6, "-0.01", &[])).await;
    let text = s.stream().await.text().await.expect("a body");
    assert!(text.contains(r#""code":"stream_interrupted""#) && !text.contains("[DONE]"), "{text}");
    assert_eq!(s.fake.models(), ["small-model"], "after the commit it is never switched");
}

#[tokio::test]
async fn direct_lets_the_first_tier_flow_and_leaves_it_only_if_it_fails() {
    let s = setup("{ mode: direct }", |_| slowly(1, "-9", &[END, "[DONE]"])).await;
    assert_eq!(s.stream().await.headers()["x-cascade-attempts"], "small:flowing");
    let s = setup("{ mode: direct }", |seen| match seen.json()["model"].as_str() {
        Some("small-model") => response(503, "text/plain", "busy"),
        _ => slowly(1, "-9", &[END, "[DONE]"]),
    })
    .await;
    assert_eq!(s.stream().await.headers()["x-cascade-attempts"], "small:failed(refused 503),large:flowing");
}

#[tokio::test]
async fn a_client_that_waits_is_kept_alive_by_comments() {
    let s = setup("{ mode: hold, keep_alive: 60ms }", |_| slowly(1, "-0.01", &[END, "[DONE]"])).await;
    let clock = SystemClock::start();
    let mut back = s.stream().await;
    assert!(clock.now() < Duration::from_millis(250), "the head did not wait for the answer");
    assert!(back.headers().contains_key("x-request-id"));
    let (text, _) = until(&mut back, "[DONE]\n\n", &clock).await;
    let (comments, events) = text.split_at(text.find("data: ").expect("events"));
    let count = comments.matches(": keep-alive\n\n").count();
    assert!((2..=6).contains(&count) && comments.len() == count * ": keep-alive\n\n".len(), "{comments:?}");
    let word = WORD.replace(r#"{"content":[{"token":"hi","logprob":-0.01}]}"#, "null");
    assert_eq!(events, sse(&[ROLE, &word, END, "[DONE]"]));
}

#[tokio::test]
async fn an_error_after_comments_is_an_error_frame() {
    let s = setup("{ keep_alive: 60ms }", |_| {
        let late = stream::once(async {
            SystemClock::start().sleep(Duration::from_millis(150)).await;
            Err::<&str, _>(std::io::Error::other("cut"))
        });
        response(200, "text/event-stream", Body::from_stream(late))
    })
    .await;
    let back = s.stream().await;
    assert_eq!(back.status(), 200);
    let text = back.text().await.expect("a body");
    assert!(text.starts_with(": keep-alive\n\n"), "{text}");
    let frame = text.rsplit_once("data: ").expect("a frame").1;
    assert!(
        frame.starts_with(r#"{"error":{"message":"No tier gave an answer that could be served: small: "#),
        "{frame}"
    );
}
