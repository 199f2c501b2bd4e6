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
use crate::shared::{Basket, Drawn, Quota, Shared, Sum, Taken};

/// All keys of a policy.
#[derive(Debug)]
pub struct Keyring<C: Clock> {
    holders: HashMap<String, Arc<Holder<C>>>,
    clock: C,
    /// What other replicas know of these keys.
    shared: Option<Arc<Shared>>,
}

/// One key and what was used of it.
#[derive(Debug)]
pub struct Holder<C: Clock> {
    key: Key,
    requests: Option<Quota<C>>,
    tokens: Option<Quota<C>>,
    spent: Arc<Mutex<Spent>>,
    shared: Option<Arc<Shared>>,
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

impl Spent {
    /// So much in a month.
    #[must_use]
    pub fn of(month: &str, sum: Sum) -> Self {
        Self { month: month.to_owned(), dollars: sum.dollars(), unknown: sum.unknown }
    }

    fn sum(&self) -> Sum {
        Sum::of_dollars(self.dollars, self.unknown)
    }
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
    /// and unchanged go on; all replicas keep them together where they have `shared` state.
    #[must_use]
    pub fn new(
        file: &KeyFile,
        spent: &AllSpent,
        clock: &C,
        before: Option<&Self>,
        shared: Option<&Arc<Shared>>,
    ) -> Self {
        let holder = |key: &Key| {
            let known = before.and_then(|before| before.holders.get(&key.id));
            if let Some(same) = known.filter(|known| known.key == *key) {
                return same.clone();
            }
            let quota = |per_minute: Option<NonZeroU32>, of: &str| {
                let rule = per_minute.map(|per_minute| RateRule { per_minute, burst: per_minute })?;
                Some(Quota::new(rule, clock, shared.map(|shared| &**shared), &format!("key:{}:{of}", key.id)))
            };
            let carried = known.map(|known| known.spent.clone());
            Arc::new(Holder {
                requests: quota(key.requests_per_minute, "requests"),
                tokens: quota(key.tokens_per_minute, "tokens"),
                spent: carried.unwrap_or_else(|| Arc::new(Mutex::new(spent.get(&key.id).cloned().unwrap_or_default()))),
                key: key.clone(),
                shared: shared.cloned(),
            })
        };
        let holders = file.keys.iter().map(|key| (key.id.clone(), holder(key))).collect();
        Self { holders, clock: clock.clone(), shared: shared.cloned() }
    }

    /// What was spent with each key by this replica: of others, others keep account.
    #[must_use]
    pub fn spent(&self) -> AllSpent {
        self.holders.iter().map(|(id, holder)| (id.clone(), holder.spent().clone())).collect()
    }

    /// The holder of the key that a request brings.
    ///
    /// # Errors
    /// 401 without one that is known; 429 where its requests or its money are used up.
    pub async fn admit(&self, headers: &HeaderMap) -> Result<Arc<Holder<C>>, ApiError> {
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
        let month = holder.key.dollars_per_month.map(|_| self.clock.month());
        let is_over = |spent: f64| holder.key.dollars_per_month.filter(|dollars| spent >= *dollars);
        if let Some(dollars) = month.as_deref().and_then(|month| is_over(holder.spent_in(month))) {
            return Err(ApiError::out_of_money(dollars));
        }
        if let Some(quota) = &holder.requests {
            quota.rate().take(NonZeroU32::MIN).map_err(|wait| ApiError::key_is_limited("requests", wait))?;
        }
        let Some(shared) = &self.shared else { return Ok(holder) };
        let mut basket = Basket::default();
        if let Some(quota) = &holder.requests {
            basket.rate(quota, NonZeroU32::MIN);
        }
        if let Some(month) = &month {
            basket.money(month, holder.id());
        }
        match Box::pin(shared.take(basket)).await {
            Some(Err(short)) => {
                holder.requests.iter().for_each(|quota| quota.take_back(NonZeroU32::MIN));
                return Err(ApiError::key_is_limited("requests", short.wait()));
            }
            Some(Ok(Taken { spent: Some(all), .. })) => {
                let known = shared.purse.learn(month.as_deref().unwrap_or_default(), holder.id(), all);
                if let Some(dollars) = is_over(known.dollars()) {
                    holder
                        .requests
                        .iter()
                        .for_each(|quota| quota.put_right(Drawn { amount: NonZeroU32::MIN, by_all: true }, 0));
                    return Err(ApiError::out_of_money(dollars));
                }
            }
            // Where nobody can say, what is known here is enough.
            Some(Ok(_)) | None => {}
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
        if let Some(shared) = &self.shared {
            shared.spend(&spent.month, holder.id(), spent.sum(), Sum::of(cost));
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

    /// What was spent in a month, here and by other replicas as far as that is known.
    fn spent_in(&self, month: &str) -> f64 {
        let spent = self.spent();
        let here = if spent.month == month { spent.dollars } else { 0.0 };
        self.shared.as_ref().map_or(here, |shared| here.max(shared.purse.spent(month, self.id()).dollars()))
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
    pub async fn take_tokens(&self, estimate: impl FnOnce() -> NonZeroU32) -> Result<Option<Drawn>, ApiError> {
        let Some(quota) = &self.tokens else { return Ok(None) };
        let limited = |wait| ApiError::key_is_limited("tokens", wait);
        let mut by_all = false;
        let (amount, _) = quota.rate().take(estimate()).map_err(limited)?;
        if let Some(shared) = &self.shared {
            let mut basket = Basket::default();
            basket.rate(quota, amount);
            match Box::pin(shared.take(basket)).await {
                Some(Ok(_)) => by_all = true,
                Some(Err(short)) => {
                    quota.take_back(amount);
                    return Err(limited(short.wait()));
                }
                None => {}
            }
        }
        Ok(Some(Drawn { amount, by_all }))
    }

    /// Puts right what was taken by what was used.
    pub fn put_right(&self, taken: Option<Drawn>, used: u64) {
        if let (Some(quota), Some(taken)) = (&self.tokens, taken) {
            quota.put_right(taken, used);
        }
    }
}
