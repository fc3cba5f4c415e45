//! A real directory, through `std::fs`.
//!
//! It never bypasses the page cache (that needs more than `std`): after a failed sync the log rewrites what it cannot
//! prove durable, see `recover`.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::disk::{Disk, File, Lock, Space};

/// One directory of the operating system's file system.
#[derive(Debug)]
pub struct OsDisk {
    path: PathBuf,
    read_only: bool,
    lockless: bool,
}

impl OsDisk {
    /// Opens the directory, creating it and its parents (owner only on Unix) if they are missing. Every name it
    /// creates is synced in the directory above it.
    ///
    /// # Errors
    /// Whatever the system says.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        let path = path.as_ref();
        create_dirs(path)?;
        // Absolute, so that a later change of the working directory does not move the log.
        Ok(Self { path: fs::canonicalize(path)?, read_only: false, lockless: false })
    }

    /// Opens an existing directory to read: nothing in it can be changed through this. It is locked only if it has been
    /// used before, since a lock is a file.
    ///
    /// # Errors
    /// `NotFound`, or whatever else the system says.
    pub fn open_read_only(path: impl AsRef<Path>) -> io::Result<Self> {
        Ok(Self { path: fs::canonicalize(path)?, read_only: true, lockless: false })
    }

    /// The same without any lock, for somebody who looks on: nobody who means to use the directory is kept out meanwhile. So
    /// what is read may change under the reader, who has to find out afterwards whether anybody has begun to write.
    ///
    /// # Errors
    /// `NotFound`, or whatever else the system says.
    pub fn open_to_look(path: impl AsRef<Path>) -> io::Result<Self> {
        Ok(Self { path: fs::canonicalize(path)?, read_only: true, lockless: true })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn may_change(&self) -> io::Result<()> {
        if self.read_only { Err(io::ErrorKind::PermissionDenied.into()) } else { Ok(()) }
    }

    fn options(&self) -> OpenOptions {
        let mut options = OpenOptions::new();
        options.read(true).write(!self.read_only);
        #[cfg(unix)]
        {
            use std::os::unix::fs::OpenOptionsExt;
            options.mode(0o600);
        }
        options
    }
}

fn create_dirs(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    create_dirs(parent)?;
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt;
        builder.mode(0o700);
    }
    match builder.create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
        other => other?,
    }
    sync_directory(parent)
}

#[cfg(unix)]
fn sync_directory(path: &Path) -> io::Result<()> {
    fs::File::open(path)?.sync_all()
}

/// Windows has no handle of a directory that `std` could flush; NTFS journals names in order with what it flushes.
#[cfg(not(unix))]
fn sync_directory(_path: &Path) -> io::Result<()> {
    Ok(())
}

impl Disk for OsDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            // A name that is not UTF-8 is not ours; neither is a directory.
            if let (Ok(name), false) = (entry.file_name().into_string(), entry.file_type()?.is_dir()) {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(OsFile(self.options().open(self.path.join(name))?)))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(OsFile(self.options().create_new(true).open(self.path.join(name))?)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.may_change()?;
        fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.may_change()?;
        fs::remove_file(self.path.join(name))
    }

    fn sync_dir(&self) -> io::Result<()> {
        sync_directory(&self.path)
    }

    // `File::try_lock` is stable since Rust 1.89; there is no exclusive lock in `std` before it.
    #[allow(clippy::incompatible_msrv)]
    fn lock(&self, name: &str) -> io::Result<Box<dyn Lock>> {
        if self.lockless {
            return Ok(Box::new(NoLock));
        }
        let mut options = self.options();
        let file = match options.create(!self.read_only).truncate(false).open(self.path.join(name)) {
            // Nobody has ever locked it, and this door makes no file.
            Err(error) if self.read_only && error.kind() == io::ErrorKind::NotFound => return Ok(Box::new(NoLock)),
            other => other?,
        };
        match file.try_lock() {
            Ok(()) => Ok(Box::new(OsLock { _file: file })),
            Err(fs::TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(fs::TryLockError::Error(error)) => Err(error),
        }
    }

    #[cfg(unix)]
    fn space(&self) -> io::Result<Space> {
        let found = rustix::fs::statvfs(&self.path)?;
        // Blocks kept for the superuser are not counted as free: they are what keeps the machine alive.
        Ok(Space {
            free: found.f_bavail.saturating_mul(found.f_frsize),
            total: found.f_blocks.saturating_mul(found.f_frsize),
        })
    }

    #[cfg(not(unix))]
    fn space(&self) -> io::Result<Space> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// The system lets go of the lock when the file is closed, also by `kill -9`.
#[derive(Debug)]
struct OsLock {
    _file: fs::File,
}

impl Lock for OsLock {}

/// Of a directory that nobody uses, or that somebody only looks at.
#[derive(Debug)]
struct NoLock;

impl Lock for NoLock {}

#[derive(Debug)]
struct OsFile(fs::File);

impl File for OsFile {
    #[cfg(unix)]
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(&self.0, buf, offset)
    }

    #[cfg(windows)]
    fn read_at(&self, mut buf: &mut [u8], mut offset: u64) -> io::Result<()> {
        use std::os::windows::fs::FileExt;
        while !buf.is_empty() {
            match self.0.seek_read(buf, offset) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => {
                    buf = &mut buf[n..];
                    offset += n as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    #[cfg(unix)]
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        std::os::unix::fs::FileExt::write_all_at(&self.0, bytes, offset)
    }

    #[cfg(windows)]
    fn write_at(&self, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
        use std::os::windows::fs::FileExt;
        while !bytes.is_empty() {
            match self.0.seek_write(bytes, offset) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => {
                    bytes = &bytes[n..];
                    offset += n as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.0.sync_all()
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    #[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
    fn forget_cached(&self, offset: u64, len: u64) {
        // Of no consequence but that a read may see the cache: there is nothing to do about a refusal.
        let len = std::num::NonZeroU64::new(len);
        let _ = rustix::fs::fadvise(&self.0, offset, len, rustix::fs::Advice::DontNeed);
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
}
