//! Learns scores from labelled rows: which features, how strongly held down, and
//! the map to chances, all by cross-validation.
//!
//! Invariant: a row's own score, as calibration goes on with it, comes from
//! weights that have not seen its group. Only the two numbers of the last map to
//! chances are fitted to all rows at once.

use crate::outcomes::Row;
use crate::scoring::features::{self, Block, Features};
use crate::scoring::learned::{Calibrator, Learned, Missing, Weight};
use crate::statistics::isotonic::Isotonic;
use crate::statistics::{count, logistic, logit, mean, sigmoid};
use crate::stopping::{all_states, state};

/// Parts that rows are dealt into, by group.
pub const FOLDS: u64 = 5;
/// Rows looked at for choosing features; more change nothing.
const CHOOSING_ROWS: usize = 1000;
/// Fewer rows than this teach no more than a mean.
const FEWEST: usize = 20;

/// Scores learned for every state.
#[derive(Clone, Debug)]
pub struct Scores {
    /// By state.
    pub models: Vec<Learned>,
    /// The chance of each row's answer, by state and row, from models that have
    /// not seen it; 0 where it was refused.
    pub chances: Vec<Vec<f64>>,
    /// What was chosen for each tier but the last.
    pub chosen: Vec<Chosen>,
}

/// The features chosen for a tier, and how well they told right from wrong.
#[derive(Clone, Debug, PartialEq)]
pub struct Chosen {
    /// In words.
    pub by: String,
    /// Cross-validated area under the ROC curve; none where all labels are alike.
    pub auroc: Option<f64>,
}

/// What a score may be learned from.
#[derive(Clone, Debug, PartialEq)]
enum Candidate {
    /// One feature, by an isotonic map.
    One(usize),
    /// All features of these blocks, held down by this penalty.
    Blocks(Vec<Block>, f64),
}

impl Candidate {
    fn name(&self) -> String {
        match self {
            Self::One(feature) => features::names().nth(*feature).map_or("", |(name, _)| name).to_owned(),
            Self::Blocks(blocks, _) => {
                let names: Vec<String> = blocks.iter().map(|b| format!("{b:?}").to_lowercase()).collect();
                names.join(" + ")
            }
        }
    }
}

/// Learns scores for every state of a ladder.
#[must_use]
pub fn learn(rows: &[&Row], tiers: usize) -> Scores {
    // With smaller answers to compare with, and without.
    let after_all: Vec<_> = (0..tiers - 1).map(|tier| choose(rows, tier, (1 << tier) - 1)).collect();
    let first: Vec<_> = (0..tiers - 1).map(|tier| choose(rows, tier, 0)).collect();
    let (mut models, mut chances) = (Vec::new(), Vec::new());
    for (tier, after) in all_states(tiers) {
        let fitted = Fitting::new(rows, tier, after, usize::MAX).fit(if after == 0 {
            &first[tier].0
        } else {
            &after_all[tier].0
        });
        let mut all = vec![0.0; rows.len()];
        fitted.chances.iter().for_each(|(row, chance)| all[*row] = *chance);
        models.push(fitted.model);
        chances.push(all);
    }
    Scores { models, chances, chosen: after_all.into_iter().map(|(_, chosen)| chosen).collect() }
}

/// The candidate with the least cross-validated log loss in a state.
fn choose(rows: &[&Row], tier: usize, after: u32) -> (Candidate, Chosen) {
    let fitting = Fitting::new(rows, tier, after, CHOOSING_ROWS);
    let has = |block: Block| fitting.has(block);
    let mut candidates = Vec::new();
    if has(Block::Logprobs) {
        let single = ["lp_min", "lp_q10", "lp_mean", "lp_tail"];
        let places = features::names().enumerate().filter(|(_, (name, _))| single.contains(name));
        candidates.extend(places.map(|(at, _)| Candidate::One(at)));
    }
    let there = |block: &Block| has(*block);
    let sets: [&[Block]; 7] = [
        &[Block::Surface],
        &[Block::Agreement],
        &[Block::Logprobs],
        &[Block::Surface, Block::Prompt],
        &[Block::Surface, Block::Prompt, Block::Agreement],
        &[Block::Logprobs, Block::Agreement],
        &[Block::Logprobs, Block::Surface, Block::Prompt, Block::Agreement],
    ];
    for set in sets {
        let set: Vec<Block> = set.iter().copied().filter(there).collect();
        for penalty in [5.0, 50.0] {
            let candidate = Candidate::Blocks(set.clone(), penalty);
            if !set.is_empty() && !candidates.contains(&candidate) {
                candidates.push(candidate);
            }
        }
    }
    let labels: Vec<f64> = fitting.rows.iter().map(|(_, _, label)| *label).collect();
    let tried = candidates.into_iter().map(|candidate| {
        let chances: Vec<f64> = fitting.fit(&candidate).chances.iter().map(|(_, chance)| *chance).collect();
        let loss = logistic::log_loss(chances.iter().copied().zip(labels.iter().copied()));
        let pairs: Vec<(f64, f64)> = chances.into_iter().zip(labels.iter().copied()).collect();
        (loss, candidate, crate::statistics::ranking::auroc(&pairs))
    });
    let best = tried.min_by(|a, b| a.0.total_cmp(&b.0));
    let (_, candidate, auroc) = best.unwrap_or((0.0, Candidate::Blocks(vec![Block::Surface], 50.0), None));
    let chosen = Chosen { by: candidate.name(), auroc };
    (candidate, chosen)
}

