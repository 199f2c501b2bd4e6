//! The loop: carries out what `decision` says, and writes down what happens.
//!
//! Invariant: no rule is here, only asking, scoring and noting.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use futures_util::{StreamExt, stream};

use crate::answer::Answer;
use crate::clock::Clock;
use crate::conversation::Conversations;
use crate::decision::{Step, judge, next_step};
use crate::drift::{Drift, DriftStatus};
use crate::outcomes::final_form;
use crate::policy::{Accept, Ladder, Policy, Tier};
use crate::price::{Cost, Usd};
use crate::prompt::Prompt;
use crate::scoring::{Evidence, Grade, Seen, grade, grade_prefix};
use crate::tokens;
use crate::trace::{Attempt, CacheUse, Failure, Outcome, Trace, Why};
use crate::upstream::{Delivery, Flow, Heir, Holding, Reply, Said, Upstream};

/// A policy in force over what can answer.
#[derive(Debug)]
pub struct Cascade<U, C> {
    policy: ArcSwap<Policy>,
    drift: Option<Arc<Drift>>,
    upstream: U,
    conversations: Conversations<C>,
    clock: C,
}

/// What became of a prompt.
#[derive(Debug)]
pub struct Run {
    /// All that happened; says which attempt is served, if any.
    pub trace: Trace,
    /// The frames of the served attempt where they are still on their way.
    pub flow: Option<Flow>,
}

/// One tier being asked.
#[derive(Clone, Copy)]
struct Asking<'a> {
    policy: &'a Policy,
    tier: &'a Tier,
    is_last: bool,
    prompt: &'a Prompt,
    /// What happened before.
    trace: &'a Trace,
}

/// An outcome, and the frames that still come where it is a flow.
type Judged = (Outcome, Cost, Option<Flow>);

impl<U, C> Cascade<U, C> {
    /// The policy in force.
    #[must_use]
    pub fn policy(&self) -> Arc<Policy> {
        self.policy.load_full()
    }

    /// Whether this prompt is to be compared with the largest tier's answer.
    #[must_use]
    pub fn is_sampled(&self) -> bool {
        self.drift.as_ref().is_some_and(|drift| drift.picks())
    }

    /// Where the watch over the calibration stands; none where nothing is watched.
    #[must_use]
    pub fn drift_status(&self) -> Option<DriftStatus> {
        Some(self.drift.as_ref()?.status(&self.policy()))
    }
}

impl<U: Heir, C: Clock> Heir for Cascade<U, C> {
    fn inherit(&mut self, before: &Self) {
        self.upstream.inherit(&before.upstream);
        let (mine, theirs) = (self.policy(), before.policy());
        let names = |policy: &Policy| policy.tiers.iter().map(|tier| tier.name.clone()).collect::<Vec<_>>();
        if names(&mine) == names(&theirs) {
            self.conversations.inherit(&before.conversations);
        }
        // A fall back to a safer point outlives a reload of the same calibration.
        if let Some(same) = mine.standing_where(&theirs) {
            self.policy.store(Arc::new(same));
            self.drift.clone_from(&before.drift);
        }
    }
}

impl<U: Upstream, C: Clock> Cascade<U, C> {
    /// What is held for `tier` right now.
    #[must_use]
    pub fn holding(&self, tier: &Tier) -> Holding {
        self.upstream.holding(tier)
    }

    /// Runs `policy` over `upstream`, in the time of `clock`.
    pub fn new(policy: Arc<Policy>, upstream: U, clock: C) -> Self {
        let conversations = Conversations::new(&policy, clock.clone());
        Self { drift: Drift::of(&policy).map(Arc::new), policy: ArcSwap::new(policy), upstream, conversations, clock }
    }

