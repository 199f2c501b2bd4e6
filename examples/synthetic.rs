//! Prints made-up exchanges, for measuring a replay of many.
//!
//! ```text
//! cargo run --release --example synthetic -- 1000000 > /tmp/synthetic.jsonl
//! ```
//!
//! Four tiers answer each prompt in 20 tokens with logprobs; larger tiers are
//! surer and more often right. One prompt in eight is an earlier one again. The
//! same number of exchanges is always the same text.

use std::fmt::Write as _;
use std::io::{BufWriter, Write as _};

/// A small generator (Marsaglia 2003, xorshift64): the same on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// In 0..1.
    fn share(&mut self) -> f64 {
        let top = u32::try_from(self.next() >> 32).unwrap_or_default();
        f64::from(top) / 2f64.powi(32)
    }
}

const TIERS: [(&str, f64, f64); 4] =
    [("ada", 0.5, 80.0), ("babbage", 0.65, 150.0), ("curie", 0.8, 300.0), ("davinci", 0.95, 700.0)];

fn exchange(number: u64, random: &mut Random) -> String {
    let question = if random.next().is_multiple_of(8) { random.next() % (number + 1) } else { number };
    let mut line = format!(
        r#"{{"id":"s{number}","task":"synthetic","arrived_ms":{},"path":"/v1/chat/completions","request":{{"model":"cascade","temperature":0,"messages":[{{"role":"user","content":"Question {question}: what is {question} plus {number}?"}}]}},"answers":{{"#,
        number * 5
    );
    for (at, (tier, skill, latency_ms)) in TIERS.into_iter().enumerate() {
        let is_right = random.share() < skill;
        let mut tokens = String::new();
        for token in 0..20 {
            let sureness = if is_right { 0.05 } else { 0.9 };
            let logprob = -sureness * random.share() * (1.0 - skill / 2.0);
            let comma = if token > 0 { "," } else { "" };
            let _ = write!(
                tokens,
                r#"{comma}{{"token":" t{token}","logprob":{logprob:.5},"bytes":null,"top_logprobs":[]}}"#
            );
        }
        let comma = if at > 0 { "," } else { "" };
        let _ = write!(
            line,
            r#"{comma}"{tier}":{{"status":200,"body":{{"id":"c","object":"chat.completion","created":1,"model":"{tier}","choices":[{{"index":0,"message":{{"role":"assistant","content":"It is {answer}."}},"logprobs":{{"content":[{tokens}]}},"finish_reason":"stop"}}],"usage":{{"prompt_tokens":20,"completion_tokens":20,"total_tokens":40}}}},"elapsed_ms":{elapsed:.1},"quality":{quality}}}"#,
            answer = if is_right { question + number } else { question },
            elapsed = latency_ms * (0.5 + random.share()),
            quality = u8::from(is_right),
        );
    }
    line + "}}"
}

fn main() -> std::io::Result<()> {
    let count: u64 = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(1000);
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let mut out = BufWriter::new(std::io::stdout().lock());
    for number in 0..count {
        writeln!(out, "{}", exchange(number, &mut random))?;
    }
    out.flush()
}
