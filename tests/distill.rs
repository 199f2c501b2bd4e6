//! A smaller tier taught from what it failed: rows that trainers read, a plan that comes
//! true for a simulated student, and a job from its files to the policy with its model.

#[path = "support/python.rs"]
mod python;
mod support;

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::response::Response;
use prompt_cascade::clock::{Clock, SystemClock};
use serde_json::{Value, json};
use support::{Fake, Seen, cascade, response, root, shared, shown};

fn run(arguments: &[&str]) -> String {
    shown(&cascade().env("TEST_KEY", "sk-test-0123456789abcdef").args(arguments).output().expect("it runs"))
}

fn distill(arguments: &[&str]) -> String {
    run(&[&["distill"], arguments].concat())
}

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn manifest(folder: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(folder.join("manifest.json")).expect("written")).expect("JSON")
}

/// Sets of recorded traffic, each with a policy that rejects some, and whom it teaches.
const TRAFFIC: [(&str, &str, &str); 5] = [
    ("gsm8k_openai", "agreeing", "babbage"),
    ("guanaco_vicuna80", "agreeing", "babbage"),
    ("zeroeval_crux", "agreeing", "babbage"),
    ("mmlupro_sample", "agreeing", "babbage"),
    ("routerarena_2tier", "brief", "gemini-2.0-flash-001"),
];

fn place(set: &str, policy: &str) -> Option<(String, String)> {
    let set = shared(&format!("traffic/{set}.jsonl"))?;
    Some((set.display().to_string(), format!("tests/policies/{policy}.yaml")))
}

#[test]
fn an_export_of_each_set_adds_up() {
    use prompt_cascade::calibration::is_for_test;
    use prompt_cascade::outcomes::group_of;
    for (set, policy, student) in TRAFFIC {
        let Some((set, policy)) = place(set, policy) else { return };
        let folder = tempfile::tempdir().expect("a folder");
        let out = folder.path().join("out");
        let text =
            distill(&["export", &set, "--policy", &policy, "--student", student, "-o", &out.display().to_string()]);
        assert!(text.starts_with("exit code: 0"), "{text}");
        let told = manifest(&out);
        let left: u64 = told["left_out"].as_object().expect("counts").values().filter_map(Value::as_u64).sum();
        let count = |name: &str| told[name].as_u64().expect("a count");
        println!(
            "{set}: {}: hard {}, replay {}, left out {}",
            count("exchanges"),
            count("hard"),
            count("replay"),
            told["left_out"]
        );
        assert_eq!(count("exchanges"), count("hard") + count("replay") + left);
        assert!(count("hard") > 0, "{text}");
        // Every exchange once: rows, and as many lines of what is told of them.
        let exchanges = prompt_cascade::recording::load(&set).unwrap_or_else(|e| panic!("{e}"));
        let groups: BTreeMap<&str, u64> = exchanges.iter().map(|e| (e.id.as_str(), group_of(e))).collect();
        assert_eq!(count("exchanges"), exchanges.len() as u64);
        let mut seen = HashSet::new();
        let mut by_split: BTreeMap<String, HashSet<u64>> = BTreeMap::new();
        for split in ["train", "valid"] {
            let (rows, metas) =
                (lines(&out.join(format!("chat.{split}.jsonl"))), lines(&out.join(format!("chat.{split}.meta.jsonl"))));
            assert_eq!(rows.len(), metas.len());
            for meta in metas {
                let id = meta["id"].as_str().expect("an id").to_owned();
                let group = groups[id.as_str()];
                assert!(!is_for_test(group, 1), "{id} is kept for certificates");
                assert!(seen.insert(id), "once");
                by_split.entry(split.to_owned()).or_default().insert(group);
            }
        }
        assert_eq!(seen.len() as u64, count("hard") + count("replay"));
        let none = HashSet::new();
        let of = |split: &str| by_split.get(split).unwrap_or(&none);
        assert!(of("train").is_disjoint(of("valid")), "a conversation is in one split");
    }
}

