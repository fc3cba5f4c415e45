//! Between the Raft core and the world: entries get their bytes here, and messages their entries.
//!
//! The core names entries by index; this file holds that the bytes under a name are those the core means.

use super::options::{Founding, configuration_of};
use super::{Class, FetchFor, Level, Node, Output, PeerMessage, RaftMessage, log_seed};
use crate::codec;
use crate::machine::registry::Registration;
use crate::pledge::Proposal;
use bytes::Bytes;
use quorate_raft::wal::{Batch, CHAIN_GENESIS, Entry, EntryFields, EntryHeader, EntryKind};
use quorate_raft::{
    Configuration, EntryKind as CoreKind, EntryShape, LogIndex, Message, NodeId, Now, Outcome, Output as RaftOutput,
    Persist, Position, Suspect, Term, Ticket, Wall, mutant,
};
use std::collections::BTreeMap;

/// Bytes of one read from disk for a peer that is far behind.
const FETCH_BYTES: usize = 1 << 20;
/// Reads from disk for one peer at once: as many as appends of the core may be unanswered.
const READS_PER_PEER_MAX: usize = 8;
/// Lamport times stay below this, so that no liar can use up the range.
const LAMPORT_MAX: u64 = 1 << 62;

/// The same for the log's time: the end of the year 9999, in microseconds since the epoch.
const TIME_MAX: i64 = 253_402_300_799_999_999;

/// An entry that this node is about to propose.
#[derive(Debug)]
pub(super) struct Staged {
    kind: EntryKind,
    payload: Bytes,
    count: u32,
}

/// What is between the core and its bytes at this moment.
#[derive(Debug, Default)]
pub(super) struct Replication {
    /// The entries that came with the message that is being handled.
    incoming: Vec<Entry>,
    /// The entry that is being proposed.
    staged: Option<Staged>,
    /// The header of the entry that was sealed for the proposal being handled.
    sealed: Option<EntryHeader>,
    /// Appends that wait for their entries to be read from disk; `None`: one before was cut short, so it is not sent.
    fetching: BTreeMap<u64, (NodeId, Option<Message>)>,
    /// The log that spoke first to a node that has none yet: what it says in its answers.
    answering: Option<u64>,
    /// Reads under way by peer; they come back in order.
    busy: BTreeMap<u64, usize>,
}

impl Replication {
    /// Nothing that was planned to follow this entry is sent to that peer: it is planned again. The reads still come back.
    fn drop_after(&mut self, peer: NodeId, planned: LogIndex) {
        for (_, message) in self.fetching.values_mut().filter(|(to, _)| *to == peer) {
            *message = message.take().filter(|m| m.entries().is_none_or(|(first, _)| first <= planned));
        }
    }

    pub(super) fn forget(&mut self, node: u64) {
        self.fetching.retain(|_, (to, _)| to.get() != node);
        self.busy.remove(&node);
    }
}

impl Node {
    /// A Raft message of a peer. Entries are parsed and chained before the core hears of them.
    pub(super) fn raft_message(&mut self, now: Now, node: u64, raft: RaftMessage) {
        let Some(from) = NodeId::new(node) else { return };
        if self.pact.is_bound() && self.log_id.is_none() {
            // It has promised to found one log and no other: until that is decided it takes part in none.
            return;
        }
        // A node without a log stays with the first one that speaks to it, while anybody of that is there: answers to a
        // second one would carry the terms of the first.
        match self.log_seed().or_else(|| self.replication.answering.filter(|seed| self.sees_log(*seed))) {
            Some(seed) if seed != raft.seed => {
                return self.note_about(now, node, "a Raft message of another log was refused");
            }
            _ => self.replication.answering = Some(raft.seed),
        }
        if let Err(why) = self.check_chain(&raft) {
            return self.note_about(now, node, &format!("its entries were refused: {why}"));
        }
        if self.log_id.is_none()
            && let Err(why) = self.join_log(&raft)
        {
            return self.note_about(now, node, why);
        }
        if self.peers.is_up(node) {
            // A message that was on its way when its connection ended tells the time of somebody who is never heard again.
            self.clocks.heard(node, raft.wall, now.mono);
        }
        let entries: Vec<EntryShape> = match raft.entries.iter().map(shape).collect() {
            Some(shapes) => shapes,
            None => return self.note_about(now, node, "a control entry of it does not decode"),
        };
        self.replication.incoming = raft.entries;
        self.raft.handle(now, quorate_raft::Input::Message { from, message: raft.message, entries });
        self.lately.term_is(now.mono, self.raft.term(), from);
        self.drain_raft(now);
        self.replication.incoming.clear();
    }

