//! What one exchange teaches: the prompt, the answer to learn, and what was wrong with the
//! student's own.

use serde::Serialize;
use serde_json::{Map, Value};

use super::asked::Asked;
use super::draw;
use crate::answer::{Answer, Choice};
use crate::calibration::is_for_test;
use crate::openai::Endpoint;
use crate::outcomes::{final_form, group_of};
use crate::policy::{Accept, Policy};
use crate::prompt::{Prompt, without_examples};
use crate::recording::Redaction;
use crate::replay::Replayed;
use crate::scoring::{Evidence, Gate, Seen};
use crate::tokens::{self, Tokens};
use crate::trace::{Attempt, Failure, Outcome, Trace, Why};

/// What is to be taught, and to whom.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The tier to be taught, by place; not the largest.
    pub student: usize,
    /// The seed by which certificates keep prompts for their test; none: all may be taught.
    pub tested_by: Option<u64>,
    /// The share of what the student got right that is taught too, so that it is not
    /// forgotten.
    pub replay: f64,
    /// The share of conversations kept for validation.
    pub valid: f64,
    /// A label below this makes an answer wrong.
    pub least_label: f64,
    /// How far two answers' scores must lie apart to be a pair.
    pub gap: f64,
    /// What is left out of texts.
    pub redaction: Redaction,
}

/// Which set a row is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Set {
    /// The student's answer was rejected, a larger tier's accepted.
    Hard,
    /// The student's answer was accepted.
    Replay,
}

/// Why an exchange teaches nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Left {
    /// Kept for the test of certificates.
    #[error("kept for the test of certificates")]
    Tested,
    /// The cascade does not ask the student.
    #[error("the student is not asked, or unchecked: a route, its name as model, or a calibrated start")]
    NotAsked,
    /// An answer that is wanted is not recorded.
    #[error("an answer that would be asked for is not recorded")]
    NotRecorded,
    /// The student failed.
    #[error("the student gave no answer")]
    Failed,
    /// No larger tier's answer was accepted.
    #[error("rejected, and no larger tier answered")]
    NoTeacher,
    /// The teacher's label is too low.
    #[error("rejected, but the teacher's answer is labelled wrong")]
    TeacherWrong,
    /// The student's label is too low.
    #[error("accepted, but labelled wrong")]
    AcceptedWrong,
    /// The answer was cut.
    #[error("the answer to learn was cut off")]
    Truncated,
    /// The answer declines.
    #[error("the answer to learn declines")]
    Refused,
    /// The answer says nothing.
    #[error("the answer to learn is empty")]
    Empty,
    /// Pictures, sound, files, token ids, or a response's input.
    #[error("the prompt is more than text, or was sent to /v1/responses")]
    NotText,
    /// Accepted, and not drawn.
    #[error("accepted, and not drawn for the replay set")]
    NotDrawn,
    /// Another row asks the same.
    #[error("asks what another row asks")]
    Duplicate,
    /// Another row asks nearly the same.
    #[error("asks nearly what another row asks")]
    NearDuplicate,
}

/// What one tier had to do with a row.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Part {
    /// The tier.
    pub tier: String,
    /// Its model.
    pub model: String,
    /// What became of its answer, in the words of `x-cascade-attempts`.
    pub verdict: String,
    /// Its score, 0..=1, where it has one.
    pub score: Option<f64>,
    /// Its label, 0..=1, where it has one.
    pub label: Option<f64>,
    /// What it cost, where that is known.
    pub cost_usd: Option<f64>,
}

/// One row before it takes the form of a file.
#[derive(Clone, Debug)]
pub struct Lesson {
    /// The exchange's name.
    pub id: String,
    /// Rows of one group are in one split.
    pub group: u64,
    /// Which set it is of.
    pub set: Set,
    /// Whether it is kept for validation.
    pub is_valid: bool,
    /// What is asked: messages as fine-tuning takes them.
    pub messages: Vec<Map<String, Value>>,
    /// `tools`, `functions` and `parallel_tool_calls`, where the request has them.
    pub offered: Map<String, Value>,
    /// Whether it was a legacy prompt, which is the one message's text.
    pub is_legacy: bool,
    /// What is to be answered.
    pub answer: Choice,
    /// The student's own answer, where the teacher's is better for sure.
    pub worse: Option<Choice>,
    /// The student.
    pub student: Part,
    /// Whose answer it is.
    pub teacher: Part,
    /// Tokens of the prompt and of the answer to learn.
    pub tokens: Tokens,
    /// Whether something was left out of its texts.
    pub is_redacted: bool,
    /// How many examples were stripped.
    pub stripped: usize,
}

