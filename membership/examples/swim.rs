//! What the gossip core does over hours and among thousands, on virtual time: figures for people.
//!
//! ```text
//! cargo run --release -p quorate-membership --example swim -- detect [SEEDS]
//! cargo run --release -p quorate-membership --example swim -- calm [MEMBERS] [SECONDS] [SEEDS]
//! cargo run --release -p quorate-membership --example swim -- stops [MEMBERS] [LOST PER MILLE] [MILLISECONDS] [COUNT]
//! cargo run --release -p quorate-membership --example swim -- scale [MEMBERS] [SECONDS]
//! cargo run --release -p quorate-membership --example swim -- whole [MEMBERS] [LOST PER MILLE] [SECONDS] [SEED]
//! cargo run --release -p quorate-membership --example swim -- one [MEMBERS]
//! ```
//!
//! `detect`: how long until a killed member is known as failed, among 2 to 50. `calm`: 15 of 100 datagrams are lost and at
//! any time one member is stopped for five seconds; nobody may be declared failed. `stops`: stops a little
//! shorter than a suspect has to answer. `scale`: a large cluster joins, idles,
//! takes in newcomers and loses a member. `whole`: every member of a cluster of up to some 5,000, which hold 10 GiB: all start
//! at once, idle, lose one by a kill and one by its leave. `one`: what a single core costs that knows so many.

#![allow(clippy::unwrap_used, dead_code)]

#[path = "../tests/cluster.rs"]
mod cluster;
#[path = "../tests/whole.rs"]
mod whole;

use cluster::*;
use quorate_membership::{Input, Local, Membership, Mono, Now, Options, State, Tags};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, default: u64| arguments.get(at).map_or(default, |text| text.parse().expect("a number"));
    match arguments.first().map(String::as_str) {
        Some("detect") => detect(number(1, 200)),
        Some("calm") => calm(number(1, 50), number(2, 3600), number(3, 3)),
        Some("one") => one(number(1, 5000)),
        Some("stops") => stops(number(1, 3), number(2, 300), number(3, 1900), number(4, 3000)),
        Some("scale") => scale(number(1, 500), number(2, 30)),
        Some("whole") => whole(number(1, 5000), number(2, 10), number(3, 30), number(4, 1)),
        _ => eprintln!(
            "detect [SEEDS] | calm [MEMBERS] [SECONDS] [SEEDS] | stops [MEMBERS] [LOST PER MILLE] [MILLISECONDS] [COUNT] | scale [MEMBERS] [SECONDS] | whole [MEMBERS] [LOST PER MILLE] \
             [SECONDS] [SEED] | one [MEMBERS]"
        ),
    }
}

/// Of sorted milliseconds.
fn spread(times: &mut [u64]) -> String {
    times.sort_unstable();
    let at = |share: usize| times[(times.len() * share / 100).min(times.len() - 1)];
    format!("median {} p99 {} max {}", at(50), at(99), at(100))
}

fn detect(seeds: u64) {
    println!("milliseconds from the kill until it is known as failed, profile lan, {seeds} seeds each");
    for (n, loss) in [(2, 0), (3, 0), (5, 0), (10, 0), (10, 150), (25, 0), (50, 0)] {
        let (mut first, mut all) = (vec![], vec![]);
        for seed in 1..=seeds {
            let mut c = Cluster::of(n, seed);
            c.form(60 * S);
            c.loss_per_mille = loss;
            let calm = 20 * S + c.dice(10 * S);
            c.run(calm);
            c.forget_events();
            let victim = 1 + c.dice(n);
            c.crash(victim);
            let start = c.now;
            let took = c.run_while_not(120 * S, "detection", |c| c.all_see(victim, State::Failed));
            let failed = c.agents.values().flat_map(|agent| &agent.events);
            let failed = failed.filter(|(_, e)| brief(e) == format!("failed {victim}")).map(|(at, _)| *at);
            first.push((failed.min().unwrap() - start) / MS);
            all.push(took / MS);
        }
        let (first, all) = (spread(&mut first), spread(&mut all));
        println!("{n:3} members, {loss:3} per mille lost: first to know: {first}; all know: {all}");
    }
}

