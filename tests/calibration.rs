//! The promises of calibration, on populations whose truth is known.

use std::cell::RefCell;
use std::collections::HashMap;

use prompt_cascade::calibration::{Labelled, Plan, Target, Test, least_escalated, path, plan};
use prompt_cascade::statistics::{count, logit, sigmoid};
use prompt_cascade::stopping::{Method, Point, all_states};

/// Three tiers at these dollars. A prompt is hard or easy; a tier is right with a
/// chance that falls with hardness, most often where a smaller one is, and its
/// score is that chance, blurred.
const COSTS: [f64; 3] = [0.05, 0.2, 1.0];
const SKILLS: [f64; 3] = [0.5, 1.7, 3.4];

fn population(rows: usize, seed: u64) -> Labelled {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut drawn = Labelled {
        tiers: 3,
        quality: vec![Vec::new(); 3],
        cost: COSTS.map(|cost| vec![cost; rows]).to_vec(),
        differs: vec![vec![0.0; rows]; 3],
        refused: vec![vec![false; rows]; 3],
        chance: vec![Vec::new(); 3],
        easiness: None,
    };
    for _ in 0..rows {
        let hardness = 6.0 * random.f64() - 2.0;
        let shared = 2.0 * logit(random.f64());
        for (tier, skill) in SKILLS.into_iter().enumerate() {
            let odds = skill - hardness;
            let luck = shared + 0.5 * logit(random.f64());
            drawn.quality[tier].push(f64::from(u8::from(2.0 * odds + luck > 0.0)));
            if tier < 2 {
                // States in order: the first tier; the second alone, and after it.
                let blurred = sigmoid(0.8 * odds + 1.2 * (random.f64() - 0.5));
                all_states(3).enumerate().filter(|(_, (of, _))| *of == tier).for_each(|(place, _)| {
                    drawn.chance[place].push(blurred);
                });
            }
        }
    }
    drawn
}

/// The mean loss of a policy against the largest tier, all but exactly.
fn true_loss(truth: &Labelled, point: &Point) -> f64 {
    let loss = |row: usize| truth.quality[2][row] - truth.walk(point, row).quality;
    (0..truth.len()).map(loss).sum::<f64>() / count(truth.len())
}

#[test]
fn certified_policies_break_their_promise_no_more_often_than_delta_and_naive_ones_do() {
    const SEEDS: u64 = 500;
    const DELTA: f64 = 0.1;
    const MAX_LOSS: f64 = 0.03;
    let truth = population(20_000, 999_999);
    let allowed = DELTA + 3.0 * (DELTA * (1.0 - DELTA) / 500.0f64).sqrt();
    let (mut broken, mut saved) = ([0usize; 4], [0.0f64; 4]);
    let mut naive_broken = 0usize;
    for seed in 0..SEEDS {
        let (fit, calibrate) = (population(400, 2 * seed), population(400, 2 * seed + 1));
        let points = path(&fit, u32::MAX);
        let known = RefCell::new(HashMap::new());
        let is_broken =
            |at: usize| *known.borrow_mut().entry(at).or_insert_with(|| true_loss(&truth, &points[at]) > MAX_LOSS);
        let test = |rows| Test { rows, target: Target::MaxLoss(MAX_LOSS), delta: DELTA, most_usd: 10.0 };
        let planned = plan(&test(&fit), &points, calibrate.len());
        let by = |method| Plan { method, order: (0..points.len()).collect() };
        let plans = [by(Method::ClopperPearson), by(Method::HoeffdingBentkus), by(Method::Betting), planned];
        for (at, plan) in plans.into_iter().enumerate() {
            let passed = test(&calibrate).descend(&points, &plan).expect("the largest tier alone always passes");
            broken[at] += usize::from(is_broken(passed.point));
            saved[at] += 1.0 - calibrate.measured(points[passed.point].clone()).cost / COSTS[2];
        }
        let measured = |point: &Point| true_loss(&calibrate, point) <= MAX_LOSS;
        let naive = points.iter().rposition(measured).unwrap_or(0);
        naive_broken += usize::from(is_broken(naive));
    }
    let share = |n: usize| count(n) / 500.0;
    let names = ["Clopper-Pearson", "Hoeffding-Bentkus", "betting", "planned on the fit split"];
    for (name, (broken, saved)) in names.into_iter().zip(broken.into_iter().zip(saved)) {
        println!("{name}: {:.3} broken, {:.3} of the cost saved", share(broken), saved / 500.0);
        assert!(share(broken) <= allowed, "{name} broke its promise in {broken} of 500");
    }
    println!("naive threshold: {:.3} broken", share(naive_broken));
    assert!(share(naive_broken) > 2.0 * DELTA, "the naive threshold is meant to fail: {naive_broken} of 500");
    assert!(
        saved.iter().all(|saved| saved / 500.0 > 0.05) && saved[3] / 500.0 > 0.1,
        "a promise that never lets anything go down is worth nothing"
    );
}

