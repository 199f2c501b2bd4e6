//! Counts of values by how large they are.
//!
//! Invariant: the counts shown never decrease from one bound to the next.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

/// How many values lay below each of `N` bounds, and above the last.
#[derive(Debug)]
pub(super) struct Histogram<const N: usize> {
    counts: [AtomicU64; N],
    above: AtomicU64,
    /// In millionths.
    sum: AtomicU64,
}

impl<const N: usize> Default for Histogram<N> {
    fn default() -> Self {
        Self { counts: [const { AtomicU64::new(0) }; N], above: AtomicU64::new(0), sum: AtomicU64::new(0) }
    }
}

impl<const N: usize> Histogram<N> {
    /// Counts a value, 0 or more.
    pub fn add(&self, bounds: &[f64; N], value: f64) {
        let place = bounds.iter().position(|bound| value <= *bound);
        place.map_or(&self.above, |at| &self.counts[at]).fetch_add(1, Ordering::Relaxed);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "held within its range")]
        self.sum.fetch_add((value * 1e6).clamp(0.0, 1e15) as u64, Ordering::Relaxed);
    }

    /// In Prometheus' text format; `label` is `name="value"`, or empty.
    pub fn text(&self, name: &str, label: &str, bounds: &[f64; N]) -> String {
        let (mut out, mut so_far) = (String::new(), 0);
        let comma = if label.is_empty() { "" } else { "," };
        for (bound, count) in bounds.iter().zip(&self.counts) {
            so_far += count.load(Ordering::Relaxed);
            let _ = writeln!(out, "{name}_bucket{{{label}{comma}le=\"{bound}\"}} {so_far}");
        }
        so_far += self.above.load(Ordering::Relaxed);
        let _ = writeln!(out, "{name}_bucket{{{label}{comma}le=\"+Inf\"}} {so_far}");
        let braced = if label.is_empty() { String::new() } else { format!("{{{label}}}") };
        #[expect(clippy::cast_precision_loss, reason = "a sum, shown")]
        let sum = self.sum.load(Ordering::Relaxed) as f64 / 1e6;
        let _ = write!(out, "{name}_sum{braced} {sum}\n{name}_count{braced} {so_far}\n");
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_counted_below_their_bounds() {
        let (histogram, bounds) = (Histogram::default(), [0.5, 1.0]);
        [0.25, 0.5, 0.75, 3.0].iter().for_each(|value| histogram.add(&bounds, *value));
        assert_eq!(
            histogram.text("x", "tier=\"a\"", &bounds),
            "x_bucket{tier=\"a\",le=\"0.5\"} 2\nx_bucket{tier=\"a\",le=\"1\"} 3\nx_bucket{tier=\"a\",le=\"+Inf\"} 4\nx_sum{tier=\"a\"} 4.5\nx_count{tier=\"a\"} 4\n"
        );
    }
}
