//! Who is told of each request once its answer has ended.
//!
//! Invariant: nobody of them holds up an answer: what cannot be taken at once is
//! dropped and counted.

use std::sync::Arc;
use std::time::Duration;

use super::{Recent, Spans, Traces};
use crate::explanation::Explanation;

/// Those who want to know; nothing is worked out for nobody.
#[derive(Clone, Debug, Default)]
pub struct Audience {
    /// A file with a line for each.
    pub traces: Option<Arc<Traces>>,
    /// The dashboard.
    pub recent: Option<Arc<Recent>>,
    /// A collector of OpenTelemetry's.
    pub spans: Option<Arc<Spans>>,
}

impl Audience {
    /// Whether anybody listens.
    pub(super) fn is_there(&self) -> bool {
        self.traces.is_some() || self.recent.is_some() || self.spans.is_some()
    }

    /// Tells all of them of a request that ended at this time since 1970.
    pub(super) fn tell(&self, told: Explanation, ended: Duration) {
        if let Some(spans) = &self.spans {
            spans.note(&told, ended);
        }
        let told = Arc::new(told);
        if let Some(recent) = &self.recent {
            recent.note(told.clone());
        }
        if let Some(traces) = &self.traces {
            traces.note(told);
        }
    }
}
