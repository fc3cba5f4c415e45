//! Drawing: how a seed becomes a plan. Each class of faults is on with one chance in two.
//!
//! Whatever it draws stands in the plan; a plan needs nothing of this file to be run again.

use super::clock::TRUE_PACE;
use super::plan::{Action, AgentPlan, Knobs, MS, Plan, SECOND, Step};
use super::random::Random;

/// The first faults come once the agents have found each other, mostly.
const FIRST_US: u64 = 4 * SECOND;
/// How long faults go on.
const STORM_US: u64 = 12 * SECOND;

impl Plan {
    /// The plan of this seed.
    #[must_use]
    pub fn draw(seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0x706c_616e);
        let n = match random.below(12) {
            0 => 1,
            1 => 2,
            2..=6 => 3,
            7 => 4,
            8..=10 => 5,
            _ => 8,
        };
        let agents = agents(&mut random, n);
        let knobs = knobs(&mut random, n);
        let mut steps = Vec::new();
        let classes: [fn(&mut Random, usize) -> Vec<Action>; 7] =
            [crashes, cuts, resets, disks, pauses, clocks, members];
        for class in classes {
            if random.chance(500) {
                continue;
            }
            for _ in 0..random.between(1, 3) {
                let at_us = moment(&mut random);
                for (later, action) in class(&mut random, n).into_iter().enumerate() {
                    let at_us = at_us + later as u64 * random.between(300, 6_000) * MS;
                    steps.push(Step { at_us: at_us.min(FIRST_US + STORM_US), action });
                }
            }
        }
        steps.sort_by_key(|step| step.at_us);
        let clients = random.between(1, 4) as usize;
        let plan = Self { seed, agents, knobs, clients, calm_at_us: FIRST_US + STORM_US + SECOND, steps };
        plan.shorter_if_large()
    }

    /// Eight agents talk four times as much as four.
    fn shorter_if_large(mut self) -> Self {
        if self.agents.len() > 5 {
            self.calm_at_us = FIRST_US + STORM_US / 2;
            self.steps.retain(|step| step.at_us < FIRST_US + STORM_US / 2);
        }
        self
    }
}

fn moment(random: &mut Random) -> u64 {
    // Some blows fall while the cluster is being formed.
    let from = if random.chance(150) { 0 } else { FIRST_US };
    random.between(from, FIRST_US + STORM_US * 3 / 4)
}

fn agents(random: &mut Random, n: usize) -> Vec<AgentPlan> {
    let founder_has_seeds = random.chance(300);
    let (wrong_clocks, wrong_pace) = (random.chance(500), random.chance(300));
    (0..n)
        .map(|at| {
            let join = match at {
                0 if founder_has_seeds => (1..n).collect(),
                0 => Vec::new(),
                _ if random.chance(700) => vec![0],
                // Everyone with the same list, itself included, as identical machines are configured.
                _ => (0..n).collect(),
            };
            let wall_us = match random.below(8) {
                _ if !wrong_clocks => 0,
                // 74 years ahead.
                0 => 74 * 365 * 86_400 * SECOND as i64,
                1..=3 => random.between(0, 20 * SECOND) as i64 - 10 * SECOND as i64,
                _ => random.between(0, 200 * MS) as i64 - 100 * MS as i64,
            };
            let pace = match random.below(4) {
                _ if !wrong_pace => TRUE_PACE,
                0 => random.pick(&[250, 400, 2_500]).unwrap_or(TRUE_PACE),
                _ => random.between(950, 1_050),
            };
            // Some come when the others are a cluster already.
            let late = at > 0 && random.chance(150);
            let start_us = if late { random.between(3_000, 9_000) } else { random.between(0, 2_000) } * MS;
            AgentPlan { start_us, bootstrap: at == 0, join, wall_us, pace, name: None }
        })
        .collect()
}

