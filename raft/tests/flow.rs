//! Flow: windows, batches and slow peers; what is lost is found, and nobody waits for another (§10.2).

use quorate_raft::*;

use crate::cluster::*;

/// R8. All that fills the window is lost: the next heartbeat finds out, and everything flows again.
#[test]
fn a_window_lost_as_a_whole_is_found_by_heartbeat() {
    let mut c = Cluster::of(3);
    c.options.window_bytes = 1_000;
    c.options.append_bytes_max = 300;
    c = c.seed(1);
    let leader = c.elect();
    c.settle();
    c.censored.insert("append");
    for _ in 0..100 {
        c.propose(leader);
    }
    c.run(10 * MS);
    let sent = c.sent("append");
    c.run(30 * MS);
    assert!(c.sent("append") - sent <= 2 * 20, "a full window keeps quiet");
    c.heal();
    c.until("all committed", |c| c.raft(leader).committed() == c.raft(leader).last().index);
    c.settle();
}

/// Appends of one small entry each never fill a window in bytes. All the same only a few are on their way: whoever reads
/// old entries from disk for them has a bound, and what is dropped for that comes back as a gap.
#[test]
fn many_small_appends_are_not_sent_all_at_once() {
    let mut c = Cluster::of(3);
    c.options.append_entries_max = 1;
    c.options.append_bytes_max = 100;
    c = c.seed(1);
    let leader = c.elect();
    c.settle();
    let sent = c.sent("append");
    c.censored.insert("append");
    for _ in 0..100 {
        c.propose(leader);
    }
    c.run(MS);
    assert_eq!(c.sent("append") - sent, 2 * 8);
    c.heal();
    c.until("all committed", |c| c.raft(leader).committed() == c.raft(leader).last().index);
    c.settle();
}

/// R9. A follower that is probed, and has everything, streams again.
#[test]
fn a_probed_follower_returns_to_streaming() {
    let mut c = Cluster::of(3);
    let leader = c.elect();
    c.settle();
    let follower = c.others(leader)[0];
    c.input(leader, Input::PeerDown { peer: follower });
    assert!(!c.raft(leader).status().peers[&follower].replicating);
    c.run(120 * MS);
    assert!(c.raft(leader).status().peers[&follower].replicating);
}

/// R17. An idle follower learns of a commit by one message, not by the next heartbeat.
#[test]
fn an_idle_follower_learns_of_a_commit_at_once() {
    let mut c = Cluster::of(3);
    let leader = c.elect();
    c.settle();
    c.propose(leader);
    c.until("committed here", |c| c.raft(leader).committed() == c.raft(leader).last().index);
    let (at, last) = (c.now, c.raft(leader).last().index);
    c.until("committed everywhere", |c| c.machines.keys().all(|id| c.raft(*id).committed() == last));
    assert!(c.now - at < 5 * MS, "it took {} us", c.now - at);
}

/// R18. An entry larger than the batch, the window and the bound on what is uncommitted still passes.
#[test]
fn an_entry_larger_than_every_bound_still_flows() {
    let mut c = Cluster::of(3);
    c.options.append_bytes_max = 100;
    c.options.window_bytes = 200;
    c.options.uncommitted_bytes_max = 300;
    c = c.seed(1);
    let leader = c.elect();
    c.settle();
    let huge = c.propose_bytes(leader, 1 << 30);
    let refused = c.propose_bytes(leader, 1);
    assert_eq!(c.outcome(refused), Some(Outcome::Rejected(Reject::Overloaded)));
    c.settle();
    assert!(c.is_committed(huge));
}

/// R19. A follower with a slow disk delays nobody.
#[test]
fn a_slow_disk_delays_nobody() {
    let mut c = Cluster::of(3);
    let leader = c.elect();
    c.settle();
    let slow = c.others(leader)[0];
    c.machine(slow).fsync = Some(2_000 * MS);
    let term = c.term(leader);
    for _ in 0..20 {
        let ticket = c.propose(leader);
        c.run(20 * MS);
        assert!(c.is_committed(ticket));
    }
    assert_eq!((c.leader(), c.term(leader)), (Some(leader), term));
    c.settle();
}

/// Proposals that come together travel together: one write, one message to each peer, one answer.
#[test]
fn a_burst_of_proposals_costs_one_write_and_one_message_each() {
    let mut c = Cluster::of(3);
    let leader = c.elect();
    c.settle();
    let (writes, appends, replies) = (c.machines[&leader].writes_seen, c.sent("append"), c.sent("append-reply"));
    let tickets = c.propose_burst(leader, 100);
    assert_eq!(c.machines[&leader].writes_seen, writes + 1);
    assert_eq!(c.sent("append"), appends + 2);
    c.until("all committed", |c| tickets.iter().all(|ticket| c.is_committed(*ticket)));
    assert!(c.sent("append-reply") - replies <= 2 + 2);
}

