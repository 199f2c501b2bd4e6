//! Gates: hard yes/no checks that come before any score.
//!
//! Invariant: every choice of an answer must pass, since a client gets them all.

use std::sync::LazyLock;

use regex::Regex;

use super::{Evidence, agreement, schema};
use crate::answer::{Choice, ToolCall};
use crate::openai::contract::Contract;
use crate::prompt::Prompt;

/// A hard check.
#[derive(Clone, Debug)]
pub enum Gate {
    /// The model came to an end: neither cut by a token limit nor filtered.
    Complete,
    /// There is text other than white space, or a tool call.
    NotEmpty,
    /// The model did not decline.
    NotRefusal,
    /// No phrase is repeated over and over.
    NoRepetition,
    /// Where the request asks for JSON, the text is JSON.
    Json,
    /// The text is JSON, a code fence around it allowed. Tool calls pass.
    JsonAlways,
    /// Where the request gives a schema, the text is JSON that fits it.
    JsonSchema,
    /// Tool calls name a tool that was offered, with arguments that are JSON and
    /// fit its schema; where a call is required, there is one.
    ToolCalls,
    /// The text matches. Tool calls pass.
    Matches(Pattern),
    /// The text has a fitting length. Tool calls pass.
    Length(Length),
}

/// A compiled pattern and how it was written.
#[derive(Clone, Debug)]
pub struct Pattern(pub Regex);

/// Bounds of a text's length in characters, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Length {
    /// At least so many.
    pub min_chars: usize,
    /// At most so many.
    pub max_chars: usize,
}

impl Gate {
    /// The name in YAML, headers and reports.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::NotEmpty => "not_empty",
            Self::NotRefusal => "not_refusal",
            Self::NoRepetition => "no_repetition",
            Self::Json | Self::JsonAlways => "json",
            Self::JsonSchema => "json_schema",
            Self::ToolCalls => "tool_calls",
            Self::Matches(_) => "matches",
            Self::Length(_) => "length",
        }
    }

    /// Whether every choice of the answer passes.
    #[must_use]
    pub fn passes(&self, evidence: &Evidence<'_>) -> bool {
        evidence.answer.choices.iter().all(|choice| self.passes_choice(evidence.prompt, choice))
    }

    /// Whether only a whole answer can be held against this gate. `Complete` and
    /// `NotEmpty` do not count: a stream that breaks off ends in an error frame.
    #[must_use]
    pub fn needs_the_end(&self, prompt: &Prompt) -> bool {
        match self {
            Self::Complete | Self::NotEmpty | Self::NotRefusal | Self::NoRepetition => false,
            Self::Json | Self::JsonSchema => prompt.asks_json,
            Self::ToolCalls => prompt.has_tools,
            Self::JsonAlways | Self::Matches(_) | Self::Length(_) => true,
        }
    }

    fn passes_choice(&self, prompt: &Prompt, choice: &Choice) -> bool {
        let is_call = !choice.tool_calls.is_empty();
        match self {
            Self::Complete => matches!(
                choice.finish_reason.as_deref(),
                Some("stop" | "tool_calls" | "function_call" | "eos" | "end_turn")
            ),
            Self::NotEmpty => is_call || !choice.text.trim().is_empty(),
            Self::NotRefusal => choice.refusal.is_empty() && !is_refusal(&choice.text),
            Self::NoRepetition => !is_looping(&choice.text),
            Self::Json if !prompt.asks_json => true,
            Self::Json | Self::JsonAlways => {
                is_call || serde_json::from_str::<serde::de::IgnoredAny>(agreement::unfenced(&choice.text)).is_ok()
            }
            Self::JsonSchema if is_call || !prompt.asks_json => true,
            Self::JsonSchema => prompt.contract().schema.as_ref().is_none_or(|schema| {
                serde_json::from_str(agreement::unfenced(&choice.text)).is_ok_and(|value| schema::fits(schema, &value))
            }),
            Self::ToolCalls if !prompt.has_tools => !is_call,
            Self::ToolCalls => {
                let contract = prompt.contract();
                (is_call || !contract.must_call) && choice.tool_calls.iter().all(|call| call_fits(contract, call))
            }
            Self::Matches(pattern) => is_call || pattern.0.is_match(&choice.text),
            Self::Length(length) => {
                is_call || (length.min_chars..=length.max_chars).contains(&choice.text.chars().count())
            }
        }
    }
}

