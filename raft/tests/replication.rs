//! Replication: what is acknowledged is durable, what is committed stays, and what was lost flows again (§3.5, §3.6).

use quorate_raft::*;

use crate::cluster::*;
use crate::machine::Disk;

/// R1, Figure 3.6: logs that lack, have more, or have other entries are found to part in one round trip each.
#[test]
fn seven_diverged_logs_converge_in_one_round_trip_each() {
    let mut c = Cluster::empty();
    let voters = [1, 2, 3, 4, 5, 6, 7];
    let leader = c.with_log(1, 6, &voters, &[1, 1, 4, 4, 5, 5, 6, 6, 6]);
    let logs: [&[u64]; 6] = [
        &[1, 1, 4, 4, 5, 5, 6, 6],
        &[1, 1],
        &[1, 1, 4, 4, 5, 5, 6, 6, 6, 6],
        &[1, 1, 4, 4, 5, 5, 6, 6, 6],
        &[1, 1, 4, 4, 4, 4],
        &[1, 1, 2, 2, 2, 3, 3, 3, 3, 3],
    ];
    for (n, log) in (2..).zip(logs) {
        c.with_log(n, 7, &voters, log);
    }
    c.disk_hangs(node(4), true);
    c.time_out(leader);
    c.run(20 * MS);
    c.time_out(leader);
    c.until("a leader", |c| c.leader() == Some(leader));
    c.disk_hangs(node(4), false);
    let before = c.sent("conflict");
    c.settle();
    assert!(c.sent("conflict") - before <= 6, "{} conflicts", c.sent("conflict") - before);
    for n in voters {
        assert_eq!(c.terms(node(n)), c.terms(leader));
    }
}

/// R2, Figure 3.7 (§3.6.2): an entry of an older term is not committed by counting, even on a majority.
#[test]
fn an_old_term_is_never_committed_by_counting() {
    let mut c = Cluster::empty();
    let voters = [1, 2, 3, 4, 5];
    for n in 1..=2 {
        c.with_log(n, 3, &voters, &[2]);
    }
    for n in 3..=4 {
        c.with_log(n, 3, &voters, &[]);
    }
    c.with_log(5, 3, &voters, &[3]);
    c.crash(node(4));
    c.crash(node(5));
    // Node 1 leads term 4 and copies its entry of term 2 to node 3, one entry at a time.
    c.options.append_entries_max = 1;
    let one = node(1);
    c.crash(one);
    c.restart(one);
    c.time_out(one);
    c.until("node 1 leads", |c| c.leader() == Some(one));
    c.until("the old entry on a majority", |c| c.raft(one).status().peers[&node(3)].matched == LogIndex(2));
    assert_eq!(c.terms(one), [1, 2, 4]);
    assert!(c.raft(one).committed() < LogIndex(2), "committed by counting");
    // It dies. Node 5, whose entry is of a later term, may now lead and overwrite what is on a majority.
    for n in 1..=3 {
        c.crash(node(n));
    }
    for n in 3..=5 {
        c.restart(node(n));
    }
    assert_eq!(c.elect(), node(5));
    assert_eq!(c.terms(node(3))[..2], [1, 3]);
    c.restart(one);
    c.restart(node(2));
    c.settle();
}

/// R2b, Figure 3.7: overwritten here is not lost for ever. An entry that its leader saw overwritten may be committed by
/// another that kept it; so a proposal is called lost only when a commit excludes it.
#[test]
fn an_overwritten_entry_may_still_be_committed_so_it_is_not_called_lost() {
    let mut c = Cluster::of(5);
    let old = c.elect();
    c.settle();
    let others = c.others(old);
    let (keeper, rest) = (others[0], &others[1..]);
    // The old leader's entry reaches the keeper only.
    for &id in rest {
        c.cut(old, id);
    }
    let ticket = c.propose(old);
    c.until("the keeper has it", |c| c.raft(keeper).durable() == c.raft(old).last().index);
    // The rest elect a usurper, whose first entry overwrites it at the old leader, and reaches nobody else.
    c.isolate(keeper);
    c.isolate(old);
    c.until("a usurper", |c| c.leader().is_some_and(|id| rest.contains(&id)));
    let usurper = c.leader().expect("just seen");
    c.isolate(usurper);
    let own_entry = c.raft(usurper).last();
    c.cut.remove(&(usurper, old));
    c.cut.remove(&(old, usurper));
    c.until("overwritten at the old leader", |c| c.raft(old).last() == own_entry);
    assert_eq!(c.outcome(ticket), None, "nobody can know yet");
    // The usurper dies; the keeper is elected by the rest and commits the entry.
    c.crash(usurper);
    c.heal();
    c.isolate(old);
    c.until("the keeper leads", |c| c.stable_leader() == Some(keeper));
    c.heal();
    c.restart(usurper);
    c.settle();
    assert!(c.is_committed(ticket), "{:?}", c.outcome(ticket));
}

