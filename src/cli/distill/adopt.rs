//! `cascade distill adopt`: the policy with the model that was trained.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, anyhow, bail};
use clap::{ArgGroup, Args};

use super::super::load;
use super::kept::{Manifest, State, write};
use super::submit::{Place, look, runtime, tier_of, word};
use super::taken::dollars;
use crate::calibration::always_top;
use crate::clock::SystemClock;
use crate::distillation::Standing;
use crate::policy::{Adopted, CannotAdopt, Outside};
use crate::price::Usd;
use crate::stopping::{Certificate, Point, Stopping};

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("where").required(true)))]
pub(super) struct Adopt {
    /// What `cascade distill export` wrote
    export: PathBuf,
    #[command(flatten)]
    place: Place,
    /// The policy to write
    #[arg(long, short, group = "where", value_name = "NEW.yaml")]
    output: Option<PathBuf>,
    /// Write the policy itself again; a gateway that serves it takes it over
    #[arg(long, group = "where")]
    in_place: bool,
    /// What the trained model costs, dollars per million tokens; as now if left out
    #[arg(long, value_name = "INPUT,OUTPUT", value_parser = prices)]
    price: Option<(Usd, Usd)>,
}

fn prices(text: &str) -> Result<(Usd, Usd), String> {
    let (input, output) = text.split_once(',').ok_or("two prices: of input and of output, 0.20,0.80")?;
    let usd = |text: &str| Usd::from_dollars(dollars(text)?).ok_or_else(|| "dollars".to_owned());
    Ok((usd(input)?, usd(output)?))
}

impl Adopt {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let manifest = Manifest::read(&self.export)?;
        let tier_name = &manifest.student.tier;
        let (model, at) = self.model(&manifest)?;
        let policy = load::policy(Some(&self.place.policy), false)?;
        let tier = tier_of(&policy, tier_name)?;
        let output = self.output.as_ref().unwrap_or(&self.place.policy);
        if tier.model == model && self.in_place && self.price.is_none() {
            super::super::print(&format!("{tier_name} asks {model} already: nothing to do\n"))?;
            return Ok(ExitCode::SUCCESS);
        }
        if tier.upstreams.len() > 1 || tier.upstreams.iter().any(|share| share.model.is_some()) {
            bail!(
                "{tier_name} is reached at several upstreams, or under a name of their own: only the one that trained {model} \
                 has it; write it into the policy by hand"
            );
        }
        let reached = tier.upstreams.iter().map(|share| policy.upstreams[share.upstream].kind.place());
        if let Some(elsewhere) = reached.into_iter().find(|place| *place != at && policy.upstreams.len() > 1) {
            bail!(
                "{model} is at {at}, and {tier_name} is asked at {elsewhere}: give it that upstream in the policy first"
            );
        }
        let source = std::fs::read_to_string(&self.place.policy)?;
        let [folder, beside] = [output, &self.place.policy].map(|path| path.parent().unwrap_or(Path::new("")));
        let whole = |folder: &Path| std::path::absolute(folder.join(".")).and_then(std::fs::canonicalize).ok();
        if whole(folder) != whole(beside) {
            bail!(
                "write {} beside {}: paths in a policy go from where it is",
                output.display(),
                self.place.policy.display()
            );
        }
        let void =
            policy.stopping.as_deref().map(|stopping| (void_name(output, &model), void(stopping, tier_name, &model)));
        let void_text = void.as_ref().map(|(_, void)| serde_json::to_string(void)).transpose()?;
        let adopted = Adopted {
            tier: tier_name,
            model: &model,
            price: self.price,
            calibration: void.as_ref().map(|(name, _)| name.as_str()),
        };
        let files = |path: &str| match (&void, &void_text) {
            (Some((name, _)), Some(text)) if name == path => Ok(text.clone()),
            _ => std::fs::read_to_string(beside.join(path)).map_err(|error| error.to_string()),
        };
        let outside = Outside { variables: &|name| std::env::var(name).ok(), files: &files, ..Outside::none() };
        let text = policy.adopting(&source, adopted, outside).map_err(|why| match why {
            CannotAdopt::Policy(problems) => anyhow!("{}", problems.render(false)),
            CannotAdopt::Shape(what) => anyhow!("{what}"),
        })?;
        if let (Some((name, _)), Some(text)) = (&void, &void_text) {
            write(&folder.join(name), &format!("{text}\n"))?;
        }
        write(output, &text)?;
        let top = &policy.top().name;
        let path = output.display();
        let mut said = format!("wrote     {path}: {tier_name} asks {model} in place of {}\n", tier.model);
        said += "caches    answers of the model before are not served: caches go by model\n";
        if let Some((name, _)) = &void {
            let _ = writeln!(
                said,
                "void      the certificate held for the model before: by {name}, which is UNCERTIFIED, {top} alone answers \
                 until exchanges with the new model are recorded and `cascade calibrate` has seen them"
            );
        }
        let _ = writeln!(
            said,
            "next      cascade doctor --policy {path}; record with `every_tier`, then `cascade replay` and `cascade calibrate`"
        );
        super::super::print(&said)?;
        Ok(ExitCode::SUCCESS)
    }

    /// The model that was trained; the API is asked where it was not known to be.
    /// With the base URL of its API.
    fn model(&self, manifest: &Manifest) -> anyhow::Result<(String, String)> {
        let mut state = State::read(&self.export)?.context("no job was started: `cascade distill submit` does")?;
        let is_known = state.job.as_ref().is_some_and(|job| job.status == Standing::Succeeded);
        if !is_known {
            let api = self.place.api_of(&state, &manifest.student.tier, SystemClock::start())?;
            runtime()?.block_on(look(&self.export, &mut state, &api))?;
        }
        let job = state.job.context("no job was started: `cascade distill submit` does")?;
        if job.status != Standing::Succeeded {
            let why = job.error.and_then(|error| error.message).map_or(String::new(), |message| format!(": {message}"));
            bail!("{} is {}, there is no model to adopt{why}", job.id, word(&job.status));
        }
        let model = job.fine_tuned_model;
        let model = model.with_context(|| format!("{} has succeeded, but the API does not name its model", job.id))?;
        Ok((model, state.at))
    }
}

/// Beside the policy, by the model: the calibration before stays as it is.
fn void_name(output: &Path, model: &str) -> String {
    let stem = output.file_stem().unwrap_or_default().to_string_lossy();
    format!("{stem}-{}.json", &blake3::hash(model.as_bytes()).to_hex()[..8])
}

/// A calibration of another model promises nothing: the largest tier alone answers.
fn void(stopping: &Stopping, tier: &str, model: &str) -> Stopping {
    let mut void = stopping.clone();
    void.tiers.iter_mut().filter(|t| t.name == tier).for_each(|t| model.clone_into(&mut t.model));
    let top = stopping.points.first().map_or((0.0, 0.0), |safest| (safest.cost, safest.quality));
    void.points = vec![Point { cost: top.0, quality: top.1, ..always_top(stopping.tiers.len()) }];
    (void.in_force, void.prompts) = (0, None);
    void.certificate = Certificate { uncertified: true, p_value: 1.0, ..stopping.certificate.clone() };
    void
}
