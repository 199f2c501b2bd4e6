//! `cascade export`: exchanges as tables, for whoever asks in SQL.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use clap::Args;

use crate::clock::since_1970_of;
use crate::recording::{NoTables, Rows, files, name_of, tabulate};

#[derive(Debug, Args)]
pub(super) struct Export {
    /// Exchanges: files (.jsonl, .jsonl.zst) or folders of them
    #[arg(required = true, value_name = "EXCHANGES")]
    recordings: Vec<PathBuf>,
    /// The folder of tables, in Parquet: exchanges/date=.../NAME.parquet and answers/...
    #[arg(long, short, value_name = "FOLDER")]
    output: PathBuf,
    /// When recordings began whose names do not say so, in UTC: 2026-11-06 or 20261106T084937Z
    #[arg(long, value_name = "TIME", value_parser = time)]
    began: Option<Duration>,
    /// Pass over broken lines and count them
    #[arg(long)]
    skip_broken: bool,
}

fn time(text: &str) -> Result<Duration, String> {
    let day = || since_1970_of(&format!("{}T000000Z", text.replace('-', "")));
    let is_day = text.len() == 10 && text.as_bytes()[4] == b'-' && text.as_bytes()[7] == b'-';
    let known = if is_day { day() } else { since_1970_of(text).filter(|_| text.len() == 16) };
    known.ok_or_else(|| "a date such as 2026-11-06, or a time such as 20261106T084937Z".to_owned())
}

impl Export {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let mut named = HashMap::<String, PathBuf>::new();
        let mut recordings = Vec::new();
        for path in files(&self.recordings)? {
            if path == Path::new("-") {
                bail!("standard input has no name, which tables need: give a file");
            }
            let name = name_of(&path);
            let began = since_1970_of(&name).or(self.began).with_context(|| {
                format!("{} does not say when it began, as recordings of `record:` do: give --began", path.display())
            })?;
            if let Some(other) = named.insert(name.clone(), path.clone()) {
                bail!(
                    "{} and {} would be the same table: export them to folders of their own",
                    other.display(),
                    path.display()
                );
            }
            recordings.push((path, name, began));
        }
        let (mut sum, mut broken) = (Rows::default(), 0u64);
        for (path, name, began) in recordings {
            let skip = |error: &crate::recording::CannotRead| {
                if self.skip_broken {
                    broken += 1;
                    eprintln!("cascade: skipped {error}");
                }
                self.skip_broken
            };
            let rows = tabulate(&path, &name, began, &self.output, skip);
            let rows = rows.map_err(|error| match error {
                NoTables::Read(error) if error.is_one_line() => {
                    anyhow!("{error}\n(--skip-broken passes over broken lines and counts them)")
                }
                error => anyhow!("{} has no tables: {error}", path.display()),
            })?;
            sum.exchanges += rows.exchanges;
            sum.answers += rows.answers;
        }
        let skipped = if broken > 0 { format!(", {broken} broken lines skipped") } else { String::new() };
        super::print(&format!(
            "{} exchanges and {} answers of {} recordings in {}{skipped}\n",
            sum.exchanges,
            sum.answers,
            named.len(),
            self.output.display()
        ))?;
        Ok(ExitCode::SUCCESS)
    }
}
