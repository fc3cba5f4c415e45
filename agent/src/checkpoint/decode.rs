//! Bytes to a checkpoint. It trusts no length, no count and no order, and gives nothing unless the footer has passed.

use super::Checkpoint;
use super::content::{Content, Head};
use super::format::{ITEM_BYTES_MAX, Invalid, OPTIONAL_FROM, SECTION_BYTES, Section};
use crate::codec;
use crate::limits::{RECORD_BYTES_MAX_CEILING, STREAM_BYTES_MAX, STREAMS_MAX};
use crate::machine::{log::LogMachine, registry::Fact, registry::Registry};
use bytes::Buf;
use quorate_raft::{Configuration, LogIndex, Run, Term};
use std::io;

/// Reads a file of `len` bytes; `read` fills a buffer from a place in it.
///
/// # Errors
/// Where the first damage is, that a newer version wrote it, or IO.
pub fn decode(len: u64, mut read: impl FnMut(u64, &mut [u8]) -> io::Result<()>) -> Result<Checkpoint, Invalid> {
    let mut content = Content::open(len, &mut read)?;
    let mut parts = Parts::default();
    let mut item = Vec::new();
    let mut newest = 0;
    while !content.is_over()? {
        content.take(SECTION_BYTES, &mut item)?;
        let mut b = item.as_slice();
        let kind = b.get_u16_le();
        b.advance(6);
        let items = b.get_u64_le();
        if kind <= newest {
            return Err(content.damaged("a section stands twice, or in the wrong place"));
        }
        newest = kind;
        let section = Section::of(kind);
        if section.is_none() && kind < OPTIONAL_FROM {
            return Err(Invalid::Newer { what: format!("section {kind}") });
        }
        // However many are announced, each costs the file four bytes: the end of the content ends this.
        for _ in 0..items {
            content.take(4, &mut item)?;
            let n = item.as_slice().get_u32_le() as usize;
            if n > ITEM_BYTES_MAX {
                return Err(content.damaged("an item is longer than any"));
            }
            content.take(n, &mut item)?;
            if let Some(section) = section {
                parts.take(section, &item).ok_or_else(|| content.damaged("an item does not decode"))?;
            }
        }
    }
    let checkpoint = parts.whole(&content).ok_or_else(|| content.damaged("a section is missing"))?;
    checkpoint.examine().map_err(|what| content.damaged(what))?;
    let (header, last) = (&content.header, &checkpoint.last);
    let same = header.position == last.position() && header.chain == last.chain;
    if !same || header.next_offset != last.next_offset() {
        return Err(content.damaged("header and content are of different entries"));
    }
    Ok(checkpoint)
}

/// Compares every checksum of a file, without a look at what its content means. Gives the hash of the content.
///
/// # Errors
/// As [`decode`].
pub fn verify(len: u64, mut read: impl FnMut(u64, &mut [u8]) -> io::Result<()>) -> Result<(), Invalid> {
    let mut content = Content::open(len, &mut read)?;
    while content.next_chunk()? {}
    Ok(())
}

/// What was read so far.
#[derive(Default)]
struct Parts {
    head: Option<Head>,
    configuration: Option<Configuration>,
    runs: Vec<Run>,
    boots: Vec<(u64, u64, u64)>,
    registry: Registry,
    log: LogMachine,
}

impl Parts {
    /// Takes one item; `None` if it is not one.
    fn take(&mut self, section: Section, item: &[u8]) -> Option<()> {
        let mut b = item;
        match section {
            Section::Head => {
                let head = Head::decode(item).filter(|_| self.head.is_none())?;
                self.log = LogMachine::at(head.last.next_offset());
                self.head = Some(head);
            }
            Section::Configuration => {
                let configuration = codec::decode(item, "configuration").ok().filter(|_| self.configuration.is_none());
                self.configuration = Some(configuration?);
            }
            Section::Runs if item.len() == 16 => {
                self.runs.push(Run { first: LogIndex(b.get_u64_le()), term: Term(b.get_u64_le()) });
            }
            Section::Boots if item.len() == 24 => self.boots.push((b.get_u64_le(), b.get_u64_le(), b.get_u64_le())),
            Section::Registry => self.registry.learn(codec::decode::<Fact>(item, "fact").ok()?),
            Section::Streams if (8..=8 + STREAM_BYTES_MAX).contains(&item.len()) => {
                let next = b.get_u64_le();
                if self.log.streams() >= STREAMS_MAX {
                    return None;
                }
                self.log.set_next_in(std::str::from_utf8(b).ok()?, next);
            }
            Section::Runs | Section::Boots | Section::Streams => return None,
        }
        Some(())
    }

    fn whole(self, content: &Content<'_>) -> Option<Checkpoint> {
        let head = self.head?;
        let record_bytes_max = usize::try_from(head.record_bytes_max).ok()?;
        if record_bytes_max > RECORD_BYTES_MAX_CEILING {
            return None;
        }
        Some(Checkpoint {
            cluster: content.header.cluster,
            log_id: content.header.log_id,
            node: content.header.node,
            last: head.last,
            lamport: head.lamport,
            record_bytes_max,
            configuration: (head.configuration_index, self.configuration?),
            runs: self.runs,
            boots: self.boots,
            registry: self.registry,
            log: self.log,
        })
    }
}
