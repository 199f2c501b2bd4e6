//! Has answers judged where a policy's scores ask for it, and attaches the word as
//! a mark; scorers only read marks.
//!
//! Invariant: a mark that is there already, from a recording, is never asked for
//! again. A judge that gives none leaves the answer as it is.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;

use super::client::client;
use super::{CannotStart, Delivery, Reply, Said, Upstream};
use crate::answer::{Answer, Payload};
use crate::clock::Clock;
use crate::openai::Endpoint;
use crate::policy::{Accept, Policy, Tier, Timeouts};
use crate::price::Cost;
use crate::prompt::Prompt;
use crate::scoring::{Evidence, Judge, Scorer, asks_for_mark};
use crate::tokens::{self, Tokens};
use crate::trace::{Failure, Phase};

/// The most bytes of an external judge's word.
const MAX_WORD: usize = 64 << 10;
/// How long an external judge may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// The most characters of a prompt, and of an answer, that a judge is shown.
const MOST_CHARS: usize = 32_000;

/// Wraps what answers with those who judge.
#[derive(Debug)]
pub struct Judged<U, C> {
    inner: U,
    policy: Arc<Policy>,
    clock: C,
    /// For external judges; none where there is none, or nobody may be asked.
    client: Option<reqwest::Client>,
}

impl<U, C> Judged<U, C> {
    /// Wraps `inner`, the tiers of `policy`. External judges are not asked: in a
    /// replay nobody is.
    pub fn new(inner: U, policy: Arc<Policy>, clock: C) -> Self {
        Self { inner, policy, clock, client: None }
    }

    /// Asks external judges too.
    ///
    /// # Errors
    /// When one is named and no HTTP client can be made.
    pub fn with_external(self) -> Result<Self, CannotStart> {
        let checks = self.policy.tiers.iter().filter_map(|tier| match &tier.accept {
            Accept::Checked(check) => Some(check),
            Accept::Always => None,
        });
        let external = checks.flat_map(|check| &check.scorers).find_map(|scorer| match scorer {
            Scorer::Marked(marked) => match &marked.by {
                Judge::External(url) => Some(url.clone()),
                Judge::Itself | Judge::Tier(_) => None,
            },
            _ => None,
        });
        let timeouts = Timeouts { connect: Duration::from_secs(2), first_byte: PATIENCE, idle: PATIENCE, total: PATIENCE };
        let client = external.map(|url| client(&url, timeouts)).transpose()?;
        Ok(Self { client, ..self })
    }

    /// What is judged.
    pub fn map<V>(self, change: impl FnOnce(U) -> V) -> Judged<V, C> {
        Judged { inner: change(self.inner), policy: self.policy, clock: self.clock, client: self.client }
    }
}

impl<U: Upstream, C: Clock> Upstream for Judged<U, C> {
    async fn ask(&self, tier: &Tier, prompt: &Prompt, delivery: Delivery) -> Result<Reply, Failure> {
        let mut reply = self.inner.ask(tier, prompt, delivery).await?;
        let (Said::Whole(answer), Accept::Checked(check)) = (&mut reply.said, &tier.accept) else { return Ok(reply) };
        // What is served whatever it says needs no judge.
        if delivery == Delivery::Flow {
            return Ok(reply);
        }
        let evidence = Evidence { answer_pattern: self.policy.answer_pattern.as_ref(), ..Evidence::of(prompt, answer) };
        let Some(judge) = asks_for_mark(&check.gates, &check.scorers, &evidence) else { return Ok(reply) };
        if answer.marks.contains_key(judge.mark()) {
            reply.judging = self.recorded_cost(judge, tier, prompt, answer);
            return Ok(reply);
        }
        let word = match judge {
            Judge::Itself => self.ask_tier(tier, tier, prompt, answer).await,
            Judge::Tier(by) => self.ask_tier(&self.policy.tiers[*by], tier, prompt, answer).await,
            Judge::External(url) => self.ask_external(url, prompt, answer).await.map(|mark| (mark, Cost::FREE)),
        };
        match word {
            Ok((mark, cost)) => {
                reply.judging = cost;
                Arc::make_mut(answer).marks.insert(judge.mark().to_owned(), mark);
            }
            Err(failure) => tracing::warn!(tier = tier.name, judge = judge.name(), "not judged: {failure}"),
        }
        Ok(reply)
    }
}

impl<U: Upstream, C: Clock> Judged<U, C> {
    /// The chance of "true" in a tier's word on an answer, and what it cost.
    async fn ask_tier(
        &self,
        judge: &Tier,
        judged: &Tier,
        prompt: &Prompt,
        answer: &Answer,
    ) -> Result<(f64, Cost), Failure> {
        let odd = |why: &str| Failure::Malformed {
            content_type: format!("the judgement of {} on {}", judge.name, judged.name),
            why: crate::answer::NotAnAnswer::Shape(why.to_owned()),
        };
        let question = question(prompt, answer).map_err(|e| odd(&e))?;
        let reply = self.inner.ask(judge, &question, Delivery::Hold).await?;
        let Said::Whole(word) = &reply.said else { return Err(odd("frames")) };
        let mark = chance_of_true(word).ok_or_else(|| odd("neither T nor F"))?;
        let counted = || Cost::of(judge.price.as_ref(), reply.recorded_cost, || tokens::count(&question, word));
        Ok((mark, if reply.cache.is_free() { Cost::FREE } else { counted() }))
    }

