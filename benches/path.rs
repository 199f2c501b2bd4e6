//! How long the steps of a request take, each alone: `cargo bench --bench path`.
//!
//! A prompt of 200 bytes, an answer of 1 kB with 50 logprobs, as `compare.py` sends them.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use criterion::{Criterion, criterion_group, criterion_main};
use futures_util::FutureExt;
use prompt_cascade::answer::{Answer, Progress};
use prompt_cascade::clock::ManualClock;
use prompt_cascade::decision::{judge, next_step};
use prompt_cascade::openai::{Endpoint, convert, sse};
use prompt_cascade::policy::{Accept, Outside, Policy, Tier};
use prompt_cascade::price::Cost;
use prompt_cascade::prompt::Prompt;
use prompt_cascade::scoring::{Evidence, Seen, grade};
use prompt_cascade::trace::{Attempt, CacheUse, Failure, Outcome, Trace};
use prompt_cascade::upstream::{Cached, Delivery, Reply, Said, Upstream};

const LADDER: &str = r"
name: ladder
upstreams: { u: { fixtures: embedded } }
tiers:
  - { name: small, model: s, upstream: u, cache: { ttl: 1h }, accept: { gates: [complete, not_empty], score: confidence, at_least: 0.7 } }
  - { name: large, model: l, upstream: u }
";

fn policy() -> Policy {
    Policy::parse("ladder.yaml", LADDER, Outside::none()).expect("a fine policy").0
}

fn request() -> Bytes {
    let question = "Say something of about a kilobyte on the subject of number 12, and no more.";
    let messages =
        serde_json::json!([{"role": "system", "content": "You are brief."}, {"role": "user", "content": question}]);
    serde_json::json!({"model": "ladder", "temperature": 0, "messages": messages}).to_string().into()
}

fn prompt() -> Prompt {
    Prompt::parse(Endpoint::Chat, request()).expect("a prompt")
}

/// As upstreams write it, in this order.
fn body() -> Bytes {
    let token = r#"{"token":"tok ","logprob":-0.01,"bytes":[116,111,107,32],"top_logprobs":[]}"#;
    let tokens = vec![token; 50].join(",");
    let text = "lorem ipsum dolor sit amet ".repeat(38);
    format!(
        r#"{{"id":"x","object":"chat.completion","created":1,"model":"s","choices":[{{"index":0,"message":{{"role":"assistant","content":"{text}","refusal":null}},"logprobs":{{"content":[{tokens}],"refusal":null}},"finish_reason":"stop"}}],"usage":{{"prompt_tokens":9,"completion_tokens":50,"total_tokens":59}}}}"#
    )
    .into()
}

fn answer() -> Answer {
    Answer::from_body(Endpoint::Chat, body()).expect("an answer")
}

/// An upstream that answers at once.
struct AtOnce(Arc<Answer>);

impl Upstream for AtOnce {
    async fn ask(&self, _: &Tier, _: &Prompt, _: Delivery) -> Result<Reply, Failure> {
        Ok(Reply::live(Said::Whole(self.0.clone())))
    }
}

fn request_and_answer(c: &mut Criterion) {
    let (request, body, prompt, answer) = (request(), body(), prompt(), answer());
    c.bench_function("parse a request", |b| b.iter(|| Prompt::parse(Endpoint::Chat, black_box(request.clone()))));
    // A prompt keeps its key; each iteration has a new one, parsed.
    c.bench_function("parse a request and make its key", |b| {
        b.iter(|| *Prompt::parse(Endpoint::Chat, black_box(request.clone())).expect("a prompt").cache_key());
    });
    c.bench_function("splice the model in", |b| b.iter(|| prompt.body_for(black_box("gpt-5-nano"), false)));
    c.bench_function("splice the model and logprobs in", |b| b.iter(|| prompt.body_for(black_box("gpt-5-nano"), true)));
    c.bench_function("read an answer with 50 logprobs", |b| {
        b.iter(|| Answer::from_body(Endpoint::Chat, black_box(body.clone())));
    });
    c.bench_function("cut 50 logprobs out", |b| {
        b.iter(|| convert::strip_body(Endpoint::Chat, black_box(&body), &answer.logprobs_at));
    });
}

fn decision(c: &mut Criterion) {
    let (policy, prompt, answer) = (policy(), prompt(), Arc::new(answer()));
    let (tier, seen) = (&policy.tiers[0], Seen::default());
    let Accept::Checked(check) = &tier.accept else { panic!("it is checked") };
    let evidence = Evidence::of(&prompt, &answer, &seen);
    c.bench_function("gates and confidence of 50 logprobs", |b| {
        b.iter(|| grade(&check.gates, &check.scorers, black_box(&evidence)));
    });
    let ladder = policy.ladder_for(&prompt).expect("its own name");
    c.bench_function("find the ladder", |b| b.iter(|| policy.ladder_for(black_box(&prompt))));
    let graded = grade(&check.gates, &check.scorers, &evidence);
    let verdict = judge(&policy, tier, false, 0, || graded);
    let outcome = Outcome::Answered { answer: answer.clone(), seen: Seen::default(), verdict };
    let (cost, cache) = (Cost::FREE, CacheUse::Off);
    let attempt = Attempt { tier: 0, outcome, cost, judging: cost, cache, elapsed: Duration::ZERO, quality: None };
    let trace = Trace { attempts: vec![attempt], ..Trace::default() };
    c.bench_function("decide what is next", |b| b.iter(|| next_step(&policy, &ladder, false, black_box(&trace))));
}

fn cache(c: &mut Criterion) {
    let (policy, prompt) = (policy(), prompt());
    let cached = Cached::new(AtOnce(Arc::new(answer())), &policy, ManualClock::default());
    let ask = |prompt| {
        let reply = cached.ask(&policy.tiers[0], prompt, Delivery::Hold).now_or_never();
        reply.expect("nothing to wait for").expect("an answer").cache
    };
    assert_eq!(ask(&prompt), CacheUse::Miss);
    assert_eq!(ask(&prompt), CacheUse::Hit);
    c.bench_function("cache hit", |b| b.iter(|| ask(black_box(&prompt))));
}

fn stream(c: &mut Criterion) {
    let frame = |at: usize| {
        format!(
            "data: {{\"id\":\"x\",\"object\":\"chat.completion.chunk\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"word {at} \"}},\"finish_reason\":null}}]}}\n\n"
        )
    };
    let text: String = (0..50).map(frame).collect();
    // As a socket gives them, some twenty events a piece.
    let pieces: Vec<&[u8]> = text.as_bytes().chunks(2500).collect();
    let split = || {
        let mut splitter = sse::Splitter::default();
        let mut events = Vec::with_capacity(50);
        for piece in black_box(&pieces) {
            splitter.push(piece).expect("short");
            events.extend(std::iter::from_fn(|| splitter.next_event()));
        }
        events
    };
    let frames = split();
    assert_eq!(frames.len(), 50);
    c.bench_function("split 50 events", |b| b.iter(split));
    c.bench_function("look at 50 frames", |b| {
        b.iter(|| {
            let mut progress = Progress::new(Endpoint::Chat);
            frames.iter().for_each(|frame| progress.note(black_box(frame)).expect("a frame"));
            progress.is_finished()
        });
    });
}

criterion_group!(benches, request_and_answer, decision, cache, stream);
criterion_main!(benches);
