//! An exchange: one recorded line, a prompt and what each tier said to it.
//!
//! Invariant: an absent field is unknown, never zero. Verdicts are not
//! stored; they are computed anew, so a new threshold needs no new recording.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::answer::{Answer, Marks, NotAnAnswer, Usage};
use crate::openai::Endpoint;
use crate::price::Usd;
use crate::prompt::{NotAPrompt, Prompt};
use crate::trace::Failure;

/// One recorded prompt.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// Its name, unique in its file.
    pub id: String,
    /// What kind of prompt it is, for breakdowns.
    pub task: Option<String>,
    /// When it arrived, in milliseconds since the recording began.
    pub arrived_ms: Option<f64>,
    /// What was asked.
    pub prompt: Prompt,
    /// What tiers said, by tier or model name.
    pub answers: BTreeMap<String, RecordedAnswer>,
    /// The right answer, where there is one.
    pub reference: Option<String>,
}

/// What one tier said.
#[derive(Clone, Debug)]
pub struct RecordedAnswer {
    /// The HTTP status.
    pub status: u16,
    /// How long it took, in milliseconds.
    pub elapsed_ms: Option<f64>,
    /// How long until its first byte, in milliseconds.
    pub first_byte_ms: Option<f64>,
    /// What it cost.
    pub cost: Option<Usd>,
    /// Its label, 0..=1: 1 right, 0 wrong, or a grade between.
    pub quality: Option<f64>,
    /// True where the label written lies outside 0..=1 and was held at the
    /// nearer end; some graders overshoot.
    pub is_label_held: bool,
    marks: Marks,
    body: Recorded,
    read: OnceLock<Result<Arc<Answer>, Failure>>,
}

#[derive(Clone, Debug)]
enum Recorded {
    Body(Bytes),
    Frames(Vec<Bytes>),
}

/// Why a line is no exchange.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAnExchange {
    /// Not JSON, or a field is missing or of the wrong type.
    #[error("{0}")]
    Json(String),
    /// Its path is not one that is cascaded.
    #[error("the path {0} is not cascaded; /v1/chat/completions and /v1/completions are")]
    Path(String),
    /// Its request is no prompt.
    #[error("its request: {0}")]
    Prompt(#[from] NotAPrompt),
    /// A number out of range.
    #[error("the {field} of {tier} is {value}, which is not {wanted}")]
    Range {
        /// Which field.
        field: &'static str,
        /// Of which tier.
        tier: String,
        /// What it is.
        value: String,
        /// What it must be.
        wanted: &'static str,
    },
    /// A time of arrival out of range.
    #[error("arrived_ms is {0}, which is not from 0 to 1e13: it counts from the start of the recording")]
    Arrival(String),
    /// Neither a body nor frames.
    #[error("the answer of {0} has neither `body` nor `frames`")]
    Nothing(String),
}

#[derive(Deserialize)]
struct Line<'a> {
    id: String,
    #[serde(default)]
    task: Option<String>,
    #[serde(default)]
    arrived_ms: Option<f64>,
    #[serde(borrow)]
    path: Cow<'a, str>,
    #[serde(borrow)]
    request: &'a RawValue,
    #[serde(borrow)]
    answers: BTreeMap<String, LineAnswer<'a>>,
    #[serde(default)]
    reference: Option<String>,
}

#[derive(Deserialize)]
struct LineAnswer<'a> {
    status: u16,
    #[serde(borrow, default)]
    body: Option<&'a RawValue>,
    #[serde(borrow, default)]
    frames: Option<Vec<LineFrame<'a>>>,
    #[serde(default)]
    elapsed_ms: Option<f64>,
    #[serde(default)]
    first_byte_ms: Option<f64>,
    #[serde(default)]
    cost_usd: Option<f64>,
    #[serde(default)]
    quality: Option<f64>,
    #[serde(default)]
    marks: Marks,
}

#[derive(Deserialize)]
struct LineFrame<'a> {
    #[serde(borrow)]
    data: &'a RawValue,
}

