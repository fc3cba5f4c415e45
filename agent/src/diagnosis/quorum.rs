//! The quorum: who votes, who of them can be reached, since when not, and what that means.
//!
//! It never advises `quorate recover` but as the last resort, and says what that may lose.

use super::case::View;
use super::links::proof_of_life;
use super::words::{list, span};
use super::{Cause, Finding, Severity};
use crate::facts::{Facts, MemberFacts};
use std::collections::BTreeSet;

/// An election takes less, in milliseconds; a longer absence of a leader has a cause.
const ELECTION_MS: u64 = 3_000;
/// A leader commits its first entry sooner, in election timeouts.
const FIRST_ENTRY_TIMEOUTS: u64 = 4;

/// One voter, as the agent that was asked sees it.
struct Voter<'a> {
    node: u64,
    name: String,
    /// Connected, or the agent itself.
    reached: bool,
    member: Option<&'a MemberFacts>,
}

fn voters<'a>(view: &View<'_>, own: &'a Facts, of: &[u64]) -> Vec<Voter<'a>> {
    let voter = |node: &u64| {
        let member = own.members.iter().find(|m| m.node == *node);
        let reached = *node == own.node || member.is_some_and(|m| m.connected);
        Voter { node: *node, name: view.name_of(*node), reached, member }
    };
    of.iter().map(voter).collect()
}

/// The agent through whose eyes the group is seen: the one that was asked, else whoever of the group answered a probe.
fn eyes<'a>(view: &View<'a>) -> Option<&'a Facts> {
    view.own.or_else(|| view.of_log().find(|facts| facts.raft.member))
}

pub(super) fn look(view: &View<'_>, out: &mut Vec<Finding>) {
    let Some(own) = eyes(view).filter(|own| !own.raft.voters.is_empty()) else { return };
    first_entry(view, out);
    let all = voters(view, own, &own.raft.voters);
    let explained: BTreeSet<u64> = out.iter().flat_map(|found| found.explains.iter().copied()).collect();
    let missing: Vec<&Voter<'_>> = all.iter().filter(|voter| !voter.reached).collect();
    let mut dead: Vec<&Voter<'_>> = missing.iter().copied().filter(|voter| !explained.contains(&voter.node)).collect();
    dead.sort_by(|a, b| a.name.cmp(&b.name));
    if !view.is_leaderless() {
        return out.extend(missing_voters(view, own, &dead));
    }
    let outgoing = voters(view, own, &own.raft.outgoing);
    let has_quorum = |set: &[Voter<'_>]| set.is_empty() || set.iter().filter(|v| v.reached).count() > set.len() / 2;
    if !has_quorum(&all) || !has_quorum(&outgoing) {
        if !dead.is_empty() {
            out.push(quorum_down(view, own, &all, &dead));
        }
    } else if own.raft.leaderless_ms.unwrap_or(u64::MAX) > ELECTION_MS && !is_explained(out) {
        out.push(no_leader(view, own, &all));
    }
}

/// Has a cause been found that keeps a connected quorum from electing?
fn is_explained(out: &[Finding]) -> bool {
    let keeps = |found: &Finding| {
        matches!(
            found.cause,
            Cause::RaftHalted
                | Cause::DamageLost
                | Cause::DamageRepairing
                | Cause::DiskForgot
                | Cause::DiskSlow
                | Cause::DiskFull
                | Cause::HistoriesDiffer
                | Cause::TermChurn
                | Cause::NodeRemoved
                | Cause::FirstEntryUncommitted
        ) || found.isolates
    };
    out.iter().any(keeps)
}

/// What is known of a voter that cannot be reached, in one line.
fn line(view: &View<'_>, own: &Facts, voter: &Voter<'_>) -> String {
    let Some(member) = voter.member else { return format!("{}: never seen", voter.name) };
    let state = match member.state.as_str() {
        "unseen" => "gossip has never heard of it".to_owned(),
        state => format!("gossip says {state} for {}", span(member.since_ms)),
    };
    let last = match member.last_up_ms {
        Some(ms) => format!("last connected {} ago", span(ms)),
        None => "not connected since this agent started".into(),
    };
    let at = if member.addr.is_empty() { String::new() } else { format!(" at {}", member.addr) };
    let why = member.trouble.as_ref().map_or_else(String::new, |trouble| format!("; {}", trouble.text));
    let alive = proof_of_life(view, own, member).map_or_else(String::new, |proof| format!("; {proof}"));
    format!("{}{at}: {state}, {last}{why}{alive}", voter.name)
}

fn quorum_down(view: &View<'_>, own: &Facts, all: &[Voter<'_>], dead: &[&Voter<'_>]) -> Finding {
    let (needed, reached) = (all.len() / 2 + 1, all.iter().filter(|voter| voter.reached).count());
    let names: Vec<String> = dead.iter().map(|voter| voter.name.clone()).collect();
    let one_of = if names.len() == 1 {
        names.concat()
    } else {
        format!("any {} of {}", needed.saturating_sub(reached).max(1), list(&names))
    };
    let mut finding = Finding::new(
        Cause::QuorumDown,
        "voters",
        format!("{needed} of {} voters are needed, and {} reaches {reached}", all.len(), own.name),
    );
    for voter in dead {
        finding = finding.evidence(line(view, own, voter));
    }
    let held = view.of_log().map(|facts| facts.raft.last).max().unwrap_or(own.raft.last);
    finding
        .next(format!("start {one_of}, with its data directory: `quorate agent --data DIR --certs DIR`; the rest follows by itself"))
        .next(format!(
            "only if they are lost for good: stop {}, then `quorate recover --data {}`; it keeps what that disk holds (entries up to {} here, {} known to be committed; \
             {held} is the last one that anybody who answers holds), and whatever only the lost disks held is gone",
            own.name,
            if own.data.is_empty() { "DIR" } else { &own.data },
            own.raft.last,
            own.raft.committed,
        ))
}

/// A quorum is connected, long enough, and nothing that was found keeps it from electing.
fn no_leader(view: &View<'_>, own: &Facts, all: &[Voter<'_>]) -> Finding {
    let mut finding = Finding::new(Cause::NoLeader, "voters", "there is no leader, although a quorum is connected");
    for voter in all {
        let said = view.facts_of(voter.node).map_or_else(
            || "it did not answer the question".into(),
            |facts| {
                format!(
                    "{} in term {}, log up to {}, boot {}",
                    facts.raft.role, facts.raft.term, facts.raft.last, facts.boot
                )
            },
        );
        finding = finding.evidence(format!("{}: {said}", voter.name));
    }
    if let Some(ms) = own.raft.leaderless_ms {
        finding = finding.evidence(format!("no leader for {}", span(ms)));
    }
    finding
        .next("ask again in some seconds: an election may be under way")
        .next("read the last lines of the log of each voter, and keep them for a report")
}

