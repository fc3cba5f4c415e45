//! The promises of Figure 3.2 and of §3–§6 of the dissertation, one story each, with its section.
//!
//! Promises that a topic file tells in full are not told twice here: elections, replication, reads, transfers, changes.

use quorate_raft::*;

use crate::cluster::*;
use crate::machine::*;

/// Figure 3.2, Election Safety: at most one leader in a term. (The witness holds it in every other story too.)
#[test]
fn election_safety() {
    for seed in 0..30 {
        let mut c = Cluster::of(5).seed(seed);
        for id in 1..=5 {
            c.time_out(node(id));
            c.run(c.random.clone().below(2 * MS));
        }
        c.elect();
        let leaders = c.machines.values().filter_map(|m| m.raft.as_ref()).filter(|r| r.is_leader());
        let terms: Vec<_> = leaders.map(Raft::term).collect();
        assert!(terms.windows(2).all(|pair| pair[0] != pair[1]), "{terms:?}");
    }
}

/// Figure 3.2, Leader Append-Only: a leader never overwrites or deletes entries in its log.
#[test]
fn a_leader_only_appends() {
    let mut c = Cluster::of(3);
    let leader = c.elect();
    let mut before = c.terms(leader);
    for _ in 0..20 {
        c.propose(leader);
        c.run(10 * MS);
        let after = c.terms(leader);
        assert!(after.starts_with(&before));
        before = after;
    }
}

/// Figure 3.2, Log Matching: logs that agree on one entry agree on all before. Terms never decrease along a log.
#[test]
fn log_matching() {
    let mut c = Cluster::of(5).seed(3);
    for _ in 0..6 {
        let leader = c.elect();
        c.propose(leader);
        c.isolate(leader);
        c.propose(leader);
        c.until("another", |c| c.stable_leader().is_some_and(|new| new != leader));
        c.heal();
        c.run(30 * MS);
        for a in 1..=5 {
            for b in 1..=5 {
                let (a, b) = (&c.machines[&node(a)].log, &c.machines[&node(b)].log);
                let agree = (0..a.len().min(b.len())).rev().find(|i| a[*i].term == b[*i].term);
                assert!(agree.is_none_or(|i| a[..=i] == b[..=i]));
                assert!(a.windows(2).all(|pair| pair[0].term <= pair[1].term));
            }
        }
    }
}

/// Figure 3.2, Leader Completeness: what was committed is in the log of every later leader.
#[test]
fn leader_completeness() {
    let mut c = Cluster::of(3).seed(11);
    let mut acked = Vec::new();
    for _ in 0..8 {
        let leader = c.elect();
        let ticket = c.propose(leader);
        c.until("acked", |c| c.is_committed(ticket));
        acked.push(ticket);
        c.crash(leader);
        let new = c.elect();
        assert_eq!(c.committed(new), acked);
        c.restart(leader);
        c.settle();
    }
}

/// Figure 3.2, State Machine Safety: no two nodes commit different entries at one index.
#[test]
fn state_machine_safety() {
    let mut c = Cluster::of(5).seed(2);
    c.weather = Weather { drop: 200, duplicate: 100, replay: 50, delay_max: 30 * MS };
    for _ in 0..200 {
        if let Some(leader) = c.leader() {
            c.propose(leader);
        }
        c.run(20 * MS);
    }
    c.weather = Weather { delay_max: MS, ..Weather::default() };
    c.settle();
    let of = |n| c.committed(node(n));
    assert!((2..=5).all(|n| of(n) == of(1)) && !of(1).is_empty());
}

/// §3.3: terms act as a logical clock; whoever sees a later one enters it, in any role.
#[test]
fn a_later_term_is_adopted_in_every_role() {
    for role in [Role::Follower, Role::PreCandidate, Role::Candidate, Role::Leader] {
        let mut c = Cluster::of(3);
        let subject = node(1);
        if role == Role::Leader {
            c.time_out(subject);
            c.until("it leads", |c| c.raft(subject).is_leader());
        }
        let term = c.term(subject);
        c.isolate(subject);
        match role {
            Role::PreCandidate => c.time_out(subject),
            Role::Candidate => {
                c.heal();
                c.disk_hangs(subject, true);
                c.time_out(subject);
                c.run(10 * MS);
                c.isolate(subject);
            }
            Role::Follower | Role::Leader => {}
        }
        assert_eq!(c.raft(subject).role(), role);
        c.time_out(node(2));
        c.run(600 * MS);
        c.until("another leads a later term", |c| {
            c.leader().is_some_and(|l| l != subject && c.term(l) > term.max(2) && c.stable_leader() == Some(l))
                || c.leader().is_some_and(|l| l != subject && c.term(l) > term)
        });
        c.disk_hangs(subject, false);
        c.heal().settle();
        assert_eq!(c.term(subject), c.term(c.leader().expect("settled")));
    }
}

