//! The end of a run: everything is healed, must come together, is read from every replica, and is checked.
//!
//! It never trusts the agents' own accounts: what counts is what each of them sends, entry by entry, and what lies on its disk.

use super::fleet::{Directory, Fleet};
use super::nemesis::Nemesis;
use super::payload::number;
use super::watch::Watch;
use crate::cli::output::{CliError, Exit};
use crate::cli::replica;
use crate::history::Replica;
use crate::server::Unused;
use quorate_raft::wal;
use std::time::{Duration, Instant};

/// How long the agents may take to be whole again: a name is kept for half a minute, and a lost copy is large.
const TOGETHER: Duration = Duration::from_secs(120);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(100);
/// How long one replica may take to send its whole log.
const READ: Duration = Duration::from_secs(120);

/// Waits until every agent is a whole voter that holds everything; how long that took.
pub(super) async fn come_together(nemesis: &mut Nemesis<'_>, watch: &Watch) -> Result<Duration, CliError> {
    let began = Instant::now();
    let goal = watch.committed();
    loop {
        nemesis.tend().await?;
        let nodes = nemesis.fleet.len();
        let lacks: Vec<_> = (0..nodes)
            .filter_map(|agent| Some(format!("{}: {}", nemesis.fleet.name(agent), watch.lacks(agent, goal)?)))
            .collect();
        let voters = (0..nodes).filter_map(|agent| watch.of(agent)).all(|status| status.voters.len() == nodes);
        let whole = nemesis.is_unwounded();
        if lacks.is_empty() && voters && whole {
            return Ok(began.elapsed());
        }
        if began.elapsed() > TOGETHER {
            let why = if lacks.is_empty() { "the voters are not those that run".into() } else { lacks.join("; ") };
            let what = format!("the agents did not come together in {} s ({why})", TOGETHER.as_secs());
            return Err(CliError::new(Exit::Error, what, ""));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// The whole log of one agent, as it sends it, up to everything that was ever acknowledged.
pub(super) async fn read(directory: &Directory, agent: usize, name: &str) -> Result<Replica<u64>, CliError> {
    let client = directory.operator(agent, READ)?;
    let sent = replica::read(&client, name, number).await?;
    client.close().await;
    Ok(sent.replica)
}

/// What is damaged on the disks of agents that do not run; every checksum is looked at.
pub(super) fn damaged(fleet: &Fleet) -> Result<Vec<String>, CliError> {
    let mut all = Vec::new();
    for agent in &fleet.agents {
        let unused = match Unused::open(&agent.data) {
            Ok(Some(unused)) => unused,
            Ok(None) => {
                all.push(format!("{} has no log", agent.name));
                continue;
            }
            Err(error) => return Err(CliError::from_sentence(Exit::Error, &error.to_string())),
        };
        let found = wal::verify(unused.log(), &mut |_| None);
        let found = found.map_err(|e| CliError::system(&format!("cannot verify {}", agent.name), &e, ""))?;
        let places =
            found.damaged.iter().map(|d| format!("{}: {} at byte {}: {}", agent.name, d.file, d.offset, d.what));
        all.extend(places);
    }
    Ok(all)
}
