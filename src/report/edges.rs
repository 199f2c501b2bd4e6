//! What going up was good for, and how well scores told when to.

use super::gathered::Kept;
use super::study::{Edge, Estimate, Ranking};
use super::study_of::{DRAWS, SEED};
use crate::statistics::count;
use crate::statistics::ranking::{Deferral, auroc, bins, brier, expected_calibration_error};
use crate::statistics::resample::bootstrap;

/// Bins of a reliability diagram.
const BINS: usize = 15;

/// Labels of the lower and the upper answer of one prompt, and whether the way up
/// was taken or the lower answer served.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// The lower tier's label, 0..=1.
    pub lower: f64,
    /// The upper tier's.
    pub upper: f64,
    /// Whether the way up was taken.
    pub is_taken: bool,
    /// Whether the lower answer was served.
    pub is_served: bool,
}

/// Escalation precision, recall, over-escalation, harm and missed error, each none
/// where nothing of its kind happened. An answer is right from a label of 1/2 on.
#[must_use]
pub fn edge(from: usize, to: usize, steps: &[Step]) -> Edge {
    let number = |holds: &dyn Fn(&Step) -> bool| count(steps.iter().filter(|s| holds(s)).count());
    let share = |part: f64, of: f64| (of > 0.0).then(|| part / of);
    let fixes = |s: &Step| s.upper > s.lower;
    let taken = number(&|s| s.is_taken);
    Edge {
        from,
        to,
        asked: steps.len(),
        escalated: steps.iter().filter(|s| s.is_taken).count(),
        precision: share(number(&|s| s.is_taken && fixes(s)), taken),
        recall: share(number(&|s| s.is_taken && fixes(s)), number(&fixes)),
        over_escalation: share(number(&|s| s.is_taken && s.lower >= 0.5), taken),
        harm: share(number(&|s| s.is_taken && s.upper < s.lower), taken),
        missed_error: share(number(&|s| s.is_served && s.lower < 0.5), number(&|s| s.is_served)),
    }
}

/// Every way up that was taken at least once.
pub(super) fn edges(rows: &[&Kept], tiers: usize) -> Vec<Edge> {
    let pairs = (0..tiers).flat_map(|from| (from + 1..tiers).map(move |to| (from, to)));
    let of = |(from, to): (usize, usize)| {
        let step = |row: &&&Kept| {
            let at = row.asked.iter().position(|(tier, _)| *tier == from)?;
            Some(Step {
                lower: row.quality[from],
                upper: row.quality[to],
                is_taken: row.asked.get(at + 1).is_some_and(|(tier, _)| *tier == to),
                is_served: row.served == Some(from),
            })
        };
        let steps: Vec<Step> = rows.iter().filter_map(|row| step(&row)).collect();
        edge(from, to, &steps)
    };
    pairs.map(of).filter(|edge| edge.escalated > 0).collect()
}

/// How well each tier's scores rank its answers, against the largest tier.
pub(super) fn rankings(rows: &[&Kept], tiers: usize) -> Vec<Ranking> {
    let of = |tier: usize| {
        let score = |row: &Kept| row.asked.iter().find(|(asked, _)| *asked == tier)?.1;
        let scored: Vec<(&Kept, f64)> = rows.iter().filter_map(|row| Some((*row, score(row)?))).collect();
        (!scored.is_empty()).then(|| ranking(tier, &scored, tiers - 1))
    };
    (0..tiers - 1).filter_map(of).collect()
}

fn ranking(tier: usize, answers: &[(&Kept, f64)], top: usize) -> Ranking {
    let scores: Vec<f64> = answers.iter().map(|(_, score)| *score).collect();
    let labels = |tier: usize| -> Vec<f64> { answers.iter().map(|(row, _)| row.quality[tier]).collect() };
    let pairs: Vec<(f64, f64)> = scores.iter().copied().zip(labels(tier)).collect();
    let deferral = Deferral::new(&scores, labels(tier), labels(top));
    let groups = super::gathered::groups_of(&answers.iter().map(|(row, _)| *row).collect::<Vec<_>>());
    let apgr = deferral.apgr(&vec![1; scores.len()]).map(|value| {
        let interval = bootstrap(&groups, DRAWS, SEED, |weights| vec![deferral.apgr(weights)]);
        Estimate { value, interval: interval.first().copied().flatten() }
    });
    let bins = bins(&pairs, BINS);
    Ranking {
        tier,
        answers: answers.len(),
        auroc: auroc(&pairs),
        apgr,
        call_share: [0.5, 0.8, 0.95].map(|target| deferral.call_share(target)),
        deferral: deferral.area(),
        aurc: deferral.aurc(),
        brier: brier(&pairs),
        calibration_error: expected_calibration_error(&bins),
        bins,
    }
}
