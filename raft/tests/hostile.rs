//! Hostile input: what no honest peer and no sound disk would say changes nothing, and never panics.

use quorate_raft::*;

use crate::cluster::*;
use crate::machine::*;

/// Entries other than those announced are refused, and the honest ones still pass.
#[test]
fn entries_that_were_not_announced_are_refused() {
    let spoil: [fn(&mut Packet); 6] = [
        |packet| packet.entries.clear(),
        |packet| packet.entries[0].position.index = LogIndex(99),
        |packet| packet.entries[0].position.term = Term(99),
        |packet| packet.entries[0].position.term = Term::ZERO,
        |packet| packet.entries.push(packet.entries[0].clone()),
        |packet| packet.entries[0].kind = EntryKind::Configuration(Configuration::default()),
    ];
    for spoil in spoil {
        let mut c = Cluster::of(3);
        let leader = c.elect();
        c.settle();
        let follower = c.others(leader)[0];
        c.hold_back(leader, follower, "append");
        let ticket = c.propose(leader);
        let mut packet = c.captured.pop().expect("an append");
        c.capture.clear();
        let last = c.raft(follower).last();
        spoil(&mut packet);
        c.deliver(packet);
        assert_eq!(c.machines[&follower].alarms.len(), 1);
        assert_eq!(c.raft(follower).last(), last);
        c.settle();
        assert!(c.is_committed(ticket));
    }
}

/// Entries beside a message that announces none are refused.
#[test]
fn entries_beside_a_heartbeat_are_refused() {
    let mut c = Cluster::of(3);
    let leader = c.elect();
    c.settle();
    let follower = c.others(leader)[0];
    c.hold_back(leader, follower, "heartbeat");
    c.run(110 * MS);
    let mut packet = c.captured.pop().expect("a heartbeat");
    let position = Position { index: c.raft(follower).last().index.next(), term: c.raft(follower).term() };
    packet.entries.push(EntryShape { position, kind: EntryKind::Normal, bytes: 1 });
    c.deliver(packet);
    assert_eq!(c.machines[&follower].alarms.len(), 1);
}

/// A message that comes under another's name, or under one's own, cannot steal a vote or an ack.
#[test]
fn a_message_under_a_false_name_counts_for_nothing() {
    let mut c = Cluster::of(5);
    let leader = c.elect();
    c.settle();
    let (follower, liar) = (c.others(leader)[0], c.others(leader)[1]);
    c.hold_back(leader, follower, "heartbeat");
    c.run(110 * MS);
    let mut packet = c.captured.pop().expect("a heartbeat");
    packet.from = follower;
    let clock = Now { mono: Mono(c.now), wall: Wall(0) };
    let input = Input::Message { from: follower, message: packet.message.clone(), entries: vec![] };
    c.machine(follower).raft.as_mut().expect("it runs").handle(clock, input);
    let input = Input::Message { from: liar, message: packet.message, entries: vec![] };
    c.input(follower, input);
    assert!(!c.machines[&follower].alarms.is_empty());
    assert_eq!(c.raft(follower).leader(), Some(leader));
}

/// The contract of `Persisted`: only what was asked for, in order, once. Else this node's Raft stops.
#[test]
fn a_storage_that_breaks_its_contract_halts() {
    for lie in [PersistTicket(99), PersistTicket(0)] {
        let mut c = Cluster::of(1);
        let one = c.elect();
        let waits = c.read(one);
        c.input(one, Input::Persisted { ticket: lie });
        assert_eq!(c.machines[&one].halted, Some(Halt::StorageContract));
        assert_eq!(c.raft(one).status().halted, Some(Halt::StorageContract));
        assert_eq!(c.raft(one).poll_timeout(), None);
        assert!(c.outcome(waits).is_some());
        let read = c.read(one);
        assert_eq!(c.outcome(read), Some(Outcome::Rejected(Reject::Halted)));
    }
}

/// A fresh node is passive: it waits for a leader to speak, however long, and founds only when told, and only once.
#[test]
fn a_fresh_node_waits() {
    let mut c = Cluster::empty();
    let one = c.add(1);
    c.run(60_000 * MS);
    assert_eq!((c.raft(one).poll_timeout(), c.raft(one).last(), c.term(one)), (None, Position::ZERO, 0));
    c.found(one);
    assert_eq!(c.elect(), one);
    let last = c.raft(one).last();
    c.found(one);
    assert_eq!((c.raft(one).last(), c.machines[&one].alarms.len()), (last, 1));
}

