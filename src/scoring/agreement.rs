//! Agreement with what smaller tiers have already said, which is free: their
//! answers are paid for.
//!
//! Answers are compared in a normal form, since two right answers are rarely
//! worded alike (agreement-based cascading, 2025).

use std::collections::{BTreeMap, HashSet};
use std::sync::LazyLock;

use regex::Regex;
use serde_json::Value;

use super::{Evidence, Score};
use crate::answer::ToolCall;

/// An answer in the form in which answers are compared.
#[derive(Clone, Debug, PartialEq)]
pub enum Form {
    /// Nothing is said.
    Nothing,
    /// A final answer that stands out: what the policy's `answer_pattern` finds,
    /// a letter, or a number.
    Final(String),
    /// A JSON value, or tool calls with their arguments.
    Json(Value),
    /// Lower-cased words.
    Words(String),
}

impl Form {
    /// Whether the final answer stands out from the text.
    #[must_use]
    pub fn is_marked(&self) -> bool {
        matches!(self, Self::Final(_) | Self::Json(_))
    }

    /// How far two answers say the same, 0..=1: of JSON objects the share of
    /// their fields that are equal, else 1 or 0. Two that say nothing do not agree.
    #[must_use]
    pub fn likeness(&self, other: &Self) -> f64 {
        match (self, other) {
            (Self::Nothing, _) | (_, Self::Nothing) => 0.0,
            (Self::Json(Value::Object(one)), Self::Json(Value::Object(other))) => {
                let fields: HashSet<&String> = one.keys().chain(other.keys()).collect();
                let same = fields.iter().filter(|name| one.get(**name).map(plain) == other.get(**name).map(plain));
                crate::statistics::count(same.count()) / crate::statistics::count(fields.len().max(1))
            }
            _ => f64::from(u8::from(self == other)),
        }
    }
}

/// A field's value, text without its case and punctuation.
fn plain(value: &Value) -> Value {
    match value {
        Value::String(text) => words(text).into(),
        Value::Number(number) => number.as_f64().map_or_else(|| value.clone(), Value::from),
        other => other.clone(),
    }
}

/// Choices of one answer that vote; more change little, and each is compared with
/// each.
pub(super) const MAX_VOTERS: usize = 32;

/// The share of the votes so far that say what this answer says. Each choice of
/// this answer is a vote (so that `n` choices agree or not for no more money),
/// and each smaller tier's answer is one. None where there is only one vote.
pub(super) fn score(evidence: &Evidence<'_>) -> Option<Score> {
    let votes = evidence.answer.choices.len().min(MAX_VOTERS) + evidence.smaller.len();
    if votes < 2 {
        return None;
    }
    let mine = evidence.seen.forms(evidence);
    let smaller: Vec<&[Form]> = evidence.smaller.iter().map(|s| s.seen.forms(&evidence.of_smaller(*s))).collect();
    let support = |form: &Form| {
        let best = |theirs: &&[Form]| theirs.iter().map(|other| form.likeness(other)).fold(0.0, f64::max);
        smaller.iter().map(best).sum::<f64>() + mine.iter().map(|other| form.likeness(other)).sum::<f64>()
    };
    let most = mine.iter().map(support).reduce(f64::max)?;
    Score::new(most / crate::statistics::count(votes))
}

/// The normal form of an answer, the first of these that applies: tool calls
/// with their arguments as JSON; what `pattern` captures last; a JSON value; the
/// letter of "answer is (X)" or of an answer that is a letter; a number that is
/// marked as the answer or is all there is; else the lower-cased words.
///
/// A number somewhere in the text does not count: "1990" in two answers is no
/// sign that they agree.
#[must_use]
pub fn form(text: &str, tool_calls: &[ToolCall], pattern: Option<&Regex>) -> Form {
    if !tool_calls.is_empty() {
        let arguments = |c: &ToolCall| json(&c.arguments).unwrap_or_else(|| c.arguments.as_str().into());
        let calls = tool_calls.iter().map(|c| (c.name.clone(), arguments(c)));
        return Form::Json(calls.map(|(name, arguments)| Value::from(vec![name.into(), arguments])).collect());
    }
    if let Some(found) = pattern.and_then(|pattern| pattern.captures_iter(text).last()) {
        let inner = found.iter().skip(1).flatten().next().or(found.get(0));
        return inner.map_or(Form::Nothing, |m| Form::Final(words(m.as_str())));
    }
    let text = unfenced(text);
    let as_json = || text.starts_with(['{', '[']).then(|| json(text)).flatten().map(Form::Json);
    let marked = || letter(text).or_else(|| number(text)).map(Form::Final);
    as_json().or_else(marked).unwrap_or_else(|| match words(text) {
        none if none.is_empty() => Form::Nothing,
        words => Form::Words(words),
    })
}

