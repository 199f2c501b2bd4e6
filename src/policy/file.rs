//! The policy file as it is written: every key, its type and its default.
//!
//! Invariant: what is not declared here is not a key. Rules that join several
//! keys are in `resolve`.

use std::num::NonZeroU32;
use std::time::Duration;

use regex::Regex;
use serde_json::{Value, json};

use super::shape::{At, Named, Reader, Shape, shape, words};
use super::units::{BaseUrl, ByteSize, Name, Secret, Share};
use super::yaml::{Data, Node};
use crate::price::Usd;
use crate::scoring::{Gate, Length, Pattern, Pool, Scorer};

shape! {
    /// A prompt-cascade policy: which models may answer, smallest first, and
    /// what makes an answer good enough.
    pub struct PolicyFile {
        /// The model name under which clients reach the whole ladder.
        name: Name,
        /// Where models are reached, by a name of your choice.
        upstreams: Named<UpstreamFile>,
        /// The ladder, smallest tier first. The last one is always served.
        tiers: Vec<TierFile>,
        /// Exceptions to asking the whole ladder; the first match wins.
        routes: Vec<At<RouteFile>> = Vec::new(),
        /// Answers and what must become of them; `cascade check` tries them.
        tests: Vec<At<TestFile>> = Vec::new(),
    }
}

shape! {
    /// A place where models are reached: a live API or recorded exchanges.
    pub struct UpstreamFile {
        /// The API's base URL, such as https://api.openai.com/v1.
        base_url: Option<At<BaseUrl>>,
        /// Recorded exchanges to answer from: a file, a folder, or `embedded`.
        fixtures: Option<At<String>>,
        /// The key sent as a bearer token, as "${VARIABLE}".
        api_key: Option<At<Secret>>,
        /// How long to wait for what.
        timeouts: TimeoutsFile = TimeoutsFile::default(),
    }
}

shape! {
    /// How long to wait for an upstream.
    pub struct TimeoutsFile {
        /// For a connection.
        connect: Duration = Duration::from_secs(2),
        /// For the first byte of an answer.
        first_byte: Duration = Duration::from_secs(30),
        /// Between two pieces of an answer.
        idle: Duration = Duration::from_secs(20),
        /// For a whole answer.
        total: Duration = Duration::from_secs(120),
    }
}

impl Default for TimeoutsFile {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { connect: seconds(2), first_byte: seconds(30), idle: seconds(20), total: seconds(120) }
    }
}

shape! {
    /// One model size that can be asked.
    pub struct TierFile {
        /// The tier's name; as a client's `model` it pins this tier.
        name: At<Name>,
        /// The upstream's name for the model.
        model: String,
        /// Which of `upstreams` to ask.
        upstream: At<String>,
        /// List price; left out, costs are unknown (never zero).
        price: Option<PriceFile>,
        /// Remember answers; left out, every prompt is asked anew.
        cache: Option<CacheFile>,
        /// How much may be asked; left out, nothing is limited.
        limits: Option<LimitsFile>,
        /// When an answer is good enough. Not on the last tier.
        accept: Option<At<AcceptFile>>,
    }
}

shape! {
    /// US dollars per million tokens.
    pub struct PriceFile {
        /// A million tokens of prompt.
        input: Usd,
        /// A million tokens of prompt in the provider's cache; else `input`.
        cached_input: Option<Usd>,
        /// A million tokens of answer.
        output: Usd,
    }
}

shape! {
    /// An exact cache of a tier's answers.
    pub struct CacheFile {
        /// Most memory for its answers.
        capacity: ByteSize = ByteSize(64 << 20),
        /// How long an answer is remembered.
        ttl: Duration = Duration::from_secs(3600),
        /// Whether answers drawn at a temperature above 0 are remembered too.
        /// The API's default temperature is 1.
        sampled: bool = false,
    }
}

shape! {
    /// How much a tier may be asked; past that the prompt escalates.
    pub struct LimitsFile {
        /// Prompts per minute, in the long run.
        requests_per_minute: NonZeroU32,
        /// Prompts at once after a pause; else `requests_per_minute`.
        burst: Option<NonZeroU32>,
    }
}

