//! Where labels come from: as recorded, by comparing with the reference, from a
//! judge's mark, or by agreement with the largest tier, which is called that.
//!
//! Invariant: labels are only ever written into `quality`; no scorer sees them.

use std::fmt;
use std::str::FromStr;

use regex::Regex;

use crate::exchange::{Exchange, RecordedAnswer};
use crate::openai::Endpoint;
use crate::policy::Policy;
use crate::prompt::numbers;
use crate::scoring::{Form, form};

/// A source of labels.
#[derive(Clone, Debug)]
pub enum Labels {
    /// `quality` as it stands in the exchange.
    Recorded,
    /// The whole text is the reference, white space around it aside.
    Exact,
    /// The last number in the text is the last in the reference.
    Numeric,
    /// The normal form is the reference's; of JSON the share of equal fields.
    Answer,
    /// What the pattern captures last is the reference.
    Pattern(Regex),
    /// A mark on the answer, by name.
    Mark(String),
    /// The normal form is that of the largest tier's answer.
    Top,
}

impl FromStr for Labels {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':').map_or((text, ""), |(kind, rest)| (kind, rest)) {
            ("recorded", "") => Ok(Self::Recorded),
            ("exact", "") => Ok(Self::Exact),
            ("numeric", "") => Ok(Self::Numeric),
            ("answer", "") => Ok(Self::Answer),
            ("top", "") => Ok(Self::Top),
            ("mark", name) if !name.is_empty() => Ok(Self::Mark(name.to_owned())),
            ("regex", pattern) if !pattern.is_empty() => {
                Regex::new(pattern).map(Self::Pattern).map_err(|e| e.to_string())
            }
            _ => Err("one of recorded, exact, numeric, answer, regex:PATTERN, mark:NAME, top".to_owned()),
        }
    }
}

/// How a report calls them.
impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Recorded => f.write_str("recorded"),
            Self::Exact => f.write_str("exact match with the reference"),
            Self::Numeric => f.write_str("numeric match with the reference"),
            Self::Answer => f.write_str("match of the final answer with the reference"),
            Self::Pattern(pattern) => write!(f, "match of {pattern} with the reference"),
            Self::Mark(name) => write!(f, "the mark {name}"),
            Self::Top => f.write_str("agreement with top"),
        }
    }
}

impl Labels {
    /// Labels the answers of an exchange; those that cannot be have none after.
    pub fn apply(&self, policy: &Policy, exchange: &mut Exchange) {
        if matches!(self, Self::Recorded) {
            return;
        }
        let pattern = policy.answer_pattern.as_ref();
        let endpoint = exchange.prompt.endpoint;
        let top = exchange.answer_of(policy.top()).and_then(|answer| said(answer, endpoint));
        let reference = exchange.reference.clone();
        for answer in exchange.answers.values_mut() {
            let text = said(answer, endpoint);
            let label = match self {
                Self::Mark(name) => answer.marks().get(name).copied(),
                Self::Top => text.zip(top.as_deref()).map(|(text, top)| alike(&text, top, pattern)),
                _ => {
                    text.zip(reference.as_deref()).map(|(text, reference)| self.by_reference(&text, reference, pattern))
                }
            };
            answer.quality = label.filter(|label| (0.0..=1.0).contains(label));
            answer.is_label_held = false;
        }
    }

    /// Whether they label the same answers alike under both policies.
    #[must_use]
    pub fn mean_the_same(&self, one: &Policy, other: &Policy) -> bool {
        let pattern = |policy: &Policy| policy.answer_pattern.as_ref().map(|p| p.as_str().to_owned());
        let top = |policy: &Policy| (policy.top().name.clone(), policy.top().model.clone());
        match self {
            Self::Top => top(one) == top(other) && pattern(one) == pattern(other),
            Self::Answer => pattern(one) == pattern(other),
            Self::Recorded | Self::Exact | Self::Numeric | Self::Pattern(_) | Self::Mark(_) => true,
        }
    }

    fn by_reference(&self, text: &str, reference: &str, answer_pattern: Option<&Regex>) -> f64 {
        let last = |text: &str| numbers(text).last().map(|(number, end)| signed(text, number, end));
        let is_right = match self {
            Self::Exact => text.trim() == reference.trim(),
            Self::Numeric => {
                let near = |(a, b): (f64, f64)| (a - b).abs() <= 1e-9 * a.abs().max(b.abs()).max(1.0);
                last(text).zip(last(reference)).is_some_and(near)
            }
            Self::Pattern(pattern) => {
                let found = pattern.captures_iter(text).last();
                let inner = found.as_ref().and_then(|found| found.iter().skip(1).flatten().next().or(found.get(0)));
                inner.is_some_and(|m| m.as_str().trim().eq_ignore_ascii_case(reference.trim()))
            }
            _ => return alike(text, reference, answer_pattern),
        };
        f64::from(u8::from(is_right))
    }
}

/// The number with the minus sign that stands before it, if one does.
fn signed(text: &str, number: f64, end: usize) -> f64 {
    let digits = text[..end].bytes().rev().take_while(|b| b.is_ascii_digit() || matches!(b, b',' | b'.')).count();
    let before = text[..end - digits].trim_end_matches(['$', '€', '£']);
    // A dash between two numbers is no sign.
    let is_minus = before.strip_suffix('-').is_some_and(|rest| !rest.ends_with(|c: char| c.is_alphanumeric()));
    if is_minus { -number } else { number }
}

fn alike(text: &str, other: &str, pattern: Option<&Regex>) -> f64 {
    let other = match form(other, &[], pattern) {
        // A reference is the bare answer.
        Form::Words(words) => Form::Final(words),
        other => other,
    };
    match form(text, &[], pattern) {
        Form::Words(words) => Form::Final(words).likeness(&other),
        mine => mine.likeness(&other),
    }
}

/// The first choice's text; none where the tier failed.
fn said(answer: &RecordedAnswer, endpoint: Endpoint) -> Option<String> {
    Some(answer.answer(endpoint).ok()?.choices.first()?.text.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_says_right_and_wrong() {
        let says = |labels: &str, text: &str, reference: &str| {
            labels.parse::<Labels>().expect(labels).by_reference(text, reference, None)
        };
        for (labels, reference, right, wrong) in [
            ("exact", "Paris", " Paris\n", "Paris."),
            ("numeric", "1,200", "It is 7 * 9 or $1200.", "1200 of 3"),
            ("numeric", "-3", "that is -3", "5-3"),
            ("answer", "D", "The answer is (D).", "The answer is (C)."),
            ("answer", "paris", "Paris!", "Rome"),
            (r"regex:Answer: (\w+)", "b", "Answer: A, no. Answer: B", "Answer: A"),
        ] {
            assert!((says(labels, right, reference) - 1.0).abs() < 1e-12, "{labels} {right}");
            assert!(says(labels, wrong, reference).abs() < 1e-12, "{labels} {wrong}");
        }
        assert!((says("answer", r#"{"a":1,"b":2}"#, r#"{"a":1,"b":3}"#) - 0.5).abs() < 1e-12);
        assert!("judge".parse::<Labels>().expect_err("unknown").starts_with("one of recorded"));
        assert!("regex:(".parse::<Labels>().is_err());
    }
}
