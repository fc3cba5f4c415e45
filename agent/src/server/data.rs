//! The data directory: the identity of the disk, and where everything else in it lies.
//!
//! ```text
//! DATA/LOCK        held by the agent while it lives
//! DATA/node.key    Ed25519 in PKCS#8, 0600; its hash is the node id: who loses it is a new node
//! DATA/quic.key    40 random bytes, 0600: stateless-reset key and connection-id key
//! DATA/peers.json  last known addresses; a cache
//! DATA/log/        the write-ahead log
//! DATA/checkpoints/  the state of the machines after one entry, twice: what a start need not read from the log; a cache
//! DATA/LEFT        written first when a node has left: the move into `left-TIME/` is finished at the next start
//! DATA/left-TIME/  all of the above, after `quorate leave`
//! DATA/log.recovering/  a new history while `quorate recover` makes it; worthless without the next one
//! DATA/RECOVERED   written when that is complete: its move into place is finished at the next start
//! DATA/recovered-TIME/  the old history, after that
//! ```

use super::error::Error;
use crate::checkpoint::{Checkpoint, Loaded, PassedOver, Store, stands_in};
use crate::node::Known;
use quorate_certs::ClusterId;
use quorate_raft::wal::{self, Disk, Entry, EntryHeader, Meta, Opened, OsDisk};
use quorate_raft::{LogIndex, NodeId};
use quorate_transport::{NodeKey, Secrets};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const LOCK: &str = "LOCK";
const NODE_KEY: &str = "node.key";
const QUIC_KEY: &str = "quic.key";
const PEERS: &str = "peers.json";
const LOG: &str = "log";
const CHECKPOINTS: &str = "checkpoints";
const LEFT: &str = "LEFT";
const RECOVERING: &str = "log.recovering";
const RECOVERED: &str = "RECOVERED";
const QUIC_KEY_BYTES: usize = 40;
/// A file of ours is never larger; a larger one is not ours.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// An open data directory. The lock is held until it is dropped.
#[derive(Debug)]
pub(super) struct Data {
    path: PathBuf,
    _lock: File,
    key: NodeKey,
    /// Keys that let peers notice a restart at once.
    pub(super) secrets: Secrets,
}

pub(super) fn at(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_path_buf();
    move |source| Error::Data { action, path, source }
}

impl Data {
    /// Opens the directory, and makes it and its keys if it is new.
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        create_dir(path).map_err(at("create data directory", path))?;
        check_directory(path)?;
        let lock_path = path.join(LOCK);
        let lock = private().create(true).truncate(false).open(&lock_path).map_err(at("open", &lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Err(Error::InUse { path: path.into() }),
            Err(fs::TryLockError::Error(source)) => return Err(at("lock", &lock_path)(source)),
        }
        if let Some(time) = read(&path.join(LEFT))? {
            finish_leaving(path, &String::from_utf8_lossy(&time))?;
        }
        if let Some(time) = read(&path.join(RECOVERED))? {
            finish_recovery(path, &String::from_utf8_lossy(&time))?;
        }
        for secret in [NODE_KEY, QUIC_KEY] {
            refuse_loose(&path.join(secret))?;
        }
        let key = match read(&path.join(NODE_KEY))? {
            Some(pkcs8) => NodeKey::load(&pkcs8)?,
            None => Self::new_key(path)?,
        };
        let secrets = match read(&path.join(QUIC_KEY))? {
            Some(bytes) => secrets(&bytes).ok_or_else(|| Error::Foreign {
                path: path.join(QUIC_KEY),
                what: "does not hold the 40 bytes of a QUIC key".into(),
                next: "remove the file; a new one is made",
            })?,
            None => Self::new_secrets(path)?,
        };
        Ok(Self { path: path.into(), _lock: lock, key, secrets })
    }

    /// A log without its key is somebody's history without its owner: never quietly given a new one.
    fn new_key(path: &Path) -> Result<NodeKey, Error> {
        if path.join(LOG).exists() {
            return Err(Error::Foreign {
                path: path.join(NODE_KEY),
                what: "is missing, but there is a log beside it".into(),
                next: "restore the key, or wipe the data directory to join as a new node",
            });
        }
        let (key, pkcs8) = NodeKey::generate()?;
        write(path, NODE_KEY, &pkcs8)?;
        Ok(key)
    }

    fn new_secrets(path: &Path) -> Result<Secrets, Error> {
        let mut bytes = [0; QUIC_KEY_BYTES];
        entropy(&mut bytes)?;
        write(path, QUIC_KEY, &bytes)?;
        secrets(&bytes).ok_or_else(|| Error::Options("random bytes of the wrong length".into()))
    }

    /// The node id that the key proves.
    pub(super) fn node(&self) -> Result<NodeId, Error> {
        NodeId::new(self.key.node()).ok_or_else(|| Error::Options("the node key hashes to zero; remove it".into()))
    }

    /// The key again, for the transport to keep.
    pub(super) fn node_key(&self) -> Result<NodeKey, Error> {
        let pkcs8 = read(&self.path.join(NODE_KEY))?.unwrap_or_default();
        Ok(NodeKey::load(&pkcs8)?)
    }

