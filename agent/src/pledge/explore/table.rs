//! Table: each machine, rumour and set of logs that a search has met has a number here, and what may become of it is kept.
//!
//! It never knows where in the search anything was met: the same machine does the same with the same words everywhere.

use super::super::content::Founder;
use super::super::keys::Signature;
use super::super::member::Member;
use super::super::proposal::ProposalId;
use super::super::record::Record;
use super::super::report::Report;
use super::bounds::{Bounds, Looking};
use super::essence::{essence, is_concerned, without_words};
use super::rumour::Rumour;
use super::world::{Logs, Machine, may_found, proposals, reread, round_above, save};
use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::sync::Arc;

/// The number of a thing in its list.
pub(super) type Id = u32;

#[derive(Debug)]
pub(super) struct Numbered<K, V> {
    ids: HashMap<K, Id>,
    things: Vec<V>,
}

impl<K: Hash + Eq, V: Clone> Numbered<K, V> {
    fn new() -> Self {
        Self { ids: HashMap::new(), things: Vec::new() }
    }
    fn number(&mut self, key: K, thing: impl FnOnce() -> V) -> Id {
        let next = self.things.len() as Id;
        let id = *self.ids.entry(key).or_insert(next);
        if id == next {
            self.things.push(thing());
        }
        id
    }
    pub(super) fn get(&self, id: Id) -> V {
        self.things[id as usize].clone()
    }
}

/// What becomes of a machine that takes a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Outcome {
    /// This, durable; and it tells what it has pledged itself to.
    Becomes(Id),
    /// It tells what this would tell, and crashes before that is durable. Sound code never does.
    TellsUnsaved(Id),
}

/// All that there is to a machine that is up.
type Body = (Founder, Record, Option<[u8; 16]>);
/// Who else is there, as far as others can see.
type Face = (Founder, u64, Option<ProposalId>, Option<[u8; 16]>);
/// Somebody, what it is, and the faces of all.
type View = (usize, Id, Vec<Id>);

#[derive(Debug)]
pub(super) struct Table {
    pub(super) bounds: Bounds,
    pub(super) machines: Numbered<Body, Arc<Machine>>,
    pub(super) rumours: Numbered<Rumour, Arc<Rumour>>,
    pub(super) logs: Numbered<Logs, Arc<Logs>>,
    faces: Numbered<Face, ()>,
    face_of: HashMap<Id, Id>,
    proposed: HashMap<View, (Arc<[Outcome]>, u64)>,
    allowed: HashMap<(View, ProposalId), bool>,
    heard: HashMap<(Id, Id, bool), Arc<[Outcome]>>,
    told: HashMap<(Option<Id>, Id), Id>,
    declined: HashMap<(Id, Id), Id>,
    restarted: HashMap<Id, Id>,
    silenced: HashMap<Id, Id>,
}

impl Table {
    pub(super) fn new(bounds: &Bounds) -> Self {
        Self {
            bounds: *bounds,
            machines: Numbered::new(),
            rumours: Numbered::new(),
            logs: Numbered::new(),
            faces: Numbered::new(),
            face_of: HashMap::new(),
            proposed: HashMap::new(),
            allowed: HashMap::new(),
            heard: HashMap::new(),
            told: HashMap::new(),
            declined: HashMap::new(),
            restarted: HashMap::new(),
            silenced: HashMap::new(),
        }
    }

    /// The essence of this member.
    pub(super) fn essence(&mut self, member: &Member) -> Id {
        let with_proof = self.bounds.probe_every > 0;
        self.machine(essence(member, with_proof))
    }

    fn machine(&mut self, machine: Machine) -> Id {
        let member = &machine.member;
        let key = (member.me().clone(), member.record().clone(), member.log());
        self.machines.number(key, || Arc::new(machine))
    }

    pub(super) fn number_logs(&mut self, logs: Logs) -> Id {
        self.logs.number(logs.clone(), || Arc::new(logs))
    }

    fn rumour(&mut self, rumour: Rumour) -> Id {
        self.rumours.number(rumour.clone(), || Arc::new(rumour))
    }

    /// This member after a step, given what it was; nothing if that was no step.
    fn outcomes(&mut self, was: Id, mut changed: Member, into: &mut BTreeSet<Outcome>) {
        if self.bounds.crashes > 0 && changed.clone().poll_save().is_some() && changed.report().is_some() {
            let unsaved = self.essence(&changed);
            into.insert(Outcome::TellsUnsaved(unsaved));
        }
        save(&mut changed);
        if let Some(log) = changed.founds().map(super::super::proposal::Proposal::id) {
            changed.joined(log);
            save(&mut changed);
        }
        let id = self.essence(&changed);
        if id != was {
            into.insert(Outcome::Becomes(id));
        }
    }

    fn view(&mut self, at: usize, machines: &[Id]) -> View {
        let faces = machines.iter().map(|id| {
            if let Some(face) = self.face_of.get(id) {
                return *face;
            }
            let machine = self.machines.get(*id);
            let (member, record) = (&machine.member, machine.member.record());
            let pledged = record.pledge.as_ref().map(|p| p.proposal.id());
            let face = self.faces.number((member.me().clone(), record.floor, pledged, member.log()), || ());
            self.face_of.insert(*id, face);
            face
        });
        let faces = faces.collect();
        (at, machines[at], faces)
    }

    fn all(&self, machines: &[Id]) -> Vec<Arc<Machine>> {
        machines.iter().map(|id| self.machines.get(*id)).collect()
    }

