//! Witness: what must be true of a whole world, checked from outside: on messages, synced disks and answers.
//!
//! It never asks a node what it thinks, and never changes anything.

mod answers;
mod elections;
mod orders;
mod seats;

use super::invariant::{Invariant, Violation};
use super::machine::{Durable, Machine};
use super::replayed::configuration;
use crate::codec;
use crate::machine::registry::{Command, Seat};
use crate::machine::settings::Settings;
use crate::node::{Founding, RaftMessage};
use crate::record;
use quorate_raft::wal::{Entry, EntryKind};
use quorate_raft::{Configuration, NodeId, Term, Wall};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Most voters that a group may grow to, and most members beside a superseded one.
const VOTERS_MAX: usize = 5;
const MEMBERS_MAX: usize = 8;

/// An entry that some node has applied: it stands for ever.
#[derive(Clone, Copy, Debug)]
struct Standing {
    term: Term,
    chain: u64,
    next_offset: u64,
    time: Wall,
    lamport: u64,
}

/// All that was seen.
#[derive(Debug, Default)]
pub(super) struct Witness {
    seed: Option<u64>,
    leaders: BTreeMap<(u64, Term), u64>,
    votes: BTreeMap<(u64, Term), u64>,
    ledger: Vec<Standing>,
    configurations: BTreeMap<u64, Configuration>,
    /// The value at each offset, and where each value stands.
    values: Vec<u64>,
    offsets: BTreeMap<u64, u64>,
    acked: BTreeMap<u64, u64>,
    acked_next: u64,
    failed: BTreeSet<u64>,
    /// Node ids whose disk is gone.
    dead: BTreeSet<u64>,
    departed: BTreeSet<u64>,
    /// Whom operators drain.
    draining: BTreeSet<u64>,
    /// The seats that operators gave.
    pinned: BTreeMap<u64, Seat>,
    /// Who lost its name to another disk.
    superseded: BTreeSet<u64>,
    holders: BTreeMap<String, u64>,
    /// The newest configuration that was ever ordered.
    newest: u64,
    elections: elections::Elections,
    orders: orders::Orders,
    /// The feature level and the entry that raised it, what the autopilot goes by, and how long it waits for the dead before that is set.
    level: Option<(u32, u64)>,
    settings: Option<Settings>,
    replace_after: Duration,
    levels_raised: u64,
    violation: Option<Violation>,
}

impl Witness {
    /// A witness of a world whose autopilots wait so long for the dead, unless they are told otherwise.
    pub(super) fn new(replace_after: Duration) -> Self {
        Self { replace_after, ..Self::default() }
    }

    /// The first promise that was broken, if one was.
    pub(super) fn violation(&self) -> Option<&Violation> {
        self.violation.as_ref()
    }

    pub(super) fn blame(&mut self, invariant: Invariant, what: String) {
        self.violation.get_or_insert(Violation { invariant, what });
    }

    fn claim(&mut self, holds: bool, invariant: Invariant, what: impl FnOnce() -> String) {
        if !holds && self.violation.is_none() {
            self.violation = Some(Violation { invariant, what: what() });
        }
    }

    // ---- what was asked about ----

    /// The offset after the last acked record.
    pub(super) fn acked_next(&self) -> u64 {
        self.acked_next
    }

    /// How many entries stand.
    pub(super) fn standing(&self) -> u64 {
        self.ledger.len() as u64
    }

    /// The chain of an entry that stands.
    pub(super) fn chain(&self, index: u64) -> Option<u64> {
        index.checked_sub(1).and_then(|at| self.ledger.get(at as usize)).map(|s| s.chain)
    }

    /// The newest configuration that stands.
    pub(super) fn configuration(&self) -> Option<&Configuration> {
        self.configurations.values().next_back()
    }

    /// Is this a configuration that stood and was replaced?
    pub(super) fn has_stood(&self, configuration: &Configuration) -> bool {
        self.configurations.values().any(|c| c == configuration) && self.configuration() != Some(configuration)
    }

    /// All configurations that stand, oldest first.
    pub(super) fn configurations(&self) -> impl Iterator<Item = &Configuration> {
        self.configurations.values()
    }

    /// Is it recorded that this node has left?
    /// Did an operator give it the seat that it has?
    pub(super) fn is_pinned(&self, node: u64) -> bool {
        self.pinned.contains_key(&node)
    }

    /// Does an operator want it drained?
    pub(super) fn is_draining(&self, node: u64) -> bool {
        self.draining.contains(&node)
    }

    pub(super) fn has_departed(&self, node: u64) -> bool {
        self.departed.contains(&node)
    }

    /// The feature level, and the entry that raised it.
    pub(super) fn level(&self) -> Option<(u32, u64)> {
        self.level
    }

