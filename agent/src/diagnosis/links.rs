//! Links: members that live and cannot be reached, datagrams that do not arrive.
//!
//! Gossip tells of members that only others reach; Raft needs a connection of its own.

use super::case::View;
use super::words::span;
use super::{Cause, Finding, Severity};
use crate::facts::{Facts, MemberFacts};

pub(super) fn look(view: &View<'_>, out: &mut Vec<Finding>) {
    for facts in view.of_log() {
        for member in facts.members.iter().filter(|member| !member.connected) {
            let in_group = facts.raft.voters.contains(&member.node) || facts.raft.learners.contains(&member.node);
            if in_group && let Some(finding) = broken(view, facts, member) {
                out.push(finding);
            }
        }
    }
}

/// How it is known that the node lives although this agent cannot reach it.
pub(super) fn proof_of_life(view: &View<'_>, facts: &Facts, member: &MemberFacts) -> Option<String> {
    // It answers other agents now.
    let reaches = |(other, said): &(&Facts, &MemberFacts)| !std::ptr::eq(*other, facts) && said.connected;
    if let Some((other, _)) = view.said_of(member.node).find(reaches) {
        return Some(format!("{} is connected with it", other.name));
    }
    if view.facts_of(member.node).is_some_and(|said| said.node != facts.node) {
        return Some("it answered this question".into());
    }
    let heard = member.state == "alive" && !member.proven;
    heard.then(|| format!("gossip of others says that it is alive (for {})", span(member.since_ms)))
}

fn broken(view: &View<'_>, facts: &Facts, member: &MemberFacts) -> Option<Finding> {
    let trouble = member.trouble.as_ref()?;
    if !matches!(trouble.word.as_str(), "no_answer" | "failed" | "address" | "unresolved") {
        return None;
    }
    let alive = proof_of_life(view, facts, member)?;
    let (me, name, addr) = (&facts.name, &member.name, &member.addr);
    let severity = if view.is_leaderless() { Severity::Critical } else { Severity::Error };
    // Both ends tell of one link: about the pair, in one order.
    let (first, second) = if me <= name { (me, name) } else { (name, me) };
    let last = member.last_up_ms.map_or_else(|| "never in this life".into(), |ms| format!("{} ago", span(ms)));
    let finding = Finding::new(
        Cause::LinkBroken,
        format!("{first}-{second}"),
        format!("{name} is alive, and {me} cannot reach it"),
    )
    .severity(severity)
    .evidence(format!("{me} dials {name} at {addr}: {}", trouble.text))
    .evidence(format!("{alive}; {me} was connected with it {last}"))
    .explains(member.node)
    .next(format!("on {me}: let UDP to and from {addr} through every firewall between the two"))
    .next(format!("check that packets of 1,252 bytes pass: `ping -M do -s 1224 {}`", host(addr)))
    .next(format!("check that {name} advertises an address that {me} can dial: `quorate members {name}`"));
    let back = view.facts_of(member.node).and_then(|other| other.members.iter().find(|m| m.node == facts.node));
    Some(match back {
        Some(back) if !back.connected => finding.evidence(format!("{name} cannot reach {me} either")),
        Some(_) => finding.evidence(format!("{name} takes the connection for alive: packets pass one way only")),
        None => finding,
    })
}

fn host(addr: &str) -> &str {
    addr.rsplit_once(':').map_or(addr, |(host, _)| host.trim_matches(['[', ']']))
}
