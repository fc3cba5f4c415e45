//! Removing: an operator takes an agent out of the cluster for good, dead or alive, and it is told so.
//!
//! It never takes a vote without which too few would answer, nor the last one. A disk that was removed is shut out like
//! one that has left; its agent stays up, serves nobody, and says what it takes to come back.

use super::operate::{Judged, Wish};
use super::{Level, Node};
use crate::api::Failure;
use crate::limits::printable;
use crate::machine::registry::Command;
use quorate_raft::{NodeId, Now, Status, mutant};

impl Node {
    pub(super) fn judge_remove(&self, now: Now, status: &Status, wish: &Wish, replace_with: Option<&str>) -> Judged {
        let name = printable(&wish.name);
        let configuration = &status.configuration;
        let id = NodeId::new(wish.node);
        let inside = id.is_some_and(|id| configuration.is_member(id) || configuration.outgoing.contains(&id));
        if self.registry.is_removed(wish.node) {
            return match (inside, status.configuration_committed && configuration.outgoing.is_empty()) {
                (false, true) => Judged::Done,
                (false, false) => Judged::Wait("its removal to be committed".into()),
                (true, _) => Judged::Wait("the change to be safe".into()),
            };
        }
        let votes = id.filter(|id| configuration.voters.contains(id));
        let heir = match (replace_with, votes) {
            (None, _) => None,
            (Some(_), None) => {
                let what = format!("{name} has no vote that another agent could take");
                return Judged::refused(what, "remove it without --replace-with");
            }
            (Some(heir), Some(id)) => match self.replacement(now, status, id, heir) {
                Ok(heir) => Some(heir),
                Err(judged) => return judged,
            },
        };
        if let (Some(id), false) = (votes, mutant!(RemovesTheQuorum)) {
            if let Some(refused) = self.why_not_removed(now, status, id, heir) {
                return refused;
            }
            if id == self.me && !wish.handed_over && self.heir(now).is_some() {
                return Judged::HandOver;
            }
        }
        let heir_said = heir.map(|h| format!(" and giving its vote to {}", self.name_of(h.get()))).unwrap_or_default();
        let why = format!("removing {name}{heir_said}, as an operator asks");
        let heir = heir.map(NodeId::get);
        Judged::Write(Command::Remove { node: wish.node, name: wish.name.clone(), heir }, why)
    }

    /// The learner that is to vote instead, once it could.
    fn replacement(&self, now: Now, status: &Status, id: NodeId, name: &str) -> Result<NodeId, Judged> {
        let shown = printable(name);
        let configuration = &status.configuration;
        let node = self.node_named(name).filter(|node| !self.registry.has_departed(*node));
        let Some(heir) = node.and_then(NodeId::new) else { return Err(Judged::Refused(self.unknown_name(name))) };
        if heir == id {
            return Err(Judged::refused(format!("{shown} cannot replace itself"), "name another agent"));
        }
        if configuration.voters.contains(&heir) {
            let what = format!("{shown} votes already");
            return Err(Judged::refused(what, "name a learner, or remove without --replace-with"));
        }
        if self.registry.is_draining(heir.get()) {
            return Err(Judged::refused(
                format!("{shown} is drained"),
                format!("`quorate drain --undo {shown}` first"),
            ));
        }
        if !self.is_present(heir.get()) {
            let state = self.members.member(heir.get()).map_or("unknown".into(), |m| m.state.to_string());
            return Err(Judged::refused(format!("{shown} is {state}"), "start it, or name another learner"));
        }
        if !configuration.learners.contains(&heir) {
            let room = self.options.replicas_max;
            if configuration.members().len() >= room {
                let what = format!("{shown} does not hold the log, and {room} agents do, as many as there may be");
                return Err(Judged::refused(what, "remove a learner first"));
            }
            return Err(Judged::Wait(format!("{shown} to become a learner")));
        }
        if !self.is_caught_up(now.mono, status, heir) {
            return Err(Judged::Wait(self.lag_of(status, heir)));
        }
        Ok(heir)
    }

    fn why_not_removed(&self, now: Now, status: &Status, id: NodeId, heir: Option<NodeId>) -> Option<Judged> {
        let name = self.name_of(id.get());
        let mut voters = status.configuration.voters.clone();
        voters.remove(&id);
        voters.extend(heir);
        let spare = self.spare_for(now.mono, status, id).map(|spare| self.name_of(spare.get()));
        if voters.is_empty() {
            let hint = match spare {
                Some(spare) => format!("give its vote to {spare}: `quorate remove {name} --replace-with {spare}`"),
                None => "add an agent first, and wait until it has caught up".into(),
            };
            return Some(Judged::refused(format!("{name} is the last voter"), hint));
        }
        let what = format!("the cluster would not be safe without {name}");
        let judged = self.why_short(now.mono, status, &voters, id, &what)?;
        Some(match (judged, spare.filter(|_| heir.is_none())) {
            (Judged::Refused(failure), Some(spare)) => {
                let hint = format!("{}; or `quorate remove {name} --replace-with {spare}`", failure.hint);
                Judged::Refused(Failure { hint, ..failure })
            }
            (judged, _) => judged,
        })
    }

    // ---- the removed agent itself ----

    /// An operator has removed this very node, and it knows.
    pub(super) fn was_removed(&self) -> bool {
        self.registry.is_removed(self.me.get()) || self.view.as_ref().is_some_and(|v| v.departed && v.removed)
    }

    /// It is out of the group for good: the others hear it from gossip, operators from its status.
    pub(super) fn stay_out(&mut self, now: Now) {
        self.note(Level::Error, self.removed_problem());
        self.gossip_leave(now);
        self.own_removal_done(now);
        // Its next start shall know as well, and nobody will tell it the log again.
        self.checkpoint_soon();
    }

    /// What its operator should know.
    pub(super) fn removed_problem(&self) -> String {
        "an operator has removed this agent from the cluster, and its disk is not let in again; to come back, stop it and \
         start it with a fresh data directory: it joins as a new node under the same name"
            .into()
    }
}
