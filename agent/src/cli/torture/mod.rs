//! `quorate torture`: a real cluster, everything that breaks clusters, and a checker that believes nobody.
//!
//! It never touches a process, a directory or a network that it did not make itself.

mod archive;
mod arguments;
mod damage;
mod draw;
mod fleet;
mod link;
mod load;
mod nemesis;
mod partition;
mod payload;
mod plan;
mod proxy;
mod report;
mod small_disk;
mod tally;
mod verdict;
mod watch;

pub(crate) use arguments::TortureArgs;

use super::Global;
use super::cluster;
use super::home::Home;
use super::output::{CliError, Exit, Ui};
use super::process;
use super::story::Story;
use crate::history::{self, Verdict};
use draw::Draw;
use fleet::Fleet;
use link::Counts;
use load::{Load, Told};
use nemesis::Nemesis;
use plan::Plan;
use proxy::Proxy;
use report::{Appends, Reads, Report};
use small_disk::SmallDisk;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use watch::Watch;

/// How long the cluster may take to form.
const FORM: Duration = Duration::from_secs(60);
/// How long the load goes on when everything is healed, so that there is something to check from then.
const AFTERWARDS: Duration = Duration::from_secs(2);
/// Lines of each agent's log that are shown when a run fails.
const LOG_LINES: usize = 15;
/// What an agent logs when it wins an election.
const LEADS: &str = "this agent leads in term";
/// What an agent that runs on a copy or an old state of a directory is told.
const IS_COPY: &str = "this data directory is a copy";

/// Tortures; ends well only if every promise was kept.
pub(crate) fn run(global: &Global, args: &TortureArgs, ui: &Ui) -> Result<(), CliError> {
    super::logging::start_client(global.log.as_deref())?;
    let seed = match args.seed {
        Some(seed) => seed,
        None => {
            getrandom::u64().map_err(|e| CliError::system("the system has no randomness", &e, "name a --seed"))? >> 32
        }
    };
    let home = Home::temporary("quorate-torture-", args.dir.as_deref(), "name a directory with --dir")?;
    // A panic aborts without unwinding, so no destructor would end the agents.
    process::end_agents_on_panic(home.path());
    let story = Story::begin(ui);
    let runtime = super::runtime()?;
    let ended = runtime.block_on(async {
        tokio::select! {
            ended = torture(args, seed, home.path(), &story) => ended,
            signal = cluster::interrupted() => Err(CliError::new(
                Exit::Interrupted,
                format!("interrupted ({signal})"),
                "the agents were ended; run it again when you like",
            )),
        }
    });
    // Everything that is still under way ends here: tasks, and with the run that was dropped its agents.
    runtime.shutdown_background();
    process::wait_for_dropped();
    story.quiet();
    match ended {
        Ok(report) => conclude(report, args, home, ui),
        Err(error) => {
            let logs = if error.is_quiet() { Vec::new() } else { log_tails(home.path(), args.nodes()) };
            let failed = home.after_failure(error, &logs, ui);
            Err(CliError { message: format!("seed {seed}: {}", failed.message), ..failed })
        }
    }
}

fn conclude(mut report: Report, args: &TortureArgs, home: Home, ui: &Ui) -> Result<(), CliError> {
    let (good, seed) = (report.good, report.seed);
    if !good || args.keep {
        report.kept = Some(home.keep().display().to_string());
    }
    if ui.is_json() {
        ui.json(&report)?;
    } else {
        for line in report.lines() {
            ui.line(&line)?;
        }
        if let Some(kept) = &report.kept {
            ui.note(&format!("everything is kept in {kept}"));
        }
    }
    if good {
        return Ok(());
    }
    let first = report.findings.first().map_or("", String::as_str);
    let next = format!("logs, data and the history are in {}", report.kept.as_deref().unwrap_or("-"));
    Err(CliError::new(Exit::Error, format!("seed {seed}: a promise was broken ({first})"), next))
}

