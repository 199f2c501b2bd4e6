//! What every tier made of one recorded prompt: labels, costs, and what scorers
//! would see, whatever was asked before. Calibration and report read it.
//!
//! Invariant: features come from prompt and answers alone; a label is only ever
//! a label.

use serde::{Deserialize, Serialize};

use crate::answer::Answer;
use crate::exchange::Exchange;
use crate::policy::{Accept, Policy, Tier};
use crate::price::Cost;
use crate::scoring::features::{Features, PROMPT_COUNT, hashed_grams, of_prompt};
use crate::scoring::{Evidence, Form, Seen, Smaller, form};
use crate::stopping::all_states;
use crate::tokens;

/// One prompt that every tier has answered and somebody labelled.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    /// Rows of one group are one draw; see [`group_of`].
    pub group: u64,
    /// What kind of prompt it is.
    pub task: Option<String>,
    /// The label of each tier's answer, 0..=1; 0 where the tier failed.
    pub quality: Vec<f64>,
    /// What each tier costs, in dollars.
    pub cost: Vec<f64>,
    /// Whether a gate refused each tier's answer, or it failed.
    pub refused: Vec<bool>,
    /// How far each tier's answer differs from the largest one's, 0..=1, in normal form.
    pub differs: Vec<f64>,
    /// What a learned scorer sees in each state, by [`crate::stopping::state`]; not
    /// written down, nor is what follows: a report has no need of it.
    #[serde(skip)]
    pub features: Vec<Features>,
    /// The features of the prompt alone.
    #[serde(skip)]
    pub prompt: [f64; PROMPT_COUNT],
    /// Hashed words of the question.
    #[serde(skip)]
    pub grams: Vec<(u32, f32)>,
}

/// Why an exchange is no row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum NoRow {
    /// The policy does not send it down the whole ladder.
    #[error("a route, or what a tier can take, keeps it from the whole ladder")]
    OtherLadder,
    /// A tier's answer is not recorded.
    #[error("a tier's answer is not recorded")]
    NotRecorded,
    /// A tier's answer has no label.
    #[error("a tier's answer has no label")]
    Unlabelled,
    /// A tier's cost is not known.
    #[error("a tier's cost is not known")]
    Unpriced,
}

impl Row {
    /// The row of an exchange under a policy's prices and gates.
    ///
    /// # Errors
    /// Where something about some tier is not known.
    pub fn of(policy: &Policy, exchange: &Exchange) -> Result<Self, NoRow> {
        let prompt = &exchange.prompt;
        let tiers = policy.tiers.len();
        if policy.ladder_for_recorded(prompt).tiers().len() < tiers {
            return Err(NoRow::OtherLadder);
        }
        let (mut quality, mut cost, mut answers) = (Vec::new(), Vec::new(), Vec::new());
        for tier in &policy.tiers {
            let recorded = exchange.answer_of(tier).ok_or(NoRow::NotRecorded)?;
            let answer = recorded.answer(prompt.endpoint).ok();
            let label = recorded.label_or_failure().ok_or(NoRow::Unlabelled)?;
            quality.push(label);
            cost.push(alone_cost(exchange, tier).usd.ok_or(NoRow::Unpriced)?.dollars());
            answers.push(answer);
        }
        let passes = |tier: &Tier, answer: &Answer| match &tier.accept {
            Accept::Checked(check) => {
                let (answer_pattern, seen) = (policy.answer_pattern.as_ref(), Seen::default());
                let evidence = Evidence { answer_pattern, ..Evidence::of(prompt, answer, &seen) };
                check.gates.iter().all(|gate| gate.passes(&evidence))
            }
            Accept::Always => true,
        };
        let refused: Vec<bool> =
            policy.tiers.iter().zip(&answers).map(|(t, a)| !a.as_ref().is_some_and(|a| passes(t, a))).collect();
        // Worked out once for all states.
        let seen: Vec<Seen> = answers.iter().map(|_| Seen::default()).collect();
        let open: Vec<Option<Smaller<'_>>> = answers
            .iter()
            .zip(&seen)
            .zip(&refused)
            .map(|((answer, seen), refused)| {
                answer.as_deref().filter(|_| !refused).map(|answer| Smaller { answer, seen })
            })
            .collect();
        let forms: Vec<Form> = answers.iter().map(|answer| final_form(policy, answer.as_deref())).collect();
        let differs = forms.iter().map(|form| 1.0 - form.likeness(&forms[tiers - 1])).collect();
        let features = all_states(tiers).map(|(tier, after)| match open[tier] {
            Some(this) => {
                let smaller = (0..tier).filter(|other| after >> other & 1 == 1);
                let smaller: Vec<Smaller<'_>> = smaller.filter_map(|other| open[other]).collect();
                let answer_pattern = policy.answer_pattern.as_ref();
                let evidence = Evidence::of(prompt, this.answer, this.seen);
                Features::of(&Evidence { smaller: &smaller, after, answer_pattern, ..evidence })
            }
            None => Features::unknown(),
        });
        Ok(Self {
            group: group_of(exchange),
            differs,
            task: exchange.task.clone(),
            features: features.collect(),
            quality,
            cost,
            refused,
            prompt: of_prompt(prompt),
            grams: hashed_grams(prompt),
        })
    }
}

/// The normal form of an answer's first choice.
#[must_use]
pub fn final_form(policy: &Policy, answer: Option<&Answer>) -> Form {
    let first = answer.and_then(|answer| answer.choices.first());
    first.map_or(Form::Nothing, |choice| form(&choice.text, &choice.tool_calls, policy.answer_pattern.as_ref()))
}

/// The same for all exchanges of a conversation, and for all whose conversations open with
/// the same words: one draw, since each tells about the others. It depends on nothing but
/// the exchange, so that whoever splits by it splits all recordings alike.
#[must_use]
pub fn group_of(exchange: &Exchange) -> u64 {
    let prompt = &exchange.prompt;
    let mut hasher = blake3::Hasher::new();
    let mut any = false;
    for text in prompt.opening() {
        for word in text.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty()) {
            any = true;
            hasher.update(word.to_lowercase().as_bytes()).update(b" ");
        }
    }
    if any { number(hasher.finalize().as_bytes()) } else { number(prompt.content_key()) }
}

/// The first eight bytes of a hash.
#[must_use]
pub fn number(hash: &[u8; 32]) -> u64 {
    let mut first = [0; 8];
    first.copy_from_slice(&hash[..8]);
    u64::from_le_bytes(first)
}

/// What asking `tier` alone costs, by what was recorded; nothing where it failed.
#[must_use]
pub fn alone_cost(exchange: &Exchange, tier: &Tier) -> Cost {
    let Some(recorded) = exchange.answer_of(tier) else { return Cost::UNKNOWN };
    // Failures are not billed.
    let Some(usage) = recorded.usage() else { return Cost::FREE };
    if let Some(tokens) = usage.and_then(tokens::of_usage) {
        return Cost::of(tier.price.as_ref(), recorded.cost, || tokens);
    }
    let Ok(answer) = recorded.answer(exchange.prompt.endpoint) else { return Cost::FREE };
    Cost::of(tier.price.as_ref(), recorded.cost, || tokens::count(&exchange.prompt, &answer))
}