    /// What this machine may become by a proposal of its own, and how many of them are out of bounds.
    pub(super) fn proposed(&mut self, at: usize, machines: &[Id]) -> (Arc<[Outcome]>, u64) {
        let view = self.view(at, machines);
        if let Some((ids, late)) = self.proposed.get(&view) {
            return (ids.clone(), *late);
        }
        let (all, mut into, mut late) = (self.all(machines), BTreeSet::new(), 0);
        for (founders, floor) in proposals(&all, at, self.bounds.looking) {
            let member = &all[at].member;
            if round_above(member, floor) > self.bounds.rounds {
                late += 1;
                continue;
            }
            let mut changed = member.clone();
            changed.propose(founders, floor);
            self.outcomes(machines[at], changed, &mut into);
        }
        let found: Arc<[Outcome]> = into.into_iter().collect();
        self.proposed.insert(view, (found.clone(), late));
        (found, late)
    }

    /// May this machine pledge itself to what this rumour is about?
    pub(super) fn allowed(&mut self, at: usize, machines: &[Id], rumour: Id) -> bool {
        if !self.machines.get(machines[at]).member.is_free() {
            return false;
        }
        if self.bounds.looking == Looking::Blind {
            return true;
        }
        let id = self.rumours.get(rumour).proposal.id();
        let view = (self.view(at, machines), id);
        if let Some(allowed) = self.allowed.get(&view) {
            return *allowed;
        }
        let allowed = may_found(&self.all(machines), at, &id, self.bounds.looking);
        self.allowed.insert(view, allowed);
        allowed
    }

    /// What this machine may become by hearing any part of a rumour.
    pub(super) fn heard(&mut self, machine: Id, rumour: Id, allowed: bool) -> Arc<[Outcome]> {
        let key = (machine, rumour, allowed);
        if let Some(found) = self.heard.get(&key) {
            return found.clone();
        }
        let (member, rumour) = (self.machines.get(machine).member.clone(), self.rumours.get(rumour));
        let mut into = BTreeSet::new();
        if rumour.proposal.founder(member.me().node).is_some() {
            for words in rumour.may_hear(member.me().node) {
                let report = report(Some((rumour.proposal.clone(), words)), None);
                let mut changed = member.clone();
                changed.hear(0, &report, allowed);
                self.outcomes(machine, changed, &mut into);
            }
            for (from, never) in &rumour.nevers {
                let mut changed = member.clone();
                changed.hear(*from, &report(None, Some((rumour.proposal.id(), *never))), false);
                self.outcomes(machine, changed, &mut into);
            }
        }
        let found: Arc<[Outcome]> = into.into_iter().collect();
        self.heard.insert(key, found.clone());
        found
    }

    /// What this machine becomes when it loses patience.
    pub(super) fn called_off(&mut self, machine: Id) -> Vec<Outcome> {
        let mut changed = self.machines.get(machine).member.clone();
        let mut into = BTreeSet::new();
        if changed.open().is_some() {
            changed.call_off();
            self.outcomes(machine, changed, &mut into);
        }
        into.into_iter().collect()
    }

    /// What this machine becomes by joining a log.
    pub(super) fn joined(&mut self, machine: Id, log: [u8; 16]) -> Id {
        let mut changed = self.machines.get(machine).member.clone();
        changed.joined(log);
        save(&mut changed);
        self.essence(&changed)
    }

    /// What this machine becomes by a crash after which it starts again.
    pub(super) fn restarted(&mut self, machine: Id) -> Id {
        if let Some(id) = self.restarted.get(&machine) {
            return *id;
        }
        let id = self.essence(&reread(&self.machines.get(machine).member));
        self.restarted.insert(machine, id);
        id
    }

    /// The rumour about what this machine has pledged itself to, after it has told its own words.
    pub(super) fn told(&mut self, rumour: Option<Id>, machine: Id) -> Option<Id> {
        if let Some(id) = self.told.get(&(rumour, machine)) {
            return Some(*id);
        }
        let teller = self.machines.get(machine);
        let pledge = teller.member.record().pledge.as_ref()?;
        let mut told =
            rumour.map_or_else(|| Rumour::new(pledge.proposal.clone()), |id| (*self.rumours.get(id)).clone());
        told.add(&pledge.words);
        let id = self.rumour(told);
        self.told.insert((rumour, machine), id);
        Some(id)
    }

    /// The rumour after this machine has declined what it is about, if it can.
    pub(super) fn declined(&mut self, rumour: Id, machine: Id) -> Id {
        if let Some(id) = self.declined.get(&(rumour, machine)) {
            return *id;
        }
        let (mut told, mut member) = ((*self.rumours.get(rumour)).clone(), self.machines.get(machine).member.clone());
        let asked = report(Some((told.proposal.clone(), super::super::Words::default())), None);
        // The first time, who is of a log raises its floor; once that is durable, it declines.
        for _ in 0..2 {
            if let Some((_, signature)) = member.hear(0, &asked, false).never {
                told.nevers.insert(member.me().node, signature);
            }
            save(&mut member);
        }
        let id = self.rumour(told);
        self.declined.insert((rumour, machine), id);
        id
    }

    pub(super) fn is_concerned(&self, machine: Id, rumour: Id) -> bool {
        is_concerned(&self.machines.get(machine).member, &self.rumours.get(rumour))
    }

    /// This founder, whose log is settled.
    pub(super) fn silenced(&mut self, machine: Id) -> Id {
        if let Some(id) = self.silenced.get(&machine) {
            return *id;
        }
        let id = self.machine(without_words(&self.machines.get(machine).member));
        self.silenced.insert(machine, id);
        id
    }
}

fn report(
    pledge: Option<(super::super::Proposal, super::super::Words)>,
    never: Option<(ProposalId, Signature)>,
) -> Report {
    Report { key: [0; 32], expect: 0, record_bytes_max: 0, floor: 0, log: None, pledge, never }
}
