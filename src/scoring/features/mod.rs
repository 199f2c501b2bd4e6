//! The feature vector of an answer: what a learned scorer goes by.
//!
//! Invariant: one vector of fixed length for every answer; what is not known is
//! `NaN`, never a number that could be meant. Judges' marks are not in it: they
//! would have to be paid for on every answer that is scored.

mod equations;
mod surface;

use std::ops::Range;
use std::sync::OnceLock;

use super::agreement::{Form, MAX_VOTERS, form, jaccard};
use super::{Evidence, Pool};
use crate::answer::Choice;
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
const NOTHING: [f64; LOGPROBS.len()] = [f64::NAN; LOGPROBS.len()];
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
#[must_use]
pub fn places(block: Block) -> Range<usize> {
    let before = BLOCKS.iter().take_while(|(other, _)| *other != block);
    let start = before.map(|(_, names)| names.len()).sum();
    let count = BLOCKS.iter().find(|(other, _)| *other == block).map_or(0, |(_, names)| names.len());
    start..start + count
}

/// What is worked out about one answer, once and only where it is wanted: by
/// itself, whatever smaller tiers were asked.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    logprobs: OnceLock<Box<[f64; LOGPROBS.len()]>>,
    surface: OnceLock<Box<[f64; surface::COUNT]>>,
    forms: OnceLock<Vec<Form>>,
}

impl Seen {
    /// The normal form of each choice.
    pub(super) fn forms(&self, evidence: &Evidence<'_>) -> &[Form] {
        let voters = evidence.answer.choices.iter().take(MAX_VOTERS);
        self.forms.get_or_init(|| voters.map(|c| form(&c.text, &c.tool_calls, evidence.answer_pattern)).collect())
    }

    fn logprobs(&self, evidence: &Evidence<'_>) -> &[f64; LOGPROBS.len()] {
        self.logprobs.get_or_init(|| Box::new(least_sure(evidence).map_or(NOTHING, |c| of_logprobs(&c.logprobs))))
    }

    fn surface(&self, evidence: &Evidence<'_>) -> &[f64; surface::COUNT] {
        self.surface.get_or_init(|| {
            Box::new(match (least_sure(evidence), self.forms(evidence).first()) {
                (Some(choice), Some(form)) => {
                    surface::of(&choice.text, form, evidence.prompt.asked(), !choice.tool_calls.is_empty())
                }
                _ => [f64::NAN; surface::COUNT],
            })
        })
    }
}

/// With several choices the least sure one counts, as in `Confidence`.
fn least_sure<'a>(evidence: &Evidence<'a>) -> Option<&'a Choice> {
    let sure = |c: &&Choice| Pool::Mean.score(&c.logprobs).map_or(2.0, super::Score::value);
    evidence.answer.choices.iter().min_by(|a, b| sure(a).total_cmp(&sure(b)))
}

fn agreement(evidence: &Evidence<'_>) -> [f64; AGREEMENT.len()] {
    let mut all = [f64::NAN; AGREEMENT.len()];
    let forms = evidence.seen.forms(evidence);
    let Some(mine) = forms.first() else { return all };
    if forms.len() > 1 {
        let same: f64 = forms.iter().map(|form| form.likeness(mine)).sum();
        all[7] = same / count(forms.len());
    }
    let smaller = || evidence.smaller.iter().map(|smaller| (smaller.seen, evidence.of_smaller(*smaller)));
    let others: Vec<&Form> = smaller().rev().filter_map(|(seen, by_itself)| seen.forms(&by_itself).first()).collect();
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
    all[6] = smaller().next_back().map_or(f64::NAN, |(seen, by_itself)| seen.logprobs(&by_itself)[9]);
    all
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
        Self::some(evidence, |_| true)
    }

    /// Those of the blocks that are wanted; the others are left unknown. Whether
    /// there are logprobs is known in any case.
    #[must_use]
    pub fn some(evidence: &Evidence<'_>, is_wanted: impl Fn(Block) -> bool) -> Self {
        let mut all = Self::unknown();
        all.put(Block::Logprobs, evidence.seen.logprobs(evidence));
        if is_wanted(Block::Surface) {
            all.put(Block::Surface, evidence.seen.surface(evidence));
        }
        if is_wanted(Block::Prompt) {
            all.put(Block::Prompt, &of_prompt(evidence.prompt));
        }
        if is_wanted(Block::Agreement) {
            all.put(Block::Agreement, &agreement(evidence));
        }
        all
    }

    fn put(&mut self, block: Block, values: &[f64]) {
        self.0[places(block)].copy_from_slice(values);
    }
}

fn of_logprobs(logprobs: &[f64]) -> [f64; LOGPROBS.len()] {
    /// The tokens at the end where a final answer stands.
    const TAIL: usize = 4;
    if logprobs.is_empty() {
        return NOTHING;
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
