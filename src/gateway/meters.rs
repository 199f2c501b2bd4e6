//! What is counted of requests and shown to a scraper.
//!
//! Invariant: counting takes no lock and no memory; labels are bounded by the policy.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::StatusCode;

use super::exposition::{Exposition, label};
use super::histogram::Histogram;
use crate::openai::Endpoint;
use crate::policy::Policy;
use crate::price::Usd;
use crate::prompt::Prompt;
use crate::tokens::{self, Tokens};
use crate::trace::{Attempt, Bound, CacheUse, Failure, Outcome, Trace, Why};

/// Where a request came in.
#[derive(Clone, Copy, Debug)]
pub(super) enum Way {
    /// To be cascaded.
    Cascaded(Endpoint),
    /// To be passed through.
    Passed,
}

/// How a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// With all of the answer.
    Whole,
    /// The upstream broke off.
    Broken,
    /// The client left.
    Left,
}

const WAYS: [&str; 4] = ["chat_completions", "completions", "responses", "passthrough"];
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];
const RESULTS: [&str; 4] = ["accepted", "rejected", "flowing", "failed"];
const REASONS: [&str; 4] = ["score", "gate", "unscored", "failed"];
const CACHES: [CacheUse; 5] = [CacheUse::Hit, CacheUse::Miss, CacheUse::Coalesced, CacheUse::Similar, CacheUse::Bypass];
const BOUNDS: [(Bound, &str); 4] = [
    (Bound::Requests, "requests"),
    (Bound::Tokens, "tokens"),
    (Bound::Concurrent, "concurrent"),
    (Bound::Pause, "pause"),
];
const KINDS: [&str; 4] = ["served", "rejected", "judge", "shadow"];
const SERVED: usize = 0;
const REJECTED: usize = 1;
const JUDGE: usize = 2;
const SHADOW: usize = 3;
const PHASES: [&str; 2] = ["waiting", "streaming"];

/// Seconds.
const TIMES: [f64; 14] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0];
const OVERHEADS: [f64; 10] = [0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.1, 1.0];
const SCORES: [f64; 20] =
    [0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0];

type Counts<const N: usize> = [AtomicU64; N];

/// All counts.
#[derive(Debug)]
pub(super) struct Meters {
    /// By way and class.
    requests: [Counts<5>; 4],
    tiers: Vec<Tier>,
    /// By tier, next tier and reason.
    escalations: Vec<Counts<4>>,
    overhead: Histogram<10>,
    first_token: Histogram<14>,
    /// In picodollars: of answers that were asked for, and from a cache.
    baseline: Counts<2>,
    /// What was spent on those.
    compared: Counts<2>,
    unpriced: AtomicU64,
    left: Counts<2>,
}

#[derive(Debug, Default)]
struct Tier {
    name: String,
    results: Counts<4>,
    refusals: Counts<4>,
    caches: Counts<5>,
    /// In picodollars.
    cost: Counts<4>,
    truncated: AtomicU64,
    score: Histogram<20>,
    upstream: Histogram<14>,
}

fn add(to: &AtomicU64, more: u64) {
    to.fetch_add(more, Ordering::Relaxed);
}

fn picodollars(usd: Usd) -> u64 {
    u64::try_from(usd.picodollars()).unwrap_or(0)
}

impl Meters {
    /// Nothing counted yet.
    pub fn new(policy: &Policy) -> Self {
        let tiers = policy.tiers.iter().map(|tier| Tier { name: tier.name.clone(), ..Tier::default() });
        let tiers: Vec<Tier> = tiers.collect();
        Self {
            requests: Default::default(),
            escalations: std::iter::repeat_with(Default::default).take(tiers.len() * tiers.len()).collect(),
            tiers,
            overhead: Histogram::default(),
            first_token: Histogram::default(),
            baseline: Counts::default(),
            compared: Counts::default(),
            unpriced: AtomicU64::new(0),
            left: Counts::default(),
        }
    }

    /// Whether these are the counts of the same tiers, so that they go on.
    pub fn fits(&self, policy: &Policy) -> bool {
        self.tiers.iter().map(|tier| &tier.name).eq(policy.tiers.iter().map(|tier| &tier.name))
    }

    /// A response begins.
    pub fn request(&self, way: Way, status: StatusCode) {
        let way = match way {
            Way::Cascaded(Endpoint::Chat) => 0,
            Way::Cascaded(Endpoint::Completions) => 1,
            Way::Cascaded(Endpoint::Responses) => 2,
            Way::Passed => 3,
        };
        let class = usize::from(status.as_u16() / 100).clamp(1, CLASSES.len()) - 1;
        add(&self.requests[way][class], 1);
    }

