//! Churn: plans with faults of members only: they die, for a while or for good, flap, move, leave, are wiped, forgotten,
//! cut off and upgraded. No disk lies and no clock is wrong, so whatever the group makes of it is the autopilot's doing.
//!
//! The autopilot waits for seconds here where it waits for minutes elsewhere, so that one world sees many replacements.

use super::clock::TRUE_PACE;
use super::plan::{Action, AgentPlan, Faults, Knobs, MS, Plan, SECOND, Step};
use super::random::{Random, one};
use super::script::{Asked, Call};
use super::together;

/// The first faults come once the agents have found each other, mostly.
const FIRST_US: u64 = 6 * SECOND;
/// How long it lasts: several times what a replacement takes.
const LASTS_US: (u64, u64) = (60 * SECOND, 150 * SECOND);
/// Between two blows, at most.
const PAUSE_US_MAX: u64 = 12 * SECOND;
/// Zones of those worlds that have any.
const ZONES: [&str; 4] = ["a", "b", "c", "d"];

impl Plan {
    /// The plan of this seed with these faults.
    #[must_use]
    pub fn draw_with(seed: u64, faults: Faults) -> Self {
        match faults {
            Faults::All => Self::draw(seed),
            Faults::Membership => churn(seed),
        }
    }
}

fn churn(seed: u64) -> Plan {
    let mut random = Random::of(seed, "churn", 0);
    let n = random.between(4, 8) as usize;
    let agents = agents(&mut random, n);
    let knobs = Knobs {
        name_hold_us: 5 * SECOND,
        replace_after_us: random.between(12, 25) * SECOND,
        stabilization_us: random.between(1, 3) * SECOND,
        flap_window_us: 30 * SECOND,
        delay_us_max: random.pick(&[MS, 3 * MS, 15 * MS]).unwrap_or(MS),
        loss: if random.chance(300) { random.log_between(1, 30) } else { 0 },
        idle_us: random.between(1_000, 4_000) * MS,
        segment_bytes: 64 << 10,
        ..Knobs::calm()
    };
    let until_us = FIRST_US + random.between(LASTS_US.0, LASTS_US.1);
    let steps = steps(&mut random, n, until_us);
    let script = vec![calls(Random::of(seed, "client", 0), n, until_us)];
    let calm_at_us = until_us + SECOND;
    let mut plan = Plan { seed, agents, knobs, script, consumers: Vec::new(), calm_at_us, steps };
    together::begin(&mut plan);
    plan
}

fn agents(random: &mut Random, n: usize) -> Vec<AgentPlan> {
    let (zones, mixed) = (random.chance(600), random.chance(400));
    (0..n)
        .map(|at| AgentPlan {
            start_us: if random.chance(800) { random.between(0, 2_000) } else { random.between(8_000, 40_000) }
                * MS
                * u64::from(at > 0),
            bootstrap: at == 0,
            join: (0..n).collect(),
            pace: TRUE_PACE,
            zone: (zones && random.chance(950)).then(|| ZONES[one(random, ZONES.len())].to_owned()),
            old: mixed && random.chance(500),
            ..AgentPlan::default()
        })
        .collect()
}

fn steps(random: &mut Random, n: usize, until_us: u64) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut at_us = random.between(MS, FIRST_US);
    while at_us < until_us {
        for (later_us, action) in blow(random, n) {
            steps.push(Step { at_us: (at_us + later_us).min(until_us), action });
        }
        at_us += random.log_between(50 * MS, PAUSE_US_MAX);
    }
    steps.sort_by_key(|step| step.at_us);
    steps
}

fn blow(random: &mut Random, n: usize) -> Vec<(u64, Action)> {
    let agent = one(random, n);
    let down_us = random.pick(&[300, 2_000, 8_000, 40_000]).unwrap_or(300) * MS;
    let cut_us = random.log_between(SECOND, 40 * SECOND);
    let blow = match random.below(20) {
        0..=2 => Action::Kill { agent, down_us },
        3 => Action::CrashLeader { down_us },
        4 => Action::Stop { agent, down_us },
        5 => Action::Pause { agent, for_us: random.log_between(100 * MS, 30 * SECOND) },
        6 => return vec![(0, Action::Isolate { agent }), (cut_us, Action::Heal)],
        7 => return vec![(0, Action::IsolateLeader), (cut_us, Action::Heal)],
        8 => return vec![(0, Action::Cut { from: agent, to: (agent + 1) % n }), (cut_us, Action::Heal)],
        9 => Action::Flap { agent, times: random.between(2, 6), every_us: random.between(1, 8) * SECOND },
        10 | 11 => Action::LoseGossip { agent, for_us: random.between(5, 60) * SECOND },
        12 => Action::Wipe { agent, down_us },
        13 => Action::Leave { agent, down_us },
        14 => Action::Forget { agent },
        15 => Action::Retire { agent },
        16 | 17 => Action::Upgrade { agent, down_us },
        18 => Action::Move { agent, down_us },
        _ => Action::MoveAll { down_us: 300 * MS },
    };
    vec![(0, blow)]
}

fn calls(mut random: Random, n: usize, until_us: u64) -> Vec<Call> {
    let mut calls = Vec::new();
    let mut at_us = 2 * SECOND;
    while at_us < until_us {
        let what = match random.below(12) {
            0 => Asked::Read,
            1 => Asked::Transfer { to: None },
            _ => Asked::Append { count: 1, bytes: 0 },
        };
        calls.push(Call { at_us, agent: one(&mut random, n), timeout_us: 3 * SECOND, retries: 1, what });
        at_us += random.between(500, 2_500) * MS;
    }
    calls
}
