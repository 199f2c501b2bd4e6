//! A gateway made from a policy, and made anew where the policy's files change.
//!
//! Invariant: a policy with a fault never takes the place of one without; what is in
//! flight ends under the policy it began with.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, bail};
use arc_swap::ArcSwapOption;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::block_in_place;
use tracing_appender::non_blocking::ErrorCounter;

use super::books::Books;
use super::load::{self, Content, Loaded};
use super::replicas::Replicas;
use crate::cascade::Cascade;
use crate::clock::{Clock, SystemClock};
use crate::gateway::{Audience, Current, Gateway, Hosts, Recorder, Reloads, Room, admin_router, routes};
use crate::policy::{Policy, UpstreamKind};
use crate::recording;
use crate::shared::Shared;
use crate::upstream::{
    Balanced, Embedders, Heir, Layers, Live, NamedBreaker, Origin, Passage, Recorded, Upstream, layered,
};

/// How often files are looked at. Their content is compared: symbolic links that are
/// swapped, as Kubernetes does, send no event.
pub(super) const EVERY: Duration = Duration::from_secs(1);

/// The whole stack of layers.
pub(super) type Stack = Layers<Balanced<Origin<SystemClock>, SystemClock>, SystemClock>;

/// What outlives every policy.
pub(super) struct Lasting {
    pub audience: Audience,
    /// The names that the operator's listener goes by.
    pub hosts: Hosts,
    pub log: ErrorCounter,
    pub room: Arc<Room>,
    /// That of the policy in force.
    pub recorder: Arc<ArcSwapOption<Recorder>>,
    /// What other replicas know.
    pub replicas: Replicas,
}

impl Lasting {
    fn join<U: Upstream, C: Clock>(&self, gateway: Gateway<U, C>) -> Gateway<U, C> {
        gateway
            .telling(self.audience.clone())
            .logging_through(self.log.clone())
            .within(self.room.clone())
            .recording_to(self.recorder.load_full())
            .sharing(self.replicas.elsewhere.shared.clone())
    }
}

impl Lasting {
    /// What records as a policy says; one that does so already goes on.
    fn recorder_of(&self, policy: &Policy, folder: &Path, clock: SystemClock) -> anyhow::Result<Option<Arc<Recorder>>> {
        let secrets = policy.upstreams.iter().filter_map(|place| match &place.kind {
            UpstreamKind::Live { api_key: Some(key), .. } => Some(key.expose().to_owned()),
            _ => None,
        });
        let secrets: Vec<String> = secrets.collect();
        Ok(match (&policy.record, self.recorder.load_full()) {
            (Some(rule), Some(before)) if before.records(rule, &secrets) => Some(before),
            (Some(rule), _) => {
                let recorder = Recorder::start(rule.clone(), folder, secrets, clock);
                let failed = || format!("cannot record to {}", folder.join(&rule.to).display());
                Some(Arc::new(recorder.with_context(failed)?))
            }
            (None, _) => None,
        })
    }
}

/// A policy being served.
pub(super) struct Serving {
    path: Option<PathBuf>,
    loaded: Loaded,
    clock: SystemClock,
    lasting: Lasting,
    gateway: Arc<Gateway<Stack, SystemClock>>,
    breakers: Vec<NamedBreaker>,
    reloads: Arc<Reloads>,
    /// What was spent with keys.
    pub books: Books,
    /// What a client of recorded answers is told.
    pub hint: String,
    /// The routes of clients.
    pub routes: Current,
    /// The routes of operators.
    pub admin: Current,
    /// Listened for from the start: unheard, it would end the process.
    hangups: Signal,
}

