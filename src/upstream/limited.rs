//! The limits of a tier: prompts and tokens per minute, prompts at the same time.
//!
//! Invariant: a place is given back however the prompt ends. A refused prompt costs
//! nothing; an answered one costs the tokens that the upstream counts.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use http::{HeaderMap, HeaderName};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{Delivery, Flow, Heir, Holding, Reply, Said, Upstream};
use crate::answer::Gathered;
use crate::clock::Clock;
use crate::openai::Endpoint;
use crate::policy::{LimitRule, Policy, Tier, WhenFull};
use crate::prompt::Prompt;
use crate::shared::{Basket, Crowd, Drawn, Quota, Seat, Shared, Short};
use crate::tokens;
use crate::trace::{Bound, Failure};

/// When a place will be free where only other prompts' ends decide.
const SOON: Duration = Duration::from_secs(1);

/// When a place that other replicas have is asked for again.
const AGAIN: Duration = Duration::from_millis(100);

/// Refuses what is over a tier's limits, or has it wait.
#[derive(Debug)]
pub struct Limited<U, C: Clock> {
    inner: U,
    clock: C,
    tiers: Vec<Arc<Limits<C>>>,
}

/// The limits of one tier.
#[derive(Debug)]
struct Limits<C: Clock> {
    /// The tier's name and model, and what its limits are.
    of: (String, String, Option<LimitRule>),
    when_full: WhenFull,
    requests: Option<Quota<C>>,
    tokens: Option<Arc<Quota<C>>>,
    permits: Option<Arc<Semaphore>>,
    /// What other replicas are asked through, and those in flight with them.
    shared: Option<Arc<Shared>>,
    crowd: Option<(Arc<Crowd>, NonZeroU32)>,
    /// Of those that wait for others one asks at a time.
    turn: Semaphore,
}

/// What all replicas gave.
#[derive(Default)]
struct Others {
    /// Requests and tokens left, where that is known.
    left: [Option<u32>; 2],
    seat: Option<Seat>,
    /// Whether they were asked.
    by_all: bool,
}

/// What a prompt holds while it is answered.
struct Place<C: Clock> {
    _permit: Option<OwnedSemaphorePermit>,
    _seat: Option<Seat>,
    /// Tokens taken by estimate, and where they go back to.
    taken: Option<(Drawn, Arc<Quota<C>>)>,
    /// Whether all replicas count it.
    by_all: bool,
    /// Requests and tokens left, where they are limited.
    left: [Option<u32>; 2],
}

impl<U, C: Clock> Limited<U, C> {
    /// Wraps `inner` with the limits of `policy`, which all replicas keep together where
    /// they share anything.
    pub fn new(inner: U, policy: &Policy, clock: &C, shared: Option<&Arc<Shared>>) -> Self {
        let tiers = policy.tiers.iter().map(|tier| Arc::new(Limits::new(tier, clock, shared))).collect();
        Self { inner, clock: clock.clone(), tiers }
    }
}

impl<U, C: Clock> Heir for Limited<U, C> {
    fn inherit(&mut self, before: &Self) {
        for mine in &mut self.tiers {
            if let Some(other) = before.tiers.iter().find(|other| other.of == mine.of) {
                *mine = other.clone();
            }
        }
    }
}

impl<C: Clock> Limits<C> {
    fn new(tier: &Tier, clock: &C, shared: Option<&Arc<Shared>>) -> Self {
        let rule = tier.limit;
        let name = |of: &str| format!("{}:{}:{of}", tier.name, tier.model);
        let rate = |rule, of| Quota::new(rule, clock, shared.map(|shared| &**shared), &name(of));
        let concurrent = rule.and_then(|rule| rule.concurrent);
        Self {
            of: (tier.name.clone(), tier.model.clone(), rule),
            when_full: rule.map_or(WhenFull::Escalate, |rule| rule.when_full),
            requests: rule.and_then(|rule| rule.requests).map(|rule| rate(rule, "requests")),
            tokens: rule.and_then(|rule| rule.tokens).map(|rule| Arc::new(rate(rule, "tokens"))),
            permits: concurrent.map(|n| Arc::new(Semaphore::new(n.get() as usize))),
            shared: shared.filter(|_| rule.is_some()).cloned(),
            crowd: shared.zip(concurrent).map(|(shared, n)| (shared.crowd(&name("concurrent")), n)),
            turn: Semaphore::new(1),
        }
    }

