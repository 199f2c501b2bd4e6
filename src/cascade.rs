//! The loop: carries out what `decision` says, and writes down what happens.
//!
//! Invariant: no rule is here, only asking, scoring and noting.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::decision::{Step, judge, next_step};
use crate::policy::{Accept, Ladder, Policy, Tier};
use crate::price::Cost;
use crate::prompt::Prompt;
use crate::scoring::{Evidence, Grade, grade};
use crate::tokens;
use crate::trace::{Attempt, CacheUse, Failure, Outcome, Trace};
use crate::upstream::{Delivery, Flow, Reply, Said, Upstream};

/// A policy in force over what can answer.
#[derive(Debug)]
pub struct Cascade<U, C> {
    /// The policy.
    pub policy: Arc<Policy>,
    upstream: U,
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

impl<U: Upstream, C: Clock> Cascade<U, C> {
    /// Runs `policy` over `upstream`, in the time of `clock`.
    pub fn new(policy: Arc<Policy>, upstream: U, clock: C) -> Self {
        Self { policy, upstream, clock }
    }

    /// Sends a prompt to the smallest tier of `ladder` whose answer is good
    /// enough. Dropping the future gives up whatever it waits for.
    pub async fn run(&self, ladder: &Ladder, prompt: &Prompt) -> Run {
        let start = self.clock.now();
        let mut trace = Trace::default();
        let mut flow = None;
        loop {
            match next_step(&self.policy, ladder, &trace) {
                Step::Ask { tier, is_last } => {
                    let asked_at = self.clock.now();
                    let delivery = if is_last { Delivery::Flow } else { Delivery::Hold };
                    let reply = self.upstream.ask(tier, prompt, delivery).await;
                    let elapsed = self.clock.now().saturating_sub(asked_at);
                    let attempt = attempt(tier, is_last, prompt, reply, elapsed, &trace, &mut flow);
                    trace.attempts.push(attempt);
                }
                Step::Serve(attempt) => {
                    trace.served = Some(attempt);
                    break;
                }
                Step::GiveUp => break,
            }
        }
        trace.elapsed = self.clock.now().saturating_sub(start);
        Run { trace, flow }
    }
}

fn attempt(
    tier: &Tier,
    is_last: bool,
    prompt: &Prompt,
    reply: Result<Reply, Failure>,
    elapsed: Duration,
    trace: &Trace,
    flow: &mut Option<Flow>,
) -> Attempt {
    let failed = |failure: Failure| Attempt {
        tier: tier.index,
        // Nobody knows what an answer that is not recorded would have cost.
        cost: if failure == Failure::NotRecorded { Cost::UNKNOWN } else { Cost::FREE },
        outcome: Outcome::Failed(failure),
        cache: CacheUse::Off,
        elapsed,
        quality: None,
    };
    let reply = match reply {
        Ok(reply) => reply,
        Err(failure) => return failed(failure),
    };
    let (outcome, cost) = match reply.said {
        Said::Flow(frames) => {
            *flow = Some(frames);
            (Outcome::Flowing, Cost::UNKNOWN)
        }
        Said::Whole(answer) => {
            let cost = if reply.cache.is_free() {
                Cost::FREE
            } else {
                Cost::of(tier.price.as_ref(), reply.recorded_cost, || tokens::count(prompt, &answer))
            };
            let verdict = judge(&tier.accept, is_last, || match &tier.accept {
                Accept::Checked(check) => {
                    let evidence = Evidence { prompt, answer: &answer, smaller: &trace.answers() };
                    grade(&check.gates, &check.scorers, &evidence)
                }
                Accept::Always => Grade::Unscored,
            });
            (Outcome::Answered { answer, verdict }, cost)
        }
    };
    Attempt { tier: tier.index, outcome, cost, cache: reply.cache, elapsed, quality: reply.quality }
}
