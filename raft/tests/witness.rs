//! Witness: what the outside world has seen, and what can therefore no longer happen (Figure 3.2).
//!
//! It believes disks and messages, never what a node claims of itself. Everything is incremental: each fact is
//! compared once, when it appears.

use std::collections::{BTreeMap, BTreeSet};

use quorate_raft::*;

use crate::machine::{Disk, Entry, Machine};

#[derive(Default)]
pub(crate) struct Witness {
    /// Election safety: who led in each term.
    leaders: BTreeMap<Term, NodeId>,
    /// One vote a term and node, over all its lives.
    votes: BTreeMap<(NodeId, Term), NodeId>,
    /// Log matching: what stands at (index, term), and the term before it.
    entries: BTreeMap<(LogIndex, Term), (u64, Term)>,
    /// What was committed, for ever.
    pub(crate) truth: Vec<Entry>,
    /// What each node has said in this life, which must never go back.
    heights: BTreeMap<NodeId, (Term, LogIndex)>,
    /// Every local request of a life that goes on, and how it ended.
    outcomes: BTreeMap<Ticket, Option<Outcome>>,
    accepted: BTreeMap<Ticket, Position>,
    committed_data: BTreeSet<u64>,
    reads: BTreeMap<Ticket, LogIndex>,
    asked_at: BTreeMap<Ticket, NodeId>,
    pub(crate) reads_served: u64,
    pub(crate) elections: u64,
}

impl Witness {
    pub(crate) fn truth(&mut self, entry: &Entry) {
        let index = LogIndex(self.truth.len() as u64 + 1);
        let before = self.truth.last().map_or(Term::ZERO, |e| e.term);
        self.appended(index, before, entry);
        self.truth.push(entry.clone());
    }

    pub(crate) fn disk(&mut self, id: NodeId, disk: &Disk) {
        let mut before = Term::ZERO;
        for (i, entry) in (1..).zip(&disk.log) {
            self.appended(LogIndex(i), before, entry);
            before = entry.term;
        }
        self.hard_state(id, disk.hard_state);
    }

    /// One vote a term, as the disk has it.
    pub(crate) fn hard_state(&mut self, id: NodeId, hard_state: HardState) {
        if let Some(vote) = hard_state.vote {
            let first = *self.votes.entry((id, hard_state.term)).or_insert(vote);
            assert_eq!(first, vote, "{id:?} voted twice in term {}", hard_state.term);
        }
    }

    /// Log matching, by induction: the same (index, term) is the same entry after the same term.
    pub(crate) fn appended(&mut self, index: LogIndex, before: Term, entry: &Entry) {
        let known = *self.entries.entry((index, entry.term)).or_insert((entry.data, before));
        assert_eq!(known, (entry.data, before), "two entries at index {index} in term {}", entry.term);
    }

    pub(crate) fn sent(&mut self, from: NodeId, to: NodeId, message: &Message, sender: &Machine) {
        let disk = &sender.disk;
        if let Some(matched) = message.acknowledges() {
            assert!(matched.0 as usize <= disk.log.len(), "{from:?} acknowledged {matched} before it was durable");
            let same = matched.0 == 0 || disk.log[matched.0 as usize - 1] == sender.log[matched.0 as usize - 1];
            assert!(same, "{from:?} acknowledged {matched}, but another entry is durable there");
            assert_eq!(disk.hard_state.term, message.term(), "{from:?} answered in a term that is not durable");
        }
        if message.grants_vote() {
            let promised = HardState { term: message.term(), vote: Some(to) };
            assert_eq!(disk.hard_state, promised, "{from:?} granted a vote before it was durable");
            self.hard_state(from, promised);
        }
        if message.kind() == "vote" {
            let promised = HardState { term: message.term(), vote: Some(from) };
            assert_eq!(disk.hard_state, promised, "{from:?} asked for votes before its own was durable");
            assert_eq!(disk.log.len(), sender.log.len(), "{from:?} asked for votes with a log that is not durable");
        }
    }