// ---- a member that lies ----

/// A message with other words in it; its author is who says it.
fn forged(message: &Message, change: impl FnOnce(&mut serde_json::Value)) -> Message {
    let mut json = serde_json::to_value(message).expect("a message");
    change(&mut json);
    serde_json::from_value(json).expect("a message")
}

/// All that must not move when somebody lies.
fn state(c: &Cluster, id: NodeId) -> (Term, Role, Option<NodeId>, LogIndex, Position, Configuration, Vec<u64>) {
    let s = c.raft(id).status();
    (s.term, s.role, s.leader, s.committed, s.last, s.configuration, c.terms(id))
}

/// One message of each kind, as `liar` would say it to `victim` now, in a term that `victim` is in.
fn one_of_each(c: &mut Cluster, liar: NodeId, victim: NodeId) -> Vec<Packet> {
    let leader = c.leader().expect("a leader");
    c.hold_back(leader, victim, "heartbeat");
    c.run(110 * MS);
    c.capture.clear();
    let mut sample = c.captured.pop().expect("a heartbeat");
    c.captured.clear();
    sample.from = liar;
    sample.from_boot = c.machines[&liar].boot;
    let (term, last) = (c.raft(victim).term().0, c.raft(victim).last());
    let last = serde_json::to_value(last).expect("a position");
    let bodies = serde_json::json!([
        {"p": {"round": 1, "last": last}},
        {"P": {"round": 1, "granted": true}},
        {"P": {"round": 1, "granted": false}},
        {"v": {"last": last, "transfer": false}},
        {"v": {"last": last, "transfer": true}},
        {"V": {"granted": true}},
        {"V": {"granted": false}},
        {"a": {"prev": last, "last": last, "commit": 1, "round": 9, "quiet": false}},
        {"A": {"matched": 1, "verified": 1, "round": 0}},
        {"C": {"prev": 1, "last": 1, "runs": [{"first": 1, "term": 1}], "round": 0}},
        "S",
        {"r": {"id": 1}},
        {"R": {"id": 1, "index": 1}},
        {"R": {"id": 1, "index": null}},
        {"t": {"last": last}},
        {"m": {"promised": last}},
    ]);
    let bodies = bodies.as_array().expect("a list").clone();
    let made = bodies.into_iter().map(|body| {
        let message = forged(&sample.message, |m| {
            m["term"] = term.into();
            m["body"] = body.clone();
            m["fence"]["from_boot"] = c.machines[&liar].boot.0.into();
            m["fence"]["to_boot"] = c.machines[&victim].boot.0.into();
        });
        Packet { message, ..sample.clone() }
    });
    made.collect()
}

/// A term out of all reach, in every kind of message, from a voter and from a stranger: refused with an alarm, and no
/// election is ever harder for it.
#[test]
fn a_term_out_of_reach_stops_no_election() {
    const AHEAD: u64 = 1 << 32;
    let mut c = Cluster::of(5);
    let leader = c.elect();
    c.settle();
    let (victim, voter) = (c.others(leader)[0], c.others(leader)[1]);
    c.add(9);
    for liar in [voter, node(9)] {
        for to in [victim, leader] {
            let kinds = one_of_each(&mut c, liar, victim);
            let own = c.raft(to).term().0;
            for term in [own + AHEAD + 1, 1 << 62, (1 << 62) - 1, u64::MAX / 4, u64::MAX - 1, u64::MAX] {
                for packet in &kinds {
                    let before = state(&c, to);
                    let alarms = c.machines[&to].alarms.len();
                    let message = forged(&packet.message, |m| m["term"] = term.into());
                    c.deliver(Packet { to, message, ..packet.clone() });
                    assert_eq!(state(&c, to), before, "{} in term {term}", packet.message.kind());
                    if to == victim {
                        assert_eq!(c.machines[&to].alarms.len(), alarms + 1, "{}", packet.message.kind());
                    }
                }
            }
        }
    }
    let ticket = c.propose(leader);
    c.settle();
    assert!(c.is_committed(ticket));
    // And the next election is as easy as ever.
    c.crash(leader);
    let next = c.elect();
    let ticket = c.propose(next);
    c.until("a commit", |c| c.is_committed(ticket));
}

