//! A look at a data directory, whoever uses it: what it holds, and what keeps an agent from running on it.
//!
//! It changes nothing: files are opened to read, and keys never leave this file. Only a measurement that was asked for writes,
//! to a file without a name that is gone when it ends.
//!
//! It keeps nobody out either: the log is read without a lock. Whether somebody uses the directory is found by a shared lock
//! that is let go within microseconds, and an agent that starts waits longer than that (`data.rs`). Whoever began meanwhile is
//! found by asking again afterwards, and then what was read of the log does not count.

use super::data::LOCK;
use super::facts;
use super::keys::{NODE_KEY, NODE_KEY_COPY, QUIC_KEY};
use super::remembered;
use crate::api::{DamagedEntries, DiskSpace};
use crate::descriptor::{self, Descriptor};
use crate::diagnosis::{LocalFacts, LocalTrouble};
use crate::facts::{CertificateFacts, Trouble};
use quorate_certs::{CertsError, ClusterId, Identity};
use quorate_raft::wal::{self, Meta, OsDisk, Verified};
use quorate_transport::NodeKey;
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

/// A log up to this size is read as a whole although nobody asked: a fraction of a second.
const CHEAP_BYTES: u64 = 256 << 20;
/// The largest reserve that an agent keeps by default, and the share of a small file system, as in `node::room`.
const RESERVE_BYTES: u64 = 256 << 20;
const RESERVE_SHARE: u64 = 10;
/// Damaged places that are told.
const DAMAGE_MAX: usize = 64;
/// Syncs of a measurement, and bytes of each.
const SYNCS: usize = 32;
const SYNC_BYTES: usize = 4 << 10;

/// An agent that has just taken its lock says who it is within this time; looked for in such steps.
const DESCRIBED_WITHIN: Duration = Duration::from_secs(1);
const DESCRIBED_STEP: Duration = Duration::from_millis(20);

/// How closely to look.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Look {
    /// Check every checksum, however large the log is.
    pub(crate) verify: bool,
    /// Time some syncs.
    pub(crate) measure: bool,
}

/// Everything that can be told of the directory `data`, and of the identity in `certs`.
pub(crate) fn look(data: &Path, certs: Option<&Path>, how: Look) -> (LocalFacts, Option<Descriptor>) {
    let data = std::path::absolute(data).unwrap_or_else(|_| data.to_owned());
    let mut facts = LocalFacts { data: data.display().to_string(), ..LocalFacts::default() };
    if is_there(&data, &mut facts) {
        modes(&data, &mut facts);
        locked(&data, &mut facts);
        identity_of_disk(&data, &mut facts);
        left(&data, &mut facts);
        room(&data, &mut facts);
        facts.known = remembered::read(&data).into_iter().map(|k| (k.name, k.node, k.addr.to_string())).collect();
        if !facts.locked {
            let before = facts.clone();
            log(&data, how, &mut facts);
            locked(&data, &mut facts);
            if facts.locked {
                facts = LocalFacts { locked: true, ..before };
            }
        }
        if facts.locked {
            log_in_use(&data, &mut facts);
        } else if how.measure {
            facts.fsync_us = measure(&data).ok();
        }
    }
    let holder = holder_of(&data, facts.locked);
    facts.holder = holder.as_ref().map(|agent| (agent.name.clone(), agent.pid, agent.addr.clone()));
    if let Some(dir) = certs.map(Path::to_owned).or_else(|| holder.as_ref().map(|agent| agent.certs.clone())) {
        certificate(&dir, &mut facts);
    }
    if facts.name.is_none() {
        facts.name = holder.as_ref().map(|agent| agent.name.clone());
    }
    (facts, holder)
}

/// The agent that says the directory is its own. One that holds the lock and has only just begun says so in a moment.
fn holder_of(data: &Path, locked: bool) -> Option<Descriptor> {
    let begun = Instant::now();
    loop {
        let holder = descriptor::find().alive.into_iter().find(|agent| agent.data == data);
        if holder.is_some() || !locked || begun.elapsed() >= DESCRIBED_WITHIN {
            return holder;
        }
        std::thread::sleep(DESCRIBED_STEP);
    }
}

