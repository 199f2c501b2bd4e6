//! A student that has learned, without training it: on some hard prompts it says what its
//! teacher said.

use serde_json::Value;

use super::draw;
use crate::exchange::Exchange;
use crate::policy::Tier;

/// Whether a simulated student that learns this share has learned an exchange; the same
/// for all that ask the same.
#[must_use]
pub fn learned(exchange: &Exchange, share: f64) -> bool {
    draw("learned", exchange.prompt.content_key()) < share
}

/// The exchange in which the student says what its teacher said, for what its own answer
/// cost and in its time; none where the teacher said nothing.
#[must_use]
pub fn taught(exchange: &Exchange, student: &Tier, teacher: &Tier) -> Option<Exchange> {
    let mut answer = exchange.answer_of(teacher)?.clone();
    let own = exchange.answer_of(student);
    // Neither the teacher's price nor its time are the student's.
    answer.cost = own.and_then(|own| own.cost);
    answer.elapsed_ms = own.and_then(|own| own.elapsed_ms);
    answer.first_byte_ms = own.and_then(|own| own.first_byte_ms);
    let mut after = exchange.clone();
    after.answers.insert(student.name.clone(), answer);
    Some(after)
}

/// The same as a line of an exchange file; none where it is none, or the teacher said
/// nothing.
#[must_use]
pub fn taught_line(line: &[u8], student: &Tier, teacher: &Tier) -> Option<String> {
    let mut exchange: Value = serde_json::from_slice(line).ok()?;
    let answers = exchange.get_mut("answers")?.as_object_mut()?;
    let of = |tier: &Tier| answers.get(&tier.name).or_else(|| answers.get(&tier.model)).cloned();
    let (own, mut answer) = (of(student), of(teacher)?);
    let fields = answer.as_object_mut()?;
    for name in ["cost_usd", "elapsed_ms", "first_byte_ms"] {
        match own.as_ref().and_then(|own| own.get(name)) {
            Some(time) => fields.insert(name.to_owned(), time.clone()),
            None => fields.remove(name),
        };
    }
    answers.insert(student.name.clone(), answer);
    Some(exchange.to_string())
}
