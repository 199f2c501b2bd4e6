//! A replay as one page for people.
//!
//! Invariant: one file that loads nothing and runs nothing. Whatever comes from
//! data is escaped. What is empty is left out; what is unknown reads "n/a".

mod axis;
mod numbers;
mod plot;
mod prose;
mod tables;

use std::fmt::Write as _;

use super::Report;
use super::study::Study;

/// A whole page: what a replay cost and how good it was, and how sure that is.
/// Without a study it shows the report's sums.
#[must_use]
pub fn page(report: &Report, study: Option<&Study>) -> String {
    let name = escaped(&report.policy);
    let mut html = "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n".to_owned();
    html.push_str("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n");
    html.push_str("<meta name=\"color-scheme\" content=\"light dark\">\n");
    // The browser holds the page to its promise.
    html.push_str("<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; ");
    html.push_str("style-src 'unsafe-inline'\">\n");
    let _ = writeln!(html, "<title>{name}: cost and quality</title>");
    let _ = writeln!(html, "<style>\n{}</style>\n</head>\n<body>\n<main>", include_str!("style.css"));
    let _ = writeln!(html, "<h1>{name}</h1>\n<p class=\"digest\">policy {}</p>", escaped(&report.digest));
    html.push_str(&study.map_or_else(|| summed(report), |study| studied(report, study)));
    html + "</main>\n</body>\n</html>\n"
}

fn studied(report: &Report, study: &Study) -> String {
    [
        prose::headline(report, study),
        section("Certificate", &study.certificate.as_ref().map(prose::certificate).unwrap_or_default()),
        section("Cost against quality", &plot::cost_and_quality(study)),
        section("What a share of the largest tier's quality costs", &tables::cost_at(study)),
        section("Numbers", &tables::numbers(study)),
        section("Who answered", &plot::tier_mix(study)),
        section("What scores are worth", &tables::rankings(study)),
        section("Reliability of scores", &reliability(study)),
        section("Ways up", &tables::edges(study)),
        section("Kinds of prompts", &tables::tasks(study)),
        section("Tiers", &tables::tiers(report)),
        section("Sums", &tables::sums(report)),
        section("What was left out or estimated", &prose::left_out(report, Some(study))),
        section("What the numbers mean", &prose::glossary()),
    ]
    .concat()
}

fn summed(report: &Report) -> String {
    [
        prose::headline_of_sums(report),
        section("Sums", &tables::sums(report)),
        section("Tiers", &tables::tiers(report)),
        section("What was left out or estimated", &prose::left_out(report, None)),
    ]
    .concat()
}

/// A part of the page under its heading; nothing where there is nothing to say.
fn section(heading: &str, body: &str) -> String {
    if body.is_empty() {
        return String::new();
    }
    format!("<section>\n<h2>{}</h2>\n{body}</section>\n", escaped(heading))
}

/// A diagram for each tier that has scores to show.
fn reliability(study: &Study) -> String {
    let shown = study.rankings.iter().filter(|ranking| !ranking.bins.is_empty());
    let figures: String =
        shown.map(|ranking| plot::reliability(prose::name_of(&study.tiers, ranking.tier), ranking)).collect();
    if figures.is_empty() {
        return figures;
    }
    let note = if study.is_calibrated {
        ""
    } else {
        "<p class=\"note\">Scores are uncalibrated: an order, not chances.</p>\n"
    };
    format!("{note}<div class=\"figures\">\n{figures}</div>\n")
}

