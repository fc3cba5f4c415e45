//! Sick disks: nearly full, without a byte, hanging and slow. Leadership goes where the disk is well, votes need no room,
//! and nobody waits for the slowest.

use super::plan;
use crate::api::{Code, Effect};
use crate::node::Input;
use crate::sim::client::{End, Kind};
use crate::sim::plan::{Action, MS, SECOND};
use crate::sim::world::World;

impl World {
    /// Bytes of the files on its disk.
    fn used(&self, agent: usize) -> u64 {
        let disk = &self.machines[agent].disk;
        disk.names().iter().filter_map(|name| disk.contents(name)).map(|bytes| bytes.len() as u64).sum()
    }

    /// From now on so many bytes are free on its disk; somebody else has filled it.
    pub(super) fn leave_free(&mut self, agent: usize, free: u64) {
        let capacity = self.used(agent) + free;
        self.machines[agent].disk.set_capacity(Some(capacity));
        self.tell_space(agent);
    }

    pub(super) fn free_disk(&mut self, agent: usize) {
        self.machines[agent].disk.set_capacity(None);
        self.tell_space(agent);
    }

    /// Records, each in an entry of its own, until the leader of that moment has taken so many.
    #[track_caller]
    fn fills(&mut self, agent: usize, appends: usize) {
        for _ in 0..appends {
            self.appends(agent);
        }
    }

    #[track_caller]
    fn is_refused(&mut self, agent: usize) -> String {
        let operation = self.begin_append(agent, 10 * SECOND);
        self.must("it ends", 6 * SECOND, |w| w.is_over(operation));
        let End::Answered(Err(failure)) = self.end(operation) else { panic!("{:?}", self.end(operation)) };
        assert_eq!((failure.code, failure.effect), (Code::NoSpace, Effect::NotApplied), "{failure}");
        failure.what.clone()
    }

    /// Appends are taken again, without anybody doing anything.
    #[track_caller]
    fn resumes(&mut self, agent: usize) {
        let mut operation = self.begin_append(agent, 5 * SECOND);
        self.must("appends are taken again", 3 * SECOND, |w| {
            if w.is_over(operation) && w.end(operation).word() != "ok" {
                operation = w.begin_append(agent, 5 * SECOND);
            }
            w.is_over(operation)
        });
    }

    fn durable_entries(&self, agent: usize) -> usize {
        self.machines[agent].durable.log.len()
    }

    fn well_leader(&self, sick: usize) -> Option<usize> {
        self.leader().filter(|leader| *leader != sick)
    }
}

/// The disk of the leader is nearly full: leadership moves within two seconds, and who appends meanwhile does not notice.
/// The full one votes, hears and reads, takes no record and is not elected back; with room it has everything.
#[test]
fn a_leader_without_room_hands_over_and_stays_a_voter() {
    let mut w = World::formed(3);
    let full = w.leader().expect("one leads");
    let before = w.at;
    w.leave_free(full, 5 << 10);
    let appends = w.appends_for(&[0, 1, 2], 300 * MS);
    w.must("another one leads", 2 * SECOND, |w| w.well_leader(full).is_some());
    assert!(w.at - before < 2 * SECOND);
    w.must("all end", 6 * SECOND, |w| appends.iter().all(|o| w.is_over(*o)));
    assert!(appends.iter().all(|o| w.end(*o).word() == "ok"), "nobody noticed");
    let new = w.leader().expect("one leads");
    let other = (0..3).find(|a| *a != full && *a != new).expect("three");
    let (held, used) = (w.durable_entries(full), w.used(full));
    w.fills(full, 50);
    assert_eq!((w.durable_entries(full), w.used(full)), (held, used), "it takes none");
    // A read there is sent elsewhere at once: what it must see is not here.
    let read = w.ask(None, full, Kind::Read, 5 * SECOND).expect("it is up");
    w.must("it ends", SECOND, |w| w.is_over(read));
    let End::Answered(Err(failure)) = w.end(read) else { panic!("{:?}", w.end(read)) };
    assert!(failure.code == Code::Unavailable && failure.what.contains("KiB free"), "{failure}");
    w.reads(other);
    let status = w.status(full).expect("it is up");
    // Side files of the log may take some bytes.
    let free = status.space.free.expect("the disk tells");
    assert!(status.space.full && (4 << 10..=5 << 10).contains(&free), "{:?}", status.space);
    assert!(status.problems.join("; ").contains("it takes no entries"), "{:?}", status.problems);
    assert!(w.problems_of(new).contains("nearly full"), "{}", w.problems_of(new));
    // Its vote counts: with the other one down it is half of the quorum that elects, and never the one elected.
    w.act(&Action::Kill { agent: new, down_us: 3 * SECOND });
    w.must("the other one leads", 3 * SECOND, |w| w.leader() == Some(other));
    w.must("all are back", 10 * SECOND, |w| w.machines.iter().all(|m| m.is_up()));
    w.fills(new, 5);
    w.free_disk(full);
    w.must("it has everything", 5 * SECOND, |w| w.durable_entries(full) == w.durable_entries(other));
    assert!(w.problems_of(full).is_empty(), "{}", w.problems_of(full));
    w.converges(10 * SECOND);
}