    /// How often it was raised.
    pub(super) fn levels_raised(&self) -> u64 {
        self.levels_raised
    }

    /// How many dead voters gave their seats to others.
    pub(super) fn voters_replaced(&self) -> u64 {
        let joint = self.configurations.values().filter(|c| !c.outgoing.is_empty());
        let lost = |c: &Configuration, v: &NodeId| !c.voters.contains(v) && !c.learners.contains(v);
        let dead = |v: &NodeId| !self.superseded.contains(&v.get()) && !self.departed.contains(&v.get());
        let gone = |c: &Configuration| c.outgoing.iter().filter(|v| lost(c, v) && dead(v)).count();
        let lost = joint.filter(|c| c.voters.len() == c.outgoing.len()).map(gone).sum::<usize>();
        lost as u64
    }

    /// Where this value stands.
    pub(super) fn offset_of(&self, value: u64) -> Option<u64> {
        self.offsets.get(&value).copied()
    }

    // ---- what happened ----

    /// A disk is gone for good, and with it the node.
    pub(super) fn disk_gone(&mut self, node: NodeId) {
        self.dead.insert(node.get());
    }

    /// A node says something: does its synced disk bear it out? `counts`: whether a vote in it does. Of two processes on
    /// copies of one disk each votes, and the one that the others have shut out reaches nobody with that.
    pub(super) fn said(&mut self, from: NodeId, to: u64, raft: &RaftMessage, durable: &Durable, counts: bool) {
        let (message, term) = (&raft.message, raft.message.term());
        self.claim(!self.dead.contains(&from.get()), Invariant::DeadDisk, || {
            format!("{from} speaks, whose disk is gone")
        });
        if matches!(message.kind(), "append" | "heartbeat" | "timeout-now") {
            let leader = *self.leaders.entry((raft.seed, term)).or_insert(from.get());
            self.claim(leader == from.get(), Invariant::OneLeader, || {
                format!("two leaders in term {term}: {leader:016x} and {from}")
            });
        }
        if message.kind() == "vote" || message.kind() == "append" {
            let held = durable.hard_state.term;
            self.claim(held >= term, Invariant::TermDurable, || {
                format!("{from} acts in term {term}, and its disk knows only {held}")
            });
        }
        if message.kind() == "vote" {
            if counts {
                self.vote(from.get(), term, from.get());
            }
            let stood = durable.hard_state.term > term || durable.hard_state.vote == Some(from);
            self.claim(stood, Invariant::VoteDurable, || {
                format!("{from} asks for votes in term {term} before its own is on disk")
            });
        }
        if message.grants_vote() {
            if counts {
                self.vote(from.get(), term, to);
            }
            let given = durable.hard_state.term > term || durable.hard_state.vote.map(NodeId::get) == Some(to);
            self.claim(given, Invariant::VoteDurable, || {
                format!("{from} gave {to:016x} a vote in term {term} that is not on its disk")
            });
        }
        if let Some(index) = message.acknowledges() {
            let held = durable.log.len() as u64;
            self.claim(index.0 <= held, Invariant::AckDurable, || {
                format!("{from} acknowledged entry {index}, and {held} are on its disk")
            });
        }
    }

    fn vote(&mut self, node: u64, term: Term, candidate: u64) {
        let first = *self.votes.entry((node, term)).or_insert(candidate);
        let what = || format!("{node:016x} voted twice in term {term}: for {first:016x} and {candidate:016x}");
        self.claim(first == candidate, Invariant::OneVote, what);
    }

    /// A node applied up to `index`: those entries stand for ever, everywhere.
    pub(super) fn applied(&mut self, by: usize, machines: &[Machine], index: u64, readable: u64) {
        let name = &machines[by].name;
        let Some(process) = &machines[by].process else { return };
        let Some(last) = index.checked_sub(1).and_then(|at| process.ordered.get(at as usize)) else {
            return self.blame(Invariant::SameEntries, format!("{name} applied entry {index}, which it does not have"));
        };
        let known = self.ledger.len();
        if index as usize > known {
            for entry in &process.ordered[known..index as usize] {
                self.stands(entry);
            }
            self.is_on_a_quorum(by, machines, index);
        }
        let (chain, term) = (last.header().chain, last.header().term);
        self.claim(self.chain(index) == Some(chain), Invariant::SameEntries, || {
            format!("{name} applied another entry {index} (term {term}) than others did")
        });
        let next = last.header().next_offset();
        self.claim(next == readable, Invariant::OffsetsDense, || {
            format!("{name} may read up to {readable}, and entry {index} says {next}")
        });
    }

