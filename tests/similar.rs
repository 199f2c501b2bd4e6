//! Answers that are there already: to questions that are alike, and of larger tiers.

mod support;

use std::path::{Path, PathBuf};

use axum::response::Response;
use serde_json::{Value, json};
use support::{Fake, Seen, Served, append, cascade, client, completion, response, two_tiers};

/// Embeddings by the first word, so that the test says what is alike; the answer to
/// anything else is its question.
fn upstream(seen: &Seen) -> Response {
    let body = seen.json();
    if seen.path.ends_with("/embeddings") {
        let vector = match body["input"].as_str().expect("a text").split(' ').next() {
            Some("What") => json!([3.0, 0.0, 0.0]),
            Some("Which") => json!([4.0, 0.5, 0.0]),
            Some("fails") => return response(500, "text/plain", "no"),
            _ => json!([0.0, 0.0, 1.0]),
        };
        let word = json!({"data": [{"embedding": vector}], "usage": {"total_tokens": 1000}});
        return response(200, "application/json", word.to_string());
    }
    let text = body["messages"][0]["content"].as_str().expect("a text").to_owned();
    let logprobs: &[f64] = if text.ends_with("unsure") { &[-3.0] } else { &[-0.01] };
    response(200, "application/json", completion(&text, logprobs).to_string())
}

const SIMILAR: &str =
    ", cache: { similar: { upstream: up, model: embed, at_least: 0.97, price: 0.02 }, for_smaller: true }";

struct Setup {
    fake: Fake,
    served: Served,
    folder: tempfile::TempDir,
}

async fn setup(extra: &str, more: &str) -> Setup {
    let fake = Fake::start(upstream).await;
    let folder = tempfile::tempdir().expect("a folder");
    let policy: PathBuf = two_tiers(folder.path(), &fake.base_url, extra);
    append(&policy, more);
    Setup { served: Served::start(Some(&policy)), fake, folder }
}

impl Setup {
    /// What is answered, what the cache did, who was asked, and what it cost.
    async fn ask(&self, model: &str, text: &str, more: Value, key: Option<&str>) -> [String; 4] {
        let mut body = json!({"model": model, "temperature": 0, "messages": [{"role": "user", "content": text}]});
        body.as_object_mut().expect("an object").extend(more.as_object().cloned().unwrap_or_default());
        let mut ask = client().post(format!("{}/v1/chat/completions", self.served.url)).body(body.to_string());
        if let Some(key) = key {
            ask = ask.bearer_auth(key);
        }
        let back = ask.send().await.expect("a response");
        let header = |name: &str| back.headers().get(name).map_or("", |v| v.to_str().expect("ascii")).to_owned();
        let [cache, attempts, cost] = ["x-cascade-cache", "x-cascade-attempts", "x-cascade-cost-usd"].map(header);
        let body: Value = serde_json::from_str(&back.text().await.expect("a body")).unwrap_or_default();
        [body["choices"][0]["message"]["content"].as_str().unwrap_or_default().to_owned(), cache, attempts, cost]
    }

    /// How often models, and how often embeddings, were asked for.
    fn asked(&self) -> (usize, usize) {
        let embeddings = self.fake.seen().iter().filter(|seen| seen.path.ends_with("/embeddings")).count();
        (self.fake.seen().len() - embeddings, embeddings)
    }
}

#[tokio::test]
async fn a_question_that_is_alike_gets_the_answer_for_the_price_of_an_embedding() {
    let s = setup(SIMILAR, "").await;
    let first = s.ask("two", "What is the capital of Peru?", json!({}), None).await;
    // 10 + 5 tokens at a dollar, and 1,000 at two cents, a million.
    assert_eq!(first, ["What is the capital of Peru?", "miss", "small:accepted(0.99>=0.70)", "0.000035"]);
    let alike = s.ask("two", "Which city is Peru's capital?", json!({}), None).await;
    assert_eq!(alike, ["What is the capital of Peru?", "similar", "small:accepted(0.99>=0.70)", "0.00002"]);
    assert_eq!(s.asked(), (1, 2));
    let same = s.ask("two", "Which city is Peru's capital?", json!({}), None).await;
    assert_eq!((same[1].as_str(), same[3].as_str()), ("similar", "0.00"), "the same words again cost nothing");
    assert_eq!(s.asked(), (1, 2));
    let streamed = json!({"stream": true});
    s.ask("two", "Which town is Peru's capital?", streamed, None).await;
    assert_eq!(s.asked(), (1, 3), "a stream is answered so too");
}

