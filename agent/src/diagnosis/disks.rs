//! Disks: full, read-only, slow, damaged, forgetful. Of every agent that said something, and of a directory without one.
//!
//! It never reads a disk.

use super::case::View;
use super::words::{bytes, millis, span};
use super::{Cause, Finding, Severity};
use crate::api::{DamagedEntries, DiskSpace};
use crate::facts::Facts;

/// Damaged ranges that are told one by one.
const RANGES_TOLD_MAX: usize = 4;
/// Syncs below which their slowest one is no rule.
const SYNCS_MIN: u64 = 20;

pub(super) fn look(view: &View<'_>, out: &mut Vec<Finding>) {
    for facts in view.of_log() {
        let whose = view.whose(facts);
        room(&facts.name, &whose, &facts.disk.space, &facts.data, out);
        slow(facts, &whose, out);
        damage(&facts.name, &whose, &facts.disk.health.damaged, facts.disk.health.damaged_ranges, false, out);
        forgot(facts, &whose, out);
    }
    for leader in view.of_log().filter(|facts| facts.raft.leader == Some(facts.node)) {
        for member in leader.members.iter().filter(|member| member.full) {
            let finding = Finding::new(
                Cause::DiskFull,
                member.name.clone(),
                format!("the disk of {} is nearly full", member.name),
            );
            out.push(free(
                finding.evidence(format!("{} tells its leader {} that it takes no entries", member.name, leader.name)),
                "its data directory",
            ));
        }
    }
    if let Some(local) = &view.case.local {
        let name = view.name().unwrap_or_else(|| local.data.clone());
        room(&name, "the directory", &local.space, &local.data, out);
        if local.read_only {
            out.push(
                Finding::new(
                    Cause::DiskReadOnly,
                    local.data.clone(),
                    format!("the file system of {} is read-only", local.data),
                )
                .evidence("the system has mounted it read-only; after an error of the disk it often does so by itself")
                .next("look at what the kernel says: `dmesg | tail -50`")
                .next(format!("check the disk, then mount it again: `mount -o remount,rw {}`", local.data)),
            );
        }
        damage(&name, "the directory", &local.damaged, local.damaged.len() as u64, local.known.is_empty(), out);
        measured(view, &name, out);
    }
}

fn room(name: &str, whose: &str, space: &DiskSpace, data: &str, out: &mut Vec<Finding>) {
    let free_bytes = space.free.unwrap_or(u64::MAX);
    if !(space.full || free_bytes < space.reserve) {
        return;
    }
    let of = space.total.map_or_else(String::new, |total| format!(" of {}", bytes(total)));
    let finding = Finding::new(Cause::DiskFull, name, format!("the disk of {name} is nearly full")).evidence(format!(
        "{whose} has {}{of} free, and keeps {} free: it takes no entries, and votes",
        space.free.map_or_else(|| "an unknown amount".into(), bytes),
        bytes(space.reserve)
    ));
    out.push(free(finding, data));
}

fn free(finding: Finding, data: &str) -> Finding {
    finding
        .next(format!("see what takes the room: `df -h {data}; du -xsh {data}`"))
        .next("free some, or enlarge the file system: everything resumes by itself; never delete files in DATA/log")
}

fn slow(facts: &Facts, whose: &str, out: &mut Vec<Finding>) {
    let election_us = facts.raft.election_timeout_min_ms.saturating_mul(1_000);
    let (hangs, fsync) = (facts.disk.hangs_ms, &facts.disk.fsync);
    let is_slow = fsync.count >= SYNCS_MIN && election_us > 0 && fsync.p90_us > election_us;
    let mut finding =
        Finding::new(Cause::DiskSlow, facts.name.clone(), format!("the disk of {} is too slow", facts.name));
    if let Some(ms) = hangs {
        finding.title = format!("the disk of {} hangs", facts.name);
        finding = finding.evidence(format!("{whose} has been waiting for {} for a write to be confirmed", span(ms)));
    }
    if is_slow {
        let (p50, p90, max) = (millis(fsync.p50_us), millis(fsync.p90_us), millis(fsync.max_us));
        finding = finding.evidence(format!(
            "fsync at {whose}: p50 {p50}, p90 {p90}, max {max}, and an election begins after {}",
            span(facts.raft.election_timeout_min_ms)
        ));
    }
    if hangs.is_none() && !is_slow {
        return;
    }
    // Somebody leads all the same.
    let severity = if facts.raft.leader.is_some() { Severity::Error } else { Severity::Critical };
    out.push(
        finding
            .severity(severity)
            .next("look who else uses that disk, and what the kernel says: `iostat -x 1`, `dmesg | tail`")
            .next(format!("measure it with the agent stopped: `quorate doctor --data {} --measure`", facts.data))
            .next("move the data directory to a faster disk, or raise `election_timeout_min` and `_max` on all agents"),
    );
}

fn measured(view: &View<'_>, name: &str, out: &mut Vec<Finding>) {
    /// The shortest election timeout by default, in microseconds.
    const ELECTION_US: u64 = 250_000;
    let Some((p50, max)) = view.case.local.as_ref().and_then(|local| local.fsync_us) else { return };
    if p50 > ELECTION_US {
        let finding = Finding::new(Cause::DiskSlow, name, format!("the disk of {name} is too slow"));
        let said =
            format!("4 KiB appended and synced in a file of our own: median {}, longest {}", millis(p50), millis(max));
        out.push(
            finding
                .evidence(said)
                .next("move the data directory to a faster disk, or raise `election_timeout_min` and `_max`"),
        );
    }
}

fn damage(name: &str, whose: &str, ranges: &[DamagedEntries], all: u64, is_alone: bool, out: &mut Vec<Finding>) {
    for lost in [true, false] {
        let mut some = ranges.iter().filter(|range| (range.lost || is_alone) == lost).peekable();
        if some.peek().is_none() {
            continue;
        }
        let cause = if lost { Cause::DamageLost } else { Cause::DamageRepairing };
        let mut finding = Finding::new(cause, name, format!("the log of {name} is damaged"));
        for range in some.take(RANGES_TOLD_MAX) {
            let DamagedEntries { file, at, what, first, last, .. } = range;
            finding = finding.evidence(format!("{whose}: {file} at byte {at}: {what} (entries {first} to {last})"));
        }
        if all > ranges.len() as u64 {
            finding = finding.evidence(format!("{all} ranges in all"));
        }
        let look = "with the agent stopped, see all of it: `quorate verify --data DIR`";
        out.push(if lost {
            finding
                .evidence("no member can give these entries back")
                .next(
                    "restore the data directory of one member from a backup, and start it: it gives them to the others",
                )
                .next("or give them up: `quorate recover --data DIR` says what would be lost, and asks")
        } else {
            finding
                .evidence("other members have them, and the agent asks for them by itself")
                .next("wait; `quorate status` shows what is repaired")
                .next(look)
        });
    }
}

fn forgot(facts: &Facts, whose: &str, out: &mut Vec<Finding>) {
    let Some(until) = facts.raft.missing else { return };
    out.push(
        Finding::new(
            Cause::DiskForgot,
            facts.name.clone(),
            format!("the disk of {} has lost what it had acknowledged", facts.name),
        )
        .evidence(format!("{whose} had acknowledged up to entry {until}, and its disk ends at {}", facts.raft.last))
        .evidence("it does not lead before it holds that again, and votes only for who does")
        .next("start the other members: one of them holds these entries, and gives them back by itself")
        .next("check the disk: a controller that loses its cache, or a backup that was put back"),
    );
}
