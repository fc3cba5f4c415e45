//! Lately: what changed of late, for people who ask why: terms and who moved them, leaders, jumps of the clock, pauses of this
//! process, and which agents were found drained.
//!
//! It decides nothing, and nothing looks at it but the facts that `quorate doctor` asks for.

use quorate_raft::{Mono, NodeId, Now, Term};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// How long a moved term is remembered: long enough for a pattern, short enough to be about now.
const WINDOW: Duration = Duration::from_secs(60);
/// Moved terms remembered at most: one every quarter of a second in the window.
const MOVES_MAX: usize = 256;
/// A wall clock that is set by less than this is being slewed, in microseconds.
const JUMP_MIN_US: i64 = 5_000_000;
/// Between two turns of the policies lie 100 ms; a process that had none for so long did not run.
const STALL_MIN: Duration = Duration::from_secs(3);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Lately {
    begun: Option<Mono>,
    /// The last turn, and the wall clock minus the monotonic one then.
    turned: Option<(Mono, i64)>,
    term: Term,
    /// When the term moved, and because of whom.
    moves: VecDeque<(Mono, NodeId)>,
    leader: Option<u64>,
    leads_since: Option<Mono>,
    last_leader: Option<u64>,
    leaderless: Option<Mono>,
    jumped: Option<(i64, Mono)>,
    stalled: Option<(Duration, Mono)>,
    /// Since when this life has known that an operator drains a node.
    drained: BTreeMap<u64, Mono>,
}

impl Lately {
    pub(super) fn new(term: Term) -> Self {
        Self { term, ..Self::default() }
    }

    /// The term is this now, because of what `by` did.
    pub(super) fn term_is(&mut self, now: Mono, term: Term, by: NodeId) {
        if term <= self.term {
            return;
        }
        self.term = term;
        self.moves.push_back((now, by));
        self.forget(now);
    }

    fn forget(&mut self, now: Mono) {
        while self.moves.len() > MOVES_MAX || self.moves.front().is_some_and(|(at, _)| now.since(*at) > WINDOW) {
            self.moves.pop_front();
        }
    }

    /// One turn of the policies.
    pub(super) fn turn(&mut self, now: Now, leader: Option<u64>) {
        self.begun.get_or_insert(now.mono);
        let ahead = now.wall.0.saturating_sub(i64::try_from(now.mono.0).unwrap_or(i64::MAX));
        if let Some((last, before)) = self.turned {
            let jump = ahead.saturating_sub(before);
            if jump.saturating_abs() >= JUMP_MIN_US {
                self.jumped = Some((jump, now.mono));
            }
            let pause = now.mono.since(last);
            if pause >= STALL_MIN {
                self.stalled = Some((pause, now.mono));
            }
        }
        self.turned = Some((now.mono, ahead));
        if self.leader != leader {
            self.leads_since = leader.map(|_| now.mono);
        }
        self.leader = leader;
        self.last_leader = leader.or(self.last_leader);
        self.leaderless = if leader.is_some() { None } else { self.leaderless.or(Some(now.mono)) };
    }

    /// An operator drains these now, and no others.
    pub(super) fn draining(&mut self, now: Mono, nodes: &BTreeSet<u64>) {
        self.drained.retain(|node, _| nodes.contains(node));
        for node in nodes {
            self.drained.entry(*node).or_insert(now);
        }
    }

    /// Those, and for how long that has been known.
    pub(super) fn drained(&self, now: Mono) -> impl Iterator<Item = (u64, Duration)> {
        self.drained.iter().map(move |(node, since)| (*node, now.since(*since)))
    }

    /// How often the term moved in the window.
    pub(super) fn moved(&self, now: Mono) -> u64 {
        self.recent(now).count() as u64
    }

    /// Who moved it, the busiest first.
    pub(super) fn movers(&self, now: Mono) -> Vec<(NodeId, u64)> {
        let mut counts: BTreeMap<NodeId, u64> = BTreeMap::new();
        self.recent(now).for_each(|by| *counts.entry(by).or_default() += 1);
        let mut all: Vec<_> = counts.into_iter().collect();
        all.sort_by_key(|(node, count)| (std::cmp::Reverse(*count), *node));
        all
    }

    fn recent(&self, now: Mono) -> impl Iterator<Item = NodeId> {
        self.moves.iter().filter(move |(at, _)| now.since(*at) <= WINDOW).map(|(_, by)| *by)
    }

