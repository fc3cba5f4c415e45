//! Admission: which agents may connect at all, as far as this node knows.
//!
//! It never decides about Raft: the registry may lag, and a lagging voter must still hear its leader.

use super::boots::Boots;
use super::denied::Denied;
use crate::machine::registry::Registry;
use quorate_raft::mutant;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// How exactly a waiting time is told, in seconds: each change is a line in the log of whoever waits.
const TOLD_IN_STEPS_OF: u64 = 10;

/// A picture of the registry and the gossip that a transport can ask without asking the node. Cheap to clone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gate(Arc<Picture>);

#[derive(Debug, Default, PartialEq, Eq)]
struct Picture {
    /// Newest boot by node id: epoch and boot id.
    boots: Boots,
    /// Names whose holder is alive, or has not been silent long enough.
    held: BTreeMap<String, Held>,
    /// Disks whose name was given to another one.
    superseded: BTreeMap<u64, u64>,
    /// Disks that an operator has dropped.
    forgotten: BTreeSet<u64>,
    /// This node's own name and id.
    own: (String, u64),
    /// What whoever comes in must support.
    level: u32,
}

/// Who holds a name, and for how much longer if it stays silent; `None` while it is alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) holder: u64,
    pub(super) left: Option<Duration>,
}

/// Who asks to be let in: what its Hello said and proved.
#[derive(Clone, Copy, Debug)]
pub struct Caller<'a> {
    /// Its node id.
    pub node: u64,
    /// The name its certificate proves.
    pub name: &'a str,
    /// Its boot epoch.
    pub epoch: u64,
    /// Its boot id.
    pub boot: u64,
    /// The log it says it belongs to.
    pub log_id: Option<[u8; 16]>,
    /// The highest feature level that its program supports.
    pub supports: u32,
}

impl Gate {
    /// The gate as the registry, the boots seen and `held` (how long is the name of this node kept for it) draw it.
    pub(super) fn draw(
        own: (String, u64),
        boots: &Boots,
        registry: &Registry,
        held: impl Fn(u64) -> Option<Held>,
        needed: impl Fn(u64) -> bool,
    ) -> Self {
        let held = registry.nodes().filter_map(|r| Some((r.name.clone(), held(r.node)?))).collect();
        let superseded = registry.superseded().collect();
        let forgotten = registry.forgotten().map(|(node, _)| node).filter(|node| !needed(*node)).collect();
        let level = registry.level();
        Self(Arc::new(Picture { boots: boots.clone(), held, superseded, forgotten, own, level }))
    }

