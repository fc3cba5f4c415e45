//! The registry: which node id holds a name, which disks are gone for good, and what all agents have agreed to go by: the
//! settings of the autopilot and the feature level. Replicated, deterministic.
//!
//! It never gates Raft traffic, since it may lag; it gates admission.

use super::settings::Settings;
use quorate_raft::mutant;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What every program understands that reads this format at all.
pub const LEVEL_BASE: u32 = 1;

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
    /// An operator moves work away from this node, or is done with that.
    Drain {
        /// The node.
        node: u64,
        /// Away from it.
        on: bool,
    },
    /// An operator says which seat this node has; none: the autopilot decides again.
    Pin {
        /// The node.
        node: u64,
        /// Its seat.
        seat: Option<Seat>,
    },
    /// An operator takes this node, dead or alive, out of the cluster: as if it were forgotten, and it is told so.
    Remove {
        /// The node.
        node: u64,
        /// Its name, which is free from now on.
        name: String,
        /// Who gets its vote, in the same change.
        heir: Option<u64>,
    },
    /// The autopilot goes by these from now on.
    Configure(Settings),
    /// Every member understands what this level brought; it is never lowered.
    RaiseLevel {
        /// The level.
        level: u32,
    },
}

/// A seat that an operator gave, and that the autopilot leaves alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Seat {
    /// It votes; if need be in an even group.
    Voter {
        /// The group may be even with it.
        even: bool,
    },
    /// It learns, and has no vote; if need be the group is even without it.
    Learner {
        /// The group may be even without it.
        even: bool,
    },
}

impl Seat {
    /// `voter` or `learner`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Voter { .. } => "voter",
            Self::Learner { .. } => "learner",
        }
    }
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
    /// An operator drains this node.
    Draining(u64),
    /// An operator gave this node its seat.
    Pinned(u64, Seat),
    /// Of those dropped: an operator removed this node, and who was to get its vote.
    Removed(u64, Option<u64>),
    /// What the autopilot goes by, if that was ever set.
    Settings(Settings),
    /// The feature level, if it was ever raised.
    Level(u32),
}

/// The registry after the commands applied so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Registry {
    nodes: BTreeMap<u64, Registration>,
    departed: BTreeSet<u64>,
    superseded: BTreeMap<u64, u64>,
    /// Those of the departed that an operator dropped, with the names they had.
    forgotten: BTreeMap<u64, String>,
    draining: BTreeSet<u64>,
    pinned: BTreeMap<u64, Seat>,
    /// Those of the forgotten that were removed, each with who was to get its vote.
    removed: BTreeMap<u64, Option<u64>>,
    settings: Option<Settings>,
    /// Zero: it was never raised.
    level: u32,
}

impl Registry {
    /// All that it knows, in a fixed order.
    pub fn facts(&self) -> impl Iterator<Item = Fact> {
        let holds = self.nodes.values().cloned().map(Fact::Holds);
        let departed = self.departed.iter().copied().map(Fact::Departed);
        let superseded = self.superseded.iter().map(|(old, new)| Fact::Superseded(*old, *new));
        let forgotten = self.forgotten.iter().map(|(node, name)| Fact::Forgotten(*node, name.clone()));
        let draining = self.draining.iter().copied().map(Fact::Draining);
        let pinned = self.pinned.iter().map(|(node, seat)| Fact::Pinned(*node, *seat));
        let removed = self.removed.iter().map(|(node, heir)| Fact::Removed(*node, *heir));
        let settings = self.settings.clone().map(Fact::Settings);
        let level = Some(self.level).filter(|level| *level > 0).map(Fact::Level);
        let disks = holds.chain(departed).chain(superseded).chain(forgotten);
        disks.chain(draining).chain(pinned).chain(removed).chain(settings).chain(level)
    }

