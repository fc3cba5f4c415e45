//! Links: members that live and cannot be reached, datagrams that do not arrive.
//!
//! Gossip tells of members that only others reach; Raft needs a connection of its own.

use super::case::View;
use super::words::span;
use super::{Cause, Finding, Severity};
use crate::facts::{Facts, MemberFacts};

/// A member of a group follows nobody for so long only if it cannot hear, in milliseconds: far longer than an election.
const DEAF_MIN_MS: u64 = 5_000;

pub(super) fn look(view: &View<'_>, out: &mut Vec<Finding>) {
    for facts in view.of_log() {
        for member in facts.members.iter().filter(|member| !member.connected) {
            let in_group = facts.raft.voters.contains(&member.node) || facts.raft.learners.contains(&member.node);
            if in_group && let Some(finding) = broken(view, facts, member) {
                out.push(finding);
            }
        }
        for member in facts.members.iter().filter(|member| member.connected && member.state == "alive") {
            if let Some(ms) = member.unheard_ms {
                out.push(mute(view, facts, member, format!("it has not answered Raft for {}", span(ms))));
            }
        }
        deaf(view, facts, out);
    }
}

/// Connected with the leader whom others follow, and hears nothing of it.
fn deaf(view: &View<'_>, facts: &Facts, out: &mut Vec<Finding>) {
    let in_group = facts.raft.voters.contains(&facts.node) || facts.raft.learners.contains(&facts.node);
    let ill = facts.raft.halted.is_some() || facts.raft.departed || facts.disk.hangs_ms.is_some();
    let waits = facts.raft.leaderless_ms.filter(|ms| facts.raft.leader.is_none() && *ms > DEAF_MIN_MS);
    let (Some(ms), Some((_, leader))) = (waits.filter(|_| in_group && !ill), view.leads()) else { return };
    if let Some(member) = facts.members.iter().find(|m| m.node == leader && m.connected) {
        out.push(mute(view, facts, member, format!("{} has followed nobody for {}", facts.name, span(ms))));
    }
}

/// Two that are connected, and what Raft says to one of them does not arrive.
fn mute(view: &View<'_>, facts: &Facts, member: &MemberFacts, said: String) -> Finding {
    let (me, name) = (&facts.name, &member.name);
    let (first, second) = if me <= name { (me, name) } else { (name, me) };
    let finding = Finding::new(
        Cause::LinkBroken,
        format!("{first}-{second}"),
        format!("{first} and {second} are connected, and Raft does not get through"),
    )
    .severity(if view.is_leaderless() { Severity::Critical } else { Severity::Error })
    .evidence(format!("{me} is connected with {name} at {}, and {said}", member.addr))
    .explains(member.node);
    let lost = (member.sent_packets > 0).then(|| {
        format!("of {} packets that {me} sent to {name}, {} were lost", member.sent_packets, member.lost_packets)
    });
    lost.into_iter()
        .fold(finding, Finding::evidence)
        .next(format!(
            "on {me}: check that packets of 1,252 bytes pass, not only small ones: `ping -M do -s 1224 {}`",
            host(&member.addr)
        ))
        .next("set the MTU of every interface, tunnel and bridge between the two to 1,280 bytes or more")
        .next(format!("if they pass: `quorate doctor --agent {name}` there; its CPU and its disk"))
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
    let last = match member.last_up_ms {
        Some(ms) => format!("{me} was connected with it {} ago", span(ms)),
        None => format!("{me} has not been connected with it since it started"),
    };
    let finding = Finding::new(
        Cause::LinkBroken,
        format!("{first}-{second}"),
        format!("{name} is alive, and {me} cannot reach it"),
    )
    .severity(severity)
    .evidence(format!("{me} dials {name} at {addr}: {}", trouble.text))
    .evidence(format!("{name}: {alive}; {last}"))
    .explains(member.node)
    .next(format!("on {me}: let UDP to and from {addr} through every firewall between the two"))
    .next(format!("check that packets of 1,252 bytes pass: `ping -M do -s 1224 {}`", host(addr)))
    .next(format!("check that {name} advertises an address that {me} can dial: `quorate members {name}`"));
    let back = view.facts_of(member.node).and_then(|other| other.members.iter().find(|m| m.node == facts.node));
    Some(match back {
        // The other end tells it for itself.
        Some(back) if back.trouble.is_some() => finding,
        Some(back) if !back.connected => finding.evidence(format!("{name} cannot reach {me} either")),
        Some(_) => finding.evidence(format!("{name} takes the connection for alive: packets pass one way only")),
        None => finding,
    })
}

fn host(addr: &str) -> &str {
    addr.rsplit_once(':').map_or(addr, |(host, _)| host.trim_matches(['[', ']']))
}
