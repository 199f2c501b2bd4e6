//! Why a prompt went the way it did: each attempt with its score, what it had to
//! reach, what moved it most, and what would have turned the verdict.
//!
//! Invariant: told from the trace and the policy alone; nothing is asked again.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::policy::{Accept, Check, Policy, Tier};
use crate::prompt::Prompt;
use crate::scoring::features::Features;
use crate::scoring::learned::Learned;
use crate::scoring::{Evidence, Scorer};
use crate::stopping::{Act, Cuts};
use crate::tokens;
use crate::trace::{Outcome, Trace, Why};

/// Features told of each score; the others moved it less.
const TOLD: usize = 5;

/// One prompt's way through a policy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// The request's or the exchange's id.
    pub id: String,
    /// When it came, in milliseconds since 1970; none where it is not served.
    #[serde(default)]
    pub at_ms: Option<u64>,
    /// The trace it is a part of, as its client said in `traceparent`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// The HTTP status of the answer; none where it is not served.
    #[serde(default)]
    pub status: Option<u16>,
    /// The policy's digest.
    pub policy: String,
    /// Where it came in, such as `/chat/completions`.
    #[serde(default)]
    pub endpoint: String,
    /// The model that the client named.
    #[serde(default)]
    pub model: String,
    /// What was asked, the beginning of it; empty where texts are not to be kept.
    pub question: String,
    /// Why it started where it did.
    pub start: String,
    /// Every tier asked, in order.
    pub attempts: Vec<Told>,
    /// The tier served; none: every tier failed.
    pub served: Option<String>,
    /// What all of it cost, in dollars; none: unknown.
    pub cost_usd: Option<f64>,
    /// What the last tier alone would have cost for as many tokens, in dollars; none:
    /// unknown.
    #[serde(default)]
    pub baseline_usd: Option<f64>,
    /// The same if its provider had the whole prompt in its cache.
    #[serde(default)]
    pub baseline_if_cached_usd: Option<f64>,
    /// Whether a rejected answer stood in, or a stream was cut or left before its end.
    #[serde(default)]
    pub is_less: bool,
    /// Whether it is less since the upstream broke its stream off.
    #[serde(default)]
    pub is_broken: bool,
    /// How long it took, in milliseconds.
    pub elapsed_ms: f64,
}

/// One attempt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Told {
    /// The tier.
    pub tier: String,
    /// Its model.
    #[serde(default)]
    pub model: String,
    /// What came of it, as in `x-cascade-attempts`.
    pub outcome: String,
    /// The score, 0..=1; none where there was none.
    pub score: Option<f64>,
    /// What it had to reach, or had reached.
    pub threshold: Option<f64>,
    /// What by the score would have been done.
    pub would: String,
    /// What moved a learned score most, from what is usual, in log odds.
    pub moved: Vec<Moved>,
    /// Log odds it lacked to be served (above 0), or could have spared (below).
    pub log_odds_to_turn: Option<f64>,
    /// What the tier's cache did, as in `x-cascade-cache`.
    #[serde(default)]
    pub cache: String,
    /// Tokens of the prompt, as counted or else estimated; none where there is no answer.
    #[serde(default)]
    pub input_tokens: Option<u64>,
    /// Tokens of the answer.
    #[serde(default)]
    pub output_tokens: Option<u64>,
    /// Dollars; none: unknown.
    pub cost_usd: Option<f64>,
    /// Of these, what having it judged took.
    #[serde(default)]
    pub judging_usd: Option<f64>,
    /// Milliseconds.
    pub elapsed_ms: f64,
}

/// What a feature did to a score.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Moved {
    /// The feature.
    pub feature: String,
    /// Its value.
    pub value: f64,
    /// What it added to the log odds.
    pub effect: f64,
}

