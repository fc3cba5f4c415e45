//! Forgetting: who is remembered for how long after it is gone, and who makes room for whom.
//!
//! It never forgets who is present, nor this node itself.

use crate::identity::Identity;
use crate::news::soonest;
use crate::roster::Roster;
use crate::types::{Mono, Now};
use std::time::Duration;

/// How long a record of a node that foca does not know is kept.
pub(crate) const STRANGER_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a member that is gone is remembered if no connection ever proved that it existed.
pub(crate) const UNPROVEN_TIMEOUT: Duration = Duration::from_secs(600);

impl Roster {
    /// Forgets members gone for longer than `timeout`, and strangers; returns what foca is to forget, and when to look
    /// again.
    pub(crate) fn reap(&mut self, now: Now, timeout: Duration) -> (Vec<Identity>, Option<Mono>) {
        let mut next: Option<Mono> = None;
        let mut gone = Vec::new();
        for (node, entry) in &self.entries {
            let deadline = match (entry.seen, entry.connected) {
                _ if *node == self.me || entry.is_present() => continue,
                (None, true) => continue,
                (None, false) => entry.since.after(STRANGER_TIMEOUT),
                (Some(_), _) if entry.is_hearsay => entry.since.after(timeout.min(UNPROVEN_TIMEOUT)),
                (Some(_), _) => entry.since.after(timeout),
            };
            if deadline <= now.mono {
                gone.push(*node);
            } else {
                soonest(&mut next, deadline);
            }
        }
        (gone.into_iter().filter_map(|node| self.forget(node)).collect(), next)
    }

    /// Forgets who is of the least use of all that are gone, so that somebody who is here has room.
    pub(crate) fn make_room(&mut self) -> Option<Identity> {
        let gone =
            self.entries.values().filter(|entry| entry.node != self.me && !entry.is_present() && !entry.connected);
        let least = gone.min_by_key(|entry| (entry.seen.is_some(), entry.is_proven(), entry.since))?;
        self.forget(least.node)
    }

    pub(crate) fn forget(&mut self, node: u64) -> Option<Identity> {
        let mut entry = self.entries.remove(&node)?;
        let was = entry.tags().bytes();
        entry.tags = None;
        self.quotas.count_tags(&entry, was);
        self.quotas.release(&mut entry);
        self.news.forget(&entry);
        entry.seen.map(|seen| seen.identity)
    }
}
