//! One model size: where it is, what it costs, what it takes, and when its answers
//! are good enough.

use super::{CacheRule, Capability, LimitRule, RetryRule, SimilarRule, Unscored, UpstreamShare, WhenFull};
use crate::price::Price;
use crate::prompt::Prompt;
use crate::scoring::{Gate, Score, Scorer};

/// One model size that can be asked.
#[derive(Clone, Debug)]
pub struct Tier {
    /// Its place in [`super::Policy::tiers`].
    pub index: usize,
    /// Its name.
    pub name: String,
    /// The upstream's name for the model.
    pub model: String,
    /// Where it is reached, at least one.
    pub upstreams: Vec<UpstreamShare>,
    /// How often it is tried.
    pub retries: RetryRule,
    /// List price, if given.
    pub price: Option<Price>,
    /// Its cache, if any.
    pub cache: Option<CacheRule>,
    /// When its answers to questions that are alike will do.
    pub similar: Option<SimilarRule>,
    /// Its limit, if any.
    pub limit: Option<LimitRule>,
    /// What its model can take; none: everything.
    pub can: Option<Vec<Capability>>,
    /// The longest prompt it reads, in estimated tokens.
    pub context_tokens: Option<u64>,
    /// When its answers are good enough.
    pub accept: Accept,
}

impl Tier {
    /// Whether token logprobs must be asked for.
    #[must_use]
    pub fn needs_logprobs(&self) -> bool {
        matches!(&self.accept, Accept::Checked(check) if check.scorers.iter().any(Scorer::needs_logprobs))
    }

    /// Whether it is asked for logprobs that the client has not asked for.
    #[must_use]
    pub fn adds_logprobs(&self, prompt: &Prompt) -> bool {
        self.needs_logprobs() && !prompt.asks_logprobs
    }

    /// Whether a prompt that finds it full is refused.
    #[must_use]
    pub fn refuses_when_full(&self) -> bool {
        self.limit.is_some_and(|limit| limit.when_full == WhenFull::Refuse)
    }

    /// Whether its answers may be judged for money.
    #[must_use]
    pub fn has_judge(&self) -> bool {
        matches!(&self.accept, Accept::Checked(check) if check.scorers.iter().any(|s| matches!(s, Scorer::Marked(_))))
    }

    /// Whether its scores are calibrated, so that they are chances.
    #[must_use]
    pub fn is_calibrated(&self) -> bool {
        matches!(&self.accept, Accept::Checked(check) if check.scorers.iter().all(|s| matches!(s, Scorer::Learned(_))))
    }
}

/// When an answer is good enough.
#[derive(Clone, Debug)]
pub enum Accept {
    /// Always. Only the last tier of the policy.
    Always,
    /// Gates, then a score.
    Checked(Check),
}

/// Gates and the score to reach.
#[derive(Clone, Debug)]
pub struct Check {
    /// Hard checks, in order.
    pub gates: Vec<Gate>,
    /// Scorers; the first that has something to go by counts. None: the gates decide.
    pub scorers: Vec<Scorer>,
    /// The least score at which the answer is served.
    pub at_least: Score,
    /// What to do when scorers are set and none has anything to go by.
    pub unscored: Unscored,
}
