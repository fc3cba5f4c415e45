//! Repair: entries that this disk cannot read any more come back from whoever has them, leader or not.
//!
//! It never believes who gives them: the log takes a range only when its entries follow the good one before it and the
//! good one after it follows them, by term, checksum and chain hash. So no commit index is needed, and a cluster in which
//! everybody is damaged, each elsewhere, repairs itself before it has a leader.
//!
//! One range at a time, in pieces, in order, from one member; the next piece is asked for while the one before is being
//! written, and was read by then. Members are asked one after another, the leader last; when all were asked in vain it
//! begins anew, later each time, and at once when a member comes that was not there. Pieces that were given survive the
//! loss of a connection (another member goes on) but not a restart: then the range, at most a segment, begins anew.

use super::options::configuration_of;
use super::{Class, Level, Node, Output, PeerMessage, RepairFailed, Spare};
use crate::api::DamagedEntries;
use crate::diagnosis::Cause;
use quorate_raft::wal::{DamagedRange, Entry, Repaired};
use quorate_raft::{LogIndex, Mono, NodeId, Now, Run};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Bytes of one piece, if it holds more than one entry: large enough that a round trip is a small part of its time, and so
/// small that it delays nothing else on its connection for long.
pub(super) const PIECE_BYTES: usize = 4 << 20;
/// Pieces that are with the disk before the next one is asked for.
const PIECES_WRITING_MAX: usize = 1;
/// A member that has not answered for so long is passed over: a read of a busy disk, and a megabyte on a slow line.
const ANSWER_PATIENCE: Duration = Duration::from_secs(5);
/// After all members were asked in vain: at first, and at most; and at most if one of them could not say, and may have it.
const ASK_AGAIN_MIN: Duration = Duration::from_secs(1);
const ASK_AGAIN_MAX: Duration = Duration::from_secs(30);
const ASK_DOUBTFUL_AGAIN_MAX: Duration = Duration::from_secs(5);
/// Until a full disk is asked again to take a copy of a segment.
const ROOM_AGAIN: Duration = Duration::from_secs(5);
/// Control entries kept while a range is given back: more than any segment of honest use holds.
const CONTROL_MAX: usize = 65_536;
/// Changes of term in a range that is given back: more than a log has that elected a leader each second for ten days.
const RUNS_MAX: usize = 1 << 20;
/// Damaged ranges that `status` names one by one.
pub(super) const NAMED_MAX: usize = 32;

/// What this node knows of the damage in its log, and what it does about it.
#[derive(Debug, Default)]
pub(super) struct Repair {
    /// All damage that is known, ascending.
    damaged: Vec<DamagedRange>,
    /// What the disk said of it since, while it gave back the range that is gone from this: whether that was repaired is
    /// told by the answer, and what it held is to be learned first.
    held: Option<Vec<DamagedRange>>,
    current: Option<Current>,
    /// What members said of the range whose turn it is.
    vain: BTreeMap<u64, Vain>,
    /// Which range has its turn, modulo their number.
    turn: usize,
    /// Ranges (by their first entry) that no member has.
    lost: BTreeSet<LogIndex>,
    /// And those that most voters have not, this agent among them.
    common: BTreeSet<LogIndex>,
    irreparable: bool,
    rounds: u32,
    /// In this round a member could not say whether it has a range.
    doubtful: bool,
    not_before: Mono,
    no_room: Option<String>,
    repaired_entries: u64,
    repaired_bytes: u64,
}

/// Why a member could not help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Vain {
    /// It has not got them, for good.
    Hopeless,
    /// Not now: it was silent, busy, or gone.
    Later,
    /// What it gave did not fit.
    Wrong,
}

/// A range that is being given back.
#[derive(Debug)]
struct Current {
    first: LogIndex,
    last: LogIndex,
    /// The next entry to ask for.
    next: LogIndex,
    helper: u64,
    /// Names the request, and all writes of this range.
    id: u64,
    /// Since when it waits for an answer.
    asked: Option<Mono>,
    /// Pieces that are with the disk.
    writing: usize,
    /// All members that gave something of it.
    helpers: BTreeSet<u64>,
    entries: u64,
    bytes: u64,
    /// Entries that a start would have remembered.
    control: Vec<Entry>,
    /// The terms of all that was given.
    runs: Vec<Run>,
}