    pub(super) fn up(&self, now: Mono) -> Duration {
        self.begun.map_or(Duration::ZERO, |begun| now.since(begun))
    }

    pub(super) fn last_leader(&self) -> Option<u64> {
        self.last_leader
    }

    pub(super) fn leads_for(&self, now: Mono) -> Option<Duration> {
        self.leads_since.map(|since| now.since(since))
    }

    pub(super) fn leaderless_for(&self, now: Mono) -> Option<Duration> {
        self.leaderless.map(|since| now.since(since))
    }

    pub(super) fn jumped(&self, now: Mono) -> Option<(i64, Duration)> {
        self.jumped.map(|(by, at)| (by, now.since(at)))
    }

    pub(super) fn stalled(&self, now: Mono) -> Option<(Duration, Duration)> {
        self.stalled.map(|(pause, at)| (pause, now.since(at)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_raft::Wall;

    fn at(seconds: u64, wall: i64) -> Now {
        Now { mono: Mono(seconds * 1_000_000), wall: Wall(wall * 1_000_000) }
    }

    fn node(id: u64) -> NodeId {
        NodeId::new(id).unwrap()
    }

    #[test]
    fn a_moved_term_counts_once_for_who_moved_it_and_for_a_minute() {
        let mut lately = Lately::new(Term(3));
        lately.term_is(Mono(1), Term(3), node(1));
        lately.term_is(Mono(2), Term(4), node(2));
        lately.term_is(Mono(3), Term(4), node(1));
        lately.term_is(Mono(4), Term(6), node(2));
        lately.term_is(Mono(5), Term(7), node(1));
        assert_eq!((lately.moved(Mono(6)), lately.movers(Mono(6))), (3, vec![(node(2), 2), (node(1), 1)]));
        assert_eq!(lately.moved(Mono(70_000_000)), 0);
        for term in 0..10_000 {
            lately.term_is(Mono(6), Term(10 + term), node(1));
        }
        assert_eq!(lately.moves.len(), MOVES_MAX);
    }

    #[test]
    fn a_clock_that_is_set_jumps_and_a_process_that_is_stopped_does_not() {
        let mut lately = Lately::default();
        for second in 0..10 {
            lately.turn(at(second, 1_000 + second as i64), Some(1));
        }
        assert_eq!((lately.jumped(Mono(0)), lately.stalled(Mono(0))), (None, None));
        lately.turn(at(30, 1_030), Some(1));
        assert_eq!(lately.jumped(Mono(0)), None);
        assert_eq!(lately.stalled(Mono(31_000_000)), Some((Duration::from_secs(21), Duration::from_secs(1))));
        lately.turn(at(31, 500), Some(1));
        assert_eq!(lately.jumped(Mono(32_000_000)), Some((-531_000_000, Duration::from_secs(1))));
    }

    #[test]
    fn a_drain_is_known_since_it_was_first_seen_and_forgotten_when_it_ends() {
        let mut lately = Lately::default();
        let known = |lately: &Lately| lately.drained(Mono(9_000_000)).collect::<Vec<_>>();
        lately.draining(Mono(1_000_000), &[7].into());
        lately.draining(Mono(4_000_000), &[7, 8].into());
        assert_eq!(known(&lately), [(7, Duration::from_secs(8)), (8, Duration::from_secs(5))]);
        lately.draining(Mono(5_000_000), &[8].into());
        lately.draining(Mono(6_000_000), &[7, 8].into());
        assert_eq!(known(&lately), [(7, Duration::from_secs(3)), (8, Duration::from_secs(5))]);
    }

    #[test]
    fn the_last_leader_is_remembered_while_there_is_none() {
        let mut lately = Lately::default();
        lately.turn(at(1, 1), Some(7));
        assert_eq!(
            (lately.leads_for(Mono(3_000_000)), lately.leaderless_for(Mono(3_000_000))),
            (Some(Duration::from_secs(2)), None)
        );
        lately.turn(at(4, 4), None);
        lately.turn(at(5, 5), None);
        assert_eq!((lately.last_leader(), lately.leads_for(Mono(0))), (Some(7), None));
        assert_eq!(lately.leaderless_for(Mono(6_000_000)), Some(Duration::from_secs(2)));
    }
}