fn calm(n: u64, seconds: u64, seeds: u64) {
    println!(
        "{n} members, 150 per mille of the datagrams lost, always one stopped for 5 s; {seconds} s, {seeds} seeds"
    );
    for seed in 1..=seeds {
        let mut c = Cluster::of(n, seed);
        c.form(120 * S);
        c.run(10 * S);
        c.forget_events();
        c.loss_per_mille = 150;
        let (start, packets, bytes, streams) = (c.now, c.datagrams, c.bytes, c.stream_bytes);
        let (mut pauses, mut worst) = (0u64, 0);
        while c.now - start < seconds * S {
            let node = 1 + c.dice(n);
            c.stop(node);
            c.run(5 * S);
            c.wake(node);
            pauses += 1;
            let gap = c.dice(500 * MS);
            c.run(gap);
            worst = worst.max(c.agents.values().map(|agent| agent.core.health()).max().unwrap());
        }
        c.loss_per_mille = 0;
        c.run(10 * S);
        let share = |total: u64| total as f64 / n as f64 / ((c.now - start) / S) as f64;
        println!(
            "seed {seed}: {pauses} pauses; {} suspicions, {} refuted, {} FAILURES (of anybody, the stopped included), {} \
             renewals, {} paths named; worst health {worst}; whole {}; {:.1} datagrams, {:.0} + {:.0} bytes per member and \
             second (datagrams + streams)",
            c.count("suspected"),
            c.count("refuted"),
            c.count("failed"),
            c.agents.values().map(|agent| agent.core.status().counters.renewals).sum::<u64>(),
            c.count("datagrams blocked"),
            c.is_whole(),
            share(c.datagrams - packets),
            share(c.bytes - bytes),
            share(c.stream_bytes - streams),
        );
    }
}

/// Stops that end just in time, and what is lost besides: how many are taken for failures?
fn stops(n: u64, loss: u64, ms: u64, count: u64) {
    let (mut failed, mut suspected) = (0, 0);
    for seed in 1..=count.div_ceil(150) {
        let mut c = Cluster::of(n, seed);
        c.form(10 * S);
        c.run(5 * S);
        c.forget_events();
        c.loss_per_mille = loss;
        for _ in 0..150 {
            let node = 1 + c.dice(n);
            c.stop(node);
            c.run(ms * MS);
            c.wake(node);
            let gap = S + c.dice(S);
            c.run(gap);
        }
        failed += c.count("failed");
        suspected += c.count("suspected");
    }
    println!(
        "{n} members, {loss} of 1000 datagrams lost, {count} stops of {ms} ms: {suspected} suspicions, {failed} FAILURES"
    );
}

/// Resident memory of this process in MiB.
fn resident() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
}

fn now(at: u64) -> Now {
    Now { mono: Mono(at), wall_us: 0 }
}

/// A core by itself: all others are connected and never answer.
fn one(n: u64) {
    const CORES: u64 = 16;
    let before = resident();
    let start = busy();
    let mut cores = Vec::new();
    for _ in 0..CORES {
        let tags = Tags::new([("zone".to_owned(), "a".to_owned())].into()).unwrap();
        let (name, version) = ("agent-1".to_owned(), "0.1.0".to_owned());
        let local = Local { node: 1, name, addr: addr(1), epoch: 1, boot: 1, version, tags };
        let mut core = Membership::new(Options::lan(), local, 1, now(0)).unwrap();
        for node in 2..=n {
            let (name, version) = (format!("agent-{node}"), "0.1.0".to_owned());
            core.handle(now(node), Input::Contact { node, name, addr: addr(node), epoch: 1, boot: 1, version });
            while core.poll_output().is_some() {}
        }
        cores.push(core);
    }
    println!(
        "a core that met {n} members: {:.0} KiB, {:.1} us for each meeting",
        (resident() - before) * 1024.0 / CORES as f64,
        (busy() - start) * 1e6 / (n * CORES) as f64,
    );
}

/// Time that this process has had a processor, in seconds: the machine may have other things to do.
fn busy() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    stat.split_whitespace().next().and_then(|ns| ns.parse::<f64>().ok()).unwrap_or(0.0) / 1e9
}

/// Runs in steps of 100 ms until this share of all pairs know each other; the time it took.
fn until_known(c: &mut Cluster, share: f64, limit: u64) -> u64 {
    let start = c.now;
    let up = c.up();
    let pairs = (up.len() * up.len()) as f64;
    loop {
        let known: usize = up.iter().map(|at| c.agents[at].core.alive_count().min(up.len())).sum();
        if known as f64 >= pairs * share || c.now - start >= limit {
            return c.now - start;
        }
        c.run(100 * MS);
    }
}

