//! How far down a path one may go: a test on rows that had no part in making it.
//!
//! Fixed-sequence testing (Angelopoulos et al. 2021, "Learn then Test", section
//! 3.3): the points are tested from the safest on at full level, and the first
//! failure ends it, so that the chance of any broken promise stays below delta.

use super::Labelled;
use crate::statistics::{betting, binomial, count, mean};
use crate::stopping::{Method, Point};

/// What is to be promised.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Target {
    /// At least this share of the largest tier's quality is kept.
    Keep(f64),
    /// At most this much quality is lost against the largest tier.
    MaxLoss(f64),
    /// A prompt costs at most this many dollars on average.
    Budget(f64),
}

impl Target {
    /// The promise in words.
    #[must_use]
    pub fn words(&self) -> String {
        match self {
            Self::Keep(share) => format!("at least {share} of the largest tier's quality is kept"),
            Self::MaxLoss(loss) => format!("at most {loss} of quality is lost against the largest tier"),
            Self::Budget(usd) => format!("a prompt costs at most ${usd} on average"),
        }
    }

    /// The number promised.
    #[must_use]
    pub fn bound(&self) -> f64 {
        match self {
            Self::Keep(number) | Self::MaxLoss(number) | Self::Budget(number) => *number,
        }
    }
}

/// Losses of one point, as a test takes them: numbers in 0..=1, and the bound on
/// their mean.
#[derive(Clone, Debug)]
struct Losses {
    each: Vec<f64>,
    bound: f64,
}

impl Losses {
    fn p(&self, method: Method, delta: f64) -> f64 {
        let n = self.each.len();
        match method {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a sum of ones, rounded up")]
            Method::ClopperPearson => binomial::exact_p(self.each.iter().sum::<f64>().ceil() as usize, n, self.bound),
            Method::HoeffdingBentkus => binomial::hoeffding_bentkus_p(mean(&self.each).unwrap_or(1.0), n, self.bound),
            Method::Betting => betting::betting_p(&self.each, self.bound, delta),
        }
    }
}

/// A test of points against a target on some rows.
#[derive(Clone, Copy, Debug)]
pub struct Test<'a> {
    /// The rows; in an order that a seed fixed before anybody looked.
    pub rows: &'a Labelled,
    /// What is to be promised.
    pub target: Target,
    /// The chance that it does not hold.
    pub delta: f64,
    /// The most a prompt may cost; dearer ones count as this dear.
    pub most_usd: f64,
}

/// How far the test went.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Passed {
    /// The last point that passed.
    pub point: usize,
    /// Its p-value; 0 for a point whose loss is nothing by what it is.
    pub p_value: f64,
}

