//! Words: inputs, outputs and pictures of a core as lines that a person reads.
//!
//! They leave out what no conversation is about: times, sizes, and fences that are as they should be.

use std::collections::BTreeSet;

use quorate_raft::*;
use serde_json::Value;

use super::stage::{Actor, life_of};

/// Node and life: `2` in its first one, `2''` in its third.
pub(super) fn name(node: u64, boot: BootId) -> String {
    format!("{node}{}", "'".repeat(life_of(boot).saturating_sub(1) as usize))
}

pub(super) fn at(position: Position) -> String {
    format!("{}@{}", position.index, position.term)
}

fn at_json(value: &Value) -> String {
    format!("{}@{}", value["index"], value["term"])
}

fn yes(value: &Value) -> &'static str {
    if value == &Value::Bool(true) { "yes" } else { "no" }
}

/// Runs of equal term: `1@1 2..5@2`.
fn spans(runs: &[(u64, u64)], last: u64) -> String {
    let ends = runs.iter().skip(1).map(|run| run.0 - 1).chain([last]);
    let one = |((first, term), end): (&(u64, u64), u64)| match end == *first {
        true => format!("{first}@{term}"),
        false => format!("{first}..{end}@{term}"),
    };
    let all: Vec<_> = runs.iter().zip(ends).map(one).collect();
    if all.is_empty() { "nothing".into() } else { all.join(" ") }
}

/// What a message says. Its body is not public, so it is read as a peer reads it.
pub(super) fn message(message: &Message) -> String {
    let json = serde_json::to_value(message).expect("a message");
    let said = match json["body"].as_object().and_then(|body| body.iter().next()) {
        None => "your term is old".into(),
        Some((kind, b)) => body(kind, b),
    };
    format!("{said}  [term {}]", message.term())
}

fn body(kind: &str, b: &Value) -> String {
    let round = |b: &Value| if b["round"] == 0 { String::new() } else { format!(", round {}", b["round"]) };
    match kind {
        "p" => format!("pre-vote {}? log ends at {}", b["round"], at_json(&b["last"])),
        "P" => format!("pre-vote {} {}", b["round"], yes(&b["granted"])),
        "v" => {
            let why = if b["transfer"] == true { " (the leader asked me to)" } else { "" };
            format!("vote? log ends at {}{why}", at_json(&b["last"]))
        }
        "V" => format!("vote {}", yes(&b["granted"])),
        "a" => {
            let (prev, last) = (b["prev"]["index"].as_u64().unwrap_or(0), b["last"]["index"].as_u64().unwrap_or(0));
            let quiet = if b["quiet"] == true { ", no answer wanted" } else { "" };
            let what = match last.saturating_sub(prev) {
                0 => format!("heartbeat at {}", at_json(&b["prev"])),
                1 => format!("append {} after {}", at_json(&b["last"]), at_json(&b["prev"])),
                _ => format!("append {}..{} after {}", prev + 1, at_json(&b["last"]), at_json(&b["prev"])),
            };
            format!("{what}, commit {}{}{quiet}", b["commit"], round(b))
        }
        "A" if b["matched"] == b["verified"] => format!("ack {}{}", b["matched"], round(b)),
        "A" => format!("ack {}, more up to {} not yet durable{}", b["matched"], b["verified"], round(b)),
        "C" => {
            let number = |v: &Value| v.as_u64().unwrap_or(0);
            let list = b["runs"].as_array().cloned().unwrap_or_default();
            let runs: Vec<_> = list.iter().map(|run| (number(&run["first"]), number(&run["term"]))).collect();
            format!("conflict at {}: I have {}{}", b["prev"], spans(&runs, number(&b["last"])), round(b))
        }
        "r" => format!("read index? id {}", b["id"]),
        "R" if b["index"].is_null() => format!("read index {}: cannot say", b["id"]),
        "R" => format!("read index {}: {}", b["id"], b["index"]),
        "t" => format!("stand now, if you have {}", at_json(&b["last"])),
        "m" => format!("you lost what you acknowledged up to {}", at_json(&b["promised"])),
        other => panic!("a kind of message that has no words yet: {other}"),
    }
}

pub(super) fn write(write: &Persist) -> String {
    let mut parts = Vec::new();
    if let Some(HardState { term, vote }) = write.hard_state {
        parts
            .push(vote.map_or(format!("term {term}, no vote"), |vote| format!("term {term}, vote for {}", vote.get())));
    }
    if let Some(from) = write.truncate_from {
        parts.push(format!("drop {from} and after"));
    }
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for entry in &write.append {
        if runs.last().is_none_or(|run| run.1 != entry.position.term.0) {
            runs.push((entry.position.index.0, entry.position.term.0));
        }
    }
    if let Some(last) = write.append.last() {
        parts.push(format!("append {}", spans(&runs, last.position.index.0)));
    }
    match write.suspect {
        Some(Suspect::At(bar)) => parts.push(format!("a bar at {}", at(bar))),
        Some(Suspect::Cleared) => parts.push("no bar any more".into()),
        None => {}
    }
    format!("writes #{}: {}", write.ticket, parts.join("; "))
}

fn list(nodes: &BTreeSet<NodeId>) -> String {
    nodes.iter().map(|node| node.get().to_string()).collect::<Vec<_>>().join(" ")
}

pub(super) fn configuration(c: &Configuration) -> String {
    let mut said = format!("voters {}", list(&c.voters));
    if c.is_joint() {
        said += &format!(", jointly with {}", list(&c.outgoing));
    }
    if !c.learners.is_empty() {
        said += &format!(", learners {}", list(&c.learners));
    }
    said
}

pub(super) fn role(raft: &Raft) -> String {
    let of = raft.leader().map_or("nobody".into(), |leader| leader.get().to_string());
    match raft.role() {
        Role::Follower => format!("follows {of} in term {}", raft.term()),
        Role::PreCandidate => format!("asks whether it could win, in term {}", raft.term()),
        Role::Candidate => format!("stands for term {}", raft.term()),
        Role::Leader => format!("leads term {}", raft.term()),
    }
}

pub(super) fn outcome(outcome: Outcome) -> String {
    match outcome {
        Outcome::Committed { position: Position::ZERO } => "is done".into(),
        Outcome::Committed { position } => format!("is committed at {}", at(position)),
        Outcome::Rejected(why) => format!("is refused: {why:?}"),
        Outcome::Lost => "is lost".into(),
    }
}

/// One line of a node, and one for each peer of a leader.
pub(super) fn picture(node: u64, actor: &Actor) -> Vec<String> {
    let terms: Vec<_> = actor.log.iter().map(|entry| entry.term.0.to_string()).collect();
    let Some(raft) = &actor.raft else {
        return vec![format!("{node} is down; terms on its disk: {}", terms.join(" "))];
    };
    let s = raft.status();
    let lacks = s.missing.map_or(String::new(), |index| format!(", knows that it lost entries up to {index}"));
    let mut lines = vec![format!(
        "{} {}; terms of its log: {}; durable {}, committed {}{lacks}",
        name(node, actor.boot),
        role(raft),
        terms.join(" "),
        s.durable,
        s.committed
    )];
    for (peer, p) in s.peers {
        let how = if p.replicating { "streams" } else { "probes" };
        let lost = if p.has_lost { ", which has lost entries" } else { "" };
        lines.push(format!("  {how} to {}, matched {}{lost}", peer.get(), p.matched));
    }
    lines
}
