//! Machine: a disk, an address, two clocks, and at times a process on it: the production `Node` and log.
//!
//! It knows no other machine and no network.

use super::clock::Clock;
use super::dead::Dead;
use super::event::Event;
use super::plan::{AgentPlan, Knobs, SECOND, letter};
use super::pledge_file;
use super::random::Random;
use super::replayed::{Replayed, configuration};
use crate::checkpoint::{Checkpoint, Store, stands_in};
use crate::node::{Boot, Formation, Gate, Known, LOOK_FOR_DEFAULT, Node, Options, Published};
use crate::pledge::SymbolicKeys;
use quorate_raft::wal::sim::SimDisk;
use quorate_raft::wal::{self, DamagedRange, Disk, Entry, EntryHeader, Meta, Queue, Reader, Repairer, Space, Writer};
use quorate_raft::{BootId, Configuration, HardState, LogIndex, Mono, NodeId, Now, PersistTicket, Term, Wall, mutant};
use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// The trust domain of the simulated world.
const CLUSTER: [u8; 16] = *b"simulated-world!";
/// And another one beside it.
const OTHER_CLUSTER: [u8; 16] = *b"the-world-beside";
/// The wall clock at the beginning: it must not matter.
const WALL_ORIGIN_US: i64 = 1_700_000_000_000_000;

/// The version that every agent begins with.
const VERSION: &str = "1.0.0";
/// That of an agent with an older program, and what that supports.
const OLD: (&str, u32) = ("0.9.0", 1);

/// What a disk is known to hold after a power loss, as seen from outside.
#[derive(Clone, Debug, Default)]
pub(super) struct Durable {
    /// Term and chain of each entry, by index minus one.
    pub(super) log: Vec<(Term, u64)>,
    /// Term and vote.
    pub(super) hard_state: HardState,
    /// How often the directory was opened.
    pub(super) boot_epoch: u64,
}

impl Durable {
    /// Does it hold this very entry, and so all before it?
    pub(super) fn holds(&self, index: u64, chain: u64) -> bool {
        index.checked_sub(1).and_then(|at| self.log.get(at as usize)).is_some_and(|(_, c)| *c == chain)
    }
}

/// One machine.
pub(super) struct Machine {
    pub(super) name: String,
    pub(super) disk: SimDisk,
    pub(super) node: NodeId,
    pub(super) addr: SocketAddr,
    pub(super) wall_us: i64,
    /// How fast the monotonic clocks of its processes run.
    pub(super) pace: u64,
    pub(super) bootstrap: bool,
    pub(super) expect: usize,
    pub(super) join: Vec<String>,
    pub(super) known: Vec<Known>,
    /// Tags that were set at run time, as they are on disk.
    pub(super) tags: BTreeMap<String, String>,
    pub(super) process: Option<Process>,
    /// Processes started so far.
    pub(super) lives: u64,
    /// A start is planned.
    pub(super) starting: bool,
    pub(super) durable: Durable,
    /// The log as the process before had written it: what stood where its disk has rotted since.
    pub(super) archive: Vec<Entry>,
    /// The configurations in its log, on disk or on their way there.
    pub(super) configurations: BTreeMap<u64, Configuration>,
    /// A sync takes this long until then.
    pub(super) slow_disk: Option<(u64, u64)>,
    /// The next sync takes this long.
    pub(super) hangs_us: Option<u64>,
    /// Something that was durable here was destroyed, and is not known to be whole again.
    pub(super) harmed: bool,
    /// That ever was so, here or on a copy of this disk.
    pub(super) was_harmed: bool,
    /// What is left is known only once it has been started so often.
    pub(super) seen_at_life: u64,
    /// Why it does not start: its damage, named.
    pub(super) refuses: Option<String>,
    /// A copy of the disk: of which boot, and what was known to be durable on it.
    pub(super) backup: Option<(u64, SimDisk, Durable)>,
    /// What its disk had counted when that was last asked.
    pub(super) disk_counted: quorate_raft::wal::sim::Counters,
    /// Writes that its disk had lost, unnoticed, when it was started.
    pub(super) lost_before: u64,
    /// Of another cluster.
    pub(super) foreign: bool,
    /// It ran on a copy of a disk, and never starts again.
    pub(super) retired: bool,
    /// It died for good, and nobody knows.
    pub(super) lost: bool,
    /// Somebody let it in since this was last set to false.
    pub(super) admitted: bool,
    /// Its disk was copied, or is an older copy of itself.
    pub(super) copied: bool,
    /// Its process was told so, and to wipe one of the two.
    pub(super) told_of_copy: bool,
    /// It has left; its data directory is set aside at the next start.
    pub(super) departed: bool,
    /// After it has left, before its supervisor starts it again, if that does.
    pub(super) rest_us: Option<u64>,
    /// The zone that its tags name.
    pub(super) zone: Option<String>,
    /// Of its program.
    pub(super) version: String,
    /// What that program supports.
    pub(super) feature_level: u32,
    /// The feature level that its process has applied, in which life, and when.
    pub(super) level_known: Option<(u32, u64, u64)>,
}

