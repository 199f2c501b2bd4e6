//! Dollars, exactly: whole picodollars, so that sums do not depend on their
//! order and replays of two halves add up to the replay of the whole.
//!
//! Invariant: a cost that is not known is [`Cost::UNKNOWN`], never zero.

use std::fmt;
use std::ops::{Add, Sub};

use serde::{Deserialize, Serialize};

use crate::tokens::Tokens;

/// An amount of money in units of 1e-12 US dollars.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Usd(i128);

impl Usd {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    const PER_DOLLAR: f64 = 1e12;

    /// The nearest amount to `dollars`; none unless it is finite.
    #[must_use]
    pub fn from_dollars(dollars: f64) -> Option<Self> {
        #[expect(clippy::cast_possible_truncation, reason = "finite and rounded; i128 saturates")]
        dollars.is_finite().then(|| Self((dollars * Self::PER_DOLLAR).round() as i128))
    }

    /// The amount in dollars, for showing and for ratios.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "shown, not summed")]
    pub fn dollars(self) -> f64 {
        self.0 as f64 / Self::PER_DOLLAR
    }
}

impl Add for Usd {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }
}

impl Sub for Usd {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0 - other.0)
    }
}

/// Trailing zeros are left out, but two digits after the point stay.
impl fmt::Display for Usd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let (whole, rest) = (self.0.unsigned_abs() / 1_000_000_000_000, self.0.unsigned_abs() % 1_000_000_000_000);
        let digits = format!("{rest:012}");
        let kept = digits.trim_end_matches('0').len().max(2);
        write!(f, "{sign}{whole}.{}", &digits[..kept])
    }
}

/// List price of a tier, US dollars per million tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Price {
    /// A million tokens of prompt.
    pub input: Usd,
    /// A million tokens of prompt that the provider had cached.
    pub cached_input: Usd,
    /// A million tokens of answer.
    pub output: Usd,
}

impl Usd {
    /// The amount in picodollars, the unit it is counted in.
    #[must_use]
    pub fn picodollars(self) -> i128 {
        self.0
    }
}

impl Price {
    /// What these tokens cost, rounded down to a picodollar.
    #[must_use]
    pub fn of(&self, tokens: Tokens) -> Usd {
        let fresh = tokens.input.saturating_sub(tokens.cached_input);
        let millionths = self.input.0 * i128::from(fresh)
            + self.cached_input.0 * i128::from(tokens.cached_input)
            + self.output.0 * i128::from(tokens.output);
        Usd(millionths / 1_000_000)
    }
}

/// What an attempt cost, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// The amount; none where neither a price nor a recorded cost is there.
    pub usd: Option<Usd>,
    /// True where tokens were estimated, see [`Tokens::estimated`].
    pub estimated: bool,
}

impl Cost {
    /// Nothing was spent: a cache hit, or a failure before an answer.
    pub const FREE: Self = Self { usd: Some(Usd::ZERO), estimated: false };
    /// Something was spent, nobody knows how much.
    pub const UNKNOWN: Self = Self { usd: None, estimated: false };

    /// An amount known exactly.
    #[must_use]
    pub fn exact(usd: Usd) -> Self {
        Self { usd: Some(usd), estimated: false }
    }

    /// Both costs together; unknown if either is.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self { usd: self.usd.zip(other.usd).map(|(a, b)| a + b), estimated: self.estimated || other.estimated }
    }

    /// The cost of an answer that took `tokens`: by the policy's price where
    /// `usage` was counted, else as recorded, else by the price of an
    /// estimate, else unknown.
    #[must_use]
    pub fn of(price: Option<&Price>, recorded: Option<Usd>, tokens: impl FnOnce() -> Tokens) -> Self {
        let Some(price) = price else {
            return recorded.map_or(Self::UNKNOWN, Self::exact);
        };
        let tokens = tokens();
        match recorded {
            Some(recorded) if tokens.estimated => Self::exact(recorded),
            _ => Self { usd: Some(price.of(tokens)), estimated: tokens.estimated },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usd(dollars: f64) -> Usd {
        Usd::from_dollars(dollars).expect("finite")
    }

    fn tokens(input: u64, cached_input: u64, output: u64, estimated: bool) -> Tokens {
        Tokens { input, cached_input, output, estimated }
    }

    #[test]
    fn prices_are_exact() {
        let price = Price { input: usd(0.05), cached_input: usd(0.005), output: usd(0.4) };
        // By hand: 600 * 0.05 + 400 * 0.005 + 100 * 0.4 = 72 millionths of a dollar.
        assert_eq!(price.of(tokens(1000, 400, 100, false)).to_string(), "0.000072");
    }

    #[test]
    fn amounts_are_shown_with_at_least_two_digits() {
        assert_eq!(usd(1.5).to_string(), "1.50");
        assert_eq!(usd(-0.25).to_string(), "-0.25");
        assert_eq!(usd(0.000_000_4).to_string(), "0.0000004");
        assert_eq!(Usd::from_dollars(f64::NAN), None);
    }

    #[test]
    fn counted_tokens_beat_a_recorded_cost_which_beats_an_estimate() {
        let price = Price { input: usd(1.0), cached_input: usd(1.0), output: usd(1.0) };
        let recorded = Some(usd(7.0));
        let counted = || tokens(1_000_000, 0, 0, false);
        let estimated = || tokens(1_000_000, 0, 0, true);
        assert_eq!(Cost::of(Some(&price), recorded, counted), Cost::exact(usd(1.0)));
        assert_eq!(Cost::of(Some(&price), recorded, estimated), Cost::exact(usd(7.0)));
        assert_eq!(Cost::of(Some(&price), None, estimated), Cost { usd: Some(usd(1.0)), estimated: true });
        assert_eq!(Cost::of(None, recorded, counted), Cost::exact(usd(7.0)));
        assert_eq!(Cost::of(None, None, counted), Cost::UNKNOWN);
    }
}