/// The rows of one state that can be learned from.
struct Fitting<'a> {
    /// Each row's place, features, and label.
    rows: Vec<(usize, &'a Features, f64)>,
    fold: Vec<u64>,
}

struct Fitted {
    model: Learned,
    /// Each row's place and its chance by models that have not seen it.
    chances: Vec<(usize, f64)>,
}

impl<'a> Fitting<'a> {
    fn new(rows: &[&'a Row], tier: usize, after: u32, at_most: usize) -> Self {
        let place = state(tier, after);
        let open = rows.iter().enumerate().filter(|(_, row)| !row.refused[tier]).take(at_most);
        let fold = open.clone().map(|(_, row)| fold_of(row.group)).collect();
        let rows = open.map(|(at, row)| (at, &row.features[place], row.quality[tier])).collect();
        Self { rows, fold }
    }

    /// Whether more than half of the rows have something of a block.
    fn has(&self, block: Block) -> bool {
        self.rows.iter().filter(|(_, features, _)| !features.lacks(block)).count() * 2 > self.rows.len()
    }

    fn fit(&self, candidate: &Candidate) -> Fitted {
        let fitted = self.fit_by(candidate);
        Fitted { model: fitted.model.wanting_logprobs(self.has(Block::Logprobs)), ..fitted }
    }

    fn fit_by(&self, candidate: &Candidate) -> Fitted {
        if self.rows.len() < FEWEST {
            let labels: Vec<f64> = self.rows.iter().map(|(_, _, label)| *label).collect();
            let chance = (labels.iter().sum::<f64>() + 1.0) / (count(labels.len()) + 2.0);
            let model =
                Learned::new(Vec::new(), Vec::new(), logit(chance), [Calibrator::Identity, Calibrator::Identity]);
            return Fitted { model, chances: self.rows.iter().map(|(row, _, _)| (*row, chance)).collect() };
        }
        let all: Vec<usize> = (0..self.rows.len()).collect();
        match candidate {
            Candidate::One(feature) => {
                let alone = |calibrators: [Calibrator; 2]| {
                    let weight = Weight { feature: *feature, center: 0.0, spread: 10.0, weight: 10.0 };
                    Learned::new(vec![weight], Vec::new(), 0.0, calibrators)
                };
                let raw = alone([Calibrator::Identity, Calibrator::Identity]);
                let model =
                    |places: &[usize]| alone([self.isotonic(&raw, places, false), self.isotonic(&raw, places, true)]);
                let chances = self.out_of_fold(|others| {
                    let model = model(others);
                    move |features: &Features| model.chance(features)
                });
                Fitted { model: model(&all), chances }
            }
            Candidate::Blocks(blocks, penalty) => {
                let odds = self.out_of_fold(|others| {
                    let model = self.regression(blocks, *penalty, others);
                    move |features: &Features| model.log_odds(features)
                });
                let calibrators = self.platt(&odds);
                let chances = odds.iter().zip(&self.rows).map(|((row, odds), (_, features, _))| {
                    let (slope, level) = calibrators[usize::from(features.lacks(Block::Logprobs))];
                    (*row, sigmoid(slope * odds + level))
                });
                let chances = chances.collect();
                let calibrators = calibrators.map(|(slope, level)| Calibrator::Platt { slope, level });
                Fitted { model: self.regression(blocks, *penalty, &all).calibrated(calibrators), chances }
            }
        }
    }

    /// A number for each row, by a model made from the rows of other folds.
    fn out_of_fold<M: Fn(&Features) -> f64>(&self, make: impl Fn(&[usize]) -> M) -> Vec<(usize, f64)> {
        let mut numbers = vec![0.0; self.rows.len()];
        for fold in 0..FOLDS {
            let (here, others): (Vec<usize>, Vec<usize>) = (0..self.rows.len()).partition(|at| self.fold[*at] == fold);
            if here.is_empty() {
                continue;
            }
            let model = make(&others);
            here.into_iter().for_each(|at| numbers[at] = model(self.rows[at].1));
        }
        self.rows.iter().zip(numbers).map(|((row, _, _), number)| (*row, number)).collect()
    }

    /// The map for answers that have logprobs, or for those that lack them, which
    /// are all alike to a single feature: their mean. None of them is no chance.
    fn isotonic(&self, raw: &Learned, places: &[usize], lacking: bool) -> Calibrator {
        let kind = places.iter().map(|at| &self.rows[*at]).filter(|(_, f, _)| f.lacks(Block::Logprobs) == lacking);
        let pairs: Vec<(f64, f64)> = kind.map(|(_, features, label)| (raw.log_odds(features), *label)).collect();
        let none = || Isotonic::fit(&[(0.0, 0.0)]);
        Isotonic::fit(&pairs).or_else(none).map_or(Calibrator::Identity, Calibrator::Isotonic)
    }

    /// Slope and level for answers with logprobs, and for those without; the same
    /// for both where one kind is too rare.
    fn platt(&self, odds: &[(usize, f64)]) -> [(f64, f64); 2] {
        let of = |wanted: Option<bool>| {
            let there =
                self.rows.iter().zip(odds).filter(|((_, features, _), _)| {
                    wanted.is_none_or(|lacks| lacks == features.lacks(Block::Logprobs))
                });
            let (odds, labels): (Vec<f64>, Vec<f64>) = there.map(|((_, _, label), (_, odds))| (*odds, *label)).unzip();
            if odds.len() < FEWEST {
                return None;
            }
            let fitted = logistic::fit(&odds, 1, &labels, 1.0);
            // Never the wrong way round, nor surer than the regression was.
            let slope = fitted[0].clamp(0.05, 1.5);
            let middle = mean(&odds).unwrap_or(0.0);
            let level = if (slope - fitted[0]).abs() < 1e-12 {
                fitted[1]
            } else {
                logit(mean(&labels).unwrap_or(0.5).clamp(0.01, 0.99)) - slope * middle
            };
            Some((slope, level))
        };
        let pooled = of(None).unwrap_or((1.0, 0.0));
        [Some(false), Some(true)].map(|lacks| of(lacks).unwrap_or(pooled))
    }

    fn regression(&self, blocks: &[Block], penalty: f64, places: &[usize]) -> Learned {
        let rows = || places.iter().map(|at| &self.rows[*at]);
        let wanted = features::names().enumerate().filter(|(_, (_, block))| blocks.contains(block));
        let mut weights: Vec<Weight> = Vec::new();
        for (feature, _) in wanted {
            let known: Vec<f64> = rows().map(|(_, f, _)| f.0[feature]).filter(|v| v.is_finite()).collect();
            let Some(center) = mean(&known) else { continue };
            let spread = (known.iter().map(|v| (v - center).powi(2)).sum::<f64>() / count(known.len())).sqrt();
            if spread > 1e-9 {
                weights.push(Weight { feature, center, spread, weight: 1.0 });
            }
        }
        let lacking = |block: &&Block| {
            let lack = rows().filter(|(_, features, _)| features.lacks(**block)).count();
            lack > 0 && lack < places.len()
        };
        let mut missing: Vec<Missing> =
            blocks.iter().filter(lacking).map(|block| Missing { block: *block, weight: 0.0 }).collect();
        let columns = weights.len() + missing.len();
        let mut values = Vec::with_capacity(columns * places.len());
        for (_, features, _) in rows() {
            values.extend(weights.iter().map(|w| w.effect(features)));
            values.extend(missing.iter().map(|m| f64::from(u8::from(features.lacks(m.block)))));
        }
        let labels: Vec<f64> = rows().map(|(_, _, label)| *label).collect();
        let fitted = logistic::fit(&values, columns, &labels, penalty);
        let mut fitted = fitted.into_iter();
        weights.iter_mut().zip(&mut fitted).for_each(|(w, value)| w.weight = value);
        missing.iter_mut().zip(&mut fitted).for_each(|(m, value)| m.weight = value);
        let level = fitted.next().unwrap_or(0.0);
        Learned::new(weights, missing, level, [Calibrator::Identity, Calibrator::Identity])
    }
}

/// The fold of a group.
#[must_use]
pub fn fold_of(group: u64) -> u64 {
    // Another mix than that of the split, so that folds of a half are even.
    (group.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) % FOLDS
}