    /// A client left while it waited.
    pub fn left_waiting(&self) {
        add(&self.left[0], 1);
    }

    /// The first token of a stream is there.
    pub fn first_token(&self, after: Duration) {
        self.first_token.add(&TIMES, after.as_secs_f64());
    }

    /// An answer has ended, and what each attempt cost is known as far as it will be.
    /// `flowed`: of a stream, how it ended and how many tokens it took.
    pub fn note(&self, policy: &Policy, prompt: &Prompt, trace: &Trace, flowed: Option<(End, Tokens)>) {
        let mut waited = Duration::ZERO;
        for (at, attempt) in trace.attempts.iter().enumerate() {
            waited += attempt.elapsed;
            self.attempt(attempt, trace.served == Some(at));
            if let Some(next) = trace.attempts.get(at + 1)
                && let Some(reason) = reason(&attempt.outcome)
            {
                add(&self.escalations[attempt.tier * self.tiers.len() + next.tier][reason], 1);
            }
        }
        self.overhead.add(&OVERHEADS, trace.elapsed.saturating_sub(waited).as_secs_f64());
        let Some(served) = trace.served() else { return };
        match flowed {
            Some((End::Broken, _)) => add(&self.tiers[served.tier].truncated, 1),
            Some((End::Left, _)) => add(&self.left[1], 1),
            Some((End::Whole, _)) | None => {}
        }
        let tokens = flowed.map(|(_, tokens)| tokens);
        // Less than was asked for is not compared, nor where a side is not known.
        if trace.is_stand_in() || flowed.is_some_and(|(end, _)| end != End::Whole) {
            return;
        }
        let baseline = baseline(policy, prompt, served, tokens, |tokens| tokens);
        if let Some((spent, baseline)) = trace.cost().usd.zip(baseline) {
            let from = usize::from(served.cache.is_free());
            add(&self.baseline[from], picodollars(baseline));
            add(&self.compared[from], picodollars(spent));
        }
    }

    fn attempt(&self, attempt: &Attempt, is_served: bool) {
        let tier = &self.tiers[attempt.tier];
        let result = match &attempt.outcome {
            Outcome::Answered { verdict, .. } => usize::from(!verdict.is_accepted),
            Outcome::Flowing { .. } => 2,
            Outcome::Failed(_) => 3,
        };
        add(&tier.results[result], 1);
        if let Some(at) = CACHES.iter().position(|cache| *cache == attempt.cache) {
            add(&tier.caches[at], 1);
        }
        match &attempt.outcome {
            Outcome::Failed(Failure::Limited { by, .. }) => {
                if let Some(at) = BOUNDS.iter().position(|(bound, _)| bound == by) {
                    add(&tier.refusals[at], 1);
                }
            }
            Outcome::Failed(_) => {}
            Outcome::Answered { .. } | Outcome::Flowing { .. } => {
                if !attempt.cache.is_free() {
                    tier.upstream.add(&TIMES, attempt.elapsed.as_secs_f64());
                }
            }
        }
        if let Outcome::Answered { verdict, .. } = &attempt.outcome
            && let Why::Score { score, .. } = verdict.why
        {
            tier.score.add(&SCORES, score.value());
        }
        let kind = if is_served { SERVED } else { REJECTED };
        match (attempt.own_cost(), attempt.judging.usd) {
            (Some(own), Some(judging)) => {
                add(&tier.cost[kind], picodollars(own));
                add(&tier.cost[JUDGE], picodollars(judging));
            }
            _ => add(&self.unpriced, 1),
        }
    }

    /// A tier was asked for a recording only.
    pub fn shadow(&self, attempt: &Attempt) {
        match attempt.cost.usd {
            Some(cost) => add(&self.tiers[attempt.tier].cost[SHADOW], picodollars(cost)),
            None => add(&self.unpriced, 1),
        }
    }

