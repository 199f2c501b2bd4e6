//! What a tier remembers: equal prompts, and questions that are alike.

use std::time::Duration;

use super::containers::At;
use super::file::PolicyFile;
use super::problem::Problem;
use super::reference::refer;
use super::shape::{Reader, Shape, shape};
use super::units::{ByteSize, Share};
use super::yaml::Node;
use crate::price::Usd;

shape! {
    /// An exact cache of a tier's answers.
    pub struct CacheFile {
        /// Most memory for its answers.
        capacity: ByteSize = ByteSize(64 << 20),
        /// How long an answer is remembered.
        ttl: Duration = Duration::from_hours(1),
        /// Whether answers drawn at a temperature above 0 are remembered too.
        /// The API's default temperature is 1.
        sampled: bool = false,
        /// Whether what the holder of one key was told may be told another's.
        shared: bool = false,
        /// Whether a prompt whose answer is here gets it, though a smaller tier would
        /// be asked first.
        for_smaller: bool = false,
        /// When a question that is like one answered before gets its answer; left out,
        /// never.
        similar: Option<SimilarFile>,
    }
}

shape! {
    /// Answers to questions that are alike. Only for prompts at temperature 0 without
    /// tools or pictures, of which nothing but the last message differs, and no number
    /// in that.
    pub struct SimilarFile {
        /// Which of `upstreams` makes embeddings; it must be a live one.
        upstream: At<String>,
        /// Its model, such as `text-embedding-3-small`.
        model: String,
        /// How alike two questions must be: the dot product of their embeddings.
        at_least: At<Share> = At { value: Share(0.97), at: 0..0 },
        /// How many questions are remembered, the latest; 10,000 at most.
        questions: At<usize> = At { value: 1000, at: 0..0 },
        /// Dollars for a million tokens; left out, costs are unknown.
        price: Option<Usd>,
    }
}

/// What a tier remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheRule {
    /// Most memory, in bytes.
    pub capacity: u64,
    /// For how long.
    pub ttl: Duration,
    /// Also at temperatures above 0.
    pub sampled: bool,
    /// What one client was told may be told another.
    pub shared: bool,
    /// A prompt that would be sent to a smaller tier first gets an answer that is here.
    pub for_smaller: bool,
}

/// When a question is like another that was answered.
#[derive(Clone, Debug, PartialEq)]
pub struct SimilarRule {
    /// Place of the upstream that makes embeddings.
    pub upstream: usize,
    /// Its model.
    pub model: String,
    /// The least dot product, 0..=1.
    pub at_least: f32,
    /// The most questions remembered.
    pub questions: usize,
    /// A million tokens.
    pub price: Option<Usd>,
}

/// The most questions that are looked through for each prompt.
const MOST: usize = 10_000;
/// Below it, embeddings of quite different questions are alike too.
const DOUBTFUL: f64 = 0.9;

/// What a tier remembers.
pub(super) fn rule(file: &CacheFile) -> CacheRule {
    let &CacheFile { ttl, sampled, shared, for_smaller, .. } = file;
    CacheRule { capacity: file.capacity.0, ttl, sampled, shared, for_smaller }
}

/// Whether an upstream makes embeddings for a tier.
pub(super) fn embeds(upstream: &str, policy: &PolicyFile) -> bool {
    let similar = policy.tiers.value.iter().filter_map(|tier| tier.cache.as_ref()?.similar.as_ref());
    similar.into_iter().any(|similar| similar.upstream.value == upstream)
}

/// When questions are alike for a tier.
pub(super) fn similar(file: &SimilarFile, policy: &PolicyFile, problems: &mut Vec<Problem>) -> Option<SimilarRule> {
    let known = policy.upstreams.0.iter().map(|(name, _)| name.value.as_str());
    let upstream = refer(&file.upstream, "upstream", known, problems)?;
    if policy.upstreams.0[upstream].1.base_url.is_none() {
        let what = format!("`{}` answers from recorded exchanges: it makes no embeddings", file.upstream.value);
        problems.push(Problem::new(file.upstream.at.clone(), what).help("name an upstream with a `base_url`"));
    }
    let (at_least, questions) = (file.at_least.value.0, file.questions.value);
    if at_least < DOUBTFUL {
        let what = format!("questions that are alike by {at_least} only are often different ones");
        problems.push(Problem::new(file.at_least.at.clone(), what).help("0.95 or more is usual").warning());
    }
    if !(1..=MOST).contains(&questions) {
        let what = format!("{questions} questions cannot be remembered");
        problems.push(Problem::new(file.questions.at.clone(), what).help(format!("write a number from 1 to {MOST}")));
    }
    #[expect(clippy::cast_possible_truncation, reason = "a share")]
    let at_least = at_least as f32;
    Some(SimilarRule { upstream, model: file.model.clone(), at_least, questions, price: file.price })
}
