//! Optimal stopping: after each answer, serve it, or which larger tier next;
//! and where to start. Read from the file that `cascade calibrate` writes.
//!
//! Invariant: a lookup, no rule of its own. Tiers may be skipped; what it says
//! is only ever to serve what was answered or to ask a larger tier.

mod certificate;
mod cuts;
mod easiness;

use serde::{Deserialize, Serialize};

use crate::prompt::Prompt;
use crate::scoring::Score;
use crate::scoring::learned::Learned;

pub use certificate::{Certificate, Method};
pub use cuts::{Act, Cuts};
pub use easiness::Easiness;

/// The most tiers that are calibrated: states double with each.
pub const MAX_TIERS: usize = 6;

/// The file `cascade calibrate` writes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stopping {
    /// The program that wrote it.
    pub made_by: String,
    /// A digest of the gates and the answer pattern it was made with, on which scores
    /// and promise rest.
    pub made_with: String,
    /// The tiers it was made for, smallest first.
    pub tiers: Vec<TierModel>,
    /// What was promised, and on what grounds.
    pub certificate: Certificate,
    /// How a tier's answers are scored, by which smaller ones were asked; in
    /// order of [`state`].
    pub states: Vec<StateScore>,
    /// How prompts are told apart before anything is asked; none: they are not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompts: Option<Easiness>,
    /// From the safest to the cheapest.
    pub points: Vec<Point>,
    /// Which of `points` is in force.
    pub in_force: usize,
}

/// A tier that a calibration is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TierModel {
    /// Its name.
    pub name: String,
    /// Its model: another one would need another calibration.
    pub model: String,
}

/// How answers in one state are scored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StateScore {
    /// The tier that answered.
    pub tier: String,
    /// The smaller ones that answered before it.
    pub after: Vec<String>,
    /// The score.
    pub score: Learned,
}

/// What to do at one price of money.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Point {
    /// What a dollar must buy in quality; infinite is not written: 0 is safest.
    pub lambda: f64,
    /// Mean dollars of a prompt on the rows it was fitted to.
    pub cost: f64,
    /// Mean label there.
    pub quality: f64,
    /// How far served answers differ from the largest tier's, 0..=1 on average: an
    /// upper bound of 95 in 100 from the rows that were tested.
    pub differs: f64,
    /// Where to start, by easiness.
    pub start: Cuts,
    /// What to do in each state, by score; in order of [`state`].
    pub act: Vec<StateActs>,
}

/// What to do in one state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StateActs {
    /// Where a gate said no: the tier to ask.
    pub gated: usize,
    /// By score.
    pub scored: Cuts,
}

/// The place of a state: `tier` has answered, after the tiers in `after`, a bit
/// for each.
#[must_use]
pub fn state(tier: usize, after: u32) -> usize {
    let smaller = (1usize << tier) - 1;
    smaller + (after as usize & smaller)
}

/// How many states a ladder has: none for its last tier, which is served.
#[must_use]
pub fn states(tiers: usize) -> usize {
    (1 << (tiers - 1)) - 1
}

/// All states in order: the tier, and the smaller ones before it.
pub fn all_states(tiers: usize) -> impl Iterator<Item = (usize, u32)> {
    (0..tiers.saturating_sub(1)).flat_map(|tier| (0..1u32 << tier).map(move |after| (tier, after)))
}

impl Stopping {
    /// Reads a file and checks that it can be used.
    ///
    /// # Errors
    /// In words, where it is no such file.
    pub fn read(text: &str) -> Result<Self, String> {
        let read: Self = serde_json::from_str(text).map_err(|e| format!("not a calibration: {e}"))?;
        let (tiers, all) = (read.tiers.len(), states(read.tiers.len().clamp(1, MAX_TIERS)));
        let larger = |tier: usize, act: Act| matches!(act, Act::Ask(next) if next > tier && next < tiers);
        let point_is_sound = |point: &Point| {
            point.start.is_sound(|act| matches!(act, Act::Ask(first) if first < tiers))
                && point.act.len() == all
                && all_states(tiers).zip(&point.act).all(|((tier, _), acts)| {
                    larger(tier, Act::Ask(acts.gated))
                        && acts.scored.is_sound(|act| act == Act::Serve || larger(tier, act))
                })
        };
        let fault = if !(1..=MAX_TIERS).contains(&tiers) {
            "it has no tiers, or more than six"
        } else if read.states.len() != all || !read.states.iter().all(|s| s.score.is_sound()) {
            "its scores are not one for each state, or hold what is no number"
        } else if read.in_force >= read.points.len() {
            "the point in force is not among its points"
        } else if !read.points.iter().all(point_is_sound) {
            "a point does not say what to do in each state"
        } else {
            return Ok(read);
        };
        Err(format!("not a calibration: {fault}"))
    }

    /// The point in force.
    #[must_use]
    pub fn point(&self) -> &Point {
        &self.points[self.in_force]
    }

    /// The tier to ask first.
    #[must_use]
    pub fn start(&self, prompt: &Prompt) -> usize {
        let start = &self.point().start;
        let easiness = match &self.prompts {
            Some(easiness) if start.0.len() > 1 => easiness.of(prompt),
            _ => 0.5,
        };
        match start.at(easiness) {
            Act::Ask(tier) => tier,
            Act::Serve => 0,
        }
    }

    /// What to do with a tier's answer that no gate refused.
    #[must_use]
    pub fn act(&self, tier: usize, after: u32, score: Score) -> Act {
        self.cuts(tier, after).at(score.value())
    }

    /// What to do in a state, by score.
    #[must_use]
    pub fn cuts(&self, tier: usize, after: u32) -> &Cuts {
        &self.point().act[state(tier, after)].scored
    }

    /// The tier to ask where a gate refused the answer.
    #[must_use]
    pub fn after_gate(&self, tier: usize, after: u32) -> usize {
        // The last tier has no state, and nothing after it.
        self.point().act.get(state(tier, after)).map_or(tier + 1, |acts| acts.gated)
    }

    /// The score of a tier's answers in a state.
    #[must_use]
    pub fn score(&self, tier: usize, after: u32) -> &Learned {
        &self.states[state(tier, after)].score
    }

    /// Whether the start depends on the prompt, at the point in force.
    #[must_use]
    pub fn reads_prompts(&self) -> bool {
        self.prompts.is_some() && self.point().start.0.len() > 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_numbered_without_gaps() {
        let places: Vec<usize> = all_states(4).map(|(tier, after)| state(tier, after)).collect();
        assert_eq!(places, (0..states(4)).collect::<Vec<_>>());
        assert_eq!(state(1, 0b101), state(1, 0b1), "larger tiers do not count");
        assert_eq!((states(1), states(2)), (0, 1));
    }

    #[test]
    fn a_file_that_is_none_says_why() {
        assert!(Stopping::read("{}").expect_err("empty").starts_with("not a calibration: missing field"));
        assert!(Stopping::read("x").expect_err("no JSON").starts_with("not a calibration: expected value"));
    }
}
