//! Checkpoint files on a disk: how one is saved, which one a start may believe, and which are removed.
//!
//! It never fails a start, never aborts a process and never touches a file of the log. A file is called
//! `<index>-<term>.ckpt`; `.new` behind it is one that was not finished, `.broken` one that a start has refused: kept until
//! the next checkpoint is safe, for people to look at.
//!
//! # Order on disk
//!
//! Written under its temporary name, synced, read back and compared, renamed, directory synced; only then may anything
//! rely on it, and only then are older ones removed: two are kept. A crash anywhere leaves the two before.

use super::format::Invalid;
use super::{Checkpoint, decode, encode, verify};
use quorate_raft::wal::{Disk, EntryHeader, File, Reader};
use quorate_raft::{LogIndex, NodeId};
use std::io;
use std::sync::Arc;

/// Checkpoints that are kept: the newest, and one to fall back on.
const KEPT: usize = 2;
const SUFFIX: &str = ".ckpt";
const NEW: &str = ".new";
const BROKEN: &str = ".broken";

/// The checkpoints of one node.
#[derive(Clone)]
pub struct Store {
    disk: Arc<dyn Disk>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Store")
    }
}

/// Why a checkpoint was not saved. Those from before are untouched.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} checkpoint {name}: {why}")]
pub struct Trouble {
    action: &'static str,
    name: String,
    why: String,
}

/// What a start found.
#[derive(Debug, Default)]
pub struct Loaded {
    /// The newest checkpoint that may be believed.
    pub checkpoint: Option<Checkpoint>,
    /// Those that were not, newest first.
    pub passed_over: Vec<PassedOver>,
}

/// A checkpoint that a start did not take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PassedOver {
    /// The file.
    pub name: String,
    /// Why.
    pub why: String,
}

impl std::fmt::Display for PassedOver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "checkpoint {} was passed over: {}", self.name, self.why)
    }
}

fn name_of(last: &EntryHeader) -> String {
    format!("{}-{}{SUFFIX}", last.index, last.term)
}

/// Index and term in the name of a checkpoint.
fn parse(name: &str) -> Option<(u64, u64)> {
    let (index, term) = name.strip_suffix(SUFFIX)?.split_once('-')?;
    Some((index.parse().ok()?, term.parse().ok()?))
}

/// Does the log that this reader reads hold the very entry that a checkpoint ends with? Else its state may be ahead of the
/// own disk: of records that this disk has lost, and that a leader would replace by others.
///
/// # Errors
/// Why not.
pub fn stands_in(reader: &Reader, last: &EntryHeader) -> Result<(), String> {
    if last.index > reader.last_index() {
        return Err(format!("it stands at entry {}, and the log ends at {}", last.index, reader.last_index()));
    }
    match reader.header(last.index) {
        Ok(Some(header)) if header == *last => Ok(()),
        Ok(Some(_)) => Err(format!("the log holds another entry {}", last.index)),
        Ok(None) => Err(format!("the log does not hold entry {}", last.index)),
        Err(error) => Err(format!("entry {} cannot be read to compare: {error}", last.index)),
    }
}

impl Store {
    /// The checkpoints on this disk.
    #[must_use]
    pub fn new(disk: Arc<dyn Disk>) -> Self {
        Self { disk }
    }

    /// Saves a checkpoint: durable when this returns. Gives its length in bytes.
    ///
    /// # Errors
    /// Which step failed. Nothing is lost, and it may be tried again.
    pub fn save(&self, checkpoint: &Checkpoint) -> Result<u64, Trouble> {
        let name = name_of(&checkpoint.last);
        let temporary = format!("{name}{NEW}");
        let trouble = |action| {
            let name = name.clone();
            move |error: io::Error| Trouble { action, name, why: error.to_string() }
        };
        self.remove_if_any(&temporary).map_err(trouble("remove an unfinished"))?;
        let written = self.write(checkpoint, &temporary, &trouble);
        if written.is_err() {
            // A full disk wants its space back.
            let _ = self.remove_if_any(&temporary);
        }
        let len = written?;
        self.disk.rename(&temporary, &name).map_err(trouble("rename"))?;
        self.disk.sync_dir().map_err(trouble("sync the directory of"))?;
        self.prune();
        Ok(len)
    }

