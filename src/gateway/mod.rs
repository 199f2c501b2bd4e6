//! The HTTP side: an OpenAI-compatible API in front of the cascade.
//!
//! Invariant: every answer is either what the upstream said, or an error in
//! OpenAI's shape; a rejected draft never reaches a client, unless the rest of the
//! ladder fails and the policy has it stand in.

mod admin;
mod aftermath;
mod api_error;
mod audience;
mod batch;
mod bill;
mod body;
mod certificate;
mod completion;
mod embeddings;
mod exposition;
mod headers;
mod histogram;
mod keyring;
mod listen;
mod meters;
mod metrics;
mod models;
mod passthrough;
mod patient;
mod recent;
mod recorder;
mod room;
mod routes;
mod served;
mod spans;
mod stream;
mod traces;

use std::sync::Arc;

use tracing_appender::non_blocking::ErrorCounter;

use crate::cascade::Cascade;
use crate::clock::Clock;
use crate::shared::Shared;
use crate::upstream::{Heir, NamedBreaker, Passage, Upstream};

pub use admin::{Hosts, admin_router};
pub use api_error::ApiError;
pub use audience::Audience;
pub use certificate::{BadCertificate, Certificate};
pub use keyring::{AllSpent, Keyring, Spent};
pub use listen::{Bounds, Current, Door, serve};
pub use metrics::Reloads;
pub use recent::Recent;
pub use recorder::Recorder;
pub use room::{Occupancy, Room};
pub use routes::{Routes, routes};
pub use spans::{SpanCounts, Spans};
pub use traces::Traces;

/// The most bytes of a request's body that are read.
pub const MAX_BODY: usize = 32 << 20;

/// What requests in flight hold at most, where nobody says otherwise.
const MAX_HELD: usize = 512 << 20;

/// What every request needs.
#[derive(Debug)]
pub struct Gateway<U, C: Clock> {
    cascade: Cascade<U, C>,
    clock: C,
    request_ids: headers::RequestIds,
    /// Where everything goes that is not cascaded.
    passage: Option<Passage<C>>,
    /// Embeddings that passed through it.
    embeddings: Option<embeddings::Remembered>,
    /// What to tell a client whose prompt is not among recorded ones.
    not_recorded_hint: String,
    /// Who is told of each request.
    audience: Audience,
    /// Where exchanges are written down.
    recorder: Option<Arc<Recorder>>,
    meters: Arc<meters::Meters>,
    reloads: Arc<Reloads>,
    breakers: Vec<NamedBreaker>,
    /// Whose requests are answered; none: everybody's.
    keyring: Option<Arc<Keyring<C>>>,
    room: Arc<Room>,
    /// Lines of the log that were dropped.
    log: Option<ErrorCounter>,
    shared: Option<Arc<Shared>>,
}

impl<U: Upstream, C: Clock> Gateway<U, C> {
    /// A gateway over `cascade`. Through `passage` goes what is not cascaded.
    /// `not_recorded_hint` says what a gateway that answers from recordings
    /// can answer.
    pub fn new(cascade: Cascade<U, C>, clock: C, passage: Option<Passage<C>>, not_recorded_hint: String) -> Self {
        let rule = cascade.policy().passthrough.and_then(|p| p.embeddings_cache);
        let embeddings = rule.map(embeddings::Remembered::new);
        Self {
            meters: Arc::new(meters::Meters::new(&cascade.policy())),
            recorder: None,
            cascade,
            clock,
            request_ids: headers::RequestIds::default(),
            passage,
            embeddings,
            not_recorded_hint,
            audience: Audience::default(),
            reloads: Arc::default(),
            breakers: Vec::new(),
            keyring: None,
            room: Arc::new(Room::new(usize::MAX, MAX_HELD)),
            log: None,
            shared: None,
        }
    }

    /// Shows among the metrics how it stands with what replicas share.
    #[must_use]
    pub fn sharing(self, shared: Option<Arc<Shared>>) -> Self {
        Self { shared, ..self }
    }

    /// Shows among the metrics how many lines of the log were dropped.
    #[must_use]
    pub fn logging_through(self, log: ErrorCounter) -> Self {
        Self { log: Some(log), ..self }
    }

    /// Takes requests in as long as there is room.
    #[must_use]
    pub fn within(self, room: Arc<Room>) -> Self {
        Self { room, ..self }
    }

    /// Answers those only who bring a key of these.
    #[must_use]
    pub fn guarded_by(self, keyring: Option<Arc<Keyring<C>>>) -> Self {
        Self { keyring, ..self }
    }

    /// Shows these breakers among the metrics.
    #[must_use]
    pub fn showing(self, breakers: Vec<NamedBreaker>) -> Self {
        Self { breakers, ..self }
    }

    /// Shows among the metrics how often the policy was read again.
    #[must_use]
    pub fn counting(self, reloads: Arc<Reloads>) -> Self {
        Self { reloads, ..self }
    }

    /// Writes exchanges down.
    #[must_use]
    pub fn recording_to(self, recorder: Option<Arc<Recorder>>) -> Self {
        Self { recorder, ..self }
    }

    /// Tells these of each request.
    #[must_use]
    pub fn telling(self, audience: Audience) -> Self {
        Self { audience, ..self }
    }
}

impl<U: Heir, C: Clock> Heir for Gateway<U, C> {
    fn inherit(&mut self, before: &Self) {
        self.cascade.inherit(&before.cascade);
        if before.meters.fits(&self.cascade.policy()) {
            self.meters = before.meters.clone();
        }
        if let (Some(mine), Some(theirs)) = (&mut self.embeddings, &before.embeddings) {
            mine.inherit(theirs);
        }
    }
}

impl<U, C: Clock> Gateway<U, C> {
    /// Where models go that the policy does not name, if they go anywhere.
    fn passage_of_unknown_models(&self) -> Option<&Passage<C>> {
        self.passage.as_ref().filter(|_| self.cascade.policy().passthrough.is_some_and(|p| p.unknown_models))
    }
}