/// No byte is free under a leader at work: nothing of it is acked, its vote does not wait behind its entries, and when
/// there is room it goes on by itself.
#[test]
fn a_vote_does_not_wait_behind_entries_without_room() {
    for seed in 0..5 {
        let mut no_reserve = plan(3);
        no_reserve.knobs.disk_reserve_bytes = 0;
        let mut w = World::new(no_reserve);
        w.converges(15 * SECOND);
        let leader = w.leader().expect("one leads");
        let (full, other) = ((leader + 1) % 3, (leader + 2) % 3);
        w.run_to(w.at + seed * 7 * MS);
        w.leave_free(full, 0);
        // What it had prepared fills up, and more is on its way to it when the leader dies.
        let appends = w.appends_for(&[leader], 600 * MS);
        w.must("its entries wait", 5 * SECOND, |w| w.counters.get("disk full") > 0);
        assert!(appends.iter().filter(|o| w.is_over(**o)).all(|o| w.end(*o).word() == "ok"));
        w.machines[leader].rest_us = None;
        w.act(&Action::Kill { agent: leader, down_us: 20 * SECOND });
        w.must("the other one leads by its vote", 3 * SECOND, |w| w.leader() == Some(other));
        assert!(w.machines[full].durable.hard_state.term == w.machines[other].durable.hard_state.term);
        // Only two are left, and one of them takes no more: refused, with the name of who must free space.
        w.must("it knows", SECOND, |w| w.problems_of(other).contains("nearly full"));
        let why = w.is_refused(other);
        assert!(why.contains(&w.machines[full].name), "{why}");
        w.free_disk(full);
        w.resumes(full);
        w.must("it goes on", 2 * SECOND, |w| w.durable_entries(full) == w.durable_entries(other));
        w.keeps_promises();
    }
}

/// All disks are nearly full: appends are refused in words that say which, reads go on through a change of leaders, all
/// restart with no byte free, and with room everything resumes by itself.
#[test]
fn all_disks_full_and_reads_go_on() {
    let mut w = World::formed(3);
    w.fills(0, 20);
    for agent in 0..3 {
        w.leave_free(agent, 20 << 10);
    }
    w.must("all say so", 2 * SECOND, |w| (0..3).all(|a| w.status(a).is_some_and(|s| s.space.full)));
    w.run_to(w.at + SECOND);
    let why = w.is_refused(1);
    assert!(why.contains("KiB free, and 64.0 KiB are kept free"), "{why}");
    for agent in 0..3 {
        w.reads(agent);
    }
    let leader = w.leader().expect("one leads");
    w.act(&Action::Kill { agent: leader, down_us: 2 * SECOND });
    w.must("another one leads", 4 * SECOND, |w| w.well_leader(leader).is_some());
    w.must("it is back", 4 * SECOND, |w| w.machines[leader].is_up());
    for agent in 0..3 {
        w.reads(agent);
    }
    w.is_refused(0);
    // No byte at all, and a power loss of all.
    for agent in 0..3 {
        w.leave_free(agent, 0);
    }
    w.act(&Action::CrashAll { down_us: SECOND });
    w.must("all start", 4 * SECOND, |w| w.machines.iter().all(|m| m.is_up()));
    w.run_to(w.at + 3 * SECOND);
    for agent in 0..3 {
        let status = w.status(agent).expect("it is up");
        // What a start cuts off the end of the log is all there is.
        assert!(status.space.full && status.space.free < Some(8 << 10), "{:?}", status.space);
    }
    for agent in 0..3 {
        w.free_disk(agent);
    }
    w.converges(15 * SECOND);
    w.resumes(2);
    w.fills(2, 3);
    w.reads(0);
    assert!((0..3).all(|a| w.problems_of(a).is_empty()));
}