    /// What a checkpoint says.
    pub fn learn(&mut self, fact: Fact) {
        match fact {
            Fact::Holds(registration) => drop(self.nodes.insert(registration.node, registration)),
            Fact::Departed(node) => drop(self.departed.insert(node)),
            Fact::Superseded(old, new) => drop(self.superseded.insert(old, new)),
            Fact::Forgotten(node, name) => drop(self.forgotten.insert(node, name)),
            Fact::Draining(node) => drop(self.draining.insert(node)),
            Fact::Pinned(node, seat) => drop(self.pinned.insert(node, seat)),
            Fact::Removed(node, heir) => drop(self.removed.insert(node, heir)),
            Fact::Settings(settings) => self.settings = Some(settings),
            Fact::Level(level) => self.level = level,
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
                    self.wishes_end(former);
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
                self.wishes_end(node);
                self.departed.insert(node);
            }
            Command::Forget { node, name } => self.forget(node, name),
            Command::Remove { node, name, heir } => {
                // Decided twice, the first decision stands: its heir may have the vote already.
                if !self.departed.contains(&node) {
                    self.removed.insert(node, heir);
                }
                self.forget(node, name);
            }
            // Of a node that is gone, or that never was, nothing is wanted any more.
            Command::Drain { node, on } => {
                self.draining.remove(&node);
                if on && self.nodes.contains_key(&node) {
                    self.draining.insert(node);
                }
            }
            Command::Pin { node, seat } => {
                self.pinned.remove(&node);
                if let Some(seat) = seat.filter(|_| self.nodes.contains_key(&node)) {
                    self.pinned.insert(node, seat);
                }
            }
            Command::Configure(settings) => self.settings = Some(settings),
            Command::RaiseLevel { level } => self.level = self.level.max(level),
        }
    }

    fn forget(&mut self, node: u64, name: String) {
        self.nodes.remove(&node);
        self.wishes_end(node);
        self.departed.insert(node);
        self.forgotten.insert(node, name);
    }

    /// What an operator wanted of a disk ends with it: whoever takes its name begins anew.
    fn wishes_end(&mut self, node: u64) {
        self.draining.remove(&node);
        self.pinned.remove(&node);
    }

    /// Does an operator want this node drained.
    #[must_use]
    pub fn is_draining(&self, node: u64) -> bool {
        self.draining.contains(&node)
    }

    /// All nodes that are being drained, or are.
    pub fn draining(&self) -> impl Iterator<Item = u64> {
        self.draining.iter().copied()
    }

    /// The seat that an operator gave this node.
    #[must_use]
    pub fn pinned(&self, node: u64) -> Option<Seat> {
        self.pinned.get(&node).copied()
    }

    /// All seats that operators gave.
    pub fn pins(&self) -> impl Iterator<Item = (u64, Seat)> {
        self.pinned.iter().map(|(node, seat)| (*node, *seat))
    }

    /// Has an operator removed this node.
    #[must_use]
    pub fn is_removed(&self, node: u64) -> bool {
        self.removed.contains_key(&node)
    }

    /// Who was to get the vote of this node when it was removed.
    #[must_use]
    pub fn heir_of(&self, node: u64) -> Option<u64> {
        self.removed.get(&node).copied().flatten()
    }

    /// What the autopilot goes by, if that was ever set.
    #[must_use]
    pub fn settings(&self) -> Option<&Settings> {
        self.settings.as_ref()
    }

    /// What every member of this log understands; see `node::level`.
    #[must_use]
    pub fn level(&self) -> u32 {
        self.level.max(LEVEL_BASE)
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
    fn what_operators_want_of_a_disk_ends_with_it() {
        let mut registry = Registry::default();
        let (drain, undo) = (|node| Command::Drain { node, on: true }, |node| Command::Drain { node, on: false });
        let pin = |node, seat| Command::Pin { node, seat };
        registry.apply(drain(1));
        registry.apply(pin(1, Some(Seat::Learner { even: false })));
        assert!(!registry.is_draining(1) && registry.pinned(1).is_none(), "nobody knows it");
        for node in [1, 2, 3] {
            registry.apply(register(node, ["a", "b", "c"][node as usize - 1], 1));
            registry.apply(drain(node));
            registry.apply(pin(node, Some(Seat::Voter { even: true })));
        }
        let mut copy = Registry::default();
        registry.facts().for_each(|fact| copy.learn(fact));
        assert_eq!(copy, registry, "all of it is in the facts");
        registry.apply(undo(1));
        registry.apply(pin(1, None));
        assert!(!registry.is_draining(1) && registry.pinned(1).is_none());
        registry.apply(register(9, "b", 1));
        registry.apply(Command::Depart { node: 3 });
        assert_eq!((registry.draining().count(), registry.pins().count()), (0, 0));
        for _ in 0..2 {
            registry.apply(Command::Remove { node: 9, name: "b".into(), heir: Some(1) });
            assert!(registry.is_removed(9) && registry.is_forgotten(9) && registry.has_departed(9));
        }
        registry.apply(Command::Remove { node: 9, name: "b".into(), heir: None });
        assert_eq!(registry.heir_of(9), Some(1), "the first word counts");
        let mut copy = Registry::default();
        registry.facts().for_each(|fact| copy.learn(fact));
        assert_eq!(copy, registry);
    }

    #[test]
    fn a_level_is_never_lowered_and_settings_come_back_with_the_facts() {
        let mut registry = Registry::default();
        assert_eq!((registry.level(), registry.facts().count()), (LEVEL_BASE, 0));
        for level in [3, 2] {
            registry.apply(Command::RaiseLevel { level });
        }
        let settings = Settings { voters_min: 5, ..Settings::default() };
        registry.apply(Command::Configure(settings.clone()));
        let mut other = Registry::default();
        registry.facts().for_each(|fact| other.learn(fact));
        assert_eq!((other.level(), other.settings()), (3, Some(&settings)));
        assert_eq!(other, registry);
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
