//! `cascade distill submit` and `status`: the fine-tuning job, from files to a model.

use std::fmt::Write as _;
use std::io::{BufRead, IsTerminal, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use super::super::load;
use super::kept::{Cost, FileOf, Manifest, State, digest};
use super::taken::dollars;
use crate::clock::{Clock, SystemClock};
use crate::distillation::{Api, Format, Job, Method, Refused, Standing, Training};
use crate::policy::{Policy, UpstreamKind};
use crate::upstream::Probe;

/// The largest file that providers take, in bytes.
const LARGEST: u64 = 512 << 20;

#[derive(Debug, Args)]
pub(super) struct Submit {
    /// What `cascade distill export` wrote
    export: PathBuf,
    #[command(flatten)]
    place: Place,
    /// The model to begin with; the student's own if left out
    #[arg(long, value_name = "MODEL")]
    model: Option<String>,
    /// Which rows: those of answers, or pairs
    #[arg(long, value_enum, default_value = "chat")]
    format: Format,
    /// How often each row is seen; as the export reckoned if left out
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    epochs: Option<u32>,
    /// Dollars per million tokens of training, to say what it costs
    #[arg(long, value_name = "USD", value_parser = dollars)]
    training_price: Option<f64>,
    /// What the model's name ends with
    #[arg(long, value_name = "TEXT")]
    suffix: Option<String>,
    /// Do not ask whether to spend the money
    #[arg(long)]
    yes: bool,
}

#[derive(Debug, Args)]
pub(super) struct Status {
    /// What `cascade distill export` wrote
    export: PathBuf,
    #[command(flatten)]
    place: Place,
    /// Stay until it is over
    #[arg(long)]
    follow: bool,
    /// Seconds between two looks
    #[arg(long, default_value = "10", value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    every: u64,
}

/// Where it is trained.
#[derive(Clone, Debug, Args)]
pub(super) struct Place {
    /// The policy, which says where the student is reached
    #[arg(long, short)]
    pub policy: PathBuf,
    /// The upstream that trains, where the student has several
    #[arg(long, value_name = "UPSTREAM")]
    pub upstream: Option<String>,
}

impl Place {
    /// The API that trains a tier, and its base URL.
    pub fn api(&self, tier: &str, clock: SystemClock) -> anyhow::Result<(Api, String)> {
        let policy = load::policy(Some(&self.policy), true)?;
        let place = if let Some(name) = &self.upstream {
            policy.upstreams.iter().find(|place| place.name == *name).with_context(|| {
                let names: Vec<&str> = policy.upstreams.iter().map(|place| place.name.as_str()).collect();
                format!("the policy has no upstream {name}; it has {}", names.join(", "))
            })?
        } else {
            let tier = tier_of(&policy, tier)?;
            let mut shares = tier.upstreams.iter().map(|share| &policy.upstreams[share.upstream]);
            shares.find(|place| matches!(place.kind, UpstreamKind::Live { .. })).with_context(|| {
                format!("{} answers from recorded exchanges: no API trains it (--upstream names one)", tier.name)
            })?
        };
        let UpstreamKind::Live { base_url, api_key, timeouts } = &place.kind else {
            bail!("{} is recorded exchanges: it trains nothing", place.name);
        };
        let probe = Probe::new(base_url, api_key.as_ref(), timeouts.connect)?;
        Ok((Api::new(probe, clock), base_url.clone()))
    }
}

impl Place {
    /// The API at which a job was started.
    pub fn api_of(&self, state: &State, tier: &str, clock: SystemClock) -> anyhow::Result<Api> {
        let (api, at) = self.api(tier, clock)?;
        if at != state.at {
            bail!("the job is at {}, not at {at}: --upstream names where it was sent", state.at);
        }
        Ok(api)
    }
}

/// The tier of this name.
pub(super) fn tier_of<'p>(policy: &'p Policy, name: &str) -> anyhow::Result<&'p crate::policy::Tier> {
    policy
        .tiers
        .iter()
        .find(|tier| tier.name == name)
        .with_context(|| format!("the export is for {name}, a tier that the policy does not have"))
}

pub(super) fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

