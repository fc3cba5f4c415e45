//! Elections: who may lead, who may not, and what must not unseat a leader (§3.4, §3.6.1, §4.2.3, §6.2, §9.6).

use quorate_raft::*;

use crate::cluster::*;

/// E1. A sole node commits nothing before its own disk has it.
#[test]
fn a_sole_node_commits_only_after_its_fsync() {
    let mut c = Cluster::of(1);
    let one = c.elect();
    c.disk_hangs(one, true);
    let before = c.raft(one).committed();
    let ticket = c.propose(one);
    c.run(1_000 * MS);
    assert_eq!((c.outcome(ticket), c.raft(one).committed()), (None, before));
    c.disk_hangs(one, false);
    c.run(10 * MS);
    assert!(c.is_committed(ticket));
}

/// E2. One timeout, one round of pre-votes and votes, and the first entry of the term is everywhere.
#[test]
fn three_nodes_elect_in_one_round() {
    let mut c = Cluster::of(3);
    c.time_out(node(1));
    c.until("a leader", |c| c.leader() == Some(node(1)));
    assert_eq!((c.sent("pre-vote"), c.sent("vote"), c.term(node(1))), (2, 2, 2));
    c.settle();
    assert_eq!(c.terms(node(3)), [1, 2]);
}

/// E3. Candidates that split the vote try again at different times.
#[test]
fn a_split_vote_resolves() {
    for seed in 0..20 {
        let mut c = Cluster::of(4).seed(seed);
        for id in 1..=4 {
            c.time_out(node(id));
        }
        c.elect();
        c.settle();
    }
}

/// E4, E5. The log that wins is the one with the later last term, then the longer one (§3.6.1).
#[test]
fn a_candidate_with_an_older_log_is_refused() {
    for (stale, fresh) in [(&[2][..], &[2, 2][..]), (&[2, 2, 2][..], &[3][..])] {
        let mut c = Cluster::empty();
        let behind = c.with_log(1, 3, &[1, 2, 3], stale);
        let ahead = c.with_log(2, 3, &[1, 2, 3], fresh);
        c.add(3);
        c.crash(node(3));
        for _ in 0..20 {
            c.time_out(behind);
            c.run(5 * MS);
            assert_ne!(c.leader(), Some(behind), "{stale:?} won against {fresh:?}");
        }
        assert_eq!(c.elect(), ahead);
    }
}

/// E6. Crashed at any point of granting, a voter never votes twice; the witness sees every grant and every disk.
#[test]
fn one_vote_a_term_across_crashes() {
    for crash_after in 0..60 {
        let mut c = Cluster::of(3).seed(crash_after);
        c.time_out(node(1));
        c.time_out(node(2));
        for _ in 0..crash_after {
            c.step(u64::MAX / 2);
        }
        c.crash(node(3));
        c.restart(node(3));
        c.run(3 * MS);
        c.time_out(node(2));
        c.elect();
        c.settle();
    }
}

/// E7. What an older term says changes nothing, and the one who said it is told.
#[test]
fn stale_terms_change_nothing_and_teach_the_sender() {
    let mut c = Cluster::of(3);
    let old = c.elect();
    let others = c.others(old);
    for &other in &others {
        for kind in ["append", "heartbeat"] {
            c.hold_back(old, other, kind);
        }
    }
    c.propose(old);
    c.run(110 * MS);
    c.isolate(old);
    let new = loop {
        c.step(u64::MAX / 2);
        if let Some(new) = c.stable_leader().filter(|new| *new != old) {
            break new;
        }
    };
    let before: Vec<_> =
        others.iter().map(|id| (c.raft(*id).term(), c.raft(*id).last(), c.raft(*id).leader())).collect();
    c.heal();
    assert!(!c.captured.is_empty());
    c.let_go();
    let after: Vec<_> =
        others.iter().map(|id| (c.raft(*id).term(), c.raft(*id).last(), c.raft(*id).leader())).collect();
    assert_eq!(before, after);
    c.run(10 * MS);
    assert_eq!(c.term(old), c.term(new));
}

/// E8. A candidate yields to the leader of its own term.
#[test]
fn a_candidate_yields_to_the_leader_of_its_term() {
    let mut c = Cluster::of(3);
    // Both get their pre-votes, then node 3 decides.
    c.time_out(node(1));
    c.time_out(node(2));
    c.until("two candidates", |c| {
        [1, 2].iter().all(|n| c.raft(node(*n)).role() == Role::Candidate) || c.leader().is_some()
    });
    let leader = c.elect();
    c.settle();
    for id in c.others(leader) {
        assert_eq!((c.raft(id).role(), c.raft(id).leader()), (Role::Follower, Some(leader)));
    }
}

