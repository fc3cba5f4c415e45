//! Agents leave: a removal is carried out once it is recorded, and never takes the quorum with it.

use super::plan;
use crate::api::Code;
use crate::sim::client::{End, Kind};
use crate::sim::plan::{Action, MS, SECOND};
use crate::sim::world::World;
use quorate_raft::Configuration;

/// The leader that was asked to leave is cut off with its own removal in the log, since nobody could take over from it.
/// Its client hears nothing certain, a later leader carries the removal out, and the agent goes, for it could never come
/// back.
#[test]
fn a_removal_that_outlives_its_request_is_still_a_removal() {
    let mut w = nobody_can_take_over();
    let leader = w.leader().expect("one leads");
    w.act(&Action::LoseBulk { agent: leader });
    let leave = w.ask(None, leader, Kind::Leave, 40 * MS).expect("it is up");
    w.run_to(w.at + 8 * MS);
    w.act(&Action::Isolate { agent: leader });
    w.must("the request ends", SECOND, |w| w.is_over(leave));
    w.act(&Action::Heal);
    w.must("two voters, or three with the one that came back as new", 30 * SECOND, |w| w.counters.get("departed") == 1);
    w.converges(30 * SECOND);
}

/// A voter of five is dead, another one is killed, and at once a third one leaves: four voters of which two are dead could
/// elect nobody, so it is not let go before it is known who is still there.
#[test]
fn nobody_leaves_on_the_word_of_one_killed_just_before() {
    for after_ms in (0..60).step_by(6) {
        let mut w = World::formed(5);
        let leader = w.leader().expect("one leads");
        let others: Vec<usize> = (0..5).filter(|agent| *agent != leader).collect();
        w.act(&Action::Kill { agent: others[0], down_us: 300 * SECOND });
        w.run_to(w.at + 2 * SECOND);
        w.act(&Action::Kill { agent: others[1], down_us: 300 * SECOND });
        w.run_to(w.at + after_ms * MS);
        let leave = w.ask(None, others[2], Kind::Leave, 2 * SECOND).expect("it is up");
        w.must("the request ends", 5 * SECOND, |w| w.is_over(leave));
        w.must("the three that are left lead", 5 * SECOND, |w| w.leader().is_some());
        let append = w.begin_append(leader, 2 * SECOND);
        w.must("and commit", 5 * SECOND, |w| w.is_over(append));
        assert_eq!((w.end(append).word(), w.voters()), ("ok", 5), "asked {after_ms} ms after the kill");
    }
}

/// Of five voters one is dead, one learns, and one leaves; at that very moment another one is killed, which no leader can know
/// by then. Four voters of which two are dead would decide nothing before one of them is back, and a joint phase has no way
/// back; five, with the one that learned, do: its seat goes to whoever stands by, in the same change.
#[test]
fn who_leaves_hands_its_seat_to_a_spare_and_a_death_meanwhile_stops_nobody() {
    for after_ms in (0..72).step_by(6) {
        let mut w = World::formed(6);
        let leader = w.leader().expect("one leads");
        let others: Vec<usize> = (0..6).filter(|agent| *agent != leader && w.votes(*agent)).collect();
        let spare = (0..6).find(|agent| !w.votes(*agent)).expect("five of six vote");
        w.act(&Action::Kill { agent: others[0], down_us: 300 * SECOND });
        w.run_to(w.at + 2 * SECOND);
        w.machines[others[2]].rest_us = None;
        let leave = w.ask(None, others[2], Kind::Leave, 20 * SECOND).expect("it is up");
        w.run_to(w.at + after_ms * MS);
        w.act(&Action::Kill { agent: others[1], down_us: 300 * SECOND });
        w.must("it has left", 22 * SECOND, |w| w.is_over(leave));
        assert_eq!((w.end(leave).word(), w.voters()), ("ok", 5), "killed {after_ms} ms after it was asked to leave");
        assert!(w.votes(spare), "killed {after_ms} ms after it was asked to leave");
        w.appends(leader);
    }
}

/// Three voters whose clocks are all far apart: the one in the middle leads, and would hand over to nobody.
fn nobody_can_take_over() -> World {
    let mut apart = plan(3);
    for (agent, seconds) in apart.agents.iter_mut().zip([0, 20, -20]) {
        agent.wall_us = seconds * SECOND as i64;
    }
    let mut w = World::new(apart);
    w.converges(15 * SECOND);
    w
}

/// The leader that was asked to leave is cut off in each moment of handing over, asking and being removed. If its client
/// hears that nothing was done, nothing was; else it goes, or all three are of one mind that it stays.
#[test]
fn a_leaver_that_is_cut_off_at_any_moment_is_told_the_truth() {
    let mut gone = 0;
    for after_ms in (1..90).step_by(3) {
        let mut w = World::formed(3);
        let leader = w.leader().expect("one leads");
        let leave = w.ask(None, leader, Kind::Leave, 150 * MS).expect("it is up");
        w.run_to(w.at + after_ms * MS);
        w.act(&Action::Isolate { agent: leader });
        w.must("the request ends", SECOND, |w| w.is_over(leave));
        w.run_to(w.at + 2 * SECOND);
        w.act(&Action::Heal);
        w.run_to(w.at + 5 * SECOND);
        w.converges(30 * SECOND);
        let departed = w.counters.get("departed");
        match w.end(leave).word() {
            "ok" => assert_eq!(departed, 1, "after {after_ms} ms"),
            "not-applied" => assert_eq!((departed, w.voters()), (0, 3), "after {after_ms} ms"),
            _ => assert!(departed <= 1, "after {after_ms} ms"),
        }
        gone += departed;
    }
    assert!(gone > 5, "it was cut off late enough {gone} times");
}

