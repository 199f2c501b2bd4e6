//! Numbers about labelled answers: tests, fits, curves, resampling.
//!
//! Invariant: pure, and seeded where chance comes in: the same rows and the same
//! seed give the same numbers on every machine.

pub mod betting;
pub mod binomial;
pub mod curve;
pub mod isotonic;
pub mod linear;
pub mod logistic;
pub mod ranking;
pub mod resample;

/// A count as a number. Exact below 2^53, which no count here reaches.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "counts of rows are far below 2^53")]
pub fn count(n: usize) -> f64 {
    n as f64
}

/// The mean; none of nothing.
#[must_use]
pub fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / count(values.len()))
}

/// The quantile by linear interpolation between order statistics (Hyndman &
/// Fan 1996, type 7); none of nothing. `values` come out in another order, and
/// what is not a number counts as the least.
#[must_use]
pub fn quantile(values: &mut [f64], share: f64) -> Option<f64> {
    if values.is_empty() {
        return None;
    }
    values.iter_mut().filter(|v| v.is_nan()).for_each(|v| *v = f64::NEG_INFINITY);
    let rank = share.clamp(0.0, 1.0) * count(values.len() - 1);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and the length")]
    let below = rank.floor() as usize;
    let (_, low, above) = values.select_nth_unstable_by(below, f64::total_cmp);
    let low = *low;
    let part = rank - rank.floor();
    if part == 0.0 || !low.is_finite() {
        return Some(low);
    }
    let high = above.iter().copied().fold(f64::INFINITY, f64::min);
    Some(low + part * (high - low))
}

/// `1 / (1 + exp(-x))`.
#[must_use]
pub fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// The inverse of [`sigmoid`], held within ±30 at its ends.
#[must_use]
pub fn logit(p: f64) -> f64 {
    (p / (1.0 - p)).ln().clamp(-30.0, 30.0)
}
