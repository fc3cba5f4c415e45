//! Feature levels: a program that is too old for its log, and members that keep the level of a log down.
//!
//! It never compares versions: what counts is what a program says that it understands.

use super::case::View;
use super::words::list;
use super::{Cause, Finding};
use crate::facts::Facts;
use std::collections::{BTreeMap, BTreeSet};

pub(super) fn look(view: &View<'_>, out: &mut Vec<Finding>) {
    for facts in view.of_log().filter(|facts| is_too_old(facts)) {
        out.push(too_old(view, facts));
    }
    held_back(view, out);
}

/// Does its log ask more of it than it understands?
pub(super) fn is_too_old(facts: &Facts) -> bool {
    facts.level.supports > 0 && facts.level.log > facts.level.supports
}

fn too_old(view: &View<'_>, facts: &Facts) -> Finding {
    let (name, level) = (&facts.name, &facts.level);
    let finding =
        Finding::new(Cause::ProgramTooOld, name.clone(), format!("the program of {name} is too old for the log"))
            .evidence(format!(
                "the log is at feature level {}, and {} runs version {}, which understands up to {}",
                level.log,
                view.whose(facts),
                facts.version,
                level.supports
            ))
            .explains(facts.node);
    upgrade(facts.raft.machine.iter().cloned().fold(finding, Finding::evidence))
}

/// What is to be done with a program that is too old.
pub(super) fn upgrade(finding: Finding) -> Finding {
    finding
        .next("compare the programs: `quorate --version` there, and VERSION in `quorate members`")
        .next("put the version of the others in its place and start it again with the same data directory: it goes on where it stopped")
}

/// Everybody has to understand a level before it is raised, and some do not.
fn held_back(view: &View<'_>, out: &mut Vec<Finding>) {
    let Some(level) = view.of_log().map(|facts| facts.level.log).max().filter(|level| *level > 0) else { return };
    let mut supports: BTreeMap<u64, u32> = BTreeMap::new();
    for facts in view.of_log() {
        let connected = facts.members.iter().filter(|m| m.connected && is_ours(view, m.log_id.as_deref()));
        for (node, supported) in connected.filter_map(|m| Some((m.node, m.supports?))) {
            supports.insert(node, supported);
        }
    }
    // What an agent says of itself comes last.
    supports.extend(view.of_log().filter(|f| f.level.supports > 0).map(|facts| (facts.node, facts.level.supports)));
    let Some(newest) = supports.values().copied().max().filter(|newest| *newest > level) else { return };
    let named = |node: &u64| view.name_of(*node);
    let older: Vec<u64> = supports.iter().filter(|(_, own)| **own <= level).map(|(node, _)| *node).collect();
    let group: BTreeSet<u64> =
        view.of_log().flat_map(|f| f.raft.voters.iter().chain(&f.raft.learners)).copied().collect();
    let silent: Vec<String> = group.iter().filter(|node| !supports.contains_key(node)).map(named).collect();
    if older.is_empty() && silent.is_empty() {
        return;
    }
    let newer: Vec<String> = supports.iter().filter(|(_, own)| **own > level).map(|(node, _)| named(node)).collect();
    let title = format!("the log stays at feature level {level}, although some programs understand {newest}");
    let mut finding =
        Finding::new(Cause::LevelHeldBack, "level", title).evidence(format!("more is understood by {}", list(&newer)));
    if !older.is_empty() {
        let names: Vec<String> = older.iter().map(named).collect();
        finding = finding.evidence(format!("no more than level {level} is understood by {}", list(&names)));
        finding =
            finding.next(format!("upgrade {}: the level is raised by itself when all understand it", list(&names)));
    }
    if !silent.is_empty() {
        finding = finding.evidence(format!("not connected, so that nobody knows: {}", list(&silent)));
        let names = list(&silent);
        finding = finding.next(format!("start {names}, or, if it is lost for good: `quorate remove NAME`"));
    }
    out.push(finding.next("see what each understands: `quorate autopilot state --format json` (`supports`)"));
}

/// An agent without a log is about to belong to this one.
fn is_ours(view: &View<'_>, log: Option<&str>) -> bool {
    log.is_none() || view.log_id().is_none() || log == view.log_id()
}
