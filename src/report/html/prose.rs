//! The page in words: what came out, what was promised, what was left out, what
//! the numbers mean.
//!
//! Invariant: no claim goes beyond its interval; what is not significant is
//! called so.

use std::fmt::Write as _;

use super::escaped;
use super::numbers::{decimal, estimate, negated, p_value, short, signed, usd};
use crate::report::Report;
use crate::report::study::{Estimate, Study};
use crate::report::words::percent;
use crate::stopping::Certificate;

/// What the numbers mean, each in a sentence.
const GLOSSARY: [(&str, &str); 21] = [
    ("quality", "The mean label of the answers served, from 0 to 1."),
    ("95% interval", "Where a number would lie 95 times in 100 had other prompts like these come."),
    ("not significant", "The interval holds 0: on so few prompts the difference may be chance."),
    ("savings", "The share of the largest tier's cost that was not spent."),
    ("mean quality over costs (AIQ)", "The height of the policy's hull, averaged over the costs of the tiers."),
    ("hull", "All that can be reached by tossing a coin between two policies."),
    ("zero router", "A coin tossed between tiers: it knows nothing of the prompt, and a policy should beat it."),
    ("router oracle", "Who knows every label and asks the best tier at once: nobody can do better."),
    ("cascade oracle", "Who knows every label but pays for the smaller tiers on the way up."),
    ("regret", "How much better the oracle's answers are than those served."),
    ("cost regret", "How much less the cascade oracle spends on a prompt."),
    ("shuffled control", "As many answers from each tier as the policy served, dealt to prompts at random."),
    ("delta IBC", "Quality gained per dollar over the smallest tier, against what the largest tier gives for it."),
    ("AUROC", "The chance that a right answer scores above a wrong one; 0.5 tells nothing."),
    ("APGR", "How much of the gap to the largest tier is closed as the lowest scores go first; 0.5 tells nothing."),
    ("CPT50, 80, 95", "The least share of prompts to escalate that closes 50, 80 or 95% of that gap."),
    ("deferral AUC", "The quality averaged over all shares escalated, and how far that is above blind choice."),
    ("AURC", "The mean error of the answers kept, over all numbers kept, best scores first; less is better."),
    ("Brier", "The mean squared distance of score and label; less is better."),
    ("ECE", "How far scores are from the share that is right, over 15 bins of equal mass; less is better."),
    (
        "precision, recall, over-escalation, harm, missed error",
        "Of the prompts sent up, those made better; of those that going up makes better, those sent; of those sent \
         up, those already right, and those made worse; of those kept, those wrong.",
    ),
];

/// The name of a tier by its place.
pub(super) fn name_of(tiers: &[String], place: usize) -> &str {
    tiers.get(place).map_or("n/a", String::as_str)
}

/// The name of the largest tier.
pub(super) fn top_of(tiers: &[String]) -> &str {
    tiers.last().map_or("the largest tier", String::as_str)
}

/// What it cost and how good it was, against the largest tier alone.
pub(super) fn headline(report: &Report, study: &Study) -> String {
    let top = top_of(&study.tiers);
    let saved = match &study.savings {
        Some(savings) if savings.value < 0.0 => format!("{} more than", estimate(&negated(savings), percent)),
        Some(savings) => format!("{} less than", estimate(savings, percent)),
        None => "where savings are n/a against".to_owned(),
    };
    let sentence = format!(
        "{} cost {} per prompt, {saved} {top} alone. Its quality is {}: {}.",
        report.policy,
        estimate(&study.cost, usd),
        estimate(&study.quality, decimal),
        against_top(&study.quality_to_top, top)
    );
    let source = format!(
        "Prompts: {}. Labels: {}. In brackets, where a number lies 95 times in 100.",
        study.prompts, study.labels
    );
    format!("<p class=\"headline\">{}</p>\n<p>{}</p>\n", escaped(&sentence), escaped(&source))
}

