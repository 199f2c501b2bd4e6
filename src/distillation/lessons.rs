//! All that a recording teaches, each question once, and what was left out of it.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::Value;

use super::alike::{Item, near_duplicates};
use super::lesson::{Left, Lesson, Set, Wanted};
use crate::policy::Policy;
use crate::replay::Replayed;

/// Turns that open so many different questions are examples, no conversation.
const QUESTIONS_AFTER_EXAMPLES: usize = 3;

/// What a recording teaches.
#[derive(Debug, Default)]
pub struct Lessons {
    /// Rows, those of the hard set first, each set in the order of the recording.
    pub rows: Vec<Lesson>,
    /// How many exchanges were left out, by reason.
    pub left: BTreeMap<Left, u64>,
    /// Exchanges read: as many as rows and left out.
    pub read: u64,
    /// Of the answers that could be taught, those that have a label.
    pub labelled: u64,
}

impl Lessons {
    /// Adds what one exchange teaches.
    pub fn add(&mut self, policy: &Policy, wanted: &Wanted, replayed: &Replayed) {
        self.read += 1;
        self.labelled += u64::from(replayed.trace.attempts.iter().any(|a| a.quality.is_some()));
        match Lesson::of(policy, wanted, replayed) {
            Ok(lesson) => self.rows.push(lesson),
            Err(why) => self.leave(why),
        }
    }

    fn leave(&mut self, why: Left) {
        *self.left.entry(why).or_default() += 1;
    }

    /// Strips examples where that is asked, then leaves each question once: of those whose
    /// words are the same, and of those that share at least `near` of what is their own.
    pub fn settle(&mut self, strips_examples: bool, near: Option<f64>) {
        // What is hard stays where both sets ask it; the order of the recording otherwise.
        self.rows.sort_by_key(|lesson| lesson.set);
        if strips_examples {
            self.strip_examples();
        }
        let mut seen = HashSet::new();
        let mut kept = Vec::with_capacity(self.rows.len());
        for lesson in std::mem::take(&mut self.rows) {
            if seen.insert(asked_key(&lesson)) { kept.push(lesson) } else { self.leave(Left::Duplicate) }
        }
        let Some(near) = near else {
            self.rows = kept;
            return;
        };
        let items: Vec<Item> = kept.iter().map(|l| Item::new(context_key(l), l.question())).collect();
        let near = near_duplicates(&items, near);
        for (lesson, is_near) in kept.into_iter().zip(near) {
            if is_near { self.leave(Left::NearDuplicate) } else { self.rows.push(lesson) }
        }
    }

    fn strip_examples(&mut self) {
        let mut questions: HashMap<[u8; 32], HashSet<[u8; 32]>> = HashMap::new();
        for lesson in self.rows.iter().filter(|l| turns_before(l) > 0) {
            let after = questions.entry(context_key(lesson)).or_default();
            if after.len() < QUESTIONS_AFTER_EXAMPLES {
                after.insert(*blake3::hash(lesson.question().as_bytes()).as_bytes());
            }
        }
        for lesson in &mut self.rows {
            let opens = questions.get(&context_key(lesson)).map_or(0, HashSet::len);
            let turns = if opens >= QUESTIONS_AFTER_EXAMPLES { turns_before(lesson) } else { 0 };
            lesson.strip_examples(turns);
        }
    }

    /// How many rows there are of a set, and how many of them are kept for validation.
    #[must_use]
    pub fn of(&self, set: Set) -> (usize, usize) {
        let rows = self.rows.iter().filter(|lesson| lesson.set == set);
        (rows.clone().count(), rows.filter(|lesson| lesson.is_valid).count())
    }

    /// Tokens of the rows that are trained on, and whether some were estimated.
    #[must_use]
    pub fn training_tokens(&self) -> (u64, bool) {
        let trained = self.rows.iter().filter(|lesson| !lesson.is_valid);
        trained.fold((0, false), |(sum, estimated), l| {
            (sum + l.tokens.input + l.tokens.output, estimated | l.tokens.estimated)
        })
    }
}

/// Messages between the system's and the last, where they are pairs of question and answer
/// and the last is a question.
fn turns_before(lesson: &Lesson) -> usize {
    let is = |at: usize, roles: &[&str]| {
        lesson.messages.get(at).and_then(|m| m.get("role")).and_then(Value::as_str).is_some_and(|r| roles.contains(&r))
    };
    let last = lesson.messages.len().saturating_sub(1);
    let first = usize::from(is(0, &["system", "developer"])).min(last);
    let is_turn = |at: usize| is(at, if (at - first).is_multiple_of(2) { &["user"] } else { &["assistant"] });
    let are_pairs = (last - first).is_multiple_of(2) && (first..=last).all(is_turn);
    if are_pairs { last - first } else { 0 }
}

/// A key of all that is asked.
fn asked_key(lesson: &Lesson) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&context_key(lesson)).update(lesson.question().as_bytes());
    hasher.finalize().into()
}

/// A key of all that is asked but the question.
fn context_key(lesson: &Lesson) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    let question = lesson.question();
    let last = lesson.messages.iter().rposition(|m| m.get("content").and_then(Value::as_str) == Some(question));
    for (at, message) in lesson.messages.iter().enumerate() {
        if Some(at) != last {
            hasher.update(Value::Object(message.clone()).to_string().as_bytes()).update(b"\n");
        }
    }
    hasher.update(Value::Object(lesson.offered.clone()).to_string().as_bytes());
    hasher.finalize().into()
}
