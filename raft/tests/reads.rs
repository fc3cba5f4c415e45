//! Reads: a barrier sees all that was acknowledged before it began, from any member (§6.4).

use quorate_raft::*;

use crate::cluster::*;

/// Q1. A new leader answers only after it has committed in its own term.
#[test]
fn a_new_leader_answers_only_after_its_own_term_commit() {
    let mut c = Cluster::of(3);
    c.censored.insert("append-reply");
    c.time_out(node(1));
    c.until("it leads", |c| c.raft(node(1)).is_leader());
    let read = c.read(node(1));
    c.run(100 * MS);
    assert_eq!(c.outcome(read), None);
    c.heal();
    c.until("served", |c| c.outcome(read).is_some());
    assert_eq!(c.witness.reads_served, 1);
}

/// Q2. A leader that was deposed without knowing it never answers.
#[test]
fn a_deposed_leader_never_answers() {
    let mut c = Cluster::of(3);
    let old = c.elect();
    c.settle();
    c.isolate(old);
    let early = c.read(old);
    c.until("another", |c| c.leader().is_some_and(|new| new != old) || !c.raft(old).is_leader());
    c.until("stepped down", |c| !c.raft(old).is_leader());
    assert!(matches!(c.outcome(early), Some(Outcome::Rejected(Reject::NotLeader { .. }))));
    assert_eq!(c.witness.reads_served, 0);
}

/// Q3. Answers to earlier heartbeats, delayed, prove nothing for a later read.
#[test]
fn delayed_answers_validate_no_later_read() {
    let mut c = Cluster::of(3);
    let leader = c.elect();
    c.settle();
    let others = c.others(leader);
    for &other in &others {
        c.hold_back(other, leader, "append-reply");
    }
    let first = c.read(leader);
    c.run(120 * MS);
    assert_eq!(c.outcome(first), None);
    let late: Vec<_> = c.captured.drain(..).collect();
    c.capture.clear();
    for &other in &others {
        c.cut(leader, other);
    }
    // A read that begins now must not be served by answers from before it.
    let second = c.read(leader);
    c.cut.clear();
    c.censored.extend(["heartbeat", "append"]);
    for packet in late {
        c.deliver(packet);
    }
    c.run(20 * MS);
    assert!(c.outcome(first).is_some());
    assert_eq!(c.outcome(second), None);
}

/// Q4. There are no leases, so there is none to be void: a leader that was stopped, whatever its clock says when it goes
/// on (that no time has passed, as after a suspend; that years have), answers no read before a quorum has confirmed it.
#[test]
fn no_clock_makes_a_deposed_leader_answer() {
    const YEARS: Micros = 1_000_000_000_000_000;
    for jump in [0, 1, 240 * MS, 260 * MS, YEARS] {
        let mut c = Cluster::of(3).seed(4);
        let old = c.elect();
        c.settle();
        // Just confirmed by all: a lease would be as fresh as can be.
        c.run(60 * MS);
        let (stopped_at, asleep) = (c.now, c.machine(old).raft.take());
        c.until("another leads", |c| c.stable_leader().is_some_and(|new| new != old));
        let new = c.elect();
        let acked = c.propose(new);
        c.until("acknowledged", |c| c.is_committed(acked));
        c.machine(old).raft = asleep;
        let read = c.ticket();
        c.witness.read_issued(read, old);
        let clock = Now { mono: Mono(stopped_at + jump), wall: Wall(0) };
        assert!(c.raft(old).is_leader(), "it knows of nothing");
        c.machine(old).raft.as_mut().expect("awake").handle(clock, Input::Read { ticket: read });
        c.drain(old, &[]);
        c.until("the read ends", |c| c.outcome(read).is_some());
        assert_eq!(c.witness.reads_served, 0, "after a jump of {jump} us: {:?}", c.outcome(read));
    }
}

/// Q4. A read that comes at any moment of a transfer, or of a change of voters, is confirmed like any other, or refused. The
/// witness knows what was acknowledged before it came.
#[test]
fn reads_during_transfers_and_changes_see_all_that_was_acked() {
    let mut served = 0;
    for delay in 0..40 {
        let mut c = Cluster::of(3).seed(delay);
        let old = c.elect();
        c.settle();
        c.add(4);
        c.change(old, &[1, 2, 3], &[4]);
        c.settle();
        if delay % 2 == 0 {
            let heir = c.others(old)[0];
            c.transfer(old, Some(heir));
        } else {
            c.change(old, &[1, 2, 4], &[]);
        }
        c.run(delay * MS / 4);
        if let Some(leader) = c.leader() {
            c.propose(leader);
        }
        c.run(2 * MS);
        let reads: Vec<_> = (1..=4).map(|n| c.read(node(n))).collect();
        c.until("all end", |c| reads.iter().all(|read| c.outcome(*read).is_some()));
        served += c.witness.reads_served;
    }
    assert!(served > 40, "only {served} reads were served at all");
}

