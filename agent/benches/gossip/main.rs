//! Ours beside Serf: the same number of agents on one machine, formed, watched while idle, and one of them killed.
//!
//! `cargo bench -p quorate --bench gossip`, or with `-- 3 10 50` other numbers of agents. `QUORATE_GOSSIP_ROUNDS` (3) rounds,
//! ours and Serf's in turn, so that what else the machine does hits both; `QUORATE_GOSSIP_IDLE_SECONDS` (20) of rest,
//! `QUORATE_GOSSIP_KILLS` (3) kills in each; `QUORATE_GOSSIP_PROFILE` (`lan`) for both. Without a `serf` in the path ours
//! stands alone. Printed are medians and ratios (ours to Serf's; below 1 is better):
//!
//! - full: from when the first agent listens until each has every other one in its table;
//! - cpu, memory, bytes: of one agent at rest; bytes are what the loopback device carried, sent by one agent a second, with
//!   all headers. They are counted in a network namespace that the bench makes for itself; where that is not allowed, not at all;
//! - first, all: from `kill -9` of an agent until one of the others, and all of them, call it failed.
//!
//! Serf's times are read off its log lines as they come; ours are asked of each agent every few milliseconds, which counts
//! against ours. Ours also hold a Raft group with its heartbeats and a log on disk meanwhile; Serf has neither.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod ours;
mod serf;

use ours::Quorate;
use serf::Serf;
use std::fs;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// After the cluster is complete, before it counts as idle.
const SETTLE: Duration = Duration::from_secs(15);
/// Set for the copy of this process that runs in a namespace of its own.
const INSIDE: &str = "QUORATE_GOSSIP_INSIDE";

/// A number of agents of one make.
pub(crate) trait Fleet {
    /// From when the first agent listened until each had every other one.
    fn full(&self) -> Duration;
    fn pids(&self) -> Vec<u32>;
    /// Kills one agent and waits until all others know: the first, and the last.
    fn kill(&mut self, agent: usize) -> (Duration, Duration);
    /// Starts it again and waits until all have it again.
    fn restart(&mut self, agent: usize);
}

/// What one round showed of one make.
#[derive(Default)]
struct Shown {
    full_ms: Vec<f64>,
    cpu_percent: Vec<f64>,
    memory_mib: Vec<f64>,
    bytes_s: Vec<f64>,
    packets_s: Vec<f64>,
    first_ms: Vec<f64>,
    all_ms: Vec<f64>,
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|n| n.parse().ok()).unwrap_or(default)
}

fn main() {
    let isolated = std::env::var_os(INSIDE).is_some();
    if !isolated && let Some(code) = in_a_namespace() {
        std::process::exit(code);
    }
    let sizes: Vec<usize> = std::env::args().skip(1).filter_map(|n| n.parse().ok()).collect();
    let sizes = if sizes.is_empty() { vec![3, 10, 50] } else { sizes };
    let profile = std::env::var("QUORATE_GOSSIP_PROFILE").unwrap_or_else(|_| "lan".into());
    let with_serf = Command::new("serf").arg("version").output().is_ok_and(|o| o.status.success());
    println!("profile {profile}; medians of {} rounds, {} kills each", rounds(), number("QUORATE_GOSSIP_KILLS", 3));
    println!(
        "{:>4} {:<8} {:>10} {:>8} {:>9} {:>9} {:>9} {:>10} {:>10}",
        "N", "", "full ms", "cpu %", "MiB", "B/s", "packets/s", "first ms", "all ms"
    );
    for n in sizes {
        let (mut ours, mut serfs) = (Shown::default(), Shown::default());
        for _ in 0..rounds() {
            round(&mut Quorate::start(n, &profile), isolated, &mut ours);
            if with_serf {
                round(&mut Serf::start(n, &profile), isolated, &mut serfs);
            }
        }
        let figures = told(n, "quorate", &ours);
        if with_serf {
            let theirs = told(n, "serf", &serfs);
            let ratios: Vec<String> = figures.iter().zip(&theirs).map(|(a, b)| format!("x{:.2}", a / b)).collect();
            row(n, "ratio", &ratios);
        }
    }
}

fn rounds() -> u64 {
    number("QUORATE_GOSSIP_ROUNDS", 3)
}

