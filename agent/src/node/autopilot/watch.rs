//! Watch: since when others have been here or gone, as far as this agent has observed it itself.
//!
//! Every agent watches, not only the leader: so a new leader neither waives the patience that its rules demand nor begins
//! it again. It never looks at a wall clock, and what it did not observe does not count: its own clock stands still while
//! the process sleeps.

use quorate_membership::{Event, Member};
use quorate_raft::{Mono, NodeId, mutant};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// A turn that comes later than this after the one before was slept through: the rest of the time was not observed.
const TURN_MAX: Duration = Duration::from_secs(1);
/// Agents watched: as many as gossip lists at most by default.
const WATCHED_MAX: usize = 16_384;
/// Failures of one agent that are remembered; settings cannot ask for more.
const FLAPS_KEPT: usize = crate::machine::settings::FLAPS_MAX as usize;
/// What another member has said of whom it misses counts for so long; it says so every two seconds.
const WITNESS_FOR: Duration = Duration::from_secs(6);

/// One agent, on the clock of the watch.
#[derive(Debug, Default)]
struct Seen {
    /// Since when gossip has called it alive without a break.
    alive: Option<Duration>,
    /// It was called failed, and nothing was heard of it since.
    failed: bool,
    /// When it came back from that, the newest last.
    flaps: VecDeque<Duration>,
    /// When it last broke off while this agent led it.
    broke: Option<Duration>,
    /// Since when a member has been gone: failed in gossip, not connected, and not heard of in Raft.
    gone: Option<Duration>,
    /// Who else misses it, and when that was said.
    missed_by: BTreeMap<u64, Duration>,
}

/// What this agent has observed.
#[derive(Debug, Default)]
pub(in crate::node) struct Watch {
    clock: Duration,
    turned: Option<Mono>,
    seen: BTreeMap<u64, Seen>,
    /// How often this agent itself had to come back, and when that was counted last.
    renewals: u64,
    own_flaps: VecDeque<Duration>,
    /// When the leader is told next of whom this agent misses.
    pub(super) tell_at: Mono,
}

impl Watch {
    /// The clock goes on.
    pub(super) fn turn(&mut self, now: Mono) {
        let passed = self.turned.map_or(Duration::ZERO, |before| now.since(before));
        self.turned = Some(now);
        self.clock += passed.min(TURN_MAX);
        let clock = self.clock;
        for seen in self.seen.values_mut().filter(|seen| !seen.missed_by.is_empty()) {
            seen.missed_by.retain(|_, at| clock - *at <= WITNESS_FOR);
        }
    }

    /// Gossip has news.
    pub(in crate::node) fn hear(&mut self, event: &Event) {
        let (member, alive) = match event {
            Event::Joined(m) | Event::Recovered(m) | Event::Restarted(m) => (m, true),
            Event::Failed(m) | Event::Left(m) => (m, false),
            Event::Reaped(Member { node, .. }) => return self.forget(*node),
            _ => return,
        };
        if self.seen.len() >= WATCHED_MAX && !self.seen.contains_key(&member.node) {
            return;
        }
        let clock = self.clock;
        let seen = self.seen.entry(member.node).or_default();
        if alive {
            if std::mem::take(&mut seen.failed) {
                seen.flaps.push_back(clock);
                if seen.flaps.len() > FLAPS_KEPT {
                    seen.flaps.pop_front();
                }
            }
            seen.alive = Some(clock);
        } else {
            seen.alive = None;
            seen.failed |= matches!(event, Event::Failed(_));
        }
    }

    /// It is gone for good.
    pub(in crate::node) fn forget(&mut self, node: u64) {
        self.seen.remove(&node);
    }

    /// This agent was declared failed and had to come back so often in its life.
    pub(super) fn renewed(&mut self, times: u64) {
        if times > self.renewals {
            self.renewals = times;
            self.own_flaps.push_back(self.clock);
            if self.own_flaps.len() > FLAPS_KEPT {
                self.own_flaps.pop_front();
            }
        }
    }

    /// A member does not answer this leader.
    pub(super) fn broke(&mut self, node: NodeId) {
        let clock = self.clock;
        self.seen.entry(node.get()).or_default().broke = Some(clock);
    }

    /// Who of the members is gone now: whoever is not among them is here, or none of our business.
    pub(super) fn gone(&mut self, gone: &BTreeSet<NodeId>) {
        let clock = self.clock;
        for (node, seen) in &mut self.seen {
            if !NodeId::new(*node).is_some_and(|node| gone.contains(&node)) {
                seen.gone = None;
            }
        }
        for node in gone {
            self.seen.entry(node.get()).or_default().gone.get_or_insert(clock);
        }
    }

    /// Another member misses this one.
    pub(super) fn missed(&mut self, node: u64, by: u64) {
        let clock = self.clock;
        if let Some(seen) = self.seen.get_mut(&node) {
            seen.missed_by.insert(by, clock);
        }
    }

