//! What a smaller tier can be taught from what the cascade rejected, and what that
//! would be worth.
//!
//! Invariant: the cascade's own verdicts choose the rows; none is of the half that
//! certificates are tested on; each exchange is counted once, taught or left out.

mod alike;
mod api;
mod asked;
mod forecast;
mod job;
mod lesson;
mod lessons;
mod rows;
mod simulated;

use crate::policy::{Budget, Policy};

pub use api::{Api, Refused};
pub use forecast::{Assumed, Forecast, Learned, Range, Way, Ways, forecast};
pub use job::{Event, Fault, How, Job, Method, Standing, Training};
pub use lesson::{Left, Lesson, Part, Set, Wanted, teacher_of};
pub use lessons::Lessons;
pub use rows::{Format, Legacy};
pub use simulated::{learned, taught, taught_line};

/// The policy without what has nothing to do with how good answers are: limits, caches,
/// budgets, and conversations that stay with a tier.
#[must_use]
pub fn answers_alone(policy: &Policy) -> Policy {
    let mut alone = policy.clone();
    for tier in &mut alone.tiers {
        (tier.limit, tier.cache, tier.similar) = (None, None, None);
    }
    (alone.budget, alone.conversation_stay, alone.drift) = (Budget::default(), None, None);
    alone
}

/// A number in 0..1 for what a hash stands for, the same wherever it is asked; `what` keeps
/// draws for different ends apart.
fn draw(what: &str, of: &[u8]) -> f64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(what.as_bytes()).update(b" ").update(of);
    let number = crate::outcomes::number(hasher.finalize().as_bytes());
    #[expect(clippy::cast_precision_loss, reason = "a share")]
    let share = (number >> 11) as f64 / (1u64 << 53) as f64;
    share
}
