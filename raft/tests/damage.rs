//! Damage: what a member may do whose disk lost or cannot read what it acknowledged. Others' bugs, as stories (NATS#7549,
//! #7567, #7587, etcd#10951).

use quorate_raft::*;

use crate::cluster::*;

/// The end of this node's log rots while it is down, from `first` on.
fn rot(c: &mut Cluster, victim: NodeId, first: LogIndex) {
    c.crash(victim);
    let machine = c.machine(victim);
    machine.disk.rot_from(first);
    machine.log = machine.disk.log.clone();
}

/// Committed by the leader and one follower, while the third voter was away: the shape in which one vote decides.
fn acked_by_two(seed: u64) -> (Cluster, NodeId, NodeId, NodeId, LogIndex) {
    let mut c = Cluster::of(3).seed(seed);
    let leader = c.elect();
    c.settle();
    let (stale, victim) = (c.others(leader)[0], c.others(leader)[1]);
    let kept = c.raft(victim).last().index;
    c.isolate(stale);
    let acked: Vec<Ticket> = (0..5).map(|_| c.propose(leader)).collect();
    c.until("committed by two", |c| acked.iter().all(|ticket| c.is_committed(*ticket)));
    (c, leader, stale, victim, kept.next())
}

/// NATS#7567: a voter comes back from a power failure without what it acknowledged, and the only other one that held it is
/// away. Its vote must not elect the third one, which never had it.
#[test]
fn the_vote_of_a_disk_with_a_lost_end_elects_nobody_who_lacks_it() {
    for seed in 1..20 {
        let (mut c, leader, stale, victim, first) = acked_by_two(seed);
        rot(&mut c, victim, first);
        c.crash(leader);
        c.heal();
        c.restart(victim);
        c.run(5_000 * MS);
        assert_eq!(c.leader(), None, "{}", c.picture());
        assert_eq!((c.raft(victim).role(), c.raft(stale).is_leader()), (Role::Follower, false));
        c.restart(leader);
        c.until("the one that holds everything", |c| c.stable_leader() == Some(leader));
        c.settle();
        c.until("its bar has fallen", |c| c.raft(victim).status().missing.is_none());
        assert_eq!(c.machines[&victim].disk.suspect, None);
    }
}

/// NATS#7587: catching up by one entry and starting once more does not make it whole: it must be remembered on disk.
#[test]
fn the_bar_outlives_a_restart_and_a_little_catching_up() {
    for seed in 1..20 {
        let (mut c, leader, stale, victim, first) = acked_by_two(seed);
        c.options.append_entries_max = 1;
        let bar = c.raft(leader).last();
        rot(&mut c, victim, first);
        c.crash(leader);
        c.restart(leader);
        // Of all that it lost, the victim is given a little, in the same term or in a later one, and starts again.
        c.restart(victim);
        let had = c.raft(victim).last().index;
        c.until("it got something back", |c| {
            c.raft(victim).durable() > had || c.raft(victim).status().missing.is_none()
        });
        c.crash(victim);
        c.crash(leader);
        let held = c.machines[&victim].disk.log.len() as u64;
        let is_whole = c.machines[&victim].disk.suspect.is_none();
        assert!(
            is_whole || held < bar.index.0 || c.machines[&victim].disk.suspect == Some(bar),
            "the bar moved by itself"
        );
        c.restart(victim);
        c.heal();
        c.run(3_000 * MS);
        // Whoever leads now has all that was acknowledged; the witness looks at every commit and every leader.
        assert!(is_whole || !c.raft(stale).is_leader(), "{}", c.picture());
        c.restart(leader);
        c.settle();
        assert!(c.raft(victim).last().is_at_least_as_up_to_date_as(bar));
    }
}

/// NATS#7549: rot in two of five, both started again and made to stand: nothing acknowledged is lost.
#[test]
fn two_of_five_with_rotten_ends_lose_nothing() {
    for seed in 1..20 {
        let mut c = Cluster::of(5).seed(seed);
        let leader = c.elect();
        c.settle();
        let others = c.others(leader);
        let kept = c.raft(leader).last().index;
        c.isolate(others[0]);
        c.isolate(others[1]);
        let acked: Vec<Ticket> = (0..8).map(|_| c.propose(leader)).collect();
        c.until("committed by three", |c| acked.iter().all(|ticket| c.is_committed(*ticket)));
        // One of them leads, and one is among those whose acknowledgement was counted.
        for victim in [leader, others[2]] {
            rot(&mut c, victim, kept.next());
        }
        c.heal();
        for victim in [leader, others[2]] {
            c.restart(victim);
            c.time_out(victim);
        }
        c.settle();
        let leads = c.leader().expect("settled");
        assert!(c.committed(leads).len() >= acked.len() && acked.iter().all(|t| c.committed(leads).contains(t)));
        c.until("whole again", |c| [leader, others[2]].iter().all(|v| c.raft(*v).status().missing.is_none()));
    }
}