    /// Opens the log, and creates it if there is none.
    pub(super) fn open_log(&self, cluster: ClusterId, seed: u64) -> Result<Opened, Error> {
        let path = self.path.join(LOG);
        let disk = OsDisk::open(&path).map_err(at("open", &path))?;
        let disk: Arc<dyn Disk> = Arc::new(disk);
        let node = self.node()?;
        if !wal::exists(&disk).map_err(|e| log_error(&path, e))? {
            let meta = Meta::new(cluster.to_bytes(), node);
            wal::create(&disk, meta).map_err(|e| log_error(&path, e))?;
        }
        let options = wal::Options { seed, ..wal::Options::default() };
        let opened = wal::open(disk, options).map_err(|e| log_error(&path, e))?;
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
        let mut control = Vec::new();
        for index in opened.recovered.control.iter().filter(|index| **index > known) {
            match opened.reader.read(*index, *index, usize::MAX) {
                Ok(entries) => control.extend(entries),
                // The node learns what it holds when it is repaired, and does not lead before that.
                Err(wal::Error::Corrupt { entries: Some(_), .. }) => {}
                Err(error) => return Err(log_error(&path, error)),
            }
        }
        Ok(control)
    }

    /// Addresses from before. A cache that cannot be read is an empty one.
    pub(super) fn known(&self) -> Vec<Known> {
        let bytes = read(&self.path.join(PEERS)).ok().flatten().unwrap_or_default();
        serde_json::from_slice(&bytes).unwrap_or_default()
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

/// The data directory of an agent that does not run, open to read. No agent starts on it meanwhile.
#[cfg(feature = "cli")]
#[derive(Debug)]
pub(crate) struct Unused {
    path: PathBuf,
    log: OsDisk,
    _lock: Option<File>,
}

#[cfg(feature = "cli")]
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

/// Carries out what `RECOVERED` says.
fn finish_recovery(path: &Path, time: &str) -> Result<PathBuf, Error> {
    let is_plain = !time.is_empty() && time.bytes().all(|b| b.is_ascii_alphanumeric());
    let target = path.join(format!("recovered-{}", if is_plain { time } else { "unknown" }));
    create_dir(&target).map_err(at("create", &target))?;
    let (old, new) = (path.join(LOG), path.join(RECOVERING));
    let rename = |from: &Path, to: &Path| fs::rename(from, to).map_err(at("move", from));
    // Each step only if it is still to be done: a crash may have come between any two.
    if !target.join(LOG).exists() && old.exists() {
        rename(&old, &target.join(LOG))?;
        sync_dir(&target).and_then(|()| sync_dir(path)).map_err(at("sync", &target))?;
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
fn finish_leaving(path: &Path, time: &str) -> Result<PathBuf, Error> {
    let is_plain = !time.is_empty() && time.bytes().all(|b| b.is_ascii_alphanumeric());
    let target = path.join(format!("left-{}", if is_plain { time } else { "unknown" }));
    create_dir(&target).map_err(at("create", &target))?;
    for name in [LOG, CHECKPOINTS, PEERS, QUIC_KEY, NODE_KEY] {
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

/// Remembers addresses. A failure costs nothing but time at the next start.
pub(super) fn remember(path: &Path, known: &[Known]) -> Result<(), Error> {
    let json = serde_json::to_vec(known).map_err(|e| Error::Options(e.to_string()))?;
    write(path, PEERS, &json)
}

/// Fills `bytes` from the system's generator.
pub(super) fn entropy(bytes: &mut [u8]) -> Result<(), Error> {
    getrandom::fill(bytes).map_err(|e| Error::System { what: "random bytes", source: io::Error::other(e.to_string()) })
}

fn secrets(bytes: &[u8]) -> Option<Secrets> {
    let (reset, rest) = bytes.split_first_chunk::<32>()?;
    let connection_id = u64::from_le_bytes(rest.try_into().ok()?);
    Some(Secrets { reset: *reset, connection_id })
}

pub(super) fn log_error(path: &Path, source: wal::Error) -> Error {
    match source {
        wal::Error::Locked => Error::InUse { path: path.into() },
        wal::Error::Corrupt { .. } => Error::Corrupt { path: path.into(), source },
        wal::Error::Io { action, source, .. } => Error::Data { action, path: path.into(), source },
        source => Error::Log { path: path.into(), source },
    }
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
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

fn create_dir(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(at("open", path))?,
    };
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes).map_err(at("read", path))?;
    Ok(Some(bytes))
}

/// Writes a whole file or none: temporary name, sync, rename, directory sync. The file is born private and new: what a
/// crash, or anybody, left under the temporary name is never written through.
fn write(dir: &Path, name: &str, bytes: &[u8]) -> Result<(), Error> {
    let (temporary, path) = (dir.join(format!("{name}.new")), dir.join(name));
    let attempt = || {
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = private().create_new(true).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, &path)?;
        sync_dir(dir)
    };
    attempt().map_err(at("write", &path))
}

/// Makes renames and new names durable; systems without directory handles do it by themselves.
fn sync_dir(path: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(path)?.sync_all() } else { Ok(()) }
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
