//! Agents come back: under another address, or with an empty disk under the old name.

use super::plan;
use crate::sim::plan::{Action, MS, SECOND};
use crate::sim::world::World;

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

/// A copy of a disk gets in with one member that does not hear of the process on the disk itself; when the copy ends, that
/// member shuts the process out, and the leader goes on feeding it. Its disk is whole, and still the storms harm no other
/// one: of three members, two would be shut out, and an operator could help neither (seed 606597).
#[test]
fn no_disk_is_harmed_while_a_copied_one_is_shut_out() {
    let mut w = World::formed(3);
    let leader = w.leader().expect("one leads");
    let (copied, other, copy) = ((leader + 1) % 3, (leader + 2) % 3, 3);
    assert!((0..3).all(|agent| w.may_harm(agent)));
    w.act(&Action::Clone { agent: copied, for_us: 4 * SECOND });
    w.network.cut.extend([(copied, other), (other, copied)]);
    w.must("the copy gets in", 4 * SECOND, |w| w.machines[copy].admitted);
    w.network.cut.clear();
    w.must("the copy ends", 5 * SECOND, |w| !w.machines[copy].is_up());
    w.must("the other one is shut out", 10 * SECOND, |w| w.machines[copied].told_of_copy);
    w.appends(leader);
    w.run_to(w.at + 2 * SECOND);
    assert!(w.machines[copied].durable.holds(w.witness.standing(), w.witness.chain(w.witness.standing()).unwrap_or(0)));
    assert!(!w.may_harm(leader) && !w.may_harm(other));
    assert!(w.look_after(), "the operator does as the agent is told");
    w.must("it is a voter again", 90 * SECOND, |w| w.is_of_one_mind().is_ok());
    w.run_to(w.at + 2 * SECOND);
    assert!((0..3).all(|agent| w.may_harm(agent)));
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

/// A name changes hands while one voter is cut off together with its former holder, who lives on there. When the way is
/// open again that voter must follow whoever leads, though its registry gives that leader's name to the node beside it;
/// and the former holder stays out.
#[test]
fn a_lagging_voter_follows_a_leader_whose_name_it_knows_for_another() {
    let mut six = plan(6);
    // The sixth has the name of the fourth, and a disk of its own.
    six.agents[5].name = Some("d".into());
    six.agents[5].join = vec![0, 1, 2];
    six.agents[5].start_us = 20 * SECOND;
    let mut w = World::new(six);
    let (former, lagging) = (w.machines[3].node, w.machines[4].node);
    w.must("five vote", 15 * SECOND, |w| w.voters() == 5);
    w.act(&Action::Halves { left: vec![3, 4] });
    let heir = w.machines[5].node;
    w.must("the new disk takes the seat", 90 * SECOND, |w| {
        w.witness.configuration().is_some_and(|c| c.voters.contains(&heir) && !c.is_member(former))
    });
    // Until the new disk leads, whoever does is cut off for a while.
    let leads = |w: &World, agent: usize| w.machines[agent].process.as_ref().is_some_and(|p| p.node.is_leader());
    for _ in 0..60 {
        w.must("somebody leads", 20 * SECOND, |w| (0..6).any(|agent| agent < 3 && leads(w, agent)) || leads(w, 5));
        if leads(&w, 5) {
            break;
        }
        let leader = (0..3).find(|agent| leads(&w, *agent)).expect("one of these");
        w.act(&Action::Kill { agent: leader, down_us: 2 * SECOND });
        w.run_to(w.at + 4 * SECOND);
    }
    assert!(leads(&w, 5), "it never won an election");
    w.act(&Action::Heal);
    w.appends(4);
    w.reads(4);
    assert!(leads(&w, 5), "nobody had to be elected for that");
    assert!(w.witness.configuration().is_some_and(|c| c.voters.contains(&lagging) && !c.is_member(former)));
}
