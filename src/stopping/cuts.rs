//! What to do by where a score lies: ranges, each with an act.

use serde::{Deserialize, Serialize};

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Act {
    /// Serve the answer.
    Serve,
    /// Ask this tier, by place.
    Ask(usize),
}

/// What to do by where a number lies: each act holds below its bound and from
/// the bound before on; the last has none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cuts(pub Vec<(f64, Act)>);

impl Cuts {
    /// The same act everywhere.
    #[must_use]
    pub fn always(act: Act) -> Self {
        Self(vec![(f64::MAX, act)])
    }

    /// The act at a number.
    #[must_use]
    pub fn at(&self, number: f64) -> Act {
        let found = self.0.iter().find(|(bound, _)| number < *bound).or(self.0.last());
        found.map_or(Act::Serve, |(_, act)| *act)
    }

    /// The act at a number and the bounds between which it holds.
    #[must_use]
    pub fn around(&self, number: f64) -> (Act, f64, f64) {
        let at = self.0.iter().position(|(bound, _)| number < *bound).unwrap_or(self.0.len().saturating_sub(1));
        let low = at.checked_sub(1).map_or(0.0, |before| self.0[before].0);
        let (high, act) = self.0.get(at).copied().unwrap_or((1.0, Act::Serve));
        (act, low, high.min(1.0))
    }

    /// The least score at or above `number` from which an answer is served; 1
    /// where there is none.
    #[must_use]
    pub fn served_from(&self, number: f64) -> f64 {
        let mut low = 0.0;
        for (bound, act) in &self.0 {
            if *act == Act::Serve && *bound > number {
                return f64::min(low, 1.0);
            }
            low = *bound;
        }
        1.0
    }

    pub(super) fn is_sound(&self, allows: impl Fn(Act) -> bool) -> bool {
        !self.0.is_empty()
            && self.0.windows(2).all(|w| w[0].0 < w[1].0)
            && self.0.iter().all(|(bound, act)| !bound.is_nan() && allows(*act))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_say_what_to_do_and_until_where() {
        let cuts = Cuts(vec![(0.3, Act::Ask(3)), (0.6, Act::Ask(2)), (f64::MAX, Act::Serve)]);
        assert_eq!(
            [0.0, 0.3, 0.59, 0.6, 1.0].map(|u| cuts.at(u)),
            [Act::Ask(3), Act::Ask(2), Act::Ask(2), Act::Serve, Act::Serve]
        );
        assert_eq!(cuts.around(0.4), (Act::Ask(2), 0.3, 0.6));
        assert!((cuts.served_from(0.1) - 0.6).abs() < 1e-12);
        let hopeless = Cuts(vec![(0.1, Act::Serve), (0.5, Act::Ask(2)), (f64::MAX, Act::Serve)]);
        assert!(hopeless.served_from(0.05).abs() < 1e-12);
        assert!((hopeless.served_from(0.2) - 0.5).abs() < 1e-12);
    }
}
