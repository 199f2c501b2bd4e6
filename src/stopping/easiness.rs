//! How easy a prompt is, before anything is asked.

use serde::{Deserialize, Serialize};

use crate::prompt::Prompt;
use crate::scoring::features::{hashed_grams, of_prompt};
use crate::statistics::sigmoid;

/// How easy a prompt is, from its words: an order, learned from all tiers' labels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Easiness {
    /// The log odds where nothing is known.
    pub level: f64,
    /// One per feature of a prompt: mean, spread and weight.
    pub dense: Vec<[f64; 3]>,
    /// Places of hashed words that count, and by how much.
    pub words: Vec<(u32, f32)>,
}

impl Easiness {
    /// How easy a prompt is, 0..=1.
    #[must_use]
    pub fn of(&self, prompt: &Prompt) -> f64 {
        self.at(&of_prompt(prompt), &hashed_grams(prompt))
    }

    /// How easy a prompt of these features is, 0..=1.
    #[must_use]
    pub fn at(&self, dense: &[f64], grams: &[(u32, f32)]) -> f64 {
        let dense = dense.iter().zip(&self.dense).map(|(value, [mean, spread, weight])| {
            if value.is_nan() { 0.0 } else { weight * ((value - mean) / spread).clamp(-4.0, 4.0) }
        });
        let words = grams.iter().filter_map(|(place, value)| {
            let at = self.words.binary_search_by_key(place, |(place, _)| *place).ok()?;
            Some(f64::from(self.words[at].1) * f64::from(*value))
        });
        sigmoid(self.level + dense.sum::<f64>() + words.sum::<f64>())
    }
}
