//! Operators at work: they drain, remove, promote and demote while everything else goes wrong.
//!
//! They do only what the documentation tells them, and take back what they have begun.

use crate::sim::client::Kind;
use crate::sim::event::Event;
use crate::sim::plan::{MS, SECOND, letter};
use crate::sim::world::World;

/// How long an operator waits for one of these.
const PATIENCE_US: u64 = 6 * SECOND;
/// How often he looks at what has become of a removal, and how many times.
const LOOK_US: u64 = 300 * MS;
const LOOKS: u64 = 40;
/// Before he tries again to take back what he has begun.
const UNDO_AGAIN_US: u64 = SECOND;

impl World {
    /// Asks whoever leads, else anybody: operators know their way about.
    fn operator_asks(&mut self, kind: Kind) -> Option<usize> {
        let asked = self.leader().or_else(|| (0..self.machines.len()).find(|m| self.machines[*m].can_be_asked()))?;
        // A leader may work on it for as long, though the agent that was asked dies.
        if !matches!(kind, Kind::Unpin { .. } | Kind::Drain { undo: true, .. }) {
            self.operators_until = self.at + PATIENCE_US + SECOND;
        }
        self.ask(None, asked, kind, PATIENCE_US)
    }

    pub(super) fn drain_for(&mut self, agent: usize, for_us: u64) -> bool {
        let begun = self.operator_asks(Kind::Drain { agent, undo: false }).is_some();
        self.push(self.at + for_us, Event::Undoing { kind: Kind::Drain { agent, undo: true } });
        begun
    }

    pub(super) fn pin_for(&mut self, agent: usize, kind: Kind, for_us: u64) -> bool {
        if self.is_a_disk_in_doubt() {
            self.say(format_args!("the seat of {} stays as it is: a disk was just lost", letter(agent)));
            return false;
        }
        let begun = self.operator_asks(kind).is_some();
        self.push(self.at + for_us, Event::Undoing { kind: Kind::Unpin { agent } });
        begun
    }

    /// What was begun is taken back, sooner or later.
    pub(in crate::sim) fn undoing(&mut self, kind: Kind) {
        let (Kind::Drain { agent, .. } | Kind::Unpin { agent }) = kind else { return };
        let node = self.machines[agent].node.get();
        let wanted = match kind {
            Kind::Drain { .. } => self.witness.is_draining(node),
            _ => self.witness.is_pinned(node),
        };
        if !wanted || !self.clients_run {
            return;
        }
        self.operator_asks(kind);
        self.push(self.at + UNDO_AGAIN_US, Event::Undoing { kind });
    }

    /// An operator removes it; when that stands, he sees to it that it starts with an empty disk.
    pub(super) fn remove(&mut self, agent: usize, heir: Option<usize>) -> bool {
        // Its vote may be missed, and so may another one.
        if self.is_a_disk_in_doubt() {
            self.say(format_args!("{} is not removed: a disk was just lost", letter(agent)));
            return false;
        }
        let begun = self.operator_asks(Kind::Remove { agent, heir }).is_some();
        let node = self.machines[agent].node.get();
        self.push(self.at + LOOK_US, Event::Removing { machine: agent, node, looks: LOOKS });
        begun
    }

    /// He looks whether it was removed. Whatever has not come by then he finds when all is calm.
    pub(in crate::sim) fn removing(&mut self, machine: usize, node: u64, looks: u64) {
        if self.machines[machine].node.get() != node || !self.clients_run {
            return;
        }
        let inside = self.witness.configuration().is_some_and(|c| c.members().iter().any(|m| m.get() == node));
        if self.witness.has_departed(node) && !inside {
            self.hit("removed", machine);
            self.lose_disk(machine);
            return self.start_at(machine, self.at + MS);
        }
        if looks > 0 {
            self.push(self.at + LOOK_US, Event::Removing { machine, node, looks: looks - 1 });
        }
    }

    /// When all is calm operators take back everything that they have begun. Says whether there was something.
    pub(in crate::sim) fn take_back(&mut self) -> bool {
        let mut acted = false;
        for agent in 0..self.machines.len() {
            let node = self.machines[agent].node.get();
            if !self.machines[agent].counts() {
                continue;
            }
            let wanted = [
                (self.witness.is_draining(node), Kind::Drain { agent, undo: true }),
                (self.witness.is_pinned(node), Kind::Unpin { agent }),
            ];
            for (_, kind) in wanted.into_iter().filter(|(wanted, _)| *wanted) {
                let asked = self.operations.iter().any(|o| o.kind == kind && o.end.is_none());
                acted |= asked || self.operator_asks(kind).is_some();
            }
        }
        acted
    }
}
