//! `cascade calibrate`: thresholds learned from labelled exchanges, with a
//! certificate.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, anyhow, bail};
use clap::{ArgGroup, Args};

use super::load;
use crate::calibration::{Calibrated, Target, Wanted, calibrate};
use crate::labels::Labels;
use crate::outcomes::{NoRow, Row};
use crate::policy::Policy;
use crate::recording::{Lines, files};
use crate::stopping::{Act, MAX_TIERS, Stopping};

/// Fewer labelled prompts than this cannot certify anything worth having.
const FEWEST: usize = 40;

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("promise").required(true)))]
pub(super) struct Calibrate {
    /// Labelled exchanges: files (.jsonl), folders of them, or - for standard input
    #[arg(required = true, value_name = "FIXTURES")]
    fixtures: Vec<PathBuf>,
    /// The policy whose ladder is calibrated
    #[arg(long, short)]
    policy: PathBuf,
    /// Promise to keep this share of the largest tier's quality: 0.98
    #[arg(long, group = "promise", value_name = "SHARE", value_parser = share)]
    keep: Option<f64>,
    /// Promise to lose at most this much quality against the largest tier: 0.02
    #[arg(long, group = "promise", value_name = "LOSS", value_parser = share)]
    max_loss: Option<f64>,
    /// Promise that a prompt costs at most so many dollars on average
    #[arg(long, group = "promise", value_name = "USD", value_parser = dollars)]
    budget: Option<f64>,
    /// How sure the promise must be
    #[arg(long, default_value = "0.95", value_name = "SHARE", value_parser = share)]
    confidence: f64,
    /// Where labels come from: recorded, exact, numeric, answer, regex:PATTERN, mark:NAME, top
    #[arg(long, default_value = "recorded")]
    labels: Labels,
    /// Fixes how prompts are split
    #[arg(long, default_value = "1")]
    seed: u64,
    /// Where to write the calibrated policy; its calibration goes beside it, as .json
    #[arg(long, short, value_name = "TUNED.yaml")]
    output: Option<PathBuf>,
    /// Pass over broken lines and count them
    #[arg(long)]
    skip_broken: bool,
}

fn share(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|share| *share > 0.0 && *share < 1.0).ok_or_else(|| "a number between 0 and 1".to_owned())
}

fn dollars(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|usd: &f64| *usd > 0.0 && usd.is_finite()).ok_or_else(|| "dollars above 0".to_owned())
}

