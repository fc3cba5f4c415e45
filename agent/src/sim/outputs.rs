//! Orders of a node, carried out as the shell and its disk threads do.
//!
//! A message crosses the network as the bytes of the wire format, so the codec is part of every run.

use super::client::End as OpEnd;
use super::dead::Dead;
use super::event::{Dial, Event, Happening};
use super::invariant::Invariant;
use super::machine::{Machine, host};
use super::plan::{MS, letter};
use super::replayed::configuration;
use super::world::World;
use crate::node::{Class, Input, Output, PeerMessage, Published, RaftMessage, RepairFailed, never_sent};
use crate::wire::peer::{decode_peer, encode_peer};
use bytes::Bytes;
use quorate_raft::PersistTicket;
use quorate_raft::wal::{self, Batch, Entry, Repaired};
use std::sync::Arc;

/// The disk thread tries again after this, as in the shell.
const RETRY_US: u64 = 200 * MS;

impl World {
    pub(super) fn output(&mut self, machine: usize, output: Output) {
        let at = self.at;
        let Some(process) = &mut self.machines[machine].process else { return };
        let life = process.life;
        match output {
            Output::Write { ticket, batch } => self.order(machine, ticket, batch),
            Output::Pledge { change, record } => self.pledge(machine, change, &record),
            Output::Send { node, class, message } => self.send(machine, life, node, class, &message),
            Output::Datagram { node, bytes, .. } => self.datagram(machine, life, node, bytes),
            Output::Exchange { node, bytes, .. } => {
                let Some((link, to)) = self.network.route(machine, life, node) else { return };
                self.network.say(link, to, at);
                let passage = self.network.arrival(link, to, Class::Peer, at, &mut self.noise.network[machine]);
                let end = self.network.links[&link].ends[to].clone();
                if self.network.is_open(machine, end.machine) && !self.is_gossip_lost(machine) {
                    let from_node = self.machines[machine].node.get();
                    let asked = Happening::Asked { from: machine, from_life: life, from_node, bytes };
                    self.push_to(passage.arrives, end.machine, end.life, asked);
                }
            }
            Output::ExchangeReply { token, bytes } => self.reply(machine, token, bytes),
            Output::DialSeed { seed } => {
                let named = (0..self.machines.len()).find(|m| host(*m) == seed).map(|m| self.machines[m].addr);
                match named.or_else(|| seed.parse().ok()) {
                    Some(addr) => self.dial(machine, life, Dial::Seed(seed), addr),
                    None => {
                        let why = "the name does not resolve; check it".into();
                        self.push_to(
                            at,
                            machine,
                            life,
                            Happening::Input(Input::SeedFailed { seed, why, refusal: None, tried: Vec::new() }),
                        );
                    }
                }
            }
            Output::Keep { node, addr } => self.keep(machine, node, addr),
            Output::Unkeep { node } => self.unkeep(machine, node),
            Output::Dial { node, addr } => self.dial(machine, life, Dial::Once(node), addr),
            Output::Release { node } => self.release(machine, life, node),
            Output::CutOff { node, offence } => {
                let text = format!("{} cut off node {node:016x}, which is honest: {offence:?}", letter(machine));
                self.witness.blame(Invariant::NoFalseOffence, text);
            }
            Output::Fetch { token, from, to, bytes_max, .. } => {
                // One thread reads: the answers come in the order of the questions.
                let done = process.reading_until.max(at) + self.noise.pace[machine].between(100, 5_000);
                process.reading_until = done;
                self.push_to(done, machine, life, Happening::Fetched { token, from, to, bytes_max });
            }
            Output::Repair { id, entries } => {
                let done = at + self.noise.pace[machine].between(200, 10_000);
                self.push_to(done, machine, life, Happening::Repair { id, entries });
            }
            Output::Checkpoint(checkpoint) => self.checkpoint(machine, checkpoint),
            Output::Answer { request, result } => self.answered(machine, request, OpEnd::Answered(result)),
            Output::Published(published) => self.published(machine, &published),
            Output::JoinedLog { log_id } => {
                process.log_id = Some(log_id);
                if !self.machines[machine].foreign {
                    if self.histories.is_empty() && self.machines[machine].expect > 0 {
                        self.counters.count("founded together");
                    }
                    self.histories.insert(log_id);
                }
            }
            Output::Remember(known) => self.machines[machine].known = known,
            Output::SaveTags { id, tags } => {
                self.machines[machine].tags = tags;
                let saved = Happening::Input(Input::TagsSaved { id, result: Ok(()) });
                let later = self.noise.pace[machine].between(100, 5_000);
                self.push_to(self.at + later, machine, life, saved);
            }
            Output::Stopped => {
                // What was queued is done before the process ends.
                self.save(machine);
                self.say(format_args!("{} has stopped", letter(machine)));
                self.hit("stopped", machine);
                self.machines[machine].disk.kill();
                self.end_process(machine);
                if let Some(rest_us) = self.machines[machine].rest_us {
                    self.start_at(machine, at + rest_us);
                }
            }
            Output::Departed => {
                self.say(format_args!("{} has left", letter(machine)));
                self.hit("departed", machine);
                self.machines[machine].departed = true;
                self.machines[machine].disk.kill();
                self.end_process(machine);
                if let Some(rest_us) = self.machines[machine].rest_us {
                    self.start_at(machine, at + rest_us);
                }
            }
            Output::Note { level, text } => {
                // The disk of this very agent was harmed on purpose, or copied: then that is true.
                let about = |m: &Machine| m.was_harmed && text.starts_with(&format!("agent {}: ", m.name));
                if text.contains("has lost entries that it acknowledged") && self.machines.iter().any(about) {
                    self.counters.count("lost entries told");
                } else if text.contains("alarm of Raft") {
                    let what = format!("{} raises an alarm among the honest: {text}", letter(machine));
                    self.witness.blame(Invariant::NoFalseOffence, what);
                }
                self.say(format_args!("{} says {level:?}: {text}", letter(machine)))
            }
        }
    }

