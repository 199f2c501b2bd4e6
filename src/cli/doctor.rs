//! `cascade doctor`: whether what a policy names is there, and the wire is clean.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::{load, serving};
use crate::answer::Answer;
use crate::clock::{Clock, SystemClock};
use crate::gateway::{Bounds, Current, Door, Room, routes, serve};
use crate::openai::Endpoint;
use crate::openai::envelope::excerpt;
use crate::policy::{Policy, Tier, UpstreamKind};
use crate::upstream::Probe;

#[derive(Debug, Args)]
pub(super) struct Doctor {
    /// The policy
    #[arg(long, short)]
    policy: PathBuf,
    /// Ask nothing that costs: no model, only which there are
    #[arg(long)]
    free: bool,
}

/// What was found, line by line.
#[derive(Default)]
struct Findings {
    fine: usize,
    warnings: usize,
    faults: usize,
}

impl Findings {
    fn fine(&mut self, what: &str) -> anyhow::Result<()> {
        self.fine += 1;
        super::print(&format!("ok    {what}\n"))
    }

    fn warn(&mut self, what: &str) -> anyhow::Result<()> {
        self.warnings += 1;
        super::print(&format!("warn  {what}\n"))
    }

    fn fault(&mut self, what: &str) -> anyhow::Result<()> {
        self.faults += 1;
        super::print(&format!("FAIL  {what}\n"))
    }
}

