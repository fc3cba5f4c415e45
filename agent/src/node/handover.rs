//! Handing over: leadership goes to another voter on purpose, and who appends meanwhile waits a few round trips.
//!
//! It never lasts longer than an election timeout, and never picks an heir that would not lead better.

use super::questions::{Asker, not_leading};
use super::{LeaderAnswer, Level, Node, not_applied};
use crate::api::{Code, Effect, Failure};
use quorate_membership::State;
use quorate_raft::{Mono, NodeId, Now, Outcome, Reject, Status, Ticket, mutant};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Committed entries that an heir may lack: so many are sent and synced well within an election timeout. More would
/// only make everybody wait for a handover that fails.
const LAG_ENTRIES_MAX: u64 = 1024;
/// After a handover that this node began by itself and that came to nothing, before the next one.
const TRY_AGAIN: Duration = Duration::from_secs(1);
/// Who was asked to take over and has not is asked after the others for so long: disks that hang return within that, or do
/// not return.
const DECLINED_FOR: Duration = Duration::from_secs(60);

/// Why this node hands over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// An operator asked for it, and for this very heir or for any.
    Asked {
        /// The heir was named.
        named: bool,
    },
    /// It leaves the cluster.
    Leaves,
    /// It is told to stop.
    Stops,
    /// Its clock is far from those of the other voters.
    Clock,
    /// Its disk does not confirm what others have long confirmed.
    Disk,
    /// Its disk is nearly full.
    Room,
    /// Its state machines have stopped.
    Machine,
    /// It cannot read all of its log.
    Damaged,
    /// An operator drains it.
    Drained,
    /// An operator takes its vote away.
    Operator,
    /// It has failed and come back too often lately.
    Flaps,
    /// Most voters are of a newer version.
    Upgrade,
}

impl Why {
    fn text(self) -> &'static str {
        match self {
            Self::Asked { .. } => "an operator asks for it",
            Self::Leaves => "this agent leaves",
            Self::Stops => "this agent stops",
            Self::Clock => "the clock of this agent is far from the others'",
            Self::Disk => "the disk of this agent hangs",
            Self::Room => "the disk of this agent is nearly full",
            Self::Machine => "this agent has stopped applying",
            Self::Damaged => "this agent cannot read all of its log",
            Self::Drained => "this agent is being drained",
            Self::Operator => "an operator takes the vote of this agent",
            Self::Flaps => "this agent has failed and come back too often",
            Self::Upgrade => "most voters are of a newer version",
        }
    }
}

/// A handover under way.
#[derive(Clone, Copy, Debug)]
struct Current {
    ticket: u64,
    heir: NodeId,
    since: Mono,
    why: Why,
    /// Who waits for its end, and until when.
    asker: Option<(Asker, Mono)>,
}

/// What a leader knows of its handovers.
#[derive(Debug, Default)]
pub(super) struct Handover {
    current: Option<Current>,
    /// Not by itself again before this.
    not_before: Mono,
    /// Who was asked to take over and has not, and when that showed.
    declined: BTreeMap<NodeId, Mono>,
}

impl Handover {
    pub(super) fn is_under_way(&self) -> bool {
        self.current.is_some()
    }

    /// When somebody must have heard something.
    pub(super) fn deadline(&self) -> Option<Mono> {
        self.current.and_then(|c| c.asker).map(|(_, deadline)| deadline)
    }
}

impl Node {
    /// An operator asks this leader to hand over to the agent of that name, or to whom it thinks best.
    pub(super) fn transfer_asked(&mut self, now: Now, asker: Asker, name: Option<&str>, deadline: Mono) {
        let result = self.heir_asked_for(now, name);
        match result {
            Err(failure) => self.end_question(now, asker, Err(failure)),
            Ok(heir) if heir == self.me => {
                let name = self.options.name.clone();
                self.end_question(now, asker, Ok(LeaderAnswer::Transferred { from: name.clone(), to: name, ms: 0 }));
            }
            Ok(heir) => self.begin_handover(now, heir, Why::Asked { named: name.is_some() }, Some((asker, deadline))),
        }
    }

