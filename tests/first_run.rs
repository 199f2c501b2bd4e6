//! The first steps with real models: a policy from what is there, and whether it works.

mod support;

use axum::response::Response;
use serde_json::json;
use support::{Fake, Seen, append, cascade, completion, response, shown, two_tiers};

fn listing(models: &[&str]) -> Response {
    let data: Vec<_> = models.iter().map(|model| json!({"id": model, "object": "model"})).collect();
    response(200, "application/json", json!({"object": "list", "data": data}).to_string())
}

/// Its large model knows no logprobs; an unknown one is refused.
fn upstream(seen: &Seen) -> Response {
    if seen.path.ends_with("/models") {
        return listing(&["small-model-8b", "large-model-70b", "text-embed-1b"]);
    }
    let asked = seen.json();
    match asked["model"].as_str().unwrap_or_default() {
        "small-model-8b" if asked["logprobs"] == json!(true) => {
            response(200, "application/json", completion("yes", &[-0.1]).to_string())
        }
        "small-model-8b" | "large-model-70b" => response(200, "application/json", completion("yes", &[]).to_string()),
        _ => response(404, "application/json", r#"{"error":{"message":"no such model","type":"x"}}"#),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_policy_is_made_of_what_is_there_and_passes_the_doctor() {
    let folder = tempfile::tempdir().expect("a folder");
    let fake = Fake::start(upstream).await;
    let run = |arguments: &[&str]| {
        let mut command = cascade();
        command.current_dir(folder.path()).env("OPENAI_API_KEY", "sk-test-0123456789abcdef");
        command.env("OPENAI_BASE_URL", &fake.base_url).args(arguments);
        shown(&command.output().expect("it runs"))
    };
    let made = run(&["init", "--no-local"]);
    assert!(made.starts_with("exit code: 0"), "{made}");
    assert!(made.contains("wrote policy.yaml: ada (small-model-8b), davinci (large-model-70b)"), "{made}");
    let text = std::fs::read_to_string(folder.path().join("policy.yaml")).expect("written");
    assert!(text.contains("api_key: \"${OPENAI_API_KEY}\"") && !text.contains("sk-test"), "{text}");
    let again = run(&["init", "--no-local"]);
    assert!(again.starts_with("exit code: 1") && again.contains("--force writes over it"), "{again}");
    let checked = run(&["check", "policy.yaml"]);
    assert!(checked.starts_with("exit code: 0"), "{checked}");
    let told = run(&["doctor", "--policy", "policy.yaml"]);
    assert!(told.starts_with("exit code: 0"), "{told}");
    for line in [
        "ok    openai: lists 3 models, those of this policy among them",
        "ok    ada: small-model-8b at openai answers, in ",
        "warn  ada: no price, so its costs will be unknown",
        "ok    the wire is clean: ada answers the same straight and through the gateway",
        "5 fine, 2 to look at, 0 at fault",
    ] {
        assert!(told.contains(line), "{line}\n{told}");
    }
    assert!(!told.contains("sk-test"), "{told}");
    let asked = fake.seen().len();
    assert!(run(&["doctor", "--policy", "policy.yaml", "--free"]).starts_with("exit code: 0"));
    assert!(fake.seen()[asked..].iter().all(|seen| seen.path.ends_with("/models")), "nothing that costs");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_names_what_does_not_work() {
    let folder = tempfile::tempdir().expect("a folder");
    let fake = Fake::start(upstream).await;
    let policy = two_tiers(folder.path(), &fake.base_url, "");
    append(&policy, "tests: [{ answer: \"fine\", tier: small, expect: escalate }]\n");
    let run =
        || shown(&cascade().arg("doctor").arg("--policy").arg(&policy).env("TEST_KEY", "k").output().expect("it runs"));
    let told = run();
    assert!(told.starts_with("exit code: 1"), "{told}");
    for line in [
        "FAIL  a test expects escalate",
        "warn  up: does not list large-model, small-model",
        "FAIL  small: small-model at up: status 404: no such model",
        "FAIL  large: large-model at up: status 404: no such model",
    ] {
        assert!(told.contains(line), "{line}\n{told}");
    }
    let nowhere = two_tiers(folder.path(), "http://127.0.0.1:9/v1", "");
    let told = run();
    assert!(told.contains("warn  up: does not say which models it has: no answer: "), "{told}");
    drop(nowhere);
}

#[test]
fn without_a_key_or_a_server_it_says_what_to_do() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = cascade().current_dir(folder.path()).env_clear().args(["init", "--offline"]).output();
    let text = shown(&output.expect("it runs"));
    assert!(
        text.starts_with("exit code: 1") && text.contains("set one of OPENAI_API_KEY, OPENROUTER_API_KEY"),
        "{text}"
    );
    let output =
        cascade().current_dir(folder.path()).args(["init", "--offline"]).env("OPENAI_API_KEY", "sk-x").output();
    let text = shown(&output.expect("it runs"));
    assert!(text.starts_with("exit code: 0") && text.contains("davinci (gpt-4.1)"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn savings_are_told_from_traces() {
    let folder = tempfile::tempdir().expect("a folder");
    let fake = Fake::start(|seen: &Seen| {
        let logprob = if seen.json().to_string().contains("hard") { -3.0 } else { -0.01 };
        let stream = seen.json()["stream"] == json!(true);
        if stream {
            return response(
                200,
                "text/event-stream",
                support::sse(&[support::ROLE, support::WORD, support::END, support::USAGE, "[DONE]"]),
            );
        }
        response(200, "application/json", completion("yes", &[logprob]).to_string())
    })
    .await;
    let policy = two_tiers(folder.path(), &fake.base_url, ", cache: { ttl: 1h }");
    let traces = folder.path().join("traces.jsonl");
    let served = support::Served::start_as(Some(&policy), &[], &["--traces", traces.to_str().expect("UTF-8")]);
    let ask = async |question: &str, model: &str, stream: bool| {
        let body = json!({"model": model, "temperature": 0, "stream": stream, "messages": [{"role": "user", "content": question}]});
        let url = format!("{}/v1/chat/completions", served.url);
        let response = support::client().post(url).body(body.to_string()).send().await.expect("a response");
        response.bytes().await.expect("a body");
    };
    ask("easy", "two", false).await;
    ask("easy", "two", false).await;
    ask("hard", "two", false).await;
    // A stream's tokens are known once it has ended.
    ask("flows", "large", true).await;
    served.stop();
    let tell = |more: &[&str]| shown(&cascade().arg("savings").arg(&traces).args(more).output().expect("it runs"));
    let text = tell(&[]);
    // 15 tokens a call: 0.000015 at small, 0.00015 at large.
    for line in [
        "4 requests, 3 of them answered by a model and priced",
        "spent        $0.000330",
        "  served     $0.000315",
        "  rejected   $0.000015",
        "last tier    $0.000450  saved $0.000120, 26.7%",
        "from caches  1 more, $0.000000 spent on the way; the last tier would have cost $0.000150",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    assert!(tell(&["--json"]).contains("\"baseline_if_cached_usd\""));
    let none = shown(&cascade().args(["savings", "policies/demo.yaml"]).output().expect("it runs"));
    assert!(none.starts_with("exit code: 1") && none.contains("there is no trace"), "{none}");
}
