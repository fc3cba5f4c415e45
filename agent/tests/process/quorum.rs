//! Without a majority nothing is promised, nothing hangs and nobody lies.

use crate::cluster::{Cluster, wait_until};
use crate::history::{self, Attempt, Outcome};
use quorate::client::{ReadLevel, TailFrom};
use std::time::Duration;

/// What the asker grants one append.
const TIMEOUT: Duration = Duration::from_secs(2);
/// How much later the end may come on a machine that does much else.
const SLACK: Duration = Duration::from_secs(6);

/// Two of three are dead: an append ends with 6 or 7 in its time and says which; what surely was not appended never
/// appears, not even after the others are back (behaviour 4).
#[test]
fn an_append_without_a_quorum_ends_in_time_with_the_truth() {
    let mut cluster = Cluster::of(3);
    assert_eq!(cluster.ask("n1", &["append", "first"]).ok(), "0\n");
    let leader = cluster.leader();
    let others: Vec<_> = cluster.running().into_iter().filter(|name| *name != leader).collect();
    for name in &others {
        cluster.kill(name);
    }
    // At once: the leader has not noticed, so this is written and nobody confirms it. Or it has.
    let at_once = cluster.ask(&leader, &["append", "at once", "--timeout", "2s"]);
    assert!(at_once.took < TIMEOUT + SLACK, "{:?}", at_once.took);
    let said = at_once.one_error(at_once.code);
    match at_once.code {
        7 => assert!(said.contains("unknown") && said.contains("read the log"), "{said}"),
        6 => assert!(said.contains("quorum") || said.contains("leader"), "{said}"),
        other => panic!("exit {other}: {said}"),
    }
    cluster.wait_status(&leader, "no leader", |s| s.leader.is_none() && !s.healthy);

    // Nobody leads: nothing is written, and that is said. An agent that gets no processor may answer too late to be
    // heard; then the truth is "unknown", and it is asked again.
    let mut nothing = vec![];
    let later = wait_until("an append is surely not applied", || {
        let value = format!("later {}", nothing.len());
        let said = cluster.ask(&leader, &["append", &value, "--timeout", "2s", "--format", "json"]);
        assert!(said.took < TIMEOUT + SLACK, "{:?}", said.took);
        assert!([6, 7].contains(&said.code), "exit {}: {}", said.code, said.err);
        let error = said.json_error(said.code);
        let expected = if said.code == 6 { ("no_quorum", "not_applied") } else { ("unknown", "unknown") };
        assert_eq!((&error["code"], &error["outcome"]), (&expected.0.into(), &expected.1.into()), "{error}");
        nothing.push((value, said.code));
        (said.code == 6).then_some(said)
    });

    // A client of the library hears the same, and a linearizable read is refused rather than stale.
    let client = cluster.client(&leader);
    let mut attempts = vec![];
    for i in 0..3 {
        let attempt = cluster.block_on(Attempt::make(&client, vec![format!("lonely {i}")], Duration::from_secs(1)));
        assert!(!attempt.is_acked() && attempt.took() < TIMEOUT + SLACK, "{attempt:?}");
        attempts.push(attempt);
    }
    let read = cluster.ask(&leader, &["tail", "--read", "linear", "--timeout", "1s"]);
    read.one_error(6);
    // What this agent knows to be committed it may still show.
    assert!(cluster.ask(&leader, &["tail"]).ok().contains("  first\n"));
    assert_eq!(cluster.ask(&leader, &["status", "--check"]).code, 9);

    // Nor does it leave, and whoever asked is not kept waiting.
    wait_until("surely nobody leaves", || {
        let said = cluster.ask(&leader, &["leave", "--timeout", "2s"]);
        assert!([6, 7].contains(&said.code), "exit {}: {}", said.code, said.err);
        assert!(said.took < TIMEOUT + SLACK, "{:?}", said.took);
        (said.code == 6).then_some(())
    });

    for name in &others {
        cluster.restart(name, &[]);
    }
    cluster.wait_group(3, 0);
    let healed = cluster.block_on(Attempt::make(&client, vec!["healed".into()], Duration::from_secs(30)));
    assert!(healed.is_acked(), "{healed:?}");
    attempts.push(healed);
    history::verify(&cluster, &cluster.running(), &attempts);
    let log = history::read(&cluster, "n1").1;
    assert!(nothing.iter().all(|(value, code)| *code == 7 || !log.contains(value)), "{log:?}");
    assert!(at_once.code == 7 || !log.contains(&"at once".to_owned()), "{log:?}");
    println!("figure: without a quorum exit {} after {:?}, then 6 after {:?}", at_once.code, at_once.took, later.took);
}

/// The others do not answer but live: through a follower as through the leader, every append ends in its time; the
/// sum of it all is the truth once they wake (behaviour 4).
#[test]
fn a_paused_majority_makes_nobody_hang_or_lie() {
    let cluster = Cluster::of(3);
    let leader = cluster.leader();
    let follower = cluster.other_than(&leader);
    let third = cluster.running().into_iter().find(|name| *name != leader && *name != follower).unwrap();
    let (at_leader, at_follower) = (cluster.pinned(&leader), cluster.pinned(&follower));
    let mut attempts = vec![];
    let mut make = |client, value: &str| {
        let attempt = cluster.block_on(Attempt::make(client, vec![value.into()], TIMEOUT));
        assert!(attempt.took() < TIMEOUT + SLACK, "{attempt:?}");
        attempts.push(attempt.clone());
        attempt
    };
    assert_eq!(make(&at_leader, "a").outcome, Outcome::Acked(0));
    assert_eq!(make(&at_follower, "b").outcome, Outcome::Acked(1));
    // The leader and the third one stop: the follower forwards into silence.
    cluster.pause(&third);
    cluster.pause(&leader);
    for i in 0..3 {
        let attempt = make(&at_follower, &format!("through the follower {i}"));
        assert!(!attempt.is_acked(), "{attempt:?}");
    }
    // Who asks the sleeping one itself waits no longer than it said.
    let asleep = cluster.ask(&leader, &["status", "--timeout", "1s"]);
    asleep.one_error(3);
    assert!(asleep.took < TIMEOUT + SLACK, "{:?}", asleep.took);
    // The leader wakes alone with the follower asleep.
    cluster.pause(&follower);
    cluster.signal(&leader, "CONT");
    for i in 0..3 {
        let attempt = make(&at_leader, &format!("through the leader {i}"));
        assert!(!attempt.is_acked(), "{attempt:?}");
    }
    cluster.signal(&follower, "CONT");
    cluster.signal(&third, "CONT");
    cluster.wait_group(3, 0);
    let last = cluster.client(&follower);
    let healed = cluster.block_on(Attempt::make(&last, vec!["healed".into()], Duration::from_secs(30)));
    assert!(healed.is_acked(), "{healed:?}");
    attempts.push(healed);
    println!("figure: {:?}", history::verify(&cluster, &cluster.running(), &attempts));
    // Everybody can serve the whole of it linearizably now.
    let tail = TailFrom { read: ReadLevel::Linear, ..TailFrom::default() };
    let mut tail = cluster.pinned(&third).tail(tail);
    assert!(cluster.block_on(tail.next()).unwrap().is_ok());
}
