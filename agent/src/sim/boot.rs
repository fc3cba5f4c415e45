//! Boot: a machine starts its agent on its disk, and what was durable there must be there.
//!
//! It decides nothing about what is found damaged: that is for the log and the node.

use super::clock::Clock;
use super::dead::Dead;
use super::machine::{Machine, Process};
use super::plan::Knobs;
use super::pledge_file;
use super::random::Random;
use super::replayed::{Replayed, configuration};
use crate::checkpoint::{Checkpoint, Store, stands_in};
use crate::node::{Boot, Formation, Gate, LOOK_FOR_DEFAULT, Node, Options};
use crate::pledge::SymbolicKeys;
use quorate_raft::wal::{self, Entry, EntryHeader, Meta, Queue, Reader};
use quorate_raft::{BootId, LogIndex, Now};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// The trust domain of the simulated world.
const CLUSTER: [u8; 16] = *b"simulated-world!";
/// And another one beside it.
const OTHER_CLUSTER: [u8; 16] = *b"the-world-beside";

impl Machine {
    /// Starts the agent on its disk.
    pub(super) fn boot(&mut self, at: u64, knobs: &Knobs, random: &mut Random) -> Result<(), Dead> {
        let disk = self.disk.attach();
        self.told_of_copy = false;
        self.lost_before = self.disk.counters().writes_lost;
        if !wal::exists(&disk).map_err(Dead::Log)? {
            let cluster = if self.foreign { OTHER_CLUSTER } else { CLUSTER };
            wal::create(&disk, Meta::new(cluster, self.node)).map_err(Dead::Log)?;
        }
        let options = wal::Options {
            segment_bytes: knobs.segment_bytes,
            prepare_bytes: 4 << 10,
            index_every_bytes: 1 << 10,
            seed: random.next(),
            // Every other life reads no more of its log than it must.
            verify_at_open_bytes: if self.lives.is_multiple_of(2) { u64::MAX } else { 0 },
        };
        let store = Store::new(disk.clone());
        let opened = wal::open(disk.clone(), options).map_err(Dead::Log)?;
        let ordered = self.compare(&opened)?;
        let stands = |last: &EntryHeader| stands_in(&opened.reader, last);
        let checkpoints = store.load(CLUSTER, self.node, opened.meta.log_id, stands);
        let mut replayed = Replayed::default();
        let known = checkpoints.checkpoint.as_ref().map_or(LogIndex::ZERO, Checkpoint::index);
        if let Some(checkpoint) = checkpoints.checkpoint.as_ref().filter(|c| c.index().0 <= ordered.len() as u64) {
            replayed.advance(&ordered, known.0);
            if let Some(part) = replayed.differs(checkpoint) {
                return Err(Dead::Untrue(format!("the checkpoint of entry {known} differs from a replay in {part}")));
            }
        }
        // What is left out comes back with the repair.
        let control = opened.control(known).map_err(Dead::Log)?;
        self.lives += 1;
        let clock = Clock::new(at, random.below(3_600_000_000), self.pace);
        let now = Now { mono: clock.read(at), wall: self.wall(at) };
        let boot = random.next().max(1);
        let (epoch, log_id) = (opened.meta.boot_epoch, opened.meta.log_id);
        let node_options = self.options(knobs, boot, random);
        let passed_over = checkpoints.passed_over.len();
        // What was found since it was opened counts as found by the start.
        let damaged = opened.reader.damaged();
        let recovered = wal::Recovered { damaged: damaged.clone(), ..opened.recovered };
        let record = pledge_file::load(&*disk, self.node.get())?;
        let expects = self.expect > 0 || !record.is_empty();
        let boot_of = Boot {
            meta: opened.meta,
            recovered,
            checkpoints,
            control,
            known: self.known.clone(),
            tags: self.tags.clone(),
            record,
        };
        let node = Node::restore(node_options, boot_of, now).map_err(|e| Dead::Options(e.to_string()))?;
        self.process = Some(Process {
            life: self.lives,
            born: at,
            boot,
            epoch,
            node,
            repairer: opened.writer.repairer(),
            writer: opened.writer,
            reader: opened.reader,
            log_id,
            expects,
            gate: Gate::default(),
            published: Arc::default(),
            clock,
            kept: BTreeMap::new(),
            queue: Queue::default(),
            waits: false,
            retries: false,
            told_space: None,
            syncing: None,
            written: Vec::new(),
            wake_at: None,
            drain_at: None,
            paused_until: 0,
            reading_until: 0,
            on_disk: ordered.clone(),
            ordered,
            damaged,
            met: BTreeMap::new(),
            missed: VecDeque::new(),
            requests: BTreeMap::new(),
            next_request: 0,
            store,
            files: disk.clone(),
            replayed,
            saving: None,
            resumed_at: known.0,
            passed_over,
        });
        Ok(())
    }

