//! Levels, drains, pins and departures from facts alone: told when they are forgotten, and not while somebody is at work.

use super::*;

/// The other voters as they answer, of the same log.
fn other(node: u64) -> Facts {
    let mut facts = Facts { name: format!("n{node}"), node, ..healthy() };
    facts.members = [1, 2, 3].into_iter().filter(|other| *other != node).map(member).collect();
    facts
}

fn first(case: &Case, cause: Cause) -> Finding {
    let found = diagnose(case).findings;
    found.iter().find(|finding| finding.cause == cause).cloned().unwrap_or_else(|| panic!("no {cause:?} in {found:?}"))
}

#[test]
fn a_program_that_is_too_old_is_named_and_what_follows_is_not() {
    let old = |f: &mut Facts| {
        f.level = LevelFacts { log: 3, supports: 2 };
        f.raft.machine = Some("the log is at feature level 3 and this program supports only 2".into());
    };
    assert_eq!(with(old), [Cause::ProgramTooOld]);
    assert_eq!(with(|f| f.level = LevelFacts { log: 3, supports: 3 }), []);
    assert_eq!(with(|f| f.level = LevelFacts { log: 3, supports: 0 }), [], "it does not say");
    // One that is not let in, as it hears it itself, and as the others tell it.
    let mut own = joiner();
    own.dials = vec![DialFacts { seed: "n2".into(), trouble: trouble("closed", "level"), ..DialFacts::default() }];
    assert_eq!(causes(&case(own, vec![])), [Cause::ProgramTooOld]);
    let stranger = |f: &mut Facts| {
        f.strangers =
            vec![StrangerFacts { node: 9, name: "n9".into(), detail: "level".into(), ..StrangerFacts::default() }];
    };
    assert_eq!(with(stranger), [Cause::ProgramTooOld]);
    // Another agent of the group.
    let mut third = other(3);
    old(&mut third);
    let finding = first(&case(healthy(), vec![third]), Cause::ProgramTooOld);
    assert!(finding.about == "n3" && finding.next[1].contains("same data directory"), "{finding:?}");
}

#[test]
fn who_keeps_the_level_down_is_named() {
    let level = |supports: u32| LevelFacts { log: 2, supports };
    let cluster = |own: u32, others: [Option<u32>; 2]| {
        let mut facts = Facts { level: level(own), ..healthy() };
        for (member, supports) in facts.members.iter_mut().zip(others) {
            (member.supports, member.connected) = (supports, supports.is_some());
        }
        case(facts, vec![])
    };
    assert_eq!(causes(&cluster(2, [Some(2), Some(2)])), []);
    assert_eq!(causes(&cluster(3, [Some(3), Some(3)])), [], "it is about to be raised");
    let finding = first(&cluster(3, [Some(3), Some(2)]), Cause::LevelHeldBack);
    assert!(finding.next[0].starts_with("upgrade n3:") && finding.evidence[0].ends_with("n1 and n2"), "{finding:?}");
    let finding = first(&cluster(2, [Some(2), Some(4)]), Cause::LevelHeldBack);
    assert!(finding.next[0].starts_with("upgrade n1 and n2:"), "{finding:?}");
    let finding = first(&cluster(3, [Some(3), None]), Cause::LevelHeldBack);
    assert!(finding.evidence[1].contains("n3") && finding.next[0].contains("quorate remove"), "{finding:?}");
}

