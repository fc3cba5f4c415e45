//! The reading threads: one for this agent and its clients, one for members that need much of the log.
//!
//! They decide nothing. What members need is read at a rate: it goes through the one thread that commits pass through, too.

use crate::node::FetchFor;
use quorate_raft::LogIndex;
use quorate_raft::wal::{Entry, Error, Reader};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// For members far behind, all together, bytes a second: a full gigabit line, and a tenth of what the thread that sends it
/// can do.
const CATCH_UP_BYTES_PER_SECOND: u64 = 128 << 20;
/// For members that repair themselves, all together, bytes a second: what one bulk connection carries.
const REPAIR_BYTES_PER_SECOND: u64 = 256 << 20;

/// A read for the node.
#[derive(Debug)]
pub(super) struct Fetch {
    pub(super) token: u64,
    pub(super) from: LogIndex,
    pub(super) to: LogIndex,
    pub(super) bytes_max: usize,
    pub(super) whom: FetchFor,
}

/// A read.
pub(super) enum Read {
    /// For the node.
    Fetch(Fetch),
    /// For a tail: any question to the reader.
    Query(Box<dyn FnOnce(&Reader) + Send>),
}

impl std::fmt::Debug for Read {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Read")
    }
}

/// Reads until nobody can ask any more. `look` is called after each read, before its answer, so that nobody takes what is
/// damaged for what never was; `fetched` says false when nobody wants to hear it.
pub(super) fn serve(
    reader: &Reader,
    reads: &mpsc::Receiver<Read>,
    look: impl Fn(),
    fetched: impl Fn(u64, Vec<Entry>) -> bool,
) {
    while let Ok(read) = reads.recv() {
        match read {
            Read::Query(question) => {
                question(reader);
                look();
            }
            Read::Fetch(Fetch { token, from, to, bytes_max, whom }) => {
                let begun = Instant::now();
                let entries = reader.read(from, to, bytes_max).unwrap_or_else(|error| {
                    // Damage is said once, by the node, and is read again until it is repaired.
                    if !matches!(error, Error::Corrupt { entries: Some(_), .. }) {
                        tracing::error!("cannot read entries {from}..={to}: {error}");
                    }
                    Vec::new()
                });
                let bytes = entries.iter().map(|entry| entry.bytes().len() as u64).sum();
                look();
                if !fetched(token, entries) {
                    return;
                }
                thread::sleep(due(whom, bytes).saturating_sub(begun.elapsed()));
            }
        }
    }
}

/// How long a read may take without another one beginning.
fn due(whom: FetchFor, bytes: u64) -> Duration {
    let rate = match whom {
        FetchFor::Itself => return Duration::ZERO,
        FetchFor::CatchUp => CATCH_UP_BYTES_PER_SECOND,
        FetchFor::Repair => REPAIR_BYTES_PER_SECOND,
    };
    Duration::from_secs_f64(bytes as f64 / rate as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_members_need_is_read_at_a_rate() {
        assert_eq!(due(FetchFor::Itself, 1 << 40), Duration::ZERO);
        assert_eq!(due(FetchFor::CatchUp, CATCH_UP_BYTES_PER_SECOND), Duration::from_secs(1));
        assert_eq!(due(FetchFor::Repair, REPAIR_BYTES_PER_SECOND / 4), Duration::from_millis(250));
        assert_eq!(due(FetchFor::Repair, 0), Duration::ZERO);
    }
}
