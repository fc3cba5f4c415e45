//! Lifeguard: patience with suspects until others find the same, and with oneself.

use crate::cluster::*;
use quorate_membership::{Event, Input, Local, Membership, Mono, Now, Options, Output, State, Tags};

/// One core that knows members 2 to 9, of whom none ever answers by itself.
struct Lonely {
    core: Membership,
    now: u64,
    failed_at: Option<u64>,
}

impl Lonely {
    fn new() -> Self {
        let local = Local {
            node: 1,
            name: "a".to_string(),
            addr: addr(1),
            epoch: 1,
            boot: 11,
            version: "1".to_string(),
            tags: Tags::default(),
        };
        let core = Membership::new(Options::lan(), local, 1, Now::default()).unwrap();
        let mut lonely = Self { core, now: S, failed_at: None };
        for node in 2..=9 {
            let name = format!("n{node}");
            lonely.input(Input::Contact { node, name, addr: addr(node), epoch: 1, boot: 11, version: "1".into() });
        }
        lonely
    }

    fn input(&mut self, input: Input) {
        self.core.handle(Now { mono: Mono(self.now), wall_us: 0 }, input);
        while let Some(output) = self.core.poll_output() {
            if let Output::Event(Event::Failed(member)) = output
                && member.node == 3
            {
                self.failed_at = Some(self.now);
            }
        }
    }

    fn run(&mut self, span: u64) {
        let end = self.now + span;
        while let Some(Mono(at)) = self.core.poll_timeout().filter(|at| at.0 <= end) {
            self.now = at.max(self.now);
            self.input(Input::Timeout);
        }
        self.now = end;
    }

    /// `from` says on its own connection that 3 does not answer it.
    fn accuse(&mut self, from: u64) {
        let mut bytes = vec![2, 16];
        for part in [3u64, 1, 11] {
            bytes.extend(part.to_be_bytes());
        }
        bytes.extend(0u32.to_be_bytes());
        bytes.extend([4, 10, 0, 0, 3]);
        bytes.extend(7373u16.to_be_bytes());
        bytes.extend(0u16.to_be_bytes());
        self.input(Input::Exchange { from, bytes });
    }

    /// Gossip from `from` that somebody suspects 3.
    fn rumour(&mut self, from: u64) {
        let mut foca = Vec::new();
        let identity = |foca: &mut Vec<u8>, node: u64| {
            for part in [node, 1, 11] {
                foca.extend(part.to_be_bytes());
            }
            foca.extend(0u32.to_be_bytes());
            foca.extend([4, 10, 0, 0, node as u8]);
            foca.extend(7373u16.to_be_bytes());
        };
        identity(&mut foca, from);
        foca.extend(0u16.to_be_bytes());
        identity(&mut foca, 1);
        foca.push(8);
        foca.extend(1u16.to_be_bytes());
        identity(&mut foca, 3);
        foca.extend(0u16.to_be_bytes());
        foca.push(1);
        let mut bytes = vec![1];
        bytes.extend((foca.len() as u16).to_be_bytes());
        bytes.extend(foca);
        self.input(Input::Datagram { from, bytes });
    }

    /// How long after the first word against it 3 is declared failed here.
    fn until_failed(mut self, words: impl Fn(&mut Self)) -> u64 {
        let start = self.now;
        // Whoever talks is alive: else it would be suspected, too, and its word is as good then.
        words(&mut self);
        for _ in 0..300 {
            self.run(100 * MS);
            if let Some(at) = self.failed_at {
                return (at - start) / MS;
            }
        }
        panic!("never declared failed");
    }
}

#[test]
fn a_suspicion_is_shortened_by_each_who_finds_the_same() {
    // The question to 3 takes half a second; then memberlist's formula, from six times two seconds down to two.
    let alone = Lonely::new().until_failed(|l| l.rumour(2));
    let one = Lonely::new().until_failed(|l| l.accuse(2));
    let two = Lonely::new().until_failed(|l| [2, 4].into_iter().for_each(|from| l.accuse(from)));
    let all = Lonely::new().until_failed(|l| [2, 4, 5, 6, 7].into_iter().for_each(|from| l.accuse(from)));
    println!(
        "declared failed after {alone} ms alone, {one} with one who finds the same, {two} with two, {all} with five"
    );
    assert!((11_900..=12_600).contains(&alone), "{alone}");
    assert!((5_600..=6_300).contains(&one), "{one}");
    assert!((2_000..=2_700).contains(&two), "{two}");
    assert!((2_000..=2_700).contains(&all), "never less than the shortest: {all}");
}