/// What a leader says of lost entries is kept on disk too: the next start does not need to be told again.
#[test]
fn what_a_leader_remembers_is_remembered_on_disk() {
    let (mut c, leader, _, victim, first) = acked_by_two(3);
    // The disk was rolled back and knows nothing of it.
    rot(&mut c, victim, first);
    c.machine(victim).disk.suspect = None;
    c.hold_back(leader, victim, "append");
    c.restart(victim);
    c.until("told, and on disk", |c| c.machines[&victim].disk.suspect.is_some());
    let bar = c.machines[&victim].disk.suspect;
    c.crash(leader);
    c.captured.clear();
    c.capture.clear();
    c.crash(victim);
    c.restart(victim);
    assert_eq!(c.raft(victim).status().missing, bar.map(|bar| bar.index));
    c.heal();
    c.run(3_000 * MS);
    assert_eq!(c.leader(), None, "{}", c.picture());
    c.restart(leader);
    c.settle();
    c.until("its bar has fallen", |c| c.machines[&victim].disk.suspect.is_none());
}

/// The bar has fallen when that is durable, and not before.
#[test]
fn the_bar_stands_until_its_fall_is_on_disk() {
    let (mut c, leader, _, victim, first) = acked_by_two(5);
    rot(&mut c, victim, first);
    let bar = c.machines[&victim].disk.suspect.expect("it rotted");
    c.restart(victim);
    c.until("the log reached it", |c| c.raft(victim).durable() >= bar.index);
    assert_eq!(c.raft(victim).status().missing, Some(bar.index), "that is not on disk yet");
    c.disk_hangs(victim, true);
    c.run(200 * MS);
    c.crash(victim);
    c.restart(victim);
    c.until("its fall is durable", |c| c.raft(victim).status().missing.is_none());
    assert_eq!(c.machines[&victim].disk.suspect, None);
    assert!(c.raft(leader).is_leader());
}

/// etcd#10951: a follower that lost acknowledged entries neither crashes nor is crashed, however often it starts.
#[test]
fn a_follower_that_lost_entries_is_named_and_healed_each_time() {
    let (mut c, leader, _, victim, first) = acked_by_two(7);
    for _ in 0..3 {
        rot(&mut c, victim, first);
        c.restart(victim);
        c.until("healed", |c| {
            c.raft(victim).last() == c.raft(leader).last() && c.raft(victim).status().missing.is_none()
        });
        assert!(c.machines[&leader].halted.is_none() && c.machines[&victim].halted.is_none());
    }
    assert!(!c.machines[&leader].alarms.is_empty(), "the leader said so");
}

/// Damage inside the log: the node does not lead, and its vote is as good as ever, for its end is known.
#[test]
fn a_node_that_cannot_read_its_log_votes_and_does_not_lead() {
    for seed in 1..10 {
        let mut c = Cluster::of(3).seed(seed);
        let old = c.elect();
        c.settle();
        let (damaged, whole) = (c.others(old)[0], c.others(old)[1]);
        c.input(damaged, Input::Damaged(true));
        c.crash(old);
        let new = c.elect();
        assert_eq!(new, whole, "{}", c.picture());
        let ticket = c.propose(new);
        c.until("it serves with the other's acknowledgement", |c| c.is_committed(ticket));
        // It does not take over even if asked, and the leader leads on.
        let handed = c.transfer(new, Some(damaged));
        c.until("refused", |c| c.outcome(handed).is_some());
        assert!(!c.raft(damaged).is_leader() && c.raft(damaged).status().damaged);
        c.input(damaged, Input::Damaged(false));
        c.restart(old);
        c.settle();
        let again = c.transfer(new, Some(damaged));
        c.until("whole again, it leads", |c| c.outcome(again).is_some() && c.leader() == Some(damaged));
    }
}

/// All are damaged, each elsewhere: nobody stands, and as soon as one is whole it leads.
#[test]
fn when_all_are_damaged_the_first_whole_one_leads() {
    let mut c = Cluster::of(3).seed(2);
    c.elect();
    c.settle();
    let all: Vec<NodeId> = c.machines.keys().copied().collect();
    for id in &all {
        c.crash(*id);
    }
    for id in &all {
        c.restart(*id);
        c.input(*id, Input::Damaged(true));
    }
    let term = c.term(all[0]);
    c.run(5_000 * MS);
    assert_eq!((c.leader(), c.term(all[0])), (None, term), "nobody stands, and no term moves");
    c.input(all[1], Input::Damaged(false));
    assert_eq!(c.elect(), all[1]);
    // A leader that finds damage leads on until somebody takes over: it is the caller that hands over.
    c.input(all[2], Input::Damaged(false));
    c.input(all[1], Input::Damaged(true));
    let ticket = c.propose(all[1]);
    c.until("served meanwhile", |c| c.is_committed(ticket));
    c.transfer(all[1], Some(all[2]));
    c.until("handed over", |c| c.stable_leader() == Some(all[2]));
}
