//! From labelled rows to a calibrated policy with a certificate.
//!
//! Invariant: rows are split by group before anything is looked at. One part
//! makes scores and a path of policies, the other only tests them.

mod certify;
mod easiness;
mod labelled;
mod learn;
mod path;

pub use certify::{Passed, Plan, Target, Test, least_escalated, plan};
pub use labelled::{Labelled, Walked};
pub use learn::{Chosen, Scores, learn};
pub use path::{always_top, path};

use std::collections::HashSet;

use crate::outcomes::Row;
use crate::policy::Policy;
use crate::stopping::{Certificate, Easiness, Point, StateScore, Stopping, TierModel, all_states};

/// What a calibration is asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Wanted {
    /// What is to be promised.
    pub target: Target,
    /// The chance that it does not hold.
    pub delta: f64,
    /// Fixes the split and the order of rows.
    pub seed: u64,
}

/// A calibrated policy, and what is worth telling about it.
#[derive(Clone, Debug)]
pub struct Calibrated {
    /// The file.
    pub stopping: Stopping,
    /// What each tier's score is learned from.
    pub chosen: Vec<Chosen>,
    /// The point in force, as it came out on the rows it was tested on.
    pub in_force_tested: Point,
    /// The largest tier alone, on those rows.
    pub tested_alone: Point,
    /// About how many rows the first step down would need, where it did not pass.
    pub rows_needed: Option<usize>,
    /// For each tier but the last: the least share that must go on from it.
    pub least_escalated: Vec<f64>,
    /// Tiers whose absence would cost less at the same quality, on the rows the path
    /// was made on: with the costs without and with them. A hint, not a promise.
    pub to_drop: Vec<(usize, f64, f64)>,
    /// Shares of the tested rows for which each tier is asked.
    pub asked: Vec<f64>,
}

/// A model of scores and path, made on some rows.
#[derive(Clone, Debug)]
pub struct Fitted {
    /// Scores by state.
    pub scores: Scores,
    /// How prompts are told apart.
    pub easiness: Option<Easiness>,
    /// The rows it was made on, with scores of models that have not seen them.
    pub labelled: Labelled,
    /// The path.
    pub points: Vec<Point>,
}

impl Fitted {
    /// Learns scores and makes the path.
    #[must_use]
    pub fn on(rows: &[&Row], tiers: usize) -> Self {
        let scores = learn(rows, tiers);
        let (easiness, of_rows) = easiness::learn(rows).unzip();
        let labelled = Labelled::new(rows, tiers, scores.chances.clone(), of_rows);
        let points = path(&labelled, u32::MAX);
        Self { scores, easiness, labelled, points }
    }

    /// Other rows with the scores of these models.
    #[must_use]
    pub fn score(&self, rows: &[&Row]) -> Labelled {
        let tiers = self.labelled.tiers;
        let chance = all_states(tiers).enumerate().map(|(place, (tier, _))| {
            let of = |row: &&Row| {
                if row.refused[tier] { 0.0 } else { self.scores.models[place].chance(&row.features[place]) }
            };
            rows.iter().map(of).collect()
        });
        let easiness = |model: &Easiness| rows.iter().map(|row| model.at(&row.prompt, &row.grams)).collect();
        Labelled::new(rows, tiers, chance.collect(), self.easiness.as_ref().map(easiness))
    }
}

/// Whether rows of a group are kept for the test: half of all groups, by a hash, so that
/// the same are kept out of whatever else is learned from the same traffic.
#[must_use]
pub fn is_for_test(group: u64, seed: u64) -> bool {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes()).update(&group.to_le_bytes());
    hasher.finalize().as_bytes()[0] & 1 == 1
}

/// Rows to fit and rows to test, by group, in an order fixed by the seed.
fn halves(rows: &[Row], seed: u64) -> (Vec<&Row>, Vec<&Row>) {
    let mut order: Vec<&Row> = rows.iter().collect();
    // Order must not depend on how files were listed, so that groups come first.
    order.sort_by_key(|row| row.group);
    fastrand::Rng::with_seed(seed).shuffle(&mut order);
    order.into_iter().partition(|row| !is_for_test(row.group, seed))
}

/// Why rows cannot be calibrated on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} different prompts or conversations, of which half are kept for the test; {FEWEST_GROUPS} are needed")]
pub struct TooFew(pub usize);

/// The fewest groups of rows that are calibrated on.
const FEWEST_GROUPS: usize = 40;

