//! The data directory: the identity of the disk, and where everything else in it lies.
//!
//! ```text
//! DATA/LOCK        held by the agent while it lives
//! DATA/node.key    Ed25519 in PKCS#8, 0600; its hash is the node id: who loses it is a new node
//! DATA/node.key.copy  the same bytes once more: a damaged sector does not cost the node its identity
//! DATA/quic.key    40 random bytes, 0600: stateless-reset key and connection-id key
//! DATA/formation   what this node has promised about founding a log together; the bytes are in `pledge`
//! DATA/peers.json  last known addresses, with a checksum; a cache
//! DATA/log/        the write-ahead log
//! DATA/checkpoints/  the state of the machines after one entry, twice: what a start need not read from the log; a cache
//! DATA/LEFT        written first when a node has left: the move into `left-TIME/` is finished at the next start
//! DATA/left-TIME/  all of the above, after `quorate leave`
//! DATA/log.recovering/  a new history while `quorate recover` makes it; worthless without the next one
//! DATA/RECOVERED   written when that is complete: its move into place is finished at the next start
//! DATA/recovered-TIME/  the old history, after that
//! ```

use super::aside::{CHECKPOINTS, FORMATION, LEFT, LOG, RECOVERED, finish_leaving, finish_recovery};
use super::error::Error;
use super::files::{at, create_dir, private, read, write};
use super::keys::{self, NODE_KEY, NODE_KEY_COPY, QUIC_KEY};
use super::remembered;
use crate::checkpoint::{Checkpoint, Loaded, PassedOver, Store, stands_in};
use crate::node::Known;
use crate::pledge::Record;
use quorate_certs::ClusterId;
use quorate_raft::wal::{self, DamagedRange, Disk, Entry, EntryHeader, Meta, Opened, OsDisk, ScrubCursor};
use quorate_raft::{LogIndex, NodeId};
use quorate_transport::{NodeKey, Secrets};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

pub(super) const LOCK: &str = "LOCK";
/// Of the log of an agent that is alone so much is read before it starts, so long, in such steps: damage that is found
/// later costs more than half a second now.
const ALONE_BYTES: u64 = 512 << 20;
const ALONE_TIME: Duration = Duration::from_millis(500);
const ALONE_STEP_BYTES: u64 = 4 << 20;

/// Whoever only looks whether the directory is in use has its lock for microseconds: that is waited for, in such steps.
const LOCK_PATIENCE: Duration = Duration::from_millis(500);
const LOCK_STEP: Duration = Duration::from_millis(10);

/// An open data directory. The lock is held until it is dropped.
#[derive(Debug)]
pub(super) struct Data {
    path: PathBuf,
    _lock: File,
    key: NodeKey,
    /// Keys that let peers notice a restart at once.
    pub(super) secrets: Secrets,
}