impl Exchange {
    /// Reads one line. Bodies are slices of it, not copies.
    ///
    /// # Errors
    /// When the line is not an exchange, with what is wrong.
    pub fn parse(line: &Bytes) -> Result<Self, NotAnExchange> {
        let read: Line<'_> = serde_json::from_slice(line).map_err(|e| NotAnExchange::Json(e.to_string()))?;
        let endpoint = Endpoint::from_path(&read.path).ok_or_else(|| NotAnExchange::Path(read.path.into_owned()))?;
        // Three centuries of milliseconds: past that, clocks overflow.
        if let Some(ms) = read.arrived_ms.filter(|ms| !(0.0..1e13).contains(ms)) {
            return Err(NotAnExchange::Arrival(ms.to_string()));
        }
        let answers = read.answers.into_iter().map(|(tier, answer)| {
            let answer = recorded(line, &tier, answer)?;
            Ok((tier, answer))
        });
        Ok(Self {
            id: read.id,
            task: read.task,
            arrived_ms: read.arrived_ms,
            answers: answers.collect::<Result<_, NotAnExchange>>()?,
            reference: read.reference,
            prompt: Prompt::parse(endpoint, slice(line, read.request))?,
        })
    }

    /// What a tier said: by its name, else by its model's.
    #[must_use]
    pub fn answer_of(&self, tier: &crate::policy::Tier) -> Option<&RecordedAnswer> {
        self.answers.get(&tier.name).or_else(|| self.answers.get(&tier.model))
    }
}

fn slice(line: &Bytes, raw: &RawValue) -> Bytes {
    line.slice_ref(raw.get().as_bytes())
}

fn recorded(line: &Bytes, tier: &str, answer: LineAnswer<'_>) -> Result<RecordedAnswer, NotAnExchange> {
    let outside = |field, value: f64, wanted| NotAnExchange::Range {
        field,
        tier: tier.to_owned(),
        value: value.to_string(),
        wanted,
    };
    if let Some(quality) = answer.quality.filter(|q| !(-1.0..=2.0).contains(q)) {
        return Err(outside("quality", quality, "from 0 to 1"));
    }
    for (field, value) in
        [("elapsed_ms", answer.elapsed_ms), ("first_byte_ms", answer.first_byte_ms), ("cost_usd", answer.cost_usd)]
    {
        if let Some(value) = value.filter(|v| !(0.0..1e10).contains(v)) {
            return Err(outside(field, value, "from 0 to 1e10"));
        }
    }
    let body = match (answer.body, answer.frames) {
        (Some(body), _) => Recorded::Body(slice(line, body)),
        (None, Some(frames)) => Recorded::Frames(frames.iter().map(|f| slice(line, f.data)).collect()),
        (None, None) => return Err(NotAnExchange::Nothing(tier.to_owned())),
    };
    Ok(RecordedAnswer {
        status: answer.status,
        elapsed_ms: answer.elapsed_ms,
        first_byte_ms: answer.first_byte_ms,
        cost: answer.cost_usd.and_then(Usd::from_dollars),
        quality: answer.quality.map(|q| q.clamp(0.0, 1.0)),
        is_label_held: answer.quality.is_some_and(|q| !(0.0..=1.0).contains(&q)),
        marks: answer.marks,
        body,
        read: OnceLock::new(),
    })
}

impl RecordedAnswer {
    /// The label; 0 where the tier failed and nobody labelled that.
    #[must_use]
    pub fn label_or_failure(&self) -> Option<f64> {
        self.quality.or((!(200..300).contains(&self.status)).then_some(0.0))
    }

    /// What judges said of it.
    #[must_use]
    pub fn marks(&self) -> &Marks {
        &self.marks
    }

    /// The tokens counted, read without reading the rest; none where the tier
    /// failed, none within where it gave no count.
    #[must_use]
    pub fn usage(&self) -> Option<Option<Usage>> {
        #[derive(Deserialize)]
        struct Counted {
            #[serde(default, deserialize_with = "crate::openai::chunk::usage")]
            usage: Option<Usage>,
        }
        let read = |bytes: &Bytes| match last_member(bytes, b"\"usage\":") {
            Some(value) => crate::openai::chunk::usage(&mut serde_json::Deserializer::from_slice(value)).ok()?,
            None => serde_json::from_slice::<Counted>(bytes).ok()?.usage,
        };
        (200..300).contains(&self.status).then(|| match &self.body {
            Recorded::Body(body) => read(body),
            Recorded::Frames(frames) => frames.iter().rev().find_map(read),
        })
    }