/// The plan's forecast at a share.
fn forecast(set: &str, policy: &str, student: &str, share: f64) -> Value {
    let learns = format!("{share},{share},{share}");
    let mut plan = cascade();
    plan.args(["distill", "plan", set, "--policy", policy, "--student", student]);
    let output = plan.args(["--learns", &learns, "--training-price", "8", "--json"]).output().expect("it runs");
    assert!(output.status.success(), "{}", shown(&output));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

#[test]
fn a_simulated_student_comes_to_what_the_plan_says() {
    for (set, policy, student) in TRAFFIC {
        let Some((set, policy)) = place(set, policy) else { return };
        let folder = tempfile::tempdir().expect("a folder");
        for share in [0.4, 0.8] {
            let after = folder.path().join(format!("{share}.jsonl")).display().to_string();
            let simulated = distill(&[
                "simulate",
                &set,
                "--policy",
                &policy,
                "--student",
                student,
                "--learns",
                &share.to_string(),
                "-o",
                &after,
            ]);
            assert!(simulated.starts_with("exit code: 0"), "{simulated}");
            let replayed = |exchanges: &str| -> Value {
                let output =
                    cascade().args(["replay", exchanges, "--policy", &policy, "--json"]).output().expect("it runs");
                serde_json::from_slice(&output.stdout).expect("JSON")
            };
            let told = &forecast(&set, &policy, student, share)["forecast"];
            let per_prompt = |report: &Value| {
                report["cost"]["usd"].as_f64().expect("known") / report["cost"]["prompts"].as_f64().expect("some")
            };
            let (before, after) = (replayed(&set), replayed(&after));
            let now = told["now"]["cost"]["value"].as_f64().expect("known");
            assert!((per_prompt(&before) - now).abs() < 1e-9, "{set}: the plan begins where the replay is");
            let range = &told["assumed"][1]["after"];
            for (name, measured) in
                [("cost", per_prompt(&after)), ("quality", after["quality"]["mean"].as_f64().expect("labelled"))]
            {
                let [low, high] =
                    ["low", "high"].map(|end| range[name]["interval"][end].as_f64().expect("an interval"));
                println!("{set} {share}: {name} {measured:.6} in [{low:.6}, {high:.6}]");
                assert!((low..=high).contains(&measured), "{set} {share}: {name} {measured} in [{low}, {high}]");
            }
        }
    }
}

/// Chats in which a small model fails, made for these tests.
fn chats(folder: &Path) -> String {
    let answer = |text: &str, finish: &str, quality: f64| {
        json!({"status": 200, "body": {"choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}],
            "usage": {"prompt_tokens": 20, "completion_tokens": 5}}, "quality": quality})
    };
    let mut all = Vec::new();
    let mut add = |id: &str, messages: Value, small: (&str, &str, f64), large: (&str, &str, f64)| {
        all.push(json!({"id": id, "path": "/v1/chat/completions", "request": {"model": "m", "messages": messages},
            "answers": {"small": answer(small.0, small.1, small.2), "large": answer(large.0, large.1, large.2)}}));
    };
    let user = |text: &str| json!([{"role": "user", "content": text}]);
    let (cut, good) = (("it is", "length", 0.0), ("It is Lima, mail me@example.com now.", "stop", 1.0));
    add("hard", user("What is the capital of Peru, me@example.com?"), cut, good);
    add("again", user("What is the capital of Peru, me@example.com?"), cut, good);
    add("near", user("What is the capital of Peru, me@example.com, please?"), cut, good);
    add(
        "parts",
        json!([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello", "refusal": null},
        {"role": "user", "content": [{"type": "text", "text": "And of Chile?"}]}]),
        cut,
        ("Santiago.", "stop", 1.0),
    );
    add("refused", user("And of Ecuador?"), cut, ("I'm sorry, but I can't help with that.", "stop", 1.0));
    add("cut", user("And of Brazil?"), cut, ("Bras", "length", 1.0));
    add("wrong", user("And of Bolivia?"), cut, ("Quito.", "stop", 0.0));
    add("right", user("And of Uruguay?"), ("Montevideo.", "stop", 1.0), ("Montevideo.", "stop", 1.0));
    add("picture", json!([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]), cut, good);
    for (at, animal) in ["cat", "dog", "newt", "owl"].iter().enumerate() {
        let shots = json!([{"role": "user", "content": "a hen"}, {"role": "assistant", "content": "bird"}, {"role": "user", "content": format!("a {animal}")}]);
        add(&format!("shots{at}"), shots, cut, ("beast", "stop", 1.0));
    }
    add(
        "text",
        user("Say of what kind.\n\nThing: a hen\nKind: bird\n\nThing: an elm\nKind:"),
        cut,
        ("tree", "stop", 1.0),
    );
    let path = folder.join("chats.jsonl");
    let text: Vec<String> = all.iter().map(Value::to_string).collect();
    std::fs::write(&path, text.join("\n")).expect("written");
    path.display().to_string()
}

fn small_and_large(folder: &Path, base_url: &str) -> String {
    let path = folder.join("policy.yaml");
    let text = format!(
        "# kept\nname: p\nupstreams: {{ up: {{ base_url: \"{base_url}\", api_key: \"${{TEST_KEY}}\" }} }}\ntiers:\n  \
         - {{ name: small, model: small-1, upstream: up, price: {{ input: 1, output: 1 }}, cache: {{}}, accept: {{}} }} # and this\n  \
         - {{ name: large, model: large-1, upstream: up, price: {{ input: 10, output: 10 }} }}\n"
    );
    std::fs::write(&path, text).expect("written");
    path.display().to_string()
}

fn exported(folder: &Path, extra: &[&str]) -> (String, PathBuf) {
    let out = folder.join("out");
    let (chats, policy) = (chats(folder), small_and_large(folder, "http://127.0.0.1:9/v1"));
    let name = out.display().to_string();
    let base = [
        "export",
        &chats,
        "--policy",
        &policy,
        "--student",
        "small",
        "-o",
        &name,
        "--whole",
        "--valid",
        "0",
        "--replay",
        "1",
    ];
    (distill(&[&base[..], extra].concat()), out)
}

#[test]
fn rows_hold_what_is_worth_learning() {
    let folder = tempfile::tempdir().expect("a folder");
    let (text, out) =
        exported(folder.path(), &["--redact", r"[\w.]+@[\w.]+", "--near", "0.6", "--training-price", "25"]);
    assert!(text.starts_with("exit code: 0"), "{text}");
    for line in [
        "exchanges 14\nhard      7: 7 to train on",
        "replay    1: 1 to train on",
        "1: the answer to learn declines",
        "1: the answer to learn was cut off",
        "1: rejected, but the teacher's answer is labelled wrong",
        "1: asks what another row asks",
        "1: asks nearly what another row asks",
        "1: the prompt is more than text, or",
        "redacted  something in 1 rows",
        "200 tokens, 3 epochs: $0.01",
        "licence   the rows hold answers of large-1, small-1",
        "warning   8 rows to train on",
    ] {
        let line = line.replace("large-1, small-1", "large-1:");
        assert!(text.contains(&line), "{line}\n{text}");
    }
    let chat = lines(&out.join("chat.train.jsonl"));
    assert_eq!(
        chat[0],
        json!({"messages": [{"role": "user", "content": "What is the capital of Peru, [redacted]?"},
        {"role": "assistant", "content": "It is Lima, mail [redacted] now.", "weight": 1}]})
        .clone()
    );
    assert_eq!(
        chat[1],
        json!({"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello", "weight": 0}, {"role": "user", "content": "And of Chile?"},
        {"role": "assistant", "content": "Santiago.", "weight": 1}]})
    );
    assert_eq!(chat[7]["messages"][1]["content"], "Montevideo.", "what was right is not forgotten");
    let dpo = lines(&out.join("dpo.train.jsonl"));
    assert_eq!(dpo.len(), 7);
    assert_eq!(dpo[1]["non_preferred_output"], json!([{"role": "assistant", "content": "it is"}]));
    assert_eq!(dpo[1]["preferred_output"][0]["content"], "Santiago.");
    let preference = lines(&out.join("preference.train.jsonl"));
    assert_eq!(
        (&preference[1]["chosen"], &preference[1]["prompt"]),
        (&dpo[1]["preferred_output"], &dpo[1]["input"]["messages"])
    );
    let legacy = lines(&out.join("legacy.train.jsonl"));
    assert_eq!(
        legacy[0],
        json!({"prompt": "What is the capital of Peru, [redacted]? ->", "completion": " It is Lima, mail [redacted] now.\n"})
    );
    let meta = &lines(&out.join("chat.train.meta.jsonl"))[0];
    assert_eq!(
        (&meta["student"]["verdict"], &meta["teacher"]["model"], &meta["set"]),
        (&json!("rejected(complete)"), &json!("large-1"), &json!("hard"))
    );
    // Not over what is there.
    assert!(exported(folder.path(), &[]).0.contains("--force"));
}