impl Repair {
    pub(super) fn is_damaged(&self) -> bool {
        !self.damaged.is_empty()
    }

    /// Is there, or may there be, somebody who can read what this agent cannot?
    pub(super) fn is_unfit(&self) -> bool {
        self.is_damaged() && !self.irreparable
    }

    /// The entries that no member has: at most the first ranges that `status` names.
    pub(super) fn lost(&self) -> Vec<(LogIndex, LogIndex)> {
        let lost = self.damaged.iter().filter(|range| self.lost.contains(&range.first));
        lost.take(NAMED_MAX).map(|range| (range.first, range.last)).collect()
    }

    /// Entries and bytes given back in this life.
    pub(super) fn repaired(&self) -> (u64, u64) {
        (self.repaired_entries, self.repaired_bytes)
    }

    /// The first damaged ranges, for people, and how many there are.
    pub(super) fn picture(&self) -> (Vec<DamagedEntries>, usize) {
        let named = self.damaged.iter().take(NAMED_MAX).map(|range| DamagedEntries {
            file: range.file.clone(),
            at: range.at,
            what: range.what.clone(),
            first: range.first.0,
            last: range.last.0,
            lost: self.lost.contains(&range.first),
        });
        (named.collect(), self.damaged.len())
    }

    pub(super) fn touches(&self, first: LogIndex, last: LogIndex) -> bool {
        self.damaged.iter().any(|range| range.first <= last && first <= range.last)
    }
}

impl Node {
    /// The disk says what it cannot read.
    pub(super) fn damage_found(&mut self, now: Now, ranges: Vec<DamagedRange>) {
        let answers = |current: &Current| current.writing > 0 && ranges.iter().all(|r| r.first != current.first);
        if self.repair.current.as_ref().is_some_and(answers) {
            self.repair.held = Some(ranges);
            return;
        }
        let before = std::mem::replace(&mut self.repair.damaged, ranges);
        if self.repair.damaged == before {
            return;
        }
        let known = |range: &&DamagedRange| before.iter().any(|old| old.first <= range.first && range.last <= old.last);
        if let Some(current) = &mut self.repair.current
            && let Some(range) = self.repair.damaged.iter().find(|range| range.first == current.first)
        {
            // More damage that touches it belongs to it.
            current.last = range.last;
        }
        let news: Vec<String> = self
            .repair
            .damaged
            .iter()
            .filter(|range| !known(range))
            .take(NAMED_MAX)
            .map(|DamagedRange { file, at, what, first, last }| {
                format!(
                    "entries {first} to {last} of this log cannot be read: {file} is damaged at byte {at}: {what}; they \
                     are asked back from the other members, and this agent does not lead before it has them"
                )
            })
            .collect();
        for text in news {
            self.note(Level::Error, text);
        }
        // What has grown may be had from somebody.
        let is_as_before =
            |range: &&DamagedRange| before.iter().any(|b| (b.first, b.last) == (range.first, range.last));
        let known: BTreeSet<LogIndex> =
            self.repair.damaged.iter().filter(is_as_before).map(|range| range.first).collect();
        let still = |first: &LogIndex| known.contains(first);
        let lost = self.repair.lost.iter().copied().filter(still).collect();
        let common = self.repair.common.iter().copied().filter(still).collect();
        (self.repair.lost, self.repair.common) = (lost, common);
        let is_damaged = self.repair.is_damaged();
        if !is_damaged {
            self.note(Level::Info, "all of this log can be read again");
            self.repair.no_room = None;
        }
        let unreadable = self.repair.damaged.iter().map(|range| (range.first, range.last)).collect();
        self.raft.handle(now, quorate_raft::Input::Damaged(unreadable));
        self.weigh_damage(now);
        self.hurry(now);
    }

