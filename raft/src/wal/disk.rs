//! The one door to a disk: a flat directory of files with positional IO.
//!
//! It never hides when bytes become durable: nothing survives a crash unless the matching sync returned, for contents
//! as for names. The write-ahead log touches storage through these traits only, so that a simulator can stand in.

use std::io;
use std::sync::Arc;

/// A directory. Names are plain file names, never paths.
pub trait Disk: Send + Sync {
    /// The names of all files, in ascending order.
    ///
    /// # Errors
    /// Whatever the system says.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Opens an existing file to read and write.
    ///
    /// # Errors
    /// `NotFound` if there is none.
    fn open(&self, name: &str) -> io::Result<Arc<dyn File>>;

    /// Creates a file that must not exist, readable by its owner only. Durable after [`sync_dir`](Self::sync_dir).
    ///
    /// # Errors
    /// `AlreadyExists` if there is one.
    fn create(&self, name: &str) -> io::Result<Arc<dyn File>>;

    /// Renames a file, atomically. Durable after [`sync_dir`](Self::sync_dir).
    ///
    /// # Errors
    /// Whatever the system says.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file. Durable after [`sync_dir`](Self::sync_dir).
    ///
    /// # Errors
    /// `NotFound` if there is none.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes every create, rename and remove so far durable.
    ///
    /// # Errors
    /// Whatever the system says; then nothing is known about them.
    fn sync_dir(&self) -> io::Result<()>;

    /// Takes the exclusive lock of this name, held until the guard is dropped or the process ends.
    ///
    /// # Errors
    /// `WouldBlock` if someone else holds it.
    fn lock(&self, name: &str) -> io::Result<Box<dyn Lock>>;

    /// How much room there is.
    ///
    /// # Errors
    /// Whatever the system says; `Unsupported` where it does not tell.
    fn space(&self) -> io::Result<Space>;
}

/// Room on the file system that holds a directory, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// What this process may still fill.
    pub free: u64,
    /// All of it, full or not.
    pub total: u64,
}

/// A held lock; dropping it lets go.
pub trait Lock: Send + Sync {}

/// An open file. Several threads may read while one writes.
pub trait File: Send + Sync {
    /// Fills the whole of `buf` from `offset`.
    ///
    /// # Errors
    /// `UnexpectedEof` if the file ends before.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()>;

    /// Writes the whole of `bytes` at `offset`, growing the file as needed.
    ///
    /// # Errors
    /// Any; then an unknown part of it was written.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Makes contents, and the length as far as they need it, durable.
    ///
    /// # Errors
    /// Any; then an unknown part of what was written is lost for good, whatever a second call says.
    fn sync_data(&self) -> io::Result<()>;

    /// Makes contents and all attributes durable.
    ///
    /// # Errors
    /// As [`sync_data`](Self::sync_data).
    fn sync_all(&self) -> io::Result<()>;

    /// The length in bytes.
    ///
    /// # Errors
    /// Whatever the system says.
    fn len(&self) -> io::Result<u64>;

    /// Is the file empty?
    ///
    /// # Errors
    /// Whatever the system says.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Asks the system to forget what it has cached of these bytes, so that the next read comes from the disk. A hint:
    /// where the system cannot, nothing happens.
    fn forget_cached(&self, _offset: u64, _len: u64) {}

    /// Cuts the file, or extends it with zeros.
    ///
    /// # Errors
    /// Whatever the system says.
    fn set_len(&self, len: u64) -> io::Result<()>;
}

/// Removes a file that need not be there.
pub(crate) fn remove_if_any(disk: &dyn Disk, name: &str) -> io::Result<()> {
    match disk.remove(name) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Does this error say that the disk, a quota or a file-size limit is full?
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge)
}

/// What is read where a file is gone: no byte.
pub(crate) struct Nothing;

impl File for Nothing {
    fn read_at(&self, _buf: &mut [u8], _offset: u64) -> io::Result<()> {
        Err(io::ErrorKind::UnexpectedEof.into())
    }

    fn write_at(&self, _bytes: &[u8], _offset: u64) -> io::Result<()> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn sync_data(&self) -> io::Result<()> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn sync_all(&self) -> io::Result<()> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(0)
    }

    fn set_len(&self, _len: u64) -> io::Result<()> {
        Err(io::ErrorKind::NotFound.into())
    }
}
