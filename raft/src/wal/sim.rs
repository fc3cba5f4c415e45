//! A simulated disk that is as treacherous as a disk may be, deterministic from a seed.
//!
//! It never keeps what was not synced unless a draw says so: a crash keeps an arbitrary subset of the unsynced 512-byte
//! sectors, lengths and names. Nothing is written anywhere but in memory.
//!
//! ```
//! use quorate_raft::wal::sim::SimDisk;
//!
//! let disk = SimDisk::new(7);
//! let file = disk.attach().create("a").unwrap();
//! file.write_at(b"never synced", 0).unwrap();
//! disk.crash_keeping(|_| false);
//! assert!(disk.names().is_empty());
//! ```

mod inode;
mod store;

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::disk::{Disk, File, Lock, Space};
use inode::Inode;
use store::Store;
pub use store::{Counters, Fault, Injection, Op, Unsynced};

/// One disk with one directory. Clones are handles of the same disk.
#[derive(Clone)]
pub struct SimDisk {
    store: Arc<Mutex<Store>>,
}

impl SimDisk {
    /// An empty disk. Same seed and same calls: same crashes.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { store: Arc::new(Mutex::new(Store::new(seed))) }
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a process sees in this life. After [`crash`](Self::crash) or [`kill`](Self::kill) it and all its files
    /// only answer errors; attach again.
    #[must_use]
    pub fn attach(&self) -> Arc<dyn Disk> {
        let life = self.store().life;
        Arc::new(Attached { store: self.store.clone(), life })
    }

    /// An independent copy with all that is cached, unsynced and planned: a cloned machine. Nothing is attached to it.
    #[must_use]
    pub fn fork(&self) -> Self {
        let mut store = self.store().clone();
        store.end_life();
        Self { store: Arc::new(Mutex::new(store)) }
    }

    /// Power loss: each unsynced sector, length and name survives or not, by a draw.
    pub fn crash(&self) {
        let mut store = self.store();
        let mut draw = store.split_rng();
        store.crash(&mut |_| draw.flip());
    }

    /// Power loss with the survivors chosen by the caller.
    pub fn crash_keeping(&self, mut keep: impl FnMut(&Unsynced) -> bool) {
        self.store().crash(&mut keep);
    }

    /// `kill -9`: handles and locks are gone, everything cached stays cached.
    pub fn kill(&self) {
        self.store().end_life();
    }

    /// What a crash now could lose, in a stable order. Sectors that would read the same either way are left out.
    #[must_use]
    pub fn unsynced(&self) -> Vec<Unsynced> {
        self.store().unsynced()
    }

    /// May a crash tear inside a sector? Off at first.
    pub fn set_torn_sectors(&self, torn: bool) {
        self.store().torn_sectors = torn;
    }

    /// May a crash tear inside a sector?
    #[must_use]
    pub fn tears_sectors(&self) -> bool {
        self.store().torn_sectors
    }

    /// Bytes that its files have now.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.store().used()
    }

    /// Rot of a lost or stale write: the last so many sectors of a file that hold anything read as zeros, in the cache and
    /// on the platter. Gives how many did.
    pub fn stale_tail(&self, name: &str, sectors: u64) -> u64 {
        self.store().stale_tail(name, sectors)
    }

    /// The last so many sectors of a file that hold anything were written `by` sectors behind their place, in the cache and
    /// on the platter. Gives how many were.
    pub fn misdirect_tail(&self, name: &str, sectors: u64, by: u64) -> u64 {
        self.store().misdirect_tail(name, sectors, by)
    }

    /// Bytes the disk holds; `None` for no limit.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.store().capacity = bytes;
    }

    /// Plans a fault. Several may be planned; each fires once.
    pub fn inject(&self, injection: Injection) {
        self.store().injections.push(injection);
    }

    /// Drops all planned faults, and the limits of space and power.
    pub fn heal(&self) {
        let mut store = self.store();
        store.injections.clear();
        store.capacity = None;
        store.power_off_at = None;
    }

    /// Lets so many more changing calls pass; then every call fails until the next crash.
    pub fn power_off_after(&self, steps: u64) {
        let mut store = self.store();
        store.power_off_at = Some(store.steps + steps);
    }

    /// Changing calls so far: create, write, set_len, rename, remove, and syncs.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.store().steps
    }

    /// Rot: flips one bit, in the cache and on the platter. `false` if there is no such byte.
    pub fn flip_bit(&self, name: &str, offset: u64, bit: u32) -> bool {
        self.store().edit(name, offset, |byte| *byte ^= 1 << (bit % 8))
    }

    /// Rot: overwrites one byte, in the cache and on the platter. `false` if there is no such byte.
    pub fn set_byte(&self, name: &str, offset: u64, value: u8) -> bool {
        self.store().edit(name, offset, |byte| *byte = value)
    }

    /// Removes a file, durably, behind everyone's back. `false` if there is none.
    pub fn vanish(&self, name: &str) -> bool {
        self.store().vanish(name)
    }

    /// Cuts a file, durably, behind everyone's back. `false` if there is none.
    pub fn cut(&self, name: &str, len: u64) -> bool {
        self.store().cut(name, len)
    }

    /// The names that a process sees now.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.store().names.keys().cloned().collect()
    }

    /// The bytes that a process sees now.
    #[must_use]
    pub fn contents(&self, name: &str) -> Option<Vec<u8>> {
        self.store().contents(name)
    }

    /// Faults that really fired, and calls.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.store().counters
    }
}