    fn published(&mut self, machine: usize, published: &Arc<Published>) {
        let Some(process) = &mut self.machines[machine].process else { return };
        let before = std::mem::replace(&mut process.published, Arc::clone(published));
        process.gate = published.gate.clone();
        if published.readable < before.readable || published.readable_index < before.readable_index {
            self.witness.blame(Invariant::ReadableGrows, format!("what {} may read went back", letter(machine)));
        }
        if published.readable_index != before.readable_index && !self.machines[machine].foreign {
            let (index, readable) = (published.readable_index.0, published.readable);
            self.witness.applied(machine, &self.machines, index, readable);
            self.knows_the_level(machine, index);
        }
    }

    // ---- messages ----

    fn send(&mut self, machine: usize, life: u64, node: u64, class: Class, message: &PeerMessage) {
        if let PeerMessage::Raft(raft) = message
            && !self.machines[machine].foreign
        {
            let is_there = self.reaches(machine, life, node);
            let from = &self.machines[machine];
            let is_copied = self.machines.iter().any(|m| m.retired && m.is_up() && m.node == from.node);
            self.witness.said(from.node, node, raft, &from.durable, is_there || !is_copied);
            self.witness.spoke(machine, &self.machines, (node, is_there), raft, self.at);
            self.count_entries(node, raft);
        }
        let Some((link, to)) = self.network.route(machine, life, node) else {
            self.counters.count("sends without a connection");
            if let PeerMessage::Forward { id, .. } = message {
                let message = PeerMessage::Forwarded { id: *id, result: Err(never_sent()) };
                self.inbox.push_back((machine, Input::Peer { node, message }));
            }
            return;
        };
        let waiting = self.network.links.get(&link).map_or(0, |l| l.stalled[to].len() as u64);
        if waiting >= self.plan.knobs.queue_frames {
            self.counters.count("queue full");
            if let PeerMessage::Forward { id, .. } = message {
                let message = PeerMessage::Forwarded { id: *id, result: Err(never_sent()) };
                self.inbox.push_back((machine, Input::Peer { node, message }));
            }
            return;
        }
        let bytes = Bytes::from(encode_peer(message).concat());
        self.network.say(link, to, self.at);
        let passage = self.network.arrival(link, to, class, self.at, &mut self.noise.network[machine]);
        self.counters.add("packets lost", passage.lost);
        self.counters.add("frames late", u64::from(passage.late));
        let (bulk_epoch, other) = self.network.links.get(&link).map_or((0, 0), |l| (l.bulk_epoch, l.ends[to].machine));
        if self.network.breaking.remove(&machine) || self.network.breaking.remove(&other) {
            // The connection breaks while the frame is half-way.
            let breaks = self.at + (passage.arrives - self.at) / 2;
            self.push(breaks, Event::Closed { link, side: to });
        }
        self.push(passage.arrives, Event::Frame { link, to, class, bytes, bulk_epoch });
    }

