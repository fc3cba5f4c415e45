//! What can be typed after `quorate torture`.
//!
//! It never touches anything: what is refused here is refused before anything starts.

use super::plan::NAMES;
use crate::cli::switch;
use clap::Args;
use clap::builder::PossibleValuesParser;
use std::path::PathBuf;
use std::time::Duration;

/// A run that is longer would remember more than memory should be asked for; run several seeds instead.
const MINUTES_MAX: f64 = 240.0;
/// One that is shorter would not get to a blow.
const MINUTES_MIN: f64 = 0.1;

const AFTER_HELP: &str = "\
A cluster of real agents (processes of this program, mutual TLS) in a directory of its own, all links of which go \
through a UDP proxy. From the seed comes a schedule, printed before it begins: kill -9 (one, the leader, all, in a loop), \
SIGSTOP up to 30 s, restarts, partitions (halves, one alone, one mute or deaf, a bridge, flapping), delay, loss, \
duplication, reordering and low rates on all or some links, leadership transfers, agents that leave and join again, \
wiped and cloned directories, old copies of directories, damaged bytes in the files of stopped agents, and, where a small \
file system can be mounted (root on Linux), a full disk. Several at once, never a second copy of the log lost before \
the first is whole again.

Meanwhile clients append, read and tail through all agents and remember what they were told. In the end everything is \
healed, every replica is read, and the history is checked: nothing acknowledged is lost, doubled, elsewhere or out of \
order; nothing refused is there; no read was stale; no tail had a gap; all replicas are identical; no file is damaged.

The schedule of a seed is always the same; what the cluster makes of it is not, since real processes run as they will.

Examples:
  Five minutes, a schedule of its own:
    quorate torture --minutes 5
  A certain schedule on five agents, everything kept:
    quorate torture --seed 7 --minutes 10 --nodes 5 --dir /var/tmp --keep
  Without two of the blows:
    quorate torture --without wipe,leave

Exits 0 if every promise was kept, 1 if not; then logs, data and the history are kept.";

/// Its arguments.
#[derive(Clone, Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct TortureArgs {
    /// The schedule [default: a new one]
    #[arg(long, env = "QUORATE_SEED", hide_env = true, value_name = "N")]
    pub(super) seed: Option<u64>,
    /// How long, before everything is healed and checked
    #[arg(long, env = "QUORATE_MINUTES", hide_env = true, value_name = "M", default_value = "1", value_parser = minutes)]
    pub(super) minutes: f64,
    /// How many agents: 3 or 5
    #[arg(
        long,
        env = "QUORATE_NODES",
        hide_env = true,
        value_name = "N",
        default_value = "3",
        value_parser = PossibleValuesParser::new(["3", "5"])
    )]
    pub(super) nodes: String,
    /// Where the directory of the run is made [default: where the system keeps temporary files]
    #[arg(long, env = "QUORATE_DIR", hide_env = true, value_name = "DIR")]
    pub(super) dir: Option<PathBuf>,
    /// Keep certificates, data and logs also when all is well
    #[arg(long, env = "QUORATE_KEEP", hide_env = true, value_parser = switch())]
    pub(super) keep: bool,
    /// Blows that shall not happen, separated by commas
    #[arg(
        long,
        env = "QUORATE_WITHOUT",
        hide_env = true,
        value_name = "BLOW",
        value_delimiter = ',',
        value_parser = PossibleValuesParser::new(NAMES)
    )]
    pub(super) without: Vec<String>,
}

impl TortureArgs {
    pub(super) fn nodes(&self) -> usize {
        if self.nodes == "5" { 5 } else { 3 }
    }

    pub(super) fn span(&self) -> Duration {
        Duration::from_secs_f64(self.minutes * 60.0)
    }
}

fn minutes(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(minutes) if (MINUTES_MIN..=MINUTES_MAX).contains(&minutes) => Ok(minutes),
        Ok(_) => Err(format!("from {MINUTES_MIN} to {MINUTES_MAX}")),
        Err(_) => Err("a number of minutes, such as 5 or 0.5".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        torture: TortureArgs,
    }

    fn parse(line: &str) -> Result<TortureArgs, clap::Error> {
        Line::try_parse_from(std::iter::once("torture").chain(line.split_whitespace())).map(|line| line.torture)
    }

    #[test]
    fn what_can_be_meant_is_taken() {
        let plain = parse("").unwrap();
        assert_eq!((plain.seed, plain.nodes(), plain.span()), (None, 3, Duration::from_secs(60)));
        let args = parse("--seed 7 --minutes 0.3 --nodes 5 --without wipe,damage").unwrap();
        assert_eq!((args.seed, args.nodes(), args.span()), (Some(7), 5, Duration::from_secs(18)));
        assert_eq!(args.without, ["wipe", "damage"]);
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for line in ["--minutes 0", "--minutes 241", "--minutes x", "--nodes 4", "--seed -1", "--without hope"] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
