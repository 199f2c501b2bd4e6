//! One line of JSON for each request, on a thread of its own.
//!
//! Invariant: a slow disk costs lines, never time: what cannot be written at once
//! is dropped and counted.

use std::fs::OpenOptions;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use crate::explanation::Explanation;

/// Lines that may wait.
const WAITING: usize = 4096;
/// How long lines gather before they are written.
const PAUSE: Duration = Duration::from_millis(10);

/// Writes traces to a file.
#[derive(Debug)]
pub struct Traces {
    send: SyncSender<Message>,
    dropped: AtomicU64,
}

#[derive(Debug)]
enum Message {
    Line(Arc<Explanation>),
    /// Everything before it is to be written; then this is told.
    Flush(SyncSender<()>),
}

impl Traces {
    /// Appends to a file, which is made if it is not there.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn to(path: &Path) -> std::io::Result<Self> {
        let mut file = BufWriter::new(OpenOptions::new().create(true).append(true).open(path)?);
        let (send, receive) = sync_channel::<Message>(WAITING);
        std::thread::spawn(move || {
            while let Ok(first) = receive.recv() {
                let mut flushed = Vec::new();
                for message in std::iter::once(first).chain(receive.try_iter()) {
                    let told = match message {
                        Message::Line(told) => told,
                        Message::Flush(done) => {
                            flushed.push(done);
                            continue;
                        }
                    };
                    let written = serde_json::to_writer(&mut file, &*told).map_err(std::io::Error::from);
                    if let Err(error) = written.and_then(|()| file.write_all(b"\n")) {
                        tracing::warn!("a trace could not be written: {error}");
                    }
                }
                // Whoever looks for a request finds it.
                if let Err(error) = file.flush() {
                    tracing::warn!("traces could not be written: {error}");
                }
                flushed.iter().for_each(|done| _ = done.try_send(()));
                // Woken for each line it would cost the requests more than its work does.
                std::thread::sleep(PAUSE);
            }
        });
        Ok(Self { send, dropped: AtomicU64::new(0) })
    }

    /// How many were dropped.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Waits until all so far are written, for a second at most.
    pub fn flush(&self) {
        let (done, told) = sync_channel(1);
        if self.send.try_send(Message::Flush(done)).is_ok() {
            let _ = told.recv_timeout(Duration::from_secs(1));
        }
    }

    /// Hands one over, or drops it.
    pub(super) fn note(&self, told: Arc<Explanation>) {
        if self.send.try_send(Message::Line(told)).is_err() {
            let dropped = self.dropped.fetch_add(1, Ordering::Relaxed) + 1;
            if dropped.is_power_of_two() {
                tracing::warn!(dropped, "traces are dropped: the disk is too slow");
            }
        }
    }
}
