//! Calm: from some state on nothing fails any more: do all agents come to be of one log?
//!
//! It never loses, hides or delays anything.

use super::super::report::Report;
use super::super::scene::Sight;
use super::bounds::Looking;
use super::world::{Logs, Machine, broken, logs_there, may_join, picture, reread, save, scene};
use std::sync::Arc;

/// Rounds of everybody telling everybody that it may take.
const CALM_ROUNDS: usize = 60;
/// In one round of so many, everybody loses patience.
const PATIENCE_ROUNDS: usize = 10;

/// Everybody is up, sees all others and hears all they say. An error says why no group has formed.
pub(super) fn forms(machines: &[Arc<Machine>], logs: &Logs) -> Result<(), String> {
    let mut calm = Calm { machines: machines.to_vec(), logs: logs.clone() };
    for at in 0..calm.machines.len() {
        let member = reread(&calm.machines[at].member);
        calm.settle(at, member);
    }
    for round in 0..CALM_ROUNDS {
        let there = logs_there(&calm.machines);
        if there.len() == 1 && calm.machines.iter().all(|m| m.member.log().is_some()) {
            return Ok(());
        }
        for at in 0..calm.machines.len() {
            calm.turn(at, round % PATIENCE_ROUNDS == PATIENCE_ROUNDS - 1);
        }
        if let Some(broken) = broken(&calm.logs, Looking::True) {
            return Err(broken);
        }
    }
    let picture: Vec<String> = calm.machines.iter().map(|m| picture(&m.member)).collect();
    Err(format!("nothing formed: {}", picture.join(", ")))
}

struct Calm {
    machines: Vec<Arc<Machine>>,
    logs: Logs,
}

impl Calm {
    fn settle(&mut self, at: usize, mut member: super::super::member::Member) {
        save(&mut member);
        if let Some(proposal) = member.founds().cloned() {
            self.logs.insert(proposal.id(), proposal.founders().iter().map(|f| f.node).collect());
            member.joined(proposal.id());
            save(&mut member);
        }
        self.machines[at] = Arc::new(Machine::new(member, true));
    }

    /// One turn of one machine.
    fn turn(&mut self, at: usize, loses_patience: bool) {
        let mut member = self.machines[at].member.clone();
        let (seen, reports) = scene(&self.machines, at, 0);
        for (from, heard) in &reports {
            let toward = heard.report.pledge.as_ref().map(|(p, _)| p.id());
            let sight = Sight { member: &member, scene: &seen, reports: &reports };
            let may_found = toward.is_some_and(|id| sight.may_found(Some(&id)));
            let answer = member.hear(*from, &heard.report, may_found);
            save(&mut member);
            let asker = self.machines.iter().position(|m| m.node() == *from);
            if let (Some(never), Some(asker), Some(report)) = (answer.never, asker, member.report()) {
                let mut told = self.machines[asker].member.clone();
                told.hear(member.me().node, &Report { never: Some(never), pledge: None, ..report }, false);
                self.settle(asker, told);
            }
        }
        let log = logs_there(&self.machines).first().copied();
        if let Some(log) = log.filter(|_| may_join(&member)) {
            member.joined(log);
        }
        let (seen, reports) = scene(&self.machines, at, 0);
        if let Some((founders, floor)) = (Sight { member: &member, scene: &seen, reports: &reports }).founders() {
            member.propose(founders, floor);
        }
        if loses_patience {
            member.call_off();
        }
        self.settle(at, member);
    }
}
