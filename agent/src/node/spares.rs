//! Spares: entries of this log for members that cannot read their own.
//!
//! It vouches for nothing: who gets them proves that they fit.

use super::repair::PIECE_BYTES;
use super::{Class, FetchFor, Node, Output, PeerMessage, Spare};
use quorate_raft::wal::Entry;
use quorate_raft::{LogIndex, Mono, NodeId, Now};
use std::collections::BTreeMap;
use std::time::Duration;

/// Reads for members that repair themselves, asked for or ahead of that: for one, and for all.
const SERVED_PER_NODE_MAX: usize = 2;
const SERVED_MAX: usize = 8;
/// Who asked for entries so lately cannot read its log.
const SICK_FOR: Duration = Duration::from_secs(10);

/// Who asks, and what is being read for them.
#[derive(Debug, Default)]
pub(super) struct Spares {
    /// By token.
    serving: BTreeMap<u64, Serving>,
    /// What was read for members before they asked for it.
    ahead: BTreeMap<u64, Vec<Entry>>,
    sick: BTreeMap<u64, Mono>,
}

/// A read for a member that repairs itself.
#[derive(Debug)]
struct Serving {
    node: u64,
    /// How it names its request; `None` if it is the piece after the one it asked for, which it has not asked for yet.
    id: Option<u64>,
    first: LogIndex,
    last: LogIndex,
}

impl Spares {
    /// Has this member asked for entries of its own log of late?
    pub(super) fn is_sick(&self, now: Mono, node: u64) -> bool {
        self.sick.get(&node).is_some_and(|at| now.since(*at) < SICK_FOR)
    }

    /// Who has not asked for a while is well.
    pub(super) fn forget_the_well(&mut self, now: Mono) {
        self.sick.retain(|_, at| now.since(*at) < SICK_FOR);
        self.ahead.retain(|node, _| self.sick.contains_key(node));
    }

    /// The link to this member broke: what is read for it goes nowhere.
    pub(super) fn forget(&mut self, node: u64) {
        self.serving.retain(|_, serving| serving.node != node);
        self.ahead.remove(&node);
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
        let begins = |entries: &[Entry]| entries.first().is_some_and(|entry| entry.header().index == first);
        match self.spares.ahead.remove(&node) {
            Some(entries) if begins(&entries) => return self.give_spares(node, id, last, entries),
            _ => {}
        }
        let mut of_this_one = self.spares.serving.values_mut().filter(|serving| serving.node == node);
        if let Some(ahead) = of_this_one.find(|serving| serving.id.is_none() && serving.first == first) {
            ahead.id = Some(id);
            return;
        }
        // It goes on elsewhere than was thought.
        self.spares.serving.retain(|_, serving| serving.node != node || serving.id.is_some());
        let of_this_one = self.spares.serving.values().filter(|serving| serving.node == node).count();
        if of_this_one >= SERVED_PER_NODE_MAX || self.spares.serving.len() >= SERVED_MAX {
            return self.send(node, Class::Bulk, PeerMessage::RepairReply { id, has: Spare::Busy });
        }
        if first > self.raft.durable() {
            return self.send(node, Class::Bulk, PeerMessage::RepairReply { id, has: Spare::Absent });
        }
        self.read_spares(Serving { node, id: Some(id), first, last });
    }

    fn read_spares(&mut self, serving: Serving) {
        let token = self.token();
        let (first, last) = (serving.first, serving.last.min(self.raft.durable()));
        self.spares.serving.insert(token, Serving { last, ..serving });
        self.emit(Output::Fetch { token, from: first, to: last, bytes_max: PIECE_BYTES, whom: FetchFor::Repair });
    }

    /// A piece goes to who asked for it, and the next one is read while it is on its way.
    fn give_spares(&mut self, node: u64, id: u64, last: LogIndex, entries: Vec<Entry>) {
        let next = entries.last().map(|entry| entry.header().index.next());
        self.send(node, Class::Bulk, PeerMessage::RepairReply { id, has: Spare::Entries(entries) });
        let held = self.spares.serving.len() + self.spares.ahead.len();
        if let Some(first) = next.filter(|next| *next <= last.min(self.raft.durable()))
            && held < SERVED_MAX
            && self.spares.sick.contains_key(&node)
        {
            self.read_spares(Serving { node, id: None, first, last });
        }
    }

    fn is_member_or_unsure(&self, node: u64) -> bool {
        let configuration = self.raft.configuration();
        configuration.voters.is_empty() || NodeId::new(node).is_some_and(|node| configuration.members().contains(&node))
    }

    /// What was read for a member goes to it; gives back what was read for somebody else.
    pub(super) fn fetched_for_repair(&mut self, token: u64, entries: Vec<Entry>) -> Option<Vec<Entry>> {
        let Some(Serving { node, id, first, last }) = self.spares.serving.remove(&token) else { return Some(entries) };
        let begins = entries.first().is_some_and(|entry| entry.header().index == first);
        match (id, begins) {
            (Some(id), true) => self.give_spares(node, id, last, entries),
            (None, true) => drop(self.spares.ahead.insert(node, entries)),
            (Some(id), false) => {
                let has = if self.repair.touches(first, last) { Spare::Damaged } else { Spare::Absent };
                self.send(node, Class::Bulk, PeerMessage::RepairReply { id, has });
            }
            // It will ask for it all the same, and be told then.
            (None, false) => {}
        }
        None
    }
}
