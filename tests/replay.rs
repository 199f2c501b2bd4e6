//! Replay: numbers that a plain count or hand arithmetic gives too, simulated
//! time, and the same bytes every time.

mod support;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use support::{cascade, root, shared};

/// Runs `cascade replay ... --json`.
fn replay(arguments: &[&str]) -> Value {
    let output = cascade().arg("replay").args(arguments).arg("--json").output().expect("it runs");
    assert!(output.status.success(), "{}", support::shown(&output));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// Mean label per tier, by a plain count that shares no code with the program.
fn plain_means(file: &Path) -> Vec<(String, f64, u64)> {
    let mut sums = std::collections::BTreeMap::<String, (f64, u64)>::new();
    for line in std::fs::read_to_string(file).expect("readable").lines() {
        let exchange: Value = serde_json::from_str(line).expect("JSON");
        for (tier, answer) in exchange["answers"].as_object().expect("answers") {
            if let Some(quality) = answer["quality"].as_f64() {
                let sum = sums.entry(tier.clone()).or_default();
                *sum = (sum.0 + quality.clamp(0.0, 1.0), sum.1 + 1);
            }
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "a few hundred")]
    sums.into_iter().map(|(tier, (sum, n))| (tier, sum / n as f64, n)).collect()
}

fn assert_tiers_alone_match(report: &Value, file: &Path) {
    let means = plain_means(file);
    assert_eq!(report["tiers"].as_array().expect("tiers").len(), means.len());
    for tier in report["tiers"].as_array().expect("tiers") {
        let name = tier["tier"].as_str().expect("a name");
        let (_, mean, count) = means.iter().find(|(t, ..)| t == name).expect("a tier of the file");
        assert!(
            (tier["alone_quality"].as_f64().expect("labelled") - mean).abs() < 1e-9,
            "{name} in {}",
            file.display()
        );
        assert_eq!(tier["alone_labelled"], *count);
    }
}

/// A ladder at the prices that the traffic's README gives.
fn list_prices(folder: &Path, tiers: &[(&str, f64)], accept: &str) -> PathBuf {
    let mut text = "name: list\nupstreams: { u: { fixtures: embedded } }\ntiers:\n".to_owned();
    for (at, (name, price)) in tiers.iter().enumerate() {
        let accept = if at + 1 == tiers.len() { String::new() } else { format!(", accept: {accept}") };
        let _ = writeln!(
            text,
            "  - {{ name: {name}, model: m, upstream: u, price: {{ input: {price}, output: {price} }}{accept} }}"
        );
    }
    let path = folder.join("list.yaml");
    std::fs::write(&path, text).expect("written");
    path
}

const ORIGINAL: [(&str, f64); 4] = [("ada", 0.4), ("babbage", 0.5), ("curie", 2.0), ("davinci", 20.0)];

#[test]
fn every_tier_of_the_fixtures_is_as_good_alone_as_a_plain_count_says() {
    for entry in std::fs::read_dir(root().join("fixtures")).expect("fixtures/") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|e| e == "jsonl") {
            assert_tiers_alone_match(&replay(&[path.to_str().expect("utf-8")]), &path);
        }
    }
}

#[test]
fn every_tier_of_the_recorded_traffic_is_as_good_alone_as_a_plain_count_says() {
    let folder = tempfile::tempdir().expect("a folder");
    for (file, tiers) in [
        ("gsm8k_openai", &ORIGINAL[..]),
        ("guanaco_vicuna80", &ORIGINAL),
        ("mmlupro_sample", &[("ada", 0.1), ("babbage", 0.2), ("curie", 0.9), ("davinci", 3.0)]),
        ("zeroeval_crux", &[("ada", 0.1), ("babbage", 0.2), ("curie", 0.9), ("davinci", 3.0)]),
        ("routerarena_2tier", &[("claude-3-haiku-20240307", 0.25), ("gemini-2.0-flash-001", 0.1)]),
    ] {
        let Some(path) = shared(&format!("traffic/{file}.jsonl")) else { return };
        let policy = list_prices(folder.path(), tiers, "{ score: agreement, at_least: 1 }");
        let report = replay(&[path.to_str().expect("utf-8"), "--policy", policy.to_str().expect("utf-8")]);
        assert_tiers_alone_match(&report, &path);
        assert_eq!(report["unanswered"], 0);
        assert_eq!(report["labels_held"], u64::from(file == "routerarena_2tier"), "one label of it is below 0");
    }
}

