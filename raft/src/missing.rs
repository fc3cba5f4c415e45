//! Missing: a node whose disk lost what it may have acknowledged votes as if it still held that, and does not stand (§3.6.1).
//!
//! It never guesses the bar: the log on disk names it where a start finds that the end of the log is suspect, or a leader
//! does that remembers what each peer acknowledged, over the lives of the peer. The bar is kept on disk by the same ordered
//! stream of writes as terms and votes, so a restart forgets neither that it stands nor, once that is durable, that it fell.
//! What this cannot prevent is the vote of a disk that was rolled back unnoticed before any leader that remembers has
//! spoken to it.
//!
//! # Why the bar is safe, and when it falls
//!
//! Whoever lost entries up to the bar grants its vote only to a candidate whose last entry is at or beyond it. That is at
//! least as strict as with the lost entries still there, so every majority of votes still meets every majority of
//! acknowledgements. The bar falls when this node's own durable log reaches it: appends come from a leader only, and a leader
//! was elected with all that is committed. Reaching it by a later term is enough: an entry of that term here proves that
//! this log equals, up to there, the log of a leader that had everything committed before its term.
//!
//! A member that is damaged *inside* its log is another matter: where its log ends it knows, so its votes are as good as
//! ever. It only does not lead, since it could not send what it cannot read.
//!
//! # What cannot be read is not compared
//!
//! Of an entry that it cannot read a node may not even know the term: a start that finds a damaged range over a change of
//! term may have to guess. So there it neither agrees with a leader nor contradicts one, and follows three rules.
//!
//! 1. What is known to equal the leader's log is held, whatever stands there: what is committed, what was verified in this
//!    term, and all before an entry behind the range that the leader sends and that is the same here.
//! 2. An append whose previous entry lies elsewhere in such a range is refused as if the log ended before the range. The
//!    leader goes back until it finds an entry that both can read: each refusal names a lower index, so that ends.
//! 3. If the leader then sends entries of the range, all from its first one on is dropped and the leader's taken. That may
//!    drop entries that this node acknowledged and that equal the leader's: the bar rises to where the log ended, in the same
//!    write. Its votes are thereby as strict as if nothing had been dropped, and the bar falls as it always does: the leader
//!    that caused the cut holds all that is committed, and its next entry of its own term, or the same log up to there in the
//!    same term, reaches it.
//!
//! By rule 3 a cut never begins behind an entry that cannot be read, which the log on disk could not follow. Left is a range
//! that reaches over what is verified, with a tail behind it that the leader contradicts: it can neither be cut in the middle
//! nor dropped as a whole, and nothing is taken until it is repaired. A range that nobody needs (the uncommitted tail of
//! another leader, that no other member holds) goes by rule 3, or with a cut before it.
//!
//! # What nobody can read
//!
//! If the same entries cannot be read by most voters, waiting for a whole leader is waiting for ever. Then a node leads with
//! them, if all of them are committed as far as it knows: nobody whom it needs lacks them. It says nothing of them to anybody:
//! a peer that lacks some of them gets heartbeats that claim no more than the start of the log.
//!
//! # What stays blocked
//!
//! If so many voters have lost the ends of their logs that no candidate reaches the bars of a majority, nobody is elected:
//! whoever could be might lack what was acknowledged. With an odd number of voters, one suspect never blocks anything; two of
//! three do if both bars lie beyond the log of the third. A rule that lets bars fall when enough voters certify that they
//! never held such an entry (n - quorum + 1 of them) would free groups of even size only: with an odd number, so many
//! certifying voters are a majority without the suspects. Two voters of which one is suspect are therefore the one common
//! case that waits for people: for the disk that is whole to be recovered by hand.

use alloc::vec::Vec;

use crate::message::Body;
use crate::role::RoleState;
use crate::{Configuration, LogIndex, NodeId, Output, PersistTicket, Position, Raft, Run, Suspect, mutant};

/// The end of what this disk may have acknowledged and has lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bar {
    at: Position,
    /// The log has reached it; it falls with this write.
    falls: Option<PersistTicket>,
}