/// At the bound a term is still believed (a node that was away for years must find its group); one past it is not.
#[test]
fn the_bound_on_terms_is_where_it_is_said_to_be() {
    for (beyond, believed) in [(0, true), (1, false)] {
        let mut c = Cluster::of(3);
        let leader = c.elect();
        c.settle();
        let (liar, victim) = (c.others(leader)[0], c.others(leader)[1]);
        let stale = one_of_each(&mut c, liar, victim).swap_remove(10);
        let term = c.raft(victim).term().0 + (1 << 32) + beyond;
        let message = forged(&stale.message, |m| m["term"] = term.into());
        c.deliver(Packet { message, ..stale });
        assert_eq!(c.raft(victim).term().0 == term, believed);
        // Believed or not, the group goes on.
        let leader = c.elect();
        let ticket = c.propose(leader);
        c.until("a commit", |c| c.is_committed(ticket));
    }
}

/// Whoever has no vote here (a learner, an agent outside the group) neither leads, nor unseats a leader that is heard,
/// nor is counted, whatever it says: in this term, the next one, or a much later one.
#[test]
fn who_has_no_vote_moves_nothing_while_a_leader_is_heard() {
    let mut c = Cluster::of(3);
    let leader = c.elect();
    c.settle();
    c.add(7);
    c.add(9);
    c.change(leader, &[1, 2, 3], &[7]);
    c.until("the learner is there", |c| c.raft(node(7)).last() == c.raft(leader).last());
    c.settle();
    for liar in [node(7), node(9)] {
        for victim in c.machines.keys().copied().filter(|id| *id != liar && id.get() < 4).collect::<Vec<_>>() {
            let follower = if victim == leader { c.others(leader)[0] } else { victim };
            let kinds = one_of_each(&mut c, liar, follower);
            for packet in kinds {
                for ahead in [0, 1, 1000] {
                    // A member that answers with a newer term may have seen it, once; a stranger cannot (§4.2.3).
                    let kind = packet.message.kind();
                    let teaches = !matches!(kind, "pre-vote" | "vote" | "heartbeat" | "timeout-now" | "missing")
                        && liar == node(7);
                    if ahead > 0 && teaches {
                        continue;
                    }
                    let before = state(&c, victim);
                    let boot = c.machines[&victim].boot.0;
                    let message = forged(&packet.message, |m| {
                        m["term"] = (c.raft(victim).term().0 + ahead).into();
                        m["fence"]["to_boot"] = boot.into();
                    });
                    c.deliver(Packet { to: victim, message, ..packet.clone() });
                    assert_eq!(state(&c, victim), before, "{kind} of {liar:?}, {ahead} terms ahead");
                }
            }
        }
    }
    assert_eq!(c.leader(), Some(leader));
    let ticket = c.propose(leader);
    c.settle();
    assert!(c.is_committed(ticket));
}

/// Not even when the leader has just died: the election is among those who have a vote. An agent that has one somewhere
/// else, since this node's configuration lags, is believed when no such election has come to an end.
#[test]
fn who_has_no_vote_does_not_step_into_the_gap() {
    let mut c = Cluster::of(3);
    let leader = c.elect();
    c.settle();
    let liar = c.add(9);
    let voters = c.others(leader).into_iter().filter(|id| *id != liar).collect::<Vec<_>>();
    let kinds = one_of_each(&mut c, liar, voters[0]);
    let (vote, heartbeat) = (kinds[4].clone(), kinds[7].clone());
    c.crash(leader);
    let lies = |c: &mut Cluster, to: NodeId| {
        for packet in [&vote, &heartbeat] {
            let (term, boot) = (c.raft(to).term().0 + 1, c.machines[&to].boot.0);
            let message = forged(&packet.message, |m| {
                m["term"] = term.into();
                m["fence"]["to_boot"] = boot.into();
            });
            c.deliver(Packet { to, message, ..packet.clone() });
        }
    };
    for _ in 0..150 {
        for to in voters.clone() {
            lies(&mut c, to);
            assert_ne!(c.raft(to).leader(), Some(liar));
        }
        c.run(5 * MS);
    }
    let next = c.elect();
    assert!(voters.contains(&next));
    // Nobody with a vote is left to be elected: now it is believed.
    let last = voters.into_iter().find(|id| *id != next).expect("two of them");
    c.crash(next);
    c.run(2_500 * MS);
    lies(&mut c, last);
    assert_eq!(c.raft(last).leader(), Some(liar));
}

