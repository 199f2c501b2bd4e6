//! Which tiers a prompt may be sent to.

use std::sync::Arc;

use super::{Capability, NamedTier, Policy, Tier, did_you_mean};
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

    /// The part of it that begins at `tier`; its last tier where none is left.
    #[must_use]
    pub fn from(&self, tier: usize) -> Self {
        let start = self.0.iter().position(|t| *t >= tier).unwrap_or(self.0.len() - 1);
        if start == 0 { self.clone() } else { Self::new(&self.0[start..]) }
    }

    /// The part of it from one tier to another, both in it; none where nothing is left.
    #[must_use]
    pub fn within(&self, least: usize, most: usize) -> Option<Self> {
        let kept: Vec<usize> = self.0.iter().copied().filter(|tier| (least..=most).contains(tier)).collect();
        (!kept.is_empty()).then(|| Self::new(&kept))
    }

    /// The ladder with one tier less; the next larger one, where that was all.
    fn without(&self, tier: usize) -> Self {
        let kept: Vec<usize> = self.0.iter().copied().filter(|other| *other != tier).collect();
        if kept.is_empty() { Self::new(&[tier + 1]) } else { Self::new(&kept) }
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
    of_route: Vec<Ladder>,
    named: Vec<Ladder>,
}

impl Ladders {
    pub(super) fn new(tiers: usize, routes: &[super::Route], named: NamedTier) -> Self {
        let all: Vec<usize> = (0..tiers).collect();
        Self {
            whole: Ladder::new(&all),
            of_route: routes.iter().map(|r| Ladder::new(&r.tiers)).collect(),
            named: match named {
                NamedTier::Pin => all.iter().map(|t| Ladder::new(&[*t])).collect(),
                NamedTier::Downshift => all.iter().map(|t| Ladder::new(&all[..=*t])).collect(),
            },
        }
    }
}

/// The sizes of the original completion models.
const LEGACY: [&str; 4] = ["ada", "babbage", "curie", "davinci"];

/// The client named a model that the policy does not know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownModel {
    /// What it named.
    pub model: String,
    /// A known name that may be meant.
    pub meant: Option<String>,
}

impl Policy {
    /// The same, never asking one tier, which is not the largest.
    #[must_use]
    pub fn without_tier(&self, tier: usize) -> Self {
        let less = |ladders: &[Ladder]| ladders.iter().map(|ladder| ladder.without(tier)).collect();
        let Ladders { whole, of_route, named } = &self.ladders;
        let ladders = Ladders { whole: whole.without(tier), of_route: less(of_route), named: less(named) };
        Self { ladders, ..self.clone() }
    }

    /// The tiers this prompt may be sent to: a tier's name first, then
    /// the first route that matches, then the whole ladder. A prompt that must
    /// not be asked twice goes to the last of them alone.
    ///
    /// # Errors
    /// When the client names a model that neither the policy, a route nor a
    /// tier is called.
    pub fn ladder_for(&self, prompt: &Prompt) -> Result<Ladder, UnknownModel> {
        let is_known = || prompt.model == self.name || self.routes.iter().any(|route| route.names(&prompt.model));
        if self.tier_named(&prompt.model).is_some() || is_known() {
            return Ok(self.ladder_for_recorded(prompt));
        }
        let meant = did_you_mean(&prompt.model, self.model_names()).map(str::to_owned);
        Err(UnknownModel { model: prompt.model.clone(), meant })
    }

    /// The ladder of a replayed prompt: as [`Policy::ladder_for`], but a model
    /// the policy does not know counts as the policy's own name, since
    /// recordings keep the name the client used then.
    #[must_use]
    pub fn ladder_for_recorded(&self, prompt: &Prompt) -> Ladder {
        match self.tier_named(&prompt.model) {
            Some(tier) => self.fitted(&self.ladders.named[tier], prompt),
            None => self.ladder_of_known(prompt),
        }
    }

    /// The part of a ladder from where a calibrated rule starts this prompt; all
    /// of it where there is none.
    #[must_use]
    pub fn started(&self, ladder: &Ladder, prompt: &Prompt) -> Ladder {
        match &self.stopping {
            Some(stopping) if ladder.tiers().len() > 1 => ladder.from(stopping.start(prompt)),
            _ => ladder.clone(),
        }
    }

    fn ladder_of_known(&self, prompt: &Prompt) -> Ladder {
        let route = self.routes.iter().position(|route| route.matches(prompt));
        self.fitted(route.map_or(&self.ladders.whole, |at| &self.ladders.of_route[at]), prompt)
    }

    /// The tiers of a ladder that can take the prompt: the last one alone where
    /// it must not be asked twice, or where none can.
    fn fitted(&self, ladder: &Ladder, prompt: &Prompt) -> Ladder {
        let tiers = ladder.tiers();
        if prompt.one_tier && tiers.len() > 1 {
            return Ladder::new(&[ladder.last()]);
        }
        if tiers.iter().all(|tier| self.tiers[*tier].can_take(prompt)) {
            return ladder.clone();
        }
        let able: Vec<usize> = tiers.iter().copied().filter(|tier| self.tiers[*tier].can_take(prompt)).collect();
        Ladder::new(if able.is_empty() { &tiers[tiers.len() - 1..] } else { &able })
    }

    /// The tier of this name, or of this legacy model: `text-curie-001`,
    /// `davinci-002` and their like mean the tiers so called.
    fn tier_named(&self, model: &str) -> Option<usize> {
        let find = |name: &str| self.tiers.iter().position(|tier| tier.name == name);
        find(model).or_else(|| {
            let bare = model.strip_prefix("text-").or_else(|| model.strip_prefix("code-")).unwrap_or(model);
            let (bare, version) = bare.split_once('-')?;
            let is_version = !version.is_empty() && version.bytes().all(|b| b.is_ascii_digit());
            (is_version && LEGACY.contains(&bare)).then(|| find(bare))?
        })
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

impl Tier {
    /// Whether the model can take what the prompt needs.
    fn can_take(&self, prompt: &Prompt) -> bool {
        let lacks = |capability| self.can.as_ref().is_some_and(|can| !can.contains(&capability));
        !(prompt.has_tools && lacks(Capability::Tools)
            || lacks(Capability::JsonSchema) && prompt.asks_json && prompt.contract().schema.is_some()
            || lacks(Capability::Media) && prompt.has_media()
            || self.context_tokens.is_some_and(|most| estimate_prompt(prompt) > most))
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
