//! Stories of whole agents: a cast, a blow and a moral. The world is calm unless a story says otherwise.

use super::client::{End, Kind};
use super::plan::{Action, AgentPlan, Knobs, MS, Plan, SECOND};
use super::world::World;
use crate::api::{Code, Effect};

/// Agents a, b, c ...: the first one founds, the others join it.
fn plan(agents: usize) -> Plan {
    let agents = (0..agents)
        .map(|at| AgentPlan {
            start_us: at as u64 * 10 * MS,
            bootstrap: at == 0,
            join: if at == 0 { vec![] } else { vec![0] },
            wall_us: 0,
            name: None,
        })
        .collect();
    Plan { seed: 1, agents, knobs: Knobs::calm(), clients: 0, calm_at_us: 0, steps: Vec::new() }
}

impl World {
    /// A cluster that has found itself.
    fn formed(agents: usize) -> Self {
        let mut w = World::new(plan(agents));
        w.converges(15 * SECOND);
        w
    }

    /// Fails the story, with the end of the trace, unless it comes to be.
    #[track_caller]
    fn must(&mut self, what: &str, within: u64, is_so: impl FnMut(&mut Self) -> bool) {
        let came = self.run_until(within, is_so);
        self.keeps_promises();
        assert!(came, "{what}: not within {} ms", within / MS);
    }

    #[track_caller]
    fn keeps_promises(&self) {
        let violation = self.witness.violation();
        assert_eq!(violation, None);
    }

    #[track_caller]
    fn converges(&mut self, within: u64) {
        let mut why = String::new();
        let came = self.run_until(within, |w| match w.is_of_one_mind() {
            Ok(()) => true,
            Err(reason) => {
                why = reason;
                false
            }
        });
        self.keeps_promises();
        assert!(came, "not of one mind: {why}");
    }

    fn voters(&self) -> usize {
        self.witness.configuration().map_or(0, |c| if c.outgoing.is_empty() { c.voters.len() } else { 0 })
    }

    /// Asks for an append of one record.
    fn begin_append(&mut self, agent: usize, timeout_us: u64) -> usize {
        let first = self.next_value;
        self.next_value += 1;
        self.ask(None, agent, Kind::Append { first, count: 1 }, timeout_us).expect("the agent is up")
    }

    fn is_over(&self, operation: usize) -> bool {
        self.operations[operation].end.is_some()
    }

    fn end(&self, operation: usize) -> &End {
        self.operations[operation].end.as_ref().expect("it is over")
    }

    /// An append that must succeed.
    #[track_caller]
    fn appends(&mut self, agent: usize) {
        let operation = self.begin_append(agent, 5 * SECOND);
        self.must("an append ends", 6 * SECOND, |w| w.is_over(operation));
        assert!(matches!(self.end(operation), End::Answered(Ok(_))), "{:?}", self.end(operation));
    }

    /// A linearizable read that must succeed.
    #[track_caller]
    fn reads(&mut self, agent: usize) {
        let operation = self.ask(None, agent, Kind::Read, 5 * SECOND).expect("the agent is up");
        self.must("a read ends", 6 * SECOND, |w| w.is_over(operation));
        assert!(matches!(self.end(operation), End::Answered(Ok(_))), "{:?}", self.end(operation));
    }
}

/// Behaviour 1: three fresh agents are three voters and take an append within five seconds.
#[test]
fn three_fresh_agents_become_three_voters() {
    let mut w = World::new(plan(3));
    let operation = loop {
        w.run_to(w.at + 20 * MS);
        if w.machines[2].is_up() {
            break w.begin_append(2, 5 * SECOND);
        }
    };
    w.must("three voters", 5 * SECOND, |w| w.voters() == 3);
    w.must("a first ack", 5 * SECOND, |w| w.is_over(operation));
    assert!(matches!(w.end(operation), End::Answered(Ok(_))));
    assert!(w.at < 5 * SECOND);
}

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

/// Identical machines with one list of addresses: those that are up first find each other, and must go on looking.
#[test]
fn joiners_that_found_only_each_other_still_find_the_founder() {
    let mut late = plan(3);
    late.agents[0].start_us = 10 * SECOND;
    for joiner in &mut late.agents[1..] {
        joiner.join = vec![0, 1, 2];
    }
    let mut w = World::new(late);
    w.run_to(10 * SECOND);
    w.must("three voters", 15 * SECOND, |w| w.voters() == 3);
}

/// A founder dies after its log id is on disk and before its first entry is: it must not wait for ever for a log that
/// only it could have founded.
#[test]
fn a_founder_that_dies_in_the_middle_founds_after_all() {
    for calls in 0..40 {
        let mut alone = plan(1);
        alone.seed = calls;
        let mut w = World::new(alone);
        w.machines[0].disk.power_off_after(calls);
        w.tearing.insert(0, 100 * MS);
        w.must("it leads", 2 * SECOND, |w| w.leader().is_some());
        w.tearing.clear();
        w.machines[0].disk.heal();
        w.appends(0);
    }
}

