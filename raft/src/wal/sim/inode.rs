//! One file of the simulated disk: what processes see, what the platter has, and which sectors differ.
//!
//! It never decides what a crash keeps; it is told sector by sector.

use std::collections::BTreeSet;
use std::io;

pub(super) const SECTOR: usize = crate::wal::frame::SECTOR_BYTES;

/// One file.
#[derive(Clone, Debug, Default)]
pub(super) struct Inode {
    cached: Vec<u8>,
    durable: Vec<u8>,
    dirty: BTreeSet<u64>,
}

impl Inode {
    pub(super) fn len(&self) -> u64 {
        self.cached.len() as u64
    }

    pub(super) fn read(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        let bytes = self.cached.get(from..).and_then(|rest| rest.get(..buf.len()));
        buf.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    pub(super) fn write(&mut self, bytes: &[u8], at: usize, lost: bool) {
        if self.cached.len() < at + bytes.len() {
            self.set_len((at + bytes.len()) as u64);
        }
        self.cached[at..at + bytes.len()].copy_from_slice(bytes);
        if !lost && !bytes.is_empty() {
            self.dirty.extend((at / SECTOR) as u64..=((at + bytes.len() - 1) / SECTOR) as u64);
        }
    }

    pub(super) fn set_len(&mut self, len: u64) {
        let (old, new) = (self.cached.len(), len as usize);
        self.cached.resize(new, 0);
        if new < old {
            let keep = new.div_ceil(SECTOR) as u64;
            self.dirty.split_off(&keep);
        } else {
            // What was cut off and grows again must read as zeros, also on the platter.
            self.dirty.extend((old / SECTOR) as u64..new.div_ceil(SECTOR) as u64);
        }
    }

    pub(super) fn sync(&mut self) {
        self.durable.resize(self.cached.len(), 0);
        for sector in std::mem::take(&mut self.dirty) {
            self.keep(sector, SECTOR, false);
        }
    }

    /// Puts the first or last `part` bytes of a cached sector on the platter, as far as its length reaches.
    pub(super) fn keep(&mut self, sector: u64, part: usize, from_end: bool) {
        let start = sector as usize * SECTOR;
        let end = (start + SECTOR).min(self.cached.len()).min(self.durable.len());
        if start >= end {
            return;
        }
        let part = part.min(end - start);
        let range = if from_end { end - part..end } else { start..start + part };
        self.durable[range.clone()].copy_from_slice(&self.cached[range]);
    }

    /// Does the length of the file on the platter cover all of this sector that there is?
    pub(super) fn is_whole_on_platter(&self, sector: u64) -> bool {
        ((sector as usize + 1) * SECTOR).min(self.cached.len()) <= self.durable.len()
    }

    /// Would it matter whether this sector survives?
    pub(super) fn differs(&self, sector: u64) -> bool {
        let start = sector as usize * SECTOR;
        let part = |bytes: &[u8], at: usize| bytes.get(at).copied().unwrap_or(0);
        (start..start + SECTOR).any(|at| part(&self.cached, at) != part(&self.durable, at))
    }

    /// Sectors that a crash may lose, ascending.
    pub(super) fn dirty(&self) -> impl Iterator<Item = u64> + '_ {
        self.dirty.iter().copied()
    }

    /// Calls every sector clean, whatever the platter has.
    pub(super) fn take_dirty(&mut self) -> BTreeSet<u64> {
        std::mem::take(&mut self.dirty)
    }

    pub(super) fn is_length_unsynced(&self) -> bool {
        self.cached.len() != self.durable.len()
    }

    pub(super) fn keep_length(&mut self) {
        self.durable.resize(self.cached.len(), 0);
    }

    /// From now on processes see what the platter has.
    pub(super) fn forget_cache(&mut self) {
        self.cached.clone_from(&self.durable);
    }

    /// The system drops what it has cached of these bytes (up to the end if `len` is 0), as far as it believes that the
    /// platter has them.
    pub(super) fn forget_clean(&mut self, offset: u64, len: u64) {
        let end = if len == 0 { self.len() } else { offset.saturating_add(len).min(self.len()) };
        for sector in offset / SECTOR as u64..end.div_ceil(SECTOR as u64) {
            if self.dirty.contains(&sector) {
                continue;
            }
            let start = sector as usize * SECTOR;
            for at in start..(start + SECTOR).min(self.cached.len()) {
                self.cached[at] = self.durable.get(at).copied().unwrap_or(0);
            }
        }
    }

    /// Changes a byte in the cache and on the platter; `false` if there is none.
    pub(super) fn edit(&mut self, offset: u64, edit: impl Fn(&mut u8)) -> bool {
        let Some(byte) = self.cached.get_mut(offset as usize) else { return false };
        edit(byte);
        if let Some(byte) = self.durable.get_mut(offset as usize) {
            edit(byte);
        }
        true
    }

    /// The last sectors that hold anything read as zeros, wherever one looks. Gives what stood there.
    pub(super) fn stale_tail(&mut self, sectors: u64) -> Vec<(u64, Vec<u8>)> {
        let Some(last) = self.cached.iter().rposition(|b| *b != 0) else { return Vec::new() };
        let end = (last / SECTOR) as u64 + 1;
        let mut taken = Vec::new();
        for sector in end.saturating_sub(sectors)..end {
            let (from, to) = (sector as usize * SECTOR, ((sector as usize + 1) * SECTOR).min(self.cached.len()));
            taken.push((sector, self.cached[from..to].to_vec()));
            self.plant(sector, &vec![0; to - from]);
        }
        taken
    }

    /// Puts these bytes into a sector, wherever one looks, as far as the file reaches.
    pub(super) fn plant(&mut self, sector: u64, bytes: &[u8]) {
        let from = sector as usize * SECTOR;
        for image in [&mut self.cached, &mut self.durable] {
            let to = (from + bytes.len()).min(image.len());
            if from < to {
                image[from..to].copy_from_slice(&bytes[..to - from]);
            }
        }
    }

    pub(super) fn contents(&self) -> Vec<u8> {
        self.cached.clone()
    }
}
