//! Membership: learners, joint changes, removal and return (§4).

use quorate_raft::*;

use crate::cluster::*;

fn rejected(why: Reject) -> Option<Outcome> {
    Some(Outcome::Rejected(why))
}

/// M1. A learner catches up under load and is promoted; commits never pause.
#[test]
fn a_learner_catches_up_under_load_and_is_promoted() {
    let mut c = Cluster::of(3);
    let leader = c.elect();
    for _ in 0..200 {
        c.propose(leader);
    }
    c.settle();
    c.add(4);
    let learn = c.change(leader, &[1, 2, 3], &[4]);
    for step in 0..100 {
        let ticket = c.propose(leader);
        c.run(10 * MS);
        assert!(c.is_committed(ticket), "a pause at step {step}");
        if step == 50 {
            assert!(c.is_committed(learn));
            c.change(leader, &[1, 2, 3, 4], &[]);
        }
    }
    c.settle();
    assert_eq!(c.raft(node(4)).configuration().voters, set(&[1, 2, 3, 4]));
}

/// M2, M3, M12. One change at a time, none before the own-term commit, none against a configuration not seen.
#[test]
fn changes_are_one_at_a_time_and_compare_and_set() {
    let mut c = Cluster::of(3);
    c.add(4);
    let old = c.elect();
    c.settle();
    c.crash(old);
    c.censored.insert("append-reply");
    c.until("another leads", |c| c.leader().is_some());
    let leader = c.leader().expect("just seen");
    assert!(c.raft(leader).committed() >= c.raft(leader).configuration_index());
    let early = c.change(leader, &[1, 2, 3], &[4]);
    assert_eq!(c.outcome(early), rejected(Reject::ChangeInProgress));
    c.restart(old);
    c.heal().settle();
    let leader = c.elect();
    let first = c.change(leader, &[1, 2, 3, 4], &[]);
    let second = c.change(leader, &[1, 2], &[]);
    assert_eq!(c.outcome(second), rejected(Reject::ChangeInProgress));
    c.settle();
    assert!(c.is_committed(first));
    let stale = c.change_expecting(leader, LogIndex(1), &[1, 2, 3], &[]);
    assert_eq!(c.outcome(stale), rejected(Reject::ConfigurationChanged));
    let nobody = c.change(leader, &[], &[4]);
    assert_eq!(c.outcome(nobody), rejected(Reject::IllegalConfiguration));
    let both = c.change(leader, &[1, 2, 3, 4], &[4]);
    assert_eq!(c.outcome(both), rejected(Reject::IllegalConfiguration));
    let other = c.others(leader)[0];
    let follower = c.change(other, &[1], &[]);
    assert_eq!(c.outcome(follower), rejected(Reject::NotLeader { leader: Some(leader) }));
}

/// M4. In a joint phase both majorities are needed: for commits, and for elections.
#[test]
fn a_joint_phase_needs_both_majorities() {
    let mut c = Cluster::of(3);
    let leader = c.elect();
    c.settle();
    for n in 4..=6 {
        c.add(n);
    }
    let learn = c.change(leader, &[1, 2, 3], &[4, 5, 6]);
    c.settle();
    assert!(c.is_committed(learn));
    let new_voters = [node(4), node(5), node(6)];
    for &id in &new_voters {
        c.cut(leader, id);
    }
    let change = c.change(leader, &[4, 5, 6], &[]);
    let ticket = c.propose(leader);
    c.run(200 * MS);
    assert_eq!((c.outcome(change), c.outcome(ticket)), (None, None), "the old majority alone decides nothing");
    c.heal().settle();
    assert!(c.is_committed(change) && c.is_committed(ticket));
}

/// M4b. And the new majority alone neither commits, nor elects, nor keeps a leader.
#[test]
fn the_new_majority_alone_decides_nothing() {
    let mut c = Cluster::of(3);
    let leader = c.elect();
    c.settle();
    let old_voters = c.others(leader);
    for n in 4..=6 {
        c.add(n);
    }
    c.change(leader, &[1, 2, 3], &[4, 5, 6]);
    c.settle();
    for &id in &old_voters {
        c.crash(id);
    }
    let change = c.change(leader, &[4, 5, 6], &[]);
    let read = c.read(leader);
    c.run(2_000 * MS);
    assert_eq!(c.outcome(change), None);
    assert_eq!(c.witness.reads_served, 0, "{:?}", c.outcome(read));
    assert!(c.leader().is_none());
    for &id in &old_voters {
        c.restart(id);
    }
    c.settle();
}

