//! Schedules: thousands of random lives of small clusters, each from one seed; everything may fail, then all is healed.
//!
//! Safety is checked after every step by the witness. Then, in a healed world, the cluster must converge and every
//! request must have ended. A failing seed is printed; `QUORATE_SEEDS=A..B` runs chosen ones.

use std::collections::BTreeSet;
use std::time::Duration;

use quorate_raft::*;

use crate::cluster::*;
use crate::machine::*;

/// What really happened, over many seeds: a fault that never fired proves nothing.
#[derive(Debug, Default)]
struct Evidence {
    elections: u64,
    crashes: u64,
    crashes_that_lost_writes: u64,
    truncations: u64,
    committed: u64,
    lost: u64,
    refused: u64,
    reads: u64,
    changes: u64,
    transfers: u64,
    conflicts: u64,
    replays: u64,
    ranges_lost: u64,
    ranges_repaired: u64,
}

/// How long a healed world may take to converge: ten of the longest election timeouts.
const PATIENCE: Micros = 5_000 * MS;
const SEEDS: u64 = 10_000;
const SHARES: u64 = 8;
/// Said, truly, of a disk that cannot read what it acknowledged.
const LOST: &str = "its log has lost entries";

fn run_share(share: u64) {
    let per_share = SEEDS / SHARES;
    let seeds = match std::env::var("QUORATE_SEEDS") {
        Ok(_) if share > 0 => return,
        Ok(chosen) => {
            let (from, to) = chosen.split_once("..").expect("QUORATE_SEEDS=A..B");
            from.parse().expect("a number")..to.parse().expect("a number")
        }
        Err(_) => share * per_share..(share + 1) * per_share,
    };
    let enough = seeds.end - seeds.start >= per_share;
    let mut evidence = Evidence::default();
    for seed in seeds {
        let _named = Named(seed);
        run_seed(seed, &mut evidence);
    }
    println!("{evidence:?}");
    let Evidence { elections, crashes, crashes_that_lost_writes, truncations, committed, lost, refused, .. } = evidence;
    let Evidence { reads, changes, transfers, conflicts, replays, ranges_lost, ranges_repaired, .. } = evidence;
    let all = [elections, crashes, crashes_that_lost_writes, truncations, committed, lost, refused, reads, changes];
    let fired =
        all.iter().chain(&[transfers, conflicts, replays, ranges_lost, ranges_repaired]).all(|count| *count > 0);
    assert!(fired || !enough, "some fault or some success never happened: {evidence:?}");
}

/// Prints the seed if the run panics.
struct Named(u64);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "seed {0} failed; again: QUORATE_SEEDS={0}..{1} cargo test -p quorate-raft schedules",
                self.0,
                self.0 + 1
            );
        }
    }
}

fn run_seed(seed: u64, evidence: &mut Evidence) {
    let mut c = world(seed);
    if c.random.chance(850) {
        // Most lives begin with a leader; what happens before one is a story of its own.
        c.run(800 * MS);
    }
    let actions = 25 + c.random.below(25);
    for _ in 0..actions {
        act(&mut c, evidence);
        let time = if c.random.chance(300) { c.random.below(400 * MS) } else { c.random.below(15 * MS) };
        c.run(time);
    }
    converge(&mut c, evidence);
    count(&c, evidence);
}

/// A cluster with knobs so small that windows fill, batches split and run lists are cut short.
fn world(seed: u64) -> Cluster {
    let mut random = Random(seed ^ 0x5eed_5eed);
    let founders = [1, 2, 3, 3, 3, 3, 4, 5][random.below(8) as usize];
    let mut c = Cluster::of(founders);
    c.random = random;
    if c.random.chance(800) {
        c.options.append_entries_max = 1 + c.random.below(4) as u32;
        c.options.append_bytes_max = 100 + c.random.below(400) as u32;
        c.options.window_bytes = 100 + c.random.below(1000) as u32;
        c.options.conflict_runs_max = 1 + c.random.below(3) as usize;
        c.options.uncommitted_bytes_max = 500 + c.random.below(5_000);
        c.options.proposals_max = 2 + c.random.below(30) as usize;
    }
    let mut class = |chance: u64, up_to: u64| if c.random.chance(chance) { c.random.below(up_to) } else { 0 };
    let weather = Weather {
        drop: class(500, 300),
        duplicate: class(500, 200),
        replay: class(500, 60),
        delay_max: 1 + class(500, 40) * MS,
    };
    c.weather = weather;
    c.fsync = MS + if c.random.chance(500) { c.random.below(20 * MS) } else { 0 };
    // All lives begin again under these options.
    let seed = c.random.0;
    c = c.seed(seed);
    c
}

