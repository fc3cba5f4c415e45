//! What one agent is ill of by itself: Raft or machines stopped, clock, pauses, elections, histories; and whatever its own
//! status tells that no rule here explains.
//!
//! It never judges connections.

use super::case::View;
use super::words::{ahead, date, list, span};
use super::{Cause, Finding, Severity};
use crate::facts::Facts;
use std::collections::{BTreeMap, BTreeSet};

/// Moved terms in a minute that are no accident: an election that fails twice is one.
const CHURN_MIN: u64 = 6;
/// A jump of the clock, or a pause, is told of for so long, in milliseconds.
const TOLD_FOR_MS: u64 = 600_000;
/// Pauses shorter than this are a busy machine, in milliseconds.
const STALL_MIN_MS: u64 = 5_000;
/// A pause matters while what it caused may last, in milliseconds.
const STALL_TOLD_MS: u64 = 30_000;

pub(super) fn look(view: &View<'_>, out: &mut Vec<Finding>) {
    for facts in view.of_log() {
        let whose = view.whose(facts);
        stopped(facts, &whose, out);
        clock(facts, &whose, out);
        churn(facts, &whose, out);
    }
    histories(view, out);
    advertised(view, out);
    versions(view, out);
}

fn stopped(facts: &Facts, whose: &str, out: &mut Vec<Finding>) {
    let name = &facts.name;
    let restart = || format!("read what it logged, keep a copy of {}, then restart the agent", facts.data);
    if let Some(why) = &facts.raft.halted {
        let finding = Finding::new(Cause::RaftHalted, name.clone(), format!("Raft of {name} has stopped"));
        let finding =
            finding.evidence(format!("{whose}: {why}; it neither votes nor acknowledges")).explains(facts.node);
        out.push(finding.next(restart()).next(format!(
            "if it stops again: wipe {} to join as a new node, while the others have a quorum",
            facts.data
        )));
    }
    // What a program does not understand it cannot apply, and that is told as what it is.
    if let Some(why) = facts.raft.machine.as_ref().filter(|_| !super::levels::is_too_old(facts)) {
        let finding = Finding::new(Cause::MachineStopped, name.clone(), format!("{name} no longer applies the log"));
        let (applied, committed) = (facts.raft.applied, facts.raft.committed);
        out.push(finding.evidence(format!("{whose}: {why} (applied {applied} of {committed})")).next(restart()));
    }
    if let Some(member) = &facts.raft.contradicted_by {
        let finding =
            Finding::new(Cause::HistoriesDiffer, name.clone(), format!("{name} and {member} hold different histories"));
        let said = format!(
            "{member}, as a leader, contradicted what is committed at {whose} (up to {})",
            facts.raft.committed
        );
        out.push(
            finding.evidence(said).next("stop both, keep copies, and compare: `quorate log dump --data DIR --entries`"),
        );
    }
}

fn clock(facts: &Facts, whose: &str, out: &mut Vec<Finding>) {
    let name = &facts.name;
    let set = "set it right, and keep it so (NTP): `timedatectl`, `chronyc tracking`";
    if facts.clock.sick {
        let off = facts.clock.ahead_us.map_or_else(|| "off".to_owned(), ahead);
        let than = if facts.raft.leader == Some(facts.node) { "the median of the voters" } else { "its leader" };
        let finding = Finding::new(Cause::ClockOff, name.clone(), format!("the clock of {name} is {off}"));
        let shows = date(facts.clock.wall_us / 1_000_000);
        out.push(finding.evidence(format!("{whose} shows {shows}, and compares with {than}")).next(set));
    }
    if let Some((by, ago)) = facts.clock.jumped.filter(|(_, ago)| *ago < TOLD_FOR_MS) {
        let finding = Finding::new(Cause::ClockJumped, name.clone(), format!("the clock of {name} jumped"));
        let (by, way) = (span(by.unsigned_abs() / 1_000), if by < 0 { "back" } else { "forward" });
        let said = format!("{} ago the wall clock of {whose} was set {way} by {by} at once", span(ago));
        out.push(
            finding
                .evidence(said)
                .next("find out who set it; let NTP slew it instead: `timedatectl`, `chronyc tracking`"),
        );
    }
    let recent = |(pause, ago): &(u64, u64)| *pause >= STALL_MIN_MS && *ago < STALL_TOLD_MS;
    if let Some((pause, ago)) = facts.clock.stalled.filter(recent) {
        let finding =
            Finding::new(Cause::ProcessStalled, name.clone(), format!("{name} did not run for {}", span(pause)));
        let said =
            format!("its process went on {} ago; others take one that is silent for so long for dead", span(ago));
        out.push(
            finding
                .evidence(said)
                .next("look for a suspended machine, SIGSTOP, or a machine without memory or CPU: `vmstat 1`"),
        );
    }
}