fn call_fits(contract: &Contract, call: &ToolCall) -> bool {
    let Some(parameters) = contract.tools.get(&call.name) else { return contract.has_unknown_tools };
    // A function without parameters is often called with no arguments at all.
    let arguments = if call.arguments.trim().is_empty() { "{}" } else { &call.arguments };
    serde_json::from_str(arguments)
        .is_ok_and(|value| parameters.as_ref().is_none_or(|schema| schema::fits(schema, &value)))
}

/// Whether a text opens by declining. Only the opening counts: a long answer
/// may well hold the words further on.
pub(super) fn is_refusal(text: &str) -> bool {
    const OPENING_CHARS: usize = 200;
    static DECLINES: LazyLock<Option<Regex>> = LazyLock::new(|| {
        Regex::new(
            r"(?xi) ^\W*
            (?: (?: (?:(?:i['’]?m|i\ am)\ )?(?:very\ |so\ |really\ |terribly\ )?sorry | i\ apologi[sz]e | my\ apologies
                  | unfortunately | i['’]m\ afraid | i\ am\ afraid )
                [,.]?\ (?:but\ )?(?:that\ )? )?
            (?: (?:i|we)\ (?:can(?:\ ?not|['’]t)|won['’]t|will\ not|could(?:\ not|n['’]t)|do\ not|don['’]t)\ (?:to\ )?
                (?:be\ able|help|assist|provide|answer|comply|fulfil|do\ that|do\ this|generate|create|engage|discuss
                  |share|write|give|complete|support|continue|have\ (?:access|the\ ability|enough))
              | (?:i|we)(?:\ am|\ are|['’]m|['’]re)\ (?:not\ able|unable|not\ allowed|not\ permitted|not\ comfortable)\b
              | i\ must\ (?:respectfully\ )?decline
              | as\ an?\ (?:ai|artificial\ intelligence|large\ language|language)(?:\ language)?(?:\ model|\ assistant|\ system)*,?\ i\b )",
        )
        .ok()
    });
    let end = text.char_indices().nth(OPENING_CHARS).map_or(text.len(), |(at, _)| at);
    let opening = &text[..end];
    DECLINES.as_ref().is_some_and(|r| r.is_match(opening)) && !opening.contains("help but ")
}

/// Whether the text ends in a loop: one phrase of up to [`MAX_PERIOD`] words,
/// over and over, filling at least [`LOOP_WORDS`] words and four rounds.
fn is_looping(text: &str) -> bool {
    const MAX_PERIOD: usize = 40;
    const LOOP_WORDS: usize = 20;
    const TAIL_WORDS: usize = MAX_PERIOD * 4 + 1;
    let mut tail: Vec<&str> = text.split_whitespace().rev().take(TAIL_WORDS).collect();
    // The last word may be cut in two by a token limit.
    if tail.len() > 1 {
        tail.remove(0);
    }
    (1..=MAX_PERIOD).any(|period| {
        let needed = (period * 4).max(LOOP_WORDS);
        tail.len() >= needed
            && (period..needed).all(|at| tail[at] == tail[at - period])
            // A table's dashes or a row of numbers alike is no loop of words.
            && tail[..period].iter().any(|word| word.chars().any(char::is_alphabetic))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::openai::Endpoint;

    fn asking(fields: &str) -> Prompt {
        let body = format!(r#"{{"model":"m","messages":[]{fields}}}"#);
        Prompt::parse(Endpoint::Chat, body.into()).expect("a prompt")
    }

    fn said(text: &str, finish: &str) -> Choice {
        Choice { text: text.into(), finish_reason: Some(finish.into()), ..Choice::default() }
    }

    #[test]
    fn each_gate_says_yes_and_no() {
        let json = asking(r#","response_format":{"type":"json_object"}"#);
        let pattern = || Gate::Matches(Pattern(Regex::new("(?m)^Answer:").expect("a pattern")));
        let length = || Gate::Length(Length { min_chars: 2, max_chars: 3 });
        for (gate, good, bad) in [
            (Gate::Complete, said("x", "stop"), said("x", "length")),
            (Gate::Complete, said("x", "tool_calls"), said("x", "content_filter")),
            (Gate::NotEmpty, said("x", "stop"), said(" \n", "stop")),
            (Gate::Json, said("```json\n{\"a\":1}\n```", "stop"), said("{\"a\":1", "stop")),
            (Gate::JsonAlways, said("[1]", "stop"), said("[1] and so on", "stop")),
            (pattern(), said("so\nAnswer: 3", "stop"), said("3", "stop")),
            (length(), said("äöü", "stop"), said("abcd", "stop")),
        ] {
            assert!(gate.passes_choice(&json, &good), "{gate:?} passes {good:?}");
            assert!(!gate.passes_choice(&json, &bad), "{gate:?} stops {bad:?}");
        }
    }

    #[test]
    fn refusals_are_known_by_their_opening() {
        for text in [
            "I'm sorry, but I can't help with that.",
            "I’m sorry, I cannot assist with this request.",
            "Sorry, I can't do that.",
            "As an AI language model, I do not have opinions.",
            "I cannot provide medical advice.",
            "Unfortunately, I am unable to help with that.",
            "I must decline.",
            "Unfortunately, I'm unable to help.",
            "I'm afraid I can't help with that.",
            "I apologize, but I cannot assist with that.",
            "I'm not able to share that.",
            "As a large language model, I have no body.",
        ] {
            assert!(is_refusal(text), "{text}");
        }
        for text in [
            "Sorry Sight is a fine book.",
            "I can help with that: ...",
            "The letter said: I'm sorry, but I can't help with that.",
            "I cannot overstate how good this is.",
            "I'm sorry to hear that. Here is what to do.",
            "I'm sorry that your order arrived late. You can return it.",
            "Sorry, I misread the table. The total is 42.",
            "As a large mammal, the elephant drinks a lot.",
            "As an AI researcher, you should publish.",
            "I can't help but admire this.",
        ] {
            assert!(!is_refusal(text), "{text}");
        }
    }

    #[test]
    fn loops_are_found_and_lists_are_not() {
        assert!(is_looping(&"the cat sat on the mat and ".repeat(8)));
        assert!(is_looping(&format!("First a start. {} no", "no ".repeat(30))));
        assert!(is_looping(&format!("{}and so on and o", "and so on ".repeat(20))), "cut in the middle of a word");
        assert!(!is_looping(&"- - - ".repeat(30)));
        assert!(!is_looping("very very very good"));
        let list = (0..60).fold(String::new(), |list, n| list + &format!("Step {n}: stir the pot. "));
        assert!(!is_looping(&list));
    }

    #[test]
    fn json_is_demanded_only_where_it_was_asked_for() {
        assert!(Gate::Json.passes_choice(&asking(""), &said("plain words", "stop")));
        assert!(!Gate::JsonAlways.passes_choice(&asking(""), &said("plain words", "stop")));
    }

    #[test]
    fn json_must_fit_the_schema_that_was_given() {
        let prompt = asking(
            r#","response_format":{"type":"json_schema","json_schema":{"schema":{"type":"object","required":["a"]}}}"#,
        );
        assert!(Gate::JsonSchema.passes_choice(&prompt, &said(r#"{"a":1}"#, "stop")));
        assert!(!Gate::JsonSchema.passes_choice(&prompt, &said(r#"{"b":1}"#, "stop")));
        assert!(!Gate::JsonSchema.passes_choice(&prompt, &said("a is 1", "stop")));
    }

    #[test]
    fn a_tool_call_must_be_one_that_was_offered() {
        let tools =
            r#","tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object","required":["a"]}}}]"#;
        let call = |name: &str, arguments: &str| Choice {
            tool_calls: vec![ToolCall { name: name.into(), arguments: arguments.into() }],
            ..said("", "tool_calls")
        };
        let (free, forced) = (asking(tools), asking(&format!(r#"{tools},"tool_choice":"required""#)));
        for (prompt, choice, passes) in [
            (&free, call("f", r#"{"a":1}"#), true),
            (&free, call("f", r#"{"b":1}"#), false),
            (&free, call("f", r#"{"a":1"#), false),
            (&free, call("f", ""), false),
            (&free, call("g", r#"{"a":1}"#), false),
            (&free, said("no call", "stop"), true),
            (&forced, said("no call", "stop"), false),
            (&asking(""), call("f", "{}"), false),
        ] {
            assert_eq!(Gate::ToolCalls.passes_choice(prompt, &choice), passes, "{choice:?}");
        }
    }

    #[test]
    fn a_tool_call_needs_no_text() {
        let call = Choice { tool_calls: vec![crate::answer::ToolCall::default()], ..said("", "tool_calls") };
        let json = asking(r#","response_format":{"type":"json_object"}"#);
        for gate in [Gate::NotEmpty, Gate::Json, Gate::Length(Length { min_chars: 1, max_chars: 9 })] {
            assert!(gate.passes_choice(&json, &call), "{gate:?}");
        }
    }
}
