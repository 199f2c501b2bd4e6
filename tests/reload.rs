//! The policy read again while serving: at once, whole, and only where it is sound.

mod support;

use std::path::PathBuf;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream;
use prompt_cascade::clock::{Clock, SystemClock};
use support::{Fake, Served, client, completion, response, two_tiers};

struct Setup {
    served: Served,
    metrics: String,
    fake: Fake,
    policy: PathBuf,
    _folder: tempfile::TempDir,
}

async fn setup(extra: &str) -> Setup {
    let fake = Fake::start(|_| response(200, "application/json", completion("x", &[-0.01]).to_string())).await;
    let folder = tempfile::tempdir().expect("a folder");
    let policy = two_tiers(folder.path(), &fake.base_url, extra);
    let (served, metrics) = Served::start_with_metrics(&policy);
    Setup { served, metrics, fake, policy, _folder: folder }
}

impl Setup {
    /// Asks; the status, and the digest of the policy that answered.
    async fn ask(&self, body: &'static str) -> (u16, String, String) {
        let ask = client().post(format!("{}/v1/chat/completions", self.served.url)).body(body);
        let back = ask.send().await.expect("a response");
        let said = |name: &str| back.headers().get(name).map_or("", |v| v.to_str().expect("ascii")).to_owned();
        (back.status().as_u16(), said("x-cascade-policy"), said("x-cascade-cache"))
    }

    async fn reloads(&self) -> (u64, u64) {
        let text = client().get(&self.metrics).send().await.expect("metrics").text().await.expect("text");
        let count = |result: &str| {
            let line = format!("cascade_reloads_total{{result=\"{result}\"}} ");
            text.lines().find_map(|l| l.strip_prefix(&line)?.parse().ok()).unwrap_or_else(|| panic!("{text}"))
        };
        (count("success"), count("failure"))
    }

    /// Changes the policy's text, asks for it to be read again, and waits until it was.
    async fn change(&self, from: &str, to: &str) -> (u64, u64) {
        let text = std::fs::read_to_string(&self.policy).expect("readable");
        assert!(text.contains(from), "{text}");
        std::fs::write(&self.policy, text.replace(from, to)).expect("written");
        let before = self.reloads().await;
        self.served.signal("HUP");
        let clock = SystemClock::start();
        loop {
            let after = self.reloads().await;
            if after != before {
                return after;
            }
            assert!(clock.now() < Duration::from_secs(10), "it was never read again");
            clock.sleep(Duration::from_millis(10)).await;
        }
    }
}

const ASK: &str = r#"{"model":"two","temperature":0,"messages":[]}"#;

#[tokio::test]
async fn a_sound_policy_comes_into_force_and_what_was_remembered_stays() {
    let s = setup(", cache: {}, limits: { requests_per_minute: 2 }").await;
    let (status, before, cache) = s.ask(ASK).await;
    assert_eq!((status, cache.as_str()), (200, "miss"));
    assert_eq!(s.change("at_least: 0.7", "at_least: 0.6").await, (1, 0));
    let (status, after, cache) = s.ask(ASK).await;
    assert_eq!((status, cache.as_str()), (200, "hit"), "the cache was kept");
    assert_ne!(before, after);
    // One of two a minute was used before: one is left of the smaller tier, two of the larger.
    let mut statuses = Vec::new();
    for body in [
        r#"{"model":"small","messages":[{"role":"user","content":"1"}]}"#,
        r#"{"model":"small","messages":[{"role":"user","content":"2"}]}"#,
    ] {
        statuses.push(s.ask(body).await.0);
    }
    assert_eq!(statuses, [200, 429], "limits go on where they were");
    // Another model is asked anew.
    assert_eq!(s.change("model: small-model", "model: newer-model").await, (2, 0));
    assert_eq!(s.ask(ASK).await.2, "miss");
    assert_eq!(s.fake.models().last().expect("asked"), "newer-model");
}

