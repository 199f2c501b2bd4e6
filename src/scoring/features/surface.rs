//! What an answer's text looks like: lengths, marks, numbers, doubt.

use super::equations;
use crate::prompt::{Asked, numbers};
use crate::scoring::agreement::{self, Form};

/// Words that hedge, matched whole and in lower case.
const HEDGES: [&str; 16] = [
    "maybe",
    "perhaps",
    "possibly",
    "probably",
    "might",
    "could",
    "unclear",
    "unsure",
    "uncertain",
    "likely",
    "assume",
    "assuming",
    "approximately",
    "seems",
    "guess",
    "impossible",
];

/// How many numbers [`of`] gives.
pub(super) const COUNT: usize = 17;

/// Their names, in order.
pub(super) const NAMES: [&str; COUNT] = [
    "answer_chars_ln",
    "answer_words_ln",
    "answer_to_prompt_ln",
    "answer_lines_ln",
    "digit_share",
    "answer_is_marked",
    "final_number_is_in_prompt",
    "prompt_numbers_used",
    "equations_right_ln",
    "equations_wrong_ln",
    "trigram_repetition",
    "hedges_ln",
    "declines",
    "ends_with_punctuation",
    "fences_are_balanced",
    "is_json",
    "calls_tools",
];

/// The features of one text; `form` is its normal form.
pub(super) fn of(text: &str, form: &Form, asked: &Asked, calls_tools: bool) -> [f64; COUNT] {
    let flag = |holds: bool| f64::from(u8::from(holds));
    let ln = |n: usize| crate::statistics::count(n).ln_1p();
    let words = Words::read(text);
    let mentioned: Vec<f64> = numbers(text).map(|(number, _)| number).take(512).collect();
    let used = asked.numbers.iter().filter(|number| mentioned.contains(number)).count();
    let (right, wrong) = equations::check(text);
    [
        ln(text.len()),
        ln(words.count),
        ln(text.len()) - ln(asked.chars),
        ln(memchr::memchr_iter(b'\n', text.as_bytes()).count()),
        words.digit_share,
        flag(form.is_marked()),
        mentioned.last().map_or(0.0, |last| flag(asked.numbers.contains(last))),
        crate::statistics::count(used) / crate::statistics::count(asked.numbers.len().max(1)),
        ln(right),
        ln(wrong),
        words.repetition,
        ln(words.hedges),
        flag(crate::scoring::gates::is_refusal(text)),
        flag(text.trim_end().ends_with(['.', '!', '?', ')', '}', ']', '`', '"', '*'])),
        flag(text.matches("```").count().is_multiple_of(2)),
        flag(agreement::is_json(text)),
        flag(calls_tools),
    ]
}

/// One pass over the words.
struct Words {
    count: usize,
    hedges: usize,
    /// The share of word trigrams that stood before.
    repetition: f64,
    digit_share: f64,
}

impl Words {
    /// Words looked at for repetition; a long answer has shown it by then.
    const LOOKED_AT: usize = 1024;

    fn read(text: &str) -> Self {
        let (mut count, mut hedges, mut repeated, mut digits) = (0, 0, 0usize, 0usize);
        // A small table of places: hashes that meet count as repeated, rarely.
        let mut seen = [0u64; 512];
        let (mut before, mut last) = (0u64, 0u64);
        for word in text.split_ascii_whitespace() {
            count += 1;
            let mut hash = 0xcbf2_9ce4_8422_2325u64;
            for byte in word.bytes() {
                digits += usize::from(byte.is_ascii_digit());
                hash = (hash ^ u64::from(byte.to_ascii_lowercase())).wrapping_mul(0x0100_0000_01b3);
            }
            if word.len() >= 5 && is_hedge(word) {
                hedges += 1;
            }
            if count <= Self::LOOKED_AT {
                let trigram =
                    (hash ^ last.rotate_left(21) ^ before.rotate_left(42)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
                let slot = usize::try_from(trigram >> 55).unwrap_or_default();
                repeated += usize::from(count > 2 && seen[slot] == trigram);
                seen[slot] = trigram;
                (before, last) = (last, hash);
            }
        }
        let trigrams = count.min(Self::LOOKED_AT).saturating_sub(2).max(1);
        let share = |part: usize, of: usize| crate::statistics::count(part) / crate::statistics::count(of.max(1));
        Self { count, hedges, repetition: share(repeated, trigrams), digit_share: share(digits, text.len()) }
    }
}

fn is_hedge(word: &str) -> bool {
    let bare = word.trim_matches(|c: char| !c.is_ascii_alphabetic());
    HEDGES.iter().any(|hedge| hedge.len() == bare.len() && hedge.eq_ignore_ascii_case(bare))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_is_what_its_name_says() {
        let asked = Asked { chars: 50, numbers: vec![3.0, 12.0, 99.0], ..Asked::default() };
        let text = "Maybe 3 * 12 = 36.\nSo perhaps 3 + 1 = 5. The answer is 36";
        let form = agreement::form(text, &[], None);
        let of = |name: &str| super::of(text, &form, &asked, false)[NAMES.iter().position(|n| *n == name).expect(name)];
        let near = |name: &str, value: f64| assert!((of(name) - value).abs() < 1e-9, "{name}: {}", of(name));
        near("answer_chars_ln", 58f64.ln());
        near("answer_words_ln", 18f64.ln());
        near("answer_lines_ln", 2f64.ln());
        near("answer_is_marked", 1.0);
        near("final_number_is_in_prompt", 0.0);
        near("prompt_numbers_used", 2.0 / 3.0);
        near("equations_right_ln", 2f64.ln());
        near("equations_wrong_ln", 2f64.ln());
        near("hedges_ln", 3f64.ln());
        near("ends_with_punctuation", 0.0);
        near("trigram_repetition", 0.0);
        let looped = "one two three ".repeat(10);
        assert!(super::of(&looped, &form, &asked, false)[10] > 0.8);
    }
}