    /// One turn: somebody is asked for what is missing.
    pub(super) fn keep_repairing(&mut self, now: Now) {
        self.spares.forget_the_well(now.mono);
        if let Some(current) = &self.repair.current {
            let stands = self.repair.damaged.iter().any(|range| range.first == current.first);
            if !stands && current.writing == 0 {
                // Truncated, or made whole by other means.
                self.repair.current = None;
            } else if current.asked.is_some_and(|at| now.mono.since(at) >= ANSWER_PATIENCE) {
                self.pass_over(Vain::Later);
            }
        }
        if self.repair.current.is_some() {
            return self.ask_for_piece(now);
        }
        if !self.repair.is_damaged() || now.mono < self.repair.not_before {
            return;
        }
        let at = self.repair.turn % self.repair.damaged.len();
        let (first, last) = (self.repair.damaged[at].first, self.repair.damaged[at].last);
        match self.next_helper() {
            Some(helper) => {
                let id = self.token();
                self.repair.current = Some(Current {
                    first,
                    last,
                    next: first,
                    helper,
                    id,
                    asked: None,
                    writing: 0,
                    helpers: BTreeSet::new(),
                    entries: 0,
                    bytes: 0,
                    control: Vec::new(),
                    runs: Vec::new(),
                });
                self.ask_for_piece(now);
            }
            None => self.all_in_vain(now, first, last),
        }
    }

    /// Whom to ask next for the range whose turn it is: the leader last, since all commits pass through it.
    fn next_helper(&self) -> Option<u64> {
        let leader = self.leader().filter(|l| *l != self.me.get());
        let others = self.repair_members().into_iter().filter(|node| Some(*node) != leader);
        let can = |node: &u64| self.peers.is_up(*node) && !self.repair.vain.contains_key(node);
        others.chain(leader).find(can)
    }

    /// Everybody else who should hold this log. A node that cannot read who that is asks whoever is here of its log.
    fn repair_members(&self) -> Vec<u64> {
        let configuration = self.raft.configuration();
        let sets = [&configuration.voters, &configuration.outgoing, &configuration.learners];
        let mut members: BTreeSet<u64> = sets.into_iter().flatten().map(|node| node.get()).collect();
        if !members.contains(&self.me.get()) {
            members.extend(self.peers.up().filter(|p| !self.is_of_another_log(p.node)).map(|p| p.node));
        }
        members.remove(&self.me.get());
        members.into_iter().collect()
    }

    /// Everybody who is here was asked for this range, and it is still missing: others have their turn, and later it has
    /// another one.
    fn all_in_vain(&mut self, now: Now, first: LogIndex, last: LogIndex) {
        let members = self.repair_members();
        let hopeless = |node: &u64| self.repair.vain.get(node) == Some(&Vain::Hopeless);
        let is_lost = !members.is_empty() && members.iter().all(hopeless);
        let has_not = |node: NodeId| node == self.me || hopeless(&node.get());
        let is_common = self.raft.configuration().is_true_of_a_quorum(has_not);
        if is_common {
            self.repair.common.insert(first)
        } else {
            self.repair.common.remove(&first)
        };
        if is_lost && self.repair.lost.insert(first) {
            self.note(
                Level::Error,
                format!(
                    "entries {first} to {last} are lost: no member of this log can read them; all others stay readable. \
                     Restore a member from a backup, or give them up with `quorate recover`"
                ),
            );
        }
        self.weigh_damage(now);
        self.repair.doubtful |= self.repair.vain.values().any(|why| *why == Vain::Later);
        self.repair.vain.clear();
        self.repair.turn = self.repair.turn.wrapping_add(1);
        if self.repair.turn.is_multiple_of(self.repair.damaged.len().max(1)) {
            let doubtful = std::mem::take(&mut self.repair.doubtful);
            let most = if doubtful { ASK_DOUBTFUL_AGAIN_MAX } else { ASK_AGAIN_MAX };
            let wait = ASK_AGAIN_MIN.saturating_mul(1 << self.repair.rounds.min(5)).min(most);
            self.repair.rounds = self.repair.rounds.saturating_add(1);
            self.repair.not_before = now.mono.after(wait);
        }
    }

