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

/// What a configuration becomes, and what is said of it.
fn converted(config: &str) -> (String, String) {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("config.yaml"), config).expect("written");
    let told = run(folder.path(), &["import", "litellm-config", "config.yaml", "-o", "policy.yaml"]);
    assert!(told.starts_with("exit code: 0"), "{config}: {told}");
    let checked = run(folder.path(), &["check", "--no-env", "policy.yaml"]);
    assert!(checked.starts_with("exit code: 0"), "{config}: {checked}");
    (std::fs::read_to_string(folder.path().join("policy.yaml")).expect("written"), told)
}

fn model(parameters: &str) -> String {
    format!("model_list: [{{ model_name: a, litellm_params: {{ {parameters} }} }}]\n")
}

#[test]
fn no_prompt_and_no_key_goes_where_it_did_not() {
    let keys = "model_list:\n  - { model_name: a, litellm_params: { model: openai/m, api_base: \"http://one.example/v1\", api_key: sk-one-0123456789abcdef } }\n  - { model_name: b, litellm_params: { model: gpt-4o, api_key: sk-two-0123456789abcdef } }\n  - { model_name: b, litellm_params: { model: gpt-4o, api_key: sk-six-0123456789abcdef } }\n  - { model_name: b, litellm_params: { model: gpt-4o, api_key: sk-sev-0123456789abcdef } }\n  - { model_name: b, litellm_params: { model: gpt-4o, api_key: sk-ten-0123456789abcdef } }\n  - { model_name: c, litellm_params: { model: openai/m, api_base: \"http://vllm:8000/v1\", api_key: EMPTY } }\n";
    let (policy, told) = converted(keys);
    for (place, key) in [
        ("http://one.example/v1", "KEY_OF_A"),
        ("https://api.openai.com/v1", "OPENAI_API_KEY"),
        ("https://api.openai.com/v1", "KEY_OF_B"),
        ("https://api.openai.com/v1", "KEY_OF_B_2"),
        ("https://api.openai.com/v1", "KEY_OF_B_3"),
    ] {
        assert!(policy.contains(&format!("{{ base_url: \"{place}\", api_key: \"${{{key}}}\" }}")), "{policy}");
        assert!(told.contains(&format!("set {key}")), "{told}");
    }
    assert!(policy.contains("{ base_url: \"http://vllm:8000/v1\" }"), "{policy}");
    assert!(!policy.contains("0123456789abcdef") && !told.contains("0123456789abcdef"), "{policy}{told}");
    // A map that takes over another's place is at that place.
    let merged = "x: &d { api_base: \"http://h:1/v1\", api_key: os.environ/K, rpm: 1_000 }\nmodel_list:\n  - { model_name: a, litellm_params: { <<: *d, model: openai/m } }\n";
    let (policy, _) = converted(merged);
    assert!(
        policy.contains("{ base_url: \"http://h:1/v1\", api_key: \"${K}\" }")
            && policy.contains("requests_per_minute: 1000"),
        "{policy}"
    );
    for (parameters, wanted) in [
        ("model: github/gpt-4o", "who answers `github/gpt-4o` is not known here"),
        ("model: jamba, custom_llm_provider: snowflake", "who answers `jamba` is not known here"),
        ("model: openai/m, api_base: \"http://user:sk-x@h/v1\"", "its `api_base` is no URL of http or https alone"),
        ("model: openai/m, api_base: \"localhost:8000\"", "its `api_base` is no URL of http or https alone"),
        ("model: os.environ/MODEL", "which model it is stands in a variable"),
        ("model: gpt-4o, api_key: os.environ/", "it names a variable that cannot be one"),
        ("model: gpt-4o, litellm_credential_name: nobody", "there is no credential `nobody`"),
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("config.yaml"), model(parameters)).expect("written");
        let told = run(folder.path(), &["import", "litellm-config", "config.yaml", "-o", "policy.yaml"]);
        assert!(
            told.starts_with("exit code: 1") && told.contains(wanted) && !told.contains("sk-x"),
            "{parameters}: {told}"
        );
    }
}