#[test]
fn a_share_kept_and_a_budget_are_held_too() {
    const DELTA: f64 = 0.1;
    let truth = population(20_000, 77);
    let top = truth.quality[2].iter().sum::<f64>() / count(truth.len());
    let allowed = DELTA + 3.0 * (DELTA * (1.0 - DELTA) / 200.0f64).sqrt();
    let (mut keep_broken, mut keep_saved, mut budget_broken, mut spent) = ([0usize; 2], [0.0; 2], 0usize, 0.0);
    for seed in 0..200 {
        let (fit, calibrate) = (population(400, 5000 + 2 * seed), population(400, 5001 + 2 * seed));
        let points = path(&fit, u32::MAX);
        let test = |target| Test { rows: &calibrate, target, delta: DELTA, most_usd: 1.8 };
        let by = |method| Plan { method, order: (0..points.len()).collect() };
        for (at, method) in [Method::ClopperPearson, Method::Betting].into_iter().enumerate() {
            let passed = test(Target::Keep(0.95)).descend(&points, &by(method)).expect("the largest alone");
            keep_broken[at] += usize::from(true_loss(&truth, &points[passed.point]) > 0.05 * top);
            keep_saved[at] += (1.0 - points[passed.point].cost) / 200.0;
        }
        let budget = Target::Budget(0.9);
        let planned = plan(&Test { rows: &fit, target: budget, delta: DELTA, most_usd: 1.8 }, &points, calibrate.len());
        if let Some(passed) = test(budget).descend(&points, &planned) {
            let cost = truth.measured(points[passed.point].clone()).cost;
            budget_broken += usize::from(cost > 0.9);
            spent += cost / 200.0;
        }
    }
    println!(
        "kept 95%: broken {keep_broken:?} of 200, saved {keep_saved:.3?}; budget: {budget_broken} of 200, {spent:.3} of 0.9 spent"
    );
    assert!(keep_saved.iter().all(|saved| *saved > 0.03), "{keep_saved:?}");
    assert!(keep_broken.iter().all(|broken| count(*broken) / 200.0 <= allowed), "{keep_broken:?}");
    assert!(count(budget_broken) / 200.0 <= allowed && spent > 0.6, "{budget_broken} {spent}");
}

#[test]
fn what_can_be_had_is_bounded_by_what_the_tiers_can_do() {
    assert!(least_escalated(0.01, 0.02).abs() < 1e-12);
    assert!((least_escalated(0.3, 0.02) - 0.28).abs() < 1e-12);
    let rows = population(100, 1);
    let strict = Test { rows: &rows, target: Target::MaxLoss(0.001), delta: 0.05, most_usd: 1.25 };
    let points = path(&rows, u32::MAX);
    let in_turn = Plan { method: Method::ClopperPearson, order: (0..points.len()).collect() };
    let passed = strict.descend(&points, &in_turn).expect("the largest tier alone");
    assert_eq!(
        (passed.point, passed.p_value, passed.failed),
        (0, 0.0, Some(1)),
        "a hundred rows cannot show a loss of a thousandth"
    );
}

#[test]
fn a_path_goes_from_the_largest_tier_to_the_cheapest_policy() {
    let rows = population(2000, 3);
    let points = path(&rows, u32::MAX);
    assert!(points.len() > 8, "{} points", points.len());
    assert!((points[0].cost - 1.0).abs() < 1e-9);
    let last = points.last().expect("points");
    assert!((last.cost - COSTS[0]).abs() < 1e-9, "at a high price of money the smallest tier answers all: {last:?}");
    let dearer = points.windows(2).filter(|w| w[1].cost > w[0].cost + 0.02).count();
    assert!(dearer <= 1, "a higher price of money costs less");
    let best = points.iter().map(|p| p.quality).fold(0.0, f64::max);
    assert!(best >= points[0].quality, "as good as the largest tier is always to be had");
    // Without the middle tier it is never asked.
    for point in path(&rows, 0b101) {
        assert!((0..rows.len()).all(|row| rows.walk(&point, row).asked & 0b010 == 0));
    }
}
