//! Planted secrets: keys of ours, keys of clients, and what clients say. None of them
//! is in anything that the program puts out.

mod support;

use std::path::Path;

use axum::response::Response;
use http::HeaderMap;
use prompt_cascade::clock::{Clock, SystemClock};
use support::{Fake, Seen, Served, append, cascade, client, completion, response, shown, two_tiers};

/// A provider's key that does not look like one.
const OURS: &str = "Zq7RvNotLikeAnyOther0123456789";
/// What a client sends by mistake.
const FOREIGN: &str = "Foreign8f2kBearer0123456789abc";
const QUESTION: &str = "the-patient-in-room-twelve";
const ANSWER: &str = "has-got-the-gout";

/// An upstream that says in each of its errors what headers it got.
fn telltale(seen: &Seen) -> Response {
    let told = format!("{:?}", seen.headers);
    let envelope =
        serde_json::json!({"error": {"message": told, "type": "x", "param": null, "code": null}}).to_string();
    let asked = String::from_utf8_lossy(&seen.body).into_owned();
    let is = |word: &str| asked.contains(word) || seen.path.contains(word);
    match () {
        () if is("plain401") => response(401, "text/plain", told),
        () if is("json401") => response(401, "application/json", envelope),
        () if is("json400") => response(400, "application/json", envelope),
        () if is("html500") => response(500, "text/html", format!("<html>{told}</html>")),
        () if is("error200") => response(200, "application/json", envelope),
        () if is("junk200") => response(200, "text/html", told),
        () if is("frame200") => response(200, "text/event-stream", format!("data: {envelope}\n\n")),
        () if is("late200") => {
            let text = format!("data: {}\n\ndata: {envelope}\n\n", support::WORD);
            response(200, "text/event-stream", text)
        }
        () => response(200, "application/json", completion(ANSWER, &[-0.01]).to_string()),
    }
}

const FAULTS: [&str; 8] = ["plain401", "json401", "json400", "html500", "error200", "junk200", "frame200", "late200"];

/// Panics where a text holds one of these.
fn clean(what: &str, text: &str, secrets: &[&str]) {
    for secret in secrets {
        assert!(!text.contains(secret), "{what} tells {secret}: {text}");
    }
}

fn run(arguments: &[&str]) -> String {
    shown(&cascade().env("TEST_KEY", OURS).args(arguments).output().expect("it runs"))
}

fn head(headers: &HeaderMap) -> String {
    format!("{headers:?}")
}