/// The disk as one life of a process sees it.
struct Attached {
    store: Arc<Mutex<Store>>,
    life: u64,
}

impl Attached {
    fn at(&self, op: Op, name: &str) -> io::Result<MutexGuard<'_, Store>> {
        let mut store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        store.enter(self.life, op, name)?;
        Ok(store)
    }

    fn file(&self, inode: u64, name: &str) -> Arc<dyn File> {
        Arc::new(SimFile { store: self.store.clone(), life: self.life, inode, name: name.to_owned() })
    }
}

impl Disk for Attached {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.at(Op::List, "")?.names.keys().cloned().collect())
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let inode = self.at(Op::Open, name)?.find(name)?;
        Ok(self.file(inode, name))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let inode = self.at(Op::Create, name)?.create(name)?;
        Ok(self.file(inode, name))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.at(Op::Rename, from)?.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.at(Op::Remove, name)?.remove(name)
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.at(Op::SyncDir, "")?.sync_dir();
        Ok(())
    }

    fn lock(&self, name: &str) -> io::Result<Box<dyn Lock>> {
        if !self.at(Op::Open, name)?.locks.insert(name.to_owned()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(SimLock { store: self.store.clone(), life: self.life, name: name.to_owned() }))
    }

    fn space(&self) -> io::Result<Space> {
        // No fault hits it, and it is no step of a schedule.
        Ok(self.store.lock().unwrap_or_else(PoisonError::into_inner).space())
    }
}

struct SimLock {
    store: Arc<Mutex<Store>>,
    life: u64,
    name: String,
}

impl Lock for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        if store.life == self.life {
            store.locks.remove(&self.name);
        }
    }
}

struct SimFile {
    store: Arc<Mutex<Store>>,
    life: u64,
    inode: u64,
    name: String,
}

impl SimFile {
    fn with<T>(&self, op: Op, act: impl FnOnce(&mut Inode) -> io::Result<T>) -> io::Result<T> {
        let mut store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        store.enter(self.life, op, &self.name)?;
        act(store.inode(self.inode)?)
    }

    fn sync(&self) -> io::Result<()> {
        let mut store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        match store.enter(self.life, Op::Sync, &self.name) {
            Ok(()) => {
                store.inode(self.inode)?.sync();
                Ok(())
            }
            Err(error) => {
                // As Linux does: the pages are clean now, whatever reached the platter.
                store.lose_sync(self.life, self.inode);
                Err(error)
            }
        }
    }
}

impl File for SimFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.with(Op::Read, |inode| inode.read(buf, offset))
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        store.enter(self.life, Op::Write, &self.name)?;
        store.write(self.inode, bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.sync()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync()
    }

    fn len(&self) -> io::Result<u64> {
        self.with(Op::Len, |inode| Ok(inode.len()))
    }

    fn forget_cached(&self, offset: u64, len: u64) {
        let _ = self.with(Op::Len, |inode| {
            inode.forget_clean(offset, len);
            Ok(())
        });
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.with(Op::SetLen, |inode| {
            inode.set_len(len);
            Ok(())
        })
    }
}
