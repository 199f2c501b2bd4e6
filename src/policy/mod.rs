//! The policy: which tiers there are, in what order, and when an answer is
//! good enough.
//!
//! Invariant: a `Policy` cannot be wrong. It has at least one tier, every
//! reference leads somewhere, and only the last tier of a ladder is served
//! without a check. What is wrong in a file is reported all at once.

mod acceptance;
mod adopted;
mod budget;
mod caches;
mod calibration_file;
mod containers;
mod file;
mod key_file;
mod ladder;
mod limits;
mod problem;
mod record;
mod reference;
mod resolve;
mod routing;
mod scorers;
mod shape;
mod text;
mod tier;
mod units;
mod upstreams;
mod yaml;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use regex::Regex;

use crate::stopping::Stopping;

pub use acceptance::Unscored;
pub use adopted::{Adopted, CannotAdopt};
pub use budget::{Budget, WhenAllFail};
pub use caches::{CacheRule, SimilarRule};
pub use file::{Capability, Expect, NamedTier};
pub use key_file::KeysAt;
pub use ladder::{Ladder, UnknownModel};
pub use limits::{LimitRule, RateRule, WhenFull};
pub use problem::{Problem, Problems, did_you_mean};
pub use record::RecordRule;
pub use shape::{Files, Outside, Variables};
pub use text::Secret;
pub use tier::{Accept, Check, Tier};
pub use upstreams::{BreakerRule, RetryRule, UpstreamShare};

use shape::Shape;

/// A policy in force.
#[derive(Clone, Debug)]
pub struct Policy {
    /// The model name under which clients reach the whole ladder.
    pub name: String,
    /// Where models are reached.
    pub upstreams: Vec<UpstreamPlace>,
    /// The ladder, smallest first, at least one.
    pub tiers: Vec<Tier>,
    /// Exceptions, first match wins.
    pub routes: Vec<Route>,
    /// Where everything goes that is not cascaded.
    pub passthrough: Option<Passthrough>,
    /// The keys of clients; none: nobody is asked for one.
    pub keys: Option<KeysAt>,
    /// Origins whose pages may call.
    pub cors: Vec<String>,
    /// How far a prompt may climb.
    pub budget: Budget,
    /// What a client gets where the rest of the ladder fails.
    pub when_all_fail: WhenAllFail,
    /// How streamed answers are handed over.
    pub stream: StreamMode,
    /// How long a conversation stays with the tier it needed; none: not at all.
    pub conversation_stay: Option<Duration>,
    /// How often a waiting client gets a comment.
    pub keep_alive: Duration,
    /// Where an answer's text has its final answer.
    pub answer_pattern: Option<Regex>,
    /// The calibrated rule that decides instead of thresholds.
    pub stopping: Option<Arc<Stopping>>,
    /// Whether and how the calibrated rule is watched.
    pub drift: Option<DriftRule>,
    /// What is written down; none: nothing.
    pub record: Option<RecordRule>,
    /// Answers and what must become of them.
    pub tests: Vec<PolicyTest>,
    /// Twelve hex digits that change when anything in effect changes.
    pub digest: String,
    /// Twelve hex digits of the gates of all tiers and the answer pattern.
    pub what_scores_rest_on: String,
    /// The policy with every default written out, as YAML.
    pub effective: String,
    ladders: ladder::Ladders,
}

/// A place where models are reached.
#[derive(Clone, Debug)]
pub struct UpstreamPlace {
    /// Its name in the policy.
    pub name: String,
    /// What is there.
    pub kind: UpstreamKind,
    /// When it is left alone.
    pub breaker: BreakerRule,
}

/// What an upstream is.
#[derive(Clone, Debug)]
pub enum UpstreamKind {
    /// An OpenAI-compatible API.
    Live {
        /// Base URL without a slash at its end.
        base_url: String,
        /// Sent as a bearer token.
        api_key: Option<Secret>,
        /// How long to wait for what.
        timeouts: Timeouts,
    },
    /// Recorded exchanges: a file, a folder, or `embedded`.
    Fixtures(String),
}

impl UpstreamKind {
    /// Where it is: its base URL, or its recordings.
    #[must_use]
    pub fn place(&self) -> &str {
        match self {
            Self::Live { base_url, .. } => base_url,
            Self::Fixtures(place) => place,
        }
    }
}

/// How long to wait for an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For a connection.
    pub connect: Duration,
    /// For the first byte.
    pub first_byte: Duration,
    /// Between two pieces.
    pub idle: Duration,
    /// For the whole answer.
    pub total: Duration,
}

/// How a calibration is watched while serving.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DriftRule {
    /// The share of prompts whose largest tier is asked too, above 0.
    pub share: f64,
    /// How sure an alarm must be, below 1.
    pub confidence: f64,
}