    /// The answer as the tier would give it now; read once.
    ///
    /// # Errors
    /// Where the tier failed then, or what was recorded is no answer.
    pub fn answer(&self, endpoint: Endpoint) -> Result<Arc<Answer>, Failure> {
        self.read.get_or_init(|| self.read(endpoint).map(Arc::new)).clone()
    }

    fn read(&self, endpoint: Endpoint) -> Result<Answer, Failure> {
        if !(200..300).contains(&self.status) {
            let body = match &self.body {
                Recorded::Body(body) => body.clone(),
                Recorded::Frames(frames) => frames.first().cloned().unwrap_or_default(),
            };
            return Err(Failure::Refused { status: self.status, body, retry_after: None });
        }
        let read = match &self.body {
            Recorded::Body(body) => Answer::from_body(endpoint, body.clone()),
            Recorded::Frames(frames) => Answer::from_frames(endpoint, frames.clone()),
        };
        let malformed = |why: NotAnAnswer| Failure::Malformed { content_type: "a recording".to_owned(), why };
        let mut answer = read.map_err(malformed)?;
        answer.marks.clone_from(&self.marks);
        Ok(answer)
    }
}

/// The value of a body's last member where that has this name, so that the rest
/// need not be read: what follows the value is the end of the body. None says
/// nothing.
fn last_member<'b>(body: &'b [u8], name: &[u8]) -> Option<&'b [u8]> {
    let at = memchr::memmem::rfind(body, name)?;
    // Within a text the quotes are escaped.
    if at == 0 || body[at - 1] == b'\\' {
        return None;
    }
    let value = &body[at + name.len()..];
    let mut values = serde_json::Deserializer::from_slice(value).into_iter::<&RawValue>();
    values.next()?.ok()?;
    let (value, rest) = value.split_at(values.byte_offset());
    (rest.trim_ascii() == b"}").then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(line: &'static str) -> String {
        Exchange::parse(&Bytes::from_static(line.as_bytes())).expect_err(line).to_string()
    }

    #[test]
    fn usage_is_found_wherever_it_stands() {
        for (body, tokens) in [
            (r#"{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":1}}"#, Some(3)),
            (r#"{"usage":{"prompt_tokens":3},"choices":[]}"#, Some(3)),
            (r#"{"usage":{"prompt_tokens":3},"x":{"usage":{"prompt_tokens":4}}}"#, Some(3)),
            (r#"{"usage":{"prompt_tokens":3},"x":"\"usage\":{}"}"#, Some(3)),
            (r#"{"choices":[],"usage": null }"#, None),
            (r#"{"choices":[]}"#, None),
        ] {
            let line = format!(
                r#"{{"id":"a","path":"/v1/completions","request":{{"model":"m"}},"answers":{{"ada":{{"status":200,"body":{body}}}}}}}"#
            );
            let exchange = Exchange::parse(&Bytes::from(line)).expect(body);
            let usage = exchange.answers["ada"].usage().expect("it answered");
            assert_eq!(usage.and_then(|u| u.prompt_tokens), tokens, "{body}");
        }
    }

    #[test]
    fn a_broken_line_says_what_is_wrong() {
        assert_eq!(why("{"), "EOF while parsing an object at line 1 column 1");
        assert!(why(r#"{"id":"a"}"#).starts_with("missing field `path`"));
        let with = |rest: &str| -> &'static str {
            let line = format!(r#"{{"id":"a","path":"/v1/completions","request":{{"model":"m"}},{rest}}}"#);
            Box::leak(line.into_boxed_str())
        };
        assert_eq!(
            why(with(r#""answers":{"ada":{"status":200}}"#)),
            "the answer of ada has neither `body` nor `frames`"
        );
        assert_eq!(
            why(with(r#""answers":{"ada":{"status":200,"body":{},"quality":5}}"#)),
            "the quality of ada is 5, which is not from 0 to 1"
        );
        assert_eq!(
            why(r#"{"id":"a","path":"/v1/x","request":{},"answers":{}}"#),
            "the path /v1/x is not cascaded; /v1/chat/completions and /v1/completions are"
        );
        assert_eq!(
            why(r#"{"id":"a","path":"/v1/completions","request":{},"answers":{}}"#),
            "its request: you must provide a model parameter"
        );
    }
}
