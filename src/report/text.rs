//! Reports as text for people.

use std::fmt::Write as _;

use super::words::{counted, dollars, number, percent, table};
use super::{Change, Comparison, Report, TierReport};

/// A report as a table and a few lines.
#[must_use]
pub fn report_text(report: &Report) -> String {
    let mut out = format!("policy {} ({}), {}\n\n", report.policy, report.digest, counted(report.prompts, "prompt"));
    out.push_str(&tier_table(&report.tiers));
    out.push('\n');
    let cost = &report.cost;
    if cost.prompts == 0 {
        out.push_str("cost      unknown: no prompt has a price for what was asked and for the last tier\n");
    } else {
        let saved = match cost.savings {
            Some(s) if s < 0.0 => format!("{} dearer", percent(-s)),
            Some(s) => format!("saved {}", percent(s)),
            None => "savings n/a".to_owned(),
        };
        let _ = writeln!(
            out,
            "cost      ${} against ${} for {} alone: {saved}",
            dollars(cost.usd),
            dollars(cost.baseline_usd),
            top(report)
        );
        if cost.estimated > 0 {
            let _ = writeln!(
                out,
                "          {} estimated: no usage was recorded, so tokens are text bytes / 4",
                counted(cost.estimated, "cost")
            );
        }
        if cost.unpriced > 0 {
            let _ = writeln!(
                out,
                "          {} left out: a price or an answer is missing",
                counted(cost.unpriced, "prompt")
            );
        }
    }
    match &report.quality {
        Some(quality) => {
            let baseline = quality.baseline.map_or("n/a".to_owned(), |b| format!("{b:.4}"));
            let _ = writeln!(
                out,
                "quality   {:.4} against {baseline} for {} alone, {}",
                quality.mean,
                top(report),
                counted(quality.prompts, "label")
            );
        }
        None => out.push_str("quality   unknown: no served answer has a label\n"),
    }
    if let Some(study) = &report.study {
        let told = if study.quality_to_top.is_significant() { "" } else { ", not significant" };
        let sample = if study.not_sampled > 0 {
            format!(", {} by hash", counted(study.prompts as u64, "prompt"))
        } else {
            String::new()
        };
        let _ = writeln!(out, "          {} to {}{told}{sample}", number(&study.quality_to_top), top(report));
    }
    if report.labels_held > 0 {
        let _ =
            writeln!(out, "          {} outside 0..=1, held at the nearer end", counted(report.labels_held, "label"));
    }
    match &report.latency {
        Some(l) => {
            let _ = writeln!(
                out,
                "latency   p50 {} ms, p95 {} ms, p99 {} ms, {}",
                ms(l.p50_ms),
                ms(l.p95_ms),
                ms(l.p99_ms),
                counted(l.prompts, "prompt")
            );
        }
        None => out.push_str("latency   unknown: no exchange says how long answers took\n"),
    }
    if report.stand_ins > 0 {
        let what = counted(report.stand_ins, "prompt");
        let _ =
            writeln!(out, "stand-ins   {what}: served the best answer so far, since the rest failed or cost too much");
    }
    if report.unanswered > 0 {
        let _ = writeln!(out, "unanswered  {}: every tier of the ladder failed", counted(report.unanswered, "prompt"));
    }
    if report.unjudged > 0 {
        let answers = counted(report.unjudged, "answer");
        let _ = writeln!(out, "not judged {answers}: a judge's word was wanted, and none is recorded");
    }
    if report.not_recorded > 0 {
        let prompts = counted(report.not_recorded, "prompt");
        let _ = writeln!(out, "not known  {prompts}: a tier was asked whose answer is not recorded");
    }
    out
}

fn top(report: &Report) -> &str {
    report.tiers.last().map_or("the last tier", |t| &t.tier)
}

fn tier_table(tiers: &[TierReport]) -> String {
    let header = [
        "tier",
        "asked",
        "accepted",
        "escalated",
        "limited",
        "failed",
        "cache hits",
        "cost $",
        "alone: quality",
        "cost $",
    ];
    let rows = tiers.iter().map(|t| {
        vec![
            t.tier.clone(),
            t.asked.to_string(),
            t.accepted.to_string(),
            t.escalated.to_string(),
            t.limited.to_string(),
            t.failed.values().sum::<u64>().to_string(),
            (t.cache_hits + t.coalesced).to_string(),
            dollars(t.usd),
            t.alone_quality.map_or("n/a".to_owned(), |q| format!("{q:.4}")),
            t.alone_usd.map_or("n/a".to_owned(), dollars),
        ]
    });
    let mut out = table(&header, rows.collect());
    let reasons =
        |t: &TierReport| t.escalated_by.iter().map(|(by, n)| format!("{by} {n}")).collect::<Vec<_>>().join(", ");
    let failures =
        |t: &TierReport| t.failed.iter().map(|(kind, n)| format!("{kind} {n}")).collect::<Vec<_>>().join(", ");
    for tier in tiers {
        if !tier.escalated_by.is_empty() {
            let _ = writeln!(out, "{} escalated by: {}", tier.tier, reasons(tier));
        }
        if !tier.failed.is_empty() {
            let _ = writeln!(out, "{} failed by: {}", tier.tier, failures(tier));
        }
    }
    out
}

/// Both reports and what differs.
#[must_use]
pub fn comparison_text(comparison: &Comparison) -> String {
    let mut out = report_text(&comparison.report);
    let _ = writeln!(out, "\nagainst {}\n", report_text(&comparison.against).trim_start_matches("policy "));
    let c = comparison;
    let _ = writeln!(
        out,
        "of {}: {} by another tier, {} cheaper, {} dearer, {} better, {} worse",
        counted(c.compared, "prompt"),
        c.other_tier,
        c.cheaper,
        c.dearer,
        c.better,
        c.worse
    );
    for (name, estimate) in [("quality", &c.quality), ("cost $ a prompt", &c.cost)] {
        if let Some(estimate) = estimate {
            let told = if estimate.is_significant() { "" } else { ", not significant" };
            let interval = estimate.interval.map_or(String::new(), |i| format!(" [{:+.7}, {:+.7}]", i.low, i.high));
            let _ = writeln!(out, "{name} {:+.7}{interval}{told}", estimate.value);
        }
    }
    if !c.changes.is_empty() {
        let row = |change: &Change| {
            let tier = |t: &Option<String>| t.clone().unwrap_or("-".to_owned());
            let signed = |v: Option<f64>, digits: usize| v.map_or("n/a".to_owned(), |v| format!("{v:+.digits$}"));
            vec![
                change.id.clone(),
                tier(&change.from),
                tier(&change.to),
                signed(change.cost_usd, 9),
                signed(change.quality, 2),
            ]
        };
        let rows = c.changes.iter().map(row).collect();
        let _ = write!(out, "\n{}", table(&["prompt", "was", "is", "cost $", "quality"], rows));
    }
    if c.changes_not_listed > 0 {
        let _ = writeln!(out, "and {} more (--changes N lists more)", c.changes_not_listed);
    }
    out
}

fn ms(value: f64) -> String {
    format!("{value:.1}")
}
