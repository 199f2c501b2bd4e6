//! The golden numbers of ../shared/design/science.md: GSM8K, Mixtral before
//! GPT-4, from ../shared/golden. Skipped, saying so, where that is absent.

use std::path::Path;

use prompt_cascade::report::baselines::{Tiers, oracle, shuffled};
use prompt_cascade::report::edges::{Step, edge};
use prompt_cascade::statistics::curve::{Hull, Point};
use prompt_cascade::statistics::ranking::{Deferral, auroc};
use prompt_cascade::statistics::resample::{Interval, bootstrap};
use prompt_cascade::statistics::{count, mean};

/// Labels of weak and strong answers, and the weak ones' scores.
struct Golden {
    weak: Vec<f64>,
    strong: Vec<f64>,
    score: Vec<f64>,
}

fn golden() -> Option<Golden> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/golden/gsm8k_pair.csv");
    let Ok(text) = std::fs::read_to_string(&path) else {
        eprintln!("SKIPPED: there is no {}", path.display());
        return None;
    };
    let mut rows = Golden { weak: Vec::new(), strong: Vec::new(), score: Vec::new() };
    for line in text.lines().skip(1) {
        let [weak, strong, score] = line.split(',').map(|v| v.parse().expect(line)).collect::<Vec<f64>>()[..] else {
            panic!("{line}")
        };
        rows.weak.push(weak);
        rows.strong.push(strong);
        rows.score.push(score);
    }
    assert_eq!(rows.weak.len(), 1319);
    Some(rows)
}

fn same(what: &str, is: Option<f64>, golden: f64) {
    let is = is.unwrap_or_else(|| panic!("{what} is not defined"));
    assert!((is - golden).abs() < 1e-12, "{what}: {is} instead of {golden}");
}

/// What a policy that accepts from 0 to n rows costs: a weak answer costs 5, a
/// strong one 50 more.
const WEAK: f64 = 5.0;
const STRONG: f64 = 50.0;

#[test]
fn rankings() {
    let Some(Golden { weak, strong, score }) = golden() else { return };
    same("weak", mean(&weak), 0.638_362_395_754_359_4);
    same("strong", mean(&strong), 0.856_709_628_506_444_3);
    let pairs: Vec<(f64, f64)> = score.iter().copied().zip(weak.iter().copied()).collect();
    same("AUROC", auroc(&pairs), 0.569_984_114_890_671_7);
    let deferral = Deferral::new(&score, weak, strong);
    same("APGR", deferral.apgr(&vec![1; deferral.len()]), 0.529_420_436_357_51);
    same("CPT50", deferral.call_share(0.5), 0.420_773_313_115_996_97);
    same("CPT80", deferral.call_share(0.8), 0.874_147_081_122_062_2);
    same("CPT95", deferral.call_share(0.95), 0.987_869_598_180_439_7);
    same("CPT100", deferral.call_share(1.0), 1.0);
}

#[test]
fn costs_on_the_hull() {
    let Some(Golden { weak, strong, score }) = golden() else { return };
    let top = Point { cost: STRONG, quality: mean(&strong).expect("rows") };
    let deferral = Deferral::new(&score, weak, strong);
    let curve = deferral.curve(&vec![1; deferral.len()]);
    let points = curve.iter().map(|(share, quality)| Point { cost: WEAK + share * STRONG, quality: *quality });
    let points: Vec<Point> = points.filter(|p| p.cost <= STRONG).chain([top]).collect();
    let hull = Hull::of(&points).expect("points");
    assert_eq!(hull.corners().len(), 9);
    same("AIQ", hull.mean_quality(WEAK, STRONG), 0.757_834_680_868_361_9);
    for (share, golden) in
        [(0.90, 30.220_488_603_552_01), (0.95, 40.110_244_301_776_01), (0.98, 46.044_097_720_710_39), (1.0, 50.0)]
    {
        same("cost", hull.cost_of(share * top.quality), golden);
    }
}

#[test]
fn the_oracle_and_an_operating_point() {
    let Some(Golden { weak, strong, score }) = golden() else { return };
    let n = count(weak.len());
    let share = |holds: &dyn Fn(usize) -> bool| count((0..weak.len()).filter(|row| holds(*row)).count()) / n;
    let accepted = |row: usize| score[row] >= -60.0;
    let labels: Vec<[f64; 2]> = weak.iter().zip(&strong).map(|(w, s)| [*w, *s]).collect();
    let tiers = |(row, quality)| Tiers { quality, cost: &[WEAK, STRONG], served: Some(usize::from(!accepted(row))) };
    let rows: Vec<Tiers<'_>> = labels.iter().map(|two| &two[..]).enumerate().map(tiers).collect();
    let best = oracle(&rows, true);
    same("oracle quality", Some(best.quality), 0.928_733_889_310_083_4);
    same("oracle cost", Some(best.cost), 19.518_574_677_786_2);
    let control = shuffled(&rows, 0.736_163_760_424_564_1, 2000, 1);
    let interval = control.quality.interval.expect("drawn");
    assert!((control.quality.value - 0.7179).abs() < 0.001, "{control:?}");
    assert!((interval.low - 0.7028).abs() < 0.002 && (interval.high - 0.7324).abs() < 0.002, "{interval:?}");
    assert!(control.is_significant);

    let accept = share(&accepted);
    let escalated = 1.0 - accept;
    let step = |row: usize| {
        let is_served = accepted(row);
        Step { lower: weak[row], upper: strong[row], is_taken: !is_served, is_served }
    };
    let up = edge(0, 1, &(0..weak.len()).map(step).collect::<Vec<_>>());
    let served = |row: usize| if accepted(row) { weak[row] } else { strong[row] };
    let quality = (0..weak.len()).map(served).sum::<f64>() / n;
    same("accept", Some(accept), 0.634_571_645_185_746_8);
    same("escalation precision", up.precision, 0.348_547_717_842_323_63);
    same("recall", up.recall, 0.438_642_297_650_130_6);
    same("over-escalation", up.over_escalation, 0.545_643_153_526_970_9);
    same("missed error", up.missed_error, 0.308_243_727_598_566_33);
    same("harm", up.harm, 0.080_912_863_070_539_42);
    same("quality", Some(quality), 0.736_163_760_424_564_1);
    same("cost", Some(WEAK + STRONG * escalated), 23.271_417_740_712_66);
    same("regret", Some(best.quality - quality), 0.192_570_128_885_519_33);

    let groups: Vec<u64> = (0..weak.len() as u64).collect();
    let strong_mean = |weights: &[u32]| weights.iter().zip(&strong).map(|(w, s)| f64::from(*w) * s).sum::<f64>() / n;
    let intervals = bootstrap(&groups, 2000, 1, |weights| {
        let rows = || weights.iter().enumerate().map(|(row, weight)| (row, f64::from(*weight)));
        let quality = rows().map(|(row, weight)| weight * served(row)).sum::<f64>() / n;
        let cost =
            rows().map(|(row, weight)| weight * if accepted(row) { WEAK } else { WEAK + STRONG }).sum::<f64>() / n;
        vec![Some(quality), Some(cost), Some(quality - strong_mean(weights))]
    });
    let near = |interval: &Option<Interval>, low: f64, high: f64, by: f64| {
        let interval = interval.expect("defined");
        assert!((interval.low - low).abs() < by && (interval.high - high).abs() < by, "{interval:?}");
    };
    near(&intervals[0], 0.7127, 0.7589, 0.003);
    near(&intervals[1], 21.98, 24.60, 0.15);
    near(&intervals[2], -0.144, -0.097, 0.003);
}
