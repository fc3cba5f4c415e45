//! Disk thread: what has gathered for a log is written as one group, and is durable when its sync returns.
//!
//! It tells no node: `World` does, when the time has come.

use super::dead::Dead;
use super::machine::Machine;
use quorate_raft::PersistTicket;
use quorate_raft::wal::{self, Space};

/// What a turn of the disk thread came to.
#[derive(Default)]
pub(super) struct Group {
    /// A sync follows.
    pub(super) syncs: bool,
    /// The rest waits for room, and what the disk said to that.
    pub(super) waits: Option<wal::Error>,
    /// The rest waits for a repair: the entry before a truncation cannot be read.
    pub(super) unreadable: bool,
    /// What cannot be read may have been dropped.
    pub(super) truncated: bool,
    /// Term and vote of everything up to this write are durable, though entries wait.
    pub(super) overtook: Option<PersistTicket>,
}

impl Machine {
    /// The disk thread takes what has gathered and writes it.
    pub(super) fn write_group(&mut self) -> Result<Group, Dead> {
        let mut group = Group::default();
        let Some(process) = &mut self.process else { return Ok(group) };
        if process.syncing.is_some() {
            return Ok(group);
        }
        let mut newest = None;
        process.waits = false;
        while let Some(batch) = process.queue.front() {
            let truncate_from = batch.truncate_from.map(|from| from.0.saturating_sub(1) as usize);
            let result = process.queue.write_next(&mut process.writer);
            let waits = |error: &wal::Error| {
                error.is_retriable() || matches!(error, wal::Error::Corrupt { entries: Some(_), .. })
            };
            if let Some(kept) = truncate_from.filter(|_| !matches!(&result, Some(Err(error)) if waits(error))) {
                // It may be gone from now on, whether the call succeeded or not.
                self.durable.log.truncate(kept);
                process.written.retain(|(index, _, _)| *index <= kept as u64);
            }
            match result {
                None => break,
                Some(Err(error)) if error.is_retriable() => {
                    process.waits = true;
                    group.waits = Some(error);
                    let ahead = process.queue.overtake(&mut process.writer).map_err(Dead::Log)?;
                    if let Some((ticket, hard_state)) = ahead {
                        self.durable.hard_state = hard_state;
                        group.overtook = Some(ticket);
                    }
                    break;
                }
                Some(Err(wal::Error::Corrupt { entries: Some(_), .. })) => {
                    group.unreadable = true;
                    break;
                }
                // What a call that failed has written was never synced, and so is no damage that a start names.
                Some(Err(error)) => return Err(Dead::Log(error)),
                Some(Ok((ticket, batch))) => {
                    group.truncated |= batch.truncate_from.is_some();
                    if let Some(hard_state) = batch.hard_state {
                        self.durable.hard_state = hard_state;
                    }
                    if let Some(kept) = truncate_from {
                        process.on_disk.truncate(kept);
                    }
                    for entry in &batch.append {
                        let header = entry.header();
                        process.written.push((header.index.0, header.term, header.chain));
                    }
                    process.on_disk.extend(batch.append);
                    newest = Some(ticket);
                }
            }
        }
        process.syncing = newest;
        group.syncs = newest.is_some();
        Ok(group)
    }

    /// What the disk has to tell of its room, if that is news.
    pub(super) fn space_news(&mut self, at: u64) -> Option<(Space, bool)> {
        let process = self.process.as_mut().filter(|p| p.paused_until <= at)?;
        let told = (process.writer.space().ok()?, process.waits);
        (process.told_space.replace(told) != Some(told)).then_some(told)
    }

    /// The sync returns. Gives the newest write that is durable now.
    pub(super) fn sync_group(&mut self) -> Result<Option<PersistTicket>, Dead> {
        let Some(process) = &mut self.process else { return Ok(None) };
        let Some(ticket) = process.syncing.take() else { return Ok(None) };
        process.writer.sync().map_err(Dead::Log)?;
        for (index, term, chain) in process.written.drain(..) {
            let at = index.saturating_sub(1) as usize;
            if at != self.durable.log.len() {
                return Err(Dead::Lost(format!("entry {index} was written behind {} entries", self.durable.log.len())));
            }
            self.durable.log.push((term, chain));
        }
        // Now and then nothing follows for so long that the log notes it.
        if process.queue.is_empty() && ticket.0.is_multiple_of(4) {
            process.writer.mark_idle();
        }
        Ok(Some(ticket))
    }
}