#[test]
fn ten_lines_of_recorded_traffic_cost_what_hand_arithmetic_says() {
    let Some(traffic) = shared("traffic/gsm8k_openai.jsonl") else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let ten = folder.path().join("ten.jsonl");
    let text = std::fs::read_to_string(traffic).expect("readable");
    std::fs::write(&ten, text.lines().take(10).collect::<Vec<_>>().join("\n")).expect("written");
    // A gate that nothing passes: every tier of the ladder is asked.
    let policy = list_prices(folder.path(), &ORIGINAL, "{ gates: [{ matches: 'no answer says this' }] }");
    let report = replay(&[ten.to_str().expect("utf-8"), "--policy", policy.to_str().expect("utf-8")]);
    // Tokens of the ten questions and answers, one per four bytes, each rounded
    // up: 1160, 1287, 1197 and 1103, counted apart from the program.
    for (tier, tokens, price) in
        [("ada", 1160, 0.4), ("babbage", 1287, 0.5), ("curie", 1197, 2.0), ("davinci", 1103, 20.0)]
    {
        let of_tier = report["tiers"].as_array().expect("tiers").iter().find(|t| t["tier"] == tier).expect(tier);
        let by_hand = f64::from(tokens) * price / 1e6;
        assert!((of_tier["usd"].as_f64().expect("a cost") - by_hand).abs() < 1e-12, "{tier}: {of_tier} and {by_hand}");
        assert_eq!(of_tier["usd"], of_tier["alone_usd"]);
    }
    assert_eq!(report["cost"]["estimated"], 10);
}

