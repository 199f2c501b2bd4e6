//! Isotonic regression: the best fit that never falls (pool adjacent
//! violators, Ayer et al. 1955).

use serde::{Deserialize, Serialize};

/// A map from a signal to a chance that never falls: steps, joined by straight
/// lines between the middles of pooled blocks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Isotonic {
    /// Signals, rising.
    x: Vec<f64>,
    /// Chances at them, 0..=1, never falling.
    y: Vec<f64>,
}

impl Isotonic {
    /// Fits pairs of signal and label; none without any. What is not finite is
    /// left out. Blocks are shrunk towards the mean by two labels' worth, so
    /// that a few right answers are no certainty.
    #[must_use]
    pub fn fit(pairs: &[(f64, f64)]) -> Option<Self> {
        const SHRINK: f64 = 2.0;
        let mut pairs: Vec<(f64, f64)> =
            pairs.iter().copied().filter(|(x, y)| x.is_finite() && y.is_finite()).collect();
        pairs.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mean = pairs.iter().map(|(_, y)| y).sum::<f64>() / super::count(pairs.len().max(1));
        let mut blocks: Vec<Block> = Vec::new();
        for (x, y) in pairs {
            match blocks.last_mut() {
                // Equal signals cannot be told apart.
                #[expect(clippy::float_cmp, reason = "the very same signal")]
                Some(last) if last.last_x == x => last.add(&Block::of(x, y)),
                _ => blocks.push(Block::of(x, y)),
            }
            while let [.., before, last] = blocks.as_mut_slice()
                && before.mean() >= last.mean()
            {
                before.add(last);
                blocks.pop();
            }
        }
        if blocks.is_empty() {
            return None;
        }
        let mut y: Vec<f64> = blocks.iter().map(|b| (b.y + SHRINK * mean) / (b.weight + SHRINK)).collect();
        // Shrinking small blocks more than their neighbours may break the order.
        (1..y.len()).for_each(|at| y[at] = y[at].max(y[at - 1]));
        Some(Self { x: blocks.iter().map(|b| b.x / b.weight).collect(), y })
    }

    /// The chance at a signal; flat beyond the ends.
    #[must_use]
    pub fn at(&self, signal: f64) -> f64 {
        let above = self.x.partition_point(|x| *x <= signal);
        let (Some(low), Some(high)) = (above.checked_sub(1), self.x.get(above)) else {
            return self.y[above.min(self.y.len() - 1)];
        };
        let part = (signal - self.x[low]) / (high - self.x[low]);
        self.y[low] + part * (self.y[above] - self.y[low])
    }

    /// The least signal at which a chance is reached; the last one where it never is.
    #[must_use]
    pub fn signal_of(&self, chance: f64) -> f64 {
        let above = self.y.partition_point(|y| *y < chance);
        let (Some(low), Some(high)) = (above.checked_sub(1), self.y.get(above)) else {
            return self.x[above.min(self.x.len() - 1)];
        };
        let part = (chance - self.y[low]) / (high - self.y[low]);
        self.x[low] + part * (self.x[above] - self.x[low])
    }

    /// Whether what was read can be used: as many chances as signals, at least
    /// one, in order.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let rises = |values: &[f64]| values.windows(2).all(|w| w[0] <= w[1]);
        !self.x.is_empty()
            && self.x.len() == self.y.len()
            && self.x.iter().all(|x| x.is_finite())
            && self.y.iter().all(|y| (0.0..=1.0).contains(y))
            && rises(&self.x)
            && rises(&self.y)
    }
}

/// Neighbours that share one mean.
struct Block {
    x: f64,
    last_x: f64,
    y: f64,
    weight: f64,
}

impl Block {
    fn of(x: f64, y: f64) -> Self {
        Self { x, last_x: x, y, weight: 1.0 }
    }

    fn mean(&self) -> f64 {
        self.y / self.weight
    }

    fn add(&mut self, other: &Self) {
        self.x += other.x;
        self.y += other.y;
        self.weight += other.weight;
        self.last_x = other.last_x;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn violators_are_pooled() {
        let labels = [0.0, 1.0, 0.0, 1.0, 1.0];
        let pairs: Vec<(f64, f64)> = labels.iter().enumerate().map(|(x, y)| (super::super::count(x), *y)).collect();
        let fit = Isotonic::fit(&pairs).expect("pairs");
        // Blocks {0}, {1, 0}, {1}, {1}; the last two have equal means and are one.
        assert_eq!(fit.x, [0.0, 1.5, 3.5]);
        assert_eq!(fit.y, [1.2 / 3.0, 2.2 / 4.0, 3.2 / 4.0]);
        assert!((fit.at(-5.0) - 0.4).abs() < 1e-12);
        assert!((fit.at(2.5) - 0.675).abs() < 1e-12);
        assert!((fit.at(9.0) - 0.8).abs() < 1e-12);
        assert!((fit.signal_of(0.675) - 2.5).abs() < 1e-12);
        assert!(fit.is_sound());
        assert_eq!(Isotonic::fit(&[]), None);
    }
}
