//! From gathered prompts to a study.

use super::baselines::{Tiers, benefit, oracle, oracle_points, shuffled};
use super::edges::{edges, rankings};
use super::family;
use super::gathered::{Gathered, Kept};
use super::study::{CostAt, Estimate, Study, TaskStudy};
use crate::policy::Policy;
use crate::statistics::count;
use crate::statistics::curve::{Hull, Point};
use crate::statistics::resample::{Interval, bootstrap};

/// Draws for every interval.
pub(super) const DRAWS: usize = 2000;
pub(super) const SEED: u64 = 2024;
/// Shares of the largest tier's quality whose cost is told.
const SHARES: [f64; 5] = [0.90, 0.95, 0.98, 0.99, 1.0];

/// The study; none where no prompt has all it takes.
pub(super) fn study(policy: &Policy, gathered: &Gathered, labels: &str) -> Option<Study> {
    let rows = gathered.rows();
    let tiers = policy.tiers.len();
    if rows.is_empty() || tiers < 2 {
        return None;
    }
    let of = |tier: usize| Point { cost: over(&rows, |r| r.cost[tier]), quality: over(&rows, |r| r.quality[tier]) };
    let singles: Vec<Point> = (0..tiers).map(of).collect();
    let top = singles[tiers - 1];
    let (quality, cost) = (over(&rows, |r| r.served_quality), over(&rows, |r| r.spent));
    let curve = Curve::of(policy, &rows);
    let drawn = Drawn::of(&rows, tiers, Some(&curve));
    // Curves and their baselines over the same prompts.
    let (points, curve_singles) = curve.points(None);
    let hull = Hull::of(&[&points[..], &curve_singles[tiers - 1..]].concat())?;
    let zero = Hull::of(&curve_singles)?;
    let curve_top = curve_singles[tiers - 1];
    let known: Vec<Tiers<'_>> = rows.iter().map(|row| row.tiers()).collect();
    let curved: Vec<Tiers<'_>> = curve.rows.iter().map(|row| known[*row]).collect();
    let oracle_hull = Hull::of(&oracle_points(&curved, curve_top.cost))?;
    let (router, cascade) = (oracle(&known, false), oracle(&known, true));
    let cost_at = |share: &f64| CostAt {
        share: *share,
        policy: hull.cost_of(share * curve_top.quality),
        zero_router: zero.cost_of(share * curve_top.quality),
        oracle: oracle_hull.cost_of(share * curve_top.quality),
        top: curve_top.cost,
    };
    let single_at_no_more = (0..tiers).filter(|tier| singles[*tier].cost <= cost + 1e-15);
    let best_single = single_at_no_more.max_by(|a, b| singles[*a].quality.total_cmp(&singles[*b].quality));
    Some(Study {
        prompts: rows.len(),
        left_out: gathered.left_out,
        not_sampled: gathered.not_sampled,
        labels: labels.to_owned(),
        is_calibrated: policy.tiers[..tiers - 1].iter().all(crate::policy::Tier::is_calibrated),
        tiers: policy.tiers.iter().map(|t| t.name.clone()).collect(),
        certificate: policy.stopping.as_ref().map(|s| s.certificate.clone()),
        quality: drawn.estimate(0, quality),
        cost: drawn.estimate(1, cost),
        savings: (top.cost > 0.0).then(|| drawn.estimate(2, 1.0 - cost / top.cost)),
        quality_to_top: drawn.estimate(3, quality - top.quality),
        served_share: served_share(&rows, tiers),
        mean_quality: mean_quality(&points, &curve_singles).map(|value| drawn.estimate(4, value)),
        curve: points,
        hull: hull.corners().to_vec(),
        zero_router: zero.corners().to_vec(),
        oracle_hull: oracle_hull.corners().to_vec(),
        oracle_router: router,
        oracle_cascade: cascade,
        cost_at: SHARES.iter().map(cost_at).collect(),
        regret: router.quality - quality,
        cost_regret: cost - cascade.cost,
        best_single,
        shuffled: Some(shuffled(&known, quality, DRAWS, SEED)),
        benefit: benefit(Point { cost, quality }, singles[0], top),
        rankings: rankings(&rows, tiers),
        edges: edges(&rows, tiers),
        tasks: tasks(&rows, tiers),
        singles,
    })
}

fn over(rows: &[&Kept], value: impl Fn(&Kept) -> f64) -> f64 {
    rows.iter().map(|row| value(row)).sum::<f64>() / count(rows.len().max(1))
}

fn served_share(rows: &[&Kept], tiers: usize) -> Vec<f64> {
    (0..tiers).map(|tier| over(rows, |row| f64::from(u8::from(row.served == Some(tier))))).collect()
}

/// The mean quality of a policy's hull over the costs of the tiers (AIQ).
fn mean_quality(points: &[Point], singles: &[Point]) -> Option<f64> {
    let [dearest, cheapest] = [f64::max, f64::min].map(|pick| singles.iter().map(|p| p.cost).reduce(pick));
    Hull::of(&[points, &singles[singles.len().checked_sub(1)?..]].concat())?.mean_quality(cheapest?, dearest?)
}

