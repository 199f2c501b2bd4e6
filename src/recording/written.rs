//! A prompt and what tiers said to it, as a line of an exchange file.
//!
//! Invariant: what the line says can be read again as an exchange, and scored as the
//! answers were; what is not known is left out.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::redaction::Redaction;
use crate::answer::{Answer, Choice, Marks, Payload};
use crate::openai::convert::to_body;
use crate::openai::splice::Splice;
use crate::openai::{Endpoint, logprobs};
use crate::price::Usd;
use crate::prompt::Prompt;
use crate::trace::{Attempt, Failure, Outcome};

/// A prompt as it was answered.
#[derive(Clone, Debug)]
pub struct Heard {
    /// The request's id.
    pub id: String,
    /// Since the gateway began.
    pub arrived: Duration,
    /// What was asked.
    pub prompt: Prompt,
    /// What tiers said, by their names.
    pub answers: Vec<(String, Word)>,
    /// With what chance such a prompt is written down with these tiers' answers.
    pub propensity: f64,
}

/// What one tier said.
#[derive(Clone, Debug)]
pub struct Word {
    /// An answer, or the status and body of a refusal.
    pub said: Result<Arc<Answer>, (u16, bytes::Bytes)>,
    /// How long it took; none from a cache.
    pub elapsed: Option<Duration>,
    /// What it cost; none from a cache, or where nobody knows.
    pub cost: Option<Usd>,
}

impl Word {
    /// What came of an attempt; none where there is nothing to be told.
    #[must_use]
    pub fn of(attempt: &Attempt) -> Option<Self> {
        let said = match &attempt.outcome {
            Outcome::Answered { answer, .. } => Ok(answer.clone()),
            Outcome::Failed(Failure::Refused { status, body, .. }) => Err((*status, body.clone())),
            Outcome::Flowing { .. } | Outcome::Failed(_) => return None,
        };
        // What a cache says, its tier once said, in another time and for another price.
        let is_own = !attempt.cache.is_free();
        // What judging costs is worked out anew, from the judge's mark.
        let cost = attempt.own_cost().filter(|_| is_own && said.is_ok());
        Some(Self { said, elapsed: is_own.then_some(attempt.elapsed), cost })
    }
}

#[derive(Serialize)]
struct Line<'a> {
    id: &'a str,
    arrived_ms: f64,
    path: String,
    request: Box<RawValue>,
    answers: BTreeMap<&'a str, LineAnswer<'a>>,
    propensity: f64,
}

#[derive(Serialize)]
struct LineAnswer<'a> {
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    frames: Option<Vec<LineFrame>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    elapsed_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cost_usd: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    marks: Option<&'a Marks>,
}

#[derive(Serialize)]
struct LineFrame {
    data: Box<RawValue>,
}

impl Heard {
    /// Bytes of memory that it holds, about.
    #[must_use]
    pub fn weight(&self) -> usize {
        let words = self.answers.iter().map(|(_, word)| match &word.said {
            Ok(answer) => answer.weight(),
            Err((_, body)) => body.len(),
        });
        self.prompt.body().len() + words.sum::<usize>()
    }

    /// The line, without what is to be left out; none where nothing can be told. Its file
    /// `began` with the prompt that arrived then.
    #[must_use]
    pub fn line(&self, redaction: &Redaction, began: Duration) -> Option<String> {
        let endpoint = self.prompt.endpoint;
        let answers = self.answers.iter();
        let answers = answers.filter_map(|(tier, word)| Some((tier.as_str(), answer(endpoint, word, redaction)?)));
        let answers: BTreeMap<_, _> = answers.collect();
        if answers.is_empty() {
            return None;
        }
        let line = Line {
            id: &self.id,
            arrived_ms: milliseconds(self.arrived.saturating_sub(began)),
            path: endpoint.to_string(),
            request: redaction.clean(self.prompt.body())?,
            answers,
            propensity: self.propensity,
        };
        serde_json::to_string(&line).ok()
    }
}

/// To a microsecond.
#[expect(clippy::cast_precision_loss, reason = "microseconds of some hours")]
fn milliseconds(time: Duration) -> f64 {
    time.as_micros() as f64 / 1000.0
}

fn answer<'a>(endpoint: Endpoint, word: &'a Word, redaction: &Redaction) -> Option<LineAnswer<'a>> {
    let (status, body, frames, marks) = match &word.said {
        Ok(answer) => match &answer.payload {
            Payload::Whole(body) => (200, Some(whole(endpoint, answer, body, redaction)?), None, Some(&answer.marks)),
            // What is to be left out may be split over frames.
            Payload::Frames(frames) if holds_some(answer, redaction) => {
                let body = to_body(endpoint, frames)?;
                let read = Answer::from_body(endpoint, body.clone()).ok()?;
                (200, Some(whole(endpoint, &read, &body, redaction)?), None, Some(&answer.marks))
            }
            Payload::Frames(frames) => {
                let frames = frames.iter().map(|frame| Some(LineFrame { data: redaction.clean(frame)? }));
                (200, None, Some(frames.collect::<Option<Vec<_>>>()?), Some(&answer.marks))
            }
        },
        Err((status, body)) => {
            // A refusal that is no JSON, a proxy's page for one, is told as a text.
            let text = || Value::from(String::from_utf8_lossy(body)).to_string();
            let body = redaction.clean(body).or_else(|| redaction.clean(text().as_bytes()))?;
            (*status, Some(body), None, None)
        }
    };
    Some(LineAnswer {
        status,
        body,
        frames,
        elapsed_ms: word.elapsed.map(milliseconds),
        cost_usd: word.cost.map(Usd::dollars),
        marks: marks.filter(|marks| !marks.is_empty()),
    })
}

