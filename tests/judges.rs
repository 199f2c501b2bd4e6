//! Scores that are paid for: who is asked, when, and what it costs.

mod support;

use axum::response::Response;
use serde_json::{Value, json};
use support::{Fake, Seen, Served, cascade, client, completion, response, shown};

/// A ladder whose small tier is scored by `score`.
fn policy(folder: &std::path::Path, base_url: &str, score: &str) -> std::path::PathBuf {
    let path = folder.join("policy.yaml");
    let text = format!(
        r#"name: judged
upstreams: {{ up: {{ base_url: "{base_url}", api_key: "${{TEST_KEY}}" }} }}
tiers:
  - {{ name: tiny, model: tiny-model, upstream: up, price: {{ input: 1, output: 1 }}, accept: {{ gates: [not_empty], score: agreement, at_least: 0.9 }} }}
  - {{ name: small, model: small-model, upstream: up, price: {{ input: 1, output: 1 }}, accept: {{ gates: [not_empty], score: {score}, at_least: 0.7 }} }}
  - {{ name: large, model: large-model, upstream: up, price: {{ input: 10, output: 10 }} }}
routes: [{{ when: {{ model: two }}, start_at: small }}]
"#
    );
    std::fs::write(&path, text).expect("written");
    path
}

fn is_judgement(seen: &Seen) -> bool {
    String::from_utf8_lossy(&seen.body).contains("Is the proposed answer correct?")
}

/// Answers "an answer" of this confidence; judges that it is true with this chance.
fn upstream(confidence: f64, chance: f64) -> impl Fn(&Seen) -> Response + Clone + Send + Sync + 'static {
    move |seen| {
        let body = if is_judgement(seen) {
            let mut body = completion("T", &[]);
            let top = json!([{"token": "T", "logprob": (0.5 * chance).ln()}, {"token": " F", "logprob": (0.5 * (1.0 - chance)).ln()}]);
            body["choices"][0]["logprobs"] = json!({"content": [{"token": "T", "logprob": -0.1, "top_logprobs": top}]});
            body
        } else {
            completion("an answer", &[confidence.ln()])
        };
        response(200, "application/json", body.to_string())
    }
}

async fn ask(url: &str) -> reqwest::Response {
    let body = r#"{"model":"two","temperature":0,"messages":[{"role":"user","content":"Why?"}]}"#;
    client().post(format!("{url}/v1/chat/completions")).body(body).send().await.expect("an answer")
}

