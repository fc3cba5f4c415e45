//! The data directory of an agent that does not run: what the offline tools read, and where they put a new history.

use super::aside::{FORMATION, LOG, RECOVERED, RECOVERING, finish_recovery};
use super::data::LOCK;
use super::error::Error;
use super::files::{at, read, sync_dir, write};
use crate::pledge::Record;
use quorate_raft::wal::OsDisk;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// The data directory of an agent that does not run, open to read. No agent starts on it meanwhile.
#[derive(Debug)]
pub(crate) struct Unused {
    path: PathBuf,
    log: OsDisk,
    _lock: Option<File>,
}

impl Unused {
    /// Opens it; `None` if there is no log in it. Nothing is made or changed.
    pub(crate) fn open(path: &Path) -> Result<Option<Self>, Error> {
        let lock_path = path.join(LOCK);
        let lock = match File::open(&lock_path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            other => Some(other.map_err(at("open", &lock_path))?),
        };
        match lock.as_ref().map_or(Ok(()), File::try_lock) {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Err(Error::InUse { path: path.into() }),
            Err(fs::TryLockError::Error(source)) => return Err(at("lock", &lock_path)(source)),
        }
        let log = path.join(LOG);
        match OsDisk::open_read_only(&log) {
            Ok(log) => Ok(Some(Self { path: path.into(), log, _lock: lock })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(at("open", &log)(error)),
        }
    }

    /// The directory of its log.
    pub(crate) fn log(&self) -> &OsDisk {
        &self.log
    }

    /// What is wrong with the file about founding, if anything is; most directories of an earlier version have none.
    pub(crate) fn formation_damage(&self) -> Option<String> {
        match read(&self.path.join(FORMATION)) {
            Ok(None) => None,
            Ok(Some(bytes)) => Record::decode(&bytes).err().map(|error| error.to_string()),
            Err(error) => Some(error.to_string()),
        }
    }

    /// Room for a new history beside the log. What an earlier try left there is dropped; one that was completed is not.
    pub(crate) fn prepare_recovery(&self) -> Result<PathBuf, Error> {
        let marker = self.path.join(RECOVERED);
        if let Some(time) = read(&marker)? {
            finish_recovery(&self.path, &String::from_utf8_lossy(&time))?;
            return Err(Error::Foreign {
                path: self.path.clone(),
                what: "held a recovery that was complete but not in its place; it is now".into(),
                next: "start the agent, or run the command again to see what is there",
            });
        }
        let beside = self.path.join(RECOVERING);
        match fs::remove_dir_all(&beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at("remove", &beside)(error)),
            _ => Ok(beside),
        }
    }

    /// Puts the new history, which is durable, in the place of the log. Gives where the old one lies.
    pub(crate) fn finish_recovery(self, time: &str) -> Result<PathBuf, Error> {
        sync_dir(&self.path).map_err(at("sync", &self.path))?;
        write(&self.path, RECOVERED, time.as_bytes())?;
        finish_recovery(&self.path, time)
    }
}
