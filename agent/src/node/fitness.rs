//! Fitness: is this agent's clock or disk such that any other leader is better?
//!
//! It looks at the turns of the policies only, judges nobody's disk but its own, and changes nothing that was promised:
//! the log's time is clamped whoever leads, and a hanging disk acknowledges nothing anyway.
//!
//! - **Clock.** A leader compares with the median of the voters' clocks, a follower with its leader's. One that is
//!   [`CLOCK_OFF_MAX_US`] off for [`CLOCK_PATIENCE`] hands over, if some healthy voter is not off itself, and then stands
//!   for election only after everyone else had a turn: so it is not elected right back.
//! - **Disk.** A leader hands over when the others have committed what its own disk still owes, and that disk has made
//!   no progress since for an election timeout. Where all disks are equally slow nobody is ahead, and nothing moves. If
//!   nobody can be asked to take over, or who was asked did not, it steps down: those who committed without it can elect.
//! - **Draining.** An operator wants the work of this agent elsewhere (`drain`): leadership as well.
//! - **Room.** A leader whose disk is short of it (`room`) hands over to a voter that has some.
//! - **Flapping.** A leader that others have called failed again and again (`autopilot`) hands over to a voter that they
//!   have not.

use super::Node;
use super::handover::Why;
use crate::diagnosis::Cause;
use quorate_raft::{Configuration, LogIndex, Mono, NodeId, Now, Wall, mutant};
use std::collections::BTreeSet;
use std::time::Duration;

/// A clock this far from the others is sick, in microseconds: far beyond what NTP leaves, far below what hurts.
const CLOCK_OFF_MAX_US: i64 = 10_000_000;
/// For so long: what a stopped process finds in its queues when it goes on tells old times.
const CLOCK_PATIENCE: Duration = Duration::from_secs(1);

/// What this agent knows of its own fitness.
#[derive(Debug, Default)]
pub(super) struct Fitness {
    /// Since when its clock has been off.
    clock_off: Option<Mono>,
    /// The durable index, and since when it has stood still with something to write.
    owes: Option<(LogIndex, Mono)>,
    /// The same with something that others have committed.
    behind: Option<(LogIndex, Mono)>,
    clock_sick: bool,
    disk_hangs: bool,
    disk_behind: bool,
    reluctant: bool,
}

impl Node {
    /// One turn.
    pub(super) fn examine_itself(&mut self, now: Now) {
        let patience = self.options.raft.election_timeout_max;
        let is_off = self.own_clock(now).is_some_and(is_off);
        let durable = self.raft.durable();
        let owes = self.raft.last().index > durable;
        let behind = self.raft.is_leader() && self.raft.committed() > durable;
        let flaps = self.flaps_itself();
        let fitness = &mut self.fitness;
        fitness.clock_off = if is_off { fitness.clock_off.or(Some(now.mono)) } else { None };
        fitness.owes = standing_still(fitness.owes, owes.then_some(durable), now.mono);
        fitness.behind = standing_still(fitness.behind, behind.then_some(durable), now.mono);
        let lasts = |since: Option<Mono>, patience| since.is_some_and(|since| now.mono.since(since) >= patience);
        fitness.clock_sick = lasts(fitness.clock_off, CLOCK_PATIENCE);
        fitness.disk_hangs = lasts(fitness.owes.map(|(_, since)| since), patience);
        fitness.disk_behind = lasts(fitness.behind.map(|(_, since)| since), patience);
        let drained = self.registry.is_draining(self.me.get()) && !mutant!(DrainedLeads);
        let reluctant = fitness.clock_sick || fitness.disk_hangs || self.room.is_short() || drained || flaps;
        if std::mem::replace(&mut fitness.reluctant, reluctant) != reluctant {
            self.raft.handle(now, quorate_raft::Input::Reluctant(reluctant));
        }
    }

    /// Why another leader would be better, if one would.
    pub(super) fn why_unfit(&self) -> Option<Why> {
        if self.applied.halted().is_some() {
            Some(Why::Machine)
        } else if self.repair.is_unfit() {
            Some(Why::Damaged)
        } else if self.fitness.disk_behind {
            Some(Why::Disk)
        } else if self.fitness.clock_sick {
            Some(Why::Clock)
        } else if self.room.is_short() {
            Some(Why::Room)
        } else if self.registry.is_draining(self.me.get()) && !mutant!(DrainedLeads) {
            Some(Why::Drained)
        } else if self.flaps_itself() {
            Some(Why::Flaps)
        } else {
            None
        }
    }

    /// How far this agent's clock is ahead of those that it should agree with, in microseconds; none if it cannot tell.
    fn own_clock(&self, now: Now) -> Option<i64> {
        if !self.in_raft() {
            return None;
        }
        if !self.raft.is_leader() {
            let leader = self.raft.leader()?.get();
            return self.clocks.ahead(leader, now).map(i64::saturating_neg);
        }
        self.median_clock(now).map(|median| now.wall.0.saturating_sub(median.0))
    }

