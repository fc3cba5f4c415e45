//! Walk: through the plain world, breadth first or at random.
//!
//! It never leaves anything out; so it does not come far.

use super::bounds::{Bounds, Explored, Looking};
use super::calm::forms;
use super::plain::{Plain, Step};
use super::world::{broken, is_blocked};
use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// Steps of one walk.
const WALK_STEPS: usize = 120;
/// Walks in each world in one turn of a search for a deliberate bug, and turns.
const HUNT_WALKS: u64 = 500;
const HUNT_TURNS: u64 = 40;

/// What is wrong with a state, after it was counted.
fn judge(explored: &mut Explored, state: &Plain, bounds: &Bounds, probe: bool) -> Option<String> {
    explored.founded += u64::from(!state.logs.is_empty());
    if let Some(what) = broken(&state.logs, bounds.looking) {
        return Some(what);
    }
    match probe.then(|| forms(&state.machines, &state.logs)) {
        Some(Ok(())) => explored.formed += 1,
        Some(Err(_)) if is_blocked(&state.machines) => explored.blocked += 1,
        Some(Err(what)) => return Some(what),
        None => {}
    }
    None
}

/// Goes through every state of the plain world within the bounds, breadth first, until a promise is broken.
#[must_use]
pub fn explore_plain(bounds: &Bounds) -> Explored {
    visit_plain(bounds, |_| {})
}

/// The same, and shows each state to somebody.
pub(super) fn visit_plain(bounds: &Bounds, mut visit: impl FnMut(&Plain)) -> Explored {
    let mut explored = Explored::default();
    let first = Plain::first(bounds);
    let mut seen: HashMap<u128, (u128, Option<Step>)> = HashMap::from([(first.print(), (0, None))]);
    let mut level = vec![first];
    while !level.is_empty() {
        let mut deeper = Vec::new();
        for state in std::mem::take(&mut level) {
            let print = state.print();
            visit(&state);
            let probe = bounds.probe_every > 0 && (print as u64).is_multiple_of(bounds.probe_every);
            if let Some(what) = judge(&mut explored, &state, bounds, probe) {
                let way: Vec<String> = way(&seen, print).iter().map(|step| format!("{step:?}")).collect();
                explored.violation = Some(format!("{what}; after {}", way.join(", ")));
                explored.states = seen.len();
                return explored;
            }
            state.next(bounds, |step, next| {
                explored.steps += 1;
                if seen.len() < bounds.states_max
                    && let Entry::Vacant(place) = seen.entry(next.print())
                {
                    place.insert((print, Some(step)));
                    deeper.push(next);
                }
            });
        }
        explored.states = seen.len();
        if seen.len() >= bounds.states_max {
            explored.whole_to = explored.depth;
            return explored;
        }
        explored.depth += u32::from(!deeper.is_empty());
        level = deeper;
    }
    (explored.whole_to, explored.is_whole) = (explored.depth, true);
    explored
}

fn way(seen: &HashMap<u128, (u128, Option<Step>)>, mut print: u128) -> Vec<Step> {
    let mut way = Vec::new();
    while let Some((before, Some(step))) = seen.get(&print) {
        way.push(*step);
        print = *before;
    }
    way.reverse();
    way
}

/// Walks at random, each from the beginning and far deeper than a search comes, until a promise is broken.
#[must_use]
pub fn wander(bounds: &Bounds, walks: u64, seed: u64) -> Explored {
    visit_wander(bounds, walks, seed, |_| {})
}

/// The same, and shows each state to somebody.
pub(super) fn visit_wander(bounds: &Bounds, walks: u64, seed: u64, mut visit: impl FnMut(&Plain)) -> Explored {
    let mut explored = Explored::default();
    for walk in 0..walks {
        let mut random = seed.wrapping_add(walk).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut draw = |n: usize| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) as usize % n.max(1)
        };
        let (mut state, mut way) = (Plain::first(bounds), Vec::new());
        let mut wrong = None;
        for _ in 0..WALK_STEPS {
            let at = draw(state.machines.len());
            let mut ways: Vec<(Step, Plain)> = Vec::new();
            state.next_of(at, bounds, &mut |step, next| ways.push((step, next)));
            // What changes nothing leads nowhere.
            ways.retain(|(_, next)| next.print() != state.print());
            if ways.is_empty() {
                continue;
            }
            let (step, next) = ways.swap_remove(draw(ways.len()));
            (state, explored.steps) = (next, explored.steps + 1);
            visit(&state);
            way.push(format!("{step:?}"));
            explored.depth = explored.depth.max(way.len() as u32);
            wrong = broken(&state.logs, bounds.looking);
            if wrong.is_some() {
                break;
            }
        }
        if let Some(what) = wrong.or_else(|| judge(&mut explored, &state, bounds, bounds.probe_every > 0)) {
            explored.violation = Some(format!("{what}; after {}", way.join(", ")));
            return explored;
        }
    }
    explored
}

/// Looks for a deliberate bug: after how many steps of how many walks it was found, and how.
#[must_use]
pub fn hunt() -> Option<(usize, String)> {
    let bounds = |machines, looking| Bounds {
        machines,
        expect: 3,
        crashes: 2,
        wipes: 1,
        call_offs: 3,
        rounds: u64::MAX,
        looking,
        reborn_low: true,
        states_max: 0,
        probe_every: 0,
    };
    let worlds = [(3, Looking::Blind), (4, Looking::Blind), (5, Looking::Blind), (5, Looking::True)];
    let mut steps = 0;
    for turn in 0..HUNT_TURNS {
        for (machines, looking) in worlds {
            let wandered = wander(&bounds(machines, looking), HUNT_WALKS, 1 + turn * HUNT_WALKS);
            steps += wandered.steps;
            if let Some(what) = wandered.violation {
                return Some((steps as usize, what));
            }
        }
    }
    None
}