impl Bar {
    /// As a start found it on disk.
    pub(crate) fn saved(at: Position) -> Self {
        Self { at, falls: None }
    }
}

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
        let known = self.lost.map(|bar| bar.at);
        if known.is_some_and(|known| known.is_at_least_as_up_to_date_as(promised)) {
            return;
        }
        if known.is_none() {
            self.alarm(
                self.node,
                "this disk has lost entries that it acknowledged; this node does not stand for election before it holds them again",
            );
        }
        // In force at once, and after the next start as soon as it is durable.
        self.lost = Some(Bar::saved(promised));
        if !mutant!(SuspectNotPersisted) {
            self.persist_bar(Suspect::At(promised));
        }
    }

    /// After each input: a bar that the durable log has reached is about to fall.
    pub(crate) fn settle_bar(&mut self) {
        let Some(Bar { at, falls: None }) = self.lost else { return };
        if self.halted.is_none() && self.durable_position().is_at_least_as_up_to_date_as(at) {
            let falls = Some(self.persist_bar(Suspect::Cleared));
            self.lost = Some(Bar { at, falls });
        }
    }

    /// Everything up to this write is durable: maybe that the bar has fallen.
    pub(crate) fn on_bar_durable(&mut self, ticket: PersistTicket) {
        self.lost = self.lost.filter(|bar| bar.falls.is_none_or(|falls| falls > ticket));
    }

    /// The end of what this node may have acknowledged and lost, until it is on disk that it holds that again.
    pub(crate) fn missing(&self) -> Option<Position> {
        self.lost.map(|bar| bar.at)
    }

    /// The caller found entries in the log that cannot be read, or has repaired some.
    pub(crate) fn set_damaged(&mut self, mut ranges: Vec<(LogIndex, LogIndex)>) {
        ranges.retain(|(first, last)| first <= last && *first <= self.log.last().index);
        ranges.sort_unstable();
        self.unreadable = ranges;
        if self.is_damaged() && matches!(self.role, RoleState::PreCandidate(_) | RoleState::Candidate(_)) {
            self.become_follower(None);
            self.reset_election_timer();
        }
    }

    /// A configuration in the log that could not be read at the start.
    pub(crate) fn learn(&mut self, index: LogIndex, configuration: Configuration) {
        let is_inside = index > self.log.start().index && index <= self.log.last().index;
        if !self.is_damaged() || !is_inside || !configuration.is_legal() {
            return;
        }
        self.configurations.learn(index, configuration);
        self.configurations.forget_before(self.committed);
    }

    /// What a start had to guess of the terms inside a damaged range is known now.
    pub(crate) fn reread(&mut self, runs: &[Run], last: LogIndex) {
        let Some(first) = runs.first().map(|run| run.first) else { return };
        let holds = |range: &&(LogIndex, LogIndex)| range.0 <= first && last <= range.1;
        if first <= last && self.unreadable.iter().any(|range| holds(&range)) {
            self.log.correct(runs, last);
        }
    }

    /// Are there entries in the log that cannot be read?
    pub(crate) fn is_damaged(&self) -> bool {
        !self.unreadable.is_empty()
    }

    /// Can nobody here say what stands at `index`? The very last entry is known, however damaged it is.
    pub(crate) fn is_unknown(&self, index: LogIndex) -> bool {
        self.unreadable_from(index).is_some()
    }

    /// The first entry of the unreadable range around this one.
    pub(crate) fn unreadable_from(&self, index: LogIndex) -> Option<LogIndex> {
        unreadable_from(&self.unreadable, self.log.last().index, index)
    }

    /// The log is about to be cut at `from`: what that takes of the damage is no longer a concern. If it begins with an entry
    /// that cannot be read, nobody knows that it takes no acknowledged one: then a bar stands from now on, and is to be
    /// written with the cut.
    pub(crate) fn cut_damage(&mut self, from: LogIndex) -> Option<Suspect> {
        let last = self.log.last();
        let blind = self.is_unknown(from) && !mutant!(BlindCutWithoutBar);
        self.unreadable.retain(|(first, _)| *first < from);
        if let Some((_, end)) = self.unreadable.last_mut() {
            *end = (*end).min(from.prev());
        }
        if !blind {
            return None;
        }
        let at = self.missing().filter(|known| known.is_at_least_as_up_to_date_as(last)).unwrap_or(last);
        self.lost = Some(Bar::saved(at));
        Some(Suspect::At(at))
    }

    /// Does this node hold all that it may have acknowledged, and can it read all of it? Only then may it lead.
    pub(crate) fn is_whole(&self) -> bool {
        self.lost.is_none() && (!self.is_damaged() || self.is_no_worse() || mutant!(DamagedLeads))
    }

    /// Would nobody lead better, and is nobody misled?
    fn is_no_worse(&self) -> bool {
        self.irreparable && self.unreadable.last().is_none_or(|(_, last)| *last <= self.committed)
    }

    /// The log that a candidate must match to get this node's vote: the one it has, or the one it should have. The votes
    /// of a majority then still reach every entry that a majority acknowledged.
    pub(crate) fn bar_for_candidates(&self) -> Position {
        let last = self.log.last();
        if mutant!(SuspectIgnoredByVotes) {
            return last;
        }
        self.missing().filter(|missing| missing.is_at_least_as_up_to_date_as(last)).unwrap_or(last)
    }

    fn durable_position(&self) -> Position {
        self.log.position(self.frontier.last()).unwrap_or_else(|| self.log.start())
    }
}