    /// What it says now.
    pub(super) fn clock(&self) -> Duration {
        self.clock
    }

    /// What has passed since it said that.
    pub(super) fn since(&self, then: Duration) -> Duration {
        self.clock.saturating_sub(then)
    }

    /// Since when it has been here without a break.
    pub(super) fn stable_for(&self, node: u64) -> Duration {
        let Some(seen) = self.seen.get(&node) else { return Duration::ZERO };
        let Some(alive) = seen.alive else { return Duration::ZERO };
        if mutant!(StabilityWaived) {
            return Duration::MAX;
        }
        self.clock.saturating_sub(seen.broke.map_or(alive, |broke| broke.max(alive)))
    }

    /// How long it has been gone, if it is.
    pub(super) fn gone_for(&self, node: u64) -> Option<Duration> {
        let gone = self.seen.get(&node)?.gone?;
        Some(self.clock.saturating_sub(gone))
    }

    /// Does this other member miss it?
    pub(super) fn is_missed_by(&self, node: u64, by: u64) -> bool {
        self.seen.get(&node).is_some_and(|seen| seen.missed_by.contains_key(&by))
    }

    /// How often it failed and came back within this time.
    pub(super) fn flaps(&self, node: u64, within: Duration) -> u32 {
        self.seen.get(&node).map_or(0, |seen| recent(&seen.flaps, self.clock, within))
    }

    /// The same of this agent itself.
    pub(super) fn own_flaps(&self, within: Duration) -> u32 {
        recent(&self.own_flaps, self.clock, within)
    }
}

fn recent(flaps: &VecDeque<Duration>, clock: Duration, within: Duration) -> u32 {
    flaps.iter().filter(|at| clock.saturating_sub(**at) <= within).count() as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_membership::State;
    use quorate_membership::Tags;

    fn member(node: u64) -> Member {
        Member {
            node,
            name: "b".into(),
            addr: "127.0.0.1:1".parse().unwrap(),
            epoch: 1,
            boot: 1,
            state: State::Alive,
            tags: Tags::default(),
            version: String::new().into(),
            since: quorate_membership::Mono(0),
            since_wall_us: 0,
            lamport: 0,
            proven: true,
            connected: true,
        }
    }

    fn run(watch: &mut Watch, from_ms: u64, to_ms: u64) {
        (from_ms..=to_ms).step_by(100).for_each(|ms| watch.turn(Mono(ms * 1000)));
    }

    #[test]
    fn time_that_was_slept_through_makes_nobody_stable_or_dead() {
        let (mut watch, node) = (Watch::default(), NodeId::new(2).unwrap());
        run(&mut watch, 0, 0);
        watch.hear(&Event::Joined(member(2)));
        watch.gone(&[node].into());
        run(&mut watch, 100, 3_000);
        assert_eq!(watch.stable_for(2), Duration::from_secs(3));
        watch.turn(Mono(3_600_000_000));
        assert_eq!(watch.stable_for(2), Duration::from_secs(4), "an hour asleep is one turn");
        assert_eq!(watch.gone_for(2), Some(Duration::from_secs(4)));
        watch.gone(&BTreeSet::new());
        assert_eq!(watch.gone_for(2), None);
    }

    #[test]
    fn a_failure_that_ended_is_a_flap_and_begins_stability_anew() {
        let mut watch = Watch::default();
        run(&mut watch, 0, 0);
        watch.hear(&Event::Joined(member(2)));
        for at in 1..=4 {
            run(&mut watch, at * 10_000, at * 10_000 + 900);
            watch.hear(&Event::Failed(member(2)));
            assert_eq!(watch.stable_for(2), Duration::ZERO);
            watch.hear(&Event::Recovered(member(2)));
        }
        run(&mut watch, 41_000, 42_000);
        assert_eq!(watch.flaps(2, Duration::from_secs(600)), 4);
        assert!(watch.flaps(2, Duration::from_secs(3)) < 4);
        watch.hear(&Event::Restarted(member(2)));
        assert_eq!(watch.flaps(2, Duration::from_secs(600)), 4, "a restart that nobody missed is no failure");
        watch.hear(&Event::Reaped(member(2)));
        assert_eq!(watch.flaps(2, Duration::from_secs(600)), 0);
    }

    #[test]
    fn a_witness_counts_for_as_long_as_it_says_so() {
        let (mut watch, node) = (Watch::default(), NodeId::new(2).unwrap());
        run(&mut watch, 0, 0);
        watch.gone(&[node].into());
        watch.missed(2, 3);
        assert!(watch.is_missed_by(2, 3) && !watch.is_missed_by(2, 4));
        run(&mut watch, 100, 5_000);
        assert!(watch.is_missed_by(2, 3));
        run(&mut watch, 5_100, 7_000);
        assert!(!watch.is_missed_by(2, 3));
    }
}
