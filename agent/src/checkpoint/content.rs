//! Chunks that were checked one by one, read as one stream; and the layout of the first item in it.
//!
//! It never holds more than one chunk, and never hands out a byte whose checksum was not compared.

use super::Checkpoint;
use super::format::{CHUNK_BYTES_MAX, FILE_BYTES_MAX, FOOTER_BYTES, Footer, HEADER_BYTES, Header, Invalid, checksum};
use bytes::{Buf, BufMut};
use quorate_raft::LogIndex;
use quorate_raft::wal::{ENTRY_HEADER_BYTES, EntryHeader, decode_header, encode_header};
use std::io;
use xxhash_rust::xxh3::Xxh3;

/// Fills a buffer from a place of the file.
pub(super) type ReadAt<'a> = &'a mut dyn FnMut(u64, &mut [u8]) -> io::Result<()>;

/// The content of a file.
pub(super) struct Content<'a> {
    read: ReadAt<'a>,
    len: u64,
    pub(super) header: Header,
    /// Where the next chunk stands in the file.
    at: u64,
    chunk: Vec<u8>,
    used: usize,
    hash: Xxh3,
    chunks: u64,
    ended: bool,
}

impl<'a> Content<'a> {
    /// Reads the header of a file of this length.
    pub(super) fn open(len: u64, read: ReadAt<'a>) -> Result<Self, Invalid> {
        if len < (HEADER_BYTES + FOOTER_BYTES) as u64 {
            return Err(Invalid::Damaged { at: len, what: "the file is shorter than any checkpoint" });
        }
        if len > FILE_BYTES_MAX {
            return Err(Invalid::Damaged { at: FILE_BYTES_MAX, what: "the file is longer than any checkpoint" });
        }
        let mut block = [0; HEADER_BYTES];
        read(0, &mut block)?;
        let header = Header::decode(&block)?;
        let at = HEADER_BYTES as u64;
        Ok(Self { read, len, header, at, chunk: Vec::new(), used: 0, hash: Xxh3::new(), chunks: 0, ended: false })
    }

    /// Where the reading is, for errors: the chunk that is being read begins before.
    pub(super) fn damaged(&self, what: &'static str) -> Invalid {
        Invalid::Damaged { at: self.at, what }
    }

    /// Reads the next chunk; false at the footer, which then has passed.
    pub(super) fn next_chunk(&mut self) -> Result<bool, Invalid> {
        if self.ended {
            return Ok(false);
        }
        let left = self.len - self.at;
        if left < FOOTER_BYTES as u64 {
            return Err(self.damaged("the file ends before its footer"));
        }
        let mut prefix = [0; 4];
        (self.read)(self.at, &mut prefix)?;
        let n = u32::from_le_bytes(prefix) as usize;
        if n == 0 {
            return self.footer().map(|()| false);
        }
        if n > CHUNK_BYTES_MAX || (n + 8 + FOOTER_BYTES) as u64 > left {
            return Err(self.damaged("a chunk reaches beyond the file"));
        }
        self.chunk.resize(n + 8, 0);
        (self.read)(self.at, &mut self.chunk)?;
        let (body, crc) = self.chunk.split_at(n + 4);
        if checksum(self.header.uid, self.at, body) != { crc }.get_u32_le() {
            return Err(self.damaged("a chunk does not match its checksum"));
        }
        self.at += self.chunk.len() as u64;
        self.chunk.truncate(n + 4);
        self.used = 4;
        self.hash.update(&self.chunk[4..]);
        self.chunks += 1;
        Ok(true)
    }

    fn footer(&mut self) -> Result<(), Invalid> {
        let mut block = [0; FOOTER_BYTES];
        (self.read)(self.at, &mut block)?;
        let footer = Footer::decode(&block, self.header.uid, self.at)?;
        if footer.len != self.len || self.at + FOOTER_BYTES as u64 != self.len {
            return Err(self.damaged("the footer tells another length"));
        }
        if footer.hash != self.hash.digest128() || footer.chunks != self.chunks {
            return Err(self.damaged("the content is not that of the footer"));
        }
        self.ended = true;
        Ok(())
    }

    /// Is all of the content taken, and the footer right?
    pub(super) fn is_over(&mut self) -> Result<bool, Invalid> {
        while self.used == self.chunk.len() {
            if !self.next_chunk()? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Takes the next `n` bytes.
    pub(super) fn take(&mut self, n: usize, into: &mut Vec<u8>) -> Result<(), Invalid> {
        into.clear();
        while into.len() < n {
            if self.is_over()? {
                return Err(self.damaged("the content ends in the middle"));
            }
            let end = self.chunk.len().min(self.used + n - into.len());
            into.put_slice(&self.chunk[self.used..end]);
            self.used = end;
        }
        Ok(())
    }
}

const HEAD_BYTES: usize = ENTRY_HEADER_BYTES + 24;

/// The item of the head.
pub(super) fn head(checkpoint: &Checkpoint, configuration_index: LogIndex) -> Vec<u8> {
    let mut head = Vec::with_capacity(HEAD_BYTES);
    head.put_slice(&encode_header(&checkpoint.last));
    head.put_u64_le(checkpoint.lamport);
    head.put_u64_le(checkpoint.record_bytes_max as u64);
    head.put_u64_le(configuration_index.0);
    head
}

/// What the item of the head says.
pub(super) struct Head {
    pub(super) last: EntryHeader,
    pub(super) lamport: u64,
    pub(super) record_bytes_max: u64,
    pub(super) configuration_index: LogIndex,
}

impl Head {
    pub(super) fn decode(item: &[u8]) -> Option<Self> {
        let (header, mut rest) = item.split_at_checked(ENTRY_HEADER_BYTES)?;
        if rest.len() != HEAD_BYTES - ENTRY_HEADER_BYTES {
            return None;
        }
        let last = decode_header(header).ok()?;
        let (lamport, record_bytes_max) = (rest.get_u64_le(), rest.get_u64_le());
        Some(Self { last, lamport, record_bytes_max, configuration_index: LogIndex(rest.get_u64_le()) })
    }
}
