//! `quorate status`: cluster, leader, voters, log and problems on one screen.
//!
//! It judges nothing by itself: what is a problem, the agent says.

use super::Global;
use super::find::{self, Whom};
use super::output::{self, CliError, Exit, Ui, thousands};
use super::switch;
use crate::api::{AppendStages, DiskHealth, DiskSpace, Latency, QueueLoad, ScrubState};
use crate::client::Status;
use crate::limits::printable;
use clap::Args;
use serde::Serialize;

/// Its arguments.
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// Exit with 9 if there is a problem
    #[arg(long, env = "QUORATE_CHECK", hide_env = true, value_parser = switch())]
    check: bool,
}

#[derive(Serialize)]
struct StatusObject<'a> {
    v: u32,
    cluster: &'a str,
    log_id: Option<&'a str>,
    name: &'a str,
    leader: Option<&'a str>,
    term: u64,
    healthy: bool,
    voters: &'a [String],
    learners: &'a [String],
    tolerates: u32,
    log: LogObject,
    problems: &'a [String],
    /// Of each problem the code that `quorate explain` knows, or null.
    problem_codes: Vec<Option<&'a str>>,
    draining: &'a [String],
    append: AppendObject,
    disk: DiskObject<'a>,
    space: SpaceObject,
    queues: Vec<QueueObject<'a>>,
}

/// What waits, beside its bound; null where there is none, or it is not known.
#[derive(Serialize)]
struct QueueObject<'a> {
    name: &'a str,
    depth: u64,
    depth_max: Option<u64>,
    bytes: Option<u64>,
    bytes_max: u64,
    dropped: u64,
}

impl<'a> From<&'a QueueLoad> for QueueObject<'a> {
    fn from(queue: &'a QueueLoad) -> Self {
        let QueueLoad { name, depth, depth_max, bytes, bytes_max, dropped } = queue;
        Self { name, depth: *depth, depth_max: *depth_max, bytes: *bytes, bytes_max: *bytes_max, dropped: *dropped }
    }
}

/// Bytes; null where the system does not tell.
#[derive(Serialize)]
struct SpaceObject {
    free: Option<u64>,
    total: Option<u64>,
    reserve: u64,
    full: bool,
}

/// The bytes of the log on this agent's disk.
#[derive(Serialize)]
struct DiskObject<'a> {
    damaged_ranges: u64,
    damaged: Vec<DamagedObject<'a>>,
    suspect_index: Option<u64>,
    repaired: RepairedObject,
    scrub: ScrubObject,
}

#[derive(Serialize)]
struct DamagedObject<'a> {
    file: &'a str,
    offset: u64,
    what: &'a str,
    first_index: u64,
    last_index: u64,
    lost: bool,
}

#[derive(Serialize)]
struct RepairedObject {
    entries: u64,
    bytes: u64,
}

#[derive(Serialize)]
struct ScrubObject {
    cycles: u64,
    cycle_bytes: u64,
    bytes: u64,
    errors: u64,
    bytes_per_second: u64,
}

impl<'a> From<&'a DiskHealth> for DiskObject<'a> {
    fn from(disk: &'a DiskHealth) -> Self {
        let damaged = disk.damaged.iter().map(|range| DamagedObject {
            file: &range.file,
            offset: range.at,
            what: &range.what,
            first_index: range.first,
            last_index: range.last,
            lost: range.lost,
        });
        let ScrubState { cycles, bytes, bytes_total, errors, bytes_per_second } = disk.scrub;
        Self {
            damaged_ranges: disk.damaged_ranges,
            damaged: damaged.collect(),
            suspect_index: disk.suspect,
            repaired: RepairedObject { entries: disk.repaired_entries, bytes: disk.repaired_bytes },
            scrub: ScrubObject { cycles, cycle_bytes: bytes, bytes: bytes_total, errors, bytes_per_second },
        }
    }
}

/// Microseconds, over the last 30 to 60 seconds.
#[derive(Serialize)]
struct AppendObject {
    queue: LatencyObject,
    fsync: LatencyObject,
    replicate: LatencyObject,
    total: LatencyObject,
}

#[derive(Serialize)]
struct LatencyObject {
    count: u64,
    p50_us: u64,
    p90_us: u64,
    p99_us: u64,
    max_us: u64,
}