/// One exchange whose tiers `a` and `b` answer `text` after 300 and 500 ms.
fn exchange(id: &str, arrived_ms: f64, question: &str, text: &str) -> Value {
    let body = json!({"choices": [{"index": 0, "message": {"content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1000, "completion_tokens": 1000}});
    json!({"id": id, "arrived_ms": arrived_ms, "path": "/v1/chat/completions",
        "request": {"model": "p", "temperature": 0, "messages": [{"role": "user", "content": question}]},
        "answers": {"a": {"status": 200, "body": body, "elapsed_ms": 300.0, "quality": 0.5},
                    "b": {"status": 200, "body": body, "elapsed_ms": 500.0, "quality": 1.0}}})
}

/// Writes exchanges and a policy of two tiers, `of_a` being more of tier a.
fn files(folder: &Path, exchanges: &[Value], of_a: &str) -> [String; 2] {
    let lines: Vec<String> = exchanges.iter().map(Value::to_string).collect();
    let (recorded, policy) = (folder.join("recorded.jsonl"), folder.join("policy.yaml"));
    std::fs::write(&recorded, lines.join("\n")).expect("written");
    let text = format!(
        "name: p\nupstreams: {{ u: {{ fixtures: embedded }} }}\ntiers:\n  \
         - {{ name: a, model: m, upstream: u, price: {{ input: 1, output: 1 }}, accept: {{ gates: [complete] }}{of_a} }}\n  \
         - {{ name: b, model: m, upstream: u, price: {{ input: 10, output: 10 }} }}\n"
    );
    std::fs::write(&policy, text).expect("written");
    [recorded, policy].map(|p| p.to_str().expect("utf-8").to_owned())
}

#[test]
fn limits_refuse_in_simulated_time() {
    let folder = tempfile::tempdir().expect("a folder");
    // Ten at once, then one each 500 ms later; a place is free each second.
    let burst = (0..10).map(|n| exchange(&format!("burst-{n}"), 0.0, &format!("q{n}"), "x"));
    let later = (1..=6).map(|n| exchange(&format!("later-{n}"), f64::from(n) * 500.0, &format!("l{n}"), "x"));
    let exchanges: Vec<Value> = burst.chain(later).collect();
    let [recorded, policy] = files(folder.path(), &exchanges, ", limits: { requests_per_minute: 60, burst: 3 }");
    let report = replay(&[&recorded, "--policy", &policy]);
    let a = &report["tiers"][0];
    assert_eq!([&a["asked"], &a["accepted"], &a["limited"]], [16, 6, 10]);
    assert_eq!(report["tiers"][1]["accepted"], 10);
}

#[test]
fn equal_prompts_meet_in_the_cache_in_simulated_time() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |id: &str, ms: f64| exchange(id, ms, "same", "x");
    // Asked at 0, waited for at 100, in the cache at 1000, forgotten at 10300.
    let exchanges = [at("asks", 0.0), at("waits", 100.0), at("hits", 1000.0), at("asks again", 10_300.0)];
    let [recorded, policy] = files(folder.path(), &exchanges, ", cache: { ttl: 10s }");
    let report = replay(&[&recorded, "--policy", &policy]);
    let a = &report["tiers"][0];
    assert_eq!([&a["asked"], &a["cache_hits"], &a["coalesced"]], [4, 1, 1]);
    // Two of 2,000 tokens at a dollar a million; all four at ten for the baseline.
    assert_eq!(report["cost"]["usd"], 0.004);
    assert_eq!(report["cost"]["baseline_usd"], 0.08);
    // 300 asked twice, 200 waited, 0 from the cache (shown as the least there is).
    assert_eq!(report["latency"]["p50_ms"], 200.063);
    assert_eq!(report["latency"]["p99_ms"], 300.031);
}

#[test]
fn two_runs_print_the_same_bytes_even_while_the_cache_evicts() {
    let folder = tempfile::tempdir().expect("a folder");
    let exchanges: Vec<Value> = (0..2000u32)
        .map(|n| {
            exchange(&n.to_string(), f64::from(n) * 7.0, &format!("q{}", n.wrapping_mul(2_654_435_761) >> 27), "x")
        })
        .collect();
    let [recorded, policy] = files(folder.path(), &exchanges, ", cache: { capacity: 6KiB }");
    let run = |extra: &[&str]| {
        let output = cascade().args(["replay", &recorded, "--policy", &policy]).args(extra).output().expect("it runs");
        assert!(output.status.success(), "{}", support::shown(&output));
        output.stdout
    };
    let first = run(&["--json"]);
    let hits =
        serde_json::from_slice::<Value>(&first).expect("JSON")["tiers"][0]["cache_hits"].as_u64().expect("a count");
    assert!((100..1900).contains(&hits), "some are found and some evicted: {hits}");
    for _ in 0..3 {
        assert_eq!(run(&["--json"]), first);
    }
    assert_eq!(run(&["--against", "policies/demo.yaml"]), run(&["--against", "policies/demo.yaml"]));
}

#[test]
fn unlabelled_untimed_and_unpriced_are_unknown_and_not_zero() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut bare = exchange("bare", 0.0, "q", "x");
    for tier in ["a", "b"] {
        let answer = bare["answers"][tier].as_object_mut().expect("an answer");
        answer.remove("quality");
        answer.remove("elapsed_ms");
    }
    let [recorded, policy] = files(folder.path(), &[bare], "");
    let unpriced = std::fs::read_to_string(&policy).expect("readable").replace("price: { input: 1, output: 1 },", "");
    std::fs::write(&policy, unpriced).expect("written");
    let report = replay(&[&recorded, "--policy", &policy]);
    assert_eq!([&report["quality"], &report["latency"], &report["cost"]["savings"]], [&Value::Null; 3]);
    assert_eq!(report["cost"]["unpriced"], 1);
}

#[test]
fn a_prompt_that_no_tier_answers_counts_as_worth_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut failing = exchange("fails", 0.0, "q", "x");
    for tier in ["a", "b"] {
        failing["answers"][tier]["status"] = 500.into();
    }
    let [recorded, policy] = files(folder.path(), &[failing, exchange("works", 0.0, "r", "x")], "");
    let report = replay(&[&recorded, "--policy", &policy]);
    assert_eq!([&report["unanswered"], &report["quality"]["prompts"]], [1, 2]);
    assert_eq!(report["quality"]["mean"], 0.25);
    assert_eq!(report["tiers"][0]["failed"], json!({"refused": 1}));
}

#[test]
fn an_answer_that_was_not_recorded_leaves_the_outcome_unknown() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut partial = exchange("partial", 0.0, "q", "x");
    partial["answers"].as_object_mut().expect("answers").remove("a");
    let [recorded, policy] = files(folder.path(), &[partial, exchange("whole", 0.0, "r", "x")], "");
    let report = replay(&[&recorded, "--policy", &policy]);
    assert_eq!([&report["not_recorded"], &report["unanswered"]], [1, 0]);
    assert_eq!([&report["cost"]["unpriced"], &report["quality"]["prompts"], &report["latency"]["prompts"]], [1, 1, 1]);
    let output =
        cascade().args(["replay", &recorded, "--policy", &policy, "--fail-if", "cost>1"]).output().expect("it runs");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(
        stderr,
        "cascade: failed: cost>1 cannot be told: cost is unknown under p: the cost of 1 prompts is not known; a price or an answer is missing\n"
    );
    assert_eq!(output.status.code(), Some(1));
    assert!(!output.stdout.is_empty(), "the report is printed all the same");
}

#[test]
fn prompts_that_differ_only_in_sampling_get_their_own_answers() {
    let folder = tempfile::tempdir().expect("a folder");
    let first = exchange("first", 0.0, "q", "x");
    let mut second = exchange("second", 1.0, "q", "x");
    second["request"]["max_tokens"] = 5.into();
    second["answers"]["a"]["quality"] = 1.0.into();
    let [recorded, policy] = files(folder.path(), &[first, second], "");
    assert_eq!(replay(&[&recorded, "--policy", &policy])["quality"]["mean"], 0.75);
}

#[test]
fn more_prompts_than_fit_in_flight_wait_and_the_waiting_counts() {
    let folder = tempfile::tempdir().expect("a folder");
    let exchanges: Vec<Value> = (0..2048).map(|n| exchange(&n.to_string(), 0.0, &n.to_string(), "x")).collect();
    let [recorded, policy] = files(folder.path(), &exchanges, "");
    let latency = &replay(&[&recorded, "--policy", &policy])["latency"];
    // 1,024 at once: the second half waits 300 ms for the first.
    assert_eq!([&latency["p50_ms"], &latency["p99_ms"]], [300.031, 600.063]);
}

#[test]
fn arrivals_out_of_order_are_said() {
    let folder = tempfile::tempdir().expect("a folder");
    let [recorded, policy] = files(folder.path(), &[exchange("a", 50.0, "q", "x"), exchange("b", 10.0, "r", "x")], "");
    let output = cascade().args(["replay", &recorded, "--policy", &policy]).output().expect("it runs");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(
        stderr,
        "cascade: 1 exchanges arrive before the one on the line above; each was taken to arrive with it\n"
    );
}

#[test]
fn two_policies_are_compared_prompt_by_prompt() {
    let folder = tempfile::tempdir().expect("a folder");
    let exchanges: Vec<Value> = (0..30)
        .map(|n| exchange(&format!("e{n}"), f64::from(n), &n.to_string(), if n < 25 { "long enough" } else { "no" }))
        .collect();
    let [recorded, policy] = files(folder.path(), &exchanges, "");
    let strict = folder.path().join("strict.yaml");
    let text =
        std::fs::read_to_string(&policy).expect("readable").replace("[complete]", "[{ length: { min_chars: 5 } }]");
    std::fs::write(&strict, text).expect("written");
    let strict = strict.to_str().expect("utf-8");
    let compared = replay(&[&recorded, "--policy", strict, "--against", &policy, "--changes", "2"]);
    assert_eq!(
        [&compared["compared"], &compared["other_tier"], &compared["dearer"], &compared["better"]],
        [30, 5, 5, 5]
    );
    assert_eq!(compared["changes_not_listed"], 3);
    // Two thousand tokens at ten dollars a million more than before.
    assert_eq!(compared["changes"][0], json!({"id": "e25", "from": "a", "to": "b", "cost_usd": 0.02, "quality": 0.5}));
    let code = |conditions: &[&str]| {
        let mut command = cascade();
        command.args(["replay", &recorded, "--policy", strict, "--against", &policy]);
        conditions.iter().for_each(|c| _ = command.args(["--fail-if", c]));
        let output = command.output().expect("it runs");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    // The mean label rises by 5 * 0.5 / 30 = 0.0833, the cost from 0.06 to 0.16.
    assert_eq!(code(&["quality<-0.01", "cost>200%"]), (Some(0), String::new()));
    assert_eq!(code(&["quality>0.08"]), (Some(1), "cascade: failed: quality>0.08 holds, with 0.083333\n".to_owned()));
    assert_eq!(code(&["cost>+100%"]).0, Some(1));
    assert_eq!(code(&["policy.quality<0.9"]).0, Some(1));
    assert_eq!(code(&["qualty<0"]).0, Some(2));
    let alone =
        cascade().args(["replay", &recorded, "--policy", strict, "--fail-if", "cost>5%"]).output().expect("it runs");
    assert_eq!(alone.status.code(), Some(2), "a percentage of what?");
}

#[test]
fn broken_lines_are_named_and_passed_over_only_if_asked() {
    let folder = tempfile::tempdir().expect("a folder");
    let [recorded, policy] = files(folder.path(), &[exchange("fine", 0.0, "q", "x")], "");
    let mut text = std::fs::read_to_string(&recorded).expect("readable");
    text += "\n\n{\"id\": \"half\n{\"id\":\"x\",\"path\":\"/v1/embeddings\",\"request\":{},\"answers\":{}}\n";
    std::fs::write(&recorded, text).expect("written");
    let run = |extra: &[&str]| {
        let output = cascade().args(["replay", &recorded, "--policy", &policy]).args(extra).output().expect("it runs");
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stdout).into_owned(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    let (code, _, stderr) = run(&[]);
    assert_eq!(code, Some(1));
    assert_eq!(
        stderr,
        format!(
            "cascade: {recorded}:3: EOF while parsing a string at line 1 column 12\n(--skip-broken passes over broken lines and counts them)\n"
        )
    );
    let (code, stdout, stderr) = run(&["--skip-broken"]);
    assert_eq!(code, Some(0));
    assert!(stdout.ends_with("broken lines skipped: 2\n"), "{stdout}");
    assert!(
        stderr.contains(&format!("cascade: skipped {recorded}:4: the path /v1/embeddings is not cascaded")),
        "{stderr}"
    );
}
