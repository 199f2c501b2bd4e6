//! The policy file as it is written: every key, its type and its default.
//!
//! Invariant: what is not declared here is not a key. Rules that join several
//! keys are in `resolve`.

use std::num::NonZeroU32;
use std::time::Duration;

use super::acceptance::AcceptFile;
use super::budget::{BudgetFile, WhenAllFail};
use regex::Regex;

use super::caches::CacheFile;
use super::calibration_file::CalibrationFile;
use super::containers::{At, Named};
use super::key_file::KeysAt;
use super::limits::LimitsFile;
use super::record::RecordFile;
use super::shape::{Reader, Shape, shape, words};
use super::text::{BaseUrl, Name, Secret};
use super::units::{ByteSize, Share};
use super::upstreams::{BreakerFile, RetriesFile, Shares};
use super::yaml::Node;
use super::{StreamMode, acceptance::one_key};
use crate::price::Usd;

shape! {
    /// A prompt-cascade policy: which models may answer, smallest first, and
    /// what makes an answer good enough.
    pub struct PolicyFile {
        /// The model name under which clients reach the whole ladder.
        name: Name,
        /// Where models are reached, by a name of your choice.
        upstreams: Named<UpstreamFile>,
        /// The ladder, smallest tier first. The last one is always served.
        tiers: At<Vec<TierFile>>,
        /// Exceptions to asking the whole ladder; the first match wins.
        routes: Vec<At<RouteFile>> = Vec::new(),
        /// Where everything goes that is not cascaded; left out, it is refused.
        passthrough: Option<PassthroughFile>,
        /// How far a prompt may climb; left out, to the end of its ladder.
        budget: Option<At<BudgetFile>>,
        /// What a client gets where the rest of the ladder fails.
        when_all_fail: WhenAllFail = WhenAllFail::BestAnswer,
        /// How streamed answers are handed over.
        stream: StreamFile = StreamFile { mode: StreamMode::Hold, keep_alive: Duration::from_secs(10) },
        /// The file of clients' keys, which `cascade keys` keeps; left out, nobody is
        /// asked for one.
        keys: Option<KeysAt>,
        /// Origins whose pages may call this gateway; left out, none may.
        cors: Vec<At<String>> = Vec::new(),
        /// Conversations that stay with the tier they needed; left out, each
        /// prompt starts anew (but a tool's result goes to the tier that called).
        conversations: Option<ConversationsFile>,
        /// What naming a tier as `model` means.
        named_tier: NamedTier = NamedTier::Pin,
        /// A regular expression that finds the final answer in an answer's text, its
        /// first group if it has one; for comparing answers. Left out: a letter, a
        /// number, JSON, or the words.
        answer_pattern: Option<Regex>,
        /// The file of a calibration that decides instead of `score` and `at_least`:
        /// serve, or which larger tier next, and where to start.
        optimal_stopping: Option<At<CalibrationFile>>,
        /// Watches whether the calibration still holds; left out, nothing is watched.
        drift: Option<At<DriftFile>>,
        /// Prompts and answers that are written down; left out, none are.
        record: Option<At<RecordFile>>,
        /// Answers and what must become of them; `cascade check` tries them.
        tests: Vec<At<TestFile>> = Vec::new(),
    }
}

impl PolicyFile {
    /// Puts a calibration in the place of scores and thresholds.
    pub(super) fn decide_by(&mut self, calibration: &str) {
        for tier in &mut self.tiers.value {
            if let Some(accept) = &mut tier.accept {
                accept.value.score = None;
                accept.value.at_least = None;
            }
        }
        self.optimal_stopping = Some(At { value: CalibrationFile::at(calibration), at: 0..0 });
    }
}

shape! {
    /// A watch over a calibration: some prompts are asked of the largest tier too.
    pub struct DriftFile {
        /// The share of prompts; each costs a call of the largest tier.
        share: Share = Share(0.01),
        /// How sure an alarm must be.
        confidence: Share = Share(0.95),
    }
}

shape! {
    /// A place where models are reached: a live API or recorded exchanges.
    pub struct UpstreamFile {
        /// The API's base URL, such as <https://api.openai.com/v1>.
        base_url: Option<At<BaseUrl>>,
        /// Recorded exchanges to answer from: a file, a folder, or `embedded`.
        fixtures: Option<At<String>>,
        /// The key sent as a bearer token, as "${VARIABLE}".
        api_key: Option<At<Secret>>,
        /// How long to wait for what.
        timeouts: TimeoutsFile = TimeoutsFile::default(),
        /// When it is left alone.
        breaker: BreakerFile = BreakerFile::default(),
    }
}

