//! Answers from recorded exchanges, found by what was asked.
//!
//! Invariant: a tier answers what it was recorded to answer, after the time
//! it was recorded to take.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use super::{Delivery, Reply, Said, Upstream};
use crate::clock::Clock;
use crate::exchange::Exchange;
use crate::policy::Tier;
use crate::price::Cost;
use crate::prompt::Prompt;
use crate::trace::{CacheUse, Failure};

/// Exchanges by what they ask, those that ask the same in order.
type Held = HashMap<[u8; 32], VecDeque<Arc<Exchange>>>;

/// Answers from the exchanges it holds.
#[derive(Clone, Debug)]
pub struct Recorded<C> {
    clock: C,
    held: Arc<RwLock<Held>>,
}

impl<C: Clock> Recorded<C> {
    /// Holds nothing yet.
    #[must_use]
    pub fn new(clock: C) -> Self {
        Self { clock, held: Arc::default() }
    }

    /// Holds one more. Of several that ask the same, the first held answers.
    pub fn hold(&self, exchange: &Arc<Exchange>) {
        let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
        held.entry(*exchange.prompt.content_key()).or_default().push_back(exchange.clone());
    }

    /// Lets one go that was held.
    pub fn release(&self, exchange: &Arc<Exchange>) {
        let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
        let key = exchange.prompt.content_key();
        if let Some(same) = held.get_mut(key) {
            same.retain(|other| !Arc::ptr_eq(other, exchange));
            if same.is_empty() {
                held.remove(key);
            }
        }
    }

    /// How many different prompts it can answer.
    #[must_use]
    pub fn prompts(&self) -> usize {
        self.held.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// The exchange that asks the very same, else the first that asks the same
    /// with other sampling, and to which this tier was recorded to answer.
    fn find(&self, tier: &Tier, prompt: &Prompt) -> Option<Arc<Exchange>> {
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        let same = held.get(prompt.content_key())?;
        let answered = || same.iter().filter(|e| e.answer_of(tier).is_some());
        // Most often there is but one, and its keys need not be compared.
        let exact = || answered().find(|e| e.prompt.cache_key() == prompt.cache_key());
        if same.len() > 1 { exact().or_else(|| answered().next()) } else { answered().next() }.cloned()
    }
}

impl<C: Clock> Upstream for Recorded<C> {
    async fn ask(&self, tier: &Tier, prompt: &Prompt, _delivery: Delivery) -> Result<Reply, Failure> {
        let exchange = self.find(tier, prompt).ok_or(Failure::NotRecorded)?;
        let recorded = exchange.answer_of(tier).ok_or(Failure::NotRecorded)?;
        if let Some(ms) = recorded.elapsed_ms {
            self.clock.sleep(Duration::from_secs_f64(ms / 1000.0)).await;
        }
        Ok(Reply {
            said: Said::Whole(recorded.answer(prompt.endpoint)?),
            cache: CacheUse::Off,
            recorded_cost: recorded.cost,
            judging: Cost::FREE,
            quality: recorded.quality,
        })
    }
}
