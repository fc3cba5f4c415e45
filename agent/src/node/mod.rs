//! Node: the whole agent as one pure core. It routes the outputs of one core to the inputs of another.
//!
//! It owns no socket, file, clock, log line or entropy. Each policy is a file beside this one; this file is their
//! table of contents.

mod admission;
mod appends;
mod apply;
mod autopilot;
mod boots;
mod checkpoints;
mod clock;
mod compare;
mod denied;
mod drain;
mod errands;
mod facts;
mod fitness;
mod forget;
mod formation;
mod gather;
mod gossip;
mod handover;
mod histories;
mod in_hand;
mod io;
mod known;
mod lately;
mod leave;
pub mod level;
mod lies;
mod message;
mod operate;
mod options;
mod own_tags;
mod peers;
mod pledging;
mod questions;
mod remove;
mod repair;
mod replication;
mod roles;
mod room;
mod seats;
mod spares;
mod stages;
mod stopping;
mod strangers;
mod tail_cache;
mod view;
mod views;
mod warm;

pub use admission::{Caller, Gate};
pub use checkpoints::{CHECKPOINT_BYTES_DEFAULT, CHECKPOINT_ENTRIES_DEFAULT};
pub use compare::Mark;
pub use denied::Denied;
pub use formation::{Formation, LOOK_FOR_DEFAULT};
pub use io::*;
pub use known::Known;
pub use lies::Offence;
pub use message::*;
pub use options::{
    Boot, Founding, GROWTH_PATIENCE_DEFAULT, NAME_HOLD_DEFAULT, Options, REPLICAS_MAX_DEFAULT, others_in,
};

use crate::api::{Code, Effect, Failure};
use crate::checkpoint::Checkpoint;
use crate::machine::{log::InFlight, log::LogMachine, registry::Registry};
use crate::pledge::{self, Pact};
use quorate_membership::Membership;
use quorate_raft::{HardState, LogIndex, Mono, NodeId, Now, PersistTicket, Raft, Saved, Term};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// How often policies look at the world even if nothing happens. A little longer than the pause between two heartbeats at
/// rest: so a round is taken along with each of them, instead of waking the agent just before or after.
const RECONCILE_EVERY: Duration = Duration::from_millis(125);
/// How often a leader tells agents outside Raft what has changed.
const VIEW_EVERY: Duration = Duration::from_millis(500);
/// The same is noted about the same agent only after this long.
const NOTE_AGAIN: Duration = Duration::from_secs(30);
/// Notes remembered for that.
const NOTED_MAX: usize = 256;
/// Bytes of the newest entries kept in memory.
const TAIL_CACHE_BYTES: usize = 16 << 20;

/// The agent.
#[derive(Debug)]
pub struct Node {
    options: Options,
    me: NodeId,
    cluster: [u8; 16],
    epoch: u64,
    raft: Raft,
    members: Membership,
    /// The log's id, once this node belongs to a log.
    log_id: Option<[u8; 16]>,
    /// It did already when it started, so every Hello says so.
    had_log: bool,
    /// It has to be written with the next batch.
    log_id_unwritten: bool,
    record_bytes_max: usize,

    cache: tail_cache::TailCache,
    clocks: clock::Clocks,
    peers: peers::Peers,
    boots: boots::Boots,
    strangers: strangers::Strangers,
    replication: replication::Replication,

    log: LogMachine,
    registry: Registry,
    in_flight: InFlight,
    applied: apply::Applied,
    /// The commit index that the disk told at the start: what a leader has told in this life lies beyond it.
    begun_at: LogIndex,
    checkpoints: checkpoints::Checkpoints,