/// R3. A follower commits no further than its log is known to equal the leader's, however far the leader has.
#[test]
fn a_diverged_tail_is_not_committed_by_a_large_commit_index() {
    let mut c = Cluster::empty();
    let voters = [1, 2, 3];
    let good = c.with_log(1, 5, &voters, &[2, 4, 4, 4, 4]);
    c.with_log(2, 5, &voters, &[2, 4, 4, 4, 4]);
    let bad = c.with_log(3, 5, &voters, &[2, 3, 3, 3, 3, 3, 3]);
    c.isolate(bad);
    c.time_out(good);
    c.until("all is committed", |c| c.leader() == Some(good) && c.raft(good).committed() == c.raft(good).last().index);
    c.censored.insert("append");
    c.cut.clear();
    c.run(300 * MS);
    assert!(c.raft(bad).committed() <= LogIndex(2), "committed {}", c.raft(bad).committed());
    c.heal().settle();
}

/// R4. A duplicate or late append removes nothing that was acknowledged since.
#[test]
fn a_late_append_never_truncates() {
    let mut c = Cluster::of(3);
    let leader = c.elect();
    let follower = c.others(leader)[0];
    c.settle();
    c.propose(leader);
    c.hold_back(leader, follower, "append");
    c.propose(leader);
    let late: Vec<_> = c.captured.clone();
    c.let_go();
    for _ in 0..10 {
        c.propose(leader);
    }
    c.settle();
    let before = c.raft(follower).last();
    let truncations = c.truncations;
    for packet in late {
        c.deliver(packet);
    }
    assert_eq!((c.raft(follower).last(), c.truncations), (before, truncations));
}

/// R6. An append from below the commit index is acknowledged at what is durable, not refused.
#[test]
fn an_append_below_the_commit_index_is_acknowledged() {
    let mut c = Cluster::of(3);
    let leader = c.elect();
    let follower = c.others(leader)[0];
    c.settle();
    c.hold_back(leader, follower, "append");
    c.propose(leader);
    c.run(MS);
    let late = c.captured.clone();
    c.let_go();
    c.settle();
    let (acks, conflicts) = (c.sent("append-reply"), c.sent("conflict"));
    c.deliver(late[0].clone());
    assert_eq!((c.sent("append-reply"), c.sent("conflict")), (acks + 1, conflicts));
}

/// R7. A leader whose log contradicts what is committed here is refused; a second one stops this node. Nothing is
/// truncated.
#[test]
fn two_leaders_against_what_is_committed_halt_one_does_not() {
    let mut c = Cluster::of(3);
    let leader = c.elect();
    let victim = c.others(leader)[0];
    c.propose(leader);
    c.settle();
    // The two others are replaced by impostors with another history: a disaster no Raft can mend.
    let mut other = c.machines[&victim].disk.clone();
    let last = other.log.len();
    other.log[last - 1].term = Term(7);
    other.hard_state = HardState { term: Term(8), vote: None };
    let kept = c.terms(victim);
    for id in c.others(victim) {
        c.crash(id);
        c.machine(id).disk = other.clone();
        c.machine(id).log = other.log.clone();
    }
    c.witness = Default::default();
    for id in c.others(victim) {
        c.restart(id);
    }
    // The witness would rightly protest at what these do; only the victim matters here.
    let impostors = c.others(victim);
    c.time_out(impostors[0]);
    let deadline = c.now + 5_000 * MS;
    while c.machines[&victim].alarms.is_empty() && c.step(deadline) {}
    assert_eq!(c.machines[&victim].alarms.len(), 1, "one alarm a term");
    c.run(2_000 * MS);
    assert_eq!(c.machines[&victim].halted, None, "one member's word may be a lie");
    assert!(c.raft(victim).status().contradicted_by.is_some());
    assert_eq!(c.terms(victim), kept);
    let first = c.raft(victim).status().contradicted_by;
    // Now the other one leads: it needs the victim's own vote for that.
    let second = impostors.into_iter().find(|id| Some(*id) != first).expect("two of them");
    c.crash(first.expect("just seen"));
    let deadline = c.now + 10_000 * MS;
    while c.machines[&victim].halted.is_none() && c.step(deadline) {}
    assert!(matches!(c.machines[&victim].halted, Some(Halt::ConflictBelowCommit { .. })), "{second:?} says the same");
    assert_eq!(c.terms(victim), kept);
    let refused = c.propose(victim);
    assert_eq!(c.outcome(refused), Some(Outcome::Rejected(Reject::Halted)));
}