/// Lower-cased words with one space between; signs of numbers are not kept.
fn words(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for word in text.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty()) {
        if !out.is_empty() {
            out.push(' ');
        }
        if word.is_ascii() {
            out.extend(word.bytes().map(|b| char::from(b.to_ascii_lowercase())));
        } else {
            out.extend(word.chars().flat_map(char::to_lowercase));
        }
    }
    out
}

/// The share of words that both have, of all that either has (Jaccard 1901).
pub(super) fn jaccard(one: &Form, other: &Form) -> f64 {
    let (Form::Words(one), Form::Words(other)) = (one, other) else { return one.likeness(other) };
    let set = |words: &str| -> HashSet<u64> {
        let hash = |word: &str| word.bytes().fold(0u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
        words.split(' ').map(hash).collect()
    };
    let (one, other) = (set(one), set(other));
    let shared = one.intersection(&other).count();
    crate::statistics::count(shared) / crate::statistics::count((one.len() + other.len() - shared).max(1))
}

fn letter(text: &str) -> Option<String> {
    // One pattern for each beginning, which is how they are found fast.
    static SAID: LazyLock<Option<Regex>> = LazyLock::new(|| {
        Regex::new(r"(?x) (?i:answer(?:\ is)?)[:\s]*\**\s* (?: \(([A-Za-z])\) | ([A-Z])\s*(?:[.,;:*\n]|$) )").ok()
    });
    static BOXED: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"\\boxed\{([A-Za-z])\}").ok());
    let mut letters = text.chars().filter(char::is_ascii_alphabetic);
    let is_alone = !text.contains(|c: char| c.is_alphanumeric() && !c.is_ascii_alphabetic() || c == '_');
    if let (Some(letter), None, true) = (letters.next(), letters.next(), is_alone) {
        return Some(letter.to_ascii_uppercase().to_string());
    }
    let last = |pattern: &'static LazyLock<Option<Regex>>| {
        let found = pattern.as_ref()?.captures_iter(text).last()?;
        let letter = found.iter().skip(1).flatten().next()?;
        Some((letter.start(), letter.as_str().to_uppercase()))
    };
    last(&SAID).into_iter().chain(last(&BOXED)).max().map(|(_, letter)| letter)
}

fn number(text: &str) -> Option<String> {
    /// What a marked number and its unit may take at the end of a text.
    const END_CHARS: usize = 160;
    static NUMBER: LazyLock<Option<Regex>> = LazyLock::new(|| {
        Regex::new(
            r"(?xi) (?: \#\#\#\# | \\boxed\{ | = | \b(?:is|are|equals|answer|total)\b:? | (?:^|\n)a: | \A )
                    \s* \** \s* [$€£≈]? \s* (-?\d[\d,]*(?:\.\d+)?)
                    \s* [%}*]* (?:\s+[a-z]+){0,3} [\s.!*)]* $",
        )
        .ok()
    });
    let start = text.char_indices().nth_back(END_CHARS).map_or(0, |(at, _)| at);
    // What stands at the start of the end is not at the start of the text.
    let end = if start == 0 { text } else { &text[start..] };
    let found = NUMBER.as_ref()?.captures(end)?;
    if start > 0 && found.get(0)?.start() == 0 && end.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let digits = found.get(1)?.as_str().replace(',', "");
    // More digits than a float holds are compared as they are written.
    let is_exact = digits.len() <= 15;
    Some(digits.parse::<f64>().ok().filter(|_| is_exact).map_or(digits, |n| n.to_string()))
}

/// JSON with sorted keys, however the library keeps them.
fn json(text: &str) -> Option<Value> {
    fn sorted(value: Value) -> Value {
        match value {
            Value::Object(map) => {
                let map: BTreeMap<_, _> = map.into_iter().map(|(k, v)| (k, sorted(v))).collect();
                Value::Object(map.into_iter().collect())
            }
            Value::Array(items) => Value::Array(items.into_iter().map(sorted).collect()),
            other => other,
        }
    }
    serde_json::from_str(text).ok().map(sorted)
}

/// Whether a text is a JSON object or list, a code fence around it allowed.
pub(super) fn is_json(text: &str) -> bool {
    let text = unfenced(text);
    text.starts_with(['{', '[']) && serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
}

/// The text without white space around it and without one code fence.
pub(super) fn unfenced(text: &str) -> &str {
    let text = text.trim();
    let Some(inside) = text.strip_prefix("```").and_then(|t| t.strip_suffix("```")) else { return text };
    inside.split_once('\n').map_or(inside, |(_language, rest)| rest).trim()
}

#[cfg(test)]
mod tests {
    use super::super::{Seen, Smaller};
    use super::*;
    use crate::answer::Answer;
    use crate::openai::Endpoint;
    use crate::prompt::Prompt;