fn trouble(facts: &mut LocalFacts, word: &str, text: String) {
    facts.troubles.push(LocalTrouble { word: word.into(), text });
}

/// A failure of the system, by what a person can do about it.
fn refused(facts: &mut LocalFacts, path: &Path, error: &io::Error) {
    let word = if error.kind() == io::ErrorKind::PermissionDenied { "permission" } else { "failed" };
    trouble(facts, word, format!("{} cannot be read ({error})", path.display()));
}

fn is_there(data: &Path, facts: &mut LocalFacts) -> bool {
    match fs::read_dir(data) {
        Ok(_) => return true,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            trouble(facts, "absent", format!("{} does not exist", data.display()));
        }
        Err(error) => refused(facts, data, &error),
    }
    false
}

#[cfg(unix)]
fn modes(data: &Path, facts: &mut LocalFacts) {
    use std::os::unix::fs::PermissionsExt;
    let mode = |path: &Path| fs::metadata(path).map(|meta| meta.permissions().mode() & 0o7777).ok();
    if let Some(mode) = mode(data).filter(|mode| mode & 0o002 != 0) {
        trouble(facts, "loose", format!("{} lets everybody replace its files (mode {mode:04o})", data.display()));
    }
    for name in [NODE_KEY, NODE_KEY_COPY, QUIC_KEY] {
        let path = data.join(name);
        if let Some(mode) = mode(&path).filter(|mode| mode & 0o077 != 0) {
            trouble(facts, "loose", format!("{} is open to others than its owner (mode {mode:04o})", path.display()));
        }
    }
}

#[cfg(not(unix))]
fn modes(_data: &Path, _facts: &mut LocalFacts) {}

fn locked(data: &Path, facts: &mut LocalFacts) {
    let path = data.join(LOCK);
    match File::open(&path) {
        // Let go as soon as the file is closed.
        Ok(file) => facts.locked = matches!(file.try_lock_shared(), Err(fs::TryLockError::WouldBlock)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => refused(facts, &path, &error),
    }
}

/// The node id that the key makes; of the key itself, nothing is told.
fn identity_of_disk(data: &Path, facts: &mut LocalFacts) {
    let read =
        |name: &str| super::files::read(&data.join(name)).ok().flatten().and_then(|bytes| NodeKey::load(&bytes).ok());
    facts.node = read(NODE_KEY).or_else(|| read(NODE_KEY_COPY)).map(|key| key.node());
    let has_log = data.join(super::aside::LOG).exists();
    if facts.node.is_none() && has_log {
        let path = data.join(NODE_KEY);
        trouble(
            facts,
            "foreign",
            format!("there is a log, and {} is missing or damaged, and so is its copy", path.display()),
        );
    }
}

fn left(data: &Path, facts: &mut LocalFacts) {
    let names =
        fs::read_dir(data).into_iter().flatten().flatten().map(|e| e.file_name().to_string_lossy().into_owned());
    facts.left = names.filter(|name| name.starts_with("left-")).collect();
    facts.left.sort();
}

#[cfg(unix)]
fn room(data: &Path, facts: &mut LocalFacts) {
    let Ok(found) = rustix::fs::statvfs(data) else { return };
    let (free, total) = (found.f_bavail.saturating_mul(found.f_frsize), found.f_blocks.saturating_mul(found.f_frsize));
    let reserve = RESERVE_BYTES.min((total / RESERVE_SHARE).max(1));
    facts.space = DiskSpace { free: Some(free), total: Some(total), reserve, full: free < reserve };
    facts.read_only = found.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY);
}

#[cfg(not(unix))]
fn room(_data: &Path, _facts: &mut LocalFacts) {}

fn log(data: &Path, how: Look, facts: &mut LocalFacts) {
    let path = data.join(super::aside::LOG);
    let disk = match OsDisk::open_to_look(&path) {
        Ok(disk) => disk,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return,
        Err(error) => return refused(facts, &path, &error),
    };
    match wal::peek(&disk) {
        Ok(meta) => told(&meta, facts),
        Err(wal::Error::Missing) => {}
        Err(error @ wal::Error::Newer { .. }) => return trouble(facts, "newer", error.to_string()),
        Err(error @ wal::Error::Corrupt { .. }) => trouble(facts, "damaged", error.to_string()),
        Err(wal::Error::Io { source, .. }) => return refused(facts, &path, &source),
        Err(error) => trouble(facts, "failed", error.to_string()),
    }
    let bytes: u64 =
        fs::read_dir(&path).into_iter().flatten().flatten().filter_map(|e| Some(e.metadata().ok()?.len())).sum();
    if (how.verify || bytes <= CHEAP_BYTES)
        && let Ok(found) = wal::verify(&disk, &mut |_| None)
    {
        damage(&found, facts);
    }
}