/// R10. A refusal that comes late, of something accepted since, sets nothing back.
#[test]
fn a_late_conflict_is_ignored() {
    let mut c = Cluster::of(3);
    let leader = c.elect();
    c.settle();
    let follower = c.others(leader)[0];
    c.cut(leader, follower);
    for _ in 0..5 {
        c.propose(leader);
    }
    c.run(20 * MS);
    c.heal();
    c.hold_back(follower, leader, "conflict");
    // A lost window is taken for one on its way for as long as the shortest election timeout.
    c.run(400 * MS);
    assert!(!c.captured.is_empty());
    let late = c.captured.clone();
    c.let_go();
    c.settle();
    let last = c.raft(leader).last().index;
    c.until("acknowledged", |c| c.raft(leader).status().peers[&follower].matched == last);
    let matched = last;
    let appends = c.sent("append");
    for packet in late {
        c.deliver(packet);
    }
    assert_eq!(c.raft(leader).status().peers[&follower].matched, matched);
    assert!(c.raft(leader).status().peers[&follower].replicating);
    assert_eq!(c.sent("append"), appends);
}

/// Large batches travel on a connection of their own: a heartbeat that overtakes one does not have it sent again.
#[test]
fn a_heartbeat_that_overtakes_a_batch_resends_nothing() {
    let mut c = Cluster::of(3);
    let leader = c.elect();
    c.settle();
    let follower = c.others(leader)[0];
    c.hold_back(leader, follower, "append");
    c.propose(leader);
    c.run(120 * MS);
    let late = c.captured.clone();
    assert_eq!(late.len(), 1, "the batch, once, though heartbeats passed it");
    c.let_go();
    // Those heartbeats could not tell of a commit beyond what they reached: the news follows the acknowledgement.
    let beats = c.sent("heartbeat");
    for packet in late {
        c.deliver(packet);
    }
    c.until("told", |c| c.raft(follower).committed() == c.raft(leader).last().index);
    assert!(c.sent("heartbeat") <= beats + 1, "it had to wait for the next round of heartbeats");
    c.settle();
    assert_eq!(c.raft(follower).last(), c.raft(leader).last());
}

/// A disk that was rolled back, or lied about a sync, has lost what it acknowledged: what an earlier life said does not
/// count, the leader says so, and the log is made whole again.
#[test]
fn a_peer_that_lost_what_it_acknowledged_is_named_and_repaired() {
    let mut c = Cluster::of(3);
    let leader = c.elect();
    c.settle();
    let victim = c.others(leader)[0];
    let kept = c.machines[&victim].disk.clone();
    for _ in 0..5 {
        c.propose(leader);
    }
    c.settle();
    c.crash(victim);
    c.machine(victim).disk.log = kept.log.clone();
    c.machine(victim).log = kept.log;
    c.restart(victim);
    c.settle();
    assert_eq!(c.machines[&leader].alarms.len(), 1, "{:?}", c.machines[&leader].alarms);
    assert_eq!(c.raft(victim).durable(), c.raft(leader).last().index);
}

/// The disk of a voter is put back to what it was before its last acknowledgements.
fn roll_back(c: &mut Cluster, victim: NodeId, to: Disk) {
    c.crash(victim);
    c.machine(victim).disk.log = to.log.clone();
    c.machine(victim).log = to.log;
    c.restart(victim);
}

/// Two of three acknowledged, and one of the two lost it: with its vote the third one could win, and what was committed
/// would be gone (§3.6.1). The voter was told by the leader what it lacks, so that vote is not to be had.
#[test]
fn a_rolled_back_voter_elects_nobody_who_lacks_what_it_lost() {
    let mut c = Cluster::of(3);
    let leader = c.elect();
    c.settle();
    let (behind, victim) = (c.others(leader)[0], c.others(leader)[1]);
    let kept = c.machines[&victim].disk.clone();
    c.isolate(behind);
    let acked: Vec<Ticket> = (0..5).map(|_| c.propose(leader)).collect();
    c.until("committed by two", |c| acked.iter().all(|ticket| c.is_committed(*ticket)));
    // It is told, and before it is given anything back the leader is gone.
    c.hold_back(leader, victim, "append");
    roll_back(&mut c, victim, kept);
    c.until("it knows what it lost", |c| c.raft(victim).status().missing.is_some());
    assert!(c.raft(leader).status().peers[&victim].has_lost);
    c.crash(leader);
    c.captured.clear();
    c.capture.clear();
    c.heal();
    c.run(5_000 * MS);
    assert_eq!(c.leader(), None, "{}", c.picture());
    assert_eq!(c.raft(victim).role(), Role::Follower, "it does not stand either");
    // The one disk that holds everything makes the group whole again; the witness has seen that nothing acked is gone.
    c.restart(leader);
    c.until("the one that has it all", |c| c.stable_leader() == Some(leader));
    c.settle();
    assert_eq!(c.raft(victim).status().missing, None);
    assert_eq!((c.raft(victim).last(), c.raft(behind).last()), (c.raft(leader).last(), c.raft(leader).last()));
}

