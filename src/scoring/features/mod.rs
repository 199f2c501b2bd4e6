//! The feature vector of an answer: what a learned scorer goes by.
//!
//! Invariant: one vector of fixed length for every answer; what is not known is
//! `NaN`, never a number that could be meant. Judges' marks are not in it: they
//! would have to be paid for on every answer that is scored.

mod equations;
mod surface;

use super::agreement::{Form, form, jaccard};
use super::{Evidence, Pool};
use crate::prompt::Prompt;
use crate::statistics::{count, quantile};

/// Features that come and go together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Block {
    /// From token logprobs.
    Logprobs,
    /// From the answer's text.
    Surface,
    /// From the prompt.
    Prompt,
    /// From what smaller tiers said.
    Agreement,
}

/// Each block with the names of its features, in the order of the vector.
const BLOCKS: [(Block, &[&str]); 4] = [
    (Block::Logprobs, &LOGPROBS),
    (Block::Surface, &surface::NAMES),
    (Block::Prompt, &PROMPT),
    (Block::Agreement, &AGREEMENT),
];

/// `lp_*` are logarithms held at -20; `sure_*` are `-ln(1 - p)` with `p` held at
/// `1 - 1e-7`, which tells saturated confidences apart.
const LOGPROBS: [&str; 11] = [
    "lp_min",
    "lp_q10",
    "lp_q25",
    "lp_median",
    "lp_mean",
    "lp_tail",
    "lp_sum",
    "tokens_ln",
    "sure_min",
    "sure_q10",
    "sure_mean",
];
const PROMPT: [&str; 10] = [
    "prompt_chars_ln",
    "question_chars_ln",
    "question_words_ln",
    "question_numbers_ln",
    "question_marks_ln",
    "examples_ln",
    "max_tokens_ln",
    "offers_tools",
    "asks_json",
    "temperature",
];
const AGREEMENT: [&str; 8] = [
    "same_as_1_smaller",
    "same_as_2_smaller",
    "same_as_3_smaller",
    "share_that_agree",
    "different_answers",
    "words_shared",
    "smaller_sure_q10",
    "votes",
];

/// How many features a prompt alone has.
pub const PROMPT_COUNT: usize = PROMPT.len();

/// How many features there are.
pub const COUNT: usize = LOGPROBS.len() + surface::COUNT + PROMPT.len() + AGREEMENT.len();

/// The features of one answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Features(pub [f64; COUNT]);

/// The name and block of each feature, in order.
pub fn names() -> impl Iterator<Item = (&'static str, Block)> {
    BLOCKS.iter().flat_map(|(block, names)| names.iter().map(|name| (*name, *block)))
}

/// The block of a feature.
#[must_use]
pub fn block_of(feature: usize) -> Block {
    let mut end = 0;
    let found = BLOCKS.iter().find(|(_, names)| {
        end += names.len();
        feature < end
    });
    found.map_or(Block::Agreement, |(block, _)| *block)
}

/// The places of a block's features in the vector.
pub fn places(block: Block) -> impl Iterator<Item = usize> {
    (0..COUNT).filter(move |at| block_of(*at) == block)
}

/// What is worked out once for an answer, whatever smaller tiers were asked.
#[derive(Clone, Debug)]
pub struct Seen {
    logprobs: [f64; LOGPROBS.len()],
    surface: [f64; surface::COUNT],
    /// The normal form of each choice.
    forms: Vec<Form>,
}

impl Seen {
    /// Looks at the answer of `evidence` alone.
    #[must_use]
    pub fn of(evidence: &Evidence<'_>) -> Self {
        let answer = evidence.answer;
        let forms: Vec<Form> =
            answer.choices.iter().take(32).map(|c| form(&c.text, &c.tool_calls, evidence.answer_pattern)).collect();
        // With several choices the least sure one counts, as in `Confidence`.
        let worst = |c: &&crate::answer::Choice| Pool::Mean.score(&c.logprobs).map_or(2.0, super::Score::value);
        let choice = answer.choices.iter().min_by(|a, b| worst(a).total_cmp(&worst(b)));
        let surface = match (choice, forms.first()) {
            (Some(choice), Some(form)) => {
                surface::of(&choice.text, form, evidence.prompt.asked(), !choice.tool_calls.is_empty())
            }
            _ => [f64::NAN; surface::COUNT],
        };
        Self { logprobs: choice.map_or([f64::NAN; LOGPROBS.len()], |c| of_logprobs(&c.logprobs)), surface, forms }
    }

    /// Whether there are token logprobs.
    #[must_use]
    pub fn has_logprobs(&self) -> bool {
        !self.logprobs[0].is_nan()
    }

