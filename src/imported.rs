//! Lines of others' logs as exchanges.
//!
//! Invariant: nothing is made up. What a log does not say is left out, and a line from
//! which no prompt and answer can be had says why.

use serde_json::{Map, Value, json};

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

const NO_PROMPT: Why = "the log has no prompt: it was not kept";
const NO_ANSWER: Why = "the log has no answer: it was not kept, or there was none";
const NO_MODEL: Why = "no model is named";
const NOT_CASCADED: Why = "not a chat or a completion";

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

/// A value that a log keeps as JSON, or as JSON in a text.
fn opened(value: Option<&Value>) -> Value {
    match value {
        Some(Value::String(text)) => serde_json::from_str(text).unwrap_or_else(|_| Value::from(text.as_str())),
        Some(value) => value.clone(),
        None => Value::Null,
    }
}

fn text<'a>(line: &'a Value, names: &[&str]) -> Option<&'a str> {
    names.iter().find_map(|name| line.get(name)?.as_str()).filter(|text| !text.is_empty())
}

fn number(line: &Value, names: &[&str]) -> Option<f64> {
    let of = |value: &Value| value.as_f64().or_else(|| value.as_str()?.parse().ok());
    names.iter().find_map(|name| of(line.get(name)?)).filter(|number: &f64| number.is_finite() && *number >= 0.0)
}

/// Messages, wherever a log keeps them: a list, or an object that has it.
fn messages(input: &Value) -> Option<Value> {
    let list = input.get("messages").unwrap_or(input);
    let is_chat = |list: &Vec<Value>| !list.is_empty() && list.iter().all(|message| message.get("role").is_some());
    list.as_array().filter(|list| is_chat(list)).map(|_| list.clone())
}

/// A completion with this message.
fn completion(model: &str, message: &Value, usage: Option<Value>) -> Value {
    let has_calls = message.get("tool_calls").is_some_and(Value::is_array);
    let finish_reason = if has_calls { "tool_calls" } else { "stop" };
    let mut body = json!({"object": "chat.completion", "model": model,
        "choices": [{"index": 0, "message": message, "finish_reason": finish_reason}]});
    if let Some(usage) = usage {
        body["usage"] = usage;
    }
    body
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
        Format::LitellmSpendLogs => spend_log(line),
        Format::OpenaiBatch => batch(line, request),
        Format::Helicone => helicone(line),
        Format::Langfuse => langfuse(line),
        Format::Chats => chat(line),
    };
    found.map(|found| found.line(number))
}

const CHAT: &str = "/v1/chat/completions";

fn spend_log(line: &Value) -> Result<Found, Why> {
    if !text(line, &["call_type"]).is_some_and(|kind| matches!(kind, "completion" | "acompletion")) {
        return Err(NOT_CASCADED);
    }
    let model = text(line, &["model"]).ok_or(NO_MODEL)?.to_owned();
    let asked = opened(line.get("proxy_server_request"));
    let messages = messages(&opened(line.get("messages"))).or_else(|| messages(&asked)).ok_or(NO_PROMPT)?;
    let body = opened(line.get("response"));
    if body.get("choices").is_none() {
        return Err(NO_ANSWER);
    }
    // Its own fields, where the whole request was kept; the model is the client's name.
    let mut request = if asked.get("messages").is_some() { asked } else { json!({}) };
    request["model"] = text(line, &["model_group"]).unwrap_or(&model).into();
    request["messages"] = messages;
    let is_hit = text(line, &["cache_hit"]).is_some_and(|hit| hit.eq_ignore_ascii_case("true"));
    Ok(Found {
        id: text(line, &["request_id"]).map(str::to_owned),
        path: CHAT.to_owned(),
        request,
        model,
        status: 200,
        body,
        elapsed_ms: number(line, &["request_duration_ms"]).filter(|_| !is_hit),
        cost_usd: number(line, &["spend"]).filter(|_| !is_hit),
    })
}

fn batch(line: &Value, request: Option<&Value>) -> Result<Found, Why> {
    let answered = line.get("response").filter(|response| response.is_object()).ok_or(NO_ANSWER)?;
    let asked = request.ok_or(NO_PROMPT)?;
    let body = answered.get("body").filter(|body| body.is_object()).ok_or(NO_ANSWER)?;
    let request = asked.get("body").cloned().ok_or(NO_PROMPT)?;
    let path = text(asked, &["url"]).unwrap_or(CHAT);
    if crate::openai::Endpoint::from_path(path).is_none() {
        return Err(NOT_CASCADED);
    }
    let status = answered.get("status_code").and_then(Value::as_u64).and_then(|status| u16::try_from(status).ok());
    Ok(Found {
        id: text(line, &["custom_id"]).map(str::to_owned),
        path: path.to_owned(),
        model: text(&request, &["model"]).ok_or(NO_MODEL)?.to_owned(),
        request,
        status: status.unwrap_or(200),
        body: body.clone(),
        elapsed_ms: None,
        cost_usd: None,
    })
}