impl Doctor {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let policy = Arc::new(load::policy(Some(&self.policy), true)?);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let findings = runtime.block_on(self.examine(&policy))?;
        let Findings { fine, warnings, faults } = findings;
        super::print(&format!("\n{fine} fine, {warnings} to look at, {faults} at fault\n"))?;
        Ok(if faults == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    async fn examine(&self, policy: &Arc<Policy>) -> anyhow::Result<Findings> {
        let (mut findings, clock) = (Findings::default(), SystemClock::start());
        let failed = super::check::failures(policy);
        for failure in &failed {
            findings.fault(failure)?;
        }
        if failed.is_empty() {
            findings.fine(&format!("the policy is valid, {} of its tests pass", policy.tests.len()))?;
        }
        for place in &policy.upstreams {
            let UpstreamKind::Live { base_url, api_key, timeouts } = &place.kind else {
                findings.fine(&format!("{}: recorded exchanges, nothing to ask", place.name))?;
                continue;
            };
            let probe = Probe::new(base_url, api_key.as_ref(), timeouts.connect)?;
            list(policy, &place.name, &probe, &mut findings).await?;
        }
        for tier in &policy.tiers {
            if tier.price.is_none() {
                findings.warn(&format!("{}: no price, so its costs will be unknown", tier.name))?;
            }
            if !self.free {
                for share in &tier.upstreams {
                    let place = &policy.upstreams[share.upstream];
                    let UpstreamKind::Live { base_url, api_key, timeouts } = &place.kind else { continue };
                    let probe = Probe::new(base_url, api_key.as_ref(), timeouts.connect)?;
                    let model = share.model.as_deref().unwrap_or(&tier.model);
                    try_tier(tier, model, &place.name, &probe, &clock, &mut findings).await?;
                }
            }
        }
        if !self.free {
            both_ways(policy, clock, &mut findings).await?;
        }
        Ok(findings)
    }
}

/// Whether an upstream lists the models that are to be asked there.
async fn list(policy: &Policy, name: &str, probe: &Probe, findings: &mut Findings) -> anyhow::Result<()> {
    let wanted: BTreeSet<&str> = policy
        .tiers
        .iter()
        .flat_map(|tier| tier.upstreams.iter().map(move |share| (tier, share)))
        .filter(|(_, share)| policy.upstreams[share.upstream].name == name)
        .map(|(tier, share)| share.model.as_deref().unwrap_or(&tier.model))
        .collect();
    match probe.models().await {
        Err(why) => findings.warn(&format!("{name}: does not say which models it has: {why}")),
        Ok(models) => {
            let missing: Vec<&str> =
                wanted.iter().filter(|model| !models.iter().any(|known| known == *model)).copied().collect();
            if missing.is_empty() {
                findings.fine(&format!("{name}: lists {} models, those of this policy among them", models.len()))
            } else {
                findings.warn(&format!("{name}: does not list {}", missing.join(", ")))
            }
        }
    }
}

fn question(model: &str, with_logprobs: bool) -> Value {
    let mut body = json!({"model": model, "messages": [{"role": "user", "content": "Answer with the one word: yes"}]});
    if with_logprobs {
        body["logprobs"] = true.into();
    }
    body
}

/// Whether a tier's model answers, and gives the logprobs that its score needs.
async fn try_tier(
    tier: &Tier,
    model: &str,
    place: &str,
    probe: &Probe,
    clock: &SystemClock,
    findings: &mut Findings,
) -> anyhow::Result<()> {
    let (name, begun) = (&tier.name, clock.now());
    let told = match probe.post(Endpoint::Chat.path(), question(model, tier.needs_logprobs()).to_string()).await {
        Ok(told) => told,
        Err(why) => return findings.fault(&format!("{name}: {model} at {place}: {why}")),
    };
    let elapsed = clock.now().saturating_sub(begun).as_millis();
    if told.status != 200 {
        let said = excerpt(&told.body);
        return findings.fault(&format!("{name}: {model} at {place}: status {}: {said}", told.status));
    }
    let answer = match Answer::from_body(Endpoint::Chat, told.body) {
        Ok(answer) => answer,
        Err(why) => return findings.fault(&format!("{name}: {model} at {place}: {why}")),
    };
    findings.fine(&format!("{name}: {model} at {place} answers, in {elapsed} ms"))?;
    if tier.needs_logprobs() && answer.choices[0].logprobs.is_empty() {
        findings.warn(&format!(
            "{name}: {model} gives no logprobs, so `confidence` has nothing to go by: each answer is unscored"
        ))?;
    }
    if answer.usage.is_none() {
        findings.warn(&format!("{name}: {model} does not count tokens, so costs are estimates"))?;
    }
    Ok(())
}

/// Sends one request to the smallest live tier straight, and through the gateway: what
/// comes back must have the same shape.
async fn both_ways(policy: &Arc<Policy>, clock: SystemClock, findings: &mut Findings) -> anyhow::Result<()> {
    let live = policy.tiers.iter().find_map(|tier| {
        let share = tier.upstreams.first()?;
        match &policy.upstreams[share.upstream].kind {
            UpstreamKind::Live { base_url, api_key, timeouts } => Some((
                tier,
                share.model.as_deref().unwrap_or(&tier.model),
                Probe::new(base_url, api_key.as_ref(), timeouts.connect),
            )),
            UpstreamKind::Fixtures(_) => None,
        }
    });
    let Some((tier, model, probe)) = live else { return Ok(()) };
    let probe = probe?;
    // Nobody else can come in: it asks for no key, and is gone at once.
    let mut open = Policy::clone(policy);
    (open.keys, open.record) = (None, None);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let ours = Probe::new(&format!("http://{}/v1", listener.local_addr()?), None, Duration::from_secs(2))?;
    let gateway = Arc::new(serving::gateway_of(&Arc::new(open), clock)?);
    let bounds = Bounds { head: Duration::from_secs(75), stalled: Duration::from_mins(1), drain: Duration::ZERO };
    let door = Door { listener, certificate: None, room: Arc::new(Room::new(64, 64 << 20)), bounds };
    let serving = tokio::spawn(serve(door, Current::new(routes(&gateway)), clock, std::future::pending()));
    let path = Endpoint::Chat.path();
    let straight = probe.post(path, question(model, false).to_string()).await;
    let through = ours.post(path, question(&tier.name, false).to_string()).await;
    serving.abort();
    match (straight, through) {
        (Ok(straight), Ok(through)) if straight.status == through.status => {
            let [a, b] =
                [&straight.body, &through.body].map(|body| shape(&serde_json::from_slice(body).unwrap_or_default()));
            let differ: Vec<&String> = a.symmetric_difference(&b).collect();
            if differ.is_empty() {
                findings.fine(&format!(
                    "the wire is clean: {} answers the same straight and through the gateway",
                    tier.name
                ))
            } else {
                findings.warn(&format!("straight and through the gateway {} differs in {differ:?}", tier.name))
            }
        }
        (Ok(straight), Ok(through)) => findings.fault(&format!(
            "{}: status {} straight, {} through the gateway",
            tier.name, straight.status, through.status
        )),
        (Err(why), _) => findings.fault(&format!("{}: straight: {why}", tier.name)),
        (_, Err(why)) => findings.fault(&format!("{}: through the gateway: {why}", tier.name)),
    }
}

/// Every path in a JSON value with its kind, whatever the values are.
fn shape(value: &Value) -> BTreeSet<String> {
    fn walk(value: &Value, path: &str, found: &mut BTreeSet<String>) {
        let kind = match value {
            Value::Null => "null",
            Value::Bool(_) => "bool",
            Value::Number(_) => "number",
            Value::String(_) => "text",
            Value::Array(items) => {
                items.iter().for_each(|item| walk(item, &format!("{path}[]"), found));
                "list"
            }
            Value::Object(members) => {
                members.iter().for_each(|(name, member)| walk(member, &format!("{path}.{name}"), found));
                "object"
            }
        };
        found.insert(format!("{path}: {kind}"));
    }
    let mut found = BTreeSet::new();
    walk(value, "", &mut found);
    found
}