/// An exception to asking the whole ladder.
#[derive(Clone, Debug)]
pub struct Route {
    /// The client's model, a trailing `*` standing for any rest.
    pub model: Option<String>,
    /// Whether tools are offered.
    pub tools: Option<bool>,
    /// More estimated prompt tokens than this.
    pub prompt_tokens_over: Option<u64>,
    /// The tiers to ask, by place.
    pub tiers: Vec<usize>,
}

/// When the frames of a tier that may still be rejected reach the client. The
/// last tier's always do as they come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamMode {
    /// Once the whole answer is accepted.
    Hold,
    /// Once its first so many tokens are.
    Prefix(NonZeroU32),
    /// At once: a tier is left only if it fails before its first frame.
    Direct,
}

/// Where everything goes that is not cascaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passthrough {
    /// Its place in [`Policy::upstreams`]; a live one.
    pub upstream: usize,
    /// Whether models that the policy does not name go there too.
    pub unknown_models: bool,
    /// What is remembered of embeddings.
    pub embeddings_cache: Option<CacheRule>,
}

/// An answer and what must become of it.
#[derive(Clone, Debug)]
pub struct PolicyTest {
    /// The text of the answer.
    pub answer: String,
    /// Why it ended.
    pub finish_reason: String,
    /// The tier that gives it, by place.
    pub tier: usize,
    /// What must become of it.
    pub expect: Expect,
}

impl Policy {
    /// Reads a policy. `path` is only named in problems. Warnings come beside
    /// the policy.
    ///
    /// # Errors
    /// All that is wrong with it, at once.
    pub fn parse(path: &str, source: &str, outside: Outside<'_>) -> Result<(Self, Problems), Problems> {
        let mut reader = shape::Reader::new(outside);
        let read = match yaml::parse(source) {
            Ok(tree) => file::PolicyFile::read(&tree, &mut reader),
            Err(problem) => {
                reader.problems.push(problem);
                None
            }
        };
        let policy = read.and_then(|file| resolve::resolve(&file, &reader.texts, &mut reader.problems));
        let problems = Problems::new(path, source, reader.into_problems());
        match policy {
            Some(policy) if problems.warnings_and_errors().1 == 0 => Ok((policy, problems)),
            _ => Err(problems),
        }
    }

    /// A policy's text again, decided by the calibration in this file instead of by
    /// scores and thresholds. Variables stay as written in
    /// texts, elsewhere their values are; comments are lost.
    ///
    /// # Errors
    /// All that is wrong with it, at once.
    pub fn calibrated(source: &str, calibration: &str, variables: Variables<'_>) -> Result<String, Problems> {
        let mut reader = shape::Reader::new(Outside { variables, keeps_variables: true, ..Outside::none() });
        let read = yaml::parse(source).map(|tree| file::PolicyFile::read(&tree, &mut reader));
        let problems = |found| Problems::new("policy", source, found);
        match read {
            Ok(Some(mut file)) if reader.problems.iter().all(|p| p.is_warning) => {
                file.decide_by(calibration);
                Ok(yaml::print(&file.node()))
            }
            Ok(_) => Err(problems(reader.problems)),
            Err(problem) => Err(problems(vec![problem])),
        }
    }

    /// A YAML file of others, as JSON.
    ///
    /// # Errors
    /// Where it is none.
    pub fn yaml_as_json(path: &str, source: &str) -> Result<serde_json::Value, Problems> {
        yaml::value(source).map_err(|problem| Problems::new(path, source, vec![problem]))
    }

    /// The same with a calibrated rule half as far down its path; none where it is
    /// at the top of it.
    #[must_use]
    pub fn safer(&self) -> Option<Self> {
        let stopping = self.stopping.as_ref().filter(|stopping| stopping.in_force > 0)?;
        let safer = Stopping { in_force: stopping.in_force / 2, ..(**stopping).clone() };
        Some(Self { stopping: Some(Arc::new(safer)), ..self.clone() })
    }

    /// The same at the point at which `other` stands, where both have the same
    /// calibration and watch it alike.
    #[must_use]
    pub fn standing_where(&self, other: &Self) -> Option<Self> {
        let (mine, theirs) = (self.stopping.as_ref()?, other.stopping.as_ref()?);
        let same = Stopping { in_force: theirs.in_force, ..(**mine).clone() };
        let is_same = same == **theirs && self.drift == other.drift && theirs.in_force <= mine.in_force;
        is_same.then(|| Self { stopping: Some(Arc::new(same)), ..self.clone() })
    }

    /// The largest tier.
    #[must_use]
    pub fn top(&self) -> &Tier {
        &self.tiers[self.tiers.len() - 1]
    }

    /// The JSON Schema of policy files.
    #[must_use]
    pub fn schema() -> serde_json::Value {
        let mut schema = file::PolicyFile::schema();
        schema["$schema"] = "https://json-schema.org/draft/2020-12/schema".into();
        schema["title"] = "prompt-cascade policy".into();
        schema
    }
}