/// What a turn of the disk thread came to.
#[derive(Default)]
pub(super) struct Group {
    /// A sync follows.
    pub(super) syncs: bool,
    /// The rest waits for room, and what the disk said to that.
    pub(super) waits: Option<wal::Error>,
    /// The rest waits for a repair: the entry before a truncation cannot be read.
    pub(super) unreadable: bool,
    /// What cannot be read may have been dropped.
    pub(super) truncated: bool,
    /// Term and vote of everything up to this write are durable, though entries wait.
    pub(super) overtook: Option<PersistTicket>,
}

/// A running agent.
pub(super) struct Process {
    pub(super) life: u64,
    /// When it was started.
    pub(super) born: u64,
    pub(super) boot: u64,
    pub(super) epoch: u64,
    pub(super) node: Node,
    pub(super) writer: Writer,
    pub(super) repairer: Repairer,
    pub(super) reader: Reader,
    pub(super) log_id: Option<[u8; 16]>,
    /// Its Hello says that it expects others.
    pub(super) expects: bool,
    pub(super) gate: Gate,
    pub(super) published: Arc<Published>,
    pub(super) clock: Clock,
    /// Where nodes are kept connected, and how often dialling them failed in a row.
    pub(super) kept: BTreeMap<u64, Kept>,
    pub(super) queue: Queue,
    /// The first write in the queue waits for room.
    pub(super) waits: bool,
    /// It will be tried again.
    pub(super) retries: bool,
    /// What the node was told of its disk.
    pub(super) told_space: Option<(Space, bool)>,
    /// The group being synced ends with this write.
    pub(super) syncing: Option<PersistTicket>,
    /// What the group being synced has written, as it will count.
    pub(super) written: Vec<(u64, Term, u64)>,
    pub(super) wake_at: Option<u64>,
    pub(super) drain_at: Option<u64>,
    pub(super) paused_until: u64,
    /// The reader thread is busy until then.
    pub(super) reading_until: u64,
    /// The log as the node has ordered it: on disk, or on its way there.
    pub(super) ordered: Vec<Entry>,
    /// The log as its writer has written it, synced or not: while a truncation waits for room, what it drops still stands.
    pub(super) on_disk: Vec<Entry>,
    /// What the node was last told that its disk cannot give.
    pub(super) damaged: Vec<DamagedRange>,
    /// Who was ever connected to it: in which start, by epoch and boot id, and since when.
    pub(super) met: BTreeMap<NodeId, (u64, u64, u64)>,
    /// What happened to the process while it was stopped.
    pub(super) missed: VecDeque<Event>,
    /// Requests that have no answer yet, by their id in this process: which operation.
    pub(super) requests: BTreeMap<u64, usize>,
    pub(super) next_request: u64,
    pub(super) store: Store,
    /// The directory in which its pledges are kept.
    pub(super) files: Arc<dyn Disk>,
    /// The log so far, by a plain replay.
    pub(super) replayed: Replayed,
    /// The checkpoint that is being saved.
    pub(super) saving: Option<Box<Checkpoint>>,
    /// The entry whose checkpoint it began with, and how many it did not take.
    pub(super) resumed_at: u64,
    pub(super) passed_over: usize,
}

/// A node that a process wants to be connected to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kept {
    pub(super) addr: SocketAddr,
    pub(super) failures: u32,
    /// A dial or a pause is under way.
    pub(super) busy: bool,
    /// The other side was given time to dial first.
    pub(super) waited: bool,
}