/// E9. A pre-vote granted to an earlier attempt is neither a pre-vote for a later one nor a vote.
#[test]
fn a_late_pre_vote_grant_counts_for_nothing() {
    let mut c = Cluster::of(3);
    let (one, two) = (node(1), node(2));
    c.crash(node(3));
    c.hold_back(two, one, "pre-vote-reply");
    c.time_out(one);
    c.run(10 * MS);
    assert_eq!(c.captured.len(), 1);
    let late = std::mem::take(&mut c.captured);
    c.censored.insert("pre-vote-reply");
    c.time_out(one);
    for packet in late {
        c.deliver(packet);
    }
    assert_eq!((c.raft(one).role(), c.term(one)), (Role::PreCandidate, 1));
}

/// E10. A node that was cut off keeps its term, and coming back it unseats nobody (§9.6).
#[test]
fn a_node_cut_off_keeps_its_term() {
    let mut c = Cluster::of(3);
    let leader = c.elect();
    c.settle();
    let lonely = c.others(leader)[0];
    let term = c.term(leader);
    c.isolate(lonely);
    c.run(10_000 * MS);
    assert_eq!((c.term(lonely), c.raft(lonely).role()), (term, Role::PreCandidate));
    c.heal().settle();
    assert_eq!((c.leader(), c.term(leader)), (Some(leader), term));
}

/// E11. Whoever hears a live leader grants neither pre-votes nor votes (§4.2.3).
#[test]
fn a_live_leader_cannot_be_unseated() {
    let mut c = Cluster::of(5);
    let leader = c.elect();
    c.settle();
    let (term, rebel) = (c.term(leader), c.others(leader)[0]);
    for _ in 0..50 {
        c.time_out(rebel);
        c.run(20 * MS);
        assert_eq!((c.leader(), c.term(leader)), (Some(leader), term));
    }
}

/// E11. And not a moment longer than a follower's own timer runs at least: when that may be over, so is the loyalty.
#[test]
fn loyalty_to_a_leader_ends_when_an_election_may_begin() {
    let mut c = Cluster::of(3);
    let leader = c.elect();
    c.settle();
    let (voter, candidate) = (c.others(leader)[0], c.others(leader)[1]);
    c.hold_back(candidate, voter, "pre-vote");
    c.isolate(candidate);
    c.time_out(candidate);
    let question = c.captured.pop().expect("it asks");
    c.heal();
    c.hold_back(leader, voter, "heartbeat");
    c.run(110 * MS);
    let heartbeat = c.captured.pop().expect("a sign of life");
    c.crash(leader);
    c.capture.clear();
    c.deliver(heartbeat);
    let heard_at = c.now;
    c.hold_back(voter, candidate, "pre-vote-reply");
    for (after, granted) in [(250 * MS - 1, false), (250 * MS, true)] {
        c.now = heard_at + after;
        c.deliver(question.clone());
        let answer = c.captured.pop().expect("an answer").message;
        let json = serde_json::to_value(answer).expect("a message");
        assert_eq!(json["body"]["P"]["granted"], granted, "{after} us after the leader was heard");
    }
}

/// E12, E13, E15. A node of an older term has the better log, one of a newer term the shorter: neither may wait for the
/// other for ever. A refused pre-vote teaches the newer term.
#[test]
fn an_older_term_with_the_better_log_wins_in_the_end() {
    for seed in 0..20 {
        let mut c = Cluster::empty();
        let better = c.with_log(1, 3, &[1, 2, 3], &[2, 3, 3]);
        let newer = c.with_log(2, 9, &[1, 2, 3], &[2]);
        c = c.seed(seed);
        let leader = c.elect();
        assert_eq!(leader, better, "{newer:?} has not the log");
        assert!(c.term(leader) > 9);
        c.settle();
    }
}

/// E14. Nodes that hear no leader may replace one, though another node still hears it.
#[test]
fn a_quorum_without_a_leader_elects_one_though_another_hears_the_old() {
    let mut c = Cluster::of(5);
    let old = c.elect();
    c.settle();
    let others = c.others(old);
    for &other in &others[1..] {
        c.cut(old, other);
    }
    c.until("another leader", |c| c.leader() != Some(old) && c.stable_leader().is_some());
    c.heal().settle();
}

