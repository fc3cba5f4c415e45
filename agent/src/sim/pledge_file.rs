//! The file of pledges: what a node has promised about founding, on the disk of its machine as the shell keeps it.
//!
//! It never takes a file that does not read for an empty one.

use super::dead::Dead;
use crate::pledge::Record;
use quorate_raft::wal::{self, Disk};
use std::io;

/// The file.
pub(super) const NAME: &str = "formation";
const TEMPORARY: &str = "formation.new";

/// The whole file or none, as `server/files.rs` does it.
pub(super) fn keep(disk: &dyn Disk, bytes: &[u8]) -> io::Result<()> {
    match disk.remove(TEMPORARY) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = disk.create(TEMPORARY)?;
    file.write_at(bytes, 0)?;
    file.sync_all()?;
    disk.rename(TEMPORARY, NAME)?;
    disk.sync_dir()
}

/// What a start finds; an error says why it finds nothing that it can read.
pub(super) fn load(disk: &dyn Disk, node: u64) -> Result<Record, Dead> {
    let failed = |source| Dead::Log(wal::Error::Io { action: "read", file: NAME.into(), source });
    let file = match disk.open(NAME) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Record::default()),
        Err(error) => return Err(failed(error)),
    };
    let len = file.len().map_err(failed)?;
    let mut bytes = vec![0; usize::try_from(len).unwrap_or_default()];
    file.read_at(&mut bytes, 0).map_err(failed)?;
    match Record::decode(&bytes) {
        Ok((of, record)) if of == node => Ok(record),
        Ok((of, _)) => Err(Dead::Lost(format!("the formation file is of node {of:016x}"))),
        Err(error) => Err(Dead::Pledges(format!("the formation file does not read: {error}"))),
    }
}
