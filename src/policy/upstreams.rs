//! Where a tier's model is reached: one upstream or several, how often it is tried,
//! and when an upstream is left alone.

use std::num::NonZeroU32;
use std::time::Duration;

use serde_json::{Value, json};

use super::containers::At;
use super::problem::Problem;
use super::reference::refer;
use super::shape::{Reader, Shape, shape};
use super::yaml::{Data, Node};

/// One of a tier's upstreams.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamShare {
    /// Its place in [`super::Policy::upstreams`].
    pub upstream: usize,
    /// Its share of the prompts, against the others'; 0: only where others fail.
    pub weight: u32,
    /// The model's name there, where it is another.
    pub model: Option<String>,
}

/// How often a tier is tried before it has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryRule {
    /// Tries after the first one, where no other tier comes after.
    pub times: u32,
    /// Tries after the first one, where a larger tier can be asked instead.
    pub times_before_another: u32,
    /// The wait before the first of them; it doubles, and half of it is by chance.
    pub backoff: Duration,
    /// The longest wait; an upstream that wants a longer one is not tried again.
    pub longest: Duration,
}

/// When an upstream is left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerRule {
    /// Failures in a row.
    pub failures: NonZeroU32,
    /// For how long, before one prompt tries it.
    pub open_for: Duration,
}

shape! {
    /// When an upstream is left alone.
    pub struct BreakerFile {
        /// Failures in a row after which it is.
        failures: NonZeroU32 = NonZeroU32::new(5).expect("not 0"),
        /// For how long, before one prompt tries it.
        open_for: Duration = Duration::from_secs(10),
    }
}

impl Default for BreakerFile {
    fn default() -> Self {
        Self { failures: NonZeroU32::new(5).expect("not 0"), open_for: Duration::from_secs(10) }
    }
}

impl From<&BreakerFile> for BreakerRule {
    fn from(file: &BreakerFile) -> Self {
        Self { failures: file.failures, open_for: file.open_for }
    }
}

shape! {
    /// How often a tier is tried again where that is safe.
    pub struct RetriesFile {
        /// Tries after the first one.
        times: u32 = 2,
        /// The wait before the first of them; it doubles, and half of it is by chance.
        backoff: Duration = Duration::from_millis(250),
        /// The longest wait; an upstream that wants a longer one is not tried again.
        longest: Duration = Duration::from_secs(4),
    }
}

impl RetryRule {
    /// As written; left out, an answer that is served whatever it says is asked for
    /// three times in all, and others once: there is a larger tier to ask.
    pub(super) fn of(file: Option<&RetriesFile>) -> Self {
        match file {
            Some(RetriesFile { times, backoff, longest }) => {
                Self { times: *times, times_before_another: *times, backoff: *backoff, longest: *longest }
            }
            None => Self {
                times: 2,
                times_before_another: 0,
                backoff: Duration::from_millis(250),
                longest: Duration::from_secs(4),
            },
        }
    }
}

shape! {
    /// One of a tier's upstreams.
    pub struct ShareFile {
        /// Which of `upstreams`.
        name: At<String>,
        /// Its share of the prompts, against the others'; 0: only where others fail.
        weight: u32 = 1,
        /// The model's name there, where it is another.
        model: Option<String>,
    }
}

/// The upstreams of a tier: a name, or a list.
#[derive(Clone, Debug)]
pub struct Shares(pub Vec<ShareFile>);

impl Shape for Shares {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        if let Data::Seq(items) = &node.data {
            if items.is_empty() {
                return reader.refuse(&node.span, "no upstream", "name one of `upstreams`");
            }
            return items.iter().map(|item| ShareFile::read(item, reader)).collect::<Option<_>>().map(Self);
        }
        let name = At::<String>::read(node, reader)?;
        Some(Self(vec![ShareFile { name, weight: 1, model: None }]))
    }
    fn stand_in() -> Option<Self> {
        Some(Self(vec![ShareFile { name: At { value: String::new(), at: 0..0 }, weight: 1, model: None }]))
    }
    fn schema() -> Value {
        json!({"oneOf": [String::schema(), {"type": "array", "minItems": 1, "items": ShareFile::schema()}]})
    }
    fn node(&self) -> Node {
        match self.0.as_slice() {
            [ShareFile { name, weight: 1, model: None }] => name.node(),
            all => Node::seq(all.iter().map(Shape::node).collect()),
        }
    }
}

/// The upstreams that a tier names, by place.
pub(super) fn shares<'a>(
    file: &Shares,
    known: impl Fn() -> Vec<&'a str>,
    problems: &mut Vec<Problem>,
) -> Option<Vec<UpstreamShare>> {
    let found: Vec<_> =
        file.0.iter().map(|share| refer(&share.name, "upstream", known().into_iter(), problems)).collect();
    for (at, share) in file.0.iter().enumerate() {
        if file.0[..at].iter().any(|other| other.name.value == share.name.value && !share.name.value.is_empty()) {
            let what = format!("`{}` is named twice", share.name.value);
            problems.push(Problem::new(share.name.at.clone(), what).help("give it the sum of both weights"));
        }
    }
    if let ([first, _, ..], true) = (file.0.as_slice(), file.0.iter().all(|share| share.weight == 0)) {
        problems.push(
            Problem::new(first.name.at.clone(), "every weight is 0: nobody is asked first")
                .help("give one of them a weight of 1"),
        );
    }
    let share = |(found, share): (Option<usize>, &ShareFile)| {
        Some(UpstreamShare { upstream: found?, weight: share.weight, model: share.model.clone() })
    };
    found.into_iter().zip(&file.0).map(share).collect()
}