/// The name of a machine, which resolves to wherever it is.
pub(super) fn host(machine: usize) -> String {
    format!("{}.sim:7373", letter(machine))
}

/// The address of a machine, after so many moves.
pub(super) fn address(machine: usize, moves: u8) -> SocketAddr {
    let last = u8::try_from(machine + 1).unwrap_or(u8::MAX);
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, moves, last)), 7373)
}

impl Machine {
    /// A machine that was never started.
    pub(super) fn new(at: usize, plan: &AgentPlan, ids: &mut Random) -> Self {
        let disk = SimDisk::new(ids.next());
        Self {
            name: plan.name.clone().unwrap_or_else(|| letter(at).to_string()),
            disk,
            node: fresh_node(ids),
            addr: address(at, 0),
            wall_us: plan.wall_us,
            pace: plan.pace,
            bootstrap: plan.bootstrap,
            expect: plan.expect,
            join: plan.join.iter().map(|j| host(*j)).collect(),
            known: Vec::new(),
            tags: BTreeMap::new(),
            process: None,
            lives: 0,
            starting: false,
            durable: Durable::default(),
            archive: Vec::new(),
            configurations: BTreeMap::new(),
            slow_disk: None,
            hangs_us: None,
            harmed: false,
            was_harmed: false,
            seen_at_life: 0,
            refuses: None,
            backup: None,
            disk_counted: Default::default(),
            lost_before: 0,
            foreign: plan.foreign,
            retired: false,
            lost: false,
            admitted: false,
            copied: false,
            told_of_copy: false,
            departed: false,
            rest_us: Some(SECOND),
            zone: plan.zone.clone(),
            version: if plan.old { OLD.0.into() } else { VERSION.into() },
            feature_level: if plan.old { OLD.1 } else { crate::node::level::FEATURE_LEVEL },
            level_known: None,
        }
    }

    /// Is its program older than that of today?
    pub(super) fn is_of_old(&self) -> bool {
        self.feature_level < crate::node::level::FEATURE_LEVEL
    }

    /// The program of today from its next start on.
    pub(super) fn upgrade(&mut self) {
        (self.version, self.feature_level) = (VERSION.into(), crate::node::level::FEATURE_LEVEL);
    }

    /// Another machine with a copy of this disk, at another address.
    pub(super) fn copy(&self, at: usize) -> Self {
        let disk = self.disk.fork();
        Self {
            name: self.name.clone(),
            disk_counted: disk.counters(),
            disk,
            node: self.node,
            addr: address(at, 0),
            join: self.join.clone(),
            known: self.known.clone(),
            tags: self.tags.clone(),
            process: None,
            durable: self.durable.clone(),
            archive: self.archive.clone(),
            configurations: self.configurations.clone(),
            backup: None,
            refuses: None,
            was_harmed: true,
            version: self.version.clone(),
            feature_level: self.feature_level,
            zone: self.zone.clone(),
            ..Self::new(at, &AgentPlan::default(), &mut Random::new(0))
        }
    }

    pub(super) fn is_up(&self) -> bool {
        self.process.is_some()
    }

    /// May a client of this cluster ask it?
    pub(super) fn can_be_asked(&self) -> bool {
        self.is_up() && !self.foreign && !self.retired
    }

    /// Is it one of the agents that must converge?
    pub(super) fn counts(&self) -> bool {
        !self.foreign && !self.retired
    }

    /// Did its disk ever refuse a call?
    pub(super) fn had_trouble(&self) -> bool {
        let seen = self.disk.counters();
        seen.errors > 0 || seen.full > 0 || seen.is_lying()
    }

    /// An empty disk: another node.
    pub(super) fn wipe(&mut self, random: &mut Random) {
        self.disk = SimDisk::new(random.next());
        self.disk_counted = Default::default();
        // Stands for `server/data.rs`: without the node key, another node.
        if !mutant!(WipedKeepsItsId) {
            self.node = fresh_node(random);
        }
        self.known.clear();
        self.tags.clear();
        self.durable = Durable::default();
        self.archive.clear();
        self.configurations.clear();
        self.harmed = false;
        self.seen_at_life = 0;
        self.refuses = None;
        self.backup = None;
        self.copied = false;
        self.told_of_copy = false;
        self.bootstrap = false;
        self.departed = false;
    }