/// Calibrates a ladder on labelled rows. `labels` says where labels come from.
///
/// # Errors
/// When there are too few groups of rows.
pub fn calibrate(policy: &Policy, rows: &[Row], wanted: &Wanted, labels: &str) -> Result<Calibrated, TooFew> {
    let tiers = policy.tiers.len();
    let groups: HashSet<u64> = rows.iter().map(|row| row.group).collect();
    if groups.len() < FEWEST_GROUPS {
        return Err(TooFew(groups.len()));
    }
    let (fit_rows, mut test_rows) = halves(rows, wanted.seed);
    // One of each group: turns of one conversation are no independent draws. Which
    // one, the shuffle has decided.
    let mut seen = HashSet::new();
    test_rows.retain(|row| seen.insert(row.group));
    let fitted = Fitted::on(&fit_rows, tiers);
    let rows_to_test = fitted.score(&test_rows);
    let most_usd = most_usd(&fitted.labelled, wanted.target);
    let test_on = |rows| Test { rows, target: wanted.target, delta: wanted.delta, most_usd };
    let test = test_on(&rows_to_test);
    let points = fitted.points.clone();
    let plan = plan(&test_on(&fitted.labelled), &points, test_rows.len());
    let (passed, method) = (test.descend(&points, &plan), plan.method);
    let is_certified = passed.is_some_and(|p| !test.is_trivial(&points[p.point]));
    // Where nothing passed: always the largest tier; for a budget, the cheapest.
    let safest = if matches!(wanted.target, Target::Budget(_)) { points.len() - 1 } else { 0 };
    let in_force = passed.map_or(safest, |p| p.point);
    let failed = passed.map_or(plan.order.first().copied(), |p| p.failed).filter(|_| !is_certified);
    let point = points[in_force].clone();
    let certificate = Certificate {
        uncertified: !is_certified,
        promise: promise(wanted.target, most_usd),
        bound: wanted.target.bound(),
        delta: wanted.delta,
        rows: test_rows.len(),
        fitted_rows: fit_rows.len(),
        method,
        p_value: passed.filter(|_| is_certified).map_or(1.0, |p| p.p_value),
        labels: labels.to_owned(),
        data: data_hash(rows),
        seed: wanted.seed,
    };
    Ok(Calibrated {
        rows_needed: failed.and_then(|at| test.rows_needed(&points[at], method)),
        least_escalated: least_escalations(&fitted.labelled, wanted.target),
        to_drop: to_drop(&fitted, &point),
        asked: asked(&rows_to_test, &point),
        in_force_tested: rows_to_test.measured(point),
        tested_alone: rows_to_test.measured(always_top(tiers)),
        chosen: fitted.scores.chosen.clone(),
        stopping: {
            let watched = points.iter().map(|point| Point { differs: rows_to_test.differs(point), ..point.clone() });
            written(policy, fitted, watched.collect(), in_force, certificate)
        },
    })
}

/// What a prompt is held to cost at most in the test of a budget.
fn most_usd(fitted: &Labelled, target: Target) -> f64 {
    let dearest = (0..fitted.len()).map(|row| fitted.cost.iter().map(|c| c[row]).sum()).fold(0.0, f64::max);
    match target {
        Target::Budget(usd) => f64::max(2.0 * dearest, 2.0 * usd),
        Target::Keep(_) | Target::MaxLoss(_) => dearest,
    }
}

fn promise(target: Target, most_usd: f64) -> String {
    match target {
        Target::Budget(_) => format!("{}, one dearer than ${most_usd:.6} counted as that", target.words()),
        Target::Keep(_) | Target::MaxLoss(_) => target.words(),
    }
}

fn least_escalations(rows: &Labelled, target: Target) -> Vec<f64> {
    let mean = |tier: usize| crate::statistics::mean(&rows.quality[tier]).unwrap_or(0.0);
    let top = mean(rows.tiers - 1);
    let bound = match target {
        Target::Keep(share) => (1.0 - share) * top,
        Target::MaxLoss(loss) => loss,
        Target::Budget(_) => return Vec::new(),
    };
    (0..rows.tiers - 1).map(|tier| least_escalated(top - mean(tier), bound)).collect()
}

/// Tiers without which the quality of the point in force costs less, with the
/// costs without and with them; both the best of their paths, on the rows that made
/// them.
fn to_drop(fitted: &Fitted, in_force: &Point) -> Vec<(usize, f64, f64)> {
    let cheapest = |points: &[Point]| {
        let as_good = points.iter().filter(|point| point.quality >= in_force.quality);
        as_good.map(|point| point.cost).reduce(f64::min)
    };
    let with = cheapest(&fitted.points);
    let without = |tier: usize| {
        let (cost, with) = cheapest(&path(&fitted.labelled, !(1 << tier))).zip(with)?;
        (cost < with * 0.999).then_some((tier, cost, with))
    };
    (0..fitted.labelled.tiers - 1).filter_map(without).collect()
}

fn asked(rows: &Labelled, point: &Point) -> Vec<f64> {
    let n = crate::statistics::count(rows.len().max(1));
    let share = |tier: usize| {
        let asked = (0..rows.len()).filter(|row| rows.walk(point, *row).asked >> tier & 1 == 1);
        crate::statistics::count(asked.count()) / n
    };
    (0..rows.tiers).map(share).collect()
}

fn written(policy: &Policy, fitted: Fitted, points: Vec<Point>, in_force: usize, certificate: Certificate) -> Stopping {
    let name = |tier: usize| policy.tiers[tier].name.clone();
    let states = all_states(policy.tiers.len()).zip(fitted.scores.models).map(|((tier, after), score)| StateScore {
        tier: name(tier),
        after: (0..tier).filter(|other| after >> other & 1 == 1).map(name).collect(),
        score,
    });
    Stopping {
        made_by: format!("cascade calibrate {}", env!("CARGO_PKG_VERSION")),
        made_with: policy.what_scores_rest_on.clone(),
        tiers: policy.tiers.iter().map(|t| TierModel { name: t.name.clone(), model: t.model.clone() }).collect(),
        certificate,
        states: states.collect(),
        prompts: fitted.easiness.filter(|_| points.iter().any(|point| point.start.0.len() > 1)),
        points,
        in_force,
    }
}

/// A hash of the rows' labels and costs.
fn data_hash(rows: &[Row]) -> String {
    let mut hasher = blake3::Hasher::new();
    for row in rows {
        hasher.update(&row.group.to_le_bytes());
        row.quality.iter().chain(&row.cost).for_each(|number| _ = hasher.update(&number.to_le_bytes()));
    }
    hasher.finalize().to_hex()[..16].to_owned()
}
