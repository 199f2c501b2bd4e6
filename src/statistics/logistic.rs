//! Logistic regression with L2 penalty, by Newton's method (iteratively
//! reweighted least squares; Hastie et al. 2009, section 4.4.1).

use super::linear::Cholesky;
use super::sigmoid;

/// Weights of a logistic regression; the last is the level.
pub type Weights = Vec<f64>;

/// Fits rows of `columns` values each, one after the other in `values`, to
/// labels in 0..=1 (graded ones count in part). `penalty` is on each squared
/// weight, halved; the level goes free. Values should be of like spread.
#[must_use]
pub fn fit(values: &[f64], columns: usize, labels: &[f64], penalty: f64) -> Weights {
    const STEPS: usize = 25;
    let size = columns + 1;
    let mut weights = vec![0.0; size];
    let mut row_of = vec![1.0; size];
    for _ in 0..STEPS {
        let mut hessian = vec![0.0; size * size];
        let mut gradient = vec![0.0; size];
        for (at, label) in labels.iter().enumerate() {
            row_of[..columns].copy_from_slice(&values[at * columns..(at + 1) * columns]);
            let p = sigmoid(score(&weights, &row_of[..columns]));
            let (slack, curve) = (label - p, (p * (1.0 - p)).max(1e-9));
            for (a, x) in row_of.iter().enumerate() {
                gradient[a] += slack * x;
                let scaled = curve * x;
                let line = &mut hessian[a * size..=a * size + a];
                line.iter_mut().zip(&row_of).for_each(|(h, y)| *h += scaled * y);
            }
        }
        for at in 0..columns {
            gradient[at] -= penalty * weights[at];
            hessian[at * size + at] += penalty;
        }
        hessian[size * size - 1] += 1e-6;
        let step = Cholesky::of(&hessian, size).solve(&gradient);
        // Half a Newton step at most this long never runs away.
        let length = step.iter().fold(0.0f64, |most, s| most.max(s.abs()));
        let scale = if length > 5.0 { 5.0 / length } else { 1.0 };
        weights.iter_mut().zip(&step).for_each(|(w, s)| *w += scale * s);
        if length < 1e-6 {
            break;
        }
    }
    weights
}

/// The log odds of a row.
#[must_use]
pub fn score(weights: &[f64], row: &[f64]) -> f64 {
    let level = weights.last().copied().unwrap_or(0.0);
    row.iter().zip(weights).fold(level, |sum, (x, w)| sum + x * w)
}

/// The mean log loss of chances against labels in 0..=1, each chance held
/// within 1e-6 of the ends.
#[must_use]
pub fn log_loss(pairs: impl Iterator<Item = (f64, f64)>) -> f64 {
    let (mut sum, mut n) = (0.0, 0usize);
    for (chance, label) in pairs {
        let p = chance.clamp(1e-6, 1.0 - 1e-6);
        sum -= label * p.ln() + (1.0 - label) * (1.0 - p).ln();
        n += 1;
    }
    sum / super::count(n.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_the_optimum_the_gradient_is_nothing() {
        let mut random = fastrand::Rng::with_seed(7);
        let (n, columns, penalty) = (300, 3, 2.0);
        let values: Vec<f64> = (0..n * columns).map(|_| random.f64() * 2.0 - 1.0).collect();
        let labels: Vec<f64> = values
            .chunks(columns)
            .map(|r| f64::from(u8::from(random.f64() < sigmoid(2.0 * r[0] - r[1] + 0.5))))
            .collect();
        let weights = fit(&values, columns, &labels, penalty);
        for at in 0..columns {
            let slack = |(row, label): (&[f64], &f64)| (label - sigmoid(score(&weights, row))) * row[at];
            let gradient: f64 = values.chunks(columns).zip(&labels).map(slack).sum();
            assert!((gradient - penalty * weights[at]).abs() < 1e-6, "{at}");
        }
        assert!(weights[0] > 1.0 && weights[1] < -0.4, "{weights:?}");
    }

    #[test]
    fn nothing_to_go_by_gives_the_mean() {
        let weights = fit(&[], 0, &[1.0, 0.0, 1.0, 1.0], 1.0);
        assert!((sigmoid(score(&weights, &[])) - 0.75).abs() < 1e-6);
        let separable = fit(&[-1.0, 1.0], 1, &[0.0, 1.0], 0.01);
        assert!(separable.iter().all(|w| w.is_finite()) && separable[0] > 1.0);
    }
}
