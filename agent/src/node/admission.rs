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
    /// Newest boot epoch by node id.
    epochs: BTreeMap<u64, u64>,
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
        let epochs = registry.nodes().map(|r| (r.node, r.epoch)).collect();
        Self(Arc::new(Picture { epochs, held, own }))
    }

    /// May an agent with this Hello connect?
    pub fn admit(&self, node: u64, name: &str, epoch: u64) -> Result<(), Denied> {
        let Picture { epochs, held, own } = &*self.0;
        if name == own.0 && node != own.1 {
            return Err(Denied::NameHeld { holder: own.1 });
        }
        if let Some(&known) = epochs.get(&node) {
            return if epoch < known { Err(Denied::Stale { got: epoch, known }) } else { Ok(()) };
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
            registry.apply(Command::Register(Registration { node, name: name.into(), epoch: 5 }));
        }
        let gate = Gate::draw(("a".into(), 1), &registry, |node| node == 1);
        assert_eq!(gate.admit(2, "b", 4), Err(Denied::Stale { got: 4, known: 5 }));
        assert_eq!(gate.admit(2, "b", 5), Ok(()));
        assert_eq!(gate.admit(3, "a", 1), Err(Denied::NameHeld { holder: 1 }));
        assert_eq!(gate.admit(3, "b", 1), Ok(()), "its holder is gone");
        assert_eq!(gate.admit(3, "c", 1), Ok(()));
    }
}
