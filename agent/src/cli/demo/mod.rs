//! `quorate demo`: a real cluster on this machine, and everything that usually kills one.
//!
//! It never simulates: the agents are processes of this program with mutual TLS, killed with `kill -9`, and what is
//! reported was measured from outside, through the client.

mod load;
mod verify;

use super::Global;
use super::cluster::{self, Cluster};
use super::home::Home;
use super::output::{CliError, Exit, Ui, thousands};
use super::process;
use super::story::Story;
use clap::Args;
use load::Load;
use serde::Serialize;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use verify::Verdict;

/// How long any single step may take before the demo gives up.
const STEP: Duration = Duration::from_secs(20);
/// How long the load goes on after each recovery, so that there is something to verify from then.
const AFTERWARDS: Duration = Duration::from_millis(500);
/// Lines of each agent's log that are shown when the demo fails.
const LOG_LINES: usize = 12;

/// Its arguments.
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// How many agents: 3 to 7
    #[arg(
        long,
        env = "QUORATE_NODES",
        hide_env = true,
        value_name = "N",
        default_value_t = 3,
        value_parser = clap::value_parser!(u16).range(3..=7)
    )]
    nodes: u16,
    /// How many records to append before the first blow
    #[arg(
        long,
        env = "QUORATE_RECORDS",
        hide_env = true,
        value_name = "N",
        default_value_t = 5_000,
        value_parser = clap::value_parser!(u64).range(1..=10_000_000)
    )]
    records: u64,
    /// Keep certificates, data and logs in this new directory
    #[arg(long, env = "QUORATE_KEEP", hide_env = true, value_name = "DIR")]
    keep: Option<PathBuf>,
}

/// The last line of the demo in JSON.
#[derive(Debug, Default, Serialize)]
struct Report {
    v: u32,
    formed_ms: u64,
    failover_ms: u64,
    rejoined_ms: u64,
    recovered_ms: u64,
    records: u64,
    unknown: u64,
    unknown_appended: u64,
    lost: u64,
    duplicated: u64,
    identical: bool,
    seconds: f64,
}

/// Runs the demo; ends well only if nothing acknowledged was lost or doubled and all replicas are identical.
pub(crate) fn run(global: &Global, args: &DemoArgs, ui: &Ui) -> Result<(), CliError> {
    super::logging::start_client(global.log.as_deref())?;
    let home = match &args.keep {
        Some(dir) => Home::keep_in(dir)?,
        None => Home::temporary("quorate-demo-", None, "use --keep DIR")?,
    };
    // A panic aborts without unwinding, so no destructor would end the agents.
    process::end_agents_on_panic(home.path());
    let story = Story::begin(ui);
    let ended = super::runtime()?.block_on(async {
        let mut cluster = Cluster::prepare(home.path(), args.nodes.into()).map_err(|e| (e, Vec::new()))?;
        let ended = tokio::select! {
            ended = perform(args, &mut cluster, &story) => ended,
            signal = cluster::interrupted() => Err(CliError::new(
                Exit::Interrupted,
                format!("interrupted ({signal})"),
                "the agents were ended; run it again when you like",
            )),
        };
        cluster.end().await;
        let logs = match &ended {
            Err(error) if !error.is_quiet() => cluster.log_tails(LOG_LINES),
            _ => Vec::new(),
        };
        ended.map_err(|error| (error, logs))
    });
    story.quiet();
    match ended {
        Ok(report) => {
            if ui.is_json() {
                ui.json(&report)?;
            }
            if args.keep.is_some() {
                ui.note(&format!("everything is kept in {}", home.keep().display()));
            }
            Ok(())
        }
        Err((error, logs)) => Err(home.after_failure(error, &logs, ui)),
    }
}

/// The story itself.
async fn perform(args: &DemoArgs, cluster: &mut Cluster, story: &Story<'_>) -> Result<Report, CliError> {
    let mut report = Report { v: 1, ..Report::default() };
    form(cluster, story, &mut report).await?;
    let load = Load::start(cluster, args.records)?;
    append(args, &load, story).await?;
    kill_the_leader(cluster, &load, story, &mut report).await?;
    kill_everybody(cluster, &load, story, &mut report).await?;
    story.wait("the last appends find their outcome");
    let attempts = load.finish().await?;
    story.wait("reading the whole log through the client and from every replica");
    let verdict = verify::verify(cluster, &attempts).await?;
    conclude(&verdict, story, &mut report)?;
    Ok(report)
}

