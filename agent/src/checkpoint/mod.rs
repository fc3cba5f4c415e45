//! Checkpoint: the state of the built-in machines after one entry, in a file, so that a start need not read the log from
//! its beginning.
//!
//! It never decides when one is taken (`node` does), never deletes a record, and is never needed: whatever is wrong with a
//! checkpoint, an older one or the log itself takes its place.
//!
//! | file | idea |
//! |---|---|
//! | `format` | the bytes: header, chunks, footer, and what in them is not protected |
//! | `encode`, `decode` | the content, to bytes and back; pure |
//! | `content` | chunks that were checked, as one stream |
//! | `store` | files on a `wal::Disk`: written beside, synced, read back, renamed, two kept; and what a start may believe |

mod content;
mod decode;
mod encode;
mod format;
mod store;

pub use decode::{decode, verify};
pub use encode::encode;
pub use format::{CHUNK_BYTES_MAX, FILE_BYTES_MAX, Invalid, VERSION};
pub use store::{Loaded, PassedOver, Store, Trouble, stands_in};

use crate::machine::{log::LogMachine, registry::Registry};
use quorate_raft::wal::EntryHeader;
use quorate_raft::{Configuration, LogIndex, NodeId, Run};

/// The state after one entry. A clone costs microseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The trust domain.
    pub cluster: [u8; 16],
    /// The history.
    pub log_id: [u8; 16],
    /// Whose disk.
    pub node: NodeId,
    /// The header of the last entry that the state holds: index, term, chain, next offset, time.
    pub last: EntryHeader,
    /// The Lamport time of the last record.
    pub lamport: u64,
    /// The largest value of a record in this log, as its founding says.
    pub record_bytes_max: usize,
    /// The configuration in force at that entry, and the index of its entry.
    pub configuration: (LogIndex, Configuration),
    /// The runs of equal term up to that entry.
    pub runs: Vec<Run>,
    /// Node, epoch and boot id of the newest boot of each data directory that was heard of.
    pub boots: Vec<(u64, u64, u64)>,
    /// Who holds a name.
    pub registry: Registry,
    /// Offsets and stream numbers.
    pub log: LogMachine,
}

impl Checkpoint {
    /// The index of the last entry that the state holds.
    #[must_use]
    pub fn index(&self) -> LogIndex {
        self.last.index
    }

    /// Do the parts agree with each other? Checked before each write and after each read.
    ///
    /// # Errors
    /// What contradicts what.
    pub fn examine(&self) -> Result<(), &'static str> {
        let claim = |holds: bool, what| if holds { Ok(()) } else { Err(what) };
        let last = &self.last;
        claim(last.index > LogIndex::ZERO, "it stands before the first entry")?;
        claim(crate::checkpoint::seed(&self.log_id) == last.seed, "its last entry is of another log")?;
        claim(self.log.next_offset() == last.next_offset(), "its next offset is not that of its last entry")?;
        let (index, configuration) = &self.configuration;
        claim(*index > LogIndex::ZERO && *index <= last.index, "its configuration lies outside the log")?;
        claim(configuration.is_legal(), "its configuration is illegal")?;
        let first = self.runs.first().is_some_and(|run| run.first == LogIndex(1));
        let ascending = self.runs.windows(2).all(|pair| pair[0].first < pair[1].first && pair[0].term < pair[1].term);
        claim(first && ascending, "its terms do not ascend from the first entry on")?;
        let newest = self.runs.last().is_some_and(|run| run.first <= last.index && run.term == last.term);
        claim(newest, "its last term is not that of its last entry")
    }
}

/// The seed of a log: the first eight bytes of its id.
#[must_use]
pub fn seed(log_id: &[u8; 16]) -> u64 {
    let mut first = [0; 8];
    first.copy_from_slice(&log_id[..8]);
    u64::from_le_bytes(first)
}

#[cfg(test)]
mod tests;