    /// A place for a prompt, now or before the deadline.
    async fn enter(&self, prompt: &Prompt, clock: &C, deadline: Duration) -> Result<Place<C>, Failure> {
        // Sleeps where that is enough, else fails.
        let wait = async |by: Bound, time: Duration| {
            if clock.now() + time > deadline {
                return Err(Failure::Limited { by, retry_after: time });
            }
            clock.sleep(time).await;
            Ok(())
        };
        let permit = match &self.permits {
            Some(permits) => Some(self.permit(permits, clock, deadline).await?),
            None => None,
        };
        let mut turn = None;
        loop {
            let tokens = self.tokens.as_ref().map(|quota| quota.rate().take(tokens::at_most(prompt)));
            let tokens = match tokens.transpose() {
                Ok(tokens) => tokens,
                Err(time) => {
                    wait(Bound::Tokens, time).await?;
                    continue;
                }
            };
            let requests = self.requests.as_ref().map(|quota| quota.rate().take(NonZeroU32::MIN)).transpose();
            let by_others = match (&requests, &self.shared) {
                (Ok(_), Some(shared)) => Box::pin(self.ask_others(shared, tokens.map(|(taken, _)| taken))).await,
                _ => Ok(Others::default()),
            };
            let drawn = tokens.map(|(amount, _)| amount).zip(self.tokens.clone());
            let (by, time) = match (requests, by_others) {
                (Ok(requests), Ok(Others { left, seat, by_all })) => {
                    let least = |here: Option<(_, u32)>, all: Option<u32>| {
                        here.map(|(_, here)| all.map_or(here, |all| all.min(here)))
                    };
                    let left = [least(requests, left[0]), least(tokens, left[1])];
                    let taken = drawn.map(|(amount, quota)| (Drawn { amount, by_all }, quota));
                    return Ok(Place { _permit: permit, _seat: seat, taken, by_all, left });
                }
                (Ok(requests), Err(short)) => {
                    if let (Some((amount, _)), Some(quota)) = (requests, &self.requests) {
                        quota.take_back(amount);
                    }
                    short
                }
                (Err(time), _) => (Bound::Requests, time),
            };
            if let Some((amount, quota)) = drawn {
                quota.take_back(amount);
            }
            let left = deadline.saturating_sub(clock.now());
            if self.shared.is_some() && turn.is_none() && !left.is_zero() {
                turn = clock.within(left, self.turn.acquire()).await;
                if turn.is_some() {
                    // What was said before the others' turns is old.
                    continue;
                }
            }
            wait(by, time).await?;
        }
    }

    /// Takes from all replicas what was taken here. Where they cannot be asked, what is
    /// here is enough.
    ///
    /// # Errors
    /// What is not there, and when it may be.
    async fn ask_others(&self, shared: &Shared, tokens: Option<NonZeroU32>) -> Result<Others, (Bound, Duration)> {
        let seat = self.crowd.as_ref().map(|(crowd, bound)| (crowd.seat(), *bound));
        let mut basket = Basket::default();
        if let Some((seat, bound)) = &seat {
            basket.seat(seat, *bound);
        }
        let mut rates = Vec::new();
        for (place, quota, amount) in
            [(0, self.requests.as_ref(), Some(NonZeroU32::MIN)), (1, self.tokens.as_deref(), tokens)]
        {
            if let (Some(quota), Some(amount)) = (quota, amount) {
                basket.rate(quota, amount);
                rates.push(place);
            }
        }
        let mut left = [None; 2];
        let taken = shared.take(basket).await;
        let by_all = taken.is_some();
        match taken {
            Some(Ok(taken)) => rates.iter().zip(taken.left).for_each(|(place, there)| left[*place] = Some(there)),
            Some(Err(Short::Rate(at, time))) => {
                return Err(([Bound::Requests, Bound::Tokens][rates[at]], time));
            }
            Some(Err(Short::Places)) => return Err((Bound::Concurrent, AGAIN)),
            None => {}
        }
        Ok(Others { left, seat: seat.map(|(seat, _)| seat), by_all })
    }

    async fn permit(
        &self,
        permits: &Arc<Semaphore>,
        clock: &C,
        deadline: Duration,
    ) -> Result<OwnedSemaphorePermit, Failure> {
        if let Ok(permit) = permits.clone().try_acquire_owned() {
            return Ok(permit);
        }
        let left = deadline.saturating_sub(clock.now());
        let full = Failure::Limited { by: Bound::Concurrent, retry_after: SOON };
        if left.is_zero() {
            return Err(full);
        }
        match clock.within(left, permits.clone().acquire_owned()).await {
            Some(Ok(permit)) => Ok(permit),
            // Nobody closes it.
            None | Some(Err(_)) => Err(full),
        }
    }