    fn write<T: FnOnce(io::Error) -> Trouble>(
        &self,
        checkpoint: &Checkpoint,
        temporary: &str,
        trouble: &impl Fn(&'static str) -> T,
    ) -> Result<u64, Trouble> {
        let file = self.disk.create(temporary).map_err(trouble("create"))?;
        let mut at = 0;
        let len = encode(checkpoint, |bytes| {
            file.write_at(bytes, at)?;
            at += bytes.len() as u64;
            Ok(())
        })
        .map_err(trouble("write"))?;
        file.sync_all().map_err(trouble("sync"))?;
        // From another handle: what is read is what a start would read.
        let file = self.disk.open(temporary).map_err(trouble("open"))?;
        let wrong = |error: Invalid| trouble("read back")(io::Error::other(error.to_string()));
        let found = file.len().map_err(trouble("measure"))?;
        if found != len {
            return Err(trouble("read back")(io::Error::other(format!("{len} bytes were written, {found} are there"))));
        }
        verify(found, |at, buf| file.read_at(buf, at)).map_err(wrong)?;
        Ok(len)
    }

    /// Removes all but the newest, and what was never finished or was refused. What cannot be removed now is removed later.
    fn prune(&self) {
        let Ok(names) = self.disk.list() else { return };
        let mut good: Vec<((u64, u64), &String)> = names.iter().filter_map(|n| Some((parse(n)?, n))).collect();
        good.sort_unstable();
        good.truncate(good.len().saturating_sub(KEPT));
        let rest = names.iter().filter(|n| is_rest(n));
        for name in good.into_iter().map(|(_, name)| name).chain(rest) {
            let _ = self.disk.remove(name);
        }
    }

    /// The newest checkpoint of this node and log that is whole, and of which `stands` says that the log holds its last
    /// entry. All newer ones are set aside. Never fails: at worst there is none.
    #[must_use]
    pub fn load(
        &self,
        cluster: [u8; 16],
        node: NodeId,
        log_id: Option<[u8; 16]>,
        stands: impl Fn(&EntryHeader) -> Result<(), String>,
    ) -> Loaded {
        let mut loaded = Loaded::default();
        let names = match self.disk.list() {
            Ok(names) => names,
            Err(error) => {
                let name = "directory".to_owned();
                loaded.passed_over.push(PassedOver { name, why: format!("cannot be listed: {error}") });
                return loaded;
            }
        };
        let mut found: Vec<((u64, u64), String)> = names.into_iter().filter_map(|n| Some((parse(&n)?, n))).collect();
        found.sort_unstable();
        for (_, name) in found.into_iter().rev() {
            match self.read(&name).map_err(|e| e.to_string()).and_then(|checkpoint| {
                if checkpoint.cluster != cluster || checkpoint.node != node || Some(checkpoint.log_id) != log_id {
                    return Err("it belongs to another node, log or cluster".into());
                }
                stands(&checkpoint.last).map(|()| checkpoint)
            }) {
                Ok(checkpoint) => {
                    loaded.checkpoint = Some(checkpoint);
                    break;
                }
                Err(why) => {
                    // Never tried again: an entry may come to stand where this one expects another of the same number.
                    let _ = self.disk.rename(&name, &format!("{name}{BROKEN}"));
                    loaded.passed_over.push(PassedOver { name, why });
                }
            }
        }
        loaded
    }

    fn read(&self, name: &str) -> Result<Checkpoint, Invalid> {
        let file: Arc<dyn File> = self.disk.open(name)?;
        decode(file.len()?, |at, buf| file.read_at(buf, at))
    }

    fn remove_if_any(&self, name: &str) -> io::Result<()> {
        match self.disk.remove(name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    /// The checkpoints that are there under their final names, oldest first.
    ///
    /// # Errors
    /// Whatever the system says.
    pub fn list(&self) -> io::Result<Vec<LogIndex>> {
        let mut found: Vec<_> = self.disk.list()?.iter().filter_map(|n| parse(n)).collect();
        found.sort_unstable();
        Ok(found.into_iter().map(|(index, _)| LogIndex(index)).collect())
    }
}

/// Is this something that a save or a start has left behind?
fn is_rest(name: &str) -> bool {
    [NEW, BROKEN].iter().any(|end| name.strip_suffix(end).is_some_and(|stem| parse(stem).is_some()))
}
