//! A new user's first hour, command by command; what the program said is kept.

mod support;

use std::fmt::Write as _;
use std::path::Path;

use serde_json::{Value, json};
use support::{Fake, Seen, Served, cascade, client, completion, response, shown};

/// Two models; the small one is not sure of what is hard.
fn upstream(seen: &Seen) -> axum::response::Response {
    if seen.path.ends_with("/models") {
        let data = ["tiny-3b", "grand-70b"].map(|model| json!({"id": model, "object": "model"}));
        return response(200, "application/json", json!({"object": "list", "data": data}).to_string());
    }
    let asked = seen.json();
    let is_hard = asked["messages"].to_string().contains("hard");
    let logprobs: &[f64] = match asked["logprobs"] == json!(true) {
        true if is_hard => &[-2.0, -1.5],
        true => &[-0.01, -0.02],
        false => &[],
    };
    response(200, "application/json", completion(if is_hard { "perhaps" } else { "yes" }, logprobs).to_string())
}

struct Session<'a> {
    folder: &'a Path,
    base_url: &'a str,
    transcript: String,
}

impl Session<'_> {
    fn run(&mut self, line: &str) -> String {
        let words: Vec<&str> = line.split_whitespace().skip(1).collect();
        let mut command = cascade();
        command.current_dir(self.folder).env("OPENAI_API_KEY", "sk-test-0123456789abcdef");
        let output = command.env("OPENAI_BASE_URL", self.base_url).args(words).output().expect("it runs");
        let told = shown(&output);
        let _ = write!(self.transcript, "$ {line}\n{told}\n");
        told
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn from_init_to_a_replay_of_what_was_recorded() {
    let folder = tempfile::tempdir().expect("a folder");
    let fake = Fake::start(upstream).await;
    let mut session = Session { folder: folder.path(), base_url: &fake.base_url, transcript: String::new() };
    session.run("cascade init --no-local");
    session.run("cascade check policy.yaml");
    session.run("cascade doctor --policy policy.yaml --free");
    session.run("cascade doctor --policy policy.yaml");
    let path = folder.path().join("policy.yaml");
    let made = std::fs::read_to_string(&path).expect("written");
    let _ = write!(session.transcript, "$ cat policy.yaml\n{made}\n");
    // As its comments say: prices, keys, and a recording.
    let edited = made
        .replacen("# price: { input: ..., output: ... }", "price: { input: 0.1, output: 0.4 }", 1)
        .replacen("# price: { input: ..., output: ... }", "price: { input: 2, output: 8 }", 1)
        .replace("# record:", "keys: keys.json\nrecord:")
        // Which prompts those would be nobody knows.
        .replace(", every_tier: 0.02", "");
    std::fs::write(&path, edited).expect("written");
    let key = session.run("cascade keys create alice --dollars-per-month 20 --file keys.json");
    let key = key.split_whitespace().find(|word| word.starts_with("pck_")).expect("a key").to_owned();

    let traces = folder.path().join("traces.jsonl");
    let variables = [("OPENAI_API_KEY", "sk-test-0123456789abcdef"), ("OPENAI_BASE_URL", &fake.base_url)];
    let served = Served::start_as(Some(&path), &variables, &["--traces", traces.to_str().expect("UTF-8")]);
    let mut ids = Vec::new();
    for (question, bearer) in [("easy", &*key), ("hard", &*key), ("easy", &*key), ("easy", "sk-somebody-elses")] {
        let body = json!({"model": "mine", "temperature": 0, "messages": [{"role": "user", "content": question}]});
        let ask = client().post(format!("{}/v1/chat/completions", served.url)).bearer_auth(bearer);
        let back = ask.body(body.to_string()).send().await.expect("a response");
        let _ = write!(session.transcript, "POST {body}\n{}\n", back.status());
        let mut headers: Vec<String> = back
            .headers()
            .iter()
            .filter(|(name, _)| name.as_str().starts_with("x-cascade-"))
            .map(|(name, value)| format!("{name}: {}\n", value.to_str().expect("ascii")))
            .collect();
        headers.sort();
        session.transcript += &headers.concat();
        ids.extend(back.headers().get("x-cascade-request-id").map(|id| id.to_str().expect("ascii").to_owned()));
        let body: Value = serde_json::from_slice(&back.bytes().await.expect("a body")).expect("JSON");
        let told = if body["error"].is_null() { &body["choices"][0]["message"] } else { &body["error"] };
        let _ = write!(session.transcript, "{told}\n\n");
    }
    let _ = write!(session.transcript, "standard error of the gateway:\n{}\n", served.stop());
    session.run(&format!("cascade explain {} --in traces.jsonl", ids[1]));
    session.run("cascade savings traces.jsonl");
    session.run("cascade keys list --file keys.json");
    session.run("cascade replay recordings --policy policy.yaml");
    let chats = r#"{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}], "model": "tiny-3b"}"#;
    std::fs::write(folder.path().join("chats.jsonl"), chats).expect("written");
    session.run("cascade import chats.jsonl -o imported.jsonl");

    let transcript = session.transcript.replace(&folder.path().display().to_string(), "/home/user");
    let mut settings = insta::Settings::clone_current();
    for (pattern, shown) in [
        (r"127\.0\.0\.1:\d+", "127.0.0.1:PORT"),
        (r"req_[0-9a-f]{32}", "req_ID"),
        (r"pck_[0-9a-f_]+", "pck_KEY"),
        (r"(?m)^ [0-9a-f]{12}  ", " KEY-ID        "),
        (r"in [A-Z][a-z]{2} \d{4}", "in MONTH YEAR"),
        (r"\d{4}-\d\d-\d\dT[\d:.]+Z", "TIME"),
        (r"([ ,])\d+(\.\d+)? ms", "${1}N ms"),
        (r"(?m)^(x-cascade-overhead-ms:|latency ).*$", "$1 ..."),
        (r" ms=\d+", " ms=N"),
        (
            r"digest [0-9a-f]{12}|policy [0-9a-f]{12}|(x-cascade-)policy: [0-9a-f]{12}|\([0-9a-f]{12}\)",
            "${1}policy DIGEST",
        ),
    ] {
        settings.add_filter(pattern, shown);
    }
    settings.bind(|| insta::assert_snapshot!(transcript));
}

#[test]
fn the_demo_says_what_it_has_saved() {
    let output = cascade()
        .args([
            "demo",
            "--listen",
            "127.0.0.1:0",
            "--admin",
            "127.0.0.1:0",
            "--requests",
            "60",
            "--rate",
            "200",
            "--quiet",
        ])
        .output()
        .expect("it runs");
    let told = shown(&output);
    assert!(told.starts_with("exit code: 0"), "{told}");
    for line in
        ["cascade: dashboard at http://127.0.0.1:", "\n60 requests, ", "\nlast tier    $", "  saved $", "from caches"]
    {
        assert!(told.contains(line), "{line}\n{told}");
    }
    // A place that is taken is said at once.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let output = cascade().args(["demo", "--listen", "127.0.0.1:0", "--admin", &address]).output().expect("it runs");
    let told = shown(&output);
    assert!(told.starts_with("exit code: 1") && told.contains(&format!("cannot listen on {address}")), "{told}");
}
