//! Who is who: copies of directories, removed nodes, names that two disks want.
//!
//! It never says which of two copies is the better one.

use super::case::View;
use super::words::span;
use super::{Cause, Finding, Severity};
use crate::facts::Facts;

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
    for (whom, trouble) in dials.chain(members) {
        let Some(cause) = Cause::of_refusal(&trouble.detail).filter(|_| trouble.word == "closed") else { continue };
        let finding = Finding::new(cause, own.name.clone(), title(cause, &trouble.detail, "this agent"))
            .evidence(format!("{whom} refuses it: {}", trouble.text))
            .isolates();
        out.push(remedies(finding, cause, &trouble.detail, &own.data));
    }
    for problem in &own.problems {
        let cause = problem.code.as_deref().and_then(Cause::of);
        if let Some(cause) = cause.filter(|_| view.leader().is_none() && problem.text.starts_with("not admitted"))
            && matches!(cause, Cause::DirectoryCopied | Cause::NodeRemoved | Cause::NameHeld | Cause::ProgramTooOld)
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
    for facts in view.all() {
        for stranger in &facts.strangers {
            let Some(cause) = Cause::of_refusal(&stranger.detail) else { continue };
            if view.node() == Some(stranger.node) && view.name().as_ref() == Some(&stranger.name) && view.own.is_none()
            {
                continue;
            }
            let about = stranger.name.clone();
            let finding =
                Finding::new(cause, about.clone(), title(cause, &stranger.detail, &format!("an agent {about}")))
                    .severity(Severity::Error)
                    .evidence(format!(
                        "{} turned away {about} at {} (node {:016x}), last {} ago: {}",
                        view.whose(facts),
                        stranger.addr,
                        stranger.node,
                        span(stranger.ago_ms),
                        stranger.why
                    ));
            out.push(remedies(finding, cause, &stranger.detail, "DIR"));
        }
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
