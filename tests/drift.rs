//! A calibrated gateway that watches itself, over a real socket.

mod support;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use support::{Fake, Seen, cascade, client, completion, response, root, shown};

/// A calibrated policy over a live upstream: fixtures of facts say how tiers of
/// these names answer.
fn tuned(folder: &Path, base_url: &str, drift: &str) -> PathBuf {
    let tuned = folder.join("tuned.yaml");
    let run = cascade()
        .args([
            "calibrate",
            "fixtures",
            "--policy",
            "tests/policies/traffic.yaml",
            "--max-loss",
            "0.3",
            "--confidence",
            "0.8",
            "-o",
        ])
        .arg(&tuned)
        .output()
        .expect("runs");
    assert!(run.status.success(), "{}", shown(&run));
    let yaml = std::fs::read_to_string(&tuned).expect("written");
    let live = yaml.replace("fixtures: embedded", &format!("base_url: \"{base_url}\"")) + drift;
    std::fs::write(&tuned, live).expect("written");
    tuned
}

struct Serving {
    child: std::process::Child,
    url: String,
    metrics: String,
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Serves with metrics on a free port, and traces to a file.
fn serve(policy: &Path, traces: &Path) -> Serving {
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let mut command = cascade();
    command.args(["serve", "--listen", "127.0.0.1:0", "--admin", &free.to_string(), "--policy"]).arg(policy);
    command.arg("--traces").arg(traces);
    let mut child =
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::null()).spawn().expect("starts");
    let mut first = String::new();
    let stdout = child.stdout.take().expect("stdout");
    std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut first).expect("a first line");
    let url = first.split_once("listening on ").and_then(|(_, rest)| rest.split_once("/v1,")).expect("an address").0;
    Serving { child, url: url.to_owned(), metrics: format!("http://{free}/metrics") }
}

async fn metric(serving: &Serving, name: &str) -> f64 {
    let text = client().get(&serving.metrics).send().await.expect("metrics").text().await.expect("text");
    let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no {name} in {text}"));
    line.split(' ').next_back().and_then(|value| value.parse().ok()).expect("a number")
}

async fn ask(serving: &Serving, number: u32) -> reqwest::Response {
    let body = format!(
        r#"{{"model":"traffic","temperature":0,"messages":[{{"role":"user","content":"What is {number}?"}}]}}"#
    );
    client().post(format!("{}/v1/chat/completions", serving.url)).body(body).send().await.expect("an answer")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alarm_is_raised_once_answers_drift_away_and_a_safer_point_is_taken() {
    let drifted = Arc::new(AtomicBool::new(false));
    let turned = drifted.clone();
    let fake = Fake::start(move |seen: &Seen| {
        // Sure of themselves all the time; after the turn the smaller ones say something else.
        let is_top = seen.json()["model"] == "davinci";
        let text = if turned.load(Ordering::SeqCst) && !is_top { "Something else" } else { "Canberra" };
        response(200, "application/json", completion(text, &[-0.0001; 3]).to_string())
    })
    .await;
    let folder = tempfile::tempdir().expect("a folder");
    let traces = folder.path().join("traces.jsonl");
    let policy = tuned(folder.path(), &fake.base_url, "drift: { share: 1.0, confidence: 0.95 }\n");
    let serving = serve(&policy, &traces);
    let began = metric(&serving, "cascade_policy_point").await;
    assert!(began >= 1.0, "it starts somewhere down the path");
    let mut served_small = 0;
    for number in 0..40 {
        let answer = ask(&serving, number).await;
        served_small += usize::from(answer.headers()["x-cascade-tier"] != "davinci");
    }
    assert!(served_small > 30, "sure answers are served from smaller tiers: {served_small}");
    // Comparisons come after the answers.
    let mut looks = 0;
    while metric(&serving, "cascade_drift_compared_total").await < 35.0 {
        looks += 1;
        assert!(looks < 2000, "{} are compared", metric(&serving, "cascade_drift_compared_total").await);
    }
    assert!(metric(&serving, "cascade_drift_alarms_total").await < 0.5, "all is well");

    drifted.store(true, Ordering::SeqCst);
    let mut asked = 0;
    while metric(&serving, "cascade_drift_alarms_total").await < 0.5 {
        asked += 1;
        assert!(asked < 400, "the alarm is raised: wealth {}", metric(&serving, "cascade_drift_wealth").await);
        ask(&serving, 1000 + asked).await;
    }
    assert!(metric(&serving, "cascade_policy_point").await < began, "a safer point is in force");
    println!("the alarm came after {asked} drifted answers");

    // The trace of a request is found by its id and says why.
    let answer = ask(&serving, 5000).await;
    let id = answer.headers()["x-cascade-request-id"].to_str().expect("text").to_owned();
    let explain = || cascade().args(["explain", &id, "--in"]).arg(&traces).output().expect("runs");
    // It is written after the answer.
    let run = (0..200).map(|_| explain()).find(|run| run.status.success()).unwrap_or_else(explain);
    let text = shown(&run);
    assert!(run.status.success() && text.contains("served    ") && text.contains("score   "), "{text}");
    assert!(text.contains("  moved   ") || text.contains("  by it   "), "{text}");
    assert!(!text.contains("What is 5000"), "texts are left out: {text}");
}

#[test]
fn an_exchange_is_explained_under_a_policy_and_a_stranger_is_not() {
    let run = cascade().args(["explain", "facts-001", "--in", "fixtures"]).output().expect("runs");
    insta::assert_snapshot!("explain_an_exchange", shown(&run));
    let run = cascade().args(["explain", "nobody", "--in", "fixtures"]).output().expect("runs");
    assert!(!run.status.success() && shown(&run).contains("neither a trace nor an exchange with the id nobody"));
}

#[test]
fn a_watch_needs_something_to_watch() {
    let folder = tempfile::tempdir().expect("a folder");
    let source = std::fs::read_to_string(root().join("tests/policies/traffic.yaml")).expect("readable");
    for (drift, why) in
        [("drift: {}\n", "`drift` without `optimal_stopping`"), ("drift: { share: 0 }\n", "watches nothing")]
    {
        let path = folder.path().join("policy.yaml");
        std::fs::write(&path, source.clone() + drift).expect("written");
        let run = cascade().arg("check").arg(&path).output().expect("runs");
        assert!(!run.status.success() && shown(&run).contains(why), "{}", shown(&run));
    }
}
