//! The upstreams of a tier: shared out by weight, failed over, tried again, each
//! behind its breaker.
//!
//! Invariant: a prompt is asked again only where that is safe, and never once an
//! answer has begun. Retries are one attempt of the trace.

use std::sync::Arc;
use std::time::Duration;

use super::breaker::{Breaker, Standing};
use super::{Delivery, Live, Recorded, Reply, Upstream};
use crate::clock::Clock;
use crate::openai::pace;
use crate::policy::{Policy, RetryRule, Tier, UpstreamKind, UpstreamPlace};
use crate::prompt::Prompt;
use crate::trace::{Bound, Failure, Phase};

/// What finally answers, one per upstream of the policy.
#[derive(Debug)]
pub enum Origin<C> {
    /// An OpenAI-compatible API.
    Live(Live<C>),
    /// Recorded exchanges.
    Recorded(Recorded<C>),
}

impl<C: Clock> Upstream for Origin<C> {
    async fn ask(&self, tier: &Tier, prompt: &Prompt, delivery: Delivery) -> Result<Reply, Failure> {
        match self {
            Self::Live(live) => live.ask(tier, prompt, delivery).await,
            Self::Recorded(recorded) => recorded.ask(tier, prompt, delivery).await,
        }
    }
}

/// All upstreams of a policy, by their place in it.
#[derive(Debug)]
pub struct Balanced<O, C> {
    origins: Vec<O>,
    tiers: Vec<Choices>,
    clock: C,
}

/// The upstreams of one tier.
#[derive(Debug)]
struct Choices {
    each: Vec<Choice>,
    weights: u32,
    retries: RetryRule,
}

#[derive(Debug)]
struct Choice {
    /// The tier with the model's name there.
    tier: Tier,
    origin: usize,
    weight: u32,
    breaker: NamedBreaker,
}

/// A breaker, and what it is for: one model of an upstream may fail where its others
/// do not.
#[derive(Clone, Debug)]
pub struct NamedBreaker {
    /// The tier.
    pub tier: String,
    /// The upstream.
    pub upstream: String,
    /// Its breaker.
    pub breaker: Arc<Breaker>,
    /// What it depends on that is to be left alone: where, by which key, which model.
    pub(super) of: blake3::Hash,
}

impl<O: Upstream, C: Clock> Balanced<O, C> {
    /// `origins` are the policy's upstreams, in its order. Breakers `before` that are
    /// for the same and have the same rule go on as they stand.
    pub fn new(origins: Vec<O>, policy: &Policy, clock: C, before: &[NamedBreaker]) -> Self {
        let tiers = policy.tiers.iter().map(|tier| Choices::of(tier, policy, before)).collect();
        Self { origins, tiers, clock }
    }

    /// The breaker of each tier at each of its upstreams.
    #[must_use]
    pub fn breakers(&self) -> Vec<NamedBreaker> {
        self.tiers.iter().flat_map(|choices| choices.each.iter().map(|choice| choice.breaker.clone())).collect()
    }

    /// Asks each upstream once at most, the others where the first one fails.
    async fn ask_any(&self, choices: &Choices, prompt: &Prompt, delivery: Delivery) -> Result<Reply, Failure> {
        let first = choices.pick();
        let others = choices.each.iter().enumerate().filter(|(at, _)| *at != first).map(|(_, choice)| choice);
        let mut failed = None;
        for choice in std::iter::once(&choices.each[first]).chain(others) {
            let NamedBreaker { tier, upstream, breaker, .. } = &choice.breaker;
            let now = self.clock.now();
            let kept_out = match breaker.paused(now) {
                Some(retry_after) => Some(Failure::Limited { by: Bound::Pause, retry_after }),
                None => breaker.enter(now).err().map(|retry_after| Failure::Open { retry_after }),
            };
            if let Some(kept_out) = kept_out {
                failed = Some(sooner(failed, kept_out));
                continue;
            }
            let asked = self.origins[choice.origin].ask(&choice.tier, prompt, delivery).await;
            match breaker.note(self.clock.now(), asked.as_ref().is_err_and(is_upstreams_fault)) {
                Some(Standing::Open) => tracing::warn!(tier, upstream, "keeps failing: left alone for a time"),
                Some(Standing::Closed) => tracing::warn!(tier, upstream, "answers again"),
                Some(Standing::HalfOpen) | None => {}
            }
            if let Some(time) = pause_asked_for(&asked) {
                breaker.pause(self.clock.now(), time);
            }
            match asked {
                Err(failure) if may_ask_elsewhere(&failure, prompt) => failed = Some(failure),
                done => return done,
            }
        }
        Err(failed.unwrap_or(Failure::Unreachable("a tier without upstreams".to_owned())))
    }
}

impl NamedBreaker {
    /// That of a tier's model at one place; one from before where nothing has changed.
    fn of(tier: &Tier, place: &UpstreamPlace, before: &[Self]) -> Self {
        let mut hasher = blake3::Hasher::new();
        let key = if let UpstreamKind::Live { api_key: Some(key), .. } = &place.kind { key.expose() } else { "" };
        for part in [&tier.name, &tier.model, &place.name, place.kind.place(), key] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        }
        let of = hasher.finalize();
        let is_same = |other: &&Self| other.of == of && other.breaker.rule() == place.breaker;
        before.iter().find(is_same).cloned().unwrap_or_else(|| Self {
            tier: tier.name.clone(),
            upstream: place.name.clone(),
            breaker: Arc::new(Breaker::new(place.breaker)),
            of,
        })
    }
}

