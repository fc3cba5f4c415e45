//! Pact: `member` and `scene` with clocks, in the shape of the house: `handle`, `poll_output`, `poll_timeout`, `status`.
//!
//! It never tells anybody what is not durable, and is silent in an agent that nobody told to expect others.

use super::member::Member;
use super::proposal::{Proposal, ProposalId};
use super::record::Record;
use super::report::Report;
use super::scene::{Heard, Scene, Sight};
use quorate_raft::Mono;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// Reports kept, one for each connected agent: more agents than that are never told to expect each other.
const REPORTS_MAX: usize = 256;

/// Tunables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// How long those with the lowest ids must be the same before they found a log, while a join address is silent: who
    /// is about to come is waited for. Default 3 s.
    pub settle: Duration,
    /// The same when every join address has answered. Default 300 ms.
    pub settle_all: Duration,
    /// So much later each further founder proposes, should those before it be silent. Default 1 s.
    pub rank_step: Duration,
    /// A pledge that is open for so long is called off. Safe at any time, so not long. Default 10 s.
    pub call_off: Duration,
    /// So much later each further founder does: two ballots at once get in each other's way. Default 3 s.
    pub call_off_step: Duration,
    /// What may have been lost is told again after this. Default 1 s.
    pub tell_again: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            settle: Duration::from_secs(3),
            settle_all: Duration::from_millis(300),
            rank_step: Duration::from_secs(1),
            call_off: Duration::from_secs(10),
            call_off_step: Duration::from_secs(3),
            tell_again: Duration::from_secs(1),
        }
    }
}

/// The world speaks.
#[derive(Clone, Debug)]
pub enum Input {
    /// Nothing but the time.
    Timeout,
    /// What is seen now.
    Scene(Scene),
    /// A connected agent has reported.
    Heard {
        /// Who, proven by the connection.
        from: u64,
        /// Its name, proven likewise.
        name: String,
        /// What.
        report: Box<Report>,
    },
    /// The record of this number is durable.
    Saved {
        /// Which.
        change: u64,
    },
    /// This node belongs to a log now.
    Joined {
        /// Which.
        log: [u8; 16],
    },
}

/// The core asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Make this durable, then answer `Saved`.
    Save {
        /// Names it.
        change: u64,
        /// What.
        record: Record,
    },
    /// Tell this agent; it may be lost.
    Tell {
        /// Whom.
        node: u64,
        /// What.
        report: Box<Report>,
    },
    /// Write the first entry of this log, which is decided; answer `Joined` when that is durable.
    Found(Proposal),
}

/// See the module.
#[derive(Debug)]
pub struct Pact {
    options: Options,
    pub(super) member: Member,
    pub(super) scene: Scene,
    pub(super) reports: BTreeMap<u64, Heard>,
    /// Who would found a log now, and since when.
    settling: Option<(Vec<u64>, Mono)>,
    /// What is open, and when it is called off.
    patience: Option<(ProposalId, Mono)>,
    /// What each connected agent was told: the change, and whether it had a log then; and when all are told again.
    told: BTreeMap<u64, (u64, bool)>,
    tell_at: Mono,
    is_founded: bool,
    outputs: VecDeque<Output>,
}

impl Pact {
    /// As the disk left it.
    #[must_use]
    pub fn restore(options: Options, member: Member, now: Mono) -> Self {
        let mut pact = Self {
            options,
            member,
            scene: Scene::default(),
            reports: BTreeMap::new(),
            settling: None,
            patience: None,
            told: BTreeMap::new(),
            tell_at: now,
            is_founded: false,
            outputs: VecDeque::new(),
        };
        pact.turn(now);
        pact
    }