impl Submit {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let manifest = Manifest::read(&self.export)?;
        let (api, at) = self.place.api(&manifest.student.tier, SystemClock::start())?;
        let method = match self.format {
            Format::Chat | Format::Legacy => Method::Supervised,
            Format::Dpo => Method::Dpo,
            Format::Preference => bail!("preference rows are for trainers of your own; APIs take chat, legacy or dpo"),
        };
        let model = self.model.clone().unwrap_or_else(|| manifest.student.model.clone());
        let train = self.file(&manifest, "train")?.with_context(|| {
            format!("the export has no {} rows to train on: export again with --format {0}", self.format.word())
        })?;
        let begun = State { at, model, rows: train.0.digest.clone(), method: Some(method), ..State::default() };
        let mut state = State::read(&self.export)?.unwrap_or_default();
        let is_same = (&state.at, &state.model, &state.rows, state.method)
            == (&begun.at, &begun.model, &begun.rows, begun.method);
        if let (true, Some(job)) = (is_same, &state.job) {
            let mut job = job.clone();
            if !job.status.is_over() {
                job = runtime()?.block_on(look(&self.export, &mut state, &api))?;
            }
            if !matches!(job.status, Standing::Failed | Standing::Cancelled) {
                super::super::print(&format!(
                    "already submitted: {} at {} is {}; `cascade distill status` follows it\n",
                    job.id,
                    state.at,
                    word(&job.status)
                ))?;
                return Ok(ExitCode::SUCCESS);
            }
        }
        if !is_same {
            if let Some(job) = state.job.as_ref().filter(|job| !job.status.is_over()) {
                bail!(
                    "{} trains {} at {} on other rows or in another way: export into another folder for a second job",
                    job.id,
                    state.model,
                    state.at
                );
            }
            state = begun;
        }
        let valid = self.file(&manifest, "valid")?;
        let epochs = self.epochs.unwrap_or(manifest.training.epochs);
        let price = self.training_price.or(manifest.training.price);
        let cost = Cost::of((manifest.training.tokens, manifest.training.tokens_estimated), epochs, price);
        let what = format!("{} rows for {} at {}\ntraining  {}\n", train.0.rows, state.model, state.at, cost.words());
        super::super::print(&format!("submit    {what}licence   {}\n", manifest.licence_note))?;
        if !self.yes && !agreed("start the job?")? {
            bail!("nothing was sent: answer y, or give --yes");
        }
        let job = runtime()?.block_on(self.send(&api, &mut state, &train, valid.as_ref(), epochs))?;
        super::super::print(&format!("job       {} is {}\n", job.id, word(&job.status)))?;
        Ok(ExitCode::SUCCESS)
    }

    /// A file of rows with its content, as it was exported.
    fn file<'m>(&self, manifest: &'m Manifest, split: &str) -> anyhow::Result<Option<(&'m FileOf, bytes::Bytes)>> {
        let Some(file) = manifest.files.iter().find(|f| f.format == self.format.word() && f.split == split) else {
            return Ok(None);
        };
        let path = self.export.join(&file.name);
        if file.bytes > LARGEST {
            bail!("{} has {} bytes; providers take {LARGEST} at most", path.display(), file.bytes);
        }
        let content = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        if digest(&content) != file.digest {
            bail!("{} is not what was exported: export again, or put it back", path.display());
        }
        Ok(Some((file, content.into())))
    }

    /// Each step is written down once it is done, so that one broken off goes on from there.
    async fn send(
        &self,
        api: &Api,
        state: &mut State,
        train: &(&FileOf, bytes::Bytes),
        valid: Option<&(&FileOf, bytes::Bytes)>,
        epochs: u32,
    ) -> anyhow::Result<Job> {
        let upload = async |(file, content): &(&FileOf, bytes::Bytes)| {
            // Its name tells its content, by which it is found again.
            let name = format!("{}-{}.jsonl", file.name.trim_end_matches(".jsonl"), file.digest);
            api.file(&name, content).await.map_err(|why| anyhow!("cannot upload {}: {why}", file.name))
        };
        if state.training_file.is_none() {
            state.training_file = Some(upload(train).await?);
            state.write(&self.export)?;
        }
        if let (None, Some(valid)) = (&state.validation_file, valid) {
            state.validation_file = Some(upload(valid).await?);
            state.write(&self.export)?;
        }
        let training = Training {
            model: &state.model,
            training_file: state.training_file.as_deref().unwrap_or_default(),
            validation_file: state.validation_file.as_deref(),
            method: state.method.unwrap_or(Method::Supervised),
            epochs: Some(epochs),
            suffix: self.suffix.as_deref(),
        };
        let started = api.start(&training).await;
        if let Err(Refused::Said { status: 400 | 404, .. }) = started {
            // Files may be gone: next time they are looked for again.
            (state.training_file, state.validation_file) = (None, None);
            state.write(&self.export)?;
        }
        let job = started.map_err(|why| {
            anyhow!(
                "cannot start the job: {why} (submit again: what was started meanwhile is found, and not paid twice)"
            )
        })?;
        state.job = Some(job.clone());
        state.write(&self.export)?;
        Ok(job)
    }
}

