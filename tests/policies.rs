//! Policies: those that ship are fine, and a wrong one says all that is wrong.

use std::fmt::Write as _;
use std::fs;

use prompt_cascade::policy::{Outside, Policy, Problems};

fn variables(name: &str) -> Option<String> {
    match name {
        "SET" => Some("value".to_owned()),
        "OPENAI_API_KEY" => Some("sk-of-the-environment".to_owned()),
        _ => None,
    }
}

fn parse(source: &str) -> Result<(Policy, Problems), Problems> {
    Policy::parse("policy.yaml", source, Outside { variables: &variables, demands_variables: true, ..Outside::none() })
}

/// A sound policy with one thing put in place of another.
fn with(old: &str, new: &str) -> String {
    const SOUND: &str = "\
name: sound
upstreams:
  up: { base_url: \"http://127.0.0.1:1/v1\", api_key: \"${OPENAI_API_KEY}\" }
tiers:
  - name: ada
    model: small
    upstream: up
    price: { input: 0.1, output: 0.4 }
    accept: { score: confidence, at_least: 0.7 }
  - name: davinci
    model: large
    upstream: up
    price: { input: 2, output: 8 }
routes:
  - { when: { tools: true }, start_at: davinci }
";
    assert!(SOUND.contains(old), "{old}");
    SOUND.replacen(old, new, 1)
}

#[test]
fn shipped_policies_are_fine_and_without_warnings() {
    let mut count = 0;
    for entry in fs::read_dir("policies").expect("policies/") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|e| e != "yaml") {
            continue;
        }
        let source = fs::read_to_string(&path).expect("readable");
        let (policy, problems) = Policy::parse(
            &path.display().to_string(),
            &source,
            Outside { variables: &variables, demands_variables: true, ..Outside::none() },
        )
        .unwrap_or_else(|p| panic!("{p}"));
        assert_eq!(problems.warnings_and_errors(), (0, 0), "{problems}");
        assert!(source.starts_with("# yaml-language-server: $schema=policy.schema.json\n"), "{}", path.display());
        assert!(!policy.tests.is_empty(), "{} has no tests", path.display());
        count += 1;
    }
    assert!(count >= 4);
}

#[test]
fn a_policy_written_out_with_its_defaults_is_the_same_policy() {
    for path in ["policies/classic.yaml", "policies/modern.yaml", "policies/local-first.yaml", "policies/demo.yaml"] {
        let source = fs::read_to_string(path).expect("readable");
        let (policy, _) = Policy::parse(path, &source, Outside::none()).unwrap_or_else(|p| panic!("{p}"));
        let (again, _) = Policy::parse("effective", &policy.effective, Outside::none())
            .unwrap_or_else(|p| panic!("{p}\n{}", policy.effective));
        assert_eq!(again.effective, policy.effective);
        assert_eq!(again.digest, policy.digest);
    }
}

#[test]
fn the_schema_beside_the_policies_is_the_one_of_the_code() {
    let wanted = format!("{:#}\n", Policy::schema());
    if std::env::var_os("UPDATE_SCHEMA").is_some() {
        fs::write("policies/policy.schema.json", &wanted).expect("written");
    }
    let kept = fs::read_to_string("policies/policy.schema.json").expect("policies/policy.schema.json");
    assert!(kept == wanted, "run: cascade schema > policies/policy.schema.json");
}

