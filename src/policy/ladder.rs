//! Which tiers a prompt may be sent to.

use std::sync::Arc;

use super::{Policy, did_you_mean};
use crate::prompt::Prompt;
use crate::tokens::estimate_prompt;

/// The tiers that one prompt may be sent to, by place, smallest first, at
/// least one. The last of them is served unchecked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ladder(Arc<[usize]>);

impl Ladder {
    pub(super) fn new(tiers: &[usize]) -> Self {
        Self(tiers.into())
    }

    /// The tiers by place.
    #[must_use]
    pub fn tiers(&self) -> &[usize] {
        &self.0
    }

    /// The tier that is served unchecked.
    #[must_use]
    pub fn last(&self) -> usize {
        self.0[self.0.len() - 1]
    }
}

/// Every ladder a policy can give, made once.
#[derive(Clone, Debug)]
pub(super) struct Ladders {
    whole: Ladder,
    top: Ladder,
    of_route: Vec<Ladder>,
    pinned: Vec<Ladder>,
}

impl Ladders {
    pub(super) fn new(tiers: usize, routes: &[super::Route]) -> Self {
        let all: Vec<usize> = (0..tiers).collect();
        Self {
            whole: Ladder::new(&all),
            top: Ladder::new(&[tiers - 1]),
            of_route: routes.iter().map(|r| Ladder::new(&r.tiers)).collect(),
            pinned: all.iter().map(|t| Ladder::new(&[*t])).collect(),
        }
    }
}

/// The client named a model that the policy does not know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownModel {
    /// What it named.
    pub model: String,
    /// A known name that may be meant.
    pub meant: Option<String>,
}

impl Policy {
    /// The tiers this prompt may be sent to: a pinned tier's name first, then
    /// the first route that matches, then the whole ladder. A prompt that must
    /// not be asked twice goes to the last of them alone.
    ///
    /// # Errors
    /// When the client names a model that neither the policy, a route nor a
    /// tier is called.
    pub fn ladder_for(&self, prompt: &Prompt) -> Result<Ladder, UnknownModel> {
        if let Some(tier) = self.tiers.iter().find(|t| t.name == prompt.model) {
            return Ok(self.ladders.pinned[tier.index].clone());
        }
        if prompt.model != self.name && !self.routes.iter().any(|route| route.names(&prompt.model)) {
            let meant = did_you_mean(&prompt.model, self.model_names()).map(str::to_owned);
            return Err(UnknownModel { model: prompt.model.clone(), meant });
        }
        Ok(self.ladder_of_known(prompt))
    }

    /// The ladder of a replayed prompt: as [`Policy::ladder_for`], but a model
    /// the policy does not know counts as the policy's own name, since
    /// recordings keep the name the client used then.
    #[must_use]
    pub fn ladder_for_recorded(&self, prompt: &Prompt) -> Ladder {
        self.ladder_for(prompt).unwrap_or_else(|_| self.ladder_of_known(prompt))
    }

    fn ladder_of_known(&self, prompt: &Prompt) -> Ladder {
        let route = self.routes.iter().position(|route| route.matches(prompt));
        let ladder = route.map_or(&self.ladders.whole, |at| &self.ladders.of_route[at]);
        match (prompt.one_tier, ladder.tiers()) {
            (false, _) | (true, [_]) => ladder.clone(),
            (true, _) if ladder.last() == self.top().index => self.ladders.top.clone(),
            (true, _) => Ladder::new(&[ladder.last()]),
        }
    }

    /// The names that clients may use as `model`: the policy's, the routes'
    /// and the tiers', each once.
    pub fn model_names(&self) -> impl Iterator<Item = &str> {
        let routes = self.routes.iter().filter_map(|r| r.model.as_deref()).filter(|m| !m.ends_with('*'));
        let mut seen = std::collections::HashSet::new();
        let all = std::iter::once(self.name.as_str()).chain(routes).chain(self.tiers.iter().map(|t| t.name.as_str()));
        all.filter(move |name| seen.insert(*name))
    }
}

impl super::Route {
    fn names(&self, model: &str) -> bool {
        self.model.as_deref().is_some_and(|pattern| match pattern.strip_suffix('*') {
            Some(start) => model.starts_with(start),
            None => model == pattern,
        })
    }

    fn matches(&self, prompt: &Prompt) -> bool {
        (self.model.is_none() || self.names(&prompt.model))
            && self.tools.is_none_or(|wanted| wanted == prompt.has_tools)
            && self.prompt_tokens_over.is_none_or(|bound| estimate_prompt(prompt) > bound)
    }
}
