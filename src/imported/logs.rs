//! The log of each gateway or API, line by line.
//!
//! Invariant: a field is read under the names that its log has, and no others.

use serde_json::{Value, json};

use super::{Found, Why};

pub(super) const NO_PROMPT: Why = "the log has no prompt: it was not kept, or two have its name";
pub(super) const NO_ANSWER: Why = "the log has no answer: it was not kept, or there was none";
pub(super) const NO_MODEL: Why = "no model is named";
pub(super) const CUT: Why = "the log has cut it short";
pub(super) const NOT_CASCADED: Why = "not a chat or a completion";

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
pub(super) fn completion(model: &str, message: &Value, usage: Option<Value>) -> Value {
    let has_calls = message.get("tool_calls").is_some_and(Value::is_array);
    let finish_reason = if has_calls { "tool_calls" } else { "stop" };
    let mut body = json!({"object": "chat.completion", "model": model,
        "choices": [{"index": 0, "message": message, "finish_reason": finish_reason}]});
    if let Some(usage) = usage {
        body["usage"] = usage;
    }
    body
}

pub(super) const CHAT: &str = "/v1/chat/completions";

pub(super) fn spend_log(line: &Value) -> Result<Found, Why> {
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
    // What it puts where it has cut a long text.
    if messages.to_string().contains("litellm_truncated") || body.to_string().contains("litellm_truncated") {
        return Err(CUT);
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

pub(super) fn batch(line: &Value, request: Option<&Value>) -> Result<Found, Why> {
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

pub(super) fn helicone(line: &Value) -> Result<Found, Why> {
    let request = opened(line.get("request_body"));
    let body = opened(line.get("response_body"));
    let is_chat = messages(&request).is_some();
    if !is_chat && request.get("prompt").is_none() {
        return Err(if request.is_object() { NOT_CASCADED } else { NO_PROMPT });
    }
    let status = ["response_status", "status"].iter().find_map(|name| line.get(name)?.as_i64()).unwrap_or(200);
    // Below 100 are those that did not finish.
    let status = u16::try_from(status).ok().filter(|status| *status >= 100).ok_or(NO_ANSWER)?;
    if body.is_null() || body.get("choices").is_none() && status < 300 {
        return Err(NO_ANSWER);
    }
    // The request's name for the model is the one that a policy has.
    let model = text(&request, &["model"]).or(text(line, &["request_model", "model", "response_model"]));
    let model = model.ok_or(NO_MODEL)?.to_owned();
    let mut request = request;
    request["model"] = model.as_str().into();
    Ok(Found {
        id: text(line, &["request_id", "id"]).map(str::to_owned),
        path: if is_chat { CHAT } else { "/v1/completions" }.to_owned(),
        model,
        request,
        status,
        body,
        elapsed_ms: number(line, &["delay_ms", "latency", "response_delay_ms"]),
        cost_usd: number(line, &["cost_usd", "cost", "costUSD"]),
    })
}

pub(super) fn langfuse(line: &Value) -> Result<Found, Why> {
    if text(line, &["type"]).is_some_and(|kind| kind != "GENERATION") {
        return Err(NOT_CASCADED);
    }
    let model = text(line, &["model", "providedModelName", "provided_model_name"]).ok_or(NO_MODEL)?.to_owned();
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
    let counted = opened(line.get("usageDetails").or(line.get("usage_details")).or(line.get("usage")));
    // Cached and reasoning tokens are counted beside the others: `input_cached_tokens`.
    let tokens = |prefix: &str, old: &str| {
        let all = counted.as_object().into_iter().flatten().filter(|(name, _)| name.starts_with(prefix));
        let sum = all.filter_map(|(_, count)| count.as_f64()).reduce(|a, b| a + b);
        sum.or_else(|| number(&counted, &[old]))
    };
    let usage = tokens("input", "promptTokens").zip(tokens("output", "completionTokens"));
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count of tokens")]
    let usage = usage.map(|(input, output)| json!({"prompt_tokens": input as u64, "completion_tokens": output as u64}));
    let mut request = json!({"model": model, "messages": asked});
    if let Some(parameters) = opened(line.get("modelParameters").or(line.get("model_parameters"))).as_object() {
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
        cost_usd: number(line, &["calculatedTotalCost", "totalCost", "total_cost"]),
    })
}

pub(super) fn chat(line: &Value) -> Result<Found, Why> {
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
