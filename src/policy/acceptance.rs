//! The `accept:` part of the policy file: gates, scorers and the threshold.

use regex::Regex;
use serde_json::{Value, json};

use super::containers::At;
use super::problem::did_you_mean;
use super::scorers::Scorers;
use super::shape::{Reader, Shape, shape, words};
use super::units::Share;
use super::yaml::{Data, Node};
use crate::scoring::{Gate, Length, Pattern};

shape! {
    /// When an answer is good enough: every gate passes and the score reaches
    /// the threshold.
    pub struct AcceptFile {
        /// Hard checks, in order.
        gates: Vec<Gate> = vec![Gate::Complete, Gate::NotEmpty, Gate::NotRefusal, Gate::NoRepetition, Gate::Json, Gate::JsonSchema, Gate::ToolCalls],
        /// One scorer, or several: the first that has something to go by.
        score: Option<Scorers>,
        /// The least score at which the answer is served.
        at_least: Option<At<Share>>,
        /// What to do when no scorer has anything to go by.
        unscored: Unscored = Unscored::Escalate,
    }
}

words! {
    /// What becomes of an answer that no scorer can score.
    pub enum Unscored {
        /// Ask a larger tier.
        Escalate = "escalate",
        /// Serve it: the gates let it pass.
        Accept = "accept",
    }
}

/// A word, or a mapping with that word as its one key.
pub(super) fn one_key<'n>(
    node: &'n Node,
    reader: &mut Reader<'_>,
    known: &[&str],
) -> Option<(String, Option<&'n Node>)> {
    if let Data::Map(entries) = &node.data {
        let [(key, value)] = entries.as_slice() else {
            return reader.refuse(&node.span, "expected exactly one key", format!("one of {}", known.join(", ")));
        };
        let name = reader.scalar(key, "a word")?;
        reader.fields(node, known)?;
        return known.contains(&&*name).then_some((name, Some(value)));
    }
    let name = reader.scalar(node, "a word, or a mapping with one key")?;
    if known.contains(&&*name) {
        return Some((name, None));
    }
    let help = did_you_mean(&name, known.iter().copied())
        .map_or(format!("write one of {}", known.join(", ")), |meant| format!("did you mean `{meant}`?"));
    reader.refuse(&node.span, format!("`{name}` is not one of {}", known.join(", ")), help)
}

shape! {
    /// Bounds of a text's length.
    pub struct LengthFile {
        /// At least so many characters.
        min_chars: usize = 0,
        /// At most so many characters.
        max_chars: usize = usize::MAX,
    }
}

impl Shape for Gate {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        const NAMES: [&str; 9] = [
            "complete",
            "not_empty",
            "not_refusal",
            "no_repetition",
            "json",
            "json_schema",
            "tool_calls",
            "matches",
            "length",
        ];
        let (name, value) = one_key(node, reader, &NAMES)?;
        match (name.as_str(), value) {
            ("complete", None) => Some(Self::Complete),
            ("not_empty", None) => Some(Self::NotEmpty),
            ("not_refusal", None) => Some(Self::NotRefusal),
            ("no_repetition", None) => Some(Self::NoRepetition),
            ("json", None) => Some(Self::Json),
            ("json_schema", None) => Some(Self::JsonSchema),
            ("tool_calls", None) => Some(Self::ToolCalls),
            ("json", Some(value)) => {
                one_key(value, reader, &["always"])?;
                Some(Self::JsonAlways)
            }
            ("matches", Some(value)) => Some(Self::Matches(Pattern(Regex::read(value, reader)?))),
            ("length", Some(value)) => {
                let LengthFile { min_chars, max_chars } = LengthFile::read(value, reader)?;
                if min_chars == 0 && max_chars == usize::MAX {
                    return reader.refuse(&value.span, "a length without a bound", "give it min_chars or max_chars");
                }
                if min_chars > max_chars {
                    return reader.refuse(
                        &value.span,
                        "no text is that long and that short at once",
                        "min_chars must not exceed max_chars",
                    );
                }
                Some(Self::Length(Length { min_chars, max_chars }))
            }
            ("matches" | "length", None) => reader.refuse(
                &node.span,
                format!("`{name}` needs a value"),
                if name == "matches" {
                    "write { matches: 'pattern' }"
                } else {
                    "write { length: { min_chars: 1, max_chars: 2000 } }"
                },
            ),
            (_, Some(value)) => {
                reader.refuse(&value.span, format!("`{name}` takes no value"), format!("write `{name}` alone"))
            }
            _ => None,
        }
    }
    fn stand_in() -> Option<Self> {
        Some(Self::Complete)
    }
    fn schema() -> Value {
        json!({"oneOf": [
            {"enum": ["complete", "not_empty", "not_refusal", "no_repetition", "json", "json_schema", "tool_calls"]},
            {"type": "object", "properties": {"json": {"const": "always"}}, "required": ["json"], "additionalProperties": false},
            {"type": "object", "properties": {"matches": Regex::schema()}, "required": ["matches"], "additionalProperties": false},
            {"type": "object", "properties": {"length": LengthFile::schema()}, "required": ["length"], "additionalProperties": false},
        ]})
    }
    fn node(&self) -> Node {
        match self {
            Self::Matches(pattern) => Node::map(vec![("matches", pattern.0.node())]),
            Self::Length(Length { min_chars, max_chars }) => {
                Node::map(vec![("length", LengthFile { min_chars: *min_chars, max_chars: *max_chars }.node())])
            }
            Self::JsonAlways => Node::map(vec![("json", Node::plain("always"))]),
            _ => Node::plain(self.name()),
        }
    }
}
