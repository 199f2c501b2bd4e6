//! The cascade over recorded exchanges, in simulated time.
//!
//! Invariant: the same engine as while serving; only what finally answers and
//! the clock are others. Two runs over the same lines are the same.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use futures_util::Stream;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;

use crate::cascade::Cascade;
use crate::clock::{Clock, ManualClock};
use crate::exchange::Exchange;
use crate::policy::Policy;
use crate::trace::Trace;
use crate::upstream::{Cached, Embedders, Recorded, layered};

/// Most prompts in flight at once; a prompt that arrives past that waits, as
/// it would in a client's queue. Bounds memory.
const MAX_IN_FLIGHT: usize = 1024;
/// From the last arrival of a file to the beginning of the next: longer than answers take.
const BETWEEN_FILES: Duration = Duration::from_mins(1);

/// A prompt that has been replayed.
#[derive(Clone, Debug)]
pub struct Replayed {
    /// Its place among all that were pushed, from 0.
    pub number: u64,
    /// What was recorded.
    pub exchange: Arc<Exchange>,
    /// What happened under the policy.
    pub trace: Trace,
}

/// Starts an exchange of this number that arrived at this time.
type Start = Box<dyn Fn(u64, Duration, Arc<Exchange>) -> BoxFuture<'static, Replayed> + Send>;

/// One policy run over exchanges.
pub struct Replay {
    policy: Arc<Policy>,
    clock: ManualClock,
    recorded: Recorded<ManualClock>,
    start: Start,
    running: FuturesUnordered<BoxFuture<'static, Replayed>>,
    woken: Arc<Woken>,
    pushed: u64,
    /// Whether a file was begun.
    has_begun: bool,
    file_began: Duration,
    last_arrival: Duration,
    out_of_order: u64,
}

#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Release);
    }
}

impl Replay {
    /// Nothing pushed yet.
    #[must_use]
    pub fn new(policy: Arc<Policy>) -> Self {
        let clock = ManualClock::default();
        let recorded = Recorded::new(clock.clone());
        let upstream =
            layered(recorded.clone(), &policy, clock.clone(), &Embedders::none(), None).map(Cached::evicting_at_once);
        let cascade = Arc::new(Cascade::new(policy.clone(), upstream, clock.clone()));
        let clock_of_runs = clock.clone();
        let start = move |number, arrival: Duration, exchange: Arc<Exchange>| -> BoxFuture<'static, Replayed> {
            let (cascade, clock) = (cascade.clone(), clock_of_runs.clone());
            Box::pin(async move {
                let ladder = cascade.policy().ladder_for_recorded(&exchange.prompt);
                let mut trace = cascade.run(&ladder, &exchange.prompt).await.trace;
                // Waiting for a place in flight counts, as it would for the client.
                trace.elapsed = clock.now().saturating_sub(arrival);
                Replayed { number, exchange, trace }
            })
        };
        Self {
            policy,
            clock,
            recorded,
            start: Box::new(start),
            running: FuturesUnordered::new(),
            woken: Arc::default(),
            pushed: 0,
            has_begun: false,
            file_began: Duration::ZERO,
            last_arrival: Duration::ZERO,
            out_of_order: 0,
        }
    }

    /// The policy that is run.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The policy that is run, to be kept.
    #[must_use]
    pub fn shared_policy(&self) -> Arc<Policy> {
        self.policy.clone()
    }

    /// How many exchanges arrive before the one pushed before them; each was
    /// taken to arrive with it.
    #[must_use]
    pub fn out_of_order(&self) -> u64 {
        self.out_of_order
    }

    /// Begins another file: what is in flight is finished first, and arrival times count
    /// from a minute after the last one.
    pub fn begin_file(&mut self, done: &mut Vec<Replayed>) {
        self.finish(done);
        // By arrivals alone, so that all shards begin a file at the same time.
        let next = if self.has_begun { self.last_arrival + BETWEEN_FILES } else { Duration::ZERO };
        self.has_begun = true;
        self.clock.advance_to(next);
        self.file_began = self.clock.now();
        self.last_arrival = self.file_began;
    }

    /// Passes over an exchange that another shard replays: only its time is of interest.
    pub fn pass(&mut self, arrived_ms: Option<f64>) {
        if let Some(ms) = arrived_ms {
            self.last_arrival = self.last_arrival.max(self.file_began + Duration::from_secs_f64(ms / 1000.0));
        }
    }

    /// Takes the next exchange in at its time of arrival; one without arrives
    /// when the one before is answered. What is answered by then goes to
    /// `done`.
    pub fn push(&mut self, exchange: Arc<Exchange>, done: &mut Vec<Replayed>) {
        let arrival = if let Some(ms) = exchange.arrived_ms {
            self.file_began + Duration::from_secs_f64(ms / 1000.0)
        } else {
            self.finish(done);
            self.clock.now()
        };
        self.out_of_order += u64::from(arrival < self.last_arrival);
        self.last_arrival = arrival.max(self.last_arrival);
        let arrival = self.last_arrival;
        // Who gave up waiting may still have a sleeper that nobody minds.
        while !self.running.is_empty() && self.clock.next_due().is_some_and(|due| due <= arrival) {
            self.advance(done);
        }
        self.clock.advance_to(arrival);
        while self.running.len() >= MAX_IN_FLIGHT {
            self.advance(done);
        }
        self.recorded.hold(&exchange);
        self.running.push((self.start)(self.pushed, arrival, exchange));
        self.pushed += 1;
        self.run_ready(done);
    }

    /// Runs until nothing is in flight.
    pub fn finish(&mut self, done: &mut Vec<Replayed>) {
        while !self.running.is_empty() {
            self.advance(done);
        }
    }

    /// Runs what is ready, else moves time on to whoever is due next.
    fn advance(&mut self, done: &mut Vec<Replayed>) {
        let before = done.len();
        self.run_ready(done);
        if done.len() == before && !self.running.is_empty() {
            let due = self
                .clock
                .next_due()
                .unwrap_or_else(|| unreachable!("a replayed prompt waits for nothing but time, and nothing is due"));
            self.clock.advance_to(due);
            self.run_ready(done);
        }
    }

    fn run_ready(&mut self, done: &mut Vec<Replayed>) {
        let waker = Waker::from(self.woken.clone());
        loop {
            self.woken.0.store(false, Ordering::Release);
            match Pin::new(&mut self.running).poll_next(&mut Context::from_waker(&waker)) {
                Poll::Ready(Some(replayed)) => {
                    self.recorded.release(&replayed.exchange);
                    done.push(replayed);
                }
                Poll::Pending if self.woken.0.load(Ordering::Acquire) => {}
                Poll::Ready(None) | Poll::Pending => return,
            }
        }
    }
}
