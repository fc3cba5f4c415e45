//! Histories: two foundings under one authority. Their agents may gossip; they never share Raft, and people are told.
//!
//! It never chooses between two histories that are there: a person does, by wiping one.

use super::{Class, Level, Node, Peer, PeerMessage};
use quorate_raft::Now;
use std::collections::{BTreeMap, BTreeSet};

/// Names told in one line; more are counted.
const NAMES_MAX: usize = 8;

impl Node {
    /// The log that this node belongs to: the one it holds, else the one whose leader it has heard, for as long as
    /// anybody of that log is there. An agent outside Raft must not follow now one history and now another.
    pub(super) fn history(&self) -> Option<[u8; 16]> {
        let heard = || self.view.as_ref().map(|v| v.log_id).filter(|id| self.peers.up().any(|p| p.log_id == Some(*id)));
        self.log_id.or_else(heard)
    }

    /// Is anybody of the log with this seed connected?
    pub(super) fn sees_log(&self, seed: u64) -> bool {
        self.peers.up().any(|p| p.log_id.is_some_and(|id| super::log_seed(&id) == seed))
    }

    /// Is this connected agent known to belong to another log?
    pub(super) fn is_of_another_log(&self, node: u64) -> bool {
        let theirs = self.peers.get(node).and_then(|p| p.log_id);
        matches!((self.history(), theirs), (Some(ours), Some(theirs)) if ours != theirs)
    }

    /// A connection tells the log that the other side had when it was made. Who joined one since must say so, or a
    /// leader of another log would go on taking it for a newcomer.
    pub(super) fn tell_history(&mut self, node: u64) {
        if let (Some(log_id), false) = (self.log_id, self.had_log) {
            self.send(node, Class::Peer, PeerMessage::Joined { log_id });
        }
    }

    /// The same to all that are connected now.
    pub(super) fn tell_history_to_all(&mut self) {
        let up: Vec<u64> = self.peers.up().map(|p| p.node).collect();
        up.into_iter().for_each(|node| self.tell_history(node));
    }

    /// This peer has joined a log since it connected. Nobody changes the log it belongs to without a new data directory.
    pub(super) fn peer_joined(&mut self, now: Now, node: u64, log_id: [u8; 16]) {
        if let Some(peer) = self.peers.joined(node, log_id) {
            self.note_other_history(&peer);
            self.hurry(now);
        }
    }

    /// A person has to know, once when it is seen and as long as it lasts.
    pub(super) fn note_other_history(&mut self, peer: &Peer) {
        if let (Some(ours), Some(theirs)) = (self.history(), peer.log_id)
            && ours != theirs
        {
            let name = crate::limits::printable(&peer.name);
            let text = format!(
                "agent {name} belongs to another log ({}) than this one ({}); they never share Raft; wipe one of the two",
                hex::encode(theirs),
                hex::encode(ours)
            );
            self.note(Level::Error, text);
        }
    }

    /// One line for each other history: both logs, and who is of which.
    pub(super) fn history_problems(&self, voters: &BTreeSet<u64>) -> Vec<String> {
        let Some(ours) = self.history() else { return Vec::new() };
        let mut others: BTreeMap<[u8; 16], Vec<String>> = BTreeMap::new();
        let mut here: BTreeSet<String> = voters.iter().map(|node| self.name_of(*node)).collect();
        for peer in self.peers.up() {
            match peer.log_id {
                Some(id) if id == ours => drop(here.insert(self.name_of(peer.node))),
                Some(id) => others.entry(id).or_default().push(self.name_of(peer.node)),
                None => {}
            }
        }
        let here = told(here.into_iter().collect());
        let line = |(theirs, mut names): ([u8; 16], Vec<String>)| {
            names.sort();
            format!(
                "two histories under one authority: log {} ({here}) and log {} ({}); they never share Raft; wipe the data \
                 directories of one side to let its agents join the other",
                hex::encode(ours),
                hex::encode(theirs),
                told(names),
            )
        };
        others.into_iter().map(line).collect()
    }
}

fn told(mut names: Vec<String>) -> String {
    let more = names.len().saturating_sub(NAMES_MAX);
    names.truncate(NAMES_MAX);
    let names = names.join(", ");
    if more > 0 { format!("{names} and {more} more") } else { names }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lists_are_cut() {
        let names = |n: usize| (0..n).map(|i| format!("n{i}")).collect::<Vec<_>>();
        assert_eq!(told(names(2)), "n0, n1");
        assert!(told(names(NAMES_MAX)).ends_with("n7"));
        assert!(told(names(NAMES_MAX + 3)).ends_with("n7 and 3 more"));
    }
}