#[tokio::test]
async fn what_only_looks_alike_is_asked() {
    let s = setup(SIMILAR, "").await;
    s.ask("two", "What is 17 + 26?", json!({}), None).await;
    let cases = [
        ("What is 17 + 27?", json!({}), "another number"),
        ("Name the sum of 17 and 26", json!({}), "not alike"),
        ("Which number is 17 + 26?", json!({"max_tokens": 7}), "another bound"),
        ("Which number is 17 + 26?", json!({"temperature": 1}), "drawn by chance"),
        ("fails to be embedded: 17 + 26", json!({}), "no embedding"),
    ];
    for (text, more, what) in cases {
        let before = s.asked().0;
        let answer = s.ask("two", text, more, None).await;
        assert_eq!((answer[0].as_str(), s.asked().0), (text, before + 1), "{what}");
    }
    assert_eq!(s.asked().1, 5, "what is drawn by chance needs no embedding");
    let log = s.served.stop();
    assert!(log.contains("no embedding, so nothing is alike: status 500"), "{log}");
}

#[tokio::test]
async fn an_unsure_answer_to_one_that_is_alike_is_rejected_too_and_larger_tiers_are_asked() {
    let s = setup(SIMILAR, "").await;
    s.ask("two", "What is it? unsure", json!({}), None).await;
    let alike = s.ask("two", "Which is it, unsure", json!({}), None).await;
    assert_eq!(alike[1..3], ["similar", "small:rejected(0.04<0.70),large:accepted"]);
    assert_eq!(s.asked(), (2, 2), "one embedding serves all tiers");
}

fn key(folder: &Path, name: &str) -> String {
    let mut command = cascade();
    command.args(["keys", "create", name, "--file"]).arg(folder.join("keys.json"));
    String::from_utf8(command.output().expect("it runs").stdout).expect("UTF-8").trim().to_owned()
}

#[tokio::test]
async fn nobody_is_told_what_another_was() {
    let fake = Fake::start(upstream).await;
    let folder = tempfile::tempdir().expect("a folder");
    let (alice, bob) = (key(folder.path(), "alice"), key(folder.path(), "bob"));
    let policy = two_tiers(folder.path(), &fake.base_url, SIMILAR);
    append(&policy, "keys: keys.json\n");
    let s = Setup { served: Served::start(Some(&policy)), fake, folder };
    s.ask("two", "What is my name?", json!({}), Some(&alice)).await;
    let to_bob = s.ask("two", "Which name is mine?", json!({}), Some(&bob)).await;
    assert_eq!(to_bob[..2], ["Which name is mine?", "miss"]);
    let to_alice = s.ask("two", "Which name have I?", json!({}), Some(&alice)).await;
    assert_eq!(to_alice[..2], ["What is my name?", "similar"]);
    drop(s.folder);
}

#[tokio::test]
async fn a_larger_tiers_answer_stands_for_a_smaller_ones_and_never_the_other_way() {
    let s = setup(", cache: { for_smaller: true }", "").await;
    s.ask("large", "one", json!({}), None).await;
    let ladder = s.ask("two", "one", json!({}), None).await;
    assert_eq!(ladder, ["one", "hit", "large:accepted", "0.00"]);
    assert_eq!(s.fake.models(), ["large-model"], "the small one was never asked");
    s.ask("two", "two", json!({}), None).await;
    let pinned = s.ask("large", "two", json!({}), None).await;
    assert_eq!(pinned[1..3], ["miss", "large:accepted"]);
    assert_eq!(s.fake.models(), ["large-model", "small-model", "large-model"]);
    // Left out, the ladder is climbed from below.
    let s = setup(", cache: {}", "").await;
    s.ask("large", "one", json!({}), None).await;
    assert_eq!(s.ask("two", "one", json!({}), None).await[2], "small:accepted(0.99>=0.70)");
}