    /// The features of this answer after these smaller ones, smallest first.
    #[must_use]
    pub fn after(&self, prompt: &[f64; PROMPT.len()], smaller: &[&Self]) -> Features {
        let mut all = [f64::NAN; COUNT];
        let parts: [&[f64]; 4] = [&self.logprobs, &self.surface, prompt, &self.agreement_with(smaller)];
        let mut at = 0;
        for part in parts {
            all[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
        Features(all)
    }

    fn agreement_with(&self, smaller: &[&Self]) -> [f64; AGREEMENT.len()] {
        let mut all = [f64::NAN; AGREEMENT.len()];
        let Some(mine) = self.forms.first() else { return all };
        if self.forms.len() > 1 {
            let same: f64 = self.forms.iter().map(|form| form.likeness(mine)).sum();
            all[7] = same / count(self.forms.len());
        }
        let others: Vec<&Form> = smaller.iter().rev().filter_map(|other| other.forms.first()).collect();
        let Some(nearest) = others.first() else { return all };
        let likeness: Vec<f64> = others.iter().map(|other| mine.likeness(other)).collect();
        likeness.iter().take(3).enumerate().for_each(|(at, like)| all[at] = *like);
        all[3] = likeness.iter().sum::<f64>() / count(likeness.len());
        let mut different: Vec<&Form> = vec![mine];
        for other in &others {
            if different.iter().all(|form| form.likeness(other) < 1.0) {
                different.push(other);
            }
        }
        all[4] = count(different.len());
        all[5] = jaccard(mine, nearest);
        all[6] = smaller.last().map_or(f64::NAN, |other| other.logprobs[9]);
        all
    }
}

/// The features of a prompt alone.
#[must_use]
pub fn of_prompt(prompt: &Prompt) -> [f64; PROMPT.len()] {
    let asked = prompt.asked();
    let ln = |n: usize| count(n).ln_1p();
    let flag = |holds: bool| f64::from(u8::from(holds));
    #[expect(clippy::cast_precision_loss, reason = "a bound on tokens")]
    let max_tokens = asked.max_tokens.map_or(f64::NAN, |n| (n as f64).ln_1p());
    [
        ln(asked.chars),
        ln(asked.question.len()),
        ln(asked.question.split_ascii_whitespace().count()),
        ln(asked.numbers.len()),
        ln(asked.question.bytes().filter(|b| *b == b'?').count()),
        ln(asked.examples),
        max_tokens,
        flag(prompt.has_tools),
        flag(prompt.asks_json),
        prompt.temperature,
    ]
}

impl Features {
    /// Nothing is known.
    #[must_use]
    pub fn unknown() -> Self {
        Self([f64::NAN; COUNT])
    }

    /// The features of an answer.
    #[must_use]
    pub fn of(evidence: &Evidence<'_>) -> Self {
        let smaller: Vec<Seen> =
            evidence.smaller.iter().map(|answer| Seen::of(&Evidence { answer, ..*evidence })).collect();
        let smaller: Vec<&Seen> = smaller.iter().collect();
        Seen::of(evidence).after(&of_prompt(evidence.prompt), &smaller)
    }
}

fn of_logprobs(logprobs: &[f64]) -> [f64; LOGPROBS.len()] {
    /// The tokens at the end where a final answer stands.
    const TAIL: usize = 4;
    if logprobs.is_empty() {
        return [f64::NAN; LOGPROBS.len()];
    }
    let held = |v: f64| if v.is_nan() { -20.0 } else { v.clamp(-20.0, 0.0) };
    let mut values: Vec<f64> = logprobs.iter().map(|v| held(*v)).collect();
    let tail = values[values.len().saturating_sub(TAIL)..].iter().copied().fold(0.0, f64::min);
    let sum: f64 = values.iter().sum();
    let mean = sum / count(values.len());
    let mut at = |share: f64| quantile(&mut values, share).unwrap_or(-20.0);
    let (min, q10, q25, median) = (at(0.0), at(0.1), at(0.25), at(0.5));
    let sure = |lp: f64| -(1.0 - lp.exp().min(1.0 - 1e-7)).ln();
    let tokens = count(logprobs.len()).ln_1p();
    [min, q10, q25, median, mean, tail, sum / 100.0, tokens, sure(min), sure(q10), sure(mean)]
}

/// The 1- and 2-grams of a question, hashed into 2^15 places: those there are,
/// each once, so that their squares add up to one.
#[must_use]
pub fn hashed_grams(prompt: &Prompt) -> Vec<(u32, f32)> {
    const PLACES: u64 = 1 << 15;
    let mut places: Vec<u32> = Vec::new();
    let mut last = 0u64;
    for word in prompt.asked().question.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty()).take(2000) {
        let mut hash = 0xcbf2_9ce4_8422_2325u64;
        for letter in word.chars().flat_map(char::to_lowercase) {
            hash = (hash ^ u64::from(letter)).wrapping_mul(0x0100_0000_01b3);
        }
        let place = |hash: u64| u32::try_from((hash ^ (hash >> 29)) % PLACES).unwrap_or_default();
        places.push(place(hash));
        if last != 0 {
            places.push(place(hash ^ last.rotate_left(17)));
        }
        last = hash;
    }
    places.sort_unstable();
    places.dedup();
    #[expect(clippy::cast_possible_truncation, reason = "a value in 0..=1")]
    let each = (1.0 / count(places.len().max(1)).sqrt()) as f32;
    places.into_iter().map(|place| (place, each)).collect()
}
