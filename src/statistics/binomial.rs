//! Tests of a mean against a bound, exact for losses of 0 and 1.
//!
//! Each p-value is for H0: the mean loss is above `bound`. Small means: it is
//! not. (Angelopoulos et al. 2021, "Learn then Test", sections 2.2 and 3.)

use statrs::function::beta::beta_reg;

use super::count;

/// P(X <= k) for X binomial with `n` trials of chance `p`.
#[must_use]
pub fn binomial_cdf(k: usize, n: usize, p: f64) -> f64 {
    match p {
        _ if k >= n => 1.0,
        p if p <= 0.0 => 1.0,
        p if p >= 1.0 => 0.0,
        p => beta_reg(count(n - k), count(k) + 1.0, 1.0 - p),
    }
}

/// The p-value of `k` losses of 1 among `n` of 0 or 1 (Clopper & Pearson 1934).
#[must_use]
pub fn exact_p(k: usize, n: usize, bound: f64) -> f64 {
    if n == 0 { 1.0 } else { binomial_cdf(k, n, bound) }
}

/// The p-value of losses in 0..=1 by their mean alone (Hoeffding-Bentkus;
/// Bates et al. 2021, "Distribution-free, risk-controlling prediction sets").
#[must_use]
pub fn hoeffding_bentkus_p(mean: f64, n: usize, bound: f64) -> f64 {
    if n == 0 || mean >= bound || bound <= 0.0 {
        return 1.0;
    }
    if bound >= 1.0 {
        return 0.0;
    }
    let entropy = |x: f64, b: f64| {
        let part = |x: f64, b: f64| if x <= 0.0 { 0.0 } else { x * (x / b).ln() };
        part(x, b) + part(1.0 - x, 1.0 - b)
    };
    let hoeffding = (-count(n) * entropy(mean, bound)).exp();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and n")]
    let losses = (count(n) * mean - 1e-9).ceil().max(0.0) as usize;
    hoeffding.min(std::f64::consts::E * binomial_cdf(losses, n, bound)).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cdf_equals_the_sum_of_its_terms() {
        for (k, n, p) in [(0usize, 10usize, 0.3f64), (3, 10, 0.3), (9, 10, 0.5), (2, 100, 0.05)] {
            let choose = |k: usize| (0..k).fold(1.0, |c, i| c * count(n - i) / count(i + 1));
            let term = |i: usize| choose(i) * p.powf(count(i)) * (1.0 - p).powf(count(n - i));
            let sum: f64 = (0..=k).map(term).sum();
            assert!((binomial_cdf(k, n, p) - sum).abs() < 1e-12, "{k} {n} {p}");
        }
        assert!((binomial_cdf(10, 10, 0.3) - 1.0).abs() < 1e-15);
    }

    #[test]
    fn without_any_loss_the_rule_of_three_holds() {
        // Hanley & Lippman-Hand 1983: nothing lost in n rows shows a bound of about 3/n.
        assert!(exact_p(0, 300, 0.0100) < 0.05 && exact_p(0, 300, 0.0099) > 0.05);
        assert!((exact_p(0, 0, 0.5) - 1.0).abs() < 1e-15, "no row shows nothing");
    }

    #[test]
    fn hoeffding_bentkus_is_more_careful_than_the_exact_test() {
        for (k, n, bound) in [(0, 150, 0.02), (2, 300, 0.03), (10, 300, 0.06)] {
            assert!(hoeffding_bentkus_p(count(k) / count(n), n, bound) >= exact_p(k, n, bound));
        }
        assert!((hoeffding_bentkus_p(0.05, 100, 0.02) - 1.0).abs() < 1e-15);
        // Without any loss both of its parts are known: (1 - b)^n is the lesser.
        assert!((hoeffding_bentkus_p(0.0, 150, 0.02) - 0.98f64.powi(150)).abs() < 1e-12);
    }
}
