//! How long the pure parts take: `cargo bench --bench scoring`.
//!
//! A prompt of 1 kB, an answer of 2 kB with 300 logprobs, and a smaller tier's
//! answer to compare with.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use prompt_cascade::answer::Answer;
use prompt_cascade::openai::Endpoint;
use prompt_cascade::prompt::Prompt;
use prompt_cascade::scoring::features::Features;
use prompt_cascade::scoring::{Evidence, Gate, Pool, Scorer, Seen, Smaller, grade};

fn prompt() -> Prompt {
    let sentence = "A baker sells 12 loaves at $3.50 each and 7 cakes at $18; how much does he take on 5 days? ";
    let body = serde_json::json!({"model": "m", "messages": [{"role": "user", "content": sentence.repeat(11)}]});
    Prompt::parse(Endpoint::Chat, body.to_string().into()).expect("a prompt")
}

fn answer(turn: &str) -> Answer {
    let line = format!("He takes 12 * 3.50 = $42 for the loaves, {turn}, and 7 * 18 = $126 for the cakes.\n");
    let text = line.repeat(2000 / line.len()) + "So in 5 days it is 5 * 168 = 840. The answer is 840";
    let logprobs: Vec<_> =
        (0..300).map(|at| serde_json::json!({"token": "t", "logprob": -0.01 * f64::from(at % 37)})).collect();
    let body = serde_json::json!({"choices": [{"index": 0, "message": {"content": text}, "finish_reason": "stop",
        "logprobs": {"content": logprobs}}]});
    Answer::from_body(Endpoint::Chat, body.to_string().into()).expect("an answer")
}

fn scoring(c: &mut Criterion) {
    let (prompt, this, smaller) = (prompt(), answer("perhaps"), answer("probably"));
    assert!((1000..1100).contains(&prompt.asked().question.len()));
    assert!((1950..2150).contains(&this.choices[0].text.len()));
    let (kept, before) = (Seen::default(), Seen::default());
    let after = [Smaller { answer: &smaller, seen: &before }];
    let evidence = Evidence { smaller: &after, after: 1, ..Evidence::of(&prompt, &this, &kept) };
    // Each time anew; while serving, what was worked out is kept.
    c.bench_function("features of one answer", |b| {
        b.iter(|| Features::of(black_box(&Evidence::of(&prompt, &this, &Seen::default()))));
    });
    c.bench_function("features of an answer after a smaller one, which was scored before", |b| {
        b.iter(|| Features::of(black_box(&Evidence { seen: &Seen::default(), ..evidence })));
    });
    c.bench_function("confidence of 300 logprobs", |b| {
        b.iter(|| Scorer::Confidence(Pool::Quantile(0.1)).score(black_box(&evidence)));
    });
    let gates = [Gate::Complete, Gate::NotEmpty, Gate::NotRefusal, Gate::NoRepetition, Gate::Json];
    let scorers = [Scorer::Confidence(Pool::Quantile(0.1))];
    c.bench_function("gates and confidence", |b| b.iter(|| grade(&gates, &scorers, black_box(&evidence))));
}

criterion_group!(benches, scoring);
criterion_main!(benches);