/// A side is taken only where the interval does.
fn against_top(to_top: &Estimate, top: &str) -> String {
    match to_top.interval {
        None => format!("the difference to {top}'s is {}, and how sure that is cannot be told", signed(to_top.value)),
        Some(interval) if interval.crosses_zero() => {
            format!("the difference to {top}'s, {}, is not significant", estimate(to_top, signed))
        }
        Some(_) if to_top.value < 0.0 => format!("below {top}'s by {}", estimate(&negated(to_top), decimal)),
        Some(_) => format!("above {top}'s by {}", estimate(to_top, decimal)),
    }
}

/// What the sums tell where there is no study, and why there is none.
pub(super) fn headline_of_sums(report: &Report) -> String {
    let top = report.tiers.last().map_or("the largest tier", |tier| &tier.tier);
    let cost = if report.cost.prompts == 0 {
        "cost is unknown".to_owned()
    } else {
        format!("cost {} against {} for {top} alone", usd(report.cost.usd), usd(report.cost.baseline_usd))
    };
    let quality = match &report.quality {
        Some(quality) => format!("quality {}", decimal(quality.mean)),
        None => "quality is unknown".to_owned(),
    };
    let sentence = escaped(&format!("{}: {cost}, {quality}.", report.policy));
    format!(
        "<p class=\"headline\">{sentence}</p>\n<p class=\"note\">These are sums. Labels and prices of all tiers are \
         needed for intervals, curves and baselines.</p>\n"
    )
}

/// What was promised, and on what grounds.
pub(super) fn certificate(certificate: &Certificate) -> String {
    let mut html = String::new();
    if certificate.uncertified {
        html.push_str(
            "<p class=\"warning\"><strong>UNCERTIFIED</strong>: nothing could be promised, so the largest tier \
             always answers. What follows was asked for and is not certified.</p>\n",
        );
    }
    let c = certificate;
    let rows = [
        (if c.uncertified { "asked for" } else { "promised" }, c.promise.clone()),
        ("bound", short(c.bound, 12)),
        ("delta", format!("{}: the chance that the promise does not hold", short(c.delta, 12))),
        ("n", format!("{} labelled rows; fitted to {} others", c.rows, c.fitted_rows)),
        ("method", c.method.to_string()),
        ("p-value", p_value(c.p_value)),
        ("labels", c.labels.clone()),
        ("data", format!("{}, split by seed {}", c.data, c.seed)),
    ];
    html + &list(&rows)
}

/// Terms and what is said of them.
fn list(rows: &[(&str, String)]) -> String {
    let mut html = "<dl>\n".to_owned();
    for (term, words) in rows {
        let _ = writeln!(html, "<div><dt>{}</dt><dd>{}</dd></div>", escaped(term), escaped(words));
    }
    html + "</dl>\n"
}

/// What the numbers are not over; nothing where they are over everything.
pub(super) fn left_out(report: &Report, study: Option<&Study>) -> String {
    let count = |read: fn(&Study) -> u64| study.map_or(0, read);
    let reasons = [
        (count(|study| study.left_out), "some tier's answer, label or price is missing: not in the study"),
        (count(|study| study.not_sampled), "beyond the sample of prompts that the study is over"),
        (report.cost.unpriced, "a price or an answer is missing: not in the sums of cost"),
        (report.cost.estimated, "no usage was recorded: cost estimated from the text, and counted"),
        (report.not_recorded, "a tier was asked whose answer is not recorded: what would have come is not known"),
        (report.unanswered, "every tier of the ladder failed: counted as quality 0"),
        (report.labels_held, "labels outside 0..=1: held at the nearer end, and counted"),
    ];
    let mut items = String::new();
    for (times, why) in reasons.iter().filter(|(times, _)| *times > 0) {
        let _ = writeln!(items, "<li><strong>{times}</strong>: {}</li>", escaped(why));
    }
    if items.is_empty() { items } else { format!("<ul>\n{items}</ul>\n") }
}

/// What the numbers mean.
pub(super) fn glossary() -> String {
    list(&GLOSSARY.map(|(term, words)| (term, words.to_owned())))
}