async fn form(cluster: &mut Cluster, story: &Story<'_>, report: &mut Report) -> Result<(), CliError> {
    let began = Instant::now();
    let names = cluster.names().join(" ");
    story.say(&format!(
        "{} agents start: {names} (processes of this program, mutual TLS, own certificates)",
        cluster.len()
    ));
    story.wait("they find each other and form a Raft group");
    cluster.start_all(STEP).await?;
    let client = cluster.client(0)?;
    let ack = client.append_within(&[load::probe()], STEP).await.map_err(|e| super::find::error(e, true))?;
    let voters = cluster.wait_for_voters(STEP).await?;
    report.formed_ms = millis(began.elapsed());
    let leader = cluster.leader(STEP).await?;
    story.done(&format!(
        "formed: {voters} voters, leader {leader}, first ack at offset {} - after {} ms",
        ack.first,
        thousands(report.formed_ms)
    ));
    Ok(())
}

async fn append(args: &DemoArgs, load: &Load, story: &Story<'_>) -> Result<(), CliError> {
    let began = Instant::now();
    let patience = Duration::from_millis(args.records).max(STEP * 3);
    story.bar(args.records, &format!("{} clients append", load::CLIENTS));
    while load.acked() < args.records {
        load.check()?;
        story.progress(load.acked());
        if began.elapsed() > patience {
            let what = format!("only {} of {} records were acknowledged (in {patience:?})", load.acked(), args.records);
            return Err(CliError::new(Exit::Error, what, ""));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let seconds = began.elapsed().as_secs_f64();
    let rate = (load.acked() as f64 / seconds) as u64;
    story.done(&format!(
        "{} clients appended {} records, each fsynced on a majority before its ack: {} a second",
        load::CLIENTS,
        thousands(load.acked()),
        thousands(rate)
    ));
    Ok(())
}

async fn kill_the_leader(
    cluster: &mut Cluster,
    load: &Load,
    story: &Story<'_>,
    report: &mut Report,
) -> Result<(), CliError> {
    let leader = cluster.leader(STEP).await?;
    let killed = cluster.kill(&leader)?;
    story.say(&format!("kill -9 {leader}, the leader, under load"));
    story.wait("the others elect a new one");
    let ack = load.first_ack_issued_after(killed, STEP).await?;
    report.failover_ms = millis(ack - killed);
    let new = cluster.leader(STEP).await?;
    story.done(&format!(
        "{new} leads: the first append issued after the kill was acknowledged after {} ms",
        thousands(report.failover_ms)
    ));
    tokio::time::sleep(AFTERWARDS).await;
    let began = Instant::now();
    story.wait(&format!("{leader} starts again"));
    cluster.restart(&leader).await?;
    cluster.wait_until_caught_up(&leader, STEP).await?;
    report.rejoined_ms = millis(began.elapsed());
    story.done(&format!(
        "{leader} is started again: a voter with the whole log after {} ms",
        thousands(report.rejoined_ms)
    ));
    Ok(())
}

async fn kill_everybody(
    cluster: &mut Cluster,
    load: &Load,
    story: &Story<'_>,
    report: &mut Report,
) -> Result<(), CliError> {
    tokio::time::sleep(AFTERWARDS).await;
    cluster.kill_all()?;
    story.say(&format!("kill -9 of all {} at once, under load", cluster.len()));
    let began = Instant::now();
    story.wait("all of them start again");
    cluster.restart_all().await?;
    let ack = load.first_ack_issued_after(began, STEP).await?;
    report.recovered_ms = millis(ack - began);
    story.done(&format!("started again: serving by themselves after {} ms", thousands(report.recovered_ms)));
    tokio::time::sleep(AFTERWARDS).await;
    Ok(())
}

fn conclude(verdict: &Verdict, story: &Story<'_>, report: &mut Report) -> Result<(), CliError> {
    report.records = verdict.acked;
    report.unknown = verdict.unknown;
    report.unknown_appended = verdict.unknown_appended;
    report.lost = verdict.lost;
    report.duplicated = verdict.duplicated;
    report.identical = verdict.identical;
    report.seconds = (story.elapsed().as_secs_f64() * 10.0).round() / 10.0;
    story.done(&format!(
        "read back: {} acknowledged records, each there once, in order, at its offset: {} lost, {} doubled",
        thousands(verdict.acked),
        verdict.lost,
        verdict.duplicated
    ));
    let missing = verdict.unknown - verdict.unknown_appended;
    story.done(&format!(
        "{} appends had an unknown outcome when agents died: {} stand in the log, {missing} do not",
        verdict.unknown, verdict.unknown_appended
    ));
    if let Some(complaint) = verdict.complaints.first() {
        let more = verdict.complaints.len() - 1;
        let more = if more > 0 { format!(", and {more} more") } else { String::new() };
        return Err(CliError::new(
            Exit::Corrupt,
            format!("the log is not what was acknowledged ({complaint}{more})"),
            "",
        ));
    }
    story.done(&format!(
        "all {} replicas hold the same {} entries, byte for byte",
        verdict.replicas,
        thousands(verdict.entries)
    ));
    story.say(&format!("done in {:.1} s", report.seconds));
    Ok(())
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
