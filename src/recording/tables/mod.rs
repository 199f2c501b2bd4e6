//! Exchanges as tables, in Parquet files by date, for whoever asks in SQL.
//!
//! Invariant: a recording's tables are written whole or not at all, under the recording's
//! name: written again they take their own place. Each row of `exchanges` has the whole
//! line, so that nothing is lost on the way there and back.

mod table;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;

use super::{CannotRead, Lines};
use crate::clock::date_of;
use crate::exchange::{Exchange, RecordedAnswer};
use crate::price::Usd;
use crate::tokens;
use table::{Cell, Table};

const EXCHANGES: &str = "message exchanges {
    optional binary id (STRING); optional int64 arrived_at (TIMESTAMP(MICROS, true));
    optional binary endpoint (STRING); optional binary model (STRING); optional boolean streams;
    optional binary task (STRING); optional binary question (STRING); optional binary exchange (STRING); }";

const ANSWERS: &str = "message answers {
    optional binary id (STRING); optional int64 arrived_at (TIMESTAMP(MICROS, true));
    optional binary tier (STRING); optional int64 status; optional binary text (STRING);
    optional binary finish_reason (STRING); optional int64 input_tokens; optional int64 output_tokens;
    optional double elapsed_ms; optional double cost_usd; optional double quality; }";

/// Files are open for each date at the same time.
const MOST_DATES: usize = 64;

/// The tables of one recording, a file for each date.
pub struct Tables {
    folder: PathBuf,
    name: String,
    began: Duration,
    by_date: BTreeMap<String, [Table; 2]>,
}

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rows {
    /// Of `exchanges`.
    pub exchanges: u64,
    /// Of `answers`.
    pub answers: u64,
}

impl Tables {
    /// Tables below `folder` of the recording called `name`, which began so long after
    /// 1970 did.
    #[must_use]
    pub fn new(folder: &Path, name: &str, began: Duration) -> Self {
        Self { folder: folder.to_owned(), name: name.to_owned(), began, by_date: BTreeMap::new() }
    }

    /// Adds an exchange, whose line is this.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn add(&mut self, exchange: &Exchange, line: &Bytes) -> std::io::Result<()> {
        let arrived = self.began + Duration::from_secs_f64(exchange.arrived_ms.unwrap_or(0.0) / 1000.0);
        let date = date_of(arrived);
        if self.by_date.len() >= MOST_DATES && !self.by_date.contains_key(&date) {
            let why = format!("it is of more than {MOST_DATES} dates: split it");
            return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, why));
        }
        let [exchanges, answers] = match self.by_date.entry(date) {
            std::collections::btree_map::Entry::Occupied(there) => there.into_mut(),
            std::collections::btree_map::Entry::Vacant(none) => {
                let at = |table: &str| {
                    let folder = self.folder.join(table).join(format!("date={}", none.key()));
                    folder.join(format!("{}.parquet", self.name))
                };
                let pair = [Table::begin(at("exchanges"), EXCHANGES)?, Table::begin(at("answers"), ANSWERS)?];
                none.insert(pair)
            }
        };
        let at = Some(i64::try_from(arrived.as_micros()).unwrap_or(i64::MAX));
        let text = |text: &str| Cell::Text(Some(text.to_owned()));
        let prompt = &exchange.prompt;
        exchanges.add([
            text(&exchange.id),
            Cell::Whole(at),
            text(&prompt.endpoint.to_string()),
            text(&prompt.model),
            Cell::Truth(Some(prompt.stream)),
            Cell::Text(exchange.task.clone()),
            Cell::Text(prompt.texts().last().map(ToString::to_string)),
            Cell::Text(std::str::from_utf8(line).ok().map(str::to_owned)),
        ])?;
        for (tier, answer) in &exchange.answers {
            answers.add(row(exchange, at, tier, answer))?;
        }
        Ok(())
    }

    /// Ends all files. Returns how many rows there are.
    ///
    /// # Errors
    /// Where one cannot be ended.
    pub fn end(self) -> std::io::Result<Rows> {
        let mut rows = Rows::default();
        let mut all = self.by_date;
        for table in all.values_mut().flatten() {
            table.end()?;
        }
        for [exchanges, answers] in all.into_values() {
            rows.exchanges += exchanges.keep()?;
            rows.answers += answers.keep()?;
        }
        Ok(rows)
    }
}

/// A row of `answers`.
fn row(exchange: &Exchange, at: Option<i64>, tier: &str, answer: &RecordedAnswer) -> [Cell; 11] {
    let said = answer.answer(exchange.prompt.endpoint).ok();
    let first = said.as_ref().and_then(|said| said.choices.first());
    let counted = said.as_ref().and_then(|said| said.usage).and_then(tokens::of_usage);
    let whole = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    [
        Cell::Text(Some(exchange.id.clone())),
        Cell::Whole(at),
        Cell::Text(Some(tier.to_owned())),
        Cell::Whole(Some(i64::from(answer.status))),
        Cell::Text(first.map(|choice| choice.text.clone())),
        Cell::Text(first.and_then(|choice| choice.finish_reason.clone())),
        Cell::Whole(counted.map(|counted| whole(counted.input))),
        Cell::Whole(counted.map(|counted| whole(counted.output))),
        Cell::Number(answer.elapsed_ms),
        Cell::Number(answer.cost.map(Usd::dollars)),
        Cell::Number(answer.quality),
    ]
}

/// Why a recording has no tables.
#[derive(Debug, thiserror::Error)]
pub enum NoTables {
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] CannotRead),
    /// They cannot be written.
    #[error("cannot write tables below {folder}: {source}")]
    Write {
        /// Where.
        folder: String,
        /// Why.
        source: std::io::Error,
    },
}

/// Writes the tables of the recording at `path`, which began so long after 1970 did, below
/// `folder`. Broken lines are handed to `skip`, which says whether to go on.
///
/// # Errors
/// Where it cannot be read, or they cannot be written.
pub fn tabulate(
    path: &Path,
    name: &str,
    began: Duration,
    folder: &Path,
    mut skip: impl FnMut(&CannotRead) -> bool,
) -> Result<Rows, NoTables> {
    let failed = |source| NoTables::Write { folder: folder.display().to_string(), source };
    let mut tables = Tables::new(folder, name, began);
    let mut lines = Lines::open(path)?;
    while let Some(read) = lines.next() {
        match read {
            Ok(exchange) => tables.add(&exchange, &lines.text).map_err(failed)?,
            Err(error) if error.is_one_line() && skip(&error) => {}
            Err(error) => return Err(error.into()),
        }
    }
    tables.end().map_err(failed)
}

/// The name of a recording: its file's, less what says how it is written.
#[must_use]
pub fn name_of(path: &Path) -> String {
    let file = path.file_name().unwrap_or_default().to_string_lossy();
    file.trim_end_matches(".zst").trim_end_matches(".jsonl").to_owned()
}
