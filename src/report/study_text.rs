//! A study as text: the same numbers as the page and the JSON.

use std::fmt::Write as _;

use super::study::{Estimate, Study};
use super::words::{counted, dollars, money, number, percent, table};

/// All numbers of a study.
#[must_use]
pub fn study_text(study: &Study) -> String {
    let mut out = format!("study of {}, labels: {}\n\n", counted(study.prompts as u64, "prompt"), study.labels);
    if let Some(certificate) = &study.certificate {
        let promise = if certificate.uncertified { "UNCERTIFIED" } else { &certificate.promise };
        let _ = writeln!(
            out,
            "promise             {promise} (delta {}, {}, p = {:.4}, {} prompts after {} to fit, labels: {}, data {}, seed {})",
            certificate.delta,
            certificate.method,
            certificate.p_value,
            certificate.rows,
            certificate.fitted_rows,
            certificate.labels,
            certificate.data,
            certificate.seed
        );
    }
    let sure = |e: &Estimate| if e.is_significant() { "" } else { ", not significant" };
    let mut line = |name: &str, value: String| _ = writeln!(out, "{name:19} {value}");
    line("quality", number(&study.quality));
    line("to the top tier", format!("{}{}", number(&study.quality_to_top), sure(&study.quality_to_top)));
    line("cost a prompt", money(&study.cost));
    if let Some(savings) = &study.savings {
        line("saved", format!("{}{}", number(savings), sure(savings)));
    }
    line("AIQ", study.mean_quality.as_ref().map_or(none(), number));
    let per_right = (study.quality.value > 0.0).then(|| study.cost.value / study.quality.value);
    line("cost a right answer", per_right.map_or(none(), |usd| format!("${}", dollars(usd))));
    let served = study.tiers.iter().zip(&study.served_share).map(|(t, share)| format!("{t} {}", percent(*share)));
    line("served by", served.collect::<Vec<_>>().join(", "));
    line("regret", format!("{:.4}; of cost ${}", study.regret, dollars(study.cost_regret)));
    line(
        "oracle",
        format!(
            "quality {:.4} at ${} as a router, ${} as a cascade",
            study.oracle_router.quality,
            dollars(study.oracle_router.cost),
            dollars(study.oracle_cascade.cost)
        ),
    );
    let single = |tier: usize| format!("{} with {:.4}", study.tiers[tier], study.singles[tier].quality);
    line("best single tier", study.best_single.map_or("none costs as little".to_owned(), single));
    if let Some(shuffled) = &study.shuffled {
        let told = if shuffled.is_significant { "" } else { ", not significant" };
        line("shuffled control", format!("{}, lift {:+.4}{told}", number(&shuffled.quality), shuffled.lift));
    }
    line("delta IBC", study.benefit.map_or(none(), |b| format!("{b:+.4}")));
    out.push('\n');
    out.push_str(&cost_table(study));
    out.push_str(&ranking_table(study));
    out.push_str(&edge_table(study));
    out.push_str(&task_table(study));
    if study.left_out > 0 {
        let _ = writeln!(
            out,
            "left out  {}: an answer, a label or a price of some tier is missing",
            counted(study.left_out, "prompt")
        );
    }
    if study.not_sampled > 0 {
        let _ = writeln!(out, "sampled   {} by hash; {} more are not in it", study.prompts, study.not_sampled);
    }
    if !study.is_calibrated && !study.rankings.is_empty() {
        out.push_str("scores are uncalibrated: an order, not chances\n");
    }
    out
}

fn none() -> String {
    "n/a".to_owned()
}

fn digits(value: Option<f64>) -> String {
    value.map_or(none(), |v| format!("{v:.4}"))
}

fn cost_table(study: &Study) -> String {
    let rows = study.cost_at.iter().map(|at| {
        let cell = |cost: Option<f64>| match cost {
            Some(cost) if at.top > 0.0 => format!("{} ({})", dollars(cost), percent(cost / at.top)),
            Some(cost) => dollars(cost),
            None => none(),
        };
        vec![percent(at.share), cell(at.policy), cell(at.zero_router), cell(at.oracle), dollars(at.top)]
    });
    table(&["cost $ at, of top", "policy", "zero router", "oracle", "top"], rows.collect()) + "\n"
}

fn ranking_table(study: &Study) -> String {
    if study.rankings.is_empty() {
        return String::new();
    }
    let rows = study.rankings.iter().map(|r| {
        let mut row = vec![study.tiers[r.tier].clone(), r.answers.to_string(), digits(r.auroc)];
        row.push(r.apgr.as_ref().map_or(none(), number));
        row.extend(r.call_share.iter().map(|share| digits(*share)));
        row.push(r.deferral.map_or(none(), |(area, relative)| format!("{area:.4} ({relative:+.4})")));
        row.extend([r.aurc, r.brier, r.calibration_error].map(digits));
        row
    });
    let header =
        ["scores of", "answers", "AUROC", "APGR", "CPT50", "CPT80", "CPT95", "deferral AUC", "AURC", "Brier", "ECE"];
    table(&header, rows.collect()) + "\n"
}

fn edge_table(study: &Study) -> String {
    if study.edges.is_empty() {
        return String::new();
    }
    let rows = study.edges.iter().map(|e| {
        let mut row = vec![format!("{} to {}", study.tiers[e.from], study.tiers[e.to])];
        row.extend([e.asked.to_string(), e.escalated.to_string()]);
        row.extend([e.precision, e.recall, e.over_escalation, e.harm, e.missed_error].map(digits));
        row
    });
    let header = ["escalation", "asked", "taken", "precision", "recall", "over-escalation", "harm", "missed error"];
    table(&header, rows.collect()) + "\n"
}

fn task_table(study: &Study) -> String {
    if study.tasks.is_empty() {
        return String::new();
    }
    let rows = study.tasks.iter().map(|t| {
        let to_top =
            format!("{:+.4}{}", t.quality_to_top.value, if t.quality_to_top.is_significant() { " *" } else { "" });
        vec![t.task.clone(), t.prompts.to_string(), number(&t.quality), to_top, money(&t.cost), dollars(t.top.cost)]
    });
    let header = ["task", "prompts", "quality", "to top (* significant)", "cost", "top $"];
    table(&header, rows.collect()) + "\n"
}
