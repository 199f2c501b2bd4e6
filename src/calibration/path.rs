//! From scores to a path of policies, safest first: optimal stopping with skips,
//! by backward induction at one price of money after another.
//!
//! Longstaff & Schwartz 2001: the value of going on is regressed on the state,
//! and what is carried back is the value realised, not the regression's.

use super::Labelled;
use crate::statistics::count;
use crate::statistics::linear::{Bent, Regressor};
use crate::stopping::{Act, Cuts, Point, StateActs, all_states, state};

/// Prices of money tried, as quality per call of the largest tier.
const PRICES: usize = 40;
const LOWEST: f64 = 0.002;
const HIGHEST: f64 = 4.0;
/// Prices tried in all, and the gap in cost, as a share of the largest tier's, that
/// is looked into.
const MOST_PRICES: usize = 100;
const GAP: f64 = 0.03;
/// Places between 0 and 1 at which a rule is written down.
const STEPS: usize = 64;
const NARROWEST: usize = 3;
/// A refused answer's next tier is judged by so many rows like all others.
const PRIOR: f64 = 10.0;

/// Which tiers a path may ask.
pub type Allowed = u32;

/// The path on labelled rows, from always asking the largest tier to the
/// cheapest; only tiers in `allowed`, a bit each, are asked.
#[must_use]
pub fn path(rows: &Labelled, allowed: Allowed) -> Vec<Point> {
    let safest = rows.measured(always_top(rows.tiers));
    if rows.is_empty() {
        return vec![safest];
    }
    let induction = Induction::new(rows, allowed);
    // Where the largest tier is free, money is of no account.
    let top = if safest.cost > 0.0 { safest.cost } else { 1.0 };
    let at = |lambda: f64| rows.measured(induction.at(lambda));
    let prices = (0..PRICES).map(|step| LOWEST * (HIGHEST / LOWEST).powf(count(step) / count(PRICES - 1)) / top);
    let mut tried: Vec<Point> = prices.map(at).collect();
    // Between two that differ much, what lies between them.
    let mut here = 0;
    while here + 1 < tried.len() && tried.len() < MOST_PRICES {
        let (low, high) = (&tried[here], &tried[here + 1]);
        if (low.cost - high.cost).abs() > GAP * top && high.lambda > low.lambda * 1.002 {
            let between = at((low.lambda * high.lambda).sqrt());
            tried.insert(here + 1, between);
        } else {
            here += 1;
        }
    }
    // What comes to the same on every row is the same.
    let comes_to = |point: &Point| (point.cost.to_bits(), point.quality.to_bits());
    let mut points = vec![safest];
    for point in tried {
        if points.last().is_none_or(|last| comes_to(last) != comes_to(&point)) {
            points.push(point);
        }
    }
    points
}

/// The policy that only ever asks the largest tier.
#[must_use]
pub fn always_top(tiers: usize) -> Point {
    let top = tiers - 1;
    let act = all_states(tiers).map(|_| StateActs { gated: top, scored: Cuts::always(Act::Ask(top)) });
    Point { lambda: 0.0, cost: 0.0, quality: 0.0, differs: 0.0, start: Cuts::always(Act::Ask(top)), act: act.collect() }
}

/// What does not depend on the price of money.
struct Induction<'a> {
    rows: &'a Labelled,
    allowed: Allowed,
    states: Vec<StateRows>,
    start: Option<Ranked>,
}

/// The rows of one state.
struct StateRows {
    /// Not refused, with where each stands among them.
    open: Ranked,
    /// What a right answer looks like from here.
    right: Bent,
    refused: Vec<usize>,
}

/// Rows by where their scores stand among all: the state of the induction, spread
/// evenly over 0..=1 whatever the scores are.
struct Ranked {
    rows: Vec<usize>,
    regressor: Regressor,
    /// Scores, rising.
    sorted: Vec<f64>,
}

impl Ranked {
    fn new(rows: Vec<usize>, score: &[f64]) -> Self {
        let mut sorted: Vec<f64> = rows.iter().map(|row| score[*row]).collect();
        sorted.sort_by(f64::total_cmp);
        let mut ranked = Self { rows, regressor: Regressor::on(std::iter::empty()), sorted };
        ranked.regressor = Regressor::on(ranked.rows.iter().map(|row| ranked.rank(score[*row])));
        ranked
    }

    /// Where a score stands among all, 0..=1: the middle of those equal to it.
    fn rank(&self, score: f64) -> f64 {
        let below = self.sorted.partition_point(|s| *s < score);
        let upto = self.sorted.partition_point(|s| *s <= score);
        f64::midpoint(count(below), count(upto)) / count(self.sorted.len())
    }

    /// Writes down the best act at every place: the highest of `values`.
    fn cuts(&self, acts: &[(Act, Bent)]) -> Cuts {
        let best = |rank: f64| {
            let value = |(_, bent): &&(Act, Bent)| bent.at(rank);
            acts.iter().max_by(|a, b| value(a).total_cmp(&value(b))).map(|(act, _)| *act)
        };
        // Scores that are the same share the middle of their ranks, as in the regression.
        let rank_at = |step: usize| self.rank(self.sorted[(2 * step + 1) * self.sorted.len() / (2 * STEPS)]);
        let mut acts: Vec<Act> = (0..STEPS).filter_map(|step| best(rank_at(step))).collect();
        smooth(&mut acts);
        let mut cuts: Vec<(f64, Act)> = Vec::new();
        for (step, act) in acts.into_iter().enumerate() {
            // The score at which the share of rows below is that of this step's end.
            let end = (step + 1) * self.sorted.len() / STEPS;
            let bound = if step + 1 == STEPS { f64::MAX } else { self.between(end) };
            match cuts.last_mut() {
                Some(last) if last.1 == act => last.0 = bound,
                Some(last) if bound <= last.0 => {}
                _ => cuts.push((bound, act)),
            }
        }
        if let Some(last) = cuts.last_mut() {
            last.0 = f64::MAX;
        }
        Cuts(cuts)
    }