fn scale(n: u64, seconds: u64) {
    let (wall, before) = (busy(), resident());
    let mut c = Cluster::of(n, 1);
    println!("{n} members start at once, all with one seed");
    for share in [0.9, 0.99, 0.999, 1.0] {
        let took = until_known(&mut c, share, 1800 * S);
        println!("  {share} of all pairs after {took} s more", took = took as f64 / S as f64);
    }
    println!("  whole after {} virtual s, {:.1} s of CPU", c.now / S, busy() - wall);
    c.run(60 * S);
    c.forget_events();
    println!("memory per member: {:.0} KiB", (resident() - before) * 1024.0 / n as f64);
    let (wall, start) = (busy(), (c.datagrams, c.bytes, c.stream_bytes));
    c.run(seconds * S);
    let share = |total: u64| total as f64 / n as f64 / seconds as f64;
    println!(
        "idle: {:.1} datagrams, {:.0} + {:.0} bytes per member and second (datagrams + streams); {:.1} us of CPU per member and second",
        share(c.datagrams - start.0),
        share(c.bytes - start.1),
        share(c.stream_bytes - start.2),
        (busy() - wall) * 1e6 / n as f64 / seconds as f64,
    );
    let newcomers = 3;
    for node in n + 1..=n + newcomers {
        c.start(node, vec![addr(1)]);
    }
    let wall = busy();
    let known = |c: &Cluster| (1..=n).all(|at| (n + 1..=n + newcomers).all(|of| c.agents[&at].core.is_alive(of)));
    let all = c.run_while_not(1800 * S, "newcomers are known", known);
    println!("{newcomers} newcomers: all know them after {} ms ({:.1} s of CPU)", all / MS, busy() - wall);
    let knows =
        |c: &Cluster| (n + 1..=n + newcomers).all(|at| c.agents[&at].core.alive_count() as u64 == n + newcomers);
    let more = c.run_while_not(3600 * S, "newcomers know all", knows);
    println!("  they know all after {} ms", (all + more) / MS);
    c.run(30 * S);
    println!("  {} false suspicions, {} false failures so far", c.count("suspected"), c.count("failed"));
    c.forget_events();
    c.crash(2);
    let start = c.now;
    let took = c.run_while_not(600 * S, "detection", |c| c.all_see(2, State::Failed));
    let failed = c.agents.values().flat_map(|agent| &agent.events).filter(|(_, e)| brief(e) == "failed 2");
    let mut times: Vec<u64> = failed.map(|(at, _)| (at - start) / MS).collect();
    times.sort_unstable();
    let at = |share: usize| times[(times.len() * share / 100).min(times.len() - 1)];
    println!(
        "a killed member: first to know {} ms, half {} ms, 99 % {} ms, all {} ms",
        times[0],
        at(50),
        at(99),
        took / MS
    );
}

fn whole(n: u64, loss: u64, seconds: u64, seed: u64) {
    println!("{n} members start at once, all with one seed; {loss} of 1000 datagrams are lost; seed {seed}");
    let (start, cpu) = (std::time::Instant::now(), busy());
    let say = |what: &str, c: &Cluster| {
        println!(
            "{:7.1} s: {what} ({:.0} s of wall, {:.0} s of CPU, {:.0} MiB)",
            c.now as f64 / S as f64,
            start.elapsed().as_secs_f64(),
            busy() - cpu,
            resident()
        );
    };
    let seen = whole::live(n, loss, seed, seconds * S, say);
    let [datagrams, bytes, streams, handshakes] = seen.idle;
    println!(
        "idle, per member and second: {datagrams:.1} datagrams, {bytes:.0} + {streams:.0} bytes (datagrams + streams), \
         {handshakes:.2} ends of new connections"
    );
    for (what, mut times) in [("killed", seen.failed_ms), ("left", seen.left_ms)] {
        let (count, first) = (times.len(), times[0]);
        println!("{what}: {count} know; milliseconds until the first {first}, {}", spread(&mut times));
    }
    println!("false failures: {}; suspicions refuted: {}", seen.false_failures, seen.false_suspicions);
    println!(
        "memory: {:.0} bytes for each member that each member knows",
        resident() * f64::from(1 << 20) / (n * n) as f64
    );
}