/// M5, M6. A new leader leaves the joint phase that it found; it is left exactly once, whatever else is proposed.
#[test]
fn a_joint_phase_is_left_exactly_once_by_whoever_leads() {
    for crash_after in 0..30 {
        let mut c = Cluster::of(3).seed(crash_after);
        let leader = c.elect();
        c.settle();
        c.add(4);
        c.change(leader, &[1, 2, 3], &[4]);
        c.settle();
        let change = c.change(leader, &[1, 2, 4], &[]);
        for _ in 0..crash_after {
            c.propose(leader);
            c.step(u64::MAX / 2);
        }
        c.crash(leader);
        c.elect();
        c.restart(leader);
        c.settle();
        let leader = c.elect();
        let (now, log) = (c.raft(leader).configuration().clone(), c.machines[&leader].log.clone());
        let joints = log.iter().filter(|e| matches!(&e.kind, EntryKind::Configuration(c) if c.is_joint())).count();
        let finals = log.iter().filter(|e| matches!(&e.kind, EntryKind::Configuration(c) if !c.is_joint())).count();
        // The founding one, the learner's, and one for each joint phase.
        assert_eq!(finals, 2 + joints);
        assert!(joints == 0 || now.voters == set(&[1, 2, 4]), "{:?}", c.outcome(change));
    }
}

/// M8. A leader that removes itself does not count itself, finishes what it accepted, hands over, and stands no more.
#[test]
fn a_leader_removes_itself_and_hands_over() {
    let mut c = Cluster::of(3);
    let old = c.elect();
    c.settle();
    let rest: Vec<u64> = c.others(old).iter().map(|id| id.get()).collect();
    let before: Vec<_> = (0..5).map(|_| c.propose(old)).collect();
    let change = c.change(old, &rest, &[]);
    let at = c.now;
    c.until("removed", |c| c.outcome(change).is_some());
    c.until("another leads", |c| c.leader().is_some_and(|new| new != old));
    assert!(c.now - at < 60 * MS, "nobody led for too long: {} us", c.now - at);
    c.settle();
    assert!(c.is_committed(change) && before.iter().all(|ticket| c.is_committed(*ticket)));
    let new = c.elect();
    let term = c.term(new);
    c.run(3_000 * MS);
    assert!(!c.raft(old).is_leader() && c.raft(old).role() == Role::Follower);
    assert_eq!((c.leader(), c.term(new)), (Some(new), term));
}

/// M8b. A leader that wrote itself out, and was cut off before anyone else heard, may stand once more: its vote, or its
/// log, may be needed until that entry is committed (§4.2.2). Found by seed 9857.
#[test]
fn who_wrote_itself_out_may_stand_until_that_is_committed() {
    let mut c = Cluster::of(2);
    let leader = c.elect();
    c.settle();
    let other = c.others(leader)[0];
    c.add(3);
    c.change(leader, &[1, 2], &[3]);
    c.settle();
    c.hold_back(leader, other, "append");
    c.hold_back(leader, node(3), "append");
    let change = c.change(leader, &[3], &[leader.get()]);
    // The joint entry reaches both; the final one stays with the leader.
    let joint = c.raft(leader).last();
    c.let_go();
    c.until("joint everywhere", |c| [other, node(3)].iter().all(|id| c.raft(*id).durable() == joint.index));
    c.censored.insert("append");
    c.until("final at the leader", |c| {
        !c.raft(leader).configuration().is_joint() && c.raft(leader).durable() > joint.index
    });
    c.crash(leader);
    c.run(1_000 * MS);
    c.heal();
    c.restart(leader);
    c.settle();
    assert_eq!(c.raft(node(3)).configuration().voters, set(&[3]));
    assert_eq!(c.outcome(change), None, "who asked has crashed");
}