    fn heir_asked_for(&self, now: Now, name: Option<&str>) -> Result<NodeId, Failure> {
        if !self.raft.is_leader() {
            return Err(not_leading());
        }
        // Before all else: whoever asked first waits for the end of this one, and who leads after it is not known yet.
        if self.handover.is_under_way() {
            return Err(not_applied(Code::Busy, "leadership is being handed over already", "retry"));
        }
        let refuse = |what: String, hint: &str| Err(not_applied(Code::Refused, what, hint));
        let Some(name) = name else {
            return match self.heir(now) {
                Some(heir) => Ok(heir),
                None => refuse(
                    "no other voter could lead now".into(),
                    "look at `quorate members` and `quorate status` for what they lack",
                ),
            };
        };
        let Some(heir) = self.node_named(name).and_then(NodeId::new) else {
            return Err(self.unknown_name(name));
        };
        if heir == self.me {
            return Ok(heir);
        }
        match self.why_no_heir(now, &self.raft.status(), heir) {
            None => Ok(heir),
            Some(why) => {
                let hint = "choose another voter, or none: then the most caught-up healthy one is taken";
                refuse(format!("{} cannot lead now: it {why}", crate::limits::printable(name)), hint)
            }
        }
    }

    /// The node that this name means: who holds it, else who is here under it, else who was.
    pub(super) fn node_named(&self, name: &str) -> Option<u64> {
        if name == self.options.name {
            return Some(self.me.get());
        }
        let named = || self.members.members().filter(|m| m.name == name);
        let held = self.registry.holder(name).map(|r| r.node);
        let here = || named().find(|m| m.state.is_present()).map(|m| m.node);
        held.or_else(here).or_else(|| named().max_by_key(|m| m.since).map(|m| m.node))
    }

    /// The most caught-up healthy voter, of those that have room if any has; none if no other voter could lead.
    pub(super) fn heir(&self, now: Now) -> Option<NodeId> {
        let status = self.raft.status();
        let others = status.peers.iter().filter(|(node, _)| self.why_no_heir(now, &status, **node).is_none());
        let best = others.max_by_key(|(node, peer)| (!peer.full, self.trust(**node), peer.matched, peer.last_heard));
        best.map(|(node, _)| *node)
    }

    /// Only a voter itself knows all that keeps it from standing: its disk that hangs or cannot be read, say. Who was asked
    /// and did not take over comes after the others, who did so lately last of all.
    fn trust(&self, node: NodeId) -> Reverse<Option<Mono>> {
        Reverse(self.handover.declined.get(&node).copied())
    }

    /// Hands over to the best of these that could lead, if there is one.
    pub(super) fn hand_over_to_one_of(&mut self, now: Now, heirs: &BTreeSet<NodeId>, why: Why) {
        let status = self.raft.status();
        let able = heirs.iter().copied().filter(|heir| self.why_no_heir(now, &status, *heir).is_none());
        let best = able.max_by_key(|heir| (self.trust(*heir), status.peers.get(heir).map(|peer| peer.matched)));
        if let Some(heir) = best.filter(|_| !self.handover.is_under_way()) {
            self.begin_handover(now, heir, why, None);
        }
    }

