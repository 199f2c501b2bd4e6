//! The tables of the page.
//!
//! Invariant: every cell is escaped in one place, [`table`]; without rows there
//! is no table.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::escaped;
use super::numbers::{decimal, difference, estimate, known, served_by, short, signed, signed_percent, usd, usd_of};
use super::prose::{name_of, top_of};
use crate::report::study::{CostAt, Edge, Ranking, Shuffled, Study, TaskStudy};
use crate::report::words::percent;
use crate::report::{QualityReport, Report, TierReport};
use crate::statistics::curve::Point;

/// A table whose first column names its rows. It scrolls within its own box, so
/// that the page never does sideways.
fn table(caption: &str, header: &[&str], rows: &[Vec<String>]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let caption = escaped(caption);
    let mut html = format!("<div class=\"scroll\" role=\"region\" aria-label=\"{caption}\" tabindex=\"0\">\n<table>");
    let _ = write!(html, "<caption>{caption}</caption>\n<thead><tr>");
    for name in header {
        let _ = write!(html, "<th scope=\"col\">{}</th>", escaped(name));
    }
    html.push_str("</tr></thead>\n<tbody>\n");
    for row in rows {
        html.push_str("<tr>");
        for (at, cell) in row.iter().enumerate() {
            let (open, close) = if at == 0 { ("<th scope=\"row\">", "</th>") } else { ("<td>", "</td>") };
            let _ = write!(html, "{open}{}{close}", escaped(cell));
        }
        html.push_str("</tr>\n");
    }
    html + "</tbody></table></div>\n"
}

/// What shares of the largest tier's quality cost.
pub(super) fn cost_at(study: &Study) -> String {
    let top = top_of(&study.tiers);
    let row = |at: &CostAt| {
        let of_top = |cost: Option<f64>| known(cost, |cost| usd_of(cost, at.top));
        vec![percent(at.share), of_top(at.policy), of_top(at.zero_router), of_top(at.oracle), usd(at.top)]
    };
    let rows: Vec<Vec<String>> = study.cost_at.iter().map(row).collect();
    let alone = format!("{top} alone");
    let header = ["quality reached", "policy", "zero router", "router oracle", &alone];
    table(&format!("Dollars per prompt, and their share of what {top} alone costs"), &header, &rows)
}

/// The numbers that sum a policy up.
pub(super) fn numbers(study: &Study) -> String {
    let top = top_of(&study.tiers);
    let none = || "n/a".to_owned();
    let at = |point: &Point| format!("{} at {}", decimal(point.quality), usd(point.cost));
    let single = study.best_single.and_then(|tier| Some((tier, study.singles.get(tier)?)));
    let lift = |shuffled: &Shuffled| {
        let doubt = if shuffled.is_significant { "" } else { ", not significant" };
        format!("{}{doubt}", signed(shuffled.lift))
    };
    let rows = [
        ("quality".to_owned(), estimate(&study.quality, decimal)),
        (format!("quality less that of {top} alone"), difference(&study.quality_to_top)),
        ("cost per prompt".to_owned(), estimate(&study.cost, usd)),
        (format!("savings against {top} alone"), study.savings.map_or_else(none, |e| estimate(&e, percent))),
        ("mean quality over costs (AIQ)".to_owned(), study.mean_quality.map_or_else(none, |e| estimate(&e, decimal))),
        ("router oracle".to_owned(), at(&study.oracle_router)),
        ("cascade oracle".to_owned(), at(&study.oracle_cascade)),
        ("regret".to_owned(), decimal(study.regret)),
        ("cost regret".to_owned(), usd(study.cost_regret)),
        (
            "best single tier at no more cost".to_owned(),
            single.map_or_else(none, |(tier, point)| format!("{}: {}", name_of(&study.tiers, tier), at(point))),
        ),
        (
            "shuffled control".to_owned(),
            study.shuffled.map_or_else(none, |shuffled| estimate(&shuffled.quality, decimal)),
        ),
        ("lift over shuffled control".to_owned(), study.shuffled.as_ref().map_or_else(none, lift)),
        ("benefit per dollar (delta IBC)".to_owned(), known(study.benefit, signed_percent)),
    ];
    let rows: Vec<Vec<String>> = rows.map(|(name, value)| vec![name, value]).into();
    table("Numbers, with 95% intervals in brackets", &["number", "value"], &rows)
}

/// How well each tier's scores tell right from wrong.
pub(super) fn rankings(study: &Study) -> String {
    const HEADER: [&str; 12] = [
        "tier",
        "answers",
        "AUROC",
        "APGR",
        "CPT50",
        "CPT80",
        "CPT95",
        "deferral AUC",
        "relative",
        "AURC",
        "Brier",
        "ECE",
    ];
    let row = |ranking: &Ranking| {
        let [half, most, nearly_all] = ranking.call_share.map(|share| known(share, percent));
        vec![
            name_of(&study.tiers, ranking.tier).to_owned(),
            ranking.answers.to_string(),
            known(ranking.auroc, decimal),
            ranking.apgr.map_or_else(|| "n/a".to_owned(), |apgr| estimate(&apgr, decimal)),
            half,
            most,
            nearly_all,
            known(ranking.deferral.map(|(area, _)| area), decimal),
            known(ranking.deferral.map(|(_, relative)| relative), signed_percent),
            known(ranking.aurc, decimal),
            known(ranking.brier, decimal),
            known(ranking.calibration_error, decimal),
        ]
    };
    let rows: Vec<Vec<String>> = study.rankings.iter().map(row).collect();
    table("Each tier that judges: what its scores are worth", &HEADER, &rows)
}