/// One whole run.
async fn torture(args: &TortureArgs, seed: u64, home: &Path, story: &Story<'_>) -> Result<Report, CliError> {
    let mut draw = Draw::new(seed);
    let (plan_draw, proxy_draw, mut load_draw, blow_draw) = (draw.fork(), draw.fork(), draw.fork(), draw.fork());
    let (nodes, span) = (args.nodes(), args.span());
    let proxy = Arc::new(Proxy::start(nodes, proxy_draw)?);
    let mut fleet = Fleet::prepare(home, nodes, proxy.clone())?;
    let small_disk = SmallDisk::mount(nodes - 1, &home.join(fleet.name(nodes - 1)), args.minutes);
    let mut without = args.without.clone();
    if small_disk.is_none() {
        without.push("disk_full".into());
        story.say("no small disk can be mounted here (that takes root on Linux): no disk gets full");
    }
    let plan = Plan::draw(plan_draw, span, nodes, &without);
    announce(&plan, seed, args, home, story)?;

    let watch = Watch::begin(&fleet.directory);
    form(&mut fleet, &watch, story).await?;
    let began = Instant::now();
    let load = Load::start(&fleet.directory, began, &mut load_draw)?;
    let names: Vec<_> = fleet.agents.iter().map(|agent| agent.name.clone()).collect();
    let mut nemesis = Nemesis::new(fleet, proxy.clone(), &watch, story, &plan, blow_draw, small_disk);
    let seconds = span.as_secs();
    let progress = |_: &Nemesis<'_>| {
        let done = began.elapsed().as_secs();
        let (operations, acked) = (load.operations(), load.acked());
        story.wait(&format!(
            "{done} of {seconds} s: {}; {operations} operations, {acked} acknowledged",
            watch.line(&names)
        ));
    };
    nemesis.run(began, span, progress).await?;
    story.say("everything is healed");
    nemesis.heal().await?;
    story.wait("the agents come together");
    let together = verdict::come_together(&mut nemesis, &watch).await?;
    story.done(&format!("all {nodes} agents vote and hold everything after {:.2} s", together.as_secs_f64()));
    tokio::time::sleep(AFTERWARDS).await;
    story.wait("the last requests find their outcome");
    let told = load.finish().await?;
    check(args, seed, home, nemesis, &told, &proxy, together, story).await
}

/// The schedule, before anything happens.
fn announce(plan: &Plan, seed: u64, args: &TortureArgs, home: &Path, story: &Story<'_>) -> Result<(), CliError> {
    let (nodes, minutes) = (args.nodes(), args.minutes);
    story.say(&format!("seed {seed}: {} blows in {minutes} min for {nodes} agents", plan.blows.len()));
    let schedule: Vec<_> = plan.blows.iter().map(|blow| format!("{blow}")).collect();
    for line in &schedule {
        story.say(line);
    }
    let path = home.join("schedule");
    let text = format!("seed {seed}, {minutes} min, {nodes} agents\n{}\n", schedule.join("\n"));
    std::fs::write(&path, text).map_err(|e| CliError::system(&format!("cannot write {}", path.display()), &e, ""))
}