impl Data {
    /// Opens the directory, and makes it and its keys if it is new.
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        create_dir(path).map_err(at("create data directory", path))?;
        check_directory(path)?;
        let lock_path = path.join(LOCK);
        let lock = private().create(true).truncate(false).open(&lock_path).map_err(at("open", &lock_path))?;
        take(&lock).map_err(|error| match error {
            fs::TryLockError::WouldBlock => Error::InUse { path: path.into() },
            fs::TryLockError::Error(source) => at("lock", &lock_path)(source),
        })?;
        if let Some(time) = read(&path.join(LEFT))? {
            finish_leaving(path, &String::from_utf8_lossy(&time))?;
        }
        if let Some(time) = read(&path.join(RECOVERED))? {
            finish_recovery(path, &String::from_utf8_lossy(&time))?;
        }
        for secret in [NODE_KEY, NODE_KEY_COPY, QUIC_KEY] {
            refuse_loose(&path.join(secret))?;
        }
        let key = keys::node_key(path, path.join(LOG).exists())?;
        let secrets = keys::secrets(path)?;
        Ok(Self { path: path.into(), _lock: lock, key, secrets })
    }

    /// The node id that the key proves.
    pub(super) fn node(&self) -> Result<NodeId, Error> {
        NodeId::new(self.key.node()).ok_or_else(|| Error::Options("the node key hashes to zero; remove it".into()))
    }

    /// The key again, for the transport to keep.
    pub(super) fn node_key(&self) -> Result<NodeKey, Error> {
        keys::node_key(&self.path, true)
    }

    /// Opens the log, and creates it if there is none.
    pub(super) fn open_log(&self, cluster: ClusterId, seed: u64) -> Result<Opened, Error> {
        let path = self.path.join(LOG);
        let disk = OsDisk::open(&path).map_err(at("open", &path))?;
        let disk: Arc<dyn Disk> = Arc::new(disk);
        let node = self.node()?;
        if !wal::exists(&disk).map_err(|e| Error::of_log(&path, e))? {
            let meta = Meta::new(cluster.to_bytes(), node);
            wal::create(&disk, meta).map_err(|e| Error::of_log(&path, e))?;
        }
        let options = wal::Options { seed, ..wal::Options::default() };
        let opened = wal::open(disk, options).map_err(|e| Error::of_log(&path, e))?;
        if opened.meta.node != node {
            return Err(Error::Foreign {
                path,
                what: format!("belongs to node {}, and {NODE_KEY} makes this node {node}", opened.meta.node),
                next: "put the matching key back, or wipe the data directory to join as a new node",
            });
        }
        if opened.meta.cluster != cluster.to_bytes() {
            return Err(Error::Foreign {
                path,
                what: format!(
                    "belongs to cluster {}, and the certificate is of cluster {cluster}",
                    ClusterId::from_bytes(opened.meta.cluster)
                ),
                next: "use the certificates of that cluster, or another --data",
            });
        }
        Ok(opened)
    }

    /// Where checkpoints are kept, and the newest that the log bears out. Nothing about them fails a start.
    pub(super) fn checkpoints(&self, opened: &Opened) -> (Result<Store, String>, Loaded) {
        let path = self.path.join(CHECKPOINTS);
        let store = match OsDisk::open(&path) {
            Ok(disk) => Store::new(Arc::new(disk)),
            Err(error) => {
                let why = format!("cannot open the directory of checkpoints {}: {error}", path.display());
                let passed_over = vec![PassedOver { name: path.display().to_string(), why: why.clone() }];
                return (Err(why), Loaded { checkpoint: None, passed_over });
            }
        };
        let meta = &opened.meta;
        let stands = |last: &EntryHeader| stands_in(&opened.reader, last);
        let loaded = store.load(meta.cluster, meta.node, meta.log_id, stands);
        (Ok(store), loaded)
    }

    /// The control entries of an opened log after its checkpoint, in order.
    pub(super) fn control(&self, opened: &Opened, checkpoints: &Loaded) -> Result<Vec<Entry>, Error> {
        let path = self.path.join(LOG);
        let known = checkpoints.checkpoint.as_ref().map_or(LogIndex::ZERO, Checkpoint::index);
        // What is left out the node learns when it is repaired, and it does not lead before that.
        opened.control(known).map_err(|e| Error::of_log(&path, e))
    }

    /// Refuses to start on damage that nobody could repair: without another member there is no other copy. Of a log that
    /// is opened without being read as a whole, as much is read as costs a start next to nothing.
    pub(super) fn refuse_unrepairable(
        &self,
        opened: &Opened,
        checkpoints: &Loaded,
        control: &[Entry],
    ) -> Result<(), Error> {
        let begun = checkpoints.checkpoint.as_ref().map(|checkpoint| &checkpoint.configuration.1);
        let others = crate::node::others_in(begun, control, opened.meta.node);
        // Who is in the group may be what is damaged; whoever was met before is remembered.
        let is_alone = others.map_or_else(|| self.known().is_empty(), |(members, _)| members == 0);
        let votes_alone = is_alone || others.is_some_and(|(_, voters)| voters == 0);
        let path = self.path.join(LOG);
        if let Some(tail) = opened.recovered.suspect_tail.as_ref().filter(|_| votes_alone) {
            return Err(Error::Unrepairable {
                path,
                file: tail.file.clone(),
                offset: tail.at,
                what: tail.what.clone(),
                first: opened.recovered.last.map_or(1, |last| last.index.0 + 1),
                last: tail.up_to.index.0,
            });
        }
        if !is_alone {
            return Ok(());
        }
        let begun = Instant::now();
        let (mut cursor, mut bytes) = (Some(ScrubCursor::default()), 0);
        while let Some(from) = cursor.filter(|_| bytes < ALONE_BYTES && begun.elapsed() < ALONE_TIME) {
            let step = opened.reader.scrub(from, ALONE_STEP_BYTES).map_err(|e| Error::of_log(&path, e))?;
            bytes += step.bytes;
            cursor = step.next;
        }
        match opened.reader.damaged().into_iter().next() {
            None => Ok(()),
            Some(DamagedRange { file, at, what, first, last }) => {
                Err(Error::Unrepairable { path, file, offset: at, what, first: first.0, last: last.0 })
            }
        }
    }

    /// Addresses from before. A cache that cannot be read is an empty one.
    pub(super) fn known(&self) -> Vec<Known> {
        remembered::read(&self.path)
    }

    /// What this node has promised about founding a log. A file that cannot be read is no promise that was never made: without
    /// a log beside it nobody can tell any more what it said, so the directory is of no more use.
    pub(super) fn record(&self, has_log: bool) -> Result<Record, Error> {
        let path = self.path.join(FORMATION);
        let Some(bytes) = read(&path)? else { return Ok(Record::default()) };
        match Record::decode(&bytes) {
            Ok((node, record)) if node == self.key.node() => Ok(record),
            Ok(_) => {
                tracing::warn!("{} is of another node, whose key is gone; it counts for nothing", path.display());
                Ok(Record::default())
            }
            Err(error) if has_log => {
                tracing::warn!("{}: {error}; this agent has a log, and goes on without it", path.display());
                Ok(Record::default())
            }
            Err(error) => Err(Error::Foreign {
                path,
                what: format!("cannot be read ({error})"),
                next: "nobody can tell any more what this node has promised; wipe the data directory to join as a new node",
            }),
        }
    }

    /// Tags that were set at run time, in former lives.
    pub(super) fn tags(&self) -> std::collections::BTreeMap<String, String> {
        remembered::read_tags(&self.path)
    }

    /// Where the addresses are kept.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Moves everything into `left-TIME/`, so that the next start is a new node. Gives the new place. A crash in between
    /// is finished by the next start: a departed node never comes back under its old key.
    pub(super) fn set_aside(self, time: &str) -> Result<PathBuf, Error> {
        write(&self.path, LEFT, time.as_bytes())?;
        finish_leaving(&self.path, time)
    }
}

