//! How well scores rank answers: what escalating the lowest ones first wins.
//!
//! Notation of `RouteLLM` (Ong et al. 2024): weak answers, strong answers, and
//! a score of each weak one; the lowest scores are escalated first.

use super::count;

/// Shares escalated and the quality there.
pub type Curve = Vec<(f64, f64)>;

/// Pairs of a weak and a strong answer's labels, by the weak one's score.
#[derive(Clone, Debug)]
pub struct Deferral {
    /// Rows in the order in which they are escalated; equal scores keep theirs.
    order: Vec<usize>,
    weak: Vec<f64>,
    strong: Vec<f64>,
}

impl Deferral {
    /// `score`, `weak` and `strong` have one number per row.
    #[must_use]
    pub fn new(score: &[f64], weak: Vec<f64>, strong: Vec<f64>) -> Self {
        let mut order: Vec<usize> = (0..score.len()).collect();
        order.sort_by(|a, b| score[*a].total_cmp(&score[*b]));
        Self { order, weak, strong }
    }

    /// How many rows there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether there is no row.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// `(share escalated, quality)` for every number of rows escalated, from
    /// none to all, each row counted `weights` times.
    #[must_use]
    pub fn curve(&self, weights: &[u32]) -> Curve {
        let of = |row: &usize| f64::from(weights[*row]);
        let total: f64 = self.order.iter().map(of).sum();
        let mut quality = self.order.iter().map(|row| of(row) * self.weak[*row]).sum::<f64>();
        let mut escalated = 0.0;
        let mut curve = Vec::with_capacity(self.order.len() + 1);
        curve.push((0.0, quality / total));
        for row in &self.order {
            escalated += of(row);
            quality += of(row) * (self.strong[*row] - self.weak[*row]);
            curve.push((escalated / total, quality / total));
        }
        curve
    }

    /// The area under the recovered share of the gap between weak and strong
    /// (APGR): 0.5 for a score that tells nothing. None where the strong tier is
    /// no better.
    #[must_use]
    pub fn apgr(&self, weights: &[u32]) -> Option<f64> {
        let of = |row: &usize| f64::from(weights[*row]);
        let gain = |row: &usize| of(row) * (self.strong[*row] - self.weak[*row]);
        let (total, gap) = self.order.iter().fold((0.0, 0.0), |(n, gap), row| (n + of(row), gap + gain(row)));
        if gap <= 1e-12 * total {
            return None;
        }
        // In one pass, since it is drawn thousands of times.
        let (mut area, mut won) = (0.0, 0.0);
        for row in &self.order {
            let after = won + gain(row);
            area += of(row) * f64::midpoint(won, after);
            won = after;
        }
        Some(area / (total * gap))
    }

    /// The least share to escalate for `target` of the gap (CPT); none where
    /// that much is never recovered.
    #[must_use]
    pub fn call_share(&self, target: f64) -> Option<f64> {
        let (curve, low, gap) = self.gap(&vec![1; self.len()])?;
        let found = curve.iter().find(|(_, quality)| (quality - low) / gap >= target - 1e-12)?;
        Some(found.0)
    }

    /// The area under the curve, and by how much it exceeds the straight line of
    /// a score that tells nothing, relative to it.
    #[must_use]
    pub fn area(&self) -> Option<(f64, f64)> {
        let curve = self.curve(&vec![1; self.len()]);
        let (first, last) = (curve.first()?.1, curve.last()?.1);
        let area = trapezoid(&curve, |quality| quality);
        let random = f64::midpoint(first, last);
        (random > 0.0).then(|| (area, (area - random) / random))
    }

    /// The mean, over every number of rows kept, of the error among those that
    /// score highest (AURC; Geifman & El-Yaniv 2017).
    #[must_use]
    pub fn aurc(&self) -> Option<f64> {
        let (mut errors, mut sum) = (0.0, 0.0);
        for (kept, row) in self.order.iter().rev().enumerate() {
            errors += 1.0 - self.weak[*row];
            sum += errors / count(kept + 1);
        }
        (!self.is_empty()).then(|| sum / count(self.len()))
    }

    /// The curve, its lower end, and its height.
    fn gap(&self, weights: &[u32]) -> Option<(Curve, f64, f64)> {
        let curve = self.curve(weights);
        let (low, high) = (curve.first()?.1, curve.last()?.1);
        (high - low > 1e-12).then_some((curve, low, high - low))
    }
}