    /// Somebody is here who was not: that all before were asked in vain says nothing of this one.
    pub(super) fn repair_helper_came(&mut self, now: Now, node: u64) {
        if self.repair.is_damaged() && self.repair_members().contains(&node) {
            let pause = if self.repair.no_room.is_some() { ROOM_AGAIN } else { Duration::ZERO };
            self.repair.rounds = 0;
            self.repair.not_before = self.repair.not_before.min(now.mono.after(pause));
        }
    }

    /// Would another leader be better? Not if most voters cannot read these entries either.
    fn weigh_damage(&mut self, now: Now) {
        let damaged = &self.repair.damaged;
        let irreparable = !damaged.is_empty() && damaged.iter().all(|range| self.repair.common.contains(&range.first));
        if std::mem::replace(&mut self.repair.irreparable, irreparable) != irreparable {
            self.raft.handle(now, quorate_raft::Input::Irreparable(irreparable));
        }
    }

    /// The helper of the range under way does not help: another one goes on where it stopped, if there is one.
    fn pass_over(&mut self, why: Vain) {
        let Some(current) = &self.repair.current else { return };
        self.repair.vain.insert(current.helper, why);
        let helper = self.next_helper();
        let Some(current) = &mut self.repair.current else { return };
        current.asked = None;
        match helper {
            Some(helper) => current.helper = helper,
            None => self.repair.current = None,
        }
    }

    fn ask_for_piece(&mut self, now: Now) {
        let Some(seed) = self.log_seed() else { return };
        let Some(current) = &mut self.repair.current else { return };
        if current.asked.is_some() || current.writing > PIECES_WRITING_MAX || current.next > current.last {
            return;
        }
        current.asked = Some(now.mono);
        let (node, id, first, last) = (current.helper, current.id, current.next, current.last);
        self.send(node, Class::Bulk, PeerMessage::RepairRequest { id, seed, first, last });
    }

    /// The link to this member broke: what it was asked will not be answered.
    pub(super) fn repair_lost(&mut self, node: u64) {
        self.spares.forget(node);
        if self.repair.current.as_ref().is_some_and(|c| c.helper == node && c.asked.is_some()) {
            self.pass_over(Vain::Later);
        }
    }

    /// A member answers.
    pub(super) fn repair_answered(&mut self, now: Now, node: u64, id: u64, has: Spare) {
        let Some(current) = &mut self.repair.current else { return };
        if current.id != id || current.helper != node || current.asked.is_none() {
            return;
        }
        let entries = match has {
            Spare::Entries(entries) => entries,
            Spare::Damaged | Spare::Absent => {
                self.pass_over(Vain::Hopeless);
                return self.hurry(now);
            }
            Spare::Busy => {
                self.pass_over(Vain::Later);
                return self.hurry(now);
            }
        };
        current.asked = None;
        let in_order = |pair: &[Entry]| matches!(pair, [a, b] if b.follows(a.header()).is_ok());
        let begins = entries.first().is_some_and(|entry| entry.header().index == current.next);
        if !begins
            || !entries.windows(2).all(in_order)
            || entries.iter().any(|e| Some(e.header().seed) != self.log_seed())
        {
            self.pass_over(Vain::Wrong);
            return self.cut_off(
                now,
                node,
                super::Offence::Malformed,
                "asked for entries, it gave others than those, or some that do not follow one another",
            );
        }
        let Some(current) = &mut self.repair.current else { return };
        let entries: Vec<Entry> = entries.into_iter().take_while(|e| e.header().index <= current.last).collect();
        let Some(last) = entries.last() else { return };
        current.next = last.header().index.next();
        current.helpers.insert(node);
        current.entries += entries.len() as u64;
        current.bytes += entries.iter().map(|e| e.bytes().len() as u64).sum::<u64>();
        let room = CONTROL_MAX.saturating_sub(current.control.len());
        current.control.extend(entries.iter().filter(|e| e.header().kind.is_remembered()).take(room).cloned());
        // Asked again from an earlier entry on, it is told again.
        if let Some(first) = entries.first().map(|entry| entry.header().index) {
            current.runs.retain(|run| run.first < first);
        }
        for header in entries.iter().map(Entry::header) {
            if current.runs.last().is_none_or(|run| run.term != header.term) {
                current.runs.push(Run { first: header.index, term: header.term });
            }
        }
        if current.runs.len() > RUNS_MAX {
            self.pass_over(Vain::Wrong);
            self.repair.current = None;
            return self.note_about(now, node, "what it gave for a repair has more terms than any log");
        }
        current.writing += 1;
        self.emit(Output::Repair { id, entries });
        self.ask_for_piece(now);
    }

