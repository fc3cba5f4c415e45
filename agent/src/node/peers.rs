//! Who is who: the agents this one is connected to, as their Hello proved them.

use super::warm::MESH_MAX;
use super::{Boot, Input, Known, Level, Node, Output, Peer, PeerMessage};
use quorate_membership::State;
use quorate_raft::{BootId, Mono, NodeId, Now};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

/// An agent outside Raft that has heard no leader for so long looks for a new one: two views are missing by then.
const VIEW_OLD: Duration = Duration::from_secs(5);

/// How many agents that nobody has proven to exist are dialled at one time.
const HINTS_MAX: usize = 8;

/// How long each of them is tried, before others have their turn.
const HINTS_FOR: Duration = Duration::from_secs(10);

/// How long the end of a connection is remembered.
const FORGET_AFTER: Duration = Duration::from_secs(86_400);

/// The connected agents and when the others were last heard.
#[derive(Debug, Default)]
pub(super) struct Peers {
    up: BTreeMap<u64, Peer>,
    last_up: BTreeMap<u64, Mono>,
    kept: BTreeMap<u64, SocketAddr>,
    remembered: Vec<Known>,
    /// The address this node advertises is one that a peer saw.
    learned_address: bool,
}

impl Peers {
    pub(super) fn get(&self, node: u64) -> Option<&Peer> {
        self.up.get(&node)
    }
    pub(super) fn is_up(&self, node: u64) -> bool {
        self.up.contains_key(&node)
    }
    pub(super) fn up(&self) -> impl Iterator<Item = &Peer> {
        self.up.values()
    }
    /// It says that it joined this log; gives it, if that is news.
    pub(super) fn joined(&mut self, node: u64, log_id: [u8; 16]) -> Option<Peer> {
        let peer = self.up.get_mut(&node).filter(|peer| peer.log_id.is_none())?;
        peer.log_id = Some(log_id);
        Some(peer.clone())
    }
    /// When this node was last connected; now, if it is.
    pub(super) fn last_up(&self, node: u64, now: Mono) -> Option<Mono> {
        if self.is_up(node) { Some(now) } else { self.last_up.get(&node).copied() }
    }
}

impl Node {
    /// Which boots the disk knows of: nobody may connect with an earlier one, even before the registry is replayed.
    pub(super) fn read_boots(&mut self, boot: &Boot) {
        boot.control.iter().for_each(|entry| self.boots.read(entry));
        boot.known.iter().for_each(|known| self.boots.saw(known.node, known.epoch, known.boot));
    }

    pub(super) fn peer_up(&mut self, now: Now, peer: Peer) {
        if peer.node == self.me.get() {
            return;
        }
        if let Some(id) = NodeId::new(peer.node) {
            self.raft.handle(now, quorate_raft::Input::PeerUp { peer: id, boot: BootId(peer.boot) });
        }
        self.boots.saw(peer.node, peer.epoch, peer.boot);
        self.note_other_history(&peer);
        self.learn_own_address(now, &peer);
        self.gossip_contact(now, &peer);
        let (node, addr) = (peer.node, peer.addr);
        self.peers.up.insert(node, peer);
        self.speak_warmed(now, node, addr);
        self.say_asked_tags(now, node);
        self.tell_history(node);
        self.repair_helper_came(now, node);
        self.hurry(now);
    }

    pub(super) fn peer_down(&mut self, now: Now, node: u64) {
        if self.peers.up.remove(&node).is_none() {
            return;
        }
        self.peers.last_up.insert(node, now.mono);
        // Silence of a day needs no exact beginning.
        self.peers.last_up.retain(|_, at| now.mono.since(*at) < FORGET_AFTER);
        self.clocks.forget(node);
        if let Some(id) = NodeId::new(node) {
            self.raft.handle(now, quorate_raft::Input::PeerDown { peer: id });
        }
        self.warm.down(node);
        self.views_told.forget(node);
        if self.warm.is_sparse() && !self.pinned(now.mono).contains(&node) {
            // Whichever side closed it: it is dialled again when there is something to say.
            if self.peers.kept.remove(&node).is_some() {
                self.emit(Output::Unkeep { node });
            }
            self.gossip_released(now, node);
        } else {
            self.gossip_lost(now, node);
        }
        self.replication.forget(node);
        self.repair_lost(node);
        self.forwards_lost(now, node);
        self.asks_lost(now, node);
        self.hurry(now);
    }