async fn form(fleet: &mut Fleet, watch: &Watch, story: &Story<'_>) -> Result<(), CliError> {
    story.wait("a cluster forms");
    let (began, nodes) = (Instant::now(), fleet.len());
    for agent in 0..nodes {
        fleet.start(agent, agent == 0)?;
    }
    loop {
        for death in fleet.deaths().await? {
            let log = cluster::tail_of(&fleet.agents[death.agent].log).unwrap_or_default();
            if !death.is_port_taken(&log) {
                let what = format!("{} ended by itself ({})", fleet.name(death.agent), death.words());
                return Err(CliError::new(Exit::Error, what, ""));
            }
            fleet.move_port(death.agent)?;
            fleet.start(death.agent, death.agent == 0)?;
        }
        let votes = |agent| watch.of(agent).is_some_and(|status| status.voters.len() == nodes);
        if (0..nodes).all(votes) {
            story.done(&format!("{nodes} voters after {:.2} s", began.elapsed().as_secs_f64()));
            return Ok(());
        }
        if began.elapsed() > FORM {
            return Err(CliError::new(Exit::Error, format!("no cluster formed in {} s", FORM.as_secs()), ""));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Reads everything back and judges it.
#[expect(clippy::too_many_arguments, reason = "the end of a story knows everybody")]
async fn check(
    args: &TortureArgs,
    seed: u64,
    home: &Path,
    mut nemesis: Nemesis<'_>,
    told: &Told,
    proxy: &Proxy,
    together: Duration,
    story: &Story<'_>,
) -> Result<Report, CliError> {
    let mut replicas = Vec::new();
    for agent in 0..nemesis.fleet.len() {
        story.wait(&format!("reading the log of {}", nemesis.fleet.name(agent)));
        replicas.push(verdict::read(&nemesis.fleet.directory, agent, nemesis.fleet.name(agent)).await?);
    }
    story.wait("checking the history");
    let verdict = history::check(&told.history, &replicas);
    story.done(&format!(
        "{} replicas read, {} records, {} operations checked",
        replicas.len(),
        verdict.records,
        operations(told)
    ));
    for agent in 0..nemesis.fleet.len() {
        nemesis.fleet.stop(agent).await?;
    }
    story.wait("checking every file");
    let damaged = verdict::damaged(&nemesis.fleet)?;
    let mut findings: Vec<_> = verdict.anomalies.iter().map(ToString::to_string).collect();
    findings.extend(damaged.iter().map(|place| format!("damage was left: {place}")));
    findings.extend(told.strange.iter().map(|what| format!("a client was told: {what}")));
    findings.append(&mut nemesis.findings);
    if !findings.is_empty() {
        let path = home.join("history");
        let written = std::fs::write(&path, archive::lines(&told.history));
        written.map_err(|e| CliError::system(&format!("cannot write {}", path.display()), &e, ""))?;
    }
    Ok(report(args, seed, &nemesis, told, &verdict, findings, proxy, together))
}

fn operations(told: &Told) -> u64 {
    let history = &told.history;
    (history.appends.len() + history.reads.len() + history.tails.len()) as u64
}

#[expect(clippy::too_many_arguments, reason = "a report is of everything")]
fn report(
    args: &TortureArgs,
    seed: u64,
    nemesis: &Nemesis<'_>,
    told: &Told,
    verdict: &Verdict,
    findings: Vec<String>,
    proxy: &Proxy,
    together: Duration,
) -> Report {
    let mut links = Counts::default();
    proxy.counts().iter().flatten().for_each(|counts| links.add(counts));
    let (silence, at) = history::longest_silence(&told.history.appends, Duration::ZERO, args.span());
    let millis = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    let mut report = Report {
        v: 1,
        good: findings.is_empty() && verdict.is_good(),
        seed,
        minutes: args.minutes,
        nodes: args.nodes(),
        operations: operations(told) + told.reads_failed,
        appends: Appends {
            acked: verdict.acked,
            not_applied: verdict.not_applied,
            unknown: verdict.unknown,
            unknown_applied: verdict.unknown_applied,
        },
        reads: Reads {
            answered: told.history.reads.len() as u64,
            failed: told.reads_failed,
            tails: told.history.tails.len() as u64,
            records_seen: verdict.seen,
        },
        records: verdict.records,
        blows: Default::default(),
        blows_skipped: 0,
        kills: 0,
        pauses: 0,
        damages: 0,
        damaged_bytes: 0,
        healed: 0,
        refused_damage: 0,
        repaired_entries: nemesis.watch.repaired(),
        copies_refused: nemesis.fleet.count_in_logs(IS_COPY),
        elections: nemesis.fleet.count_in_logs(LEADS),
        longest_unavailable_ms: millis(silence),
        longest_unavailable_at_s: at.as_secs_f64(),
        came_together_ms: millis(together),
        links,
        anomalies: Report::anomalies(verdict),
        findings,
        kept: None,
    };
    report.take_in(&nemesis.tally);
    report
}

/// The last lines of every agent's log.
fn log_tails(home: &Path, nodes: usize) -> Vec<String> {
    let mut all = Vec::new();
    for n in 1..=nodes {
        let path = home.join(format!("n{n}")).join("log");
        all.push(format!("--- the end of {}", path.display()));
        let text = cluster::tail_of(&path).unwrap_or_else(|e| format!("(cannot be read: {e})"));
        let last: Vec<_> = text.lines().rev().take(LOG_LINES).collect();
        all.extend(last.into_iter().rev().map(crate::limits::printable));
    }
    all
}
