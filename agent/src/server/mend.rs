//! The thread that writes damaged segments anew, beside the one that writes the log.
//!
//! It changes nothing that counts: what is proven gets its name from the thread that writes. It never retries: a failed
//! write or sync ends the process, as everywhere.

use super::fatal::fatal;
use crate::node::RepairFailed;
use quorate_raft::LogIndex;
use quorate_raft::wal::{Entry, Error, Given, Proven, Repairer};
use std::sync::mpsc;

/// Entries for a damaged range.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) id: u64,
    pub(super) entries: Vec<Entry>,
}

/// The thread that writes, as this one sees it.
pub(super) trait Writing {
    /// No more frames into the segment that takes them.
    fn end_segment(&self) -> Result<(), RepairFailed>;
    /// The names, and then a word to the node.
    fn put_in_place(&self, id: u64, proven: Proven);
}

/// Prepares repairs until nobody gives entries any more. `said`: how far one has come, or why it does not.
pub(super) fn serve(
    mut repairer: Repairer,
    pieces: &mpsc::Receiver<Piece>,
    writing: &impl Writing,
    said: impl Fn(u64, Result<LogIndex, RepairFailed>),
) {
    while let Ok(Piece { id, entries }) = pieces.recv() {
        match give(&mut repairer, &entries, writing) {
            Ok(Given::Proven(proven)) => writing.put_in_place(id, proven),
            Ok(Given::Wants(next)) => said(id, Ok(next)),
            Ok(Given::Unsealed) => said(id, Err(RepairFailed::Unfit("what is damaged has changed".into()))),
            Err(why) => said(id, Err(why)),
        }
    }
}

fn give(repairer: &mut Repairer, entries: &[Entry], writing: &impl Writing) -> Result<Given, RepairFailed> {
    let given = repairer.give(entries).map_err(|error| unrepaired(&error))?;
    if !matches!(given, Given::Unsealed) {
        return Ok(given);
    }
    writing.end_segment()?;
    repairer.give(entries).map_err(|error| unrepaired(&error))
}

/// Why entries did not repair a log; ends the process if nobody knows what the disk holds now.
pub(super) fn unrepaired(error: &Error) -> RepairFailed {
    match error {
        error if error.is_retriable() => RepairFailed::NoRoom(error.to_string()),
        error if error.is_of_repair() => RepairFailed::Unfit(error.to_string()),
        error => fatal("repair the log", error),
    }
}
