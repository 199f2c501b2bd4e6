//! From labelled rows to a calibrated policy with a certificate.
//!
//! Invariant: rows are split by group before anything is looked at. One part
//! makes scores and a path of policies, the other only tests them.

mod certify;
mod easiness;
mod labelled;
mod learn;
mod path;

pub use certify::{Passed, Target, Test, choose_method, least_escalated};
pub use labelled::{Labelled, Walked};
pub use learn::{Chosen, Scores, learn};
pub use path::{always_top, path};

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
    /// Tiers whose absence costs nothing, with the cost without them and with
    /// them, at the same quality or better on the rows that were tested.
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

/// Rows dealt into two halves by group, in an order fixed by the seed.
#[must_use]
pub fn halves(rows: &[Row], seed: u64) -> (Vec<&Row>, Vec<&Row>) {
    let mut order: Vec<&Row> = rows.iter().collect();
    // Order must not depend on how files were listed, so that groups come first.
    order.sort_by_key(|row| row.group);
    fastrand::Rng::with_seed(seed).shuffle(&mut order);
    let mut groups: Vec<u64> = order.iter().map(|row| row.group).collect();
    groups.sort_unstable();
    groups.dedup();
    fastrand::Rng::with_seed(seed ^ 0x5eed).shuffle(&mut groups);
    let first: std::collections::HashSet<u64> = groups[..groups.len() / 2].iter().copied().collect();
    order.into_iter().partition(|row| first.contains(&row.group))
}

/// Calibrates a ladder on labelled rows. `labels` says where labels come from.
#[must_use]
pub fn calibrate(policy: &Policy, rows: &[Row], wanted: &Wanted, labels: &str) -> Calibrated {
    let tiers = policy.tiers.len();
    let (fit_rows, test_rows) = halves(rows, wanted.seed);
    let fitted = Fitted::on(&fit_rows, tiers);
    let rows_to_test = fitted.score(&test_rows);
    let most_usd =
        2.0 * (0..fit_rows.len()).map(|row| fitted.labelled.cost.iter().map(|c| c[row]).sum()).fold(0.0, f64::max);
    let test_on = |rows| Test { rows, target: wanted.target, delta: wanted.delta, most_usd };
    let (fit_test, test) = (test_on(&fitted.labelled), test_on(&rows_to_test));
    let points = ordered(&fitted.points, wanted.target);
    let method = choose_method(&fit_test, &points, test_rows.len());
    let passed = test.descend(&points, method);
    // For a budget the dearest that keeps it serves best; else the cheapest.
    let is_certified = passed.is_some_and(|p| p.p_value > 0.0 || matches!(wanted.target, Target::Budget(_)));
    let in_force = passed.map_or(0, |p| p.point);
    let failed = points.get(in_force + usize::from(passed.is_some())).filter(|_| !is_certified);
    let certificate = Certificate {
        uncertified: !is_certified,
        promise: wanted.target.words(),
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
    // Where nothing passed: always the largest tier; for a budget, the cheapest.
    let in_force = if is_certified { in_force } else { 0 };
    let point = points[in_force].clone();
    Calibrated {
        rows_needed: failed.and_then(|point| test.rows_needed(point, method)),
        least_escalated: least_escalations(&fitted.labelled, wanted.target),
        to_drop: to_drop(&fitted, &rows_to_test, &point),
        asked: asked(&rows_to_test, &point),
        in_force_tested: rows_to_test.measured(point),
        tested_alone: rows_to_test.measured(always_top(tiers)),
        chosen: fitted.scores.chosen.clone(),
        stopping: written(policy, fitted, points, in_force, certificate, wanted.target),
    }
}

/// The path in the order of testing: safest first. For a budget that is the
/// cheapest.
fn ordered(points: &[Point], target: Target) -> Vec<Point> {
    let mut points = points.to_vec();
    if matches!(target, Target::Budget(_)) {
        points.reverse();
    }
    points
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

/// Tiers without which the same quality costs no more.
fn to_drop(fitted: &Fitted, rows: &Labelled, in_force: &Point) -> Vec<(usize, f64, f64)> {
    let with = rows.measured(in_force.clone());
    let without = |tier: usize| {
        let points = path(&fitted.labelled, !(1 << tier)).into_iter().map(|point| rows.measured(point));
        let as_good = points.filter(|point| point.quality >= with.quality);
        let cost = as_good.map(|point| point.cost).reduce(f64::min)?;
        (cost <= with.cost).then_some((tier, cost, with.cost))
    };
    (0..rows.tiers - 1).filter_map(without).collect()
}

fn asked(rows: &Labelled, point: &Point) -> Vec<f64> {
    let n = crate::statistics::count(rows.len().max(1));
    let share = |tier: usize| {
        let asked = (0..rows.len()).filter(|row| rows.walk(point, *row).asked >> tier & 1 == 1);
        crate::statistics::count(asked.count()) / n
    };
    (0..rows.tiers).map(share).collect()
}

fn written(
    policy: &Policy,
    fitted: Fitted,
    mut points: Vec<Point>,
    mut in_force: usize,
    certificate: Certificate,
    target: Target,
) -> Stopping {
    let name = |tier: usize| policy.tiers[tier].name.clone();
    if matches!(target, Target::Budget(_)) {
        points.reverse();
        in_force = points.len() - 1 - in_force;
    }
    let states = all_states(policy.tiers.len()).zip(fitted.scores.models).map(|((tier, after), score)| StateScore {
        tier: name(tier),
        after: (0..tier).filter(|other| after >> other & 1 == 1).map(name).collect(),
        score,
    });
    Stopping {
        made_by: format!("cascade calibrate {}", env!("CARGO_PKG_VERSION")),
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