/// Runs this very bench where nothing else is on the loopback device; `None` if that is not allowed here.
fn in_a_namespace() -> Option<i32> {
    let works = Command::new("unshare").args(["-rn", "ip", "link", "set", "lo", "up"]).output().ok()?;
    if !works.status.success() {
        eprintln!("no network namespace of its own (it takes `unshare` and `ip`): bytes are not counted");
        return None;
    }
    let mut command = Command::new("unshare");
    command.args(["-rn", "sh", "-c", "ip link set lo up && exec \"$0\" \"$@\""]);
    command.arg(std::env::current_exe().ok()?).args(std::env::args_os().skip(1)).env(INSIDE, "1");
    Some(command.status().ok()?.code().unwrap_or(1))
}

fn round(fleet: &mut dyn Fleet, isolated: bool, shown: &mut Shown) {
    shown.full_ms.push(fleet.full().as_secs_f64() * 1e3);
    let pids = fleet.pids();
    let agents = pids.len() as f64;
    sleep(SETTLE);
    let (cpu, carried, begun) = (cpu_s(&pids), carried(), Instant::now());
    sleep(Duration::from_secs(number("QUORATE_GOSSIP_IDLE_SECONDS", 20)));
    let seconds = begun.elapsed().as_secs_f64();
    shown.cpu_percent.push((cpu_s(&pids) - cpu) / agents / seconds * 100.0);
    shown.memory_mib.push(median(pids.iter().map(|pid| memory_mib(*pid)).collect()));
    if isolated {
        let now = self::carried();
        shown.bytes_s.push((now.0 - carried.0) / agents / seconds);
        shown.packets_s.push((now.1 - carried.1) / agents / seconds);
    }
    for kill in 0..number("QUORATE_GOSSIP_KILLS", 3) {
        // Never the first, which others join by; and at no particular moment of a probe period.
        let victim = 1 + (kill as usize * 7) % (pids.len() - 1);
        sleep(Duration::from_millis(137 * (kill + 1)));
        let (first, all) = fleet.kill(victim);
        shown.first_ms.push(first.as_secs_f64() * 1e3);
        shown.all_ms.push(all.as_secs_f64() * 1e3);
        fleet.restart(victim);
    }
}

fn told(n: usize, who: &str, shown: &Shown) -> [f64; 7] {
    let all = [
        &shown.full_ms,
        &shown.cpu_percent,
        &shown.memory_mib,
        &shown.bytes_s,
        &shown.packets_s,
        &shown.first_ms,
        &shown.all_ms,
    ];
    let figures = all.map(|samples| median(samples.clone()));
    let digits = [0, 2, 1, 0, 1, 0, 0];
    let cells: Vec<String> = figures.iter().zip(digits).map(|(figure, digits)| format!("{figure:.digits$}")).collect();
    row(n, who, &cells);
    let worst = shown.all_ms.iter().copied().fold(0.0, f64::max);
    println!("{:>4} {who:<8} the slowest of {} detections took {worst:.0} ms", "", shown.all_ms.len());
    figures
}

fn row(n: usize, who: &str, cells: &[String]) {
    let [full, cpu, memory, bytes, packets, first, all] = cells else { return };
    println!("{n:>4} {who:<8} {full:>10} {cpu:>8} {memory:>9} {bytes:>9} {packets:>9} {first:>10} {all:>10}");
}

fn median(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples.get(samples.len() / 2).copied().unwrap_or(f64::NAN)
}

/// CPU seconds of these processes since they started, the kernel's for them included.
fn cpu_s(pids: &[u32]) -> f64 {
    let ticks = |pid: &u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let fields = stat.rsplit_once(')').unwrap().1.split_ascii_whitespace().skip(11);
        fields.take(2).map(|n| n.parse::<f64>().unwrap()).sum::<f64>()
    };
    pids.iter().map(ticks).sum::<f64>() / rustix::param::clock_ticks_per_second() as f64
}

fn memory_mib(pid: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_ascii_whitespace().next().unwrap().parse::<f64>().unwrap() / 1024.0
}

/// Bytes and packets that the loopback device of this namespace has carried.
fn carried() -> (f64, f64) {
    let devices = fs::read_to_string("/proc/net/dev").unwrap();
    let line = devices.lines().find_map(|line| line.trim_start().strip_prefix("lo:")).unwrap();
    let fields: Vec<f64> = line.split_ascii_whitespace().map(|n| n.parse().unwrap()).collect();
    (fields[8], fields[9])
}