/// Room comes and goes around the mark: leadership moves once, not with each byte.
#[test]
fn a_disk_that_hovers_at_the_mark_does_not_flap() {
    let mut w = World::formed(3);
    let sick = w.leader().expect("one leads");
    w.leave_free(sick, 1 << 10);
    w.must("another one leads", 2 * SECOND, |w| w.well_leader(sick).is_some());
    let term = w.status(sick).expect("it is up").term;
    for round in 0..40_u64 {
        // The marks are 64 and 96 KiB.
        let free = if round % 2 == 0 { 90 << 10 } else { 60 << 10 };
        w.leave_free(sick, free);
        w.run_to(w.at + 200 * MS);
        assert!(w.status(sick).expect("it is up").space.full, "round {round}");
    }
    assert_eq!(w.status(sick).expect("it is up").term, term);
    w.free_disk(sick);
    w.converges(10 * SECOND);
}

/// etcd#13527: the disk of the leader hangs for 100 s. Another one leads within two seconds and serves; the old one reads
/// nothing old meanwhile, and comes back as a follower.
#[test]
fn a_disk_that_hangs_for_100_s_costs_its_leader_the_lead() {
    for agents in [3, 5] {
        let mut w = World::formed(agents);
        let sick = w.leader().expect("one leads");
        w.act(&Action::SlowDisk { agent: sick, sync_us: 100 * SECOND, for_us: SECOND });
        let hung = w.at;
        let others: Vec<usize> = (0..agents).filter(|a| *a != sick).collect();
        let appends = w.appends_for(&others, 100 * MS);
        w.must("another one leads", 2 * SECOND, |w| w.well_leader(sick).is_some());
        w.must("all end", 2 * SECOND, |w| appends.iter().all(|o| w.is_over(*o)));
        assert!(appends.iter().all(|o| w.end(*o).word() == "ok"));
        assert!(w.at - hung < 3 * SECOND, "{} us", w.at - hung);
        let (new, held) = (w.leader().expect("one leads"), w.durable_entries(sick));
        let term = w.status(new).expect("it is up").term;
        while w.at < hung + 95 * SECOND {
            w.fills(new, 1);
            // The witness knows what was acked before: nothing old, and what is not here is asked of others.
            let read = w.ask(None, sick, Kind::Read, SECOND).expect("it is up");
            w.must("it ends", 2 * SECOND, |w| w.is_over(read));
            w.run_to(w.at + 5 * SECOND);
        }
        assert_eq!((w.leader(), w.status(new).expect("it is up").term), (Some(new), term), "no flapping");
        assert_eq!(w.durable_entries(sick), held, "and nothing was acked by the sick disk");
        w.run_to(hung + 105 * SECOND);
        w.converges(10 * SECOND);
        assert_eq!(w.leader(), Some(new));
        w.must("it has everything", 5 * SECOND, |w| w.durable_entries(sick) == w.durable_entries(new));
    }
}

/// The disk of the leader hangs, and whoever could be asked to follow it is not heard: it makes way all the same, once the
/// others have committed without it.
#[test]
fn a_leader_that_hangs_makes_way_without_an_heir() {
    let mut w = World::formed(3);
    let sick = w.leader().expect("one leads");
    let others = [(sick + 1) % 3, (sick + 2) % 3];
    // Their clocks are such that neither is asked.
    for agent in others {
        w.act(&Action::Clock { agent, by_us: if agent == others[0] { 40 } else { -40 } * SECOND as i64 });
    }
    w.run_to(w.at + 3 * SECOND);
    if w.leader() != Some(sick) {
        return w.keeps_promises();
    }
    w.act(&Action::SlowDisk { agent: sick, sync_us: 20 * SECOND, for_us: SECOND });
    let appends = w.appends_for(&others, 100 * MS);
    w.must("another one leads", 3 * SECOND, |w| w.well_leader(sick).is_some());
    w.must("all end", 5 * SECOND, |w| appends.iter().all(|o| w.is_over(*o)));
    assert!(appends.iter().all(|o| w.end(*o).word() == "ok"));
}