/// Whose log it is, while somebody writes it; what is found wrong is of the moment, and its agent knows better.
fn log_in_use(data: &Path, facts: &mut LocalFacts) {
    let disk = OsDisk::open_to_look(data.join(super::aside::LOG));
    if let Ok(meta) = disk.map_err(|_| ()).and_then(|disk| wal::peek(&disk).map_err(|_| ())) {
        told(&meta, facts);
    }
}

fn told(meta: &Meta, facts: &mut LocalFacts) {
    if let Some(node) = facts.node.filter(|node| *node != meta.node.get()) {
        trouble(
            facts,
            "foreign",
            format!("the log is of node {}, and the node key makes this node {node:016x}", meta.node),
        );
    }
    facts.boot = meta.boot_epoch;
    facts.cluster = Some(ClusterId::from_bytes(meta.cluster).to_string());
    facts.log_id = meta.log_id.map(hex::encode);
    facts.term = meta.hard_state.term.0;
}

fn damage(found: &Verified, facts: &mut LocalFacts) {
    facts.verified = true;
    let range = |damage: &wal::Damage| DamagedEntries {
        file: damage.file.clone(),
        at: damage.offset,
        what: damage.what.clone(),
        first: damage.entries.map_or(0, |(first, _)| first.0),
        last: damage.entries.map_or(0, |(first, last)| last.unwrap_or(first).0),
        lost: false,
    };
    facts.damaged = found.damaged.iter().take(DAMAGE_MAX).map(range).collect();
}

/// Dates and name; and why it cannot be used, in the words of a refusal.
fn certificate(dir: &Path, facts: &mut LocalFacts) {
    let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
    let error = match Identity::load(&dir) {
        Ok(identity) => {
            facts.name = Some(identity.subject().name().to_string());
            facts.certificate = Some(facts::certificate(&identity, &dir));
            let theirs = identity.cluster().to_string();
            if let Some(cluster) = facts.cluster.clone().filter(|cluster| *cluster != theirs) {
                let text =
                    format!("the log in {} is of cluster {cluster}, and the certificate is of {theirs}", facts.data);
                facts.certificate_trouble =
                    Some(Trouble { word: "failed".into(), detail: "other_cluster".into(), text });
            }
            return;
        }
        Err(error) => error,
    };
    if let Ok(said) = quorate_certs::inspect(&dir) {
        facts.name = said.name.clone();
        facts.certificate = Some(CertificateFacts {
            dir: dir.display().to_string(),
            subject: said.subject,
            not_before: said.not_before.unix(),
            not_after: said.not_after.unix(),
        });
    }
    let detail = match &error {
        // Its dates tell the same, with the clock.
        CertsError::Expired { .. } | CertsError::NotYetValid { .. } => return,
        CertsError::AuthorityExpired { .. } => "authority_dates",
        CertsError::OtherAuthority { .. } => "other_authority",
        _ => "broken",
    };
    facts.certificate_trouble = Some(Trouble { word: "failed".into(), detail: detail.into(), text: error.to_string() });
}

/// Median and longest of some appends and syncs of 4 KiB, in microseconds.
fn measure(data: &Path) -> io::Result<(u64, u64)> {
    use std::io::Write;
    let mut file = tempfile::tempfile_in(data)?;
    let mut took: Vec<u64> = Vec::with_capacity(SYNCS);
    for _ in 0..SYNCS {
        let begun = Instant::now();
        file.write_all(&[0x5a; SYNC_BYTES])?;
        file.sync_data()?;
        took.push(u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX));
    }
    took.sort_unstable();
    Ok((took[SYNCS / 2], took[SYNCS - 1]))
}
