//! How a log is founded together, shown: every state of the protocol within bounds, and whole agents by the thousand.
//!
//! ```sh
//! cargo run --release --features sim --example founding -- --explore 3000000
//! cargo run --release --features sim --example founding -- --seeds 0..1000
//! ```

use quorate::pledge::explore::{Bounds, Looking, explore, wander};
use quorate::sim::founding;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

const USAGE: &str = "usage: founding --explore STATES | --seeds A..B";

/// Walks at random beside the searches.
const WALKS: u64 = 20_000;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match words[..] {
        ["--explore", states] => states.parse().ok().map(explored),
        ["--seeds", range] => range.split_once("..").and_then(|(a, b)| Some(seeds(a.parse().ok()?, b.parse().ok()?))),
        _ => None,
    };
    match done {
        Some(true) => ExitCode::SUCCESS,
        Some(false) => ExitCode::FAILURE,
        None => {
            eprintln!("{USAGE}");
            ExitCode::from(64)
        }
    }
}

/// A world to be searched: machines, wipes, call-offs, the last round that is proposed.
type World = (usize, u8, u8, u64);

/// Where agents see each other, groups must form too. No round is out of bounds there.
const LOOKING: [World; 12] = [
    (3, 0, 0, u64::MAX),
    (3, 0, 1, u64::MAX),
    (3, 1, 0, u64::MAX),
    (3, 1, 1, u64::MAX),
    (3, 2, 0, u64::MAX),
    (3, 2, 1, u64::MAX),
    (4, 0, 0, u64::MAX),
    (4, 0, 1, u64::MAX),
    (4, 1, 0, u64::MAX),
    (5, 0, 0, u64::MAX),
    (5, 0, 1, u64::MAX),
    (5, 1, 0, u64::MAX),
];
/// Where nobody looks, any founders may be proposed.
const BLIND: [World; 8] =
    [(3, 0, 1, 3), (3, 1, 1, 2), (4, 0, 0, 3), (4, 0, 1, 2), (4, 1, 0, 2), (5, 0, 0, 1), (5, 0, 1, 1), (5, 1, 0, 1)];

/// Each of these worlds as a whole, or as far as so many states go; then walks at random, far deeper.
fn explored(states_max: usize) -> bool {
    let base = Bounds {
        machines: 3,
        expect: 3,
        crashes: 1,
        wipes: 0,
        call_offs: 0,
        rounds: u64::MAX,
        looking: Looking::True,
        reborn_low: false,
        states_max,
        probe_every: 1,
    };
    let of = |(machines, wipes, call_offs, rounds): World| Bounds { machines, wipes, call_offs, rounds, ..base };
    let mut searches: Vec<Bounds> = Vec::new();
    for bounds in LOOKING.map(of) {
        searches.push(bounds);
        // With a lower id than all others whoever has lost its disk belongs to the founders, with a higher one it does not.
        searches.extend((bounds.wipes > 0).then_some(Bounds { reborn_low: true, ..bounds }));
    }
    searches.extend(BLIND.map(of).map(|bounds| Bounds { looking: Looking::Blind, probe_every: 0, ..bounds }));
    let (mut states, mut whole, began) = (0, 0, Instant::now());
    for bounds in &searches {
        let begun = Instant::now();
        // Where states are many, one in ten is tried.
        let probe_every = if bounds.machines > 3 && bounds.wipes + bounds.call_offs > 0 { 10 } else { 1 };
        let explored = explore(&Bounds { probe_every: bounds.probe_every * probe_every, ..*bounds });
        (states, whole) = (states + explored.states, whole + usize::from(explored.is_whole));
        let Bounds { machines, wipes, call_offs, rounds, looking, reborn_low, .. } = bounds;
        let low = if *reborn_low { ", new ids low" } else { "" };
        let last = if *rounds == u64::MAX { String::new() } else { format!(", {rounds} rounds") };
        println!(
            "{machines} machines, any crashes, {wipes} wipes, {call_offs} call-offs{last}, {looking:?}{low}: {explored}; {:.1} s",
            begun.elapsed().as_secs_f64()
        );
        if let Some(what) = explored.violation {
            println!("BROKEN: {what}");
            return false;
        }
    }
    if !walked(&base) {
        return false;
    }
    println!(
        "{whole} of {} worlds as a whole, {states} states in {:.1} s: no two logs, and always one in the end",
        searches.len(),
        began.elapsed().as_secs_f64()
    );
    true
}

/// Walks through the plain world, with more faults than a search can bear.
fn walked(base: &Bounds) -> bool {
    for looking in [Looking::True, Looking::Blind] {
        let probe_every = u64::from(looking == Looking::True);
        let far =
            Bounds { machines: 5, crashes: 2, wipes: 1, call_offs: 3, looking, probe_every, reborn_low: true, ..*base };
        let wandered = wander(&far, WALKS, 1);
        println!(
            "{WALKS} walks of 5 machines, 2 crashes, 1 wipe, 3 call-offs, {looking:?}: {} steps, depth {}, {} with a log; \
             of the ends tried without further faults {} formed, {} need a person",
            wandered.steps, wandered.depth, wandered.founded, wandered.formed, wandered.blocked
        );
        if let Some(what) = wandered.violation {
            println!("BROKEN: {what}");
            return false;
        }
    }
    true
}

/// Worlds of five identical machines with three expected, one crashed and one wiped in the middle.
fn seeds(from: u64, to: u64) -> bool {
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let (next, all, began) = (AtomicU64::new(from), Mutex::new(Vec::new()), Instant::now());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= to {
                        return;
                    }
                    let founded = founding(seed);
                    if let Some(wrong) = &founded.wrong {
                        println!("seed {seed}: {wrong}");
                    }
                    all.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(founded);
                }
            });
        }
    });
    let all = all.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    let count = |is: fn(&quorate::sim::Founded) -> bool| all.iter().filter(|f| is(f)).count();
    let mut agreed: Vec<u64> = all.iter().map(|f| f.agreed_at_us / 1000).collect();
    agreed.sort_unstable();
    let at = |part: usize| agreed.get((agreed.len() * part / 100).min(agreed.len().saturating_sub(1))).copied();
    let wrong = count(|f| f.wrong.is_some());
    println!(
        "{} worlds: {} with one history, {wrong} wrong; a pledge lost with its disk in {}, a pledge cut by a crash in {}, \
         called off in {}; of one mind after {:?} ms (median), {:?} ms (99 of 100), {:?} ms (last); {:.1} s",
        all.len(),
        count(|f| f.histories == 1),
        count(|f| f.lost_a_pledge),
        count(|f| f.cut_a_pledge),
        count(|f| f.called_off),
        at(50),
        at(99),
        at(100),
        began.elapsed().as_secs_f64()
    );
    wrong == 0
}
