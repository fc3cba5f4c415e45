//! Verbs: what a story can say of a cluster.
//!
//! They decide nothing for the cores: each is something that the world may do to them.

use std::time::Duration;

use quorate_raft::*;

use crate::cluster::*;
use crate::machine::*;

impl Cluster {
    /// Keeps all messages of this kind on this way back, until `let_go`.
    pub(crate) fn hold_back(&mut self, from: NodeId, to: NodeId, kind: &'static str) {
        self.capture.insert((from, to, kind));
    }

    /// Delivers what was kept back, in order, and keeps no more.
    pub(crate) fn let_go(&mut self) {
        self.capture.clear();
        for packet in std::mem::take(&mut self.captured) {
            self.deliver(packet);
        }
    }

    /// A machine whose disk holds entries of these terms after the founding configuration of `voters`.
    pub(crate) fn with_log(&mut self, n: u64, term: u64, voters: &[u64], terms: &[u64]) -> NodeId {
        let configuration = Configuration { voters: set(voters), ..Configuration::default() };
        let mut log = vec![Entry { term: Term(1), kind: EntryKind::Configuration(configuration), data: 0, bytes: 0 }];
        for (i, &term) in (2..).zip(terms) {
            // The same entry wherever the same term wrote the same index.
            log.push(Entry {
                term: Term(term),
                kind: EntryKind::Normal,
                data: 1_000_000 + term * 1000 + i,
                bytes: 100,
            });
        }
        let hard_state = HardState { term: Term(term), vote: None };
        self.add_with(n, Disk { hard_state, log, ..Disk::default() })
    }

    pub(crate) fn term(&self, id: NodeId) -> u64 {
        self.raft(id).term().0
    }

    pub(crate) fn others(&self, id: NodeId) -> Vec<NodeId> {
        self.machines.keys().copied().filter(|other| *other != id).collect()
    }

    pub(crate) fn is_committed(&self, ticket: Ticket) -> bool {
        matches!(self.outcome(ticket), Some(Outcome::Committed { .. }))
    }

    pub(crate) fn crash(&mut self, id: NodeId) {
        let machine = self.machine(id);
        machine.raft = None;
        machine.writes.clear();
        machine.flushing = None;
        machine.proposed.clear();
        machine.boots_known.clear();
        machine.log = machine.disk.log.clone();
        self.witness.crashed(id);
    }

    pub(crate) fn restart(&mut self, id: NodeId) {
        self.lives += 1;
        let (now, seed, lives) = (self.clock(), self.random.next(), self.lives);
        let (options, fsync) = (self.options.clone(), self.fsync);
        let machine = self.machine(id);
        machine.boot = BootId(lives);
        machine.fsync = Some(fsync);
        let saved = machine.disk.saved(machine.disk.applied);
        let raft = Raft::restore(options, id, machine.boot, saved, seed, now);
        machine.raft = Some(raft);
        self.drain(id, &[]);
        if !self.machines[&id].disk.holes.is_empty() {
            self.tell_damage(id);
        }
    }

    /// Says which entries of its log this node cannot read.
    pub(crate) fn tell_damage(&mut self, id: NodeId) {
        let holes = self.machines[&id].disk.holes.clone();
        self.input(id, Input::Damaged(holes));
    }

    /// While it is down, the disk of this node loses these entries inside its log.
    pub(crate) fn lose(&mut self, id: NodeId, first: u64, last: u64) {
        self.crash(id);
        self.machine(id).disk.holes.push((LogIndex(first), LogIndex(last)));
    }

