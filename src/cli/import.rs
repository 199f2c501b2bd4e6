//! `cascade import`: others' logs as exchanges.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, anyhow, bail};
use bytes::Bytes;
use clap::{Args, Subcommand};
use serde_json::Value;

use crate::exchange::Exchange;
use crate::imported::{self, Format};
use crate::policy::{Outside, Policy};
use crate::recording::{Redaction, lines_of_text};

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(super) struct Import {
    #[command(subcommand)]
    what: Option<What>,
    /// Logs, as lines of JSON or as one list; of batches the files of requests too
    #[arg(required = true, value_name = "FILE")]
    logs: Vec<PathBuf>,
    /// Whose logs they are; guessed if left out
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// The file of exchanges to write
    #[arg(long, short, value_name = "FILE", required = true)]
    output: Option<PathBuf>,
    /// Write over a file that is there
    #[arg(long)]
    force: bool,
    /// Pass over lines that are no JSON
    #[arg(long)]
    skip_broken: bool,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Make a policy of the configuration of LiteLLM's proxy
    LitellmConfig(LitellmConfig),
}

#[derive(Debug, Args)]
struct LitellmConfig {
    /// Its YAML, and the files that it includes
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The policy to write
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
    /// Write over a file that is there
    #[arg(long)]
    force: bool,
}

impl LitellmConfig {
    fn run(self) -> anyhow::Result<ExitCode> {
        if self.output.exists() && !self.force {
            bail!("{} is there already; --force writes over it", self.output.display());
        }
        let mut configurations = Vec::new();
        for path in &self.files {
            let name = path.display().to_string();
            let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {name}"))?;
            let read = Policy::yaml_as_json(&name, &text);
            configurations.push(read.map_err(|problems| anyhow!("{name} is no YAML\n\n{problems}"))?);
        }
        let made = imported::policy(&configurations).map_err(|why| anyhow!("{why}"))?;
        // Whether the keys are there is for `cascade doctor` to say.
        let read = Policy::parse("policy", &made.policy, Outside { demands_variables: false, ..Outside::none() });
        let (policy, _) = read.map_err(|problems| anyhow!("cannot make a policy of it: {problems}"))?;
        std::fs::write(&self.output, &made.policy)
            .with_context(|| format!("cannot write {}", self.output.display()))?;
        let tiers: Vec<String> = policy.tiers.iter().map(|tier| format!("{} ({})", tier.name, tier.model)).collect();
        let path = self.output.display();
        let mut text = format!("wrote {path}: {}\n", tiers.join(", "));
        made.notes.iter().for_each(|note| _ = writeln!(text, "- {note}"));
        let _ = write!(text, "\ntry it:   cascade doctor --policy {path}\nserve it: cascade serve --policy {path}\n");
        super::print(&text)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// What became of lines.
#[derive(Default)]
struct Counts {
    written: u64,
    broken: u64,
    left: BTreeMap<&'static str, u64>,
}

impl Import {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        if let Some(What::LitellmConfig(config)) = self.what {
            return config.run();
        }
        let output = self.output.clone().context("--output FILE says where exchanges go")?;
        if output.exists() && !self.force {
            bail!("{} is there already; --force writes over it", output.display());
        }
        let mut counts = Counts::default();
        let mut requests = HashMap::new();
        // A batch's answers stand in another file than its requests, in any order.
        for log in &self.logs {
            self.each(log, &mut counts, |line, _, _| {
                if let (Some(id), Some(_)) = (line["custom_id"].as_str().map(str::to_owned), line.get("body")) {
                    // Two batches may use the same names; whose answer is whose nobody knows.
                    let known: &mut Option<Value> = requests.entry(id).or_insert_with(|| Some(line.clone()));
                    if known.as_ref().is_some_and(|known| known["body"] != line["body"]) {
                        *known = None;
                    }
                }
                Ok(())
            })?;
        }
        counts.broken = 0;
        let file = File::create(&output).with_context(|| format!("cannot write {}", output.display()))?;
        let (mut out, redaction) = (BufWriter::new(file), Redaction::default());
        for log in &self.logs {
            self.each(log, &mut counts, |line, number, counts| {
                if line.get("custom_id").is_some() && line.get("body").is_some() {
                    return Ok(());
                }
                let Some(format) = self.format.or_else(|| imported::guess(&line)) else {
                    bail!("{}:{number}: not a line of any log known here; say whose it is: --format", log.display());
                };
                let request = line["custom_id"].as_str().and_then(|id| requests.get(id)?.as_ref());
                match imported::exchange(format, &line, number, request) {
                    Ok(mut exchange) => {
                        redaction.clean_value(&mut exchange);
                        let text = exchange.to_string();
                        if Exchange::parse(&Bytes::from(text.clone())).is_err() {
                            *counts.left.entry("in a shape that cannot be replayed").or_default() += 1;
                            return Ok(());
                        }
                        writeln!(out, "{text}")?;
                        counts.written += 1;
                    }
                    Err(why) => *counts.left.entry(why).or_default() += 1,
                }
                Ok(())
            })?;
        }
        out.flush()?;
        let Counts { written, broken, left } = counts;
        let mut text = format!("{written} exchanges written to {}\n", output.display());
        for (why, count) in left.iter().chain((broken > 0).then_some((&"no JSON", &broken))) {
            let _ = writeln!(text, "{count} left out: {why}");
        }
        super::print(&text)?;
        Ok(if written > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    /// Every line of a log, or every item of the list that it is.
    fn each(
        &self,
        log: &Path,
        counts: &mut Counts,
        mut take: impl FnMut(Value, u64, &mut Counts) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let mut number = 0;
        let mut lines = lines_of_text(log)?.peekable();
        let is_list =
            lines.peek().is_some_and(|first| first.as_ref().is_ok_and(|text| text.trim_start().starts_with('[')));
        if is_list {
            let text = lines.collect::<Result<Vec<_>, _>>()?.join("\n");
            let items: Vec<Value> =
                serde_json::from_str(&text).with_context(|| format!("{}: no list of JSON", log.display()))?;
            return (1..).zip(items).try_for_each(|(number, item)| take(item, number, counts));
        }
        for line in lines {
            number += 1;
            match serde_json::from_str(&line?) {
                Ok(value) => take(value, number, counts)?,
                Err(_) if self.skip_broken => counts.broken += 1,
                Err(why) => bail!("{}:{number}: {why}; --skip-broken passes over such lines", log.display()),
            }
        }
        Ok(())
    }
}