    /// A node said that all up to `index` is committed.
    pub(crate) fn committed(&mut self, id: NodeId, index: LogIndex, machines: &BTreeMap<NodeId, Machine>) {
        let machine = &machines[&id];
        let raft = machine.raft.as_ref().expect("it spoke");
        let known = self.heights.entry(id).or_default();
        assert!(index > known.1, "{id:?} committed {index} after {}", known.1);
        let from = known.1.0 as usize;
        known.1 = index;
        assert!(index.0 as usize <= machine.log.len(), "{id:?} committed beyond its log");
        for at in from..index.0 as usize {
            let entry = &machine.log[at];
            if let Some(known) = self.truth.get(at) {
                assert_eq!(known, entry, "{id:?} committed another entry at {}", at + 1);
                continue;
            }
            self.adjacent(entry);
            self.truth.push(entry.clone());
            self.committed_data.insert(entry.data);
        }
        if raft.is_leader() {
            Self::is_on_a_quorum(machine, index, machines);
        }
    }

    /// Configurations that follow one another in the truth overlap (§4.3): the voters are the same, or one of the two is
    /// the joint phase of the other.
    fn adjacent(&self, entry: &Entry) {
        let EntryKind::Configuration(next) = &entry.kind else { return };
        let before = self.truth.iter().rev().find_map(|e| match &e.kind {
            EntryKind::Configuration(c) => Some(c),
            _ => None,
        });
        let Some(before) = before else { return };
        let overlap = match (before.is_joint(), next.is_joint()) {
            (false, true) => next.outgoing == before.voters,
            (true, false) | (false, false) => next.voters == before.voters,
            (true, true) => false,
        };
        assert!(overlap && next.is_legal(), "{next:?} was committed after {before:?}");
    }

    /// One change in flight: whoever leads appends a configuration only when the one before it is committed.
    pub(crate) fn configured(&self, leader: &Machine, entry: &Entry) {
        let before = leader.log.iter().rposition(|e| matches!(e.kind, EntryKind::Configuration(_)));
        if let (EntryKind::Configuration(_), Some(before), Some(raft)) = (&entry.kind, before, &leader.raft) {
            assert!(raft.committed().0 as usize > before, "two configurations in flight");
        }
    }

    /// Committed means: on a quorum of durable disks. In the configuration in force at that index or in any that the
    /// leader had since, since a later one may have decided.
    fn is_on_a_quorum(leader: &Machine, index: LogIndex, machines: &BTreeMap<NodeId, Machine>) {
        let entry = &leader.log[index.0 as usize - 1];
        let holds = |id: &NodeId| machines.get(id).is_some_and(|m| m.disk.log.get(index.0 as usize - 1) == Some(entry));
        let majority = |set: &BTreeSet<NodeId>| set.iter().filter(|id| holds(id)).count() * 2 > set.len();
        let decided = |c: &Configuration| majority(&c.voters) && (c.outgoing.is_empty() || majority(&c.outgoing));
        let configurations = leader.log.iter().filter_map(|e| match &e.kind {
            EntryKind::Configuration(c) => Some(c),
            _ => None,
        });
        // The leader may have appended one more configuration in the same step, after it decided with the one before.
        let latest: Vec<_> = configurations.collect();
        let some = latest.iter().rev().take(2).any(|c| decided(c));
        assert!(some, "committed {index} without a quorum of durable disks");
    }

    pub(crate) fn accepted(&mut self, ticket: Ticket, position: Position) {
        assert!(self.accepted.insert(ticket, position).is_none(), "{ticket:?} was accepted twice");
    }

    pub(crate) fn accepted_at(&self, ticket: Ticket) -> Option<Position> {
        self.accepted.get(&ticket).copied()
    }

    pub(crate) fn issued(&mut self, ticket: Ticket, at: NodeId) {
        self.asked_at.insert(ticket, at);
        assert!(self.outcomes.insert(ticket, None).is_none());
    }

