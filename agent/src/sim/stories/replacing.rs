//! The dead and those who only seem so: seats that are handed on, and seats that are kept. Incidents of others, most of them.

use super::plan;
use crate::machine::settings::Settings;
use crate::sim::plan::{Action, MS, Plan, SECOND};
use crate::sim::world::World;
use quorate_raft::{Configuration, NodeId};

/// Longer than any story.
const FOR_EVER: u64 = 100 * 3_600 * SECOND;

/// Agents with an autopilot that calls a voter dead after so long.
fn hasty(agents: usize, replace_after_us: u64) -> Plan {
    let mut plan = plan(agents);
    plan.knobs.replace_after_us = replace_after_us;
    plan
}

impl World {
    pub(super) fn formed_as(plan: Plan) -> Self {
        let mut w = World::new(plan);
        w.converges(60 * SECOND);
        w
    }

    fn configuration(&self) -> Configuration {
        self.witness.configuration().cloned().expect("there is one")
    }

    fn changes(&self) -> usize {
        self.witness.configurations().count()
    }

    /// Agents that vote and do not lead; and those that learn.
    fn followers_and_learners(&self) -> (Vec<usize>, Vec<usize>) {
        let (c, leader) = (self.configuration(), self.leader());
        let all = 0..self.machines.len();
        let followers = all.clone().filter(|m| Some(*m) != leader && c.voters.contains(&self.machines[*m].node));
        (followers.collect(), all.filter(|m| c.learners.contains(&self.machines[*m].node)).collect())
    }

    fn term(&self) -> u64 {
        self.witness.term().0
    }
}

/// consul#8118: three servers are rebooted one after the other, each sooner than any patience has passed, twice. No seat
/// moves, and the cluster serves.
#[test]
fn a_rolling_reboot_changes_no_configuration() {
    let mut w = World::formed(3);
    let before = w.changes();
    for round in 0..2 {
        for agent in 0..3 {
            w.act(&Action::Stop { agent, down_us: 2 * SECOND });
            w.run_to(w.at + 4 * SECOND);
            w.must("it is back", 10 * SECOND, |w| w.machines[agent].is_up() && w.leader().is_some());
            w.appends((agent + round) % 3);
        }
    }
    w.converges(20 * SECOND);
    assert_eq!(w.changes(), before);
}

/// A voter dies for good. Its seat waits ten minutes, by the default; then the spare has it, in one joint change, and at no
/// moment are there fewer than three voters.
#[test]
fn after_ten_minutes_a_spare_takes_the_seat_of_the_dead_in_one_change() {
    let mut w = World::formed(4);
    let (followers, learners) = w.followers_and_learners();
    let (dead, spare) = (followers[0], learners[0]);
    let (before, died) = (w.changes(), w.at);
    w.act(&Action::Kill { agent: dead, down_us: FOR_EVER });
    w.run_to(died + 600 * SECOND);
    assert_eq!(w.changes(), before, "too early");
    assert!(w.votes(dead) && !w.votes(spare));
    w.must("the spare votes", 60 * SECOND, |w| w.votes(spare));
    assert!(w.at - died >= Settings::default().replace_after_ms * MS, "too early");
    assert_eq!(w.changes(), before + 2, "the joint phase and its end");
    assert!(w.witness.configurations().skip(before).all(|c| c.voters.len() == 3));
    assert!(!w.configuration().is_member(w.machines[dead].node));
    w.appends(spare);

    // It comes back as what it is now: one that learns. Nobody has to be elected for that.
    let (term, node) = (w.term(), w.machines[dead].node);
    w.machines[dead].starting = false;
    w.start_at(dead, w.at);
    w.must("it learns", 30 * SECOND, |w| w.configuration().learners.contains(&node));
    w.converges(20 * SECOND);
    w.appends(dead);
    assert_eq!(w.term(), term);
    assert_eq!(w.voters(), 3);
}

/// Gossip of a voter is lost for minutes, so that all others call it failed, while it answers in Raft on connections that
/// are up. It keeps its seat.
#[test]
fn a_live_voter_that_gossip_calls_dead_keeps_its_seat() {
    let mut w = World::formed_as(hasty(4, 15 * SECOND));
    let (followers, _) = w.followers_and_learners();
    let (victim, before) = (followers[0], w.changes());
    w.act(&Action::LoseGossip { agent: victim, for_us: 300 * SECOND });
    let lied = |w: &World| w.trace.tail().any(|line| line.contains("has failed"));
    let mut told = false;
    for _ in 0..150 {
        w.run_to(w.at + 2 * SECOND);
        w.keeps_promises();
        told |= lied(&w);
    }
    assert!(told, "gossip called nobody dead: this shows nothing");
    assert_eq!(w.changes(), before);
    assert!(w.votes(victim));
    w.appends(victim);
}

/// A voter is cut off for an hour. Meanwhile a spare has its seat. When the way is open again it learns that, and
/// disturbs nobody: no election, no vote.
#[test]
fn a_partition_that_heals_after_an_hour_disturbs_nobody() {
    let mut w = World::formed(4);
    let (followers, learners) = w.followers_and_learners();
    let (cut, spare) = (followers[1], learners[0]);
    w.act(&Action::Isolate { agent: cut });
    w.run_to(w.at + 3_600 * SECOND);
    w.keeps_promises();
    assert!(w.votes(spare) && !w.votes(cut));
    let (leader, term) = (w.leader(), w.term());
    w.act(&Action::Heal);
    let node = w.machines[cut].node;
    w.must("it learns", 60 * SECOND, |w| w.configuration().learners.contains(&node));
    w.converges(20 * SECOND);
    assert_eq!((w.leader(), w.term()), (leader, term));
    w.appends(cut);
}