    async fn ask_external(&self, url: &str, prompt: &Prompt, answer: &Answer) -> Result<f64, Failure> {
        #[derive(Deserialize)]
        struct Word {
            score: f64,
        }
        let client = self.client.as_ref().ok_or_else(|| Failure::Unreachable("external judges are not asked in a replay".to_owned()))?;
        let request: &serde_json::value::RawValue = serde_json::from_slice(prompt.body()).map_err(|e| malformed(&e.to_string()))?;
        let text = answer.choices.first().map_or("", |c| &c.text);
        let body = serde_json::to_vec(&serde_json::json!({"request": request, "answer": text}));
        let body = body.map_err(|e| malformed(&e.to_string()))?;
        let asked = async {
            let request = client.post(url).header("content-type", "application/json").body(body);
            let response = request.send().await.map_err(|e| Failure::Unreachable(super::client::innermost(&e)))?;
            let status = response.status().as_u16();
            let mut bytes = Vec::new();
            let mut response = response;
            while let Ok(Some(piece)) = response.chunk().await {
                bytes.extend_from_slice(&piece);
                if bytes.len() > MAX_WORD {
                    return Err(Failure::TooLarge { bound: MAX_WORD });
                }
            }
            if status != 200 {
                return Err(Failure::Refused { status, body: bytes.into(), retry_after: None });
            }
            let word: Word = serde_json::from_slice(&bytes).map_err(|e| malformed(&e.to_string()))?;
            if (0.0..=1.0).contains(&word.score) { Ok(word.score) } else { Err(malformed("a score outside 0..=1")) }
        };
        tokio::select! {
            word = asked => word,
            () = self.clock.sleep(PATIENCE) => Err(Failure::TimedOut { phase: Phase::WholeAnswer, bound: PATIENCE }),
        }
    }

    /// What a mark cost that a recording holds: by estimate, since its own tokens
    /// are not recorded.
    fn recorded_cost(&self, judge: &Judge, tier: &Tier, prompt: &Prompt, answer: &Answer) -> Cost {
        let by = match judge {
            Judge::Itself => tier,
            Judge::Tier(by) => &self.policy.tiers[*by],
            Judge::External(_) => return Cost::FREE,
        };
        let Ok(question) = question(prompt, answer) else { return Cost::UNKNOWN };
        let input = tokens::estimate_prompt(&question);
        Cost::of(by.price.as_ref(), None, || Tokens { input, cached_input: 0, output: 1, estimated: true })
    }
}

fn malformed(why: &str) -> Failure {
    let why = crate::answer::NotAnAnswer::Shape(why.to_owned());
    Failure::Malformed { content_type: "an external judge's word".to_owned(), why }
}

/// Asks whether an answer is right, for one letter and its chances.
fn question(prompt: &Prompt, answer: &Answer) -> Result<Prompt, String> {
    let held = |text: &str| text.chars().take(MOST_CHARS).collect::<String>();
    let asked = held(&prompt.texts().join("\n\n"));
    let said = held(answer.choices.first().map_or("", |c| &c.text));
    let text = format!(
        "Question:\n{asked}\n\nProposed answer:\n{said}\n\nIs the proposed answer correct? Reply with one letter: T if it is, F if it is not."
    );
    let body = serde_json::json!({"model": "", "messages": [{"role": "user", "content": text}],
        "temperature": 0, "max_tokens": 1, "logprobs": true, "top_logprobs": 5});
    Prompt::parse(Endpoint::Chat, Bytes::from(body.to_string())).map_err(|e| e.to_string())
}

/// p(T) / (p(T) + p(F)) of the first token (Kadavath et al. 2022, "Language models
/// (mostly) know what they know"); without chances 1 or 0 by the letter itself.
fn chance_of_true(word: &Answer) -> Option<f64> {
    #[derive(Deserialize)]
    struct Body {
        choices: Vec<Choice>,
    }
    #[derive(Deserialize)]
    struct Choice {
        #[serde(default)]
        logprobs: Option<Logprobs>,
    }
    #[derive(Deserialize)]
    struct Logprobs {
        #[serde(default)]
        content: Vec<Token>,
    }
    #[derive(Deserialize)]
    struct Token {
        #[serde(default)]
        top_logprobs: Vec<Alternative>,
    }
    #[derive(Deserialize)]
    struct Alternative {
        token: String,
        logprob: f64,
    }
    let letter = |text: &str| text.trim_start().chars().next().map(|c| c.to_ascii_uppercase());
    let alternatives = || {
        let Payload::Whole(body) = &word.payload else { return None };
        let body: Body = serde_json::from_slice(body).ok()?;
        body.choices.into_iter().next()?.logprobs?.content.into_iter().next().map(|token| token.top_logprobs)
    };
    let chance = |wanted: char, all: &[Alternative]| -> f64 {
        all.iter().filter(|a| letter(&a.token) == Some(wanted)).map(|a| a.logprob.exp()).sum()
    };
    if let Some(all) = alternatives() {
        let (yes, no) = (chance('T', &all), chance('F', &all));
        if yes + no > 0.0 {
            return Some((yes / (yes + no)).clamp(0.0, 1.0));
        }
    }
    match letter(&word.choices.first()?.text)? {
        'T' => Some(1.0),
        'F' => Some(0.0),
        _ => None,
    }
}
