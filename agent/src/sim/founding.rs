//! Founding: identical machines, all told to expect so many of each other, started in any order; one loses power and one its
//! disk in the middle. However it goes, there is one history in the end, and there never was another one.
//!
//! It knows no promise but that: all others are kept by the witness, as in every world.

use super::clock::TRUE_PACE;
use super::plan::{Action, AgentPlan, Knobs, MS, Plan, SECOND, letter};
use super::random::Random;
use super::world::World;

/// Machines, and how many of each other they expect.
const MACHINES: usize = 5;
const EXPECT: usize = 3;
/// They are started within this time.
const STARTS_WITHIN_US: u64 = 6 * SECOND;
/// What happens to them happens within this time.
const HARM_WITHIN_US: u64 = 12 * SECOND;
/// The longest time without power.
const DOWN_US_MAX: u64 = 40 * SECOND;
/// The weather stays as it is so long after the last of it.
const STORM_US: u64 = 15 * SECOND;
/// All agree so long after the last of it: patience with pledges and with the name of a lost disk included.
const AGREE_WITHIN_US: u64 = 240 * SECOND;

/// What a world has shown.
#[derive(Clone, Debug)]
pub struct Founded {
    /// Logs that anybody ever founded or joined.
    pub histories: usize,
    /// When the first agent belonged to one, in microseconds.
    pub founded_at_us: u64,
    /// When all were of one mind, in microseconds.
    pub agreed_at_us: u64,
    /// The disk that was lost had pledged itself, and no log was founded yet.
    pub lost_a_pledge: bool,
    /// The agent that lost power had pledged itself, and no log was founded yet.
    pub cut_a_pledge: bool,
    /// Some pledge was called off.
    pub called_off: bool,
    /// What is wrong with it.
    pub wrong: Option<String>,
    /// The last lines of the trace, if something is.
    pub trace: Vec<String>,
}

/// One world, as this seed draws it.
#[must_use]
pub fn founding(seed: u64) -> Founded {
    let mut random = Random::new(seed ^ 0x666f_756e_6469_6e67);
    let mut w = World::new(plan(seed, &mut random));
    // Half of the blows fall where they hurt: around the first pledges.
    let (crashed, wiped) = (random.below(MACHINES as u64) as usize, random.below(MACHINES as u64) as usize);
    let near = random.chance(500);
    let mut blows = [(harm_at(&mut random), true), (harm_at(&mut random), false)];
    blows.sort_unstable();
    let down_us = [random.between(100 * MS, DOWN_US_MAX), random.between(100 * MS, DOWN_US_MAX / 2)];
    let mut founded = Founded {
        histories: 0,
        founded_at_us: 0,
        agreed_at_us: 0,
        lost_a_pledge: false,
        cut_a_pledge: false,
        called_off: false,
        wrong: None,
        trace: Vec::new(),
    };
    for (at_us, is_crash) in blows {
        w.run_to(w.at.max(at_us));
        let machine = if is_crash { crashed } else { wiped };
        if near {
            w.run_until(HARM_WITHIN_US, |w| w.has_pledged(machine) || !w.histories.is_empty());
            let later = random.below(30 * MS);
            w.run_to(w.at + later);
        }
        let is_open = w.has_pledged(machine) && w.histories.is_empty();
        if is_crash {
            founded.cut_a_pledge = is_open;
            w.power_off(machine, down_us[0]);
        } else {
            founded.lost_a_pledge = is_open;
            w.lose_disk(machine);
            w.start_at(machine, w.at + down_us[1]);
        }
    }
    // Whatever the weather did to the founding, a group that is to agree needs a bearable one.
    w.run_until(STORM_US, |w| w.is_of_one_mind().is_ok());
    w.act(&Action::Weather { loss: 0, duplicate: 0, reorder: 0, delay_us_max: 2 * MS });
    let came = w.run_until(AGREE_WITHIN_US, |w| {
        if founded.founded_at_us == 0 && !w.histories.is_empty() {
            founded.founded_at_us = w.at;
        }
        w.is_of_one_mind().is_ok()
    });
    founded.agreed_at_us = w.at;
    founded.histories = w.histories.len();
    founded.called_off = w.counters.get("pledges called off") > 0;
    founded.wrong = match (w.witness.violation(), came) {
        (Some(violation), _) => Some(format!("{violation:?}")),
        (None, false) => Some(w.is_of_one_mind().err().unwrap_or_else(|| "nobody agrees".into()) + &w.told()),
        (None, true) if founded.histories != 1 => Some(format!("{} histories", founded.histories)),
        (None, true) => None,
    };
    if founded.wrong.is_some() {
        founded.trace = w.trace.tail().map(str::to_owned).collect();
    }
    founded
}

fn harm_at(random: &mut Random) -> u64 {
    random.below(HARM_WITHIN_US)
}

fn plan(seed: u64, random: &mut Random) -> Plan {
    let agents = (0..MACHINES)
        .map(|_| AgentPlan {
            start_us: random.below(STARTS_WITHIN_US),
            expect: EXPECT,
            join: (0..MACHINES).collect(),
            pace: TRUE_PACE,
            ..AgentPlan::default()
        })
        .collect();
    // A name is kept for a lost disk for a while: not what this is about.
    let mut knobs = Knobs { name_hold_us: 5 * SECOND, ..Knobs::calm() };
    if random.chance(500) {
        knobs.loss = random.below(150);
        knobs.reorder = random.below(100);
        knobs.duplicate = random.below(100);
        knobs.delay_us_max = random.between(2 * MS, 80 * MS);
        knobs.sync_us_max = random.between(5 * MS, 60 * MS);
    }
    knobs.turn_us = if random.chance(500) { 0 } else { 5 * MS };
    let (script, consumers, steps) = (Vec::new(), Vec::new(), Vec::new());
    Plan { seed, agents, knobs, script, consumers, calm_at_us: 0, steps }
}

impl World {
    /// Has the process on this machine pledged itself?
    pub(super) fn has_pledged(&self, machine: usize) -> bool {
        self.machines[machine].process.as_ref().is_some_and(|p| p.node.pledged().is_some())
    }

    /// What the agents tell people, each its first problem.
    fn told(&mut self) -> String {
        let machines = 0..self.machines.len();
        let told = machines.map(|m| {
            let status = self.status(m);
            let (voters, problems) = status.map(|s| (s.voters, s.problems)).unwrap_or_default();
            format!("; {} (voters {}): {}", letter(m), voters.join(","), problems.join(" | "))
        });
        told.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A few of the thousand that `examples/founding.rs` runs.
    #[test]
    fn identical_machines_found_one_log_whatever_happens_to_two_of_them() {
        for seed in 0..5 {
            let founded = founding(seed);
            assert_eq!(founded.wrong, None, "seed {seed}: {}", founded.trace.join("\n"));
        }
    }
}
