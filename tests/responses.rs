//! `/v1/responses`: cascaded where nothing is kept upstream, its typed events
//! in order.

mod support;

use axum::response::Response;
use serde_json::{Value, json};
use support::{Fake, Seen, Served, response, two_tiers};

fn body_with(text: &str, logprob: f64) -> Value {
    json!({"id": "resp_1", "object": "response", "status": "completed", "model": "m", "error": null, "x": 1.5,
        "output": [{"type": "message", "id": "msg_1", "status": "completed", "role": "assistant", "content":
            [{"type": "output_text", "text": text, "annotations": [], "logprobs": [{"token": "t", "logprob": logprob}]}]}],
        "usage": {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15}})
}

fn events(text: &str, logprob: f64) -> String {
    let whole = body_with(text, logprob);
    let token = json!([{"token": "t", "logprob": logprob}]);
    [
        json!({"type": "response.created", "sequence_number": 0, "response": {"status": "in_progress"}}),
        json!({"type": "response.output_text.delta", "sequence_number": 1, "delta": text, "logprobs": token}),
        json!({"type": "response.completed", "sequence_number": 2, "response": whole}),
    ]
    .iter()
    .fold(String::new(), |all, event| {
        all + &format!("event: {}\ndata: {event}\n\n", event["type"].as_str().expect("a type"))
    })
}

/// The small tier is unsure where it is asked `hard`.
fn answer(seen: &Seen) -> Response {
    let asked = seen.json();
    let is_hard = asked["model"] == "small-model" && asked["input"] == "hard";
    let (text, logprob) = if is_hard { ("a draft", -3.0) } else { ("fine", -0.01) };
    if asked["stream"] == true {
        return response(200, "text/event-stream; charset=utf-8", events(text, logprob));
    }
    response(200, "application/json", body_with(text, logprob).to_string())
}

struct Setup {
    served: Served,
    fake: Fake,
    _folder: tempfile::TempDir,
}

async fn setup(extra: &str) -> Setup {
    let fake = Fake::start(answer).await;
    let folder = tempfile::tempdir().expect("a folder");
    let policy = two_tiers(folder.path(), &fake.base_url, extra);
    Setup { served: Served::start(Some(&policy)), fake, _folder: folder }
}

impl Setup {
    async fn ask(&self, body: &str) -> reqwest::Response {
        let request = support::client().post(format!("{}/v1/responses", self.served.url)).body(body.to_owned());
        request.send().await.expect("a response")
    }
}

fn attempts(back: &reqwest::Response) -> &str {
    back.headers()["x-cascade-attempts"].to_str().expect("ascii")
}