fn knobs(random: &mut Random, n: usize) -> Knobs {
    let calm = Knobs::calm();
    let small = random.chance(700);
    let rough = random.chance(500);
    Knobs {
        segment_bytes: if small { 8 << 10 } else { 64 << 10 },
        sync_us_max: random.pick(&[MS, 5 * MS, 20 * MS]).unwrap_or(MS),
        sync_us_min: 200,
        delay_us_max: random.pick(&[MS, 3 * MS, 15 * MS]).unwrap_or(MS),
        loss: if rough { random.between(5, 80) } else { 0 },
        duplicate: if rough { random.between(5, 80) } else { 0 },
        idle_us: random.between(1_000, 4_000) * MS,
        turn_us: if random.chance(300) { 500 } else { 0 },
        append_entries_max: if small { random.between(1, 8) as u32 } else { calm.append_entries_max },
        append_bytes_max: if small { 4 << 10 } else { calm.append_bytes_max },
        window_bytes: if small { 8 << 10 } else { calm.window_bytes },
        uncommitted_bytes_max: if small { 16 << 10 } else { calm.uncommitted_bytes_max },
        name_hold_us: 5 * SECOND,
        checkpoint_entries: if small { 20 } else { random.pick(&[1, 20, 200]).unwrap_or(20) },
        think_us: if n > 5 { 400 * MS } else { random.between(20, 300) * MS },
        ..calm
    }
}

fn one(random: &mut Random, n: usize) -> usize {
    random.below(n as u64) as usize
}

fn down(random: &mut Random) -> u64 {
    random.pick(&[50, 300, 1_500, 6_000]).unwrap_or(300) * MS
}

fn crashes(random: &mut Random, n: usize) -> Vec<Action> {
    let (agent, down_us) = (one(random, n), down(random));
    vec![match random.below(6) {
        0 => Action::Crash { agent, down_us },
        1 => Action::Kill { agent, down_us },
        2 => Action::Tear { agent, calls: random.below(12), down_us },
        3 => Action::CrashAll { down_us },
        _ => Action::CrashLeader { down_us },
    }]
}

fn cuts(random: &mut Random, n: usize) -> Vec<Action> {
    let (a, b) = (one(random, n), one(random, n));
    let cut = match random.below(5) {
        0 => Action::Cut { from: a, to: (a + 1) % n },
        1 => Action::Cut { from: a, to: b },
        2 => Action::Isolate { agent: a },
        3 => Action::IsolateLeader,
        _ => Action::Halves { left: (0..n).filter(|_| random.chance(500)).collect() },
    };
    vec![cut, Action::Heal]
}

fn resets(random: &mut Random, n: usize) -> Vec<Action> {
    let agent = one(random, n);
    let weather = Action::Weather {
        loss: random.between(0, 250),
        duplicate: random.between(0, 250),
        delay_us_max: random.between(1, 80) * MS,
    };
    match random.below(3) {
        0 => vec![Action::Reset { agent }],
        1 => vec![Action::LoseBulk { agent }],
        _ => vec![weather, Action::Weather { loss: 5, duplicate: 5, delay_us_max: 3 * MS }],
    }
}

fn disks(random: &mut Random, n: usize) -> Vec<Action> {
    let (agent, down_us) = (one(random, n), down(random));
    let for_us = random.between(500, 5_000) * MS;
    vec![match random.below(4) {
        0 => Action::FailSync { agent, down_us },
        1 => Action::FullDisk { agent, for_us },
        2 => Action::SlowDisk { agent, sync_us: random.between(2_000, 6_000) * MS, for_us: 1 },
        _ => Action::SlowDisk { agent, sync_us: random.between(30, 900) * MS, for_us },
    }]
}

fn pauses(random: &mut Random, n: usize) -> Vec<Action> {
    let for_us = random.pick(&[10, 200, 1_000, 8_000]).unwrap_or(10) * MS;
    vec![Action::Pause { agent: one(random, n), for_us }]
}

fn clocks(random: &mut Random, n: usize) -> Vec<Action> {
    let far = random.chance(200);
    let by_s = random.between(0, if far { 4_000_000_000 } else { 120 }) as i64;
    let by_us = (by_s - if far { 0 } else { 60 }) * SECOND as i64;
    vec![Action::Clock { agent: one(random, n), by_us }]
}

fn members(random: &mut Random, n: usize) -> Vec<Action> {
    let (agent, down_us) = (one(random, n), down(random));
    vec![match random.below(5) {
        0 | 1 => Action::Wipe { agent, down_us },
        2 => Action::Leave { agent, down_us },
        3 => Action::Move { agent, down_us },
        _ => Action::MoveAll { down_us },
    }]
}