    /// All of it in Prometheus' text format.
    pub fn text(&self) -> String {
        let mut out = Exposition::default();
        out.family("cascade_requests_total", "counter", "Responses by where the request came in");
        for (way, classes) in WAYS.iter().zip(&self.requests) {
            for (class, count) in CLASSES.iter().zip(classes) {
                out.count(&[("route", way), ("status_class", class)], count);
            }
        }
        let what = ("cascade_attempts_total", "Tiers asked, by what came of it");
        per_tier(&mut out, &self.tiers, what, ("result", RESULTS), |tier| &tier.results);
        out.family("cascade_escalations_total", "counter", "Prompts sent on to a larger tier, by why");
        for (at, reasons) in self.escalations.iter().enumerate() {
            let [from, to] = [at / self.tiers.len(), at % self.tiers.len()].map(|at| self.tiers[at].name.as_str());
            for (reason, count) in REASONS.iter().zip(reasons).filter(|(_, count)| count.load(Ordering::Relaxed) > 0) {
                out.count(&[("from", from), ("to", to), ("reason", reason)], count);
            }
        }
        let what = ("cascade_cache_events_total", "What caches did");
        per_tier(&mut out, &self.tiers, what, ("event", CACHES.map(CacheUse::word)), |tier| &tier.caches);
        let what = ("cascade_limit_refusals_total", "Prompts a tier's limits refused");
        per_tier(&mut out, &self.tiers, what, ("kind", BOUNDS.map(|(_, word)| word)), |tier| &tier.refusals);
        out.family("cascade_cost_usd_total", "counter", "Dollars, where prices are known");
        for tier in &self.tiers {
            for (kind, cost) in KINDS.iter().zip(&tier.cost) {
                out.dollars(&[("tier", &tier.name), ("kind", kind)], cost);
            }
        }
        for (name, help, costs) in [
            ("cascade_baseline_cost_usd_total", "Dollars the last tier alone would have cost", &self.baseline),
            (
                "cascade_compared_cost_usd_total",
                "Dollars spent on the requests that the baseline is of",
                &self.compared,
            ),
        ] {
            out.family(name, "counter", help);
            for (from, cost) in ["model", "cache"].iter().zip(costs) {
                out.dollars(&[("from", from)], cost);
            }
        }
        out.family("cascade_unpriced_total", "counter", "Attempts whose cost is not known, and is in no sum");
        out.count(&[], &self.unpriced);
        out.family("cascade_stream_truncations_total", "counter", "Streams the upstream broke off");
        self.tiers.iter().for_each(|tier| out.count(&[("tier", &tier.name)], &tier.truncated));
        out.family("cascade_client_disconnects_total", "counter", "Clients that left, or whose own time was up");
        PHASES.iter().zip(&self.left).for_each(|(phase, count)| out.count(&[("phase", phase)], count));
        out.family(
            "cascade_overhead_seconds",
            "histogram",
            "Time that was ours: all of it less upstreams' and caches'",
        );
        out.histogram("", &OVERHEADS, &self.overhead);
        out.family("cascade_time_to_first_token_seconds", "histogram", "Until the first token of a stream");
        out.histogram("", &TIMES, &self.first_token);
        out.family("cascade_upstream_seconds", "histogram", "Time to an answer, or to its first frame");
        for tier in &self.tiers {
            out.histogram(&label("tier", &tier.name), &TIMES, &tier.upstream);
        }
        out.family("cascade_score", "histogram", "Scores of answers");
        for tier in &self.tiers {
            out.histogram(&label("tier", &tier.name), &SCORES, &tier.score);
        }
        out.text
    }
}

/// Why the next tier was asked.
fn reason(outcome: &Outcome) -> Option<usize> {
    match outcome {
        Outcome::Answered { verdict, .. } => match verdict.why {
            _ if verdict.is_accepted => None,
            Why::Score { .. } => Some(0),
            Why::Gate(_) => Some(1),
            Why::Unscored | Why::LastTier => Some(2),
        },
        Outcome::Failed(_) => Some(3),
        Outcome::Flowing { .. } => None,
    }
}

/// What the last tier alone would have cost for as many tokens, by its price.
/// `flowed`: those of a stream, once it has ended.
pub(super) fn baseline(
    policy: &Policy,
    prompt: &Prompt,
    served: &Attempt,
    flowed: Option<Tokens>,
    taken_as: fn(Tokens) -> Tokens,
) -> Option<Usd> {
    let price = policy.top().price.as_ref()?;
    let tokens = match &served.outcome {
        Outcome::Answered { answer, .. } => Some(tokens::count(prompt, answer)),
        Outcome::Flowing { .. } => flowed,
        Outcome::Failed(_) => None,
    };
    tokens.map(|tokens| price.of(taken_as(tokens)))
}

/// A family with a sample for each tier and word.
fn per_tier<const N: usize>(
    out: &mut Exposition,
    tiers: &[Tier],
    (name, help): (&'static str, &str),
    (by, words): (&str, [&str; N]),
    counts: impl Fn(&Tier) -> &Counts<N>,
) {
    out.family(name, "counter", help);
    for tier in tiers {
        for (word, count) in words.iter().zip(counts(tier)) {
            out.count(&[("tier", &tier.name), (by, word)], count);
        }
    }
}