fn act(c: &mut Cluster, evidence: &mut Evidence) {
    let all: Vec<_> = c.machines.keys().copied().collect();
    let any = c.random.pick(&all).expect("machines");
    let leader = c.leader().unwrap_or(any);
    let somewhere = if c.random.chance(800) { leader } else { any };
    match c.random.below(100) {
        0..=30 => {
            let bytes = 1 + c.random.below(200) as u32;
            for _ in 0..=c.random.below(4) {
                c.propose_bytes(somewhere, bytes);
            }
        }
        31..=32 => {
            let has_room = c.random.chance(500);
            c.input(any, Input::Room(has_room));
        }
        33 if c.random.chance(300) => c.input(any, Input::StepDown),
        33 => c.hard_states_overtake(any),
        34..=44 => {
            c.read(any);
        }
        45..=51 => {
            let victim = if c.random.chance(600) { leader } else { any };
            if c.machines[&victim].raft.is_some() {
                evidence.crashes += 1;
                evidence.crashes_that_lost_writes += u64::from(c.machines[&victim].log != c.machines[&victim].disk.log);
                c.crash(victim);
            }
        }
        52..=66 => {
            let down: Vec<_> = all.iter().copied().filter(|id| c.machines[id].raft.is_none()).collect();
            if let Some(down) = c.random.pick(&down) {
                c.restart(down);
            }
        }
        67..=68 => c.isolate(leader),
        69..=70 => {
            let island: Vec<_> = all.iter().copied().filter(|_| c.random.chance(500)).collect();
            c.partition(&island);
        }
        71..=73 => {
            let other = c.random.pick(&all).expect("machines");
            c.cut.insert((any, other));
        }
        74..=81 => {
            c.heal();
        }
        82 => c.disk_hangs(any, true),
        83..=86 => c.disk_hangs(any, false),
        87..=93 => wish(c, leader),
        94..=95 => {
            let heir = c.random.chance(700).then_some(any);
            c.transfer(leader, heir);
        }
        96 if c.random.chance(500) => c.time_out(any),
        96 => evidence.ranges_lost += u64::from(rot(c, any)),
        97 => {
            let peer = c.random.pick(&all).expect("machines");
            c.input(any, Input::PeerDown { peer });
        }
        _ => {
            let fsync = 1 + c.random.below(80 * MS);
            if c.machines[&any].fsync.is_some() {
                c.machine(any).fsync = Some(fsync);
            }
        }
    }
}

/// Somewhere inside its log this node cannot read a few entries any more. Others hold what of it was committed; and what only
/// it holds decides nothing, in a group of three voters or more.
fn rot(c: &mut Cluster, victim: NodeId) -> bool {
    let is_large = |voters: &BTreeSet<NodeId>| voters.is_empty() || voters.len() > 2;
    let are_large = |entry: &Entry| match &entry.kind {
        EntryKind::Configuration(c) => is_large(&c.voters) && is_large(&c.outgoing),
        _ => true,
    };
    let is_alone = c.machines.values().all(|m| m.disk.holes.is_empty() && m.disk.suspect.is_none());
    let len = c.machines[&victim].disk.log.len() as u64;
    if !is_alone || len < 3 || !c.machines.values().all(|m| m.log.iter().all(are_large)) {
        return false;
    }
    let first = 2 + c.random.below(len - 2);
    let last = (first + c.random.below(6)).min(len);
    let stood = c.witness.truth.get(first as usize - 1..).unwrap_or_default();
    let stood = &stood[..stood.len().min((last + 1 - first) as usize)];
    let holds = |m: &Machine| m.disk.log.iter().skip(first as usize - 1).take(stood.len()).eq(stood);
    if !c.machines.iter().any(|(id, m)| *id != victim && holds(m)) {
        return false;
    }
    c.lose(victim, first, last);
    c.restart(victim);
    true
}