    /// Committed means on a quorum of synced disks, under a configuration in force.
    fn is_on_a_quorum(&mut self, by: usize, machines: &[Machine], index: u64) {
        let Some(chain) = self.chain(index) else { return };
        let before = self.configurations.range(..=index).next_back().map(|(_, c)| c);
        let after = machines[by].configurations.range(index..).map(|(_, c)| c);
        let agreed = before.into_iter().chain(after).any(|c| is_held(machines, c, index, chain));
        let name = &machines[by].name;
        self.claim(agreed, Invariant::CommitDurable, || {
            format!("{name} applied entry {index}, which is on no quorum of synced disks")
        });
    }

    /// Somebody orders a configuration to be written: the one before must be committed, so at most one never is.
    pub(super) fn ordered(&mut self, by: usize, machines: &[Machine], index: u64) {
        let machine = &machines[by];
        if index <= self.newest {
            return;
        }
        self.newest = index;
        let (Some((before, configuration)), Some(process)) =
            (machine.configurations.range(..index).next_back(), machine.process.as_ref())
        else {
            return;
        };
        let Some(entry) = before.checked_sub(1).and_then(|at| process.ordered.get(at as usize)) else { return };
        let held = is_held(machines, configuration, *before, entry.header().chain);
        self.claim(held, Invariant::OneConfiguration, || {
            format!(
                "{} orders the configuration of entry {index} before that of entry {before} is committed",
                machine.name
            )
        });
    }

    fn stands(&mut self, entry: &Entry) {
        let header = entry.header();
        let index = header.index.0;
        let seed = *self.seed.get_or_insert(header.seed);
        self.claim(seed == header.seed, Invariant::OneHistory, || "a second history was founded".into());
        let last = self.ledger.last().copied();
        let (offset, time, lamport) = last.map_or((0, Wall(i64::MIN), 0), |l| (l.next_offset, l.time, l.lamport));
        self.claim(header.base_offset == offset, Invariant::OffsetsDense, || {
            format!("entry {index} starts at {}, not {offset}", header.base_offset)
        });
        self.claim(header.time >= time, Invariant::TimeGrows, || format!("log time goes back at entry {index}"));
        self.claim(header.lamport >= lamport, Invariant::TimeGrows, || {
            format!("Lamport time goes back at entry {index}")
        });
        self.elections.stands(header.term);
        self.ledger.push(Standing {
            term: header.term,
            chain: header.chain,
            next_offset: header.next_offset(),
            time: header.time,
            lamport: header.lamport,
        });
        if let Ok(founding) = codec::decode::<Founding>(&entry.payload(), "founding entry")
            && header.kind == EntryKind::Founding
        {
            self.holders.extend(founding.founders().map(|founder| (founder.name.clone(), founder.node)));
        }
        match header.kind {
            EntryKind::Normal => self.records(entry),
            EntryKind::Configuration | EntryKind::Founding => match configuration(entry) {
                Some(next) => self.reconfigured(index, next),
                None => self.blame(Invariant::Decodes, format!("the configuration in entry {index} does not decode")),
            },
            EntryKind::Registry => self.registered(entry),
            EntryKind::Noop => {}
        }
    }

    fn registered(&mut self, entry: &Entry) {
        match codec::decode(&entry.payload(), "registry") {
            Ok(Command::Depart { node } | Command::Forget { node, .. } | Command::Remove { node, .. }) => {
                self.departed.insert(node);
                self.draining.remove(&node);
                self.pinned.remove(&node);
            }
            Ok(Command::Drain { node, on: true }) => drop(self.draining.insert(node)),
            Ok(Command::Drain { node, on: false }) => drop(self.draining.remove(&node)),
            Ok(Command::Pin { node, seat: Some(seat) }) => drop(self.pinned.insert(node, seat)),
            Ok(Command::Pin { node, seat: None }) => drop(self.pinned.remove(&node)),
            Ok(Command::Register(new)) => {
                let former = self.holders.insert(new.name, new.node).filter(|former| *former != new.node);
                if let Some(former) = former {
                    self.draining.remove(&former);
                    self.pinned.remove(&former);
                }
                self.superseded.extend(former);
            }
            Ok(Command::Configure(settings)) => self.settings = Some(settings),
            Ok(Command::RaiseLevel { level }) => {
                let before = self.level.replace((level, entry.header().index.0)).map_or(0, |(level, _)| level);
                self.claim(level > before, Invariant::LevelForAll, || format!("feature level {level} is no raise"));
                self.levels_raised += 1;
            }
            Err(_) => self.blame(
                Invariant::Decodes,
                format!("the registration in entry {} does not decode", entry.header().index),
            ),
        }
    }

