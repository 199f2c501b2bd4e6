//! What a policy is measured against: who knows every label, and who knows nothing.

use super::study::{Estimate, Shuffled};
use crate::statistics::curve::Point;
use crate::statistics::resample::Interval;
use crate::statistics::{count, mean};

/// Labels and dollars of every tier for one prompt, and the tier that was served;
/// none where all failed.
#[derive(Clone, Copy, Debug)]
pub struct Tiers<'a> {
    /// Labels, smallest tier first.
    pub quality: &'a [f64],
    /// Dollars.
    pub cost: &'a [f64],
    /// The tier served.
    pub served: Option<usize>,
}

/// Per prompt the cheapest way to its best label: asking one tier alone (router),
/// or all tiers up to it (cascade).
#[must_use]
pub fn oracle(rows: &[Tiers<'_>], pays_smaller: bool) -> Point {
    let best = |row: &Tiers<'_>| {
        let most = row.quality.iter().copied().fold(0.0, f64::max);
        let price = |tier: usize| if pays_smaller { row.cost[..=tier].iter().sum::<f64>() } else { row.cost[tier] };
        #[expect(clippy::float_cmp, reason = "the very label that is the highest")]
        let ways = (0..row.quality.len()).filter(|tier| row.quality[*tier] == most);
        (ways.map(price).reduce(f64::min).unwrap_or(0.0), most)
    };
    let n = count(rows.len().max(1));
    let sum = |of: &dyn Fn(&Tiers<'_>) -> f64| rows.iter().map(of).sum::<f64>() / n;
    Point { cost: sum(&|row| best(row).0), quality: sum(&|row| best(row).1) }
}

/// The router oracle at prices of money from low to high; `top` is the mean cost
/// of the largest tier.
#[must_use]
pub fn oracle_points(rows: &[Tiers<'_>], top: f64) -> Vec<Point> {
    let n = count(rows.len().max(1));
    let at = |lambda: f64| {
        let best = |row: &Tiers<'_>| {
            let value = |tier: &usize| row.quality[*tier] - lambda * row.cost[*tier];
            (0..row.quality.len()).max_by(|a, b| value(a).total_cmp(&value(b))).unwrap_or(0)
        };
        let sum = |of: &dyn Fn(&Tiers<'_>) -> f64| rows.iter().map(of).sum::<f64>() / n;
        Point { cost: sum(&|r| r.cost[best(r)]), quality: sum(&|r| r.quality[best(r)]) }
    };
    let top = if top > 0.0 { top } else { 1.0 };
    (0..40).map(|step| at(0.002 * 2000f64.powf(count(step) / 39.0) / top)).collect()
}

/// Served tiers dealt anew at random, as many of each, `times` over: what the same
/// spending would give without any judgement.
#[must_use]
pub fn shuffled(rows: &[Tiers<'_>], quality: f64, times: usize, seed: u64) -> Shuffled {
    let mut served: Vec<Option<usize>> = rows.iter().map(|row| row.served).collect();
    let mut random = fastrand::Rng::with_seed(seed);
    let mut dealt: Vec<f64> = (0..times)
        .map(|_| {
            random.shuffle(&mut served);
            let label = |(row, tier): (&Tiers<'_>, &Option<usize>)| tier.map_or(0.0, |tier| row.quality[tier]);
            rows.iter().zip(&served).map(label).sum::<f64>() / count(rows.len().max(1))
        })
        .collect();
    let value = mean(&dealt).unwrap_or(0.0);
    let interval = Interval::of(&mut dealt);
    Shuffled {
        quality: Estimate { value, interval },
        lift: quality - value,
        is_significant: interval.is_some_and(|i| quality < i.low || quality > i.high),
    }
}

/// Quality gained per dollar over the smallest tier, relative to the largest
/// tier's (delta IBC; `AutoMix`, 2023); none unless both cost more and the largest is
/// better.
#[must_use]
pub fn benefit(policy: Point, weak: Point, top: Point) -> Option<f64> {
    let gain = |p: Point| (p.quality - weak.quality) / (p.cost - weak.cost);
    let means_something = policy.cost > weak.cost && top.cost > weak.cost && top.quality > weak.quality;
    means_something.then(|| gain(policy) / gain(top) - 1.0)
}