    /// Compares what was served under `policy` with what the largest tier says, and
    /// falls back to a safer point where the calibration no longer holds.
    pub async fn compare_with_top(&self, policy: &Arc<Policy>, prompt: &Prompt, trace: &Trace) {
        let Some(drift) = &self.drift else { return };
        let Some(_place) = drift.place() else { return };
        let Some(served) = trace.served().filter(|_| !trace.is_stand_in() && !prompt.is_kept_upstream) else { return };
        let top = policy.top();
        let loss = match &served.outcome {
            _ if served.tier == top.index => Some(0.0),
            Outcome::Answered { answer, .. } => {
                let said = self.upstream.ask(top, prompt, Delivery::Hold).await.ok().map(|reply| reply.said);
                match said {
                    Some(Said::Whole(by_top)) => {
                        let form = |answer| final_form(policy, Some(answer));
                        Some(1.0 - form(answer).likeness(&form(&by_top)))
                    }
                    _ => None,
                }
            }
            Outcome::Flowing { .. } | Outcome::Failed(_) => None,
        };
        // Another point has come into force meanwhile: of that one this says nothing.
        if !Arc::ptr_eq(policy, &self.policy()) {
            return;
        }
        let before = drift.status(policy);
        if let Some(safer) = drift.add(policy, loss) {
            let point = safer.stopping.as_ref().map_or(0, |stopping| stopping.in_force);
            tracing::error!(
                compared = before.compared + 1,
                from = before.point,
                to = point,
                "the calibration no longer holds: answers differ from {}'s more than they did; falling back to a safer point, calibrate again",
                top.name
            );
            self.policy.store(Arc::new(safer));
        }
    }

    /// Sends a prompt to the smallest tier of `ladder` whose answer is good
    /// enough. Dropping the future gives up whatever it waits for.
    pub async fn run(&self, ladder: &Ladder, prompt: &Prompt) -> Run {
        let start = self.clock.now();
        let policy = &*self.policy();
        let ladder = &self.conversations.narrowed(&policy.started(ladder, prompt), prompt).await;
        let mut trace = Trace::default();
        let mut flow = None;
        trace.attempts.extend(self.recalled(policy, ladder, prompt).await);
        loop {
            match next_step(policy, ladder, prompt.stream, &trace) {
                Step::Ask { tier, is_last, delivery } => {
                    let asking = Asking { policy, tier, is_last, prompt, trace: &trace };
                    let (attempt, flowing) = self.ask(asking, delivery).await;
                    flow = flowing;
                    trace.attempts.push(attempt);
                }
                Step::Serve(attempt) => {
                    trace.served = Some(attempt);
                    break;
                }
                Step::GiveUp => break,
            }
        }
        self.conversations.note(ladder, prompt, &trace).await;
        trace.elapsed = self.clock.now().saturating_sub(start);
        Run { trace, flow }
    }

    /// What the tiers of `ladder` say that are not `known` by name: each is asked, for a
    /// recording only.
    pub async fn ask_others(&self, policy: &Policy, ladder: &Ladder, prompt: &Prompt, known: &[&str]) -> Vec<Attempt> {
        let mut asked = Vec::new();
        for tier in ladder.tiers().iter().map(|tier| &policy.tiers[*tier]) {
            if !known.contains(&tier.name.as_str()) {
                let trace = &Trace::default();
                let asking = Asking { policy, tier, is_last: tier.index == ladder.last(), prompt, trace };
                asked.push(self.ask(asking, Delivery::Hold).await.0);
            }
        }
        asked
    }

    /// The answer that a larger tier has given already, where it may stand for a smaller
    /// one's and would be accepted.
    async fn recalled(&self, policy: &Policy, ladder: &Ladder, prompt: &Prompt) -> Option<Attempt> {
        let larger = ladder.tiers().iter().skip(1).map(|tier| &policy.tiers[*tier]);
        for tier in larger.filter(|tier| tier.cache.is_some_and(|cache| cache.for_smaller)) {
            let asked_at = self.clock.now();
            let Some(reply) = self.upstream.recall(tier, prompt).await else { continue };
            let asking =
                Asking { policy, tier, is_last: tier.index == ladder.last(), prompt, trace: &Trace::default() };
            let (attempt, _) = self.attempt(asking, asked_at, Ok(reply), Delivery::Hold).await;
            if matches!(&attempt.outcome, Outcome::Answered { verdict, .. } if verdict.is_accepted) {
                return Some(attempt);
            }
        }
        None
    }

    async fn ask(&self, asking: Asking<'_>, delivery: Delivery) -> (Attempt, Option<Flow>) {
        let asked_at = self.clock.now();
        let reply = self.upstream.ask(asking.tier, asking.prompt, delivery).await;
        self.attempt(asking, asked_at, reply, delivery).await
    }