#[test]
fn odd_settings_mean_what_they_meant_or_are_said() {
    for (config, wanted, said) in [
        (
            model("model: anthropic/claude-x, api_base: \"https://api.anthropic.com\""),
            "base_url: \"https://api.anthropic.com/v1\"",
            "wrote",
        ),
        (
            model("model: azure/prod, api_base: os.environ/AZ"),
            "base_url: \"${AZ}/openai/v1\"",
            "`AZ` must hold its place without `/openai/v1`",
        ),
        (
            model("model: gpt-4o, timeout: 0") + "litellm_settings: { request_timeout: 0, allowed_fails: 0 }",
            "breaker: { failures: 1, open_for: 5s } }",
            "wrote",
        ),
        (
            model("model: gpt-4o, timeout: 60, stream_timeout: 5, organization: o"),
            "timeouts: { total: 60s, first_byte: 5s }",
            "`organization` of `a` is not taken over",
        ),
        (
            model("model: gpt-4o, rpm: os.environ/RPM, input_cost_per_token: -1"),
            "# price:",
            "`rpm` of `a` is not taken over",
        ),
        (model("model: gpt-4o, input_cost_per_token: 1e300, output_cost_per_token: 1"), "# price:", "wrote"),
        (
            model("model: gpt-4o") + "router_settings: { num_retries: 2.5, routing_strategy: latency-based-routing }",
            "retries: { times: 2 }",
            "`routing_strategy` of router_settings is not taken over",
        ),
        (
            model("model: gpt-4o") + "router_settings: { model_group_alias: { a: a, b: a, b*: a, cascade: a } }",
            "{ when: { model: \"b\" }, tiers: [\"a\"] }",
            "the alias `a` is left out: a model has this name",
        ),
        (
            model("model: gpt-4o") + "router_settings: { model_group_alias: { cascade: a } }",
            "name: cascade-2\n",
            "wrote",
        ),
        (
            model("model: gpt-4o") + "litellm_settings: { cache: yes, cache_params: { type: local, ttl: 30 } }",
            "ttl: 30s, sampled: true",
            "wrote",
        ),
        (
            model("model: gpt-4o")
                + "litellm_settings: { cache: yes, cache_params: { supported_call_types: [embedding] } }",
            "upstream: openai\n",
            "no tier has a cache",
        ),
        (
            model("model: gpt-4o") + "litellm_settings: { fallbacks: [{ a: b }], drop_params: true }",
            "upstream: openai\n",
            "the fallbacks of `a` are left out: they are no list",
        ),
    ] {
        let (policy, told) = converted(&config);
        assert!(policy.contains(wanted), "{config}: {policy}");
        assert!(told.contains(said), "{config}: {told}");
    }
    // Those of a later order stand by, whatever they might bear.
    let ordered = "model_list:\n  - { model_name: a, litellm_params: { model: gpt-4o, order: 2, rpm: 10 } }\n  - { model_name: a, litellm_params: { model: openai/m, order: 1, api_base: \"http://x/v1\" } }\n  - { model_name: a, litellm_params: { model: openai/m, order: 1, api_base: \"http://y/v1\" } }\n";
    let (policy, _) = converted(ordered);
    for weight in ["{ name: openai, weight: 0 }", "{ name: openai-2, weight: 1, ", "{ name: openai-3, weight: 1, "] {
        assert!(policy.contains(weight), "{policy}");
    }
    // Names that YAML or a terminal would take for something else.
    let named = "model_list:\n  - { model_name: \"null\", litellm_params: { model: gpt-4o } }\n  - { model_name: \"llama:\", litellm_params: { model: gpt-4o } }\n  - { model_name: \"a\\e[2J\\n- b\", litellm_params: { model: gpt-4o } }\n";
    let (policy, told) = converted(named);
    assert!(policy.contains("name: \"null\"") && policy.contains("name: \"llama:\""), "{policy}");
    assert!(!told.contains('\x1b') && told.contains("is left out: its name has such characters"), "{told}");
}

#[test]
fn a_configuration_that_cannot_become_a_policy_says_why() {
    let folder = tempfile::tempdir().expect("a folder");
    for (config, wanted) in [
        (
            "model_list: [{ model_name: a, litellm_params: { model: bedrock/x } }]",
            "`bedrock` is not asked here: it speaks an API of its own",
        ),
        ("model_list: [{ model_name: a, litellm_params: { model: hosted_vllm/x } }]", "it needs an `api_base`"),
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
