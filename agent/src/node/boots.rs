//! Boots: the newest start of each data directory that this node has heard of, from whatever source.
//!
//! It never forgets within a life, and it is filled before anybody may connect: from the entries on disk, committed or
//! not, and from the remembered addresses. That a boot was once seen stays true whatever becomes of the entry that says so.

use super::denied::Denied;
use crate::machine::registry::{Command, Registration};
use crate::node::options::Founding;
use quorate_raft::mutant;
use quorate_raft::wal::{Entry, EntryKind};
use std::collections::BTreeMap;

/// Nodes remembered at most from connections and remembered addresses: many times the largest cluster. Those in the log
/// come on top; the log bounds them.
const NODES_MAX: usize = 1024;

/// Epoch and boot id by node id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Boots(BTreeMap<u64, (u64, u64)>);

impl Boots {
    /// This boot exists: so no earlier one of this directory may come any more.
    pub(super) fn saw(&mut self, node: u64, epoch: u64, boot: u64) {
        // Epochs begin at one: zero is somebody whose boot was never seen.
        if epoch > 0 && (self.0.len() < NODES_MAX || self.0.contains_key(&node)) {
            self.keep(node, epoch, boot);
        }
    }

    fn keep(&mut self, node: u64, epoch: u64, boot: u64) {
        let known = self.0.entry(node).or_insert((epoch, boot));
        if known.0 < epoch {
            *known = (epoch, boot);
        }
    }

    /// What the entry of a log says about boots.
    pub(super) fn read(&mut self, entry: &Entry) {
        let registrations: Vec<Registration> = match entry.header().kind {
            EntryKind::Registry => match crate::codec::decode(&entry.payload(), "control entry") {
                Ok(Command::Register(registration)) => vec![registration],
                _ => Vec::new(),
            },
            EntryKind::Founding => {
                let founding = crate::codec::decode::<Founding>(&entry.payload(), "founding entry");
                founding.map_or_else(|_| Vec::new(), |founding| founding.founders().cloned().collect())
            }
            _ => Vec::new(),
        };
        for Registration { node, epoch, boot, .. } in registrations {
            // Nobody who merely connects may crowd out those that the log knows.
            self.keep(node, epoch, boot);
        }
    }

    /// What a checkpoint says.
    pub(super) fn remember(&mut self, boots: &[(u64, u64, u64)]) {
        boots.iter().for_each(|(node, epoch, boot)| self.keep(*node, *epoch, *boot));
    }

    /// All that is known, by node.
    pub(super) fn all(&self) -> impl Iterator<Item = (u64, u64, u64)> {
        self.0.iter().map(|(node, (epoch, boot))| (*node, *epoch, *boot))
    }

    /// The newest boot of this node.
    pub(super) fn of(&self, node: u64) -> Option<(u64, u64)> {
        self.0.get(&node).copied()
    }

    /// Refuses a boot that is older than one known, or the same under another id.
    pub(super) fn check(&self, node: u64, epoch: u64, boot: u64) -> Result<(), Denied> {
        match self.of(node).filter(|_| !mutant!(StaleBootAccepted)) {
            Some((known, _)) if epoch < known => Err(Denied::Stale { got: epoch, known }),
            Some((known, of)) if epoch == known && boot != of => Err(Denied::Copy { epoch }),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_boot_stays_known_and_memory_is_bounded() {
        let mut boots = Boots::default();
        boots.saw(1, 5, 50);
        boots.saw(1, 4, 40);
        boots.saw(1, 5, 51);
        assert_eq!(boots.of(1), Some((5, 50)));
        for node in 2..10_000 {
            boots.saw(node, 1, 1);
        }
        assert_eq!(boots.0.len(), NODES_MAX);
        boots.keep(20_000, 1, 1);
        assert_eq!(boots.of(20_000), Some((1, 1)), "the log is believed all the same");
        boots.saw(1, 6, 60);
        assert_eq!(boots.check(1, 5, 50), Err(Denied::Stale { got: 5, known: 6 }));
    }
}
