//! Shrinking: from a plan that breaks a promise to a shorter one that breaks one as well.
//!
//! It draws nothing: it only takes steps and clients away, and runs what is left.

use super::{Plan, run};

/// The shortest plan found by taking away one thing after the other; the same plan if it breaks nothing.
#[must_use]
pub fn shrink(plan: Plan) -> Plan {
    let mut best = plan;
    if run(best.clone(), false).violation.is_none() {
        return best;
    }
    let breaks = |plan: &Plan| run(plan.clone(), false).violation.is_some();
    loop {
        let next = shorter(&best).find(breaks);
        match next {
            Some(next) => best = next,
            None => return best,
        }
    }
}

/// Every plan that has one thing less.
fn shorter(plan: &Plan) -> impl Iterator<Item = Plan> + '_ {
    let without_step = (0..plan.steps.len()).map(|at| {
        let mut less = plan.clone();
        less.steps.remove(at);
        less
    });
    let without_client = (1..plan.clients).map(|clients| Plan { clients, ..plan.clone() });
    without_client.chain(without_step)
}
