//! Room: is there space on this agent's disk, and on the disks of a quorum?
//!
//! It counts no byte itself: the shell says what the file system says. It never refuses what keeps the group alive: votes,
//! heartbeats, reads, no-ops and configurations go on while a disk is short.
//!
//! Two marks, so that a disk that hovers at one of them does not flap: below the low one this agent takes no entries, and
//! takes them again above the high one. The reserve between zero and the low mark is what is on its way when the mark is
//! passed: the bytes in flight (64 MiB), the segment that is being begun (64 MiB), the checkpoints and side files of that
//! moment, and what a fast disk takes between two looks (100 ms).

use super::{Node, not_applied};
use crate::api::{Code, DiskSpace, Failure};
use quorate_raft::wal::Space;
use quorate_raft::{NodeId, Now, Status};
use std::collections::BTreeSet;

/// Of the file system, at most one part in so many is kept free: a small one is of use too.
const RESERVE_SHARE: u64 = 10;

/// What this agent knows of its disk.
#[derive(Debug, Default)]
pub(super) struct Room {
    space: Option<Space>,
    /// A write waits for room.
    waits: bool,
    /// Below the low mark, and not above the high one since.
    short: bool,
    /// Why this leader takes no appends of clients, and nobody else would.
    refusal: Option<Failure>,
}

impl Room {
    /// Does this agent take no entries?
    pub(super) fn is_short(&self) -> bool {
        self.short
    }

    /// Why appends are refused.
    pub(super) fn refusal(&self) -> Option<&Failure> {
        self.refusal.as_ref()
    }

    /// Below this many free bytes no entries are taken.
    fn low(&self, reserve: u64) -> u64 {
        match self.space {
            _ if reserve == 0 => 0,
            Some(space) => reserve.min((space.total / RESERVE_SHARE).max(1)),
            None => reserve,
        }
    }

    /// From this many on they are again: half as much more, so that what was freed lasts a while.
    fn high(&self, reserve: u64) -> u64 {
        let low = self.low(reserve);
        low.saturating_add(low / 2)
    }

    fn free(&self) -> Option<u64> {
        self.space.map(|space| space.free)
    }
}

impl Node {
    /// The file system of the log has so much room, and a write waits for more or does not.
    pub(super) fn space_told(&mut self, now: Now, free: u64, total: u64, waits: bool) {
        let reserve = self.options.disk_reserve_bytes;
        let room = &mut self.room;
        room.space = Some(Space { free, total });
        room.waits = waits;
        let mark = if room.short { room.high(reserve) } else { room.low(reserve) };
        let short = waits || free < mark;
        if std::mem::replace(&mut room.short, short) == short {
            return;
        }
        let text = if short { format!("{}; it takes no entries", self.own_shortage()) } else { self.room_again() };
        self.note(if short { super::Level::Error } else { super::Level::Info }, text);
        self.raft.handle(now, quorate_raft::Input::Room(!short));
        // Whoever leads without room finds an heir now, and what waited is taken again.
        self.hurry(now);
    }

    /// Every turn: may a leader take appends?
    pub(super) fn look_for_room(&mut self, now: Now) {
        self.room.refusal = if self.raft.is_leader() { self.why_no_room(now) } else { None };
    }

    fn why_no_room(&self, now: Now) -> Option<Failure> {
        let status = self.raft.status();
        let is_full = |voter: &NodeId| match status.peers.get(voter) {
            _ if *voter == self.me => self.room.short,
            peer => peer.is_some_and(|peer| peer.full),
        };
        // Whom a new leader has not heard yet, and is connected to, is not taken for silent.
        let is_new = |voter: &NodeId| {
            self.peers.is_up(voter.get()) && status.peers.get(voter).is_some_and(|p| p.last_heard.is_none())
        };
        let is_heard = |voter: &NodeId| self.is_healthy(now.mono, &status, *voter) || is_new(voter);
        let configuration = &status.configuration;
        // Where no quorum is heard at all, room is not what is missing.
        let short = |voters: &BTreeSet<NodeId>| {
            let heard: Vec<_> = voters.iter().filter(|v| is_heard(v)).collect();
            let with_room = heard.iter().filter(|v| !is_full(v)).count();
            heard.len() > voters.len() / 2 && with_room <= voters.len() / 2
        };
        if short(&configuration.voters) || short(&configuration.outgoing) {
            let all = configuration.voters.union(&configuration.outgoing).filter(|v| is_full(v));
            return Some(refusal(&self.shortages(all), "without them there is no quorum"));
        }
        // With an heir that has room leadership is on its way there, and who appends waits for that.
        (self.room.short && self.heir_with_room(now).is_none())
            .then(|| refusal(&self.own_shortage(), "no other voter with room can lead now"))
    }

