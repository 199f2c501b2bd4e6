//! Writes exchanges down, compressed, on a thread of its own.
//!
//! Invariant: a slow disk costs lines, never time: what cannot be taken at once is
//! dropped and counted, and so is what could not be written.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::clock::{Clock, date_of, since_1970_of, stamp_of};
use crate::policy::RecordRule;
use crate::recording::{Heard, Redaction, files, name_of, tabulate};

/// Lines that may wait, and the bytes they may hold.
const WAITING: usize = 4096;
const MOST_HELD: usize = 64 << 20;
/// Prompts that are asked of every tier at the same time.
const EVERY_TIER_AT_ONCE: usize = 16;
/// zstd's fastest of its usual ones: recording is to cost little, and disks are large.
const LEVEL: i32 = 1;
/// Lines are written together: a thread that wakes for each costs more than the line.
const TOGETHER: Duration = Duration::from_millis(100);

/// How often an idle one looks whether the day is over.
const LOOK: Duration = Duration::from_mins(1);

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
        let (root, folder) = (folder, folder.join(&rule.to));
        std::fs::create_dir_all(&folder)?;
        // Known now rather than at the first prompt.
        if std::fs::metadata(&folder)?.permissions().readonly() {
            return Err(std::io::ErrorKind::PermissionDenied.into());
        }
        let tables = rule.tables.as_ref().map(|tables| root.join(tables));
        let files = Files {
            folder,
            rotate: rule.rotate.get(),
            tables,
            tabulating: Vec::new(),
            instance: fastrand::u32(..),
            clock,
            open: None,
        };
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

    /// What is to be written down of a prompt, drawn by chance: none, or whether every tier
    /// is to be asked.
    pub(super) fn draws(&self, may_ask: bool) -> Option<bool> {
        if may_ask && self.rule.every_tier > 0.0 && fastrand::f64() < self.rule.every_tier {
            return Some(true);
        }
        (self.rule.share >= 1.0 || fastrand::f64() < self.rule.share).then_some(false)
    }

    /// With what chance a prompt is written down as one was that `draws` so; where all
    /// tiers had been asked `already`, either draw writes the same.
    pub(super) fn propensity(&self, may_ask: bool, every_tier: bool, already: bool) -> f64 {
        let every = if may_ask { self.rule.every_tier } else { 0.0 };
        let as_served = self.rule.share * (1.0 - every);
        match (already, every_tier) {
            (true, _) => every + as_served,
            (false, true) => every,
            (false, false) => as_served,
        }
    }

    /// A place to ask every tier; where there is none, the prompt is dropped.
    pub(super) fn place(&self) -> Option<OwnedSemaphorePermit> {
        let place = self.shadows.clone().try_acquire_owned().ok();
        if place.is_none() {
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
        place
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
        // A disk that hangs does not hold up the end.
        for _ in 0..50 {
            if self.send.try_send(Message::Flush(done.clone())).is_ok() {
                if told.recv_timeout(Duration::from_secs(5)).is_err() {
                    tracing::error!("not all of it is on the disk, or in tables, which the next start makes up for");
                }
                return;
            }
            std::thread::sleep(TOGETHER);
        }
    }
}

/// The files of a folder, one after another.
struct Files<C> {
    folder: PathBuf,
    rotate: u64,
    /// Where files that have ended become tables.
    tables: Option<PathBuf>,
    tabulating: Vec<JoinHandle<()>>,
    /// Unlike that of any other gateway: their files may meet in one folder.
    instance: u32,
    clock: C,
    open: Option<Open>,
}

/// A file that is being written.
struct Open {
    path: PathBuf,
    /// The day it began, since 1970 did.
    day: u64,
    file: zstd::Encoder<'static, File>,
    /// Bytes of lines so far.
    size: u64,
    /// When its first prompt arrived; others are told from there.
    began: Duration,
}

impl<C: Clock> Files<C> {
    fn keep(mut self, receive: &Receiver<Message>, redaction: &Redaction, counts: &Counts) {
        self.make_up();
        loop {
            let first = receive.recv_timeout(LOOK);
            if self.open.as_ref().is_some_and(|open| open.day != day(&self.clock)) {
                let ended = self.end();
                self.settle(ended, counts, &mut 0);
            }
            let first = match first {
                Ok(first) => first,
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => break,
            };
            let (mut flushed, mut taken) = (Vec::new(), 0);
            if matches!(first, Message::Heard(_)) {
                std::thread::sleep(TOGETHER);
            }
            for message in std::iter::once(first).chain(receive.try_iter()) {
                let heard = match message {
                    Message::Heard(heard) => heard,
                    Message::Flush(done) => {
                        flushed.push(done);
                        continue;
                    }
                };
                counts.held.fetch_sub(heard.weight(), Ordering::Relaxed);
                match heard.line(redaction, self.open.as_ref().map_or(heard.arrived, |open| open.began)) {
                    Some(line) => {
                        taken += 1;
                        self.write(&line, heard.arrived, counts, &mut taken);
                    }
                    // A stream that was cut, and nothing before it.
                    None => _ = counts.dropped.fetch_add(1, Ordering::Relaxed),
                }
            }
            // A file that was ended can be read; one that is open can be, up to here.
            let ended = match &mut self.open {
                Some(open) if flushed.is_empty() => open.file.flush(),
                _ => self.end(),
            };
            self.settle(ended, counts, &mut taken);
            if !flushed.is_empty() {
                self.tabulating.drain(..).for_each(|writing| _ = writing.join());
            }
            flushed.iter().for_each(|done| _ = done.try_send(()));
        }
        let _ = self.end();
    }