    /// Raft repeats itself; a forwarded append must not, so its asker learns at once that nobody can say.
    pub(super) fn frames_lost(&mut self, now: Now, node: u64) {
        self.views_told.forget(node);
        self.repair_lost(node);
        self.forwards_lost(now, node);
        self.asks_lost(now, node);
        self.hurry(now);
    }

    /// An agent without an address of its own takes the one that others see.
    fn learn_own_address(&mut self, now: Now, peer: &Peer) {
        let Some(observed) = peer.observed.map(|addr| addr.ip().to_canonical()) else { return };
        let current = self.options.advertise.ip();
        let is_better = if observed.is_loopback() {
            // What a neighbour on the same machine sees is of no use to others, and no two neighbours need agree.
            current.is_unspecified() && self.formation.is_local()
        } else {
            // The first remote agent knows better than a neighbour.
            current.is_unspecified() || (self.peers.learned_address && current.is_loopback())
        };
        if is_better && !observed.is_unspecified() {
            let addr = SocketAddr::new(observed, self.options.advertise.port());
            self.options.advertise = addr;
            self.peers.learned_address = true;
            self.gossip_set_addr(now, addr);
            let name = crate::limits::printable(&peer.name);
            self.note(Level::Info, format!("advertising {addr}, the address that {name} sees"));
        }
    }

    pub(super) fn peer_message(&mut self, now: Now, node: u64, message: PeerMessage) {
        match message {
            PeerMessage::Raft(raft) => self.raft_message(now, node, *raft),
            PeerMessage::Forward { id, append } => self.forwarded_append(now, node, id, append),
            PeerMessage::Forwarded { id, result } => self.forward_ended(now, node, id, result),
            PeerMessage::Ask { id, timeout_ms, ask } => self.leader_asked(now, node, id, timeout_ms, ask),
            PeerMessage::Answered { id, result } => self.leader_answered(now, node, id, result),
            PeerMessage::View(view) => self.view_received(now, node, view),
            PeerMessage::Joined { log_id } => self.peer_joined(now, node, log_id),
            PeerMessage::RepairRequest { id, seed, first, last } => {
                self.repair_asked(now, node, id, seed, (first, last))
            }
            PeerMessage::Missed { seed, nodes } => self.missed_told(node, seed, &nodes),
            PeerMessage::Founding(report) => self.founding_heard(now, node, report),
            PeerMessage::Chain { seed, mark } => self.mark_told(now, node, seed, mark),
            PeerMessage::RepairReply { id, has } => self.repair_answered(now, node, id, has),
        }
    }

    /// Where a node is: what gossip says, else its Hello, else what was remembered.
    pub(super) fn addr_of(&self, node: u64) -> Option<SocketAddr> {
        let gossip = self.members.member(node).map(|m| m.addr);
        gossip.or_else(|| self.peers.get(node).map(|p| p.addr))
    }

    /// Those this agent is always connected with: the group, the leader; while that is not heard, all who may lead by now.
    fn pinned(&self, now: Mono) -> BTreeSet<u64> {
        let configuration = self.raft.configuration();
        let group = [&configuration.voters, &configuration.outgoing, &configuration.learners];
        let mut pinned: BTreeSet<u64> = group.into_iter().flatten().map(|id| id.get()).collect();
        if let Some(view) = &self.view {
            pinned.insert(view.leader);
            let is_lost = now.since(self.view_heard) >= VIEW_OLD || !self.peers.is_up(view.leader);
            if !self.in_raft() && is_lost {
                pinned.extend(&view.voters);
            }
        }
        pinned
    }

