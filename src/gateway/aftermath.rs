//! What is noted of a request once its answer has ended: the bill, the counts, the
//! trace, the recording.
//!
//! Invariant: each request is noted once, however its answer ends.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use http::StatusCode;

use super::bill::Bill;
use super::meters::{End, baseline};
use super::recorder::Recorder;
use super::room::Held;
use super::{ApiError, Gateway};
use crate::answer::{Answer, Gathered};
use crate::clock::Clock;
use crate::explanation::Explanation;
use crate::policy::{Ladder, Policy};
use crate::price::{Cost, Usd};
use crate::prompt::{Freshness, Prompt};
use crate::recording::{Heard, Word};
use crate::tokens::{self, Tokens};
use crate::trace::{Failure, Outcome, Trace};
use crate::upstream::{Flow, Upstream};

/// A request whose answer was decided on.
pub(super) struct Decided<'a, U, C: Clock> {
    pub gateway: &'a Arc<Gateway<U, C>>,
    pub policy: &'a Arc<Policy>,
    /// The tiers that might be asked.
    pub ladder: &'a Ladder,
    pub prompt: &'a Prompt,
    pub trace: &'a Trace,
    pub id: &'a str,
    /// When it came.
    pub arrived: Duration,
}

/// A stream that has ended.
struct Flowed {
    tokens: Tokens,
    end: End,
    /// Its frames, where they are to be written down.
    frames: Vec<Bytes>,
}

impl<U: Upstream, C: Clock> Decided<'_, U, C> {
    /// Notes it now, where the answer is whole; where it flows, once it has ended: until
    /// then it is `held` in memory.
    pub fn note(self, flow: Option<Flow>, bill: Option<Bill<C>>, held: Option<Held>) -> Option<Flow> {
        let drawn = self.draw();
        let Some(flow) = flow else {
            self.ended(bill, None, drawn);
            return None;
        };
        let Self { gateway, policy, ladder, prompt, trace, id, arrived } = self;
        gateway.meters.first_token(trace.elapsed);
        let following = Following {
            gateway: gateway.clone(),
            policy: policy.clone(),
            ladder: ladder.clone(),
            prompt: prompt.clone(),
            trace: trace.clone(),
            id: id.to_owned(),
            bill,
            _held: held,
            arrived,
            drawn,
            frames: 0,
            counted: None,
            kept: Vec::new(),
            end: End::Left,
        };
        let Flow { frames, headers } = flow;
        Some(Flow { frames: Box::pin(Followed { frames, following }), headers })
    }

    /// Whether it is to be written down, and whether with every tier's answer. What a
    /// client wants nobody to keep is not.
    fn draw(&self) -> Option<bool> {
        let recorder = self.gateway.recorder.as_ref()?;
        (self.prompt.freshness != Freshness::NotKept).then(|| recorder.draws(self.may_ask()))?
    }

    /// Asked twice, a prompt whose answer is kept upstream would count twice.
    fn may_ask(&self) -> bool {
        !(self.prompt.is_kept_upstream || self.prompt.one_tier)
    }

    fn ended(&self, bill: Option<Bill<C>>, flowed: Option<Flowed>, drawn: Option<bool>) {
        let Self { gateway, policy, prompt, trace, .. } = *self;
        let flowed_tokens = flowed.as_ref().map(|flowed| flowed.tokens);
        if let Some(mut bill) = bill {
            bill.add([(prompt, trace)].into_iter(), flowed_tokens);
        }
        gateway.meters.note(policy, prompt, trace, flowed.as_ref().map(|flowed| (flowed.end, flowed.tokens)));
        if gateway.audience.is_there() {
            // A stream ends now, a whole answer ended when the cascade did.
            let ago = gateway.clock.now().saturating_sub(self.arrived);
            let came = gateway.clock.since_1970().saturating_sub(ago);
            let ended = came + if flowed.is_some() { ago } else { trace.elapsed };
            gateway.audience.tell(self.told(flowed.as_ref(), came), ended);
        }
        if let (Some(recorder), Some(every_tier)) = (&gateway.recorder, drawn) {
            self.record(recorder, flowed, every_tier);
        }
    }

    /// What is told of it, which came at this time since 1970, to those who want to know.
    fn told(&self, flowed: Option<&Flowed>, came: Duration) -> Explanation {
        let Self { gateway, policy, prompt, trace, id, .. } = *self;
        let mut told = Explanation::of(policy, prompt, trace, id, false);
        told.at_ms = u64::try_from(came.as_millis()).ok();
        let Some(at) = trace.served else {
            let error = ApiError::exhausted(policy, trace, &gateway.not_recorded_hint);
            told.status = Some(error.status().as_u16());
            return told;
        };
        told.status = Some(StatusCode::OK.as_u16());
        let tokens = flowed.map(|flowed| flowed.tokens);
        if let Some(tokens) = tokens {
            let served = &mut told.attempts[at];
            (served.input_tokens, served.output_tokens) = (Some(tokens.input), Some(tokens.output));
        }
        let of = |taken_as: fn(Tokens) -> Tokens| {
            baseline(policy, prompt, &trace.attempts[at], tokens, taken_as).map(Usd::dollars)
        };
        told.is_broken = flowed.is_some_and(|flowed| flowed.end == End::Broken);
        told.is_less |= flowed.is_some_and(|flowed| flowed.end != End::Whole);
        told.baseline_usd = of(|tokens| tokens);
        told.baseline_if_cached_usd = of(|tokens| Tokens { cached_input: tokens.input, ..tokens });
        told
    }

    fn record(&self, recorder: &Arc<Recorder>, flowed: Option<Flowed>, every_tier: bool) {
        let Self { gateway, policy, ladder, prompt, trace, id, arrived } = *self;
        let name = |tier: usize| policy.tiers[tier].name.clone();
        let each = trace.attempts.iter().filter_map(|attempt| Some((name(attempt.tier), Word::of(attempt)?)));
        let mut answers: Vec<(String, Word)> = each.collect();
        if let (Some(flowed), Some(served)) = (flowed.filter(|flowed| flowed.end == End::Whole), trace.served())
            && let Ok(answer) = Answer::from_frames(prompt.endpoint, flowed.frames)
        {
            // How long all of it took nobody knows here; what is known is its first frame.
            let word = Word { said: Ok(Arc::new(answer)), elapsed: None, cost: served.own_cost() };
            answers.push((name(served.tier), word));
        }
        let is_there = |tier: &usize| answers.iter().any(|(known, _)| *known == policy.tiers[*tier].name);
        let already = ladder.tiers().iter().all(is_there);
        let propensity = recorder.propensity(self.may_ask(), every_tier, already);
        let mut heard = Heard { id: id.to_owned(), arrived, prompt: prompt.clone(), answers, propensity };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return recorder.note(heard) };
        if !every_tier || already {
            return recorder.note(heard);
        }
        let Some(place) = recorder.place() else { return };
        let (gateway, policy, ladder, recorder) = (gateway.clone(), policy.clone(), ladder.clone(), recorder.clone());
        // Off the client's path.
        runtime.spawn(async move {
            let known: Vec<&str> = heard.answers.iter().map(|(tier, _)| tier.as_str()).collect();
            let asked = gateway.cascade.ask_others(&policy, &ladder, &heard.prompt, &known).await;
            for attempt in asked {
                gateway.meters.shadow(&attempt);
                heard.answers.extend(Word::of(&attempt).map(|word| (policy.tiers[attempt.tier].name.clone(), word)));
            }
            recorder.note(heard);
            drop(place);
        });
    }
}