/// The leader that was asked to leave is cut off with its own removal in the log. Its client hears nothing certain, a
/// later leader carries the removal out, and the agent goes, for it could never come back.
#[test]
fn a_removal_that_outlives_its_request_is_still_a_removal() {
    let mut w = World::formed(3);
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

/// Behaviour 1: a fourth agent learns, a fifth makes five voters, an eighth stays outside, and all of them serve.
#[test]
fn four_agents_are_three_voters_five_are_five_and_the_eighth_stays_outside() {
    for (agents, voters, members) in [(2, 1, 2), (4, 3, 4), (5, 5, 5), (8, 5, 7)] {
        let mut w = World::formed(agents);
        let c = w.witness.configuration().expect("there is a group").clone();
        assert_eq!((c.voters.len(), c.members().len()), (voters, members), "of {agents}");
        for agent in 0..agents {
            w.appends(agent);
            w.reads(agent);
        }
        w.keeps_promises();
    }
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

/// Behaviour 3: all die at once, in the middle of writing; they serve again by themselves.
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

/// Behaviour 7: an agent returns under another address, then all of them at once; no configuration changes.
#[test]
fn agents_return_under_other_addresses_without_a_change() {
    let mut w = World::formed(3);
    let before = w.witness.configurations().count();
    w.act(&Action::Move { agent: 1, down_us: 500 * MS });
    w.run_to(w.at + SECOND);
    w.converges(20 * SECOND);
    w.appends(1);
    w.act(&Action::MoveAll { down_us: 500 * MS });
    w.run_to(w.at + SECOND);
    w.converges(30 * SECOND);
    w.appends(2);
    assert_eq!(w.witness.configurations().count(), before);
}

/// A wiped disk under an old name is a new node: it waits until the old one has been silent for 30 s, then takes its
/// seat, and the old one never votes again.
#[test]
fn a_wiped_disk_takes_its_name_back_after_thirty_seconds() {
    let mut w = World::formed(3);
    let old = w.machines[2].node;
    let wiped_at = w.at;
    w.act(&Action::Wipe { agent: 2, down_us: 100 * MS });
    let new = w.machines[2].node;
    assert_ne!(old, new);
    w.must("the new disk votes", 90 * SECOND, |w| w.witness.configuration().is_some_and(|c| c.voters.contains(&new)));
    assert!(w.at - wiped_at >= 30 * SECOND, "too early, after {} us", w.at - wiped_at);
    w.converges(10 * SECOND);
    assert!(w.witness.configuration().is_some_and(|c| !c.is_member(old)));
    w.appends(2);
}

/// Two founders that name each other become one cluster, not two histories.
#[test]
fn two_founders_that_join_each_other_found_one_log() {
    for apart_us in [0, 10 * MS, 2_900 * MS, 3_100 * MS] {
        let mut both = plan(3);
        both.agents[0].join = vec![1];
        both.agents[1].bootstrap = true;
        both.agents[1].join = vec![0];
        both.agents[1].start_us = apart_us;
        let mut w = World::new(both);
        w.must("three voters", 20 * SECOND, |w| w.voters() == 3);
        let logs: Vec<_> = w.machines.iter().filter_map(|m| m.process.as_ref()?.log_id).collect();
        assert!(logs.iter().all(|l| *l == logs[0]), "{apart_us} us apart: {logs:?}");
    }
}

/// All machines have new addresses, and those that are up first find each other and a leader: the one that comes last
/// knows only old addresses, so the others must go on trying its name.
#[test]
fn the_last_to_return_under_a_new_address_is_looked_for() {
    let mut named = plan(3);
    named.agents[1].join = vec![0, 2];
    named.agents[2].join = vec![0, 1];
    let mut w = World::new(named);
    w.converges(15 * SECOND);
    w.act(&Action::Move { agent: 0, down_us: 9 * SECOND });
    w.act(&Action::Move { agent: 1, down_us: 100 * MS });
    w.act(&Action::Move { agent: 2, down_us: 100 * MS });
    w.run_to(w.at + 9 * SECOND);
    w.converges(20 * SECOND);
    w.appends(0);
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

/// A disk is lost twice before its new node had its seat: the newest one gets it.
#[test]
fn a_disk_that_is_lost_twice_still_gets_its_seat_back() {
    let mut w = World::formed(3);
    let (first, registered) = (w.machines[2].node, 31 * SECOND);
    w.act(&Action::Wipe { agent: 2, down_us: 100 * MS });
    w.run_to(w.at + registered);
    w.must("it learns, or votes already", 30 * SECOND, |w| {
        w.witness.configuration().is_some_and(|c| c.is_member(w.machines[2].node))
    });
    w.act(&Action::Wipe { agent: 2, down_us: 100 * MS });
    let newest = w.machines[2].node;
    w.must("the newest disk votes", 120 * SECOND, |w| {
        w.witness.configuration().is_some_and(|c| c.voters.contains(&newest) && !c.is_member(first))
    });
    w.converges(10 * SECOND);
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