    /// Why this node could not lead, to be read after "it".
    fn why_no_heir(&self, now: Now, status: &Status, node: NodeId) -> Option<String> {
        let configuration = &status.configuration;
        if configuration.learners.contains(&node) {
            return Some("is a learner and has no vote".into());
        }
        if !configuration.voters.contains(&node) {
            return Some("is not a voter".into());
        }
        if self.registry.has_departed(node.get()) {
            return Some("is leaving".into());
        }
        if self.registry.is_draining(node.get()) && !mutant!(DrainedLeads) {
            return Some("is drained".into());
        }
        match self.members.member(node.get()).map(|m| m.state) {
            Some(State::Alive | State::Suspect) => {}
            Some(state) => return Some(format!("is {state}")),
            None => return Some("was never seen".into()),
        }
        let Some(peer) = status.peers.get(&node).filter(|_| self.is_healthy(now.mono, status, node)) else {
            return Some("has not answered within an election timeout".into());
        };
        if self.spares.is_sick(now.mono, node.get()) {
            return Some("cannot read all of its log".into());
        }
        let lacks = status.committed.0.saturating_sub(peer.matched.0);
        if lacks > LAG_ENTRIES_MAX {
            return Some(format!("lacks {lacks} entries that are committed"));
        }
        self.clock_of(now, node.get()).map(|off| format!("has a clock that is {off} the voters' median"))
    }

    /// Hands over to this voter. How it ends, `handover_ended` hears.
    pub(super) fn begin_handover(&mut self, now: Now, heir: NodeId, why: Why, asker: Option<(Asker, Mono)>) {
        let ticket = self.token();
        self.note(Level::Info, format!("handing leadership over to {}: {}", self.name_of(heir.get()), why.text()));
        self.handover.current = Some(Current { ticket, heir, since: now.mono, why, asker });
        self.tell_forwarders();
        self.raft.handle(now, quorate_raft::Input::Transfer { ticket: Ticket(ticket), to: Some(heir) });
        self.drain_raft(now);
    }

    /// Who forwards to this node must not take what is under way for lost as soon as it hears of another leader: this one
    /// lives, and answers when it knows what has become of it. Told before a handover, and by a leader that was deposed
    /// although it lives: one that got too little of its processor, or that was cut off for a moment.
    pub(super) fn tell_forwarders(&mut self) {
        let forwarders: Vec<u64> = self.peers.up().map(|peer| peer.node).collect();
        for node in forwarders {
            let id = self.token();
            let ask = super::PeerMessage::Ask { id, timeout_ms: 0, ask: super::LeaderAsk::HandingOver };
            self.send(node, super::Class::Peer, ask);
        }
    }

    /// The end of a handover, if `ticket` is one.
    pub(super) fn handover_done(&mut self, now: Now, ticket: u64, outcome: Outcome) -> bool {
        let Some(current) = self.handover.current.take_if(|current| current.ticket == ticket) else { return false };
        let result = self.end_of(now, &current, outcome);
        match &result {
            Ok(LeaderAnswer::Transferred { to, ms, .. }) => {
                self.note(Level::Info, format!("{to} leads, {ms} ms after this agent began to hand over"));
            }
            Ok(_) => {}
            Err(failure) => {
                self.handover.not_before = now.mono.after(TRY_AGAIN);
                self.handover.declined.retain(|_, at| now.mono.since(*at) < DECLINED_FOR);
                if matches!(outcome, Outcome::Rejected(Reject::HeirLate { asked: true })) {
                    self.handover.declined.insert(current.heir, now.mono);
                }
                // What it cannot read it cannot send: whoever wins now leads better.
                if current.why == Why::Damaged && self.heir(now).is_some() {
                    self.raft.handle(now, quorate_raft::Input::StepDown);
                }
                self.note(Level::Warn, format!("leadership was not handed over: {}", failure.what));
                if current.why == Why::Disk && self.why_unfit() == Some(Why::Disk) {
                    self.lead_no_more(now);
                }
            }
        }
        if let Some((asker, _)) = current.asker {
            self.end_question(now, asker, result);
        }
        // Whatever waited for the end of it goes on, here or with the heir.
        self.retry_appends(now);
        self.hurry(now);
        true
    }

