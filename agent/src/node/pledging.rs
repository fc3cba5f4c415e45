//! Pledging: what this agent sees is told to the core that founds logs together, and its orders are carried out.
//!
//! It decides nothing about founding; it only keeps an agent that is bound to one log from taking part in another.

use super::{Boot, Class, Level, Node, Options, Output, PeerMessage};
use crate::pledge::{self, Founder, Member, Pact, Proposal, Record, Report, Scene};
use quorate_membership::State;
use quorate_raft::{LogIndex, Mono, Now, Term};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

/// The core as the disk left it.
pub(super) fn restored(options: &Options, boot: &Boot, now: Mono) -> Pact {
    let me = Founder { node: boot.meta.node.get(), key: options.keys.public(), name: options.name.clone() };
    let terms = (options.formation.expect, options.record_bytes_max as u64);
    let begun = boot.is_interrupted_together();
    let log = boot.meta.log_id.filter(|_| !begun);
    let member = Member::restore(options.keys.clone(), me, boot.meta.cluster, terms, boot.record.clone(), log);
    Pact::restore(pledge::Options::default(), member, now)
}

impl Node {
    /// What this node has pledged itself to found, if anything.
    #[must_use]
    pub fn pledged(&self) -> Option<&Proposal> {
        self.pact.proposal()
    }

    /// Has this connected agent said that it is bound to a log that may yet come?
    pub(super) fn is_bound_elsewhere(&self, node: u64) -> bool {
        self.pact.is_bound_peer(node)
    }

    /// One turn: the core sees what is.
    pub(super) fn look_around(&mut self, now: Now) {
        if self.pact.is_idle() {
            return;
        }
        let scene = self.scene();
        self.pact.handle(now.mono, pledge::Input::Scene(scene));
        self.drain_pact(now);
    }

    /// What is due in it.
    pub(super) fn keep_pact(&mut self, now: Now) {
        if self.pact.poll_timeout().is_some_and(|due| due <= now.mono) {
            self.pact.handle(now.mono, pledge::Input::Timeout);
        }
        if !self.pact.is_idle() {
            self.drain_pact(now);
        }
    }

    /// An agent has reported.
    pub(super) fn founding_heard(&mut self, now: Now, node: u64, report: Box<Report>) {
        if self.pact.is_idle() {
            return;
        }
        let Some(name) = self.peers.get(node).map(|p| p.name.clone()) else { return };
        let scene = self.scene();
        self.pact.handle(now.mono, pledge::Input::Scene(scene));
        self.pact.handle(now.mono, pledge::Input::Heard { from: node, name, report });
        self.drain_pact(now);
    }

    fn drain_pact(&mut self, now: Now) {
        // What it has founded it belongs to once that is durable.
        let is_there = self.raft.durable() > LogIndex::ZERO || !self.pact.is_bound();
        if let Some(log) = self.log_id.filter(|_| is_there && self.pact.log().is_none()) {
            self.pact.handle(now.mono, pledge::Input::Joined { log });
        }
        while let Some(output) = self.pact.poll_output() {
            match output {
                pledge::Output::Save { change, record } => {
                    self.note_pledge(&record);
                    self.emit(Output::Pledge { change, record: Box::new(record) });
                }
                pledge::Output::Tell { node, report } => {
                    self.send(node, Class::Peer, PeerMessage::Founding(report));
                }
                pledge::Output::Found(proposal) => {
                    self.found_together(now, &proposal);
                    self.hurry(now);
                }
            }
        }
    }

    /// For people, each pledge once, and its end.
    fn note_pledge(&mut self, record: &Record) {
        let id = record.pledge.as_ref().map(|pledge| pledge.proposal.id());
        let before = std::mem::replace(&mut self.pledge_noted, id);
        match &record.pledge {
            Some(pledge) if before != id => {
                let names: Vec<&str> = pledge.proposal.founders().iter().map(|f| f.name.as_str()).collect();
                let id = hex::encode(pledge.proposal.id());
                self.note(Level::Info, format!("pledged to found log {id} with nobody else than {}", names.join(", ")));
            }
            None if before.is_some() => {
                self.note(Level::Warn, "the founding that this agent had pledged itself to is off")
            }
            _ => {}
        }
    }

    /// Who is there, who is silent, and who has a log.
    fn scene(&self) -> Scene {
        let peers = self.peers.up().filter(|p| p.expects).map(|p| (p.node, p.name.clone())).collect();
        let founder = self.peers.up().find(|p| p.founder && p.log_id.is_none()).map(|p| p.name.clone());
        // Whoever has heard a leader or a candidate was part of something, whether anybody of that is seen now or not.
        let heard = self.view.is_some() || (self.log_id.is_none() && self.raft.term() != Term::ZERO);
        let sees_log = heard || self.peers.up().any(|p| p.log_id.is_some());
        Scene { peers, silent: self.silent(), sees_log, founder }
    }

    /// Join addresses and known members that do not answer, each once. A disk that was replaced is no member that is missed:
    /// whoever is connected under its name or at its address stands for it.
    fn silent(&self) -> Vec<String> {
        let me = self.me.get();
        let here: BTreeSet<SocketAddr> = self.peers.up().map(|p| p.addr).chain([self.options.advertise]).collect();
        let names: BTreeSet<&str> = self.peers.up().map(|p| &*p.name).chain([&*self.options.name]).collect();
        let missed = |m: &quorate_membership::Member| {
            // Among very many, not everybody who answers probes is connected with everybody; join addresses count all the same.
            let is_cold = self.warm.is_sparse() && m.state == State::Alive;
            let is_there = m.node == me || self.peers.is_up(m.node) || here.contains(&m.addr) || is_cold;
            m.state != State::Left && !is_there && !names.contains(&*m.name)
        };
        let mut missed: BTreeMap<u64, (SocketAddr, String)> = self
            .members
            .members()
            .filter(missed)
            .map(|m| {
                (m.node, (m.addr, format!("{} ({}) is {} and not connected", self.name_of(m.node), m.addr, m.state)))
            })
            .collect();
        let mut silent = Vec::new();
        let is_here = |node: u64| node == me || self.peers.is_up(node);
        for place in self.formation.places() {
            // Where somebody was before it moved nobody is missed.
            let has_moved = place.of.is_some_and(|(node, name)| is_here(node) || names.contains(name));
            let answers = place.node.is_some_and(is_here) || place.tried.iter().any(|a| here.contains(a));
            if !answers && !has_moved {
                missed.retain(|n, (addr, _)| {
                    ![place.node, place.of.map(|(node, _)| node)].contains(&Some(*n)) && !place.tried.contains(addr)
                });
                let why = place.why.unwrap_or("not tried yet");
                silent.push(format!("{} has not answered ({})", place.name, crate::limits::printable(why)));
            }
        }
        silent.extend(missed.into_values().map(|(_, text)| text));
        silent
    }
}