fn churn(facts: &Facts, whose: &str, out: &mut Vec<Finding>) {
    if facts.raft.terms_moved < CHURN_MIN {
        return;
    }
    let movers: Vec<String> = facts.raft.movers.iter().map(|(name, times)| format!("{name} ({times} times)")).collect();
    let busiest = facts.raft.movers.first().map_or_else(|| facts.name.clone(), |(name, _)| name.clone());
    let severity = if facts.raft.leader.is_some() { Severity::Error } else { Severity::Critical };
    out.push(
        Finding::new(Cause::TermChurn, "elections", "elections follow one another")
            .severity(severity)
            .evidence(format!(
                "{whose} saw the term move {} times in the last minute, to {}; moved by {}",
                facts.raft.terms_moved,
                facts.raft.term,
                list(&movers)
            ))
            .next(format!(
                "look at {busiest} first: `quorate doctor --agent {busiest}` there, its disk, its network, its CPU"
            ))
            .next("if all are slow, raise `election_timeout_min` and `election_timeout_max` on all agents"),
    );
}

/// Two foundings under one authority.
fn histories(view: &View<'_>, out: &mut Vec<Finding>) {
    let mut logs: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for facts in view.all() {
        if let Some(log) = facts.log_id.as_deref() {
            logs.entry(log).or_default().insert(facts.name.clone());
        }
        for member in &facts.members {
            if let Some(log) = member.log_id.as_deref().filter(|_| member.connected) {
                logs.entry(log).or_default().insert(member.name.clone());
            }
        }
    }
    if logs.len() < 2 {
        return;
    }
    let mut finding =
        Finding::new(Cause::TwoHistories, "logs", format!("{} clusters were founded under one authority", logs.len()));
    for (log, names) in &logs {
        let names: Vec<String> = names.iter().cloned().collect();
        finding = finding.evidence(format!("log {log}: {}", list(&names)));
    }
    out.push(finding.next("decide which log to keep: `quorate tail --addr HOST:PORT --certs DIR` reads each").next(
        "on every agent of the other one: stop it, `mv DATA DATA.old`, start it with --join to the log that stays",
    ));
}

/// Loopback, or no address at all, told to agents on other machines.
fn advertised(view: &View<'_>, out: &mut Vec<Finding>) {
    let ip = |addr: &str| addr.parse::<std::net::SocketAddr>().ok().map(|addr| addr.ip().to_canonical());
    for facts in view.all() {
        let Some(own) = ip(&facts.advertise) else { continue };
        let away = facts.members.iter().filter_map(|m| Some((m.name.clone(), ip(&m.addr)?)));
        let away: Vec<String> = away
            .filter(|(_, ip)| !ip.is_loopback() && !ip.is_unspecified())
            .map(|(name, ip)| format!("{name} at {ip}"))
            .collect();
        let seeds = facts.formation.seeds.iter().filter_map(|seed| ip(seed)).filter(|ip| !ip.is_loopback());
        let seeds: Vec<String> = seeds.map(|ip| ip.to_string()).collect();
        if !(own.is_loopback() || own.is_unspecified()) || (away.is_empty() && seeds.is_empty()) {
            continue;
        }
        let others = if away.is_empty() { seeds } else { away };
        out.push(
            Finding::new(Cause::AdvertiseUnreachable, facts.name.clone(), format!("{} advertises {}, which others cannot reach", facts.name, facts.advertise))
                .evidence(format!("other machines belong to this cluster: {}", list(&others)))
                .next(format!("start {} with --advertise HOST:PORT, an address of it that the others can dial (and --bind on it, or on [::])", facts.name)),
        );
    }
}

fn versions(view: &View<'_>, out: &mut Vec<Finding>) {
    for facts in view.all() {
        let members = facts.members.iter().filter_map(|m| Some((m.name.as_str(), Some(m.node), m.trouble.as_ref()?)));
        let dials = facts.dials.iter().map(|dial| (dial.seed.as_str(), None, &dial.trouble));
        for (whom, node, trouble) in members.chain(dials).filter(|(.., trouble)| trouble.word == "version") {
            let mut finding =
                Finding::new(Cause::VersionGate, whom, format!("{} and {whom} have no version in common", facts.name))
                    .evidence(format!("{} runs version {}: {}", facts.name, facts.version, trouble.text))
                    .next("compare the programs: `quorate --version` on both machines")
                    .next("upgrade the older one; one version at a time, followers first, the leader last");
            finding.explains.extend(node);
            out.push(finding);
        }
    }
}

/// What the agent itself tells and no rule here has found.
pub(super) fn reported(view: &View<'_>, out: &mut Vec<Finding>) {
    let Some(own) = view.own else { return };
    for problem in &own.problems {
        let cause = problem.code.as_deref().and_then(Cause::of).unwrap_or(Cause::Reported);
        // These the rules about the group judge, with what the others say.
        let judged = matches!(
            cause,
            Cause::NobodyFounded
                | Cause::NoJoinAddress
                | Cause::NotAdmitted
                | Cause::QuorumDown
                | Cause::VoterDown
                | Cause::NoLeader
        );
        if judged || out.iter().any(|found| found.cause == cause && cause != Cause::Reported) {
            continue;
        }
        let finding = Finding::new(
            cause,
            own.name.clone(),
            if cause == Cause::Reported { "the agent reports a problem" } else { cause.title() },
        );
        out.push(
            finding
                .evidence(problem.text.clone())
                .next(format!("read what it means: `quorate explain {}`", cause.code())),
        );
    }
}
