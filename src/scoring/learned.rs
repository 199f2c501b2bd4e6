//! Learned scores: a logistic regression on the feature vector, calibrated.
//!
//! Made by `cascade calibrate`, read from its file. A single feature with an
//! isotonic map is the case of one weight.

use serde::{Deserialize, Serialize};

use super::features::{self, Block, Features};
use super::{Evidence, Score};
use crate::statistics::isotonic::Isotonic;
use crate::statistics::{logit, sigmoid};

/// A score's weights and its calibration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Learned {
    weights: Vec<Weight>,
    /// What is added where a whole block is missing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    missing: Vec<Missing>,
    level: f64,
    /// Whether token logprobs must be asked for: the answers it was learned from
    /// had them.
    wants_logprobs: bool,
    /// For answers with token logprobs.
    with_logprobs: Calibrator,
    /// For answers without.
    without_logprobs: Calibrator,
}

/// How one feature counts: `weight * (value - center) / spread`, nothing where it
/// is missing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Weight {
    /// Its place in the vector, written as its name.
    #[serde(with = "by_name")]
    pub feature: usize,
    /// Its mean when this was fitted.
    pub center: f64,
    /// Its standard deviation then, above 0.
    pub spread: f64,
    /// By how much one spread moves the log odds.
    pub weight: f64,
}

/// What a missing block does to the log odds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Missing {
    /// The block.
    pub block: Block,
    /// What is added to the log odds.
    pub weight: f64,
}

/// From a raw score to a chance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Calibrator {
    /// The raw score is one.
    Identity,
    /// `sigmoid(slope * log odds + level)` (Platt 1999).
    Platt {
        /// Above 0.
        slope: f64,
        /// The log odds where the raw ones are 0.
        level: f64,
    },
    /// A map of the raw log odds that never falls.
    Isotonic(Isotonic),
}

impl Calibrator {
    fn chance(&self, log_odds: f64) -> f64 {
        match self {
            Self::Identity => sigmoid(log_odds),
            Self::Platt { slope, level } => sigmoid(slope * log_odds + level),
            Self::Isotonic(map) => map.at(log_odds),
        }
    }
}

/// What a feature did to one score.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Effect {
    /// The feature.
    pub feature: &'static str,
    /// Its value.
    pub value: f64,
    /// By how much it moved the log odds, from what is usual.
    pub effect: f64,
}

impl Learned {
    /// Puts weights and calibration together.
    #[must_use]
    pub fn new(weights: Vec<Weight>, missing: Vec<Missing>, level: f64, calibrators: [Calibrator; 2]) -> Self {
        let [with_logprobs, without_logprobs] = calibrators;
        let wants_logprobs = weights.iter().any(|w| features::block_of(w.feature) == Block::Logprobs);
        Self { weights, missing, level, wants_logprobs, with_logprobs, without_logprobs }
    }

    /// The same weights with another calibration: with logprobs, and without.
    #[must_use]
    pub fn calibrated(self, calibrators: [Calibrator; 2]) -> Self {
        Self::new(self.weights, self.missing, self.level, calibrators)
    }

    /// The same, asking for logprobs or not.
    #[must_use]
    pub fn wanting_logprobs(self, wants_logprobs: bool) -> Self {
        Self { wants_logprobs, ..self }
    }

    /// The log odds before calibration.
    #[must_use]
    pub fn log_odds(&self, features: &Features) -> f64 {
        let moved: f64 = self.weights.iter().map(|w| w.effect(features)).sum();
        let missing: f64 = self.missing.iter().filter(|m| features.lacks(m.block)).map(|m| m.weight).sum();
        self.level + moved + missing
    }

    /// The chance that the answer is good enough, 0..=1.
    #[must_use]
    pub fn chance(&self, features: &Features) -> f64 {
        let has_logprobs = !features.lacks(Block::Logprobs);
        let calibrator = if has_logprobs { &self.with_logprobs } else { &self.without_logprobs };
        calibrator.chance(self.log_odds(features)).clamp(0.0, 1.0)
    }

    /// The score of an answer. There always is one: what is missing counts as
    /// missing.
    #[must_use]
    pub fn score(&self, evidence: &Evidence<'_>) -> Option<Score> {
        Score::new(self.chance(&Features::some(evidence, |block| self.uses(block))))
    }

    fn uses(&self, block: Block) -> bool {
        self.weights.iter().any(|w| features::block_of(w.feature) == block)
            || self.missing.iter().any(|m| m.block == block)
    }

    /// What moved the log odds, most first.
    #[must_use]
    pub fn effects(&self, features: &Features) -> Vec<Effect> {
        let names: Vec<&'static str> = features::names().map(|(name, _)| name).collect();
        let of =
            |w: &Weight| Effect { feature: names[w.feature], value: features.0[w.feature], effect: w.effect(features) };
        let mut effects: Vec<Effect> = self.weights.iter().map(of).filter(|e| e.effect != 0.0).collect();
        effects.sort_by(|a, b| b.effect.abs().total_cmp(&a.effect.abs()));
        effects
    }

