//! Search: through the lean world, breadth first, level by level.
//!
//! It keeps no states, only prints of 128 bits: two states with one print are taken for one, which among a hundred million
//! of them happens with a probability below 1e-22.

use super::bounds::{Bounds, Explored};
use super::calm::forms;
use super::lean::{Lean, Move};
use super::table::Table;
use super::world::{broken, is_blocked, picture};
use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// A `u128` would be aligned to, and so take, half as much again.
type Print = [u64; 2];

fn print(state: &Lean) -> Print {
    let print = state.print();
    [print as u64, (print >> 64) as u64]
}

/// Visits every state within the bounds, or for it one that can do all that it can do, until a promise is broken.
#[must_use]
pub fn explore(bounds: &Bounds) -> Explored {
    visit(bounds, |_, _| {})
}

/// The same, and shows each state to somebody.
pub(super) fn visit(bounds: &Bounds, mut visit: impl FnMut(&Table, &Lean)) -> Explored {
    let (mut explored, mut table) = (Explored::default(), Table::new(bounds));
    let first = Lean::first(&mut table);
    // The states in the order in which they were met, and for each the one that it was met from.
    let (mut seen, mut from) = (HashMap::from([(print(&first), 0_u32)]), vec![0_u32]);
    let (mut level, mut level_begins) = (vec![first], 0_u32);
    while !level.is_empty() {
        let mut deeper = Vec::new();
        for (index, state) in (level_begins..).zip(std::mem::take(&mut level)) {
            visit(&table, &state);
            if let Some(what) = judge(&mut explored, &table, &state) {
                let way = way(&mut table, &seen, &from, index).join(", ");
                explored.violation = Some(format!("{what}; after {way}"));
                explored.states = seen.len();
                return explored;
            }
            let mut founded = Vec::new();
            explored.late += state.next(&mut table, |at, what, next| {
                explored.steps += 1;
                if next.logs != state.logs {
                    founded.push((at, what, next.clone()));
                }
                let place = from.len() as u32;
                if from.len() < bounds.states_max
                    && let Entry::Vacant(vacant) = seen.entry(print(&next))
                {
                    vacant.insert(place);
                    from.push(index);
                    deeper.push(next);
                }
            });
            // At once, not when its turn comes: what lies beyond the bound of states is judged too.
            let wrong = founded.into_iter().find_map(|(at, what, next)| {
                broken(&table.logs.get(next.logs), bounds.looking).map(|wrong| (wrong, told(&table, at, what, &next)))
            });
            if let Some((wrong, last)) = wrong {
                let way = way(&mut table, &seen, &from, index).join(", ");
                explored.violation = Some(format!("{wrong}; after {way}, {last}"));
                explored.states = seen.len();
                return explored;
            }
        }
        explored.states = from.len();
        if from.len() >= bounds.states_max {
            explored.whole_to = explored.depth;
            return explored;
        }
        level_begins = (from.len() - deeper.len()) as u32;
        explored.depth += u32::from(!deeper.is_empty());
        level = deeper;
    }
    (explored.whole_to, explored.is_whole) = (explored.depth, true);
    explored
}

/// Why no group forms from a state, after it was counted.
fn judge(explored: &mut Explored, table: &Table, state: &Lean) -> Option<String> {
    let (bounds, logs) = (&table.bounds, table.logs.get(state.logs));
    explored.founded += u64::from(!logs.is_empty());
    if bounds.probe_every == 0 || !print(state)[0].is_multiple_of(bounds.probe_every) {
        return None;
    }
    let machines = state.all(table);
    match forms(&machines, &logs) {
        Ok(()) => explored.formed += 1,
        Err(_) if is_blocked(&machines) => explored.blocked += 1,
        Err(what) => return Some(what),
    }
    None
}

/// A step in words.
fn told(table: &Table, at: usize, what: Move, next: &Lean) -> String {
    format!("{what:?} m{at}: {}", picture(&table.machines.get(next.machines[at]).member))
}

/// How it came to a state, step by step: the steps of each state on the way are taken again.
fn way(table: &mut Table, seen: &HashMap<Print, u32>, from: &[u32], index: u32) -> Vec<String> {
    let mut indexes = vec![index];
    while let Some(before) = indexes.last().filter(|index| **index > 0).map(|index| from[*index as usize]) {
        indexes.push(before);
    }
    let mut state = Lean::first(table);
    let mut way = Vec::new();
    for index in indexes.into_iter().rev().skip(1) {
        let mut step: Option<(usize, Move, Lean)> = None;
        state.next(table, |at, what, next| {
            if seen.get(&print(&next)) == Some(&index) {
                step = Some((at, what, next));
            }
        });
        let Some((at, what, next)) = step else { break };
        way.push(told(table, at, what, &next));
        state = next;
    }
    way
}
