//! Room: a node whose disk is nearly full goes on voting and answering, and takes no entries.
//!
//! It never acknowledges less than before: what it holds stays, only what is new is left with the leader. It decides
//! nothing about space: the caller says whether there is any.

use alloc::vec::Vec;

use crate::role::{Ack, RoleState};
use crate::{EntryKind, EntryShape, Position, Raft};

impl Raft {
    /// The caller says whether the disk takes entries. A leader hears of it at once.
    pub(crate) fn set_room(&mut self, has_room: bool) {
        let changed = core::mem::replace(&mut self.has_room, has_room) != has_room;
        if let (true, RoleState::Follower(follower)) = (changed, &mut self.role)
            && let Some(following) = &mut follower.following
        {
            following.ack = Ack::Now;
        }
    }

    /// What of an append this disk takes, and where that ends; and was anything left out? Without room that is what it
    /// holds already, and then only what keeps the group itself alive: without its no-op a new leader could confirm no
    /// read (§6.4), without configurations nobody could bring a disk that has room.
    pub(crate) fn cut_to_room(
        &self,
        prev: Position,
        last: Position,
        mut entries: Vec<EntryShape>,
    ) -> (Vec<EntryShape>, Position, bool) {
        if self.has_room {
            return (entries, last, false);
        }
        let held = |at: Position| at.index <= self.log.start().index || self.log.term_at(at.index) == Some(at.term);
        let takes = |entry: &&EntryShape| entry.kind != EntryKind::Normal || held(entry.position);
        let keep = entries.iter().take_while(takes).count();
        let is_cut = keep < entries.len();
        entries.truncate(keep);
        let last = entries.last().map_or(prev, |entry| entry.position);
        (entries, last, is_cut)
    }
}