    /// Does it take no part in anything: it was not told to expect anybody, and has never pledged itself?
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.member.expect() == 0 && self.member.record().is_empty()
    }

    /// Is it bound to a log that may yet come? Until that is decided it takes part in no other one.
    #[must_use]
    pub fn is_bound(&self) -> bool {
        self.member.record().pledge.is_some() && self.member.log().is_none()
    }

    /// Has this connected agent said that it is bound to a log that may yet come?
    #[must_use]
    pub fn is_bound_peer(&self, node: u64) -> bool {
        self.reports.get(&node).is_some_and(|h| h.report.pledge.is_some() && h.report.log.is_none())
    }

    /// The log that it knows this node to belong to.
    #[must_use]
    pub fn log(&self) -> Option<[u8; 16]> {
        self.member.log()
    }

    /// What it has pledged itself to, if anything.
    #[must_use]
    pub fn proposal(&self) -> Option<&Proposal> {
        self.member.record().pledge.as_ref().map(|pledge| &pledge.proposal)
    }

    /// The world speaks.
    pub fn handle(&mut self, now: Mono, input: Input) {
        match input {
            Input::Timeout => {}
            Input::Scene(scene) => {
                self.reports.retain(|node, _| scene.peers.contains_key(node));
                self.told.retain(|node, _| scene.peers.contains_key(node));
                self.scene = scene;
            }
            Input::Heard { from, name, report } => self.heard(from, name, *report),
            Input::Saved { change } => self.member.saved(change),
            Input::Joined { log } => self.member.joined(log),
        }
        self.turn(now);
    }

    /// What the core asks of the world, in order.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to call `handle` with `Timeout` if nothing else happens.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Mono> {
        if self.is_idle() || (self.member.log().is_some() && self.member.open().is_none()) {
            return None;
        }
        let proposes = self.settling.as_ref().map(|(_, at)| *at);
        // What is not on disk yet is told to nobody: the end of its writing wakes this, not the time.
        let tells = self.member.is_durable().then_some(self.tell_at);
        [tells, proposes, self.patience.map(|(_, at)| at)].into_iter().flatten().min()
    }

    pub(super) fn sight(&self) -> Sight<'_> {
        Sight { member: &self.member, scene: &self.scene, reports: &self.reports }
    }

    fn heard(&mut self, from: u64, name: String, report: Report) {
        if self.is_idle() || (self.reports.len() >= REPORTS_MAX && !self.reports.contains_key(&from)) {
            return;
        }
        // Whoever asks to found a log with others is judged by what is seen now, itself included.
        self.reports.insert(from, Heard { name, report: report.clone() });
        let toward = report.pledge.as_ref().map(|(proposal, _)| proposal.id());
        let may_found = toward.is_some_and(|id| self.sight().may_found(Some(&id)));
        let answer = self.member.hear(from, &report, may_found);
        // Those who are still undecided tell each other anyway; who is done only answers.
        let is_done = self.member.log().is_some();
        if answer.never.is_some() || (is_done && answer.lacks) {
            self.tell(from, answer.never);
        }
    }

    fn tell(&mut self, node: u64, never: Option<(ProposalId, super::Signature)>) {
        if let Some(report) = self.member.report() {
            self.outputs.push_back(Output::Tell { node, report: Box::new(Report { never, ..report }) });
        }
    }

    /// What is due now.
    fn turn(&mut self, now: Mono) {
        if self.is_idle() {
            return;
        }
        self.keep_proposing(now);
        self.keep_patience(now);
        if let Some((change, record)) = self.member.poll_save() {
            self.outputs.push_back(Output::Save { change, record });
        }
        if let Some(proposal) = self.member.founds().filter(|_| !self.is_founded).cloned() {
            self.is_founded = true;
            self.outputs.push_back(Output::Found(proposal));
        }
        self.keep_telling(now);
    }

    fn keep_proposing(&mut self, now: Mono) {
        if !self.member.is_free() {
            self.settling = None;
            return;
        }
        let Some((founders, floor)) = self.sight().founders() else {
            self.settling = None;
            return;
        };
        let nodes: Vec<u64> = founders.iter().map(|f| f.node).collect();
        let rank = nodes.iter().position(|node| *node == self.member.me().node).unwrap_or_default();
        let settle = if self.scene.silent.is_empty() { self.options.settle_all } else { self.options.settle };
        let at = match &self.settling {
            Some((known, at)) if *known == nodes => *at,
            _ => now.after(settle + self.options.rank_step * rank as u32),
        };
        self.settling = Some((nodes, at));
        if now >= at {
            self.settling = None;
            self.member.propose(founders, floor);
        }
    }

    fn keep_patience(&mut self, now: Mono) {
        let Some(open) = self.member.open() else {
            self.patience = None;
            return;
        };
        let (id, rank) = (open.proposal.id(), open.proposal.rank(self.member.me().node).unwrap_or_default());
        let wait = self.options.call_off + self.options.call_off_step * rank as u32;
        match self.patience {
            Some((known, at)) if known == id => {
                if now >= at {
                    self.patience = Some((id, now.after(wait)));
                    self.member.call_off();
                }
            }
            _ => self.patience = Some((id, now.after(wait))),
        }
    }

    /// Each connected agent hears at once what has changed, and while anything is open all of it now and then.
    fn keep_telling(&mut self, now: Mono) {
        if !self.member.is_durable() {
            return;
        }
        let state = (self.member.changes(), self.member.log().is_some());
        let again = now >= self.tell_at && self.member.log().is_none();
        if now >= self.tell_at {
            self.tell_at = now.after(self.options.tell_again);
        }
        let due: Vec<u64> =
            self.scene.peers.keys().copied().filter(|node| again || self.told.get(node) != Some(&state)).collect();
        for node in due {
            self.told.insert(node, state);
            self.tell(node, None);
        }
    }
}
