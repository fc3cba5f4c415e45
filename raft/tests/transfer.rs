//! Transfer: leadership handed over on purpose (§3.10).

use quorate_raft::*;

use crate::cluster::*;

const DONE: Option<Outcome> = Some(Outcome::Committed { position: Position::ZERO });

/// T1. To a voter that is up to date, or to the best of them: within a few round trips.
#[test]
fn leadership_goes_to_the_heir() {
    let mut c = Cluster::of(3);
    let old = c.elect();
    c.settle();
    let heir = c.others(old)[0];
    let at = c.now;
    let ticket = c.transfer(old, Some(heir));
    c.until("the heir leads", |c| c.outcome(ticket).is_some());
    assert_eq!((c.leader(), c.outcome(ticket)), (Some(heir), DONE));
    assert!(c.now - at < 30 * MS, "it took {} us", c.now - at);
    c.settle();
    let ticket = c.transfer(heir, None);
    c.until("another leads", |c| c.outcome(ticket).is_some());
    assert_ne!(c.leader(), Some(heir));
    c.settle();
}

/// T1. To itself: nothing to do. To a learner, a stranger, or from a follower: refused.
#[test]
fn an_heir_must_be_a_voter() {
    let mut c = Cluster::of(3);
    let leader = c.elect();
    c.settle();
    c.add(4);
    c.change(leader, &[1, 2, 3], &[4]);
    c.settle();
    let to_self = c.transfer(leader, Some(leader));
    assert_eq!(c.outcome(to_self), DONE);
    for heir in [4, 9] {
        let ticket = c.transfer(leader, Some(node(heir)));
        assert_eq!(c.outcome(ticket), Some(Outcome::Rejected(Reject::BadHeir)));
    }
    let follower = c.others(leader)[0];
    let ticket = c.transfer(follower, None);
    assert_eq!(c.outcome(ticket), Some(Outcome::Rejected(Reject::NotLeader { leader: Some(leader) })));
    let mut alone = Cluster::of(1);
    let one = alone.elect();
    let ticket = alone.transfer(one, None);
    assert_eq!(alone.outcome(ticket), Some(Outcome::Rejected(Reject::BadHeir)));
}

/// T1. To a voter that was removed: refused, though the leader still tells it of its removal.
#[test]
fn an_heir_that_was_removed_is_refused() {
    let mut c = Cluster::of(4);
    let leader = c.elect();
    c.settle();
    let removed = c.others(leader)[0];
    c.crash(removed);
    let rest: Vec<u64> = (1..=4).filter(|n| *n != removed.get()).collect();
    let removal = c.change(leader, &rest, &[]);
    c.until("removed", |c| c.is_committed(removal));
    let ticket = c.transfer(leader, Some(removed));
    assert_eq!(c.outcome(ticket), Some(Outcome::Rejected(Reject::BadHeir)));
    let ticket = c.transfer(leader, None);
    c.until("another leads", |c| c.outcome(ticket) == DONE);
    assert!(c.leader().is_some_and(|heir| heir != leader && heir != removed));
}

/// T1, T3. To a dead voter: refused after one election timeout, and the leader serves again.
#[test]
fn a_dead_heir_costs_one_election_timeout() {
    let mut c = Cluster::of(3);
    let leader = c.elect();
    c.settle();
    let heir = c.others(leader)[0];
    c.crash(heir);
    c.propose(leader);
    let ticket = c.transfer(leader, Some(heir));
    let refused = c.propose(leader);
    assert_eq!(c.outcome(refused), Some(Outcome::Rejected(Reject::Transferring)));
    let second = c.transfer(leader, None);
    assert_eq!(c.outcome(second), Some(Outcome::Rejected(Reject::Transferring)));
    c.run(510 * MS);
    assert_eq!(c.outcome(ticket), Some(Outcome::Rejected(Reject::HeirLate { asked: false })));
    let accepted = c.propose(leader);
    c.until("it serves again", |c| c.is_committed(accepted));
}

/// T3. An heir that was asked and says nothing may still win: the refusal says so, and the leader leads on.
#[test]
fn an_heir_that_was_asked_may_still_win() {
    let mut c = Cluster::of(3);
    let leader = c.elect();
    c.settle();
    let heir = c.others(leader)[0];
    c.hold_back(leader, heir, "timeout-now");
    let ticket = c.transfer(leader, Some(heir));
    c.run(510 * MS);
    assert_eq!(c.outcome(ticket), Some(Outcome::Rejected(Reject::HeirLate { asked: true })));
    let accepted = c.propose(leader);
    c.until("it serves again", |c| c.is_committed(accepted));
    c.let_go();
    c.settle();
}

/// T1, T2. A slow heir is asked only when all is durable there.
#[test]
fn a_slow_heir_is_asked_only_when_all_is_durable_there() {
    let mut c = Cluster::of(3);
    let leader = c.elect();
    c.settle();
    let heir = c.others(leader)[0];
    c.machine(heir).fsync = Some(100 * MS);
    c.propose(leader);
    let ticket = c.transfer(leader, Some(heir));
    c.run(50 * MS);
    assert_eq!(c.sent("timeout-now"), 0);
    c.until("the heir leads", |c| c.outcome(ticket).is_some());
    assert_eq!(c.outcome(ticket), DONE);
}

/// T4. A later term met during the transfer ends it.
#[test]
fn another_winner_ends_the_transfer() {
    let mut c = Cluster::of(3);
    let old = c.elect();
    c.settle();
    let (heir, third) = (c.others(old)[0], c.others(old)[1]);
    c.isolate(old);
    let ticket = c.transfer(old, Some(heir));
    c.cut.clear();
    c.cut(old, heir);
    c.cut(heir, third);
    c.hold_back(old, third, "heartbeat");
    c.hold_back(old, third, "append");
    c.run(600 * MS);
    c.heal();
    c.let_go();
    c.settle();
    assert!(c.outcome(ticket).is_some());
}

/// T5. A configuration change in flight survives a transfer: the heir completes it.
#[test]
fn a_change_in_flight_survives_a_transfer() {
    for delay in 0..20 {
        let mut c = Cluster::of(3).seed(delay);
        let old = c.elect();
        c.settle();
        c.add(4);
        let change = c.change(old, &[1, 2, 3, 4], &[]);
        c.run(delay * MS / 4);
        let heir = c.others(old)[0];
        c.transfer(old, Some(heir));
        c.until("done", |c| c.outcome(change).is_some());
        c.settle();
        assert!(c.is_committed(change));
        assert_eq!(c.raft(heir).configuration().voters, set(&[1, 2, 3, 4]));
    }
}

/// A transfer does not lose what was accepted before it.
#[test]
fn nothing_accepted_is_lost_by_a_transfer() {
    for delay in 0..20 {
        let mut c = Cluster::of(3).seed(delay);
        let old = c.elect();
        c.settle();
        let tickets: Vec<_> = (0..20).map(|_| c.propose(old)).collect();
        c.run(delay * MS / 4);
        c.transfer(old, None);
        c.settle();
        assert!(tickets.iter().all(|ticket| c.is_committed(*ticket)));
    }
}