/// A learner may tell of a newer term (it may have stood while it still had a vote), but it unseats nobody twice.
#[test]
fn a_learner_unseats_the_leader_once_at_most() {
    let mut c = Cluster::of(3);
    let leader = c.elect();
    c.settle();
    let liar = c.add(7);
    c.change(leader, &[1, 2, 3], &[7]);
    c.until("the learner is there", |c| c.raft(node(7)).last() == c.raft(leader).last());
    c.settle();
    let mut elections = 0;
    for _ in 0..50 {
        let leader = c.elect();
        let follower = c.others(leader)[0];
        let stale = one_of_each(&mut c, liar, follower).swap_remove(10);
        let (term, boot) = (c.raft(leader).term().0, c.machines[&leader].boot.0);
        let message = forged(&stale.message, |m| {
            m["term"] = (term + 1).into();
            m["fence"]["to_boot"] = boot.into();
        });
        c.deliver(Packet { to: leader, message, ..stale });
        elections += u32::from(c.raft(leader).term().0 > term);
        c.run(1_000 * MS);
    }
    // Once for each voter that led meanwhile.
    assert!((1..=3).contains(&elections), "{elections}");
}

/// A second leader in a term is refused by those who know the first, with an alarm, and by the first.
#[test]
fn a_second_leader_of_a_term_is_refused() {
    let mut c = Cluster::of(5);
    let leader = c.elect();
    c.settle();
    let (victim, liar) = (c.others(leader)[0], c.others(leader)[1]);
    let heartbeat = one_of_each(&mut c, liar, victim).swap_remove(7);
    for to in [victim, leader] {
        let before = state(&c, to);
        let boot = c.machines[&to].boot.0;
        let message = forged(&heartbeat.message, |m| m["fence"]["to_boot"] = boot.into());
        c.deliver(Packet { to, message, ..heartbeat.clone() });
        assert_eq!(c.machines[&to].alarms.len(), 1);
        assert_eq!(state(&c, to), before);
    }
}

/// One member cannot stop another with a tale of another history: below the commit index it is refused, term after
/// term, and the group goes on without it.
#[test]
fn one_liar_cannot_halt_anybody() {
    let mut c = Cluster::of(5);
    let leader = c.elect();
    for _ in 0..10 {
        c.propose(leader);
    }
    c.settle();
    let liar = c.others(leader)[0];
    for round in 0..6 {
        let leader = c.elect();
        let victim = c.others(leader).into_iter().find(|id| *id != liar).expect("somebody");
        let term = c.raft(victim).term().0 + 1;
        let heartbeat = one_of_each(&mut c, liar, victim).swap_remove(7);
        // A voter may claim the next term; what it then says of history is another matter.
        let other = serde_json::json!({"index": 3, "term": term});
        let message = forged(&heartbeat.message, |m| {
            m["term"] = term.into();
            m["body"]["a"]["prev"] = other.clone();
            m["body"]["a"]["last"] = other;
        });
        c.deliver(Packet { message, ..heartbeat.clone() });
        assert_eq!(c.machines[&victim].halted, None, "round {round}");
        assert!(c.machines[&victim].alarms.iter().any(|what| what.contains("contradicts")), "round {round}");
        let leader = c.elect();
        let ticket = c.propose(leader);
        c.until("a commit", |c| c.is_committed(ticket));
    }
    c.settle();
    assert!(c.machines.values().all(|m| m.halted.is_none()));
}

/// Indexes, counts and commit points out of all reason.
#[test]
fn numbers_out_of_reason_are_refused() {
    type Spoil = fn(&mut serde_json::Value);
    let spoil: [(usize, Spoil); 9] = [
        (0, |m| m["body"]["p"]["last"]["index"] = u64::MAX.into()),
        (3, |m| m["body"]["v"]["last"]["index"] = u64::MAX.into()),
        (3, |m| m["body"]["v"]["last"]["term"] = u64::MAX.into()),
        (7, |m| m["body"]["a"]["commit"] = u64::MAX.into()),
        (7, |m| m["body"]["a"]["last"]["index"] = u64::MAX.into()),
        (8, |m| m["body"]["A"]["verified"] = u64::MAX.into()),
        (8, |m| m["body"]["A"]["matched"] = 2.into()),
        (9, |m| m["body"]["C"]["runs"] = serde_json::json!([{"first": 1, "term": 2}, {"first": 1, "term": 1}])),
        (13, |m| m["body"]["R"]["index"] = u64::MAX.into()),
    ];
    let mut c = Cluster::of(3);
    let leader = c.elect();
    c.settle();
    let (victim, liar) = (c.others(leader)[0], c.others(leader)[1]);
    let kinds = one_of_each(&mut c, liar, victim);
    for (i, (kind, spoil)) in spoil.into_iter().enumerate() {
        let before = state(&c, victim);
        let message = forged(&kinds[kind].message, spoil);
        c.deliver(Packet { message, ..kinds[kind].clone() });
        assert_eq!(state(&c, victim), before, "case {i}");
        assert_eq!(c.machines[&victim].alarms.len(), i + 1, "case {i}");
    }
}

