//! Every rule of the cascade, as rows of a table.

use std::sync::Arc;
use std::time::Duration;

use prompt_cascade::answer::Answer;
use prompt_cascade::decision::{Delivery, Step, judge, next_step};
use prompt_cascade::openai::Endpoint;
use prompt_cascade::policy::{Outside, Policy};
use prompt_cascade::price::{Cost, Usd};
use prompt_cascade::prompt::Prompt;
use prompt_cascade::scoring::{Grade, Score, Seen};
use prompt_cascade::trace::{Attempt, CacheUse, Failure, Outcome, Trace, Verdict, Why};
use proptest::prelude::*;

const LADDER: &str = r#"
name: ladder
upstreams: { u: { fixtures: embedded } }
tiers:
  - { name: ada, model: a, upstream: u, accept: { score: confidence, at_least: 0.7 } }
  - { name: babbage, model: b, upstream: u, accept: { score: confidence, at_least: 0.7, unscored: accept } }
  - { name: curie, model: c, upstream: u, accept: { gates: [not_empty] } }
  - { name: davinci, model: d, upstream: u }
routes:
  - { when: { model: fast }, tiers: [ada, babbage] }
  - { when: { tools: true }, start_at: curie }
  - { when: { prompt_tokens_over: 100 }, start_at: davinci }
  - { when: { model: "gpt-4*" }, start_at: babbage }
"#;

fn policy() -> Policy {
    Policy::parse("ladder.yaml", LADDER, Outside::none()).expect("a fine policy").0
}

fn prompt(body: &str) -> Prompt {
    Prompt::parse(Endpoint::Chat, body.to_owned().into()).expect(body)
}

fn attempt(tier: usize, outcome: Outcome) -> Attempt {
    Attempt {
        tier,
        outcome,
        cost: Cost::FREE,
        judging: Cost::FREE,
        cache: CacheUse::Off,
        elapsed: Duration::ZERO,
        quality: None,
    }
}

fn answered(is_accepted: bool) -> Outcome {
    let body = r#"{"choices":[{"index":0,"message":{"content":"x"},"finish_reason":"stop"}]}"#;
    let answer = Arc::new(Answer::from_body(Endpoint::Chat, body.into()).expect("an answer"));
    Outcome::Answered {
        answer,
        seen: Seen::default(),
        verdict: Verdict { is_accepted, ..Verdict::rejected(Why::Unscored) },
    }
}

fn rejected(why: Why) -> Outcome {
    let Outcome::Answered { answer, seen, .. } = answered(false) else { unreachable!("it is answered") };
    Outcome::Answered { answer, seen, verdict: Verdict::rejected(why) }
}

fn scored(value: f64) -> Outcome {
    let score = |value| Score::new(value).expect("in range");
    rejected(Why::Score { score: score(value), at_least: score(0.7) })
}

/// What the rule says, in words: `ask ada`, `serve 1`, `give up`.
fn next(policy: &Policy, prompt: &Prompt, attempts: Vec<Attempt>) -> String {
    let trace = Trace { attempts, ..Trace::default() };
    let ladder = policy.ladder_for(prompt).expect("a known model");
    match next_step(policy, &ladder, prompt.stream, &trace) {
        Step::Ask { tier, is_last, delivery } => {
            let delivery = match delivery {
                Delivery::Hold => String::new(),
                Delivery::Prefix(tokens) => format!(" first {tokens}"),
                Delivery::Flow => " flowing".to_owned(),
            };
            format!("ask {}{}{delivery}", tier.name, if is_last { " last" } else { "" })
        }
        Step::Serve(attempt) => format!("serve {attempt}"),
        Step::GiveUp => "give up".to_owned(),
    }
}

