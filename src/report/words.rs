//! Numbers in words: how text for people writes them.

use comfy_table::{CellAlignment, Table, presets};

use super::study::Estimate;

/// A table without lines, its first column to the left.
#[must_use]
pub fn table(header: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header.to_vec()).add_rows(rows);
    for (at, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        if at > 0 {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.lines().fold(String::new(), |out, line| out + line.trim_end() + "\n")
}

/// `1 prompt`, `2 prompts`.
#[must_use]
pub fn counted(n: u64, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

/// A share as `12.3%`.
#[must_use]
pub fn percent(share: f64) -> String {
    format!("{:.1}%", share * 100.0)
}

/// Dollars with enough digits for small sums, and no more than a cent's for large ones.
#[must_use]
pub fn dollars(usd: f64) -> String {
    match usd.abs() {
        a if a == 0.0 || a >= 100.0 => format!("{usd:.2}"),
        a if a >= 1.0 => format!("{usd:.4}"),
        _ => format!("{usd:.6}"),
    }
}

/// `0.8120 [0.7900, 0.8330]`.
#[must_use]
pub fn number(estimate: &Estimate) -> String {
    match estimate.interval {
        Some(interval) => format!("{:.4} [{:.4}, {:.4}]", estimate.value, interval.low, interval.high),
        None => format!("{:.4}", estimate.value),
    }
}

/// Dollars with their interval.
#[must_use]
pub fn money(estimate: &Estimate) -> String {
    match estimate.interval {
        Some(i) => format!("${} [{}, {}]", dollars(estimate.value), dollars(i.low), dollars(i.high)),
        None => format!("${}", dollars(estimate.value)),
    }
}