    /// A node without a log joins the one whose leader sends it the first entry. Messages before that only go to a
    /// core that has nothing to lose.
    fn join_log(&mut self, raft: &RaftMessage) -> Result<(), &'static str> {
        let Some(first) = raft.entries.first() else { return Ok(()) };
        if first.header().index != LogIndex(1) {
            return Ok(());
        }
        let founding: Result<Founding, _> = codec::decode(&first.payload(), "founding entry");
        match founding {
            Ok(founding) if log_seed(&founding.log_id) == raft.seed => {
                self.adopt(&founding);
                Ok(())
            }
            _ => Err("the first entry of its log does not found it; refused"),
        }
    }

    /// This node belongs to that log from now on; its next write says so on disk.
    fn adopt(&mut self, founding: &Founding) {
        self.joined();
        self.log_id = Some(founding.log_id);
        self.log_id_unwritten = true;
        self.record_bytes_max = founding.record_bytes_max as usize;
        self.emit(Output::JoinedLog { log_id: founding.log_id });
        self.tell_history_to_all();
        self.note(Level::Info, format!("joined log {}", hex::encode(founding.log_id)));
    }

    /// The options of the log, from its first entry.
    pub(super) fn read_founding(&mut self, control: &[Entry]) {
        if let Some(first) = control.first().filter(|e| e.header().kind == EntryKind::Founding)
            && let Ok(founding) = codec::decode::<Founding>(&first.payload(), "founding entry")
        {
            self.record_bytes_max = founding.record_bytes_max as usize;
        }
    }

    /// Do these entries belong to this log, follow one another, and follow what is here already?
    fn check_chain(&self, raft: &RaftMessage) -> Result<(), String> {
        for (entry, next) in raft.entries.iter().zip(raft.entries.iter().skip(1)) {
            next.follows(entry.header()).map_err(|e| e.to_string())?;
        }
        let Some(first) = raft.entries.first() else { return Ok(()) };
        if first.header().seed != raft.seed {
            return Err("an entry of another log".into());
        }
        let previous = first.header().index.prev();
        if raft.entries.iter().any(|e| e.header().lamport > LAMPORT_MAX) {
            return Err("a Lamport time beyond all bounds".into());
        }
        if raft.entries.iter().any(|e| e.header().time.0 > TIME_MAX) {
            return Err("a time beyond all calendars".into());
        }
        if previous == LogIndex::ZERO {
            let header = first.header();
            if header.kind != EntryKind::Founding || header.base_offset != 0 {
                return Err("the first entry does not found a log".into());
            }
            return first.chains_to(CHAIN_GENESIS).map_err(|e| e.to_string());
        }
        let ours = self.cache.get(previous).map(Entry::header);
        let ours = ours.or_else(|| self.cache.last().filter(|h| h.index == previous));
        match (ours, raft.message.announced().map(|(previous, _)| previous.term)) {
            // Same index and term, but another history: one of the two logs is not what it claims.
            (Some(ours), Some(term)) if ours.term == term => first.follows(ours).map_err(|e| e.to_string()),
            _ => Ok(()),
        }
    }

    /// Proposes one entry. What became of it comes as `Accepted` and `Done`; the header of the sealed entry is
    /// returned if it was appended at once.
    pub(super) fn propose(
        &mut self,
        now: Now,
        ticket: u64,
        kind: EntryKind,
        payload: Bytes,
        count: u32,
    ) -> Option<EntryHeader> {
        let bytes = (quorate_raft::wal::ENTRY_HEADER_BYTES + payload.len()) as u32;
        self.replication.staged = Some(Staged { kind, payload, count });
        self.replication.sealed = None;
        self.raft
            .handle(now, quorate_raft::Input::Propose { ticket: Ticket(ticket), bytes, term: Some(self.raft.term()) });
        self.drain_raft(now);
        self.replication.staged = None;
        self.replication.sealed.take()
    }

    pub(super) fn drain_raft(&mut self, now: Now) {
        while let Some(output) = self.raft.poll_output() {
            match output {
                RaftOutput::Persist(persist) => self.persist(now, persist),
                RaftOutput::Send { to, message } => self.send_raft(now, to, message),
                // The offsets were fixed when the entry was sealed, in the `Persist` just before.
                RaftOutput::Accepted { .. } | RaftOutput::Committed { .. } => {}
                RaftOutput::Done { ticket, outcome } => self.raft_done(now, ticket.0, outcome),
                RaftOutput::ReadReady { ticket, index } => self.read_ready(now, ticket.0, index),
                RaftOutput::RoleChanged => self.role_changed(now),
                RaftOutput::ConfigurationChanged => self.hurry(now),
                RaftOutput::Alarm { from, what, proof } => {
                    let kind = if proof { "a Raft message of it was refused" } else { "alarm of Raft" };
                    let what = format!("{kind}: {what}");
                    if proof {
                        self.cut_off(now, from.get(), super::Offence::Malformed, &what)
                    } else {
                        self.note_about(now, from.get(), &what)
                    }
                }
                RaftOutput::Halted(why) => {
                    let text =
                        format!("Raft of this agent has stopped: {why:?}; the agent stays up to tell; restart it");
                    self.note(Level::Error, text);
                }
            }
        }
    }

    /// Every local ticket ends here; who asked for it is found by its number. Nobody is found for what has passed its
    /// deadline, and was answered then.
    fn raft_done(&mut self, now: Now, ticket: u64, outcome: Outcome) {
        let known = self.append_done(now, ticket, outcome)
            || self.autopilot_done(now, ticket, outcome)
            || self.handover_done(now, ticket, outcome);
        if !known {
            self.question_done(ticket);
        }
    }

    fn persist(&mut self, now: Now, persist: Persist) {
        if let Some(from) = persist.truncate_from {
            self.cache.truncate(from);
        }
        let mut append = Vec::with_capacity(persist.append.len());
        for shape in persist.append {
            let entry = self.bytes_of(now, shape);
            self.cache.push(entry.clone());
            append.push(entry);
        }
        let log_id = if self.log_id_unwritten { self.log_id } else { None };
        self.log_id_unwritten = false;
        self.cache.trim(self.raft.durable().min(self.applied.index()));
        if !append.is_empty() {
            self.stages.writes(now.mono, persist.ticket);
        }
        let (hard_state, truncate_from) = (persist.hard_state, persist.truncate_from);
        let suspect = persist.suspect.map(|suspect| match suspect {
            Suspect::At(position) => Some(position),
            Suspect::Cleared => None,
        });
        if truncate_from.is_some() {
            self.truncating = Some(persist.ticket);
        }
        let batch = Batch { hard_state, log_id, suspect, truncate_from, append };
        self.emit(Output::Write { ticket: persist.ticket, batch });
    }

    /// The entry that the core means: the one that just came in, or one that is sealed now.
    fn bytes_of(&mut self, now: Now, shape: EntryShape) -> Entry {
        let first = self.replication.incoming.first().map(|e| e.header().index.0);
        let at = first.and_then(|first| shape.position.index.0.checked_sub(first));
        if let Some(entry) = at.and_then(|at| self.replication.incoming.get(at as usize)) {
            assert_eq!(entry.header().position(), shape.position, "the core appends what was handed to it");
            return entry.clone();
        }
        let (kind, payload, count) = match shape.kind {
            CoreKind::Noop => (EntryKind::Noop, Bytes::new(), 0),
            CoreKind::Configuration(configuration) => self.configuration_payload(shape.position, configuration),
            CoreKind::Normal => {
                let staged = self.replication.staged.take();
                let staged = staged.expect("the core appends one entry for each proposal, while it is handled");
                (staged.kind, staged.payload, staged.count)
            }
        };
        let entry = self.seal(now, shape.position, kind, &payload, count);
        self.replication.sealed = Some(*entry.header());
        entry
    }

    fn configuration_payload(&self, position: Position, configuration: Configuration) -> (EntryKind, Bytes, u32) {
        if position.index != LogIndex(1) {
            return (EntryKind::Configuration, codec::encode(&configuration).into(), 0);
        }
        if let Some(founding) = &self.founding {
            assert_eq!(founding.configuration, configuration, "the core founds with the voters that it was given");
            return (EntryKind::Founding, codec::encode(founding).into(), 0);
        }
        let founding = Founding {
            log_id: self.options.fresh_log_id,
            configuration,
            founder: Registration {
                node: self.me.get(),
                name: self.options.name.clone(),
                epoch: self.epoch,
                boot: self.options.boot.0,
            },
            record_bytes_max: self.record_bytes_max as u64,
            others: Vec::new(),
        };
        (EntryKind::Founding, codec::encode(&founding).into(), 0)
    }

    fn seal(&self, now: Now, position: Position, kind: EntryKind, payload: &[u8], count: u32) -> Entry {
        let previous = self.cache.last();
        let median = self.median_clock(now);
        // The first entry of a log that is founded together is the same everywhere, so no clock is in it.
        let is_shared = self.founding.is_some();
        let time = super::clock::Clocks::log_time(now.wall, median, previous.map(|p| p.time)).min(Wall(TIME_MAX));
        let fields = EntryFields {
            seed: self.log_seed().unwrap_or_else(|| log_seed(&self.options.fresh_log_id)),
            index: position.index,
            term: position.term,
            kind,
            base_offset: previous.map_or(0, EntryHeader::next_offset)
                + u64::from(kind == EntryKind::Noop && mutant!(OffsetSkipped)),
            count,
            time: if is_shared { Wall(0) } else { time },
            lamport: if is_shared { 1 } else { self.next_lamport(previous, count) },
            shard: 0,
            session: 0,
            seq: 0,
        };
        Entry::seal(fields, previous.map_or(CHAIN_GENESIS, |p| p.chain), payload)
    }

    fn next_lamport(&self, previous: Option<&EntryHeader>, count: u32) -> u64 {
        // Gossip is hearsay: a lie about time may not use up the range.
        let heard = self.members.lamport().min(LAMPORT_MAX / 2);
        let latest = previous.map_or(0, |p| p.lamport).max(heard);
        latest.saturating_add(u64::from(count.max(1))).min(LAMPORT_MAX)
    }

    /// Founds the log: the first entry, with everything that a founding decides.
    pub(super) fn found(&mut self, now: Now) {
        if self.raft.last().index != LogIndex::ZERO || self.raft.term() != Term::ZERO {
            return;
        }
        // An id that is on disk already is never changed.
        let log_id = *self.log_id.get_or_insert(self.options.fresh_log_id);
        self.options.fresh_log_id = log_id;
        self.log_id_unwritten = true;
        self.emit(Output::JoinedLog { log_id });
        self.tell_history_to_all();
        self.raft.handle(now, quorate_raft::Input::Found);
        self.drain_raft(now);
        self.note(Level::Info, format!("founded log {}", hex::encode(log_id)));
    }

    /// Founds a log together with others: the first entry that each of them writes.
    pub(super) fn found_together(&mut self, now: Now, proposal: &Proposal) {
        let Some(founding) = Founding::together(proposal) else { return };
        let is_other = self.log_id.is_some_and(|id| id != founding.log_id);
        if is_other || self.raft.last().index != LogIndex::ZERO || self.raft.term() != Term::ZERO {
            return;
        }
        let (log_id, voters) = (founding.log_id, founding.configuration.voters.clone());
        self.joined();
        self.log_id = Some(log_id);
        self.log_id_unwritten = true;
        self.record_bytes_max = founding.record_bytes_max as usize;
        self.emit(Output::JoinedLog { log_id });
        self.tell_history_to_all();
        self.founding = Some(founding);
        self.raft.handle(now, quorate_raft::Input::FoundTogether { voters });
        self.drain_raft(now);
        self.founding = None;
        let names: Vec<&str> = proposal.founders().iter().map(|f| f.name.as_str()).collect();
        self.note(Level::Info, format!("founded log {} together: {}", hex::encode(log_id), names.join(", ")));
    }

    /// Sends a message of the core with the entries that it announces, or fetches those first.
    fn send_raft(&mut self, now: Now, to: NodeId, message: Message) {
        let entries = match message.entries() {
            None => Vec::new(),
            Some((first, last)) => match self.cache.range(first, last) {
                Some(entries) => entries,
                None => return self.fetch_for(to, message, first, last),
            },
        };
        self.send_raft_with(now, to, Class::Peer, message, entries);
    }

    fn send_raft_with(&mut self, now: Now, to: NodeId, class: Class, message: Message, entries: Vec<Entry>) {
        let Some(seed) = self.log_seed().or(self.replication.answering) else { return };
        let raft = RaftMessage { seed, wall: now.wall, message, entries };
        self.send(to.get(), class, PeerMessage::Raft(Box::new(raft)));
    }

    fn fetch_for(&mut self, to: NodeId, message: Message, from: LogIndex, last: LogIndex) {
        // The core sends again what is not answered; more reads for the same peer would only be wasted.
        let reads = self.replication.busy.entry(to.get()).or_default();
        if *reads >= READS_PER_PEER_MAX {
            return;
        }
        *reads += 1;
        let token = self.token();
        self.replication.fetching.insert(token, (to, Some(message)));
        self.emit(Output::Fetch { token, from, to: last, bytes_max: FETCH_BYTES, whom: FetchFor::CatchUp });
    }

    pub(super) fn fetched(&mut self, now: Now, token: u64, entries: Vec<Entry>) {
        let Some(entries) = self.fetched_for_repair(token, entries) else { return };
        let Some((to, message)) = self.replication.fetching.remove(&token) else {
            return self.fetched_for_apply(now, token, entries);
        };
        if let Some(reads) = self.replication.busy.get_mut(&to.get()) {
            *reads = reads.saturating_sub(1);
        }
        let Some(mut message) = message else { return };
        let Some((first, planned)) = message.entries() else { return };
        // Between the plan and the read the log may have been truncated: only what still stands is sent.
        let stands = entries.iter().all(|e| self.raft.term_at(e.header().index) == Some(e.header().term));
        if let (true, Some(last)) = (stands, entries.last())
            && entries.first().is_some_and(|e| e.header().index == first)
        {
            // One read brings at most `FETCH_BYTES`: the message then announces what it really carries, and what was planned
            // behind it would find a gap.
            let last = last.header().position();
            message.shorten(last);
            let bytes = entries.iter().map(|e| e.bytes().len() as u64).sum();
            self.send_raft_with(now, to, Class::Bulk, message, entries);
            if last.index < planned {
                self.replication.drop_after(to, planned);
            }
            let carried = quorate_raft::Input::Carried { to, planned, first, last: last.index, bytes };
            self.raft.handle(now, carried);
        }
    }
}

/// What the core needs to know of an entry; `None` for a control entry that does not decode.
fn shape(entry: &Entry) -> Option<EntryShape> {
    let kind = match entry.header().kind {
        EntryKind::Noop => CoreKind::Noop,
        EntryKind::Configuration | EntryKind::Founding => CoreKind::Configuration(configuration_of(entry)?),
        _ => CoreKind::Normal,
    };
    Some(EntryShape { position: entry.header().position(), kind, bytes: entry.bytes().len() as u32 })
}