#[test]
fn examples_are_internalised() {
    let folder = tempfile::tempdir().expect("a folder");
    let (text, out) = exported(folder.path(), &["--internalise", "--near", "1"]);
    assert!(text.contains("stripped  examples before 5 questions"), "{text}");
    let asked: Vec<Value> =
        lines(&out.join("chat.train.jsonl")).iter().map(|row| row["messages"][0]["content"].clone()).collect();
    assert!(asked.contains(&json!("a cat")) && asked.contains(&json!("Thing: an elm\nKind:")), "{asked:?}");
    assert!(asked.contains(&json!("Be brief.")), "one conversation is no examples: {asked:?}");
}

#[test]
fn tools_and_legacy_prompts_of_the_fixtures_are_rows_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("out");
    let text = distill(&[
        "export",
        "fixtures",
        "--policy",
        "policies/demo.yaml",
        "--student",
        "babbage",
        "-o",
        &out.display().to_string(),
        "--whole",
    ]);
    assert!(text.starts_with("exit code: 0"), "{text}");
    let chat = lines(&out.join("chat.train.jsonl"));
    let calls: Vec<&Value> = chat
        .iter()
        .filter(|row| row["messages"].as_array().expect("messages").iter().any(|m| m.get("tool_calls").is_some()))
        .collect();
    assert!(!calls.is_empty() && calls.iter().all(|row| row["tools"].is_array()));
    let legacy = lines(&out.join("legacy.train.jsonl"));
    assert!(legacy.len() < chat.len(), "no tools there");
    assert!(legacy.iter().all(|row| row["completion"].as_str().is_some_and(|c| c.ends_with('\n'))));
    let Some(venv) = python::environment("datasets==4.0.0", "rows were not read by `datasets`") else { return };
    let check = "