/// Text that HTML takes for text, between tags and within quotes.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::super::study::{CostAt, Edge, Estimate, Ranking, Shuffled, TaskStudy};
    use super::super::{CostReport, QualityReport, TierReport};
    use super::*;
    use crate::statistics::curve::Point;
    use crate::statistics::ranking::Bin;
    use crate::statistics::resample::Interval;
    use crate::stopping::{Certificate, Method};

    fn sure(value: f64, low: f64, high: f64) -> Estimate {
        Estimate { value, interval: Some(Interval { low, high }) }
    }

    fn point(cost: f64, quality: f64) -> Point {
        Point { cost, quality }
    }

    fn tier(name: &str) -> TierReport {
        TierReport {
            tier: name.to_owned(),
            asked: 100,
            accepted: 71,
            escalated: 29,
            escalated_by: [("score".to_owned(), 29)].into(),
            limited: 0,
            failed: [].into(),
            cache_hits: 3,
            coalesced: 1,
            input_tokens: 0,
            output_tokens: 0,
            usd: 0.5,
            alone_quality: Some(0.654),
            alone_labelled: 100,
            alone_usd: None,
        }
    }

    fn report() -> Report {
        Report {
            policy: "<b>&\"x\"".to_owned(),
            digest: "80da5caec66d".to_owned(),
            prompts: 100,
            unanswered: 0,
            stand_ins: 0,
            not_recorded: 2,
            escalated: 29,
            labels_held: 0,
            unjudged: 0,
            cost: CostReport {
                prompts: 100,
                unpriced: 0,
                estimated: 0,
                usd: 3.25,
                baseline_usd: 9.75,
                savings: Some(0.667),
            },
            quality: Some(QualityReport { prompts: 100, mean: 0.876, baseline: Some(0.9) }),
            latency: None,
            tiers: vec![tier("ada"), tier("<davinci>")],
            study: None,
        }
    }

    fn ranking() -> Ranking {
        Ranking {
            tier: 0,
            answers: 98,
            auroc: Some(0.771),
            apgr: Some(sure(0.688, 0.6, 0.75)),
            call_share: [Some(0.201), Some(0.455), None],
            deferral: Some((0.832, 0.041)),
            aurc: Some(0.122),
            brier: Some(0.155),
            calibration_error: Some(0.066),
            bins: vec![Bin { score: 0.2, label: 0.3, answers: 49 }, Bin { score: 0.8, label: 0.7, answers: 49 }],
        }
    }

    fn edge() -> Edge {
        Edge {
            from: 0,
            to: 1,
            asked: 100,
            escalated: 29,
            precision: Some(0.611),
            recall: Some(0.722),
            over_escalation: Some(0.333),
            harm: Some(0.044),
            missed_error: None,
        }
    }

    fn task() -> TaskStudy {
        TaskStudy {
            task: "sums & 'terms'".to_owned(),
            prompts: 40,
            quality: sure(0.861, 0.8, 0.9),
            cost: sure(0.0004, 0.0003, 0.0005),
            quality_to_top: sure(-0.2, -0.3, -0.1),
            top: point(0.001, 0.95),
            served_share: vec![0.5, 0.5],
        }
    }

    fn study() -> Study {
        let tiers = vec![point(0.000_01, 0.654), point(0.001, 0.9)];
        Study {
            prompts: 98,
            left_out: 2,
            not_sampled: 0,
            labels: "recorded".to_owned(),
            is_calibrated: false,
            tiers: vec!["ada".to_owned(), "<davinci>".to_owned()],
            certificate: Some(Certificate {
                uncertified: true,
                promise: "at least 0.95 of the largest tier's quality is kept".to_owned(),
                bound: 0.95,
                delta: 0.1,
                rows: 321,
                fitted_rows: 654,
                method: Method::Betting,
                p_value: 0.0321,
                labels: "recorded".to_owned(),
                data: "c0ffee".to_owned(),
                seed: 7,
            }),
            quality: sure(0.876, 0.81, 0.93),
            cost: sure(0.000_33, 0.000_3, 0.000_36),
            savings: Some(sure(0.667, 0.6, 0.7)),
            quality_to_top: sure(-0.024, -0.05, 0.01),
            singles: tiers.clone(),
            served_share: vec![0.71, 0.29],
            curve: vec![point(0.000_2, 0.8), point(0.000_33, 0.876)],
            hull: vec![point(0.000_2, 0.8), point(0.001, 0.9)],
            zero_router: tiers,
            oracle_router: point(0.000_2, 0.943),
            oracle_cascade: point(0.000_25, 0.943),
            oracle_hull: vec![point(0.000_01, 0.654), point(0.000_2, 0.943)],
            mean_quality: Some(sure(0.859, 0.84, 0.88)),
            cost_at: vec![CostAt {
                share: 0.95,
                policy: Some(0.000_4),
                zero_router: None,
                oracle: Some(0.000_1),
                top: 0.001,
            }],
            regret: 0.067,
            cost_regret: 0.000_08,
            best_single: Some(0),
            shuffled: Some(Shuffled { quality: sure(0.725, 0.7, 0.75), lift: 0.151, is_significant: true }),
            benefit: None,
            rankings: vec![ranking()],
            edges: vec![edge()],
            tasks: vec![task()],
        }
    }

    #[test]
    fn the_page_loads_nothing_and_escapes_what_it_shows() {
        for html in [page(&report(), Some(&study())), page(&report(), None)] {
            for foreign in ["http://", "https://", "<script", "@import", "url(", "<b>", "<davinci>"] {
                assert!(!html.contains(foreign), "{foreign}");
            }
            assert!(html.contains("<h1>&lt;b&gt;&amp;&quot;x&quot;</h1>"));
            assert_eq!(html.matches("<svg").count(), html.matches("</svg>").count());
            assert_eq!(html.matches("<table").count(), html.matches("</table>").count());
        }
        assert!(page(&report(), Some(&study())).contains("sums &amp; &#39;terms&#39;"));
    }

    #[test]
    fn every_number_appears_with_its_interval() {
        let html = page(&report(), Some(&study()));
        let shown = [
            "cost $0.000330 [$0.000300, $0.000360] per prompt, 66.7% [60.0%, 70.0%] less than &lt;davinci&gt; alone",
            "Its quality is 0.876 [0.810, 0.930]: the difference to",
            "&lt;davinci&gt;&#39;s, -0.024 [-0.050, +0.010], is not significant",
            "<strong>UNCERTIFIED</strong>",
            "at least 0.95 of the largest tier&#39;s quality is kept",
            "321 labelled rows",
            "betting",
            "0.0321",
            "<td>$0.000400 (40.0%)</td><td>n/a</td><td>$0.000100 (10.0%)</td>",
            "mean quality over costs (AIQ)</th><td>0.859 [0.840, 0.880]",
            "regret</th><td>0.067",
            "cost regret</th><td>$0.0000800",
            "ada: 0.654 at $0.0000100",
            "0.725 [0.700, 0.750]",
            "+0.151",
            "(delta IBC)</th><td>n/a",
            "<td>0.771</td><td>0.688 [0.600, 0.750]</td><td>20.1%</td><td>45.5%</td><td>n/a</td>",
            "<td>0.832</td><td>+4.1%</td><td>0.122</td><td>0.155</td><td>0.066</td>",
            "ada: ECE 0.066, Brier 0.155",
            "Scores are uncalibrated: an order, not chances.",
            "<td>61.1%</td><td>72.2%</td><td>33.3%</td><td>4.4%</td><td>n/a</td>",
            "0.861 [0.800, 0.900]",
            "ada 50.0%, &lt;davinci&gt; 50.0%",
            "score 29",
            "<strong>2</strong>: some tier",
        ];
        for number in shown {
            assert!(html.contains(number), "{number}");
        }
    }

    #[test]
    fn what_is_empty_is_left_out() {
        let bare =
            Study { certificate: None, rankings: vec![], edges: vec![], tasks: vec![], cost_at: vec![], ..study() };
        let (whole, bare) = (page(&report(), Some(&study())), page(&report(), Some(&bare)));
        let parts = ["Certificate", "What a share of", "What scores are worth", "Reliability", "Ways up", "Kinds of"];
        for heading in parts.map(|part| format!("<h2>{part}")) {
            assert!(whole.contains(&heading) && !bare.contains(&heading), "{heading}");
        }
        assert!(
            !page(&report(), None).contains("<svg") && page(&report(), None).contains("prices of all tiers are needed")
        );
    }
}
