//! Formation: why an agent has no log. Nobody founded, nobody answers, too few came, or a leader has not added it yet.
//!
//! It never looks at an agent that belongs to a log.

use super::case::View;
use super::words::{list, span};
use super::{Cause, Finding};
use crate::facts::Facts;

/// So long a founder may look for members, and a newcomer wait to be added, before it is worth a word, in milliseconds.
const PATIENCE_MS: u64 = 8_000;

pub(super) fn look(view: &View<'_>, out: &mut Vec<Finding>) {
    let Some(own) = view.own.filter(|own| !own.raft.member && own.raft.leader.is_none()) else {
        return waits(view, out);
    };
    if own.log_id.is_some() && !own.raft.voters.is_empty() {
        return;
    }
    let connected: Vec<String> = own.members.iter().filter(|m| m.connected).map(|m| m.name.clone()).collect();
    if let Some(expect) = own.formation.expect {
        out.push(expected(own, expect));
    } else if own.formation.founding || (own.formation.bootstrap && own.up_ms < PATIENCE_MS) {
        // It founds by itself in a moment.
    } else if connected.is_empty() && !own.formation.seeds.is_empty() {
        out.push(unanswered(own));
    } else if own.members.iter().any(|m| m.connected && m.log_id.is_some()) {
        let why = own.formation.waiting.clone().unwrap_or_else(|| "no leader has spoken to it yet".into());
        let finding = Finding::new(
            Cause::NotAdmitted,
            own.name.clone(),
            format!("{} is connected and not in Raft yet", own.name),
        );
        let finding = finding.evidence(why).evidence(format!("it is connected with {}", list(&connected)));
        out.push(finding.next("wait for the leader to add it; if there is none, ask a member why: `quorate doctor --addr HOST:PORT --certs DIR`"));
    } else {
        out.push(unfounded(own, &connected));
    }
}

fn expected(own: &Facts, expect: u32) -> Finding {
    let (seen, missing) = (&own.formation.seen, u64::from(expect).saturating_sub(own.formation.seen.len() as u64));
    let finding = Finding::new(
        Cause::WaitingForExpected,
        own.name.clone(),
        format!("{expect} agents are expected to found the cluster, and {} are here", seen.len()),
    );
    let finding = finding.evidence(format!("seen: {}", list(seen)));
    // What it waits for names the addresses that do not answer.
    let finding = match &own.formation.waiting {
        Some(waiting) => finding.evidence(waiting.clone()),
        None => own.dials.iter().fold(finding, |f, dial| f.evidence(format!("{}: {}", dial.seed, dial.trouble.text))),
    };
    finding
        .next(format!("start {missing} more agents with the same --expect {expect}, and --join to one of these"))
        .next("never start one of them with --bootstrap meanwhile: that would be another cluster")
}

fn unanswered(own: &Facts) -> Finding {
    let mut finding =
        Finding::new(Cause::NoJoinAddress, own.name.clone(), format!("no join address of {} answers", own.name));
    for dial in &own.dials {
        finding = finding.evidence(format!("{} (tried {} times): {}", dial.seed, dial.count, dial.trouble.text));
    }
    if own.dials.is_empty() {
        finding = finding.evidence(format!("it tries {}", list(&own.formation.seeds)));
    }
    finding
        .next(format!(
            "check that an agent runs and listens at {}: `quorate members` there",
            list(&own.formation.seeds)
        ))
        .next("let UDP to and from these ports through every firewall in between")
        .next("if this is to be the first agent of a new cluster, start it with --bootstrap instead of --join")
}

fn unfounded(own: &Facts, connected: &[String]) -> Finding {
    let mut finding = Finding::new(Cause::NobodyFounded, own.name.clone(), "nobody has founded the cluster")
        .evidence(format!("{} has no log, and was started without --bootstrap {} ago", own.name, span(own.up_ms)));
    if connected.is_empty() {
        finding = finding.evidence("it was given no address to join");
    } else {
        finding = finding.evidence(format!("it is connected with {}, and none of them has a log", list(connected)));
    }
    finding
        .next("start exactly one agent, the first of the cluster, with --bootstrap")
        .next("start all others with --join HOST:PORT of an agent that runs")
}

/// Newcomers that the leader has not added.
fn waits(view: &View<'_>, out: &mut Vec<Finding>) {
    for facts in view.all().filter(|facts| facts.up_ms >= PATIENCE_MS && !facts.raft.member) {
        let Some(why) = facts.formation.waiting.as_ref().filter(|_| facts.log_id.is_none()) else { continue };
        let finding = Finding::new(
            Cause::NotAdmitted,
            facts.name.clone(),
            format!("{} is connected and not in Raft yet", facts.name),
        );
        out.push(finding.evidence(why.clone()).next("wait, or mend what it waits for"));
    }
}