/// M9. A removed node learns of it; started again, it disturbs nobody.
#[test]
fn a_removed_node_learns_of_it_and_disturbs_nobody() {
    let mut c = Cluster::of(4);
    let leader = c.elect();
    c.settle();
    let removed = c.others(leader)[0];
    let rest: Vec<u64> = (1..=4).filter(|n| *n != removed.get()).collect();
    c.change(leader, &rest, &[]);
    c.settle();
    c.run(100 * MS);
    assert!(!c.raft(removed).configuration().is_member(removed));
    assert!(c.raft(removed).committed() >= c.raft(removed).configuration_index(), "it knows that it is final");
    let term = c.term(leader);
    c.crash(removed);
    c.restart(removed);
    c.run(5_000 * MS);
    assert_eq!((c.leader(), c.term(leader)), (Some(leader), term));
}

/// M9b. A node that was away when it was removed does not disturb either, though it still believes to be a voter.
#[test]
fn a_node_removed_while_away_disturbs_nobody() {
    let mut c = Cluster::of(4);
    let leader = c.elect();
    c.settle();
    let removed = c.others(leader)[0];
    c.isolate(removed);
    let rest: Vec<u64> = (1..=4).filter(|n| *n != removed.get()).collect();
    let change = c.change(leader, &rest, &[]);
    c.until("removed", |c| c.is_committed(change));
    c.run(1_000 * MS);
    let term = c.term(leader);
    c.heal();
    c.run(5_000 * MS);
    assert_eq!((c.leader(), c.term(leader)), (Some(leader), term));
}

/// M10. A learner that others know as a voter votes: the candidate's log knows better.
#[test]
fn a_learner_that_is_a_voter_elsewhere_votes() {
    let mut c = Cluster::of(1);
    let one = c.elect();
    c.add(2);
    c.add(3);
    c.change(one, &[1], &[2, 3]);
    c.settle();
    c.change(one, &[1, 2, 3], &[]);
    c.until("joint is committed", |c| c.raft(one).committed() >= c.raft(one).configuration_index());
    c.settle();
    // Node 3 lost its tail: its log ends before it became a voter.
    c.crash(node(3));
    c.machine(node(3)).disk.log.truncate(3);
    c.machine(node(3)).log.truncate(3);
    c.crash(one);
    c.restart(node(3));
    assert!(!c.raft(node(3)).configuration().is_voter(node(3)));
    assert_eq!(c.elect(), node(2));
}

/// M11. An even number of voters, and the leader dies right after it committed a removal: the others find a leader.
#[test]
fn an_even_cluster_survives_its_leader_right_after_a_change() {
    for crash_after in 0..40 {
        let mut c = Cluster::of(4).seed(crash_after);
        let leader = c.elect();
        c.settle();
        let victim = c.others(leader)[0];
        c.crash(victim);
        let rest: Vec<u64> = (1..=4).filter(|n| *n != victim.get()).collect();
        c.change(leader, &rest, &[]);
        for _ in 0..crash_after {
            c.step(u64::MAX / 2);
        }
        let committed = c.raft(leader).committed() >= c.raft(leader).configuration_index();
        let is_final = !c.raft(leader).configuration().is_joint();
        c.crash(leader);
        if committed && is_final {
            c.elect();
        }
        c.restart(leader);
        c.restart(victim);
        c.elect();
    }
}

/// M13, R11. Removed and added again: answers from the earlier membership, however late, are not counted.
#[test]
fn an_answer_from_an_earlier_membership_is_not_counted() {
    let mut c = Cluster::of(3);
    let leader = c.elect();
    c.settle();
    let learner = c.add(4);
    c.change(leader, &[1, 2, 3], &[4]);
    c.settle();
    c.hold_back(learner, leader, "append-reply");
    for _ in 0..5 {
        c.propose(leader);
    }
    c.run(100 * MS);
    let late: Vec<_> = c.captured.drain(..).collect();
    assert!(!late.is_empty());
    let removal = c.change(leader, &[1, 2, 3], &[]);
    c.until("removed", |c| c.is_committed(removal));
    let again = c.change(leader, &[1, 2, 3], &[4]);
    c.until("added again", |c| c.is_committed(again));
    // All answers of the learner are kept back, so nothing may be known of it but by the late ones.
    for packet in late {
        c.deliver(packet);
    }
    assert_eq!(c.raft(leader).status().peers[&learner].matched, LogIndex::ZERO);
    c.let_go();
    c.settle();
}