    appends: appends::Appends,
    stages: stages::Stages,
    /// A write that drops entries, until it is durable: so long its disk may give what it no longer holds.
    truncating: Option<PersistTicket>,
    questions: questions::Questions,
    autopilot: autopilot::Autopilot,
    watch: autopilot::Watch,
    decisions: autopilot::Decisions,
    formation: formation::State,
    pact: Pact,
    /// The pledge that people were told of.
    pledge_noted: Option<[u8; 16]>,
    /// The log that is being founded together, while that is done.
    founding: Option<Founding>,
    leave: leave::Leave,
    handover: handover::Handover,
    forgetting: forget::Forgetting,
    errands: errands::Errands,
    operating: operate::Operating,
    draining: drain::Draining,
    fitness: fitness::Fitness,
    room: room::Room,
    stopping: stopping::Stopping,
    repair: repair::Repair,
    spares: spares::Spares,
    compare: compare::Compare,
    lately: lately::Lately,

    own_tags: own_tags::OwnTags,
    warm: warm::Warm,

    views_told: views::Told,
    view: Option<View>,
    /// When its leader last told it.
    view_heard: Mono,
    next_reconcile: Mono,
    reconciled: Mono,
    next_view: Mono,
    /// The policies had a turn since the last publication.
    turned: bool,
    tokens: u64,
    reported: (Term, Option<NodeId>, quorate_raft::Role),
    published: Arc<Published>,
    /// What was noted about whom, and when.
    noted: BTreeMap<(u64, String), Mono>,
    /// Notes of late about members that nobody has proven to exist, and since when they are counted.
    hearsay: (u32, Mono),
    outputs: VecDeque<Output>,
    /// Something was heard since the cores had their turn, last at this moment.
    heard: Option<Now>,
}

impl Node {
    /// The agent as its disk left it. Its first outputs are ready at once. An error says which option is illegal.
    pub fn restore(options: Options, boot: Boot, now: Now) -> Result<Self, quorate_membership::Error> {
        let me = boot.meta.node;
        let interrupted = boot.is_interrupted_founding();
        let saved = Saved {
            // Nobody ever heard of a term that only its founder voted in; it founds again, under the same id.
            hard_state: if interrupted || boot.is_interrupted_together() {
                HardState::default()
            } else {
                boot.meta.hard_state
            },
            start: boot.recovered.start,
            runs: boot.recovered.runs.clone(),
            last: boot.recovered.last.map_or(boot.recovered.start.index, |h| h.index),
            configurations: boot.configurations(),
            // What a checkpoint holds was applied, so it was committed.
            committed: boot.checkpoints.checkpoint.as_ref().map_or(LogIndex::ZERO, Checkpoint::index),
            suspect: boot.recovered.suspect,
        };
        let raft = Raft::restore(options.raft.clone(), me, options.boot, saved, options.seed, now);
        let (own_tags, tags, fit) = own_tags::OwnTags::begin(&options.tags, boot.tags.clone());
        let options = Options { tags, ..options };
        let local = options.local_member(me.get(), boot.meta.boot_epoch)?;
        let gossip_seed = options.seed ^ 0x676f_7373_6970;
        let members = gossip::begin(&options, local, gossip_seed, now)?;
        let begun_at = raft.committed();
        let reported = (raft.term(), raft.leader(), raft.role());
        let mut node = Self {
            me,
            cluster: boot.meta.cluster,
            epoch: boot.meta.boot_epoch,
            raft,
            members,
            log_id: boot.meta.log_id,
            had_log: boot.meta.log_id.is_some(),
            log_id_unwritten: false,
            record_bytes_max: options.record_bytes_max,
            cache: tail_cache::TailCache::new(boot.recovered.last, TAIL_CACHE_BYTES),
            clocks: clock::Clocks::default(),
            peers: peers::Peers::default(),
            boots: boots::Boots::default(),
            strangers: strangers::Strangers::default(),
            replication: replication::Replication::default(),
            log: LogMachine::default(),
            registry: Registry::default(),
            in_flight: InFlight::default(),
            applied: apply::Applied::default(),
            begun_at,
            checkpoints: checkpoints::Checkpoints::default(),
            appends: appends::Appends::default(),
            stages: stages::Stages::default(),
            truncating: None,
            questions: questions::Questions::default(),
            autopilot: autopilot::Autopilot::default(),
            watch: autopilot::Watch::default(),
            decisions: autopilot::Decisions::default(),
            formation: formation::State::new(&options.formation, &boot, now.mono),
            pact: pledging::restored(&options, &boot, now.mono),
            founding: None,
            pledge_noted: None,
            leave: leave::Leave::default(),
            handover: handover::Handover::default(),
            forgetting: forget::Forgetting::default(),
            errands: errands::Errands::default(),
            operating: operate::Operating::default(),
            draining: drain::Draining::default(),
            fitness: fitness::Fitness::default(),
            room: room::Room::default(),
            stopping: stopping::Stopping::default(),
            repair: repair::Repair::default(),
            spares: spares::Spares::default(),
            compare: compare::Compare::default(),
            own_tags,
            warm: warm::Warm::default(),
            lately: lately::Lately::new(boot.meta.hard_state.term),
            views_told: views::Told::default(),
            view: None,
            view_heard: now.mono,
            next_reconcile: now.mono,
            reconciled: now.mono,
            next_view: now.mono,
            turned: false,
            // From a random start: an answer to a question of an earlier life must not meet one of this life.
            tokens: options.boot.0,
            reported,
            published: Arc::default(),
            noted: BTreeMap::new(),
            hearsay: (0, now.mono),
            outputs: VecDeque::new(),
            heard: None,
            options,
        };
        if let Err(why) = fit {
            node.note(Level::Warn, format!("the tags that were set at run time are left out: {why}"));
        }
        node.read_founding(&boot.control);
        node.read_boots(&boot);
        let damaged = boot.recovered.damaged.clone();
        node.resume(boot.checkpoints);
        if let Some(why) = node.why_too_old() {
            node.applied.halt(why);
        }
        node.damage_found(now, damaged);
        node.pump(now);
        Ok(node)
    }