#[test]
fn a_drain_is_forgotten_when_its_agent_is_back_and_nobody_ends_it() {
    let drained = |known_ms: u64, up_ms: u64| {
        let mut own = healthy();
        own.registry.draining = vec![(3, known_ms)];
        let mut third = Facts { up_ms, ..other(3) };
        third.registry.draining = vec![(3, up_ms.min(known_ms))];
        case(own, vec![third])
    };
    assert_eq!(causes(&drained(20_000, 900_000)), [], "somebody is at work on it");
    assert_eq!(causes(&drained(20_000, 5_000)), [], "it has just come back");
    let finding = first(&drained(90_000, 31_000), Cause::DrainLeft);
    assert!(finding.evidence[0].contains("started again 31 s ago"), "{finding:?}");
    assert_eq!(finding.next, ["if the work on it is done: `quorate drain --undo n3`"]);
    assert_eq!(causes(&drained(599_000, 900_000)), []);
    assert_eq!(causes(&drained(600_000, 900_000)), [Cause::DrainLeft]);
    // One that is down waits for whoever works on it, however long.
    let mut down = healthy();
    down.registry.draining = vec![(3, 900_000)];
    gone(&mut down.members[1]);
    assert_eq!(causes(&case(down, vec![])), [Cause::VoterDown]);
    // A newer log says that it is over.
    let mut newer = drained(600_000, 900_000);
    let third = newer.picture.as_mut().unwrap().others[0].facts.as_mut().unwrap();
    (third.raft.applied, third.registry.draining) = (9, vec![]);
    assert_eq!(causes(&newer), []);
}

#[test]
fn a_departure_that_is_only_said_is_told() {
    let said = |since_ms: u64| {
        move |f: &mut Facts| {
            gone(&mut f.members[1]);
            (f.members[1].state, f.members[1].since_ms) = ("left".into(), since_ms);
        }
    };
    assert_eq!(with(said(11_000)), [Cause::LeftInGossip]);
    assert_eq!(with(said(9_000)), [Cause::VoterDown], "its removal may be on its way");
    let alone = |f: &mut Facts| {
        said(11_000)(f);
        gone(&mut f.members[0]);
        leaderless(f);
    };
    assert_eq!(with(alone), [Cause::LeftInGossip, Cause::QuorumDown]);
    let outside = |f: &mut Facts| {
        said(11_000)(f);
        f.raft.voters = vec![1, 2];
    };
    assert_eq!(with(outside), [], "its seat is gone");
}

#[test]
fn seats_that_operators_hold_are_told_where_they_cost_something() {
    let group = |voters: &[u64], learners: &[u64], pinned: &[u64]| {
        let mut facts = healthy();
        (facts.raft.voters, facts.raft.learners) = (voters.to_vec(), learners.to_vec());
        facts.members = (2..=6).map(member).collect();
        facts.autopilot.voters_target = 5;
        facts.registry.pinned = pinned.iter().map(|node| (*node, "learner".to_owned())).collect();
        facts
    };
    let found = |facts: Facts| causes(&case(facts, vec![]));
    assert_eq!(found(group(&[1, 2, 3], &[4], &[4])), [], "four voters bear no more than three");
    assert_eq!(found(group(&[1, 2], &[3], &[3])), [Cause::AutopilotHeld]);
    assert_eq!(found(group(&[1, 2, 3], &[4, 5], &[4])), [Cause::AutopilotHeld]);
    assert_eq!(found(group(&[1, 2, 3], &[4, 5, 6], &[4])), [], "others can have the seats");
    assert_eq!(found(group(&[1, 2, 3, 4, 5], &[6], &[6])), [], "as many as there shall be");
    let finding = first(&case(group(&[1, 2], &[3], &[3]), vec![]), Cause::AutopilotHeld);
    assert_eq!(finding.next, ["let the autopilot decide again: `quorate demote --undo n3`"]);

    let upgrade = |voter: &str, learner: &str, off: bool| {
        let mut facts = group(&[1, 2, 3], &[4], &[]);
        facts.version = voter.into();
        facts.members.iter_mut().for_each(|m| m.version = voter.into());
        facts.members[2].version = learner.into();
        facts.autopilot.upgrade_off = off;
        facts
    };
    assert_eq!(found(upgrade("1.9.0", "1.10.0", true)), [Cause::AutopilotHeld]);
    assert_eq!(found(upgrade("1.9.0", "1.10.0", false)), []);
    assert_eq!(found(upgrade("1.10.0", "1.9.0", true)), []);
    assert_eq!(found(upgrade("1.9.0", "1.9.0-dev", true)), []);
}