fn header(response: &reqwest::Response, name: &str) -> String {
    response.headers().get(name).map_or("none".to_owned(), |v| v.to_str().expect("text").to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_judge_is_asked_only_inside_its_band_and_its_word_decides() {
    let score = "[{ judge: { by: large, between: [0.4, 0.8] } }, confidence]";
    for (confidence, chance, attempts, asked) in [
        (0.6, 0.9, "small:accepted(0.90>=0.70)", vec!["small-model", "large-model"]),
        (0.6, 0.2, "small:rejected(0.20<0.70),large:flowing", vec!["small-model", "large-model", "large-model"]),
        (0.95, 0.2, "small:accepted(0.95>=0.70)", vec!["small-model"]),
        (0.1, 0.9, "small:rejected(0.10<0.70),large:flowing", vec!["small-model", "large-model"]),
    ] {
        let fake = Fake::start(upstream(confidence, chance)).await;
        let folder = tempfile::tempdir().expect("a folder");
        let served = Served::start(Some(&policy(folder.path(), &fake.base_url, score)));
        let answer = ask(&served.url).await;
        let is = header(&answer, "x-cascade-attempts").replace("large:accepted", "large:flowing");
        assert_eq!(is, attempts, "confidence {confidence}, judged {chance}");
        assert_eq!(fake.models(), asked);
        let judgements = fake.seen().iter().filter(|s| is_judgement(s)).count();
        assert_eq!(judgements, usize::from((0.4..=0.8).contains(&confidence)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_judgement_is_paid_for() {
    let fake = Fake::start(upstream(0.6, 0.9)).await;
    let folder = tempfile::tempdir().expect("a folder");
    let served = Served::start(Some(&policy(folder.path(), &fake.base_url, "{ judge: { by: large } }")));
    let answer = ask(&served.url).await;
    // 15 tokens at 1 dollar a million, and 15 for the judge at 10.
    assert_eq!(header(&answer, "x-cascade-cost-usd"), "0.000165");
    let asked = fake.seen();
    let question = asked.last().expect("a judgement").json();
    assert_eq!(
        (&question["model"], &question["temperature"], &question["max_tokens"]),
        (&json!("large-model"), &json!(0), &json!(1))
    );
    let text = question["messages"][0]["content"].as_str().expect("text");
    assert!(text.contains("Why?") && text.contains("an answer"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tier_may_judge_itself_and_a_judge_that_says_nothing_is_no_judge() {
    let fake = Fake::start(upstream(0.6, 0.75)).await;
    let folder = tempfile::tempdir().expect("a folder");
    let served = Served::start(Some(&policy(folder.path(), &fake.base_url, "self_check")));
    assert_eq!(header(&ask(&served.url).await, "x-cascade-attempts"), "small:accepted(0.75>=0.70)");
    assert_eq!(fake.models(), ["small-model", "small-model"]);

    let mute = Fake::start(|_: &Seen| response(200, "application/json", completion("Perhaps", &[]).to_string())).await;
    let served = Served::start(Some(&policy(folder.path(), &mute.base_url, "self_check")));
    let attempts = header(&ask(&served.url).await, "x-cascade-attempts");
    assert!(attempts.starts_with("small:rejected(unscored)"), "{attempts}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_external_service_is_sent_request_and_answer() {
    let fake = Fake::start(upstream(0.6, 0.9)).await;
    let judge = Fake::start(|_: &Seen| response(200, "application/json", r#"{"score": 0.85, "why": "fine"}"#)).await;
    let folder = tempfile::tempdir().expect("a folder");
    let score = format!("{{ external: {{ url: \"{}/score\" }} }}", judge.base_url);
    let served = Served::start(Some(&policy(folder.path(), &fake.base_url, &score)));
    assert_eq!(header(&ask(&served.url).await, "x-cascade-attempts"), "small:accepted(0.85>=0.70)");
    let sent: Value = judge.seen()[0].json();
    assert_eq!(sent["answer"], "an answer");
    assert_eq!(sent["request"]["messages"][0]["content"], "Why?");
    for wrong in [r#"{"score": 7}"#, "down", "{}"] {
        let judge = Fake::start(move |_: &Seen| response(200, "application/json", wrong)).await;
        let score = format!("{{ external: {{ url: \"{}/score\" }} }}", judge.base_url);
        let served = Served::start(Some(&policy(folder.path(), &fake.base_url, &score)));
        let attempts = header(&ask(&served.url).await, "x-cascade-attempts");
        assert!(attempts.starts_with("small:rejected(unscored)"), "{wrong}: {attempts}");
        assert!(served.stop().contains("not judged"), "the log says why");
    }
}

#[test]
fn a_recorded_mark_needs_no_judge_and_its_cost_is_estimated() {
    let folder = tempfile::tempdir().expect("a folder");
    let policy = policy(folder.path(), "http://127.0.0.1:9/v1", "{ judge: { by: large } }");
    let body = completion("an answer", &[]);
    let line = json!({"id": "a", "path": "/v1/chat/completions",
        "request": {"model": "two", "temperature": 0, "messages": [{"role": "user", "content": "Why?"}]},
        "answers": {"small": {"status": 200, "body": body, "marks": {"judge": 0.9}, "quality": 1.0},
                    "large": {"status": 200, "body": body, "quality": 1.0}}});
    let file = folder.path().join("one.jsonl");
    std::fs::write(&file, line.to_string()).expect("written");
    let run = cascade().args(["replay", "--json", "--policy"]).arg(&policy).arg(&file).output().expect("runs");
    let report: Value = serde_json::from_slice(&run.stdout).unwrap_or_else(|e| panic!("{e}: {}", shown(&run)));
    assert_eq!(report["tiers"][1]["accepted"], 1, "{report}");
    assert_eq!(report["cost"]["estimated"], 1);
    // 15 tokens at 1 dollar a million; the judge's some 40 at 10.
    let usd = report["cost"]["usd"].as_f64().expect("known");
    assert!(usd > 0.0003 && usd < 0.001, "{usd}");
}

#[test]
fn the_smallest_tier_judges_nobody() {
    let folder = tempfile::tempdir().expect("a folder");
    for (score, why) in [
        ("{ judge: { by: tiny } }", "`tiny` is the smallest tier: its judgements are no better than chance"),
        ("{ judge: { by: lrge } }", "did you mean `large`?"),
        ("{ judge: { by: large, between: [0.8, 0.4] } }", "not two scores, the lower one first"),
        ("judge", "`judge` needs a value"),
    ] {
        let path = policy(folder.path(), "http://127.0.0.1:9/v1", score);
        let run = cascade().args(["check", "--no-env"]).arg(&path).output().expect("runs");
        assert!(shown(&run).contains(why), "{score}: {}", shown(&run));
    }
    let own = std::fs::read_to_string(policy(folder.path(), "http://127.0.0.1:9/v1", "confidence")).expect("read");
    let path = folder.path().join("own_word.yaml");
    std::fs::write(&path, own.replace("score: agreement", "score: self_check")).expect("written");
    let run = cascade().args(["check", "--no-env"]).arg(&path).output().expect("runs");
    assert!(shown(&run).contains("its word on its own answers is no better than chance"), "{}", shown(&run));
}