impl Choices {
    fn of(tier: &Tier, policy: &Policy, before: &[NamedBreaker]) -> Self {
        let each = tier.upstreams.iter().map(|share| {
            let tier = Tier { model: share.model.clone().unwrap_or_else(|| tier.model.clone()), ..tier.clone() };
            let breaker = NamedBreaker::of(&tier, &policy.upstreams[share.upstream], before);
            Choice { tier, origin: share.upstream, weight: share.weight, breaker }
        });
        let each: Vec<Choice> = each.collect();
        Self { weights: each.iter().map(|choice| choice.weight).sum(), each, retries: tier.retries }
    }

    /// One of them, by weight; those of weight 0 only stand in for others.
    fn pick(&self) -> usize {
        if self.each.len() == 1 || self.weights == 0 {
            return 0;
        }
        let mut left = fastrand::u32(..self.weights);
        let found = self.each.iter().position(|choice| {
            let is_it = left < choice.weight;
            left = left.saturating_sub(choice.weight);
            is_it
        });
        found.unwrap_or(0)
    }
}

impl<O: Upstream, C: Clock> Upstream for Balanced<O, C> {
    async fn ask(&self, tier: &Tier, prompt: &Prompt, delivery: Delivery) -> Result<Reply, Failure> {
        let choices = &self.tiers[tier.index];
        let retries = choices.retries;
        let times = if delivery == Delivery::Flow { retries.times } else { retries.times_before_another };
        let mut tried = 0;
        loop {
            let failure = match self.ask_any(choices, prompt, delivery).await {
                Ok(reply) => return Ok(reply),
                Err(failure) => failure,
            };
            let Some(wait) = wait_before(tried, times, retries, &failure).filter(|_| may_ask_again(&failure, prompt))
            else {
                return Err(failure);
            };
            tried += 1;
            tracing::warn!(tier = tier.name, ms = wait.as_millis(), "trying again after {failure}");
            self.clock.sleep(wait).await;
        }
    }
}

/// How long to wait before the next try, half of it by chance; none where there is
/// none, or where the upstream wants more patience than the policy has.
fn wait_before(tried: u32, times: u32, rule: RetryRule, failure: &Failure) -> Option<Duration> {
    if tried >= times {
        return None;
    }
    let most = rule.backoff.saturating_mul(1 << tried.min(16)).min(rule.longest);
    let wait = most.mul_f64(0.5 + fastrand::f64() / 2.0);
    match failure {
        Failure::Refused { retry_after: Some(time), .. } | Failure::Open { retry_after: time } => {
            (*time <= rule.longest).then(|| wait.max(*time))
        }
        _ => Some(wait),
    }
}

/// Of two failures of which the second was none to ask: the one that says more, or
/// sooner.
fn sooner(before: Option<Failure>, kept_out: Failure) -> Failure {
    let wait = |failure: &Failure| match failure {
        Failure::Open { retry_after } | Failure::Limited { retry_after, .. } => Some(*retry_after),
        _ => None,
    };
    match before {
        Some(before) if wait(&before).is_none_or(|time| Some(time) <= wait(&kept_out)) => before,
        _ => kept_out,
    }
}

/// How long the upstream wants to be left alone, by what it has just said.
fn pause_asked_for(asked: &Result<Reply, Failure>) -> Option<Duration> {
    match asked {
        Err(Failure::Refused { status: 429 | 503, retry_after, .. }) => *retry_after,
        Err(_) => None,
        Ok(reply) => pace::nothing_left_for(reply.said.headers()),
    }
}

/// Whether the upstream is at fault, rather than the request or our own bounds.
fn is_upstreams_fault(failure: &Failure) -> bool {
    match failure {
        Failure::Refused { status, .. } => *status >= 500,
        Failure::TimedOut { .. } | Failure::Unreachable(_) | Failure::Cut { .. } | Failure::Malformed { .. } => true,
        Failure::Limited { .. } | Failure::Open { .. } | Failure::TooLarge { .. } | Failure::NotRecorded => false,
    }
}

/// Whether another upstream may be asked: nothing is wrong with the prompt itself, and
/// this one has not kept what it was asked.
fn may_ask_elsewhere(failure: &Failure, prompt: &Prompt) -> bool {
    match failure {
        // Its key, its model, its quota.
        Failure::Refused { status: 401 | 402 | 403 | 404 | 408 | 409 | 429, .. } => true,
        Failure::TimedOut { .. } => !prompt.is_kept_upstream,
        failure => may_ask_again(failure, prompt),
    }
}

/// Whether the same may be asked once more: the fault may pass, there is time left,
/// and the upstream has not kept what it was asked.
fn may_ask_again(failure: &Failure, prompt: &Prompt) -> bool {
    match failure {
        Failure::Refused { status: 429, .. } if failure.is_out_of_quota() => false,
        // Nothing was done.
        Failure::Open { .. }
        | Failure::Refused { status: 429 | 503, .. }
        | Failure::TimedOut { phase: Phase::Connect, .. } => true,
        Failure::Refused { status, .. } => *status >= 500 && !prompt.is_kept_upstream,
        Failure::Unreachable(_) | Failure::Cut { .. } | Failure::Malformed { .. } => !prompt.is_kept_upstream,
        // Its time was the prompt's time.
        Failure::TimedOut { .. } | Failure::Limited { .. } | Failure::TooLarge { .. } | Failure::NotRecorded => false,
    }
}
