//! Time, handed in: the system's while serving, simulated in a replay.
//!
//! Invariant: nothing else in the crate reads a clock or sleeps.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use pin_project_lite::pin_project;

/// A source of time. Times are durations since the clock's start.
pub trait Clock: Clone + Send + Sync + 'static {
    /// The time now.
    fn now(&self) -> Duration;

    /// The calendar month in UTC, such as `Nov 2026`.
    fn month(&self) -> String;

    /// The time since 1970 began.
    fn since_1970(&self) -> Duration;

    /// Waits for `time` to pass.
    fn sleep(&self, time: Duration) -> impl Future<Output = ()> + Send + 'static;

    /// Waits for `future`, but no longer than `bound`.
    fn within<F: Future + Send>(&self, bound: Duration, future: F) -> impl Future<Output = Option<F::Output>> + Send {
        Within { future, sleep: self.sleep(bound) }
    }
}

pin_project! {
    /// A future and its bound. By hand, since an async block would hold what it is given
    /// twice, and these stand in one another.
    struct Within<F, S> {
        #[pin]
        future: F,
        #[pin]
        sleep: S,
    }
}

impl<F: Future, S: Future<Output = ()>> Future for Within<F, S> {
    type Output = Option<F::Output>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        match this.future.poll(context) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending => this.sleep.poll(context).map(|()| None),
        }
    }
}

/// A date in UTC, such as `2026-11-06`.
#[must_use]
pub fn date_of(since_1970: Duration) -> String {
    // `Fri, 06 Nov 2026 08:49:37 GMT`
    let date = httpdate::fmt_http_date(std::time::UNIX_EPOCH + since_1970);
    format!("{}-{:02}-{}", &date[12..16], month_of(&date), &date[5..7])
}

/// A date and time in UTC, such as `20261106T084937Z`.
#[must_use]
pub fn stamp_of(since_1970: Duration) -> String {
    let time = httpdate::fmt_http_date(std::time::UNIX_EPOCH + since_1970);
    format!("{}T{}Z", date_of(since_1970).replace('-', ""), time[17..25].replace(':', ""))
}

/// The month of a date as HTTP writes it, 1..=12.
fn month_of(date: &str) -> usize {
    MONTHS.iter().position(|month| *month == &date[8..11]).unwrap_or(0) + 1
}

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// What a stamp such as `20261106T084937Z` says, since 1970 began; none of another text.
#[must_use]
pub fn since_1970_of(stamp: &str) -> Option<Duration> {
    let number = |at: std::ops::Range<usize>| stamp.get(at)?.parse::<u32>().ok();
    let [month, day] = [number(4..6)?, number(6..8)?];
    let month = MONTHS.get(usize::try_from(month).ok()?.checked_sub(1)?)?;
    let (hour, minute, second) = (number(9..11)?, number(11..13)?, number(13..15)?);
    let is_one = stamp.get(8..9)? == "T" && stamp.get(15..16)? == "Z";
    let year = number(0..4).filter(|_| is_one)?;
    let of = |name: &&str| {
        let date = format!("{name}, {day:02} {month} {year:04} {hour:02}:{minute:02}:{second:02} GMT");
        httpdate::parse_http_date(&date).ok()?.duration_since(std::time::UNIX_EPOCH).ok()
    };
    // It is read with its day of the week only, of which one is right.
    ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"].iter().find_map(of)
}

/// Real time; needs a tokio runtime.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    /// A clock that starts now.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the system's clock")]
    pub fn start() -> Self {
        Self { start: Instant::now() }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    #[expect(clippy::disallowed_methods, reason = "the one place that reads the system's clock")]
    fn month(&self) -> String {
        // `Sun, 06 Nov 1994 08:49:37 GMT`
        httpdate::fmt_http_date(std::time::SystemTime::now())[8..16].to_owned()
    }

    #[expect(clippy::disallowed_methods, reason = "the one place that reads the system's clock")]
    fn since_1970(&self) -> Duration {
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default()
    }

    #[expect(clippy::disallowed_methods, reason = "the one place that sleeps")]
    fn sleep(&self, time: Duration) -> impl Future<Output = ()> + Send + 'static {
        tokio::time::sleep(time)
    }
}

/// Simulated time: it stands still until it is advanced.
#[derive(Clone, Debug, Default)]
pub struct ManualClock {
    state: Arc<Mutex<ManualState>>,
}

#[derive(Debug, Default)]
struct ManualState {
    now: Duration,
    next_number: u64,
    /// Sleepers by deadline, then by who slept first, so that a simulation
    /// wakes them in the same order every time.
    sleepers: BinaryHeap<Reverse<Sleeper>>,
}

#[derive(Debug)]
struct Sleeper {
    due: Duration,
    number: u64,
    waker: Waker,
}

impl PartialEq for Sleeper {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}
impl Eq for Sleeper {}
impl PartialOrd for Sleeper {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Sleeper {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.due, self.number).cmp(&(other.due, other.number))
    }
}

impl ManualClock {
    fn state(&self) -> std::sync::MutexGuard<'_, ManualState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When the next sleeper is due, if any sleeps.
    #[must_use]
    pub fn next_due(&self) -> Option<Duration> {
        self.state().sleepers.peek().map(|Reverse(s)| s.due)
    }

    /// Moves time on to `time`, never back, and wakes who is due by then.
    pub fn advance_to(&self, time: Duration) {
        let mut due = Vec::new();
        {
            let mut state = self.state();
            state.now = state.now.max(time);
            while state.sleepers.peek().is_some_and(|Reverse(s)| s.due <= state.now) {
                due.extend(state.sleepers.pop());
            }
        }
        // Woken outside the lock: a waker may well look at the clock.
        due.into_iter().for_each(|Reverse(sleeper)| sleeper.waker.wake());
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Duration {
        self.state().now
    }

    fn month(&self) -> String {
        "simulated".to_owned()
    }

    fn since_1970(&self) -> Duration {
        self.now()
    }

    fn sleep(&self, time: Duration) -> impl Future<Output = ()> + Send + 'static {
        let due = self.now() + time;
        ManualSleep { clock: self.clone(), due }
    }
}

struct ManualSleep {
    clock: ManualClock,
    due: Duration,
}

impl Future for ManualSleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.clock.state();
        if state.now >= self.due {
            return Poll::Ready(());
        }
        let number = state.next_number;
        state.next_number += 1;
        state.sleepers.push(Reverse(Sleeper { due: self.due, number, waker: context.waker().clone() }));
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_read_as_the_time_that_it_says() {
        let time = Duration::from_secs(1_794_214_177);
        assert_eq!((date_of(time).as_str(), stamp_of(time).as_str()), ("2026-11-09", "20261109T084937Z"));
        assert_eq!(since_1970_of("20261109T084937Z-000.jsonl"), Some(time));
        for none in
            ["", "20260230T000000Z", "20261109T246060Z", "20261109 084937Z", "arithmetic.jsonl", "ÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄ"]
        {
            assert_eq!(since_1970_of(none), None, "{none}");
        }
    }
}