impl Calibrate {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let policy = load::policy(Some(&self.policy), false)?;
        match policy.tiers.len() {
            1 => bail!("the policy has one tier: there is nothing to decide"),
            2..=MAX_TIERS => {}
            many => bail!("the policy has {many} tiers; at most {MAX_TIERS} can be calibrated together"),
        }
        let (rows, left_out) = self.rows(&policy)?;
        let target = match (self.keep, self.max_loss, self.budget) {
            (Some(keep), _, _) => Target::Keep(keep),
            (_, Some(loss), _) => Target::MaxLoss(loss),
            (_, _, usd) => Target::Budget(usd.context("give --keep, --max-loss or --budget")?),
        };
        let wanted = Wanted { target, delta: ((1.0 - self.confidence) * 1e12).round() / 1e12, seed: self.seed };
        let calibrated = calibrate(&policy, &rows, &wanted, &self.labels.to_string())?;
        if let Some(output) = &self.output {
            self.write(output, &calibrated.stopping)?;
        }
        super::print(&summary(&policy, &calibrated, &left_out))?;
        Ok(if calibrated.stopping.certificate.uncertified { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }

    /// The labelled rows, and one line for each reason why some were left out.
    fn rows(&self, policy: &Policy) -> anyhow::Result<(Vec<Row>, Vec<String>)> {
        let mut rows = Vec::new();
        let mut left_out = std::collections::BTreeMap::<NoRow, u64>::new();
        let mut broken = 0u64;
        for path in files(&self.fixtures)? {
            for line in Lines::open(&path)? {
                match line {
                    Ok(mut exchange) => {
                        self.labels.apply(policy, &mut exchange);
                        match Row::of(policy, &exchange) {
                            Ok(row) => rows.push(row),
                            Err(why) => *left_out.entry(why).or_default() += 1,
                        }
                    }
                    Err(error) if self.skip_broken && error.is_one_line() => {
                        broken += 1;
                        eprintln!("cascade: skipped {error}");
                    }
                    Err(error) => {
                        return Err(anyhow!("{error}\n(--skip-broken passes over broken lines and counts them)"));
                    }
                }
            }
        }
        let mut told: Vec<String> = left_out.iter().map(|(why, n)| format!("left out  {n}: {why}")).collect();
        if broken > 0 {
            told.push(format!("broken lines skipped: {broken}"));
        }
        if rows.len() < FEWEST {
            bail!(
                "{} prompts have an answer, a label and a price for every tier; {FEWEST} are needed, a few hundred are good\n{}\n\
                 (--labels numeric, answer or exact compare with `reference`; --labels top with the largest tier's answer)",
                rows.len(),
                told.join("\n")
            );
        }
        let missing = left_out.get(&NoRow::NotRecorded).copied().unwrap_or(0);
        if missing * 20 > rows.len() as u64 {
            told.push(
                "warning   prompts that only some tiers answered are often the hard ones: what is promised holds for \
                 prompts like those that every tier answered"
                    .to_owned(),
            );
        }
        Ok((rows, told))
    }

    fn write(&self, output: &Path, stopping: &Stopping) -> anyhow::Result<()> {
        let calibration = output.with_extension("json");
        if calibration == *output {
            bail!("--output names the policy, in YAML; the calibration goes beside it as .json");
        }
        let name = calibration.file_name().context("--output must name a file")?.to_string_lossy().into_owned();
        let source = std::fs::read_to_string(&self.policy)?;
        let certificate = &stopping.certificate;
        let promise = if certificate.uncertified { "UNCERTIFIED".to_owned() } else { certificate.promise.clone() };
        let header = format!(
            "# Made by `cascade calibrate` from {}: {promise}.\n# Every default is written out. Calibrate again when a tier's model or the traffic changes.\n",
            self.policy.display()
        );
        let tuned = Policy::calibrated(&source, &name, &|name| std::env::var(name).ok())
            .map_err(|e| anyhow!("{}", e.render(false)))?;
        let put = |path: &Path, text: String| {
            std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
        };
        put(&calibration, serde_json::to_string(stopping)? + "\n")?;
        put(output, header + &tuned)
    }
}

/// What was found, for a person.
fn summary(policy: &Policy, calibrated: &Calibrated, left_out: &[String]) -> String {
    let (certificate, point) = (&calibrated.stopping.certificate, calibrated.stopping.point());
    let names: Vec<&str> = policy.tiers.iter().map(|t| t.name.as_str()).collect();
    let top = names[names.len() - 1];
    let mut out = String::new();
    let _ = writeln!(
        out,
        "{} labelled prompts, {} to fit and {} to test, by conversation (seed {}); labels: {}",
        certificate.rows + certificate.fitted_rows,
        certificate.fitted_rows,
        certificate.rows,
        certificate.seed,
        certificate.labels
    );
    left_out.iter().for_each(|line| _ = writeln!(out, "{line}"));
    out.push('\n');
    for (name, chosen) in names.iter().zip(&calibrated.chosen) {
        let auroc = chosen.auroc.map_or("n/a".to_owned(), |a| format!("{a:.3}"));
        let _ = writeln!(out, "score     {name}: by {}, cross-validated AUROC {auroc}", chosen.by);
    }
    for (name, share) in names.iter().zip(&calibrated.least_escalated) {
        let _ = writeln!(out, "bound     {name}: at least {:.1}% must go on from it", share * 100.0);
    }
    let _ = writeln!(out, "start     {}", start(&calibrated.stopping, &names));
    let asked: Vec<String> =
        names.iter().zip(&calibrated.asked).map(|(n, s)| format!("{n} {:.1}%", s * 100.0)).collect();
    let _ = writeln!(out, "asked     {}", asked.join(", "));
    for (tier, without, with) in &calibrated.to_drop {
        let _ = writeln!(
            out,
            "drop      {}: perhaps; as good without it for ${without:.6} instead of ${with:.6} a prompt, on the fitted prompts",
            names[*tier]
        );
    }
    out.push('\n');
    let (tested, alone) = (&calibrated.in_force_tested, &calibrated.tested_alone);
    let _ = writeln!(
        out,
        "cost      ${:.6} a prompt against ${:.6} for {top} alone, on the tested prompts: saved {:.1}%",
        tested.cost,
        alone.cost,
        (1.0 - tested.cost / alone.cost) * 100.0
    );
    let _ = writeln!(out, "quality   {:.4} against {:.4}", tested.quality, alone.quality);
    let sure = (1.0 - certificate.delta) * 100.0;
    if certificate.uncertified {
        let _ = writeln!(
            out,
            "promise   UNCERTIFIED: with {sure:.0}% confidence nothing less than {} can be promised: {}",
            if point.lambda == 0.0 { format!("{top} alone") } else { "the cheapest policy".to_owned() },
            certificate.promise
        );
        let _ = match calibrated.rows_needed {
            Some(rows) => writeln!(
                out,
                "          about {rows} prompts to test, twice that in all, would do for a first step down, were they like these"
            ),
            None => writeln!(
                out,
                "          more labels like these would not help: the first step down loses more than may be lost"
            ),
        };
    } else {
        let _ = writeln!(
            out,
            "promise   {}, with {sure:.0}% confidence ({}, p = {:.4}, {} prompts)",
            certificate.promise, certificate.method, certificate.p_value, certificate.rows
        );
    }
    out
}

fn start(stopping: &Stopping, names: &[&str]) -> String {
    let name = |act: &Act| match act {
        Act::Ask(tier) => names[*tier],
        Act::Serve => "?",
    };
    match stopping.point().start.0.as_slice() {
        [(_, only)] => format!("{}, whatever is asked", name(only)),
        many => {
            let parts: Vec<String> = many
                .iter()
                .map(|(bound, act)| {
                    if *bound > 1.0 {
                        format!("{} above", name(act))
                    } else {
                        format!("{} below {bound:.2}", name(act))
                    }
                })
                .collect();
            format!("by how easy the prompt looks: {}", parts.join(", "))
        }
    }
}