fn helicone(line: &Value) -> Result<Found, Why> {
    let request = opened(line.get("request_body"));
    let body = opened(line.get("response_body"));
    let is_chat = messages(&request).is_some();
    if !is_chat && request.get("prompt").is_none() {
        return Err(if request.is_object() { NOT_CASCADED } else { NO_PROMPT });
    }
    let status = number(line, &["response_status", "status"]).map_or(200, |status| {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a status")]
        let status = status.clamp(0.0, 999.0) as u16;
        status
    });
    if body.get("choices").is_none() && status < 300 {
        return Err(NO_ANSWER);
    }
    // The request's name for the model is the one that a policy has.
    let model = text(&request, &["model"]).or(text(line, &["request_model", "model", "response_model"]));
    Ok(Found {
        id: text(line, &["request_id", "id"]).map(str::to_owned),
        path: if is_chat { CHAT } else { "/v1/completions" }.to_owned(),
        model: model.ok_or(NO_MODEL)?.to_owned(),
        request,
        status,
        body,
        elapsed_ms: number(line, &["delay_ms", "latency", "response_delay_ms"]),
        cost_usd: number(line, &["cost_usd", "cost", "costUSD"]),
    })
}

fn langfuse(line: &Value) -> Result<Found, Why> {
    if text(line, &["type"]).is_some_and(|kind| kind != "GENERATION") {
        return Err(NOT_CASCADED);
    }
    let model = text(line, &["model", "providedModelName"]).ok_or(NO_MODEL)?.to_owned();
    let input = opened(line.get("input"));
    let asked = match &input {
        Value::String(text) if !text.is_empty() => json!([{"role": "user", "content": text}]),
        input => messages(input).ok_or(NO_PROMPT)?,
    };
    let message = match opened(line.get("output")) {
        Value::String(text) if !text.is_empty() => json!({"role": "assistant", "content": text}),
        output if output.get("content").is_some() || output.get("tool_calls").is_some() => output,
        _ => return Err(NO_ANSWER),
    };
    let counted = opened(line.get("usageDetails").or(line.get("usage")));
    let tokens = |names: &[&str]| number(&counted, names);
    let usage = tokens(&["input", "promptTokens"]).zip(tokens(&["output", "completionTokens"]));
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count of tokens")]
    let usage = usage.map(|(input, output)| json!({"prompt_tokens": input as u64, "completion_tokens": output as u64}));
    let mut request = json!({"model": model, "messages": asked});
    if let Some(parameters) = opened(line.get("modelParameters")).as_object() {
        for name in ["temperature", "max_tokens", "top_p"] {
            if let Some(value) = parameters.get(name).filter(|value| value.is_number()) {
                request[name] = value.clone();
            }
        }
    }
    Ok(Found {
        id: text(line, &["id"]).map(str::to_owned),
        path: CHAT.to_owned(),
        request,
        status: 200,
        body: completion(&model, &message, usage),
        model,
        // Seconds.
        elapsed_ms: number(line, &["latency"]).map(|seconds| seconds * 1000.0),
        cost_usd: number(line, &["calculatedTotalCost", "totalCost"]),
    })
}

fn chat(line: &Value) -> Result<Found, Why> {
    let mut all = messages(line).and_then(|list| list.as_array().cloned()).ok_or(NO_PROMPT)?;
    let answer = all.pop().filter(|last| last["role"] == "assistant").ok_or(NO_ANSWER)?;
    if all.is_empty() {
        return Err(NO_PROMPT);
    }
    let model = text(line, &["model"]).ok_or(NO_MODEL)?.to_owned();
    let mut request = json!({"model": model, "messages": all});
    if let Some(tools) = line.get("tools") {
        request["tools"] = tools.clone();
    }
    Ok(Found {
        id: text(line, &["id"]).map(str::to_owned),
        path: CHAT.to_owned(),
        request,
        status: 200,
        body: completion(&model, &answer, line.get("usage").cloned()),
        model,
        elapsed_ms: None,
        cost_usd: None,
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

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