    /// Tells a client of our limits where the upstream's own leave it more.
    fn tighten(&self, headers: &mut HeaderMap, left: [Option<u32>; 2]) {
        const NAMES: [[HeaderName; 3]; 2] = [
            [
                HeaderName::from_static("x-ratelimit-remaining-requests"),
                HeaderName::from_static("x-ratelimit-limit-requests"),
                HeaderName::from_static("x-ratelimit-reset-requests"),
            ],
            [
                HeaderName::from_static("x-ratelimit-remaining-tokens"),
                HeaderName::from_static("x-ratelimit-limit-tokens"),
                HeaderName::from_static("x-ratelimit-reset-tokens"),
            ],
        ];
        let quotas = [self.requests.as_ref(), self.tokens.as_deref()];
        for ((names, quota), left) in NAMES.iter().zip(quotas).zip(left) {
            let (Some(quota), Some(left)) = (quota, left) else { continue };
            let theirs = headers.get(&names[0]).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
            if theirs.is_none_or(|theirs| u64::from(left) < theirs) {
                headers.insert(&names[0], left.into());
                headers.insert(&names[1], quota.rate().rule().per_minute.get().into());
                // Theirs would belong to another count.
                headers.remove(&names[2]);
            }
        }
    }
}

impl<C: Clock> Place<C> {
    /// Puts the tokens right by what was used.
    fn settle(&mut self, used: u64) {
        if let Some((taken, quota)) = self.taken.take() {
            quota.put_right(taken, used);
        }
    }
}

impl<U: Upstream, C: Clock> Upstream for Limited<U, C> {
    async fn ask(&self, tier: &Tier, prompt: &Prompt, delivery: Delivery) -> Result<Reply, Failure> {
        let limits = &self.tiers[tier.index];
        let patience = if let WhenFull::Wait(up_to) = limits.when_full { up_to } else { Duration::ZERO };
        let deadline = self.clock.now() + patience;
        let (mut reply, mut place) = loop {
            let mut place = limits.enter(prompt, &self.clock, deadline).await?;
            let failure = match self.inner.ask(tier, prompt, delivery).await {
                Ok(reply) => break (reply, place),
                Err(failure) => failure,
            };
            place.settle(0);
            // Who was kept out has asked nobody.
            if let (Failure::Limited { .. } | Failure::Open { .. }, Some(requests)) = (&failure, &limits.requests) {
                requests.put_right(Drawn { amount: NonZeroU32::MIN, by_all: place.by_all }, 0);
            }
            // What its upstream asks for is waited for as our own limits are.
            match failure {
                Failure::Limited { retry_after, .. } if self.clock.now() + retry_after <= deadline => {
                    drop(place);
                    self.clock.sleep(retry_after).await;
                }
                failure => return Err(failure),
            }
        };
        if place.left.iter().any(Option::is_some) {
            limits.tighten(reply.said.headers_mut(), place.left);
        }
        reply.said = match reply.said {
            Said::Whole(answer) => {
                let used = tokens::count(prompt, &answer);
                place.settle(used.input.saturating_add(used.output));
                Said::Whole(answer)
            }
            Said::Flow(flow) => Said::Flow(held(flow, place, prompt.endpoint)),
        };
        Ok(reply)
    }

    fn holding(&self, tier: &Tier) -> Holding {
        let limits = &self.tiers[tier.index];
        let of = |quota: &Quota<C>| (u64::from(quota.rate().left()), u64::from(quota.rate().rule().burst.get()));
        let all = limits.of.2.and_then(|rule| rule.concurrent).map(|all| u64::from(all.get()));
        let free = limits.permits.as_ref().map(|permits| permits.available_permits() as u64);
        Holding {
            requests: limits.requests.as_ref().map(of),
            tokens: limits.tokens.as_deref().map(of),
            concurrent: free.zip(all),
            ..Holding::default()
        }
    }
}

/// A flow that holds its place until it ends or nobody wants it any more.
fn held<C: Clock>(flow: Flow, place: Place<C>, endpoint: Endpoint) -> Flow {
    let Flow { frames, headers } = flow;
    let state = (frames, place, None);
    let frames = stream::unfold(state, move |(mut frames, mut place, mut counted)| async move {
        let frame = frames.next().await;
        match &frame {
            Some(Ok(data)) if place.taken.is_some() => {
                // The last word on usage counts.
                counted = Gathered::usage_in(endpoint, data).and_then(tokens::of_usage).or(counted);
            }
            None => {
                if let Some(used) = counted {
                    place.settle(used.input.saturating_add(used.output));
                }
            }
            Some(_) => {}
        }
        Some((frame?, (frames, place, counted)))
    });
    Flow { frames: Box::pin(frames), headers }
}