import sys, datasets
out = sys.argv[1]
plain = sys.argv[2]
for name in ['chat', 'dpo', 'preference', 'legacy']:
    read = datasets.load_dataset('json', data_files=f'{plain}/{name}.train.jsonl', split='train')
    lines = open(f'{plain}/{name}.train.jsonl').read().count('\\n')
    assert len(read) == lines, (name, len(read), lines)
    row = read[0]
    if name == 'chat': assert row['messages'][-1]['role'] == 'assistant'
    if name == 'dpo': assert row['preferred_output'][0]['role'] == 'assistant' and row['input']['messages']
    if name == 'preference': assert set(row) >= {'prompt', 'chosen', 'rejected'} and row['chosen'][0]['role'] == 'assistant'
    if name == 'legacy': assert set(row) == {'prompt', 'completion'}
    print(name, len(read))
";
    // Tools have schemas of any shape, which no table holds; rows without them are read.
    let plain = folder.path().join("plain");
    let text = distill(&[
        "export",
        "fixtures/facts.jsonl",
        "fixtures/arithmetic.jsonl",
        "fixtures/multi_turn.jsonl",
        "fixtures/few_shot.jsonl",
        "--policy",
        "policies/demo.yaml",
        "--student",
        "ada",
        "-o",
        &plain.display().to_string(),
        "--whole",
    ]);
    assert!(text.starts_with("exit code: 0"), "{text}");
    let read = Command::new(venv.join("bin/python"))
        .env("HF_HUB_OFFLINE", "1")
        .env("HF_HOME", folder.path())
        .args(["-c", check])
        .arg(&out)
        .arg(&plain)
        .output();
    let read = read.expect("python");
    assert!(read.status.success(), "{}", shown(&read));
    print!("{}", String::from_utf8_lossy(&read.stdout));
}

/// The API of files and jobs, as OpenAI documents it; `fails` answers a request instead, where
/// it has something to say.
#[derive(Clone, Default)]
struct Trainer {
    files: Arc<Mutex<Vec<Value>>>,
    jobs: Arc<Mutex<Vec<Value>>>,
    looks: Arc<AtomicUsize>,
}

