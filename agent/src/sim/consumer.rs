//! Consumers: who reads the log from its beginning, a bite at a time, at their own pace and from whoever is up.
//!
//! They read as tails do: only what an agent has published as readable, from its own disk.

use super::plan::letter;
use super::world::World;
use quorate_raft::LogIndex;

/// A consumer whose bites are further apart than this is slow, in microseconds.
const SLOW_US: u64 = 200_000;

impl World {
    /// One more bite.
    pub(super) fn consume(&mut self, consumer: usize) {
        if !self.clients_run {
            return;
        }
        let plan = self.plan.consumers[consumer].clone();
        let count = self.machines.len();
        let from = self.consumers[consumer].agent;
        let up = (0..count).map(|more| (from + more) % count).find(|m| self.machines[*m].can_be_asked());
        if let Some(machine) = up {
            self.consumers[consumer].agent = machine;
            self.bite(consumer, machine, plan.bytes);
            if plan.every_us >= SLOW_US {
                self.counters.count("bites of slow readers");
            }
        }
        self.push(self.at + plan.every_us, super::event::Event::Consume { consumer });
    }

    fn bite(&mut self, consumer: usize, machine: usize, bytes: u64) {
        let next = self.consumers[consumer].next;
        let Some(process) = &self.machines[machine].process else { return };
        let published = &process.published;
        if !published.has_log || !published.current || next >= published.readable {
            return;
        }
        let (last, readable) = (published.readable_index, published.readable);
        let most = usize::try_from(bytes).unwrap_or(usize::MAX);
        let read = match process.reader.seek_offset(next) {
            Ok(Some(index)) => process.reader.read(index, last, most),
            Ok(None) => Ok(Vec::new()),
            Err(error) => Err(error),
        };
        match read {
            Ok(entries) => {
                for entry in entries.iter().filter(|e| e.header().index <= last && e.header().index > LogIndex(0)) {
                    self.witness.consumed(&self.machines[machine].name, entry, next);
                }
                let after = entries.last().map_or(next, |e| e.header().next_offset()).min(readable);
                self.consumers[consumer].next = after.max(next);
                self.counters.add("records consumed", after.saturating_sub(next));
            }
            Err(error) => {
                // A damaged or failing disk: the reader is told, and goes on elsewhere.
                self.counters.count("reads refused to consumers");
                self.say(format_args!("{} cannot read for a consumer: {error}", letter(machine)));
                self.consumers[consumer].agent = (machine + 1) % self.machines.len();
            }
        }
    }
}