#[test]
fn every_problem_is_reported_at_once_with_place_and_remedy() {
    let source = "\
name: two words
upstrems: {}
upstreams:
  openai: { base_url: \"ftp://example.org\", api_key: sk-abcdefghijklmnop1234 }
  other: { base_url: \"https://example.org/v1\", api_key: \"${NOT_SET_ANYWHERE}\", timeouts: { connect: 2 } }
tiers:
  - { name: ada, model: m, upstream: opnai, price: { input: -1, output: cheap } }
  - { name: ada, model: m, upstream: other, accept: { gates: [complet, { matches: \"(\" }], score: confidence, at_least: 72 } }
  - { name: davinci, model: m, upstream: other, cache: { capacity: 64 megs }, limits: { requests_per_minute: 0 }, accept: { score: agreement, at_least: 1 } }
routes:
  - { when: { tols: true }, start_at: ada }
";
    let problems = parse(source).expect_err("a policy full of problems");
    insta::assert_snapshot!(problems.to_string());
}

#[test]
fn rules_that_join_several_keys_are_reported_too() {
    let all = [
        with("upstream: up\n    price: { input: 0.1", "upstream: upp\n    price: { input: 0.1"),
        with("    accept: { score: confidence, at_least: 0.7 }\n", ""),
        with("accept: { score: confidence, at_least: 0.7 }", "accept: { gates: [] }"),
        with("accept: { score: confidence, at_least: 0.7 }", "accept: { score: confidence }"),
        with("accept: { score: confidence, at_least: 0.7 }", "accept: { at_least: 0.7 }"),
        with(
            "price: { input: 2, output: 8 }\n",
            "price: { input: 2, output: 8 }\n    accept: { score: confidence, at_least: 0.7 }\n",
        ),
        with("name: davinci", "name: ada"),
        with("name: sound", "name: ada"),
        with(
            "{ base_url: \"http://127.0.0.1:1/v1\", api_key: \"${OPENAI_API_KEY}\" }",
            "{ timeouts: { connect: 1s } }",
        ),
        with("start_at: davinci", "tiers: [davinci, ada]"),
        with("start_at: davinci }", "start_at: davinci, tiers: [ada] }"),
        with(
            "{ tools: true }, start_at: davinci }",
            "{}, start_at: ada }\n  - { when: { model: x }, start_at: davinci }",
        ),
        with("{ tools: true }", "{ model: ada }"),
        with("davinci }\n", "davinci }\n  - { when: { tools: true, model: \"x*\" }, start_at: ada }\n"),
        with("routes:\n", "passthrough: { upstream: nowhere }\nroutes:\n"),
        with("tiers:\n", "  f: { fixtures: embedded }\npassthrough: { upstream: f }\ntiers:\n"),
        with("routes:\n", "named_tier: pinned\nroutes:\n"),
        with("routes:\n", "cors: [\"*\", \"https://x.example/path\"]\nroutes:\n"),
        with("routes:\n", "stream: { mode: { hold: 5 } }\nroutes:\n"),
        with("accept: { score: confidence, at_least: 0.7 }", "accept: { gates: [{ length: {} }] }"),
        with("output: 0.4 }", "output: 0.4 }\n    limits: { requests_per_minute: 1, burst: 100000 }"),
        with("output: 0.4 }", "output: 0.4 }\n    limits: { burst: 5, when_full: wait }"),
        with("output: 0.4 }", "output: 0.4 }\n    limits: { concurrent: 5, when_full: { refuse: 1s } }"),
        with(
            "output: 0.4 }",
            "output: 0.4 }\n    cache: { similar: { upstream: nowhere, model: m, at_least: 0.5, questions: 0 } }",
        ),
        with(
            "output: 0.4 }",
            "output: 0.4 }\n    cache: { similar: { upstream: up, model: m, at_least: 0.5, questions: 0 } }",
        ),
    ];
    let shown: Vec<String> = all.iter().map(|source| parse(source).expect_err(source).to_string()).collect();
    insta::assert_snapshot!(shown.join("\n\n"));
}

#[test]
fn what_is_not_yaml_says_where() {
    let shown = |source: &str| parse(source).expect_err(source).to_string();
    insta::assert_snapshot!(
        [
            shown("name: [unclosed\n"),
            shown("a: 1\n---\nb: 2\n"),
            shown(""),
            shown("- a\n- b\n"),
            shown("name: \"x\"”\n"),
            shown(&"- ".repeat(100_000)),
            shown(&with("name: sound\n", "name: sound\nname: sound\n")),
        ]
        .join("\n\n")
    );
}

#[test]
fn aliases_that_unfold_without_end_are_refused() {
    let mut source = "a: &a [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for pair in ["ab", "bc", "cd", "de", "ef", "fg", "gh", "hi"] {
        let (from, to) = pair.split_at(1);
        let items = [from; 9].map(|name| format!("*{name}")).join(", ");
        let _ = writeln!(source, "{to}: &{to} [{items}]");
    }
    assert!(parse(&source).expect_err("too many").to_string().contains("too many values"));
}

#[test]
fn variables_are_filled_and_secrets_never_shown() {
    let source = with("http://127.0.0.1:1/v1", "https://${SET}.example${MISSING:-/v1}");
    let (policy, _) = parse(&source).unwrap_or_else(|p| panic!("{p}"));
    let shown = format!("{policy:?}{}", policy.effective);
    assert!(shown.contains("https://value.example/v1"));
    assert!(shown.contains("${OPENAI_API_KEY}"));
    assert!(!shown.contains("sk-of-the-environment"), "{shown}");
}

#[test]
fn what_can_be_used_but_is_odd_is_a_warning() {
    let all = [
        with("    price: { input: 2, output: 8 }\n", ""),
        with("score: confidence, at_least: 0.7", "score: agreement, at_least: 1"),
        with("tiers:\n", "  spare: { base_url: \"http://127.0.0.1:2/v1\" }\ntiers:\n"),
    ];
    let shown: Vec<String> =
        all.iter().map(|source| parse(source).unwrap_or_else(|p| panic!("{p}")).1.to_string()).collect();
    insta::assert_snapshot!(shown.join("\n\n"));
}

#[test]
fn a_command_that_asks_nobody_needs_no_variables() {
    let source = with("${OPENAI_API_KEY}", "${NOT_SET_ANYWHERE}");
    assert!(Policy::parse("policy.yaml", &source, Outside::none()).is_ok());
    let problems = parse(&source).expect_err("not set").to_string();
    assert!(problems.contains("the environment variable NOT_SET_ANYWHERE is not set"), "{problems}");
}
