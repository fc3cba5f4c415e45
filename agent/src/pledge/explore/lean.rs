//! Lean: the world of `plain` with as little of it as can still do everything.
//!
//! It never takes a step that the plain world could not take, except where it says so.
//!
//! # Why less is enough
//! A state may be left out if another one is visited that can do all that it can do: whatever log comes about from the one
//! comes about from the other. Six things can be left out so:
//!
//! 1. **Who is up.** Who is down takes no step and is not seen. Who is up may be silent as well, and whoever looks may fail
//!    to see it. So all are up from the beginning, and a crash is nothing but [`Move::Restart`]: as often as one likes, in
//!    every world. Only what was told before it was durable is more than that, and sound code never tells such a thing;
//!    [`Outcome::TellsUnsaved`] takes it if there is any.
//! 2. **What machines have heard.** What was told once can be told again. A machine that has heard words of others and said
//!    nothing because of them can hear them later, together with those that make it say something: words only add up
//!    (`Words::merge`). So it hears any part of all that was told, says what follows, and forgets the words of others
//!    (`essence`). It can do more than one that remembers: it could act upon less than it knows. What a vote for life proves
//!    that it must have known, the certificate, it keeps.
//! 3. **Which report carried which word.** Each word is signed for itself: they may be heard in any combination (`rumour`).
//! 4. **When something is told.** What was told need not arrive. So whoever has pledged itself tells it at once, and who can
//!    decline for ever declines at once, which is all that the floor of a machine with a log is good for.
//! 5. **What no one can act upon.** A rumour goes when each of its founders has a log, has lost its disk, or has a floor at
//!    or above its round without being pledged to it: none of them can ever say anything about it that anybody waits for. So
//!    do the words of those who have founded it.
//! 6. **The order of founding.** A log counts as founded when somebody knows that it may be: before its first entry is
//!    written, so two of them are seen rather earlier.
//!
//! Not left out: permutations of machines. The lowest ids found a log, and ballots are ordered by rank: the protocol is not
//! the same under them.

use super::super::proposal::ProposalId;
use super::table::{Id, Outcome, Table};
use super::world::{Logs, Machine, first, logs_there, may_join, wiped};
use std::sync::Arc;
use xxhash_rust::xxh3::Xxh3;

/// One thing that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Move {
    Propose,
    Hear,
    CallOff,
    Join,
    Restart,
    CrashUnsaved,
    Wipe,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lean {
    pub(super) machines: Box<[Id]>,
    /// Ascending by proposal.
    pub(super) rumours: Vec<Id>,
    pub(super) logs: Id,
    crashes: u8,
    wipes: u8,
    call_offs: u8,
}

impl Lean {
    pub(super) fn first(table: &mut Table) -> Self {
        let bounds = table.bounds;
        let machines = first(&bounds, true).iter().map(|m| table.essence(&m.member)).collect();
        let logs = table.number_logs(Logs::new());
        let (crashes, wipes, call_offs) = (bounds.crashes, bounds.wipes, bounds.call_offs);
        Self { machines, rumours: Vec::new(), logs, crashes, wipes, call_offs }
    }

    pub(super) fn print(&self) -> u128 {
        let mut hasher = Xxh3::new();
        for id in self.machines.iter().chain(&self.rumours) {
            hasher.update(&id.to_le_bytes());
        }
        hasher.update(&self.logs.to_le_bytes());
        hasher.update(&[self.crashes, self.wipes, self.call_offs]);
        hasher.digest128()
    }

