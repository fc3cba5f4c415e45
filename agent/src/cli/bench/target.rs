//! The cluster that is measured: its agents, its leader, and clients that begin at the leader.
//!
//! It never decides for the client: one that cannot reach the leader goes through another agent, and that is told.

use crate::api::{Member, Status};
use crate::cli::find::{self, Route};
use crate::cli::output::{CliError, Exit};
use crate::client::{Client, ConnectOptions};
use crate::descriptor::Descriptor;
use crate::limits::printable;
use quorate_certs::Identity;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// To which agent the connections go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Via {
    // The leader, whose address the cluster tells.
    Leader,
    // The agent that was named or found; it forwards if it does not lead.
    Given,
}

/// An agent that runs on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Local {
    pub(super) name: String,
    pub(super) pid: u32,
    pub(super) data: PathBuf,
}

/// The cluster just before a run.
pub(super) struct Aim {
    /// `HOST:PORT`, where a connection begins first.
    pub(super) addrs: Vec<String>,
    /// The offset where the next record will stand, or later.
    pub(super) next: u64,
    pub(super) status: Status,
}

/// What is measured.
pub(super) struct Target {
    via: Via,
    /// `HOST:PORT`, where a connection begins first.
    addrs: Vec<String>,
    pub(super) certs: PathBuf,
    pub(super) identity: Arc<Identity>,
    pub(super) timeout: Duration,
    pub(super) leader: String,
    pub(super) version: String,
    /// How many agents vote.
    pub(super) voters: usize,
    /// Those of them that run here.
    pub(super) local: Vec<Local>,
    /// Do all that vote listen on loopback?
    pub(super) loopback: bool,
    /// Median round trip between the answering agent and the others that vote, as it measures it, in microseconds.
    pub(super) round_trip_us: Option<f64>,
}

impl Target {
    /// Looks at the cluster behind `route`, which must have a leader. `running`: the agents on this machine.
    pub(super) async fn look(
        route: Route,
        via: Via,
        timeout: Duration,
        running: &[Descriptor],
    ) -> Result<Self, CliError> {
        let Route { mut addrs, certs, identity } = route;
        let identity = Arc::new(identity);
        let client = connect(addrs.clone(), &identity, timeout)?;
        let failed = |e| find::error(e, false);
        // Answered through the leader, so there is one.
        client.barrier().await.map_err(failed)?;
        let status = client.status().await.map_err(failed)?;
        let members = client.members().await.map_err(failed)?;
        client.close().await;
        let Some(leader) = status.leader else {
            let what = format!("{} knows no leader (one was lost just now)", printable(&status.name));
            return Err(CliError::new(Exit::NoQuorum, what, "run it again"));
        };
        if via == Via::Leader {
            put_first(&mut addrs, &leader, &members);
        }
        let voting: Vec<_> = members.iter().filter(|m| m.raft == "voter" || m.raft == "leader").collect();
        let is_local = |member: &&&Member| {
            let node = format!("{:016x}", member.id);
            running.iter().find(|here| here.node == node && here.cluster == status.cluster)
        };
        let local = voting.iter().filter_map(|member| is_local(&member)).map(|here| Local {
            name: here.name.clone(),
            pid: here.pid,
            data: here.data.clone(),
        });
        Ok(Self {
            local: local.collect(),
            loopback: voting.iter().all(|member| is_loopback(&member.addr)),
            round_trip_us: median_round_trip_us(&voting),
            voters: voting.len(),
            via,
            addrs,
            certs,
            identity,
            timeout,
            leader,
            version: status.version,
        })
    }

    /// Looks again: who leads now, where the log ends, and what the agent that is spoken to says of itself.
    pub(super) async fn aim(&self) -> Result<Aim, CliError> {
        let client = self.client()?;
        let failed = |e| find::error(e, false);
        let next = client.barrier().await.map_err(failed)?;
        let status = client.status().await.map_err(failed)?;
        let members = client.members().await.map_err(failed)?;
        client.close().await;
        let mut addrs = self.addrs.clone();
        if let (Via::Leader, Some(leader)) = (self.via, &status.leader) {
            put_first(&mut addrs, leader, &members);
        }
        Ok(Aim { addrs, next, status })
    }

    /// A client on a connection of its own.
    pub(super) fn client(&self) -> Result<Client, CliError> {
        connect(self.addrs.clone(), &self.identity, self.timeout)
    }

    /// Do all agents that vote run on this machine?
    pub(super) fn is_local(&self) -> bool {
        self.local.len() == self.voters
    }
}

/// Connections begin at the address of the member with this name.
fn put_first(addrs: &mut Vec<String>, name: &str, members: &[Member]) {
    if let Some(member) = members.iter().find(|member| member.name == name) {
        addrs.retain(|addr| *addr != member.addr);
        addrs.insert(0, member.addr.clone());
    }
}

fn is_loopback(addr: &str) -> bool {
    addr.parse::<SocketAddr>().is_ok_and(|addr| addr.ip().to_canonical().is_loopback())
}

fn median_round_trip_us(voting: &[&Member]) -> Option<f64> {
    let mut told: Vec<_> = voting.iter().filter_map(|member| member.rtt_ms).filter(|ms| *ms > 0.0).collect();
    told.sort_by(f64::total_cmp);
    told.get(told.len() / 2).map(|ms| ms * 1e3)
}

/// A client that begins at the first of `addrs`.
pub(super) fn connect(addrs: Vec<String>, identity: &Arc<Identity>, timeout: Duration) -> Result<Client, CliError> {
    Client::new(ConnectOptions::new(addrs, identity.clone()).timeout(timeout))
        .map_err(|e| CliError::from_sentence(Exit::Error, &e.to_string()))
}

/// Does the agent that `client` speaks with pass on what it is given?
pub(super) async fn is_forwarding(client: &Client) -> Result<bool, CliError> {
    let status = client.status().await.map_err(|e| find::error(e, false))?;
    Ok(status.leader.as_ref() != Some(&status.name))
}