    fn plainly(text: &str) -> Form {
        form(text, &[], None)
    }

    #[test]
    fn different_words_same_answer() {
        for (one, other) in [
            ("So the total is 1,200 dollars.", "#### 1200"),
            ("3 + 4 = 7\nA: 7", "7"),
            ("He pays $12 * 2 = $24.", "\\boxed{24}"),
            ("The answer is (C).", "C"),
            ("The answer is (c).", "C"),
            ("reasoning...\nAnswer: B", "The answer is B."),
            ("Canberra.", "canberra"),
            ("```json\n{\"b\": 1, \"a\": 2}\n```", r#"{"a":2,"b":1}"#),
            ("3.0", "3"),
        ] {
            assert_eq!(plainly(one), plainly(other));
        }
        let call = |arguments: &str| ToolCall { name: "f".into(), arguments: arguments.into() };
        assert_eq!(form("", &[call(r#"{"a": 1}"#)], None), form("", &[call(r#"{"a":1}"#)], None));
        let long = format!("{} The answer is 41.", "word ".repeat(100));
        assert_eq!(plainly(&long), plainly("41"));
    }

    #[test]
    fn a_pattern_says_what_the_answer_is() {
        let pattern = Regex::new(r"Result:\s*(\w+)").expect("a pattern");
        let by = |text: &str| form(text, &[], Some(&pattern));
        assert_eq!(by("first Result: no\nthen Result: Yes, 12"), Form::Final("yes".into()));
        assert_eq!(by("12"), plainly("12"), "where it finds nothing the rest applies");
    }

    #[test]
    fn json_agrees_field_by_field() {
        let like = |one: &str, other: &str| plainly(one).likeness(&plainly(other));
        assert!((like(r#"{"a":1,"b":"X."}"#, r#"{"b":"x","a":1.0}"#) - 1.0).abs() < 1e-12);
        assert!((like(r#"{"a":1,"b":2}"#, r#"{"a":1,"b":3,"c":4}"#) - 1.0 / 3.0).abs() < 1e-12);
        assert!(like("[1]", "[2]").abs() < 1e-12);
        assert!(like("", "").abs() < 1e-12, "nothing agrees with nothing");
    }

    #[test]
    fn choices_and_smaller_tiers_are_votes() {
        let answer = |texts: &[&str]| {
            let choice = |(at, text)| serde_json::json!({"index": at, "message": {"content": text}});
            let choices: Vec<Value> = texts.iter().enumerate().map(choice).collect();
            Answer::from_body(Endpoint::Chat, serde_json::json!({"choices": choices}).to_string().into())
                .expect("an answer")
        };
        let prompt = Prompt::parse(Endpoint::Chat, r#"{"model":"m","messages":[]}"#.into()).expect("a prompt");
        let score = |mine: &[&str], smaller: &[&str]| {
            let smaller: Vec<Answer> = smaller.iter().map(|text| answer(&[text])).collect();
            let seen: Vec<Seen> = smaller.iter().map(|_| Seen::default()).collect();
            let smaller: Vec<_> = smaller.iter().zip(&seen).map(|(answer, seen)| Smaller { answer, seen }).collect();
            let (mine, seen) = (answer(mine), Seen::default());
            let evidence = Evidence { smaller: &smaller, ..Evidence::of(&prompt, &mine, &seen) };
            super::score(&evidence).map(Score::value)
        };
        assert_eq!(score(&["4"], &[]), None);
        assert_eq!(score(&["4"], &["4"]), Some(1.0));
        assert_eq!(score(&["4"], &["5"]), Some(0.5));
        assert_eq!(score(&["4"], &["5", "4"]), Some(2.0 / 3.0));
        assert_eq!(score(&["4", "4", "5", "4"], &[]), Some(0.75));
        assert_eq!(score(&["", ""], &[]), Some(0.0));
    }

    #[test]
    fn different_answers_stay_apart() {
        for (one, other) in [
            ("12", "13"),
            ("A", "B"),
            ("yes", "no"),
            (r#"{"a":1}"#, r#"{"a":2}"#),
            ("-5", "5"),
            ("1. Paris\n2. London", "1. Oslo\n2. Berlin"),
            ("No, not since 1990.", "Yes, ever since 1990."),
            ("Jupiter, 95 moons as of 2023.", "Saturn, 146 moons as of 2023."),
            ("2024-01-15", "2023-07-15"),
            ("14:35", "17:35"),
            ("3/4", "1/4"),
            ("9007199254740993", "9007199254740992"),
            ("The answer I get is 41.", "The answer I get is 42."),
            ("Answer: A dog", "Answer: A cat"),
        ] {
            assert_ne!(plainly(one), plainly(other));
        }
    }
}