    /// A score between the `n`th lowest and the next.
    fn between(&self, n: usize) -> f64 {
        match (n.checked_sub(1).map(|at| self.sorted[at]), self.sorted.get(n)) {
            (Some(low), Some(high)) => f64::midpoint(low, *high),
            (Some(end), None) => end,
            (None, _) => 0.0,
        }
    }
}

/// Takes out acts that hold for less than [`NARROWEST`] steps: a sliver is chance.
fn smooth(acts: &mut [Act]) {
    let mut start = 0;
    while start < acts.len() {
        let run = acts[start..].iter().take_while(|act| **act == acts[start]).count();
        let neighbour = start.checked_sub(1).or(Some(start + run)).filter(|at| *at < acts.len());
        if let Some(neighbour) = neighbour.filter(|_| run < NARROWEST) {
            let act = acts[neighbour];
            acts[start..start + run].fill(act);
        }
        start += run;
    }
}

impl<'a> Induction<'a> {
    fn new(rows: &'a Labelled, allowed: Allowed) -> Self {
        let states = all_states(rows.tiers).map(|(tier, after)| {
            let (refused, open): (Vec<usize>, Vec<usize>) = (0..rows.len()).partition(|row| rows.refused[tier][*row]);
            let open = Ranked::new(open, &rows.chance[state(tier, after)]);
            let right = open.regressor.fit(open.rows.iter().map(|row| rows.quality[tier][*row]));
            StateRows { open, right, refused }
        });
        let start = rows.easiness.as_ref().map(|easiness| Ranked::new((0..rows.len()).collect(), easiness));
        Self { rows, allowed, states: states.collect(), start }
    }

    fn may_ask(&self, tier: usize) -> bool {
        tier + 1 == self.rows.tiers || self.allowed >> tier & 1 == 1
    }

    /// The best policy where a dollar must buy `lambda` of quality.
    fn at(&self, lambda: f64) -> Point {
        let rows = self.rows;
        let tiers = rows.tiers;
        // The value realised from each state, row by row; the last tier's is its label.
        let mut value: Vec<Vec<f64>> = vec![Vec::new(); self.states.len()];
        let going = |value: &[Vec<f64>], to: usize, after: u32, row: usize| {
            let there = if to + 1 == tiers { rows.quality[to][row] } else { value[state(to, after)][row] };
            there - lambda * rows.cost[to][row]
        };
        let mut act: Vec<Option<StateActs>> = vec![None; self.states.len()];
        for (tier, after) in all_states(tiers).collect::<Vec<_>>().into_iter().rev() {
            let place = state(tier, after);
            let of = &self.states[place];
            let next: Vec<usize> = (tier + 1..tiers).filter(|next| self.may_ask(*next)).collect();
            let then = after | 1 << tier;
            let mut acts = vec![(Act::Serve, of.right)];
            for to in &next {
                let values = of.open.rows.iter().map(|row| going(&value, *to, then, *row));
                acts.push((Act::Ask(*to), of.open.regressor.fit(values)));
            }
            // What was never seen is not served.
            let unseen = of.open.rows.is_empty();
            let scored = if unseen { Cuts::always(Act::Ask(tiers - 1)) } else { of.open.cuts(&acts) };
            let after_refusal = |to: &usize| {
                let sum = |list: &[usize]| list.iter().map(|row| going(&value, *to, then, *row)).sum::<f64>();
                let all = (sum(&of.open.rows) + sum(&of.refused)) / count(rows.len());
                (sum(&of.refused) + PRIOR * all) / (count(of.refused.len()) + PRIOR)
            };
            let best = next.iter().max_by(|a, b| after_refusal(a).total_cmp(&after_refusal(b)));
            let gated = best.copied().unwrap_or(tiers - 1);
            let realised = |row: usize| {
                let act = if rows.refused[tier][row] { Act::Ask(gated) } else { scored.at(rows.chance[place][row]) };
                match act {
                    Act::Serve => rows.quality[tier][row],
                    Act::Ask(to) => going(&value, to, then, row),
                }
            };
            value[place] = (0..rows.len()).map(realised).collect();
            act[place] = Some(StateActs { gated, scored });
        }
        let first: Vec<usize> = (0..tiers).filter(|tier| self.may_ask(*tier)).collect();
        let start = |to: usize, row: usize| going(&value, to, 0, row);
        let flat = |to: &usize| (0..rows.len()).map(|row| start(*to, row)).sum::<f64>();
        let best = first.iter().max_by(|a, b| flat(a).total_cmp(&flat(b))).copied().unwrap_or(tiers - 1);
        let start = match &self.start {
            Some(ranked) => {
                let by = |to: &usize| (Act::Ask(*to), ranked.regressor.fit((0..rows.len()).map(|row| start(*to, row))));
                ranked.cuts(&first.iter().map(by).collect::<Vec<_>>())
            }
            None => Cuts::always(Act::Ask(best)),
        };
        Point { lambda, cost: 0.0, quality: 0.0, differs: 0.0, start, act: act.into_iter().flatten().collect() }
    }
}
