//! Lives: what a start must remember, and what said in an earlier life must not count any more.

use quorate_raft::*;

use crate::cluster::*;
use crate::machine::*;

fn forged(message: &Message, change: impl FnOnce(&mut serde_json::Value)) -> Message {
    let mut json = serde_json::to_value(message).expect("a message");
    change(&mut json);
    serde_json::from_value(json).expect("a message")
}

/// §3.8: a voter that starts again remembers for whom it voted; a second candidate of that term gets nothing.
#[test]
fn a_start_remembers_its_vote() {
    let mut c = Cluster::of(3);
    let (one, two, three) = (node(1), node(2), node(3));
    c.hold_back(one, two, "vote");
    c.hold_back(one, three, "vote");
    c.time_out(one);
    c.run(20 * MS);
    let asked = c.captured.iter().find(|packet| packet.to == two).expect("a request for a vote").clone();
    c.capture.clear();
    c.hold_back(two, one, "vote-reply");
    c.hold_back(two, three, "vote-reply");
    c.deliver(asked.clone());
    c.run(20 * MS);
    let given = |c: &Cluster| c.captured.iter().filter(|p| p.from == two && p.message.grants_vote()).count();
    assert_eq!(given(&c), 1);
    c.crash(two);
    c.restart(two);
    let boot = c.machines[&three].boot;
    let message = forged(&asked.message, |m| {
        m["fence"]["from_boot"] = serde_json::to_value(boot).expect("a boot id");
        m["fence"]["to_boot"] = 0.into();
    });
    c.deliver(Packet { from: three, from_boot: boot, message, ..asked });
    c.run(20 * MS);
    assert_eq!(given(&c), 1, "a second vote in one term");
}

/// What a peer acknowledged in the life before may be lost by now; it is not counted before it says so again.
#[test]
fn an_acknowledgement_of_an_earlier_life_commits_nothing() {
    let mut c = Cluster::of(3);
    let leader = c.elect();
    c.settle();
    let (peer, away) = (c.others(leader)[0], c.others(leader)[1]);
    c.isolate(away);
    c.hold_back(peer, leader, "append-reply");
    let ticket = c.propose(leader);
    c.run(20 * MS);
    c.crash(peer);
    c.restart(peer);
    c.run(5 * MS);
    let (boot, last) = (c.machines[&peer].boot, c.raft(leader).last().index);
    let old = |p: &&Packet| p.from_boot != boot && p.message.acknowledges() == Some(last);
    let old = c.captured.iter().find(old).expect("an acknowledgement of the life before").clone();
    c.input(leader, Input::PeerUp { peer, boot });
    c.deliver(old);
    assert!(!c.is_committed(ticket));
    c.let_go();
    c.until("this life has said it", |c| c.is_committed(ticket));
}

/// §3.6.3: nobody, not even who claims to lead, replaces an entry that is known to be committed.
#[test]
fn what_is_committed_is_never_truncated() {
    let mut c = Cluster::of(3);
    let leader = c.elect();
    let first = c.propose(leader);
    c.settle();
    assert!(c.is_committed(first));
    let (victim, liar) = (c.others(leader)[0], c.others(leader)[1]);
    c.hold_back(leader, victim, "append");
    c.propose(leader);
    let sample = c.captured.pop().expect("an append");
    c.capture.clear();
    let committed = c.raft(victim).committed();
    let before = c.raft(victim).term_at(committed.prev()).expect("an entry");
    let (term, log) = (c.raft(victim).term().next(), c.terms(victim));
    let boot = c.machines[&liar].boot;
    let message = forged(&sample.message, |m| {
        m["term"] = term.0.into();
        m["fence"]["from_boot"] = serde_json::to_value(boot).expect("a boot id");
        m["body"]["a"]["prev"] = serde_json::json!({"index": committed.0 - 1, "term": before.0});
        m["body"]["a"]["last"] = serde_json::json!({"index": committed.0, "term": term.0});
    });
    let entry = EntryShape { position: Position { index: committed, term }, kind: EntryKind::Normal, bytes: 1 };
    let data = vec![(committed, 99)];
    c.deliver(Packet { from: liar, from_boot: boot, to: victim, message, entries: vec![entry], data });
    assert_eq!(c.terms(victim), log);
    assert!(c.machines[&victim].alarms.iter().any(|what| what.contains("contradicts")));
}
