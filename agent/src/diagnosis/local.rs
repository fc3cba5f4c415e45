//! A data directory without an agent that answers: what keeps an agent from running on it.
//!
//! It never opens it.

use super::case::View;
use super::words::list;
use super::{Cause, Finding};

pub(super) fn look(view: &View<'_>, out: &mut Vec<Finding>) {
    let Some(local) = view.case.local.as_ref() else {
        if let Some(trouble) = &view.case.unreachable {
            let finding = Finding::new(Cause::AgentSilent, "agent", "the agent does not answer");
            out.push(finding.evidence(trouble.text.clone()).next("on its machine: `quorate doctor --data DIR`"));
        }
        return;
    };
    let data = &local.data;
    for trouble in &local.troubles {
        let (cause, next) = match trouble.word.as_str() {
            "permission" => (
                Cause::DirectoryRefused,
                format!("see who owns it: `ls -ld {data} {data}/*`; run this as the user of the agent"),
            ),
            "loose" => (
                Cause::DirectoryRefused,
                format!(
                    "run: `chmod 700 {data}; chmod 600 {data}/*.key*`; if the keys may have been read, wipe the directory to join as a new node"
                ),
            ),
            "foreign" => (
                Cause::DirectoryForeign,
                format!("put the files that belong together back into {data}, or wipe it to join as a new node"),
            ),
            "damaged" => (
                Cause::DamageLost,
                format!(
                    "see all of it: `quorate verify --data {data}`; keep a copy; then wipe it to join as a new node, if others have a quorum"
                ),
            ),
            "absent" => {
                (Cause::DirectoryRefused, "name the --data directory of an agent, or start an agent on it first".into())
            }
            "newer" => {
                (Cause::VersionGate, "use the program that wrote it, or a later one: `quorate --version`".into())
            }
            _ => (Cause::DirectoryRefused, format!("look at it: `ls -la {data}`")),
        };
        let finding = Finding::new(cause, data.clone(), format!("{}: {data}", cause.title()));
        out.push(finding.evidence(trouble.text.clone()).next(next).isolates());
    }
    if view.own.is_some() {
        return;
    }
    match (&local.holder, local.locked) {
        (Some((name, pid, addr)), true) => out.push(silent(view, name, *pid, addr)),
        (None, true) => {
            let finding = Finding::new(Cause::DirectoryInUse, data.clone(), format!("another process uses {data}"));
            let finding =
                finding.evidence(format!("{data}/LOCK is held, and no agent of yours says that it is its own"));
            out.push(finding.next(format!("see who holds it: `fuser -v {data}/LOCK`")).next(
                "an agent of another user, or one with another QUORATE_RUNTIME_DIR: ask it with --addr and --certs",
            ));
        }
        (_, false) if local.troubles.iter().any(|t| t.word == "absent") => {}
        (_, false) => out.push(down(view)),
    }
}

fn silent(view: &View<'_>, name: &str, pid: u32, addr: &str) -> Finding {
    let finding = Finding::new(Cause::AgentSilent, name, format!("agent {name} runs and does not answer"))
        .evidence(format!("process {pid} holds the directory, and listens on {addr}"));
    let finding = view.case.unreachable.iter().fold(finding, |finding, trouble| finding.evidence(trouble.text.clone()));
    finding
        .next(format!(
            "see whether it runs: `ps -o pid,stat,wchan:20,etime -p {pid}` (T: stopped, D: waits for its disk)"
        ))
        .next(format!("if it is stopped: `kill -CONT {pid}`; if its disk hangs: look at the disk, then restart it"))
}

fn down(view: &View<'_>) -> Finding {
    let Some(local) = view.case.local.as_ref() else {
        return Finding::new(Cause::AgentDown, "agent", "the agent does not run");
    };
    let (data, name) = (&local.data, view.name().unwrap_or_else(|| "the agent".into()));
    let mut finding = Finding::new(Cause::AgentDown, name.clone(), format!("{name} does not run"))
        .evidence(format!("nobody holds {data}/LOCK"));
    match (&local.log_id, local.node) {
        (Some(log), Some(node)) => {
            finding = finding.evidence(format!(
                "the directory is of node {node:016x}, log {log}, boot {}, term {}",
                local.boot, local.term
            ));
        }
        (None, Some(node)) => {
            finding = finding.evidence(format!("the directory is of node {node:016x}, and of no log yet"))
        }
        _ => finding = finding.evidence("no agent has ever run on it, or its files were moved"),
    }
    let answering: Vec<String> = view.others.iter().map(|facts| facts.name.clone()).collect();
    let silent: Vec<String> = view.silent.iter().map(|heard| format!("{} at {}", heard.name, heard.addr)).collect();
    if !local.known.is_empty() {
        finding = finding.evidence(format!(
            "of the members it knew, {} answer now, {} do not",
            list(&answering),
            list(&silent)
        ));
    }
    let certs = local.certificate.as_ref().map_or("DIR", |own| own.dir.as_str());
    finding.next(format!(
        "start it: `quorate agent --data {data} --certs {certs}`; its last lines of log say why it ended"
    ))
}
