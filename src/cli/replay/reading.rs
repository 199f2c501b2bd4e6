//! Reads exchanges ahead of the thread that runs them.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};

use indicatif::{ProgressBar, ProgressStyle};

use super::QUEUED;
use crate::exchange::Exchange;
use crate::labels::Labels;
use crate::outcomes::group_of;
use crate::policy::Policy;
use crate::recording::{CannotRead, Lines};

/// Exchanges handed over at a time.
const BATCH: usize = 64;

pub(super) enum Item {
    FileBegins,
    Exchange(Arc<Exchange>),
    /// One of another shard, and when it arrived.
    Elsewhere(Option<f64>),
    /// All was read: a hash of the names.
    End([u8; 32]),
    Broken(CannotRead),
    /// Bytes read so far, over all files.
    Read(u64),
}

/// Reads and parses on a thread of its own, a few batches ahead.
pub(super) fn read_ahead(
    paths: Vec<PathBuf>,
    labels: Labels,
    policy: Arc<Policy>,
    shard: Option<(u32, u32)>,
) -> Receiver<Vec<Item>> {
    let (send, receive) = sync_channel(QUEUED);
    std::thread::spawn(move || {
        let (mut before, mut names) = (0, blake3::Hasher::new());
        for path in paths {
            let mut batch = vec![Item::FileBegins];
            let mut lines = match Lines::open(&path) {
                Ok(lines) => lines,
                Err(error) => {
                    let _ = send.send(vec![Item::Broken(error)]);
                    return;
                }
            };
            while let Some(read) = lines.next() {
                batch.push(match read {
                    Ok(exchange) if !is_of(shard, &exchange) => {
                        names.update(exchange.id.as_bytes()).update(b"\n");
                        Item::Elsewhere(exchange.arrived_ms)
                    }
                    Ok(mut exchange) => {
                        names.update(exchange.id.as_bytes()).update(b"\n");
                        labels.apply(&policy, &mut exchange);
                        read_here(&policy, &exchange);
                        Item::Exchange(Arc::new(exchange))
                    }
                    Err(error) => Item::Broken(error),
                });
                if batch.len() >= BATCH {
                    batch.push(Item::Read(before + lines.read));
                    if send.send(std::mem::take(&mut batch)).is_err() {
                        return;
                    }
                }
            }
            before += lines.read;
            if send.send(batch).is_err() {
                return;
            }
        }
        let _ = send.send(vec![Item::End(names.finalize().into())]);
    });
    receive
}

/// Whether an exchange is in this shard: by its conversation, so that one that stays at a
/// tier is whole, and equal prompts meet in one cache.
fn is_of(shard: Option<(u32, u32)>, exchange: &Exchange) -> bool {
    shard.is_none_or(|(shard, of)| group_of(exchange) % u64::from(of) == u64::from(shard - 1))
}

/// Reads what is all but sure to be wanted on this thread, so that the one that
/// runs exchanges finds it read.
fn read_here(policy: &Policy, exchange: &Exchange) {
    exchange.prompt.content_key();
    let first = exchange.answer_of(&policy.tiers[0]);
    let _ = first.map(|answer| answer.answer(exchange.prompt.endpoint));
    if policy.stopping.is_some() {
        exchange.prompt.asked();
    }
}

/// A bar over the bytes of all files; hidden unless standard error is a terminal.
pub(super) fn progress(paths: &[PathBuf]) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bytes: u64 = paths.iter().filter_map(|p| p.metadata().ok()).map(|m| m.len()).sum();
    let style = ProgressStyle::with_template("{bar:40} {binary_bytes}/{binary_total_bytes} {eta}");
    ProgressBar::new(bytes).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
