//! What traces say was saved, against the last tier alone.
//!
//! Invariant: it cannot flatter. Rejected drafts and judges are costs; what a cache
//! answered is told apart; a request is compared only where both sides are known, and
//! those that are not are counted.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::explanation::Explanation;

/// Sums of traces, in dollars.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Savings {
    /// Requests in the traces.
    pub requests: u64,
    /// Of these, answered by a model with both sides known: what is compared.
    pub compared: Side,
    /// Of these, answered from a cache of ours, with both sides known.
    pub cached: Side,
    /// Answered, and not compared: an attempt or the last tier has no price.
    pub unpriced: u64,
    /// How often each tier was without a price.
    pub unpriced_tiers: BTreeMap<String, u64>,
    /// Nobody was served.
    pub failed: Failed,
    /// Served with less than was asked for: a stand-in, or a stream that was cut or left.
    pub less: Failed,
}

/// What was spent on some requests, and what it is compared with.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Side {
    /// How many.
    pub requests: u64,
    /// For answers that were served.
    pub served_usd: f64,
    /// For answers that were not: the price of trying.
    pub rejected_usd: f64,
    /// For judges.
    pub judges_usd: f64,
    /// What the last tier alone would have cost for as many tokens.
    pub baseline_usd: f64,
    /// The same if its provider had each prompt in its cache, which a ladder may lose.
    pub baseline_if_cached_usd: f64,
}

/// Requests that cannot be compared, and what was spent on them all the same.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Failed {
    /// How many.
    pub requests: u64,
    /// As far as it is known.
    pub spent_usd: f64,
}

impl Side {
    /// All that was spent.
    #[must_use]
    pub fn spent_usd(&self) -> f64 {
        self.served_usd + self.rejected_usd + self.judges_usd
    }
}

impl Savings {
    /// Adds a trace.
    pub fn add(&mut self, told: &Explanation) {
        self.requests += 1;
        let spent = || told.attempts.iter().filter_map(|attempt| attempt.cost_usd).sum::<f64>();
        let Some(served) = told.served.as_ref().filter(|_| !told.is_less) else {
            let side = if told.is_less { &mut self.less } else { &mut self.failed };
            side.requests += 1;
            side.spent_usd += spent();
            return;
        };
        let known = told.cost_usd.and(told.baseline_usd).zip(told.baseline_if_cached_usd);
        let Some((baseline, least)) = known else {
            self.unpriced += 1;
            for attempt in told.attempts.iter().filter(|attempt| attempt.cost_usd.is_none()) {
                *self.unpriced_tiers.entry(attempt.tier.clone()).or_default() += 1;
            }
            return;
        };
        let by = told.attempts.iter().rposition(|attempt| attempt.tier == *served);
        let from_cache =
            by.is_some_and(|at| matches!(told.attempts[at].cache.as_str(), "hit" | "coalesced" | "similar"));
        let side = if from_cache { &mut self.cached } else { &mut self.compared };
        side.requests += 1;
        for (at, attempt) in told.attempts.iter().enumerate() {
            let judging = attempt.judging_usd.unwrap_or(0.0);
            let own = attempt.cost_usd.unwrap_or(0.0) - judging;
            side.judges_usd += judging;
            if Some(at) == by {
                side.served_usd += own;
            } else {
                side.rejected_usd += own;
            }
        }
        side.baseline_usd += baseline;
        side.baseline_if_cached_usd += least;
    }
}

