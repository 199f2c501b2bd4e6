//! The log: a line for each request, for people or for programs.

mod support;

use serde_json::{Value, json};
use support::{Served, client};

#[tokio::test(flavor = "multi_thread")]
async fn lines_of_the_log_are_json_where_asked() {
    let served = Served::start_as(None, &[], &["--log-json"]);
    let body =
        json!({"model": "cascade", "messages": [{"role": "user", "content": "What is the capital of Australia?"}]});
    let url = format!("{}/v1/chat/completions", served.url);
    let response = client().post(url).body(body.to_string()).send().await.expect("a response");
    let id = response.headers()["x-cascade-request-id"].to_str().expect("ascii").to_owned();
    response.bytes().await.expect("a body");
    let log = served.stop();
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    let line = lines.iter().find(|line| line["id"] == json!(id)).expect("the request's line");
    assert!(line["attempts"].as_str().expect("a text").contains("curie:accepted"), "{line}");
    assert!(line["ms"].is_number() && line["cost_usd"].is_string() && line["level"] == "INFO", "{line}");
    assert!(lines.iter().any(|line| line["message"] == "stopped, nothing in flight"), "{log}");
}
