//! Options: the tunables of the log, with units and defaults.
//!
//! They never change what is durable, only how much space and memory it takes.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::segment::{SEGMENT_BYTES_MAX, SEGMENT_HEADER_BYTES};

/// Tunables of one open log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Size at which a segment is full, in bytes; a larger batch gets a segment of its own. Between 8 KiB and 1 GiB.
    /// Small segments make retention and repair units small, large ones make few files. Default 64 MiB.
    pub segment_bytes: u64,
    /// How far zeros are written ahead of the frames at a time, in bytes. A larger step makes fewer syncs that also
    /// change the file's length, and longer pauses. Default 1 MiB.
    pub prepare_bytes: u64,
    /// One point of the index in memory per so many bytes of log: a search reads that much. Default 64 KiB.
    pub index_every_bytes: u64,
    /// How many bytes of the newest segments are read as a whole at every start, whatever their sidecars say. A small log
    /// is verified wholly; what is older is verified by reads and scrubs, so that a start does not depend on the length
    /// of the log. Default 256 MiB: a quarter of a second.
    pub verify_at_open_bytes: u64,
    /// Randomness for the uids of segments; must differ between two starts. No secret.
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            prepare_bytes: 1 << 20,
            index_every_bytes: 64 << 10,
            verify_at_open_bytes: 256 << 20,
            seed: 0,
        }
    }
}

impl Options {
    /// The nearest legal options.
    pub(super) fn clamped(mut self) -> Self {
        self.segment_bytes = self.segment_bytes.clamp(2 * SEGMENT_HEADER_BYTES as u64, SEGMENT_BYTES_MAX);
        self.prepare_bytes = self.prepare_bytes.clamp(SEGMENT_HEADER_BYTES as u64, self.segment_bytes);
        self
    }

    /// The uid of a segment: never zero, and different for each number, life and seed.
    pub(super) fn uid(&self, boot_epoch: u64, seq: u64) -> u64 {
        let mut input = [0; 16];
        input[..8].copy_from_slice(&boot_epoch.to_le_bytes());
        input[8..].copy_from_slice(&seq.to_le_bytes());
        xxh3_64_with_seed(&input, self.seed).max(1)
    }
}