/// The first entry of the range around `index`, of these ranges in a log that ends at `last`.
pub(crate) fn unreadable_from(ranges: &[(LogIndex, LogIndex)], last: LogIndex, index: LogIndex) -> Option<LogIndex> {
    let at = ranges.partition_point(|(_, last)| *last < index);
    let (first, _) = ranges.get(at).filter(|_| !mutant!(UnreadableCompared))?;
    (*first <= index && index < last).then_some(*first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BootId, HardState, Now, Options, Saved, Term};

    fn at(index: u64) -> LogIndex {
        LogIndex(index)
    }

    fn position(index: u64, term: u64) -> Position {
        Position { index: at(index), term: Term(term) }
    }

    /// A follower with ten entries of the terms 2 and 3, all of them durable.
    fn follower(suspect: Option<Position>) -> Raft {
        let runs = [(1, 2), (6, 3)].map(|(first, term)| Run { first: at(first), term: Term(term) });
        let saved = Saved {
            hard_state: HardState { term: Term(3), vote: None },
            runs: runs.to_vec(),
            last: at(10),
            suspect,
            ..Saved::default()
        };
        Raft::restore(Options::default(), NodeId::new(1).expect("not zero"), BootId(1), saved, 1, Now::default())
    }

    /// The bar falls with the write that says so, not with one before it.
    #[test]
    fn a_bar_falls_with_its_own_write() {
        let bar = position(12, 3);
        let mut raft = follower(Some(bar));
        raft.lost = Some(Bar { at: bar, falls: Some(PersistTicket(5)) });
        raft.on_bar_durable(PersistTicket(4));
        assert_eq!(raft.missing(), Some(bar));
        raft.on_bar_durable(PersistTicket(5));
        assert_eq!(raft.missing(), None);
        raft.lost = Some(Bar { at: bar, falls: Some(PersistTicket(5)) });
        raft.on_bar_durable(PersistTicket(6));
        assert_eq!(raft.missing(), None);
        raft.lost = Some(Bar::saved(bar));
        raft.on_bar_durable(PersistTicket(6));
        assert_eq!(raft.missing(), Some(bar), "it does not fall yet");
    }

    /// Whoever does not lead may say what it likes of lost entries.
    #[test]
    fn only_a_leader_raises_the_bar() {
        let mut raft = follower(None);
        raft.on_missing(NodeId::new(2).expect("not zero"), position(12, 3));
        assert_eq!(raft.missing(), None);
    }

    /// Each entry of a range is unknown, none beside it is, and the last one of the log never is.
    #[test]
    fn what_is_unknown_is_what_lies_in_a_range() {
        let ranges = [(at(3), at(5)), (at(6), at(6)), (at(9), at(10))];
        for index in 0..12 {
            let expected = match index {
                3..=5 => Some(3),
                6 => Some(6),
                9 => Some(9),
                _ => None,
            };
            assert_eq!(unreadable_from(&ranges, at(10), at(index)), expected.map(LogIndex), "{index}");
        }
        let mut raft = follower(None);
        assert!(!raft.is_damaged());
        // Out of order, one that is none, one behind the log, one that reaches over its end.
        raft.set_damaged(alloc::vec![(at(8), at(12)), (at(5), at(4)), (at(11), at(11)), (at(2), at(3))]);
        assert_eq!(raft.unreadable, [(at(2), at(3)), (at(8), at(12))]);
        let unknown: Vec<u64> = (0..13).filter(|index| raft.is_unknown(at(*index))).collect();
        assert_eq!((raft.is_damaged(), unknown), (true, alloc::vec![2, 3, 8, 9]));
    }

    /// A cut takes the damage behind it along. Where it begins inside a range, what it took may have been acknowledged.
    #[test]
    fn a_cut_inside_damage_raises_the_bar() {
        let whole = position(10, 3);
        for (from, left, raised) in [
            (2, alloc::vec![], None),
            (3, alloc::vec![], Some(whole)),
            (5, alloc::vec![(at(3), at(4))], Some(whole)),
            (6, alloc::vec![(at(3), at(5))], None),
            (7, alloc::vec![(at(3), at(5))], Some(whole)),
            (9, alloc::vec![(at(3), at(5)), (at(7), at(8))], None),
        ] {
            let mut raft = follower(None);
            raft.set_damaged(alloc::vec![(at(3), at(5)), (at(7), at(8))]);
            assert_eq!(raft.cut_damage(at(from)), raised.map(Suspect::At), "from {from}");
            assert_eq!((raft.unreadable.clone(), raft.missing()), (left, raised), "from {from}");
        }
        // A higher bar stays, and one that was about to fall stands again.
        for (known, stays) in [(position(12, 3), position(12, 3)), (position(4, 2), whole)] {
            let mut raft = follower(None);
            raft.lost = Some(Bar { at: known, falls: Some(PersistTicket(5)) });
            raft.set_damaged(alloc::vec![(at(3), at(5))]);
            assert_eq!(raft.cut_damage(at(4)), Some(Suspect::At(stays)));
            assert_eq!(raft.lost, Some(Bar::saved(stays)));
        }
    }

    /// Votes are as strict as the higher of what is there and what should be there.
    #[test]
    fn candidates_meet_the_higher_of_log_and_bar() {
        for (bar, expected) in
            [(None, (10, 3)), (Some((12, 3)), (12, 3)), (Some((2, 4)), (2, 4)), (Some((9, 3)), (10, 3))]
        {
            let mut raft = follower(None);
            raft.lost = bar.map(|(index, term)| Bar::saved(position(index, term)));
            assert_eq!(raft.bar_for_candidates(), position(expected.0, expected.1));
            assert_eq!(raft.is_whole(), bar.is_none());
        }
        // Damage keeps it from leading, unless nobody is better off and all of it is committed.
        let mut raft = follower(None);
        raft.set_damaged(alloc::vec![(at(3), at(5))]);
        assert!(!raft.is_whole());
        raft.irreparable = true;
        for (committed, is_whole) in [(4, false), (5, true), (6, true)] {
            raft.committed = at(committed);
            assert_eq!(raft.is_whole(), is_whole, "{committed} committed");
        }
    }

    /// Of a configuration that could not be read at the start, only one inside a damaged log is news.
    #[test]
    fn a_configuration_is_learned_inside_damage() {
        let voters = [1, 2, 3].map(|n| NodeId::new(n).expect("not zero")).into();
        let legal = Configuration { voters, ..Configuration::default() };
        for (index, damaged, is_learned) in
            [(0, true, false), (1, true, true), (5, true, true), (10, true, true), (11, true, false), (5, false, false)]
        {
            let mut raft = follower(None);
            if damaged {
                raft.set_damaged(alloc::vec![(at(3), at(5))]);
            }
            raft.learn(at(index), Configuration::default());
            raft.learn(at(index), legal.clone());
            assert_eq!(raft.configuration() == &legal, is_learned, "{index}");
            assert_eq!(raft.configuration_index() == at(index) && index > 0, is_learned, "{index}");
        }
    }

    /// Terms that a start had to guess are put right only inside one damaged range.
    #[test]
    fn only_what_cannot_be_read_is_read_again() {
        let runs = [Run { first: at(4), term: Term(2) }, Run { first: at(5), term: Term(3) }];
        for (range, last, is_taken) in
            [((4, 5), 5, true), ((3, 6), 5, true), ((5, 5), 5, false), ((4, 4), 5, false), ((4, 5), 3, false)]
        {
            let mut raft = follower(None);
            raft.set_damaged(alloc::vec![(at(range.0), at(range.1))]);
            raft.reread(&runs, at(last));
            let term = if is_taken { Term(3) } else { Term(2) };
            assert_eq!(raft.term_at(at(5)), Some(term), "{range:?} up to {last}");
        }
        let mut raft = follower(None);
        raft.reread(&runs, at(5));
        raft.reread(&[], at(5));
        assert_eq!(raft.term_at(at(5)), Some(Term(2)));
    }
}