/// A caller may announce fewer entries than planned, because their bytes fill a frame; or drop the message. Both heal.
#[test]
fn a_shortened_append_is_completed_later() {
    let mut c = Cluster::of(3);
    let leader = c.elect();
    c.settle();
    let follower = c.others(leader)[0];
    c.hold_back(leader, follower, "append");
    let tickets = c.propose_burst(leader, 10);
    let mut packet = c.captured.pop().expect("one append");
    let (prev, last) = packet.message.announced().expect("entries");
    assert_eq!(last.index.0 - prev.index.0, 10);
    packet.message.shorten(Position { index: LogIndex(prev.index.0 + 3), term: last.term });
    packet.entries.truncate(3);
    packet.data.truncate(3);
    c.capture.clear();
    c.deliver(packet);
    c.settle();
    assert_eq!(c.committed(follower), tickets);
}

/// A peer that needs what lies before the start of the leader's log gets heartbeats, shows as not replicating, and
/// harms nobody; the entries must reach it by other ways (S1).
#[test]
fn a_peer_behind_the_start_of_the_log_gets_heartbeats_only() {
    let configuration = Configuration { voters: set(&[1]), learners: set(&[2]), ..Configuration::default() };
    let saved = Saved {
        hard_state: HardState { term: Term(3), vote: None },
        start: Position { index: LogIndex(10), term: Term(3) },
        runs: vec![Run { first: LogIndex(11), term: Term(3) }],
        last: LogIndex(12),
        configurations: vec![(LogIndex(9), configuration)],
        committed: LogIndex(12),
        suspect: None,
    };
    let options = Options::default();
    let mut leader = Raft::restore(options.clone(), node(1), BootId(1), saved, 1, Now::default());
    let mut fresh = Raft::restore(options, node(2), BootId(2), Saved::default(), 2, Now::default());
    leader.handle(Now::default(), Input::PeerUp { peer: node(2), boot: BootId(2) });
    let mut kinds = std::collections::BTreeMap::<&str, u32>::new();
    for ms in 0..1_000 {
        let now = Now { mono: Mono(ms * MS), wall: Wall(0) };
        if leader.poll_timeout().is_some_and(|at| at <= now.mono) {
            leader.handle(now, Input::Timeout);
        }
        let mut letters = Vec::new();
        for (from, raft) in [(1, &mut leader), (2, &mut fresh)] {
            while let Some(output) = raft.poll_output() {
                match output {
                    Output::Persist(write) => raft.handle(now, Input::Persisted { ticket: write.ticket }),
                    Output::Send { message, .. } => {
                        let of = |index: u64| Position {
                            index: LogIndex(index),
                            term: raft.term_at(LogIndex(index)).unwrap_or(Term(3)),
                        };
                        let range = message.entries().map_or(0..0, |(first, last)| first.0..last.0 + 1);
                        let shape = |index| EntryShape { position: of(index), kind: EntryKind::Normal, bytes: 1 };
                        letters.push((from, message.clone(), range.map(shape).collect::<Vec<_>>()));
                    }
                    Output::Alarm { what, .. } => panic!("{what}"),
                    _ => {}
                }
            }
        }
        for (from, message, entries) in letters {
            *kinds.entry(message.kind()).or_default() += 1;
            let to = if from == 1 { &mut fresh } else { &mut leader };
            to.handle(now, Input::Message { from: node(from), message, entries });
        }
    }
    assert!(leader.is_leader() && leader.committed() == leader.last().index);
    let peer = leader.status().peers[&node(2)].clone();
    assert_eq!((peer.replicating, peer.matched), (false, LogIndex::ZERO));
    assert!(kinds["heartbeat"] >= 15 && kinds.get("append").is_none_or(|count| *count <= 3), "{kinds:?}");
    assert_eq!((fresh.last(), fresh.leader()), (Position::ZERO, Some(node(1))));
}

/// A proposal fenced to another term is refused; bounds on what waits hold, and one past them is refused.
#[test]
fn fences_and_bounds_hold() {
    let mut c = Cluster::of(3);
    c.options.proposals_max = 5;
    c.options.reads_max = 4;
    c = c.seed(1);
    let leader = c.elect();
    c.settle();
    let wrong = c.ticket();
    c.witness.issued(wrong, leader);
    c.input(leader, Input::Propose { ticket: wrong, bytes: 1, term: Some(Term(1)) });
    assert_eq!(c.outcome(wrong), Some(Outcome::Rejected(Reject::WrongTerm)));
    c.isolate(leader);
    let proposals: Vec<_> = (0..6).map(|_| c.propose(leader)).collect();
    assert!(proposals[..5].iter().all(|ticket| c.outcome(*ticket).is_none()));
    assert_eq!(c.outcome(proposals[5]), Some(Outcome::Rejected(Reject::Overloaded)));
    let reads: Vec<_> = (0..5).map(|_| c.read(leader)).collect();
    assert!(reads[..4].iter().all(|ticket| c.outcome(*ticket).is_none()));
    assert_eq!(c.outcome(reads[4]), Some(Outcome::Rejected(Reject::Overloaded)));
    let follower = c.others(leader)[0];
    let refused = c.propose(follower);
    assert_eq!(c.outcome(refused), Some(Outcome::Rejected(Reject::NotLeader { leader: Some(leader) })));
}