impl From<&Latency> for LatencyObject {
    fn from(latency: &Latency) -> Self {
        let Latency { count, p50_us, p90_us, p99_us, max_us } = *latency;
        Self { count, p50_us, p90_us, p99_us, max_us }
    }
}

#[derive(Serialize)]
struct LogObject {
    first: u64,
    next: u64,
    committed_index: u64,
    applied_index: u64,
    bytes: u64,
}

/// Shows the picture of one agent.
pub(crate) async fn run(global: &Global, args: &StatusArgs, ui: &Ui) -> Result<(), CliError> {
    let client = find::client(global, Whom::Any)?;
    let status = client.status().await.map_err(|e| find::error(e, false))?;
    if ui.is_json() {
        ui.json(&object(&status))?;
    } else {
        for line in screen(&status) {
            ui.line(&line)?;
        }
    }
    client.close().await;
    if args.check && !status.healthy {
        let why = match status.problems.as_slice() {
            [] => "the agent says so".to_owned(),
            [only] => only.clone(),
            [first, more @ ..] => format!("{first}, and {} more", more.len()),
        };
        let next = "`quorate doctor` says why, and what to do";
        return Err(CliError::new(Exit::Unhealthy, format!("the cluster is not healthy ({why})"), next));
    }
    Ok(())
}

fn object(status: &Status) -> StatusObject<'_> {
    StatusObject {
        v: 1,
        cluster: &status.cluster,
        log_id: status.log_id.as_deref(),
        name: &status.name,
        leader: status.leader.as_deref(),
        term: status.term,
        healthy: status.healthy,
        voters: &status.voters,
        learners: &status.learners,
        tolerates: status.tolerates,
        log: LogObject {
            first: status.first,
            next: status.next,
            committed_index: status.committed_index,
            applied_index: status.applied_index,
            bytes: status.bytes,
        },
        problems: &status.problems,
        problem_codes: codes(status).collect(),
        draining: &status.draining,
        append: AppendObject {
            queue: (&status.append.queue).into(),
            fsync: (&status.append.fsync).into(),
            replicate: (&status.append.replicate).into(),
            total: (&status.append.total).into(),
        },
        disk: (&status.disk).into(),
        space: SpaceObject {
            free: status.space.free,
            total: status.space.total,
            reserve: status.space.reserve,
            full: status.space.full,
        },
        queues: status.queues.iter().map(QueueObject::from).collect(),
    }
}

/// The code of each problem. An older agent tells none.
fn codes(status: &Status) -> impl Iterator<Item = Option<&str>> {
    (0..status.problems.len()).map(|at| status.codes.get(at)?.as_deref())
}

/// Where the time of appends went, in one line; nothing if this agent led none lately.
fn appends(stages: &AppendStages) -> Option<String> {
    let ms = |us: u64| us as f64 / 1e3;
    let total = Some(&stages.total).filter(|total| total.count > 0)?;
    let (queue, fsync, replicate) = (&stages.queue, &stages.fsync, &stages.replicate);
    Some(format!(
        "p50 {:.1} ms, p99 {:.1} ms  (queue {:.1}, own fsync {:.1}, replicate {:.1} ms at p50)",
        ms(total.p50_us),
        ms(total.p99_us),
        ms(queue.p50_us),
        ms(fsync.p50_us),
        ms(replicate.p50_us),
    ))
}

/// What was found on the disk and done about it, in one line; nothing before there is anything to say.
fn disk(disk: &DiskHealth) -> Option<String> {
    let scrub = &disk.scrub;
    if scrub.bytes_total == 0 && disk.damaged_ranges == 0 && disk.repaired_entries == 0 {
        return None;
    }
    let damage = match disk.damaged_ranges {
        0 => "no damage".to_owned(),
        1 => "1 damaged range".to_owned(),
        n => format!("{} damaged ranges", thousands(n)),
    };
    let mut said = format!("{damage}, {} scrubbed ({} cycles)", output::bytes(scrub.bytes_total), scrub.cycles);
    if disk.repaired_entries > 0 {
        let (entries, bytes) = (thousands(disk.repaired_entries), output::bytes(disk.repaired_bytes));
        said += &format!(", {entries} entries ({bytes}) repaired");
    }
    Some(said)
}