impl Serving {
    /// Begins.
    ///
    /// # Errors
    /// Where an upstream cannot be made from the policy.
    pub fn begin(path: Option<PathBuf>, loaded: Loaded, clock: SystemClock, lasting: Lasting) -> anyhow::Result<Self> {
        let hangups = signal(SignalKind::hangup()).context("cannot listen for signals")?;
        let elsewhere = &lasting.replicas.elsewhere;
        let (gateway, hint, breakers) = gateway(&loaded.policy, clock, &[], elsewhere.shared.as_ref())?;
        let (reloads, books) = (Arc::<Reloads>::default(), Books::default());
        let keyring = books.open(&loaded.policy, folder(path.as_deref()), clock, elsewhere)?;
        lasting.recorder.store(lasting.recorder_of(&loaded.policy, folder(path.as_deref()), clock)?);
        let gateway = lasting.join(gateway).counting(reloads.clone()).guarded_by(keyring);
        let gateway = Arc::new(gateway);
        let admin = Current::new(admin_router(&gateway, lasting.hosts));
        let routes = Current::new(routes(&gateway));
        Ok(Self { path, loaded, clock, lasting, gateway, breakers, reloads, books, hint, routes, admin, hangups })
    }

    /// Reads the policy again at each SIGHUP, and where its files have changed and stay
    /// so until they are looked at again: one that is half written is not tried.
    pub async fn keep_up(mut self) {
        let Some(path) = self.path.clone() else { return };
        // Those of a policy that was not put in force are looked at too.
        let mut watched = self.loaded.content.clone();
        let mut seen = watched.clone();
        // Until they are in force.
        let mut has_other_keys = false;
        loop {
            let is_asked = self.clock.within(EVERY, self.hangups.recv()).await.is_some();
            // An `fsync` would hold up the requests of a whole worker.
            let content = block_in_place(|| {
                self.books.save();
                load::content(&path, &watched)
            });
            has_other_keys |= self.lasting.replicas.look(&self.breakers, self.clock).await;
            let has_settled = content == seen;
            seen.clone_from(&content);
            if has_other_keys {
                let put = block_in_place(|| self.put_in_force(self.loaded.clone()));
                has_other_keys = put.is_err();
                match put {
                    Err(error) => {
                        tracing::error!("keys that replicas share have changed, and are not in force: {error:#}");
                    }
                    Ok(()) if self.loaded.policy.keys.is_none() => {
                        tracing::warn!("replicas share keys, but the policy asks for none: it has no `keys:`");
                    }
                    Ok(()) => tracing::warn!("keys that replicas share have changed"),
                }
            }
            if !is_asked && (content == watched || !has_settled) {
                continue;
            }
            let read = RefCell::default();
            let reloaded = block_in_place(|| self.reload(&read));
            watched.clone_from(&self.loaded.content);
            watched.extend(read.take());
            seen.clone_from(&watched);
            match reloaded {
                Ok(()) => {
                    self.reloads.done.fetch_add(1, Ordering::Relaxed);
                    let (policy, warnings) = (&self.loaded.policy.digest, &self.loaded.warnings);
                    let warned = if warnings.is_empty() { "" } else { "; but " };
                    tracing::warn!(policy, "the policy was read again and is in force{warned}{warnings}");
                }
                Err(error) => {
                    self.reloads.failed.fetch_add(1, Ordering::Relaxed);
                    let policy = &self.loaded.policy.digest;
                    tracing::error!(
                        policy,
                        "the policy was read again, and is not in force; the one before stays: {error:#}"
                    );
                }
            }
        }
    }

    fn reload(&mut self, read: &RefCell<Content>) -> anyhow::Result<()> {
        let loaded = load::load_noting(self.path.as_deref(), true, read)?;
        let failed = super::check::failures(&loaded.policy);
        if !failed.is_empty() {
            bail!("{}", failed.join("; "));
        }
        if self.loaded.policy.keys.is_some() && loaded.policy.keys.is_none() {
            bail!(
                "it no longer asks for keys: restart for that, so that no file caught half-written opens the gateway"
            );
        }
        self.put_in_force(loaded)
    }

