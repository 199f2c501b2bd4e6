//! The `score:` part of the policy file, and the file of a calibration.

use std::sync::Arc;

use serde_json::{Value, json};

use super::acceptance::one_key;
use super::containers::At;
use super::file::PolicyFile;
use super::problem::Problem;
use super::reference::refer;
use super::shape::{Reader, Shape, shape};
use super::text::BaseUrl;
use super::units::Share;
use super::yaml::{Data, Node};
use crate::scoring::{Combined, Judge, Marked, Pool, Score, Scorer};
use crate::stopping::Stopping;

/// A scorer as it is written.
#[derive(Clone, Debug)]
pub enum ScorerFile {
    /// From token logprobs.
    Confidence(Pool),
    /// The share of answers so far that say the same.
    Agreement,
    /// By asking the tier itself.
    SelfCheck(PaidFile),
    /// By asking another tier.
    Judge(JudgeFile),
    /// By asking a service of the user's.
    External(ExternalFile),
    /// From a calibration's file.
    Learned(At<CalibrationFile>),
    /// Several as one.
    Combined(Combined, Vec<Self>),
}

shape! {
    /// A score that is paid for.
    pub struct PaidFile {
        /// Only where the next score of the list lies between these two.
        between: Option<At<Vec<Share>>>,
    }
}

shape! {
    /// A tier that judges another tier's answers.
    pub struct JudgeFile {
        /// The tier that judges.
        by: At<String>,
        /// Only where the next score of the list lies between these two.
        between: Option<At<Vec<Share>>>,
    }
}

shape! {
    /// A service that judges answers: it is sent `{"request": ..., "answer": "..."}`
    /// and says `{"score": 0.9}`.
    pub struct ExternalFile {
        /// Where it is.
        url: BaseUrl,
        /// Only where the next score of the list lies between these two.
        between: Option<At<Vec<Share>>>,
    }
}

shape! {
    /// How token logprobs become one number.
    pub struct QuantileFile {
        /// The share of tokens that lie below.
        quantile: Share,
    }
}

const NAMES: [&str; 9] =
    ["confidence", "agreement", "learned", "self_check", "judge", "external", "mean", "min", "max"];

impl Shape for ScorerFile {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let (name, value) = one_key(node, reader, &NAMES)?;
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
            ("self_check", None) => Some(Self::SelfCheck(PaidFile { between: None })),
            ("self_check", Some(value)) => Some(Self::SelfCheck(PaidFile::read(value, reader)?)),
            ("judge", Some(value)) => Some(Self::Judge(JudgeFile::read(value, reader)?)),
            ("external", Some(value)) => Some(Self::External(ExternalFile::read(value, reader)?)),
            ("learned", Some(value)) => Some(Self::Learned(At::read(value, reader)?)),
            ("mean", Some(value)) => Some(Self::Combined(Combined::Mean, Vec::read(value, reader)?)),
            ("min", Some(value)) => Some(Self::Combined(Combined::Min, Vec::read(value, reader)?)),
            ("max", Some(value)) => Some(Self::Combined(Combined::Max, Vec::read(value, reader)?)),
            (_, Some(value)) => {
                reader.refuse(&value.span, format!("`{name}` takes no value"), format!("write `{name}` alone"))
            }
            (_, None) => {
                let example = match name.as_str() {
                    "judge" => "{ judge: { by: davinci } }",
                    "external" => "{ external: { url: \"http://127.0.0.1:9000/score\" } }",
                    "learned" => "{ learned: tuned.json }",
                    _ => "{ mean: [confidence, agreement] }",
                };
                reader.refuse(&node.span, format!("`{name}` needs a value"), format!("write {example}"))
            }
        }
    }
    fn stand_in() -> Option<Self> {
        Some(Self::Agreement)
    }
    fn schema() -> Value {
        let one = |name: &str, value: Value| json!({"type": "object", "properties": {name: value}, "required": [name], "additionalProperties": false});
        json!({"oneOf": [
            {"enum": ["confidence", "agreement", "self_check"]},
            one("confidence", json!({"oneOf": [{"enum": ["min", "mean"]}, QuantileFile::schema()]})),
            one("self_check", PaidFile::schema()),
            one("judge", JudgeFile::schema()),
            one("external", ExternalFile::schema()),
            one("learned", CalibrationFile::schema()),
            // Scorers within a scorer are not spelled out again.
            one("mean", json!({"type": "array", "minItems": 1})),
            one("min", json!({"type": "array", "minItems": 1})),
            one("max", json!({"type": "array", "minItems": 1})),
        ]})
    }
    fn node(&self) -> Node {
        let one = |name: &'static str, value: Node| Node::map(vec![(name, value)]);
        match self {
            Self::Agreement => Node::plain("agreement"),
            Self::Confidence(pool) => one(
                "confidence",
                match pool {
                    Pool::Quantile(share) => QuantileFile { quantile: Share(*share) }.node(),
                    Pool::Min => Node::plain("min"),
                    Pool::Mean => Node::plain("mean"),
                },
            ),
            Self::SelfCheck(PaidFile { between: None }) => Node::plain("self_check"),
            Self::SelfCheck(paid) => one("self_check", paid.node()),
            Self::Judge(judge) => one("judge", judge.node()),
            Self::External(external) => one("external", external.node()),
            Self::Learned(file) => one("learned", file.node()),
            Self::Combined(how, of) => one(how.name(), of.node()),
        }
    }
}

/// One scorer or a list of them.
#[derive(Clone, Debug)]
pub struct Scorers(pub Vec<ScorerFile>);