/// There is a leader: a voter that is down costs tolerance.
fn missing_voters(view: &View<'_>, own: &Facts, dead: &[&Voter<'_>]) -> Vec<Finding> {
    let leader = view.leads().map(|(_, leader)| leader);
    let reached_by_leader = |node: u64| {
        let of_leader = view.said_of(node).find(|(facts, _)| Some(facts.node) == leader);
        of_leader.is_some_and(|(_, member)| member.connected)
    };
    let down = dead.iter().filter(|voter| !reached_by_leader(voter.node));
    let finding = |voter: &&Voter<'_>| {
        Finding::new(Cause::VoterDown, voter.name.clone(), format!("voter {} is down", voter.name))
            .severity(Severity::Warning)
            .evidence(line(view, own, voter))
            .explains(voter.node)
            .next(format!("start {} again with its data directory: `quorate agent --data DIR --certs DIR`", voter.name))
            .next(format!("if it is lost for good: `quorate forget {}`", voter.name))
    };
    down.map(finding).collect()
}

/// Elected, and not acknowledged by a quorum since.
fn first_entry(view: &View<'_>, out: &mut Vec<Finding>) {
    for facts in view.of_log().filter(|facts| facts.raft.leader == Some(facts.node) && !facts.raft.own_term_committed) {
        let patience = facts.raft.election_timeout_max_ms.saturating_mul(FIRST_ENTRY_TIMEOUTS);
        let Some(since) = facts.raft.leads_ms.filter(|ms| *ms > patience) else { continue };
        let slow = facts.disk.hangs_ms.map(|ms| format!("its own disk has confirmed nothing for {}", span(ms)));
        let full: Vec<String> = facts.members.iter().filter(|m| m.full).map(|m| m.name.clone()).collect();
        let finding = Finding::new(
            Cause::FirstEntryUncommitted,
            facts.name.clone(),
            format!("{} leads and cannot commit its first entry", facts.name),
        )
        .evidence(format!(
            "it has led term {} for {}, committed {} of {}, and its own disk holds {}",
            facts.raft.term,
            span(since),
            facts.raft.committed,
            facts.raft.last,
            facts.raft.durable
        ));
        let finding = slow.into_iter().fold(finding, Finding::evidence);
        let finding = if full.is_empty() { finding } else { finding.evidence(format!("nearly full: {}", list(&full))) };
        out.push(
            finding
                .next("look at the disks of the voters: `quorate status --agent NAME` tells fsync and room of each")
                .next(format!("hand leadership over: `quorate transfer`, or stop {}", facts.name)),
        );
    }
}

/// What comes before the findings, and whether it is known that there is no leader.
pub(super) fn headline(view: &View<'_>) -> (bool, Vec<String>) {
    let Some(own) = eyes(view) else { return (false, Vec::new()) };
    let mut lines = Vec::new();
    let of = own.raft.voters.len();
    let needed = of / 2 + 1;
    let reached = voters(view, own, &own.raft.voters).iter().filter(|voter| voter.reached).count();
    match view.leads() {
        Some((facts, leader)) => {
            let own_leader = own.raft.leader.is_some() || std::ptr::eq(facts, own);
            let itself = format!(", says {}; {} itself follows nobody", facts.name, own.name);
            let itself = if own_leader { String::new() } else { itself };
            lines.push(format!("leader {} (term {}){itself}", view.name_of(leader), facts.raft.term));
        }
        None => {
            let since = own.raft.leaderless_ms.map_or_else(String::new, |ms| format!(" for {}", span(ms)));
            let last = own.raft.last_leader.as_ref().map_or_else(String::new, |name| format!("last: {name}, "));
            lines.push(format!("NO LEADER{since} ({last}term {})", own.raft.term));
        }
    }
    if of > 0 {
        lines.push(format!("quorum    needs {needed} of {of} voters, {} reaches {reached}", own.name));
    } else {
        lines.push(format!("quorum    {} knows of no voters", own.name));
    }
    (view.is_leaderless(), lines)
}
