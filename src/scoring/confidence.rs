//! Confidence of a model in its own words, from token logprobs.
//!
//! Quantiles of token logprobs rank answers better than their sum, which
//! mostly measures length (Gupta et al. 2024, "Language model cascades:
//! token-level uncertainty and beyond", section 3).

use super::Score;
use crate::statistics::{mean, quantile};

/// How many token logprobs become one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pool {
    /// The value below which this share, 0..=1, of the tokens lies.
    Quantile(f64),
    /// The least likely token.
    Min,
    /// The mean, that is the logarithm of the inverse perplexity.
    Mean,
}

impl Pool {
    /// `exp` of the pooled logprobs; none without tokens. A logprob that is
    /// not a number counts as the least likely.
    #[must_use]
    pub fn score(&self, logprobs: &[f64]) -> Option<Score> {
        let pooled = match self {
            Self::Quantile(share) => quantile(&mut logprobs.to_vec(), *share)?,
            Self::Min => quantile(&mut logprobs.to_vec(), 0.0)?,
            Self::Mean => mean(logprobs)?,
        };
        // `min` would make 1 of a value that is not a number.
        Score::new(if pooled > 0.0 { 1.0 } else { pooled.exp() }).or(Score::new(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn score(pool: Pool, logprobs: &[f64]) -> f64 {
        pool.score(logprobs).expect("tokens").value()
    }

    #[test]
    fn pools_by_hand() {
        let logprobs = [-0.1, -2.0, -0.3, -0.4, 0.0];
        assert!((score(Pool::Min, &logprobs) - (-2.0f64).exp()).abs() < 1e-12);
        assert!((score(Pool::Mean, &logprobs) - (-0.56f64).exp()).abs() < 1e-12);
        assert!((score(Pool::Quantile(0.5), &logprobs) - (-0.3f64).exp()).abs() < 1e-12);
        // Sorted: -2, -0.4, -0.3, -0.1, 0. Rank 0.1 * 4 = 0.4: -2 + 0.4 * 1.6 = -1.36.
        assert!((score(Pool::Quantile(0.1), &logprobs) - (-1.36f64).exp()).abs() < 1e-12);
    }

    #[test]
    fn no_tokens_no_score_and_odd_numbers_are_no_confidence() {
        assert_eq!(Pool::Mean.score(&[]), None);
        assert!(score(Pool::Quantile(0.1), &[f64::NAN, -0.1]) < 1e-300);
        assert!(score(Pool::Mean, &[f64::NAN]) < 1e-300);
        assert!((score(Pool::Mean, &[0.5]) - 1.0).abs() < 1e-300, "a logprob above 0 is held at 1");
    }
}
