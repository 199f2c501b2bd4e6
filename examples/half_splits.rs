//! Calibrates on one half of labelled exchanges, replays the other, ten seeded
//! splits over: what 95, 98 and 100% of the largest tier's quality cost, for this
//! project's policies and for what others do.
//!
//! ```text
//! cargo run --release --example half_splits -- POLICY FILE.jsonl ...
//! ```
//!
//! Costs are shares of what the largest tier costs on the same rows, means over
//! the splits, read off the hull of each method's policies on the half replayed; "n/a" where a method never reaches the quality on some split.

use std::collections::HashSet;
use std::process::ExitCode;

use prompt_cascade::calibration::{Fitted, Labelled, path};
use prompt_cascade::outcomes::Row;
use prompt_cascade::policy::{Outside, Policy};
use prompt_cascade::recording::Lines;
use prompt_cascade::statistics::curve::{Hull, Point};
use prompt_cascade::statistics::{count, mean};
use prompt_cascade::stopping::state;

const SPLITS: u64 = 10;
const SHARES: [f64; 3] = [0.95, 0.98, 1.0];
/// Prices of money tried for every method alike, times the largest tier's cost.
const PRICES: usize = 100;

type Points = Vec<Point>;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let Some(policy) = arguments.next().and_then(|path| std::fs::read_to_string(path).ok()) else {
        eprintln!("half_splits POLICY FILE.jsonl ...");
        return ExitCode::from(2);
    };
    let outside = Outside { variables: &|name| std::env::var(name).ok(), ..Outside::none() };
    let policy = Policy::parse("policy", &policy, outside).unwrap_or_else(|problems| panic!("{problems}")).0;
    let verbose = std::env::var("VERBOSE").is_ok();
    for path in arguments {
        let lines = Lines::open(path.as_ref()).unwrap_or_else(|e| panic!("{e}"));
        let rows: Vec<Row> = lines
            .map(|line| line.unwrap_or_else(|e| panic!("{e}")))
            .map(|exchange| Row::of(&policy, &exchange).unwrap_or_else(|e| panic!("{}: {e}", exchange.id)))
            .collect();
        println!("\n{path}: {} prompts, {} a half\n", rows.len(), rows.len() / 2);
        table(&rows, policy.tiers.len(), verbose);
    }
    ExitCode::SUCCESS
}

/// Rows dealt into two halves of as many groups, in an order fixed by the seed.
fn halves(rows: &[Row], seed: u64) -> (Vec<&Row>, Vec<&Row>) {
    let mut order: Vec<&Row> = rows.iter().collect();
    order.sort_by_key(|row| row.group);
    fastrand::Rng::with_seed(seed).shuffle(&mut order);
    let mut groups: Vec<u64> = order.iter().map(|row| row.group).collect();
    groups.sort_unstable();
    groups.dedup();
    fastrand::Rng::with_seed(seed ^ 0x5eed).shuffle(&mut groups);
    let first: HashSet<u64> = groups[..groups.len() / 2].iter().copied().collect();
    order.into_iter().partition(|row| first.contains(&row.group))
}

fn table(rows: &[Row], tiers: usize, verbose: bool) {
    let mut costs: Vec<(&str, [Vec<Option<f64>>; 3])> = Vec::new();
    for seed in 0..SPLITS {
        let (learn, other) = halves(rows, seed);
        let fitted = Fitted::on(&learn, tiers);
        let test = fitted.score(&other);
        let of = |tier: usize| Point {
            cost: mean(&test.cost[tier]).unwrap_or(0.0),
            quality: mean(&test.quality[tier]).unwrap_or(0.0),
        };
        let singles: Points = (0..tiers).map(of).collect();
        let top = singles[tiers - 1];
        let points = path(&fitted.labelled, u32::MAX);
        let ours: Points = points
            .iter()
            .map(|p| test.measured(p.clone()))
            .map(|p| Point { cost: p.cost, quality: p.quality })
            .collect();
        let all: Vec<usize> = (0..tiers).collect();
        let ladder = tuned(&fitted.labelled, &test, &[all]);
        let chains: Vec<Vec<usize>> =
            (1u32..1 << tiers).map(|set| (0..tiers).filter(|tier| set >> tier & 1 == 1).collect()).collect();
        let grid = tuned(&fitted.labelled, &test, &chains);
        if verbose && seed == 0 {
            fitted
                .scores
                .chosen
                .iter()
                .enumerate()
                .for_each(|(tier, c)| println!("tier {tier}: {} AUROC {:?}", c.by, c.auroc));
            println!("easiness {}", fitted.easiness.is_some());
        }
        let single = |share: f64| {
            let enough = singles.iter().filter(|p| p.quality >= share * top.quality - 1e-12);
            enough.map(|p| p.cost).reduce(f64::min)
        };
        let hulls: [(&str, Points); 5] = [
            ("ours: optimal stopping with skips", ours),
            ("full ladder, tuned thresholds", ladder),
            ("grid over all chains", grid),
            ("zero router (mix of single tiers)", singles.clone()),
            ("oracle", oracle(&test)),
        ];
        for (name, points) in hulls {
            // What anybody can do: always the largest tier.
            let hull = Hull::of(&[points, vec![top]].concat());
            let cost = |share: f64| hull.as_ref().and_then(|h| h.cost_of(share * top.quality)).map(|c| c / top.cost);
            note(&mut costs, name, SHARES.map(cost));
        }
        note(&mut costs, "best single tier", SHARES.map(|share| single(share).map(|c| c / top.cost)));
    }
    println!("| cost, as a share of the largest tier's, at | 95% | 98% | 100% |\n|---|---|---|---|");
    for (name, by_share) in &costs {
        let cell = |values: &Vec<Option<f64>>| match values.iter().copied().collect::<Option<Vec<f64>>>() {
            Some(values) => format!("{:.3}", mean(&values).unwrap_or(0.0)),
            None => "n/a".to_owned(),
        };
        println!("| {name} | {} | {} | {} |", cell(&by_share[0]), cell(&by_share[1]), cell(&by_share[2]));
    }
}

