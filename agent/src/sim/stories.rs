//! Stories of whole agents: a cast, a blow and a moral. The world is calm unless a story says otherwise.

use super::plan::{AgentPlan, Knobs, MS, Plan, SECOND};
use super::world::World;

fn plan(agents: usize) -> Plan {
    let all: Vec<usize> = (0..agents).collect();
    let agents = all
        .iter()
        .map(|at| AgentPlan {
            start_us: *at as u64 * 10 * MS,
            bootstrap: *at == 0,
            join: if *at == 0 { vec![] } else { vec![0] },
            wall_us: 0,
            name: None,
        })
        .collect();
    Plan { seed: 1, agents, knobs: Knobs::calm(), clients: 0, calm_at_us: 0, steps: Vec::new() }
}

#[test]
fn three_fresh_agents_become_three_voters() {
    let mut w = World::new(plan(3));
    let formed = w.run_until(5 * SECOND, |w| w.witness.configuration().is_some_and(|c| c.voters.len() == 3));
    for line in w.trace.tail() {
        println!("{line}");
    }
    assert_eq!(w.witness.violation(), None);
    assert!(formed);
}