impl Shape for Scorers {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        if matches!(node.data, Data::Seq(_)) {
            Vec::read(node, reader).map(Self)
        } else {
            Some(Self(vec![ScorerFile::read(node, reader)?]))
        }
    }
    fn stand_in() -> Option<Self> {
        Some(Self(vec![ScorerFile::Agreement]))
    }
    fn schema() -> Value {
        json!({"oneOf": [ScorerFile::schema(), Vec::<ScorerFile>::schema()]})
    }
    fn node(&self) -> Node {
        match self.0.as_slice() {
            [one] => one.node(),
            _ => self.0.node(),
        }
    }
}

/// The file that `cascade calibrate` wrote: its path, and what it says.
#[derive(Clone, Debug)]
pub struct CalibrationFile {
    path: String,
    /// None where it could not be read, which was noted.
    pub read: Option<Arc<Stopping>>,
}

impl CalibrationFile {
    /// A file by its path from the policy, not read.
    pub(super) fn at(path: &str) -> Self {
        Self { path: path.to_owned(), read: None }
    }
}

impl Shape for CalibrationFile {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let path = String::read(node, reader)?;
        let read = reader.file(&path).and_then(|text| Stopping::read(&text));
        match read {
            Ok(stopping) => Some(Self { path, read: Some(Arc::new(stopping)) }),
            Err(why) => reader.refuse(
                &node.span,
                format!("cannot use {path}: {why}"),
                "name a file that `cascade calibrate` wrote, by its path from this policy",
            ),
        }
    }
    fn stand_in() -> Option<Self> {
        Some(Self { path: String::new(), read: None })
    }
    fn schema() -> Value {
        String::schema()
    }
    fn node(&self) -> Node {
        Node::text(&self.path)
    }
}

/// Notes where a calibration was made for other tiers than the policy's.
pub(super) fn fits(at: &At<CalibrationFile>, policy: &PolicyFile, problems: &mut Vec<Problem>) -> bool {
    let Some(stopping) = &at.value.read else { return false };
    let wanted = stopping.tiers.iter().map(|t| (t.name.as_str(), t.model.as_str()));
    let there = policy.tiers.value.iter().map(|t| (t.name.value.0.as_str(), t.model.as_str()));
    if wanted.clone().eq(there) {
        return true;
    }
    let list: Vec<String> = wanted.map(|(name, model)| format!("{name} ({model})")).collect();
    let what = format!("{} was made for other tiers: {}", at.value.path, list.join(", "));
    problems
        .push(Problem::new(at.at.clone(), what).help("calibrate again: scores of one model mean nothing for another"));
    false
}

/// A scorer as it is used, for the tier of this place; none where what is wrong
/// was noted.
pub(super) fn scorer(
    file: &ScorerFile,
    tier: usize,
    policy: &PolicyFile,
    problems: &mut Vec<Problem>,
) -> Option<Scorer> {
    match file {
        ScorerFile::Confidence(pool) => Some(Scorer::Confidence(*pool)),
        ScorerFile::Agreement => Some(Scorer::Agreement),
        ScorerFile::Learned(calibration) => {
            let fits = fits(calibration, policy, problems);
            let stopping = calibration.value.read.as_ref().filter(|_| fits)?;
            Some(learned(stopping, tier))
        }
        ScorerFile::SelfCheck(paid) => {
            let name = &policy.tiers.value[tier].name;
            if tier == 0 {
                let what = format!(
                    "`{}` is the smallest tier: its word on its own answers is no better than chance",
                    name.value.0
                );
                problems
                    .push(Problem::new(name.at.clone(), what).help("let another tier judge: { judge: { by: ... } }"));
            }
            Some(Scorer::Marked(Marked { by: Judge::Itself, between: band(paid.between.as_ref(), problems)? }))
        }
        ScorerFile::Judge(judge) => {
            let names = policy.tiers.value.iter().map(|t| t.name.value.0.as_str());
            let by = refer(&judge.by, "tier", names, problems)?;
            if by == 0 {
                let what =
                    format!("`{}` is the smallest tier: its judgements are no better than chance", judge.by.value);
                problems.push(Problem::new(judge.by.at.clone(), what).help("name a larger tier"));
            }
            let between = band(judge.between.as_ref(), problems)?;
            let by = if by == tier { Judge::Itself } else { Judge::Tier(by) };
            Some(Scorer::Marked(Marked { by, between }))
        }
        ScorerFile::External(external) => {
            let by = Judge::External(external.url.0.as_str().into());
            Some(Scorer::Marked(Marked { by, between: band(external.between.as_ref(), problems)? }))
        }
        ScorerFile::Combined(how, of) => {
            let all: Vec<_> = of.iter().map(|one| scorer(one, tier, policy, problems)).collect();
            Some(Scorer::Combined(*how, all.into_iter().collect::<Option<_>>()?))
        }
    }
}

/// The learned scores of one tier.
pub(super) fn learned(stopping: &Stopping, tier: usize) -> Scorer {
    Scorer::Learned((0..1u32 << tier).map(|after| stopping.score(tier, after).clone()).collect())
}

/// None where what is wrong was noted.
#[expect(clippy::option_option, reason = "wrong, not given, and given are three things")]
fn band(between: Option<&At<Vec<Share>>>, problems: &mut Vec<Problem>) -> Option<Option<(Score, Score)>> {
    let Some(between) = between else { return Some(None) };
    if let [low, high] = between.value.as_slice()
        && low.0 < high.0
    {
        return Some(Some((Score::new(low.0)?, Score::new(high.0)?)));
    }
    problems.push(
        Problem::new(between.at.clone(), "not two scores, the lower one first").help("write between: [0.4, 0.8]"),
    );
    None
}