/// A key that others may read proves nothing any more: whoever copied it is this node too.
#[cfg(unix)]
fn refuse_loose(path: &Path) -> Result<(), Error> {
    match permissions(path)? {
        Some(mode) if mode & 0o077 != 0 => Err(Error::Loose {
            path: path.into(),
            mode,
            what: "is open to others than its owner",
            next: format!(
                "run: chmod 600 {}; if it may have been read, wipe the directory to join as a new node",
                path.display()
            ),
        }),
        _ => Ok(()),
    }
}

/// A directory in which everybody may rename files is nobody's. One that others may only look into was made so by
/// somebody (a service manager, a volume of a group), so it stays as it is: its files are private all the same.
#[cfg(unix)]
fn check_directory(path: &Path) -> Result<(), Error> {
    let Some(mode) = permissions(path)? else { return Ok(()) };
    let next = format!("run: chmod 700 {}", path.display());
    if mode & 0o002 != 0 {
        let what = "lets everybody replace its files";
        return Err(Error::Loose { path: path.into(), mode, what, next });
    }
    if mode & 0o077 != 0 {
        tracing::warn!("data directory {} is open to others than its owner ({mode:04o}); {next}", path.display());
    }
    Ok(())
}

/// The mode of what stands at `path`, links followed: what counts is who can reach the bytes.
#[cfg(unix)]
fn permissions(path: &Path) -> Result<Option<u32>, Error> {
    use std::os::unix::fs::PermissionsExt;
    match fs::metadata(path) {
        Ok(metadata) => Ok(Some(metadata.permissions().mode() & 0o7777)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(at("look at", path)(error)),
    }
}

#[cfg(not(unix))]
fn refuse_loose(_path: &Path) -> Result<(), Error> {
    Ok(())
}

#[cfg(not(unix))]
fn check_directory(_path: &Path) -> Result<(), Error> {
    Ok(())
}

/// Takes the lock. Another agent keeps it for as long as it lives, and who looks on for a moment.
fn take(lock: &File) -> Result<(), fs::TryLockError> {
    let begun = Instant::now();
    loop {
        match lock.try_lock() {
            Err(fs::TryLockError::WouldBlock) if begun.elapsed() < LOCK_PATIENCE => std::thread::sleep(LOCK_STEP),
            ended => return ended,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_directory_is_the_same_node_and_is_opened_once() {
        let dir = tempfile::tempdir().unwrap();
        let first = Data::open(dir.path()).unwrap();
        let node = first.node().unwrap();
        assert_eq!(Data::open(dir.path()).unwrap_err().exit_code(), 75);
        drop(first);
        let again = Data::open(dir.path()).unwrap();
        assert_eq!(again.node().unwrap(), node);
        let left = again.set_aside("now").unwrap();
        assert!(left.join(NODE_KEY).exists());
        assert_ne!(Data::open(dir.path()).unwrap().node().unwrap(), node, "who left comes back as a new node");
    }

    #[test]
    fn a_crash_while_leaving_is_finished_by_the_next_start() {
        let dir = tempfile::tempdir().unwrap();
        let node = Data::open(dir.path()).unwrap().node().unwrap();
        fs::create_dir(dir.path().join(LOG)).unwrap();
        write(dir.path(), LEFT, b"then").unwrap();
        assert_ne!(Data::open(dir.path()).unwrap().node().unwrap(), node);
        assert!(
            dir.path().join("left-then").join(LOG).exists() && dir.path().join("left-then").join(NODE_KEY).exists()
        );
        assert!(!dir.path().join(LEFT).exists());
    }

    #[cfg(unix)]
    #[test]
    fn keys_and_directories_open_to_others_are_refused() {
        use std::os::unix::fs::PermissionsExt;
        let chmod = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        let dir = tempfile::tempdir().unwrap();
        drop(Data::open(dir.path()).unwrap());
        for name in [NODE_KEY, QUIC_KEY] {
            let path = dir.path().join(name);
            for loose in [0o640, 0o604, 0o620] {
                chmod(&path, loose);
                let error = Data::open(dir.path()).unwrap_err();
                assert_eq!(error.exit_code(), 78);
                let said = error.to_string();
                assert!(
                    said.contains(name) && said.contains(&format!("{loose:04o}")) && said.contains("chmod 600"),
                    "{said}"
                );
            }
            chmod(&path, 0o400);
            drop(Data::open(dir.path()).unwrap());
            chmod(&path, 0o600);
        }
        chmod(dir.path(), 0o777);
        let error = Data::open(dir.path()).unwrap_err();
        assert!(error.exit_code() == 78 && error.to_string().contains("chmod 700"), "{error}");
        // What a group or a service manager set is only worth a line in the log.
        chmod(dir.path(), 0o755);
        drop(Data::open(dir.path()).unwrap());
    }

    #[test]
    fn a_log_without_its_key_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join(LOG)).unwrap();
        assert!(matches!(Data::open(dir.path()), Err(Error::Foreign { .. })));
    }
}