    /// The median of the voters' clocks; none if no majority of them is heard. While a group gives way to another, the lower
    /// of both: who is left alone with its clock is so only when the change is done.
    pub(super) fn median_clock(&self, now: Now) -> Option<Wall> {
        let Configuration { voters, outgoing, .. } = self.raft.configuration();
        let median = |set: &BTreeSet<NodeId>| self.clocks.median(now, self.me.get(), set.iter().map(|v| v.get()));
        let next = median(voters)?;
        if outgoing.is_empty() { Some(next) } else { Some(next.min(median(outgoing)?)) }
    }

    /// How far its clock is off, and whether that is too far and lasts.
    pub(super) fn clock_picture(&self, now: Now) -> (Option<i64>, bool) {
        (self.own_clock(now), self.fitness.clock_sick)
    }

    /// For how long its disk has confirmed nothing although it had to.
    pub(super) fn disk_hangs_for(&self, now: Now) -> Option<Duration> {
        let since = self.fitness.owes.filter(|_| self.fitness.disk_hangs);
        since.map(|(_, since)| now.mono.since(since))
    }

    /// How far the clock of this voter is from the voters' median, for people, if that is too far.
    pub(super) fn clock_of(&self, now: Now, node: u64) -> Option<String> {
        let theirs = now.wall.0.saturating_add(self.clocks.ahead(node, now)?);
        let ahead = theirs.saturating_sub(self.median_clock(now)?.0);
        is_off(ahead).then(|| off(ahead))
    }

    /// What an operator should know of it.
    pub(super) fn fitness_problems(&self, now: Now) -> Vec<(Cause, String)> {
        let mut problems = Vec::new();
        if let Some(ahead) = self.own_clock(now).filter(|_| self.fitness.clock_sick) {
            let than = if self.raft.is_leader() { "the voters' median" } else { "the leader's" };
            problems.push((Cause::ClockOff, format!("the clock of this agent is {} {than}; set it right", off(ahead))));
        }
        if let Some((_, since)) = self.fitness.owes.filter(|_| self.fitness.disk_hangs) {
            let seconds = now.mono.since(since).as_secs_f64();
            let text = format!("the disk of this agent has not confirmed a write for {seconds:.1} s; look at it");
            problems.push((Cause::DiskSlow, text));
        }
        if self.raft.is_leader() {
            let others = self.raft.configuration().voters.iter().filter(|v| **v != self.me);
            let off = others.filter_map(|v| Some((v, self.clock_of(now, v.get())?)));
            problems.extend(off.map(|(v, off)| {
                (
                    Cause::ClockOff,
                    format!("the clock of {} is {off} the voters' median; set it right", self.name_of(v.get())),
                )
            }));
        }
        problems
    }
}

/// Since when this index has stood still; none if there is nothing to wait for.
fn standing_still(before: Option<(LogIndex, Mono)>, at: Option<LogIndex>, now: Mono) -> Option<(LogIndex, Mono)> {
    let at = at?;
    before.filter(|(index, _)| *index == at).or(Some((at, now)))
}

fn is_off(ahead_us: i64) -> bool {
    ahead_us.saturating_abs() >= CLOCK_OFF_MAX_US
}

/// For people: `31 s ahead of`.
fn off(ahead_us: i64) -> String {
    let seconds = ahead_us.unsigned_abs() / 1_000_000;
    let span = match seconds {
        0..=599 => format!("{seconds} s"),
        600..=35_999 => format!("{} min", seconds / 60),
        36_000..=8_639_999 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    };
    if ahead_us < 0 { format!("{span} behind") } else { format!("{span} ahead of") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_seconds_are_off_and_less_is_not() {
        assert!(is_off(CLOCK_OFF_MAX_US) && is_off(-CLOCK_OFF_MAX_US) && is_off(i64::MIN));
        assert!(!is_off(CLOCK_OFF_MAX_US - 1) && !is_off(1 - CLOCK_OFF_MAX_US));
    }

    #[test]
    fn a_span_reads_as_people_say_it() {
        assert_eq!(off(31_000_000), "31 s ahead of");
        assert_eq!(off(-10_000_000), "10 s behind");
        assert_eq!(off(74 * 31_557_600 * 1_000_000), "27028 days ahead of");
    }

    #[test]
    fn an_index_stands_still_since_it_last_moved() {
        let (one, two) = (LogIndex(1), LogIndex(2));
        let since = standing_still(None, Some(one), Mono(5));
        assert_eq!(standing_still(since, Some(one), Mono(9)), Some((one, Mono(5))));
        assert_eq!(standing_still(since, Some(two), Mono(9)), Some((two, Mono(9))));
        assert_eq!(standing_still(since, None, Mono(9)), None);
    }
}