    /// What is sent for nothing: to somebody whose disk holds it already, or where it finds a gap.
    fn count_entries(&mut self, node: u64, raft: &RaftMessage) {
        if raft.message.kind() == "conflict" {
            self.counters.count("conflicts");
        }
        let (Some(first), Some(last)) = (raft.entries.first(), raft.entries.last()) else { return };
        let (first, last) = (first.header().index.0, last.header().index.0);
        self.counters.add("entries sent", last + 1 - first);
        if let Some(to) = self.machines.iter().find(|m| m.node.get() == node) {
            let held = to.durable.log.len() as u64;
            self.counters.add("entries sent again", (held.min(last) + 1).saturating_sub(first));
        }
    }

    pub(super) fn frame(&mut self, link: u64, to: usize, class: Class, bytes: Bytes, bulk_epoch: u64) {
        let Some(l) = self.network.links.get_mut(&link) else { return };
        let (machine, life, from) = (l.ends[to].machine, l.ends[to].life, l.ends[1 - to].machine);
        if !l.ends[to].up || (class == Class::Bulk && bulk_epoch != l.bulk_epoch) {
            self.counters.count("frames lost");
            return;
        }
        let not_read = self.network.not_reading.contains(&machine);
        if not_read || self.network.cut.contains(&(from, machine)) || !l.stalled[to].is_empty() {
            l.stalled[to].push_back((class, bytes));
            self.counters.count("frames stalled");
            return;
        }
        let node = l.ends[1 - to].node;
        if !self.is_alive(machine, life) {
            return;
        }
        match decode_peer(bytes) {
            Ok(message) => {
                let word = match &message {
                    PeerMessage::Raft(raft) => raft.message.kind(),
                    PeerMessage::Forward { .. } => "forward",
                    PeerMessage::Forwarded { .. } => "forwarded",
                    PeerMessage::Ask { .. } => "ask",
                    PeerMessage::Answered { .. } => "answered",
                    PeerMessage::View(_) => "view",
                    PeerMessage::Joined { .. } => "joined",
                    PeerMessage::RepairRequest { .. } => "repair request",
                    PeerMessage::Missed { .. } => "missed",
                    PeerMessage::Chain { .. } => "chain",
                    PeerMessage::RepairReply { .. } => "repair reply",
                    PeerMessage::Founding(_) => "founding",
                };
                self.say(format_args!("{} <- {} {word}", letter(machine), letter(from)));
                if let PeerMessage::Raft(_) = &message {
                    self.witness.heard(machine, &self.machines, node, self.at);
                }
                self.feed(machine, Input::Peer { node, message });
            }
            Err(error) => {
                self.witness.blame(Invariant::Decodes, format!("a frame of {} does not decode: {error}", letter(from)))
            }
        }
    }

    /// What waited for a way goes on.
    pub(super) fn unstall(&mut self) {
        let mut going = Vec::new();
        for (id, link) in &mut self.network.links {
            for to in 0..2 {
                let (from, machine) = (link.ends[1 - to].machine, link.ends[to].machine);
                if !self.network.cut.contains(&(from, machine)) && !self.network.not_reading.contains(&machine) {
                    let bulk_epoch = link.bulk_epoch;
                    going.extend(link.stalled[to].drain(..).map(|(class, bytes)| (*id, to, class, bytes, bulk_epoch)));
                }
            }
        }
        for (link, to, class, bytes, bulk_epoch) in going {
            let Some(from) = self.network.links.get(&link).map(|l| l.ends[1 - to].machine) else { continue };
            let arrives = self.network.arrival(link, to, class, self.at, &mut self.noise.network[from]).arrives;
            self.push(arrives, Event::Frame { link, to, class, bytes, bulk_epoch });
        }
    }

    fn datagram(&mut self, machine: usize, life: u64, node: u64, bytes: Vec<u8>) {
        let Some((link, to)) = self.network.route(machine, life, node) else { return };
        self.network.say(link, to, self.at);
        let (end, from) = {
            let ends = &self.network.links[&link].ends;
            (ends[to].clone(), ends[1 - to].node)
        };
        let node = self.machines[machine].node.get();
        self.network.remember_gossip(machine, end.machine, self.at, node, &bytes);
        let random = &mut self.noise.network[machine];
        let copies = if random.chance(self.network.duplicate) { 2 } else { 1 };
        self.counters.add("datagrams doubled", copies - 1);
        for _ in 0..copies {
            let random = &mut self.noise.network[machine];
            let lost = random.chance(self.network.loss);
            let detour = self.network.detour(random);
            let arrives = self.at + self.network.delay(random) + detour;
            // Nobody keeps datagrams for whoever does not read.
            let unread = self.network.not_reading.contains(&end.machine) || self.is_gossip_lost(machine);
            if lost || unread || !self.network.is_open(machine, end.machine) {
                self.counters.count("datagrams lost");
                continue;
            }
            self.counters.add("datagrams overtaken", u64::from(detour > 0));
            let datagram = Happening::Datagram { link, from, bytes: bytes.clone() };
            self.push_to(arrives, end.machine, end.life, datagram);
        }
    }

