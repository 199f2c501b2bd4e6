//! Writes exchanges down, compressed, on a thread of its own.
//!
//! Invariant: a slow disk costs lines, never time: what cannot be taken at once is
//! dropped and counted, and so is what could not be written.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::clock::Clock;
use crate::policy::RecordRule;
use crate::recording::{Heard, Redaction};

/// Lines that may wait, and the bytes they may hold.
const WAITING: usize = 4096;
const MOST_HELD: usize = 64 << 20;
/// Prompts that are asked of every tier at the same time.
const EVERY_TIER_AT_ONCE: usize = 16;
/// zstd's fastest of its usual ones: recording is to cost little, and disks are large.
const LEVEL: i32 = 1;
/// Lines are written together: a thread that wakes for each costs more than the line.
const TOGETHER: Duration = Duration::from_millis(100);

/// Writes exchanges to a folder.
#[derive(Debug)]
pub struct Recorder {
    rule: RecordRule,
    send: SyncSender<Message>,
    counts: Arc<Counts>,
    shadows: Arc<Semaphore>,
    redaction: Arc<Redaction>,
}

/// What became of prompts that were to be written down.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub written: AtomicU64,
    pub dropped: AtomicU64,
    pub failed: AtomicU64,
    held: AtomicUsize,
}

#[derive(Debug)]
enum Message {
    Heard(Box<Heard>),
    /// Everything before it is to be on the disk; then this is told.
    Flush(SyncSender<()>),
}

impl Recorder {
    /// Writes to the rule's folder, by its path from `folder`. `secrets` are left out of
    /// what is written.
    ///
    /// # Errors
    /// When the folder cannot be made, or no file in it.
    pub fn start<C: Clock>(rule: RecordRule, folder: &Path, secrets: Vec<String>, clock: C) -> std::io::Result<Self> {
        let folder = folder.join(&rule.to);
        std::fs::create_dir_all(&folder)?;
        // Known now rather than at the first prompt.
        if std::fs::metadata(&folder)?.permissions().readonly() {
            return Err(std::io::ErrorKind::PermissionDenied.into());
        }
        let files = Files { folder, rotate: rule.rotate.get(), clock, open: None };
        let redaction = Arc::new(Redaction { secrets, patterns: rule.redact.clone() });
        let (send, receive) = sync_channel(WAITING);
        let counts = Arc::new(Counts::default());
        let (counted, left_out) = (counts.clone(), redaction.clone());
        std::thread::Builder::new()
            .name("recorder".to_owned())
            .spawn(move || files.keep(&receive, &left_out, &counted))?;
        Ok(Self { rule, send, counts, shadows: Arc::new(Semaphore::new(EVERY_TIER_AT_ONCE)), redaction })
    }

    /// Whether it records as this rule says, and leaves out these secrets.
    #[must_use]
    pub fn records(&self, rule: &RecordRule, secrets: &[String]) -> bool {
        self.rule.is_same(rule) && self.redaction.secrets == secrets
    }

    /// Whether every tier is to be asked this prompt; holds a place while it is. None
    /// too where there is no place, which is counted.
    pub(super) fn every_tier(&self) -> Option<OwnedSemaphorePermit> {
        if self.rule.every_tier <= 0.0 || fastrand::f64() >= self.rule.every_tier {
            return None;
        }
        let place = self.shadows.clone().try_acquire_owned().ok();
        if place.is_none() {
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
        place
    }

    /// Whether a prompt is to be written down with what was said to it.
    pub(super) fn picks(&self) -> bool {
        self.rule.share >= 1.0 || fastrand::f64() < self.rule.share
    }

    /// The shares of prompts that are written down, and that every tier is asked.
    pub(super) fn shares(&self) -> (f64, f64) {
        (self.rule.share, self.rule.every_tier)
    }

    pub(super) fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Hands one over, or drops it.
    pub(super) fn note(&self, heard: Heard) {
        let weight = heard.weight();
        let has_room = self.counts.held.fetch_add(weight, Ordering::Relaxed) + weight <= MOST_HELD;
        if !has_room || self.send.try_send(Message::Heard(Box::new(heard))).is_err() {
            self.counts.held.fetch_sub(weight, Ordering::Relaxed);
            let dropped = self.counts.dropped.fetch_add(1, Ordering::Relaxed) + 1;
            if dropped.is_power_of_two() {
                tracing::warn!(dropped, "exchanges are not recorded: the disk is too slow");
            }
        }
    }

    /// Waits until all so far are on the disk, for some seconds at most.
    pub fn flush(&self) {
        let (done, told) = sync_channel(1);
        if self.send.send(Message::Flush(done)).is_ok() {
            let _ = told.recv_timeout(Duration::from_secs(5));
        }
    }
}

/// The files of a folder, one after another.
struct Files<C> {
    folder: PathBuf,
    rotate: u64,
    clock: C,
    open: Option<(zstd::Encoder<'static, File>, u64)>,
}

impl<C: Clock> Files<C> {
    fn keep(mut self, receive: &Receiver<Message>, redaction: &Redaction, counts: &Counts) {
        while let Ok(first) = receive.recv() {
            let mut flushed = Vec::new();
            if matches!(first, Message::Heard(_)) {
                std::thread::sleep(TOGETHER);
            }
            for message in std::iter::once(first).chain(receive.try_iter()) {
                match message {
                    Message::Flush(done) => flushed.push(done),
                    Message::Heard(heard) => {
                        counts.held.fetch_sub(heard.weight(), Ordering::Relaxed);
                        let Some(line) = heard.line(redaction) else { continue };
                        match self.write(&line) {
                            Ok(()) => counts.written.fetch_add(1, Ordering::Relaxed),
                            Err(error) => {
                                tracing::warn!("an exchange could not be recorded: {error}");
                                counts.failed.fetch_add(1, Ordering::Relaxed)
                            }
                        };
                    }
                }
            }
            // A file that was ended can be read; one that is open can be, up to here.
            let ended = if flushed.is_empty() {
                self.open.as_mut().map_or(Ok(()), |(file, _)| file.flush())
            } else {
                self.end()
            };
            if let Err(error) = ended {
                tracing::warn!("exchanges could not be recorded: {error}");
            }
            flushed.iter().for_each(|done| _ = done.try_send(()));
        }
        let _ = self.end();
    }

    fn write(&mut self, line: &str) -> std::io::Result<()> {
        let (file, size) = match &mut self.open {
            Some(open) => open,
            none => {
                let file = next_file(&self.folder, &self.clock.stamp())?;
                none.insert((zstd::Encoder::new(file, LEVEL)?, 0))
            }
        };
        file.write_all(line.as_bytes())?;
        file.write_all(b"\n")?;
        *size += line.len() as u64 + 1;
        if *size >= self.rotate { self.end() } else { Ok(()) }
    }

    fn end(&mut self) -> std::io::Result<()> {
        let Some((file, _)) = self.open.take() else { return Ok(()) };
        file.finish()?.sync_all()
    }
}

/// A file that was not there, named by the time.
fn next_file(folder: &Path, stamp: &str) -> std::io::Result<File> {
    let open = |number| {
        let path = folder.join(format!("{stamp}-{number:03}.jsonl.zst"));
        OpenOptions::new().write(true).create_new(true).open(path)
    };
    let is_there = |opened: &std::io::Result<File>| {
        opened.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::AlreadyExists)
    };
    let mut tried = (0..1000).map(open).skip_while(is_there);
    tried.next().unwrap_or_else(|| Err(std::io::ErrorKind::AlreadyExists.into()))
}