/// M16. A learner that never answers harms nobody, and can be dropped again.
#[test]
fn a_dead_learner_harms_nobody() {
    let mut c = Cluster::of(3);
    let leader = c.elect();
    c.settle();
    let learner = c.add(4);
    c.crash(learner);
    let learn = c.change(leader, &[1, 2, 3], &[4]);
    c.until("in the configuration", |c| c.is_committed(learn));
    c.run(2_000 * MS);
    let ticket = c.propose(leader);
    c.until("committed", |c| c.is_committed(ticket));
    assert_eq!(c.raft(leader).status().peers[&learner].last_heard, None);
    let drop = c.change(leader, &[1, 2, 3], &[]);
    c.until("dropped", |c| c.is_committed(drop));
}

/// M17. A stranger of a later term unseats nobody; only a member's term counts.
#[test]
fn a_stranger_of_a_later_term_unseats_nobody() {
    let mut c = Cluster::of(3);
    let leader = c.elect();
    c.settle();
    let stranger = c.with_log(9, 50, &[1, 2, 3, 9], &[40, 40]);
    let term = c.term(leader);
    c.run(5_000 * MS);
    assert_eq!((c.leader(), c.term(leader)), (Some(leader), term));
    assert_eq!(c.term(stranger), 50);
}

/// M18. Two clusters whose members hear each other: everything that one says in its elections, changes and appends reaches
/// each member of the other, which has a later or an earlier term, and nothing merges. (Beneath, a link is refused to who is
/// of another log: `two_foundings_under_one_authority_name_both_histories`.)
#[test]
fn two_clusters_that_hear_each_other_stay_two() {
    for elections in [0, 3] {
        let mut foreign = Cluster::of(3).seed(elections);
        foreign.tap = Some(Vec::new());
        for _ in 0..=elections {
            let leader = foreign.elect();
            foreign.propose(leader);
            foreign.change(leader, &[1, 2, 3], &[9]);
            foreign.settle();
            foreign.transfer(leader, None);
            foreign.run(100 * MS);
        }
        let said = foreign.tap.take().expect("it was on");
        let kinds: std::collections::BTreeSet<_> = said.iter().map(|packet| packet.message.kind()).collect();
        assert!(kinds.len() >= 8, "too little was said: {kinds:?}");
        let mut c = Cluster::empty().seed(7);
        for n in 4..=6 {
            c.with_log(n, 2, &[4, 5, 6], &[2]);
        }
        let leader = c.elect();
        c.settle();
        let before = (c.term(leader), c.raft(leader).last(), c.raft(leader).configuration().clone());
        for (i, packet) in said.into_iter().enumerate() {
            for to in 4..=6 {
                let input = Input::Message {
                    from: packet.from,
                    message: packet.message.clone(),
                    entries: packet.entries.clone(),
                };
                c.input(node(to), input);
            }
            if i % 20 == 0 {
                c.run(10 * MS);
            }
        }
        c.settle();
        assert_eq!((c.term(leader), c.raft(leader).last(), c.raft(leader).configuration().clone()), before);
        assert_eq!(c.leader(), Some(leader));
    }
}

/// All voters are replaced in one change, the leader among them (§4.3).
#[test]
fn all_voters_are_replaced_in_one_change() {
    let mut c = Cluster::of(3);
    let leader = c.elect();
    let ticket = c.propose(leader);
    c.settle();
    for n in 4..=6 {
        c.add(n);
    }
    c.change(leader, &[1, 2, 3], &[4, 5, 6]);
    c.settle();
    let change = c.change(leader, &[4, 5, 6], &[]);
    c.until("done", |c| c.outcome(change).is_some());
    for n in 1..=3 {
        c.crash(node(n));
    }
    c.settle();
    assert_eq!(c.committed(node(5)), [ticket]);
}

/// Voters swap places with learners, and a cluster shrinks to one and grows again.
#[test]
fn a_cluster_shrinks_to_one_and_grows_again() {
    let mut c = Cluster::of(3);
    let leader = c.elect();
    c.settle();
    let one = leader.get();
    let rest: Vec<u64> = c.others(leader).iter().map(|id| id.get()).collect();
    for (voters, learners) in [(vec![one], rest.clone()), (vec![one, rest[0]], vec![rest[1]]), (vec![rest[0]], vec![])]
    {
        let at = c.elect();
        let ticket = c.change(at, &voters, &learners);
        c.until("changed", |c| c.outcome(ticket).is_some());
        c.settle();
        assert!(c.is_committed(ticket));
    }
    assert_eq!(c.elect().get(), rest[0]);
}
