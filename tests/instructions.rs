//! How many instructions a request costs, counted by valgrind's callgrind: the same on
//! every machine, so that a step that grows dear is seen. Only of release builds:
//! `cargo test --release --test instructions -- --nocapture`.

mod support;

use std::path::Path;
use std::process::{Command, Stdio};

use support::{Fake, append, cascade, client, completion, response, two_tiers};

/// What a step may cost, 15% over what it did when this was written.
const MOST_A_STEP: u64 = 375_000;
/// Requests before counting, and counted.
const BEFORE: u64 = 50;
const COUNTED: u64 = 200;

/// A kilobyte of answer with fifty logprobs in OpenAI's shape.
fn answer() -> String {
    let text: Vec<String> = (0..150).map(|n| format!("word{n}")).collect();
    let mut answer = completion(&text.join(" "), &[]);
    let token = |n: u32| {
        serde_json::json!({"token": format!(" w{n}"), "logprob": -0.01, "bytes": [32, 119],
        "top_logprobs": [{"token": format!(" w{n}"), "logprob": -0.01, "bytes": [32, 119]}]})
    };
    answer["choices"][0]["logprobs"] = serde_json::json!({"content": (0..50).map(token).collect::<Vec<_>>()});
    answer.to_string()
}

/// Instructions of a gateway that answers so many requests, each another prompt.
async fn instructions(policy: &Path, key: &str, requests: u64) -> u64 {
    let mut gateway = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", env!("CARGO_BIN_EXE_cascade")])
        .args(["serve", "--quiet", "--listen", "127.0.0.1:0", "--policy"])
        .arg(policy)
        .env("TEST_KEY", "sk-test-0123456789abcdef")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("valgrind starts");
    let mut first = String::new();
    let stdout = gateway.stdout.take().expect("stdout");
    std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut first).expect("a first line");
    let url = first.split_once("listening on ").and_then(|(_, rest)| rest.split_once("/v1,")).expect("an address").0;
    let client = client();
    for n in 0..requests {
        let question = format!("Say something of about a kilobyte on the subject of number {n:010}, and no more.");
        let body = serde_json::json!({"model": "two", "temperature": 0, "messages": [
            {"role": "system", "content": "You are brief."}, {"role": "user", "content": question}]});
        let ask = client.post(format!("{url}/v1/chat/completions")).bearer_auth(key).body(body.to_string());
        let back = ask.send().await.expect("an answer");
        assert_eq!(back.headers()["x-cascade-tier"], "small");
        assert!(back.text().await.expect("a body").contains("\"logprobs\":null"));
    }
    assert!(Command::new("kill").args(["-TERM", &gateway.id().to_string()]).status().expect("kill").success());
    let said = gateway.wait_with_output().expect("it ends").stderr;
    let said = String::from_utf8_lossy(&said);
    let counted = said.lines().find_map(|line| line.split_once("Collected : ")?.1.trim().parse().ok());
    counted.unwrap_or_else(|| panic!("{said}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_costs_no_more_than_it_did() {
    if cfg!(debug_assertions) || Command::new("valgrind").arg("--version").output().is_err() {
        eprintln!("SKIPPED: instructions are counted of release builds, where valgrind is there");
        return;
    }
    let answer = answer();
    let fake = Fake::start(move |_| response(200, "application/json", answer.clone())).await;
    let folder = tempfile::tempdir().expect("a folder");
    let limits = ", cache: { ttl: 1h }, limits: { concurrent: 100, requests_per_minute: 1000000 }";
    let policy = two_tiers(folder.path(), &fake.base_url, limits);
    append(&policy, "keys: keys.json\n");
    let made = cascade().args(["keys", "create", "k", "--file"]).arg(folder.path().join("keys.json")).output();
    let key = String::from_utf8(made.expect("it runs").stdout).expect("UTF-8").trim().to_owned();
    let before = instructions(&policy, &key, BEFORE).await;
    let all = instructions(&policy, &key, BEFORE + COUNTED).await;
    let a_step = (all - before) / COUNTED;
    println!("{a_step} instructions a step, {MOST_A_STEP} at most");
    assert!(a_step <= MOST_A_STEP, "{a_step}");
}
