//! Identity under abuse: names that two disks want, disks that exist twice, disks from the past, two foundings under one
//! authority. Identity dies with the disk, a healthy holder is never evicted, and everybody is told what is going on.

use crate::cluster::{Cluster, wait_until};
use crate::data::copy_dir;
use crate::history::{self, Load};
use quorate::client::Member;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

/// How long a name is kept for a silent holder.
const NAME_HOLD: Duration = Duration::from_secs(30);

/// A machine that is too busy may cost an election; somebody who disturbs costs one after another. In virtual time, where
/// nothing is busy, `sim/stories` are strict.
const ELECTIONS_BY_CHANCE: u64 = 2;

/// The problems that this agent tells, in one string.
fn problems(cluster: &Cluster, name: &str) -> String {
    cluster.status(name).map(|s| s.problems.join("\n")).unwrap_or_default()
}

/// Waits until the problems that this agent tells hold all of `parts` in one line; the line.
#[track_caller]
fn told(cluster: &Cluster, name: &str, parts: &[&str]) -> String {
    wait_until(&format!("{name} says {parts:?}; it says {:?}", problems(cluster, name)), || {
        let said = problems(cluster, name);
        said.lines().find(|line| parts.iter().all(|part| line.contains(part))).map(str::to_owned)
    })
}

/// The same as a script reads it: `status --format json` of this agent lists such a problem, and `--check` fails with 9.
#[track_caller]
fn told_to_scripts(cluster: &Cluster, name: &str, parts: &[&str]) {
    told(cluster, name, parts);
    let status = cluster.ask(name, &["status", "--format", "json"]).json();
    let problems = status["problems"].as_array().unwrap();
    let matches = |line: &str| parts.iter().all(|part| line.contains(part));
    assert!(problems.iter().filter_map(|p| p.as_str()).any(matches), "{status}");
    assert_eq!(cluster.ask(name, &["status", "--check"]).code, 9);
}

fn member(cluster: &Cluster, at: &str, name: &str) -> Member {
    cluster.members(at).unwrap().into_iter().find(|m| m.name == name && m.raft != "none").unwrap()
}

fn node(cluster: &Cluster, at: &str, name: &str) -> String {
    format!("{:016x}", member(cluster, at, name).id)
}

fn count(cluster: &Cluster, names: &[&str], what: &str) -> usize {
    names.iter().map(|name| cluster.log(name).matches(what).count()).sum()
}

