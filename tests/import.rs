//! Others' logs, made from their documented shapes, imported and replayed.

mod support;

use std::path::Path;

use serde_json::{Value, json};
use support::{cascade, shown};

fn run(folder: &Path, arguments: &[&str]) -> String {
    shown(&cascade().current_dir(folder).args(arguments).output().expect("it runs"))
}

fn write(folder: &Path, name: &str, lines: &[Value]) {
    let lines: Vec<String> = lines.iter().map(Value::to_string).collect();
    std::fs::write(folder.join(name), lines.join("\n")).expect("written");
}

const POLICY: &str = "name: p\nupstreams: { u: { fixtures: embedded } }\ntiers:\n  - { name: small, model: gpt-small, upstream: u, price: { input: 1, output: 1 }, accept: { gates: [not_empty] } }\n  - { name: large, model: gpt-large, upstream: u, price: { input: 1, output: 1 } }\n";

#[test]
fn a_batch_is_joined_with_its_requests_and_replays() {
    let folder = tempfile::tempdir().expect("a folder");
    let asked = |id: &str| {
        json!({"custom_id": id, "method": "POST", "url": "/v1/chat/completions",
        "body": {"model": "gpt-small", "messages": [{"role": "user", "content": format!("question {id}, key sk-abcdefghijklmnop")}]}})
    };
    let answered = |id: &str, status: u16| {
        json!({"id": "batch_req_1", "custom_id": id, "error": null, "response": {"status_code": status, "request_id": "x",
        "body": {"object": "chat.completion", "choices": [{"index": 0, "message": {"role": "assistant", "content": "yes"}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 10, "completion_tokens": 2}}}})
    };
    write(folder.path(), "in.jsonl", &[asked("a"), asked("b"), asked("c")]);
    write(folder.path(), "out.jsonl", &[answered("b", 200), answered("a", 200), answered("unasked", 200)]);
    let text = run(folder.path(), &["import", "out.jsonl", "in.jsonl", "-o", "kept.jsonl"]);
    assert!(text.starts_with("exit code: 0") && text.contains("2 exchanges written to kept.jsonl"), "{text}");
    assert!(text.contains("1 left out: the log has no prompt"), "{text}");
    let kept = std::fs::read_to_string(folder.path().join("kept.jsonl")).expect("written");
    assert!(!kept.contains("sk-abcdefghijklmnop") && kept.contains("question b, key [redacted]"), "{kept}");
    std::fs::write(folder.path().join("p.yaml"), POLICY).expect("written");
    let replayed = run(folder.path(), &["replay", "kept.jsonl", "--policy", "p.yaml"]);
    assert!(replayed.starts_with("exit code: 0") && replayed.contains("2 prompts"), "{replayed}");
    let again = run(folder.path(), &["import", "out.jsonl", "-o", "kept.jsonl"]);
    assert!(again.starts_with("exit code: 1") && again.contains("--force"), "{again}");
}

#[test]
fn answers_are_not_joined_with_another_batchs_questions() {
    let folder = tempfile::tempdir().expect("a folder");
    let asked = |text: &str| {
        json!({"custom_id": "request-1", "method": "POST", "url": "/v1/chat/completions",
        "body": {"model": "m", "messages": [{"role": "user", "content": text}]}})
    };
    let answered = json!({"custom_id": "request-1", "response": {"status_code": 200, "body": {"choices": [{"index": 0, "message": {"content": "x"}}]}}});
    write(folder.path(), "in1.jsonl", &[asked("one")]);
    write(folder.path(), "in2.jsonl", &[asked("two")]);
    write(folder.path(), "out.jsonl", &[answered]);
    let text = run(folder.path(), &["import", "out.jsonl", "in1.jsonl", "in2.jsonl", "-o", "kept.jsonl"]);
    assert!(text.starts_with("exit code: 1") && text.contains("0 exchanges written"), "{text}");
    assert!(text.contains("1 left out: the log has no prompt: it was not kept, or two have its name"), "{text}");
}

#[test]
fn a_list_of_spend_logs_is_taken_and_odd_lines_are_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let body = json!({"choices": [{"index": 0, "message": {"content": "4"}, "finish_reason": "stop"}]});
    let kept = json!({"request_id": "r1", "call_type": "acompletion", "spend": 0.001, "model": "gpt-small", "startTime": "2026-01-01T00:00:00Z",
        "messages": [{"role": "user", "content": "2+2?"}], "response": body});
    let bare = json!({"request_id": "r2", "call_type": "acompletion", "spend": 0.001, "model": "gpt-small", "messages": {}, "response": {}});
    std::fs::write(folder.path().join("logs.json"), json!([kept, bare]).to_string()).expect("written");
    let text = run(folder.path(), &["import", "logs.json", "-o", "kept.jsonl"]);
    assert!(text.contains("1 exchanges written") && text.contains("1 left out: the log has no prompt"), "{text}");
    std::fs::write(folder.path().join("odd.jsonl"), format!("{kept}\n{{\n")).expect("written");
    let text = run(folder.path(), &["import", "odd.jsonl", "-o", "odd.out"]);
    assert!(
        text.starts_with("exit code: 1") && text.contains("odd.jsonl:2: ") && text.contains("--skip-broken"),
        "{text}"
    );
    let text = run(folder.path(), &["import", "odd.jsonl", "-o", "odd.out", "--skip-broken", "--force"]);
    assert!(text.starts_with("exit code: 0") && text.contains("1 left out: no JSON"), "{text}");
    std::fs::write(folder.path().join("none.jsonl"), "{\"x\":1}\n").expect("written");
    let text = run(folder.path(), &["import", "none.jsonl", "-o", "none.out"]);
    assert!(
        text.starts_with("exit code: 1") && text.contains("none.jsonl:1: not a line of any log known here"),
        "{text}"
    );
}