impl Trainer {
    fn answer(&self, seen: &Seen) -> Response {
        let json = |value: Value| response(200, "application/json", value.to_string());
        let error = |status: u16, message: &str| {
            response(
                status,
                "application/json",
                json!({"error": {"message": message, "type": "invalid_request_error", "param": null, "code": null}})
                    .to_string(),
            )
        };
        let path = seen.path.trim_start_matches("/v1");
        match (seen.method.as_str(), path) {
            ("POST", "/chat/completions") => json(support::completion("yes", &[])),
            ("POST", "/files") => {
                let body = String::from_utf8_lossy(&seen.body).into_owned();
                let is_form = seen.headers["content-type"].to_str().is_ok_and(|t| t.starts_with("multipart/form-data"));
                let name = body.split("filename=\"").nth(1).and_then(|rest| rest.split('"').next()).map(str::to_owned);
                let content =
                    body.split("application/jsonl\r\n\r\n").nth(1).and_then(|rest| rest.split("\r\n--").next());
                let (Some(name), Some(content), true) = (name, content, is_form && body.contains("fine-tune")) else {
                    return error(400, "no file");
                };
                assert!(content.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()));
                let mut files = self.files.lock().expect("no panic");
                let file = json!({"id": format!("file-{}", files.len()), "object": "file", "bytes": content.len(), "filename": name, "purpose": "fine-tune"});
                files.push(file.clone());
                json(file)
            }
            ("GET", "/files") => {
                json(json!({"object": "list", "data": *self.files.lock().expect("no panic"), "has_more": false}))
            }
            ("GET", "/fine_tuning/jobs") => {
                json(json!({"object": "list", "data": *self.jobs.lock().expect("no panic"), "has_more": false}))
            }
            ("POST", "/fine_tuning/jobs") => {
                let asked = seen.json();
                if asked["model"] == "no-such-model" {
                    return error(404, "The model `no-such-model` cannot be fine-tuned");
                }
                let mut jobs = self.jobs.lock().expect("no panic");
                let job = json!({"id": format!("ftjob-{}", jobs.len()), "object": "fine_tuning.job", "model": asked["model"], "status": "validating_files",
                    "training_file": asked["training_file"], "validation_file": asked["validation_file"], "fine_tuned_model": null, "trained_tokens": null,
                    "error": {}, "method": asked["method"]});
                jobs.push(job.clone());
                json(job)
            }
            ("GET", path) if path.ends_with("/events") => json(json!({"object": "list", "has_more": false, "data": [
                {"object": "fine_tuning.job.event", "id": "ev", "level": "info", "type": "metrics", "message": "Step 3/9: training loss=0.5", "data": {"step": 3}}]})),
            ("GET", path) => {
                let id = path.rsplit('/').next().unwrap_or_default();
                let mut job =
                    self.jobs.lock().expect("no panic").iter().find(|job| job["id"] == id).cloned().expect("a job");
                let looked = self.looks.fetch_add(1, Ordering::SeqCst);
                job["status"] = ["queued", "queued", "running", "succeeded"][looked.min(3)].into();
                if looked >= 3 {
                    job["fine_tuned_model"] = "ft:small-1:org:x:1".into();
                    job["trained_tokens"] = 600.into();
                }
                json(job)
            }
            _ => error(404, "no such path"),
        }
    }
}