#[test]
fn one_member_counts_once_however_often_it_says_so() {
    let often = Lonely::new().until_failed(|l| (0..50).for_each(|_| l.accuse(2)));
    let once = Lonely::new().until_failed(|l| l.accuse(2));
    assert_eq!(often, once);
}

#[test]
fn rumours_confirm_nothing_however_many_repeat_them() {
    let many = Lonely::new().until_failed(|l| [2, 4, 5, 6, 7, 8, 9].into_iter().for_each(|from| l.rumour(from)));
    assert!(many >= 11_900, "{many}");
}

/// Three accuse a member without end that answers everybody: nobody believes it failed, nor suspects it for long.
#[test]
fn who_answers_is_not_ended_by_any_number_of_accusations() {
    let mut c = Cluster::of(6, 7);
    c.form(10 * S);
    c.run(2 * S);
    c.forget_events();
    let boot = c.agents[&3].boot;
    for step in 0..200 {
        for liar in [2, 4, 5] {
            let mut bytes = vec![2, 16];
            for part in [3u64, 1, boot] {
                bytes.extend(part.to_be_bytes());
            }
            bytes.extend(0u32.to_be_bytes());
            bytes.extend([4, 10, 0, 0, 3]);
            bytes.extend(7373u16.to_be_bytes());
            // Of what all know; later of what nobody can know yet.
            let incarnation = if step < 100 { 0 } else { c.dice(3) as u16 };
            bytes.extend(incarnation.to_be_bytes());
            c.input(1, Input::Exchange { from: liar, bytes });
        }
        c.run(300 * MS);
    }
    assert_eq!(c.count("failed"), 0);
    c.run(2 * S);
    assert!(c.is_whole(), "{}", c.picture());
    assert!(c.agents.values().all(|agent| agent.core.health() == 0));
}

/// The accused hears of it at once, from everybody who heard of it, and its answer reaches them.
#[test]
fn who_is_suspected_falsely_is_told_and_answers_at_once() {
    let mut c = Cluster::of(5, 8);
    c.form(10 * S);
    c.run(3 * S);
    c.forget_events();
    let boot = c.agents[&3].boot;
    let mut table = vec![1, 1];
    for part in [3u64, 1, boot] {
        table.extend(part.to_be_bytes());
    }
    table.extend(0u32.to_be_bytes());
    table.extend([4, 10, 0, 0, 3]);
    table.extend(7373u16.to_be_bytes());
    table.extend(0u16.to_be_bytes());
    table.push(1);
    table.extend(0u32.to_be_bytes());
    table.push(0);
    c.input(1, Input::ExchangeReply { from: 2, bytes: table });
    assert_eq!(c.state(1, 3), Some(State::Suspect));
    let took = c.run_while_not(S, "the answer", |c| c.state(1, 3) == Some(State::Alive));
    println!("refuted after {} ms", took / MS);
    assert!(took <= 20 * MS, "{took}");
}

/// A node that is cut off for a while sees everybody fail. It mistrusts itself, and is right.
#[test]
fn who_hears_nobody_mistrusts_itself_first() {
    let mut c = Cluster::of(10, 9);
    c.form(10 * S);
    c.run(5 * S);
    c.forget_events();
    c.cut(&[1], &[2, 3, 4, 5, 6, 7, 8, 9, 10]);
    c.run(8 * S);
    assert!(c.agents[&1].core.health() >= 4, "{}", c.agents[&1].core.health());
    assert!((2..=10).all(|at| c.state(at, 1) == Some(State::Failed)), "the others have each other to ask");
    c.heal();
    c.form(30 * S);
    assert!(!c.events(1).iter().any(|e| e.starts_with("failed")), "{:?}", c.events(1));
    c.run(60 * S);
    assert_eq!(c.agents[&1].core.health(), 0, "and trusts itself again");
    assert_eq!(c.agents[&1].core.status().health, 0);
}