/// The same voter keeps nobody waiting who holds what it lost: it votes as if it held that itself.
#[test]
fn a_rolled_back_voter_elects_one_who_holds_what_it_lost() {
    let mut c = Cluster::of(3);
    let leader = c.elect();
    c.settle();
    let (whole, victim) = (c.others(leader)[0], c.others(leader)[1]);
    let kept = c.machines[&victim].disk.clone();
    for _ in 0..5 {
        c.propose(leader);
    }
    c.settle();
    c.hold_back(leader, victim, "append");
    roll_back(&mut c, victim, kept);
    c.until("it knows what it lost", |c| c.raft(victim).status().missing.is_some());
    c.crash(leader);
    c.captured.clear();
    c.capture.clear();
    c.until("another leader", |c| c.stable_leader().is_some());
    assert_eq!(c.leader(), Some(whole));
    let later = c.propose(whole);
    c.until("it serves", |c| c.is_committed(later));
    c.until("whole again", |c| c.raft(victim).status().missing.is_none());
    assert_eq!(c.machines[&victim].alarms.len(), 1, "{:?}", c.machines[&victim].alarms);
}

/// R12. No answer ever names an index that is not durable: not for heartbeats, not for duplicates, not for empty ones.
#[test]
fn no_answer_exceeds_what_is_durable() {
    let mut c = Cluster::of(3);
    let leader = c.elect();
    c.settle();
    let slow = c.others(leader)[0];
    let durable = c.raft(slow).durable();
    c.disk_hangs(slow, true);
    c.weather.duplicate = 500;
    for _ in 0..20 {
        c.propose(leader);
        c.run(20 * MS);
    }
    // The witness compares each answer with the disk; heartbeats were answered all along.
    assert_eq!(c.raft(slow).durable(), durable);
    assert_eq!(c.raft(leader).status().peers[&slow].matched, durable);
    c.crash(slow);
    c.restart(slow);
    c.weather.duplicate = 0;
    c.settle();
}

/// R13, R14. A flush is under way while its entries are truncated and others take their place: its completion proves
/// nothing about those. Seven nodes are not needed for the race, only a slow disk and two leaders.
#[test]
fn a_flush_that_ends_after_a_truncation_proves_nothing_new() {
    let mut c = Cluster::of(3);
    let old = c.elect();
    c.settle();
    let others = c.others(old);
    c.machine(old).fsync = Some(400 * MS);
    c.isolate(old);
    for _ in 0..9 {
        c.propose(old);
    }
    c.until("another leader", |c| c.stable_leader().is_some_and(|new| new != old));
    let new = c.elect();
    let good = c.propose(new);
    c.machine(old).fsync = Some(2_000 * MS);
    c.heal();
    // The witness compares each answer of the old leader with what its disk really holds at that moment.
    c.until("committed", |c| c.is_committed(good));
    c.run(500 * MS);
    c.crash(others[0]);
    c.restart(others[0]);
    c.machine(old).fsync = Some(MS);
    c.settle();
    assert_eq!(c.committed(old), c.committed(new));
}

/// R15 (§10.2.1). An entry may be committed before the leader's own disk has it; if the leader then loses it, it stays.
#[test]
fn a_commit_does_not_need_the_leaders_own_disk() {
    let mut c = Cluster::of(3);
    let leader = c.elect();
    c.settle();
    c.disk_hangs(leader, true);
    let ticket = c.propose(leader);
    c.run(20 * MS);
    assert!(c.is_committed(ticket));
    assert!(c.raft(leader).durable() < c.raft(leader).committed());
    c.crash(leader);
    let new = c.elect();
    assert_eq!(c.committed(new), [ticket]);
    c.restart(leader);
    c.settle();
    assert_eq!(c.committed(leader), [ticket]);
}