    /// Puts a policy in force, with the keys that are known now.
    fn put_in_force(&mut self, loaded: Loaded) -> anyhow::Result<()> {
        let elsewhere = &self.lasting.replicas.elsewhere;
        let (gateway, _, breakers) = gateway(&loaded.policy, self.clock, &self.breakers, elsewhere.shared.as_ref())?;
        // Whatever may fail comes before anything is changed.
        let recorder = self.lasting.recorder_of(&loaded.policy, folder(self.path.as_deref()), self.clock)?;
        let keyring = self.books.open(&loaded.policy, folder(self.path.as_deref()), self.clock, elsewhere)?;
        self.lasting.recorder.store(recorder);
        let gateway = self.lasting.join(gateway).counting(self.reloads.clone());
        let mut gateway = gateway.guarded_by(keyring);
        gateway.inherit(&self.gateway);
        (self.gateway, self.breakers) = (Arc::new(gateway), breakers);
        self.routes.replace(routes(&self.gateway));
        self.admin.replace(admin_router(&self.gateway, self.lasting.hosts));
        self.loaded = loaded;
        Ok(())
    }
}

/// The folder of the policy, from which it names files.
fn folder(path: Option<&Path>) -> &Path {
    path.and_then(Path::parent).unwrap_or(Path::new(""))
}

/// A gateway, what to tell a client whose prompt is not recorded, and the breakers.
type Made = (Gateway<Stack, SystemClock>, String, Vec<NamedBreaker>);

/// A gateway for a while, with nothing from before.
pub(super) fn gateway_of(policy: &Arc<Policy>, clock: SystemClock) -> anyhow::Result<Gateway<Stack, SystemClock>> {
    Ok(gateway(policy, clock, &[], None)?.0)
}

fn gateway(
    policy: &Arc<Policy>,
    clock: SystemClock,
    before: &[NamedBreaker],
    shared: Option<&Arc<Shared>>,
) -> anyhow::Result<Made> {
    let (origins, hint) = origins(policy, clock)?;
    let balanced = Balanced::new(origins, policy, clock, before);
    let breakers = balanced.breakers();
    let passage = passage(policy, clock)?;
    let upstream = layered(balanced, policy, clock, &Embedders::of(policy, &clock)?, shared).asking()?;
    let cascade = Cascade::new(policy.clone(), upstream, clock);
    Ok((Gateway::new(cascade, clock, passage, hint.clone()).showing(breakers.clone()), hint, breakers))
}

/// What finally answers, and what to tell a client whose prompt is not recorded.
fn origins(policy: &Policy, clock: SystemClock) -> anyhow::Result<(Vec<Origin<SystemClock>>, String)> {
    let mut origins = Vec::new();
    let mut hint = String::new();
    for upstream in &policy.upstreams {
        origins.push(match &upstream.kind {
            UpstreamKind::Live { base_url, api_key, timeouts } => {
                Origin::Live(Live::new(base_url, api_key.as_ref(), *timeouts, clock)?)
            }
            UpstreamKind::Fixtures(place) => {
                let recorded = Recorded::new(clock);
                let exchanges = recording::load(place)
                    .with_context(|| format!("the fixtures of the upstream `{}`", upstream.name))?;
                let example = exchanges
                    .iter()
                    .find_map(|e| e.prompt.texts().last().map(|t| t.lines().next().unwrap_or("").to_owned()));
                exchanges.into_iter().for_each(|exchange| recorded.hold(&Arc::new(exchange)));
                hint = hint_of(place, recorded.prompts(), &example.unwrap_or_default());
                Origin::Recorded(recorded)
            }
        });
    }
    Ok((origins, hint))
}

/// The way for what is not cascaded, where the policy gives one.
fn passage(policy: &Policy, clock: SystemClock) -> anyhow::Result<Option<Passage<SystemClock>>> {
    let place = policy.passthrough.map(|p| &policy.upstreams[p.upstream].kind);
    let Some(UpstreamKind::Live { base_url, api_key, timeouts }) = place else { return Ok(None) };
    Ok(Some(Passage::new(base_url, api_key.as_ref(), *timeouts, clock)?))
}

fn hint_of(place: &str, prompts: usize, example: &str) -> String {
    let place = if place == "embedded" { "its own fixtures (the folder fixtures/ of the source)" } else { place };
    format!(
        "This gateway asks no model; it answers the {prompts} prompts recorded in {place}, such as {example:?}. \
         To ask real models: cascade serve --policy policies/classic.yaml, with OPENAI_API_KEY set."
    )
}
