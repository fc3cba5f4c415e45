//! Storm: the blows of a plan, drawn class by class. Each class is on with one chance in two, and strikes as often as a
//! draw says, few times being likelier than many.

use super::plan::{Action, MS, SECOND, Step};
use super::random::{Random, one};

/// The first faults come once the agents have found each other, mostly.
const FIRST_US: u64 = 4 * SECOND;
/// How long an ordinary storm lasts, and a long one.
const SHORT_US: (u64, u64) = (10 * SECOND, 16 * SECOND);
const LONG_US: (u64, u64) = (60 * SECOND, 200 * SECOND);
/// How often one class strikes at most.
const BLOWS_MAX: u64 = 6;
/// How often operators interfere at most.
const OPERATIONS_MAX: u64 = 6;

/// When it blows.
pub(super) struct Storm {
    until_us: u64,
    pub(super) calm_at_us: u64,
    is_long: bool,
}

impl Storm {
    pub(super) fn draw(random: &mut Random, n: usize) -> Self {
        let is_long = random.chance(60);
        let (from, to) = if is_long { LONG_US } else { SHORT_US };
        // Eight agents talk four times as much as four.
        let lasts = if n > 5 { from / 2 } else { random.between(from, to) };
        Self { until_us: FIRST_US + lasts, calm_at_us: FIRST_US + lasts + SECOND, is_long }
    }

    /// Clients of large clusters and in long storms ask less often.
    pub(super) fn think_us(&self, think_us: u64, n: usize) -> u64 {
        think_us.max(if n > 5 { 400 * MS } else { 0 }).max(if self.is_long { SECOND } else { 0 })
    }

    fn moment(&self, random: &mut Random, all_may_be_early: bool) -> u64 {
        // Some blows fall while the cluster is being formed.
        let from = if all_may_be_early && random.chance(150) { 0 } else { FIRST_US };
        random.between(from, FIRST_US + (self.until_us - FIRST_US) * 3 / 4)
    }
}

/// One blow: actions, each so long after the one before.
type Blow = Vec<(u64, Action)>;

const CLASSES: [fn(&mut Random, usize, &Storm) -> Blow; 21] = [
    crash,
    crash_loop,
    stop,
    pause,
    one_way,
    partition,
    flap,
    reset,
    weather,
    slow_reader,
    gossip,
    clock,
    pace,
    slow_disk,
    failing_disk,
    full_disk,
    rot,
    lie,
    copies,
    members,
    moves,
];

/// All blows, in time.
pub(super) fn steps(random: &mut Random, storm: &Storm, n: usize, two_formers: bool) -> Vec<Step> {
    let mut steps = Vec::new();
    for class in CLASSES {
        // Each class has draws of its own: another one that changes leaves it alone.
        let mut random = Random::new(random.next());
        if random.chance(500) {
            continue;
        }
        for _ in 0..random.log_between(1, BLOWS_MAX) {
            let mut at_us = storm.moment(&mut random, !two_formers);
            for (later_us, action) in class(&mut random, n, storm) {
                at_us = (at_us + later_us).min(storm.until_us);
                steps.push(Step { at_us, action });
            }
        }
    }
    steps.sort_by_key(|step| step.at_us);
    steps
}

/// What operators do meanwhile: with draws of their own, so that nothing else of a seed changes with them.
pub(super) fn operators(random: &mut Random, storm: &Storm, n: usize) -> Vec<Step> {
    if random.chance(600) {
        return Vec::new();
    }
    let blows = random.log_between(1, OPERATIONS_MAX);
    (0..blows)
        .map(|_| {
            let (agent, for_us) = (one(random, n), random.log_between(300, 8_000) * MS);
            let action = match random.below(8) {
                0..=2 => Action::Drain { agent, for_us },
                3 | 4 => {
                    let heir = one(random, n);
                    Action::Remove { agent, heir: (heir != agent && random.chance(500)).then_some(heir) }
                }
                5 => Action::Promote { agent, for_us },
                _ => Action::Demote { agent, for_us },
            };
            Step { at_us: storm.moment(random, false), action }
        })
        .collect()
}

fn down(random: &mut Random) -> u64 {
    random.pick(&[50, 300, 1_500, 6_000]).unwrap_or(300) * MS
}

fn soon(random: &mut Random) -> u64 {
    random.between(300, 6_000) * MS
}

fn at_once(action: Action) -> Blow {
    vec![(0, action)]
}

fn crash(random: &mut Random, n: usize, _: &Storm) -> Blow {
    let (agent, down_us) = (one(random, n), down(random));
    at_once(match random.below(6) {
        0 => Action::Crash { agent, down_us },
        1 => Action::Kill { agent, down_us },
        2 => Action::Tear { agent, calls: random.below(12), torn: random.chance(700), down_us },
        3 => Action::CrashAll { down_us },
        _ => Action::CrashLeader { down_us },
    })
}

fn crash_loop(random: &mut Random, n: usize, _: &Storm) -> Blow {
    let up_us = random.log_between(1, 2_000) * MS;
    at_once(Action::CrashLoop { agent: one(random, n), times: random.between(2, 8), up_us })
}

fn stop(random: &mut Random, n: usize, _: &Storm) -> Blow {
    at_once(Action::Stop { agent: one(random, n), down_us: down(random) })
}

fn pause(random: &mut Random, n: usize, storm: &Storm) -> Blow {
    let longest = if storm.is_long { 120 * SECOND } else { 8 * SECOND };
    at_once(Action::Pause { agent: one(random, n), for_us: random.log_between(10 * MS, longest) })
}

