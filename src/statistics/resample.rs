//! Drawing rows again: how far a number would move on other prompts.

use std::collections::HashMap;

use serde::Serialize;

use super::quantile;

/// A range that holds the true value 95 times in 100.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Interval {
    /// Its lower end.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
}

impl Interval {
    /// The middle 95 of 100 of these values; none of nothing.
    #[must_use]
    pub fn of(values: &mut [f64]) -> Option<Self> {
        Some(Self { low: quantile(values, 0.025)?, high: quantile(values, 0.975)? })
    }

    /// Whether 0 lies within: no difference is shown.
    #[must_use]
    pub fn crosses_zero(&self) -> bool {
        self.low <= 0.0 && self.high >= 0.0
    }
}

/// Draws whole groups of rows with replacement, as many as there are, `times`
/// over (Efron 1979; by group, Field & Welsh 2007). `measure` gets how often
/// each row was drawn and returns numbers, all in the same order; each gets an
/// interval, none where it was undefined in more than one draw of twenty, or where
/// there are fewer than ten groups to draw from.
///
/// The same draw serves every number, so that differences are paired.
pub fn bootstrap(
    groups: &[u64],
    times: usize,
    seed: u64,
    mut measure: impl FnMut(&[u32]) -> Vec<Option<f64>>,
) -> Vec<Option<Interval>> {
    const FEWEST: usize = 10;
    let mut numbers: HashMap<u64, usize> = HashMap::new();
    let group_of: Vec<usize> = groups
        .iter()
        .map(|group| {
            let next = numbers.len();
            *numbers.entry(*group).or_insert(next)
        })
        .collect();
    if numbers.is_empty() {
        return Vec::new();
    }
    let mut random = fastrand::Rng::with_seed(seed);
    let mut drawn: Vec<Vec<f64>> = Vec::new();
    let mut of_group = vec![0u32; numbers.len()];
    let mut weights = vec![0u32; groups.len()];
    for _ in 0..times {
        of_group.fill(0);
        (0..of_group.len()).for_each(|_| of_group[random.usize(..numbers.len())] += 1);
        weights.iter_mut().zip(&group_of).for_each(|(weight, group)| *weight = of_group[*group]);
        for (at, value) in measure(&weights).into_iter().enumerate() {
            if at == drawn.len() {
                drawn.push(Vec::with_capacity(times));
            }
            drawn[at].extend(value);
        }
    }
    let enough = times - times / 20;
    let is_told = |values: &Vec<f64>| values.len() >= enough && numbers.len() >= FEWEST;
    drawn.into_iter().map(|mut values| Interval::of(&mut values).filter(|_| is_told(&values))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::count;

    #[test]
    fn the_interval_of_a_mean_is_that_of_the_normal() {
        let values: Vec<f64> = (0..400).map(|i| f64::from(i % 2)).collect();
        let groups: Vec<u64> = (0..400).collect();
        let mean = |weights: &[u32]| {
            let sum: f64 = weights.iter().zip(&values).map(|(w, v)| f64::from(*w) * v).sum();
            vec![Some(sum / count(values.len()))]
        };
        let interval = bootstrap(&groups, 2000, 1, mean)[0].expect("defined");
        // 0.5 +- 1.96 * sqrt(0.25 / 400).
        assert!((interval.low - 0.451).abs() < 0.004 && (interval.high - 0.549).abs() < 0.004, "{interval:?}");
        assert!(!interval.crosses_zero());
        assert_eq!(bootstrap(&groups, 2000, 1, mean), bootstrap(&groups, 2000, 1, mean));
    }

    #[test]
    fn rows_of_one_conversation_are_drawn_together() {
        let groups = [5, 5, 5, 9];
        bootstrap(&groups, 50, 3, |weights| {
            assert!(weights[0] == weights[1] && weights[1] == weights[2]);
            assert_eq!(weights[0] + weights[3], 2);
            vec![]
        });
    }
}