/// A random change: one node more, less, promoted, demoted, or all voters replaced at once.
fn wish(c: &mut Cluster, leader: NodeId) {
    let Some(raft) = c.machines[&leader].raft.as_ref() else { return };
    let (mut voters, mut learners) = (raft.configuration().voters.clone(), raft.configuration().learners.clone());
    let one = node(1 + c.random.below(6));
    match c.random.below(6) {
        0 => {
            voters.insert(one);
            learners.remove(&one);
        }
        1 => {
            voters.remove(&one);
            learners.remove(&one);
        }
        2 | 3 => {
            voters.remove(&one);
            learners.insert(one);
        }
        4 => {
            voters.append(&mut learners);
        }
        _ => {
            voters = (1..=6).filter(|_| c.random.chance(500)).map(node).collect();
            learners = (1..=6).filter(|_| c.random.chance(300)).map(node).filter(|n| !voters.contains(n)).collect();
        }
    }
    for &new in voters.union(&learners) {
        if !c.machines.contains_key(&new) {
            c.add(new.get());
        }
    }
    let numbers = |set: &BTreeSet<NodeId>| set.iter().map(|n| n.get()).collect::<Vec<_>>();
    c.change(leader, &numbers(&voters), &numbers(&learners));
}

/// Everything is healed: a leader within the bound, all members equal, every request ended.
fn converge(c: &mut Cluster, evidence: &mut Evidence) {
    c.heal();
    c.weather = Weather { delay_max: MS, ..Weather::default() };
    let all: Vec<_> = c.machines.keys().copied().collect();
    for id in all {
        c.machine(id).fsync = Some(MS);
        c.disk_hangs(id, false);
        c.input(id, Input::Room(true));
        if c.machines[&id].raft.is_none() {
            c.restart(id);
        }
    }
    let deadline = c.now + PATIENCE;
    let mut last_word = None;
    loop {
        if let (None, Some(leader)) = (last_word, c.stable_leader()) {
            last_word = Some(c.propose(leader)).filter(|ticket| c.witness.accepted_at(*ticket).is_some());
        }
        if last_word.is_some() && are_whole(c) && c.is_settled() && open(c).is_empty() {
            break;
        }
        let damaged = c.machines.iter().find(|(_, m)| !m.disk.holes.is_empty()).map(|(id, _)| *id);
        evidence.ranges_repaired += u64::from(damaged.is_some_and(|id| c.random.chance(50) && c.repair(id)));
        assert!(c.now < deadline, "a healed world did not converge; open {:?}\n{}", open(c), c.picture());
        c.run(5 * MS);
    }
    c.witness.verdict();
    for (id, machine) in &c.machines {
        let honest = |alarm: &&&str| evidence.ranges_lost == 0 || !alarm.starts_with(LOST);
        let alarms: Vec<_> = machine.alarms.iter().filter(honest).collect();
        assert!(alarms.is_empty(), "{id:?} accused an honest peer: {alarms:?}");
        assert_eq!(machine.halted, None, "{id:?} halted");
    }
}

/// Members hold all of their logs, and can read them. Nobody heals the disk of one that was removed.
fn are_whole(c: &Cluster) -> bool {
    let Some(leader) = c.leader() else { return false };
    let members = c.raft(leader).configuration().members();
    members.iter().filter_map(|id| c.machines.get(id)).all(|m| m.disk.holes.is_empty() && m.disk.suspect.is_none())
}