fn note<'n>(costs: &mut Vec<(&'n str, [Vec<Option<f64>>; 3])>, name: &'n str, values: [Option<f64>; 3]) {
    let at = costs.iter().position(|(known, _)| *known == name).unwrap_or_else(|| {
        costs.push((name, Default::default()));
        costs.len() - 1
    });
    costs[at].1.iter_mut().zip(values).for_each(|(list, value)| list.push(value));
}

fn prices(rows: &Labelled) -> impl Iterator<Item = f64> {
    let top = mean(&rows.cost[rows.tiers - 1]).unwrap_or(1.0);
    (0..PRICES).map(move |step| 0.002 * 2000f64.powf(count(step) / count(PRICES - 1)) / top)
}

/// Chains with a threshold for each tier but their last, the best on `learn` at
/// each price, as they do on `test`.
fn tuned(learn: &Labelled, test: &Labelled, chains: &[Vec<usize>]) -> Points {
    const LEVELS: usize = 11;
    let mut all = Vec::new();
    for chain in chains {
        let states: Vec<(usize, usize)> = chain
            .iter()
            .scan(0u32, |after, tier| {
                let place = if tier + 1 < learn.tiers { state(*tier, *after) } else { usize::MAX };
                *after |= 1 << tier;
                Some((*tier, place))
            })
            .collect();
        let levels: Vec<Vec<f64>> = states[..states.len() - 1]
            .iter()
            .map(|(_, place)| {
                let mut sorted = learn.chance[*place].clone();
                sorted.sort_by(f64::total_cmp);
                (0..LEVELS)
                    .map(|l| if l + 1 == LEVELS { 2.0 } else { sorted[l * (sorted.len() - 1) / (LEVELS - 1)] })
                    .collect()
            })
            .collect();
        let combinations = LEVELS.pow(u32::try_from(levels.len()).unwrap_or(0));
        for combination in 0..combinations {
            let thresholds: Vec<f64> = levels
                .iter()
                .enumerate()
                .map(|(at, l)| l[combination / LEVELS.pow(u32::try_from(at).unwrap_or(0)) % LEVELS])
                .collect();
            let measured = chain_on(learn, &states, &thresholds);
            all.push((measured, states.clone(), thresholds));
        }
    }
    let best = |lambda: f64| {
        let value = |p: &Point| p.quality - lambda * p.cost;
        all.iter().max_by(|a, b| value(&a.0).total_cmp(&value(&b.0)))
    };
    prices(learn).filter_map(best).map(|(_, states, thresholds)| chain_on(test, states, thresholds)).collect()
}

fn chain_on(rows: &Labelled, states: &[(usize, usize)], thresholds: &[f64]) -> Point {
    let (mut cost, mut quality) = (0.0, 0.0);
    for row in 0..rows.len() {
        for (at, (tier, place)) in states.iter().enumerate() {
            cost += rows.cost[*tier][row];
            let is_last = at + 1 == states.len();
            if is_last || !rows.refused[*tier][row] && rows.chance[*place][row] >= thresholds[at] {
                quality += rows.quality[*tier][row];
                break;
            }
        }
    }
    Point { cost: cost / count(rows.len()), quality: quality / count(rows.len()) }
}

/// Who knows every label asks the one best tier.
fn oracle(rows: &Labelled) -> Points {
    let point = |lambda: f64| {
        let best = |row: usize| {
            let value = |tier: &usize| rows.quality[*tier][row] - lambda * rows.cost[*tier][row];
            (0..rows.tiers).max_by(|a, b| value(a).total_cmp(&value(b))).unwrap_or(0)
        };
        let sum = |of: &[Vec<f64>]| (0..rows.len()).map(|row| of[best(row)][row]).sum::<f64>() / count(rows.len());
        Point { cost: sum(&rows.cost), quality: sum(&rows.quality) }
    };
    prices(rows).map(point).collect()
}
