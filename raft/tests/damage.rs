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

/// A range that cannot be read.
fn somewhere() -> Vec<(LogIndex, LogIndex)> {
    vec![(LogIndex(1), LogIndex(1))]
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
        c.input(damaged, Input::Damaged(somewhere()));
        c.crash(old);
        let new = c.elect();
        assert_eq!(new, whole, "{}", c.picture());
        let ticket = c.propose(new);
        c.until("it serves with the other's acknowledgement", |c| c.is_committed(ticket));
        // It does not take over even if asked, and the leader leads on.
        let handed = c.transfer(new, Some(damaged));
        c.until("refused", |c| c.outcome(handed).is_some());
        assert!(!c.raft(damaged).is_leader() && c.raft(damaged).status().damaged);
        c.input(damaged, Input::Damaged(vec![]));
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
        c.input(*id, Input::Damaged(somewhere()));
    }
    let term = c.term(all[0]);
    c.run(5_000 * MS);
    assert_eq!((c.leader(), c.term(all[0])), (None, term), "nobody stands, and no term moves");
    c.input(all[1], Input::Damaged(vec![]));
    assert_eq!(c.elect(), all[1]);
    // A leader that finds damage leads on until somebody takes over: it is the caller that hands over.
    c.input(all[2], Input::Damaged(vec![]));
    c.input(all[1], Input::Damaged(somewhere()));
    let ticket = c.propose(all[1]);
    c.until("served meanwhile", |c| c.is_committed(ticket));
    c.transfer(all[1], Some(all[2]));
    c.until("handed over", |c| c.stable_leader() == Some(all[2]));
}

/// A group of three whose third voter is down. The logs are of these terms behind the founding configuration.
fn logs(first: &[u64], second: &[u64], third: &[u64]) -> (Cluster, NodeId, NodeId, NodeId) {
    let mut c = Cluster::empty();
    let term = [first, second, third].into_iter().flatten().max().copied().unwrap_or(1);
    let [a, b, victim] = [(1, first), (2, second), (3, third)].map(|(n, terms)| c.with_log(n, term, &[1, 2, 3], terms));
    let founding = c.machines[&a].disk.log[0].clone();
    c.witness.truth(&founding);
    (c, a, b, victim)
}

/// Everybody but the victim is one of two; the victim is down before anything happens.
fn leads(c: &mut Cluster, leader: NodeId, victim: NodeId) {
    c.crash(victim);
    c.time_out(leader);
    c.until("it leads", |c| c.stable_leader() == Some(leader));
}

/// A hole over a change of term, whose terms a start guessed: the guess is the term of the leader's entry, while what stands
/// there is of a later one. Nothing behind such an entry is called the same as the leader's.
#[test]
fn a_guessed_term_is_no_agreement() {
    // The victim led term 3 alone from entry 3 on; what it cannot read it takes for entries of term 2.
    let (mut c, a, _, victim) = logs(&[2, 2, 2], &[2, 2, 2], &[2, 3, 3, 3]);
    leads(&mut c, a, victim);
    c.lose(victim, 3, 4);
    c.restart(victim);
    assert_eq!(c.raft(victim).term_at(LogIndex(3)), Some(Term(2)), "guessed");
    c.settle();
    assert_eq!(c.terms(victim), c.terms(a));
    assert_eq!(c.machines[&victim].disk.holes, [], "it went with what nobody else had");
    c.until("its bar has fallen", |c| c.raft(victim).status().missing.is_none());
}

/// What is dropped unread may have been acknowledged, and counted: the votes stay as strict as if it still stood there, over
/// a restart too, until it is there again.
#[test]
fn what_is_dropped_unread_still_binds_the_vote() {
    for seed in 1..10 {
        let mut c = Cluster::of(3).seed(seed);
        c.options.append_entries_max = 1;
        c = c.seed(seed);
        let leader = c.elect();
        let (stale, victim) = (c.others(leader)[0], c.others(leader)[1]);
        c.propose(leader);
        c.settle();
        let first = c.raft(leader).last().index;
        c.isolate(stale);
        let acked = c.propose(leader);
        c.until("committed by two", |c| c.is_committed(acked));
        c.hold_back(victim, leader, "append-reply");
        c.propose(leader);
        c.until("durable", |c| c.raft(victim).durable() == c.raft(leader).last().index);
        let bar = c.raft(victim).last();
        c.captured.clear();
        c.capture.clear();
        // The leader knows of the second of these two, and probes there.
        c.lose(victim, first.0, first.0 + 1);
        c.restart(victim);
        c.until("dropped, for the first of the leader's", |c| c.machines[&victim].log.len() as u64 == first.0);
        c.crash(leader);
        c.until("on disk", |c| c.machines[&victim].disk.log.len() as u64 == first.0);
        assert_eq!(c.machines[&victim].disk.suspect, Some(bar), "in the same write");
        c.crash(victim);
        c.heal();
        c.restart(victim);
        c.run(5_000 * MS);
        assert_eq!(c.leader(), None, "{}", c.picture());
        c.restart(leader);
        c.settle();
        c.until("its bar has fallen", |c| c.machines[&victim].disk.suspect.is_none());
        assert!(c.committed(stale).contains(&acked));
    }
}

