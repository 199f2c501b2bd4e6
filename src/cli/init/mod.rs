//! `cascade init`: a first policy from the keys and servers that are there.

mod ladder;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use futures_util::future::join_all;

use crate::clock::{Clock, SystemClock};
use crate::policy::{Outside, Policy, Secret};
use crate::upstream::Probe;

use ladder::Place;

#[derive(Debug, Args)]
pub(super) struct Init {
    /// The file to write
    #[arg(default_value = "policy.yaml")]
    to: PathBuf,
    /// Write over a file that is there
    #[arg(long)]
    force: bool,
    /// Ask no server which models it has; only look at the environment
    #[arg(long)]
    offline: bool,
    /// Look for no servers on this machine, only for keys
    #[arg(long)]
    no_local: bool,
}

/// A name, the variable of the key, the base URL.
const HOSTED: [(&str, &str, &str); 9] = [
    ("openai", "OPENAI_API_KEY", "https://api.openai.com/v1"),
    ("openrouter", "OPENROUTER_API_KEY", "https://openrouter.ai/api/v1"),
    ("groq", "GROQ_API_KEY", "https://api.groq.com/openai/v1"),
    ("mistral", "MISTRAL_API_KEY", "https://api.mistral.ai/v1"),
    ("deepseek", "DEEPSEEK_API_KEY", "https://api.deepseek.com/v1"),
    ("together", "TOGETHER_API_KEY", "https://api.together.xyz/v1"),
    ("fireworks", "FIREWORKS_API_KEY", "https://api.fireworks.ai/inference/v1"),
    ("xai", "XAI_API_KEY", "https://api.x.ai/v1"),
    ("gemini", "GEMINI_API_KEY", "https://generativelanguage.googleapis.com/v1beta/openai"),
];

/// Servers on this machine, by the ports they listen on unless told otherwise.
const LOCAL: [(&str, &str); 3] = [
    ("ollama", "http://127.0.0.1:11434/v1"),
    ("lm_studio", "http://127.0.0.1:1234/v1"),
    ("vllm", "http://127.0.0.1:8000/v1"),
];

impl Init {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        if self.to.exists() && !self.force {
            bail!("{} is there already; --force writes over it", self.to.display());
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let places = runtime.block_on(places(self.offline, !self.offline && !self.no_local));
        if places.is_empty() {
            let variables: Vec<&str> = HOSTED.iter().map(|(_, variable, _)| *variable).collect();
            bail!(
                "found no key and no server: set one of {}, or start Ollama; `cascade serve` without a policy shows the demo",
                variables.join(", ")
            );
        }
        let Some(text) = ladder::policy(&places) else {
            let each = places.iter().map(|place| match &place.models {
                Err(why) => format!("{} does not say its models ({why})", place.name),
                Ok(_) => format!("no model of {} tells its size by its name", place.name),
            });
            bail!("no ladder can be made: {}; begin with policies/classic.yaml", each.collect::<Vec<_>>().join("; "));
        };
        let known = |name: &str| std::env::var(name).ok();
        let read = Policy::parse("policy", &text, Outside { variables: &known, ..Outside::none() });
        let (policy, _) =
            read.map_err(|problems| anyhow::anyhow!("cannot make a policy of what was found: {problems}"))?;
        std::fs::write(&self.to, &text).with_context(|| format!("cannot write {}", self.to.display()))?;
        let tiers: Vec<String> = policy.tiers.iter().map(|tier| format!("{} ({})", tier.name, tier.model)).collect();
        let path = self.to.display();
        super::print(&format!(
            "wrote {path}: {}\n\ntry it:   cascade doctor --policy {path}\nserve it: cascade serve --policy {path}\n",
            tiers.join(", ")
        ))?;
        Ok(ExitCode::SUCCESS)
    }
}

/// What there is, and the models there.
async fn places(is_offline: bool, looks_here: bool) -> Vec<Place> {
    let local = LOCAL.iter().filter(|_| looks_here).map(|(name, base_url)| (*name, None, (*base_url).to_owned()));
    let hosted = HOSTED.iter().filter_map(|(name, variable, base_url)| {
        key_in(variable)?;
        // Whoever points OpenAI's own libraries elsewhere means that place.
        let elsewhere = (*name == "openai").then(|| std::env::var("OPENAI_BASE_URL").ok()).flatten();
        let base_url = elsewhere.filter(|url| !url.is_empty()).unwrap_or_else(|| (*base_url).to_owned());
        Some((*name, Some(*variable), base_url.trim_end_matches('/').to_owned()))
    });
    let asked = local.chain(hosted).map(|(name, variable, base_url)| async move {
        let models = if is_offline { Err("not asked".to_owned()) } else { models(variable, &base_url).await };
        // A server that does not run is not there; a key is.
        match models {
            Err(_) if variable.is_none() => None,
            Ok(models) if models.is_empty() && variable.is_none() => None,
            models => Some(Place { name, variable, base_url, models }),
        }
    });
    join_all(asked).await.into_iter().flatten().collect()
}

fn key_in(variable: &str) -> Option<Secret> {
    let value = std::env::var(variable).ok().filter(|value| !value.is_empty())?;
    Some(Secret::of_variable(variable, value))
}

async fn models(variable: Option<&str>, base_url: &str) -> Result<Vec<String>, String> {
    let key = variable.and_then(key_in);
    let patience = Duration::from_secs(if variable.is_some() { 5 } else { 1 });
    let probe = Probe::new(base_url, key.as_ref(), patience).map_err(|error| error.to_string())?;
    // A listener that says nothing is no server.
    let clock = SystemClock::start();
    clock.within(patience, probe.models()).await.unwrap_or_else(|| Err("no answer in time".to_owned()))
}