/// §3.4: a node begins as a follower, and stays one as long as it hears a leader.
#[test]
fn a_node_begins_as_a_follower_and_stays_one_while_it_hears_a_leader() {
    let mut c = Cluster::of(3);
    assert!(c.machines.keys().all(|id| c.raft(*id).role() == Role::Follower));
    let leader = c.elect();
    let term = c.term(leader);
    c.run(20_000 * MS);
    assert_eq!((c.leader(), c.term(leader)), (Some(leader), term));
}

/// §3.4: heartbeats go to all, and keep their rhythm when there is nothing else to say: that of a peer at rest.
#[test]
fn an_idle_leader_sends_heartbeats_and_nothing_else() {
    let mut c = Cluster::of(3);
    c.elect();
    c.settle();
    let (beats, appends) = (c.sent("heartbeat"), c.sent("append"));
    c.run(1_000 * MS);
    let beats = c.sent("heartbeat") - beats;
    assert!((18..=22).contains(&beats), "{beats} heartbeats to two peers in a second");
    assert_eq!(c.sent("append"), appends);
}

/// §3.4: a peer at rest hears its leader so seldom that few heartbeats can be missed. Two in a row still do not make anybody
/// ask for votes, since the one after a heartbeat without an answer comes sooner.
#[test]
fn heartbeats_lost_at_rest_depose_nobody() {
    for seed in 0..50 {
        let mut c = Cluster::of(3).seed(seed);
        let leader = c.elect();
        c.settle();
        c.run(seed * 7 * MS);
        let (lost, asked) = (c.sent("heartbeat"), c.sent("pre-vote"));
        c.censored.insert("heartbeat");
        c.until("two to each are lost", |c| c.sent("heartbeat") >= lost + 4);
        c.heal();
        c.run(1_000 * MS);
        assert_eq!((c.leader(), c.sent("pre-vote")), (Some(leader), asked), "seed {seed}");
    }
}

/// A follower that is gone is told at the pace of the busy while it may only have missed something, and no longer.
#[test]
fn an_answer_that_is_owed_quickens_the_heart_for_a_while() {
    let mut c = Cluster::of(3);
    let leader = c.elect();
    c.settle();
    let gone = c.others(leader)[0];
    c.isolate(gone);
    let before = c.sent("heartbeat");
    c.run(500 * MS);
    let quick = c.sent("heartbeat") - before;
    assert!((13..=16).contains(&quick), "{quick} heartbeats: five to whom is well, twice as many to whom is not");
    c.run(500 * MS);
    let before = c.sent("heartbeat");
    c.run(1_000 * MS);
    let slow = c.sent("heartbeat") - before;
    assert!((18..=22).contains(&slow), "{slow} heartbeats to two peers in a second");
}

/// A leader that oversleeps beats at the quick pace for a while: the longer pause is for those who can afford it.
#[test]
fn a_stalled_leader_does_not_rest() {
    let mut c = Cluster::of(3);
    let leader = c.elect();
    c.settle();
    c.run(200 * MS);
    // Nothing is handled meanwhile, and nobody waits long enough to ask for votes.
    c.now += 140 * MS;
    c.run(10 * MS);
    assert_eq!(c.leader(), Some(leader));
    let before = c.sent("heartbeat");
    c.run(1_000 * MS);
    let quick = c.sent("heartbeat") - before;
    assert!((36..=44).contains(&quick), "{quick} heartbeats to two peers in a second");
    c.run(10_000 * MS);
    let before = c.sent("heartbeat");
    c.run(1_000 * MS);
    let calm = c.sent("heartbeat") - before;
    assert!((18..=22).contains(&calm), "{calm} heartbeats to two peers in a second");
}

/// §3.4: election timeouts are random within their bounds, and drawn anew.
#[test]
fn election_timeouts_are_random_within_their_bounds() {
    let options = Options::default();
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..200 {
        let saved = Cluster::of(3).machines[&node(1)].disk.saved(LogIndex::ZERO);
        let raft = Raft::restore(options.clone(), node(1), BootId(1), saved, seed, Now::default());
        let due = raft.poll_timeout().expect("a voter waits").since(Mono(0));
        assert!(due >= options.election_timeout_min && due <= options.election_timeout_max);
        seen.insert(due);
    }
    assert!(seen.len() > 150, "only {} of 200 differ", seen.len());
}

/// §3.5: a leader appends, replicates, commits when a majority has it, and tells the followers.
#[test]
fn a_proposal_is_committed_everywhere() {
    let mut c = Cluster::of(5);
    let leader = c.elect();
    let ticket = c.propose(leader);
    c.settle();
    assert!(c.machines.keys().all(|id| c.committed(*id) == [ticket]));
}