    /// The best heir, if it has room.
    pub(super) fn heir_with_room(&self, now: Now) -> Option<NodeId> {
        let status: Status = self.raft.status();
        self.heir(now).filter(|heir| status.peers.get(heir).is_some_and(|peer| !peer.full))
    }

    fn shortages<'a>(&self, short: impl Iterator<Item = &'a NodeId>) -> String {
        let (own, others): (Vec<&NodeId>, Vec<&NodeId>) = short.partition(|node| **node == self.me);
        let own = own.first().map(|_| self.own_shortage());
        let others: Vec<String> = others.iter().map(|node| self.name_of(node.get())).collect();
        let others = match others.as_slice() {
            [] => None,
            [one] => Some(format!("the disk of {one} is nearly full")),
            many => Some(format!("the disks of {} are nearly full", many.join(" and "))),
        };
        own.into_iter().chain(others).collect::<Vec<_>>().join(", ")
    }

    /// What is short on this agent's disk, with numbers.
    fn own_shortage(&self) -> String {
        let name = crate::limits::printable(&self.options.name);
        let reserve = self.options.disk_reserve_bytes;
        let (low, free) = (self.room.low(reserve), self.room.free().unwrap_or(0));
        if free >= low && self.room.waits {
            return format!(
                "the disk of {name} takes no more bytes, though {} are free: a quota or a limit",
                amount(free)
            );
        }
        format!("the disk of {name} has {} free, and {} are kept free", amount(free), amount(low))
    }

    /// Why this agent does not hold what others do, if that is for want of room.
    pub(super) fn why_behind(&self) -> Option<String> {
        self.room.short.then(|| self.own_shortage())
    }

    fn room_again(&self) -> String {
        format!("the disk has room again: {} are free", amount(self.room.free().unwrap_or(0)))
    }

    /// What an operator should know of it.
    pub(super) fn room_problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.room.short {
            let high = amount(self.room.high(self.options.disk_reserve_bytes));
            problems.push(format!(
                "{}; it takes no entries, and will by itself when {high} are free: free space there",
                self.own_shortage()
            ));
        }
        if self.raft.is_leader() {
            let status = self.raft.status();
            let full = status.peers.iter().filter(|(_, peer)| peer.full).map(|(node, _)| self.name_of(node.get()));
            problems.extend(
                full.map(|name| {
                    format!("the disk of {name} is nearly full, and it takes no entries: free space there")
                }),
            );
        }
        problems
    }

    /// The picture for people.
    pub(super) fn disk_space(&self) -> DiskSpace {
        let room = &self.room;
        DiskSpace {
            free: room.free().filter(|_| room.space.is_some_and(|s| s.total < u64::MAX)),
            total: room.space.map(|s| s.total).filter(|total| *total < u64::MAX),
            reserve: room.low(self.options.disk_reserve_bytes),
            full: room.short,
        }
    }
}

fn refusal(why: &str, more: &str) -> Failure {
    let hint = "it was not appended: free space on that machine, or add an agent with a larger disk; appends are taken \
                again by themselves";
    not_applied(Code::NoSpace, format!("no append is taken ({why}; {more})"), hint)
}

/// Bytes as people say them.
fn amount(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut size, mut unit) = (bytes as f64, 0);
    while size >= 1024.0 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{size:.1} {}", UNITS[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn marks(total: u64, reserve: u64) -> (u64, u64) {
        let room = Room { space: Some(Space { free: 0, total }), ..Room::default() };
        (room.low(reserve), room.high(reserve))
    }

    #[test]
    fn the_marks_are_the_reserve_or_a_tenth_of_a_small_disk() {
        assert_eq!(marks(1 << 40, 256 * MIB), (256 * MIB, 384 * MIB));
        assert_eq!(marks(2_560 * MIB, 256 * MIB), (256 * MIB, 384 * MIB));
        assert_eq!(marks(640 * MIB, 256 * MIB), (64 * MIB, 96 * MIB));
        assert_eq!(marks(0, 256 * MIB), (1, 1), "nothing is free of nothing");
        assert_eq!(marks(1 << 40, 0), (0, 0), "no reserve, no mark");
    }

    #[test]
    fn amounts_read_as_people_say_them() {
        assert_eq!([amount(0), amount(1023), amount(12 * MIB + MIB / 2)], ["0 B", "1023 B", "12.5 MiB"]);
    }
}
