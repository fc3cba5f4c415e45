//! What can be typed after `quorate bench`.
//!
//! It never looks at a cluster: what is refused here is refused before anything is touched.

use super::crew::Pace;
use super::payload::{SIZE_MAX, SIZE_MIN, batch_bytes};
use super::target::Via;
use crate::cli::output::{CliError, Exit};
use crate::cli::{span, switch};
use crate::limits::{BATCH_BYTES_MAX, BATCH_RECORDS_MAX};
use clap::Args;
use std::path::PathBuf;
use std::time::Duration;

/// Most records in flight in one process: more than an agent takes of one stream, several times over.
const IN_FLIGHT_MAX: i64 = 65_536;
/// In flight in a closed loop unless told otherwise.
const IN_FLIGHT_DEFAULT: u32 = 64;
/// The same on a schedule: what an agent takes of one stream before it stops reading from it.
const IN_FLIGHT_RATE: u32 = 8_192;
/// Most connections of one process; each has a socket of its own, and an agent takes no more of one client.
const CLIENTS_MAX: i64 = 1_024;
/// Most processes.
const PROCESSES_MAX: i64 = 256;
/// Records a second that no machine reaches: more is a typing error.
const RATE_MAX: i64 = 100_000_000;

const AFTER_HELP: &str = "\
Without --nodes the cluster is the one that any command finds, and its log grows by what is appended (stream \
\"bench\"). With --nodes it is a cluster of its own: real agents with mutual TLS on loopback, in a directory \
that is removed afterwards.

The closed loop (--in-flight) keeps N records under way: throughput at full load. When the cluster stalls, so \
does the load, and the stall counts once for each record in flight; \"p99 corr\" adds the appends that a \
schedule of one per median latency would have sent meanwhile. On a schedule (--rate) a latency counts from when \
its record was due, whether or not it could be sent then, so a stall counts for everything that it delayed; \
\"p99 late\" is how late the load itself was.

The floor is measured before and after each run, never during it. f is the median append and fdatasync of as \
many bytes on a zero-filled file, with as many writers as agents; r is the median QUIC round trip with mutual \
TLS on loopback; \"x floor\" is p50 / (f + 2r), each the mean of before and after. CPU/100k is CPU seconds of \
all agents together for 100,000 records. Figures of two machines, or of two hours on a shared one, do not \
compare; ratios of one run do. What makes the figures doubtful is told as notes.

Examples:
  The whole picture of this machine:
    quorate bench --nodes 3 --in-flight 1,16,64,256,1024 --runs 3
  64 processes that wait for each append:
    quorate bench --nodes 3 --processes 64 --in-flight 1
  Latency at a load that is set:
    quorate bench --nodes 3 --rate 20000 --duration 30s
  A running cluster, and every record read back:
    quorate bench --addr HOST:PORT --certs DIR --verify

Exits 1 if --verify finds that the log is not what was acknowledged.";

/// Its arguments.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct BenchArgs {
    /// Records in flight in each process [default: 64]; several, as in 1,64,256, are measured one after the other. With
    /// --rate the most that may be in flight [default: 8192]
    #[arg(
        long,
        env = "QUORATE_IN_FLIGHT",
        hide_env = true,
        value_name = "N",
        value_delimiter = ',',
        value_parser = clap::value_parser!(u32).range(1..=IN_FLIGHT_MAX)
    )]
    in_flight: Vec<u32>,
    /// Records a second on a fixed schedule, instead of the closed loop; several are measured one after the other
    #[arg(
        long,
        env = "QUORATE_RATE",
        hide_env = true,
        value_name = "N",
        value_delimiter = ',',
        value_parser = clap::value_parser!(u32).range(1..=RATE_MAX)
    )]
    rate: Vec<u32>,
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
    /// Processes that load the cluster at the same time
    #[arg(
        long,
        env = "QUORATE_PROCESSES",
        hide_env = true,
        value_name = "N",
        default_value_t = 1,
        value_parser = clap::value_parser!(u32).range(1..=PROCESSES_MAX)
    )]
    pub(super) processes: u32,
    /// How long is measured
    #[arg(
        long,
        env = "QUORATE_DURATION",
        hide_env = true,
        value_name = "SPAN",
        default_value = "8s",
        value_parser = some_time
    )]
    pub(super) duration: Duration,
    /// How long the load runs before that without being measured
    #[arg(
        long,
        env = "QUORATE_WARM_UP",
        hide_env = true,
        value_name = "SPAN",
        default_value = "2s",
        value_parser = span
    )]
    pub(super) warm_up: Duration,
    /// How often everything is measured; the medians and the spread are told as well
    #[arg(
        long,
        env = "QUORATE_RUNS",
        hide_env = true,
        value_name = "N",
        default_value_t = 1,
        value_parser = clap::value_parser!(u32).range(1..=100)
    )]
    pub(super) runs: u32,
    /// Read every record back: each acknowledged one must stand at its offset, once, with its bytes
    #[arg(long, env = "QUORATE_VERIFY", hide_env = true, value_parser = switch())]
    pub(super) verify: bool,
    /// How long each figure of the floor is measured, before and after each run; 0s for not at all
    #[arg(
        long,
        env = "QUORATE_FLOOR",
        hide_env = true,
        value_name = "SPAN",
        default_value = "500ms",
        value_parser = span
    )]
    pub(super) floor: Duration,
    /// Start a cluster of so many agents and end it afterwards: 1 to 7
    #[arg(
        long,
        env = "QUORATE_NODES",
        hide_env = true,
        value_name = "N",
        value_parser = clap::value_parser!(u16).range(1..=7)
    )]
    pub(super) nodes: Option<u16>,
    /// The disk that is measured: with --nodes the agents' data lies below it, else the floor is taken there
    #[arg(long, env = "QUORATE_DIR", hide_env = true, value_name = "DIR")]
    pub(super) dir: Option<PathBuf>,
    /// Which agent the connections go to
    #[arg(long, env = "QUORATE_VIA", hide_env = true, value_enum, value_name = "AGENT", default_value = "leader")]
    pub(super) via: Via,
    /// One of several processes: told what to do over stdin
    #[arg(long, env = "QUORATE_WORKER", hide = true, value_parser = switch())]
    pub(super) worker: bool,
}