/// R20. Every request ends once, in the order of the log, however leaders come and go.
#[test]
fn every_ticket_ends_once_in_log_order() {
    for seed in 0..10 {
        let mut c = Cluster::of(3).seed(seed);
        let mut tickets = Vec::new();
        for _ in 0..10 {
            let leader = c.elect();
            for _ in 0..5 {
                tickets.push(c.propose(leader));
            }
            c.run(seed * MS / 3);
            c.isolate(leader);
            for _ in 0..5 {
                tickets.push(c.propose(leader));
            }
            c.until("another leader", |c| c.stable_leader().is_some_and(|new| new != leader));
            c.heal();
        }
        c.settle();
        assert!(tickets.iter().all(|ticket| c.outcome(*ticket).is_some()));
        let leader = c.elect();
        let committed = c.committed(leader);
        assert!(committed.windows(2).all(|pair| pair[0] < pair[1]), "tickets were issued in this order");
        c.witness.verdict();
    }
}

/// R21. A long diverged tail and a small batch: each round trip makes progress, duplicates included.
#[test]
fn a_long_diverged_tail_is_replaced_batch_by_batch() {
    let mut c = Cluster::empty();
    c.options.append_bytes_max = 200;
    c.options.window_bytes = 200;
    c.options.conflict_runs_max = 1;
    let voters = [1, 2, 3];
    let good: Vec<u64> = (0..60).map(|i| 2 + i / 6 * 2).collect();
    let bad: Vec<u64> = (0..90).map(|i| if i < 6 { 2 } else { 3 + i / 10 * 2 }).collect();
    c.with_log(1, 30, &voters, &good);
    c.with_log(2, 30, &voters, &good);
    let diverged = c.with_log(3, 30, &voters, &bad[..70]);
    c.isolate(diverged);
    let leader = c.elect();
    c.heal().settle();
    assert_eq!(c.terms(diverged), c.terms(leader));
}

/// S7. Nothing overtakes a waiting ticket in silence: a deposed leader comes back to find that the commit index has passed
/// all of its proposals at once, some of them kept by others and some overwritten, and each ends as it really did.
#[test]
fn tickets_that_a_commit_overtakes_all_end() {
    let mut c = Cluster::of(3);
    let old = c.elect();
    c.settle();
    let others = c.others(old);
    // Acknowledged to nobody, but in the logs of all.
    c.censored.insert("append-reply");
    let kept = c.propose_burst(old, 20);
    c.until("everywhere", |c| others.iter().all(|id| c.raft(*id).durable() == c.raft(old).last().index));
    c.isolate(old);
    c.censored.clear();
    let lonely: Vec<_> = (0..20).map(|_| c.propose(old)).collect();
    c.until("another leads", |c| c.stable_leader().is_some_and(|new| new != old));
    let new = c.elect();
    for _ in 0..200 {
        c.propose(new);
    }
    c.until("far ahead", |c| c.raft(new).committed().0 > c.raft(old).last().index.0 + 100);
    for ticket in kept.iter().chain(&lonely) {
        assert_eq!(c.outcome(*ticket), None, "nobody can know yet");
    }
    c.heal().settle();
    assert!(kept.iter().all(|ticket| c.is_committed(*ticket)));
    assert!(lonely.iter().all(|ticket| c.outcome(*ticket) == Some(Outcome::Lost)));
}

/// R11b. The same node leads twice in one life: answers to its first leadership, however late, say nothing to its second.
#[test]
fn an_answer_to_an_earlier_leadership_is_not_counted() {
    let mut c = Cluster::of(3);
    let leader = c.elect();
    c.settle();
    let (follower, third) = (c.others(leader)[0], c.others(leader)[1]);
    c.hold_back(follower, leader, "append-reply");
    c.propose(leader);
    c.run(100 * MS);
    let late: Vec<_> = c.captured.drain(..).collect();
    c.transfer(leader, Some(third));
    c.until("the third leads", |c| c.stable_leader() == Some(third));
    c.isolate(follower);
    c.transfer(third, Some(leader));
    c.until("the first leads again", |c| c.stable_leader() == Some(leader));
    c.heal();
    assert!(!late.is_empty());
    let before = c.raft(leader).status().peers[&follower].clone();
    assert_eq!((before.matched, before.last_heard), (LogIndex::ZERO, None));
    for packet in late {
        c.deliver(packet);
        assert_eq!(c.raft(leader).status().peers[&follower], before);
    }
    c.let_go();
    c.settle();
}
