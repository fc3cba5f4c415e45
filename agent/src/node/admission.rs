//! Admission: which agents may connect at all, as far as this node knows.
//!
//! It never decides about Raft: the registry may lag, and a lagging voter must still hear its leader.

use crate::machine::registry::Registry;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A picture of the registry and the gossip that a transport can ask without asking the node. Cheap to clone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gate(Arc<Picture>);

#[derive(Debug, Default, PartialEq, Eq)]
struct Picture {
    /// Newest boot by node id: epoch and boot id.
    boots: BTreeMap<u64, (u64, u64)>,
    /// Names whose holder is alive, or has not been silent long enough.
    held: BTreeMap<String, u64>,
    /// This node's own name and id.
    own: (String, u64),
}

/// Why a connection is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// A newer boot of the same disk is known.
    #[error(
        "boot {got} of this data directory is older than boot {known}, which the cluster has seen; it is a copy or an old backup"
    )]
    Stale {
        /// In the Hello.
        got: u64,
        /// Known.
        known: u64,
    },
    /// The same boot of the same disk is known, from another process.
    #[error(
        "boot {epoch} of this data directory was another process; one of the two directories is a copy: wipe it to join as a new node"
    )]
    Copy {
        /// In the Hello and known.
        epoch: u64,
    },
    /// Its name belongs to another disk that lives.
    #[error("the name is held by node {holder:016x}, which is alive; stop that agent, or choose another name")]
    NameHeld {
        /// Who holds it.
        holder: u64,
    },
}

impl Gate {
    /// The gate as the registry and `alive` (is this node alive, or was it heard in the last 30 s) draw it.
    pub(super) fn draw(own: (String, u64), registry: &Registry, alive: impl Fn(u64) -> bool) -> Self {
        let held = registry.nodes().filter(|r| alive(r.node)).map(|r| (r.name.clone(), r.node)).collect();
        let boots = registry.nodes().map(|r| (r.node, (r.epoch, r.boot))).collect();
        Self(Arc::new(Picture { boots, held, own }))
    }

    /// May an agent with this Hello connect?
    pub fn admit(&self, node: u64, name: &str, epoch: u64, boot: u64) -> Result<(), Denied> {
        let Picture { boots, held, own } = &*self.0;
        if name == own.0 && node != own.1 {
            return Err(Denied::NameHeld { holder: own.1 });
        }
        match boots.get(&node) {
            Some(&(known, _)) if epoch < known => return Err(Denied::Stale { got: epoch, known }),
            Some(&(known, of)) if epoch == known && boot != of => return Err(Denied::Copy { epoch }),
            Some(_) => return Ok(()),
            None => {}
        }
        match held.get(name) {
            Some(&holder) if holder != node => Err(Denied::NameHeld { holder }),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::registry::{Command, Registration};

    #[test]
    fn old_boots_and_held_names_are_refused() {
        let mut registry = Registry::default();
        for (node, name) in [(1, "a"), (2, "b")] {
            registry.apply(Command::Register(Registration { node, name: name.into(), epoch: 5, boot: 50 }));
        }
        let gate = Gate::draw(("a".into(), 1), &registry, |node| node == 1);
        assert_eq!(gate.admit(2, "b", 4, 40), Err(Denied::Stale { got: 4, known: 5 }));
        assert_eq!(gate.admit(2, "b", 5, 50), Ok(()));
        assert_eq!(gate.admit(2, "b", 5, 51), Err(Denied::Copy { epoch: 5 }));
        assert_eq!(gate.admit(2, "b", 6, 60), Ok(()));
        assert_eq!(gate.admit(3, "a", 1, 9), Err(Denied::NameHeld { holder: 1 }));
        assert_eq!(gate.admit(3, "b", 1, 9), Ok(()), "its holder is gone");
        assert_eq!(gate.admit(3, "c", 1, 9), Ok(()));
    }
}
