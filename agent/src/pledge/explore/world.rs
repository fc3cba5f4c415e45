//! World: the agents as somebody sees them who sees all at once, what each of them sees, and what must never be so.
//!
//! It never takes a step: see `plain` and `lean`.

use super::super::content::Founder;
use super::super::keys::{Keys, SymbolicKeys};
use super::super::member::Member;
use super::super::proposal::ProposalId;
use super::super::record::Record;
use super::super::report::Report;
use super::super::scene::{Heard, Scene, Sight};
use super::bounds::{Bounds, Looking};
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use xxhash_rust::xxh3::Xxh3;

const CLUSTER: [u8; 16] = *b"explored cluster";
const RECORD_BYTES_MAX: u64 = 1 << 20;
/// The node id of the first machine.
const FIRST_NODE: u64 = 100;

/// The founders of each log that was ever founded.
pub(super) type Logs = BTreeMap<ProposalId, BTreeSet<u64>>;

/// One machine.
#[derive(Clone, Debug)]
pub(super) struct Machine {
    pub(super) member: Member,
    pub(super) up: bool,
    /// Of all that there is to it.
    pub(super) print: u64,
}

impl Machine {
    pub(super) fn new(member: Member, up: bool) -> Self {
        let print = print_of(&(member.me().node, member.record(), member.log(), up));
        Self { member, up, print }
    }

    pub(super) fn node(&self) -> u64 {
        self.member.me().node
    }
}

pub(super) fn print_of(what: &impl Hash) -> u64 {
    let mut hasher = Xxh3::new();
    what.hash(&mut hasher);
    hasher.finish()
}

pub(super) fn member_of(name: String, node: u64, expect: usize, record: Record, log: Option<[u8; 16]>) -> Member {
    let keys = SymbolicKeys(node);
    let me = Founder { node, key: keys.public(), name };
    let mut member = Member::restore(Arc::new(keys), me, CLUSTER, (expect, RECORD_BYTES_MAX), record, log);
    save(&mut member);
    member
}

pub(super) fn save(member: &mut Member) {
    if let Some((change, _)) = member.poll_save() {
        member.saved(change);
    }
}

/// As it comes back from its disk.
pub(super) fn reread(member: &Member) -> Member {
    let me = member.me();
    member_of(me.name.clone(), me.node, member.expect(), member.record().clone(), member.log())
}

/// The machines before anything has happened.
pub(super) fn first(bounds: &Bounds, up: bool) -> Vec<Arc<Machine>> {
    let fresh = |at: usize| {
        let node = FIRST_NODE + at as u64;
        Arc::new(Machine::new(member_of(format!("m{at}"), node, bounds.expect, Record::default(), None), up))
    };
    (0..bounds.machines).map(fresh).collect()
}

/// A machine after it has lost its disk: another node under the same name. `left`: so many more wipes may come.
pub(super) fn wiped(member: &Member, left: u8, bounds: &Bounds) -> Member {
    let node = if bounds.reborn_low { 10 + u64::from(left) } else { 1000 - u64::from(left) };
    member_of(member.me().name.clone(), node, bounds.expect, Record::default(), None)
}

/// A report as it is told late: what else it says is seen by looking.
pub(super) fn told_late(report: Report) -> Report {
    Report { expect: 0, floor: 0, log: None, ..report }
}

/// Whom a machine may fail to see: any set of others.
fn hidden(machines: &[Arc<Machine>], at: usize) -> impl Iterator<Item = u32> + use<> {
    (0_u32..1 << machines.len()).filter(move |set| set & (1 << at) == 0)
}

/// What this machine sees if it does not see these others.
pub(super) fn scene(machines: &[Arc<Machine>], at: usize, hidden: u32) -> (Scene, BTreeMap<u64, Heard>) {
    let (mut scene, mut reports) = (Scene::default(), BTreeMap::new());
    for (other, machine) in machines.iter().enumerate().filter(|(other, _)| *other != at) {
        let (name, node) = (machine.member.me().name.clone(), machine.node());
        match machine.member.report().filter(|_| machine.up && hidden & (1 << other) == 0) {
            Some(report) => {
                scene.peers.insert(node, name.clone());
                reports.insert(node, Heard { name, report });
            }
            None => scene.silent.push(name),
        }
    }
    (scene, reports)
}

