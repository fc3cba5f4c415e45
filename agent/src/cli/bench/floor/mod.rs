//! What the machine could do at best, measured beside the load: the disk's own sync and the network's own round trip.
//!
//! It never runs while the load does: it would be part of what it is compared with.

mod disk;
mod network;

use super::latency::Percentiles;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What is to be measured.
#[derive(Clone, Debug)]
pub(super) struct Ground {
    /// On which file system, if one is known.
    pub(super) dir: Option<PathBuf>,
    /// Bytes of an append.
    pub(super) bytes: usize,
    /// How many agents write at the same time.
    pub(super) writers: usize,
    /// Do the agents run on this machine, so that loopback is their network?
    pub(super) loopback: bool,
    /// Round trip between the agents as they measure it themselves, in microseconds, for where it is not.
    pub(super) told_us: Option<f64>,
    /// How long each figure is measured; zero for not at all.
    pub(super) span: Duration,
}

/// One measurement of everything.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Floor {
    /// Append and `fdatasync`, one writer.
    pub(super) sync_alone: Option<Percentiles>,
    /// The same with as many writers at once as agents.
    pub(super) sync_together: Option<Percentiles>,
    /// QUIC round trip on one stream with mutual TLS over loopback.
    pub(super) round_trip: Option<Percentiles>,
    /// Instead of that, what the agents say, in microseconds.
    pub(super) round_trip_told_us: Option<f64>,
    /// What could not be measured, and why.
    pub(super) missing: Vec<String>,
}

impl Floor {
    /// Measures for several times `span`; blocks.
    pub(super) fn measure(ground: &Ground) -> Self {
        let mut floor = Self { round_trip_told_us: ground.told_us, ..Self::default() };
        if ground.span.is_zero() {
            return floor;
        }
        if let Some(dir) = &ground.dir {
            floor.sync_alone = floor.sync(ground, dir, 1);
            floor.sync_together =
                if ground.writers > 1 { floor.sync(ground, dir, ground.writers) } else { floor.sync_alone };
        }
        if ground.loopback {
            match network::measure(ground.bytes, ground.span) {
                Ok(told) => floor.round_trip = Some(told.percentiles()),
                Err(why) => floor.missing.push(format!("QUIC round trip: {why}")),
            }
        }
        floor
    }

    fn sync(&mut self, ground: &Ground, dir: &Path, writers: usize) -> Option<Percentiles> {
        match disk::measure(dir, ground.bytes, writers, ground.span) {
            Ok(told) => Some(told.percentiles()),
            Err(e) => {
                self.missing.push(format!("fdatasync in {}: {e}", dir.display()));
                None
            }
        }
    }

    /// f, in microseconds: what a log that is written by that many agents has to wait for.
    pub(super) fn sync_us(&self) -> Option<f64> {
        self.sync_together.map(|told| told.p50_us)
    }

    /// r, in microseconds.
    pub(super) fn round_trip_us(&self) -> Option<f64> {
        self.round_trip.map(|told| told.p50_us).or(self.round_trip_told_us)
    }
}