/// Whether a person says yes; nobody there says no.
pub(in crate::cli) fn agreed(question: &str) -> anyhow::Result<bool> {
    if !std::io::stdin().is_terminal() {
        return Ok(false);
    }
    eprint!("{question} [y/N] ");
    std::io::stderr().flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

pub(super) fn word(standing: &Standing) -> String {
    serde_json::to_value(standing).ok().and_then(|word| word.as_str().map(str::to_owned)).unwrap_or_default()
}

/// The job of an export as the API has it now, written down.
pub(super) async fn look(export: &Path, state: &mut State, api: &Api) -> anyhow::Result<Job> {
    let id =
        state.job.as_ref().map(|job| job.id.clone()).context("no job was started: `cascade distill submit` does")?;
    let job = api.job(&id).await.map_err(|why| anyhow!("cannot look at {id}: {why}"))?;
    state.job = Some(job.clone());
    state.write(export)?;
    Ok(job)
}

impl Status {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let manifest = Manifest::read(&self.export)?;
        let mut state = State::read(&self.export)?.context("no job was started: `cascade distill submit` does")?;
        let clock = SystemClock::start();
        let api = self.place.api_of(&state, &manifest.student.tier, clock)?;
        let job = runtime()?.block_on(async {
            let bar = bar();
            let mut told = None;
            loop {
                let job = match look(&self.export, &mut state, &api).await {
                    Err(error) if self.follow => {
                        eprintln!("cascade: {error:#}; looking again in {} s", self.every);
                        clock.sleep(Duration::from_secs(self.every)).await;
                        continue;
                    }
                    looked => looked?,
                };
                let events = api.events(&job.id).await.unwrap_or_default();
                if let Some((step, of)) = events.iter().find_map(crate::distillation::Event::step) {
                    bar.set_length(of);
                    bar.set_position(step);
                }
                let last = events.first().map(|event| event.message.clone()).unwrap_or_default();
                let line = format!("{} is {}: {last}", job.id, word(&job.status));
                bar.set_message(line.clone());
                if bar.is_hidden() && told.as_ref() != Some(&line) {
                    eprintln!("{line}");
                    told = Some(line);
                }
                if job.status.is_over() || !self.follow {
                    bar.finish_and_clear();
                    return anyhow::Ok(job);
                }
                clock.sleep(Duration::from_secs(self.every)).await;
            }
        })?;
        let mut text = format!("job       {} is {}\n", job.id, word(&job.status));
        if let Some(model) = &job.fine_tuned_model {
            let _ = writeln!(text, "model     {model}: `cascade distill adopt` puts it into the policy");
        }
        if let Some(tokens) = job.trained_tokens {
            let _ = writeln!(text, "trained   {tokens} tokens");
        }
        if let Some(message) = job.error.and_then(|error| error.message) {
            let _ = writeln!(text, "error     {message}");
        }
        super::super::print(&text)?;
        let is_lost = matches!(job.status, Standing::Failed | Standing::Cancelled);
        Ok(if is_lost { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }
}

/// Steps of training; hidden unless standard error is a terminal.
fn bar() -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed} {msg}");
    ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