/// An entry behind the range that is the same in both logs proves the range: nothing is dropped, though the leader probed
/// inside it.
#[test]
fn what_stands_behind_a_range_proves_it() {
    let mut c = Cluster::of(3).seed(4);
    let leader = c.elect();
    let victim = c.others(leader)[1];
    c.settle();
    let first = c.raft(leader).last().index.next();
    let one = c.propose(leader);
    c.until("committed", |c| c.is_committed(one) && c.raft(victim).committed() >= first);
    c.hold_back(victim, leader, "append-reply");
    c.propose_burst(leader, 3);
    c.until("durable", |c| c.raft(victim).durable() == c.raft(leader).last().index);
    c.captured.clear();
    c.capture.clear();
    let (before, refused) = (c.truncations, c.sent("conflict"));
    c.lose(victim, first.0, first.0 + 1);
    c.restart(victim);
    c.settle();
    assert_eq!(c.truncations, before);
    assert!(c.sent("conflict") > refused, "it was asked about what it cannot read");
    assert!(c.raft(victim).status().damaged && c.raft(victim).status().missing.is_none());
    assert!(c.repair(victim) && !c.raft(victim).status().damaged);
}

/// What a start guessed is put right by the repair, before the node may lead by it.
#[test]
fn a_repair_puts_guessed_terms_right() {
    let (mut c, a, b, victim) = logs(&[2, 3, 3, 4], &[2, 3, 3, 4], &[2, 3, 3, 4]);
    c.lose(victim, 3, 4);
    c.restart(victim);
    assert_eq!(c.raft(victim).term_at(LogIndex(4)), Some(Term(2)), "guessed");
    assert!(c.repair(victim));
    let terms: Vec<_> = (1..=5).map(|at| c.raft(victim).term_at(LogIndex(at)).map_or(0, |term| term.0)).collect();
    assert_eq!(terms, c.terms(a));
    c.crash(a);
    c.time_out(victim);
    c.until("it leads by them", |c| c.stable_leader() == Some(victim));
    c.restart(a);
    c.settle();
    assert_eq!(c.terms(a), c.terms(b));
}

/// Most voters cannot read the same committed entries: nobody can lead better, so one of them does. Of what it cannot read it
/// tells nobody anything, least of all by a term that it guessed.
#[test]
fn what_most_cannot_read_is_led_over_and_not_told() {
    // The third voter has an entry that was never committed, of the very term that the others guess.
    let (mut c, a, b, lagging) = logs(&[2, 3, 3, 3], &[2, 3, 3, 3], &[2, 2]);
    for id in [a, b] {
        c.lose(id, 3, 4);
        c.machine(id).disk.applied = LogIndex(5);
        c.unreadable.extend([(id, LogIndex(3)), (id, LogIndex(4))]);
    }
    c.restart(a);
    c.restart(b);
    c.run(3_000 * MS);
    assert_eq!(c.leader(), None, "somebody may still be able to read them");
    c.input(a, Input::Irreparable(true));
    c.input(b, Input::Irreparable(true));
    let leader = c.elect();
    assert!([a, b].contains(&leader));
    let ticket = c.propose(leader);
    c.until("it serves", |c| c.is_committed(ticket));
    c.run(3_000 * MS);
    assert_eq!(c.stable_leader(), Some(leader));
    assert!(c.raft(lagging).committed() < LogIndex(3) && c.raft(lagging).leader() == Some(leader), "{}", c.picture());
    // Somebody finds a copy after all.
    for id in [a, b] {
        let holes = std::mem::take(&mut c.machine(id).disk.holes);
        let runs = vec![Run { first: holes[0].0, term: Term(3) }];
        c.input(id, Input::Reread { runs, last: holes[0].1 });
        c.tell_damage(id);
    }
    c.unreadable.clear();
    c.settle();
    assert_eq!(c.terms(lagging), c.terms(leader));
}

/// What is not known to be committed may be on nobody's disk but this one: with that unread, nobody stands.
#[test]
fn what_may_not_be_committed_is_not_led_over() {
    let (mut c, a, b, _) = logs(&[2, 3, 3, 3], &[2, 3, 3, 3], &[2]);
    for id in [a, b] {
        c.lose(id, 3, 4);
        c.machine(id).disk.applied = LogIndex(3);
    }
    c.restart(a);
    c.restart(b);
    c.input(a, Input::Irreparable(true));
    c.input(b, Input::Irreparable(true));
    c.run(3_000 * MS);
    assert_eq!(c.leader(), None, "{}", c.picture());
}

/// A range that begins with what is known to be committed and reaches into a tail that the leader contradicts can neither be cut
/// in the middle nor dropped: that replica takes nothing more, and the others do not mind.
#[test]
fn a_range_that_is_committed_in_part_waits_and_harms_nobody() {
    let (mut c, a, b, victim) = logs(&[2, 3, 4], &[2, 3, 4], &[2, 3, 3, 3]);
    leads(&mut c, a, victim);
    c.lose(victim, 3, 4);
    c.machine(victim).disk.applied = LogIndex(3);
    c.restart(victim);
    let (term, log) = (c.term(a), c.machines[&victim].log.clone());
    let tickets: Vec<Ticket> = (0..5).map(|_| c.propose(a)).collect();
    c.until("served by the others", |c| tickets.iter().all(|ticket| c.is_committed(*ticket)));
    c.run(3_000 * MS);
    assert_eq!((c.stable_leader(), c.term(a)), (Some(a), term));
    assert_eq!(c.machines[&victim].log, log, "not a byte of it has changed");
    assert!(c.machines.values().all(|m| m.halted.is_none()) && c.machines[&victim].alarms.is_empty());
    // The leader may die: the vote of that replica is as good as ever.
    c.crash(a);
    c.until("the other one leads", |c| c.raft(b).is_leader());
}