/// Half of a group of five is cut off for an hour: the two on the small side, with no spare anywhere. Nobody loses a seat
/// (consul#5922 took one after the other), and all five are back at once.
#[test]
fn without_a_spare_no_seat_is_taken_however_long() {
    let mut w = World::formed_as(hasty(5, 10 * SECOND));
    let (followers, _) = w.followers_and_learners();
    let before = w.changes();
    w.act(&Action::Halves { left: vec![followers[0], followers[1]] });
    w.run_to(w.at + 600 * SECOND);
    w.keeps_promises();
    assert_eq!((w.changes(), w.voters()), (before, 5));
    w.act(&Action::Heal);
    w.converges(30 * SECOND);
    assert_eq!(w.changes(), before);
}

/// Seven agents in three zones: the voters are spread as evenly as can be, and the seat of a dead one goes to a spare of
/// its own zone, unless another zone has fewer.
#[test]
fn voters_are_spread_over_zones_and_a_spare_of_the_same_zone_comes_first() {
    let mut seven = hasty(7, 15 * SECOND);
    for (agent, zone) in seven.agents.iter_mut().zip(["x", "x", "x", "y", "y", "z", "z"]) {
        agent.zone = Some(zone.into());
    }
    let mut w = World::formed_as(seven);
    w.run_to(w.at + 15 * SECOND);
    w.converges(30 * SECOND);
    let counts = |w: &World| {
        let zone = |n: &NodeId| w.machines.iter().find(|m| m.node == *n).and_then(|m| m.zone.clone());
        let voters: Vec<_> = w.configuration().voters.iter().filter_map(zone).collect();
        ["x", "y", "z"].map(|z| voters.iter().filter(|v| *v == z).count())
    };
    let before = counts(&w);
    assert!(before.iter().all(|n| (1..=2).contains(n)), "{before:?}");
    let (followers, learners) = w.followers_and_learners();
    let same_zone = |a: usize, b: usize| w.machines[a].zone == w.machines[b].zone;
    let pair = followers.iter().find_map(|f| Some((*f, learners.iter().copied().find(|l| same_zone(*f, *l))?)));
    let (dead, heir) = pair.expect("two of three zones have a spare");
    // The other spare has been there for longer: by that alone it would come first.
    w.act(&Action::Stop { agent: heir, down_us: SECOND });
    w.run_to(w.at + 20 * SECOND);
    w.converges(10 * SECOND);
    w.act(&Action::Kill { agent: dead, down_us: FOR_EVER });
    w.must("a spare votes", 60 * SECOND, |w| !w.votes(dead) && w.voters() == 5);
    assert!(w.votes(heir), "not the one of its zone");
    assert_eq!(counts(&w), before);
}

/// With spares in a zone that has no voter, and voters crowded in another, one seat moves; when nothing is better any more,
/// none does.
#[test]
fn a_seat_moves_to_an_empty_zone_once() {
    let mut six = hasty(6, 15 * SECOND);
    for (agent, zone) in six.agents.iter_mut().zip(["x", "x", "x", "y", "y", "z"]) {
        agent.zone = Some(zone.into());
    }
    // The one of the third zone comes when five vote.
    six.agents[5].start_us = 20 * SECOND;
    let mut w = World::new(six);
    w.must("five vote", 19 * SECOND, |w| w.voters() == 5);
    w.run_to(21 * SECOND);
    let spare = 5;
    w.run_to(w.at + 8 * SECOND);
    assert!(!w.votes(spare), "it is not stable yet");
    w.must("it votes", 30 * SECOND, |w| w.votes(spare));
    w.converges(10 * SECOND);
    let before = w.changes();
    w.run_to(w.at + 60 * SECOND);
    assert_eq!(w.changes(), before);
    let learner = w.followers_and_learners().1[0];
    assert_eq!(w.machines[learner].zone.as_deref(), Some("x"), "the crowded zone gave the seat");
}

/// The group is full while a voter is dead: the spare has its seat, a newcomer the place of the spare. The dead one comes
/// back with its log and its old configuration: it is told the new one, says so, and stands for no election.
#[test]
fn a_replaced_voter_that_finds_no_room_knows_that_it_is_no_member() {
    let mut w = World::formed_as(hasty(8, 15 * SECOND));
    let (followers, _) = w.followers_and_learners();
    let dead = followers[0];
    let node = w.machines[dead].node;
    w.act(&Action::Kill { agent: dead, down_us: FOR_EVER });
    w.must("its seat and its place are taken", 90 * SECOND, |w| {
        let c = w.configuration();
        c.outgoing.is_empty() && !c.is_member(node) && c.members().len() == 7
    });
    // Until nobody tells it any more as a peer.
    w.run_to(w.at + 5 * SECOND);
    let (term, before) = (w.term(), w.changes());
    w.machines[dead].starting = false;
    w.start_at(dead, w.at);
    w.must("it knows", 20 * SECOND, |w| {
        let said = w.status(dead);
        said.is_some_and(|s| {
            s.raft == "none" && s.problems.iter().any(|p| p.contains("no member of the group any more"))
        })
    });
    let status = w.status(dead).expect("it is up");
    assert_eq!((status.voters.len(), status.learners.len()), (5, 2));
    assert!(!status.voters.contains(&w.machines[dead].name));
    w.run_to(w.at + 20 * SECOND);
    w.keeps_promises();
    assert_eq!((w.term(), w.changes()), (term, before));
    w.appends(dead);
}