fn posts(fake: &Fake, path: &str) -> usize {
    fake.seen().iter().filter(|seen| seen.method == http::Method::POST && seen.path == path).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn from_files_to_the_policy_with_the_model() {
    let folder = tempfile::tempdir().expect("a folder");
    let (text, out) = exported(folder.path(), &["--training-price", "25"]);
    assert!(text.starts_with("exit code: 0"), "{text}");
    let (trainer, busy) = (Trainer::default(), Arc::new(AtomicUsize::new(0)));
    let (answering, counting) = (trainer.clone(), busy.clone());
    // The first job starts, and its answer is lost.
    let fake = Fake::start(move |seen| {
        let answer = answering.answer(seen);
        let is_start = seen.method == http::Method::POST && seen.path.ends_with("/jobs");
        if is_start && counting.fetch_add(1, Ordering::SeqCst) == 0 {
            return response(503, "application/json", r#"{"error":{"message":"try again"}}"#);
        }
        answer
    })
    .await;
    let policy = small_and_large(folder.path(), &fake.base_url);
    let name = out.display().to_string();
    let submit = ["submit", &name, "--policy", &policy];
    let unasked = distill(&submit);
    assert!(
        unasked.starts_with("exit code: 1")
            && unasked.contains("nothing was sent")
            && unasked.contains("training  200 tokens"),
        "{unasked}"
    );
    assert_eq!(fake.seen().len(), 0);
    let sent = distill(&[&submit[..], &["--yes", "--suffix", "x", "--epochs", "2"]].concat());
    assert!(sent.starts_with("exit code: 0") && sent.contains("job       ftjob-0 is validating_files"), "{sent}");
    assert_eq!((posts(&fake, "/v1/files"), posts(&fake, "/v1/fine_tuning/jobs")), (1, 1), "what was started is found");
    let asked = fake
        .seen()
        .iter()
        .find(|seen| seen.path.ends_with("/jobs") && seen.method == http::Method::POST)
        .expect("asked")
        .json();
    assert_eq!(
        asked,
        json!({"model": "small-1", "suffix": "x", "training_file": "file-0",
        "method": {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2}}}})
    );
    assert!(distill(&[&submit[..], &["--yes"]].concat()).contains("already submitted: ftjob-0"));
    // Where what was written down is lost, what is there is found.
    std::fs::remove_file(out.join("job.json")).expect("there");
    assert!(distill(&[&submit[..], &["--yes"]].concat()).contains("job       ftjob-0"));
    assert_eq!((posts(&fake, "/v1/files"), posts(&fake, "/v1/fine_tuning/jobs")), (1, 1), "nothing is paid twice");
    let adopt = |extra: &[&str]| distill(&[&["adopt", &name, "--policy", &policy], extra].concat());
    let early = adopt(&["--in-place"]);
    assert!(
        early.starts_with("exit code: 1") && early.contains("ftjob-0 is queued, there is no model to adopt"),
        "{early}"
    );
    let followed = distill(&["status", &name, "--policy", &policy, "--follow", "--every", "1"]);
    assert!(
        followed.contains("ftjob-0 is running: Step 3/9") && followed.contains("model     ft:small-1:org:x:1"),
        "{followed}"
    );
    let served = support::Served::start(Some(Path::new(&policy)));
    let ask = async || {
        let body = r#"{"model":"p","temperature":0,"messages":[{"role":"user","content":"is it?"}]}"#;
        let sent = support::client().post(format!("{}/v1/chat/completions", served.url)).body(body).send().await;
        assert_eq!(sent.expect("an answer").status(), 200);
        let seen = fake.seen();
        let chats = seen.iter().filter(|seen| seen.path.ends_with("/chat/completions"));
        chats.map(|seen| seen.json()["model"].as_str().expect("a model").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(ask().await, ["small-1"]);
    assert_eq!(ask().await, ["small-1"], "from the cache");
    let before = std::fs::read_to_string(&policy).expect("there");
    let adopted = adopt(&["--in-place", "--price", "2,3"]);
    assert!(
        adopted.starts_with("exit code: 0") && adopted.contains("small asks ft:small-1:org:x:1 in place of small-1"),
        "{adopted}"
    );
    let after = std::fs::read_to_string(&policy).expect("there");
    assert_eq!(
        after,
        before.replace("model: small-1", "model: \"ft:small-1:org:x:1\"").replacen(
            "input: 1, output: 1",
            "input: 2.00, output: 3.00",
            1
        )
    );
    assert!(adopt(&["--in-place"]).contains("nothing to do"));
    // The gateway takes it over by itself; what the model before said is not served.
    let clock = SystemClock::start();
    let mut models = ask().await;
    while models.len() < 2 && clock.now() < Duration::from_secs(30) {
        clock.sleep(Duration::from_millis(100)).await;
        models = ask().await;
    }
    assert_eq!(models, ["small-1", "ft:small-1:org:x:1"]);
}

#[test]
fn a_certificate_does_not_outlive_its_model() {
    let folder = tempfile::tempdir().expect("a folder");
    let tuned = folder.path().join("tuned.yaml").display().to_string();
    let calibrated = run(&[
        "calibrate",
        "fixtures",
        "--policy",
        "tests/policies/traffic.yaml",
        "--max-loss",
        "0.2",
        "--confidence",
        "0.8",
        "-o",
        &tuned,
    ]);
    assert!(calibrated.starts_with("exit code: 0"), "{calibrated}");
    let out = folder.path().join("out");
    let name = out.display().to_string();
    let export = ["export", "fixtures", "--policy", &tuned, "--student", "babbage", "-o", &name];
    assert!(distill(&[&export[..], &["--whole"]].concat()).contains("leave --whole out"));
    assert!(distill(&[&export[..], &["--seed", "9"]].concat()).contains("the prompts that seed 1 keeps, not 9"));
    let text = distill(&export);
    assert!(text.starts_with("exit code: 0"), "{text}");
    let job = json!({"at": "x", "model": "babbage-demo", "job": {"id": "ftjob-1", "status": "succeeded", "fine_tuned_model": "ft:babbage:1"}});
    std::fs::write(out.join("job.json"), job.to_string()).expect("written");
    let next = folder.path().join("next.yaml").display().to_string();
    let adopted = distill(&["adopt", &name, "--policy", &tuned, "-o", &next]);
    assert!(adopted.starts_with("exit code: 0") && adopted.contains("UNCERTIFIED, davinci alone answers"), "{adopted}");
    let replayed = run(&["replay", "fixtures", "--policy", &next]);
    assert!(replayed.starts_with("exit code: 0") && replayed.contains("saved 0.0%"), "{replayed}");
    let check = run(&["replay", "fixtures/facts.jsonl", "--policy", &next, "--json"]);
    assert!(check.contains("\"uncertified\": true"), "{check}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_is_told_plainly() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("o").display().to_string();
    let export = |exchanges: &str, policy: &str, student: &str, extra: &[&str]| {
        distill(&[&["export", exchanges, "--policy", policy, "--student", student, "-o", &out], extra].concat())
    };
    let demo = "policies/demo.yaml";
    for (text, said) in [
        (
            export("fixtures", demo, "adda", &[]),
            "the policy has no tier adda; ada? It has ada, babbage, curie, davinci",
        ),
        (export("fixtures", demo, "davinci", &[]), "davinci is the largest tier"),
        (export("fixtures", "tests/policies/top_only.yaml", "davinci", &[]), "the policy has one tier"),
        (
            export("fixtures", "tests/policies/traffic.yaml", "ada", &["--labels", "mark:none"]),
            "no answer has a label by --labels",
        ),
        (export("nowhere.jsonl", demo, "ada", &[]), "cannot read nowhere.jsonl"),
        (distill(&["submit", "nowhere", "--policy", demo]), "nowhere is no export"),
        (
            distill(&["plan", "fixtures", "--policy", demo, "--student", "ada", "--learns", "0.5,0.3,0.7"]),
            "the least share first",
        ),
    ] {
        assert!(!text.starts_with("exit code: 0") && text.contains(said), "{said}\n{text}");
    }
    let line = std::fs::read_to_string(root().join("fixtures/facts.jsonl")).expect("there");
    let always = small_and_large(folder.path(), "http://127.0.0.1:9/v1");
    let made = std::fs::read_to_string(chats(folder.path())).expect("there");
    let right = made.lines().find(|line| line.contains("Uruguay")).expect("one is right");
    let easy = folder.path().join("easy.jsonl");
    std::fs::write(&easy, right).expect("written");
    let easy = easy.display().to_string();
    let empty = export(&easy, &always, "small", &["--whole"]);
    assert!(
        empty.starts_with("exit code: 1") && empty.contains("the hard set is empty") && empty.contains("exchanges 1"),
        "{empty}"
    );
    let planned = distill(&["plan", &easy, "--policy", &always, "--student", "small"]);
    assert!(planned.contains("there is nothing to teach"), "{planned}");
    assert!(!Path::new(&out).exists(), "nothing is written where nothing is taught");
    let broken = folder.path().join("broken.jsonl");
    std::fs::write(&broken, format!("{line}{{\n")).expect("written");
    let told = export(&broken.display().to_string(), demo, "ada", &[]);
    assert!(told.contains("broken.jsonl:15:") && told.contains("--skip-broken"), "{told}");
    // The API refuses.
    let (text, exported) = exported(folder.path(), &[]);
    assert!(text.starts_with("exit code: 0"), "{text}");
    let trainer = Trainer::default();
    let fake = Fake::start(move |seen| trainer.answer(seen)).await;
    let policy = small_and_large(folder.path(), &fake.base_url);
    let name = exported.display().to_string();
    let refused = distill(&["submit", &name, "--policy", &policy, "--yes", "--model", "no-such-model"]);
    assert!(
        refused.starts_with("exit code: 1")
            && refused.contains("status 404: The model `no-such-model` cannot be fine-tuned"),
        "{refused}"
    );
    std::fs::write(exported.join("chat.train.jsonl"), "{}\n").expect("written");
    assert!(distill(&["submit", &name, "--policy", &policy, "--yes"]).contains("is not what was exported"));
    assert!(distill(&["adopt", &name, "--policy", &policy]).contains("--in-place"));
}
