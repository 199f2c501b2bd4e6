//! What a prompt asks once the examples before the question are taken off, so
//! that a prompt with forty examples is scored and told apart by its question.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::Prompt;
use crate::openai::Endpoint;
use crate::openai::chunk::content_text;

/// The question of a prompt, and a little about what stands around it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Asked {
    /// The question: the last message, without examples before it in its text.
    pub question: String,
    /// How many examples, or earlier answers, come before it.
    pub examples: usize,
    /// Characters of everything asked.
    pub chars: usize,
    /// The numbers in the question, each once, commas within them left out.
    pub numbers: Vec<f64>,
    /// Most tokens of the answer, where the client set a bound.
    pub max_tokens: Option<u64>,
    /// How many choices are asked for.
    pub n: u64,
}

impl Asked {
    pub(super) fn read(prompt: &Prompt) -> Self {
        #[derive(Deserialize)]
        struct Message<'a> {
            #[serde(borrow, default)]
            role: Option<Cow<'a, str>>,
            #[serde(borrow, default)]
            content: Option<&'a RawValue>,
        }
        let content = prompt.content();
        let is_list = prompt.endpoint != Endpoint::Completions && content.starts_with('[');
        let messages: Vec<Message<'_>> =
            if is_list { serde_json::from_str(content).unwrap_or_default() } else { Vec::new() };
        let is_by = |message: &&Message<'_>, role: &str| message.role.as_deref() == Some(role);
        let last = messages.iter().rfind(|m| is_by(m, "user")).or(messages.last());
        let text = match last.and_then(|m| m.content) {
            Some(content) => content_text(content),
            None => prompt.texts().pop().unwrap_or_default(),
        };
        let (shown, question) = without_examples(&text);
        let earlier = messages.iter().filter(|m| is_by(m, "assistant")).count();
        let number = |name| prompt.raw(name).and_then(|value| value.parse().ok());
        let bounds = ["max_completion_tokens", "max_tokens", "max_output_tokens"];
        let all = if is_list && messages.len() > 1 { prompt.text_bytes() } else { text.len() };
        Self {
            numbers: distinct(numbers(question).map(|(number, _)| number).take(256)),
            question: question.to_owned(),
            examples: shown + earlier,
            chars: all,
            max_tokens: bounds.into_iter().find_map(number),
            n: number("n").unwrap_or(1),
        }
    }
}

/// Each number once, the first 64, in order of size.
fn distinct(numbers: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut all: Vec<f64> = numbers.collect();
    all.sort_by(f64::total_cmp);
    all.dedup();
    all.truncate(64);
    all
}

/// How many examples a text opens with, and what comes after them: where its
/// first label (`Q:`, `Review:`...) stands at the start of several lines, the
/// last of them begins the question.
#[must_use]
pub fn without_examples(text: &str) -> (usize, &str) {
    const LONGEST_LABEL: usize = 20;
    let label = |line: &str| -> Option<usize> {
        let end = line.bytes().take(LONGEST_LABEL).position(|b| b == b':')?;
        (end > 0 && line.as_bytes()[..end].iter().all(|b| b.is_ascii_alphabetic() || *b == b' ')).then_some(end)
    };
    let Some(first) = text.lines().find_map(|line| Some(&line[..label(line)?])) else { return (0, text) };
    let (mut seen, mut start, mut at) = (0usize, 0, 0);
    for line in text.split_inclusive('\n') {
        if label(line).is_some_and(|end| &line[..end] == first) {
            seen += 1;
            start = at;
        }
        at += line.len();
    }
    if seen > 1 { (seen - 1, &text[start..]) } else { (0, text) }
}

/// The numbers in a text with the place after each; signs are left out. At most 15
/// digits make one number: so many are exact.
pub fn numbers(text: &str) -> impl Iterator<Item = (f64, usize)> {
    const MOST_DIGITS: u32 = 15;
    let bytes = text.as_bytes();
    let mut at = 0;
    std::iter::from_fn(move || {
        at += bytes[at..].iter().position(u8::is_ascii_digit)?;
        let (mut whole, mut digits, mut decimals) = (0u64, 0u32, None::<i32>);
        while at < bytes.len() && digits < MOST_DIGITS {
            let is_inside = bytes.get(at + 1).is_some_and(u8::is_ascii_digit);
            match bytes[at] {
                digit if digit.is_ascii_digit() => {
                    whole = whole * 10 + u64::from(digit - b'0');
                    digits += 1;
                    decimals = decimals.map(|n| n + 1);
                }
                b',' if is_inside && decimals.is_none() => {}
                b'.' if is_inside && decimals.is_none() => decimals = Some(0),
                _ => break,
            }
            at += 1;
        }
        // Both parts are exact, so that the quotient is the nearest number.
        #[expect(clippy::cast_precision_loss, reason = "15 digits fit")]
        let number = whole as f64 / 10f64.powi(decimals.unwrap_or(0));
        Some((number, at))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(body: &'static str) -> Asked {
        Prompt::parse(Endpoint::Chat, body.into()).expect(body).asked().clone()
    }

    #[test]
    fn examples_are_taken_off() {
        let shots = r#"{"model":"m","n":2,"max_tokens":9,"messages":[{"role":"user","content":"Sort these.\n\nReview: good\nLabel: 1\n\nReview: bad\nLabel: 0\n\nReview: 3 of 1,200\nLabel:"}]}"#;
        let Asked { question, examples, numbers, max_tokens, n, .. } = asked(shots);
        assert_eq!((question.as_str(), examples), ("Review: 3 of 1,200\nLabel:", 2));
        assert_eq!((numbers, max_tokens, n), (vec![3.0, 1200.0], Some(9), 2));
        let turns = r#"{"model":"m","messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"},{"role":"user","content":"c: 1"}]}"#;
        assert_eq!((asked(turns).question.as_str(), asked(turns).examples), ("c: 1", 1));
        assert_eq!(asked(r#"{"model":"m","messages":[]}"#).question, "");
    }

    #[test]
    fn a_question_is_the_same_however_many_examples_come_before_it() {
        use crate::scoring::features::hashed_grams;
        let body = |shots: usize| {
            let examples = "Q: What is 2 and 2?\nA: 4\n\n".repeat(shots);
            let body = serde_json::json!({"model": "m", "messages": [{"role": "user", "content": format!("{examples}Q: What is 7 and 5?\nA:")}]});
            Prompt::parse(Endpoint::Chat, body.to_string().into()).expect("a prompt")
        };
        let (none, many) = (body(0), body(40));
        assert_eq!(none.asked().question, many.asked().question);
        assert_eq!(none.asked().numbers, [5.0, 7.0]);
        assert_eq!((none.asked().examples, many.asked().examples), (0, 40));
        assert_eq!(hashed_grams(&none), hashed_grams(&many));
    }

    #[test]
    fn numbers_are_read_with_commas_and_points() {
        let all: Vec<f64> = numbers("$1,200.50, then 3.5.7 and 12.").map(|(n, _)| n).collect();
        assert_eq!(all, [1200.5, 3.5, 7.0, 12.0]);
        assert_eq!(numbers("9".repeat(60).as_str()).count(), 4);
    }
}