/// May this machine pledge itself, if it is lucky in what it does not see?
pub(super) fn may_found(machines: &[Arc<Machine>], at: usize, toward: &ProposalId, looking: Looking) -> bool {
    looking == Looking::Blind
        || hidden(machines, at).any(|hidden| {
            let (scene, reports) = scene(machines, at, hidden);
            let Some(member) = machines.get(at).map(|m| &m.member) else { return false };
            Sight { member, scene: &scene, reports: &reports }.may_found(Some(toward))
        })
}

/// Who may be proposed by this machine now, and the floor that it has heard of.
pub(super) fn proposals(machines: &[Arc<Machine>], at: usize, looking: Looking) -> Vec<(Vec<Founder>, u64)> {
    let Some(member) = machines.get(at).map(|m| &m.member).filter(|m| m.is_free()) else { return Vec::new() };
    let mut all: Vec<(Vec<Founder>, u64)> = Vec::new();
    match looking {
        Looking::True => {
            for hidden in hidden(machines, at) {
                let (scene, reports) = scene(machines, at, hidden);
                all.extend(Sight { member, scene: &scene, reports: &reports }.founders());
            }
        }
        Looking::Blind => {
            let everyone: Vec<&Founder> = machines.iter().map(|m| m.member.me()).collect();
            let floor = member.record().floor;
            for set in 0_u32..1 << everyone.len() {
                if set.count_ones() as usize == member.expect() && set & (1 << at) != 0 {
                    let chosen = everyone.iter().enumerate().filter(|(i, _)| set & (1 << i) != 0);
                    let chosen: Vec<Founder> = chosen.map(|(_, f)| (*f).clone()).collect();
                    // In this round or one later: who does not look knows nothing of rounds either.
                    all.extend([floor, floor + 1].map(|floor| (chosen.clone(), floor)));
                }
            }
        }
    }
    all.sort();
    all.dedup();
    all
}

/// The round of what this member would propose above this floor.
pub(super) fn round_above(member: &Member, floor: u64) -> u64 {
    floor.max(member.record().floor) + 1
}

/// The logs that a machine could join.
pub(super) fn logs_there(machines: &[Arc<Machine>]) -> BTreeSet<[u8; 16]> {
    machines.iter().filter(|m| m.up).filter_map(|m| m.member.log()).collect()
}

/// May it join a log that is there?
pub(super) fn may_join(member: &Member) -> bool {
    member.log().is_none() && member.record().pledge.is_none()
}

/// The promise that these logs break.
pub(super) fn broken(logs: &Logs, looking: Looking) -> Option<String> {
    let mut seen = BTreeSet::new();
    if let Some(node) = logs.values().flatten().find(|node| !seen.insert(**node)) {
        return Some(format!("two logs were founded, and node {node} is a founder of both"));
    }
    (looking == Looking::True && logs.len() > 1).then(|| "two logs were founded".into())
}

/// Is there an open proposal most of whose founders are gone for good?
pub(super) fn is_blocked(machines: &[Arc<Machine>]) -> bool {
    let there = |node: u64| machines.iter().any(|m| m.node() == node);
    machines.iter().filter_map(|m| m.member.open()).any(|open| {
        let left = open.proposal.founders().iter().filter(|f| there(f.node)).count();
        left < open.proposal.quorum()
    })
}

/// A member in words.
pub(super) fn picture(member: &Member) -> String {
    let (node, record) = (member.me().node, member.record());
    match (&record.pledge, member.log()) {
        (_, Some(log)) => format!("{node} is of log {}", hex::encode(&log[..2])),
        (Some(p), None) => {
            let founders: Vec<u64> = p.proposal.founders().iter().map(|f| f.node).collect();
            let said = p
                .words
                .of(node)
                .map(|said| (said.promised.map(|(b, v, _)| (b.0, v)), said.voted.map(|(b, v, _)| (b.0, v))));
            format!("{node} is pledged to {founders:?} in round {} ({said:?})", p.proposal.round())
        }
        (None, None) => format!("{node} is free above {}", record.floor),
    }
}