fn some_time(text: &str) -> Result<Duration, String> {
    match span(text) {
        Ok(Duration::ZERO) => Err("it takes some time to measure".into()),
        Ok(duration) => Ok(duration),
        Err(error) => Err(error.to_string()),
    }
}

impl BenchArgs {
    /// What is to be measured, one after the other.
    pub(super) fn paces(&self) -> Result<Vec<Pace>, CliError> {
        let usage = |what: &str, next: &str| Err(CliError::new(Exit::Usage, what, next));
        let bytes = batch_bytes(self.size, self.batch);
        if bytes > BATCH_BYTES_MAX as u64 {
            let what = format!("--batch {} of --size {} is too large ({bytes} bytes an append)", self.batch, self.size);
            return usage(&what, &format!("stay below {BATCH_BYTES_MAX}"));
        }
        match (&*self.in_flight, &*self.rate) {
            (levels, []) => {
                let levels = if levels.is_empty() { &[IN_FLIGHT_DEFAULT] } else { levels };
                if levels.iter().any(|in_flight| *in_flight < self.batch) {
                    return usage("--in-flight counts records (a batch of --batch does not fit)", "use a larger one");
                }
                Ok(levels.iter().map(|&in_flight| Pace::Closed { in_flight }).collect())
            }
            ([] | [_], rates) => {
                let in_flight = self.in_flight.first().copied().unwrap_or(IN_FLIGHT_RATE).max(self.batch);
                Ok(rates.iter().map(|&rate| Pace::Rate { per_second: f64::from(rate), in_flight }).collect())
            }
            _ => usage("--rate takes one --in-flight (the most that may be under way)", "name one, or none"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        bench: BenchArgs,
    }

    fn paces(line: &str) -> Result<Vec<Pace>, String> {
        let words = std::iter::once("bench").chain(line.split_whitespace());
        let line = Line::try_parse_from(words).map_err(|e| e.to_string())?;
        line.bench.paces().map_err(|e| {
            assert_eq!(e.exit, Exit::Usage);
            e.message
        })
    }

    #[test]
    fn levels_are_measured_one_after_the_other() {
        let closed = |in_flight| Pace::Closed { in_flight };
        assert_eq!(paces("").unwrap(), [closed(64)]);
        assert_eq!(paces("--in-flight 1,16").unwrap(), [closed(1), closed(16)]);
        let rate = |per_second, in_flight| Pace::Rate { per_second, in_flight };
        assert_eq!(paces("--rate 10,2000").unwrap(), [rate(10.0, 8_192), rate(2_000.0, 8_192)]);
        assert_eq!(paces("--rate 10 --in-flight 3").unwrap(), [rate(10.0, 3)]);
        assert_eq!(paces("--rate 10 --in-flight 3 --batch 5").unwrap(), [rate(10.0, 5)]);
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for line in [
            "--in-flight 0",
            "--in-flight 65537",
            "--rate 0",
            "--rate 10 --in-flight 1,2",
            "--in-flight 4 --batch 5",
            "--size 31",
            "--size 4194305",
            "--size 4194304 --batch 2 --in-flight 2",
            "--clients 0",
            "--processes 257",
            "--duration 0s",
            "--duration 8",
            "--nodes 0",
            "--nodes 8",
            "--runs 0",
        ] {
            assert!(paces(line).is_err(), "{line}");
        }
        for line in ["--size 32", "--size 4194304", "--in-flight 65536", "--warm-up 0s", "--floor 0s", "--nodes 7"] {
            assert!(paces(line).is_ok(), "{line}");
        }
    }
}
