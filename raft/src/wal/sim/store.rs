//! What the simulated disk holds: names, files, planned faults, and what a crash makes of them.
//!
//! It never draws a number except in a crash or a failed sync, so that adding a read does not change a schedule.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use super::inode::{Inode, SECTOR};
use crate::wal::disk::Space;

/// A call that a fault can hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Op {
    /// Listing the directory.
    List,
    /// Opening a file, or taking a lock.
    Open,
    /// Creating a file.
    Create,
    /// Renaming a file; the old name counts.
    Rename,
    /// Removing a file.
    Remove,
    /// Syncing the directory.
    SyncDir,
    /// Reading from a file.
    Read,
    /// Writing to a file.
    Write,
    /// Syncing a file.
    Sync,
    /// Asking for the length of a file.
    Len,
    /// Cutting or extending a file.
    SetLen,
}

impl Op {
    /// Does it change what a crash may leave?
    fn is_step(self) -> bool {
        !matches!(self, Self::List | Self::Open | Self::Read | Self::Len)
    }
}

/// What happens to the call that is hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It fails with this kind. A sync that fails makes an unknown part durable and calls the rest clean.
    Error(io::ErrorKind),
    /// A write that reports success and reaches the cache, never the platter.
    Lost,
    /// A write that reports success and lands so many sectors behind its place.
    Misdirected(u64),
}

/// A planned fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Injection {
    /// Which calls it waits for.
    pub op: Op,
    /// On files whose name contains this.
    pub name: String,
    /// How many of these calls pass before.
    pub skip: u64,
    /// What happens then.
    pub fault: Fault,
}

impl Injection {
    /// The next such call on a file whose name contains `name` fails with `kind`.
    #[must_use]
    pub fn error(op: Op, name: &str, kind: io::ErrorKind) -> Self {
        Self { op, name: name.to_owned(), skip: 0, fault: Fault::Error(kind) }
    }
}

/// Something that a crash may keep or lose.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unsynced {
    /// A change of names; the text says which.
    Name(String),
    /// The length of a file.
    Length {
        /// Which file, by its identity.
        inode: u64,
    },
    /// One sector of a file.
    Sector {
        /// Which file, by its identity.
        inode: u64,
        /// Which sector, from 0.
        sector: u64,
    },
}

/// What really happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Crashes.
    pub crashes: u64,
    /// Unsynced sectors that a crash kept.
    pub sectors_kept: u64,
    /// Unsynced sectors that a crash lost.
    pub sectors_lost: u64,
    /// Sectors that a crash tore inside.
    pub sectors_torn: u64,
    /// Unsynced names and lengths that a crash kept.
    pub names_kept: u64,
    /// Unsynced names and lengths that a crash lost.
    pub names_lost: u64,
    /// Calls that failed as planned.
    pub errors: u64,
    /// Syncs among them.
    pub syncs_failed: u64,
    /// Reads among them.
    pub reads_failed: u64,
    /// Sectors that read as before they were written.
    pub sectors_stale: u64,
    /// Writes that were lost as planned.
    pub writes_lost: u64,
    /// Writes that went to a wrong place as planned.
    pub writes_misdirected: u64,
    /// Writes that found the disk full.
    pub full: u64,
    /// Bytes that rotted.
    pub rotted: u64,
    /// Writes that passed.
    pub writes: u64,
    /// Syncs of files that passed.
    pub syncs: u64,
    /// Syncs of the directory that passed.
    pub dir_syncs: u64,
}

/// A disk with a limit is at least so large, whatever others have left of it.
const TOTAL_MIN: u64 = 1 << 30;

impl Counters {
    /// Did the disk ever give back something else than what it was given?
    #[must_use]
    pub fn is_lying(&self) -> bool {
        self.writes_lost + self.writes_misdirected + self.sectors_stale + self.rotted > 0
    }
}

/// SplitMix64: small, and good enough to choose survivors.
#[derive(Clone, Debug)]
pub(super) struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn flip(&mut self) -> bool {
        self.next() & 1 == 1
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }
}

/// A change of names, whole or not at all.
#[derive(Clone, Debug)]
enum NameChange {
    Link { name: String, inode: u64 },
    Rename { from: String, to: String, inode: u64 },
    Unlink { name: String },
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<String, u64>) {
        match self {
            Self::Link { name, inode } => {
                names.insert(name.clone(), *inode);
            }
            Self::Rename { from, to, inode } => {
                if names.get(from) == Some(inode) {
                    names.remove(from);
                }
                names.insert(to.clone(), *inode);
            }
            Self::Unlink { name } => {
                names.remove(name);
            }
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Link { name, .. } => format!("create {name}"),
            Self::Rename { from, to, .. } => format!("rename {from} to {to}"),
            Self::Unlink { name } => format!("remove {name}"),
        }
    }
}

