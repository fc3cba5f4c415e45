//! Starts from a checkpoint: whatever happens to the file, the state is that of the log.

use crate::sim::plan::{Action, MS, SECOND};
use crate::sim::world::World;

/// One agent that has saved its state at least twice.
fn seasoned() -> World {
    let mut w = World::formed(1);
    for _ in 0..45 {
        w.appends(0);
    }
    w.must("two checkpoints", 5 * SECOND, |w| saved(w).len() == 2);
    w
}

fn saved(w: &World) -> Vec<String> {
    let mut names: Vec<String> = w.machines[0].disk.names().into_iter().filter(|n| n.ends_with(".ckpt")).collect();
    names.sort_by_key(|name| name.split('-').next().and_then(|index| index.parse::<u64>().ok()));
    names
}

fn index(name: &str) -> u64 {
    name.split('-').next().and_then(|index| index.parse().ok()).expect("the name of a checkpoint")
}

fn restarted(w: &mut World) -> (u64, usize) {
    w.act(&Action::Kill { agent: 0, down_us: 100 * MS });
    w.run_to(w.at + SECOND);
    w.converges(10 * SECOND);
    w.appends(0);
    w.reads(0);
    w.machines[0].process.as_ref().map(|p| (p.resumed_at, p.passed_over)).expect("it is up")
}

#[test]
fn a_start_goes_on_from_the_newest_checkpoint() {
    let mut w = seasoned();
    let newest = index(&saved(&w)[1]);
    assert_eq!(restarted(&mut w), (newest, 0));
}

/// A clean stop saves the state at the very end: the next start has nothing to apply.
#[test]
fn a_clean_stop_saves_the_last_state() {
    let mut w = World::formed(3);
    for _ in 0..5 {
        w.appends(2);
    }
    w.machines[2].rest_us = Some(SECOND);
    w.feed(2, crate::node::Input::Stop);
    w.must("it stops and is back", 10 * SECOND, |w| {
        w.machines[2].lives == 2 && w.machines[2].process.as_ref().is_some_and(|p| p.resumed_at > 0)
    });
    w.converges(10 * SECOND);
    w.appends(2);
}

/// hiqlite#250, NATS#7556: whatever is wrong with the newest, or both, the agent starts, names it, and saves a new one.
#[test]
fn a_damaged_checkpoint_costs_time_and_nothing_else() {
    let mut w = seasoned();
    let names = saved(&w);
    w.machines[0].disk.flip_bit(&names[1], 300, 2);
    assert_eq!(restarted(&mut w), (index(&names[0]), 1), "newest damaged: the older one");
    w.must("a new one replaces it", 5 * SECOND, |w| saved(w).len() == 2);
    for name in saved(&w) {
        w.machines[0].disk.cut(&name, 0);
    }
    assert_eq!(restarted(&mut w), (0, 2), "both empty: the log from its beginning");
    w.must("a new one replaces both", 5 * SECOND, |w| !saved(w).is_empty());
    assert!(w.machines[0].disk.names().iter().all(|n| !n.ends_with(".broken")));
    for name in saved(&w) {
        w.machines[0].disk.vanish(&name);
    }
    assert_eq!(restarted(&mut w), (0, 0), "none");
}

/// etcd#10219 and its kin: power is lost in each call of the disk while a checkpoint is saved.
#[test]
fn power_is_lost_at_each_step_of_a_save() {
    let mut fell = 0;
    for calls in 0..14 {
        let mut w = seasoned();
        let before = saved(&w);
        // The next save is the next thing that this disk does for a while.
        while w.machines[0].process.as_ref().is_some_and(|p| p.saving.is_none()) {
            w.appends(0);
        }
        w.tearing.insert(0, 100 * MS);
        w.machines[0].disk.power_off_after(calls);
        w.run_to(w.at + 50 * MS);
        fell += w.counters.get("torn in a checkpoint");
        if !w.machines[0].is_up() {
            w.machines[0].disk.heal();
        }
        w.tearing.clear();
        w.machines[0].disk.heal();
        w.converges(10 * SECOND);
        w.appends(0);
        let after = restarted(&mut w).0;
        assert!(after >= index(&before[1]), "call {calls}: from {after}");
    }
    assert!(fell >= 6, "only {fell} of the steps of a save were hit");
}

/// A disk that lies loses the end of the log that it had confirmed, and keeps the checkpoint: that is ahead of its log. It
/// is not believed; the leader sends what is missing.
#[test]
fn a_checkpoint_ahead_of_its_log_is_not_believed() {
    let mut w = World::formed(1);
    for _ in 0..45 {
        w.appends(0);
    }
    w.must("two checkpoints", 5 * SECOND, |w| saved(w).len() == 2);
    let old = w.machines[0].disk.fork();
    let before = w.machines[0].durable.clone();
    for _ in 0..30 {
        w.appends(0);
    }
    w.must("another checkpoint", 5 * SECOND, |w| index(&saved(w)[1]) > before.log.len() as u64);
    let (name, ahead) = {
        let name = saved(&w)[1].clone();
        let bytes = w.machines[0].disk.contents(&name).expect("it is there");
        (name, bytes)
    };
    let store = crate::checkpoint::Store::new(old.attach());
    let file = old.attach().create(&name).expect("a new name");
    file.write_at(&ahead, 0).expect("room");
    file.sync_all().expect("a good disk");
    let opened = quorate_raft::wal::open(old.attach(), quorate_raft::wal::Options::default()).expect("a whole log");
    let meta = opened.meta;
    let loaded = store.load(meta.cluster, meta.node, meta.log_id, |l| crate::checkpoint::stands_in(&opened.reader, l));
    let taken = loaded.checkpoint.expect("the older one");
    assert!(taken.index().0 <= before.log.len() as u64, "{taken:?}");
    assert_eq!(loaded.passed_over.len(), 1);
    assert!(loaded.passed_over[0].why.contains("the log ends at"), "{:?}", loaded.passed_over);
}

/// A full disk: no checkpoint, a word in `status`, and a new try when there is room.
#[test]
fn a_checkpoint_that_finds_no_room_is_tried_again() {
    let mut w = seasoned();
    while w.machines[0].process.as_ref().is_some_and(|p| p.saving.is_none()) {
        w.appends(0);
    }
    let newest = index(&saved(&w)[1]);
    w.machines[0].disk.set_capacity(Some(0));
    w.must("the save fails", SECOND, |w| w.counters.get("checkpoints not saved") > 0);
    w.machines[0].disk.set_capacity(None);
    let status = w.status(0).expect("it answers");
    assert!(status.problems.iter().any(|p| p.contains("checkpoint")), "{:?}", status.problems);
    w.must("it is saved after all", 30 * SECOND, |w| saved(w).last().is_some_and(|name| index(name) > newest));
    let status = w.status(0).expect("it answers");
    assert!(status.problems.iter().all(|p| !p.contains("checkpoint")), "{:?}", status.problems);
}