/// An ack of what this leader never had, a round never begun, a vote of somebody without one: nothing is counted.
#[test]
fn false_answers_commit_nothing() {
    let mut c = Cluster::of(3);
    c.add(9);
    let leader = c.elect();
    c.settle();
    let liar = node(9);
    let voter = c.others(leader)[0];
    let sample = one_of_each(&mut c, liar, voter);
    c.isolate(leader);
    let ticket = c.propose(leader);
    let read = c.read(leader);
    let committed = c.raft(leader).committed();
    let boot = c.machines[&leader].boot.0;
    c.cut.clear();
    for id in c.others(leader).into_iter().filter(|id| *id != liar) {
        c.cut(leader, id);
    }
    for (from, matched, round) in [(liar, 3, 99), (liar, 2, 1), (voter, 99, 1), (voter, 2, 99)] {
        let message = forged(&sample[8].message, |m| {
            m["body"]["A"] = serde_json::json!({"matched": matched, "verified": matched, "round": round});
            m["fence"]["from_boot"] = c.machines[&from].boot.0.into();
            m["fence"]["to_boot"] = boot.into();
            m["fence"]["admitted"] = 1.into();
        });
        let from_boot = c.machines[&from].boot;
        let cut = std::mem::take(&mut c.cut);
        c.deliver(Packet { from, from_boot, to: leader, message, ..sample[8].clone() });
        c.cut = cut;
    }
    assert_eq!(c.raft(leader).committed(), committed);
    assert_eq!((c.outcome(ticket), c.outcome(read)), (None, None));
}

/// A grant, of a pre-vote or a vote, that names another membership of the voter than the one it has now is not counted
/// (R11): the voter may have lost its disk since.
#[test]
fn a_grant_of_another_membership_elects_nobody() {
    for kind in ["pre-vote-reply", "vote-reply"] {
        for admitted in [0, 2, 99] {
            let mut c = Cluster::of(3);
            let (one, voters) = (node(1), [node(2), node(3)]);
            voters.iter().for_each(|voter| c.hold_back(*voter, one, kind));
            c.time_out(one);
            c.run(10 * MS);
            assert_eq!(c.captured.len(), 2);
            let before = state(&c, one);
            let grants: Vec<_> = c.captured.drain(..).collect();
            for packet in &grants {
                let message = forged(&packet.message, |m| m["fence"]["admitted"] = admitted.into());
                c.deliver(Packet { message, ..packet.clone() });
                assert_eq!(state(&c, one), before, "{kind} of membership {admitted}");
            }
            c.capture.clear();
            grants.into_iter().for_each(|packet| c.deliver(packet));
            c.until("the true ones count", |c| c.leader() == Some(one));
        }
    }
}

/// A configuration that is no step from the one before it, even of a leader, is refused: whoever reads it would count
/// another majority.
#[test]
fn a_configuration_that_drops_everybody_is_refused() {
    let alone = Configuration { voters: set(&[1]), ..Configuration::default() };
    let strangers = Configuration { voters: set(&[7, 8, 9]), ..Configuration::default() };
    let joint_of_others = Configuration { voters: set(&[7]), outgoing: set(&[8]), ..Configuration::default() };
    for lie in [alone, strangers, joint_of_others] {
        let mut c = Cluster::of(3);
        let leader = c.elect();
        c.settle();
        let follower = c.others(leader)[0];
        c.hold_back(leader, follower, "append");
        let ticket = c.propose(leader);
        let mut packet = c.captured.pop().expect("an append");
        c.capture.clear();
        let before = state(&c, follower);
        packet.entries[0].kind = EntryKind::Configuration(lie);
        c.deliver(packet);
        assert_eq!(c.machines[&follower].alarms.len(), 1);
        assert_eq!(state(&c, follower), before);
        c.settle();
        assert!(c.is_committed(ticket));
    }
}
