//! Who is who: copies of directories, removed nodes, names that two disks want.
//!
//! It never says which of two copies is the better one.

use super::case::View;
use super::words::{list, span};
use super::{Cause, Finding, Severity};
use crate::facts::{Facts, StrangerFacts};
use std::collections::{BTreeMap, BTreeSet};

pub(super) fn look(view: &View<'_>, out: &mut Vec<Finding>) {
    if let Some(own) = view.own {
        refused(view, own, out);
        if own.raft.departed {
            let finding =
                Finding::new(Cause::NodeRemoved, own.name.clone(), "this node was removed from the cluster").isolates();
            out.push(removed(
                finding.evidence("its log, or a member of the cluster, says that it left or was dropped"),
                &own.data,
            ));
        }
    }
    told_by_others(view, out);
    strangers(view, out);
    left(view, out);
}

/// What the others say to an agent that they do not let in.
fn refused(view: &View<'_>, own: &Facts, out: &mut Vec<Finding>) {
    let dials = own.dials.iter().map(|dial| (&dial.seed, &dial.trouble));
    let members = own.members.iter().filter_map(|m| Some((&m.addr, m.trouble.as_ref()?)));
    // By what is said: all mostly say the same.
    let mut said: BTreeMap<(Cause, &str, &str), BTreeSet<String>> = BTreeMap::new();
    for (whom, trouble) in dials.chain(members).filter(|(_, trouble)| trouble.word == "closed") {
        let Some(cause) = Cause::of_refusal(&trouble.detail) else { continue };
        let why = trouble.text.strip_prefix(&format!("{whom} refused: ")).unwrap_or(&trouble.text);
        said.entry((cause, &trouble.detail, why)).or_default().insert(whom.clone());
    }
    for ((cause, detail, why), whom) in said {
        let refuse = if whom.len() == 1 { "refuses" } else { "refuse" };
        let whom: Vec<String> = whom.into_iter().collect();
        let finding = Finding::new(cause, own.name.clone(), title(cause, detail, "this agent"))
            .evidence(format!("{} {refuse} it: {why}", list(&whom)))
            .isolates();
        out.push(remedies(finding, cause, detail, &own.data));
    }
    for problem in &own.problems {
        let cause = problem.code.as_deref().and_then(Cause::of);
        if let Some(cause) = cause.filter(|_| view.leader().is_none() && problem.text.starts_with("not admitted"))
            && cause.shuts_out()
        {
            let finding = Finding::new(cause, own.name.clone(), title(cause, "", "this agent"));
            out.push(remedies(finding.evidence(problem.text.clone()).isolates(), cause, "", &own.data));
        }
    }
}

/// What others have in their logs about the node in question.
fn told_by_others(view: &View<'_>, out: &mut Vec<Finding>) {
    let Some(me) = view.node() else { return };
    let name = view.name().unwrap_or_else(|| format!("{me:016x}"));
    let data = view.case.local.as_ref().map(|local| local.data.clone());
    let data = data.or_else(|| view.own.map(|own| own.data.clone())).unwrap_or_default();
    for facts in &view.others {
        let who = &facts.name;
        if facts.registry.forgotten.contains(&me) {
            let finding =
                Finding::new(Cause::NodeRemoved, name.clone(), "this node was removed from the cluster").isolates();
            out.push(removed(
                finding.evidence(format!("{who} has it in its log that node {me:016x} was dropped")),
                &data,
            ));
        }
        if let Some((_, holder)) = facts.registry.superseded.iter().find(|(node, _)| *node == me) {
            let finding =
                Finding::new(Cause::NodeRemoved, name.clone(), "this node was removed from the cluster").isolates();
            let said = format!("{who} has it in its log that node {holder:016x} took over its name");
            out.push(removed(finding.evidence(said), &data));
        }
        let boot = view.own.map(|own| own.boot).or_else(|| view.case.local.as_ref().map(|local| local.boot));
        let known = facts.members.iter().find(|member| member.node == me).map_or(0, |member| member.boot);
        if let Some(boot) = boot.filter(|boot| *boot > 0 && known > *boot) {
            let finding = Finding::new(
                Cause::DirectoryCopied,
                name.clone(),
                title(Cause::DirectoryCopied, "stale", "this agent"),
            )
            .evidence(format!("{who} has seen boot {known} of this directory, which is in its boot {boot}"))
            .isolates();
            out.push(remedies(finding, Cause::DirectoryCopied, "stale", &data));
        }
        let holder = facts.registry.holders.iter().find(|(held, node, _)| *held == name && *node != me);
        let is_new = view.log_id().is_none();
        if let Some((_, node, _)) = holder.filter(|_| is_new) {
            let finding = Finding::new(Cause::NameHeld, name.clone(), title(Cause::NameHeld, "", "this agent"))
                .evidence(format!("{who} has it in its log that node {node:016x} holds the name {name}"))
                .isolates();
            out.push(remedies(finding, Cause::NameHeld, "", &data));
        }
    }
}