fn one_way(random: &mut Random, n: usize, _: &Storm) -> Blow {
    let (agent, to) = (one(random, n), one(random, n));
    let cut = match random.below(3) {
        0 => Action::Cut { from: agent, to: if to == agent { (agent + 1) % n } else { to } },
        1 => Action::Deaf { agent },
        _ => Action::Mute { agent },
    };
    vec![(0, cut), (soon(random), Action::Heal)]
}

fn partition(random: &mut Random, n: usize, _: &Storm) -> Blow {
    let agent = one(random, n);
    let cut = match random.below(5) {
        0 => Action::Isolate { agent },
        1 => Action::IsolateLeader,
        2 => Action::Halves { left: (0..n).filter(|_| random.chance(500)).collect() },
        3 => Action::Bridge { agent },
        _ => Action::Ring,
    };
    vec![(0, cut), (soon(random), Action::Heal)]
}

fn flap(random: &mut Random, n: usize, _: &Storm) -> Blow {
    let every_us = random.log_between(20, 3_000) * MS;
    at_once(Action::Flap { agent: one(random, n), times: random.between(2, 8), every_us })
}

fn reset(random: &mut Random, n: usize, _: &Storm) -> Blow {
    let agent = one(random, n);
    at_once(match random.below(3) {
        0 => Action::Reset { agent },
        1 => Action::ResetInFrame { agent },
        _ => Action::LoseBulk { agent },
    })
}

fn weather(random: &mut Random, _: usize, _: &Storm) -> Blow {
    let foul = Action::Weather {
        loss: random.log_between(1, 300),
        duplicate: random.log_between(1, 300),
        reorder: random.log_between(1, 100),
        delay_us_max: random.log_between(1, 100) * MS,
    };
    vec![(0, foul), (soon(random), Action::Weather { loss: 5, duplicate: 5, reorder: 0, delay_us_max: 3 * MS })]
}

fn slow_reader(random: &mut Random, n: usize, _: &Storm) -> Blow {
    at_once(Action::SlowReader { agent: one(random, n), for_us: random.log_between(100, 6_000) * MS })
}

fn gossip(random: &mut Random, n: usize, _: &Storm) -> Blow {
    let agent = one(random, n);
    at_once(match random.below(2) {
        0 => Action::ReplayGossip { agent },
        _ => Action::LoseGossip { agent, for_us: random.between(3, 12) * SECOND },
    })
}

fn clock(random: &mut Random, n: usize, _: &Storm) -> Blow {
    let seconds = if random.chance(300) { 74 * 365 * 86_400 } else { random.log_between(1, 7_200) };
    let by_us = (seconds * SECOND) as i64;
    at_once(Action::Clock { agent: one(random, n), by_us: if random.chance(500) { by_us } else { -by_us } })
}

fn pace(random: &mut Random, n: usize, _: &Storm) -> Blow {
    let pace = random.pick(&[250, 900, 950, 1_050, 1_100, 3_000]).unwrap_or(1_000);
    at_once(Action::Pace { agent: one(random, n), pace })
}

fn slow_disk(random: &mut Random, n: usize, _: &Storm) -> Blow {
    let agent = one(random, n);
    at_once(match random.below(2) {
        0 => Action::HangDisk { agent, for_us: random.log_between(500, 20_000) * MS },
        _ => Action::SlowDisk { agent, sync_us: random.between(30, 900) * MS, for_us: random.between(500, 5_000) * MS },
    })
}

fn failing_disk(random: &mut Random, n: usize, _: &Storm) -> Blow {
    let agent = one(random, n);
    at_once(if random.chance(600) { Action::FailSync { agent } } else { Action::FailRead { agent } })
}

fn full_disk(random: &mut Random, n: usize, _: &Storm) -> Blow {
    let free = if random.chance(300) { 0 } else { random.log_between(1, 16 << 10) };
    at_once(Action::FullDisk { agent: one(random, n), free, for_us: random.between(500, 5_000) * MS })
}

fn rot(random: &mut Random, n: usize, _: &Storm) -> Blow {
    let (file, place) = (random.next(), random.next());
    let agent = one(random, n);
    let rot = Action::Rot { agent, file, place, bit: random.below(8) as u32 };
    // Most rot is found at the next start.
    let mut blow = at_once(rot);
    if random.chance(500) {
        blow.push((random.between(0, 3_000) * MS, Action::Kill { agent, down_us: down(random) }));
    }
    blow
}

fn lie(random: &mut Random, n: usize, _: &Storm) -> Blow {
    let (agent, sectors, down_us) = (one(random, n), random.between(1, 4), down(random));
    at_once(match random.below(4) {
        0 | 1 => Action::LoseWrite { agent },
        2 => Action::MisdirectWrite { agent, sectors, by: random.between(1, 4), down_us },
        _ => Action::StaleTail { agent, sectors, down_us },
    })
}

fn copies(random: &mut Random, n: usize, _: &Storm) -> Blow {
    let (agent, down_us) = (one(random, n), down(random));
    match random.below(2) {
        0 => at_once(Action::Clone { agent, for_us: random.between(1_000, 6_000) * MS }),
        _ => vec![
            (0, Action::Backup { agent }),
            (random.between(0, 2_000) * MS, Action::Kill { agent, down_us: 50 * MS }),
            (random.between(500, 4_000) * MS, Action::Restore { agent, down_us }),
        ],
    }
}

fn members(random: &mut Random, n: usize, _: &Storm) -> Blow {
    let (agent, down_us) = (one(random, n), down(random));
    at_once(match random.below(5) {
        0 | 1 => Action::Wipe { agent, down_us },
        2 => Action::Leave { agent, down_us },
        _ => Action::Forget { agent },
    })
}

fn moves(random: &mut Random, n: usize, _: &Storm) -> Blow {
    let (agent, down_us) = (one(random, n), down(random));
    at_once(if random.chance(500) { Action::Move { agent, down_us } } else { Action::MoveAll { down_us } })
}
