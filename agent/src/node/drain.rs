//! Draining: an operator moves work away from an agent, so that it can be stopped and nobody notices.
//!
//! It never takes a vote that the group would miss: a voter stays one unless a spare can have its seat, or the group is
//! even and bears as much without it. A drained agent is not promoted, and leads only if nobody else can.

use super::operate::{Judged, Wish};
use super::{LeaderAsk, Node, PeerMessage, not_applied};
use crate::api::{Code, Failure};
use crate::limits::printable;
use crate::machine::registry::Command;
use quorate_membership::State;
use quorate_raft::{Mono, NodeId, Now, Status, mutant};
use std::time::Duration;

/// A drained agent says so again after this long: a new leader has to hear it too.
const TELL_AGAIN: Duration = Duration::from_secs(1);

/// What an agent knows of its own draining.
#[derive(Debug, Default)]
pub(super) struct Draining {
    /// Since when its clients are sent away.
    away: Option<Mono>,
    /// To which leader it has said that it has nothing in hand, and when.
    told: Option<(u64, Mono)>,
}

impl Draining {
    /// Are clients sent away?
    pub(super) fn sends_away(&self) -> bool {
        self.away.is_some()
    }
}

impl Node {
    /// Does an operator want this node drained, as far as is known here?
    pub(super) fn is_draining(&self, node: u64) -> bool {
        if self.in_raft() || self.view.is_none() {
            return self.registry.is_draining(node);
        }
        self.view.as_ref().is_some_and(|view| view.draining.contains(&node))
    }

    /// All nodes that operators drain, as far as is known here.
    pub(super) fn all_draining(&self) -> Vec<u64> {
        if self.in_raft() || self.view.is_none() {
            return self.registry.draining().collect();
        }
        self.view.as_ref().map(|view| view.draining.clone()).unwrap_or_default()
    }

    /// One turn of the agent itself. Clients are sent away as long as somebody else could serve them.
    pub(super) fn keep_draining(&mut self, now: Now) {
        let away = self.is_draining(self.me.get()) && self.others_serve() && !mutant!(DrainedServes);
        self.draining.away = if away { self.draining.away.or(Some(now.mono)) } else { None };
        let Some(since) = self.draining.away else {
            self.draining.told = None;
            return;
        };
        // Tails hear of it at once; what was begun is answered or sent back to its client.
        let quiet = self.appends.is_empty() && now.mono >= since.after(self.options.raft.heartbeat);
        if !quiet {
            self.next_reconcile = self.next_reconcile.min(now.mono.after(self.options.raft.heartbeat));
            return;
        }
        let Some(leader) = self.leader().filter(|l| *l != self.me.get() && self.peers.is_up(*l)) else { return };
        if self.draining.told.is_none_or(|(to, at)| to != leader || now.mono.since(at) >= TELL_AGAIN) {
            self.draining.told = Some((leader, now.mono));
            let id = self.token();
            let ask = PeerMessage::Ask { id, timeout_ms: 0, ask: LeaderAsk::Drained };
            self.send(leader, super::Class::Peer, ask);
        }
    }

    /// Is there another agent of the group that is alive and not drained itself?
    fn others_serve(&self) -> bool {
        let (voters, learners) = self.group();
        let mut others = voters.iter().chain(&learners).filter(|n| **n != self.me.get() && !self.is_draining(**n));
        others.any(|n| self.members.member(*n).is_some_and(|m| m.state == State::Alive))
    }

    /// A request for which its client may as well go elsewhere.
    pub(super) fn sent_away(&self) -> Option<Failure> {
        let failure = || not_applied(Code::Unavailable, "this agent is drained", "ask another agent");
        self.draining.sends_away().then(failure)
    }

    /// On the leader: that agent has ended what its clients had begun.
    pub(super) fn drained_told(&mut self, now: Now, node: u64) {
        if self.raft.is_leader() && self.registry.is_draining(node) && self.operating.quiet.insert(node) {
            self.hurry(now);
        }
    }

    pub(super) fn judge_drain(&self, now: Now, status: &Status, wish: &Wish) -> Judged {
        let node = wish.node;
        let Some(id) = NodeId::new(node).filter(|_| self.registry.node(node).is_some()) else {
            return self.not_admitted(wish);
        };
        if !self.registry.is_draining(node) {
            return self.may_drain(now, status, wish, id);
        }
        let settled = status.configuration_committed && status.configuration.outgoing.is_empty();
        if !settled || self.seat_after_drain(now.mono, status, id).is_some() {
            return Judged::Wait("its seat to be taken".into());
        }
        if id == self.me {
            return Judged::Wait("another voter to lead".into());
        }
        if self.peers.is_up(node) && !self.operating.quiet.contains(&node) {
            return Judged::Wait(format!("{} to end what its clients have begun", printable(&wish.name)));
        }
        Judged::Done
    }

    /// Would the group go on if it were stopped? One that does not answer is not missed twice.
    fn may_drain(&self, now: Now, status: &Status, wish: &Wish, id: NodeId) -> Judged {
        let name = printable(&wish.name);
        let voters = match self.seat_after_drain(now.mono, status, id) {
            Some(seat) => seat.voters,
            None => status.configuration.voters.clone(),
        };
        let counts = status.configuration.voters.contains(&id) && self.is_healthy(now.mono, status, id);
        if counts && !mutant!(DrainsTheQuorum) {
            if voters.len() == 1 && voters.contains(&id) {
                let what = format!("{name} is the only voter, and no other agent holds the whole log");
                return Judged::refused(what, "add an agent, or wait until one has caught up");
            }
            let what = format!("the cluster would stop with {name}");
            if let Some(judged) = self.why_short(now.mono, status, &voters, id, &what) {
                return judged;
            }
        }
        Judged::Write(Command::Drain { node: id.get(), on: true }, format!("draining {name}, as an operator asks"))
    }

    pub(super) fn judge_undrain(&self, wish: &Wish) -> Judged {
        if !self.registry.is_draining(wish.node) {
            return Judged::Done;
        }
        let why = format!("{} is drained no more, as an operator asks", printable(&wish.name));
        Judged::Write(Command::Drain { node: wish.node, on: false }, why)
    }

    /// It is here under this name, and no leader has let it in yet.
    pub(super) fn not_admitted(&self, wish: &Wish) -> Judged {
        let name = printable(&wish.name);
        let why = self.autopilot.waiting(wish.node);
        let what = match why {
            Some(why) => format!("{name} is not admitted: {why}"),
            None => format!("{name} is not a member of the log yet"),
        };
        Judged::refused(what, "wait until `quorate members` shows it as voter or learner")
    }
}