/// Whether a text of an answer holds what is to be left out.
fn holds_some(answer: &Answer, redaction: &Redaction) -> bool {
    let is_some = |text: &str| matches!(redaction.clean_text(text), Cow::Owned(_));
    answer.choices.iter().any(|choice| {
        is_some(&choice.text)
            || is_some(&choice.refusal)
            || choice.tool_calls.iter().any(|call| is_some(&call.name) || is_some(&call.arguments))
    })
}

/// A body with no more of its logprobs than scorers need: a cache may have cut them out,
/// and their tokens spell the answer in pieces, in which nothing is found to be left out.
fn whole(endpoint: Endpoint, answer: &Answer, body: &[u8], redaction: &Redaction) -> Option<Box<RawValue>> {
    let spans = logprobs::spans(body);
    if spans.is_empty() {
        return redaction.clean(body);
    }
    // One choice has them all, whose parts are one after another; several may stand in any
    // order.
    if let [choice] = answer.choices.as_slice() {
        let mut splice = Splice::default();
        for (at, span) in spans.into_iter().enumerate() {
            let known = if at == 0 { lean(endpoint, choice) } else { none(endpoint) };
            splice.replace(span, known.to_string());
        }
        return redaction.clean(&splice.apply(body));
    }
    let mut read: Value = serde_json::from_slice(body).ok()?;
    for choice in read.get_mut("choices")?.as_array_mut()? {
        let index = choice.get("index").and_then(Value::as_u64).and_then(|index| usize::try_from(index).ok());
        choice["logprobs"] = lean(endpoint, answer.choices.get(index.unwrap_or(0))?);
    }
    redaction.clean(read.to_string().as_bytes())
}

/// The logprobs of a choice without its tokens.
fn lean(endpoint: Endpoint, choice: &Choice) -> Value {
    if choice.logprobs.is_empty() {
        return none(endpoint);
    }
    let each = || choice.logprobs.iter().map(|logprob| json!({"logprob": logprob})).collect::<Value>();
    match endpoint {
        Endpoint::Chat => json!({"content": each()}),
        Endpoint::Completions => json!({"token_logprobs": choice.logprobs}),
        Endpoint::Responses => each(),
    }
}

/// What stands where there are none.
fn none(endpoint: Endpoint) -> Value {
    serde_json::from_slice(logprobs::none_of(endpoint)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::exchange::Exchange;

    fn heard(body: &str, compacted: bool) -> Heard {
        let request = r#"{"model":"m","messages":[{"role":"user","content":"my key is sk-abcdefghijklm"}]}"#;
        let prompt = Prompt::parse(Endpoint::Chat, request.into()).expect("a prompt");
        let answer = Answer::from_body(Endpoint::Chat, Bytes::copy_from_slice(body.as_bytes())).expect("an answer");
        let answer = if compacted { answer.compact(Endpoint::Chat, false) } else { answer };
        let elapsed = Some(Duration::from_micros(1500));
        let words = vec![
            ("ada".to_owned(), Word { said: Ok(Arc::new(answer)), elapsed, cost: Usd::from_dollars(0.25) }),
            ("curie".to_owned(), Word { said: Err((502, Bytes::from_static(b"<html>"))), elapsed: None, cost: None }),
        ];
        Heard { id: "r".into(), arrived: Duration::from_secs(2), prompt, answers: words, propensity: 0.5 }
    }

    #[test]
    fn a_line_is_read_again_as_what_it_was() {
        let body = r#"{"choices":[{"index":0,"message":{"content":"x"},"logprobs":{"content":[{"token":"x","logprob":-0.25}]},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":2}}"#;
        for compacted in [false, true] {
            let line = heard(body, compacted).line(&Redaction::default(), Duration::ZERO).expect("a line");
            assert!(line.contains("my key is [redacted]") && line.contains(r#""propensity":0.5"#), "{line}");
            let read = Exchange::parse(&Bytes::from(line)).expect("an exchange");
            let ada = &read.answers["ada"];
            assert_eq!((ada.elapsed_ms, ada.cost, read.arrived_ms), (Some(1.5), Usd::from_dollars(0.25), Some(2000.0)));
            let answer = ada.answer(Endpoint::Chat).expect("an answer");
            assert_eq!(
                (answer.choices[0].logprobs.as_slice(), answer.choices[0].text.as_str()),
                ([-0.25].as_slice(), "x")
            );
            assert_eq!(read.answers["curie"].status, 502);
        }
    }

    #[test]
    fn logprobs_stay_with_their_choices() {
        let choice = |index: u8, logprob: f64| {
            format!(
                r#"{{"index":{index},"message":{{"content":"x"}},"logprobs":{{"content":[{{"token":"x","logprob":{logprob}}}]}}}}"#
            )
        };
        let body = format!(r#"{{"choices":[{},{}]}}"#, choice(1, -0.5), choice(0, -0.25));
        for compacted in [false, true] {
            let line = heard(&body, compacted).line(&Redaction::default(), Duration::ZERO).expect("a line");
            assert!(!line.contains("token\":"), "{line}");
            let read = Exchange::parse(&Bytes::from(line)).expect("an exchange");
            let answer = read.answers["ada"].answer(Endpoint::Chat).expect("an answer");
            let logprobs: Vec<_> = answer.choices.iter().map(|choice| choice.logprobs.as_slice()).collect();
            assert_eq!(logprobs, [[-0.25], [-0.5]]);
        }
    }
}
