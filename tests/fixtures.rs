//! The project's own fixtures: enough of them, whole, varied, free of secrets.

use std::collections::{BTreeMap, HashSet};

use bytes::Bytes;
use prompt_cascade::exchange::Exchange;
use prompt_cascade::recording::{EMBEDDED, load};

const TIERS: [&str; 4] = ["ada", "babbage", "curie", "davinci"];

#[test]
fn there_are_enough_exchanges_of_every_kind_and_all_tiers_answer_each() {
    let all = load("embedded").expect("readable");
    assert!(all.len() >= 60, "{}", all.len());
    let mut tasks = BTreeMap::<String, usize>::new();
    let mut ids = HashSet::new();
    for exchange in &all {
        assert!(ids.insert(&exchange.id), "{} is there twice", exchange.id);
        *tasks.entry(exchange.task.clone().expect("a task")).or_default() += 1;
        let names: Vec<&str> = exchange.answers.keys().map(String::as_str).collect();
        assert_eq!(names, TIERS, "{}", exchange.id);
        for (tier, recorded) in &exchange.answers {
            let answer =
                recorded.answer(exchange.prompt.endpoint).unwrap_or_else(|e| panic!("{} {tier}: {e}", exchange.id));
            assert!(
                answer.usage.is_some() && recorded.quality.is_some() && recorded.elapsed_ms.is_some(),
                "{} {tier}",
                exchange.id
            );
        }
    }
    let kinds = [
        "arithmetic",
        "code",
        "extraction",
        "facts",
        "few_shot",
        "long_form",
        "multi_turn",
        "refusals",
        "tools",
        "truncation",
    ];
    assert_eq!(tasks.keys().map(String::as_str).collect::<Vec<_>>(), kinds);
    assert!(tasks.values().all(|n| *n >= 6), "{tasks:?}");
}

#[test]
fn most_answers_have_logprobs_and_their_tokens_add_up_to_the_text() {
    let (mut with, mut all) = (0, 0);
    for (name, text) in EMBEDDED {
        for line in text.lines() {
            let exchange: serde_json::Value = serde_json::from_str(line).expect(name);
            for answer in exchange["answers"].as_object().expect("answers").values() {
                all += 1;
                let choice = &answer["body"]["choices"][0];
                let logprobs = &choice["logprobs"];
                let chat = logprobs["content"]
                    .as_array()
                    .map(|tokens| tokens.iter().map(|t| t["token"].as_str().expect("text")).collect::<String>());
                let legacy = logprobs["tokens"]
                    .as_array()
                    .map(|tokens| tokens.iter().map(|t| t.as_str().expect("text")).collect::<String>());
                let Some(joined) = chat.or(legacy) else { continue };
                with += 1;
                assert_eq!(
                    joined,
                    choice["message"]["content"].as_str().or(choice["text"].as_str()).expect("text"),
                    "{}",
                    exchange["id"]
                );
            }
        }
    }
    assert!(with * 10 >= all * 7, "{with} of {all}");
}

#[test]
fn no_line_holds_anything_like_a_secret() {
    for (name, text) in EMBEDDED {
        for word in ["sk-", "authorization", "api_key", "Bearer "] {
            assert!(!text.to_lowercase().contains(&word.to_lowercase()), "{name} holds {word:?}");
        }
    }
}

#[test]
fn every_fixture_file_is_embedded() {
    let mut files: Vec<String> = std::fs::read_dir("fixtures")
        .expect("fixtures/")
        .map(|e| e.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|e| e == "jsonl"))
        .map(|path| path.file_name().and_then(|n| n.to_str()).expect("utf-8").to_owned())
        .collect();
    files.sort();
    assert_eq!(files, EMBEDDED.map(|(name, _)| name.to_owned()));
}

#[test]
fn the_example_of_the_readme_is_an_exchange() {
    let readme = std::fs::read_to_string("fixtures/README.md").expect("fixtures/README.md");
    let example = readme.split("```json\n").nth(1).and_then(|rest| rest.split("\n```").next()).expect("an example");
    let exchange = Exchange::parse(&Bytes::from(example.to_owned())).expect("an exchange");
    assert_eq!(exchange.answers.keys().map(String::as_str).collect::<Vec<_>>(), TIERS);
    assert!(exchange.answers.values().all(|a| a.answer(exchange.prompt.endpoint).is_ok()));
}
