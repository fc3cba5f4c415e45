//! Drawing: how a seed becomes a plan: who takes part, how the world is made, what is asked. The blows are in `storm`.
//!
//! Whatever it draws stands in the plan; a plan needs nothing of this file to be run again.

use super::clock::TRUE_PACE;
use super::plan::{AgentPlan, Knobs, MS, Plan, SECOND};
use super::random::{Random, one};
use super::script::{Asked, Call, ConsumerPlan};
use super::storm::{self, Storm};
use super::together;

/// Most requests of one client.
const CALLS_MAX: usize = 2_000;
/// In 74 years.
const YEARS_US: i64 = 74 * 365 * 86_400 * SECOND as i64;

impl Plan {
    /// The plan of this seed.
    #[must_use]
    pub fn draw(seed: u64) -> Self {
        let mut random = Random::of(seed, "plan", 0);
        let n = match random.below(12) {
            0 => 1,
            1 => 2,
            2..=6 => 3,
            7 => 4,
            8..=10 => 5,
            _ => 8,
        };
        let storm = Storm::draw(&mut random, n);
        let mut agents = agents(&mut random, n);
        let mut knobs = knobs(&mut random);
        let two_formers = agents.iter().filter(|a| a.bootstrap && !a.foreign).count() > 1;
        let mut steps = storm::steps(&mut random, &storm, n, two_formers);
        steps.extend(storm::operators(&mut Random::of(seed, "operators", 0), &storm, n));
        steps.sort_by_key(|step| step.at_us);
        if two_formers {
            // They must be able to see each other before one of them founds.
            (knobs.loss, knobs.reorder) = (0, 0);
        }
        let think_us = storm.think_us(random.between(20, 300) * MS, n);
        let clients = random.between(1, 4) as usize;
        let script =
            (0..clients).map(|at| calls(Random::of(seed, "client", at), n, storm.calm_at_us, think_us)).collect();
        let consumers = (0..random.below(3)).map(|_| consumer(&mut random, n)).collect();
        if random.chance(150) {
            agents.push(stranger(&mut random, n));
        }
        let mut plan = Self { seed, agents, knobs, script, consumers, calm_at_us: storm.calm_at_us, steps };
        together::begin(&mut plan);
        plan
    }
}

fn agents(random: &mut Random, n: usize) -> Vec<AgentPlan> {
    let founder_has_seeds = random.chance(300);
    let two_formers = n > 1 && random.chance(100);
    let (wrong_clocks, wrong_pace) = (random.chance(500), random.chance(500) && !two_formers);
    (0..n)
        .map(|at| {
            let join = match at {
                0 if founder_has_seeds || two_formers => (1..n).collect(),
                0 => Vec::new(),
                _ if random.chance(700) => vec![0],
                // Everyone with the same list, itself included, as identical machines are configured.
                _ => (0..n).collect(),
            };
            let wall_us = match random.below(8) {
                _ if !wrong_clocks => 0,
                0 => YEARS_US,
                1..=3 => random.between(0, 20 * SECOND) as i64 - 10 * SECOND as i64,
                _ => random.between(0, 200 * MS) as i64 - 100 * MS as i64,
            };
            let pace = match random.below(4) {
                _ if !wrong_pace => TRUE_PACE,
                0 => random.pick(&[250, 400, 2_500]).unwrap_or(TRUE_PACE),
                _ => random.between(950, 1_050),
            };
            let former = at == 0 || (at == 1 && two_formers);
            // Some come when the others are a cluster already.
            let late = !former && random.chance(150);
            let start_us = match (late, two_formers) {
                (true, _) => random.between(3_000, 9_000) * MS,
                (false, true) => random.between(0, 500) * MS,
                (false, false) => random.between(0, 2_000) * MS,
            };
            AgentPlan {
                start_us,
                bootstrap: former,
                expect: 0,
                join,
                wall_us,
                pace,
                name: None,
                foreign: false,
                zone: None,
                old: false,
            }
        })
        .collect()
}

/// An agent of another cluster, with the addresses of this one.
fn stranger(random: &mut Random, n: usize) -> AgentPlan {
    let start_us = random.between(0, 6_000) * MS;
    let join = (0..n).collect();
    AgentPlan { start_us, bootstrap: random.chance(500), join, pace: TRUE_PACE, foreign: true, ..AgentPlan::default() }
}

fn knobs(random: &mut Random) -> Knobs {
    let calm = Knobs::calm();
    let small = random.chance(700);
    let rough = random.chance(500);
    Knobs {
        segment_bytes: if small { 8 << 10 } else { 64 << 10 },
        sync_us_max: random.pick(&[MS, 5 * MS, 20 * MS]).unwrap_or(MS),
        sync_us_min: 200,
        delay_us_max: random.pick(&[MS, 3 * MS, 15 * MS]).unwrap_or(MS),
        loss: if rough { random.log_between(1, 100) } else { 0 },
        duplicate: if rough { random.log_between(1, 100) } else { 0 },
        reorder: if random.chance(500) { random.log_between(1, 50) } else { 0 },
        queue_frames: if small { random.between(2, 8) } else { calm.queue_frames },
        idle_us: random.between(1_000, 4_000) * MS,
        turn_us: if random.chance(300) { 500 } else { 0 },
        append_entries_max: if small { random.between(1, 8) as u32 } else { calm.append_entries_max },
        append_bytes_max: if small { 4 << 10 } else { calm.append_bytes_max },
        window_bytes: if small { 8 << 10 } else { calm.window_bytes },
        uncommitted_bytes_max: if small { 16 << 10 } else { calm.uncommitted_bytes_max },
        name_hold_us: 5 * SECOND,
        checkpoint_entries: if small { 20 } else { random.pick(&[1, 20, 200]).unwrap_or(20) },
        ..calm
    }
}

/// What one client asks until all is calm.
fn calls(mut random: Random, n: usize, until_us: u64, think_us: u64) -> Vec<Call> {
    let mut calls = Vec::new();
    let mut at_us = random.between(MS, 2 * SECOND);
    while at_us < until_us && calls.len() < CALLS_MAX {
        let what = match random.below(200) {
            0..=139 => {
                let count = if random.chance(200) { random.between(2, 5) } else { 1 };
                Asked::Append { count, bytes: random.pick(&[5_000, 300, 300, 300, 0, 0, 0, 0]).unwrap_or(0) }
            }
            140..=179 => Asked::Read,
            // Now and then an operator moves leadership about.
            180 => {
                let to = one(&mut random, n + 1);
                Asked::Transfer { to: (to < n).then_some(to) }
            }
            _ => Asked::Await,
        };
        let retries = if random.chance(300) { random.between(1, 3) as u8 } else { 0 };
        let timeout_us = random.between(200, 3_000) * MS;
        calls.push(Call { at_us, agent: one(&mut random, n), timeout_us, retries, what });
        at_us += random.between(MS, think_us.max(MS));
    }
    calls
}

fn consumer(random: &mut Random, n: usize) -> ConsumerPlan {
    let every_us = random.log_between(5, 2_000) * MS;
    ConsumerPlan { agent: one(random, n), bytes: random.log_between(1, 64 << 10), every_us }
}
