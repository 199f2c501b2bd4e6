//! Who holds which key, how much each has used, and whether a request may pass.
//!
//! Invariant: what a holder has spent outlives a reload and a restart.

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};

use http::{HeaderMap, header};
use serde::{Deserialize, Serialize};

use super::ApiError;
use crate::clock::Clock;
use crate::keys::{Hash, Key, KeyFile, Override};
use crate::policy::RateRule;
use crate::price::Usd;
use crate::rate::Rate;

/// All keys of a policy.
#[derive(Debug)]
pub struct Keyring<C: Clock> {
    holders: HashMap<String, Arc<Holder<C>>>,
    clock: C,
}

/// One key and what was used of it.
#[derive(Debug)]
pub struct Holder<C: Clock> {
    key: Key,
    requests: Option<Rate<C>>,
    tokens: Option<Rate<C>>,
    spent: Arc<Mutex<Spent>>,
}

/// Dollars of one month, as they are kept in a file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Spent {
    /// Such as `Nov 2026`.
    month: String,
    dollars: f64,
    /// Answers whose cost is not known, and which are not in the sum.
    unknown: u64,
}

impl std::fmt::Display for Spent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "${:.4} in {}", self.dollars, self.month)?;
        if self.unknown > 0 {
            write!(f, ", and {} of unknown cost", self.unknown)?;
        }
        Ok(())
    }
}

/// What was spent with each key, by id.
pub type AllSpent = BTreeMap<String, Spent>;

impl<C: Clock> Keyring<C> {
    /// Keys of a file, with what was spent before. Rates of keys that are in `before`
    /// and unchanged go on.
    #[must_use]
    pub fn new(file: &KeyFile, spent: &AllSpent, clock: &C, before: Option<&Self>) -> Self {
        let holder = |key: &Key| {
            let known = before.and_then(|before| before.holders.get(&key.id));
            if let Some(same) = known.filter(|known| known.key == *key) {
                return same.clone();
            }
            let rate = |per_minute: Option<NonZeroU32>| {
                per_minute.map(|per_minute| Rate::new(RateRule { per_minute, burst: per_minute }, clock))
            };
            let carried = known.map(|known| known.spent.clone());
            Arc::new(Holder {
                requests: rate(key.requests_per_minute),
                tokens: rate(key.tokens_per_minute),
                spent: carried.unwrap_or_else(|| Arc::new(Mutex::new(spent.get(&key.id).cloned().unwrap_or_default()))),
                key: key.clone(),
            })
        };
        let holders = file.keys.iter().map(|key| (key.id.clone(), holder(key))).collect();
        Self { holders, clock: clock.clone() }
    }

    /// What was spent with each key.
    #[must_use]
    pub fn spent(&self) -> AllSpent {
        self.holders.iter().map(|(id, holder)| (id.clone(), holder.spent().clone())).collect()
    }

    /// The holder of the key that a request brings.
    ///
    /// # Errors
    /// 401 without one that is known; 429 where its requests or its money are used up.
    pub fn admit(&self, headers: &HeaderMap) -> Result<Arc<Holder<C>>, ApiError> {
        let value = headers.get(header::AUTHORIZATION).ok_or_else(ApiError::no_key)?;
        let text = value.to_str().ok().and_then(|text| {
            let (scheme, key) = text.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then_some(key.trim())
        });
        let known = text.and_then(|text| {
            let holder = self.holders.get(Key::id_in(text)?)?;
            // In constant time: blake3's comparison is.
            (holder.key.hash == Hash::of(text) && !holder.key.is_revoked).then(|| holder.clone())
        });
        let holder = known.ok_or_else(ApiError::wrong_key)?;
        let spent = |dollars: &f64| holder.spent_in(&self.clock.month()) >= *dollars;
        if let Some(dollars) = holder.key.dollars_per_month.filter(spent) {
            return Err(ApiError::out_of_money(dollars));
        }
        if let Some(Err(wait)) = holder.requests.as_ref().map(|rate| rate.take(NonZeroU32::MIN)) {
            return Err(ApiError::key_is_limited("requests", wait));
        }
        Ok(holder)
    }

    /// Adds what a request has cost.
    pub fn charge(&self, holder: &Holder<C>, cost: Option<Usd>) {
        let month = self.clock.month();
        let mut spent = holder.spent();
        if spent.month != month {
            *spent = Spent { month, ..Spent::default() };
        }
        match cost {
            Some(cost) => spent.dollars += cost.dollars(),
            None => spent.unknown += 1,
        }
    }
}

impl<C: Clock> Holder<C> {
    fn spent(&self) -> std::sync::MutexGuard<'_, Spent> {
        self.spent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn spent_in(&self, month: &str) -> f64 {
        let spent = self.spent();
        if spent.month == month { spent.dollars } else { 0.0 }
    }

    /// The key's id, which is no secret.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.key.id
    }

    /// Whether this model may be named.
    #[must_use]
    pub fn may_name(&self, model: &str) -> bool {
        self.key.may_name(model)
    }

    /// Whether requests that are not cascaded may be sent.
    ///
    /// # Errors
    /// 403 for a key that may name some models only: what passes through may name others.
    pub fn may_pass(&self) -> Result<(), ApiError> {
        if self.key.models.is_none() {
            Ok(())
        } else {
            Err(ApiError::key_may_not("do this: it may name some models only"))
        }
    }

    /// Whether this may be decided by a header.
    #[must_use]
    pub fn may(&self, what: Override) -> bool {
        self.key.may.contains(&what)
    }

    /// Takes tokens by estimate; what was taken is to be put right.
    ///
    /// # Errors
    /// 429 where they are used up.
    pub fn take_tokens(&self, estimate: impl FnOnce() -> NonZeroU32) -> Result<Option<NonZeroU32>, ApiError> {
        let taken = self.tokens.as_ref().map(|rate| rate.take(estimate())).transpose();
        taken.map(|taken| taken.map(|(taken, _)| taken)).map_err(|wait| ApiError::key_is_limited("tokens", wait))
    }

    /// Puts right what was taken by what was used.
    pub fn put_right(&self, taken: Option<NonZeroU32>, used: u64) {
        if let (Some(rate), Some(taken)) = (&self.tokens, taken) {
            rate.put_right(taken, used);
        }
    }
}
