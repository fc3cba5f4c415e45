//! The whole log of one agent, as that agent itself sends it.
//!
//! It never takes the word of another one for it.

use super::find;
use super::output::{CliError, Exit};
use crate::client::{Client, ReadLevel, TailFrom};
use crate::history::Replica;
use crate::limits::printable;
use crate::record::{Record, decode_batch};
use xxhash_rust::xxh3::Xxh3;

/// What one agent sent.
pub(crate) struct Sent {
    pub(crate) replica: Replica<u64>,
    pub(crate) entries: u64,
}

/// Reads everything that was ever acknowledged through a client of this agent only. `number`: of a record at an offset.
pub(crate) async fn read(client: &Client, name: &str, number: impl Fn(&Record, u64) -> u64) -> Result<Sent, CliError> {
    let mut tail = client.entries(TailFrom { read: ReadLevel::Linear, ..TailFrom::default() });
    let (mut hash, mut values, mut entries) = (Xxh3::new(), Vec::new(), 0);
    while let Some(entry) = tail.next().await {
        let entry = entry.map_err(|e| find::error(e, false))?;
        entries += 1;
        hash.update(entry.bytes());
        let damaged = |why: String| {
            let what = format!("{} sent an entry that cannot stand there ({why})", printable(name));
            CliError::new(Exit::Corrupt, what, "")
        };
        if entry.header().base_offset != values.len() as u64 {
            return Err(damaged(format!("it begins at {}, not at {}", entry.header().base_offset, values.len())));
        }
        for stored in decode_batch(&entry.payload()).map_err(|e| damaged(e.to_string()))? {
            values.push(number(&stored.record, values.len() as u64));
        }
    }
    Ok(Sent { replica: Replica { name: name.to_owned(), values, digest: hash.digest128() }, entries })
}
