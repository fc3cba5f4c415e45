//! `quorate bench`: how fast appends are acknowledged, beside what the machine could do at best.
//!
//! It never measures with an append that is not durable on a quorum: there is no such append.

mod arguments;
mod crew;
mod floor;
mod latency;
mod load;
mod measure;
mod notes;
mod pacer;
mod payload;
mod processes;
mod progress;
mod report;
mod table;
mod target;
mod usage;
mod verify;

pub(crate) use arguments::BenchArgs;

use super::Global;
use super::cluster::{self, Cluster};
use super::find::{self, Whom};
use super::home::Home;
use super::output::{CliError, Exit, Ui};
use super::process as agents;
use crate::descriptor;
use crew::Pace;
use floor::Ground;
use measure::Bench;
use progress::Progress;
use report::Report;
use std::path::PathBuf;
use std::time::Duration;
use target::Target;

/// How long any step of starting a cluster may take.
const STEP: Duration = Duration::from_secs(20);
/// Lines of each agent's log that are shown when a cluster of its own fails.
const LOG_LINES: usize = 12;

/// Measures, and says what it measured as it goes.
pub(crate) fn run(global: &Global, args: &BenchArgs, ui: &Ui) -> Result<(), CliError> {
    super::logging::start_client(global.log.as_deref())?;
    let paces = args.paces()?;
    if args.nodes.is_some() && (global.addr.is_some() || global.agent.is_some()) {
        let what = "--nodes starts a cluster of its own (--addr or --agent names another one)";
        return Err(CliError::new(Exit::Usage, what, "leave one of them out"));
    }
    let runtime = super::runtime()?;
    let ended = match args.nodes {
        _ if args.worker => runtime.block_on(processes::work()),
        None => runtime.block_on(running(global, args, &paces, ui)),
        Some(nodes) => own(global, args, nodes, &paces, ui, &runtime),
    };
    // A resolver that hangs, or a floor that nobody waits for, must not keep the command.
    runtime.shutdown_background();
    ended
}

/// A cluster that runs already.
async fn running(global: &Global, args: &BenchArgs, paces: &[Pace], ui: &Ui) -> Result<(), CliError> {
    let progress = Progress::begin();
    progress.say("looking at the cluster");
    let route = find::route(global, Whom::Any)?;
    let target = Target::look(route, args.via, global.timeout, &descriptor::find().alive).await?;
    let dir = args.dir.clone().or_else(|| target.local.first().map(|agent| agent.data.clone()));
    let ground = ground(args, &target, dir);
    let report =
        Bench { args, target: &target, ground: &ground, own: false, ui, progress: &progress }.run(paces).await?;
    conclude(report, ui)
}

/// A cluster that is started for this and ended afterwards.
fn own(
    global: &Global,
    args: &BenchArgs,
    nodes: u16,
    paces: &[Pace],
    ui: &Ui,
    runtime: &tokio::runtime::Runtime,
) -> Result<(), CliError> {
    let home = Home::temporary("quorate-bench-", args.dir.as_deref(), "name a directory with --dir")?;
    // A panic aborts without unwinding, so no destructor would end the agents.
    agents::end_agents_on_panic(home.path());
    let ended = runtime.block_on(async {
        let mut cluster = Cluster::prepare(home.path(), nodes.into()).map_err(|e| (e, Vec::new()))?;
        let ended = tokio::select! {
            ended = in_own(global, args, &mut cluster, home.path().to_owned(), paces, ui) => ended,
            signal = cluster::interrupted() => Err(CliError::new(
                Exit::Interrupted,
                format!("interrupted ({signal})"),
                "the agents were ended; run it again when you like",
            )),
        };
        cluster.end().await;
        ended.map_err(|error| {
            let logs = if error.is_quiet() { Vec::new() } else { cluster.log_tails(LOG_LINES) };
            (error, logs)
        })
    });
    match ended {
        Ok(()) => Ok(()),
        Err((error, logs)) => Err(home.after_failure(error, &logs, ui)),
    }
}

async fn in_own(
    global: &Global,
    args: &BenchArgs,
    cluster: &mut Cluster,
    home: PathBuf,
    paces: &[Pace],
    ui: &Ui,
) -> Result<(), CliError> {
    let progress = Progress::begin();
    progress.say("a cluster forms");
    cluster.start_all(STEP).await?;
    cluster.wait_for_voters(STEP).await?;
    let target = Target::look(cluster.route()?, args.via, global.timeout, &cluster.running()).await?;
    let ground = ground(args, &target, Some(home));
    let report =
        Bench { args, target: &target, ground: &ground, own: true, ui, progress: &progress }.run(paces).await?;
    conclude(report, ui)
}

fn ground(args: &BenchArgs, target: &Target, dir: Option<PathBuf>) -> Ground {
    let loopback = target.loopback || target.is_local();
    Ground {
        dir,
        bytes: args.size as usize * args.batch as usize,
        writers: target.voters,
        loopback,
        told_us: target.round_trip_us.filter(|_| !loopback),
        span: args.floor,
    }
}

/// The last words, and the verdict.
fn conclude(report: Report, ui: &Ui) -> Result<(), CliError> {
    if ui.is_json() {
        ui.json(&report)?;
    }
    match report.verify {
        Some(verdict) if !verdict.is_good() => {
            let first = verdict.complaints.first().map_or("", String::as_str);
            let what = format!("the log is not what was acknowledged ({first})");
            Err(CliError::new(Exit::Error, what, "keep the logs and data of the agents, and report this"))
        }
        _ => Ok(()),
    }
}