#[test]
fn what_to_do_next() {
    let policy = policy();
    let whole = prompt(r#"{"model":"ladder","messages":[]}"#);
    let fast = prompt(r#"{"model":"fast","messages":[]}"#);
    let failed = || Outcome::Failed(Failure::NotRecorded);
    let down = || Outcome::Failed(Failure::Unreachable("down".to_owned()));
    let gated = || rejected(Why::Gate("complete"));
    for (prompt, attempts, wanted) in [
        (&whole, vec![], "ask ada"),
        (&whole, vec![attempt(0, answered(true))], "serve 0"),
        (&whole, vec![attempt(0, answered(false))], "ask babbage"),
        (&whole, vec![attempt(0, failed())], "ask babbage"),
        (&whole, vec![attempt(0, failed()), attempt(1, answered(false))], "ask curie"),
        (&whole, vec![attempt(0, answered(false)), attempt(1, answered(true))], "serve 1"),
        (&whole, vec![attempt(2, answered(false))], "ask davinci last flowing"),
        (&whole, vec![attempt(3, Outcome::Flowing { why: Why::LastTier })], "serve 0"),
        (&whole, vec![attempt(3, failed())], "give up"),
        (&fast, vec![], "ask ada"),
        (&fast, vec![attempt(0, answered(false))], "ask babbage last flowing"),
        (&fast, vec![attempt(0, answered(false)), attempt(1, failed())], "give up"),
        // What failed, or would cost too much: the best answer that passed the gates.
        (&fast, vec![attempt(0, answered(false)), attempt(1, down())], "serve 0"),
        (&fast, vec![attempt(0, gated()), attempt(1, down())], "give up"),
        (&whole, vec![attempt(0, scored(0.3)), attempt(1, scored(0.2)), attempt(3, down())], "serve 0"),
        (&whole, vec![attempt(0, scored(0.3)), attempt(1, scored(0.3)), attempt(3, down())], "serve 1"),
    ] {
        assert_eq!(next(&policy, prompt, attempts.clone()), wanted, "after {attempts:?}");
    }
}

#[test]
fn how_far_a_budget_goes() {
    let whole = prompt(r#"{"model":"ladder","messages":[]}"#);
    let no = |tier, seconds, dollars| Attempt {
        elapsed: Duration::from_secs(seconds),
        cost: Cost { usd: Usd::from_dollars(dollars), estimated: false },
        ..attempt(tier, scored(0.3))
    };
    for (budget, attempts, wanted) in [
        ("{ max_attempts: 1 }", vec![], "ask davinci last flowing"),
        ("{ max_attempts: 2 }", vec![], "ask ada"),
        ("{ max_attempts: 2 }", vec![no(0, 0, 0.0)], "ask davinci last flowing"),
        ("{ max_attempts: 3 }", vec![no(0, 0, 0.0)], "ask babbage"),
        ("{ max_attempts: 2 }", vec![no(0, 0, 0.0), attempt(3, answered(true))], "serve 1"),
        ("{ max_added_latency: 4s }", vec![no(0, 3, 0.0)], "ask babbage"),
        ("{ max_added_latency: 4s }", vec![no(0, 3, 0.0), no(1, 1, 0.0)], "ask davinci last flowing"),
        ("{ max_cost_usd: 0.05 }", vec![no(0, 0, 0.04)], "ask babbage"),
        ("{ max_cost_usd: 0.05 }", vec![no(0, 0, 0.04), no(1, 0, 0.01)], "serve 1"),
        (
            "{ max_cost_usd: 0.05 }",
            vec![Attempt { outcome: rejected(Why::Gate("complete")), ..no(0, 0, 0.05) }],
            "ask babbage last flowing",
        ),
    ] {
        let source = format!("{LADDER}budget: {budget}\n");
        let policy = Policy::parse("ladder.yaml", &source, Outside::none()).unwrap_or_else(|p| panic!("{p}")).0;
        assert_eq!(next(&policy, &whole, attempts.clone()), wanted, "{budget} after {attempts:?}");
    }
    let source = format!("{LADDER}when_all_fail: error\n");
    let policy = Policy::parse("ladder.yaml", &source, Outside::none()).unwrap_or_else(|p| panic!("{p}")).0;
    let down = Outcome::Failed(Failure::Unreachable("down".to_owned()));
    assert_eq!(next(&policy, &whole, vec![attempt(0, scored(0.3)), attempt(3, down)]), "give up");
}

#[test]
fn how_a_streamed_answer_is_handed_over() {
    let whole = prompt(r#"{"model":"ladder","messages":[]}"#);
    let streamed = prompt(r#"{"model":"ladder","stream":true,"messages":[]}"#);
    for (mode, prompt, first, after_a_failure) in [
        ("hold", &streamed, "ask ada", "ask babbage"),
        ("{ prefix: { tokens: 9 } }", &streamed, "ask ada first 9", "ask babbage first 9"),
        ("prefix", &streamed, "ask ada first 24", "ask babbage first 24"),
        ("prefix", &whole, "ask ada", "ask babbage"),
        ("direct", &streamed, "ask ada last flowing", "ask babbage last flowing"),
        ("direct", &whole, "ask ada", "ask babbage"),
    ] {
        let source = format!("{LADDER}stream: {{ mode: {mode} }}\n");
        let policy = Policy::parse("ladder.yaml", &source, Outside::none()).unwrap_or_else(|p| panic!("{p}")).0;
        assert_eq!(next(&policy, prompt, vec![]), first, "{mode}");
        let failed = attempt(0, Outcome::Failed(Failure::NotRecorded));
        assert_eq!(next(&policy, prompt, vec![failed]), after_a_failure, "{mode}");
    }
}

#[test]
fn which_tiers_a_prompt_may_be_sent_to() {
    let policy = policy();
    let long = format!(r#"{{"model":"ladder","messages":[{{"content":"{}"}}]}}"#, "x".repeat(500));
    for (body, wanted) in [
        (r#"{"model":"ladder","messages":[]}"#, &[0, 1, 2, 3][..]),
        (r#"{"model":"fast","messages":[]}"#, &[0, 1]),
        (r#"{"model":"curie","messages":[]}"#, &[2]),
        (r#"{"model":"text-curie-001","messages":[]}"#, &[2]),
        (r#"{"model":"davinci-002","messages":[]}"#, &[3]),
        (r#"{"model":"text-davinci-003","messages":[]}"#, &[3]),
        (r#"{"model":"curie","tools":[{}],"messages":[]}"#, &[2]),
        (r#"{"model":"gpt-4o-mini","messages":[]}"#, &[1, 2, 3]),
        (r#"{"model":"ladder","tools":[{}],"messages":[]}"#, &[2, 3]),
        (r#"{"model":"ladder","tools":[],"messages":[]}"#, &[0, 1, 2, 3]),
        (r#"{"model":"ladder","store":true,"messages":[]}"#, &[3]),
        (r#"{"model":"fast","store":true,"messages":[]}"#, &[1]),
        (r#"{"model":"ladder","logit_bias":{},"messages":[]}"#, &[3]),
        (r#"{"model":"ladder","functions":[{}],"messages":[]}"#, &[2, 3]),
        (&long, &[3]),
    ] {
        assert_eq!(policy.ladder_for(&prompt(body)).expect(body).tiers(), wanted, "{body}");
    }
    let typo = prompt(r#"{"model":"nope","tools":[{}],"messages":[]}"#);
    assert!(policy.ladder_for(&typo).is_err(), "a route without a model lets no unknown model in");
    assert_eq!(policy.ladder_for_recorded(&typo).tiers(), [2, 3]);
    let ids = Prompt::parse(Endpoint::Completions, r#"{"model":"ladder","prompt":[[1,2]]}"#.into()).expect("a prompt");
    assert_eq!(policy.ladder_for(&ids).expect("known").tiers(), [3], "token ids mean something to one model only");
    let unknown = policy.ladder_for(&prompt(r#"{"model":"laddr","messages":[]}"#)).expect_err("unknown");
    assert_eq!(unknown.meant.as_deref(), Some("ladder"));
}

#[test]
fn a_tier_that_cannot_take_a_prompt_is_passed_over() {
    let able = LADDER
        .replace("model: a, upstream: u", "model: a, upstream: u, can: [tools], context_tokens: 50")
        .replace("model: d, upstream: u", "model: d, upstream: u, can: [tools, json_schema]");
    let policy = Policy::parse("ladder.yaml", &able, Outside::none()).unwrap_or_else(|p| panic!("{p}")).0;
    let schema =
        r#"{"model":"ladder","response_format":{"type":"json_schema","json_schema":{"schema":{}}},"messages":[]}"#;
    let picture = r#"{"model":"ladder","messages":[{"content":[{"type":"image_url","image_url":{"url":"x"}}]}]}"#;
    let long = format!(r#"{{"model":"ladder","messages":[{{"content":"{}"}}]}}"#, "x".repeat(300));
    for (body, wanted) in [
        (r#"{"model":"ladder","messages":[]}"#, &[0, 1, 2, 3][..]),
        (schema, &[1, 2, 3]),
        (picture, &[1, 2]),
        (&long, &[1, 2, 3]),
        (&picture.replace("ladder", "davinci"), &[3]),
    ] {
        assert_eq!(policy.ladder_for(&prompt(body)).expect(body).tiers(), wanted, "{body}");
    }
}

#[test]
fn a_named_tier_may_be_a_ceiling_instead_of_a_pin() {
    let source = format!("{LADDER}named_tier: downshift\n");
    let policy = Policy::parse("ladder.yaml", &source, Outside::none()).expect("a fine policy").0;
    for (model, wanted) in [("ada", &[0][..]), ("curie", &[0, 1, 2]), ("text-davinci-003", &[0, 1, 2, 3])] {
        let body = format!(r#"{{"model":"{model}","messages":[]}}"#);
        assert_eq!(policy.ladder_for(&prompt(&body)).expect(model).tiers(), wanted, "{model}");
    }
    for unknown in ["text-ada", "text-gpt-001", "ada-", "curie-x"] {
        let body = format!(r#"{{"model":"{unknown}","messages":[]}}"#);
        assert!(policy.ladder_for(&prompt(&body)).is_err(), "{unknown}");
    }
}

#[test]
fn what_becomes_of_an_answer() {
    let policy = policy();
    let score = |v| Score::new(v).expect("in range");
    let scored = |v| Grade::Scored(score(v), "confidence");
    let because = |v| Why::Score { score: score(v), at_least: score(0.7) };
    for (tier, is_last, grade, is_accepted, why) in [
        (0, false, scored(0.7), true, because(0.7)),
        (0, false, scored(0.699), false, because(0.699)),
        (0, false, Grade::Gated("complete"), false, Why::Gate("complete")),
        (0, false, Grade::Unscored, false, Why::Unscored),
        (1, false, Grade::Unscored, true, Why::Unscored),
        (2, false, Grade::Unscored, true, Why::Unscored),
        (0, true, Grade::Gated("complete"), true, Why::LastTier),
        (3, true, Grade::Unscored, true, Why::LastTier),
    ] {
        let verdict = judge(&policy, &policy.tiers[tier], is_last, 0, || grade);
        assert_eq!(verdict, Verdict { is_accepted, ..Verdict::rejected(why) }, "tier {tier}, {grade:?}");
    }
}

proptest! {
    /// Whatever tiers answer, each is asked at most once, in order, and the
    /// cascade ends: with an accepted answer, or having tried the last tier.
    #[test]
    fn a_cascade_climbs_and_ends(outcomes in proptest::collection::vec(0u8..3, 4)) {
        let policy = policy();
        let ladder = policy.ladder_for(&prompt(r#"{"model":"ladder","messages":[]}"#)).expect("known");
        let mut trace = Trace::default();
        let mut asked = Vec::new();
        let end = loop {
            match next_step(&policy, &ladder, false, &trace) {
                Step::Ask { tier, is_last, .. } => {
                    asked.push(tier.index);
                    let outcome = match outcomes[tier.index] {
                        0 => answered(true),
                        1 => answered(is_last),
                        _ => Outcome::Failed(Failure::NotRecorded),
                    };
                    trace.attempts.push(attempt(tier.index, outcome));
                }
                end => break end,
            }
            prop_assert!(asked.len() <= 4);
        };
        prop_assert!(asked.is_sorted_by(|a, b| a < b));
        if let Step::Serve(at) = end {
            prop_assert_eq!(at, trace.attempts.len() - 1);
        } else {
            prop_assert_eq!(asked, vec![0, 1, 2, 3]);
        }
    }
}
