//! The lean world against the plain one, small worlds as a whole, and the deliberate bugs.

use super::bounds::{Bounds, Explored, Looking};
use super::plain::Plain;
use super::search::{explore, visit};
use super::walk::{visit_plain, visit_wander, wander};
use super::world::{Logs, Machine};
use std::collections::BTreeSet;
use std::sync::Arc;

fn calm(machines: usize, looking: Looking) -> Bounds {
    Bounds {
        machines,
        expect: 3,
        crashes: 0,
        wipes: 0,
        call_offs: 0,
        rounds: 3,
        looking,
        reborn_low: false,
        states_max: 2_000_000,
        probe_every: u64::from(looking == Looking::True),
    }
}

/// What came of it so far: the logs, and of each machine what it is bound to and has said itself. Of one with a log only that:
/// it says what it is asked.
fn outcome(machines: &[Arc<Machine>], logs: &Logs) -> String {
    let machine = |machine: &Arc<Machine>| {
        let (node, record) = (machine.node(), machine.member.record());
        let bound = record.pledge.as_ref().map(|p| (p.proposal.id(), p.lives, p.words.of(node)));
        match machine.member.log() {
            Some(log) => format!("{node} {log:?}"),
            None => format!("{node} {} {bound:?}", record.floor),
        }
    };
    let all: Vec<String> = machines.iter().map(machine).collect();
    format!("{all:?} {:?}", logs.keys())
}

fn lean_outcomes(bounds: &Bounds) -> (Explored, BTreeSet<u64>) {
    let mut all = BTreeSet::new();
    let explored = visit(bounds, |table, state| {
        let machines: Vec<_> = state.machines.iter().map(|id| table.machines.get(*id)).collect();
        all.insert(super::world::print_of(&outcome(&machines, &table.logs.get(state.logs))));
    });
    assert!(explored.is_whole, "{explored}");
    assert_eq!(explored.violation, None);
    (explored, all)
}

/// Every outcome of the plain world is one of the lean world; where the plain one can be searched as a whole, no other is.
#[test]
fn the_lean_world_comes_to_what_the_plain_world_comes_to() {
    let of = |crashes, wipes, call_offs, rounds, bounds| Bounds { crashes, wipes, call_offs, rounds, ..bounds };
    let (looks, blind) = (calm(3, Looking::True), calm(3, Looking::Blind));
    let worlds = [
        (of(0, 0, 0, 3, looks), true),
        (of(1, 0, 0, 3, looks), true),
        (of(1, 1, 1, 3, looks), false),
        (of(1, 1, 1, 1, blind), false),
    ];
    for (bounds, is_small) in worlds {
        let bounds = Bounds { probe_every: 0, ..bounds };
        let (lean, outcomes) = lean_outcomes(&bounds);
        let bounds = Bounds { states_max: if is_small { 2_000_000 } else { 5_000 }, ..bounds };
        let mut missing = None;
        let mut plain = BTreeSet::new();
        let mut look = |state: &Plain| {
            let outcome = outcome(&state.machines, &state.logs);
            let print = super::world::print_of(&outcome);
            if !outcomes.contains(&print) {
                missing.get_or_insert(outcome);
            }
            plain.insert(print);
        };
        let searched = visit_plain(&bounds, &mut look);
        visit_wander(&bounds, if is_small { 0 } else { 150 }, 11, &mut look);
        println!("{bounds:?}\n lean: {lean}\nplain: {searched}, {} of {} outcomes", plain.len(), outcomes.len());
        assert_eq!(missing, None, "the lean world lacks this");
        assert_eq!(searched.is_whole, is_small);
        assert!(!is_small || plain == outcomes, "the lean world invents something");
    }
}

#[test]
fn no_two_logs_and_always_one_in_the_end() {
    let looks = calm(3, Looking::True);
    let blind = calm(4, Looking::Blind);
    let worlds = [
        Bounds { crashes: 1, wipes: 1, call_offs: 1, reborn_low: true, probe_every: 20, ..looks },
        Bounds { machines: 4, crashes: 1, wipes: 1, probe_every: 50, ..looks },
        Bounds { machines: 5, crashes: 1, probe_every: 10, ..looks },
        Bounds { crashes: 1, rounds: 2, ..blind },
    ];
    for bounds in worlds {
        let explored = explore(&bounds);
        println!("{bounds:?}: {explored}");
        assert_eq!(explored.violation, None);
        assert!(explored.is_whole && explored.founded > 0, "{explored}");
    }
}

/// Two of three disks lost before it is decided: nobody can go on, and that is what is said of it.
#[test]
fn a_majority_of_lost_disks_needs_a_person() {
    let explored = explore(&Bounds { wipes: 2, ..calm(3, Looking::True) });
    println!("{explored}");
    assert_eq!(explored.violation, None);
    assert!(explored.is_whole && explored.formed > 0 && explored.blocked > 0, "{explored}");
}

#[test]
fn walks_far_from_the_beginning_end_well_too() {
    for (looking, probe_every, least) in [(Looking::True, 1, 50), (Looking::Blind, 0, 1)] {
        let far = Bounds { crashes: 2, wipes: 1, call_offs: 3, rounds: u64::MAX, probe_every, ..calm(5, looking) };
        let wandered = wander(&far, 100, 7);
        println!("{looking:?}, {wandered}");
        assert_eq!(wandered.violation, None);
        assert!(wandered.founded >= least, "{wandered}");
    }
}

/// A search that hides a bug is none: each deliberate one is found in the lean world, and its way is told.
#[cfg(feature = "mutants")]
#[test]
fn each_deliberate_bug_is_caught() {
    use quorate_raft::mutants::{Mutant, choose};
    let (looks, blind) = (calm(5, Looking::True), calm(3, Looking::Blind));
    let worlds = [
        (Mutant::PledgeTwice, Bounds { rounds: 2, ..blind }),
        (Mutant::PledgeUnsynced, Bounds { rounds: 1, crashes: 2, wipes: 1, ..blind }),
        (Mutant::CertificateOfMajority, Bounds { rounds: 1, wipes: 1, ..blind }),
        (Mutant::ReleasedWithoutProof, Bounds { rounds: 2, wipes: 1, call_offs: 1, ..blind }),
        (Mutant::VoteNotTold, Bounds { rounds: 2, wipes: 1, call_offs: 1, ..blind }),
        (Mutant::SilenceIsEmpty, Bounds { rounds: 1, wipes: 1, probe_every: 0, ..looks }),
    ];
    for (mutant, bounds) in worlds {
        choose(Some(mutant));
        let explored = explore(&bounds);
        choose(None);
        let what =
            explored.violation.unwrap_or_else(|| panic!("{mutant:?} is not caught in {} states", explored.states));
        println!("{mutant:?} after {} states: {what}", explored.states);
        assert!(what.starts_with("two logs"), "{what}");
    }
}
