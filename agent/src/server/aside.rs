//! Set aside: the moves by which a data directory gets a new history. What a crash interrupts the next start finishes.
//!
//! It never deletes what an agent wrote.

use super::error::Error;
use super::files::{at, create_dir, sync_dir};
use super::keys::{NODE_KEY, NODE_KEY_COPY, QUIC_KEY};
use super::remembered::{PEERS, TAGS};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The write-ahead log.
pub(super) const LOG: &str = "log";
/// What a start need not read from the log.
pub(super) const CHECKPOINTS: &str = "checkpoints";
/// What this node has promised about founding a log.
pub(crate) const FORMATION: &str = "formation";
/// Written when a node has left.
pub(super) const LEFT: &str = "LEFT";
/// A new history while it is made.
pub(super) const RECOVERING: &str = "log.recovering";
/// Written when that is complete.
pub(super) const RECOVERED: &str = "RECOVERED";

/// Carries out what `RECOVERED` says.
pub(super) fn finish_recovery(path: &Path, time: &str) -> Result<PathBuf, Error> {
    let is_plain = !time.is_empty() && time.bytes().all(|b| b.is_ascii_alphanumeric());
    let target = path.join(format!("recovered-{}", if is_plain { time } else { "unknown" }));
    create_dir(&target).map_err(at("create", &target))?;
    let (old, new) = (path.join(LOG), path.join(RECOVERING));
    let rename = |from: &Path, to: &Path| fs::rename(from, to).map_err(at("move", from));
    // Each step only if it is still to be done: a crash may have come between any two.
    for name in [CHECKPOINTS, LOG] {
        let (from, to) = (path.join(name), target.join(name));
        if !to.exists() && from.exists() {
            rename(&from, &to)?;
            sync_dir(&target).and_then(|()| sync_dir(path)).map_err(at("sync", &target))?;
        }
    }
    if new.exists() {
        rename(&new, &old)?;
        sync_dir(path).map_err(at("sync", path))?;
    }
    let marker = path.join(RECOVERED);
    fs::remove_file(&marker).and_then(|()| sync_dir(path)).map_err(at("remove", &marker))?;
    Ok(target)
}

/// Carries out what `LEFT` says.
pub(super) fn finish_leaving(path: &Path, time: &str) -> Result<PathBuf, Error> {
    let is_plain = !time.is_empty() && time.bytes().all(|b| b.is_ascii_alphanumeric());
    let target = path.join(format!("left-{}", if is_plain { time } else { "unknown" }));
    create_dir(&target).map_err(at("create", &target))?;
    for name in [LOG, CHECKPOINTS, FORMATION, PEERS, TAGS, QUIC_KEY, NODE_KEY_COPY, NODE_KEY] {
        let from = path.join(name);
        match fs::rename(&from, target.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at("move", &from)(error)),
            _ => {}
        }
    }
    sync_dir(&target).and_then(|()| sync_dir(path)).map_err(at("sync", &target))?;
    let marker = path.join(LEFT);
    fs::remove_file(&marker).and_then(|()| sync_dir(path)).map_err(at("remove", &marker))?;
    Ok(target)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::files::{read, write};

    /// Each move may be the last one before a crash; the next start does the rest, and loses nothing.
    #[test]
    fn a_recovery_that_a_crash_interrupts_is_finished() {
        for done in 0..=3 {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path();
            for (name, holds) in [(LOG, "old"), (CHECKPOINTS, "old"), (RECOVERING, "new")] {
                create_dir(&path.join(name)).unwrap();
                write(&path.join(name), "mark", holds.as_bytes()).unwrap();
            }
            write(path, RECOVERED, b"then").unwrap();
            let target = path.join("recovered-then");
            create_dir(&target).unwrap();
            let moves = [
                (path.join(CHECKPOINTS), target.join(CHECKPOINTS)),
                (path.join(LOG), target.join(LOG)),
                (path.join(RECOVERING), path.join(LOG)),
            ];
            for (from, to) in &moves[..done] {
                fs::rename(from, to).unwrap();
            }
            assert_eq!(finish_recovery(path, "then").unwrap(), target);
            let mark = |dir: &Path| read(&dir.join("mark")).unwrap().map(|bytes| String::from_utf8(bytes).unwrap());
            assert_eq!(mark(&path.join(LOG)).as_deref(), Some("new"), "after {done} moves");
            assert_eq!(mark(&target.join(LOG)).as_deref(), Some("old"), "after {done} moves");
            assert_eq!(mark(&target.join(CHECKPOINTS)).as_deref(), Some("old"), "after {done} moves");
            assert!(!path.join(CHECKPOINTS).exists() && !path.join(RECOVERED).exists(), "after {done} moves");
        }
    }
}