#[tokio::test]
async fn a_policy_with_a_fault_changes_nothing_and_says_why() {
    let s = setup("").await;
    let (_, before, _) = s.ask(ASK).await;
    assert_eq!(s.change("at_least: 0.7", "at_lest: 0.7").await, (0, 1));
    assert_eq!(s.ask(ASK).await.1, before);
    let test = "at_least: 0.7\n";
    assert_eq!(s.change("at_lest: 0.7", "at_least: 0.7").await, (1, 1), "mended, though it is the same as before");
    support::append(&s.policy, "tests:\n  - { answer: fine, tier: small, expect: escalate }\n");
    assert_eq!(s.change("name: two", "name: two").await, (1, 2), "{test}");
    assert_eq!(s.ask(ASK).await.1, before);
    SystemClock::start().sleep(Duration::from_secs(4)).await;
    assert_eq!(s.reloads().await, (1, 2), "what failed is not tried again before it changes");
    std::fs::remove_file(&s.policy).expect("removed");
    let clock = SystemClock::start();
    while s.reloads().await != (1, 3) {
        assert!(clock.now() < Duration::from_secs(10), "a file that is gone was not seen");
        clock.sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(s.ask(ASK).await.1, before);
    let log = s.served.stop();
    for said in ["did you mean `at_least`?", "a test expects escalate of \"fine\" from small", "cannot read the policy"]
    {
        assert!(log.contains(said), "{said} is not in {log}");
    }
}

#[tokio::test]
async fn a_changed_file_is_seen_without_being_told() {
    let s = setup("").await;
    let (_, before, _) = s.ask(ASK).await;
    let text = std::fs::read_to_string(&s.policy).expect("readable");
    std::fs::write(&s.policy, text.replace("at_least: 0.7", "at_least: 0.5")).expect("written");
    let clock = SystemClock::start();
    while s.ask(ASK).await.1 == before {
        assert!(clock.now() < Duration::from_secs(10), "the change was not seen");
        clock.sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(s.reloads().await, (1, 0));
}

#[tokio::test]
async fn a_file_that_was_missing_is_seen_when_it_comes() {
    let s = setup("").await;
    let (_, before, _) = s.ask(ASK).await;
    let failed = s.change("tiers:", "optimal_stopping: later.json\ntiers:").await;
    assert_eq!((failed, s.ask(ASK).await.1.as_str()), ((0, 1), before.as_str()));
    // It comes, and is none: that it was tried shows that it was seen.
    std::fs::write(s.policy.with_file_name("later.json"), "{}").expect("written");
    let clock = SystemClock::start();
    while s.reloads().await == failed {
        assert!(clock.now() < Duration::from_secs(10), "the file was not seen");
        clock.sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(s.reloads().await, (0, 2));
    let log = s.served.stop();
    assert!(log.contains("later.json"), "{log}");
}

#[tokio::test]
async fn a_file_that_is_being_written_is_not_tried_before_it_is_whole() {
    let s = setup("").await;
    let text = std::fs::read_to_string(&s.policy).expect("readable").replace("at_least: 0.7", "at_least: 0.5");
    let clock = SystemClock::start();
    // A piece every quarter of a second, for five seconds.
    for piece in 1..=20 {
        std::fs::write(&s.policy, &text[..text.len() * piece / 20]).expect("written");
        clock.sleep(Duration::from_millis(250)).await;
    }
    while s.reloads().await == (0, 0) {
        assert!(clock.now() < Duration::from_secs(15), "the change was not seen");
        clock.sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(s.reloads().await, (1, 0));
}

#[tokio::test]
async fn a_stream_goes_on_through_a_reload() {
    let (frames, gate) = (24, tokio::sync::watch::channel(false));
    let open = gate.1;
    let fake = Fake::start(move |_| {
        let open = open.clone();
        let body = stream::unfold((0, open), move |(n, mut open)| async move {
            if n == 1 {
                // Until the policy has changed.
                let _ = open.wait_for(|is_open| *is_open).await;
            }
            let frame = match n {
                _ if n < frames => {
                    format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"w{n}\"}}}}]}}\n\n")
                }
                _ if n == frames => {
                    "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n"
                        .to_owned()
                }
                _ => return None,
            };
            Some((Ok::<_, std::io::Error>(Bytes::from(frame)), (n + 1, open)))
        });
        response(200, "text/event-stream", Body::from_stream(body))
    })
    .await;
    let folder = tempfile::tempdir().expect("a folder");
    let policy = two_tiers(folder.path(), &fake.base_url, "");
    let (served, metrics) = Served::start_with_metrics(&policy);
    let s = Setup { served, metrics, fake, policy, _folder: folder };
    let ask = client().post(format!("{}/v1/chat/completions", s.served.url));
    let back = ask.body(r#"{"model":"large","stream":true,"messages":[]}"#).send().await.expect("a response");
    let mut pieces = back.bytes_stream();
    let mut text = String::from_utf8_lossy(&pieces.next().await.expect("a piece").expect("bytes")).into_owned();
    assert_eq!(s.change("model: large-model", "model: other").await, (1, 0));
    gate.0.send(true).expect("somebody waits");
    while let Some(piece) = pieces.next().await {
        text += &String::from_utf8_lossy(&piece.expect("bytes"));
    }
    assert!(text.contains("w23") && text.ends_with("data: [DONE]\n\n"), "{text}");
}
