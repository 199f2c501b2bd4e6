//! `cascade replay`: recorded exchanges through a policy, in simulated time.

mod reading;
mod shown;

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};

use anyhow::{Context, anyhow, bail};
use clap::Args;

use super::load;
use crate::clock::{Clock, SystemClock};
use crate::labels::Labels;
use crate::policy::Policy;
use crate::recording::files;
use crate::replay::{Replay as Run, Replayed};
use crate::report::{Differences, MOST_SHARDS, Partial, Report, Tally};

use reading::{Item, progress, read_ahead};
pub(super) use shown::Shown;

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
    /// How many changed prompts to list, `all` for all of them
    #[arg(long, value_name = "N", default_value = "20", value_parser = changes)]
    changes: usize,
    /// Pass over broken lines and count them
    #[arg(long)]
    skip_broken: bool,
    /// Where labels come from: recorded, exact, numeric, answer, regex:PATTERN, mark:NAME, top
    #[arg(long, default_value = "recorded")]
    labels: Labels,
    /// Replay one of N shards only, as `2/8`: prompts of one conversation, and equal ones,
    /// are in the same
    #[arg(long, value_name = "I/N", conflicts_with = "against", value_parser = shard)]
    shard: Option<(u32, u32)>,
    /// Write what was added up for `cascade report merge`, in place of a report
    #[arg(long, value_name = "FILE", conflicts_with_all = ["against", "json", "metrics", "report", "fail_if"])]
    partial: Option<PathBuf>,
    #[command(flatten)]
    shown: Shown,
}

fn changes(text: &str) -> Result<usize, String> {
    if text == "all" { Ok(usize::MAX) } else { text.parse().map_err(|_| "a number or `all`".to_owned()) }
}

/// `2/8`.
fn shard(text: &str) -> Result<(u32, u32), String> {
    let read = text.split_once('/').and_then(|(shard, of)| Some((shard.parse().ok()?, of.parse().ok()?)));
    read.filter(|(shard, of)| (1..=*of).contains(shard) && *of <= MOST_SHARDS)
        .ok_or_else(|| format!("write it as 1/8 to 8/8, {MOST_SHARDS} at most"))
}

impl Replay {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        if let (Some(condition), None) = (self.shown.fail_if.iter().find(|c| c.needs_two()), &self.against) {
            eprintln!("cascade: --fail-if '{condition}' compares two policies: give --against");
            return Ok(ExitCode::from(2));
        }
        let policy = Arc::new(load::policy(self.policy.as_deref(), false)?);
        if self.shard.is_some() && policy.tiers.iter().any(|tier| tier.limit.is_some()) {
            eprintln!("cascade: limits are each shard's own: fewer prompts meet them than would");
        }
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
        let (mut sums, Fed { broken, content }) = self.feed(sides, Sums::new(policies, &labels, self.changes))?;
        if let Some(path) = &self.partial {
            let (tally, digest) = (sums.tallies.swap_remove(0), sums.policies[0].digest.clone());
            let prompts = tally.prompts();
            let bytes = Partial { digest, labels, shard: self.shard, content, broken, tally }.bytes()?;
            std::fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
            super::print(&format!("{prompts} prompts added up in {}\n", path.display()))?;
            return Ok(ExitCode::SUCCESS);
        }
        self.shown.show(sums.reports(), sums.differences, broken)
    }

    /// Runs every exchange under each policy. Reading, running and adding up each
    /// have a thread. Returns the sums, and what was read.
    fn feed(&self, mut sides: Vec<Side>, mut sums: Sums) -> anyhow::Result<(Sums, Fed)> {
        let (send, receive) = sync_channel(QUEUED);
        std::thread::scope(|scope| {
            let adding = scope.spawn(move || {
                receive.into_iter().for_each(|done| sums.add(done));
                sums
            });
            let fed = self.run_all(&mut sides, &send);
            drop(send);
            Ok((adding.join().map_err(|_| anyhow!("adding up has panicked"))?, fed?))
        })
    }

    fn run_all(&self, sides: &mut [Side], added: &SyncSender<Vec<Done>>) -> anyhow::Result<Fed> {
        // Fails only where the adding has panicked, which is told when it is joined.
        let add = |sides: &mut [Side]| {
            let _ = added.send(sides.iter_mut().map(|side| std::mem::take(&mut side.done)).collect());
        };
        let paths = files(&self.fixtures)?;
        let (bar, clock) = (progress(&paths), SystemClock::start());
        let (mut broken, mut exchanges, mut content) = (0, 0u32, [0; 32]);
        for batch in read_ahead(paths, self.labels.clone(), sides[0].run.shared_policy(), self.shard) {
            for item in batch {
                match item {
                    Item::FileBegins => sides.iter_mut().for_each(|side| side.run.begin_file(&mut side.done)),
                    Item::Read(bytes) => bar.set_position(bytes),
                    Item::Elsewhere(arrived) => sides.iter_mut().for_each(|side| side.run.pass(arrived)),
                    Item::End(all) => content = all,
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
        Ok(Fed { broken, content })
    }
}

/// What was read.
struct Fed {
    /// Lines that were passed over.
    broken: u64,
    /// A hash of all exchanges' names, other shards' too.
    content: [u8; 32],
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
