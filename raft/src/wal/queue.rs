//! Queue: the writes of one node on their way to its disk, in order, and the one thing that may overtake.
//!
//! It never changes the order of what is durable, but for one thing: while the first write waits for room, term and vote
//! of all that wait are written ahead, since the meta has its room for ever and a vote must not wait for an operator. A
//! crash then leaves a disk that voted and never received the entries that wait; see
//! [`Input::HardStatePersisted`](crate::Input::HardStatePersisted).

use std::collections::VecDeque;

use super::error::Error;
use super::writer::{Batch, Writer};
use crate::{HardState, PersistTicket};

/// Writes that are not on disk yet.
#[derive(Debug, Default)]
pub struct Queue {
    writes: VecDeque<(PersistTicket, Batch)>,
}

impl Queue {
    /// One more write, the newest.
    pub fn push(&mut self, ticket: PersistTicket, batch: Batch) {
        self.writes.push_back((ticket, batch));
    }

    /// The next write.
    #[must_use]
    pub fn front(&self) -> Option<&Batch> {
        self.writes.front().map(|(_, batch)| batch)
    }

    /// Does nothing wait?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    /// Writes the first one; its entries are durable after the next [`Writer::sync`]. `None` if nothing waits.
    ///
    /// # Errors
    /// As [`Writer::write`]; then it is still the first one.
    pub fn write_next(&mut self, writer: &mut Writer) -> Option<Result<(PersistTicket, Batch), Error>> {
        let (_, batch) = self.writes.front()?;
        if let Err(error) = writer.write(batch) {
            return Some(Err(error));
        }
        self.writes.pop_front().map(Ok)
    }

    /// The first write waits for room: makes durable what all that wait say of term and vote. Gives the newest of them,
    /// and the write that said so; `None` if nothing was left to be said.
    ///
    /// # Errors
    /// As [`Writer::write`]: then the writer is dead.
    pub fn overtake(&mut self, writer: &mut Writer) -> Result<Option<(PersistTicket, HardState)>, Error> {
        let newest = self.writes.iter().rev().find_map(|(ticket, batch)| Some((*ticket, batch.hard_state?)));
        if let Some((_, hard_state)) = newest {
            writer.write(&Batch { hard_state: Some(hard_state), ..Batch::default() })?;
            // Written once: a write may not say an older term again when its turn comes.
            for (_, batch) in &mut self.writes {
                batch.hard_state = None;
            }
        }
        Ok(newest)
    }
}
