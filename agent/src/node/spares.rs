//! Spares: entries of this log for members that cannot read their own.
//!
//! It vouches for nothing: who gets them proves that they fit.

use super::repair::PIECE_BYTES;
use super::{Class, Node, Output, PeerMessage, Spare};
use quorate_raft::wal::Entry;
use quorate_raft::{LogIndex, Mono, NodeId, Now};
use std::collections::BTreeMap;
use std::time::Duration;

/// Reads for members that repair themselves: for one, and for all.
const SERVED_PER_NODE_MAX: usize = 2;
const SERVED_MAX: usize = 8;
/// Who asked for entries so lately cannot read its log.
const SICK_FOR: Duration = Duration::from_secs(10);

/// Who asks, and what is being read for them.
#[derive(Debug, Default)]
pub(super) struct Spares {
    /// By token: who asked, how it names it, and for which entries.
    serving: BTreeMap<u64, (u64, u64, LogIndex, LogIndex)>,
    sick: BTreeMap<u64, Mono>,
}

impl Spares {
    /// Has this member asked for entries of its own log of late?
    pub(super) fn is_sick(&self, now: Mono, node: u64) -> bool {
        self.sick.get(&node).is_some_and(|at| now.since(*at) < SICK_FOR)
    }

    /// Who has not asked for a while is well.
    pub(super) fn forget_the_well(&mut self, now: Mono) {
        self.sick.retain(|_, at| now.since(*at) < SICK_FOR);
    }

    /// The link to this member broke: what is read for it goes nowhere.
    pub(super) fn forget(&mut self, node: u64) {
        self.serving.retain(|_, (asker, ..)| *asker != node);
    }
}

impl Node {
    /// A member cannot read its own log, and asks for entries of this one.
    pub(super) fn repair_asked(
        &mut self,
        now: Now,
        node: u64,
        id: u64,
        seed: u64,
        (first, last): (LogIndex, LogIndex),
    ) {
        if self.log_seed() != Some(seed) {
            return self.note_about(now, node, "it asked for entries of another log; refused");
        }
        if self.is_member_or_unsure(node) {
            self.spares.sick.insert(node, now.mono);
        }
        let of_this_one = self.spares.serving.values().filter(|(asker, ..)| *asker == node).count();
        if of_this_one >= SERVED_PER_NODE_MAX || self.spares.serving.len() >= SERVED_MAX {
            return self.send(node, Class::Bulk, PeerMessage::RepairReply { id, has: Spare::Busy });
        }
        if first > self.raft.durable() {
            return self.send(node, Class::Bulk, PeerMessage::RepairReply { id, has: Spare::Absent });
        }
        let token = self.token();
        let to = last.min(self.raft.durable());
        self.spares.serving.insert(token, (node, id, first, to));
        self.emit(Output::Fetch { token, from: first, to, bytes_max: PIECE_BYTES });
    }

    fn is_member_or_unsure(&self, node: u64) -> bool {
        let configuration = self.raft.configuration();
        configuration.voters.is_empty() || NodeId::new(node).is_some_and(|node| configuration.members().contains(&node))
    }

    /// What was read for a member goes to it; gives back what was read for somebody else.
    pub(super) fn fetched_for_repair(&mut self, token: u64, entries: Vec<Entry>) -> Option<Vec<Entry>> {
        let Some((node, id, first, last)) = self.spares.serving.remove(&token) else { return Some(entries) };
        let has = match entries.first() {
            Some(entry) if entry.header().index == first => Spare::Entries(entries),
            _ if self.repair.touches(first, last) => Spare::Damaged,
            _ => Spare::Absent,
        };
        self.send(node, Class::Bulk, PeerMessage::RepairReply { id, has });
        None
    }
}