impl Test<'_> {
    /// The p-value of a point: small where the promise holds.
    #[must_use]
    pub fn p(&self, point: &Point, method: Method) -> f64 {
        self.losses(point, method).map_or(1.0, |losses| losses.p(method, self.delta))
    }

    /// The methods that can test this target on these rows.
    #[must_use]
    pub fn methods(&self) -> Vec<Method> {
        let is_binary = self.rows.quality.iter().flatten().all(|q| [0.0, 1.0].contains(q));
        match self.target {
            Target::Budget(_) => vec![Method::Betting],
            _ if is_binary => vec![Method::ClopperPearson, Method::Betting],
            _ => vec![Method::HoeffdingBentkus, Method::Betting],
        }
    }

    /// Tests points in order from the first on; none where not even that passes.
    /// A point that only asks the largest tier loses nothing, whatever the rows.
    #[must_use]
    pub fn descend(&self, points: &[Point], method: Method) -> Option<Passed> {
        let mut passed = None;
        for (at, point) in points.iter().enumerate() {
            let p_value = if self.is_trivial(point) { 0.0 } else { self.p(point, method) };
            if p_value > self.delta {
                break;
            }
            passed = Some(Passed { point: at, p_value });
        }
        passed
    }

    fn is_trivial(&self, point: &Point) -> bool {
        !matches!(self.target, Target::Budget(_)) && point.lambda == 0.0
    }

    /// None where the target cannot be put as losses for this method.
    fn losses(&self, point: &Point, method: Method) -> Option<Losses> {
        let rows = self.rows;
        let top = &rows.quality[rows.tiers - 1];
        let walked = || (0..rows.len()).map(|row| (rows.walk(point, row), top[row]));
        let positive =
            |bound: f64| Losses { each: walked().map(|(w, top)| (top - w.quality).max(0.0)).collect(), bound };
        Some(match (self.target, method) {
            (Target::MaxLoss(bound), Method::ClopperPearson | Method::HoeffdingBentkus) => positive(bound),
            // top - served in -1..=1, moved to 0..=1.
            (Target::MaxLoss(bound), Method::Betting) => Losses {
                each: walked().map(|(w, top)| f64::midpoint(top - w.quality, 1.0)).collect(),
                bound: f64::midpoint(bound, 1.0),
            },
            // Among what the largest tier gets right, the share that is lost.
            (Target::Keep(share), Method::ClopperPearson) => Losses {
                each: walked().filter(|(_, top)| *top > 0.5).map(|(w, _)| 1.0 - w.quality).collect(),
                bound: 1.0 - share,
            },
            // share * top - served in -1..=share, at most 0 on average.
            (Target::Keep(share), Method::HoeffdingBentkus | Method::Betting) => Losses {
                each: walked().map(|(w, top)| (share * top - w.quality + 1.0) / (1.0 + share)).collect(),
                bound: 1.0 / (1.0 + share),
            },
            (Target::Budget(usd), Method::Betting) if self.most_usd > usd => Losses {
                each: walked().map(|(w, _)| w.cost.min(self.most_usd) / self.most_usd).collect(),
                bound: usd / self.most_usd,
            },
            // Nothing costs that much.
            (Target::Budget(usd), Method::Betting) if self.most_usd > 0.0 => {
                Losses { each: vec![0.0; rows.len()], bound: (usd / self.most_usd).min(1.0) }
            }
            (Target::Budget(_), _) => return None,
        })
    }

    /// About how many rows it would take for a point to pass, were further rows
    /// like these; none where it would never.
    #[must_use]
    pub fn rows_needed(&self, point: &Point, method: Method) -> Option<usize> {
        const MOST: usize = 200;
        let losses = self.losses(point, method)?;
        if losses.each.is_empty() || mean(&losses.each)? >= losses.bound {
            return None;
        }
        let times = (1..=MOST).find(|times| {
            let each = losses.each.repeat(*times);
            Losses { each, bound: losses.bound }.p(method, self.delta) <= self.delta
        })?;
        Some(times * self.rows.len())
    }
}

/// The least share that must go on to a larger tier where always serving a tier
/// would lose `loss` against the largest and only `bound` may be lost.
#[must_use]
pub fn least_escalated(loss: f64, bound: f64) -> f64 {
    if loss <= bound { 0.0 } else { (loss - bound) / (1.0 - bound) }
}

/// The test that goes furthest down a path, judged on rows that are not tested
/// (the promise holds whichever is chosen there), stretched to as many rows as
/// will be.
#[must_use]
pub fn choose_method(fitted: &Test<'_>, points: &[Point], rows_to_test: usize) -> Method {
    let methods = fitted.methods();
    let mut best = (methods.first().copied().unwrap_or(Method::Betting), 0.0f64, 1.0f64);
    for method in methods {
        let times = (count(rows_to_test) / count(fitted.rows.len().max(1))).max(1e-9);
        // p-values shrink by powers with the number of rows.
        let stretched = |point: &Point| fitted.p(point, method).powf(times);
        let far = points.iter().skip(1).take_while(|point| stretched(point) <= fitted.delta).count();
        let first = points.get(1).map_or(1.0, stretched);
        if count(far) > best.1 || (count(far) - best.1).abs() < 0.5 && first < best.2 {
            best = (method, count(far), first);
        }
    }
    best.0
}
