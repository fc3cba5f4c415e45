//! Elections: who may lead, what a leader may call committed, and when it must stop, as the others and the disks know it.
//!
//! It believes no node: votes are counted as they were sent, logs as they were ordered, answers as they arrived.

use super::super::invariant::Invariant;
use super::super::machine::Machine;
use super::Witness;
use crate::node::RaftMessage;
use quorate_raft::{Configuration, Mono, NodeId, Term};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

/// After so many of the longest election timeouts without a quorum, on its own clock, nobody speaks as a leader. It must
/// step down within one; the rest is the slack of its rounds.
const SILENT_TIMEOUTS_MAX: u32 = 3;
/// For so long after a pause a process may still say what it meant to say before, in microseconds.
const AFTER_A_PAUSE_US: u64 = 2_000_000;

/// What was seen of elections and leaders.
#[derive(Debug, Default)]
pub(super) struct Elections {
    /// Who gave whom a vote, by history, term and candidate.
    grants: BTreeMap<(u64, Term, u64), BTreeSet<NodeId>>,
    /// When each leader first spoke, on its own clock.
    since: BTreeMap<(u64, Term), Mono>,
    /// By when each standing entry was committed at the latest, as a term.
    known_in: Vec<Term>,
    /// The furthest commit index that a leader has told, by history.
    told: BTreeMap<u64, u64>,
    /// When each process last got a Raft message from whom, on its own clock: by machine and life.
    heard: BTreeMap<(usize, u64), BTreeMap<u64, Mono>>,
}

impl Elections {
    /// When this process last got a Raft message from that node, on its own clock.
    pub(super) fn heard_last(&self, process: (usize, u64), node: NodeId) -> Option<Mono> {
        self.heard.get(&process)?.get(&node.get()).copied()
    }

    /// One more entry stands, of this term.
    pub(super) fn stands(&mut self, term: Term) {
        let spoken = self.since.keys().map(|(_, term)| *term).max();
        self.known_in.push(spoken.unwrap_or_default().max(term));
    }
}

impl Witness {
    /// A Raft message of `from` has reached this machine.
    pub(in super::super) fn heard(&mut self, machine: usize, machines: &[Machine], from: u64, at: u64) {
        let Some(process) = &machines[machine].process else { return };
        let heard = self.elections.heard.entry((machine, process.life)).or_default();
        heard.insert(from, process.clock.read(at));
    }

    /// A node says something: may it, as the others know? `is_there`: the process that it speaks to still runs.
    pub(in super::super) fn spoke(
        &mut self,
        by: usize,
        machines: &[Machine],
        (to, is_there): (u64, bool),
        raft: &RaftMessage,
        at: u64,
    ) {
        let (message, from) = (&raft.message, machines[by].node);
        let Some(process) = &machines[by].process else { return };
        if message.grants_vote() {
            self.elections.grants.entry((raft.seed, message.term(), to)).or_default().insert(from);
        }
        match message.kind() {
            "append" | "heartbeat" => {
                if let Entry::Vacant(first) = self.elections.since.entry((raft.seed, message.term())) {
                    first.insert(process.clock.read(at));
                    self.begins_to_lead(by, machines, raft);
                }
                self.tells_commit(by, machines, raft);
                self.hears_a_quorum(by, machines, raft, at);
            }
            "timeout-now" => self.hands_over(by, machines, to, is_there),
            _ => {}
        }
    }