    /// The disk says how far the range has come.
    pub(super) fn repaired(&mut self, now: Now, id: u64, result: Result<Repaired, RepairFailed>) {
        self.repair_answer(now, id, result);
        if let Some(ranges) = self.repair.held.take() {
            self.damage_found(now, ranges);
        }
    }

    fn repair_answer(&mut self, now: Now, id: u64, result: Result<Repaired, RepairFailed>) {
        let Some(current) = self.repair.current.as_mut().filter(|current| current.id == id) else { return };
        current.writing = current.writing.saturating_sub(1);
        match result {
            Ok(Repaired::Wants(next)) => {
                if current.asked.is_none() && current.writing == 0 {
                    current.next = next;
                }
                self.ask_for_piece(now);
            }
            Ok(Repaired::Whole { first, last }) => self.range_is_whole(now, first, last),
            Err(RepairFailed::Unfit(why)) => {
                let helpers = current.helpers.clone();
                self.repair.current = None;
                // Of several helpers nobody can say which one was wrong: the next try is with one alone.
                if let (1, Some(node)) = (helpers.len(), helpers.first()) {
                    self.repair.vain.insert(*node, Vain::Wrong);
                    self.note_about(now, *node, &format!("the entries it gave for a repair were refused: {why}"));
                }
                self.hurry(now);
            }
            Err(RepairFailed::NoRoom(why)) => {
                self.repair.current = None;
                self.repair.no_room = Some(why);
                self.repair.not_before = now.mono.after(ROOM_AGAIN);
            }
        }
    }

    fn range_is_whole(&mut self, now: Now, first: LogIndex, last: LogIndex) {
        let Some(current) = self.repair.current.take() else { return };
        self.repair.repaired_entries += current.entries;
        self.repair.repaired_bytes += current.bytes;
        self.repair.vain.clear();
        self.repair.rounds = 0;
        self.repair.no_room = None;
        let from: Vec<String> = current.helpers.iter().map(|node| self.name_of(*node)).collect();
        self.note(Level::Info, format!("entries {first} to {last} are repaired, with those of {}", from.join(", ")));
        self.read_founding(&current.control);
        for entry in &current.control {
            self.boots.read(entry);
            if let Some(configuration) = configuration_of(entry) {
                let index = entry.header().index;
                self.raft.handle(now, quorate_raft::Input::Learned { index, configuration });
            }
        }
        self.raft.handle(now, quorate_raft::Input::Reread { runs: current.runs, last });
        self.applied.read_again();
        self.hurry(now);
    }

    /// What an operator should know of it.
    pub(super) fn repair_problems(&self) -> Vec<(Cause, String)> {
        let mut problems = Vec::new();
        for range in self.repair.damaged.iter().take(NAMED_MAX) {
            let DamagedRange { file, at, first, last, .. } = range;
            let (cause, next) = if self.repair.lost.contains(first) {
                (
                    Cause::DamageLost,
                    "no member can read them: restore a member from a backup, or give them up with `quorate recover`",
                )
            } else if self.repair_members().is_empty() {
                (
                    Cause::DamageLost,
                    "there is no other member to repair them from: restore a backup, or give them up with `quorate recover`",
                )
            } else {
                (Cause::DamageRepairing, "they are being asked back from the other members")
            };
            problems.push((
                cause,
                format!("entries {first} to {last} cannot be read here ({file} is damaged at byte {at}); {next}"),
            ));
        }
        let more = self.repair.damaged.len().saturating_sub(NAMED_MAX);
        if more > 0 {
            problems.push((Cause::DamageRepairing, format!("{more} more ranges of entries cannot be read here")));
        }
        if let Some(why) = &self.repair.no_room {
            problems.push((
                Cause::DiskFull,
                format!("the repair of this log waits for room on the disk ({why}); free some"),
            ));
        }
        problems
    }
}
