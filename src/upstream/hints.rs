//! What replicas tell each other of upstreams that fail.
//!
//! Invariant: what an upstream said holds for all, a pause that it asked for; what one
//! replica makes of it is a hint: one more failure and the others leave it alone too.

use std::collections::HashMap;
use std::time::Duration;

use super::NamedBreaker;
use crate::clock::Clock;
use crate::shared::{Hint, Shared};

/// What was told and heard of breakers so far.
#[derive(Debug, Default)]
pub struct Hints {
    /// Until when each was told to be left alone, by the hint's name.
    told: HashMap<String, Duration>,
    /// The last word of another replica, by the hint's name.
    heard: HashMap<String, String>,
}

/// Why an upstream is left alone.
#[derive(Clone, Copy)]
enum Why {
    /// It keeps failing.
    Open,
    /// It asked for it.
    Paused,
}

/// Clocks and messages take their time: what differs by less is the same.
const SAME: Duration = Duration::from_millis(50);

impl Hints {
    /// Tells others which upstreams are left alone here, and hears which are elsewhere.
    pub async fn exchange<C: Clock>(&mut self, shared: &Shared, breakers: &[NamedBreaker], clock: &C) {
        let of = |breaker: &NamedBreaker| {
            let id = breaker.of.to_hex();
            [(format!("open:{id}"), Why::Open), (format!("pause:{id}"), Why::Paused)]
        };
        let each: Vec<_> = breakers.iter().flat_map(|b| of(b).map(|(name, why)| (b, name, why))).collect();
        let now = clock.now();
        let mut to_tell = Vec::new();
        for (NamedBreaker { breaker, .. }, name, why) in &each {
            let left = match why {
                Why::Open => breaker.open_for(now),
                Why::Paused => breaker.paused(now),
            };
            let Some(left) = left else { continue };
            if self.told.get(name).is_none_or(|until| now + left > *until + SAME) {
                self.told.insert(name.clone(), now + left);
                to_tell.push((name.as_str(), left));
            }
        }
        let names: Vec<&str> = each.iter().map(|(_, name, _)| name.as_str()).collect();
        let Some(heard) = shared.exchange_hints(&to_tell, &names).await else {
            // Told again when somebody listens.
            to_tell.iter().for_each(|(name, _)| _ = self.told.remove(*name));
            return;
        };
        for ((named, name, why), hint) in each.iter().zip(heard) {
            let Some(Hint { word, left }) = hint else { continue };
            if self.heard.get(name) == Some(&word) {
                continue;
            }
            let NamedBreaker { tier, upstream, breaker, .. } = named;
            match why {
                Why::Open => breaker.suspect(),
                Why::Paused => breaker.pause(now, left),
            }
            tracing::info!(tier, upstream, "another replica leaves it alone");
            self.told.insert(name.clone(), now + left);
            self.heard.insert(name.clone(), word);
        }
        self.told.retain(|name, _| names.contains(&name.as_str()));
        self.heard.retain(|name, _| names.contains(&name.as_str()));
    }
}