/// The room on the agent's disk, in one line; nothing if its system does not tell.
fn space(space: &DiskSpace) -> Option<String> {
    let (free, total) = (output::bytes(space.free?), output::bytes(space.total?));
    let full = if space.full { ", NEARLY FULL: it takes no entries" } else { "" };
    Some(format!("{free} of {total} free{full}"))
}

/// A queue that is more than half full; nothing of those that are not.
fn backlog(queue: &QueueLoad) -> Option<String> {
    if !queue.is_backlog() {
        return None;
    }
    let depth = match queue.depth_max {
        Some(max) => format!("{} of {} waiting", thousands(queue.depth), thousands(max)),
        None => format!("{} waiting", thousands(queue.depth)),
    };
    let bytes = queue
        .bytes
        .map_or_else(String::new, |b| format!(", {} of {}", output::bytes(b), output::bytes(queue.bytes_max)));
    let dropped = if queue.dropped > 0 { format!(", {} dropped", thousands(queue.dropped)) } else { String::new() };
    Some(format!("{}: {depth}{bytes}{dropped}", printable(&queue.name)))
}

fn screen(status: &Status) -> Vec<String> {
    let names = |names: &[String]| match names {
        [] => "none".to_owned(),
        names => printable(&names.join(" ")),
    };
    let row = |name: &str, value: String| format!("{name:<9} {value}");
    let health = if status.healthy { "healthy" } else { "NOT HEALTHY" };
    let leader = status.leader.as_deref().map_or_else(|| "none".into(), printable);
    let failures = match status.tolerates {
        0 => "no failure".to_owned(),
        1 => "1 failure".to_owned(),
        n => format!("{n} failures"),
    };
    let records = status.next.saturating_sub(status.first);
    let mut lines = vec![
        row("cluster", format!("{}  {health}", printable(&status.cluster))),
        row("log id", status.log_id.as_deref().map_or_else(|| "none yet".into(), printable)),
        row(
            "agent",
            format!(
                "{}  ({}, version {})",
                printable(&status.name),
                printable(&status.raft),
                printable(&status.version)
            ),
        ),
        row("leader", format!("{leader}  (term {})", status.term)),
        row("voters", format!("{}  (tolerates {failures})", names(&status.voters))),
        row("learners", names(&status.learners)),
    ];
    if !status.draining.is_empty() {
        lines.push(row("draining", names(&status.draining)));
    }
    let place = if records == 0 {
        format!("no record yet, the next offset is {}", thousands(status.next))
    } else {
        let (first, last) = (thousands(status.first), thousands(status.next - 1));
        format!("{} records, offsets {first} to {last}", thousands(records))
    };
    lines.push(row("log", format!("{place}, {} on disk", output::bytes(status.bytes))));
    lines.extend(disk(&status.disk).map(|line| row("disk", line)));
    let (committed, applied) = (thousands(status.committed_index), thousands(status.applied_index));
    lines.push(row("index", format!("committed {committed}, applied {applied}")));
    lines.extend(appends(&status.append).map(|line| row("appends", line)));
    lines.extend(space(&status.space).map(|line| row("space", line)));
    lines.extend(status.queues.iter().filter_map(backlog).map(|line| row("backlog", line)));
    match status.problems.as_slice() {
        [] => lines.push(row("problems", "none".into())),
        problems => {
            lines.push(row("problems", String::new()).trim_end().to_owned());
            lines.extend(problems.iter().zip(codes(status)).map(|(problem, code)| {
                let code = code.map_or_else(String::new, |code| format!("  [{}]", printable(code)));
                format!("  - {}{code}", printable(problem))
            }));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status() -> Status {
        Status {
            cluster: "c0ffee".into(),
            log_id: Some("10".into()),
            name: "a".into(),
            node: 1,
            version: "0.1.0".into(),
            leader: Some("b".into()),
            term: 3,
            raft: "voter".into(),
            healthy: true,
            voters: vec!["a".into(), "b".into(), "c".into()],
            learners: vec![],
            tolerates: 1,
            first: 0,
            next: 1_234,
            committed_index: 9,
            applied_index: 8,
            bytes: 2_048,
            problems: vec![],
            record_bytes_max: 1 << 20,
            append: AppendStages::default(),
            disk: DiskHealth::default(),
            space: DiskSpace::default(),
            draining: vec![],
            codes: vec![],
            queues: vec![],
        }
    }

    #[test]
    fn one_screen_says_it_all() {
        let expected = "\
cluster   c0ffee  healthy
log id    10
agent     a  (voter, version 0.1.0)
leader    b  (term 3)
voters    a b c  (tolerates 1 failure)
learners  none
log       1,234 records, offsets 0 to 1,233, 2.0 KiB on disk
index     committed 9, applied 8
problems  none";
        assert_eq!(screen(&status()).join("\n"), expected);
        let ill = Status { healthy: false, problems: vec!["c is silent\u{1b}[2J".into()], next: 0, ..status() };
        let said = screen(&ill).join("\n");
        let drained = screen(&Status { draining: vec!["c".into()], ..status() }).join("\n");
        assert!(drained.contains("learners  none\ndraining  c\nlog "), "{drained}");
        assert!(said.contains("NOT HEALTHY") && said.contains("no record yet"), "{said}");
        let total = Latency { count: 1, p50_us: 900, p99_us: 2_300, ..Latency::default() };
        let busy = Status { append: AppendStages { total, ..AppendStages::default() }, ..status() };
        assert!(screen(&busy).join("\n").contains("appends   p50 0.9 ms, p99 2.3 ms  (queue 0.0"), "{busy:?}");
        let damaged =
            DiskHealth { damaged_ranges: 1, repaired_entries: 1_200, repaired_bytes: 2_048, ..DiskHealth::default() };
        let sick = screen(&Status { disk: damaged, ..status() }).join("\n");
        let line = "disk      1 damaged range, 0 B scrubbed (0 cycles), 1,200 entries (2.0 KiB) repaired";
        assert!(sick.contains(line), "{sick}");
        let space = DiskSpace { free: Some(12 << 20), total: Some(1 << 30), reserve: 100 << 20, full: true };
        let full = screen(&Status { space, ..status() }).join("\n");
        assert!(full.contains("space     12.0 MiB of 1.0 GiB free, NEARLY FULL: it takes no entries"), "{full}");
        let queue =
            QueueLoad { name: "gossip_updates".into(), depth: 512, depth_max: Some(1024), ..QueueLoad::default() };
        assert!(!screen(&Status { queues: vec![queue.clone()], ..status() }).join("\n").contains("backlog"));
        let queue = QueueLoad { depth: 513, dropped: 1_200, ..queue };
        let late = screen(&Status { queues: vec![queue], ..status() }).join("\n");
        assert!(late.contains("backlog   gossip_updates: 513 of 1,024 waiting, 1,200 dropped"), "{late}");
        assert!(said.ends_with("problems\n  - c is silent\\u{1b}[2J"), "{said}");
    }

    #[test]
    fn the_object_is_the_contract() {
        let name = "tags".into();
        let queue = QueueLoad { name, depth: 1, depth_max: None, bytes: Some(2), bytes_max: 3, dropped: 4 };
        let said = serde_json::to_string(&object(&Status { queues: vec![queue], ..status() })).unwrap();
        assert_eq!(
            said,
            r#"{"v":1,"cluster":"c0ffee","log_id":"10","name":"a","leader":"b","term":3,"healthy":true,"voters":["a","b","c"],"learners":[],"tolerates":1,"log":{"first":0,"next":1234,"committed_index":9,"applied_index":8,"bytes":2048},"problems":[],"problem_codes":[],"draining":[],"append":{"queue":{"count":0,"p50_us":0,"p90_us":0,"p99_us":0,"max_us":0},"fsync":{"count":0,"p50_us":0,"p90_us":0,"p99_us":0,"max_us":0},"replicate":{"count":0,"p50_us":0,"p90_us":0,"p99_us":0,"max_us":0},"total":{"count":0,"p50_us":0,"p90_us":0,"p99_us":0,"max_us":0}},"disk":{"damaged_ranges":0,"damaged":[],"suspect_index":null,"repaired":{"entries":0,"bytes":0},"scrub":{"cycles":0,"cycle_bytes":0,"bytes":0,"errors":0,"bytes_per_second":0}},"space":{"free":null,"total":null,"reserve":0,"full":false},"queues":[{"name":"tags","depth":1,"depth_max":null,"bytes":2,"bytes_max":3,"dropped":4}]}"#
        );
    }
}