/// Waits until whoever of these leads has seen this boot of `name`.
#[track_caller]
fn registered(cluster: &Cluster, leaders: &[&str], name: &str, boot: u32) {
    let line = format!("{name} is in its boot {boot}");
    wait_until(&line, || (count(cluster, leaders, &line) > 0).then_some(()));
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// What must not change while others abuse an identity: who has a seat in which log, and the term.
#[derive(Debug)]
struct Standing {
    voters: Vec<String>,
    log_id: Option<String>,
    term: u64,
}

fn standing(cluster: &Cluster, at: &str) -> Standing {
    let status = cluster.status(at).unwrap();
    Standing { voters: status.voters, log_id: status.log_id, term: status.term }
}

impl Standing {
    /// Nobody was disturbed since.
    #[track_caller]
    fn still(&self, now: &Self) {
        assert_eq!((&now.voters, &now.log_id), (&self.voters, &self.log_id), "nobody's seat moved");
        assert!(now.term <= self.term + ELECTIONS_BY_CHANCE, "the term moved from {} to {}", self.term, now.term);
    }
}

/// A cluster of five loses a disk while one of its voters is stopped and knows nothing of it. The new disk under the old
/// name waits, and it and all others are told for whom and how long; then it takes the seat in one change. A twin of a
/// healthy agent stays outside however long it tries. And the voter that slept follows whoever leads when it wakes, also
/// the new disk, of which it has never heard.
#[test]
fn a_name_is_kept_for_its_holder_and_goes_to_its_new_disk() {
    let mut cluster = Cluster::of(5);
    let leader = cluster.leader();
    let others: Vec<String> = cluster.running().into_iter().filter(|name| *name != leader).collect();
    let [wiped, sleeper, held, witness] = &others[..] else { panic!("five agents") };
    let everyone = ["n1", "n2", "n3", "n4", "n5"];
    let (lost, holder) = (node(&cluster, &leader, wiped), node(&cluster, &leader, held));
    let before = standing(&cluster, &leader);
    let seats = count(&cluster, &everyone, "takes the seat");
    let load = Load::on(&cluster, 3);
    load.wait_ack_after(Instant::now());

    // The twin: the certificate of a healthy agent, a fresh disk, another address.
    let join = format!("{},{}", cluster.addr(&leader), cluster.addr(witness));
    let twin = cluster.data("twin");
    cluster.start_as("twin", held, &twin, "127.0.0.1:0", &["--join", &join]);
    let of_twin = ["not admitted", &holder, "which is alive"];
    println!("seen: the twin is told: {}", told(&cluster, "twin", &of_twin));
    cluster.wait_log("twin", &["join address", &holder, "which is alive"]);

    // The sleeper misses all that follows; then a disk is lost.
    cluster.pause(sleeper);
    let killed = Instant::now();
    cluster.kill(wiped);
    fs::remove_dir_all(cluster.data(wiped)).unwrap();
    cluster.start(wiped, &["--join", &join]);
    println!(
        "seen: the new disk is told: {}",
        told(&cluster, wiped, &["not admitted", &lost, "silent", "free in about"])
    );
    cluster.wait_log(wiped, &["join address", &lost]);
    for name in [&leader, witness] {
        let line = told(&cluster, name, &["an agent", wiped, "is not admitted", &lost]);
        println!("seen: {name} tells of the new disk: {line}");
        println!(
            "seen: {name} tells of the twin: {}",
            told(&cluster, name, &["an agent", held, "is not admitted", &holder])
        );
    }
    told_to_scripts(&cluster, wiped, &["not admitted", &lost]);
    told_to_scripts(&cluster, witness, &[wiped, "is not admitted", &lost]);
    let listed = cluster.members(wiped).unwrap();
    assert!(listed.len() == 1 && listed[0].raft == "none", "the newcomer lists itself, outside Raft: {listed:?}");

    let new = wait_until("the new disk votes", || {
        let at_leader = cluster.members(&leader).ok()?;
        let new = at_leader.into_iter().find(|m| m.name == **wiped && m.raft == "voter" && m.state == "alive")?;
        (format!("{:016x}", new.id) != lost).then_some(new)
    });
    let tells = cluster.status(&leader).unwrap().problems;
    let of_former = format!("an agent {wiped} at");
    assert!(!tells.iter().any(|problem| problem.contains(&of_former)), "it is let in: {tells:?}");
    println!("seen: the new disk {:016x} votes {:?} after the old one was lost", new.id, killed.elapsed());
    assert!(killed.elapsed() >= NAME_HOLD, "too early");
    let awake = [leader.as_str(), wiped, held, witness];
    cluster.wait_group_of(&names(&awake), 5, 0);
    assert_eq!(count(&cluster, &awake, "takes the seat"), seats + 1, "one change gave the seat to the new disk");
    let after = standing(&cluster, &leader);
    before.still(&after);

    // The twin has tried for longer than any name is kept for a silent holder.
    told_to_scripts(&cluster, "twin", &of_twin);
    assert_eq!(node(&cluster, &leader, held), holder, "the healthy holder keeps its seat");
    assert_eq!(cluster.status("twin").unwrap().raft, "none");
    println!("seen: after {:?} the twin is outside; {before:?} before, {after:?} after", killed.elapsed());
    cluster.kill("twin");

    the_sleeper_follows_whom_it_never_heard_of(&cluster, sleeper, &new, &awake, &load);
    cluster.wait_group(5, 0);
    let history = load.stop(&cluster);
    println!("seen: {:?}", history::verify(&cluster, &cluster.running(), &history));
}

/// The new disk comes to lead, and the sleeper wakes: by all it knows that name is another node's, and that node lives.
fn the_sleeper_follows_whom_it_never_heard_of(c: &Cluster, sleeper: &str, new: &Member, awake: &[&str], load: &Load) {
    the_new_disk_leads(c, &new.name, awake);
    let woken = Instant::now();
    c.signal(sleeper, "CONT");
    c.wait_member(sleeper, "the new disk as leader", |all| all.iter().any(|m| m.id == new.id && m.raft == "leader"));
    println!("seen: the sleeper follows the new disk {:?} after it woke", woken.elapsed());
    // Without the sleeper there is no majority now.
    let gone: Vec<_> = awake.iter().filter(|name| **name != new.name).take(2).collect();
    gone.iter().for_each(|name| c.pause(name));
    load.wait_ack_after(Instant::now());
    gone.iter().for_each(|name| c.signal(name, "CONT"));
}

/// Whoever leads instead is stopped until the agent `wanted` is elected.
fn the_new_disk_leads(cluster: &Cluster, wanted: &str, voters: &[&str]) {
    let leader = || {
        let leads = |name: &&&str| cluster.status(name).is_ok_and(|s| s.leader.as_deref() == Some(**name));
        voters.iter().find(leads).map(|name| (*name).to_owned())
    };
    for _ in 0..50 {
        let now = wait_until("somebody leads", leader);
        if now == wanted {
            return;
        }
        cluster.pause(&now);
        let other = voters.iter().find(|name| **name != now).unwrap();
        cluster.wait_status(other, "another leader", |s| s.leader.as_ref().is_some_and(|l| *l != now));
        cluster.signal(&now, "CONT");
        wait_until("it knows the new leader", || {
            let status = cluster.status(&now).ok()?;
            (status.leader.is_some_and(|leader| leader != now)).then_some(())
        });
    }
    panic!("fifty elections, and {wanted} never won");
}

/// A copy of a running agent's data directory, started elsewhere: the others and the original itself refuse it with the
/// reason and say so, however often it starts; the original is not disturbed.
#[test]
fn a_cloned_directory_is_refused_while_the_original_lives() {
    let mut cluster = Cluster::of(3);
    let leader = cluster.leader();
    let original = cluster.other_than(&leader);
    let third = cluster.running().into_iter().find(|name| *name != leader && *name != original).unwrap();
    let before = standing(&cluster, &leader);
    let (id, pid) = (node(&cluster, &leader, &original), cluster.pid(&original));
    let load = Load::on(&cluster, 3);
    load.wait_ack_after(Instant::now());
    let copy = cluster.path("copy");
    copy_dir(&cluster.data(&original), &copy);
    let join = [&leader, &third, &original].map(|name| cluster.addr(name).to_string()).join(",");

    // Each start counts one boot more, so the clone comes to be in a later boot than the original ever was.
    for start in 1..=4 {
        cluster.start_as("clone", &original, &copy, "127.0.0.1:0", &["--join", &join]);
        let line = told(&cluster, "clone", &["not admitted by the others", "this data directory is a copy"]);
        if start == 1 {
            println!("seen: the clone is told: {line}");
        }
        cluster.wait_log("clone", &["join address", "this data directory is a copy"]);
        if start < 4 {
            cluster.kill("clone");
        }
    }
    // It stays up to tell, and is no use to anybody.
    told_to_scripts(&cluster, "clone", &["not admitted by the others", "this data directory is a copy"]);
    let append = cluster.ask("clone", &["append", "of the clone", "--timeout", "2s"]);
    assert!(append.code == 6 || append.code == 7, "{}", append.err);
    for name in [&leader, &third, &original] {
        let line = told(&cluster, name, &["a second agent", &original, &id, "is not admitted", "copy"]);
        println!("seen: {name} tells: {line}");
    }
    told_to_scripts(&cluster, &leader, &["a second agent", &original]);

    load.wait_ack_after(Instant::now());
    before.still(&standing(&cluster, &leader));
    assert_eq!((cluster.pid(&original), node(&cluster, &leader, &original)), (pid, id));
    assert_eq!(cluster.status(&original).unwrap().raft, "voter");
    cluster.kill("clone");
    let history = load.stop(&cluster);
    println!("seen: {:?}", history::verify(&cluster, &cluster.running(), &history));
    assert!(!history::read(&cluster, &leader).1.contains(&"of the clone".to_owned()));
    for name in cluster.running() {
        cluster.wait_status(&name, "health again", |s| s.healthy);
    }
}

/// The original is dead and its copy starts elsewhere: that is the same node at a new address. When the original comes
/// back it is the copy: an old state of a disk that has acked more since, and it is refused while the copy lives and after
/// it has died. Once its own starts have passed the copy's, the leader still knows what this node had acked.
#[test]
fn an_original_that_was_overtaken_by_its_copy_is_refused() {
    let mut cluster = Cluster::of(3);
    let leader = cluster.leader();
    let original = cluster.other_than(&leader);
    let third = cluster.running().into_iter().find(|name| *name != leader && *name != original).unwrap();
    let seed = cluster.addr(&leader).to_string();
    cluster.kill(&original);
    let (data, copy, image) = (cluster.data(&original), cluster.path("copy"), cluster.path("image"));
    copy_dir(&data, &copy);
    copy_dir(&data, &image);
    cluster.start_as("clone", &original, &copy, "127.0.0.1:0", &["--join", &seed]);
    for i in 0..10 {
        assert_eq!(cluster.ask("clone", &["append", "x", "--timeout", "50s"]).ok(), format!("{i}\n"));
    }
    cluster.wait_status("clone", "the records", |s| s.next == 10 && s.raft == "voter");
    registered(&cluster, &[&leader, &third], &original, 2);
    let before = standing(&cluster, &leader);

    for lives in [true, false] {
        if !lives {
            // Its first start has counted a boot, and this is the state that was copied.
            for name in ["clone", &original] {
                cluster.kill(name);
            }
            fs::remove_dir_all(&data).unwrap();
            fs::rename(&image, &data).unwrap();
        }
        cluster.restart(&original, &["--join", &seed]);
        let line = told(&cluster, &original, &["not admitted by the others", "copy"]);
        println!("seen: the copy lives: {lives}; the original is told: {line}");
        let status = cluster.status(&original).unwrap();
        assert_eq!((status.leader, status.next), (None, 0), "it follows nobody and applies nothing");
    }
    before.still(&standing(&cluster, &leader));
    assert_eq!(cluster.ask(&third, &["append", "x"]).ok(), "10\n");

    // Its next boot is a later one than the copy's was, so nothing but its log tells that it is of the past.
    cluster.kill(&original);
    cluster.restart(&original, &["--join", &seed]);
    // A leader that was elected meanwhile, by chance, would not remember.
    if standing(&cluster, &leader).term == before.term {
        println!("seen: {}", cluster.wait_log(&leader, &[&original, "has lost entries that it acknowledged"]));
        println!("seen: {}", cluster.wait_log(&original, &["this disk has lost entries that it acknowledged"]));
    }
    cluster.wait_group(3, 0);
    cluster.wait_status(&original, "all records", |s| s.next == 11);
    before.still(&standing(&cluster, &leader));
}

/// A data directory from an earlier boot in the place of its later self: the others refuse it from its first packet on,
/// before a restarted one of them has replayed a single entry, and so it neither votes nor acknowledges.
#[test]
fn a_copy_from_an_earlier_boot_is_refused_even_by_those_who_just_started() {
    let mut cluster = Cluster::of(3);
    let keeper = cluster.leader();
    let victim = cluster.other_than(&keeper);
    let third = cluster.running().into_iter().find(|name| *name != keeper && *name != victim).unwrap();
    assert_eq!(cluster.ask(&keeper, &["append", "0"]).ok(), "0\n");
    cluster.wait_status(&victim, "the record", |s| s.next == 1);
    cluster.stop(&victim);
    let old = cluster.path("old");
    copy_dir(&cluster.data(&victim), &old);
    for i in 1..4 {
        cluster.restart(&victim, &[]);
        cluster.wait_group(3, 0);
        assert_eq!(cluster.ask(&victim, &["append", &i.to_string()]).ok(), format!("{i}\n"));
        registered(&cluster, &[&keeper, &third], &victim, i + 1);
        cluster.stop(&victim);
    }

    // The old state in its place, at the same address, while the others serve.
    fs::rename(cluster.data(&victim), cluster.path("newest")).unwrap();
    copy_dir(&old, &cluster.data(&victim));
    cluster.restart(&victim, &[]);
    let stale = ["not admitted by the others", "this data directory is a copy or an old backup", "boot 2", "boot 4"];
    println!("seen: the old copy is told: {}", told(&cluster, &victim, &stale));
    told_to_scripts(&cluster, &victim, &stale);
    println!("seen: {keeper} tells: {}", told(&cluster, &keeper, &["a second agent", &victim, "old backup"]));
    assert_eq!(cluster.ask(&third, &["append", "4"]).ok(), "4\n");

    // All are down. One that has everything and the old copy are two of three: with its vote there would be a leader.
    for name in [&keeper, &victim, &third] {
        cluster.kill(name);
    }
    let known = |cluster: &Cluster| cluster.status(&victim).map(|s| (s.term, s.next)).unwrap();
    cluster.restart(&victim, &[]);
    let slept = known(&cluster);
    cluster.restart(&keeper, &[]);
    told(&cluster, &victim, &stale[..2]);
    told(&cluster, &keeper, &["agent", &victim, "old backup"]);
    let watched = Instant::now();
    // Ten times the longest election timeout.
    while watched.elapsed() < Duration::from_secs(5) {
        let status = cluster.status(&keeper).unwrap();
        assert_eq!(status.leader, None, "the old copy has voted");
        thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(known(&cluster), slept, "it has voted in no term");
    println!("seen: all restarted, {keeper} and the old copy: no leader for {:?}", watched.elapsed());

    // The third one makes a majority; the old copy stays out of it.
    cluster.restart(&third, &[]);
    let two = names(&[&keeper, &third]);
    cluster.wait_group_of(&two, 3, 0);
    assert_eq!(cluster.ask(&third, &["append", "5", "--timeout", "50s"]).ok(), "5\n");
    let status = cluster.status(&victim).unwrap();
    assert_eq!(
        (status.leader, (status.term, status.next)),
        (None, slept),
        "it follows nobody and acknowledges nothing"
    );
    // The newest state of the same disk is welcome.
    cluster.stop(&victim);
    fs::remove_dir_all(cluster.data(&victim)).unwrap();
    fs::rename(cluster.path("newest"), cluster.data(&victim)).unwrap();
    cluster.restart(&victim, &[]);
    cluster.wait_group(3, 0);
    assert_eq!(history::read(&cluster, &victim).1, ["0", "1", "2", "3", "4", "5"]);
}

/// Two clusters were founded under one authority, one name in both, and then they hear of each other: they gossip and
/// never share Raft; each side names both histories; nobody loses a seat or a name (M18).
#[test]
fn two_foundings_under_one_authority_name_both_histories() {
    let mut cluster = Cluster::new();
    let sides = [["a1", "a2", "shared"], ["b1", "b2", "other"]];
    for side in &sides {
        cluster.start(side[0], &["--bootstrap"]);
        let seed = cluster.addr(side[0]).to_string();
        cluster.start(side[1], &["--join", &seed]);
        // The third agent has the same name on both sides.
        let data = cluster.data(side[2]);
        cluster.start_as(side[2], "shared", &data, "127.0.0.1:0", &["--join", &seed]);
        cluster.wait_group_of(&names(side), 3, 0);
        assert_eq!(cluster.ask(side[1], &["append", side[0]]).ok(), "0\n");
    }
    let before = sides.map(|side| standing(&cluster, side[0]));
    let logs = [0, 1].map(|i| before[i].log_id.clone().unwrap());
    assert_ne!(logs[0], logs[1]);
    let loads =
        sides.map(|side| Load::of(&cluster, side.map(|name| cluster.pinned_for(name, Duration::from_secs(30)))));

    // One of the second side is told of the first, and gossip tells the rest.
    let seed = cluster.addr("a1").to_string();
    cluster.stop("b2");
    cluster.restart("b2", &["--join", &seed]);
    for (i, side) in sides.iter().enumerate() {
        let (ours, theirs) = (format!("log {} ({}", logs[i], side[0]), format!("log {} (", logs[1 - i]));
        for name in side {
            let line = told(&cluster, name, &["two histories under one authority", &ours, &theirs]);
            if *name == side[0] {
                println!("seen: {name} tells: {line}");
                let other = sides[1 - i];
                told(&cluster, name, &["two histories", &format!("{}, {}", other[0], other[1])]);
                told_to_scripts(&cluster, name, &["two histories", &logs[0], &logs[1]]);
            }
        }
    }
    // A newcomer that is pointed at both belongs to one.
    let both = format!("{},{}", cluster.addr("a1"), cluster.addr("b1"));
    cluster.start("c", &["--join", &both]);
    let joined =
        cluster.wait_status("c", "a log and a role", |s| s.log_id.is_some() && s.raft == "learner").log_id.unwrap();
    let (mine, foreign) = if joined == logs[0] { (0, 1) } else { (1, 0) };
    told(&cluster, "c", &["two histories", &format!("log {} (", logs[mine]), &format!("log {} (", logs[foreign])]);
    cluster.wait_status(sides[foreign][0], "no learner that is of the other log", |s| s.learners.is_empty());
    println!("seen: the newcomer is of log {joined} alone");

    for (i, load) in loads.into_iter().enumerate() {
        load.wait_ack_after(Instant::now());
        let history = load.stop(&cluster);
        println!("seen: side {}: {:?}", sides[i][0], history::verify(&cluster, &names(&sides[i]), &history));
        before[i].still(&standing(&cluster, sides[i][0]));
        for name in sides[i] {
            let refused = count(&cluster, &[name], "a Raft message of another log was refused");
            assert_eq!(refused, 0, "{name}: nobody even tried to share Raft");
        }
    }
}
