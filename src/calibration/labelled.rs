//! Rows with their scores, and what a policy would have made of them.

use crate::outcomes::Row;
use crate::statistics::binomial::hoeffding_bentkus_p;
use crate::statistics::count;
use crate::stopping::{Act, Point, state};

/// Labelled rows by column: what is read over and over.
#[derive(Clone, Debug, Default)]
pub struct Labelled {
    /// How many tiers there are.
    pub tiers: usize,
    /// Labels, by tier and row.
    pub quality: Vec<Vec<f64>>,
    /// Dollars, by tier and row.
    pub cost: Vec<Vec<f64>>,
    /// How far answers differ from the largest tier's, by tier and row.
    pub differs: Vec<Vec<f64>>,
    /// Whether a gate refused the answer, by tier and row.
    pub refused: Vec<Vec<bool>>,
    /// Scores, by state and row.
    pub chance: Vec<Vec<f64>>,
    /// How easy each prompt is, where that is known.
    pub easiness: Option<Vec<f64>>,
}

/// What became of one row under a policy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Walked {
    /// The tier served.
    pub tier: usize,
    /// The tiers asked, a bit each.
    pub asked: u32,
    /// Its label.
    pub quality: f64,
    /// Dollars for all tiers asked.
    pub cost: f64,
}

impl Labelled {
    /// Puts rows and their scores together; `chance` by state and row.
    #[must_use]
    pub fn new(rows: &[&Row], tiers: usize, chance: Vec<Vec<f64>>, easiness: Option<Vec<f64>>) -> Self {
        let by_tier = |of: &dyn Fn(&Row, usize) -> f64| -> Vec<Vec<f64>> {
            (0..tiers).map(|tier| rows.iter().map(|row| of(row, tier)).collect()).collect()
        };
        Self {
            tiers,
            quality: by_tier(&|row, tier| row.quality[tier]),
            cost: by_tier(&|row, tier| row.cost[tier]),
            differs: by_tier(&|row, tier| row.differs[tier]),
            refused: (0..tiers).map(|tier| rows.iter().map(|row| row.refused[tier]).collect()).collect(),
            chance,
            easiness,
        }
    }

    /// How many rows there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.quality.first().map_or(0, Vec::len)
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What becomes of a row: the same lookups as while serving.
    #[must_use]
    pub fn walk(&self, point: &Point, row: usize) -> Walked {
        let easiness = self.easiness.as_ref().map_or(0.5, |easiness| easiness[row]);
        let Act::Ask(mut tier) = point.start.at(easiness) else { unreachable!("a start asks a tier") };
        let (mut asked, mut cost) = (0u32, 0.0);
        loop {
            cost += self.cost[tier][row];
            let after = asked;
            asked |= 1 << tier;
            let served = Walked { tier, asked, quality: self.quality[tier][row], cost };
            if tier + 1 == self.tiers {
                return served;
            }
            let place = state(tier, after);
            let acts = &point.act[place];
            tier = if self.refused[tier][row] {
                acts.gated
            } else {
                match acts.scored.at(self.chance[place][row]) {
                    Act::Serve => return served,
                    Act::Ask(next) => next,
                }
            };
        }
    }

    /// The least bound on how far a point's answers differ from the largest tier's on
    /// average, with 95 in 100 sureness.
    #[must_use]
    pub fn differs(&self, point: &Point) -> f64 {
        const STEPS: usize = 30;
        let top = self.tiers - 1;
        let differs = |row| {
            let tier = self.walk(point, row).tier;
            if tier == top { 0.0 } else { self.differs[tier][row] }
        };
        let mean = (0..self.len()).map(differs).sum::<f64>() / count(self.len().max(1));
        let (mut low, mut high) = (mean, 1.0);
        for _ in 0..STEPS {
            let middle = f64::midpoint(low, high);
            let holds = hoeffding_bentkus_p(mean, self.len(), middle) <= 0.05;
            if holds { high = middle } else { low = middle }
        }
        high
    }

    /// The point with its mean cost and quality on these rows.
    #[must_use]
    pub fn measured(&self, point: Point) -> Point {
        let (mut cost, mut quality) = (0.0, 0.0);
        for row in 0..self.len() {
            let walked = self.walk(&point, row);
            cost += walked.cost;
            quality += walked.quality;
        }
        let n = count(self.len().max(1));
        Point { cost: cost / n, quality: quality / n, ..point }
    }
}
