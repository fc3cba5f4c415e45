//! The clients of one process, ready to load a cluster.
//!
//! It never decides when to begin: all processes of a load begin together.

use super::load::{self, Appender, Measured, Window};
use super::pacer::Pacer;
use super::payload::Payload;
use super::target;
use crate::cli::find;
use crate::cli::output::{CliError, Exit};
use quorate_certs::Identity;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How appends follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Pace {
    /// So many records in flight in each process, the next with each acknowledgement.
    Closed { in_flight: u32 },
    /// So many records a second from all processes together, at most so many in flight in each.
    Rate { per_second: f64, in_flight: u32 },
}

/// What one process is to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Job {
    /// `HOST:PORT`, the most wanted first.
    pub(super) addrs: Vec<String>,
    /// The directory of the identity files.
    pub(super) certs: PathBuf,
    /// How long an append may take.
    pub(super) timeout: Duration,
    /// The number that marks the records of this process.
    pub(super) run: u64,
    /// Bytes of a value.
    pub(super) size: usize,
    /// Records of an append.
    pub(super) batch: u32,
    /// Connections.
    pub(super) clients: u32,
    pub(super) pace: Pace,
    /// Which process of how many: their schedules do not coincide.
    pub(super) process: (u32, u32),
    pub(super) warm_up: Duration,
    pub(super) duration: Duration,
    /// Remember what became of each append, up to so many; 0 for none.
    pub(super) keep: usize,
}

impl Job {
    pub(super) fn payload(&self) -> Payload {
        Payload::new(self.run, self.size)
    }

    /// Appends in flight: an append takes the room of its records.
    fn appends_in_flight(&self) -> u32 {
        let (Pace::Closed { in_flight } | Pace::Rate { in_flight, .. }) = self.pace;
        (in_flight / self.batch.max(1)).max(1)
    }
}

/// Connected clients.
pub(super) struct Crew {
    job: Job,
    sinks: Vec<Appender>,
    /// By client: does its agent pass on what it is given?
    forwarding: Vec<bool>,
}

impl Crew {
    /// Connects all clients.
    pub(super) async fn gather(job: Job, identity: &Arc<Identity>) -> Result<Self, CliError> {
        let payload = Arc::new(job.payload());
        let mut crew = Self { sinks: Vec::new(), forwarding: Vec::new(), job };
        for _ in 0..crew.job.clients.min(crew.job.appends_in_flight()) {
            let client = target::connect(crew.job.addrs.clone(), identity, crew.job.timeout)?;
            crew.forwarding.push(target::is_forwarding(&client).await?);
            crew.sinks.push(Appender { client, payload: payload.clone(), batch: crew.job.batch.into() });
        }
        Ok(crew)
    }

    /// Loads the cluster until the window ends and every outcome is known.
    pub(super) async fn work(mut self, window: Window) -> Result<Measured, CliError> {
        let (job, appends) = (&self.job, self.job.appends_in_flight());
        let measured = match job.pace {
            Pace::Closed { .. } => load::closed(&self.sinks, appends, window, job.keep).await,
            Pace::Rate { per_second, .. } => {
                let (process, processes) = job.process;
                let each = per_second / f64::from(processes) / f64::from(job.batch);
                let phase = f64::from(process) / f64::from(processes);
                let from = window.from - job.warm_up;
                let pacer = Pacer::start(each, phase, from, window.to)
                    .map_err(|e| CliError::system("cannot start a thread", &e, "check the limits of this process"))?;
                load::scheduled(&self.sinks, appends, pacer, window, job.keep).await
            }
        };
        let mut measured = measured.map_err(|e| find::error(e, true))?;
        if measured.is_cut {
            let what = format!("more than {} appends cannot be verified at once (each is remembered)", job.keep);
            return Err(CliError::new(Exit::Error, what, "measure for a shorter time, or without --verify"));
        }
        for (sink, forwarding) in self.sinks.iter().zip(&mut self.forwarding) {
            *forwarding |= target::is_forwarding(&sink.client).await?;
            sink.client.close().await;
        }
        measured.forwarded = self.forwarding.iter().map(|&forwarding| u32::from(forwarding)).sum();
        Ok(measured)
    }
}