/// A stream, and what is noted of it once it has ended.
struct Followed<U: Upstream, C: Clock> {
    frames: Pin<Box<dyn Stream<Item = Result<Bytes, Failure>> + Send>>,
    following: Following<U, C>,
}

impl<U: Upstream, C: Clock> Stream for Followed<U, C> {
    type Item = Result<Bytes, Failure>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let frame = std::task::ready!(this.frames.as_mut().poll_next(context));
        this.following.see(frame.as_ref());
        Poll::Ready(frame)
    }
}

struct Following<U: Upstream, C: Clock> {
    gateway: Arc<Gateway<U, C>>,
    policy: Arc<Policy>,
    ladder: Ladder,
    prompt: Prompt,
    trace: Trace,
    id: String,
    bill: Option<Bill<C>>,
    _held: Option<Held>,
    arrived: Duration,
    drawn: Option<bool>,
    /// A frame holds a token, most often.
    frames: u64,
    counted: Option<Tokens>,
    kept: Vec<Bytes>,
    end: End,
}

impl<U: Upstream, C: Clock> Following<U, C> {
    fn see(&mut self, frame: Option<&Result<Bytes, Failure>>) {
        match frame {
            Some(Ok(data)) => {
                self.frames += 1;
                let counted = Gathered::usage_in(self.prompt.endpoint, data).and_then(tokens::of_usage);
                self.counted = counted.or(self.counted);
                if self.drawn.is_some() {
                    self.kept.push(data.clone());
                }
            }
            Some(Err(_)) => self.end = End::Broken,
            None => self.end = End::Whole,
        }
    }
}

impl<U: Upstream, C: Clock> Drop for Following<U, C> {
    fn drop(&mut self) {
        let tokens = self.counted.unwrap_or_else(|| {
            let input = tokens::estimate_prompt(&self.prompt);
            Tokens { input, cached_input: 0, output: self.frames, estimated: true }
        });
        let flowing = self.trace.attempts.iter_mut().find(|a| matches!(a.outcome, Outcome::Flowing { .. }));
        if let Some(attempt) = flowing {
            let price = self.policy.tiers[attempt.tier].price.as_ref();
            attempt.cost = Cost::of(price, None, || tokens).plus(attempt.judging);
        }
        let flowed = Flowed { tokens, end: self.end, frames: std::mem::take(&mut self.kept) };
        let bill = self.bill.take();
        let (arrived, drawn) = (self.arrived, self.drawn);
        let Self { gateway, policy, ladder, prompt, trace, id, .. } = self;
        Decided { gateway, policy, ladder, prompt, trace, id, arrived }.ended(bill, Some(flowed), drawn);
    }
}
