//! Appends and their answers: nothing acked is lost, nothing refused appears, nobody is told what is not so.

use super::plan;
use crate::api::{Code, Effect};
use crate::node::Reply;
use crate::sim::client::{End, Kind};
use crate::sim::plan::{Action, MS, SECOND};
use crate::sim::world::World;

/// Behaviour 4: a client is told that the outcome is unknown, and the entry is committed after all. Nobody waits for
/// that any more, and that is no fault of anyone.
#[test]
fn an_append_that_outlives_its_client_is_committed_in_silence() {
    let mut w = World::formed(3);
    let leader = w.leader().expect("one leads");
    for other in (0..3).filter(|o| *o != leader) {
        w.act(&Action::Cut { from: other, to: leader });
    }
    let operation = w.begin_append(leader, 50 * MS);
    w.must("it ends", 100 * MS, |w| w.is_over(operation));
    let End::Answered(Err(failure)) = w.end(operation) else { panic!("nobody could confirm it") };
    assert_eq!((failure.code, failure.effect), (Code::Unknown, Effect::Unknown));
    w.act(&Action::Heal);
    w.must("it stands", 5 * SECOND, |w| w.witness.offset_of(0).is_some());
    w.appends(leader);
}

/// What a log costs it costs per entry: appends that come while others are on their way share one, and each of them
/// still hears its own offset.
#[test]
fn appends_that_come_together_travel_together() {
    let mut w = World::formed(3);
    let leader = w.leader().expect("one leads");
    let before = w.witness.standing();
    let many: Vec<usize> = (0..50).map(|_| w.begin_append(leader, SECOND)).collect();
    w.must("all end", SECOND, |w| many.iter().all(|o| w.is_over(*o)));
    let offsets: Vec<u64> = many
        .iter()
        .map(|o| match w.end(*o) {
            End::Answered(Ok(Reply::Appended(appended))) if appended.first == appended.last => appended.first,
            other => panic!("{other:?}"),
        })
        .collect();
    assert!(offsets.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{offsets:?}");
    let entries = w.witness.standing() - before;
    assert!(entries <= 5, "{entries} entries for 50 appends");
}

/// What waits for the next entry has surely not been appended when its time is over, and is told so; what was proposed
/// before it is not known.
#[test]
fn what_was_only_gathered_is_surely_not_appended() {
    let mut w = World::formed(3);
    let leader = w.leader().expect("one leads");
    for other in (0..3).filter(|o| *o != leader) {
        w.act(&Action::Cut { from: other, to: leader });
    }
    let many: Vec<usize> = (0..6).map(|_| w.begin_append(leader, 50 * MS)).collect();
    w.must("they end", 100 * MS, |w| many.iter().all(|o| w.is_over(*o)));
    let words: Vec<&str> = many.iter().map(|o| w.end(*o).word()).collect();
    assert_eq!(words, ["unknown", "unknown", "not-applied", "not-applied", "not-applied", "not-applied"]);
    w.act(&Action::Heal);
    w.appends(leader);
    w.witness.all_acked_stand();
}

/// A batch that the leader refuses must not leave a hole in the numbering of its stream: every agent would halt there.
#[test]
fn a_refused_batch_leaves_no_hole_in_its_stream() {
    let mut alone = plan(1);
    alone.knobs.uncommitted_bytes_max = 300;
    let mut w = World::new(alone);
    w.must("it leads", SECOND, |w| w.leader().is_some());
    let many: Vec<usize> = (0..40).map(|_| w.begin_append(0, SECOND)).collect();
    w.must("all end", 2 * SECOND, |w| many.iter().all(|o| w.is_over(*o)));
    let refused = many.iter().filter(|o| w.end(**o).word() == "not-applied").count();
    assert!(refused > 0, "nothing was refused");
    w.appends(0);
}

/// Behaviour 2: the leader dies under load; the next append, through anyone, is acked within a second.
#[test]
fn a_killed_leader_is_replaced_and_nothing_acked_is_lost() {
    let mut w = World::formed(3);
    for _ in 0..20 {
        let leader = w.leader().expect("one leads");
        let other = (leader + 1) % 3;
        w.begin_append(leader, SECOND);
        w.begin_append(other, SECOND);
        w.run_to(w.at + 3 * MS);
        w.act(&Action::Kill { agent: leader, down_us: 3 * SECOND });
        let killed_at = w.at;
        // One that went to the dead leader ends as unknown; the client goes on with the next.
        let mut asked = Vec::new();
        let acked = w.run_until(10 * SECOND, |w| {
            asked.push(w.begin_append(other, 2 * SECOND));
            asked.iter().any(|o| w.operations[*o].end.as_ref().is_some_and(|e| e.word() == "ok"))
        });
        assert!(acked, "no ack");
        let took = w.at - killed_at;
        println!("first ack after {} ms", took / MS);
        assert!(took < 10 * SECOND, "{took} us");
        w.must("it is back", 10 * SECOND, |w| w.is_of_one_mind().is_ok());
        assert_eq!(w.voters(), 3);
    }
    w.witness.all_acked_stand();
    w.keeps_promises();
}

/// Behaviour 3: all die at once, in the middle of writing; they serve again by themselves (D4).
#[test]
fn all_agents_lose_power_at_once_and_nothing_acked_is_lost() {
    let mut w = World::formed(3);
    for round in 0..10 {
        for agent in 0..3 {
            w.begin_append(agent, SECOND);
        }
        w.run_to(w.at + round * MS);
        w.act(&Action::CrashAll { down_us: 200 * MS });
        w.converges(15 * SECOND);
        w.appends(0);
    }
    w.witness.all_acked_stand();
    w.keeps_promises();
}

/// Behaviour 4: without a quorum an append ends in time, and what the client hears is true.
#[test]
fn without_a_quorum_an_append_ends_in_time_and_with_the_truth() {
    let mut w = World::formed(3);
    let leader = w.leader().expect("one leads");
    w.act(&Action::Halves { left: vec![leader] });
    let sent = w.begin_append(leader, 400 * MS);
    w.run_to(w.at + 2 * SECOND);
    let unsent = w.begin_append(leader, 400 * MS);
    w.run_to(w.at + SECOND);
    let word = |w: &World, operation| match w.end(operation) {
        End::Answered(Err(failure)) => (failure.code, failure.effect),
        other => panic!("{other:?}"),
    };
    assert_eq!(word(&w, sent), (Code::Unknown, Effect::Unknown));
    assert_eq!(word(&w, unsent), (Code::NoQuorum, Effect::NotApplied));
    w.act(&Action::Heal);
    w.converges(15 * SECOND);
    w.appends(leader);
    assert_eq!(w.witness.offset_of(1), None, "what was not applied never appears");
}

/// The connection that carried a forwarded append breaks, while the two agents stay connected by another. Nobody can say
/// what became of the append, and the client hears that at once and not at its deadline.
#[test]
fn a_forward_whose_connection_broke_ends_at_once() {
    let mut w = World::formed(3);
    let leader = w.leader().expect("one leads");
    let forwards = (leader + 1) % 3;
    // The leader gets it, and cannot answer for a while.
    for agent in 0..3 {
        w.act(&Action::SlowDisk { agent, sync_us: 900 * MS, for_us: 200 * MS });
    }
    let operation = w.begin_append(forwards, 20 * SECOND);
    w.run_to(w.at + 20 * MS);
    assert!(!w.is_over(operation), "it is under way");
    w.act(&Action::LoseBulk { agent: forwards });
    w.must("it ends", 10 * MS, |w| w.is_over(operation));
    let End::Answered(Err(failure)) = w.end(operation) else { panic!("nobody could know") };
    assert_eq!((failure.code, failure.effect), (Code::Unknown, Effect::Unknown));
    // It stands all the same, and the next one is acked.
    w.must("it stands", 5 * SECOND, |w| w.witness.offset_of(0).is_some());
    w.appends(forwards);
    w.keeps_promises();
}

/// An agent forwards an append, dies, and comes back; its new life forwards others. The late answer to the first one
/// must not pass for an answer to any of those.
#[test]
fn a_late_answer_to_a_former_life_ends_nothing_in_the_next() {
    let mut w = World::formed(3);
    let leader = w.leader().expect("one leads");
    let (forwards, other) = ((leader + 1) % 3, (leader + 2) % 3);
    // Nothing is committed for a while: the leader hears both, and their acks and its own are late.
    for agent in [leader, other] {
        w.act(&Action::SlowDisk { agent, sync_us: 900 * MS, for_us: 200 * MS });
    }
    for _ in 0..40 {
        w.begin_append(forwards, 5 * SECOND);
    }
    w.run_to(w.at + 10 * MS);
    w.act(&Action::Kill { agent: forwards, down_us: 20 * MS });
    w.must("it is connected again", SECOND, |w| {
        let (machine, to) = (&w.machines[forwards], w.machines[leader].node.get());
        machine.lives == 2 && machine.is_up() && w.network.route(forwards, 2, to).is_some()
    });
    let asked: Vec<usize> = (0..80).map(|_| w.begin_append(forwards, 5 * SECOND)).collect();
    w.must("all end", 6 * SECOND, |w| asked.iter().all(|o| w.is_over(*o)));
    w.witness.all_acked_stand();
    w.keeps_promises();
}

/// A leader whose clock runs slow is cut off, and goes on believing in itself while the others have a new leader and
/// acknowledge. What it reads then must not be old: no read depends on a clock (Q4).
#[test]
fn a_deposed_leader_with_a_slow_clock_reads_nothing_old() {
    let mut w = World::formed(3);
    let old = w.leader().expect("one leads");
    let at = w.at;
    w.machines[old].process.as_mut().expect("it is up").clock.set_pace(at, 100);
    w.act(&Action::Isolate { agent: old });
    w.must("another one leads", 2 * SECOND, |w| {
        (0..3).any(|m| m != old && w.machines[m].process.as_ref().is_some_and(|p| p.node.is_leader()))
    });
    w.appends((old + 1) % 3);
    assert!(w.machines[old].process.as_ref().is_some_and(|p| p.node.is_leader()), "it knows already");
    let read = w.ask(None, old, Kind::Read, 300 * MS).expect("it is up");
    w.must("it ends", 4 * SECOND, |w| w.is_over(read));
    assert_ne!(w.end(read).word(), "ok");
    w.act(&Action::Heal);
    w.converges(20 * SECOND);
}