/// The requests that have not ended, at members: whoever was removed before hearing the end cannot know it.
fn open(c: &Cluster) -> Vec<(NodeId, Ticket)> {
    let Some(leader) = c.leader() else { return Vec::new() };
    let is_member = |id: &NodeId| c.raft(leader).configuration().is_member(*id);
    c.witness.open().filter(|(id, _)| is_member(id)).collect()
}

fn count(c: &Cluster, evidence: &mut Evidence) {
    evidence.elections += c.witness.elections;
    evidence.truncations += c.truncations;
    evidence.reads += c.witness.reads_served;
    evidence.conflicts += c.sent("conflict");
    evidence.transfers += c.sent("timeout-now");
    evidence.replays += c.replays;
    evidence.changes +=
        c.witness.truth.iter().filter(|e| matches!(e.kind, EntryKind::Configuration(_))).count() as u64 - 1;
    for outcome in c.witness.outcomes() {
        match outcome {
            Outcome::Committed { .. } => evidence.committed += 1,
            Outcome::Lost => evidence.lost += 1,
            Outcome::Rejected(_) => evidence.refused += 1,
        }
    }
}

macro_rules! shares {
    ($($name:ident: $share:expr),*) => { $(
        #[test]
        fn $name() {
            run_share($share);
        }
    )* };
}

shares!(seeds_of_share_0: 0, seeds_of_share_1: 1, seeds_of_share_2: 2, seeds_of_share_3: 3,
        seeds_of_share_4: 4, seeds_of_share_5: 5, seeds_of_share_6: 6, seeds_of_share_7: 7);

/// A long storm over one cluster: a tenth of all messages lost, a tenth twice, all out of order (R5).
#[test]
fn a_long_storm_over_a_busy_cluster_loses_nothing() {
    let mut c = Cluster::of(5).seed(5);
    c.options.append_bytes_max = 1000;
    c.options.window_bytes = 4000;
    c = c.seed(6);
    c.weather = Weather { drop: 100, duplicate: 100, replay: 10, delay_max: 20 * MS };
    let mut tickets = Vec::new();
    for _ in 0..2_000 {
        if let Some(leader) = c.leader() {
            tickets.push(c.propose(leader));
        }
        c.run(3 * MS);
    }
    converge(&mut c, &mut Evidence::default());
    let committed = tickets.iter().filter(|t| matches!(c.outcome(**t), Some(Outcome::Committed { .. }))).count();
    assert!(committed > 1_000, "only {committed} of 2000 were committed");
    assert!(Duration::from_micros(c.now) < Duration::from_secs(60));
}

/// Figure 3.7, as a storm: five nodes, one entry to a message, and leaders that die soon after they appended. Old entries
/// spread to majorities under leaders that wrote none of them, and must not be called committed for that.
#[test]
fn leaders_that_die_young_commit_nothing_of_their_elders_by_counting() {
    for seed in 0..300 {
        let _named = Named(seed);
        let mut c = Cluster::of(5);
        c.options.append_entries_max = 1;
        c.options.append_bytes_max = 1;
        c.options.window_bytes = 1;
        c = c.seed(seed);
        c.weather = Weather { drop: 100, delay_max: 10 * MS, ..Weather::default() };
        for _ in 0..25 {
            let deadline = c.now + 1_500 * MS;
            while c.leader().is_none() && c.step(deadline) {}
            if let Some(leader) = c.leader() {
                if c.random.chance(400) {
                    // Its first entry reaches nobody.
                    c.isolate(leader);
                    c.run(5 * MS);
                } else {
                    c.propose(leader);
                    let time = c.random.below(30 * MS);
                    c.run(time);
                }
                c.crash(leader);
                c.heal();
            }
            let down: Vec<_> = c.machines.keys().copied().filter(|id| c.machines[id].raft.is_none()).collect();
            if (down.len() > 2 || c.random.chance(400))
                && let Some(id) = c.random.pick(&down)
            {
                c.restart(id);
            }
        }
        converge(&mut c, &mut Evidence::default());
    }
}