impl fmt::Display for Savings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { requests, compared, cached, unpriced, unpriced_tiers, failed, less } = self;
        writeln!(f, "{requests} requests, {} of them answered by a model and priced", compared.requests)?;
        if compared.requests > 0 {
            let spent = compared.spent_usd();
            writeln!(f, "\nspent        ${spent:.6}")?;
            writeln!(f, "  served     ${:.6}", compared.served_usd)?;
            writeln!(f, "  rejected   ${:.6}  drafts that a larger tier replaced", compared.rejected_usd)?;
            writeln!(f, "  judges     ${:.6}", compared.judges_usd)?;
            let saved = |baseline: f64| {
                let share = if baseline > 0.0 { (baseline - spent) / baseline * 100.0 } else { 0.0 };
                let word = if baseline >= spent { "saved" } else { "LOST" };
                format!("{word} ${:.6}, {:.1}%", (baseline - spent).abs(), share)
            };
            let (baseline, least) = (compared.baseline_usd, compared.baseline_if_cached_usd);
            writeln!(f, "last tier    ${baseline:.6}  {}", saved(baseline))?;
            writeln!(f, "  at least   ${least:.6}  {}, had its provider cached every prompt", saved(least))?;
        }
        if cached.requests > 0 {
            writeln!(
                f,
                "\nfrom caches  {} more, ${:.6} spent on the way; the last tier would have cost ${:.6}",
                cached.requests,
                cached.spent_usd(),
                cached.baseline_usd
            )?;
        }
        if *unpriced > 0 {
            let tiers: Vec<String> = unpriced_tiers.iter().map(|(tier, count)| format!("{tier} {count}")).collect();
            let which = if tiers.is_empty() { "the last tier's".to_owned() } else { tiers.join(", ") };
            writeln!(f, "\nnot counted  {unpriced} without a price: {which}")?;
        }
        if less.requests > 0 {
            writeln!(
                f,
                "\nnot whole    {} stood in, cut or left, ${:.6} spent on them",
                less.requests, less.spent_usd
            )?;
        }
        if failed.requests > 0 {
            writeln!(f, "\nfailed       {}, ${:.6} spent on them", failed.requests, failed.spent_usd)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(served: Option<&str>, attempts: &[(&str, Option<f64>, &str)], baseline: Option<f64>) -> Explanation {
        let attempts: Vec<_> = attempts
            .iter()
            .map(|(tier, cost, cache)| {
                serde_json::json!({"tier": tier, "outcome": "", "score": null, "threshold": null, "would": "", "moved": [],
                    "log_odds_to_turn": null, "cache": cache, "cost_usd": cost, "judging_usd": 0.25, "elapsed_ms": 1.0})
            })
            .collect();
        let cost = attempts.iter().map(|attempt| attempt["cost_usd"].as_f64()).sum::<Option<f64>>();
        let line = serde_json::json!({"id": "r", "policy": "p", "question": "", "start": "", "attempts": attempts,
            "served": served, "cost_usd": cost, "baseline_usd": baseline,
            "baseline_if_cached_usd": baseline.map(|usd| usd / 2.0), "elapsed_ms": 1.0});
        serde_json::from_value(line).expect("a trace")
    }

    #[test]
    fn drafts_and_judges_are_costs_and_caches_are_told_apart() {
        let mut savings = Savings::default();
        savings.add(&told(Some("b"), &[("a", Some(1.25), "miss"), ("b", Some(2.25), "off")], Some(8.0)));
        savings.add(&told(Some("a"), &[("a", Some(0.25), "hit")], Some(8.0)));
        savings.add(&told(Some("b"), &[("a", None, "miss"), ("b", Some(1.0), "off")], Some(8.0)));
        savings.add(&told(Some("a"), &[("a", Some(1.0), "miss")], None));
        savings.add(&told(None, &[("a", Some(0.5), "off")], None));
        let Side { served_usd, rejected_usd, judges_usd, baseline_usd, .. } = savings.compared;
        assert_eq!((served_usd, rejected_usd, judges_usd, baseline_usd), (2.0, 1.0, 0.5, 8.0));
        assert_eq!((savings.cached.requests, savings.cached.spent_usd()), (1, 0.25));
        assert_eq!((savings.unpriced, savings.unpriced_tiers["a"]), (2, 1));
        assert_eq!((savings.failed.requests, savings.failed.spent_usd), (1, 0.5));
        let text = savings.to_string();
        assert!(text.contains("last tier    $8.000000  saved $4.500000, 56.2%"), "{text}");
        assert!(text.contains("  at least   $4.000000  saved $0.500000, 12.5%"), "{text}");
    }

    #[test]
    fn a_loss_is_called_one() {
        let mut savings = Savings::default();
        savings.add(&told(Some("b"), &[("a", Some(3.0), "off"), ("b", Some(2.0), "off")], Some(2.0)));
        assert!(savings.to_string().contains("LOST $3.000000, -150.0%"), "{savings}");
    }
}
