//! Learns from a prompt's words how easy it is, so that hard ones start higher.
//!
//! Kept only where it tells more than the mean on prompts it has not seen.

use super::learn::{FOLDS, fold_of};
use crate::outcomes::Row;
use crate::statistics::linear::sparse_ridge;
use crate::statistics::{count, logistic, mean};
use crate::stopping::Easiness;

/// Hashed words, see [`crate::scoring::features::hashed_grams`].
const PLACES: usize = 1 << 15;
/// How strongly features and words are held down, in rows' worth.
const DENSE_PENALTY: f64 = 20.0;
const WORDS_PENALTY: f64 = 4.0;

/// How easy prompts are, and each row's easiness by a model that has not seen it;
/// none where it does not help.
#[must_use]
pub fn learn(rows: &[&Row]) -> Option<(Easiness, Vec<f64>)> {
    const FEWEST: usize = 60;
    if rows.len() < FEWEST {
        return None;
    }
    let target: Vec<f64> = rows.iter().map(|row| mean(&row.quality).unwrap_or(0.0)).collect();
    let level = mean(&target)?;
    let losses = |chances: &[f64]| -> Vec<f64> {
        chances.iter().zip(&target).map(|(p, y)| logistic::log_loss(std::iter::once((*p, *y)))).collect()
    };
    let flat = losses(&vec![level; rows.len()]);
    let mut best: Option<(f64, bool, Vec<f64>)> = None;
    for with_words in [false, true] {
        let chances = out_of_fold(rows, &target, with_words);
        let gains: Vec<f64> = flat.iter().zip(losses(&chances)).map(|(flat, loss)| flat - loss).collect();
        let gain = mean(&gains)?;
        let error = (gains.iter().map(|g| (g - gain).powi(2)).sum::<f64>() / count(gains.len()).powi(2)).sqrt();
        // Better than nothing by more than its own error.
        if gain > error && best.as_ref().is_none_or(|(most, ..)| gain > *most) {
            best = Some((gain, with_words, chances));
        }
    }
    let (_, with_words, chances) = best?;
    let all: Vec<usize> = (0..rows.len()).collect();
    Some((fit(rows, &target, &all, with_words), chances))
}

fn out_of_fold(rows: &[&Row], target: &[f64], with_words: bool) -> Vec<f64> {
    let mut chances = vec![0.0; rows.len()];
    for fold in 0..FOLDS {
        let (here, others): (Vec<usize>, Vec<usize>) = (0..rows.len()).partition(|at| fold_of(rows[*at].group) == fold);
        let model = fit(rows, target, &others, with_words);
        here.into_iter().for_each(|at| chances[at] = model.at(&rows[at].prompt, &rows[at].grams));
    }
    chances
}

fn fit(rows: &[&Row], target: &[f64], places: &[usize], with_words: bool) -> Easiness {
    let columns = rows.first().map_or(0, |row| row.prompt.len());
    let mut dense: Vec<[f64; 3]> = (0..columns)
        .map(|at| {
            let known: Vec<f64> = places.iter().map(|row| rows[*row].prompt[at]).filter(|v| v.is_finite()).collect();
            let center = mean(&known).unwrap_or(0.0);
            let spread = (known.iter().map(|v| (v - center).powi(2)).sum::<f64>() / count(known.len().max(1))).sqrt();
            // What never varies gets no weight, whatever it is divided by.
            [center, if spread > 1e-9 { spread } else { 1.0 }, 0.0]
        })
        .collect();
    let mut values = Vec::with_capacity(columns * places.len());
    for place in places {
        let standard = |(value, [center, spread, _]): (&f64, &[f64; 3])| {
            if value.is_nan() { 0.0 } else { ((value - center) / spread).clamp(-4.0, 4.0) }
        };
        values.extend(rows[*place].prompt.iter().zip(&dense).map(standard));
    }
    let labels: Vec<f64> = places.iter().map(|at| target[*at]).collect();
    let fitted = logistic::fit(&values, columns, &labels, DENSE_PENALTY);
    dense.iter_mut().zip(&fitted).for_each(|(d, weight)| d[2] = *weight);
    let mut model = Easiness { level: fitted.last().copied().unwrap_or(0.0), dense, words: Vec::new() };
    if with_words {
        // One Newton step from the dense fit, on the words.
        let chances: Vec<f64> = places.iter().map(|at| model.at(&rows[*at].prompt, &[])).collect();
        let curve = chances.iter().map(|p| p * (1.0 - p)).sum::<f64>() / count(chances.len().max(1));
        let slack: Vec<f64> = chances.iter().zip(&labels).map(|(p, y)| (y - p) / curve.max(0.01)).collect();
        let grams: Vec<Vec<(u32, f32)>> = places.iter().map(|at| rows[*at].grams.clone()).collect();
        let weights = sparse_ridge(&grams, &slack, PLACES, WORDS_PENALTY);
        #[expect(clippy::cast_possible_truncation, reason = "three digits matter")]
        let kept = weights.iter().zip(0u32..).filter(|(w, _)| w.abs() > 1e-3).map(|(w, place)| (place, *w as f32));
        model.words = kept.collect();
    }
    model
}