impl World {
    /// The 99th percentile of 200 appends, one after the other, in microseconds.
    #[track_caller]
    fn p99_of_appends(&mut self, leader: usize) -> u64 {
        let mut took = Vec::new();
        for _ in 0..200 {
            let begun = self.at;
            let operation = self.begin_append(leader, 5 * SECOND);
            while !self.is_over(operation) {
                self.run_to(self.at + MS / 4);
            }
            assert_eq!(self.end(operation).word(), "ok");
            took.push(self.at - begun);
            self.run_to(self.at + 5 * MS);
        }
        took.sort_unstable();
        took[197]
    }

    /// Commits of three agents are as fast as before while this happens to a follower, and the leader stays. Gives the two.
    #[track_caller]
    fn slows_nobody(&mut self, sickness: impl Fn(usize) -> Action) -> (usize, usize) {
        let leader = self.leader().expect("one leads");
        let slow = (leader + 1) % 3;
        let well = self.p99_of_appends(leader);
        self.act(&sickness(slow));
        let sick = self.p99_of_appends(leader);
        // Two of two have to answer where two of three had: the slower of two draws, not the better.
        assert!(sick <= well * 2 && sick < 20 * MS, "p99 {well} us, with a slow follower {sick} us");
        assert_eq!(self.leader(), Some(leader));
        (leader, slow)
    }

    #[track_caller]
    fn catches_up(&mut self, leader: usize, slow: usize) {
        self.run_to(self.at + 40 * SECOND);
        self.must("it has everything", 10 * SECOND, |w| w.durable_entries(slow) == w.durable_entries(leader));
    }
}

/// A follower whose syncs take five seconds slows nobody, holds no more than a window of its leader in memory, and catches
/// up when it is well.
#[test]
fn a_slow_follower_never_slows_commits() {
    let mut w = World::formed(3);
    let (leader, slow) = w.slows_nobody(|agent| Action::SlowDisk { agent, sync_us: 5 * SECOND, for_us: 30 * SECOND });
    let window = u64::from(w.plan.knobs.window_bytes) + u64::from(w.plan.knobs.append_bytes_max);
    let process = w.machines[slow].process.as_ref().expect("it is up");
    let held = w.machines[slow].durable.log.len();
    let owed: u64 = process.ordered.iter().skip(held).map(|entry| entry.bytes().len() as u64).sum();
    assert!(owed <= window, "{owed} bytes wait for a disk that gets {window} at once");
    w.catches_up(leader, slow);
}

/// Nor does one that reads nothing of what it is sent.
#[test]
fn a_follower_that_does_not_read_never_slows_commits() {
    let mut w = World::formed(3);
    let (leader, slow) = w.slows_nobody(|agent| Action::SlowReader { agent, for_us: 30 * SECOND });
    assert!(w.durable_entries(slow) < w.durable_entries(leader), "it was slow");
    w.catches_up(leader, slow);
}

/// A failed sync under load: the process aborts at once, nothing of that window is acked by it, and its next life begins
/// with what the disk has.
#[test]
fn a_failed_sync_ends_the_process_and_loses_nothing() {
    for round in 0..9 {
        let mut w = World::formed(3);
        let sick = round % 3;
        let mut appends = w.appends_for(&[0, 1, 2], (20 + round as u64) * MS);
        w.act(&Action::FailSync { agent: sick });
        appends.extend(w.appends_for(&[(sick + 1) % 3], 60 * MS));
        w.must("it aborts", SECOND, |w| w.counters.get("aborts") == 1);
        w.must("it is back", 5 * SECOND, |w| w.machines[sick].is_up());
        w.must("all end", 6 * SECOND, |w| appends.iter().all(|o| w.is_over(*o)));
        w.converges(15 * SECOND);
        w.witness.all_acked_stand();
        w.keeps_promises();
        assert_eq!(w.counters.get("aborts"), 1, "once");
    }
}

/// The word of a shell that says the same again and again moves nothing.
#[test]
fn the_same_news_of_a_disk_is_no_news() {
    let mut w = World::formed(3);
    let term = w.status(0).expect("it is up").term;
    for _ in 0..50 {
        for agent in 0..3 {
            w.inbox.push_back((agent, Input::Space { free: u64::MAX, total: u64::MAX, waits: false }));
        }
        w.run_to(w.at + 10 * MS);
    }
    assert_eq!(w.status(0).expect("it is up").term, term);
    w.appends(1);
}