    /// Gives one range back, if another disk holds all of it. Says whether it did.
    pub(crate) fn repair(&mut self, id: NodeId) -> bool {
        let disk = &self.machines[&id].disk;
        let entries = |disk: &Disk, (first, last): (LogIndex, LogIndex)| {
            let whole = (first.0..=last.0).all(|index| !disk.is_hole(LogIndex(index)));
            let entries = disk.log.get(first.0 as usize - 1..last.0 as usize).map(<[Entry]>::to_vec);
            entries.filter(|_| whole)
        };
        let stood = |hole: &(LogIndex, LogIndex)| disk.log[hole.0.0 as usize - 1..hole.1.0 as usize].to_vec();
        let others = || self.machines.iter().filter(|(other, _)| **other != id);
        let given = |hole: &(LogIndex, LogIndex)| others().any(|(_, m)| entries(&m.disk, *hole) == Some(stood(hole)));
        let Some(at) = disk.holes.iter().position(given) else { return false };
        let (first, last) = self.machine(id).disk.holes.remove(at);
        let entries = self.machines[&id].disk.log[first.0 as usize - 1..last.0 as usize].to_vec();
        let mut runs: Vec<Run> = Vec::new();
        for (index, entry) in (first.0..).zip(entries) {
            if runs.last().is_none_or(|run| run.term != entry.term) {
                runs.push(Run { first: LogIndex(index), term: entry.term });
            }
            if let EntryKind::Configuration(configuration) = entry.kind {
                self.input(id, Input::Learned { index: LogIndex(index), configuration });
            }
        }
        self.input(id, Input::Reread { runs, last });
        self.tell_damage(id);
        true
    }

    pub(crate) fn raft(&self, id: NodeId) -> &Raft {
        self.machines[&id].raft.as_ref().expect("it runs")
    }

    pub(crate) fn leader(&self) -> Option<NodeId> {
        let leads = |m: &Machine| m.raft.as_ref().filter(|r| r.is_leader()).map(|r| r.term());
        self.machines.iter().filter_map(|(id, m)| Some((leads(m)?, *id))).max().map(|(_, id)| id)
    }

    /// Waits for a leader that has committed in its own term and hears a quorum.
    pub(crate) fn elect(&mut self) -> NodeId {
        self.until("a leader", |c| c.stable_leader().is_some());
        self.stable_leader().expect("just seen")
    }

    pub(crate) fn stable_leader(&self) -> Option<NodeId> {
        let leader = self.leader()?;
        let status = self.raft(leader).status();
        let fresh = status.quorum_heard.is_some_and(|at| Mono(self.now).since(at) < Duration::from_millis(200));
        (status.own_term_committed && fresh).then_some(leader)
    }

    /// Makes this node stand now, whatever its timer says, by making the others silent to it.
    pub(crate) fn time_out(&mut self, id: NodeId) {
        let due = self.machines[&id].raft.as_ref().and_then(Raft::poll_timeout).map_or(self.now, |at| at.0);
        let now = Now { mono: Mono(due.max(self.now)), wall: Wall(0) };
        if let Some(raft) = self.machine(id).raft.as_mut() {
            raft.handle(now, Input::Timeout);
        }
        self.drain(id, &[]);
    }

    pub(crate) fn ticket(&mut self) -> Ticket {
        self.next_ticket += 1;
        Ticket(self.next_ticket)
    }

    pub(crate) fn propose(&mut self, id: NodeId) -> Ticket {
        self.propose_bytes(id, 100)
    }

    pub(crate) fn propose_bytes(&mut self, id: NodeId, bytes: u32) -> Ticket {
        let ticket = self.ticket();
        if self.machines[&id].raft.is_none() {
            return ticket;
        }
        self.witness.issued(ticket, id);
        let machine = self.machine(id);
        machine.proposed.push_back((ticket.0, bytes));
        self.input(id, Input::Propose { ticket, bytes, term: None });
        // Refused: its bytes go nowhere.
        if self.witness.accepted_at(ticket).is_none() {
            self.machine(id).proposed.retain(|(data, _)| *data != ticket.0);
        }
        ticket
    }

    /// Many proposals before anything is polled.
    pub(crate) fn propose_burst(&mut self, id: NodeId, count: usize) -> Vec<Ticket> {
        let clock = self.clock();
        let mut tickets = Vec::new();
        for _ in 0..count {
            let ticket = self.ticket();
            self.witness.issued(ticket, id);
            let machine = self.machine(id);
            machine.proposed.push_back((ticket.0, 100));
            machine.raft.as_mut().expect("it runs").handle(clock, Input::Propose { ticket, bytes: 100, term: None });
            tickets.push(ticket);
        }
        self.drain(id, &[]);
        tickets
    }

    pub(crate) fn read(&mut self, id: NodeId) -> Ticket {
        let ticket = self.ticket();
        if self.machines[&id].raft.is_none() {
            return ticket;
        }
        self.witness.read_issued(ticket, id);
        self.input(id, Input::Read { ticket });
        ticket
    }

