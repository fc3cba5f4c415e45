//! The writer's part of a repair: two moments at which nobody else may write.
//!
//! It never reads or writes more than one entry there: what takes time stands beside it, see `repair`.

use super::damaged::Repaired;
use super::entry::Entry;
use super::error::{Context, Error};
use super::repair::{Given, Proven, Repairer, Staged};
use super::writer::Writer;
use crate::LogIndex;

impl Writer {
    /// What prepares repairs beside this writer, on any thread. One at a time, and not beside [`repair`](Self::repair):
    /// two would take the same temporary names.
    #[must_use]
    pub fn repairer(&self) -> Repairer {
        Repairer::new(self.shared.clone(), self.options.index_every_bytes)
    }

    /// Gives entries of a damaged range back, from its first one on, in pieces of any size: what [`Repairer::give`] and
    /// [`put_in_place`](Self::put_in_place) do, at once.
    ///
    /// # Errors
    /// [`Error::NotRepaired`] if they are not the entries that stood there, or stand in no damaged range; then begin again
    /// with the first one. [`Error::NotPrepared`] if there is no room for the copy. Nothing changed in both cases. After
    /// any other error the writer is dead: abort.
    pub fn repair(&mut self, entries: &[Entry]) -> Result<Repaired, Error> {
        self.check_alive()?;
        loop {
            match self.repairs.give(entries) {
                Ok(Given::Wants(next)) => return Ok(Repaired::Wants(next)),
                Ok(Given::Unsealed) => self.end_segment()?,
                Ok(Given::Proven(proven)) => return self.put_in_place(proven),
                Err(error) if error.is_of_repair() => return Err(error),
                Err(error) => return Err(self.fail(error)),
            }
        }
    }

    /// The segment that takes frames takes no more, so that it can be repaired.
    ///
    /// # Errors
    /// [`Error::NotPrepared`]: there is no room for the next one, and nothing changed. After any other error the writer is
    /// dead: abort.
    pub fn end_segment(&mut self) -> Result<(), Error> {
        self.check_alive()?;
        if self.active_seq().is_none() {
            return Ok(());
        }
        self.begin_segment()
    }

    /// Gives proven copies the names of their segments: from now on readers get the entries.
    ///
    /// # Errors
    /// [`Error::NotRepaired`] if what is damaged, or what follows it, has changed since; then begin again with the first
    /// entry. After any other error the writer is dead: abort.
    pub fn put_in_place(&mut self, proven: Proven) -> Result<Repaired, Error> {
        self.check_alive()?;
        let Proven(staged) = proven;
        let done = self.is_still_proven(&staged).and_then(|()| self.rename(&staged));
        match done {
            Ok(()) => Ok(Repaired::Whole { first: LogIndex(staged.first), last: LogIndex(staged.last) }),
            Err(error) => {
                staged.remove(self.disk.as_ref());
                Err(if error.is_of_repair() { error } else { self.fail(error) })
            }
        }
    }

    /// Entries may have been written, dropped or damaged while the copies were made.
    fn is_still_proven(&self, staged: &Staged) -> Result<(), Error> {
        if !staged.still_stands(&self.shared.view()) {
            return Err(staged.refuse("what is damaged has changed"));
        }
        let end = self.last.as_ref().ok_or_else(|| staged.refuse("the log has no entry"))?;
        staged.prove(&self.reader, &self.shared, Some(end))
    }

    /// From here on a failure is fatal.
    fn rename(&mut self, staged: &Staged) -> Result<(), Error> {
        for part in &staged.parts {
            let name = &part.segment.name;
            let old = self.disk.open(name).and_then(|file| file.len()).unwrap_or(0);
            let new = part.file.len().context("measure", &part.tmp)?;
            self.disk.rename(&part.tmp, name).context("rename", &part.tmp)?;
            self.disk.sync_dir().context("sync", "the data directory")?;
            self.shared.forget(part.segment.seq);
            let mut view = self.shared.view_mut();
            view.bytes = (view.bytes + new).saturating_sub(old);
            for filled in &part.filled {
                view.close_holes(part.segment.seq, filled.first, filled.last, &part.points);
            }
        }
        Ok(())
    }
}
