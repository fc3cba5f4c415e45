//! Audit: does a disk bear out what its process was told? Sectors are counted, not claims.
//!
//! It looks at an image in which nothing survives that was not synced, and leaves the disk as it is.

use super::invariant::Invariant;
use super::world::World;
use quorate_raft::LogIndex;
use quorate_raft::wal;

impl World {
    /// The worst power loss, on a copy: all that counts as durable is there.
    pub(super) fn audit(&mut self, machine: usize) {
        let m = &self.machines[machine];
        if m.harmed {
            // What it had synced was destroyed on purpose.
            return;
        }
        let image = m.disk.fork();
        image.heal();
        image.crash_keeping(|_| false);
        let opened = match wal::exists(&image.attach()) {
            Ok(false) if m.durable.log.is_empty() => return,
            Ok(_) => wal::open(image.attach(), wal::Options::default()),
            Err(error) => Err(error),
        };
        let lost = opened.and_then(|opened| {
            let found = opened.reader.read(LogIndex(1), LogIndex(u64::MAX - 1), usize::MAX)?;
            let differs =
                |(at, (_, chain)): &(usize, &(_, u64))| found.get(*at).map(|e| e.header().chain) != Some(*chain);
            let entry = m.durable.log.iter().enumerate().find(differs).map(|(at, _)| at + 1);
            let term = opened.meta.hard_state.term < m.durable.hard_state.term;
            Ok(entry.map(|index| format!("entry {index}")).or(term.then(|| "the term".to_owned())))
        });
        let what = match lost {
            Ok(None) => return,
            Ok(Some(what)) => {
                format!("{what} counts as durable on the disk of {}, and no sync has put it there", m.name)
            }
            Err(error) => format!("the disk of {} would not open after a power loss now: {error}", m.name),
        };
        self.witness.blame(Invariant::SyncedIsSynced, what);
    }
}