/// Behaviour 6: leaving goes from three to two to one; a sole voter hands its seat over; the last one refuses.
#[test]
fn agents_leave_one_by_one_and_the_last_refuses() {
    let mut w = World::formed(3);
    w.machines.iter_mut().for_each(|m| m.rest_us = None);
    for (left, voters) in [(0, 2), (1, 1)] {
        let leave = w.ask(None, left, Kind::Leave, 10 * SECOND).expect("it is up");
        w.must("it has left", 12 * SECOND, |w| w.machines[left].departed);
        assert_eq!(w.end(leave).word(), "ok");
        assert_eq!(w.voters(), voters);
        w.appends(2);
    }
    let refused = w.ask(None, 2, Kind::Leave, 10 * SECOND).expect("it is up");
    w.must("the last one answers", 12 * SECOND, |w| w.is_over(refused));
    let End::Answered(Err(failure)) = w.end(refused) else { panic!("the last agent must not leave") };
    assert_eq!(failure.code, Code::Refused);
    // Started again, those that left are new nodes.
    for back in 0..2 {
        w.start_at(back, w.at);
    }
    w.converges(20 * SECOND);
    w.appends(0);
}

/// Behaviour 6: a sole voter with a learner hands its seat over before it goes.
#[test]
fn a_sole_voter_hands_its_seat_to_the_learner() {
    let mut w = World::formed(2);
    assert_eq!(w.voters(), 1);
    w.machines[0].rest_us = None;
    w.appends(1);
    let leave = w.ask(None, 0, Kind::Leave, 10 * SECOND).expect("it is up");
    w.must("it has left", 12 * SECOND, |w| w.machines[0].departed);
    assert_eq!(w.end(leave).word(), "ok");
    w.appends(1);
}

/// An agent loses power after its removal is committed and before it could stop: its disk does not know that it has
/// left, and nobody sends it the log any more. The leader tells it.
#[test]
fn a_removed_agent_that_died_before_it_could_stop_is_told() {
    let mut w = World::formed(3);
    let leader = w.leader().expect("one leads");
    let leaver = (leader + 1) % 3;
    w.ask(None, leaver, Kind::Leave, 10 * SECOND);
    w.must("two voters", 5 * SECOND, |w| w.voters() == 2);
    w.act(&Action::Crash { agent: leaver, down_us: SECOND });
    w.must("it has left", 20 * SECOND, |w| w.counters.get("departed") == 1);
    w.converges(20 * SECOND);
}

/// A voter has just died, and another one wants to leave: two voters would be left, one of them dead. The leaver waits,
/// and the cluster serves meanwhile.
#[test]
fn nobody_leaves_while_the_remaining_voters_are_not_here() {
    let mut w = World::formed(3);
    let leader = w.leader().expect("one leads");
    let (dies, leaves) = ((leader + 1) % 3, (leader + 2) % 3);
    w.act(&Action::Kill { agent: dies, down_us: 4 * SECOND });
    w.run_to(w.at + 150 * MS);
    let leave = w.ask(None, leaves, Kind::Leave, 10 * SECOND).expect("it is up");
    for _ in 0..10 {
        w.appends(leader);
        assert_eq!(w.voters(), 3);
        w.run_to(w.at + 300 * MS);
    }
    w.must("it leaves when the other is back", 10 * SECOND, |w| w.is_over(leave));
    assert_eq!((w.end(leave).word(), w.voters()), ("ok", 2));
}

/// A removed agent that saw nothing of its removal does not know the leader of today, who joined later. It believes a
/// member that it does know.
#[test]
fn a_removed_agent_is_told_by_a_member_that_it_knows() {
    let mut late = plan(4);
    late.agents[3].start_us = 10 * SECOND;
    let mut w = World::new(late);
    w.must("three voters", 5 * SECOND, |w| w.voters() == 3);
    w.run_to(5 * SECOND);
    let leaver = (w.leader().expect("one leads") + 1) % 3;
    w.ask(None, leaver, Kind::Leave, 3 * SECOND);
    w.run_to(w.at + 4 * MS);
    w.act(&Action::Isolate { agent: leaver });
    w.must("it is removed behind its back", 5 * SECOND, |w| w.voters() == 2);
    w.run_to(10 * SECOND);
    w.must("the newcomer votes", 10 * SECOND, |w| w.voters() == 3);
    while w.leader() != Some(3) {
        let leader = w.leader().expect("one leads");
        w.act(&Action::Kill { agent: leader, down_us: 500 * MS });
        w.must("another one leads", 10 * SECOND, |w| w.leader().is_some_and(|l| l != leader));
        w.run_to(w.at + 3 * SECOND);
        w.act(&Action::Isolate { agent: leaver });
    }
    assert!(w.machines[leaver].is_up());
    w.act(&Action::Heal);
    w.must("it goes", 30 * SECOND, |w| w.counters.get("departed") == 1);
    w.converges(40 * SECOND);
}

/// While one of three is being removed, each of the two that stay is needed, so neither is harmed: what the leader commits by
/// an acknowledgement that is on its way would be on no quorum of disks any more.
#[test]
fn no_half_of_a_joint_phase_loses_a_voter_that_it_needs() {
    let mut w = World::formed(3);
    w.appends(1);
    w.must("all hold all", 5 * SECOND, |w| (0..3).all(|agent| w.may_harm(agent)));
    let [leaves, stays, stays_too] = [0, 1, 2].map(|agent| w.machines[agent].node);
    let joint = Configuration {
        voters: [stays, stays_too].into(),
        outgoing: [leaves, stays, stays_too].into(),
        ..Configuration::default()
    };
    w.machines[1].configurations.insert(w.witness.standing() + 1, joint);
    assert_eq!([1, 2].map(|agent| w.may_harm(agent)), [false, false]);
}