    fn is_gossip_lost(&self, machine: usize) -> bool {
        self.gossip_lost.get(&machine).is_some_and(|until| *until > self.at)
    }

    /// `asker`: machine, life and node of who asked; it may be another node by now.
    pub(super) fn asked(&mut self, machine: usize, life: u64, asker: (usize, u64, u64), bytes: Vec<u8>) {
        let (from, from_life, node) = asker;
        if !self.is_alive(machine, life) || self.network.route(machine, life, node).is_none() {
            return;
        }
        self.next_token += 1;
        let token = self.next_token;
        self.exchanges.insert((machine, token), (from, from_life));
        self.say(format_args!("{} exchanges tables with {}", letter(machine), letter(from)));
        self.feed(machine, Input::Exchange { node, token, bytes });
    }

    fn reply(&mut self, machine: usize, token: u64, bytes: Vec<u8>) {
        let Some((to, life)) = self.exchanges.remove(&(machine, token)) else {
            return self.witness.blame(Invariant::OneAnswer, format!("{} answered an exchange twice", letter(machine)));
        };
        if self.network.is_open(machine, to) && !self.is_gossip_lost(machine) {
            let arrives = self.at + self.network.delay(&mut self.noise.network[machine]);
            let from = self.machines[machine].node.get();
            self.push_to(arrives, to, life, Happening::Replied { from, bytes });
        }
    }

    /// It has applied a raise of the feature level: from now on its gate goes by that.
    fn knows_the_level(&mut self, machine: usize, applied: u64) {
        let Some((level, _)) = self.witness.level().filter(|(_, at)| *at <= applied) else { return };
        let life = self.machines[machine].lives;
        let known = &mut self.machines[machine].level_known;
        if known.is_none_or(|(known, of, _)| (known, of) != (level, life)) {
            *known = Some((level, life, self.at));
        }
    }

    // ---- the disk threads ----

    /// A write joins the queue of the disk thread; from now on it is part of the log as the node sees it.
    fn order(&mut self, machine: usize, ticket: PersistTicket, batch: Batch) {
        let Some(process) = &mut self.machines[machine].process else { return };
        if let Some(from) = batch.truncate_from {
            process.ordered.truncate(from.0.saturating_sub(1) as usize);
            self.machines[machine].configurations.split_off(&from.0);
        }
        let Some(process) = &mut self.machines[machine].process else { return };
        process.ordered.extend(batch.append.iter().cloned());
        let configurations: Vec<_> =
            batch.append.iter().filter_map(|e| Some((e.header().index.0, configuration(e)?))).collect();
        let (at, cap) = (self.at, self.plan.knobs.uncommitted_bytes_max);
        self.witness.wrote(machine, &self.machines, &batch.append, at, cap);
        let Some(process) = &mut self.machines[machine].process else { return };
        process.queue.push(ticket, batch);
        for (index, configuration) in configurations {
            if !self.machines[machine].foreign {
                self.witness.ordered(machine, &self.machines, index);
            }
            self.machines[machine].configurations.insert(index, configuration);
        }
        self.write(machine);
    }

    pub(super) fn write(&mut self, machine: usize) {
        let slow = self.machines[machine].slow_disk.filter(|(_, until)| *until > self.at).map(|(us, _)| us);
        let life = self.machines[machine].lives;
        match self.machines[machine].write_group() {
            Ok(group) => {
                if group.syncs {
                    let knobs = &self.plan.knobs;
                    let usual = self.noise.pace[machine].between(knobs.sync_us_min, knobs.sync_us_max);
                    let takes = self.machines[machine].hangs_us.take().or(slow).unwrap_or(usual);
                    self.push_to(self.at + takes, machine, life, Happening::Synced);
                }
                if let Some(ticket) = group.overtook {
                    self.counters.count("votes overtook");
                    self.inbox.push_back((machine, Input::HardStateWritten { ticket }));
                }
                match group.waits {
                    // What finds no room without power waits for more than room.
                    Some(error) if self.tearing.contains_key(&machine) => {
                        return self.died(machine, Dead::Log(error));
                    }
                    Some(_) => {
                        self.counters.count("disk full");
                        self.retry_write(machine, life);
                    }
                    None if group.unreadable => self.retry_write(machine, life),
                    None => {}
                }
                self.tell_space(machine);
                if group.truncated || group.unreadable {
                    self.look_for_damage(machine);
                }
            }
            Err(dead) => self.died(machine, dead),
        }
    }

