//! How a report is shown, and what it must not say.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;

use crate::report::{Condition, Differences, Report, comparison_text, page, report_text, study_text};

#[derive(Debug, Args)]
pub(in crate::cli) struct Shown {
    /// Exit with 1 where this holds: 'quality<0.9'; with --against of the
    /// difference: 'quality<-0.01', 'cost>+5%', 'policy.quality<0.9'
    #[arg(long, value_name = "CONDITION", allow_hyphen_values = true)]
    pub fail_if: Vec<Condition>,
    /// Write a page with plots and every number
    #[arg(long, value_name = "REPORT.html")]
    report: Option<PathBuf>,
    /// Print every number: rankings, escalations, oracle, costs at shares of quality
    #[arg(long)]
    metrics: bool,
    /// Print JSON for programs
    #[arg(long)]
    json: bool,
}

impl Shown {
    /// Shows one report, or two and their differences; fails where a condition holds.
    pub fn show(&self, reports: Vec<Report>, differences: Differences, broken: u64) -> anyhow::Result<ExitCode> {
        let failed = self.failed(&reports);
        if let (Some(path), Some(report)) = (&self.report, reports.first()) {
            let page = page(report, report.study.as_ref());
            std::fs::write(path, page).with_context(|| format!("cannot write {}", path.display()))?;
        }
        // Who stops reading the report still gets the verdict.
        let printed = self.print(reports, differences, broken);
        printed.or_else(|error| if super::super::is_broken_pipe(&error) { Ok(()) } else { Err(error) })?;
        for line in &failed {
            eprintln!("cascade: {line}");
        }
        Ok(if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    /// One line for each condition that holds, or cannot be told.
    fn failed(&self, reports: &[Report]) -> Vec<String> {
        let against = reports.get(1);
        let line = |condition: &Condition| match condition.value(&reports[0], against) {
            Ok(value) if condition.is_met_by(value) => Some(format!("failed: {condition} holds, with {value:.6}")),
            Ok(_) => None,
            Err(why) => Some(format!("failed: {condition} cannot be told: {why}")),
        };
        self.fail_if.iter().filter_map(line).collect()
    }

    fn print(&self, reports: Vec<Report>, differences: Differences, broken: u64) -> anyhow::Result<()> {
        let mut reports = reports.into_iter();
        let report = reports.next().context("nothing was replayed")?;
        let against = reports.next();
        let studies = [Some(&report), against.as_ref()].into_iter().flatten().filter_map(|r| r.study.as_ref());
        let studies = studies.filter(|_| self.metrics).map(|study| format!("\n{}", study_text(study)));
        let studies: String = studies.collect();
        let (text, mut json) = if let Some(against) = against {
            let comparison = differences.comparison(report, against);
            (comparison_text(&comparison), serde_json::to_value(&comparison)?)
        } else {
            (report_text(&report), serde_json::to_value(&report)?)
        };
        let text = text + &studies;
        if self.json {
            json["broken_lines_skipped"] = broken.into();
            return super::super::print(&format!("{json:#}\n"));
        }
        let skipped = if broken > 0 { format!("broken lines skipped: {broken}\n") } else { String::new() };
        super::super::print(&format!("{text}{skipped}"))
    }
}
