//! Orders: what a leader may add to its log, judged when it orders that to be written.
//!
//! It knows the clocks of all machines, which no node does.

use super::super::invariant::Invariant;
use super::super::machine::{Machine, Process};
use super::super::replayed::configuration;
use super::{Witness, is_held};
use quorate_raft::wal::{Entry, EntryKind};
use quorate_raft::{NodeId, Term};
use std::collections::BTreeSet;

/// How far ahead of every other voter's clock a leader may be misled to stamp its entries, in microseconds: the second
/// that it may run ahead of their median, and what its picture of their clocks may be off when clocks run wild.
const AHEAD_MAX_US: i64 = 21_000_000;
/// For so long after a clock was set nobody is judged by it, in microseconds.
const AFTER_A_JUMP_US: u64 = 5_000_000;

/// What was seen of clocks.
#[derive(Debug, Default)]
pub(super) struct Orders {
    /// By how much each machine's wall clock was wrong when last looked at, and at most.
    walls: Vec<i64>,
    walls_max: Vec<i64>,
    /// On which machines each node is or was: a voter whose disk is gone is remembered with the clock that it had.
    places: BTreeSet<(NodeId, usize)>,
    /// When one of them was last seen to be set.
    jumped_at: u64,
}

impl Witness {
    /// A node orders these entries, which follow what it has ordered before. `cap`: the bound of what may wait for a
    /// commit, in bytes.
    pub(in super::super) fn wrote(&mut self, by: usize, machines: &[Machine], entries: &[Entry], at: u64, cap: u64) {
        let walls: Vec<i64> = machines.iter().map(|m| m.wall_us).collect();
        if walls != self.orders.walls {
            // A leader may remember what one of them said before it was set, and never heard since.
            self.orders.walls_max.resize(walls.len(), i64::MIN);
            self.orders.walls_max.iter_mut().zip(&walls).for_each(|(max, wall)| *max = *wall.max(max));
            self.orders.walls = walls;
            self.orders.jumped_at = at;
        }
        self.orders.places.extend(machines.iter().enumerate().map(|(place, m)| (m.node, place)));
        let machine = &machines[by];
        let (Some(first), Some(process)) = (entries.first(), &machine.process) else { return };
        let (held, head) = (machine.durable.hard_state, first.header());
        let leader = self.leaders.get(&(head.seed, held.term));
        let leads = held.vote == Some(machine.node) && leader.is_none_or(|leader| *leader == machine.node.get());
        if !leads || head.term != held.term {
            return;
        }
        for entry in entries {
            if entry.header().kind == EntryKind::Configuration {
                self.changes_in_its_own_term(by, machines, process, entry);
            }
            self.seats_ordered(by, machines, process, entry, at);
            self.stamps_with_the_others(by, machines, process, entry, at);
        }
        self.keeps_the_cap(by, machines, held.term, cap);
    }

    /// No configuration before the leader has committed in its own term (Ongaro's note of 2015).
    fn changes_in_its_own_term(&mut self, by: usize, machines: &[Machine], process: &Process, entry: &Entry) {
        let (index, term) = (entry.header().index.0, entry.header().term);
        let older = process.ordered.partition_point(|e| e.header().term < term);
        let own = process.ordered.get(older).map(|e| (e.header().index.0, e.header().chain));
        let configurations = &machines[by].configurations;
        let committed = own.filter(|(first, _)| *first < index).is_some_and(|(first, chain)| {
            let then = configurations.range(..=first).next_back();
            let now = configurations.range(..index).next_back();
            then.into_iter().chain(now).any(|(_, c)| is_held(machines, c, first, chain))
        });
        self.claim(committed, Invariant::OwnTermFirst, || {
            let name = &machines[by].name;
            format!("{name} changes the configuration in entry {index} before term {term} has committed anything")
        });
    }

    /// One clock does not steer the time of the log.
    fn stamps_with_the_others(&mut self, by: usize, machines: &[Machine], process: &Process, entry: &Entry, at: u64) {
        if at < self.orders.jumped_at + AFTER_A_JUMP_US {
            return;
        }
        let head = entry.header();
        let Some((_, before)) = machines[by].configurations.range(..head.index.0).next_back() else { return };
        // Who is to vote from this very entry on counts for its time, too.
        let next = configuration(entry);
        let votes = |node: &NodeId| {
            before.voters.contains(node) || next.as_ref().is_some_and(|next| next.voters.contains(node))
        };
        let is_other = |(node, _): &&(NodeId, usize)| *node != machines[by].node && votes(node);
        let others = self.orders.places.iter().filter(is_other);
        let at_most = |(_, place): &(NodeId, usize)| {
            let (m, max) = (machines.get(*place)?, self.orders.walls_max.get(*place)?);
            Some(m.wall(at).0.saturating_sub(m.wall_us).saturating_add(*max))
        };
        let Some(furthest) = others.filter_map(at_most).max() else { return };
        let previous = process.ordered.get((head.index.0 as usize).wrapping_sub(2)).map(|e| e.header().time.0);
        let forced = previous.is_some_and(|previous| head.time.0 <= previous.saturating_add(1));
        let ahead = head.time.0.saturating_sub(furthest);
        self.claim(forced || ahead <= AHEAD_MAX_US, Invariant::OneClock, || {
            let seconds = ahead / 1_000_000;
            format!("{} stamps entry {} {seconds} s ahead of all other voters", machines[by].name, head.index)
        });
    }

    /// What waits for a commit stays below its bound, unless one entry alone exceeds it.
    fn keeps_the_cap(&mut self, by: usize, machines: &[Machine], term: Term, cap: u64) {
        let Some(process) = &machines[by].process else { return };
        let weighs = |e: &&Entry| e.header().term == term && e.header().kind == EntryKind::Normal;
        let weigh = |from: usize| {
            let sizes = process.ordered.iter().skip(from).filter(weighs).map(|e| e.bytes().len() as u64);
            sizes.fold((0, 0), |(count, bytes), size| (count + 1, bytes + size))
        };
        let fits = |(count, bytes): (u64, u64)| count <= 1 || bytes <= cap;
        let (mut from, mut waiting) = (self.ledger.len(), weigh(self.ledger.len()));
        // Nobody has applied yet what may be committed all the same, by the configuration of then or by the newest, which
        // counts for all that is not committed when it comes (§4.1).
        let configurations = &machines[by].configurations;
        let is_committed = |index: u64, chain: u64| {
            let then = configurations.range(..=index).next_back();
            let now = configurations.iter().next_back();
            then.into_iter().chain(now).any(|(_, c)| is_held(machines, c, index, chain))
        };
        while !fits(waiting)
            && let Some(entry) = process.ordered.get(from)
            && is_committed(from as u64 + 1, entry.header().chain)
        {
            from += 1;
            waiting = weigh(from);
        }
        let bytes = waiting.1;
        self.claim(fits(waiting), Invariant::Caps, || {
            format!("{bytes} bytes wait for a commit on {}, and {cap} may", machines[by].name)
        });
    }
}
