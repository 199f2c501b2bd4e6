//! Cost against quality: what mixing policies can reach, and where.

use serde::Serialize;

/// A policy's mean cost and mean quality.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Point {
    /// Mean cost of a prompt, in dollars.
    pub cost: f64,
    /// Mean label, 0..=1.
    pub quality: f64,
}

/// The non-decreasing convex hull of points (Hu et al. 2024, "`RouterBench`"):
/// all that can be reached by tossing a coin between two of them.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Hull(Vec<Point>);

impl Hull {
    /// The hull; none of nothing.
    #[must_use]
    pub fn of(points: &[Point]) -> Option<Self> {
        let mut points: Vec<Point> =
            points.iter().copied().filter(|p| p.cost.is_finite() && p.quality.is_finite()).collect();
        points.sort_by(|a, b| a.cost.total_cmp(&b.cost).then(b.quality.total_cmp(&a.quality)));
        let mut hull: Vec<Point> = Vec::new();
        for point in points {
            if hull.last().is_some_and(|last| point.quality <= last.quality) {
                continue;
            }
            while let [.., a, b] = hull.as_slice()
                && (b.quality - a.quality) * (point.cost - a.cost) <= (point.quality - a.quality) * (b.cost - a.cost)
            {
                hull.pop();
            }
            hull.push(point);
        }
        (!hull.is_empty()).then_some(Self(hull))
    }

    /// Its corners, cheapest first.
    #[must_use]
    pub fn corners(&self) -> &[Point] {
        &self.0
    }

    /// The quality at a cost: flat beyond both ends.
    #[must_use]
    pub fn quality_at(&self, cost: f64) -> f64 {
        let above = self.0.partition_point(|p| p.cost <= cost);
        match (above.checked_sub(1).map(|at| self.0[at]), self.0.get(above)) {
            (Some(low), Some(high)) => {
                low.quality + (high.quality - low.quality) * (cost - low.cost) / (high.cost - low.cost)
            }
            (Some(end), None) => end.quality,
            (None, _) => self.0[0].quality,
        }
    }

    /// The least cost at which a quality is reached; none where it never is.
    #[must_use]
    pub fn cost_of(&self, quality: f64) -> Option<f64> {
        const ROUNDING: f64 = 1e-12;
        let above = self.0.partition_point(|p| p.quality < quality - ROUNDING);
        let high = self.0.get(above)?;
        let Some(low) = above.checked_sub(1).map(|at| self.0[at]) else { return Some(high.cost) };
        let part = ((quality - low.quality) / (high.quality - low.quality)).min(1.0);
        Some(low.cost + part * (high.cost - low.cost))
    }

    /// The mean quality over costs from `from` to `to` (AIQ); none where they
    /// are no interval.
    #[must_use]
    pub fn mean_quality(&self, from: f64, to: f64) -> Option<f64> {
        if to <= from {
            return None;
        }
        let inside = self.0.iter().map(|p| p.cost).filter(|c| (from..to).contains(c));
        let stops: Vec<f64> = std::iter::once(from).chain(inside).chain([to]).collect();
        let area = |w: &[f64]| (w[1] - w[0]) * f64::midpoint(self.quality_at(w[0]), self.quality_at(w[1]));
        Some(stops.windows(2).map(area).sum::<f64>() / (to - from))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hull_by_hand() {
        let point = |cost: f64, quality: f64| Point { cost, quality };
        let hull = Hull::of(&[point(4.0, 0.8), point(1.0, 0.5), point(2.0, 0.55), point(3.0, 0.8), point(9.0, 0.7)]);
        let hull = hull.expect("points");
        assert_eq!(hull.corners(), [point(1.0, 0.5), point(3.0, 0.8)]);
        assert!((hull.quality_at(2.0) - 0.65).abs() < 1e-12);
        assert!((hull.quality_at(0.0) - 0.5).abs() < 1e-12);
        assert_eq!(hull.cost_of(0.8), Some(3.0));
        assert_eq!(hull.cost_of(0.81), None);
        assert_eq!(hull.cost_of(0.1), Some(1.0));
        // (0.5..0.8 over 1..3, then flat to 5): (0.65 * 2 + 0.8 * 2) / 4.
        assert!((hull.mean_quality(1.0, 5.0).expect("an interval") - 0.725).abs() < 1e-12);
    }
}
