//! The registry: which node id holds a name, and which disks are gone for good. Replicated, deterministic.
//!
//! It never gates Raft traffic, since it may lag; it gates admission.

use quorate_raft::mutant;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// A change of the registry, as it stands in an entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// This node holds this name from now on, at this boot. A former holder is superseded.
    Register(Registration),
    /// This node has left: its id will never be admitted again.
    Depart {
        /// The node.
        node: u64,
    },
    /// An operator has dropped this failed node: as if it had left, but if it comes back it is turned away and told so.
    Forget {
        /// The node.
        node: u64,
        /// Its name, which is free from now on.
        name: String,
    },
}

/// Who holds a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    /// The node id: the identity of the disk.
    pub node: u64,
    /// The name its certificate proves.
    pub name: String,
    /// Its boot epoch when it was registered, or the newest that a leader has seen.
    pub epoch: u64,
    /// The random id of that boot: the same epoch under another one is a copy of the disk.
    pub boot: u64,
}

/// One thing that the registry knows: together they are all of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fact {
    /// This node holds a name.
    Holds(Registration),
    /// This node has left.
    Departed(u64),
    /// The first node lost its name to the second.
    Superseded(u64, u64),
    /// An operator dropped this node, which had this name.
    Forgotten(u64, String),
}

/// The registry after the commands applied so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Registry {
    nodes: BTreeMap<u64, Registration>,
    departed: BTreeSet<u64>,
    superseded: BTreeMap<u64, u64>,
    /// Those of the departed that an operator dropped, with the names they had.
    forgotten: BTreeMap<u64, String>,
}

impl Registry {
    /// All that it knows, in a fixed order.
    pub fn facts(&self) -> impl Iterator<Item = Fact> {
        let holds = self.nodes.values().cloned().map(Fact::Holds);
        let departed = self.departed.iter().copied().map(Fact::Departed);
        let superseded = self.superseded.iter().map(|(old, new)| Fact::Superseded(*old, *new));
        let forgotten = self.forgotten.iter().map(|(node, name)| Fact::Forgotten(*node, name.clone()));
        holds.chain(departed).chain(superseded).chain(forgotten)
    }

    /// What a checkpoint says.
    pub fn learn(&mut self, fact: Fact) {
        match fact {
            Fact::Holds(registration) => drop(self.nodes.insert(registration.node, registration)),
            Fact::Departed(node) => drop(self.departed.insert(node)),
            Fact::Superseded(old, new) => drop(self.superseded.insert(old, new)),
            Fact::Forgotten(node, name) => drop(self.forgotten.insert(node, name)),
        }
    }

    /// Applies one command.
    pub fn apply(&mut self, command: Command) {
        match command {
            // Decided before its departure was known: a departed node never comes back.
            Command::Register(new) if self.departed.contains(&new.node) && !mutant!(DepartedAdmitted) => drop(new),
            Command::Register(new) => {
                let former = self.holder(&new.name).filter(|r| r.node != new.node).map(|r| r.node);
                if let Some(former) = former {
                    self.nodes.remove(&former);
                    self.superseded.insert(former, new.node);
                }
                // It holds a name again, so nobody stands in its place; and the chain of successors has an end.
                self.superseded.remove(&new.node);
                if self.nodes.get(&new.node).is_none_or(|known| known.epoch <= new.epoch) {
                    self.nodes.insert(new.node, new);
                }
            }
            Command::Depart { node } => {
                if !mutant!(DepartedAdmitted) {
                    self.nodes.remove(&node);
                }
                self.departed.insert(node);
            }
            Command::Forget { node, name } => {
                self.nodes.remove(&node);
                self.departed.insert(node);
                self.forgotten.insert(node, name);
            }
        }
    }

    /// Has an operator dropped this node.
    #[must_use]
    pub fn is_forgotten(&self, node: u64) -> bool {
        self.forgotten.contains_key(&node)
    }

    /// All nodes that an operator dropped, with the names they had.
    pub fn forgotten(&self) -> impl Iterator<Item = (u64, &str)> {
        self.forgotten.iter().map(|(node, name)| (*node, name.as_str()))
    }

    /// The registration of this node.
    #[must_use]
    pub fn node(&self, node: u64) -> Option<&Registration> {
        self.nodes.get(&node)
    }

    /// Who holds this name.
    #[must_use]
    pub fn holder(&self, name: &str) -> Option<&Registration> {
        self.nodes.values().find(|r| r.name == name)
    }

    /// All registrations, by node id.
    pub fn nodes(&self) -> impl Iterator<Item = &Registration> {
        self.nodes.values()
    }

    /// Has this node left for good.
    #[must_use]
    pub fn has_departed(&self, node: u64) -> bool {
        self.departed.contains(&node)
    }

    /// Disks that lost their name, each with the one that took it first.
    pub fn superseded(&self) -> impl Iterator<Item = (u64, u64)> {
        self.superseded.iter().map(|(old, new)| (*old, *new))
    }

    /// The node that holds the name of this one now, or held it last: a disk may be lost more than once.
    #[must_use]
    pub fn superseded_by(&self, node: u64) -> Option<u64> {
        let mut newest = *self.superseded.get(&node)?;
        while let Some(next) = self.superseded.get(&newest) {
            newest = *next;
        }
        Some(newest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn register(node: u64, name: &str, epoch: u64) -> Command {
        Command::Register(Registration { node, name: name.into(), epoch, boot: epoch })
    }

    #[test]
    fn a_new_disk_takes_the_name_and_the_old_one_is_superseded() {
        let mut registry = Registry::default();
        registry.apply(register(1, "a", 4));
        registry.apply(register(2, "a", 1));
        assert_eq!(registry.holder("a").unwrap().node, 2);
        assert!(registry.node(1).is_none());
        assert_eq!(registry.superseded_by(1), Some(2));
        registry.apply(register(3, "a", 1));
        assert_eq!((registry.superseded_by(1), registry.superseded_by(2)), (Some(3), Some(3)));
        registry.apply(register(1, "a", 5));
        assert_eq!((registry.superseded_by(1), registry.superseded_by(3)), (None, Some(1)));
    }

    #[test]
    fn who_is_forgotten_has_departed_and_leaves_its_name_free() {
        let mut registry = Registry::default();
        registry.apply(register(1, "a", 4));
        for _ in 0..2 {
            registry.apply(Command::Forget { node: 1, name: "a".into() });
            assert!(registry.has_departed(1) && registry.is_forgotten(1) && registry.holder("a").is_none());
        }
        registry.apply(register(1, "a", 5));
        assert!(registry.holder("a").is_none());
        registry.apply(register(2, "a", 1));
        assert_eq!((registry.holder("a").unwrap().node, registry.superseded_by(1)), (2, None));
        assert_eq!(registry.forgotten().collect::<Vec<_>>(), [(1, "a")]);
    }

    #[test]
    fn an_epoch_never_goes_back_and_the_departed_stay_departed() {
        let mut registry = Registry::default();
        registry.apply(register(1, "a", 4));
        registry.apply(register(1, "a", 3));
        assert_eq!(registry.node(1).unwrap().epoch, 4);
        registry.apply(Command::Depart { node: 1 });
        registry.apply(register(1, "a", 9));
        assert!(registry.has_departed(1) && registry.holder("a").is_none());
    }
}