    /// The world speaks. What follows from it is worked out when the outputs are taken, so that inputs that come
    /// together cost one turn of the cores, and appends among them travel in one entry.
    pub fn handle(&mut self, now: Now, input: Input) {
        self.heard = Some(now);
        match input {
            Input::Timeout => {}
            Input::PeerUp(peer) => self.peer_up(now, peer),
            Input::PeerDown { node } => self.peer_down(now, node),
            Input::FramesLost { node } => self.frames_lost(now, node),
            Input::Peer { node, message } => self.peer_message(now, node, message),
            Input::Malformed { node, what } => {
                self.cut_off(now, node, Offence::Malformed, &format!("a frame of it was refused: malformed {what}"));
            }
            Input::Datagram { node, bytes } => self.gossip_datagram(now, node, bytes),
            Input::Exchange { node, token, bytes } => self.gossip_exchange(now, node, token, bytes),
            Input::ExchangeReply { node, bytes } => self.gossip_reply(now, node, bytes),
            Input::SeedAnswered { seed, node } => self.seed_answered(&seed, node),
            Input::SeedFailed { seed, why, refusal, tried } => self.seed_failed(now, seed, why, refusal, tried),
            Input::PledgeKept { change } => self.pact.handle(now.mono, pledge::Input::Saved { change }),
            Input::TurnedAway { node, name, addr, why } => self.turned_away(now, node, name, addr, why),
            Input::Written { ticket } => self.written(now, ticket),
            Input::HardStateWritten { ticket } => {
                self.raft.handle(now, quorate_raft::Input::HardStatePersisted { ticket });
            }
            Input::Space { free, total, waits } => self.space_told(now, free, total, waits),
            Input::WriteRefused { why } => self.write_refused(why),
            Input::Fetched { token, entries } => self.fetched(now, token, entries),
            Input::Damaged { ranges } => self.damage_found(now, ranges),
            Input::Repaired { id, result } => self.repaired(now, id, result),
            Input::Checkpointed { index, result } => self.checkpointed(now, index, result),
            Input::Request(request) => self.request(now, request),
            Input::DialFailed { node } => self.warm.failed(node, now.mono),
            Input::TagsSaved { id, result } => self.tags_saved(now, id, result),
            Input::Stop => self.stop(now),
        }
    }