    pub(crate) fn change(&mut self, id: NodeId, voters: &[u64], learners: &[u64]) -> Ticket {
        let expected = self.machines[&id].raft.as_ref().map_or(LogIndex::ZERO, Raft::configuration_index);
        self.change_expecting(id, expected, voters, learners)
    }

    pub(crate) fn change_expecting(
        &mut self,
        id: NodeId,
        expected: LogIndex,
        voters: &[u64],
        learners: &[u64],
    ) -> Ticket {
        let ticket = self.ticket();
        if self.machines[&id].raft.is_none() {
            return ticket;
        }
        self.witness.issued(ticket, id);
        self.input(id, Input::Change { ticket, expected, voters: set(voters), learners: set(learners) });
        ticket
    }

    pub(crate) fn transfer(&mut self, id: NodeId, to: Option<NodeId>) -> Ticket {
        let ticket = self.ticket();
        if self.machines[&id].raft.is_none() {
            return ticket;
        }
        self.witness.issued(ticket, id);
        self.input(id, Input::Transfer { ticket, to });
        ticket
    }

    pub(crate) fn outcome(&self, ticket: Ticket) -> Option<Outcome> {
        self.witness.outcome(ticket)
    }

    /// Cuts both directions between two nodes.
    pub(crate) fn cut(&mut self, a: NodeId, b: NodeId) {
        self.cut.insert((a, b));
        self.cut.insert((b, a));
    }

    /// Cuts a node off from all others.
    pub(crate) fn isolate(&mut self, id: NodeId) {
        let others: Vec<_> = self.machines.keys().copied().filter(|other| *other != id).collect();
        for other in others {
            self.cut(id, other);
        }
    }

    /// Two islands that do not hear each other.
    pub(crate) fn partition(&mut self, island: &[NodeId]) {
        let all: Vec<_> = self.machines.keys().copied().collect();
        for &a in island {
            for &b in all.iter().filter(|b| !island.contains(b)) {
                self.cut(a, b);
            }
        }
    }

    pub(crate) fn heal(&mut self) -> &mut Self {
        self.cut.clear();
        self.censored.clear();
        self
    }

    /// Until there is a leader, all members have its whole log, durable and committed.
    pub(crate) fn settle(&mut self) -> &mut Self {
        self.until("all logs equal and committed", Self::is_settled)
    }

    pub(crate) fn is_settled(&self) -> bool {
        let Some(leader) = self.stable_leader() else { return false };
        let leading = self.raft(leader);
        let last = leading.last();
        let configuration = leading.configuration();
        !configuration.is_joint()
            && leading.committed() == last.index
            && configuration.members().iter().all(|member| {
                self.machines.get(member).and_then(|m| m.raft.as_ref()).is_none_or(|raft| {
                    raft.last() == last
                        && raft.durable() == last.index
                        && raft.committed() == last.index
                        && raft.leader() == Some(leader)
                })
            })
    }

    /// What this node has committed, as tickets in log order.
    pub(crate) fn committed(&self, id: NodeId) -> Vec<Ticket> {
        let upto = self.raft(id).committed().0 as usize;
        self.machines[&id].log[..upto].iter().filter(|e| e.data != 0).map(|e| Ticket(e.data)).collect()
    }

    /// The terms of this node's log, for comparing shapes.
    pub(crate) fn terms(&self, id: NodeId) -> Vec<u64> {
        self.machines[&id].log.iter().map(|e| e.term.0).collect()
    }

    pub(crate) fn sent(&self, kind: &str) -> u64 {
        self.sent.get(kind).copied().unwrap_or(0)
    }

    pub(crate) fn picture(&self) -> String {
        let mut out = format!("at {} us, cut {:?}\n", self.now, self.cut);
        for (id, machine) in &self.machines {
            match &machine.raft {
                None => out += &format!("{id:?} down, disk {:?} {}\n", machine.disk.hard_state, machine.disk.log.len()),
                Some(raft) => out += &format!("{:?}\n  terms {:?}\n", raft.status(), self.terms(*id)),
            }
            if !machine.disk.holes.is_empty() || machine.disk.suspect.is_some() {
                out += &format!("  unreadable {:?}, lost up to {:?}\n", machine.disk.holes, machine.disk.suspect);
            }
        }
        out
    }
}