/// Q4. The wall clock decides nothing at all: two cores that live the same life under different ones do the same.
#[test]
fn the_wall_clock_decides_nothing() {
    let mut c = Cluster::of(3).seed(8);
    let leader = c.elect();
    c.settle();
    for _ in 0..20 {
        c.propose(leader);
        c.read(leader);
        c.run(7 * MS);
        let one = c.raft(leader).clone();
        for wall in [i64::MIN, -1, 1, i64::MAX] {
            let (mut a, mut b) = (one.clone(), one.clone());
            for (ticket, input) in [(1_000, Input::Timeout), (1_001, Input::Read { ticket: Ticket(9_001) })] {
                let mono = Mono(c.now + ticket * MS);
                a.handle(Now { mono, wall: Wall(0) }, input.clone());
                b.handle(Now { mono, wall: Wall(wall) }, input);
            }
            let all = |raft: &mut Raft| std::iter::from_fn(|| raft.poll_output()).collect::<Vec<_>>();
            let (of_a, of_b) = (all(&mut a), all(&mut b));
            assert!(!of_a.is_empty() && of_a == of_b && a.status() == b.status());
        }
    }
}

/// Q5. Reads that wait are answered when the quorum they wait for shrinks.
#[test]
fn waiting_reads_end_when_the_quorum_shrinks() {
    let mut c = Cluster::of(2);
    let leader = c.elect();
    c.settle();
    let other = c.others(leader)[0];
    let change = c.change(leader, &[leader.get()], &[]);
    c.until("joint is committed", |c| !c.raft(leader).configuration().is_joint());
    c.crash(other);
    let read = c.read(leader);
    c.until("done", |c| c.outcome(change).is_some() && c.outcome(read).is_some());
    assert_eq!(c.witness.reads_served, 1);
}

/// Q6. Any member may read: a learner sees all that was acknowledged.
#[test]
fn a_learner_and_a_follower_read_what_was_acked() {
    let mut c = Cluster::of(3);
    let leader = c.elect();
    c.settle();
    let learner = c.add(4);
    c.change(leader, &[1, 2, 3], &[4]);
    c.settle();
    c.cut(leader, learner);
    let ticket = c.propose(leader);
    c.until("acked", |c| c.is_committed(ticket));
    c.heal();
    let (at_learner, at_follower) = (c.read(learner), c.read(c.others(leader)[0]));
    c.until("both served", |c| c.outcome(at_learner).is_some() && c.outcome(at_follower).is_some());
    assert_eq!(c.witness.reads_served, 2);
}

/// One round of heartbeats answers all reads that wait, and one request carries all reads of a follower.
#[test]
fn a_thousand_reads_share_a_round() {
    let mut c = Cluster::of(3);
    let leader = c.elect();
    c.settle();
    let follower = c.others(leader)[0];
    let (asked, beats) = (c.sent("read-index"), c.sent("heartbeat"));
    let tickets: Vec<_> = (0..1000).map(|_| c.read(follower)).collect();
    c.until("all served", |c| tickets.iter().all(|ticket| c.outcome(*ticket).is_some()));
    assert_eq!(c.witness.reads_served, 1000);
    assert!(c.sent("read-index") - asked <= 2 && c.sent("heartbeat") - beats <= 8);
}

/// A request or an answer that was lost is asked again; a node without a leader says so at once.
#[test]
fn lost_read_requests_are_repeated_and_orphans_are_told() {
    let mut c = Cluster::of(3);
    let leader = c.elect();
    c.settle();
    let follower = c.others(leader)[0];
    c.censored.insert("read-index-reply");
    let read = c.read(follower);
    c.run(200 * MS);
    assert_eq!(c.outcome(read), None);
    c.heal();
    c.until("served", |c| c.outcome(read).is_some());
    c.isolate(follower);
    let waits = c.read(follower);
    c.until("given up", |c| c.outcome(waits).is_some());
    let orphan = c.read(follower);
    assert_eq!(c.outcome(orphan), Some(Outcome::Rejected(Reject::NotLeader { leader: None })));
}

/// A sole voter answers at once: it is its own quorum.
#[test]
fn a_sole_voter_answers_at_once() {
    let mut c = Cluster::of(1);
    let one = c.elect();
    let read = c.read(one);
    assert!(c.outcome(read).is_some());
}
