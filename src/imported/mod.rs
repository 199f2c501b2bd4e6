//! Lines of others' logs as exchanges, and a configuration of theirs as a policy.
//!
//! Invariant: nothing is made up. What a log does not say is left out, and a line from
//! which no prompt and answer can be had says why.

mod litellm;
mod logs;

use serde_json::{Map, Value, json};

pub use litellm::{Converted, policy};

/// Whose log a line is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// LiteLLM's spend logs, as rows or from `/spend/logs`
    LitellmSpendLogs,
    /// A file of requests for OpenAI's batch API joined with its output file
    OpenaiBatch,
    /// Helicone's export of requests
    Helicone,
    /// Langfuse's export of generations
    Langfuse,
    /// Chats that end with the answer, one to a line
    Chats,
}

/// Why a line is no exchange; the words are counted, so they name no line.
pub type Why = &'static str;

/// The format that a line looks like.
#[must_use]
pub fn guess(line: &Value) -> Option<Format> {
    let has = |name: &str| line.get(name).is_some();
    match () {
        () if has("custom_id") => Some(Format::OpenaiBatch),
        () if has("request_body") && has("response_body") => Some(Format::Helicone),
        () if has("call_type") && has("spend") => Some(Format::LitellmSpendLogs),
        () if has("traceId") || has("trace_id") && has("input") => Some(Format::Langfuse),
        () if has("messages") => Some(Format::Chats),
        () => None,
    }
}

/// What is known of an exchange.
struct Found {
    id: Option<String>,
    path: String,
    request: Value,
    model: String,
    status: u16,
    body: Value,
    elapsed_ms: Option<f64>,
    cost_usd: Option<f64>,
}

impl Found {
    fn line(self, number: u64) -> Value {
        let mut answer = Map::new();
        answer.insert("status".into(), self.status.into());
        answer.insert("body".into(), self.body);
        for (name, value) in [("elapsed_ms", self.elapsed_ms), ("cost_usd", self.cost_usd)] {
            if let Some(value) = value {
                answer.insert(name.into(), value.into());
            }
        }
        let id = self.id.unwrap_or_else(|| format!("line-{number}"));
        json!({"id": id, "path": self.path, "request": self.request, "answers": {self.model: answer}})
    }
}

/// A line of a log as an exchange; `number` names one that has no name. Of a batch's
/// line the `request` stands in another file, by its `custom_id`.
///
/// # Errors
/// Why it is none.
pub fn exchange(format: Format, line: &Value, number: u64, request: Option<&Value>) -> Result<Value, Why> {
    let found = match format {
        Format::LitellmSpendLogs => logs::spend_log(line),
        Format::OpenaiBatch => logs::batch(line, request),
        Format::Helicone => logs::helicone(line),
        Format::Langfuse => logs::langfuse(line),
        Format::Chats => logs::chat(line),
    };
    found.map(|found| found.line(number))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::logs::*;
    use super::*;
    use crate::exchange::Exchange;

    fn read(line: &Value, request: Option<&Value>) -> Exchange {
        let format = guess(line).expect("a format");
        let made = exchange(format, line, 1, request).expect("an exchange");
        Exchange::parse(&Bytes::from(made.to_string())).expect("it can be read")
    }

    fn body() -> Value {
        completion(
            "gpt-x",
            &json!({"role": "assistant", "content": "4"}),
            Some(json!({"prompt_tokens": 3, "completion_tokens": 1})),
        )
    }

    fn asked() -> Value {
        json!([{"role": "user", "content": "2+2?"}])
    }

    #[test]
    fn each_format_is_told_from_the_others_and_read() {
        let spend = json!({"request_id": "r1", "call_type": "acompletion", "spend": 0.5, "model": "gpt-x", "model_group": "fast",
            "messages": asked().to_string(), "response": body(), "request_duration_ms": 120, "cache_hit": "False"});
        let batch_asked =
            json!({"custom_id": "c1", "method": "POST", "url": CHAT, "body": {"model": "gpt-x", "messages": asked()}});
        let batch =
            json!({"id": "b", "custom_id": "c1", "response": {"status_code": 200, "body": body()}, "error": null});
        let helicone = json!({"request_id": "h1", "request_body": {"model": "gpt-x", "messages": asked()}, "response_body": body(),
            "response_status": 200, "delay_ms": 120, "cost_usd": 0.5});
        let langfuse = json!({"id": "l1", "traceId": "t", "type": "GENERATION", "model": "gpt-x", "input": asked(),
            "output": {"role": "assistant", "content": "4"}, "usageDetails": {"input": 3, "output": 1}, "latency": 0.12,
            "calculatedTotalCost": 0.5, "modelParameters": {"temperature": 0}});
        let mut chat = asked();
        chat.as_array_mut().expect("a list").push(json!({"role": "assistant", "content": "4"}));
        let chat = json!({"model": "gpt-x", "messages": chat});
        for (line, request, id, tells_cost) in [
            (&spend, None, "r1", true),
            (&batch, Some(&batch_asked), "c1", false),
            (&helicone, None, "h1", true),
            (&langfuse, None, "l1", true),
            (&chat, None, "line-1", false),
        ] {
            let read = read(line, request);
            assert_eq!((read.id.as_str(), read.prompt.texts().as_slice()), (id, ["2+2?".into()].as_slice()), "{line}");
            let answer = &read.answers["gpt-x"];
            let text = &answer.answer(read.prompt.endpoint).expect("an answer").choices[0].text;
            assert_eq!((text.as_str(), answer.elapsed_ms), ("4", tells_cost.then_some(120.0)), "{line}");
            assert_eq!(answer.cost.map(crate::price::Usd::dollars), tells_cost.then_some(0.5), "{line}");
        }
    }

    #[test]
    fn what_is_not_there_is_not_made_up() {
        let why = |line: Value| exchange(guess(&line).expect("a format"), &line, 1, None).expect_err("no exchange");
        assert_eq!(why(json!({"call_type": "aembedding", "spend": 0})), NOT_CASCADED);
        assert_eq!(
            why(json!({"call_type": "acompletion", "spend": 0, "model": "m", "messages": "{}", "response": "{}"})),
            NO_PROMPT
        );
        assert_eq!(
            why(json!({"call_type": "acompletion", "spend": 0, "model": "m", "messages": asked(), "response": {}})),
            NO_ANSWER
        );
        assert_eq!(why(json!({"custom_id": "c", "response": {"body": {}}})), NO_PROMPT);
        assert_eq!(why(json!({"request_body": {"input": "x"}, "response_body": {}})), NOT_CASCADED);
        assert_eq!(why(json!({"traceId": "t", "model": "m", "input": null, "output": "x"})), NO_PROMPT);
        assert_eq!(why(json!({"messages": asked(), "model": "m"})), NO_ANSWER);
        let hit = json!({"call_type": "completion", "spend": 0, "model": "m", "messages": asked(), "response": body(), "cache_hit": "True", "request_duration_ms": 1});
        let made = exchange(Format::LitellmSpendLogs, &hit, 1, None).expect("an exchange");
        assert!(made["answers"]["m"].get("cost_usd").is_none(), "a cache's answer cost nothing, its model's did");
    }
}
