//! Storms: agents that answer each other's answers, which nothing but their own patience ends.

use super::plan;
use crate::sim::plan::{Action, MS, SECOND};
use crate::sim::world::World;

/// A second with so many events is a busy one among six agents.
const BUSY_EVENTS: u64 = 12_000;

/// Gossip of a member is lost for minutes while its connections are up: all others call it failed, it says that it is not, and
/// must wait longer each time before it says so again. Meanwhile everybody hints at it to everybody. Nobody follows a hint
/// more often than once a second, so no second is busier than others.
#[test]
fn who_is_called_failed_again_and_again_starts_no_storm() {
    for agents in [3, 6] {
        let mut calm = plan(agents);
        calm.knobs.delay_us_min = 20;
        calm.knobs.delay_us_max = 100;
        let mut w = World::new(calm);
        w.converges(15 * SECOND);
        let mut busiest = 0;
        for round in 0..6 {
            let victim = round % agents;
            w.act(&Action::LoseGossip { agent: victim, for_us: 25 * SECOND });
            for _ in 0..30 {
                let before = w.events;
                w.run_to(w.at + SECOND);
                busiest = busiest.max(w.events - before);
                w.keeps_promises();
            }
        }
        println!("{agents} agents: {busiest} events in the busiest second");
        assert!(busiest < BUSY_EVENTS, "{busiest} events in one second among {agents}");
        w.run_to(w.at + 60 * SECOND);
        w.converges(30 * SECOND);
        w.run_to(w.at + 10 * MS);
    }
}