/// Whom the healthy ones turned away.
fn strangers(view: &View<'_>, out: &mut Vec<Finding>) {
    // By whom it is about, and by what was said to it: by all, mostly.
    let mut said: BTreeMap<(Cause, &str, &str), (&StrangerFacts, Vec<String>)> = BTreeMap::new();
    for facts in view.all() {
        for stranger in &facts.strangers {
            let Some(cause) = Cause::of_refusal(&stranger.detail) else { continue };
            let is_own = view.node() == Some(stranger.node) && view.name().as_ref() == Some(&stranger.name);
            // It has heard that itself.
            if is_own && (view.own.is_none() || out.iter().any(|f| f.cause == cause && f.about == stranger.name)) {
                continue;
            }
            let (newest, whose) =
                said.entry((cause, &stranger.name, &stranger.why)).or_insert_with(|| (stranger, Vec::new()));
            whose.push(view.whose(facts));
            if stranger.ago_ms < newest.ago_ms {
                *newest = stranger;
            }
        }
    }
    for ((cause, about, why), (stranger, whose)) in said {
        let StrangerFacts { addr, node, ago_ms, detail, .. } = stranger;
        let finding = Finding::new(cause, about, title(cause, detail, &format!("an agent {about}")))
            .severity(Severity::Error)
            .evidence(format!(
                "{} turned away {about} at {addr} (node {node:016x}), last {} ago: {why}",
                list(&whose),
                span(*ago_ms)
            ));
        out.push(remedies(finding, cause, detail, "DIR"));
    }
}

/// A directory whose node has left.
fn left(view: &View<'_>, out: &mut Vec<Finding>) {
    let Some(local) = view.case.local.as_ref().filter(|local| !local.left.is_empty() && local.node.is_none()) else {
        return;
    };
    let last = local.left.last().cloned().unwrap_or_default();
    out.push(
        Finding::new(Cause::NodeLeft, local.data.clone(), "this node has left the cluster")
            .evidence(format!("its data is kept in {}/{last}, and nothing else is there", local.data))
            .next("start the agent with --join to come back as a new node: `quorate agent --data DIR --certs DIR --join HOST:PORT`"),
    );
}

fn title(cause: Cause, detail: &str, whom: &str) -> String {
    match (cause, detail) {
        (Cause::DirectoryCopied, "stale") => format!("{whom} runs on a copy or an old backup of a data directory"),
        (Cause::DirectoryCopied, _) => format!("the data directory of {whom} exists twice"),
        (Cause::NodeRemoved, _) => format!("{whom} was removed from the cluster"),
        (Cause::NameHeld, "name_kept") => format!("the name of {whom} is kept for a silent node"),
        (Cause::NameHeld, _) => format!("the name of {whom} is held by another node"),
        (Cause::ProgramTooOld, _) => format!("the program of {whom} is too old for the log"),
        (cause, _) => format!("{}: {whom}", cause.title()),
    }
}

fn removed(finding: Finding, data: &str) -> Finding {
    remedies(finding, Cause::NodeRemoved, "", data)
}

fn remedies(finding: Finding, cause: Cause, detail: &str, data: &str) -> Finding {
    let data = if data.is_empty() { "DIR" } else { data };
    let aside = format!("to join as a new node: stop it, `mv {data} {data}.old`, and start it again with --join");
    match (cause, detail) {
        (Cause::DirectoryCopied, _) => {
            finding.next("find the other agent with this node key and stop one of the two: `quorate members` shows its address").next(aside)
        }
        (Cause::NameHeld, "name_kept") => finding
            .next("wait: the name is free when its holder has been silent for 30 s")
            .next("or drop the silent one at once: `quorate forget NAME`"),
        (Cause::NameHeld, _) => finding
            .next("stop one of the two agents: `quorate members` shows who holds the name, and where")
            .next("or give this one a name of its own: `quorate certs issue agent OTHER-NAME --out OUT`, then start it with --certs OUT/OTHER-NAME"),
        (Cause::ProgramTooOld, _) => super::levels::upgrade(finding),
        _ => finding.next(aside),
    }
}