    /// Nothing that was durable may be missing; what is there now is durable, since opening makes it so.
    fn compare(&mut self, opened: &wal::Opened) -> Result<Vec<Entry>, Dead> {
        let found = self.read_all(&opened.reader)?;
        // Where the end of a log is suspect, the log says so and ends earlier.
        let kept = if opened.recovered.suspect.is_some() { found.len() } else { usize::MAX };
        for (at, (_, chain)) in self.durable.log.iter().enumerate().take(kept).filter(|_| !self.harmed) {
            if found.get(at).is_none_or(|e| e.header().chain != *chain) {
                return Err(Dead::Lost(format!("entry {} was durable, and is not there after a restart", at + 1)));
            }
        }
        if opened.meta.hard_state.term < self.durable.hard_state.term && !self.harmed {
            return Err(Dead::Lost("a durable term is not there after a restart".into()));
        }
        self.durable.log = found.iter().map(|e| (e.header().term, e.header().chain)).collect();
        if opened.meta.boot_epoch <= self.durable.boot_epoch {
            return Err(Dead::Lost(format!("two starts have the boot epoch {}", opened.meta.boot_epoch)));
        }
        self.durable.boot_epoch = opened.meta.boot_epoch;
        self.durable.hard_state = opened.meta.hard_state;
        self.configurations = found.iter().filter_map(|e| Some((e.header().index.0, configuration(e)?))).collect();
        Ok(found)
    }

    /// The whole log. What the disk cannot give is what stood there, seen from outside.
    fn read_all(&self, reader: &Reader) -> Result<Vec<Entry>, Dead> {
        let mut found: Vec<Entry> = Vec::new();
        loop {
            let next = LogIndex(found.len() as u64 + 1);
            let (first, last) = match reader.read(next, LogIndex(u64::MAX - 1), usize::MAX) {
                Ok(entries) if entries.is_empty() => return Ok(found),
                Ok(entries) => {
                    found.extend(entries);
                    continue;
                }
                Err(wal::Error::Corrupt { entries: Some(range), .. }) => range,
                Err(error) => return Err(Dead::Log(error)),
            };
            for index in first.0.max(next.0)..=last.0 {
                let at = index as usize - 1;
                // A log that begins a new segment syncs the one before, and tells nobody: so more may be durable than is known.
                let unknown = index > self.durable.log.len() as u64;
                let holds = |entry: &&Entry| unknown || self.durable.holds(index, entry.header().chain);
                let stood = self.archive.get(at).filter(holds);
                let entry =
                    stood.ok_or_else(|| Dead::Lost(format!("entry {index} is damaged, and never was durable")))?;
                found.push(entry.clone());
            }
        }
    }

    fn options(&self, knobs: &Knobs, boot: u64, random: &mut Random) -> Options {
        let mut fresh_log_id = [0; 16];
        fresh_log_id[..8].copy_from_slice(&random.next().to_le_bytes());
        fresh_log_id[8..].copy_from_slice(&random.next().to_le_bytes());
        Options {
            name: self.name.clone(),
            version: self.version.clone(),
            tags: self.zone.iter().map(|zone| ("zone".to_owned(), zone.clone())).collect(),
            advertise: self.addr,
            formation: Formation {
                bootstrap: self.bootstrap,
                seeds: self.join.clone(),
                look_for: LOOK_FOR_DEFAULT,
                expect: self.expect,
            },
            keys: Arc::new(SymbolicKeys(self.node.get())),
            fresh_log_id,
            boot: BootId(boot),
            seed: random.next(),
            raft: quorate_raft::Options {
                append_entries_max: knobs.append_entries_max,
                append_bytes_max: knobs.append_bytes_max,
                window_bytes: knobs.window_bytes,
                uncommitted_bytes_max: knobs.uncommitted_bytes_max,
                ..quorate_raft::Options::default()
            },
            membership: quorate_membership::Options::lan(),
            record_bytes_max: 64 << 10,
            voters_target: 5,
            replicas_max: crate::node::REPLICAS_MAX_DEFAULT,
            name_hold: Duration::from_micros(knobs.name_hold_us),
            growth_patience: crate::node::GROWTH_PATIENCE_DEFAULT,
            autopilot: knobs.autopilot(),
            feature_level: self.feature_level,
            checkpoint_entries: knobs.checkpoint_entries,
            checkpoint_bytes: crate::node::CHECKPOINT_BYTES_DEFAULT,
            disk_reserve_bytes: knobs.disk_reserve_bytes,
        }
    }
}