impl Explanation {
    /// Explains a trace. `keeps_text` says whether the question may be told.
    #[must_use]
    pub fn of(policy: &Policy, prompt: &Prompt, trace: &Trace, id: &str, keeps_text: bool) -> Self {
        const QUESTION_CHARS: usize = 200;
        const MODEL_CHARS: usize = 100;
        // Read only where it is told: that takes a pass over all messages.
        let question = || prompt.asked().question.chars().take(QUESTION_CHARS).collect();
        let mut attempts = Vec::new();
        for at in 0..trace.attempts.len() {
            attempts.push(told(policy, prompt, trace, at));
        }
        Self {
            id: id.to_owned(),
            at_ms: None,
            traceparent: prompt.headers.get("traceparent").and_then(|value| traceparent(value.to_str().ok()?)),
            status: None,
            policy: policy.digest.clone(),
            endpoint: prompt.endpoint.path().to_owned(),
            model: prompt.model.chars().take(MODEL_CHARS).collect(),
            question: if keeps_text { question() } else { String::new() },
            start: start(policy, prompt, trace),
            attempts,
            served: trace.served().map(|attempt| policy.tiers[attempt.tier].name.clone()),
            cost_usd: trace.cost().usd.map(crate::price::Usd::dollars),
            baseline_usd: None,
            baseline_if_cached_usd: None,
            is_less: trace.is_stand_in(),
            is_broken: false,
            elapsed_ms: trace.elapsed.as_secs_f64() * 1000.0,
        }
    }

    /// For a person.
    #[must_use]
    pub fn text(&self) -> String {
        let usd = |cost: Option<f64>| cost.map_or("unknown".to_owned(), |usd| format!("${usd:.9}"));
        let mut out = format!("{}  policy {}\n", self.id, self.policy);
        if !self.question.is_empty() {
            let _ = writeln!(out, "asked     {}", self.question.replace('\n', " "));
        }
        let _ = writeln!(out, "start     {}", self.start);
        for told in &self.attempts {
            let _ = writeln!(out, "\n{}  {}", told.tier, told.outcome);
            if let (Some(score), Some(threshold)) = (told.score, told.threshold) {
                let _ = writeln!(out, "  score   {score:.4}, threshold {threshold:.4}");
            }
            if !told.would.is_empty() {
                let _ = writeln!(out, "  by it   {}", told.would);
            }
            for moved in &told.moved {
                let _ = writeln!(out, "  moved   {:+.3} by {} = {:.4}", moved.effect, moved.feature, moved.value);
            }
            match told.log_odds_to_turn {
                Some(lacked) if lacked > 0.0 => {
                    _ = writeln!(out, "  flip    {lacked:+.3} in log odds, and it would have been served");
                }
                Some(spare) => {
                    _ = writeln!(out, "  flip    {spare:+.3} in log odds, and it would not have been served");
                }
                None => {}
            }
            let _ = writeln!(out, "  cost    {}, {:.1} ms", usd(told.cost_usd), told.elapsed_ms);
        }
        let served = self.served.as_deref().unwrap_or("nothing: every tier failed");
        let _ = writeln!(out, "\nserved    {served}, {} in all, {:.1} ms", usd(self.cost_usd), self.elapsed_ms);
        out
    }
}

/// A header of this name, where it may be one by its form: no other words get in.
fn traceparent(text: &str) -> Option<String> {
    const LONGEST: usize = 128;
    let is_form = text.len() <= LONGEST && text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    is_form.then(|| text.to_owned())
}

fn start(policy: &Policy, prompt: &Prompt, trace: &Trace) -> String {
    let first = trace.attempts.first().map_or("none", |attempt| &policy.tiers[attempt.tier].name);
    match &policy.stopping {
        Some(stopping) if stopping.reads_prompts() => {
            let easiness = stopping.prompts.as_ref().map_or(0.5, |model| model.of(prompt));
            format!("{first}: the prompt looks {easiness:.2} easy; {}", would(policy, &stopping.point().start))
        }
        Some(_) => format!("{first}, whatever is asked"),
        None => format!("{first}, the smallest tier of its ladder"),
    }
}

