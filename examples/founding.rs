//! How a log is founded together, shown: every state of the protocol within bounds, and whole agents by the thousand.
//!
//! ```sh
//! cargo run --release --features sim --example founding -- --explore 1000000
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

/// Several searches of up to so many states: few agents to the end, more of them as far as the bound allows.
fn explored(states_max: usize) -> bool {
    let whole = Bounds {
        machines: 3,
        expect: 3,
        crashes: 0,
        wipes: 0,
        call_offs: 0,
        looking: Looking::True,
        reborn_low: false,
        states_max,
        probe_every: 100,
    };
    let with = |machines, crashes, wipes, call_offs| Bounds { machines, crashes, wipes, call_offs, ..whole };
    let mut searches = vec![whole, with(3, 0, 0, 1), with(3, 1, 0, 1), with(4, 0, 0, 0), with(5, 0, 0, 0)];
    for reborn_low in [false, true] {
        for bounds in [with(3, 0, 1, 1), with(3, 1, 1, 1), with(3, 0, 1, 2), with(4, 1, 1, 1), with(5, 1, 1, 1)] {
            searches.push(Bounds { reborn_low, ..bounds });
        }
        let blind = |bounds| Bounds { looking: Looking::Blind, reborn_low, probe_every: 0, ..bounds };
        searches.extend([blind(with(4, 0, 0, 1)), blind(with(4, 1, 1, 1)), blind(with(5, 1, 1, 2))]);
    }
    let (mut states, began) = (0, Instant::now());
    for bounds in searches {
        let begun = Instant::now();
        let explored = explore(&bounds);
        states += explored.states;
        let Bounds { machines, crashes, wipes, call_offs, looking, reborn_low, .. } = bounds;
        let low = if reborn_low { ", new ids low" } else { "" };
        println!(
            "{machines} machines, {crashes} crashes, {wipes} wipes, {call_offs} call-offs, {looking:?}{low}: {explored}; {:.1} s",
            begun.elapsed().as_secs_f64()
        );
        if let Some(what) = explored.violation {
            println!("BROKEN: {what}");
            return false;
        }
    }
    for looking in [Looking::True, Looking::Blind] {
        let probe_every = u64::from(looking == Looking::True);
        let far = Bounds { looking, probe_every, reborn_low: true, ..with(5, 2, 1, 3) };
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
    println!("{states} states in {:.1} s: no two logs, and always one in the end", began.elapsed().as_secs_f64());
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