    /// What a reply makes of an attempt that began at `asked_at`.
    async fn attempt(
        &self,
        asking: Asking<'_>,
        asked_at: Duration,
        reply: Result<Reply, Failure>,
        delivery: Delivery,
    ) -> (Attempt, Option<Flow>) {
        let told = reply.as_ref().map_or((CacheUse::Off, None, Cost::FREE), |r| (r.cache, r.quality, r.judging));
        let (cache, quality, judging) = told;
        let judged = match reply {
            Ok(reply) => asking.take(reply, delivery).await,
            Err(failure) => Err(failure),
        };
        let (outcome, cost, flow) = judged.unwrap_or_else(|failure| {
            // Nobody knows what an answer that is not recorded would have cost.
            let cost = if failure == Failure::NotRecorded { Cost::UNKNOWN } else { Cost::FREE };
            (Outcome::Failed(failure), cost, None)
        });
        let elapsed: Duration = self.clock.now().saturating_sub(asked_at);
        (Attempt { tier: asking.tier.index, outcome, cost: cost.plus(judging), judging, cache, elapsed, quality }, flow)
    }
}

impl Asking<'_> {
    /// What becomes of a reply.
    async fn take(self, reply: Reply, delivery: Delivery) -> Result<Judged, Failure> {
        let is_free = reply.cache.is_free();
        match (reply.said, delivery) {
            (Said::Whole(answer), _) => Ok(self.judge_whole(answer, is_free, reply.recorded_cost)),
            (Said::Flow(flow), Delivery::Prefix(tokens)) => self.judge_prefix(flow, tokens.get() as usize).await,
            (Said::Flow(flow), _) => Ok((Outcome::Flowing { why: Why::LastTier }, Cost::UNKNOWN, Some(flow))),
        }
    }

    fn judge_whole(self, answer: Arc<Answer>, is_free: bool, recorded_cost: Option<Usd>) -> Judged {
        let Self { policy, tier, is_last, prompt, trace } = self;
        let (after, seen) = (trace.asked(), Seen::default());
        let verdict = judge(policy, tier, is_last, after, || match &tier.accept {
            Accept::Checked(check) => {
                let answer_pattern = policy.answer_pattern.as_ref();
                let smaller = &trace.answers();
                let evidence = Evidence { prompt, answer: &answer, seen: &seen, smaller, after, answer_pattern };
                grade(&check.gates, &check.scorers, &evidence)
            }
            Accept::Always => Grade::Unscored,
        });
        let counted = || Cost::of(tier.price.as_ref(), recorded_cost, || tokens::count(prompt, &answer));
        let cost = if is_free { Cost::FREE } else { counted() };
        (Outcome::Answered { answer, seen, verdict }, cost, None)
    }

    /// Commits to a flow as soon as its first tokens are good enough; else takes
    /// it whole.
    async fn judge_prefix(self, mut flow: Flow, tokens: usize) -> Result<Judged, Failure> {
        let mut frames: Vec<Bytes> = Vec::new();
        let mut is_judged = false;
        while let Some(frame) = flow.frames.next().await {
            frames.push(frame?);
            // A frame holds a token, most often; none holds fewer than that.
            if is_judged || frames.len() <= tokens {
                continue;
            }
            is_judged = true;
            if let Some(why) = self.verdict_on(&frames) {
                let begun = stream::iter(frames.into_iter().map(Ok));
                let frames = begun.chain(flow.frames).boxed();
                return Ok((Outcome::Flowing { why }, Cost::UNKNOWN, Some(Flow { frames, headers: flow.headers })));
            }
        }
        let malformed = |why| Failure::Malformed { content_type: "an event stream".to_owned(), why };
        let mut answer = Answer::from_frames(self.prompt.endpoint, frames).map_err(malformed)?;
        answer.headers = flow.headers;
        Ok(self.judge_whole(Arc::new(answer), false, None))
    }

    /// Why the first frames are good enough to commit to, if they are.
    fn verdict_on(self, frames: &[Bytes]) -> Option<Why> {
        let Accept::Checked(check) = &self.tier.accept else { return None };
        let answer = Answer::from_frames(self.prompt.endpoint, frames.to_vec()).ok()?;
        let seen = Seen::default();
        let evidence = Evidence { after: self.trace.asked(), ..Evidence::of(self.prompt, &answer, &seen) };
        let grade = grade_prefix(&check.gates, &check.scorers, &evidence)?;
        let verdict = judge(self.policy, self.tier, self.is_last, evidence.after, || grade);
        verdict.is_accepted.then_some(verdict.why)
    }
}
