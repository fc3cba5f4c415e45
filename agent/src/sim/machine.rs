//! Machine: a disk, an address, two clocks, and at times a process on it: the production `Node` and log.
//!
//! It knows no other machine and no network.

use super::clock::Clock;
use super::event::Event;
use super::plan::{AgentPlan, SECOND, letter};
use super::random::Random;
use super::replayed::Replayed;
use crate::checkpoint::{Checkpoint, Store};
use crate::node::{Gate, Known, Node, Published};
use quorate_raft::wal::sim::SimDisk;
use quorate_raft::wal::{DamagedRange, Disk, Entry, Queue, Reader, Repairer, Space, Writer};
use quorate_raft::{Configuration, HardState, Mono, NodeId, Now, PersistTicket, Term, Wall, mutant};
use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

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
}

/// A node id that nobody has.
pub(super) fn fresh_node(random: &mut Random) -> NodeId {
    loop {
        if let Some(node) = NodeId::new(random.next()) {
            return node;
        }
    }
}
