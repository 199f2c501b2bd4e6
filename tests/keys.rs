//! Keys of clients: who gets in, how far, and what is kept of it.

mod support;

use std::path::{Path, PathBuf};

use axum::body::Body;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use prompt_cascade::clock::{Clock, SystemClock};
use serde_json::{Value, json};
use support::{Fake, Served, cascade, client, completion, response, shown, two_tiers};

struct Setup {
    served: Served,
    fake: Fake,
    policy: PathBuf,
    folder: tempfile::TempDir,
}

/// Runs `cascade keys`; what it prints.
fn keys(folder: &Path, arguments: &[&str]) -> String {
    let output =
        cascade().arg("keys").args(arguments).arg("--file").arg(folder.join("keys.json")).output().expect("it runs");
    assert!(output.status.success(), "{}", shown(&output));
    String::from_utf8(output.stdout).expect("UTF-8").trim().to_owned()
}

fn policy(folder: &Path, fake: &Fake, extra: &str) -> PathBuf {
    let policy = two_tiers(folder, &fake.base_url, extra);
    support::append(&policy, "keys: keys.json\npassthrough: { upstream: up, embeddings_cache: {} }\n");
    policy
}

/// A gateway with one key, made with these arguments.
async fn setup(arguments: &[&str], extra: &str) -> (Setup, String) {
    let fake = Fake::start(|seen| {
        if seen.body.windows(13).any(|w| w == b"\"stream\":true") {
            let frames = stream::iter((0..50).map(|n| {
                let frame = format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"w{n}\"}}}}]}}\n\n");
                Ok::<_, std::io::Error>(Bytes::from(frame))
            }));
            let end = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":10,\"completion_tokens\":50}}\n\ndata: [DONE]\n\n";
            return response(200, "text/event-stream", Body::from_stream(frames.chain(stream::iter([Ok(Bytes::from(end))]))));
        }
        response(200, "application/json", completion("x", &[-0.01]).to_string())
    })
    .await;
    let folder = tempfile::tempdir().expect("a folder");
    let key = keys(folder.path(), &[&["create", "alice"], arguments].concat());
    let policy = policy(folder.path(), &fake, extra);
    (Setup { served: Served::start(Some(&policy)), fake, policy, folder }, key)
}

