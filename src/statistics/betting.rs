//! Tests of a mean by betting against it (Waudby-Smith & Ramdas 2024,
//! "Estimating means of bounded random variables by betting").
//!
//! A gambler's wealth cannot be expected to grow while the hypothesis holds,
//! so 1 / wealth is a p-value, at any time one looks.

use super::count;

/// Bets as large as the variance seen so far suggests.
#[derive(Clone, Copy, Debug)]
struct Stakes {
    seen: usize,
    sum: f64,
    squares: f64,
}

impl Stakes {
    fn new() -> Self {
        Self { seen: 0, sum: 0.0, squares: 0.0 }
    }

    /// The variance before the next loss, 1/4 at first.
    fn variance(&self) -> f64 {
        (0.25 + self.squares) / count(self.seen + 1)
    }

    fn add(&mut self, loss: f64) {
        self.seen += 1;
        self.sum += loss;
        let mean = (0.5 + self.sum) / count(self.seen + 1);
        self.squares += (loss - mean).powi(2);
    }
}

/// The p-value of losses in 0..=1, in an order fixed before looking, for H0:
/// their mean is above `bound`. `delta` only sets how large the bets are.
#[must_use]
pub fn betting_p(losses: &[f64], bound: f64, delta: f64) -> f64 {
    if bound >= 1.0 {
        return 0.0;
    }
    let mut stakes = Stakes::new();
    let scale = 2.0 * (1.0 / delta).ln() / count(losses.len());
    let (mut log_wealth, mut most) = (0.0f64, 0.0f64);
    for &loss in losses {
        let bet = (0.99 / (1.0 - bound)).min((scale / stakes.variance()).sqrt());
        log_wealth += (-bet * (loss - bound)).ln_1p();
        most = most.max(log_wealth);
        stakes.add(loss);
    }
    (-most).exp()
}

/// Watches losses one by one for a mean above `bound`: the wealth of gamblers who
/// bet on it. Once it reaches `1 / delta` the alarm is false with a chance of at most
/// `delta`, however long one has watched.
///
/// One gambler alone would lose all while all is well, and take as long to win it
/// back. So one begins every 25 losses, the `k`th with `1 / (k (k + 1))` of
/// the money, which adds up to 1: their sum is a fair game still.
#[derive(Clone, Debug)]
pub struct Watch {
    bound: f64,
    delta: f64,
    seen: usize,
    begun: usize,
    gamblers: Vec<Gambler>,
    is_raised: bool,
}

/// How often another gambler begins.
const EVERY: usize = 25;
/// Most at the table; the oldest leaves, with what it has.
const MOST: usize = 64;

#[derive(Clone, Copy, Debug)]
struct Gambler {
    log_wealth: f64,
    stakes: Stakes,
}

impl Watch {
    /// Nothing seen yet. `bound` and `delta` are in 0..1, both ends left out.
    #[must_use]
    pub fn new(bound: f64, delta: f64) -> Self {
        Self { bound, delta, seen: 0, begun: 0, gamblers: Vec::new(), is_raised: false }
    }

    /// Adds one loss in 0..=1; returns whether the alarm is raised. It stays.
    pub fn add(&mut self, loss: f64) -> bool {
        if self.seen.is_multiple_of(EVERY) {
            self.begun += 1;
            let share = 1.0 / (count(self.begun) * count(self.begun + 1));
            self.gamblers.push(Gambler { log_wealth: share.ln(), stakes: Stakes::new() });
            if self.gamblers.len() > MOST {
                self.gamblers.remove(0);
            }
        }
        self.seen += 1;
        // As in `betting_p`, with the length growing along (their section 4.2).
        let scale = 2.0 * (1.0 / self.delta).ln();
        for gambler in &mut self.gamblers {
            let seen = count(gambler.stakes.seen + 1);
            let stake = (0.5 / self.bound).min((scale / (gambler.stakes.variance() * seen * seen.ln_1p())).sqrt());
            gambler.log_wealth += (stake * (loss - self.bound)).ln_1p();
            gambler.stakes.add(loss);
        }
        self.is_raised |= self.wealth() >= 1.0 / self.delta;
        self.is_raised
    }

    /// The wealth of all, 1 at first.
    #[must_use]
    pub fn wealth(&self) -> f64 {
        // What nobody has begun to bet with yet.
        let kept = 1.0 / count(self.begun + 1);
        kept + self.gamblers.iter().map(|gambler| gambler.log_wealth.exp()).sum::<f64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Losses of 0 or 1 with this mean.
    fn losses(mean: f64, n: usize, seed: u64) -> Vec<f64> {
        let mut random = fastrand::Rng::with_seed(seed);
        (0..n).map(|_| f64::from(u8::from(random.f64() < mean))).collect()
    }

    #[test]
    fn the_first_bets_by_hand() {
        // a = 0.5, delta = 0.05, n = 2: bets sqrt(2 ln 20 / (2 * 1/4)) held at 0.99/0.5.
        let first: f64 = 1.0 + 1.98 * 0.5;
        assert!((betting_p(&[0.0, 1.0], 0.5, 0.05) - 1.0 / first).abs() < 1e-12);
        assert!((betting_p(&[1.0, 1.0], 0.5, 0.05) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn a_mean_at_the_bound_passes_no_more_often_than_it_may() {
        let passed = (0..2000).filter(|seed| betting_p(&losses(0.1, 200, *seed), 0.1, 0.05) <= 0.05).count();
        // 0.05 and three standard errors of 2,000 draws.
        assert!(count(passed) / 2000.0 <= 0.05 + 3.0 * (0.05f64 * 0.95 / 2000.0).sqrt(), "{passed}");
        let passed = (0..200).filter(|seed| betting_p(&losses(0.02, 400, *seed), 0.1, 0.05) <= 0.05).count();
        assert!(passed > 190, "what is far below is found: {passed}");
    }

    #[test]
    fn the_watch_is_quiet_while_all_is_well_and_then_is_not() {
        let raised = |mean: f64, n: usize| {
            let alarm = |seed: &u64| {
                let mut watch = Watch::new(0.05, 0.05);
                losses(mean, n, *seed).into_iter().any(|loss| watch.add(loss))
            };
            (0..500).filter(alarm).count()
        };
        assert!(count(raised(0.05, 2000)) / 500.0 <= 0.05 + 3.0 * (0.05f64 * 0.95 / 500.0).sqrt());
        assert!(raised(0.15, 2000) > 490);
        // After a thousand good ones it is found as well.
        let mut watch = Watch::new(0.05, 0.05);
        assert!(!losses(0.02, 1000, 1).into_iter().any(|loss| watch.add(loss)));
        let late = losses(0.4, 200, 2).into_iter().position(|loss| watch.add(loss)).expect("found");
        assert!(late < 100, "{late}");
    }
}
