//! Rows in the forms that providers and trainers read.

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::lesson::Lesson;
use crate::answer::Choice;

/// A form of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// OpenAI's chat rows, which trainers' SFT reads too: {messages, tools}
    Chat,
    /// The legacy {prompt, completion}
    Legacy,
    /// OpenAI's pairs for DPO: {input, `preferred_output`, `non_preferred_output`}
    Dpo,
    /// TRL's pairs for DPO: {prompt, chosen, rejected}
    Preference,
}

/// How a legacy row's prompt and completion end, which a chat's template does elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Legacy {
    /// After a prompt that was a chat; prompts that were legacy stay as they are.
    pub separator: String,
    /// After a completion.
    pub stop: String,
}

impl Format {
    /// Every form.
    pub const ALL: [Self; 4] = [Self::Chat, Self::Legacy, Self::Dpo, Self::Preference];

    /// As in the names of files.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Legacy => "legacy",
            Self::Dpo => "dpo",
            Self::Preference => "preference",
        }
    }

    /// The row of a lesson; none where it has none in this form.
    #[must_use]
    pub fn row(self, lesson: &Lesson, legacy: &Legacy) -> Option<Value> {
        match self {
            Self::Chat => Some(chat(lesson)),
            Self::Legacy => legacy_row(lesson, legacy),
            Self::Dpo => {
                let (better, worse) = (message(&lesson.answer), message(lesson.worse.as_ref()?));
                let input = with_offered(json!({"messages": lesson.messages}), lesson);
                Some(json!({"input": input, "preferred_output": [better], "non_preferred_output": [worse]}))
            }
            Self::Preference => {
                let (better, worse) = (message(&lesson.answer), message(lesson.worse.as_ref()?));
                let row = json!({"prompt": lesson.messages, "chosen": [better], "rejected": [worse]});
                let tools = lesson.offered.get("tools");
                Some(tools.map_or(row.clone(), |tools| with(row, "tools", tools.clone())))
            }
        }
    }
}

fn with(mut row: Value, name: &str, value: Value) -> Value {
    row[name] = value;
    row
}

fn with_offered(row: Value, lesson: &Lesson) -> Value {
    lesson.offered.iter().fold(row, |row, (name, value)| with(row, name, value.clone()))
}

/// Earlier answers are context: only the last is learned.
fn chat(lesson: &Lesson) -> Value {
    let weighed = |message: &Map<String, Value>| {
        let mut message = message.clone();
        if message.get("role").and_then(Value::as_str) == Some("assistant") {
            message.insert("weight".to_owned(), 0.into());
        }
        Value::Object(message)
    };
    let mut messages: Vec<Value> = lesson.messages.iter().map(weighed).collect();
    messages.push(with(message(&lesson.answer), "weight", 1.into()));
    with_offered(json!({"messages": messages}), lesson)
}

fn message(choice: &Choice) -> Value {
    let content = if choice.text.is_empty() { Value::Null } else { choice.text.as_str().into() };
    let row = json!({"role": "assistant", "content": content});
    if choice.tool_calls.is_empty() {
        return row;
    }
    let calls = choice.tool_calls.iter().enumerate().map(|(at, call)| {
        json!({"id": format!("call_{at}"), "type": "function", "function": {"name": call.name, "arguments": call.arguments}})
    });
    with(row, "tool_calls", calls.collect())
}

/// None where a tool is called: there are no words for that.
fn legacy_row(lesson: &Lesson, legacy: &Legacy) -> Option<Value> {
    let of = |message: &Map<String, Value>| {
        let text = |name: &str| message.get(name).and_then(Value::as_str).map(str::to_owned);
        Some((text("role")?, text("content")?))
    };
    if !lesson.answer.tool_calls.is_empty() || !lesson.offered.is_empty() {
        return None;
    }
    let said: Option<Vec<(String, String)>> = lesson.messages.iter().map(of).collect();
    let said = said?;
    let prompt = match said.as_slice() {
        [(_, text)] if lesson.is_legacy => text.clone(),
        [(_, text)] => format!("{text}{}", legacy.separator),
        [(role, system), (_, text)] if role != "assistant" && role != "user" => {
            format!("{system}\n\n{text}{}", legacy.separator)
        }
        turns => {
            let turn = |(role, text): &(String, String)| {
                let mut name = role.clone();
                name.get_mut(..1).into_iter().for_each(str::make_ascii_uppercase);
                format!("{name}: {text}\n\n")
            };
            turns.iter().map(turn).collect::<String>() + "Assistant:" + &legacy.separator
        }
    };
    let text = &lesson.answer.text;
    // A legacy prompt says itself where its answer begins.
    let space = if lesson.is_legacy || text.starts_with(char::is_whitespace) { "" } else { " " };
    let stop = if text.ends_with(&legacy.stop) { "" } else { &legacy.stop };
    Some(json!({"prompt": prompt, "completion": format!("{space}{text}{stop}")}))
}