/// §3.5: a minority that is away hinders nothing.
#[test]
fn a_minority_may_be_away() {
    let mut c = Cluster::of(5);
    let leader = c.elect();
    let others = c.others(leader);
    c.crash(others[0]);
    c.crash(others[1]);
    let ticket = c.propose(leader);
    c.until("committed", |c| c.is_committed(ticket));
    c.crash(others[2]);
    let waits = c.propose(leader);
    c.run(200 * MS);
    assert_eq!(c.outcome(waits), None);
}

/// §3.5: a leader cut off from its majority keeps nothing that it never had votes for.
#[test]
fn a_deposed_leader_drops_its_lonely_write() {
    let mut c = Cluster::of(5).seed(7);
    let old = c.elect();
    c.settle();
    c.isolate(old);
    let lonely = c.propose(old);
    c.until("another", |c| c.stable_leader().is_some_and(|new| new != old));
    let new = c.elect();
    let shared = c.propose(new);
    c.heal().settle();
    assert_eq!(c.committed(old), [shared]);
    assert_eq!(c.outcome(lonely), Some(Outcome::Lost));
}

/// §3.6.2: entries of earlier terms are committed with the first of the leader's own.
#[test]
fn earlier_entries_are_committed_with_the_first_of_the_term() {
    let mut c = Cluster::of(3);
    let old = c.elect();
    c.settle();
    c.censored.insert("append-reply");
    let ticket = c.propose(old);
    c.run(20 * MS);
    c.crash(old);
    c.heal();
    c.weather.drop = 0;
    let new = c.elect();
    assert_eq!(c.committed(new), [ticket]);
    assert!(c.raft(new).own_term_committed());
}

/// §3.8: term, vote and log survive; what was acknowledged survives a crash of all (D4).
#[test]
fn a_crash_of_all_loses_nothing_acked() {
    for seed in 0..10 {
        let mut c = Cluster::of(3).seed(seed);
        let leader = c.elect();
        let tickets: Vec<_> = (0..20).map(|_| c.propose(leader)).collect();
        c.run(seed * MS / 2);
        let acked: Vec<_> = tickets.into_iter().filter(|ticket| c.is_committed(*ticket)).collect();
        let all: Vec<_> = c.machines.keys().copied().collect();
        for &id in &all {
            c.crash(id);
        }
        for &id in &all {
            c.restart(id);
        }
        c.settle();
        assert!(c.committed(node(1)).starts_with(&acked));
    }
}

/// §4.1: a configuration is in force from the moment it is appended, and no longer if it is overwritten (M7).
#[test]
fn a_configuration_is_in_force_when_appended_and_reverts_with_its_entry() {
    let mut c = Cluster::of(3);
    let old = c.elect();
    c.settle();
    let before = c.raft(old).configuration().clone();
    c.add(4);
    c.isolate(old);
    let change = c.change(old, &[1, 2, 3, 4], &[]);
    assert!(c.raft(old).configuration().is_joint());
    c.until("another", |c| c.stable_leader().is_some_and(|new| new != old));
    c.heal().settle();
    assert_eq!(c.raft(old).configuration(), &before);
    assert_eq!(c.outcome(change), Some(Outcome::Lost));
}

/// §5: a log may begin later than its first index; what lies before the start is taken as agreed.
#[test]
fn a_log_that_starts_later_is_restored_and_answers_for_its_start() {
    let start = Position { index: LogIndex(10), term: Term(3) };
    let configuration = Configuration { voters: set(&[1, 2, 3]), ..Configuration::default() };
    let saved = Saved {
        hard_state: HardState { term: Term(5), vote: None },
        start,
        runs: vec![Run { first: LogIndex(11), term: Term(3) }, Run { first: LogIndex(13), term: Term(5) }],
        last: LogIndex(14),
        configurations: vec![(LogIndex(7), configuration.clone())],
        committed: LogIndex(12),
        suspect: None,
    };
    let raft = Raft::restore(Options::default(), node(1), BootId(1), saved, 1, Now::default());
    assert_eq!(raft.halted(), None);
    assert_eq!(
        (raft.last().index, raft.committed(), raft.configuration()),
        (LogIndex(14), LogIndex(12), &configuration)
    );
    let at = |i| raft.term_at(LogIndex(i));
    assert_eq!([at(9), at(10), at(12), at(13), at(15)], [None, Some(Term(3)), Some(Term(3)), Some(Term(5)), None]);
}

/// §6.4: the leader's first entry goes before all else, so that it knows what is committed.
#[test]
fn the_first_entry_of_a_term_is_the_leaders_own() {
    let mut c = Cluster::of(3);
    let leader = c.elect();
    assert_eq!(c.machines[&leader].log[1].kind, EntryKind::Noop);
}