#[tokio::test]
async fn a_stateless_response_is_cascaded() {
    let s = setup("").await;
    let easy = s.ask(r#"{"model":"two","store":false,"input":"easy","seed":18446744073709551617}"#).await;
    assert_eq!(attempts(&easy), "small:accepted(0.99>=0.70)");
    assert_eq!(easy.headers()["x-cascade-cost-usd"], "0.000015");
    let wanted = body_with("fine", -0.01).to_string().replace(r#"[{"logprob":-0.01,"token":"t"}]"#, "[]");
    assert_eq!(easy.text().await.expect("a body"), wanted);
    let sent = r#"{"include":["message.output_text.logprobs"],"model":"small-model","store":false,"input":"easy","seed":18446744073709551617}"#;
    assert_eq!(s.fake.seen()[0].body, sent);
    assert_eq!(s.fake.seen()[0].path, "/v1/responses");
    let hard = s.ask(r#"{"model":"two","store":false,"input":"hard"}"#).await;
    assert_eq!(attempts(&hard), "small:rejected(0.04<0.70),large:accepted");
}

#[tokio::test]
async fn what_the_provider_keeps_is_asked_of_one_tier() {
    let s = setup("").await;
    for kept in [
        r#"{"model":"two","input":"hard"}"#,
        r#"{"model":"two","store":true,"input":"hard"}"#,
        r#"{"model":"two","store":false,"previous_response_id":"resp_0","input":"hard"}"#,
        r#"{"model":"two","store":false,"conversation":"conv_0","input":"hard"}"#,
        r#"{"model":"two","store":false,"background":true,"input":"hard"}"#,
        r#"{"model":"two","store":false,"prompt":{"id":"pmpt_0"}}"#,
    ] {
        assert_eq!(attempts(&s.ask(kept).await), "large:accepted", "{kept}");
    }
    assert!(s.fake.models().iter().all(|m| m == "large-model"));
}

#[tokio::test]
async fn typed_events_come_in_order_and_without_what_nobody_asked_for() {
    let s = setup("").await;
    let back = s.ask(r#"{"model":"two","store":false,"stream":true,"input":"easy"}"#).await;
    assert_eq!(attempts(&back), "small:accepted(0.99>=0.70)");
    let wanted = events("fine", -0.01).replace(r#"[{"logprob":-0.01,"token":"t"}]"#, "[]");
    assert_eq!(back.text().await.expect("a body"), wanted);
    let asking =
        r#"{"include":["message.output_text.logprobs"],"model":"two","store":false,"stream":true,"input":"easy"}"#;
    assert_eq!(s.ask(asking).await.text().await.expect("a body"), events("fine", -0.01));
    let hard = s.ask(r#"{"model":"two","store":false,"stream":true,"input":"hard"}"#).await;
    assert_eq!(attempts(&hard), "small:rejected(0.04<0.70),large:flowing");
    assert!(!hard.text().await.expect("a body").contains("draft"));
}

#[tokio::test]
async fn a_stream_and_a_body_share_an_entry_of_the_cache() {
    let s = setup(", cache: { sampled: true }").await;
    let whole = r#"{"model":"two","store":false,"input":"easy"}"#;
    let stream = r#"{"model":"two","store":false,"stream":true,"input":"easy"}"#;
    s.ask(whole).await;
    let back = s.ask(stream).await;
    assert_eq!(back.headers()["x-cascade-cache"], "hit");
    let text = back.text().await.expect("a body");
    assert!(text.starts_with("event: response.created\ndata: {"), "{text}");
    assert!(
        text.contains("event: response.output_text.delta\n") && text.contains("\nevent: response.completed\n"),
        "{text}"
    );
    assert!(!text.contains("-0.01") && !text.contains("[DONE]"), "{text}");
    let other = setup(", cache: { sampled: true }").await;
    other.ask(stream).await.text().await.expect("a body");
    let back = other.ask(whole).await;
    assert_eq!(back.headers()["x-cascade-cache"], "hit");
    let back: Value = serde_json::from_slice(&back.bytes().await.expect("a body")).expect("JSON");
    assert_eq!(back["output"][0]["content"][0]["text"], "fine");
}

#[tokio::test]
async fn a_stream_that_breaks_off_ends_in_an_error_event() {
    let fake = Fake::start(|_| {
        let events = events("fine", -0.01);
        let cut = events.split_inclusive("\n\n").next().expect("one").to_owned();
        response(200, "text/event-stream", cut)
    })
    .await;
    let folder = tempfile::tempdir().expect("a folder");
    let served = Served::start(Some(&two_tiers(folder.path(), &fake.base_url, "")));
    let body = r#"{"model":"large","store":false,"stream":true,"input":"easy"}"#;
    let back =
        support::client().post(format!("{}/v1/responses", served.url)).body(body).send().await.expect("a response");
    let text = back.text().await.expect("a body");
    let last = text.rsplit_once("event: ").expect("an event").1;
    assert!(
        last.starts_with("error\ndata: {\"code\":\"stream_interrupted\",\"message\":\"The stream broke off: "),
        "{last}"
    );
    assert!(last.contains("\"type\":\"error\""), "{last}");
}
