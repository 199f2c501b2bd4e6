//! What is recorded while serving, and that it replays.

mod support;

use std::path::Path;

use axum::response::Response;
use prompt_cascade::exchange::Exchange;
use prompt_cascade::openai::Endpoint;
use prompt_cascade::recording::{Lines, files};
use serde_json::json;
use support::{
    END, Fake, ROLE, Seen, Served, USAGE, WORD, append, cascade, client, completion, response, shown, sse, two_tiers,
};

/// Small is sure of short questions; whoever streams gets frames.
fn answer(seen: &Seen) -> Response {
    let asked = seen.json();
    if asked["stream"] == json!(true) {
        return response(200, "text/event-stream", sse(&[ROLE, WORD, END, USAGE, "[DONE]"]));
    }
    let is_sure = asked["model"] == json!("large-model") || !asked.to_string().contains("hard");
    if asked.to_string().contains("refuse") {
        return response(500, "text/html", "<html>sk-abcdefghijklmnop</html>");
    }
    response(200, "application/json", completion("yes", &[if is_sure { -0.01 } else { -3.0 }]).to_string())
}

async fn ask(url: &str, question: &str, more: serde_json::Value) -> u16 {
    let mut body = json!({"model": "two", "temperature": 0, "messages": [{"role": "user", "content": question}]});
    body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    let response = client().post(format!("{url}/v1/chat/completions")).body(body.to_string()).send().await;
    let response = response.expect("a response");
    let status = response.status().as_u16();
    response.bytes().await.expect("a body");
    status
}