impl Lesson {
    /// What a replayed exchange teaches under a policy.
    ///
    /// # Errors
    /// Why it teaches nothing.
    pub fn of(policy: &Policy, wanted: &Wanted, replayed: &Replayed) -> Result<Self, Left> {
        let (exchange, trace) = (&*replayed.exchange, &replayed.trace);
        let prompt = &exchange.prompt;
        let group = group_of(exchange);
        if wanted.tested_by.is_some_and(|seed| is_for_test(group, seed)) {
            return Err(Left::Tested);
        }
        let own = trace.attempts.iter().find(|a| a.tier == wanted.student).ok_or(Left::NotAsked)?;
        let Outcome::Answered { answer: own_answer, verdict, .. } = &own.outcome else {
            let is_unknown = matches!(own.outcome, Outcome::Failed(Failure::NotRecorded));
            return Err(if is_unknown { Left::NotRecorded } else { Left::Failed });
        };
        if verdict.why == Why::LastTier {
            return Err(Left::NotAsked);
        }
        let (set, taught) =
            if verdict.is_accepted { (Set::Replay, own) } else { (Set::Hard, teacher(trace, wanted.student)?) };
        let Outcome::Answered { answer, .. } = &taught.outcome else { return Err(Left::NoTeacher) };
        if taught.quality.is_some_and(|label| label < wanted.least_label) {
            return Err(if set == Set::Hard { Left::TeacherWrong } else { Left::AcceptedWrong });
        }
        is_worth_learning(prompt, answer)?;
        let asked = Asked::of(exchange).ok_or(Left::NotText)?;
        if set == Set::Replay && draw("replay", prompt.content_key()) >= wanted.replay {
            return Err(Left::NotDrawn);
        }
        let pair = set == Set::Hard
            && says_something(own_answer)
            && passes(policy, wanted.student, prompt, answer)
            && is_better(policy, wanted, (taught, answer), (own, own_answer));
        let mut lesson = Self {
            id: exchange.id.clone(),
            group,
            set,
            is_valid: draw("valid", &group.to_le_bytes()) < wanted.valid,
            messages: asked.messages,
            offered: asked.offered,
            is_legacy: prompt.endpoint == Endpoint::Completions,
            answer: first(answer),
            worse: pair.then(|| first(own_answer)),
            student: part(policy, own),
            teacher: part(policy, taught),
            tokens: tokens::count(prompt, answer),
            is_redacted: false,
            stripped: 0,
        };
        lesson.redact(&wanted.redaction);
        Ok(lesson)
    }

    fn redact(&mut self, redaction: &Redaction) {
        let mut any = false;
        for map in self.messages.iter_mut().chain([&mut self.offered]) {
            let mut value = Value::Object(std::mem::take(map));
            any |= redaction.clean_value(&mut value);
            if let Value::Object(clean) = value {
                *map = clean;
            }
        }
        for choice in [Some(&mut self.answer), self.worse.as_mut()].into_iter().flatten() {
            let calls = choice.tool_calls.iter_mut().map(|call| &mut call.arguments);
            for text in calls.chain([&mut choice.text]) {
                if let std::borrow::Cow::Owned(clean) = redaction.clean_text(text) {
                    *text = clean;
                    any = true;
                }
            }
        }
        self.is_redacted = any;
    }

    /// The last message of a user, as text.
    #[must_use]
    pub fn question(&self) -> &str {
        let by_user = |m: &&Map<String, Value>| m.get("role").and_then(Value::as_str) == Some("user");
        let last = self.messages.iter().rfind(by_user).or(self.messages.last());
        last.and_then(|m| m.get("content")).and_then(Value::as_str).unwrap_or_default()
    }

    /// Strips the examples before the question in its text, and the first `turns` messages
    /// after the system's, which are examples too; nothing where the last is not a user's.
    pub fn strip_examples(&mut self, turns: usize) {
        let is_by = |m: &Map<String, Value>, roles: &[&str]| {
            m.get("role").and_then(Value::as_str).is_some_and(|role| roles.contains(&role))
        };
        if !self.messages.last().is_some_and(|m| is_by(m, &["user"])) {
            return;
        }
        let opening = usize::from(is_by(&self.messages[0], &["system", "developer"]));
        self.messages.drain(opening..(opening + turns).min(self.messages.len() - 1));
        let (shown, question) = without_examples(self.question());
        let question = question.to_owned();
        self.stripped = shown + turns / 2;
        if self.stripped == 0 {
            return;
        }
        if let Some(content) = self.messages.last_mut().and_then(|m| m.get_mut("content")) {
            *content = question.into();
        }
        let texts = self.messages.iter().filter_map(|m| m.get("content")).filter_map(Value::as_str);
        let text = texts.map(str::len).sum::<usize>();
        self.tokens = Tokens { input: tokens::of_bytes(text), estimated: true, ..self.tokens };
    }
}

