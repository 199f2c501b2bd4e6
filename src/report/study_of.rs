//! From gathered prompts to a study.

use super::edges::{edges, rankings};
use super::family;
use super::gathered::{Gathered, Kept};
use super::study::{CostAt, Estimate, Shuffled, Study, TaskStudy};
use crate::policy::Policy;
use crate::statistics::curve::{Hull, Point};
use crate::statistics::resample::{Interval, bootstrap};
use crate::statistics::{count, mean};

/// Draws for every interval.
const DRAWS: usize = 2000;
const SEED: u64 = 2024;
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
    let drawn = Drawn::of(&rows, tiers, &curve);
    let hull = Hull::of(&[curve.points(None), vec![top]].concat())?;
    let zero = Hull::of(&singles)?;
    let oracle_hull = Hull::of(&oracle_points(&rows, tiers, top.cost))?;
    let (router, cascade) = (oracle(&rows, false), oracle(&rows, true));
    let cost_at = |share: &f64| CostAt {
        share: *share,
        policy: hull.cost_of(share * top.quality),
        zero_router: zero.cost_of(share * top.quality),
        oracle: oracle_hull.cost_of(share * top.quality),
        top: top.cost,
    };
    let [dearest, cheapest] =
        [f64::max, f64::min].map(|pick| singles.iter().map(|p| p.cost).reduce(pick).unwrap_or(0.0));
    let single_at_no_more = (0..tiers).filter(|tier| singles[*tier].cost <= cost + 1e-15);
    let best_single = single_at_no_more.max_by(|a, b| singles[*a].quality.total_cmp(&singles[*b].quality));
    let weak = singles[0];
    let gain = |p: Point| (p.quality - weak.quality) / (p.cost - weak.cost);
    let benefit = gain(Point { cost, quality }) / gain(top) - 1.0;
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
        mean_quality: hull.mean_quality(cheapest, dearest).map(|value| drawn.estimate(4, value)),
        curve: curve.points(None),
        hull: hull.corners().to_vec(),
        zero_router: zero.corners().to_vec(),
        oracle_hull: oracle_hull.corners().to_vec(),
        oracle_router: router,
        oracle_cascade: cascade,
        cost_at: SHARES.iter().map(cost_at).collect(),
        regret: router.quality - quality,
        cost_regret: cost - cascade.cost,
        best_single,
        shuffled: Some(shuffled(&rows, quality)),
        benefit: Some(benefit).filter(|b| b.is_finite()),
        rankings: rankings(&rows, tiers, SEED),
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

/// What the policy could have done, for the prompts that this was worked out for.
struct Curve {
    /// The row of each prompt that it was worked out for.
    rows: Vec<usize>,
    /// Costs, then qualities, of all points, prompt after prompt.
    walked: Vec<f64>,
    points: usize,
}

impl Curve {
    fn none() -> Self {
        Self { rows: Vec::new(), walked: Vec::new(), points: 0 }
    }

    fn of(policy: &Policy, rows: &[&Kept]) -> Self {
        let (places, could): (Vec<usize>, Vec<&family::Could>) =
            rows.iter().enumerate().filter_map(|(at, row)| Some((at, row.could.as_ref()?))).unzip();
        if could.is_empty() {
            return Self::none();
        }
        let labelled = family::labelled(policy, &could);
        let points = family::points(policy);
        let mut walked = Vec::with_capacity(2 * points.len() * labelled.len());
        for row in 0..labelled.len() {
            let ways: Vec<_> = points.iter().map(|point| labelled.walk(point, row)).collect();
            walked.extend(ways.iter().map(|w| w.cost));
            walked.extend(ways.iter().map(|w| w.quality));
        }
        Self { rows: places, walked, points: points.len() }
    }

    /// Mean cost and quality of each point, prompts counted `weights` times.
    fn points(&self, weights: Option<&[u32]>) -> Vec<Point> {
        if self.points == 0 {
            return Vec::new();
        }
        let mut sums = vec![0.0; 2 * self.points];
        let mut total = 0.0;
        for (row, ways) in self.rows.iter().zip(self.walked.chunks_exact(2 * self.points)) {
            let times = weights.map_or(1.0, |weights| f64::from(weights[*row]));
            total += times;
            sums.iter_mut().zip(ways).for_each(|(sum, way)| *sum += times * way);
        }
        let (costs, qualities) = sums.split_at(self.points);
        costs.iter().zip(qualities).map(|(c, q)| Point { cost: c / total, quality: q / total }).collect()
    }
}

