//! `cascade replay`: recorded exchanges through a policy, in simulated time.

use std::collections::HashMap;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use anyhow::{Context, anyhow, bail};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use super::load;
use crate::clock::{Clock, SystemClock};
use crate::exchange::Exchange;
use crate::labels::Labels;
use crate::policy::Policy;
use crate::recording::{CannotRead, Lines, files};
use crate::replay::{Replay as Run, Replayed};
use crate::report::{Condition, Differences, Report, Tally, comparison_text, page, report_text, study_text};

/// Exchanges handed over at a time from the thread that reads them.
const BATCH: usize = 64;
/// Batches that wait between two threads.
const QUEUED: usize = 32;
/// Broken lines that are named; past that they are only counted.
const NAMED_BROKEN: u64 = 10;

#[derive(Debug, Args)]
pub(super) struct Replay {
    /// Exchange files (.jsonl), folders of them, or - for standard input
    #[arg(required = true, value_name = "FIXTURES")]
    fixtures: Vec<PathBuf>,
    /// The policy to replay under; the demo's if left out
    #[arg(long, short)]
    policy: Option<PathBuf>,
    /// A policy to compare with: what changes from it to --policy
    #[arg(long, value_name = "POLICY")]
    against: Option<PathBuf>,
    /// Exit with 1 where this holds: 'quality<0.9'; with --against of the
    /// difference: 'quality<-0.01', 'cost>+5%', 'policy.quality<0.9'
    #[arg(long, value_name = "CONDITION", allow_hyphen_values = true)]
    fail_if: Vec<Condition>,
    /// How many changed prompts to list, `all` for all of them
    #[arg(long, value_name = "N", default_value = "20", value_parser = changes)]
    changes: usize,
    /// Pass over broken lines and count them
    #[arg(long)]
    skip_broken: bool,
    /// Where labels come from: recorded, exact, numeric, answer, regex:PATTERN, mark:NAME, top
    #[arg(long, default_value = "recorded")]
    labels: Labels,
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

fn changes(text: &str) -> Result<usize, String> {
    if text == "all" { Ok(usize::MAX) } else { text.parse().map_err(|_| "a number or `all`".to_owned()) }
}

impl Replay {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        if let (Some(condition), None) = (self.fail_if.iter().find(|c| c.needs_two()), &self.against) {
            eprintln!("cascade: --fail-if '{condition}' compares two policies: give --against");
            return Ok(ExitCode::from(2));
        }
        let policy = Arc::new(load::policy(self.policy.as_deref(), false)?);
        let against = self.against.as_deref().map(|path| load::policy(Some(path), false)).transpose()?;
        if let Some(against) = against.as_ref().filter(|against| !self.labels.mean_the_same(&policy, against)) {
            bail!(
                "--labels {} means one thing under {} and another under {}: their last tiers or answer patterns differ",
                self.labels,
                policy.name,
                against.name
            );
        }
        let labels = self.labels.to_string();
        let policies: Vec<Arc<Policy>> = std::iter::once(policy).chain(against.map(Arc::new)).collect();
        let sides = policies.iter().map(|policy| Side { run: Run::new(policy.clone()), done: Vec::new() }).collect();
        let (sums, broken) = self.feed(sides, Sums::new(policies, &labels, self.changes))?;
        let reports = sums.reports();
        let failed = self.failed(&reports);
        if let (Some(path), Some(report)) = (&self.report, reports.first()) {
            let page = page(report, report.study.as_ref());
            std::fs::write(path, page).with_context(|| format!("cannot write {}", path.display()))?;
        }
        // Who stops reading the report still gets the verdict.
        let printed = self.print(reports, sums.differences, broken);
        printed.or_else(|error| if super::is_broken_pipe(&error) { Ok(()) } else { Err(error) })?;
        for line in &failed {
            eprintln!("cascade: {line}");
        }
        Ok(if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    /// Runs every exchange under each policy. Reading, running and adding up each
    /// have a thread. Returns the sums, and how many lines were broken.
    fn feed(&self, mut sides: Vec<Side>, mut sums: Sums) -> anyhow::Result<(Sums, u64)> {
        let (send, receive) = sync_channel(QUEUED);
        std::thread::scope(|scope| {
            let adding = scope.spawn(move || {
                receive.into_iter().for_each(|done| sums.add(done));
                sums
            });
            let broken = self.run_all(&mut sides, &send);
            drop(send);
            Ok((adding.join().map_err(|_| anyhow!("adding up has panicked"))?, broken?))
        })
    }

    fn run_all(&self, sides: &mut [Side], added: &SyncSender<Vec<Done>>) -> anyhow::Result<u64> {
        // Fails only where the adding has panicked, which is told when it is joined.
        let add = |sides: &mut [Side]| {
            let _ = added.send(sides.iter_mut().map(|side| std::mem::take(&mut side.done)).collect());
        };
        let paths = files(&self.fixtures)?;
        let (bar, clock) = (progress(&paths), SystemClock::start());
        let (mut broken, mut exchanges) = (0, 0u32);
        for batch in read_ahead(paths, self.labels.clone(), sides[0].run.shared_policy()) {
            for item in batch {
                match item {
                    Item::FileBegins => sides.iter_mut().for_each(|side| side.run.begin_file(&mut side.done)),
                    Item::Read(bytes) => bar.set_position(bytes),
                    Item::Exchange(exchange) => {
                        exchanges += 1;
                        sides.iter_mut().for_each(|side| side.run.push(exchange.clone(), &mut side.done));
                    }
                    Item::Broken(error) if self.skip_broken && error.is_one_line() => {
                        broken += 1;
                        if broken <= NAMED_BROKEN {
                            bar.suspend(|| eprintln!("cascade: skipped {error}"));
                        }
                    }
                    Item::Broken(error) => {
                        bar.finish_and_clear();
                        let hint = if error.is_one_line() {
                            "\n(--skip-broken passes over broken lines and counts them)"
                        } else {
                            ""
                        };
                        return Err(anyhow!("{error}{hint}"));
                    }
                }
            }
            add(sides);
        }
        let out_of_order = sides.first().map_or(0, |side| side.run.out_of_order());
        if out_of_order > 0 {
            bar.suspend(|| eprintln!("cascade: {out_of_order} exchanges arrive before the one on the line above; each was taken to arrive with it"));
        }
        sides.iter_mut().for_each(|side| side.run.finish(&mut side.done));
        add(sides);
        bar.finish_and_clear();
        if !bar.is_hidden() {
            let seconds = clock.now().as_secs_f64();
            eprintln!("{exchanges} exchanges in {seconds:.1} s, {:.0} a second\n", f64::from(exchanges) / seconds);
        }
        Ok(broken)
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
            return super::print(&format!("{json:#}\n"));
        }
        let skipped = if broken > 0 { format!("broken lines skipped: {broken}\n") } else { String::new() };
        super::print(&format!("{text}{skipped}"))
    }
}

/// One policy's run, and what it has finished.
struct Side {
    run: Run,
    done: Done,
}

type Done = Vec<Replayed>;

/// What is added up of each policy.
struct Sums {
    policies: Vec<Arc<Policy>>,
    tallies: Vec<Tally>,
    /// Prompts finished under one policy and not yet under the other.
    waiting: [HashMap<u64, Replayed>; 2],
    differences: Differences,
}

impl Sums {
    fn new(policies: Vec<Arc<Policy>>, labels: &str, changes: usize) -> Self {
        Self {
            tallies: policies.iter().map(|policy| Tally::new(policy, labels)).collect(),
            policies,
            waiting: [HashMap::new(), HashMap::new()],
            differences: Differences::keeping(changes),
        }
    }

