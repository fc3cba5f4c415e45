//! A disk that is small enough to be filled: a size-limited file system in memory under the directory of one agent.
//!
//! It never exists where the system lets this user mount nothing: then no disk gets full. What an agent syncs to it survives the
//! agent, not the machine; nothing here turns the machine off.

use crate::cli::output::CliError;
use std::fs;
use std::path::{Path, PathBuf};

/// Room for the segments that are prepared ahead and for a checkpoint or two.
const BYTES: u64 = 320 << 20;
/// And for what a minute of load appends, twice over.
const BYTES_PER_MINUTE: u64 = 40 << 20;
/// The file that fills it.
const BALLAST: &str = "ballast";
/// Bytes of one write of it.
const CHUNK: usize = 1 << 20;

/// Mounted while it lives.
pub(super) struct SmallDisk {
    agent: usize,
    dir: PathBuf,
}

impl SmallDisk {
    /// Puts one under `dir`, the directory of this agent, which is still empty; `None` if that is not allowed here.
    pub(super) fn mount(agent: usize, dir: &Path, minutes: f64) -> Option<Self> {
        let bytes = BYTES + (BYTES_PER_MINUTE as f64 * minutes) as u64;
        mount(dir, bytes).then(|| Self { agent, dir: dir.to_owned() })
    }

    /// Whose it is.
    pub(super) fn agent(&self) -> usize {
        self.agent
    }

    /// No byte is free any more.
    pub(super) fn fill(&self) -> Result<(), CliError> {
        let failed = |e: std::io::Error| CliError::system("cannot fill a disk", &e, "");
        let mut file = fs::File::create(self.dir.join(BALLAST)).map_err(failed)?;
        let mut chunk = vec![1; CHUNK];
        while !chunk.is_empty() {
            use std::io::Write as _;
            match file.write(&chunk) {
                Ok(_) => {}
                Err(e) if e.kind() == std::io::ErrorKind::StorageFull => chunk.truncate(chunk.len() / 2),
                Err(e) => return Err(failed(e)),
            }
        }
        Ok(())
    }

    /// As before.
    pub(super) fn make_room(&self) -> Result<(), CliError> {
        match fs::remove_file(self.dir.join(BALLAST)) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(CliError::system("cannot empty a disk", &e, "")),
            _ => Ok(()),
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = self.make_room();
        unmount(&self.dir);
    }
}

#[cfg(target_os = "linux")]
fn mount(dir: &Path, bytes: u64) -> bool {
    use rustix::mount::MountFlags;
    let size = std::ffi::CString::new(format!("size={bytes},mode=0700")).ok();
    rustix::mount::mount("quorate-torture", dir, "tmpfs", MountFlags::NODEV | MountFlags::NOSUID, size.as_deref())
        .is_ok()
}

/// What is kept for whoever wants to know moves to the disk that stays.
#[cfg(target_os = "linux")]
fn unmount(dir: &Path) {
    let aside = dir.with_extension("kept");
    let kept = super::fleet::copy_dir(dir, &aside).is_ok();
    if rustix::mount::unmount(dir, rustix::mount::UnmountFlags::DETACH).is_ok() && kept {
        let _ = fs::remove_dir(dir);
        let _ = fs::rename(&aside, dir);
    }
}

#[cfg(not(target_os = "linux"))]
fn mount(_: &Path, _: u64) -> bool {
    false
}

#[cfg(not(target_os = "linux"))]
fn unmount(_: &Path) {}
