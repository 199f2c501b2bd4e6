//! The `score:` part of the policy file.

use serde_json::{Value, json};

use super::acceptance::one_key;
use super::calibration_file::{CalibrationFile, fits, learned};
use super::containers::At;
use super::file::PolicyFile;
use super::problem::Problem;
use super::reference::refer;
use super::shape::{Reader, Shape, shape};
use super::text::BaseUrl;
use super::units::Share;
use super::yaml::{Data, Node};
use crate::scoring::{Combined, Judge, Marked, Pool, Score, Scorer};

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

/// Notes judges that would never be asked, or in vain.
pub(super) fn judges_make_sense(score: &[ScorerFile], at: &std::ops::Range<usize>, problems: &mut Vec<Problem>) {
    let paid: Vec<&ScorerFile> = score.iter().filter(|s| s.is_paid()).collect();
    if paid.len() > 1 {
        problems.push(Problem::new(at.clone(), "more than one judge for one tier").help("keep one of them"));
    }
    let free = score.iter().find(|s| !s.is_paid());
    if paid.iter().any(|judge| judge.has_band()) && !free.is_some_and(ScorerFile::sees_only_the_answer) {
        problems.push(
            Problem::new(at.clone(), "`between` needs a score that sees only the answer")
                .help("put `confidence` after the judge, or leave `between` out"),
        );
    }
}

impl ScorerFile {
    fn is_paid(&self) -> bool {
        matches!(self, Self::SelfCheck(_) | Self::Judge(_) | Self::External(_))
    }

    fn has_band(&self) -> bool {
        match self {
            Self::SelfCheck(paid) => paid.between.is_some(),
            Self::Judge(judge) => judge.between.is_some(),
            Self::External(external) => external.between.is_some(),
            _ => false,
        }
    }

    /// Smaller tiers' answers do not count, so that it can be told before a judge
    /// is asked.
    fn sees_only_the_answer(&self) -> bool {
        match self {
            Self::Confidence(_) => true,
            Self::Combined(_, of) => of.iter().all(Self::sees_only_the_answer),
            _ => false,
        }
    }
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
            if of.is_empty() || of.iter().any(ScorerFile::is_paid) {
                let name = &policy.tiers.value[tier].name;
                let what = format!("`{}` of `{}` takes one or more scores that cost nothing", how.name(), name.value.0);
                problems.push(Problem::new(name.at.clone(), what).help("put a judge before it in the list of `score`"));
            }
            Some(Scorer::Combined(*how, all.into_iter().collect::<Option<_>>()?))
        }
    }
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
