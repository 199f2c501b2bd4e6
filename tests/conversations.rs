//! Conversations stay with the tier they needed.

mod support;

use prompt_cascade::clock::{Clock, SystemClock};
use serde_json::{Value, json};
use support::{Fake, Served, append, completion, response, two_tiers};

struct Setup {
    served: Served,
    fake: Fake,
    _folder: tempfile::TempDir,
}

/// The small tier is sure of all but what mentions `hard`; where tools are
/// offered, both call one.
async fn setup(conversations: &str) -> Setup {
    let fake = Fake::start(|seen| {
        let asked = seen.json();
        let last = asked["messages"].as_array().and_then(|m| m.last()).cloned().unwrap_or_default();
        let is_hard = last["content"].as_str().is_some_and(|text| text.contains("hard"));
        let logprobs: &[f64] = if is_hard { &[-3.0] } else { &[-0.01] };
        let mut body = completion("fine", logprobs);
        if asked.get("tools").is_some() && last["role"] != "tool" {
            body["choices"][0]["message"]["tool_calls"] =
                json!([{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]);
        }
        response(200, "application/json", body.to_string())
    })
    .await;
    let folder = tempfile::tempdir().expect("a folder");
    let policy = two_tiers(folder.path(), &fake.base_url, "");
    append(&policy, conversations);
    Setup { served: Served::start(Some(&policy)), fake, _folder: folder }
}

impl Setup {
    /// The tiers asked for these messages.
    async fn tiers(&self, body: &Value, session: &str) -> Vec<String> {
        let before = self.fake.models().len();
        let mut request =
            support::client().post(format!("{}/v1/chat/completions", self.served.url)).body(body.to_string());
        if !session.is_empty() {
            request = request.header("x-cascade-session", session);
        }
        assert_eq!(request.send().await.expect("a response").status(), 200);
        self.fake.models().split_off(before)
    }
}

fn chat(turns: &[(&str, &str)]) -> Value {
    let messages: Vec<Value> = turns.iter().map(|(role, content)| json!({"role": role, "content": content})).collect();
    json!({"model": "two", "messages": messages})
}

const BOTH: [&str; 2] = ["small-model", "large-model"];

#[tokio::test]
async fn once_escalated_a_conversation_stays() {
    let s = setup("conversations: { stay: 1m }\n").await;
    let opening = ("user", "a hard question");
    assert_eq!(s.tiers(&chat(&[opening]), "").await, BOTH);
    assert_eq!(s.tiers(&chat(&[opening, ("assistant", "x"), ("user", "easy")]), "").await, ["large-model"]);
    assert_eq!(s.tiers(&chat(&[("user", "another"), ("assistant", "x"), ("user", "easy")]), "").await, ["small-model"]);
    assert_eq!(s.tiers(&chat(&[opening]), "").await, BOTH, "asked again from the start it starts anew");
}

#[tokio::test]
async fn a_session_named_by_the_client_stays_too() {
    let s = setup("conversations: {}\n").await;
    assert_eq!(s.tiers(&chat(&[("user", "hard")]), "s1").await, BOTH);
    assert_eq!(s.tiers(&chat(&[("user", "easy")]), "s1").await, ["large-model"]);
    assert_eq!(s.tiers(&chat(&[("user", "easy")]), "s2").await, ["small-model"]);
    let onward = &s.fake.seen()[0].headers;
    assert!(!onward.contains_key("x-cascade-session"), "our headers do not go upstream");
}

#[tokio::test]
async fn it_is_forgotten_when_its_time_is_up() {
    let s = setup("conversations: { stay: 50ms }\n").await;
    let opening = ("user", "hard");
    s.tiers(&chat(&[opening]), "").await;
    SystemClock::start().sleep(std::time::Duration::from_millis(60)).await;
    assert_eq!(s.tiers(&chat(&[opening, ("assistant", "x"), ("user", "easy")]), "").await, ["small-model"]);
}

#[tokio::test]
async fn a_tools_result_goes_to_the_tier_that_called_it_even_where_nothing_else_stays() {
    let s = setup("").await;
    let with_tools = |mut body: Value| {
        body["tools"] = json!([{"type": "function", "function": {"name": "f"}}]);
        body
    };
    let opening = ("user", "hard, with tools");
    assert_eq!(s.tiers(&with_tools(chat(&[opening])), "").await, BOTH);
    let result = [opening, ("assistant", ""), ("tool", "42")];
    assert_eq!(s.tiers(&with_tools(chat(&result)), "").await, ["large-model"]);
    let after = [opening, ("assistant", ""), ("tool", "42"), ("assistant", "x"), ("user", "easy")];
    assert_eq!(s.tiers(&with_tools(chat(&after)), "").await, ["small-model"], "the loop is over");
}
