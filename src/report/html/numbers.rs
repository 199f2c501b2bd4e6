//! Numbers as people read them.
//!
//! Invariant: what is unknown reads "n/a", and what is more than nothing never
//! reads as nothing.

use crate::report::study::Estimate;
use crate::report::words::{dollars, percent};
use crate::statistics::resample::Interval;

/// A number, or "n/a".
pub(super) fn known(value: Option<f64>, show: impl Fn(f64) -> String) -> String {
    value.map_or_else(|| "n/a".to_owned(), show)
}

/// A number and its interval: "0.812 [0.790, 0.833]".
pub(super) fn estimate(estimate: &Estimate, show: impl Fn(f64) -> String) -> String {
    let interval = estimate
        .interval
        .map_or_else(|| "n/a".to_owned(), |Interval { low, high }| format!("{}, {}", show(low), show(high)));
    format!("{} [{interval}]", show(estimate.value))
}

/// A difference, and whether it could as well be none.
pub(super) fn difference(between: &Estimate) -> String {
    let is_in_doubt = between.interval.is_some_and(|interval| interval.crosses_zero());
    estimate(between, signed) + if is_in_doubt { ", not significant" } else { "" }
}

/// The same range seen from the other side: what is saved is what is not spent.
pub(super) fn negated(estimate: &Estimate) -> Estimate {
    let interval = estimate.interval.map(|Interval { low, high }| Interval { low: -high, high: -low });
    Estimate { value: -estimate.value, interval }
}

/// A number around 0..=1.
pub(super) fn decimal(value: f64) -> String {
    format!("{value:.3}")
}

/// The same where its sign matters.
pub(super) fn signed(value: f64) -> String {
    format!("{value:+.3}")
}

/// A share where its sign matters.
pub(super) fn signed_percent(share: f64) -> String {
    format!("{}{}", if share > 0.0 { "+" } else { "" }, percent(share))
}

/// Dollars. What a prompt costs may be so little that the digits of a sum would
/// leave nothing of it; then there are as many as it takes for three that count.
pub(super) fn usd(usd: f64) -> String {
    let sign = if usd < 0.0 { "-" } else { "" };
    let amount = usd.abs();
    let (mut digits, mut least) = (6, 1e-4);
    while amount < least && digits < 15 {
        digits += 1;
        least /= 10.0;
    }
    if amount == 0.0 || digits == 6 {
        format!("{sign}${}", dollars(amount))
    } else {
        format!("{sign}${amount:.digits$}")
    }
}

/// Dollars, and what share of a whole they are.
pub(super) fn usd_of(amount: f64, whole: f64) -> String {
    let share = (whole > 0.0).then(|| amount / whole);
    format!("{} ({})", usd(amount), known(share, percent))
}

/// A chance that may be too small to write out.
pub(super) fn p_value(p: f64) -> String {
    if p > 0.0 && p < 1e-4 { "below 0.0001".to_owned() } else { short(p, 4) }
}

/// A number without the zeros at its end.
pub(super) fn short(value: f64, digits: usize) -> String {
    // Adding nothing turns -0 into 0.
    let text = format!("{:.digits$}", value + 0.0);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// The tiers that served some prompt, each with its share.
pub(super) fn served_by(tiers: &[String], shares: &[f64]) -> String {
    let some = tiers.iter().zip(shares).filter(|(_, share)| **share > 0.0);
    some.map(|(tier, share)| format!("{tier} {}", percent(*share))).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn little_is_not_nothing() {
        assert_eq!(usd(0.0), "$0.00");
        assert_eq!(usd(0.000_343), "$0.000343");
        assert_eq!(usd(0.000_000_23), "$0.000000230");
        assert_eq!(usd(-12.5), "-$12.5000");
        assert_eq!(usd_of(1.0, 0.0), "$1.0000 (n/a)");
        assert_eq!(p_value(0.000_01), "below 0.0001");
    }

    #[test]
    fn numbers_are_short_and_say_how_sure_they_are() {
        assert_eq!(short(0.000_03, 12), "0.00003");
        assert_eq!(short(100.0, 12), "100");
        assert_eq!(short(-0.0, 12), "0");
        let sure = Estimate { value: 0.812, interval: Some(Interval { low: 0.79, high: 0.833 }) };
        assert_eq!(estimate(&sure, decimal), "0.812 [0.790, 0.833]");
        assert_eq!(difference(&sure), "+0.812 [+0.790, +0.833]");
        assert_eq!(estimate(&negated(&sure), decimal), "-0.812 [-0.833, -0.790]");
        assert_eq!(estimate(&Estimate { value: 0.5, interval: None }, decimal), "0.500 [n/a]");
        let doubtful = Estimate { value: 0.01, interval: Some(Interval { low: -0.01, high: 0.03 }) };
        assert_eq!(difference(&doubtful), "+0.010 [-0.010, +0.030], not significant");
    }
}