/// E16. Granting a pre-vote does not put off one's own election.
#[test]
fn granting_a_pre_vote_moves_no_timer() {
    let mut c = Cluster::of(3);
    let due = c.raft(node(2)).poll_timeout();
    c.hold_back(node(2), node(1), "pre-vote-reply");
    c.hold_back(node(3), node(1), "pre-vote-reply");
    c.time_out(node(1));
    c.run(10 * MS);
    assert_eq!(c.captured.len(), 2);
    assert_eq!(c.raft(node(2)).poll_timeout(), due);
}

/// E17. A leader that restarted can win at once the pre-vote of a peer that still takes it for the leader.
#[test]
fn a_restarted_leader_is_not_refused_for_its_own_sake() {
    let mut c = Cluster::of(3);
    let leader = c.elect();
    c.settle();
    let others = c.others(leader);
    c.crash(others[0]);
    c.crash(leader);
    c.restart(leader);
    c.time_out(leader);
    c.run(30 * MS);
    assert_eq!(c.leader(), Some(leader));
}

/// E18. A leader without its quorum refuses new proposals, then steps down; what it had accepted ends truly (§6.2).
#[test]
fn a_leader_without_a_quorum_refuses_then_steps_down() {
    let mut c = Cluster::of(3);
    let old = c.elect();
    c.settle();
    c.isolate(old);
    let lonely = c.propose(old);
    c.run(350 * MS);
    assert!(c.raft(old).is_leader());
    let refused = c.propose(old);
    assert_eq!(c.outcome(refused), Some(Outcome::Rejected(Reject::NoQuorum)));
    c.run(300 * MS);
    assert!(!c.raft(old).is_leader());
    assert_eq!(c.outcome(lonely), None, "nobody can know yet");
    let new = c.elect();
    let shared = c.propose(new);
    c.heal().settle();
    assert_eq!(c.outcome(lonely), Some(Outcome::Lost));
    assert_eq!(c.committed(old), [shared]);
}

/// E19. Told that the link to the leader is gone, followers do not wait for the timeout; told wrongly, nothing changes.
#[test]
fn a_lost_link_is_a_hint_and_no_more() {
    let mut c = Cluster::of(3);
    let leader = c.elect();
    c.settle();
    let (term, others) = (c.term(leader), c.others(leader));
    for _ in 0..10 {
        c.input(others[0], Input::PeerDown { peer: leader });
        c.run(100 * MS);
    }
    assert_eq!((c.leader(), c.term(leader)), (Some(leader), term), "the leader lives, and the other one hears it");
    c.crash(leader);
    let crashed_at = c.now;
    for &other in &others {
        c.input(other, Input::PeerDown { peer: leader });
    }
    c.until("a leader", |c| c.leader().is_some());
    assert!(c.now - crashed_at < 100 * MS, "it took {} us", c.now - crashed_at);
}

/// A reluctant node lets any other one lead, also when it is the first to lose the leader; but where only it can win, it
/// stands in the end.
#[test]
fn a_reluctant_node_stands_last() {
    for seed in 0..20 {
        let mut c = Cluster::of(3).seed(seed);
        let leader = c.elect();
        c.settle();
        let (unfit, fit) = (c.others(leader)[0], c.others(leader)[1]);
        c.input(unfit, Input::Reluctant(true));
        c.crash(leader);
        if seed % 2 == 0 {
            c.input(unfit, Input::PeerDown { peer: leader });
        }
        c.until("a leader", |c| c.leader().is_some());
        assert_eq!(c.leader(), Some(fit), "seed {seed}");
        // The former leader lacks a record that is committed: only the unfit one can win now.
        c.restart(leader);
        c.settle();
        c.isolate(leader);
        let committed = c.propose(fit);
        c.until("committed", |c| c.is_committed(committed));
        c.crash(fit);
        c.heal();
        c.until("the unfit one leads after all", |c| c.leader() == Some(unfit));
        c.input(unfit, Input::Reluctant(false));
        c.settle();
    }
}

