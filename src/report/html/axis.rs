//! Axes of plots: where a number lies, and which numbers to write beside it.
//!
//! Invariant: both ends are finite and differ, so that every number has a place.

/// Costs that differ by more than this factor are laid out by factors.
const LOGARITHMIC_FROM: f64 = 20.0;

/// A range of numbers laid along a stretch of the picture.
#[derive(Clone, Copy, Debug)]
pub(super) struct Axis {
    low: f64,
    high: f64,
    /// Whether equal factors, not equal differences, are equally far apart.
    pub is_logarithmic: bool,
    /// Where `low` lies.
    pub start: f64,
    /// Where `high` lies.
    pub end: f64,
}

impl Axis {
    /// From 0 to 1.
    pub(super) fn of_unit(start: f64, end: f64) -> Self {
        Self { low: 0.0, high: 1.0, is_logarithmic: false, start, end }
    }

    /// With room for these costs.
    pub(super) fn of_costs(costs: &[f64], start: f64, end: f64) -> Self {
        let (least, most) = ends(costs);
        // What is free has no place among factors.
        if least > 0.0 && most / least > LOGARITHMIC_FROM {
            return Self { low: least / 1.5, high: most * 1.5, is_logarithmic: true, start, end };
        }
        let room = if most > least { (most - least) * 0.08 } else { (most * 0.1).max(1e-9) };
        let low = if least < most / 3.0 { 0.0 } else { (least - room).max(0.0) };
        Self { low, high: most + room, is_logarithmic: false, start, end }
    }

    /// With room for these qualities, and no more: policies worth comparing are
    /// close together. The ends are numbers that get written.
    pub(super) fn of_qualities(qualities: &[f64], start: f64, end: f64) -> Self {
        let (least, most) = ends(qualities);
        let room = ((most - least) * 0.08).max(0.02);
        let low = (least - room).clamp(0.0, 0.98);
        let high = (most + room).clamp(low + 0.02, 1.0);
        let step = step(high - low);
        let (low, high) = ((low / step).floor() * step, ((high / step).ceil() * step).min(1.0));
        Self { low, high, is_logarithmic: false, start, end }
    }

    /// Where a number lies; beyond the ends, at the nearer one.
    pub(super) fn at(&self, value: f64) -> f64 {
        let part = if self.is_logarithmic {
            (value / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        };
        self.start + part.clamp(0.0, 1.0) * (self.end - self.start)
    }

    /// The numbers to write: some five, and round.
    pub(super) fn ticks(&self) -> Vec<f64> {
        if self.is_logarithmic {
            return self.ticks_by_factors();
        }
        let step = step(self.high - self.low);
        let first = (self.low / step - 1e-6).ceil();
        let all = (0..20).map(|n| (first + f64::from(n)) * step);
        all.take_while(|tick| *tick <= self.high + step * 1e-6).collect()
    }

    /// As many per power of ten as there is room to write.
    fn ticks_by_factors(&self) -> Vec<f64> {
        const ROOM: f64 = 72.0;
        let power = (self.end - self.start).abs() / (self.high / self.low).log10();
        let leading: &[f64] = if power * 2f64.log10() >= ROOM {
            &[1.0, 2.0, 5.0]
        } else if power * 3f64.log10() >= ROOM {
            &[1.0, 3.0]
        } else {
            &[1.0]
        };
        let first = self.low.log10().floor();
        let powers = (0..40).map(|n| 10f64.powf(first + f64::from(n)));
        let all = powers.flat_map(|power| leading.iter().map(move |digit| digit * power));
        all.filter(|tick| (self.low..=self.high).contains(tick)).collect()
    }
}

/// The least and the most of what is finite.
fn ends(values: &[f64]) -> (f64, f64) {
    let finite = || values.iter().copied().filter(|v| v.is_finite());
    let least = finite().fold(f64::INFINITY, f64::min);
    let most = finite().fold(f64::NEG_INFINITY, f64::max);
    if least.is_finite() { (least, most) } else { (0.0, 1.0) }
}

/// 1, 2 or 5 times a power of ten, so that some five of them make up the span.
fn step(span: f64) -> f64 {
    let rough = span / 5.0;
    let power = 10f64.powf(rough.log10().floor());
    [1.0, 2.0, 5.0].into_iter().map(|digit| digit * power).find(|step| *step >= rough).unwrap_or(10.0 * power)
}

#[cfg(test)]
mod tests {
    use super::super::numbers::short;
    use super::*;

    fn written(axis: &Axis) -> Vec<String> {
        axis.ticks().into_iter().map(|tick| short(tick, 12)).collect()
    }

    #[test]
    fn costs_far_apart_are_laid_out_by_factors() {
        let near = Axis::of_costs(&[0.001, 0.019], 0.0, 500.0);
        assert!(!near.is_logarithmic);
        assert_eq!(written(&near), ["0", "0.005", "0.01", "0.015", "0.02"]);
        let far = Axis::of_costs(&[0.000_02, 0.001], 0.0, 500.0);
        assert!(far.is_logarithmic);
        assert_eq!(written(&far), ["0.00002", "0.00005", "0.0001", "0.0002", "0.0005", "0.001"]);
        assert!((far.at(0.000_2) - far.at(0.000_1) - (far.at(0.000_4) - far.at(0.000_2))).abs() < 1e-9);
        assert!(!Axis::of_costs(&[0.0, 1.0], 0.0, 500.0).is_logarithmic);
    }

    #[test]
    fn qualities_stay_within_their_bounds() {
        assert_eq!(written(&Axis::of_qualities(&[0.5, 0.96], 0.0, 400.0)), ["0.4", "0.6", "0.8", "1"]);
        for alike in [0.0, 0.5, 1.0] {
            let axis = Axis::of_qualities(&[alike], 0.0, 400.0);
            assert!(axis.low < axis.high && axis.low >= 0.0 && axis.high <= 1.0, "{axis:?}");
            assert!(axis.at(alike).is_finite());
        }
    }

    #[test]
    fn nothing_has_places_too() {
        for axis in [Axis::of_costs(&[], 0.0, 500.0), Axis::of_costs(&[0.0], 0.0, 500.0)] {
            assert!(axis.at(0.0).is_finite() && !axis.ticks().is_empty(), "{axis:?}");
        }
    }
}