    fn end_of(&self, now: Now, current: &Current, outcome: Outcome) -> Result<LeaderAnswer, Failure> {
        let heir = self.name_of(current.heir.get());
        let ms = u64::try_from(now.mono.since(current.since).as_millis()).unwrap_or(u64::MAX);
        let from = self.options.name.clone();
        let winner = self.raft.leader().filter(|leader| *leader != self.me).map(|leader| self.name_of(leader.get()));
        let window = self.options.raft.election_timeout_max.as_millis();
        match (outcome, winner) {
            (Outcome::Committed { .. }, _) => Ok(LeaderAnswer::Transferred { from, to: heir, ms }),
            (_, Some(to)) if current.why != (Why::Asked { named: true }) => {
                Ok(LeaderAnswer::Transferred { from, to, ms })
            }
            (_, Some(to)) => {
                let what = format!("{to} was elected instead of {heir}");
                Err(not_applied(Code::Conflict, what, "transfer again if it must be that one"))
            }
            (Outcome::Rejected(Reject::HeirLate { asked: true }), None) => Err(Failure {
                code: Code::Refused,
                effect: Effect::Unknown,
                what: format!("{heir} was asked to take over and has not within {window} ms; {from} leads on"),
                hint: "it may still take over: look at `quorate status`, then choose another one".into(),
            }),
            (Outcome::Rejected(Reject::HeirLate { asked: false }), None) => {
                let what = format!("{heir} did not catch up within {window} ms; {from} leads on");
                Err(not_applied(Code::Refused, what, "try again when it lags less, or choose another voter"))
            }
            (Outcome::Rejected(Reject::Transferring), None) => {
                Err(not_applied(Code::Busy, "leadership is being handed over already", "retry"))
            }
            _ => Err(not_leading()),
        }
    }

    /// One turn: a leader that is not fit to lead finds somebody who is, and who waits too long is told.
    pub(super) fn keep_handing_over(&mut self, now: Now) {
        if let Some(current) = &mut self.handover.current {
            let late = current.asker.take_if(|(_, deadline)| *deadline <= now.mono);
            if let Some((asker, _)) = late {
                self.end_question(now, asker, Err(not_over_in_time()));
            }
            return;
        }
        if !self.raft.is_leader() || now.mono < self.handover.not_before {
            return;
        }
        let Some(why) = self.why_unfit() else { return };
        let heir = match why {
            // An heir whose disk is full could not serve better.
            Why::Clock | Why::Room => self.heir_with_room(now),
            Why::Flaps => self.heir(now).filter(|heir| !self.flaps(heir.get())),
            _ => self.heir(now),
        };
        match heir {
            Some(heir) => self.begin_handover(now, heir, why, None),
            None if why == Why::Disk => self.lead_no_more(now),
            // Nobody would do better: it stays, and `status` says what is wrong.
            None => self.handover.not_before = now.mono.after(TRY_AGAIN),
        }
    }

    /// This node's disk hangs, others have committed without it, and none of them can be asked to lead: it makes way, and
    /// they elect. It is reluctant then, so it is not the one.
    fn lead_no_more(&mut self, now: Now) {
        if self.raft.is_leader() {
            self.note(Level::Warn, "leading no more: the disk of this agent hangs, and the others go on without it");
            self.raft.handle(now, quorate_raft::Input::StepDown);
        }
    }

    /// Hands over for a reason of its own, if somebody can take over; says whether that has begun.
    pub(super) fn hand_over_for(&mut self, now: Now, why: Why) -> bool {
        let can = self.raft.is_leader() && !self.handover.is_under_way();
        let heir = if can { self.heir(now) } else { None };
        if let Some(heir) = heir {
            self.begin_handover(now, heir, why, None);
        }
        heir.is_some()
    }
}

fn not_over_in_time() -> Failure {
    Failure {
        code: Code::NoQuorum,
        effect: Effect::Unknown,
        what: "the handover has not ended in time".into(),
        hint: "look at `quorate status` for who leads".into(),
    }
}