    /// Adds what each policy has finished.
    fn add(&mut self, done: Vec<Done>) {
        let is_comparison = self.policies.len() == 2;
        for (at, done) in done.into_iter().enumerate() {
            for replayed in done {
                self.tallies[at].add(&self.policies[at], &replayed.exchange, &replayed.trace);
                if is_comparison {
                    self.waiting[at].insert(replayed.number, replayed);
                }
            }
        }
        let ([policy, against], [now, then]) = (&*self.policies, &mut self.waiting) else { return };
        then.retain(|number, then| {
            let Some(now) = now.remove(number) else { return true };
            self.differences.add(*number, &now.exchange, (policy, &now.trace), (against, &then.trace));
            false
        });
    }

    fn reports(&self) -> Vec<Report> {
        self.tallies.iter().zip(&self.policies).map(|(tally, policy)| tally.report(policy)).collect()
    }
}

enum Item {
    FileBegins,
    Exchange(Arc<Exchange>),
    Broken(CannotRead),
    /// Bytes read so far, over all files.
    Read(u64),
}

/// Reads and parses on a thread of its own, a few batches ahead.
fn read_ahead(paths: Vec<PathBuf>, labels: Labels, policy: Arc<Policy>) -> Receiver<Vec<Item>> {
    let (send, receive) = sync_channel(QUEUED);
    std::thread::spawn(move || {
        let mut before = 0;
        for path in paths {
            let mut batch = vec![Item::FileBegins];
            let mut lines = match Lines::open(&path) {
                Ok(lines) => lines,
                Err(error) => {
                    let _ = send.send(vec![Item::Broken(error)]);
                    return;
                }
            };
            while let Some(read) = lines.next() {
                batch.push(match read {
                    Ok(mut exchange) => {
                        labels.apply(&policy, &mut exchange);
                        read_here(&policy, &exchange);
                        Item::Exchange(Arc::new(exchange))
                    }
                    Err(error) => Item::Broken(error),
                });
                if batch.len() >= BATCH {
                    batch.push(Item::Read(before + lines.read));
                    if send.send(std::mem::take(&mut batch)).is_err() {
                        return;
                    }
                }
            }
            before += lines.read;
            if send.send(batch).is_err() {
                return;
            }
        }
    });
    receive
}

/// Reads what is all but sure to be wanted on this thread, so that the one that
/// runs exchanges finds it read.
fn read_here(policy: &Policy, exchange: &Exchange) {
    exchange.prompt.content_key();
    let first = exchange.answer_of(&policy.tiers[0]);
    let _ = first.map(|answer| answer.answer(exchange.prompt.endpoint));
    if policy.stopping.is_some() {
        exchange.prompt.asked();
    }
}

/// A bar over the bytes of all files; hidden unless standard error is a terminal.
fn progress(paths: &[PathBuf]) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bytes: u64 = paths.iter().filter_map(|p| p.metadata().ok()).map(|m| m.len()).sum();
    let style = ProgressStyle::with_template("{bar:40} {binary_bytes}/{binary_total_bytes} {eta}");
    ProgressBar::new(bytes).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
