//! What every tier made of one recorded prompt: labels, costs, and what scorers
//! would see, whatever was asked before. Calibration and report read it.
//!
//! Invariant: features come from prompt and answers alone; a label is only ever
//! a label.

use std::collections::HashMap;

use crate::answer::Answer;
use crate::exchange::Exchange;
use crate::policy::{Accept, Policy, Tier};
use crate::price::Cost;
use crate::prompt::Prompt;
use crate::scoring::Evidence;
use crate::scoring::features::{Features, PROMPT_COUNT, Seen, hashed_grams, of_prompt};
use crate::stopping::all_states;
use crate::tokens;

/// One prompt that every tier has answered and somebody labelled.
#[derive(Clone, Debug)]
pub struct Row {
    /// Prompts of one conversation, or all but the same, share it.
    pub group: u64,
    /// What kind of prompt it is.
    pub task: Option<String>,
    /// The label of each tier's answer, 0..=1; 0 where the tier failed.
    pub quality: Vec<f64>,
    /// What each tier costs, in dollars.
    pub cost: Vec<f64>,
    /// Whether a gate refused each tier's answer, or it failed.
    pub refused: Vec<bool>,
    /// What a learned scorer sees in each state, by [`crate::stopping::state`].
    pub features: Vec<Features>,
    /// The features of the prompt alone.
    pub prompt: [f64; PROMPT_COUNT],
    /// Hashed words of the question.
    pub grams: Vec<(u32, f32)>,
}

/// Why an exchange is no row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum NoRow {
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

/// Makes rows; remembers which prompts belong together.
#[derive(Debug, Default)]
pub struct Rows {
    group_of_words: HashMap<u64, u64>,
}

impl Rows {
    /// The row of an exchange under a policy's prices and gates.
    ///
    /// # Errors
    /// Where something about some tier is not known.
    pub fn row(&mut self, policy: &Policy, exchange: &Exchange) -> Result<Row, NoRow> {
        let prompt = &exchange.prompt;
        let tiers = policy.tiers.len();
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
            Accept::Checked(check) => check.gates.iter().all(|gate| gate.passes(&evidence(policy, prompt, answer))),
            Accept::Always => true,
        };
        let refused: Vec<bool> =
            policy.tiers.iter().zip(&answers).map(|(t, a)| !a.as_ref().is_some_and(|a| passes(t, a))).collect();
        let seen: Vec<Option<Seen>> = answers[..tiers - 1]
            .iter()
            .zip(&refused)
            .map(|(answer, refused)| {
                answer.as_ref().filter(|_| !refused).map(|answer| Seen::of(&evidence(policy, prompt, answer)))
            })
            .collect();
        let of_prompt = of_prompt(prompt);
        let features = all_states(tiers).map(|(tier, after)| match &seen[tier] {
            Some(this) => {
                let smaller = (0..tier).filter(|other| after >> other & 1 == 1);
                let smaller: Vec<&Seen> = smaller.filter_map(|other| seen[other].as_ref()).collect();
                this.after(&of_prompt, &smaller)
            }
            None => Features::unknown(),
        });
        Ok(Row {
            group: self.group(exchange),
            task: exchange.task.clone(),
            features: features.collect(),
            quality,
            cost,
            refused,
            prompt: of_prompt,
            grams: hashed_grams(prompt),
        })
    }

    /// The group of an exchange: its conversation; the same for questions in the
    /// same words.
    pub fn group(&mut self, exchange: &Exchange) -> u64 {
        let question = exchange.prompt.asked().question.to_lowercase();
        let words: Vec<&str> = question.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty()).collect();
        let conversation = exchange.prompt.turn().conversation;
        let own = conversation.unwrap_or(*exchange.prompt.content_key());
        *self.group_of_words.entry(number(blake3::hash(words.join(" ").as_bytes()).as_bytes())).or_insert(number(&own))
    }
}

fn evidence<'a>(policy: &'a Policy, prompt: &'a Prompt, answer: &'a Answer) -> Evidence<'a> {
    Evidence { answer_pattern: policy.answer_pattern.as_ref(), ..Evidence::of(prompt, answer) }
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
