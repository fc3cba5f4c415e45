//! Comparing: do all members hold the same history? Looked at again and again, while others could still tell which is right.
//!
//! It never believes one member about another, and no single member stops a node: only the word of most voters, each on its
//! own connection, does.
//!
//! Every [`COMPARE_EVERY`] the leader says the chain hash of the entry that it applied last; whoever has applied that entry
//! too tells all members the hash it has there. Equal index and term with another hash cannot be (log matching, §3.5) unless
//! memory, a disk or a program lied where no checksum could see it. A node whose hash is another one than that of most
//! voters, of three or more, stops: its Raft takes no part any more, and readers are sent to others. Of two that differ
//! nobody can say which is right: both say so, and people decide.

use super::{Class, Level, Node, PeerMessage};
use quorate_raft::wal::EntryHeader;
use quorate_raft::{LogIndex, Mono, Now, Term};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// From one comparison to the next: a few bytes to each member.
const COMPARE_EVERY: Duration = Duration::from_secs(10);
/// Entries applied of late whose hashes are kept for it: a follower that lags further behind takes part next time.
const APPLIED_KEPT: usize = 4096;
/// Fewer voters have no majority against one.
const VOTERS_MIN: usize = 3;

/// The hash of the log at one entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The entry.
    pub index: LogIndex,
    /// Its term.
    pub term: Term,
    /// The hash of it and all before it.
    pub chain: u64,
}

/// What this node knows of the others' histories.
#[derive(Debug, Default)]
pub(super) struct Compare {
    /// The hashes of the entries applied last, ascending.
    applied: VecDeque<Mark>,
    /// The entry that is being compared, and what members said of it.
    at: Option<(LogIndex, Term)>,
    said: BTreeMap<u64, u64>,
    /// This node has said its own.
    answered: bool,
    next: Mono,
    /// Who was last seen with another history, and where.
    differs: BTreeMap<u64, LogIndex>,
    /// Most voters have another history than this node.
    outvoted: Option<LogIndex>,
}

impl Compare {
    /// An entry was applied.
    pub(super) fn applied(&mut self, header: &EntryHeader) {
        if self.applied.len() >= APPLIED_KEPT {
            self.applied.pop_front();
        }
        self.applied.push_back(Mark { index: header.index, term: header.term, chain: header.chain });
    }

    fn mark_at(&self, index: LogIndex) -> Option<Mark> {
        let first = self.applied.front()?.index.0;
        let at = usize::try_from(index.0.checked_sub(first)?).ok()?;
        self.applied.get(at).copied().filter(|mark| mark.index == index)
    }

    /// Most voters have another history: nothing of this one is served.
    pub(super) fn is_outvoted(&self) -> bool {
        self.outvoted.is_some()
    }
}

impl Node {
    /// One turn: a leader begins a comparison when it is time, everybody says what it has.
    pub(super) fn keep_comparing(&mut self, now: Now) {
        if self.raft.is_leader() && now.mono >= self.compare.next {
            self.compare.next = now.mono.after(COMPARE_EVERY);
            if let Some(mark) = self.compare.applied.back().copied() {
                self.begin_comparison(mark.index, mark.term);
            }
        }
        if self.compare.answered {
            return;
        }
        let Some((index, _)) = self.compare.at else { return };
        // Not applied yet: later. Not kept any more: next time.
        let Some(mark) = self.compare.mark_at(index) else { return };
        self.compare.answered = true;
        self.tell_mark(mark);
        self.judge(now);
    }

    fn begin_comparison(&mut self, index: LogIndex, term: Term) {
        self.compare.at = Some((index, term));
        self.compare.said.clear();
        self.compare.answered = false;
    }

    fn tell_mark(&mut self, mark: Mark) {
        let Some(seed) = self.log_seed() else { return };
        for node in self.raft.configuration().members() {
            if node != self.me && self.peers.is_up(node.get()) {
                self.send(node.get(), Class::Peer, PeerMessage::Chain { seed, mark });
            }
        }
    }

    /// A member says what it has at some entry.
    pub(super) fn mark_told(&mut self, now: Now, node: u64, seed: u64, mark: Mark) {
        if self.log_seed() != Some(seed) || !self.raft.configuration().members().iter().any(|m| m.get() == node) {
            return;
        }
        let current = self.compare.at == Some((mark.index, mark.term));
        if !current {
            // The leader says what is compared; an answer to an older question is late.
            if self.leader() != Some(node) {
                return;
            }
            self.begin_comparison(mark.index, mark.term);
            self.hurry(now);
        }
        self.compare.said.insert(node, mark.chain);
        self.judge(now);
    }

    /// Does anybody differ, and is it this node that most of the voters contradict?
    fn judge(&mut self, now: Now) {
        let Some((index, term)) = self.compare.at else { return };
        let Some(own) = self.compare.mark_at(index).filter(|mark| mark.term == term) else { return };
        let said: Vec<(u64, u64)> = self.compare.said.iter().map(|(node, chain)| (*node, *chain)).collect();
        for (node, chain) in said {
            if chain == own.chain {
                self.compare.differs.remove(&node);
            } else if self.compare.differs.insert(node, index).is_none() {
                let text = format!(
                    "{} has another history than this agent: at entry {index} the hashes of the two logs differ; one of \
                     them holds what was never agreed on",
                    self.name_of(node)
                );
                self.note(Level::Error, text);
            }
        }
        let voters = &self.raft.configuration().voters;
        let mut counts: BTreeMap<u64, usize> = BTreeMap::new();
        for (_, chain) in self.compare.said.iter().filter(|(node, _)| voters.iter().any(|v| v.get() == **node)) {
            *counts.entry(*chain).or_default() += 1;
        }
        let against = counts.iter().filter(|(chain, _)| **chain != own.chain).map(|(_, count)| *count).max();
        let is_outvoted = voters.len() >= VOTERS_MIN && against.is_some_and(|count| count > voters.len() / 2);
        if is_outvoted && self.compare.outvoted.is_none() {
            self.compare.outvoted = Some(index);
            let text = format!(
                "most voters have another history than this agent at entry {index}: it takes no part any more and serves \
                 nothing; wipe its data directory to join again as a new node"
            );
            self.note(Level::Error, text.clone());
            self.applied.halt(text);
            self.raft.handle(now, quorate_raft::Input::Outvoted { index });
        }
    }

    /// What an operator should know of it.
    pub(super) fn compare_problems(&self) -> Vec<String> {
        let differs = self.compare.differs.iter();
        differs
            .map(|(node, index)| {
                let name = self.name_of(*node);
                format!("{name} has another history than this agent, at entry {index} or before; compare both with `quorate log dump`")
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_applied_of_late_is_known() {
        let mut compare = Compare::default();
        for i in 1..=APPLIED_KEPT as u64 + 10 {
            let mark = Mark { index: LogIndex(i), term: Term(1), chain: i * 7 };
            if compare.applied.len() >= APPLIED_KEPT {
                compare.applied.pop_front();
            }
            compare.applied.push_back(mark);
        }
        assert_eq!(compare.mark_at(LogIndex(10)), None);
        assert_eq!(compare.mark_at(LogIndex(11)).map(|mark| mark.chain), Some(77));
        assert_eq!(compare.mark_at(LogIndex(APPLIED_KEPT as u64 + 11)), None);
    }
}