    /// By how much the log odds of an answer miss a chance: above 0 where they lack
    /// it.
    #[must_use]
    pub fn log_odds_to(&self, features: &Features, chance: f64) -> f64 {
        self.log_odds_of(chance, !features.lacks(Block::Logprobs)) - self.log_odds(features)
    }

    /// Whether token logprobs must be asked for.
    #[must_use]
    pub fn needs_logprobs(&self) -> bool {
        self.wants_logprobs
    }

    /// Whether what was read can be used.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let is_sound = |calibrator: &Calibrator| match calibrator {
            Calibrator::Identity => true,
            Calibrator::Platt { slope, level } => *slope > 0.0 && slope.is_finite() && level.is_finite(),
            Calibrator::Isotonic(map) => map.is_sound(),
        };
        self.level.is_finite()
            && self.weights.iter().all(|w| w.spread > 0.0 && w.weight.is_finite() && w.center.is_finite())
            && self.missing.iter().all(|m| m.weight.is_finite())
            && is_sound(&self.with_logprobs)
            && is_sound(&self.without_logprobs)
    }

    /// The log odds at which the chance is `chance`, for an answer like this;
    /// for saying what would have had to be otherwise.
    #[must_use]
    pub fn log_odds_of(&self, chance: f64, has_logprobs: bool) -> f64 {
        match if has_logprobs { &self.with_logprobs } else { &self.without_logprobs } {
            Calibrator::Identity => logit(chance),
            Calibrator::Platt { slope, level } => (logit(chance) - level) / slope,
            Calibrator::Isotonic(map) => map.signal_of(chance),
        }
    }
}

impl Weight {
    /// What it adds to the log odds.
    #[must_use]
    pub fn effect(&self, features: &Features) -> f64 {
        let value = features.0[self.feature];
        // Far outside of what was seen the line says nothing any more.
        if value.is_nan() { 0.0 } else { self.weight * ((value - self.center) / self.spread).clamp(-4.0, 4.0) }
    }
}

impl Features {
    /// Whether nothing of a block is known.
    #[must_use]
    pub fn lacks(&self, block: Block) -> bool {
        features::places(block).all(|at| self.0[at].is_nan())
    }
}

mod by_name {
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::features;

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "the shape that serde asks for")]
    pub(super) fn serialize<S: Serializer>(at: &usize, to: S) -> Result<S::Ok, S::Error> {
        features::names().nth(*at).map_or("", |(name, _)| name).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<usize, D::Error> {
        let wanted = String::deserialize(from)?;
        let found = features::names().position(|(name, _)| name == wanted);
        found.ok_or_else(|| D::Error::custom(format!("no feature is called `{wanted}`")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn learned() -> Learned {
        let weight = |name: &str, weight| Weight {
            feature: features::names().position(|(n, _)| n == name).expect(name),
            center: 1.0,
            spread: 2.0,
            weight,
        };
        let platt = Calibrator::Platt { slope: 2.0, level: 0.5 };
        let missing = vec![Missing { block: Block::Logprobs, weight: -1.0 }];
        Learned::new(
            vec![weight("sure_q10", 1.0), weight("declines", -3.0)],
            missing,
            0.25,
            [platt, Calibrator::Identity],
        )
    }

    #[test]
    fn a_score_by_hand_with_and_without_logprobs() {
        let mut all = Features([f64::NAN; features::COUNT]);
        assert!((learned().log_odds(&all) - -0.75).abs() < 1e-12);
        assert!((learned().chance(&all) - sigmoid(-0.75)).abs() < 1e-12);
        all.0[9] = 3.0;
        assert!((learned().log_odds(&all) - 1.25).abs() < 1e-12);
        assert!((learned().chance(&all) - sigmoid(3.0)).abs() < 1e-12);
        assert!((learned().log_odds_of(sigmoid(3.0), true) - 1.25).abs() < 1e-9);
        assert_eq!(learned().effects(&all), [Effect { feature: "sure_q10", value: 3.0, effect: 1.0 }]);
    }

    #[test]
    fn what_is_written_is_read_again_and_unknown_features_are_refused() {
        let text = serde_json::to_string(&learned()).expect("json");
        assert!(text.contains(r#""feature":"sure_q10""#), "{text}");
        assert_eq!(serde_json::from_str::<Learned>(&text).expect("the same"), learned());
        let wrong = text.replace("sure_q10", "sure_q11");
        let why = serde_json::from_str::<Learned>(&wrong).expect_err("unknown").to_string();
        assert!(why.contains("no feature is called `sure_q11`"), "{why}");
    }
}