shape! {
    /// When an answer is good enough: every gate passes and the score reaches
    /// the threshold.
    pub struct AcceptFile {
        /// Hard checks, in order.
        gates: Vec<Gate> = vec![Gate::Complete, Gate::NotEmpty, Gate::NotRefusal, Gate::NoRepetition],
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

shape! {
    /// An exception to asking the whole ladder.
    pub struct RouteFile {
        /// All of these must hold.
        when: At<WhenFile>,
        /// The tiers to ask, a part of the ladder in its order.
        tiers: Option<At<Vec<At<String>>>>,
        /// The smallest tier to ask.
        start_at: Option<At<String>>,
    }
}

shape! {
    /// Conditions on a prompt.
    pub struct WhenFile {
        /// The client's `model`; a `*` at its end stands for any rest.
        model: Option<String>,
        /// Whether tools are offered.
        tools: Option<bool>,
        /// More tokens of prompt than this, by estimate.
        prompt_tokens_over: Option<usize>,
    }
}

shape! {
    /// An answer and what must become of it.
    pub struct TestFile {
        /// The text of the answer.
        answer: String,
        /// The tier that gives it.
        tier: At<String>,
        /// Why it ended.
        finish_reason: String = "stop".to_owned(),
        /// What must become of it.
        expect: Expect,
    }
}

words! {
    /// What must become of a test's answer.
    pub enum Expect {
        /// It is served.
        Accept = "accept",
        /// A larger tier is asked.
        Escalate = "escalate",
    }
}

/// A word, or a mapping with that word as its one key.
fn one_key<'n>(node: &'n Node, reader: &mut Reader<'_>, known: &[&str]) -> Option<(String, Option<&'n Node>)> {
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
    let help = super::problem::did_you_mean(&name, known.iter().copied())
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
        const NAMES: [&str; 7] = ["complete", "not_empty", "not_refusal", "no_repetition", "json", "matches", "length"];
        let (name, value) = one_key(node, reader, &NAMES)?;
        match (name.as_str(), value) {
            ("complete", None) => Some(Self::Complete),
            ("not_empty", None) => Some(Self::NotEmpty),
            ("not_refusal", None) => Some(Self::NotRefusal),
            ("no_repetition", None) => Some(Self::NoRepetition),
            ("json", None) => Some(Self::Json),
            ("matches", Some(value)) => Some(Self::Matches(Pattern(Regex::read(value, reader)?))),
            ("length", Some(value)) => {
                let LengthFile { min_chars, max_chars } = LengthFile::read(value, reader)?;
                if min_chars > max_chars {
                    return reader.refuse(&value.span, "no text is that long and that short at once", "min_chars must not exceed max_chars");
                }
                Some(Self::Length(Length { min_chars, max_chars }))
            }
            ("matches" | "length", None) => reader.refuse(
                &node.span,
                format!("`{name}` needs a value"),
                if name == "matches" { "write { matches: 'pattern' }" } else { "write { length: { min_chars: 1, max_chars: 2000 } }" },
            ),
            (_, Some(value)) => reader.refuse(&value.span, format!("`{name}` takes no value"), format!("write `{name}` alone")),
            _ => None,
        }
    }
    fn schema() -> Value {
        json!({"oneOf": [
            {"enum": ["complete", "not_empty", "not_refusal", "no_repetition", "json"]},
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
            _ => Node::plain(self.name()),
        }
    }
}

shape! {
    /// How token logprobs become one number.
    pub struct QuantileFile {
        /// The share of tokens that lie below.
        quantile: Share,
    }
}

impl Shape for Scorer {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let (name, value) = one_key(node, reader, &["confidence", "agreement"])?;
        match (name.as_str(), value) {
            ("confidence", None) => Some(Self::Confidence(Pool::Quantile(0.1))),
            ("confidence", Some(value)) if matches!(value.data, Data::Map(_)) => {
                Some(Self::Confidence(Pool::Quantile(QuantileFile::read(value, reader)?.quantile.0)))
            }
            ("confidence", Some(value)) => match one_key(value, reader, &["min", "mean"])?.0.as_str() {
                "min" => Some(Self::Confidence(Pool::Min)),
                _ => Some(Self::Confidence(Pool::Mean)),
            },
            ("agreement", None) => Some(Self::Agreement),
            (_, Some(value)) => reader.refuse(&value.span, format!("`{name}` takes no value"), format!("write `{name}` alone")),
            _ => None,
        }
    }
    fn schema() -> Value {
        json!({"oneOf": [
            {"enum": ["confidence", "agreement"]},
            {"type": "object", "properties": {"confidence": {"oneOf": [{"enum": ["min", "mean"]}, QuantileFile::schema()]}},
             "required": ["confidence"], "additionalProperties": false},
        ]})
    }
    fn node(&self) -> Node {
        match self {
            Self::Agreement => Node::plain("agreement"),
            Self::Confidence(pool) => Node::map(vec![("confidence", match pool {
                Pool::Quantile(share) => QuantileFile { quantile: Share(*share) }.node(),
                Pool::Min => Node::plain("min"),
                Pool::Mean => Node::plain("mean"),
            })]),
        }
    }
}

/// One scorer or a list of them.
#[derive(Clone, Debug)]
pub struct Scorers(pub Vec<Scorer>);

impl Shape for Scorers {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        if matches!(node.data, Data::Seq(_)) { Vec::read(node, reader).map(Self) } else { Some(Self(vec![Scorer::read(node, reader)?])) }
    }
    fn schema() -> Value {
        json!({"oneOf": [Scorer::schema(), Vec::<Scorer>::schema()]})
    }
    fn node(&self) -> Node {
        match self.0.as_slice() {
            [one] => one.node(),
            _ => self.0.node(),
        }
    }
}