impl Setup {
    async fn send(&self, key: Option<&str>, headers: &[(&str, &str)], body: &str) -> (u16, String, Value) {
        let mut ask = client().post(format!("{}/v1/chat/completions", self.served.url)).body(body.to_owned());
        if let Some(key) = key {
            ask = ask.bearer_auth(key);
        }
        for (name, value) in headers {
            ask = ask.header(*name, *value);
        }
        let back = ask.send().await.expect("a response");
        let said = |name: &str| back.headers().get(name).map_or("", |v| v.to_str().expect("ascii")).to_owned();
        let (status, cache) = (back.status().as_u16(), said("x-cascade-cache") + &said("x-should-retry"));
        let text = back.text().await.expect("a body");
        (status, cache, serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    /// The status, and the error's code.
    async fn ask(&self, key: Option<&str>, body: &str) -> (u16, Value) {
        let (status, _, back) = self.send(key, &[], body).await;
        (status, back["error"]["code"].clone())
    }

    fn spent(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("keys.json.spent")).unwrap_or_default()
    }

    /// Waits until the file of what was spent says this.
    async fn spent_says(&self, what: &str) {
        let clock = SystemClock::start();
        while !self.spent().contains(what) {
            assert!(clock.now().as_secs() < 10, "{what} is not in {}", self.spent());
            clock.sleep(std::time::Duration::from_millis(50)).await;
        }
    }
}

const ASK: &str = r#"{"model":"two","temperature":0,"messages":[]}"#;

#[tokio::test]
async fn only_who_has_a_key_gets_in_and_the_key_is_nowhere() {
    let (s, key) = setup(&[], "").await;
    assert!(key.starts_with("pck_") && key.len() == 4 + 12 + 1 + 64, "{key}");
    assert_eq!(s.ask(None, ASK).await, (401, json!("invalid_api_key")));
    assert_eq!(s.ask(Some("sk-anything"), ASK).await, (401, json!("invalid_api_key")));
    let mut almost = key.clone();
    almost.replace_range(key.len() - 1.., if key.ends_with('0') { "1" } else { "0" });
    assert_eq!(s.ask(Some(&almost), ASK).await, (401, json!("invalid_api_key")));
    assert_eq!(s.ask(Some(&key), ASK).await, (200, Value::Null));
    for path in ["/v1/models", "/v1/embeddings", "/v1/files", "/models/two"] {
        let status = client().get(format!("{}{path}", s.served.url)).send().await.expect("a response").status();
        assert_eq!(status, 401, "{path}");
    }
    let open = client().get(format!("{}/healthz", s.served.url)).send().await.expect("a response").status();
    assert_eq!(open, 200);
    // The key is ours: no upstream sees it, passed through or not.
    let files = client().get(format!("{}/v1/files", s.served.url)).bearer_auth(&key).send().await.expect("a response");
    assert_eq!(files.status(), 200);
    for seen in s.fake.seen() {
        assert_eq!(seen.headers["authorization"], "Bearer sk-test-0123456789abcdef");
    }
    let secret = key.rsplit('_').next().expect("a secret").to_owned();
    let file = std::fs::read_to_string(s.folder.path().join("keys.json")).expect("readable");
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(s.folder.path().join("keys.json")).expect("there").permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
    let listed = keys(s.folder.path(), &["list"]);
    assert!(listed.contains("alice") && listed.contains(&key[4..16]), "{listed}");
    let log = s.served.stop();
    for text in [file, listed, log] {
        assert!(!text.contains(&secret), "{text}");
    }
}

#[tokio::test]
async fn who_is_refused_is_counted() {
    let fake = Fake::start(|_| response(200, "application/json", completion("x", &[-0.01]).to_string())).await;
    let folder = tempfile::tempdir().expect("a folder");
    keys(folder.path(), &["create", "alice"]);
    let (served, metrics) = Served::start_with_metrics(&policy(folder.path(), &fake, ""));
    for path in ["chat/completions", "files"] {
        let refused = client().post(format!("{}/v1/{path}", served.url)).body(ASK).send().await.expect("a response");
        assert_eq!(refused.status(), 401, "{path}");
    }
    let text = client().get(metrics).send().await.expect("metrics").text().await.expect("text");
    for route in ["chat_completions", "passthrough"] {
        let sample = format!("cascade_requests_total{{route=\"{route}\",status_class=\"4xx\"}} 1\n");
        assert!(text.contains(&sample), "{sample}{text}");
    }
}

#[tokio::test]
async fn a_key_is_taken_back_and_another_made_while_serving() {
    let (s, key) = setup(&[], "").await;
    assert_eq!(s.ask(Some(&key), ASK).await.0, 200);
    keys(s.folder.path(), &["revoke", &key[4..16]]);
    let other = keys(s.folder.path(), &["create", "bob"]);
    s.served.signal("HUP");
    let clock = SystemClock::start();
    while s.ask(Some(&other), ASK).await.0 != 200 {
        assert!(clock.now().as_secs() < 10, "the new key is not known");
    }
    assert_eq!(s.ask(Some(&key), ASK).await, (401, json!("invalid_api_key")));
    let unknown = cascade()
        .args(["keys", "revoke", "nobody", "--file"])
        .arg(s.folder.path().join("keys.json"))
        .output()
        .expect("it runs");
    assert!(shown(&unknown).contains("there is no key nobody in "), "{}", shown(&unknown));
}

#[tokio::test]
async fn requests_and_tokens_of_a_key_are_limited() {
    let (s, key) = setup(&["--requests-per-minute", "2"], "").await;
    let mut codes = Vec::new();
    for _ in 0..3 {
        codes.push(s.ask(Some(&key), ASK).await);
    }
    assert_eq!(codes, [(200, Value::Null), (200, Value::Null), (429, json!("rate_limit_exceeded"))]);

    // 700 tokens: 512 are taken at first, and 15 used by each.
    let (s, key) = setup(&["--tokens-per-minute", "700"], "").await;
    let mut answered = 0;
    while s.ask(Some(&key), ASK).await.0 == 200 {
        answered += 1;
        assert!(answered < 100, "nothing is counted");
    }
    assert!((12..=14).contains(&answered), "{answered}");
}

#[tokio::test]
async fn a_month_of_dollars_is_kept_through_restarts_and_counts_streams() {
    let (s, key) = setup(&["--dollars-per-month", "0.0006"], "").await;
    // 15 tokens at 1 dollar a million.
    assert_eq!(s.ask(Some(&key), ASK).await.0, 200);
    s.spent_says("0.000015").await;
    // 60 tokens of the larger tier, at 10 dollars a million.
    let streamed = r#"{"model":"large","stream":true,"messages":[]}"#;
    assert_eq!(s.send(Some(&key), &[], streamed).await.0, 200);
    assert_eq!(s.send(Some(&key), &[], ASK).await.0, 429);
    let Setup { served, fake, policy, folder } = s;
    served.stop();
    let s = Setup { served: Served::start(Some(&policy)), fake, policy, folder };
    s.spent_says("0.000615").await;
    let (status, should_retry, back) = s.send(Some(&key), &[], ASK).await;
    assert_eq!((status, should_retry.as_str(), &back["error"]["code"]), (429, "false", &json!("insufficient_quota")));
    assert!(keys(s.folder.path(), &["list"]).contains("$0.0006"), "{}", keys(s.folder.path(), &["list"]));
}

#[tokio::test]
async fn a_client_that_hangs_up_on_a_stream_pays_for_what_it_got() {
    let fake = Fake::start(|_| {
        let frames = stream::unfold(0, |n| async move {
            SystemClock::start().sleep(std::time::Duration::from_millis(5)).await;
            let frame = format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"w{n}\"}}}}]}}\n\n");
            Some((Ok::<_, std::io::Error>(Bytes::from(frame)), n + 1))
        });
        response(200, "text/event-stream", Body::from_stream(frames))
    })
    .await;
    let folder = tempfile::tempdir().expect("a folder");
    let key = keys(folder.path(), &["create", "alice", "--tokens-per-minute", "600"]);
    let policy = policy(folder.path(), &fake, "");
    let s = Setup { served: Served::start(Some(&policy)), fake, policy, folder };
    let ask = client().post(format!("{}/v1/chat/completions", s.served.url)).bearer_auth(&key);
    let back = ask.body(r#"{"model":"large","stream":true,"messages":[]}"#).send().await.expect("a response");
    let mut pieces = back.bytes_stream();
    for _ in 0..20 {
        pieces.next().await.expect("a piece").expect("bytes");
    }
    drop(pieces);
    s.spent_says("\"dollars\": 0.000").await;
    assert!(!s.spent().contains("\"dollars\": 0.0,"), "{}", s.spent());
}

#[tokio::test]
async fn a_key_opens_the_models_and_headers_that_it_names() {
    let (s, key) = setup(&["--model", "small"], ", cache: {}").await;
    let small = r#"{"model":"small","temperature":0,"messages":[]}"#;
    assert_eq!(s.ask(Some(&key), small).await.0, 200);
    assert_eq!(s.ask(Some(&key), ASK).await, (403, json!("key_not_allowed")));
    for path in ["/v1/files", "/v1/embeddings"] {
        let ask =
            client().post(format!("{}{path}", s.served.url)).bearer_auth(&key).body(r#"{"model":"x","input":"y"}"#);
        assert_eq!(ask.send().await.expect("a response").status(), 403, "{path}");
    }
    for header in [("x-cascade-bypass", "cache"), ("x-cascade-min-tier", "large")] {
        assert_eq!(s.send(Some(&key), &[header], small).await.0, 403, "{header:?}");
    }
    let may = keys(s.folder.path(), &["create", "bob", "--may", "bypass,tiers"]);
    s.served.signal("HUP");
    let clock = SystemClock::start();
    while s.ask(Some(&may), ASK).await.0 != 200 {
        assert!(clock.now().as_secs() < 10, "the new key is not known");
    }
    let cache = async |headers: &[(&str, &str)]| s.send(Some(&may), headers, ASK).await.1;
    assert_eq!(cache(&[]).await, "hit");
    assert_eq!(cache(&[("x-cascade-bypass", "cache")]).await, "bypass");
    assert_eq!(cache(&[("cache-control", "no-store")]).await, "bypass");
    assert_eq!(cache(&[("cache-control", "max-age=0, no-cache")]).await, "miss");
    assert_eq!(cache(&[]).await, "hit", "what is new is kept");
    s.send(Some(&may), &[("x-cascade-min-tier", "large")], ASK).await;
    assert_eq!(s.fake.models().last().expect("asked"), "large-model");
    let (status, _, back) = s.send(Some(&may), &[("x-cascade-max-tier", "huge")], ASK).await;
    assert_eq!((status, &back["error"]["message"]), (400, &json!("x-cascade-max-tier is none of small, large.")));
    let none = [("x-cascade-min-tier", "large"), ("x-cascade-max-tier", "small")];
    assert_eq!(s.send(Some(&may), &none, ASK).await.0, 400);
}

#[tokio::test]
async fn what_one_was_told_is_told_another_only_where_the_policy_says_so() {
    for (extra, second) in [(", cache: {}", "miss"), (", cache: { shared: true }", "hit")] {
        let fake = Fake::start(|_| response(200, "application/json", completion("x", &[-0.01]).to_string())).await;
        let folder = tempfile::tempdir().expect("a folder");
        let (alice, bob) = (keys(folder.path(), &["create", "alice"]), keys(folder.path(), &["create", "bob"]));
        let policy = policy(folder.path(), &fake, extra);
        let s = Setup { served: Served::start(Some(&policy)), fake, policy, folder };
        let mut told = Vec::new();
        for key in [&alice, &bob, &alice] {
            told.push(s.send(Some(key), &[], ASK).await.1);
        }
        assert_eq!(told, ["miss", second, "hit"]);
    }
}

#[tokio::test]
async fn a_public_address_needs_keys_or_a_word() {
    let (s, _) = setup(&[], "").await;
    let without = two_tiers(s.folder.path(), &s.fake.base_url, "");
    let serve = |arguments: &[&str]| {
        let output = cascade().args(["serve", "--listen", "0.0.0.0:0"]).args(arguments).env("TEST_KEY", "x").output();
        shown(&output.expect("it runs"))
    };
    let refused = serve(&["--policy", without.to_str().expect("UTF-8")]);
    assert!(refused.contains("name a file of `cascade keys`"), "{refused}");
    let refused = serve(&["--public", "--policy", "/nowhere"]);
    assert!(refused.contains("cannot read the policy"), "{refused}");
}

#[test]
fn a_key_file_that_is_none_is_a_problem_of_the_policy() {
    let folder = tempfile::tempdir().expect("a folder");
    let policy = two_tiers(folder.path(), "http://127.0.0.1:1/v1", "");
    support::append(&policy, "keys: keys.json\n");
    let check = || shown(&cascade().args(["check", "--no-env"]).arg(&policy).output().expect("it runs"));
    assert!(check().contains("cannot use keys.json: No such file"), "{}", check());
    std::fs::write(folder.path().join("keys.json"), "[]").expect("written");
    assert!(check().contains("not a file of `cascade keys`"), "{}", check());
}