/// Nobody answers, nor do those who were asked for help: the node itself is the likelier cause, and it slows down.
#[test]
fn a_node_that_nobody_answers_probes_more_and_more_slowly() {
    let mut lonely = Lonely::new();
    let mut healths = vec![];
    for _ in 0..11 {
        lonely.run(S);
        healths.push(lonely.core.health());
    }
    let probes = lonely.core.status().counters.probes_repeated;
    println!("{probes} probes in 11 s, own health {healths:?}");
    assert!(healths.is_sorted() && *healths.last().unwrap() >= 6, "{healths:?}");
    assert!(probes <= 4, "a healthy one has ten: {probes}");
}

/// Processes that are stopped for less than a probe period come back to find answers they have not read yet.
#[test]
fn short_stops_make_nobody_suspect_anybody() {
    for seed in 1..=12 {
        let mut c = Cluster::of(5, seed);
        c.form(10 * S);
        c.run(2 * S);
        c.forget_events();
        // Who was just stopped, for longer than others have patience for, may be suspected.
        let mut excused = [0, 0];
        for step in 0..100 {
            let node = 1 + c.dice(5);
            let span = 100 * MS + c.dice(700 * MS);
            c.sleep(node, span);
            c.run(50 * MS);
            let judged: Vec<_> = c.events(node).into_iter().filter(|e| e.starts_with("suspected")).collect();
            let is_just = judged.iter().all(|e| excused.iter().any(|of| *e == format!("suspected {of}")));
            assert!(is_just, "seed {seed}, step {step}: {node} slept {span} us and judged: {judged:?}");
            excused = [excused[1], node];
            c.run(500 * MS + step % 7 * 100 * MS);
            c.forget_events();
        }
        assert!(c.is_whole());
    }
}

/// Whoever is stopped for almost as long as it has to answer is asked a last time before it is declared failed.
#[test]
fn a_stop_that_ends_in_time_is_no_failure_among_two() {
    let mut c = Cluster::of(2, 22);
    c.form(10 * S);
    c.run(5 * S);
    c.forget_events();
    c.loss_per_mille = 300;
    for _ in 0..150 {
        let node = 1 + c.dice(2);
        c.stop(node);
        c.run(1900 * MS);
        c.wake(node);
        let gap = S + c.dice(S);
        c.run(gap);
    }
    println!("150 stops: {} suspicions", c.count("suspected"));
    assert!(c.count("suspected") > 0);
    assert_eq!(c.count("failed"), 0);
}

/// Fifty agents, 15 of 100 datagrams lost, and at any time somebody is stopped for five seconds: nobody is declared failed,
/// neither who runs nor who is stopped. The long version is `cargo run --release -p quorate-membership --example swim -- calm`.
#[test]
fn pauses_and_loss_are_no_failures_among_fifty() {
    let mut c = Cluster::of(50, 11);
    c.form(60 * S);
    c.run(5 * S);
    c.forget_events();
    c.loss_per_mille = 150;
    for round in 0..6 {
        let node = 1 + (round * 17 + 3) % 50;
        c.stop(node);
        c.run(5 * S);
        c.wake(node);
        c.run(3 * S);
    }
    c.loss_per_mille = 0;
    c.run(5 * S);
    println!("{} suspicions, {} refuted, {} failures", c.count("suspected"), c.count("refuted"), c.count("failed"));
    assert_eq!(c.count("failed"), 0);
    assert!(c.is_whole());
}

/// Each judges by its own profile: together they do not flap, and the quick do not wait for the patient.
#[test]
fn profiles_may_be_mixed_in_one_cluster() {
    let mut c = Cluster::new(12);
    for (node, options) in (1..=6).zip([Options::lan(), Options::wan(), Options::local()].into_iter().cycle()) {
        c.options = options;
        c.start(node, if node == 1 { vec![] } else { vec![addr(1)] });
    }
    c.form(30 * S);
    c.run(5 * S);
    c.forget_events();
    c.loss_per_mille = 150;
    c.run(300 * S);
    assert_eq!(c.count("failed"), 0);
    assert!(c.is_whole(), "{}", c.picture());
    c.loss_per_mille = 0;
    c.run(10 * S);
    c.crash(4);
    let knows = |c: &Cluster, at| c.state(at, 4) == Some(State::Failed);
    let quick = c.run_while_not(60 * S, "detection", |c| [1, 3, 6].into_iter().all(|at| knows(c, at)));
    let patient = quick + c.run_while_not(60 * S, "detection", |c| [2, 5].into_iter().all(|at| knows(c, at)));
    println!("lan and local know after {} ms, wan after {} ms", quick / MS, patient / MS);
    assert!(quick < 5 * S && patient < 40 * S);
}
