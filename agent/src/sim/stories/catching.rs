//! Far behind: newcomers and returners take over a log that is no longer in anybody's memory.

use super::plan;
use crate::sim::client::{End, Kind};
use crate::sim::plan::{Action, MS, SECOND};
use crate::sim::world::World;

/// Records of one append: an entry of some 25 KiB, many times what the core takes an old entry to weigh.
const RECORDS: u64 = 400;

/// One agent with so many large entries, none of them in memory, since it was started again; and a second one that never
/// ran, and comes when it is told to.
fn with_an_old_log(entries: u64) -> World {
    let mut two = plan(2);
    two.agents[1].start_us = 3_600 * SECOND;
    two.knobs.segment_bytes = 1 << 20;
    let mut w = World::new(two);
    w.must("a leader", 15 * SECOND, |w| w.voters() == 1);
    for _ in 0..entries {
        let first = w.next_value;
        w.next_value += RECORDS;
        let operation = w.ask(None, 0, Kind::Append { first, count: RECORDS }, 5 * SECOND).expect("it is up");
        w.must("an append ends", 6 * SECOND, |w| w.is_over(operation));
        assert!(matches!(w.end(operation), End::Answered(Ok(_))), "{:?}", w.end(operation));
    }
    w.act(&Action::Kill { agent: 0, down_us: 100 * MS });
    w.run_to(w.at + SECOND);
    w.must("it leads again", 10 * SECOND, |w| w.machines[0].process.as_ref().is_some_and(|p| p.node.is_leader()));
    w
}

/// The second agent runs now.
fn comes(w: &mut World) {
    w.machines[1].starting = false;
    w.start_at(1, w.at);
}

fn held(w: &World) -> usize {
    w.machines[1].durable.log.len()
}

/// What the core plans rests on a guess of what entries weigh that it never saw. The first read corrects it: no message is
/// cut short for long, none finds a gap, and nothing is sent for nothing.
#[test]
fn old_entries_that_weigh_more_than_expected_are_sent_once() {
    let mut w = with_an_old_log(200);
    let (conflicts, sent) = (w.counters.get("conflicts"), w.counters.get("entries sent"));
    comes(&mut w);
    w.must("the newcomer has it all", 60 * SECOND, |w| held(w) >= 200);
    let conflicts = w.counters.get("conflicts") - conflicts;
    let (sent, again) = (w.counters.get("entries sent") - sent, w.counters.get("entries sent again"));
    assert!(conflicts <= 3, "{conflicts} messages found a gap");
    assert!(sent <= 230 && again <= 20, "{sent} entries were sent, {again} of them again");
}

/// Whoever crashes on the way, the newcomer or the leader, the rest is sent from where the newcomer's disk was.
#[test]
fn catching_up_goes_on_where_the_disk_was() {
    let mut w = with_an_old_log(240);
    comes(&mut w);
    w.must("a third is there", 60 * SECOND, |w| held(w) >= 80);
    w.act(&Action::Crash { agent: 1, down_us: 200 * MS });
    let kept = held(&w);
    w.must("two thirds are there", 60 * SECOND, |w| held(w) >= 160);
    w.act(&Action::Kill { agent: 0, down_us: 200 * MS });
    w.must("all is there", 60 * SECOND, |w| held(w) >= 240);
    let again = w.counters.get("entries sent again");
    assert!(
        kept >= 80 && again <= 60,
        "{again} entries were sent again, of which {kept} were there after the first crash"
    );
    w.converges(30 * SECOND);
    w.appends(1);
}

/// While one replica is far behind, and its bulk connection breaks again and again, appends are acked as ever.
#[test]
fn a_learner_that_is_far_behind_delays_no_append() {
    let mut w = with_an_old_log(200);
    comes(&mut w);
    w.must("it is on its way", 60 * SECOND, |w| held(w) >= 20);
    let mut slowest = 0;
    while held(&w) < 200 {
        let asked = w.at;
        let operation = w.begin_append(0, 5 * SECOND);
        w.must("an append ends", SECOND, |w| w.is_over(operation));
        slowest = slowest.max(w.at - asked);
        w.act(&Action::LoseBulk { agent: 1 });
        w.run_to(w.at + 300 * MS);
    }
    assert!(slowest <= 100 * MS, "an append took {} ms", slowest / MS);
}