shape! {
    /// How long to wait for an upstream.
    pub struct TimeoutsFile {
        /// For a connection.
        connect: Duration = Duration::from_secs(2),
        /// For the first byte of a streamed answer; a whole one has `total`.
        first_byte: Duration = Duration::from_secs(30),
        /// Between two pieces of an answer.
        idle: Duration = Duration::from_secs(20),
        /// For a whole answer.
        total: Duration = Duration::from_mins(2),
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
        /// Which of `upstreams` to ask: a name, or several with their shares:
        /// [{ name: a, weight: 3 }, { name: b, weight: 1, model: its-name-there }].
        upstream: Shares,
        /// List price; left out, costs are unknown (never zero).
        price: Option<PriceFile>,
        /// Remember answers; left out, every prompt is asked anew.
        cache: Option<CacheFile>,
        /// How often it is tried again where that is safe; left out, twice where no
        /// larger tier can be asked instead.
        retries: Option<RetriesFile>,
        /// How much may be asked; left out, nothing is limited.
        limits: Option<At<LimitsFile>>,
        /// What the model can take; left out, everything. Prompts that need
        /// something else pass this tier over.
        can: Option<Vec<Capability>>,
        /// The longest prompt it reads, in tokens by estimate.
        context_tokens: Option<usize>,
        /// When an answer is good enough. Not on the last tier.
        accept: Option<At<AcceptFile>>,
    }
}

words! {
    /// Something that not every model can take.
    pub enum Capability {
        /// Tools to call.
        Tools = "tools",
        /// A schema that its JSON must fit.
        JsonSchema = "json_schema",
        /// Pictures or sound in the prompt.
        Media = "media",
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
    /// Where everything goes that is not cascaded: files, images, audio...
    pub struct PassthroughFile {
        /// Which of `upstreams`; it must be a live one.
        upstream: At<String>,
        /// Whether models that the policy does not name go there too.
        unknown_models: bool = false,
        /// Remember embeddings; left out, each is asked anew.
        embeddings_cache: Option<EmbeddingsCacheFile>,
    }
}

shape! {
    /// A memory of embeddings, which are never drawn by chance.
    pub struct EmbeddingsCacheFile {
        /// Most memory for them.
        capacity: ByteSize = ByteSize(64 << 20),
        /// How long one is remembered.
        ttl: Duration = Duration::from_hours(1),
    }
}

shape! {
    /// Conversations that stay with the tier they needed.
    pub struct ConversationsFile {
        /// For how long after its last turn.
        stay: Duration = Duration::from_mins(10),
    }
}

shape! {
    /// How streamed answers are handed over.
    pub struct StreamFile {
        /// When the frames of a tier that may still be rejected reach the client.
        mode: StreamMode = StreamMode::Hold,
        /// How often a waiting client gets a comment that keeps its connection.
        keep_alive: Duration = Duration::from_secs(10),
    }
}

shape! {
    /// The beginning of an answer that is judged for all of it.
    pub struct PrefixFile {
        /// Its tokens.
        tokens: NonZeroU32 = DEFAULT_PREFIX,
    }
}

/// Enough tokens for a confidence to mean something.
const DEFAULT_PREFIX: NonZeroU32 = NonZeroU32::new(24).expect("not 0");

impl Shape for StreamMode {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        match one_key(node, reader, &["hold", "prefix", "direct"])? {
            (word, None) if word == "hold" => Some(Self::Hold),
            (word, None) if word == "direct" => Some(Self::Direct),
            (_, None) => Some(Self::Prefix(DEFAULT_PREFIX)),
            (word, Some(value)) if word == "prefix" => Some(Self::Prefix(PrefixFile::read(value, reader)?.tokens)),
            (word, Some(value)) => {
                reader.refuse(&value.span, format!("`{word}` takes no value"), format!("write `{word}` alone"))
            }
        }
    }
    fn stand_in() -> Option<Self> {
        Some(Self::Hold)
    }
    fn schema() -> serde_json::Value {
        serde_json::json!({"oneOf": [
            {"enum": ["hold", "prefix", "direct"]},
            {"type": "object", "properties": {"prefix": PrefixFile::schema()}, "required": ["prefix"], "additionalProperties": false},
        ]})
    }
    fn node(&self) -> Node {
        match self {
            Self::Hold => Node::plain("hold"),
            Self::Direct => Node::plain("direct"),
            Self::Prefix(tokens) => Node::map(vec![("prefix", PrefixFile { tokens: *tokens }.node())]),
        }
    }
}

words! {
    /// What naming a tier as `model` means.
    pub enum NamedTier {
        /// That tier and no other answers.
        Pin = "pin",
        /// That tier is the largest that is asked.
        Downshift = "downshift",
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