    /// May an agent with this Hello connect?
    pub fn admit(&self, caller: &Caller<'_>) -> Result<(), Denied> {
        let Picture { boots, held, superseded, forgotten, own, level } = &*self.0;
        let node = caller.node;
        if forgotten.contains(&node) {
            return Err(Denied::Forgotten);
        }
        boots.check(node, caller.epoch, caller.boot)?;
        if caller.supports < *level && !mutant!(OldProgramAdmitted) {
            return Err(Denied::Level { needed: *level, supports: caller.supports });
        }
        let ours = Held { holder: own.1, left: None };
        let held = if caller.name == own.0 { Some(&ours) } else { held.get(caller.name) };
        let Some(held) = held.filter(|held| held.holder != node) else { return Ok(()) };
        let holder = held.holder;
        if superseded.contains_key(&node) {
            return Err(Denied::Superseded { holder });
        }
        // Only a registered node is ever given a log. If it is this one, the name may have been taken over while this node
        // was not told, and the caller may even lead; if it is another history, that has names of its own. A lie gains
        // nothing but a place in the gossip.
        if caller.log_id.is_some() {
            return Ok(());
        }
        match held.left {
            None => Err(Denied::NameHeld { holder }),
            Some(left) => {
                let left = Duration::from_secs((left.as_secs() / TOLD_IN_STEPS_OF + 1) * TOLD_IN_STEPS_OF);
                Err(Denied::NameKept { holder, left })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::registry::{Command, Registration};

    const LOG: [u8; 16] = [7; 16];

    fn caller(node: u64, name: &str, epoch: u64, boot: u64) -> Caller<'_> {
        Caller { node, name, epoch, boot, log_id: None, supports: 2 }
    }

    fn registry(names: &[(u64, &str)]) -> (Registry, Boots) {
        let (mut registry, mut boots) = (Registry::default(), Boots::default());
        for (node, name) in names {
            registry.apply(Command::Register(Registration { node: *node, name: (*name).into(), epoch: 5, boot: 50 }));
            boots.saw(*node, 5, 50);
        }
        (registry, boots)
    }

    #[test]
    fn old_boots_and_held_names_are_refused() {
        let (registry, boots) = registry(&[(1, "a"), (2, "b"), (4, "d")]);
        let left = Some(Duration::from_secs(11));
        let gate = Gate::draw(
            ("a".into(), 1),
            &boots,
            &registry,
            |holder| match holder {
                1 => Some(Held { holder, left: None }),
                4 => Some(Held { holder, left }),
                _ => None,
            },
            |_| false,
        );
        let admit = |node, name, epoch, boot| gate.admit(&caller(node, name, epoch, boot));
        assert_eq!(admit(2, "b", 4, 40), Err(Denied::Stale { got: 4, known: 5 }));
        assert_eq!(admit(2, "b", 5, 50), Ok(()));
        assert_eq!(admit(2, "b", 5, 51), Err(Denied::Copy { epoch: 5 }));
        assert_eq!(admit(2, "b", 6, 60), Ok(()));
        assert_eq!(admit(3, "a", 1, 9), Err(Denied::NameHeld { holder: 1 }));
        assert_eq!(admit(3, "b", 1, 9), Ok(()), "its holder is gone");
        assert_eq!(admit(3, "c", 1, 9), Ok(()));
        let kept = admit(3, "d", 1, 9).unwrap_err();
        assert_eq!(kept, Denied::NameKept { holder: 4, left: Duration::from_secs(20) });
        assert!(kept.to_string().contains("in about 20 s"), "{kept}");
    }

    /// A program that does not understand what the members have agreed on is told so, whoever it is.
    #[test]
    fn a_program_that_is_too_old_is_refused_with_both_levels() {
        let (mut registry, boots) = registry(&[(2, "b")]);
        let draw = |registry: &Registry| Gate::draw(("a".into(), 1), &boots, registry, |_| None, |_| false);
        let old = Caller { supports: 2, ..caller(2, "b", 5, 50) };
        assert_eq!(draw(&registry).admit(&old), Ok(()));
        registry.apply(Command::RaiseLevel { level: 3 });
        let why = draw(&registry).admit(&old).unwrap_err();
        assert_eq!(why, Denied::Level { needed: 3, supports: 2 });
        assert!(why.to_string().contains("feature level 3") && why.to_string().contains("upgrade it"), "{why}");
        assert_eq!(draw(&registry).admit(&Caller { supports: 3, ..old }), Ok(()));
    }

    /// What is dropped in the log is still needed as long as the configuration in force holds it.
    #[test]
    fn a_dropped_node_is_let_in_until_the_group_can_do_without_it() {
        let (mut registry, boots) = registry(&[(1, "a"), (2, "b")]);
        registry.apply(Command::Remove { node: 2, name: "b".into(), heir: None });
        let draw = |needed| Gate::draw(("a".into(), 1), &boots, &registry, |_| None, move |_| needed);
        assert_eq!(draw(true).admit(&caller(2, "b", 5, 50)), Ok(()));
        assert_eq!(draw(false).admit(&caller(2, "b", 5, 50)), Err(Denied::Forgotten));
    }

    /// A registry that lags must not shut the door on whoever leads now, and one that does not lag must on whoever led
    /// once.
    #[test]
    fn whoever_holds_a_log_passes_a_lagging_registry_but_not_a_superseded_disk() {
        let alive = |holder| Some(Held { holder, left: None });
        let (mut registry, boots) = registry(&[(2, "b")]);
        let draw = |registry: &Registry| Gate::draw(("a".into(), 1), &boots, registry, alive, |_| false);
        let new = Caller { log_id: Some(LOG), ..caller(9, "b", 1, 9) };
        assert_eq!(draw(&registry).admit(&new), Ok(()));
        assert_eq!(draw(&registry).admit(&Caller { log_id: Some([8; 16]), ..new }), Ok(()), "a history of its own");
        assert_eq!(draw(&registry).admit(&Caller { log_id: None, ..new }), Err(Denied::NameHeld { holder: 2 }));
        registry.apply(Command::Register(Registration { node: 9, name: "b".into(), epoch: 1, boot: 9 }));
        let old = Caller { log_id: Some(LOG), ..caller(2, "b", 6, 60) };
        assert_eq!(draw(&registry).admit(&old), Err(Denied::Superseded { holder: 9 }));
        assert_eq!(draw(&registry).admit(&new), Ok(()));
    }
}