    fn records(&mut self, entry: &Entry) {
        let Ok(records) = record::decode_batch(&entry.payload()) else {
            return self
                .blame(Invariant::Decodes, format!("the batch in entry {} does not decode", entry.header().index));
        };
        for (offset, stored) in (entry.header().base_offset..).zip(records) {
            let Some(value) = value_of(&stored.record.value) else {
                return self
                    .blame(Invariant::Decodes, format!("the value at offset {offset} was never written by a client"));
            };
            if let Some(twice) = self.offsets.insert(value, offset) {
                self.blame(Invariant::Once, format!("value {value} stands twice: at {twice} and {offset}"));
            }
            let failed = self.failed.contains(&value);
            self.claim(!failed, Invariant::FailedStaysOut, || {
                format!("value {value} stands at {offset}, and its append surely failed")
            });
            let acked = self.acked.get(&offset).copied();
            self.claim(acked.is_none_or(|a| a == value), Invariant::AckedStands, || {
                format!("value {value} stands at {offset}, which was acked for value {}", acked.unwrap_or(0))
            });
            self.values.push(value);
        }
    }

    /// Each configuration follows legally from the one before.
    fn reconfigured(&mut self, index: u64, next: Configuration) {
        let before = self.configurations.values().next_back().cloned();
        let had = before.as_ref().map_or(0, |before| before.voters.len());
        if let Some(before) = before {
            let legal = match (before.outgoing.is_empty(), next.outgoing.is_empty()) {
                (true, true) => before.voters == next.voters,
                (true, false) => next.outgoing == before.voters,
                (false, true) => next.voters == before.voters,
                (false, false) => false,
            };
            self.claim(legal, Invariant::ConfigurationFollows, || {
                format!("the configuration of entry {index} does not follow from the one before")
            });
            let drained = next.voters.difference(&before.voters).find(|v| self.draining.contains(&v.get()));
            self.claim(drained.is_none(), Invariant::SafeMembership, || {
                format!("entry {index} gives a vote to {drained:?}, which is drained")
            });
            let mut gone = before.members().into_iter().filter(|m| !next.is_member(*m));
            let wrong = gone.find(|m| !self.may_go(*m, &before, &next));
            self.claim(wrong.is_none(), Invariant::SafeMembership, || {
                format!("entry {index} removes {wrong:?}, which neither left nor lost its disk nor was replaced")
            });
            let back = next.members().into_iter().find(|m| !before.is_member(*m) && self.departed.contains(&m.get()));
            self.claim(back.is_none(), Invariant::SafeMembership, || {
                format!("entry {index} lets {back:?} in again, which has left for good")
            });
            let grows = before.outgoing.is_empty() && next.voters.len() > before.voters.len();
            let odd = next.voters.len() % 2 == 1;
            let grown: Vec<_> = next.voters.difference(&before.voters).map(|v| v.get()).collect();
            let pinned = |n: &u64| matches!(self.pinned.get(n), Some(Seat::Voter { even: true }));
            let told = grown.iter().all(pinned);
            self.claim(!grows || odd || told, Invariant::SafeMembership, || {
                format!("entry {index} grows the group to {} voters", next.voters.len())
            });
        }
        let (voters, members) = (next.voters.len(), next.members().len());
        // Who founds a log together is a voter, however many that are; they never grow beyond the target.
        let founded = index == 1 && voters <= crate::pledge::EXPECT_MAX;
        let kept = (1..=had).contains(&voters);
        self.claim((1..=VOTERS_MAX).contains(&voters) || founded || kept, Invariant::SafeMembership, || {
            format!("entry {index} makes {voters} voters")
        });
        self.claim(members <= MEMBERS_MAX + VOTERS_MAX, Invariant::SafeMembership, || {
            format!("entry {index} makes {members} members")
        });
        self.configurations.insert(index, next);
    }

    /// The term of the newest entry.
    pub(super) fn term(&self) -> Term {
        self.ledger.last().map_or(Term::ZERO, |s| s.term)
    }
}

/// Is this entry on a quorum of synced disks under this configuration? A disk that is gone may have held it.
fn is_held(machines: &[Machine], configuration: &Configuration, index: u64, chain: u64) -> bool {
    // Of a disk that was copied either one will do: which of the two is let in the others decide, and the one that was
    // acknowledges what its own disk holds. A copy never stands for a disk that is gone.
    let holds = |node: &NodeId| {
        let mut disks = machines.iter().filter(|m| m.node == *node && !m.retired).peekable();
        let copy = || machines.iter().any(|m| m.node == *node && m.retired && m.durable.holds(index, chain));
        disks.peek().is_none() || disks.any(|m| m.durable.holds(index, chain)) || copy()
    };
    let majority = |voters: &BTreeSet<NodeId>| voters.iter().filter(|v| holds(v)).count() > voters.len() / 2;
    majority(&configuration.voters) && (configuration.outgoing.is_empty() || majority(&configuration.outgoing))
}

/// The number that a client wrote into a value.
fn value_of(bytes: &[u8]) -> Option<u64> {
    let digits = bytes.split(|b| *b == b'.').next()?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}