    /// Writes tables of recordings that have none: their gateway had no time for that.
    fn make_up(&mut self) {
        let Some(tables) = self.tables.clone() else { return };
        let Ok(there) = files(std::slice::from_ref(&self.folder)) else { return };
        let has_none = |path: &PathBuf| {
            let name = name_of(path);
            let date = since_1970_of(&name).map(date_of);
            date.is_some_and(|date| !tables.join(format!("exchanges/date={date}/{name}.parquet")).exists())
        };
        let late: Vec<PathBuf> = there.into_iter().filter(has_none).collect();
        let each = move || late.iter().for_each(|path| as_tables(path, &tables));
        let thread = std::thread::Builder::new().name("tables".to_owned()).spawn(each);
        self.tabulating.extend(thread);
    }

    /// Writes a line. Lines that were `taken` and are not yet on their way to the disk are
    /// counted once they are, or are lost.
    fn write(&mut self, line: &str, arrived: Duration, counts: &Counts, taken: &mut u64) {
        let written = self.try_write(line, arrived);
        match written {
            Ok(true) => {
                let ended = self.end();
                self.settle(ended, counts, taken);
            }
            Ok(false) => {}
            Err(error) => self.settle(Err(error), counts, taken),
        }
    }

    /// Whether the file is full now.
    fn try_write(&mut self, line: &str, arrived: Duration) -> std::io::Result<bool> {
        let open = match &mut self.open {
            Some(open) => open,
            none => {
                // Its name says when its first prompt came.
                let ago = self.clock.now().saturating_sub(arrived);
                let came = self.clock.since_1970().saturating_sub(ago);
                let (path, file) = next_file(&self.folder, &stamp_of(came), self.instance)?;
                let day = day(&self.clock);
                none.insert(Open { path, day, file: zstd::Encoder::new(file, LEVEL)?, size: 0, began: arrived })
            }
        };
        open.file.write_all(line.as_bytes())?;
        open.file.write_all(b"\n")?;
        open.size += line.len() as u64 + 1;
        Ok(open.size >= self.rotate)
    }

    /// Counts lines by whether they could be written. A file that could not be written to
    /// is left as it is: what comes next begins another.
    fn settle(&mut self, done: std::io::Result<()>, counts: &Counts, taken: &mut u64) {
        let lines = std::mem::take(taken);
        match done {
            Ok(()) => _ = counts.written.fetch_add(lines, Ordering::Relaxed),
            Err(error) => {
                self.open = None;
                counts.failed.fetch_add(lines, Ordering::Relaxed);
                tracing::warn!(lines, "exchanges could not be recorded: {error}");
            }
        }
    }

    fn end(&mut self) -> std::io::Result<()> {
        let Some(open) = self.open.take() else { return Ok(()) };
        open.file.finish()?.sync_all()?;
        if let Some(tables) = self.tables.clone() {
            // Lines go on being written meanwhile.
            let thread = std::thread::Builder::new().name("tables".to_owned());
            self.tabulating.retain(|writing| !writing.is_finished());
            self.tabulating.push(thread.spawn(move || as_tables(&open.path, &tables))?);
        }
        Ok(())
    }
}

/// The day in UTC, since 1970 began.
fn day<C: Clock>(clock: &C) -> u64 {
    clock.since_1970().as_secs() / (24 * 3600)
}

/// Writes a file's tables. The file stays, so that they can be written later where they
/// cannot be now.
fn as_tables(path: &Path, folder: &Path) {
    let name = name_of(path);
    let began = since_1970_of(&name).unwrap_or_default();
    if let Err(error) = tabulate(path, &name, began, folder, |_| true) {
        tracing::error!("no tables, which `cascade export` would write: {error}");
    }
}

/// A file that was not there, named by the time.
fn next_file(folder: &Path, stamp: &str, instance: u32) -> std::io::Result<(PathBuf, File)> {
    let open = |number| {
        let path = folder.join(format!("{stamp}-{number:03}-{instance:08x}.jsonl.zst"));
        OpenOptions::new().write(true).create_new(true).open(&path).map(|file| (path, file))
    };
    let is_there = |opened: &std::io::Result<(PathBuf, File)>| {
        opened.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::AlreadyExists)
    };
    let mut tried = (0..1000).map(open).skip_while(is_there);
    tried.next().unwrap_or_else(|| Err(std::io::ErrorKind::AlreadyExists.into()))
}