    /// What the agent asks of the world, in order.
    pub fn poll_output(&mut self) -> Option<Output> {
        if let Some(now) = self.heard.take() {
            self.pump(now);
        }
        self.outputs.pop_front()
    }

    /// When to call [`handle`](Self::handle) with [`Input::Timeout`] if nothing else happens.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Mono> {
        if self.heard.is_some() {
            return Some(Mono(0));
        }
        let gossip = self.members.poll_timeout().map(|m| Mono(m.0));
        let work = if self.applied.has_more() { Some(Mono(0)) } else { None };
        let mine = [gossip, self.raft.poll_timeout(), work, Some(self.next_reconcile), self.pact.poll_timeout()];
        mine.into_iter().flatten().min()
    }

    /// Until nothing moves: every output of a core becomes the input of another, or an output of ours.
    fn pump(&mut self, now: Now) {
        if self.raft.poll_timeout().is_some_and(|t| t <= now.mono) {
            self.raft.handle(now, quorate_raft::Input::Timeout);
        }
        self.gossip_timeout(now);
        self.keep_pact(now);
        self.drain_raft(now);
        self.drain_gossip(now);
        self.apply_committed(now);
        if self.is_time_to_reconcile(now.mono) {
            self.reconciled = now.mono;
            self.next_reconcile = now.mono.after(RECONCILE_EVERY);
            self.tick(now);
        }
        self.drain_raft(now);
        self.drain_gossip(now);
        // Last, since a commit that came in this turn makes room for the next entry.
        self.send_gathered(now);
        self.drain_raft(now);
        self.keep_checkpoints(now);
        self.publish(now);
    }

    /// A round that is due soon is taken along when something else has woken the agent: an idle one is woken by
    /// heartbeats only.
    fn is_time_to_reconcile(&self, now: Mono) -> bool {
        let half = RECONCILE_EVERY / 2;
        now >= self.next_reconcile || now.since(self.reconciled) >= half && now.after(half) >= self.next_reconcile
    }

    /// The level-triggered policies: they look at what is, not at what happened.
    fn tick(&mut self, now: Now) {
        self.turned = true;
        self.stages.turn(now.mono);
        self.lately.turn(now, self.leader());
        self.lately.draining(now.mono, &self.all_draining().into_iter().collect());
        self.form(now);
        self.look_around(now);
        self.keep_peers(now);
        self.keep_warm(now);
        self.keep_repairing(now);
        self.keep_comparing(now);
        self.keep_watching(now);
        self.examine_itself(now);
        self.keep_handing_over(now);
        self.look_for_room(now);
        self.keep_draining(now);
        self.pursue_errands(now);
        self.pursue_wishes(now);
        self.reconcile(now);
        self.keep_forgetting(now);
        self.expire_appends(now);
        self.expire_questions(now);
        self.pursue_leave(now);
        self.pursue_stop(now);
        // A deadline is kept to the millisecond; nothing else needs a shorter round.
        let verbs = [self.leave.deadline(), self.handover.deadline(), self.forgetting.deadline()];
        let operators = [self.errands.deadline(), self.operating.deadline()];
        let deadlines =
            verbs.into_iter().chain(operators).chain([self.next_append_deadline(), self.next_question_deadline()]);
        for deadline in deadlines.flatten() {
            self.next_reconcile = self.next_reconcile.min(deadline.max(now.mono.after(Duration::from_millis(1))));
        }
        if now.mono >= self.next_view {
            self.next_view = now.mono.after(VIEW_EVERY);
            self.send_views(now);
            self.remember_peers();
        }
    }

    /// The next policy round is due now: something changed that it wants to know.
    fn hurry(&mut self, now: Now) {
        self.next_reconcile = now.mono;
    }

    fn emit(&mut self, output: Output) {
        self.outputs.push_back(output);
    }

    fn note(&mut self, level: Level, text: impl Into<String>) {
        let text = text.into();
        self.emit(Output::Note { level, text });
    }

    fn send(&mut self, node: u64, class: Class, message: PeerMessage) {
        self.emit(Output::Send { node, class, message });
    }

    fn token(&mut self) -> u64 {
        self.tokens = self.tokens.wrapping_add(1);
        self.tokens
    }

    /// Does this node lead, with its own first entry applied, so that it may decide what is appended? A leader that
    /// hands over accepts nothing more: what comes waits until it is known who leads.
    fn is_ready_leader(&self) -> bool {
        let leads = self.raft.is_leader() && !self.handover.is_under_way();
        leads && self.applied.term() == self.raft.term() && self.applied.halted().is_none()
    }

    /// The seed that every entry and every Raft message of this log carries.
    fn log_seed(&self) -> Option<u64> {
        self.log_id.as_ref().map(log_seed)
    }

    /// Is this node a voter or learner of the log it holds?
    fn in_raft(&self) -> bool {
        let configuration = self.raft.configuration();
        let members = [&configuration.voters, &configuration.outgoing, &configuration.learners];
        members.iter().any(|set| set.contains(&self.me)) && !self.is_left_out()
    }

    /// Does this log end with a configuration that is not in force any more, and that nobody will ever tell it here? Leaders
    /// replicate to their own groups only: who was added in vain, or lost its seat while it was gone, hears what they say to
    /// all others, and goes by that. A leader that has committed as far as that entry, and does not count this node in, does
    /// not have it, or has another one since.
    fn is_left_out(&self) -> bool {
        let me = self.me.get();
        let without = |v: &&View| !v.voters.contains(&me) && !v.learners.contains(&me);
        let view = self.view.as_ref().filter(|view| Some(view.log_id) == self.log_id).filter(without);
        let index = self.raft.configuration_index();
        self.raft.leader().is_none() && view.is_some_and(|view| view.committed >= index.0)
    }

    /// The node that leads, as far as this one knows, and the term of that knowledge.
    fn leader(&self) -> Option<u64> {
        if self.in_raft() {
            return self.raft.leader().map(NodeId::get);
        }
        self.view.as_ref().map(|v| v.leader)
    }

    /// The name of a node, for people.
    fn name_of(&self, node: u64) -> String {
        if node == self.me.get() {
            return self.options.name.clone();
        }
        let gossip = self.members.member(node).map(|m| String::from(m.name)).filter(|n| !n.is_empty());
        let registered = || self.registry.node(node).map(|r| r.name.clone());
        let known = || self.peers.get(node).map(|p| p.name.clone());
        let name = gossip.or_else(registered).or_else(known).unwrap_or_else(|| format!("{node:016x}"));
        crate::limits::printable(&name)
    }
}

/// The seed of a log: the first eight bytes of its id.
#[must_use]
pub fn log_seed(log_id: &[u8; 16]) -> u64 {
    let mut first = [0; 8];
    first.copy_from_slice(&log_id[..8]);
    u64::from_le_bytes(first)
}

/// A failure after which the asker may simply try again.
fn not_applied(code: Code, what: impl Into<String>, hint: impl Into<String>) -> Failure {
    Failure { code, effect: Effect::NotApplied, what: what.into(), hint: hint.into() }
}

/// The end of a forwarded append that provably never left this agent.
#[must_use]
pub fn never_sent() -> Failure {
    not_applied(Code::NoQuorum, "the leader could not be reached", "retry")
}

/// A map of what waits, by ticket or id.
type Waiting<T> = BTreeMap<u64, T>;
