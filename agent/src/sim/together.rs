//! Together: drawn worlds that begin with formation by expectation, and then go on into the faults of any other world.
//!
//! Nobody is told to found a log: identical machines expect so many of each other, some of them late, and lose power, disks
//! and each other in the middle of it. What is drawn here has draws of its own, so that no other world changes with it.

use super::plan::{Action, MS, Plan, SECOND, Step};
use super::random::{Random, one};
use crate::pledge::EXPECT_MAX;

/// So many of a thousand worlds begin like this.
const SHARE: u64 = 250;
/// Who is no latecomer comes within this time.
const STARTS_WITHIN_US: u64 = 6 * SECOND;
/// Blows to a founding come from so long before its last founder is started to so long after that.
const BLOWS_US: (u64, u64) = (500 * MS, 5 * SECOND);
/// So many of them, at most.
const BLOWS_MAX: u64 = 4;
/// A majority of three bears one lost disk. Of fewer founders each is needed.
const WIPED_OF_AT_LEAST: usize = 3;

/// Makes a drawn plan one of those, if its seed says so. Two who are told to found a log each stay what they are.
pub(super) fn begin(plan: &mut Plan) {
    let mut random = Random::of(plan.seed, "together", 0);
    let formers = plan.agents.iter().filter(|a| a.bootstrap && !a.foreign).count();
    if !random.chance(SHARE) || formers != 1 {
        return;
    }
    let ours: Vec<usize> = (0..plan.agents.len()).filter(|at| !plan.agents[*at].foreign).collect();
    let most = if ours.len() >= WIPED_OF_AT_LEAST { ours.len().min(EXPECT_MAX) } else { 1 };
    let odd: Vec<usize> = (1..=most).filter(|n| n % 2 == 1 && (*n > 1 || most == 1)).collect();
    let expect = random.pick(&odd).unwrap_or(1);
    // Behind a majority of silent addresses a group could live, and nobody would found anything.
    let mut may_be_late = expect / 2;
    for at in &ours {
        let agent = &mut plan.agents[*at];
        (agent.bootstrap, agent.expect, agent.join) = (false, expect, ours.clone());
        let is_late = agent.start_us > STARTS_WITHIN_US;
        if is_late && may_be_late == 0 {
            agent.start_us = random.below(STARTS_WITHIN_US);
        }
        may_be_late -= usize::from(is_late && may_be_late > 0);
    }
    let mut starts: Vec<u64> = ours.iter().map(|at| plan.agents[*at].start_us).collect();
    starts.sort_unstable();
    // Whoever may still be silent then: so many are enough.
    let founded_us = starts[ours.len() - 1 - (expect / 2).min(ours.len() - expect)];
    let blows = blows(&mut random, ours.len(), expect, founded_us);
    let until_us = plan.calm_at_us.saturating_sub(SECOND);
    plan.steps.extend(blows.into_iter().map(|step| Step { at_us: step.at_us.min(until_us), ..step }));
    plan.steps.sort_by_key(|step| step.at_us);
}

/// What happens to those who are about to found a log: to whom is left to chance, to one disk at most.
fn blows(random: &mut Random, n: usize, expect: usize, founded_us: u64) -> Vec<Step> {
    let mut steps = Vec::new();
    for _ in 0..random.below(BLOWS_MAX + 1) {
        let at_us = (founded_us + random.below(BLOWS_US.0 + BLOWS_US.1)).saturating_sub(BLOWS_US.0).max(1);
        let agent = one(random, n);
        let down_us = random.log_between(100, 20_000) * MS;
        let (first, later) = match random.below(10) {
            0 | 1 => (Action::Crash { agent, down_us }, None),
            2 => (Action::Tear { agent, calls: random.below(40), torn: false, down_us }, None),
            3 => (Action::CrashAll { down_us: down_us.min(2 * SECOND) }, None),
            4 | 5 if expect >= WIPED_OF_AT_LEAST => (Action::Wipe { agent, down_us }, None),
            6 => (Action::Pause { agent, for_us: random.log_between(100, 12_000) * MS }, None),
            7 => (Action::Isolate { agent }, Some(Action::Heal)),
            8 => (Action::Move { agent, down_us: 300 * MS }, None),
            _ => (Action::Kill { agent, down_us }, None),
        };
        let healed = later.map(|action| Step { at_us: at_us + random.between(300, 6_000) * MS, action });
        steps.push(Step { at_us, action: first });
        steps.extend(healed);
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::super::{Faults, run};
    use super::*;

    /// Every one of them is founded by as many as expect each other or not before the calm, and with blows in the middle.
    #[test]
    fn a_share_of_all_worlds_begins_with_a_founding_together() {
        for faults in [Faults::All, Faults::Membership] {
            let drawn = |seed| Plan::draw_with(seed, faults);
            let together = (0..200).map(drawn).filter(|plan| plan.agents.iter().any(|a| a.expect > 0));
            let plans: Vec<Plan> = together.collect();
            assert!((25..=75).contains(&plans.len()), "{} of 200, {faults:?}", plans.len());
            for plan in &plans {
                let expect = plan.agents[0].expect;
                let ours = plan.agents.iter().filter(|a| !a.foreign);
                assert!(
                    ours.clone().all(|a| !a.bootstrap && a.expect == expect && a.join.len() == ours.clone().count())
                );
            }
        }
    }

    /// Power and disks are lost with pledges on them, and there is a log in the end.
    #[test]
    fn pledges_are_lost_in_drawn_worlds() {
        let plans = (0..400).map(|seed| Plan::draw_with(seed, Faults::All));
        let early = |plan: &Plan| {
            let begun = plan.agents.iter().map(|a| a.start_us).max().unwrap_or_default();
            plan.agents[0].expect > 2 && plan.steps.iter().any(|s| s.at_us < begun + 2 * SECOND)
        };
        let mut founded = 0;
        for mut plan in plans.filter(early).take(6) {
            plan.script.clear();
            let report = run(plan, false);
            assert_eq!(report.violation, None, "seed {}", report.plan.seed);
            founded += report.counters.get("founded together");
        }
        assert_eq!(founded, 6);
    }
}