    /// What the clocks of this machine say; the monotonic one belongs to the process.
    pub(super) fn clock(&self, at: u64) -> Now {
        let mono = self.process.as_ref().map_or(Mono(0), |p| p.clock.read(at));
        Now { mono, wall: self.wall(at) }
    }

    /// What its wall clock says.
    pub(super) fn wall(&self, at: u64) -> Wall {
        Wall((WALL_ORIGIN_US + at as i64).saturating_add(self.wall_us))
    }

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

    /// The disk thread takes what has gathered and writes it.
    pub(super) fn write_group(&mut self) -> Result<Group, Dead> {
        let mut group = Group::default();
        let Some(process) = &mut self.process else { return Ok(group) };
        if process.syncing.is_some() {
            return Ok(group);
        }
        let mut newest = None;
        process.waits = false;
        while let Some(batch) = process.queue.front() {
            let truncate_from = batch.truncate_from.map(|from| from.0.saturating_sub(1) as usize);
            let result = process.queue.write_next(&mut process.writer);
            let waits = |error: &wal::Error| {
                error.is_retriable() || matches!(error, wal::Error::Corrupt { entries: Some(_), .. })
            };
            if let Some(kept) = truncate_from.filter(|_| !matches!(&result, Some(Err(error)) if waits(error))) {
                // It may be gone from now on, whether the call succeeded or not.
                self.durable.log.truncate(kept);
                process.written.retain(|(index, _, _)| *index <= kept as u64);
            }
            match result {
                None => break,
                Some(Err(error)) if error.is_retriable() => {
                    process.waits = true;
                    group.waits = Some(error);
                    let ahead = process.queue.overtake(&mut process.writer).map_err(Dead::Log)?;
                    if let Some((ticket, hard_state)) = ahead {
                        self.durable.hard_state = hard_state;
                        group.overtook = Some(ticket);
                    }
                    break;
                }
                Some(Err(wal::Error::Corrupt { entries: Some(_), .. })) => {
                    group.unreadable = true;
                    break;
                }
                // What a call that failed has written was never synced, and so is no damage that a start names.
                Some(Err(error)) => return Err(Dead::Log(error)),
                Some(Ok((ticket, batch))) => {
                    group.truncated |= batch.truncate_from.is_some();
                    if let Some(hard_state) = batch.hard_state {
                        self.durable.hard_state = hard_state;
                    }
                    if let Some(kept) = truncate_from {
                        process.on_disk.truncate(kept);
                    }
                    for entry in &batch.append {
                        let header = entry.header();
                        process.written.push((header.index.0, header.term, header.chain));
                    }
                    process.on_disk.extend(batch.append);
                    newest = Some(ticket);
                }
            }
        }
        process.syncing = newest;
        group.syncs = newest.is_some();
        Ok(group)
    }

    /// What the disk has to tell of its room, if that is news.
    pub(super) fn space_news(&mut self, at: u64) -> Option<(Space, bool)> {
        let process = self.process.as_mut().filter(|p| p.paused_until <= at)?;
        let told = (process.writer.space().ok()?, process.waits);
        (process.told_space.replace(told) != Some(told)).then_some(told)
    }

    /// The sync returns. Gives the newest write that is durable now.
    pub(super) fn sync_group(&mut self) -> Result<Option<PersistTicket>, Dead> {
        let Some(process) = &mut self.process else { return Ok(None) };
        let Some(ticket) = process.syncing.take() else { return Ok(None) };
        process.writer.sync().map_err(Dead::Log)?;
        for (index, term, chain) in process.written.drain(..) {
            let at = index.saturating_sub(1) as usize;
            if at != self.durable.log.len() {
                return Err(Dead::Lost(format!("entry {index} was written behind {} entries", self.durable.log.len())));
            }
            self.durable.log.push((term, chain));
        }
        // Now and then nothing follows for so long that the log notes it.
        if process.queue.is_empty() && ticket.0.is_multiple_of(4) {
            process.writer.mark_idle();
        }
        Ok(Some(ticket))
    }
}

/// A node id that nobody has.
pub(super) fn fresh_node(random: &mut Random) -> NodeId {
    loop {
        if let Some(node) = NodeId::new(random.next()) {
            return node;
        }
    }
}