    /// Every state one step from here; how many proposals were out of bounds.
    pub(super) fn next(&self, table: &mut Table, mut found: impl FnMut(usize, Move, Self)) -> u64 {
        let mut late = 0;
        for at in 0..self.machines.len() {
            let machine = self.machines[at];
            let (proposed, too_late) = table.proposed(at, &self.machines);
            late += too_late;
            for outcome in proposed.iter() {
                self.after(table, at, *outcome, Move::Propose, &mut found);
            }
            for rumour in &self.rumours {
                let allowed = table.allowed(at, &self.machines, *rumour);
                for outcome in table.heard(machine, *rumour, allowed).iter() {
                    self.after(table, at, *outcome, Move::Hear, &mut found);
                }
            }
            if self.call_offs > 0 {
                let before = Self { call_offs: self.call_offs - 1, ..self.clone() };
                for outcome in table.called_off(machine) {
                    before.after(table, at, outcome, Move::CallOff, &mut found);
                }
            }
            self.join(table, at, &mut found);
            let restarted = table.restarted(machine);
            if restarted != machine {
                self.after(table, at, Outcome::Becomes(restarted), Move::Restart, &mut found);
            }
            if self.wipes > 0 {
                let mut next = Self { wipes: self.wipes - 1, ..self.clone() };
                let fresh = wiped(&table.machines.get(machine).member, next.wipes, &table.bounds);
                next.machines[at] = table.essence(&fresh);
                next.close(table);
                found(at, Move::Wipe, next);
            }
        }
        late
    }

    fn join(&self, table: &mut Table, at: usize, found: &mut impl FnMut(usize, Move, Self)) {
        if !may_join(&table.machines.get(self.machines[at]).member) {
            return;
        }
        let all: Vec<_> = self.machines.iter().map(|id| table.machines.get(*id)).collect();
        for log in logs_there(&all) {
            let mut next = self.clone();
            next.machines[at] = table.joined(self.machines[at], log);
            next.close(table);
            found(at, Move::Join, next);
        }
    }

    fn after(
        &self,
        table: &mut Table,
        at: usize,
        outcome: Outcome,
        step: Move,
        found: &mut impl FnMut(usize, Move, Self),
    ) {
        let mut next = self.clone();
        match outcome {
            Outcome::Becomes(id) => {
                next.machines[at] = id;
                next.tell(table, id);
                next.found(table, self.machines[at], id);
                next.close(table);
                found(at, step, next);
            }
            Outcome::TellsUnsaved(_) if self.crashes == 0 => {}
            Outcome::TellsUnsaved(id) => {
                next.crashes -= 1;
                next.tell(table, id);
                next.close(table);
                found(at, Move::CrashUnsaved, next);
            }
        }
    }

    /// It tells what it has pledged itself to.
    fn tell(&mut self, table: &mut Table, teller: Id) {
        let teller_is = table.machines.get(teller);
        let Some(pledge) = &teller_is.member.record().pledge else { return };
        let about = |table: &Table, id: Id| -> ProposalId { table.rumours.get(id).proposal.id() };
        match self.rumours.binary_search_by_key(&pledge.proposal.id(), |id| about(table, *id)) {
            Ok(place) => {
                let rumour = self.rumours[place];
                self.rumours[place] = table.told(Some(rumour), teller).unwrap_or(rumour);
            }
            Err(place) => self.rumours.splice(place..place, table.told(None, teller)).for_each(drop),
        }
    }

    /// A log is founded, if this machine has come to know so.
    fn found(&mut self, table: &mut Table, was: Id, is: Id) {
        let (was, is) = (table.machines.get(was), table.machines.get(is));
        let Some(pledge) = is.member.record().pledge.as_ref().filter(|p| p.founded && was.member.log().is_none())
        else {
            return;
        };
        let mut logs = (*table.logs.get(self.logs)).clone();
        logs.insert(pledge.proposal.id(), pledge.proposal.founders().iter().map(|f| f.node).collect());
        self.logs = table.number_logs(logs);
    }

    /// Whoever can decline does; and what no one can act upon goes.
    fn close(&mut self, table: &mut Table) {
        let machines = self.machines.clone();
        self.rumours.retain(|rumour| machines.iter().any(|machine| table.is_concerned(*machine, *rumour)));
        for rumour in &mut self.rumours {
            for machine in &machines {
                *rumour = table.declined(*rumour, *machine);
            }
        }
        for machine in &mut self.machines {
            let founder = table.machines.get(*machine);
            let pledge = founder.member.record().pledge.as_ref().filter(|_| founder.member.log().is_some());
            let Some(pledge) = pledge else { continue };
            if !self.rumours.iter().any(|rumour| table.rumours.get(*rumour).proposal == pledge.proposal) {
                *machine = table.silenced(*machine);
            }
        }
    }

    pub(super) fn all(&self, table: &Table) -> Vec<Arc<Machine>> {
        self.machines.iter().map(|id| table.machines.get(*id)).collect()
    }
}
