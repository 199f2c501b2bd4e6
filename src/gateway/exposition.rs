//! Prometheus' text format.
//!
//! Invariant: samples stand below their family's head, and nothing between.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

use super::histogram::Histogram;

const PICODOLLARS: f64 = 1e12;

pub(super) fn label(name: &str, value: &str) -> String {
    // A name has no quotes in it.
    format!("{name}=\"{value}\"")
}

/// Prometheus' text format.
#[derive(Default)]
pub(super) struct Exposition {
    pub text: String,
    /// Whose samples follow.
    family: &'static str,
}

impl Exposition {
    pub fn family(&mut self, name: &'static str, kind: &str, help: &str) {
        self.family = name;
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    pub fn sample(&mut self, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        let labels: Vec<String> = labels.iter().map(|(name, value)| label(name, value)).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _ = writeln!(self.text, "{}{labels} {value}", self.family);
    }

    pub fn count(&mut self, labels: &[(&str, &str)], count: &AtomicU64) {
        self.sample(labels, count.load(Ordering::Relaxed));
    }

    pub fn dollars(&mut self, labels: &[(&str, &str)], picodollars: &AtomicU64) {
        #[expect(clippy::cast_precision_loss, reason = "a sum, shown")]
        self.sample(labels, picodollars.load(Ordering::Relaxed) as f64 / PICODOLLARS);
    }

    pub fn histogram<const N: usize>(&mut self, label: &str, bounds: &[f64; N], histogram: &Histogram<N>) {
        self.text.push_str(&histogram.text(self.family, label, bounds));
    }
}
