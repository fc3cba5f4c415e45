//! A checkpoint to bytes, piece by piece: never the whole of it in memory.

use super::format::{
    CHUNK_BYTES_MAX, CHUNK_FRAME_BYTES, FOOTER_BYTES, Footer, HEADER_BYTES, Header, ITEM_BYTES_MAX, Section, checksum,
};
use super::{Checkpoint, content};
use crate::codec;
use bytes::BufMut;
use xxhash_rust::xxh3::Xxh3;

/// Hands the bytes of the file to `sink`, in order, and says how many they are.
///
/// # Errors
/// Whatever `sink` says, at once.
///
/// # Panics
/// If the parts of the checkpoint contradict each other: it must not be written.
pub fn encode<E>(checkpoint: &Checkpoint, sink: impl FnMut(&[u8]) -> Result<(), E>) -> Result<u64, E> {
    if let Err(why) = checkpoint.examine() {
        panic!("a checkpoint that no reader accepts: {why}");
    }
    let header = Header {
        cluster: checkpoint.cluster,
        log_id: checkpoint.log_id,
        node: checkpoint.node,
        position: checkpoint.last.position(),
        chain: checkpoint.last.chain,
        next_offset: checkpoint.last.next_offset(),
        uid: 0,
    };
    let mut chunks = Chunks::begin(&header, sink)?;
    let (index, configuration) = &checkpoint.configuration;
    chunks.section(Section::Head, 1)?;
    chunks.item(&content::head(checkpoint, *index))?;
    chunks.section(Section::Configuration, 1)?;
    chunks.item(&codec::encode(configuration))?;
    chunks.section(Section::Runs, checkpoint.runs.len())?;
    for run in &checkpoint.runs {
        chunks.item(&[run.first.0.to_le_bytes(), run.term.0.to_le_bytes()].concat())?;
    }
    chunks.section(Section::Boots, checkpoint.boots.len())?;
    for (node, epoch, boot) in &checkpoint.boots {
        chunks.item(&[node.to_le_bytes(), epoch.to_le_bytes(), boot.to_le_bytes()].concat())?;
    }
    chunks.section(Section::Registry, checkpoint.registry.facts().count())?;
    for fact in checkpoint.registry.facts() {
        chunks.item(&codec::encode(&fact))?;
    }
    chunks.section(Section::Streams, checkpoint.log.streams())?;
    let mut item = Vec::new();
    for (stream, next) in checkpoint.log.numbers() {
        item.clear();
        item.put_u64_le(next);
        item.put_slice(stream.as_bytes());
        chunks.item(&item)?;
    }
    chunks.end()
}

/// Content, cut into chunks.
struct Chunks<F> {
    sink: F,
    uid: u64,
    /// Where the next chunk stands in the file.
    at: u64,
    /// Its length, and its content so far.
    chunk: Vec<u8>,
    hash: Xxh3,
    count: u64,
}

impl<F: FnMut(&[u8]) -> Result<(), E>, E> Chunks<F> {
    fn begin(header: &Header, mut sink: F) -> Result<Self, E> {
        let (bytes, uid) = header.encode();
        sink(&bytes)?;
        let mut chunk = Vec::with_capacity(CHUNK_BYTES_MAX + CHUNK_FRAME_BYTES);
        chunk.put_u32_le(0);
        Ok(Self { sink, uid, at: HEADER_BYTES as u64, chunk, hash: Xxh3::new(), count: 0 })
    }

    fn section(&mut self, section: Section, items: usize) -> Result<(), E> {
        let mut bytes = Vec::with_capacity(16);
        bytes.put_u16_le(section as u16);
        bytes.put_bytes(0, 6);
        bytes.put_u64_le(items as u64);
        self.put(&bytes)
    }

    fn item(&mut self, bytes: &[u8]) -> Result<(), E> {
        assert!(bytes.len() <= ITEM_BYTES_MAX, "an item of {} bytes exceeds the format", bytes.len());
        self.put(&(bytes.len() as u32).to_le_bytes())?;
        self.put(bytes)
    }

    fn put(&mut self, mut bytes: &[u8]) -> Result<(), E> {
        self.hash.update(bytes);
        while !bytes.is_empty() {
            let room = CHUNK_BYTES_MAX + 4 - self.chunk.len();
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.chunk.put_slice(now);
            bytes = later;
            if self.chunk.len() == CHUNK_BYTES_MAX + 4 {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), E> {
        let len = (self.chunk.len() - 4) as u32;
        if len == 0 {
            return Ok(());
        }
        self.chunk[..4].copy_from_slice(&len.to_le_bytes());
        let crc = checksum(self.uid, self.at, &self.chunk);
        self.chunk.put_u32_le(crc);
        (self.sink)(&self.chunk)?;
        self.at += self.chunk.len() as u64;
        self.count += 1;
        self.chunk.truncate(4);
        Ok(())
    }

    fn end(mut self) -> Result<u64, E> {
        self.flush()?;
        let len = self.at + FOOTER_BYTES as u64;
        let footer = Footer { len, hash: self.hash.digest128(), chunks: self.count };
        (self.sink)(&footer.encode(self.uid, self.at))?;
        Ok(len)
    }
}
