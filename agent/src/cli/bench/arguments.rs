//! What can be typed after `quorate bench`.
//!
//! It never looks at a cluster: what is refused here is refused before anything is touched.

use super::payload::{SIZE_MAX, SIZE_MIN};
use super::target::Via;
use crate::cli::span;
use crate::limits::BATCH_RECORDS_MAX;
use clap::Args;
use std::time::Duration;

/// Most records in flight in one process: what an agent takes of one stream, several times over.
const IN_FLIGHT_MAX: i64 = 65_536;
/// Most connections of one process; each has a socket of its own.
const CLIENTS_MAX: i64 = 1_024;

/// Its arguments.
#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// Records in flight, in each process; several, as in 1,64,256, are measured one after the other
    #[arg(
        long,
        env = "QUORATE_IN_FLIGHT",
        hide_env = true,
        value_name = "N",
        value_delimiter = ',',
        default_value = "64",
        value_parser = clap::value_parser!(u32).range(1..=IN_FLIGHT_MAX)
    )]
    pub(super) in_flight: Vec<u32>,
    /// Bytes of a record's value
    #[arg(
        long,
        env = "QUORATE_SIZE",
        hide_env = true,
        value_name = "BYTES",
        default_value_t = 256,
        value_parser = clap::value_parser!(u32).range(SIZE_MIN as i64..=SIZE_MAX as i64)
    )]
    pub(super) size: u32,
    /// Records in one append: one entry of the log, acknowledged as a whole
    #[arg(
        long,
        env = "QUORATE_BATCH",
        hide_env = true,
        value_name = "N",
        default_value_t = 1,
        value_parser = clap::value_parser!(u32).range(1..=BATCH_RECORDS_MAX as i64)
    )]
    pub(super) batch: u32,
    /// Connections of each process, among which what is in flight is shared out
    #[arg(
        long,
        env = "QUORATE_CLIENTS",
        hide_env = true,
        value_name = "N",
        default_value_t = 1,
        value_parser = clap::value_parser!(u32).range(1..=CLIENTS_MAX)
    )]
    pub(super) clients: u32,
    /// How long is measured
    #[arg(long, env = "QUORATE_DURATION", hide_env = true, value_name = "SPAN", default_value = "8s", value_parser = some_time)]
    pub(super) duration: Duration,
    /// How long before that the load runs without being measured
    #[arg(long, env = "QUORATE_WARM_UP", hide_env = true, value_name = "SPAN", default_value = "2s", value_parser = span)]
    pub(super) warm_up: Duration,
    /// How often everything is measured
    #[arg(
        long,
        env = "QUORATE_RUNS",
        hide_env = true,
        value_name = "N",
        default_value_t = 1,
        value_parser = clap::value_parser!(u32).range(1..=100)
    )]
    pub(super) runs: u32,
    /// Which agent the connections go to
    #[arg(long, env = "QUORATE_VIA", hide_env = true, value_enum, default_value = "leader")]
    pub(super) via: Via,
}

fn some_time(text: &str) -> Result<Duration, String> {
    match span(text) {
        Ok(Duration::ZERO) => Err("it takes some time to measure".into()),
        Ok(duration) => Ok(duration),
        Err(error) => Err(error.to_string()),
    }
}
