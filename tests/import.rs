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

const LITELLM: &str = r#"
environment_variables: { GROQ_API_KEY: os.environ/TEAM_GROQ_KEY }
credential_list:
  - credential_name: main
    credential_values: { api_key: os.environ/OPENAI_API_KEY, api_base: "https://api.openai.com/v1" }
model_list:
  - model_name: strong
    litellm_params: { model: gpt-4.1, litellm_credential_name: main, stream_timeout: 20, temperature: 0.2,
      input_cost_per_token: 2e-06, output_cost_per_token: 8.0e-06, cache_read_input_token_cost: 5e-07 }
  - model_name: cheap
    litellm_params: { model: groq/openai/gpt-oss-20b, rpm: 30, order: 1 }
    model_info: { input_cost_per_token: 1e-07, output_cost_per_token: "5e-07" }
  - model_name: cheap
    litellm_params: { model: ollama_chat/qwen2.5:7b, api_base: "http://10.0.0.7:11434", rpm: 10, order: 2,
      input_cost_per_token: 0, output_cost_per_token: 0 }
  - model_name: team gpt
    rpm: 60
    litellm_params: { model: azure/prod-4o, api_base: "https://acme.openai.azure.com/", api_key: sk-literal-0123456789abcdef,
      weight: 2.5, timeout: 45, input_cost_per_token: 0.0000025, output_cost_per_token: 0.00001 }
  - model_name: team gpt
    litellm_params: { model: openrouter/openai/gpt-4o, weight: 1, input_cost_per_token: 0.0000025, output_cost_per_token: 0.00001 }
  - model_name: embed
    litellm_params: { model: openai/text-embedding-3-small }
    model_info: { mode: embedding }
  - model_name: cloud
    litellm_params: { model: bedrock/anthropic.claude }
  - model_name: 'odd"${HOME}'
    litellm_params: { model: gpt-4o }
  - { model_name: "anthropic/*", litellm_params: { model: "anthropic/*" } }
  - { model_name: "*", litellm_params: { model: "openai/*", api_key: os.environ/OPENAI_API_KEY } }
litellm_settings:
  num_retries: 3
  request_timeout: 90
  fallbacks: [{ cheap: [strong] }, { strong: [cheap] }, { cheap: [gone] }]
  cache: true
  cache_params: { type: redis, host: os.environ/REDIS_HOST, ttl: 0.5 }
  callbacks: [langfuse]
router_settings: { num_retries: 2, allowed_fails: 3, cooldown_time: 30, model_group_alias: { GPT-4: { model: strong, hidden: true }, old: nobody } }
general_settings: { master_key: sk-master-0123456789abcdef }
"#;

#[test]
fn a_configuration_of_litellm_becomes_a_policy_and_what_does_not_is_said() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("config.yaml"), LITELLM).expect("written");
    let told = run(folder.path(), &["import", "litellm-config", "config.yaml", "-o", "policy.yaml"]);
    let policy = std::fs::read_to_string(folder.path().join("policy.yaml")).expect("written");
    insta::assert_snapshot!(format!("{told}\n----- policy.yaml -----\n{policy}"));
    let checked = run(folder.path(), &["check", "--no-env", "policy.yaml"]);
    assert!(checked.starts_with("exit code: 0") && !checked.contains("warning"), "{checked}");
    let again = run(folder.path(), &["import", "litellm-config", "config.yaml", "-o", "policy.yaml"]);
    assert!(again.contains("policy.yaml is there already; --force writes over it"), "{again}");
}

#[test]
fn a_configuration_that_cannot_become_a_policy_says_why() {
    let folder = tempfile::tempdir().expect("a folder");
    for (config, wanted) in [
        (
            "model_list: [{ model_name: a, litellm_params: { model: bedrock/x } }]",
            "`bedrock` is not asked here: it speaks an API of its own",
        ),
        (
            "model_list: [{ model_name: a, litellm_params: { model: hosted_vllm/x } }]",
            "needs an `api_base` that is a plain URL",
        ),
        ("litellm_settings: {}", "there is no `model_list` with a model"),
        ("model_list: [", "is no YAML"),
        ("- a list", "there is no `model_list` with a model"),
    ] {
        std::fs::write(folder.path().join("config.yaml"), config).expect("written");
        let told = run(folder.path(), &["import", "litellm-config", "config.yaml", "-o", "policy.yaml"]);
        assert!(told.starts_with("exit code: 1") && told.contains(wanted), "{config}: {told}");
        assert!(!folder.path().join("policy.yaml").exists());
    }
}
