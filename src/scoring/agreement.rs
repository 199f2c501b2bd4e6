//! Agreement with what smaller tiers have already said, which is free: their
//! answers are paid for.
//!
//! Answers are compared in a normal form, since two right answers are rarely
//! worded alike (agreement-based cascading, 2025).

use std::sync::LazyLock;

use regex::Regex;
use serde_json::Value;

use super::{Evidence, Score};
use crate::answer::{Answer, ToolCall};

/// The share of the votes so far that say what this answer says. Each choice of
/// this answer is a vote (so that `n` choices agree or not for no more money),
/// and each smaller tier's answer is one. None where there is only one vote.
pub(super) fn score(evidence: &Evidence<'_>) -> Option<Score> {
    let forms = |answer: &Answer| -> Vec<String> {
        answer.choices.iter().map(|c| normalised(&c.text, &c.tool_calls)).collect()
    };
    let mine = forms(evidence.answer);
    let smaller: Vec<Vec<String>> = evidence.smaller.iter().map(|other| forms(other)).collect();
    let votes = mine.len() + smaller.len();
    if votes < 2 {
        return None;
    }
    let count = |form: &String| {
        let others = smaller.iter().filter(|theirs| theirs.contains(form)).count();
        if form.is_empty() { 0 } else { others + mine.iter().filter(|other| *other == form).count() }
    };
    let most = mine.iter().map(count).max()?;
    #[expect(clippy::cast_precision_loss, reason = "a count of votes")]
    Score::new(most as f64 / votes as f64)
}

/// The normal form of an answer, the first of these that applies: tool calls
/// with their arguments as JSON; a JSON value; the letter of "answer is (X)" or
/// of an answer that is a letter; a number that is marked as the answer or is
/// all there is; else the lower-cased words. Empty where nothing is said.
///
/// A number somewhere in the text does not count: "1990" in two answers is no
/// sign that they agree.
#[must_use]
pub fn normalised(text: &str, tool_calls: &[ToolCall]) -> String {
    if !tool_calls.is_empty() {
        let arguments = |c: &ToolCall| json(&c.arguments).unwrap_or(c.arguments.clone());
        return tool_calls.iter().map(|c| format!("{}({})", c.name, arguments(c))).collect::<Vec<_>>().join(";");
    }
    let text = unfenced(text);
    let as_json = || text.starts_with(['{', '[']).then(|| json(text)).flatten();
    if let Some(form) = as_json().or_else(|| letter(text)).or_else(|| number(text)) {
        return form;
    }
    let words = text.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty());
    words.map(str::to_lowercase).collect::<Vec<_>>().join(" ")
}

fn letter(text: &str) -> Option<String> {
    static LETTER: LazyLock<Option<Regex>> = LazyLock::new(|| {
        Regex::new(
            r"(?x) (?i:answer(?:\ is)?)[:\s]*\**\s* (?: \(([A-Za-z])\) | ([A-Z])\s*(?:[.,;:*\n]|$) )
                 | ^\W*([A-Za-z])\W*$
                 | \\boxed\{([A-Za-z])\}",
        )
        .ok()
    });
    let found = LETTER.as_ref()?.captures_iter(text).last()?;
    let letter = found.iter().skip(1).flatten().next()?;
    Some(letter.as_str().to_uppercase())
}

fn number(text: &str) -> Option<String> {
    static NUMBER: LazyLock<Option<Regex>> = LazyLock::new(|| {
        Regex::new(
            r"(?xi) (?: \#\#\#\# | \\boxed\{ | = | \b(?:is|are|equals|answer|total)\b:? | (?:^|\n)a: | ^ )
                    \s* \** \s* [$€£≈]? \s* (-?\d[\d,]*(?:\.\d+)?)
                    \s* [%}*]* (?:\s+[a-z]+){0,3} [\s.!*)]* $",
        )
        .ok()
    });
    let found = NUMBER.as_ref()?.captures(text)?;
    let digits = found.get(1)?.as_str().replace(',', "");
    // More digits than a float holds are compared as they are written.
    let is_exact = digits.len() <= 15;
    Some(digits.parse::<f64>().ok().filter(|_| is_exact).map_or(digits, |n| n.to_string()))
}

/// JSON in its shortest spelling with sorted keys.
fn json(text: &str) -> Option<String> {
    fn sorted(value: Value) -> Value {
        match value {
            Value::Object(map) => {
                let sorted_map: std::collections::BTreeMap<_, _> =
                    map.into_iter().map(|(k, v)| (k, sorted(v))).collect();
                Value::Object(sorted_map.into_iter().collect())
            }
            Value::Array(items) => Value::Array(items.into_iter().map(sorted).collect()),
            other => other,
        }
    }
    serde_json::from_str(text).ok().map(|value| sorted(value).to_string())
}

/// The text without white space around it and without one code fence.
pub(super) fn unfenced(text: &str) -> &str {
    let text = text.trim();
    let Some(inside) = text.strip_prefix("```").and_then(|t| t.strip_suffix("```")) else { return text };
    inside.split_once('\n').map_or(inside, |(_language, rest)| rest).trim()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::openai::Endpoint;
    use crate::prompt::Prompt;

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
            assert_eq!(normalised(one, &[]), normalised(other, &[]));
        }
        let call = |arguments: &str| ToolCall { name: "f".into(), arguments: arguments.into() };
        assert_eq!(normalised("", &[call(r#"{"a": 1}"#)]), normalised("", &[call(r#"{"a":1}"#)]));
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
            let smaller: Vec<&Answer> = smaller.iter().collect();
            super::score(&Evidence { prompt: &prompt, answer: &answer(mine), smaller: &smaller }).map(Score::value)
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
            assert_ne!(normalised(one, &[]), normalised(other, &[]));
        }
    }
}