#[derive(Clone)]
pub(super) struct Store {
    rng: Rng,
    pub(super) life: u64,
    pub(super) names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    changes: Vec<NameChange>,
    inodes: BTreeMap<u64, Inode>,
    next_inode: u64,
    pub(super) locks: BTreeSet<String>,
    pub(super) torn_sectors: bool,
    pub(super) capacity: Option<u64>,
    pub(super) injections: Vec<Injection>,
    pub(super) power_off_at: Option<u64>,
    pub(super) steps: u64,
    pub(super) counters: Counters,
    lose_this_write: bool,
    /// By how many bytes.
    move_this_write: u64,
}

impl Store {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            rng: Rng(seed),
            life: 1,
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            changes: Vec::new(),
            inodes: BTreeMap::new(),
            next_inode: 1,
            locks: BTreeSet::new(),
            torn_sectors: false,
            capacity: None,
            injections: Vec::new(),
            power_off_at: None,
            steps: 0,
            counters: Counters::default(),
            lose_this_write: false,
            move_this_write: 0,
        }
    }

    pub(super) fn split_rng(&mut self) -> Rng {
        Rng(self.rng.next())
    }

    /// Every call of a process comes through here: is it alive, is there power, does a fault fire?
    pub(super) fn enter(&mut self, life: u64, op: Op, name: &str) -> io::Result<()> {
        if life != self.life {
            return Err(io::Error::other("this process is dead"));
        }
        if self.power_off_at.is_some_and(|at| self.steps >= at) {
            return Err(io::Error::other("the power is off"));
        }
        self.lose_this_write = false;
        self.move_this_write = 0;
        let mut fired = None;
        for (at, injection) in self.injections.iter_mut().enumerate() {
            if injection.op == op && name.contains(&injection.name) {
                if injection.skip == 0 && fired.is_none() {
                    fired = Some(at);
                } else {
                    injection.skip = injection.skip.saturating_sub(1);
                }
            }
        }
        if let Some(at) = fired {
            match self.injections.remove(at).fault {
                Fault::Error(kind) => {
                    self.counters.errors += 1;
                    self.counters.syncs_failed += u64::from(op == Op::Sync);
                    self.counters.reads_failed += u64::from(op == Op::Read);
                    return Err(kind.into());
                }
                Fault::Lost => {
                    self.counters.writes_lost += 1;
                    self.lose_this_write = true;
                }
                Fault::Misdirected(sectors) => {
                    self.counters.writes_misdirected += 1;
                    self.move_this_write = sectors * SECTOR as u64;
                }
            }
        }
        self.steps += u64::from(op.is_step());
        match op {
            Op::Write => self.counters.writes += 1,
            Op::Sync => self.counters.syncs += 1,
            Op::SyncDir => self.counters.dir_syncs += 1,
            _ => {}
        }
        Ok(())
    }

    pub(super) fn inode(&mut self, inode: u64) -> io::Result<&mut Inode> {
        self.inodes.get_mut(&inode).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    pub(super) fn find(&self, name: &str) -> io::Result<u64> {
        self.names.get(name).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    pub(super) fn create(&mut self, name: &str) -> io::Result<u64> {
        if self.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let inode = self.next_inode;
        self.next_inode += 1;
        self.inodes.insert(inode, Inode::default());
        self.change(NameChange::Link { name: name.to_owned(), inode });
        Ok(inode)
    }

    pub(super) fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        let inode = self.find(from)?;
        self.change(NameChange::Rename { from: from.to_owned(), to: to.to_owned(), inode });
        Ok(())
    }

    pub(super) fn remove(&mut self, name: &str) -> io::Result<()> {
        self.find(name)?;
        self.change(NameChange::Unlink { name: name.to_owned() });
        Ok(())
    }

    fn change(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.changes.push(change);
    }

    pub(super) fn sync_dir(&mut self) {
        self.changes.clear();
        self.durable_names.clone_from(&self.names);
    }

    pub(super) fn write(&mut self, inode: u64, bytes: &[u8], offset: u64) -> io::Result<()> {
        let offset = offset.saturating_add(self.move_this_write);
        let at = usize::try_from(offset).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let len = self.inode(inode)?.len();
        let grow = (offset + bytes.len() as u64).saturating_sub(len);
        // Adding up all files is for disks with a limit, and writes that grow.
        let free = self.capacity.filter(|_| grow > 0).map_or(u64::MAX, |c| c.saturating_sub(self.used()));
        let lost = self.lose_this_write;
        if grow <= free {
            self.inode(inode)?.write(bytes, at, lost);
            return Ok(());
        }
        // What fits is written: a short write, then the error.
        self.counters.full += 1;
        // A write beyond the end grows the file by more than itself.
        let fits = (bytes.len() as u64).saturating_sub(grow - free) as usize;
        self.inode(inode)?.write(&bytes[..fits], at, lost);
        Err(io::ErrorKind::StorageFull.into())
    }

    pub(super) fn space(&self) -> Space {
        let Some(capacity) = self.capacity else { return Space { free: u64::MAX, total: u64::MAX } };
        let used = self.used();
        // What this directory may not have belongs to others, on a disk of some size.
        Space { free: capacity.saturating_sub(used), total: capacity.max(TOTAL_MIN) }
    }

    pub(super) fn used(&self) -> u64 {
        self.names.values().filter_map(|i| self.inodes.get(i)).map(Inode::len).sum()
    }

    pub(super) fn stale_tail(&mut self, name: &str, sectors: u64) -> u64 {
        let Some(inode) = self.find(name).ok().and_then(|id| self.inodes.get_mut(&id)) else { return 0 };
        let stale = inode.stale_tail(sectors).len() as u64;
        self.counters.sectors_stale += stale;
        stale
    }

    pub(super) fn misdirect_tail(&mut self, name: &str, sectors: u64, by: u64) -> u64 {
        let Some(inode) = self.find(name).ok().and_then(|id| self.inodes.get_mut(&id)) else { return 0 };
        let moved = inode.stale_tail(sectors);
        for (sector, bytes) in &moved {
            inode.plant(sector + by, bytes);
        }
        self.counters.writes_misdirected += moved.len() as u64;
        moved.len() as u64
    }

    /// A sync failed: each sector reached the platter or not, and all of them are clean now.
    pub(super) fn lose_sync(&mut self, life: u64, inode: u64) {
        if life != self.life || self.power_off_at.is_some_and(|at| self.steps >= at) {
            return;
        }
        let mut rng = self.split_rng();
        if let Some(inode) = self.inodes.get_mut(&inode) {
            for sector in inode.take_dirty() {
                // A sector reaches the platter as a whole, and one that its length there cuts in two does not.
                if rng.flip() && inode.is_whole_on_platter(sector) {
                    inode.keep(sector, SECTOR, false);
                }
            }
        }
    }

    pub(super) fn end_life(&mut self) {
        self.life += 1;
        self.locks.clear();
        self.power_off_at = None;
    }

    pub(super) fn unsynced(&self) -> Vec<Unsynced> {
        let mut all: Vec<_> = self.changes.iter().map(|c| Unsynced::Name(c.text())).collect();
        for (id, inode) in &self.inodes {
            if inode.is_length_unsynced() {
                all.push(Unsynced::Length { inode: *id });
            }
            let sectors = inode.dirty().filter(|s| inode.differs(*s));
            all.extend(sectors.map(|sector| Unsynced::Sector { inode: *id, sector }));
        }
        all
    }

    pub(super) fn crash(&mut self, keep: &mut dyn FnMut(&Unsynced) -> bool) {
        self.counters.crashes += 1;
        let mut rng = self.split_rng();
        for change in std::mem::take(&mut self.changes) {
            if keep(&Unsynced::Name(change.text())) {
                change.apply(&mut self.durable_names);
                self.counters.names_kept += 1;
            } else {
                self.counters.names_lost += 1;
            }
        }
        self.names.clone_from(&self.durable_names);
        let linked: BTreeSet<u64> = self.names.values().copied().collect();
        self.inodes.retain(|id, _| linked.contains(id));
        for (id, inode) in &mut self.inodes {
            if inode.is_length_unsynced() {
                if keep(&Unsynced::Length { inode: *id }) {
                    inode.keep_length();
                    self.counters.names_kept += 1;
                } else {
                    self.counters.names_lost += 1;
                }
            }
            for sector in inode.take_dirty() {
                if !inode.differs(sector) {
                    continue;
                }
                if !keep(&Unsynced::Sector { inode: *id, sector }) {
                    self.counters.sectors_lost += 1;
                } else if self.torn_sectors && rng.below(4) == 0 {
                    inode.keep(sector, rng.below(SECTOR), rng.flip());
                    self.counters.sectors_torn += 1;
                } else {
                    inode.keep(sector, SECTOR, false);
                    self.counters.sectors_kept += 1;
                }
            }
            inode.forget_cache();
        }
        self.end_life();
    }

    pub(super) fn edit(&mut self, name: &str, offset: u64, edit: impl Fn(&mut u8)) -> bool {
        let Ok(id) = self.find(name) else { return false };
        let Some(inode) = self.inodes.get_mut(&id) else { return false };
        if !inode.edit(offset, edit) {
            return false;
        }
        self.counters.rotted += 1;
        true
    }

    pub(super) fn vanish(&mut self, name: &str) -> bool {
        self.durable_names.remove(name);
        self.names.remove(name).is_some()
    }

    pub(super) fn cut(&mut self, name: &str, len: u64) -> bool {
        let Ok(id) = self.find(name) else { return false };
        let Some(inode) = self.inodes.get_mut(&id) else { return false };
        inode.set_len(len);
        inode.sync();
        true
    }

    pub(super) fn contents(&self, name: &str) -> Option<Vec<u8>> {
        self.inodes.get(self.names.get(name)?).map(Inode::contents)
    }
}
