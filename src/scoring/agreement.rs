//! Agreement with what smaller tiers have already said, which is free: their
//! answers are paid for.
//!
//! Answers are compared in a normal form, since two right answers are rarely
//! worded alike (agreement-based cascading, 2025).

use std::sync::LazyLock;

use regex::Regex;
use serde_json::Value;

use super::{Evidence, Score};

/// The share of smaller tiers whose answer equals this one; none where no
/// smaller tier answered. Every choice must have its equal.
pub(super) fn score(evidence: &Evidence<'_>) -> Option<Score> {
    if evidence.smaller.is_empty() {
        return None;
    }
    let forms = |answer: &crate::answer::Answer| -> Vec<String> {
        answer.choices.iter().map(|c| normalised(&c.text, &c.tool_calls)).collect()
    };
    let mine = forms(evidence.answer);
    let same = evidence.smaller.iter().filter(|other| {
        let theirs = forms(other);
        mine.iter().all(|form| !form.is_empty() && theirs.contains(form))
    });
    #[expect(clippy::cast_precision_loss, reason = "a count of tiers")]
    Score::new(same.count() as f64 / evidence.smaller.len() as f64)
}

/// The normal form of an answer, the first of these that applies: tool calls
/// with their arguments as JSON; a JSON value; the letter of "answer is (X)"
/// or of an answer that is a letter; the last number; else the lower-cased
/// words. Empty for an answer that says nothing.
#[must_use]
pub fn normalised(text: &str, tool_calls: &[crate::answer::ToolCall]) -> String {
    static LETTER: LazyLock<Option<Regex>> = LazyLock::new(|| {
        Regex::new(r"(?i:answer(?: is|:)?)\W*\(?([A-Z])\)?(?:\W|$)|^\W*([A-Z])\W*$|\\boxed\{([A-Z])\}").ok()
    });
    static NUMBER: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"-?\d[\d,]*(?:\.\d+)?").ok());
    if !tool_calls.is_empty() {
        let calls =
            tool_calls.iter().map(|c| format!("{}({})", c.name, json(&c.arguments).unwrap_or(c.arguments.clone())));
        return calls.collect::<Vec<_>>().join(";");
    }
    let text = unfenced(text);
    if text.starts_with(['{', '['])
        && let Some(value) = json(text)
    {
        return value;
    }
    if let Some(found) = LETTER.as_ref().and_then(|r| r.captures_iter(text).last()) {
        return found.iter().skip(1).flatten().next().map_or("", |m| m.as_str()).to_owned();
    }
    if let Some(found) = NUMBER.as_ref().and_then(|r| r.find_iter(text).last()) {
        let digits = found.as_str().replace(',', "");
        return digits.parse::<f64>().map_or(digits, |n| n.to_string());
    }
    let words = text.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty());
    words.map(str::to_lowercase).collect::<Vec<_>>().join(" ")
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
    use crate::answer::ToolCall;

    #[test]
    fn different_words_same_answer() {
        for (one, other) in [
            ("So the total is 1,200 dollars.", "#### 1200"),
            ("The answer is (C).", "C"),
            ("reasoning...\nAnswer: B", "The answer is B"),
            ("Canberra.", "canberra"),
            ("```json\n{\"b\": 1, \"a\": 2}\n```", r#"{"a":2,"b":1}"#),
            ("3.0", "3"),
        ] {
            let form = |text| normalised(text, &[]).to_uppercase();
            assert_eq!(form(one), form(other));
        }
        let call = |arguments: &str| ToolCall { name: "f".into(), arguments: arguments.into() };
        assert_eq!(normalised("", &[call(r#"{"a": 1}"#)]), normalised("", &[call(r#"{"a":1}"#)]));
    }

    #[test]
    fn different_answers_stay_apart() {
        for (one, other) in [("12", "13"), ("A", "B"), ("yes", "no"), (r#"{"a":1}"#, r#"{"a":2}"#), ("-5", "5")] {
            assert_ne!(normalised(one, &[]), normalised(other, &[]));
        }
    }
}