    /// Connections wanted: every living agent in a small cluster; in a large one whom gossip talks to (see `warm`); the
    /// group, always.
    pub(super) fn keep_peers(&mut self, now: Now) {
        self.warm.resize(self.members.alive_count());
        let mut wanted = self.pinned(now.mono);
        if self.warm.is_sparse() {
            // Connections from when the cluster was small stay as long as they are used.
            wanted.extend(self.peers.kept.keys().filter(|node| self.peers.is_up(**node)));
        } else {
            let living = |proven| self.members.members().filter(move |m| gossip_wants(m.state) && m.proven == proven);
            wanted.extend(living(true).map(|m| m.node).take(MESH_MAX));
            // Of whom only others tell is a hint: dialled, a few at a time, never instead of somebody who is known.
            let hints: Vec<u64> = living(false).map(|m| m.node).collect();
            let turn = (now.mono.since(Mono(0)).as_micros() / HINTS_FOR.as_micros()) as usize;
            let first = turn.wrapping_mul(HINTS_MAX) % hints.len().max(1);
            wanted.extend(hints.iter().cycle().skip(first).take(HINTS_MAX.min(hints.len())));
        }
        wanted.remove(&self.me.get());
        if self.leave.is_shut_out(now.mono) {
            wanted.clear();
        }
        let gone: Vec<u64> = self.peers.kept.keys().filter(|n| !wanted.contains(n)).copied().collect();
        for node in gone {
            self.peers.kept.remove(&node);
            self.emit(Output::Unkeep { node });
            // Whoever dialled it: a connection that nobody speaks on does not tell that the other end is dead.
            if self.peers.is_up(node) && self.members.member(node).is_some_and(|m| m.state == State::Failed) {
                self.emit(Output::Release { node });
            }
        }
        for node in wanted {
            if let Some(addr) = self.addr_of(node)
                && self.peers.kept.get(&node) != Some(&addr)
                && self.may_dial(now, node, addr)
            {
                self.peers.kept.insert(node, addr);
                self.emit(Output::Keep { node, addr });
            }
        }
    }

    /// Closes connections of a large cluster that nobody uses, or that are too many.
    pub(super) fn keep_warm(&mut self, now: Now) {
        // All hear from a leader what it sees.
        let (leads, pinned) = (self.raft.is_leader(), self.pinned(now.mono));
        let members = self.members.alive_count();
        for node in self.warm.take_unwanted(now.mono, members, |node| leads || pinned.contains(&node)) {
            if self.peers.kept.remove(&node).is_some() {
                self.emit(Output::Unkeep { node });
            }
            self.emit(Output::Release { node });
        }
    }

    /// Tells the shell which addresses are worth keeping over a restart, when they changed.
    pub(super) fn remember_peers(&mut self) {
        let known: Vec<Known> = self
            .members
            .members()
            .filter(|m| m.node != self.me.get() && gossip_wants(m.state) && !m.addr.ip().is_unspecified())
            .map(|m| {
                let (epoch, boot) = self.boots.of(m.node).unwrap_or_default();
                Known { node: m.node, name: m.name.into(), addr: m.addr, epoch, boot }
            })
            .take(MESH_MAX)
            .collect();
        // An agent that sees nobody keeps what it remembered: that is when it needs it.
        if !known.is_empty() && known != self.peers.remembered {
            self.peers.remembered.clone_from(&known);
            self.emit(Output::Remember(known));
        }
    }
}

fn gossip_wants(state: State) -> bool {
    matches!(state, State::Alive | State::Suspect | State::Leaving)
}

impl From<Peer> for Input {
    fn from(peer: Peer) -> Self {
        Self::PeerUp(peer)
    }
}
