//! Plain: the world with nothing left out: who is up, and every report that was ever told. `lean` is measured by it.
//!
//! It never judges: see `world::broken`.

use super::super::member::Member;
use super::super::report::Report;
use super::bounds::{Bounds, Looking};
use super::world::{
    Logs, Machine, first, logs_there, may_found, may_join, print_of, proposals, reread, round_above, save, told_late,
    wiped,
};
use std::sync::Arc;
use xxhash_rust::xxh3::Xxh3;

/// One thing that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Start(u8),
    Propose(u8),
    Deliver { to: u8, from: u64 },
    CallOff(u8),
    Join(u8),
    Crash(u8),
    CrashUnsaved(u8),
    Wipe(u8),
}

#[derive(Clone)]
struct Told {
    from: u64,
    report: Report,
    print: u64,
}

#[derive(Clone)]
pub(super) struct Plain {
    pub(super) machines: Vec<Arc<Machine>>,
    pub(super) logs: Arc<Logs>,
    /// Ascending by print.
    told: Arc<Vec<Arc<Told>>>,
    crashes: u8,
    wipes: u8,
    call_offs: u8,
}

impl Plain {
    pub(super) fn first(bounds: &Bounds) -> Self {
        Self {
            machines: first(bounds, false),
            logs: Arc::default(),
            told: Arc::default(),
            crashes: bounds.crashes,
            wipes: bounds.wipes,
            call_offs: bounds.call_offs,
        }
    }

    pub(super) fn print(&self) -> u128 {
        let mut hasher = Xxh3::new();
        for machine in &self.machines {
            hasher.update(&machine.print.to_le_bytes());
        }
        for told in self.told.iter() {
            hasher.update(&told.print.to_le_bytes());
        }
        hasher.update(&[self.crashes, self.wipes, self.call_offs]);
        hasher.digest128()
    }

    fn tell(&mut self, from: u64, report: Report) {
        let report = told_late(report);
        let print = print_of(&(from, &report));
        if let Err(at) = self.told.binary_search_by_key(&print, |t| t.print) {
            Arc::make_mut(&mut self.told).insert(at, Arc::new(Told { from, report, print }));
        }
    }

    /// Puts a member back after a step: what it decided is founded, and what is durable is told.
    fn settle(&mut self, at: usize, mut member: Member) {
        save(&mut member);
        if let Some(proposal) = member.founds().cloned() {
            let founders = proposal.founders().iter().map(|f| f.node).collect();
            Arc::make_mut(&mut self.logs).insert(proposal.id(), founders);
            member.joined(proposal.id());
            save(&mut member);
        }
        if let Some(report) = member.report().filter(|r| r.pledge.is_some()) {
            self.tell(member.me().node, report);
        }
        self.put(at, member, true);
    }

    fn put(&mut self, at: usize, member: Member, up: bool) {
        if let Some(machine) = self.machines.get_mut(at) {
            *machine = Arc::new(Machine::new(member, up));
        }
    }

    /// Every state one step from here.
    pub(super) fn next(&self, bounds: &Bounds, mut found: impl FnMut(Step, Self)) {
        (0..self.machines.len()).for_each(|at| self.next_of(at, bounds, &mut found));
    }

    /// Every state one step of this machine from here.
    pub(super) fn next_of(&self, at: usize, bounds: &Bounds, found: &mut impl FnMut(Step, Self)) {
        let Some(machine) = self.machines.get(at) else { return };
        if machine.up {
            self.moves(at, &machine.member, bounds, found);
            return self.faults(at, &machine.member, bounds, found);
        }
        let mut next = self.clone();
        next.put(at, reread(&machine.member), true);
        found(Step::Start(at as u8), next);
    }

    fn moves(&self, at: usize, member: &Member, bounds: &Bounds, found: &mut impl FnMut(Step, Self)) {
        for (founders, floor) in proposals(&self.machines, at, bounds.looking) {
            if round_above(member, floor) > bounds.rounds {
                continue;
            }
            let mut changed = member.clone();
            changed.propose(founders, floor);
            self.after(at, changed, Step::Propose(at as u8), found);
        }
        for told in self.told.iter().filter(|told| told.from != member.me().node) {
            self.deliver(at, member, told, bounds.looking, found);
        }
        if member.open().is_some() && self.call_offs > 0 {
            let mut changed = member.clone();
            changed.call_off();
            let mut before = self.clone();
            before.call_offs -= 1;
            before.after(at, changed, Step::CallOff(at as u8), found);
        }
        for log in logs_there(&self.machines).into_iter().filter(|_| may_join(member)) {
            let mut changed = member.clone();
            changed.joined(log);
            let mut next = self.clone();
            next.put(at, changed, true);
            found(Step::Join(at as u8), next);
        }
    }

    fn deliver(&self, at: usize, member: &Member, told: &Told, looking: Looking, found: &mut impl FnMut(Step, Self)) {
        let toward = told.report.pledge.as_ref().map(|(p, _)| p.id());
        let asks = toward.filter(|_| member.is_free());
        let may_found = asks.is_some_and(|id| may_found(&self.machines, at, &id, looking));
        let mut changed = member.clone();
        let answer = changed.hear(told.from, &told.report, may_found);
        let step = Step::Deliver { to: at as u8, from: told.from };
        if let Some(never) = answer.never.filter(|_| changed.changes() == member.changes()) {
            let mut next = self.clone();
            if let Some(report) = member.report() {
                next.tell(member.me().node, Report { pledge: None, never: Some(never), ..report });
            }
            found(step, next);
        }
        self.after(at, changed, step, found);
    }

    fn after(&self, at: usize, changed: Member, step: Step, found: &mut impl FnMut(Step, Self)) {
        let Some(machine) = self.machines.get(at) else { return };
        if changed.changes() == machine.member.changes() {
            return;
        }
        // What was told before it was saved outlives the crash that takes it. Sound code tells nothing then.
        if let Some(report) = changed.report().filter(|_| self.crashes > 0) {
            let mut next = self.clone();
            next.crashes -= 1;
            next.tell(changed.me().node, report);
            next.put(at, machine.member.clone(), false);
            found(Step::CrashUnsaved(at as u8), next);
        }
        let mut next = self.clone();
        next.settle(at, changed);
        found(step, next);
    }

    fn faults(&self, at: usize, member: &Member, bounds: &Bounds, found: &mut impl FnMut(Step, Self)) {
        if self.crashes > 0 {
            let mut next = self.clone();
            next.crashes -= 1;
            next.put(at, member.clone(), false);
            found(Step::Crash(at as u8), next);
        }
        if self.wipes > 0 {
            let mut next = self.clone();
            next.wipes -= 1;
            next.put(at, wiped(member, next.wipes, bounds), true);
            found(Step::Wipe(at as u8), next);
        }
    }
}