/// What the policy could have done, and each tier alone, for the prompts that this
/// can be worked out for; all of them where it can for none.
struct Curve {
    /// The row of each prompt.
    rows: Vec<usize>,
    /// Costs, then qualities, of all points and then of the tiers, prompt after
    /// prompt.
    walked: Vec<f64>,
    points: usize,
    tiers: usize,
}

impl Curve {
    fn of(policy: &Policy, rows: &[&Kept]) -> Self {
        let tiers = policy.tiers.len();
        let (mut places, could): (Vec<usize>, Vec<&family::Could>) =
            rows.iter().enumerate().filter_map(|(at, row)| Some((at, row.could.as_ref()?))).unzip();
        let (mut labelled, mut points) = (None, Vec::new());
        if could.is_empty() {
            places = (0..rows.len()).collect();
        } else {
            labelled = Some(family::labelled(policy, &could));
            points = family::points(policy);
        }
        let mut walked = Vec::with_capacity(2 * (points.len() + tiers) * places.len());
        for (at, place) in places.iter().enumerate() {
            let ways: Vec<_> = points.iter().zip(labelled.iter().cycle()).map(|(point, l)| l.walk(point, at)).collect();
            walked.extend(ways.iter().map(|w| w.cost).chain(rows[*place].cost.iter().copied()));
            walked.extend(ways.iter().map(|w| w.quality).chain(rows[*place].quality.iter().copied()));
        }
        Self { rows: places, walked, points: points.len(), tiers }
    }

    /// Mean cost and quality of each point, and of each tier, prompts counted
    /// `weights` times.
    fn points(&self, weights: Option<&[u32]>) -> (Vec<Point>, Vec<Point>) {
        let each = self.points + self.tiers;
        let mut sums = vec![0.0; 2 * each];
        let mut total = 0.0;
        for (row, ways) in self.rows.iter().zip(self.walked.chunks_exact(2 * each)) {
            let times = weights.map_or(1.0, |weights| f64::from(weights[*row]));
            total += times;
            sums.iter_mut().zip(ways).for_each(|(sum, way)| *sum += times * way);
        }
        let (costs, qualities) = sums.split_at(each);
        let mut all: Vec<Point> =
            costs.iter().zip(qualities).map(|(c, q)| Point { cost: c / total, quality: q / total }).collect();
        let singles = all.split_off(self.points);
        (all, singles)
    }
}

/// Intervals of the main numbers, all from the same draws.
struct Drawn(Vec<Option<Interval>>);

impl Drawn {
    /// Without a curve, none of it is drawn.
    fn of(rows: &[&Kept], tiers: usize, curve: Option<&Curve>) -> Self {
        let groups = super::gathered::groups_of(rows);
        // What is summed, prompt after prompt: served label and cost, then each tier's.
        let each = 2 + 2 * tiers;
        let numbers = rows.iter().flat_map(|row| {
            [row.served_quality, row.spent]
                .into_iter()
                .chain(row.quality.iter().copied())
                .chain(row.cost.iter().copied())
        });
        let numbers: Vec<f64> = numbers.collect();
        Self(bootstrap(&groups, DRAWS, SEED, |weights| {
            let mut means = vec![0.0; each];
            let mut total = 0.0;
            for (times, row) in weights.iter().zip(numbers.chunks_exact(each)) {
                let times = f64::from(*times);
                total += times;
                means.iter_mut().zip(row).for_each(|(sum, number)| *sum += times * number);
            }
            means.iter_mut().for_each(|mean| *mean /= total);
            let (qualities, costs) = means[2..].split_at(tiers);
            let top = Point { cost: costs[tiers - 1], quality: qualities[tiers - 1] };
            let over_costs = || {
                let (points, singles) = curve?.points(Some(weights));
                mean_quality(&points, &singles)
            };
            vec![
                Some(means[0]),
                Some(means[1]),
                (top.cost > 0.0).then(|| 1.0 - means[1] / top.cost),
                Some(means[0] - top.quality),
                over_costs(),
            ]
        }))
    }

    fn estimate(&self, at: usize, value: f64) -> Estimate {
        Estimate { value, interval: self.0.get(at).copied().flatten() }
    }
}

/// The main numbers by kind of prompt; nothing where there is but one kind.
fn tasks(rows: &[&Kept], tiers: usize) -> Vec<TaskStudy> {
    let mut names: Vec<&String> = rows.iter().filter_map(|row| row.task.as_ref()).collect();
    names.sort_unstable();
    names.dedup();
    if names.len() < 2 {
        return Vec::new();
    }
    let task = |name: &String| {
        let rows: Vec<&Kept> = rows.iter().filter(|row| row.task.as_ref() == Some(name)).copied().collect();
        let drawn = Drawn::of(&rows, tiers, None);
        let top = Point { cost: over(&rows, |r| r.cost[tiers - 1]), quality: over(&rows, |r| r.quality[tiers - 1]) };
        let quality = over(&rows, |r| r.served_quality);
        TaskStudy {
            task: name.clone(),
            prompts: rows.len(),
            quality: drawn.estimate(0, quality),
            cost: drawn.estimate(1, over(&rows, |r| r.spent)),
            quality_to_top: drawn.estimate(3, quality - top.quality),
            top,
            served_share: served_share(&rows, tiers),
        }
    };
    names.into_iter().map(task).collect()
}