fn told(policy: &Policy, prompt: &Prompt, trace: &Trace, at: usize) -> Told {
    let attempt = &trace.attempts[at];
    let tier = &policy.tiers[attempt.tier];
    let (score, threshold) = match &attempt.outcome {
        Outcome::Answered { verdict, .. } => match verdict.why {
            Why::Score { score, at_least } => (Some(score.value()), Some(at_least.value())),
            Why::LastTier | Why::Gate(_) | Why::Unscored => (None, None),
        },
        Outcome::Flowing { .. } | Outcome::Failed(_) => (None, None),
    };
    let before = Trace { attempts: trace.attempts[..at].to_vec(), ..Trace::default() };
    let after = before.asked();
    let learned = learned_of(tier, after);
    let features = match (&attempt.outcome, learned) {
        (Outcome::Answered { answer, seen, .. }, Some(_)) if score.is_some() => {
            let (smaller, answer_pattern) = (before.answers(), policy.answer_pattern.as_ref());
            let evidence = Evidence::of(prompt, answer, seen);
            Some(Features::of(&Evidence { smaller: &smaller, after, answer_pattern, ..evidence }))
        }
        _ => None,
    };
    let moved = learned.zip(features.as_ref()).map_or(Vec::new(), |(model, features)| model.effects(features));
    let would = match (&policy.stopping, &tier.accept) {
        _ if score.is_none() => String::new(),
        (Some(stopping), _) => would(policy, stopping.cuts(tier.index, after)),
        (None, Accept::Checked(check)) => by_threshold(policy, tier, check),
        (None, Accept::Always) => String::new(),
    };
    let tokens = match &attempt.outcome {
        Outcome::Answered { answer, .. } => Some(tokens::count(prompt, answer)),
        Outcome::Flowing { .. } | Outcome::Failed(_) => None,
    };
    Told {
        tier: tier.name.clone(),
        model: tier.model.clone(),
        outcome: attempt.outcome.to_string(),
        score,
        threshold,
        would,
        moved: moved
            .into_iter()
            .take(TOLD)
            .map(|e| Moved { feature: e.feature.to_owned(), value: e.value, effect: e.effect })
            .collect(),
        log_odds_to_turn: learned
            .zip(features.as_ref())
            .zip(threshold.filter(|t| *t > 0.0 && *t < 1.0))
            .map(|((model, features), threshold)| model.log_odds_to(features, threshold)),
        cache: attempt.cache.word().to_owned(),
        input_tokens: tokens.map(|tokens| tokens.input),
        output_tokens: tokens.map(|tokens| tokens.output),
        cost_usd: attempt.cost.usd.map(crate::price::Usd::dollars),
        judging_usd: attempt.judging.usd.map(crate::price::Usd::dollars),
        elapsed_ms: attempt.elapsed.as_secs_f64() * 1000.0,
    }
}

/// The learned score of a tier in a state, where it has one.
fn learned_of(tier: &Tier, after: u32) -> Option<&Learned> {
    let Accept::Checked(check) = &tier.accept else { return None };
    check.scorers.iter().find_map(|scorer| match scorer {
        Scorer::Learned(each) => each.get(after as usize & (each.len() - 1)),
        _ => None,
    })
}

/// `below 0.31 davinci, below 0.62 curie, else served`.
fn would(policy: &Policy, cuts: &Cuts) -> String {
    let name = |act: &Act| match act {
        Act::Serve => "served",
        Act::Ask(tier) => policy.tiers.get(*tier).map_or("?", |tier| &tier.name),
    };
    let last = cuts.0.len() - 1;
    let each = cuts.0.iter().enumerate().map(|(at, (bound, act))| match at {
        at if at == last && last == 0 => format!("always {}", name(act)),
        at if at == last => format!("else {}", name(act)),
        _ => format!("below {bound:.4} {}", name(act)),
    });
    each.collect::<Vec<_>>().join(", ")
}

fn by_threshold(policy: &Policy, tier: &Tier, check: &Check) -> String {
    let next = policy.tiers.get(tier.index + 1).map_or("nothing", |tier| &tier.name);
    format!("below {:.4} {next}, else served", check.at_least.value())
}