fn trapezoid(curve: &[(f64, f64)], height: impl Fn(f64) -> f64) -> f64 {
    curve.windows(2).map(|w| (w[1].0 - w[0].0) * f64::midpoint(height(w[0].1), height(w[1].1))).sum()
}

/// The chance that a right answer scores above a wrong one, ties half (AUROC;
/// Hanley & `McNeil` 1982). Graded labels count as right in part. None where all
/// labels are alike.
#[must_use]
pub fn auroc(pairs: &[(f64, f64)]) -> Option<f64> {
    let mut pairs = pairs.to_vec();
    pairs.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut wrong_below, mut won) = (0.0, 0.0);
    for same in pairs.chunk_by(|a, b| a.0.total_cmp(&b.0).is_eq()) {
        let right: f64 = same.iter().map(|(_, label)| label).sum();
        let wrong = count(same.len()) - right;
        won += right * (wrong_below + wrong / 2.0);
        wrong_below += wrong;
    }
    let right: f64 = pairs.iter().map(|(_, label)| label).sum();
    (right > 0.0 && wrong_below > 0.0).then(|| won / (right * wrong_below))
}

/// The mean squared distance of scores from labels (Brier 1950).
#[must_use]
pub fn brier(pairs: &[(f64, f64)]) -> Option<f64> {
    let squares: Vec<f64> = pairs.iter().map(|(score, label)| (score - label).powi(2)).collect();
    super::mean(&squares)
}

/// One bin of a reliability diagram.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Bin {
    /// The mean score.
    pub score: f64,
    /// The mean label.
    pub label: f64,
    /// How many answers.
    pub answers: usize,
}

/// Scores and labels in bins of equal mass.
#[must_use]
pub fn bins(pairs: &[(f64, f64)], bins: usize) -> Vec<Bin> {
    let mut pairs = pairs.to_vec();
    pairs.sort_by(|a, b| a.0.total_cmp(&b.0));
    let edge = |bin: usize| bin * pairs.len() / bins;
    let of = |bin: usize| {
        let part = &pairs[edge(bin)..edge(bin + 1)];
        let sum = part.iter().fold((0.0, 0.0), |s, p| (s.0 + p.0, s.1 + p.1));
        let n = count(part.len());
        (!part.is_empty()).then(|| Bin { score: sum.0 / n, label: sum.1 / n, answers: part.len() })
    };
    (0..bins).filter_map(of).collect()
}

/// The mean distance of score and label over bins, by mass (ECE; Guo et al.
/// 2017, with bins of equal mass).
#[must_use]
pub fn expected_calibration_error(bins: &[Bin]) -> Option<f64> {
    let total: usize = bins.iter().map(|b| b.answers).sum();
    let distance = |b: &Bin| count(b.answers) * (b.label - b.score).abs();
    (total > 0).then(|| bins.iter().map(distance).sum::<f64>() / count(total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_toy_of_the_design_note() {
        let weak = vec![1.0, 0.0, 1.0, 0.0, 0.0, 1.0];
        let strong = vec![1.0, 1.0, 0.0, 1.0, 0.0, 1.0];
        let deferral = Deferral::new(&[0.9, 0.2, 0.6, 0.4, 0.3, 0.8], weak, strong);
        let (curve, low, gap) = deferral.gap(&[1; 6]).expect("a gap");
        let recovered: Vec<f64> = curve.iter().map(|(_, q)| ((q - low) / gap * 1e9).round() / 1e9).collect();
        assert_eq!(recovered, [0.0, 1.0, 1.0, 2.0, 1.0, 1.0, 1.0]);
        assert!((deferral.apgr(&[1; 6]).expect("a gap") - 1.083_333_333_333_333_5).abs() < 1e-12);
    }

    #[test]
    fn ranks_by_hand() {
        assert_eq!(auroc(&[(0.1, 0.0), (0.4, 1.0), (0.35, 0.0), (0.8, 1.0)]), Some(1.0));
        assert_eq!(auroc(&[(0.5, 0.0), (0.5, 1.0)]), Some(0.5));
        assert_eq!(auroc(&[(0.5, 1.0)]), None);
        assert_eq!(brier(&[(0.5, 1.0), (1.0, 1.0)]), Some(0.125));
        let two = bins(&[(0.1, 0.0), (0.3, 1.0), (0.9, 1.0), (0.7, 1.0)], 2);
        assert!((two[0].score - 0.2).abs() < 1e-12 && (two[1].label - 1.0).abs() < 1e-12);
        assert!((expected_calibration_error(&two).expect("bins") - 0.25).abs() < 1e-12);
    }
}
