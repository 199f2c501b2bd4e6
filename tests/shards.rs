//! A replay in parts, merged, says what the replay of all of it says, to the byte.

mod support;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use support::{cascade, root, shown};

fn run(arguments: &[&str]) -> String {
    let output = cascade().args(arguments).output().expect("it runs");
    assert!(output.status.success(), "{}", shown(&output));
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn path(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// Writes the shards of a replay.
fn parts(folder: &Path, recording: &Path, policy: &Path, of: u32, more: &[&str]) -> Vec<PathBuf> {
    let part = |shard: u32| {
        let to = folder.join(format!("{shard}-of-{of}.part"));
        let shard = format!("{shard}/{of}");
        let replay = ["replay", path(recording), "--policy", path(policy), "--shard", &shard, "--partial", path(&to)];
        run(&[&replay[..], more].concat());
        to
    };
    (1..=of).map(part).collect()
}

/// Compares texts, JSON and pages, parts in any order.
fn same(recording: &Path, policy: &Path, of: u32, forms: &[&str]) -> String {
    let mut told = String::new();
    let folder = tempfile::tempdir().expect("a folder");
    let mut parts = parts(folder.path(), recording, policy, of, &[]);
    parts.reverse();
    let [whole, merged] = ["whole.html", "merged.html"].map(|name| folder.path().join(name));
    for form in forms {
        let all = run(&["replay", path(recording), "--policy", path(policy), "--report", path(&whole), form]);
        let mut arguments = vec!["report", "merge", "--policy", path(policy), "--report", path(&merged), form];
        arguments.extend(parts.iter().map(|part| path(part)));
        assert!(all == run(&arguments), "{of} shards of {}", recording.display());
        told = all;
    }
    let [whole, merged] = [whole, merged].map(|page| std::fs::read(page).expect("a page"));
    assert!(whole == merged);
    told
}

#[test]
fn shards_of_the_fixtures_merged_are_their_replay() {
    let demo = root().join("policies/demo.yaml");
    for of in [1, 3, 8] {
        same(&root().join("fixtures"), &demo, of, &["--metrics", "--json"]);
    }
    // Conversations that stay, and states of a calibration.
    let folder = tempfile::tempdir().expect("a folder");
    let tuned = folder.path().join("tuned.yaml");
    run(&[
        "calibrate",
        "fixtures",
        "--policy",
        path(&demo),
        "--max-loss",
        "0.25",
        "--confidence",
        "0.8",
        "-o",
        path(&tuned),
    ]);
    support::append(&tuned, "conversations: { stay: 10m }\n");
    same(&root().join("fixtures"), &tuned, 4, &["--metrics"]);
}

/// More prompts than a study keeps, one in five an earlier one again.
#[test]
fn shards_of_more_than_a_study_keeps_merged_are_the_replay() {
    let folder = tempfile::tempdir().expect("a folder");
    let [recording, policy] = ["many.jsonl", "policy.yaml"].map(|name| folder.path().join(name));
    let mut lines = String::new();
    for number in 0..4500u32 {
        let asked = if number % 5 == 0 { number / 7 } else { number };
        let _ = write!(
            lines,
            r#"{{"id":"x{number}","arrived_ms":{},"path":"/v1/chat/completions","request":{{"model":"m","temperature":0,"messages":[{{"role":"user","content":"What is {asked}?"}}]}},"answers":{{"#,
            number * 3
        );
        for (at, (tier, bad)) in [("small", 3), ("large", 11)].into_iter().enumerate() {
            let (comma, quality) = (if at > 0 { "," } else { "" }, u8::from(!asked.is_multiple_of(bad)));
            let logprob = if asked.is_multiple_of(4) { -1.5 } else { -0.01 };
            let _ = write!(
                lines,
                r#"{comma}"{tier}":{{"status":200,"body":{{"object":"chat.completion","model":"{tier}","choices":[{{"index":0,"message":{{"role":"assistant","content":"{asked}"}},"logprobs":{{"content":[{{"token":"t","logprob":{logprob},"bytes":null,"top_logprobs":[]}}]}},"finish_reason":"stop"}}],"usage":{{"prompt_tokens":20,"completion_tokens":{}}}}},"elapsed_ms":{}.5,"quality":{quality}}}"#,
                1 + asked % 9,
                10 + asked % 300,
            );
        }
        lines += "}}\n";
        if number % 50 == 0 {
            // Not whole: a tier's label is not known.
            let unlabelled = lines.rfind(",\"quality\"").expect("a label");
            lines.replace_range(unlabelled..lines.len() - 3, "}");
        }
    }
    std::fs::write(&recording, lines).expect("written");
    let text = "name: m\nupstreams: { u: { fixtures: embedded } }\ntiers:\n  - { name: small, model: small, upstream: u, price: { input: 0.1, output: 0.3 }, cache: { ttl: 5s }, accept: { score: confidence, at_least: 0.7 } }\n  - { name: large, model: large, upstream: u, price: { input: 1.1, output: 3.7 }, cache: { ttl: 5s } }\n";
    std::fs::write(&policy, text).expect("written");
    let told = same(&recording, &policy, 5, &["--json"]);
    assert!(
        told.contains("\"left_out\": 97")
            && told.contains("\"not_sampled\": 403")
            && !told.contains("\"cache_hits\": 0"),
        "{told}"
    );
}

/// One line: a prompt at a time, with an answer that takes so long.
fn line(id: &str, asked: &str, arrived: u32) -> String {
    let body = serde_json::json!({"object": "chat.completion", "model": "large", "choices": [{"index": 0,
        "message": {"role": "assistant", "content": "yes"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 20, "completion_tokens": 5}});
    let line = serde_json::json!({"id": id, "arrived_ms": arrived, "path": "/v1/chat/completions",
        "request": {"model": "m", "temperature": 0, "messages": [{"role": "user", "content": asked}]},
        "answers": {"large": {"status": 200, "body": body, "elapsed_ms": 700.0, "quality": 1}}});
    format!("{line}\n")
}

#[test]
fn files_begin_and_lines_arrive_at_the_same_time_in_every_shard() {
    let folder = tempfile::tempdir().expect("a folder");
    let recording = folder.path().join("recording");
    std::fs::create_dir(&recording).expect("a folder");
    let [one, two] = ["a.jsonl", "b.jsonl"].map(|name| recording.join(name));
    // Q holds the file open; what comes before the line above it is taken to come with it.
    let first =
        [line("1", "P", 0), line("2", "Q", 70_000), line("3", "P", 0), line("4", "R", 70_500), line("5", "P", 70_600)];
    std::fs::write(&one, first.concat() + "broken\n").expect("written");
    std::fs::write(&two, line("6", "P", 0) + &line("7", "Q", 2000)).expect("written");
    let policy = folder.path().join("policy.yaml");
    let text = "name: m\nupstreams: { u: { fixtures: embedded } }\ntiers:\n  - { name: large, model: large, upstream: u, price: { input: 1.1, output: 3.7 }, cache: { ttl: 65s } }\n";
    std::fs::write(&policy, text).expect("written");
    let skipping = |of: u32| parts(folder.path(), &recording, &policy, of, &["--skip-broken"]);
    let merge = ["report", "merge", "--policy", path(&policy)];
    for of in [2, 3, 8] {
        let named = skipping(of);
        let named: Vec<&str> = named.iter().map(|part| path(part)).collect();
        let whole = run(&["replay", path(&recording), "--policy", path(&policy), "--skip-broken"]);
        assert_eq!(run(&[&merge[..], &named].concat()), whole, "{of} shards");
        assert!(whole.contains("broken lines skipped: 1") && whole.contains("7 prompts"), "{whole}");
    }
    // A shard of what has grown since is none of this.
    let before = folder.path().join("before.part");
    std::fs::rename(&skipping(2)[0], &before).expect("kept");
    std::fs::write(&two, line("6", "P", 0) + &line("7", "Q", 2000) + &line("8", "S", 3000)).expect("written");
    let grown = &skipping(2)[1];
    let output = cascade().args(merge).arg(&before).arg(grown).output().expect("it runs");
    let told = shown(&output);
    assert!(told.contains("part 2 is a shard of another recording than the first one"), "{told}");
}

#[test]
fn parts_that_make_no_whole_say_why() {
    let folder = tempfile::tempdir().expect("a folder");
    let demo = root().join("policies/demo.yaml");
    let facts = root().join("fixtures/facts.jsonl");
    let thirds = parts(folder.path(), &facts, &demo, 3, &[]);
    let halves = parts(folder.path(), &facts, &demo, 2, &[]);
    let [one, two, half] = [&thirds[0], &thirds[1], &halves[0]].map(|part| path(part));
    let other = folder.path().join("other.part");
    run(&["replay", path(&facts), "--labels", "exact", "--partial", path(&other)]);
    let cut = folder.path().join("cut.part");
    let mut bytes = std::fs::read(one).expect("a part");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&cut, bytes).expect("written");
    for (arguments, wanted) in [
        (&[one, two][..], "these shards are missing: 3"),
        (&[one, two, one], "part 3 is shard 1/3, which is there twice"),
        (&[one, half], "part 2 is shard 1/2, which is there twice or of another number of shards"),
        (
            &[one, path(&other)],
            "part 2 has its labels from `exact match with the reference`, the first one from `recorded`",
        ),
        (&[path(&cut)], "is no part of a replay by this version of cascade"),
        (&["README.md"], "is no part of a replay by this version of cascade"),
        (&[one, "--policy", "tests/policies/top_only.yaml"], "part 1 ran under the policy "),
        (&[one, two, "--fail-if", "policy.quality<0.9"], "these shards are missing"),
    ] {
        let output = cascade().args(["report", "merge"]).args(arguments).output().expect("it runs");
        let told = shown(&output);
        assert!(told.starts_with("exit code: 1") && told.contains(wanted), "{arguments:?}: {told}");
    }
    // Parts by file need no shards.
    let parts = ["fixtures/facts.jsonl", "fixtures/code.jsonl"].map(|file| {
        let to = folder.path().join(file.replace('/', "-"));
        run(&["replay", file, "--partial", path(&to)]);
        to
    });
    let merged = run(&["report", "merge", path(&parts[0]), path(&parts[1]), "--metrics"]);
    assert_eq!(merged, run(&["replay", "fixtures/facts.jsonl", "fixtures/code.jsonl", "--metrics"]));
    let output = cascade().args(["replay", "fixtures", "--shard", "9/8"]).output().expect("it runs");
    assert!(shown(&output).contains("write it as 1/8 to 8/8, 65536 at most"), "{}", shown(&output));
}