    pub(crate) fn done(&mut self, ticket: Ticket, outcome: Outcome) {
        let before = self.outcomes.insert(ticket, Some(outcome)).expect("a ticket that was issued");
        assert_eq!(before, None, "{ticket:?} ended twice");
        match outcome {
            Outcome::Committed { position } if position != Position::ZERO => {
                let entry = &self.truth[position.index.0 as usize - 1];
                assert_eq!(entry.term, position.term, "{ticket:?} was told a position that is not committed");
                assert!(entry.data == ticket.0 || entry.data == 0, "{ticket:?} was told another's position");
            }
            Outcome::Committed { .. } => {}
            Outcome::Lost => assert!(!self.committed_data.contains(&ticket.0), "{ticket:?} is lost, and yet committed"),
            Outcome::Rejected(_) => {
                assert!(!self.accepted.contains_key(&ticket), "{ticket:?} was accepted, then refused");
            }
        }
    }

    pub(crate) fn outcome(&self, ticket: Ticket) -> Option<Outcome> {
        self.outcomes.get(&ticket).copied().flatten()
    }

    pub(crate) fn read_issued(&mut self, ticket: Ticket, at: NodeId) {
        self.issued(ticket, at);
        self.reads.insert(ticket, LogIndex(self.truth.len() as u64));
    }

    /// Linearizable: a read sees everything that anyone knew committed before it began.
    pub(crate) fn read_ready(&mut self, ticket: Ticket, index: LogIndex) {
        let floor = self.reads[&ticket];
        assert!(index >= floor, "{ticket:?} may read at {index}, but {floor} was committed before it began");
        assert!(index.0 as usize <= self.truth.len(), "{ticket:?} may read beyond what is committed");
        let before = self.outcomes.insert(ticket, Some(Outcome::Committed { position: Position::ZERO }));
        assert_eq!(before, Some(None), "{ticket:?} ended twice");
        self.reads_served += 1;
    }

    pub(crate) fn crashed(&mut self, id: NodeId) {
        self.heights.remove(&id);
        // Who crashed answers nobody: its open requests stay unknown.
        let asked_at = &self.asked_at;
        self.outcomes.retain(|ticket, outcome| outcome.is_some() || asked_at.get(ticket) != Some(&id));
    }

    /// After each input: terms never go back, one leader a term, and a leader has everything committed.
    pub(crate) fn look(&mut self, id: NodeId, machines: &BTreeMap<NodeId, Machine>) {
        let machine = &machines[&id];
        let Some(raft) = &machine.raft else { return };
        let height = self.heights.entry(id).or_default();
        assert!(raft.term() >= height.0, "{id:?} went back to term {}", raft.term());
        height.0 = raft.term();
        assert_eq!(raft.last().index.0 as usize, machine.log.len(), "{id:?} has another log than it wrote");
        if raft.is_leader() && self.leaders.get(&raft.term()) != Some(&id) {
            let first = *self.leaders.entry(raft.term()).or_insert(id);
            assert_eq!(first, id, "two leaders in term {}", raft.term());
            self.elections += 1;
            // A founder has nobody to promise anything to; everyone else leads by votes, its own among them.
            let promised = HardState { term: raft.term(), vote: Some(id) };
            assert!(
                machine.disk.hard_state == promised || raft.last().index == LogIndex(1),
                "{id:?} leads by an unsynced vote"
            );
            let complete = machine.log.len() >= self.truth.len() && machine.log[..self.truth.len()] == self.truth[..];
            assert!(complete, "{id:?} leads term {} without what was committed", raft.term());
        }
    }

    /// At the very end: what was called lost or refused is not in the log.
    pub(crate) fn verdict(&self) {
        let data: BTreeSet<u64> = self.truth.iter().map(|e| e.data).collect();
        for (ticket, outcome) in &self.outcomes {
            match outcome {
                Some(Outcome::Lost | Outcome::Rejected(_)) => {
                    assert!(!data.contains(&ticket.0), "{ticket:?} ended as {outcome:?}, and yet it is committed");
                }
                Some(Outcome::Committed { .. }) | None => {}
            }
        }
    }

    pub(crate) fn open(&self) -> impl Iterator<Item = (NodeId, Ticket)> + '_ {
        let open = self.outcomes.iter().filter(|(_, outcome)| outcome.is_none());
        open.map(|(ticket, _)| (self.asked_at[ticket], *ticket))
    }

    pub(crate) fn outcomes(&self) -> impl Iterator<Item = Outcome> + '_ {
        self.outcomes.values().copied().flatten()
    }
}
