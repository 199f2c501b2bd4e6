//! How far down a path one may go: a test on rows that had no part in making it.
//!
//! Fixed-sequence testing (Angelopoulos et al. 2021, "Learn then Test", section
//! 3.3): the points are tested from the surest on at full level, and the first
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
            // Exact only for losses of 0 and 1.
            Method::ClopperPearson if self.each.iter().any(|loss| ![0.0, 1.0].contains(loss)) => 1.0,
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a sum of ones")]
            Method::ClopperPearson => binomial::exact_p(self.each.iter().sum::<f64>().round() as usize, n, self.bound),
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
    /// Above the budget, if there is one; prompts dearer than that count as this dear.
    pub most_usd: f64,
}

/// How far the test went.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Passed {
    /// The best of the points that passed: all of them are covered. Its place in the
    /// path.
    pub point: usize,
    /// Its p-value; 0 for a point whose loss is nothing by what it is.
    pub p_value: f64,
    /// The first that failed, if one did.
    pub failed: Option<usize>,
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
            // A mean that may be negative says too little of one that must not.
            Target::Keep(_) => vec![Method::Betting],
            Target::MaxLoss(_) => vec![Method::HoeffdingBentkus, Method::Betting],
        }
    }

    /// Tests points of a path in the order of the plan, from the first on; none where
    /// not even that passes. A point that only asks the largest tier loses nothing,
    /// whatever the rows.
    #[must_use]
    pub fn descend(&self, points: &[Point], plan: &Plan) -> Option<Passed> {
        let p = |at: &usize| {
            let point = &points[*at];
            (*at, if self.is_trivial(point) { 0.0 } else { self.p(point, plan.method) })
        };
        let passed: Vec<(usize, f64)> = plan.order.iter().map(p).take_while(|(_, p)| *p <= self.delta).collect();
        let failed = plan.order.get(passed.len()).copied();
        let best = passed.into_iter().max_by(|(a, _), (b, _)| match self.target {
            // As measured where they were made: the rows of the test choose nothing.
            Target::Budget(_) => points[*a].quality.total_cmp(&points[*b].quality),
            Target::Keep(_) | Target::MaxLoss(_) => points[*b].cost.total_cmp(&points[*a].cost),
        });
        best.map(|(point, p_value)| Passed { point, p_value, failed })
    }

    /// Whether a point keeps the promise by what it is.
    #[must_use]
    pub fn is_trivial(&self, point: &Point) -> bool {
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
            (Target::Keep(share), Method::Betting) => Losses {
                each: walked().map(|(w, top)| (share * top - w.quality + 1.0) / (1.0 + share)).collect(),
                bound: 1.0 / (1.0 + share),
            },
            (Target::Budget(usd), Method::Betting) => Losses {
                each: walked().map(|(w, _)| w.cost.min(self.most_usd) / self.most_usd).collect(),
                bound: usd / self.most_usd,
            },
            (Target::Keep(_), Method::HoeffdingBentkus) | (Target::Budget(_), _) => return None,
        })
    }

    /// About how many rows it would take for a point to pass, were further rows
    /// like these; none where it would never.
    #[must_use]
    pub fn rows_needed(&self, point: &Point, method: Method) -> Option<usize> {
        const MOST: u32 = 12;
        let losses = self.losses(point, method)?;
        if losses.each.is_empty() || mean(&losses.each)? >= losses.bound {
            return None;
        }
        // By doubling, then by halves of the last step.
        let would_do = |eighths: usize| {
            let n = losses.each.len() * eighths / 8;
            let each = losses.each.iter().copied().cycle().take(n).collect();
            Losses { each, bound: losses.bound }.p(method, self.delta) <= self.delta
        };
        let enough = (0..MOST).map(|doubled| 8usize << doubled).find(|eighths| would_do(*eighths))?;
        let least = (4..8).map(|part| enough * part / 8).find(|eighths| would_do(*eighths));
        Some(self.rows.len() * least.unwrap_or(enough) / 8)
    }
}

/// The least share that must go on to a larger tier where always serving a tier
/// would lose `loss` against the largest and only `bound` may be lost: each that
/// goes on wins back 1 at most.
#[must_use]
pub fn least_escalated(loss: f64, bound: f64) -> f64 {
    (loss - bound).max(0.0)
}

/// A test and the order of points in it.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The test.
    pub method: Method,
    /// Places in the path, the surest first.
    pub order: Vec<usize>,
}

/// The test that is to go furthest down a path, and its order: what is surest to
/// pass comes first. Judged on rows that are not tested, stretched to as many as will
/// be; so the promise holds whatever is planned here.
#[must_use]
pub fn plan(fitted: &Test<'_>, points: &[Point], rows_to_test: usize) -> Plan {
    let times = count(rows_to_test) / count(fitted.rows.len().max(1));
    let best_of = |method: Method| {
        // p-values shrink by powers with the number of rows.
        let p = |point: &Point| if fitted.is_trivial(point) { 0.0 } else { fitted.p(point, method).powf(times) };
        let p_values: Vec<f64> = points.iter().map(p).collect();
        let mut order: Vec<usize> = (0..points.len()).collect();
        order.sort_by(|a, b| p_values[*a].total_cmp(&p_values[*b]));
        let passing = points.iter().zip(&p_values).filter(|(_, p)| **p <= fitted.delta).map(|(point, _)| point);
        let gain = match fitted.target {
            Target::Budget(_) => passing.map(|point| point.quality).reduce(f64::max),
            Target::Keep(_) | Target::MaxLoss(_) => passing.map(|point| -point.cost).reduce(f64::max),
        };
        (gain.unwrap_or(f64::NEG_INFINITY), Plan { method, order })
    };
    let mut plans = fitted.methods().into_iter().map(best_of);
    // Of equal ones the first, which is exact where there is one.
    let first = plans.next().unwrap_or((0.0, Plan { method: Method::Betting, order: (0..points.len()).collect() }));
    plans.fold(first, |best, other| if other.0 > best.0 { other } else { best }).1
}
