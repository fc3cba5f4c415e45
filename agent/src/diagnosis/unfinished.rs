//! What was begun and not ended: a drain that nobody took back, seats that operators hold, a departure that is only said.
//!
//! It never calls work of today forgotten: each rule has a time that such work takes.

use super::case::View;
use super::words::{list, span};
use super::{Cause, Finding, Severity};
use crate::facts::Facts;
use std::collections::{BTreeMap, BTreeSet};

/// An agent that was restarted since it was drained is asked for the undo by then, in milliseconds: what the recipe of a rolling
/// restart takes, many times.
const BACK_MS: u64 = 30_000;
/// A drained agent that runs on is forgotten by then, in milliseconds: as long as a dead voter keeps its seat by default.
const DRAINED_MS: u64 = 600_000;
/// Two agents know of a drain within so much of each other, in milliseconds.
const KNOWN_WITHIN_MS: u64 = 1_000;
/// Who leaves is out of the group before gossip says so; another agent hears of both within this time, in milliseconds.
const LEAVING_MS: u64 = 10_000;

pub(super) fn look(view: &View<'_>, out: &mut Vec<Finding>) {
    drains(view, out);
    left(view, out);
    held(view, out);
}

/// Is it known that it runs?
fn is_here(view: &View<'_>, node: u64) -> bool {
    view.facts_of(node).is_some() || view.said_of(node).any(|(_, member)| member.connected)
}

fn drains(view: &View<'_>, out: &mut Vec<Finding>) {
    // Who has run for longest knows best since when.
    let mut known: BTreeMap<u64, u64> = BTreeMap::new();
    for (node, ms) in view.of_log().flat_map(|facts| facts.registry.draining.iter().copied()) {
        let longest = known.entry(node).or_default();
        *longest = (*longest).max(ms);
    }
    // An agent that lags may not have heard of the end of it: the newest log decides.
    let newest = view.of_log().max_by_key(|facts| facts.raft.applied);
    let stands =
        |node: u64| newest.is_some_and(|facts| facts.registry.draining.iter().any(|(other, _)| *other == node));
    for (node, ms) in known.into_iter().filter(|(node, _)| stands(*node) && is_here(view, *node)) {
        let up = view.facts_of(node).map(|facts| facts.up_ms);
        let back = up.filter(|up| *up >= BACK_MS && up.saturating_add(KNOWN_WITHIN_MS) < ms);
        if back.is_none() && ms < DRAINED_MS {
            continue;
        }
        let name = view.name_of(node);
        let said = match back {
            Some(up) => format!("it was drained at least {} ago, and started again {} ago", span(ms), span(up)),
            None => format!("it has been drained for {} or longer, and runs", span(ms)),
        };
        out.push(
            Finding::new(Cause::DrainLeft, name.clone(), format!("{name} is here and still drained"))
                .evidence(said)
                .evidence("it serves no clients, leads only if nobody else can, and is counted as down when others are drained")
                .next(format!("if the work on it is done: `quorate drain --undo {name}`")),
        );
    }
}

/// Says that it has left, and the log does not.
fn left(view: &View<'_>, out: &mut Vec<Finding>) {
    for facts in view.of_log() {
        for member in facts.members.iter().filter(|m| m.state == "left" && !m.connected && m.since_ms > LEAVING_MS) {
            let votes = facts.raft.voters.contains(&member.node);
            if !votes && !facts.raft.learners.contains(&member.node) {
                continue;
            }
            let (name, seat) = (&member.name, if votes { "voter" } else { "learner" });
            let title = format!("{name} says that it has left, and is still a {seat}");
            let severity = if view.is_leaderless() { Severity::Critical } else { Severity::Error };
            out.push(
                Finding::new(Cause::LeftInGossip, name.clone(), title)
                    .severity(severity)
                    .evidence(format!(
                        "{} heard {} ago that it left, and no committed entry takes its seat away",
                        view.whose(facts),
                        span(member.since_ms)
                    ))
                    .explains(member.node)
                    .next(format!("if it is to stay: start it again with its data directory, then look with `quorate members {name}`"))
                    .next(format!("if it is to go: `quorate remove {name}` takes its seat away, where that is safe")),
            );
        }
    }
}

/// What operators said keeps the group smaller, or older, than it could be.
fn held(view: &View<'_>, out: &mut Vec<Finding>) {
    let Some(facts) = view.leads().map(|(facts, _)| facts).filter(|facts| facts.raft.outgoing.is_empty()) else {
        return;
    };
    pins(view, facts, out);
    upgrades(view, facts, out);
}

fn pins(view: &View<'_>, facts: &Facts, out: &mut Vec<Finding>) {
    let pinned = |node: &u64| facts.registry.pinned.iter().any(|(other, seat)| other == node && seat == "learner");
    let here: Vec<u64> = facts.raft.learners.iter().copied().filter(|node| is_here(view, *node)).collect();
    let held: Vec<u64> = here.iter().copied().filter(pinned).collect();
    let target = usize::try_from(facts.autopilot.voters_target).unwrap_or(usize::MAX);
    let have = facts.raft.voters.len();
    // Of those that are there the autopilot makes an odd number of voters.
    let odd = |agents: usize| {
        let most = agents.min(target);
        if most.is_multiple_of(2) { most.saturating_sub(1) } else { most }
    };
    let could = odd(have + here.len());
    if held.is_empty() || could <= odd(have + here.len() - held.len()).max(have) {
        return;
    }
    let names: Vec<String> = held.iter().map(|node| view.name_of(*node)).collect();
    let title = format!("{have} agents vote where {could} could: operators keep others from it");
    let mut finding = Finding::new(Cause::AutopilotHeld, "seats", title)
        .evidence(format!("an operator has said that {} has no vote, and it is here", list(&names)));
    for name in &names {
        finding = finding.next(format!("let the autopilot decide again: `quorate demote --undo {name}`"));
    }
    out.push(finding);
}

fn upgrades(view: &View<'_>, facts: &Facts, out: &mut Vec<Finding>) {
    if !facts.autopilot.upgrade_off {
        return;
    }
    let mut versions: BTreeMap<u64, &str> = BTreeMap::new();
    versions.extend(facts.members.iter().filter(|m| m.connected).map(|m| (m.node, m.version.as_str())));
    versions.insert(facts.node, &facts.version);
    let of = |nodes: &[u64]| -> BTreeSet<Vec<u64>> {
        nodes
            .iter()
            .filter_map(|node| Some(numbers(versions.get(node)?)))
            .filter(|version| !version.is_empty())
            .collect()
    };
    let (voters, learners) = (of(&facts.raft.voters), of(&facts.raft.learners));
    let (Some(oldest), Some(newest)) = (voters.first(), learners.last()) else { return };
    if newest <= oldest {
        return;
    }
    let newer = |node: &&u64| versions.get(node).is_some_and(|version| numbers(version) > *oldest);
    let names: Vec<String> = facts.raft.learners.iter().filter(newer).map(|node| view.name_of(*node)).collect();
    out.push(
        Finding::new(Cause::AutopilotHeld, "upgrade", "spares of a newer version stand by, and may not take seats")
            .evidence(format!("the setting `upgrade` is off, and {} runs a newer version than a voter", list(&names)))
            .next("if that is not meant: `quorate autopilot config --set upgrade=on`"),
    );
}

/// `1.12.0-rc1` as numbers, up to whatever is no number.
fn numbers(version: &str) -> Vec<u64> {
    version.split('.').map_while(|part| part.split(['-', '+']).next()?.parse().ok()).collect()
}