fn path_of(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

#[tokio::test(flavor = "multi_thread")]
async fn no_output_tells_a_secret() {
    let folder = tempfile::tempdir().expect("a folder");
    let fake = Fake::start(telltale).await;
    let policy = two_tiers(folder.path(), &fake.base_url, ", cache: { ttl: 1h }, retries: { times: 0 }");
    append(&policy, "keys: keys.json\npassthrough: { upstream: up }\n");
    let keys_file = folder.path().join("keys.json");
    let keys = |arguments: &[&str]| {
        let output = cascade().arg("keys").args(arguments).args(["--file", path_of(&keys_file)]).output();
        String::from_utf8(output.expect("it runs").stdout).expect("UTF-8")
    };
    let key = keys(&["create", "alice", "--may", "bypass,tiers"]).trim().to_owned();
    let secret = key.rsplit('_').next().expect("a secret").to_owned();
    let keys_only = [OURS, FOREIGN, secret.as_str()];
    let everything = [&keys_only[..], &[QUESTION, ANSWER]].concat();

    let traces = folder.path().join("traces.jsonl");
    let free =
        std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").to_string();
    let arguments = ["--traces", path_of(&traces), "--admin", &free];
    let served = Served::start_as(Some(&policy), &[("TEST_KEY", OURS)], &arguments);
    let url = format!("{}/v1", served.url);
    let mut ids = Vec::new();
    for fault in FAULTS.into_iter().chain(["nothing"]) {
        for stream in [false, true] {
            for bearer in [key.as_str(), FOREIGN] {
                for path in ["chat/completions", &format!("files/{fault}")] {
                    let body = serde_json::json!({"model": "two", "stream": stream,
                        "messages": [{"role": "user", "content": format!("{QUESTION} {fault} {stream}")}]});
                    let ask = client().post(format!("{url}/{path}")).bearer_auth(bearer).body(body.to_string());
                    let back = ask.header("cookie", FOREIGN).send().await.expect("a response");
                    if let Some(id) = back.headers().get("x-cascade-request-id") {
                        ids.push(id.to_str().expect("ascii").to_owned());
                    }
                    let what = format!("{path} with {fault}, stream {stream}");
                    clean(&what, &head(back.headers()), &keys_only);
                    // What passes through as a success is not looked at.
                    if path.starts_with("chat") || back.status() != 200 {
                        clean(&what, &back.text().await.unwrap_or_default(), &[OURS, secret.as_str()]);
                    }
                }
            }
        }
    }
    assert!(
        fake.seen().len() > 20
            && fake.seen().iter().all(|seen| head(&seen.headers).contains("Sensitive")
                || seen.headers["authorization"] == format!("Bearer {OURS}"))
    );

    // A key written into the policy by mistake, where the policy is read again.
    let before = std::fs::read_to_string(&policy).expect("readable");
    let literal = before.replace("\"${TEST_KEY}\"", FOREIGN).replace("name: two", "name: two\nnonsense: 1");
    std::fs::write(&policy, &literal).expect("written");
    let clock = SystemClock::start();
    let metrics = format!("http://{free}/metrics");
    loop {
        let text = client().get(&metrics).send().await.expect("metrics").text().await.expect("a body");
        clean("metrics", &text, &everything);
        if text.contains("cascade_reloads_total{result=\"failure\"} 1") {
            break;
        }
        assert!(clock.now().as_secs() < 10, "{text}");
        clock.sleep(std::time::Duration::from_millis(100)).await;
    }
    for path in ["recent", "policy", ""] {
        let text = client().get(format!("http://{free}/{path}")).send().await.expect("a response").text().await;
        clean(&format!("the dashboard's /{path}"), &text.expect("a body"), &everything);
    }
    clean("check of a literal key", &run(&["check", path_of(&policy)]), &everything);
    for odd in [
        "\"two Foreign8f2kBearer0123456789abc words\"",
        "'a,Foreign8f2kBearer0123456789abc}'",
        "a#Foreign8f2kBearer0123456789abc",
    ] {
        std::fs::write(&policy, before.replace("\"${TEST_KEY}\"", odd)).expect("written");
        clean("check of an odd key", &run(&["check", path_of(&policy)]), &everything);
    }
    std::fs::write(&policy, &before).expect("written");
    clean("check", &run(&["check", path_of(&policy)]), &everything);
    clean("check --effective", &run(&["check", "--effective", path_of(&policy)]), &everything);
    let wrong = before.replace(&format!("\"{}\"", fake.base_url), "\"${TEST_KEY}\"");
    std::fs::write(&policy, &wrong).expect("written");
    clean("a key where a URL should be", &run(&["check", path_of(&policy)]), &everything);

    clean("the log", &served.stop(), &everything);
    let lines = std::fs::read_to_string(&traces).expect("traces");
    assert!(lines.lines().count() >= 18, "{lines}");
    clean("traces", &lines, &everything);
    assert!(!ids.is_empty());
    for id in &ids {
        clean("explain", &run(&["explain", id, "--in", path_of(&traces)]), &everything);
    }
    clean("keys list", &keys(&["list"]), &everything);
    for file in std::fs::read_dir(folder.path()).expect("readable") {
        let file = file.expect("readable").path();
        clean(path_of(&file), &std::fs::read_to_string(&file).expect("UTF-8"), &everything);
    }
}