    fn retry_write(&mut self, machine: usize, life: u64) {
        let Some(process) = &mut self.machines[machine].process else { return };
        if !std::mem::replace(&mut process.retries, true) {
            self.push_to(self.at + RETRY_US, machine, life, Happening::RetryWrite);
        }
    }

    /// The node hears what room its disk has, if that is news.
    pub(super) fn tell_space(&mut self, machine: usize) {
        if let Some((space, waits)) = self.machines[machine].space_news(self.at) {
            self.inbox.push_back((machine, Input::Space { free: space.free, total: space.total, waits }));
        }
    }

    pub(super) fn synced(&mut self, machine: usize) {
        match self.machines[machine].sync_group() {
            Ok(Some(ticket)) => {
                self.say(format_args!("{} has on disk {ticket}", letter(machine)));
                self.feed(machine, Input::Written { ticket });
                self.write(machine);
            }
            Ok(None) => {}
            Err(dead) => self.died(machine, dead),
        }
    }
}

impl World {
    /// What the disk threads tell the node when something can no longer be read, or can again.
    pub(super) fn look_for_damage(&mut self, machine: usize) {
        let Some(process) = &mut self.machines[machine].process else { return };
        let ranges = process.reader.damaged();
        if process.damaged != ranges {
            process.damaged.clone_from(&ranges);
            self.say(format_args!("{} cannot read {} ranges of entries", letter(machine), ranges.len()));
            self.counters.count("damage found");
            self.feed(machine, Input::Damaged { ranges });
        }
    }

    /// Entries for a damaged range, on a thread beside the one that writes.
    pub(super) fn repair(&mut self, machine: usize, id: u64, entries: Vec<Entry>) {
        let at = self.at;
        let later = at + self.noise.pace[machine].between(100, 5_000);
        let Some(process) = &mut self.machines[machine].process else { return };
        let life = process.life;
        match process.repairer.give(&entries) {
            Ok(wal::Given::Wants(next)) => {
                self.feed(machine, Input::Repaired { id, result: Ok(Repaired::Wants(next)) })
            }
            Ok(wal::Given::Proven(proven)) => self.push_to(later, machine, life, Happening::Mend { id, proven }),
            Ok(wal::Given::Unsealed) if process.syncing.is_some() => {
                self.push_to(at + 100, machine, life, Happening::Repair { id, entries });
            }
            Ok(wal::Given::Unsealed) => match process.writer.end_segment() {
                Ok(()) => self.push_to(later, machine, life, Happening::Repair { id, entries }),
                Err(error) => self.not_repaired(machine, id, error),
            },
            Err(error) => self.not_repaired(machine, id, error),
        }
    }

    /// The thread that writes gives proven copies their names, between two groups of writes.
    pub(super) fn mend(&mut self, machine: usize, id: u64, proven: wal::Proven) {
        let at = self.at;
        let Some(process) = &mut self.machines[machine].process else { return };
        if process.syncing.is_some() {
            let life = process.life;
            return self.push_to(at + 100, machine, life, Happening::Mend { id, proven });
        }
        match process.writer.put_in_place(proven) {
            Ok(whole) => {
                self.counters.count("ranges repaired");
                self.look_for_damage(machine);
                self.feed(machine, Input::Repaired { id, result: Ok(whole) });
            }
            Err(error) => self.not_repaired(machine, id, error),
        }
    }

    fn not_repaired(&mut self, machine: usize, id: u64, error: wal::Error) {
        let why = match error {
            error if error.is_retriable() => RepairFailed::NoRoom(error.to_string()),
            error if error.is_of_repair() => RepairFailed::Unfit(error.to_string()),
            error => return self.died(machine, Dead::Log(error)),
        };
        self.look_for_damage(machine);
        self.feed(machine, Input::Repaired { id, result: Err(why) });
    }
}