/// Intervals of the main numbers, all from the same draws.
struct Drawn(Vec<Option<Interval>>);

impl Drawn {
    fn of(rows: &[&Kept], tiers: usize, curve: &Curve) -> Self {
        let groups: Vec<u64> = rows.iter().map(|row| row.group).collect();
        // What is summed, prompt after prompt: served label and cost, then each tier's.
        let each = 2 + 2 * tiers;
        let numbers = rows.iter().flat_map(|row| {
            [row.served_quality, row.spent].into_iter().chain(row.quality.iter().copied()).chain(row.cost.iter().copied())
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
            let [dearest, cheapest] = [f64::max, f64::min].map(|pick| costs.iter().copied().reduce(pick));
            let over_costs = || {
                let hull = Hull::of(&[curve.points(Some(weights)), vec![top]].concat())?;
                hull.mean_quality(cheapest?, dearest?)
            };
            vec![
                Some(means[0]),
                Some(means[1]),
                (top.cost > 0.0).then(|| 1.0 - means[1] / top.cost),
                Some(means[0] - top.quality),
                over_costs().filter(|_| curve.points > 0),
            ]
        }))
    }

    fn estimate(&self, at: usize, value: f64) -> Estimate {
        Estimate { value, interval: self.0.get(at).copied().flatten() }
    }
}

/// Per prompt the cheapest way to its best label: asking one tier alone, or all
/// tiers up to it.
fn oracle(rows: &[&Kept], pays_smaller: bool) -> Point {
    let best = |row: &Kept| {
        let most = row.quality.iter().copied().fold(0.0, f64::max);
        let price = |tier: usize| if pays_smaller { row.cost[..=tier].iter().sum::<f64>() } else { row.cost[tier] };
        #[expect(clippy::float_cmp, reason = "the very label that is the highest")]
        let ways = (0..row.quality.len()).filter(|tier| row.quality[*tier] == most);
        (ways.map(price).reduce(f64::min).unwrap_or(0.0), most)
    };
    Point { cost: over(rows, |row| best(row).0), quality: over(rows, |row| best(row).1) }
}

/// The router oracle at prices of money from low to high.
fn oracle_points(rows: &[&Kept], tiers: usize, top: f64) -> Vec<Point> {
    let at = |lambda: f64| {
        let best = |row: &Kept| {
            let value = |tier: &usize| row.quality[*tier] - lambda * row.cost[*tier];
            (0..tiers).max_by(|a, b| value(a).total_cmp(&value(b))).unwrap_or(0)
        };
        Point { cost: over(rows, |r| r.cost[best(r)]), quality: over(rows, |r| r.quality[best(r)]) }
    };
    (0..40).map(|step| at(0.002 * 2000f64.powf(count(step) / 39.0) / top.max(f64::MIN_POSITIVE))).collect()
}

/// Served tiers dealt anew at random, as many of each.
fn shuffled(rows: &[&Kept], quality: f64) -> Shuffled {
    let mut served: Vec<Option<usize>> = rows.iter().map(|row| row.served).collect();
    let mut random = fastrand::Rng::with_seed(SEED);
    let mut dealt: Vec<f64> = (0..DRAWS)
        .map(|_| {
            random.shuffle(&mut served);
            let label = |(row, tier): (&&Kept, &Option<usize>)| tier.map_or(0.0, |tier| row.quality[tier]);
            rows.iter().zip(&served).map(label).sum::<f64>() / count(rows.len())
        })
        .collect();
    let value = mean(&dealt).unwrap_or(0.0);
    let interval = Interval::of(&mut dealt);
    Shuffled {
        quality: Estimate { value, interval },
        lift: quality - value,
        is_significant: interval.is_some_and(|i| quality < i.low || quality > i.high),
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
        let drawn = Drawn::of(&rows, tiers, &Curve::none());
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