    /// The first word of a leader: it has the votes, and all that was committed before (§3.6.3).
    fn begins_to_lead(&mut self, by: usize, machines: &[Machine], raft: &RaftMessage) {
        let (machine, term) = (&machines[by], raft.message.term());
        let Some(process) = &machine.process else { return };
        // It may have committed that in a term that it led before, and lost that before it could tell anybody.
        let applied = process.published.readable_index.0;
        let told = self.elections.told.entry(raft.seed).or_default();
        *told = applied.max(*told);
        let older = process.ordered.partition_point(|entry| entry.header().term < term);
        let Some((_, configuration)) = machine.configurations.range(..=older as u64).next_back() else { return };
        let mut grants = self.elections.grants.remove(&(raft.seed, term, machine.node.get())).unwrap_or_default();
        grants.insert(machine.node);
        let voted = |voter: &NodeId| grants.contains(voter);
        self.claim(is_decided(configuration, voted), Invariant::ElectedByQuorum, || {
            format!("{} leads in term {term}, and has the votes of {grants:?} only", machine.name)
        });
        let committed = self.elections.known_in.iter().rposition(|known| *known < term).map_or(0, |at| at + 1);
        let held = process.ordered.get(committed.wrapping_sub(1)).map(|entry| entry.header().chain);
        let complete = committed == 0 || held == self.chain(committed as u64);
        self.claim(complete, Invariant::LeaderCompleteness, || {
            format!("{} leads in term {term} without entry {committed}, which was committed before", machine.name)
        });
    }

    /// A leader commits by an entry of its own term (§3.6.2); what is older was told by an earlier leader, or is not told.
    fn tells_commit(&mut self, by: usize, machines: &[Machine], raft: &RaftMessage) {
        let (Some(commit), Some(process)) = (raft.message.commit(), &machines[by].process) else { return };
        let told = self.elections.told.entry(raft.seed).or_default();
        if commit.0 <= *told {
            return;
        }
        let before = std::mem::replace(told, commit.0);
        let held = (commit.0 as usize).checked_sub(1).and_then(|at| process.ordered.get(at)).map(|e| e.header().term);
        self.claim(held == Some(raft.message.term()), Invariant::OwnTermCommits, || {
            let (name, term) = (&machines[by].name, raft.message.term());
            format!("{name} commits entry {commit} of term {held:?} in term {term}; the others knew of {before}")
        });
    }

    /// Nobody speaks as a leader who has not heard a quorum for long (§6.2).
    fn hears_a_quorum(&mut self, by: usize, machines: &[Machine], raft: &RaftMessage, at: u64) {
        let machine = &machines[by];
        let Some(process) = &machine.process else { return };
        let paused = process.paused_until > 0 && at <= process.paused_until + AFTER_A_PAUSE_US;
        let Some((_, configuration)) = machine.configurations.iter().next_back() else { return };
        let bound = quorate_raft::Options::default().election_timeout_max * SILENT_TIMEOUTS_MAX;
        let (now, term) = (process.clock.read(at), raft.message.term());
        let since = self.elections.since.get(&(raft.seed, term)).copied();
        let heard = self.elections.heard.get(&(by, process.life));
        let is_near = |voter: &NodeId| {
            let last = heard.and_then(|heard| heard.get(&voter.get())).copied().max(since);
            *voter == machine.node || last.is_some_and(|last| now.since(last) <= bound)
        };
        self.claim(paused || is_decided(configuration, is_near), Invariant::LeaderHearsQuorum, || {
            format!("{} still leads in term {term}, and has not heard a quorum for {bound:?}", machine.name)
        });
    }

    /// Leadership goes only to whose disk has all of it (§3.10). Of a disk that was harmed on purpose after its process had
    /// ended nobody can know before the next one speaks; what is said to the one that ended reaches nobody.
    fn hands_over(&mut self, by: usize, machines: &[Machine], to: u64, is_there: bool) {
        let Some(last) = machines[by].process.as_ref().and_then(|p| p.ordered.last()) else { return };
        let (index, chain) = (last.header().index.0, last.header().chain);
        let mut heirs = machines.iter().filter(|m| m.node.get() == to).peekable();
        let whole =
            heirs.peek().is_none() || heirs.any(|heir| heir.durable.holds(index, chain) || heir.harmed && !is_there);
        self.claim(whole, Invariant::HeirIsWhole, || {
            format!("{} hands over to {to:016x}, whose disk does not hold entry {index}", machines[by].name)
        });
    }
}

/// Do these decide, in both halves of a joint phase?
fn is_decided(configuration: &Configuration, yes: impl Fn(&NodeId) -> bool) -> bool {
    let majority = |voters: &BTreeSet<NodeId>| voters.iter().filter(|v| yes(v)).count() > voters.len() / 2;
    majority(&configuration.voters) && (configuration.outgoing.is_empty() || majority(&configuration.outgoing))
}
