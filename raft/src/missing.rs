//! Missing: a node whose disk lost what it had acknowledged votes as if it still held that, and does not stand (§3.6.1).
//!
//! Only a leader can know: it remembers what each peer acknowledged, over the lives of the peer. It never outlives this
//! life of the node; a leader that is still there tells the next one again. So what this cannot prevent is the vote of
//! such a disk before any leader that remembers has spoken to it.

use crate::message::Body;
use crate::{NodeId, Output, Position, Raft};

impl Raft {
    /// On the leader: `peer` says that its log ends before what it acknowledged in an earlier life.
    pub(crate) fn tell_missing(&mut self, peer: NodeId, promised: Position, is_news: bool) {
        if is_news {
            self.alarm(
                peer,
                "its log has lost entries that it acknowledged before it started; its disk cannot be trusted",
            );
        }
        let message = self.envelope(peer, Body::Missing { promised });
        self.outbox.push(Output::Send { to: peer, message });
    }

    /// The leader remembers what this disk has lost.
    pub(crate) fn on_missing(&mut self, from: NodeId, promised: Position) {
        if self.leader() != Some(from) || self.durable_position().is_at_least_as_up_to_date_as(promised) {
            return;
        }
        let known = self.missing();
        if known.is_none_or(|known| !known.is_at_least_as_up_to_date_as(promised)) {
            self.lost = Some(promised);
        }
        if known.is_none() {
            self.alarm(
                self.node,
                "this disk has lost entries that it acknowledged; this node does not stand for election before it holds them again",
            );
        }
    }

    /// The end of what this node acknowledged in an earlier life, while its disk does not hold that again.
    pub(crate) fn missing(&self) -> Option<Position> {
        self.lost.filter(|lost| !self.durable_position().is_at_least_as_up_to_date_as(*lost))
    }

    /// The log that a candidate must match to get this node's vote: the one it has, or the one it should have. The votes
    /// of a majority then still reach every entry that a majority acknowledged.
    pub(crate) fn bar_for_candidates(&self) -> Position {
        let last = self.log.last();
        self.missing().filter(|missing| missing.is_at_least_as_up_to_date_as(last)).unwrap_or(last)
    }

    fn durable_position(&self) -> Position {
        self.log.position(self.frontier.last()).unwrap_or_else(|| self.log.start())
    }
}