/// What each way up was good for.
pub(super) fn edges(study: &Study) -> String {
    const HEADER: [&str; 8] =
        ["from, to", "answered", "escalated", "precision", "recall", "over-escalation", "harm", "missed error"];
    let row = |edge: &Edge| {
        let name = |tier: usize| name_of(&study.tiers, tier);
        vec![
            format!("{} \u{2192} {}", name(edge.from), name(edge.to)),
            edge.asked.to_string(),
            edge.escalated.to_string(),
            known(edge.precision, percent),
            known(edge.recall, percent),
            known(edge.over_escalation, percent),
            known(edge.harm, percent),
            known(edge.missed_error, percent),
        ]
    };
    let rows: Vec<Vec<String>> = study.edges.iter().map(row).collect();
    table("Each way up that was taken", &HEADER, &rows)
}

/// The same by kind of prompt.
pub(super) fn tasks(study: &Study) -> String {
    let top = top_of(&study.tiers);
    let row = |task: &TaskStudy| {
        vec![
            task.task.clone(),
            task.prompts.to_string(),
            estimate(&task.quality, decimal),
            difference(&task.quality_to_top),
            estimate(&task.cost, usd),
            decimal(task.top.quality),
            usd(task.top.cost),
            served_by(&study.tiers, &task.served_share),
        ]
    };
    let rows: Vec<Vec<String>> = study.tasks.iter().map(row).collect();
    let (less, quality, cost) =
        (format!("quality less {top}'s"), format!("{top} alone: quality"), format!("{top} alone: cost"));
    let header = ["task", "prompts", "quality", &less, "cost per prompt", &quality, &cost, "served by"];
    table("By kind of prompt, with 95% intervals in brackets", &header, &rows)
}

/// What each tier did in the whole replay.
pub(super) fn tiers(report: &Report) -> String {
    const HEADER: [&str; 12] = [
        "tier",
        "asked",
        "accepted",
        "escalated",
        "escalated by",
        "limited",
        "failed",
        "cache hits",
        "cost",
        "alone: quality",
        "labels",
        "alone: cost",
    ];
    let row = |tier: &TierReport| {
        vec![
            tier.tier.clone(),
            tier.asked.to_string(),
            tier.accepted.to_string(),
            tier.escalated.to_string(),
            listed(&tier.escalated_by),
            tier.limited.to_string(),
            if tier.failed.is_empty() { "0".to_owned() } else { listed(&tier.failed) },
            (tier.cache_hits + tier.coalesced).to_string(),
            usd(tier.usd),
            known(tier.alone_quality, decimal),
            tier.alone_labelled.to_string(),
            known(tier.alone_usd, usd),
        ]
    };
    let rows: Vec<Vec<String>> = report.tiers.iter().map(row).collect();
    table("Each tier, smallest first, over all prompts of the replay", &HEADER, &rows)
}

fn listed(counts: &BTreeMap<String, u64>) -> String {
    counts.iter().map(|(what, times)| format!("{what} {times}")).collect::<Vec<_>>().join(", ")
}

/// The sums of the whole replay.
pub(super) fn sums(report: &Report) -> String {
    let top = report.tiers.last().map_or("the largest tier", |tier| &tier.tier);
    let cost = Some(&report.cost).filter(|cost| cost.prompts > 0);
    let quality = |read: fn(&QualityReport) -> Option<f64>| known(report.quality.as_ref().and_then(read), decimal);
    let labelled = report.quality.as_ref().map_or(0, |quality| quality.prompts);
    let counted = |count: u64, share: &str| format!("{count} ({})", known(report.metric(share), percent));
    let latency = |name: &str| known(report.metric(name), |ms| short(ms, 1) + " ms");
    let rows = [
        ("prompts".to_owned(), report.prompts.to_string()),
        ("prompts whose cost is known".to_owned(), report.cost.prompts.to_string()),
        ("cost".to_owned(), known(cost.map(|cost| cost.usd), usd)),
        (format!("cost of {top} alone"), known(cost.map(|cost| cost.baseline_usd), usd)),
        ("savings".to_owned(), known(cost.and_then(|cost| cost.savings), percent)),
        ("prompts with a label".to_owned(), labelled.to_string()),
        ("quality".to_owned(), quality(|quality| Some(quality.mean))),
        (format!("quality of {top} alone"), quality(|quality| quality.baseline)),
        ("escalated".to_owned(), counted(report.escalated, "escalated")),
        ("unanswered".to_owned(), counted(report.unanswered, "unanswered")),
        ("stand-ins".to_owned(), counted(report.stand_ins, "stand-ins")),
        ("latency, half within".to_owned(), latency("p50_ms")),
        ("latency, 95% within".to_owned(), latency("p95_ms")),
        ("latency, 99% within".to_owned(), latency("p99_ms")),
    ];
    let rows: Vec<Vec<String>> = rows.map(|(name, value)| vec![name, value]).into();
    table(
        "Sums over the replay; those of cost and quality over the prompts where they are known",
        &["sum", "value"],
        &rows,
    )
}