/// The attempt that was served by a larger tier, accepted.
fn teacher(trace: &Trace, student: usize) -> Result<&Attempt, Left> {
    if trace.attempts.iter().any(|a| matches!(a.outcome, Outcome::Failed(Failure::NotRecorded))) {
        return Err(Left::NotRecorded);
    }
    trace.served().filter(|served| served.tier > student && !trace.is_stand_in()).ok_or(Left::NoTeacher)
}

/// The tier whose answer was accepted where the student's was rejected: its prompt is hard.
#[must_use]
pub fn teacher_of(trace: &Trace, student: usize) -> Option<usize> {
    let own = trace.attempts.iter().find(|attempt| attempt.tier == student)?;
    let is_rejected = matches!(&own.outcome, Outcome::Answered { verdict, .. } if !verdict.is_accepted);
    teacher(trace, student).ok().filter(|_| is_rejected).map(|attempt| attempt.tier)
}

fn is_worth_learning(prompt: &Prompt, answer: &Answer) -> Result<(), Left> {
    let seen = Seen::default();
    let evidence = Evidence::of(prompt, answer, &seen);
    let faults = [(Gate::Complete, Left::Truncated), (Gate::NotRefusal, Left::Refused), (Gate::NotEmpty, Left::Empty)];
    faults.into_iter().find(|(gate, _)| !gate.passes(&evidence)).map_or(Ok(()), |(_, left)| Err(left))
}

/// A row of nothing is none that trainers take.
fn says_something(answer: &Answer) -> bool {
    answer.choices.first().is_some_and(|choice| !choice.text.trim().is_empty() || !choice.tool_calls.is_empty())
}

/// Whether the student's own gates would let an answer pass: the largest tier's are not held
/// against any.
fn passes(policy: &Policy, student: usize, prompt: &Prompt, answer: &Answer) -> bool {
    let Accept::Checked(check) = &policy.tiers[student].accept else { return true };
    let seen = Seen::default();
    let evidence = Evidence { answer_pattern: policy.answer_pattern.as_ref(), ..Evidence::of(prompt, answer, &seen) };
    check.gates.iter().all(|gate| gate.passes(&evidence))
}

/// Whether the teacher's answer is better for sure: by their labels where both are known,
/// else by a gate or by the scores, and only where they say different things.
fn is_better(policy: &Policy, wanted: &Wanted, teacher: (&Attempt, &Answer), own: (&Attempt, &Answer)) -> bool {
    if final_form(policy, Some(teacher.1)).likeness(&final_form(policy, Some(own.1))) >= 1.0 {
        return false;
    }
    if let (Some(better), Some(worse)) = (teacher.0.quality, own.0.quality) {
        return better > worse;
    }
    let Outcome::Answered { verdict, .. } = &own.0.outcome else { return false };
    match (verdict.why, score(teacher.0)) {
        (Why::Gate(_), _) => true,
        (Why::Score { score, .. }, Some(theirs)) => theirs - score.value() >= wanted.gap,
        // The largest tier's has none: how far the student's was from good enough.
        (Why::Score { score, at_least }, None) => at_least.value() - score.value() >= wanted.gap,
        _ => false,
    }
}

fn score(attempt: &Attempt) -> Option<f64> {
    match &attempt.outcome {
        Outcome::Answered { verdict, .. } => match verdict.why {
            Why::Score { score, .. } => Some(score.value()),
            _ => None,
        },
        _ => None,
    }
}

fn part(policy: &Policy, attempt: &Attempt) -> Part {
    let tier = &policy.tiers[attempt.tier];
    Part {
        tier: tier.name.clone(),
        model: tier.model.clone(),
        verdict: attempt.outcome.to_string(),
        score: score(attempt),
        label: attempt.quality,
        cost_usd: attempt.cost.usd.map(crate::price::Usd::dollars),
    }
}

fn first(answer: &Answer) -> Choice {
    let mut choice = answer.choices.first().cloned().unwrap_or_default();
    choice.logprobs = Vec::new();
    choice
}