fn recorded(folder: &Path) -> Vec<Exchange> {
    let all = files(&[folder.to_owned()]).expect("files");
    let lines = all.iter().flat_map(|file| Lines::open(file).expect("it opens"));
    lines.collect::<Result<_, _>>().expect("exchanges")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_served_is_recorded_without_secrets_and_replays() {
    let folder = tempfile::tempdir().expect("a folder");
    let fake = Fake::start(answer).await;
    let policy = two_tiers(folder.path(), &fake.base_url, ", cache: { ttl: 1h }, retries: { times: 0 }");
    append(&policy, "record: { to: kept, rotate: 1KiB, redact: ['room-\\d+'] }\n");
    let served = Served::start(Some(&policy));
    for question in ["easy", "hard", "easy", "refuse", "my key is sk-test-0123456789abcdef in room-12"] {
        ask(&served.url, question, json!({})).await;
    }
    assert_eq!(ask(&served.url, "stream hard", json!({"stream": true})).await, 200);
    served.stop();
    let kept = folder.path().join("kept");
    let exchanges = recorded(&kept);
    assert_eq!(exchanges.len(), 6);
    assert!(std::fs::read_dir(&kept).expect("a folder").count() > 2, "a file has a kilobyte");
    let tiers = |at: usize| exchanges[at].answers.keys().map(String::as_str).collect::<Vec<_>>();
    assert_eq!((tiers(0), tiers(1), tiers(2)), (vec!["small"], vec!["large", "small"], vec!["small"]));
    let small = |at: usize| &exchanges[at].answers["small"];
    // Logprobs that nobody asked for are kept for scorers, though the cache cut them out.
    let logprobs = |at: usize| small(at).answer(Endpoint::Chat).expect("an answer").choices[0].logprobs.clone();
    assert_eq!((logprobs(0), logprobs(1), logprobs(2)), (vec![-0.01], vec![-3.0], vec![-0.01]));
    // What a cache says took no time and cost nothing, which says nothing of the tier.
    assert!(small(0).cost.is_some() && small(0).elapsed_ms.is_some());
    assert!(small(2).cost.is_none() && small(2).elapsed_ms.is_none());
    assert_eq!((small(3).status, exchanges[3].answers["large"].status), (500, 500));
    assert!(exchanges[5].answers["small"].answer(Endpoint::Chat).is_ok());
    let mut all = String::new();
    for file in files(std::slice::from_ref(&kept)).expect("files") {
        let text = String::from_utf8(zstd::decode_all(std::fs::File::open(file).expect("open")).expect("zstd"));
        let text = text.expect("UTF-8");
        for secret in ["sk-test-0123456789abcdef", "sk-abcdefghijklmnop", "room-12"] {
            assert!(!text.contains(secret), "{text}");
        }
        all.push_str(&text);
    }
    assert!(all.contains("my key is [redacted] in [redacted]"), "{all}");
    let replayed = cascade().arg("replay").arg(&kept).arg("--policy").arg(&policy).env("TEST_KEY", "x").output();
    let text = shown(&replayed.expect("it runs"));
    assert!(text.starts_with("exit code: 0") && text.contains("6 prompts"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_share_is_asked_of_every_tier_off_the_clients_path() {
    let folder = tempfile::tempdir().expect("a folder");
    let fake = Fake::start(answer).await;
    let policy = two_tiers(folder.path(), &fake.base_url, "");
    append(&policy, "record: { to: kept, share: 0, every_tier: 1 }\n");
    let (served, metrics) = Served::start_with_metrics(&policy);
    for question in ["easy", "hard"] {
        ask(&served.url, question, json!({})).await;
    }
    // Kept upstream, it is asked of one tier only.
    ask(&served.url, "stored", json!({"store": true})).await;
    let shown = async || client().get(&metrics).send().await.expect("metrics").text().await.expect("text");
    for _ in 0..100 {
        if shown().await.contains("cascade_exchanges_recorded_total 2") {
            break;
        }
        prompt_cascade::clock::Clock::sleep(
            &prompt_cascade::clock::SystemClock::start(),
            std::time::Duration::from_millis(50),
        )
        .await;
    }
    let text = shown().await;
    assert!(text.contains("cascade_cost_usd_total{tier=\"large\",kind=\"shadow\"} 0.00015\n"), "{text}");
    assert!(
        text.contains("cascade_attempts_total{tier=\"large\",result=\"accepted\"} 2\n"),
        "shadows are no attempts: {text}"
    );
    served.stop();
    let exchanges = recorded(&folder.path().join("kept"));
    assert_eq!(exchanges.len(), 2, "none of a share of 0, and the stored one is asked of one tier");
    assert!(exchanges.iter().all(|exchange| exchange.answers.len() == 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_split_over_frames_and_a_file_cut_short_do_no_harm() {
    let folder = tempfile::tempdir().expect("a folder");
    let fake = Fake::start(|_: &Seen| {
        let frame = |text: &str| {
            json!({"id": "c", "choices": [{"index": 0, "delta": {"content": text},
                "logprobs": {"content": [{"token": text, "logprob": -0.5}]}, "finish_reason": null}]})
            .to_string()
        };
        let parts = ["the key is sk-abc", "defghijklmnop", " as you know"].map(frame);
        response(200, "text/event-stream", sse(&[&parts[0], &parts[1], &parts[2], END, "[DONE]"]))
    })
    .await;
    let policy = two_tiers(folder.path(), &fake.base_url, "");
    append(&policy, "record: { to: kept }\n");
    let served = Served::start(Some(&policy));
    for number in 0..40 {
        ask(&served.url, &format!("question {number}: {}", "x".repeat(number * 97)), json!({"stream": true})).await;
    }
    served.stop();
    let kept = folder.path().join("kept");
    let exchanges = recorded(&kept);
    assert_eq!(exchanges.len(), 40);
    let answer = exchanges[0].answers["small"].answer(Endpoint::Chat).expect("an answer");
    assert_eq!(answer.choices[0].text, "the key is [redacted] as you know");
    assert_eq!(answer.choices[0].logprobs, [-0.5; 3]);
    let [file] = files(std::slice::from_ref(&kept)).expect("files").try_into().expect("one file");
    let whole = std::fs::read(&file).expect("readable");
    let text = String::from_utf8(zstd::decode_all(&whole[..]).expect("zstd")).expect("UTF-8");
    assert!(!text.contains("defghijklmnop"), "{text}");
    // As a crash leaves it.
    std::fs::write(&file, &whole[..whole.len() * 2 / 3]).expect("written");
    assert!(recorded(&kept).len() < 40);
}

#[test]
fn what_records_nothing_or_nowhere_is_refused_before_it_serves() {
    let folder = tempfile::tempdir().expect("a folder");
    let policy = two_tiers(folder.path(), "http://127.0.0.1:9/v1", "");
    append(&policy, "record: { to: kept, share: 0 }\n");
    let checked = cascade().arg("check").arg(&policy).env("TEST_KEY", "x").output().expect("it runs");
    let text = shown(&checked);
    assert!(text.starts_with("exit code: 1") && text.contains("nothing would be recorded"), "{text}");
    let policy = two_tiers(folder.path(), "http://127.0.0.1:9/v1", "");
    std::fs::write(folder.path().join("kept"), "a file").expect("written");
    append(&policy, "record: { to: kept }\n");
    let served =
        cascade().args(["serve", "--listen", "127.0.0.1:0", "--policy"]).arg(&policy).env("TEST_KEY", "x").output();
    let text = shown(&served.expect("it runs"));
    assert!(text.starts_with("exit code: 1") && text.contains("cannot record to"), "{text}");
}