/// What a node is told of its own fitness moves its timer when it is news, and only while it waits for a leader: else
/// words alone could keep it from standing.
#[test]
fn words_about_fitness_move_a_timer_once() {
    let mut c = Cluster::of(3);
    let due = |c: &Cluster, n: u64| c.raft(node(n)).poll_timeout();
    let before = due(&c, 1).expect("a voter waits");
    c.input(node(1), Input::Reluctant(false));
    assert_eq!(due(&c, 1), Some(before), "it was not reluctant before");
    c.input(node(1), Input::Reluctant(true));
    let later = due(&c, 1).expect("it still waits");
    let (min, max) = (c.options.election_timeout_min, c.options.election_timeout_max);
    assert!(later >= Mono(c.now).after(min + max * 2) && later <= Mono(c.now).after(max * 3), "{later:?}");
    c.run(30 * MS);
    c.input(node(1), Input::Reluctant(true));
    assert_eq!(due(&c, 1), Some(later), "it was told before");
    // While it asks or stands, its next attempt is settled.
    c.isolate(node(2));
    c.time_out(node(2));
    let attempt = due(&c, 2);
    c.input(node(2), Input::Reluctant(true));
    assert_eq!((c.raft(node(2)).role(), due(&c, 2)), (Role::PreCandidate, attempt));
    // Who waits for nothing begins nothing.
    c.add(9);
    c.input(node(9), Input::Reluctant(true));
    assert_eq!(due(&c, 9), None);
}

/// E20. Partial partitions: a hub that alone hears a quorum, a leader that a third node cannot hear, and a chain.
#[test]
fn partial_partitions_still_have_a_leader() {
    for seed in 0..10 {
        // Quorum loss: only node 1 hears all others.
        let mut c = Cluster::of(5).seed(seed);
        c.elect();
        for a in 2..=5 {
            for b in a + 1..=5 {
                c.cut(node(a), node(b));
            }
        }
        c.run(2_000 * MS);
        assert_eq!(c.elect(), node(1));
        // Chain: 1 - 2 - 3, wherever the leader was.
        let mut c = Cluster::of(3).seed(seed);
        c.elect();
        c.cut(node(1), node(3));
        c.run(2_000 * MS);
        let leader = c.elect();
        let term = c.term(leader);
        c.run(5_000 * MS);
        assert!(c.term(leader) <= term + 1, "leaders come and go: term {} after {term}", c.term(leader));
        // Constrained: the old leader hears one node only, and that one hears all.
        let mut c = Cluster::of(5).seed(seed);
        let old = c.elect();
        let others = c.others(old);
        for &other in &others[1..] {
            c.cut(old, other);
        }
        c.run(3_000 * MS);
        assert_ne!(c.elect(), old);
    }
}

/// E21. Links that carry one way only do not unseat a leader, nor keep a leader that hears nobody.
#[test]
fn one_way_links_do_no_lasting_harm() {
    for seed in 0..10 {
        // A follower that hears and cannot speak.
        let mut c = Cluster::of(3).seed(seed);
        let leader = c.elect();
        let mute = c.others(leader)[0];
        let term = c.term(leader);
        for other in c.others(mute) {
            c.cut.insert((mute, other));
        }
        c.run(5_000 * MS);
        assert_eq!((c.stable_leader(), c.term(leader)), (Some(leader), term));
        // A follower that speaks and cannot hear.
        c.heal();
        for other in c.others(mute) {
            c.cut.insert((other, mute));
        }
        c.run(5_000 * MS);
        assert_eq!((c.stable_leader(), c.term(leader)), (Some(leader), term));
        // A leader that speaks and cannot hear steps down, and the others go on.
        c.heal().settle();
        for other in c.others(leader) {
            c.cut.insert((other, leader));
        }
        c.run(2_000 * MS);
        assert_ne!(c.elect(), leader);
    }
}

/// E22. A vote granted to an earlier life of the candidate, for a longer log, does not elect its later life in the same
/// term (B43): votes are asked for with nothing unsynced, and answers name the life they answer.
#[test]
fn a_grant_to_an_earlier_life_elects_nobody() {
    let mut c = Cluster::of(3);
    let (one, two) = (node(1), node(2));
    c.crash(node(3));
    c.hold_back(two, one, "vote-reply");
    c.time_out(one);
    c.until("a vote granted", |c| !c.captured.is_empty());
    c.crash(one);
    c.restart(one);
    c.censored.insert("append");
    let late = std::mem::take(&mut c.captured);
    for packet in late {
        c.deliver(packet);
    }
    c.run(5 * MS);
    assert!(!c.raft(one).is_leader());
    assert_eq!(c.raft(one).role(), Role::Follower);
    // And no vote request leaves before its own write is durable.
    let mut c = Cluster::of(3);
    c.disk_hangs(one, true);
    c.time_out(one);
    c.run(100 * MS);
    assert_eq!((c.raft(one).role(), c.sent("vote")), (Role::Candidate, 0));
}
