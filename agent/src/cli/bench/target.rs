//! The cluster that is measured: its agents, its leader, and clients that begin at the leader.
//!
//! It never decides for the client: one that cannot reach the leader goes through another agent, and that is told.

use crate::api::Member;
use crate::cli::find::{self, Route};
use crate::cli::output::{CliError, Exit};
use crate::client::{Client, ConnectOptions};
use crate::limits::printable;
use quorate_certs::Identity;
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

/// What is measured.
pub(super) struct Target {
    /// `HOST:PORT`, where a connection begins first.
    pub(super) addrs: Vec<String>,
    pub(super) certs: PathBuf,
    identity: Arc<Identity>,
    timeout: Duration,
    /// Cluster id, hex.
    pub(super) cluster: String,
    pub(super) leader: String,
    pub(super) version: String,
    pub(super) members: Vec<Member>,
}

impl Target {
    /// Looks at the cluster behind `route`. It must have a leader.
    pub(super) async fn look(route: Route, via: Via, timeout: Duration) -> Result<Self, CliError> {
        let Route { mut addrs, certs, identity } = route;
        let identity = Arc::new(identity);
        let client = connect(addrs.clone(), &identity, timeout)?;
        let failed = |e| find::error(e, false);
        // Answered through the leader, so there is one.
        client.barrier().await.map_err(failed)?;
        let status = client.status().await.map_err(failed)?;
        let members = client.members().await.map_err(failed)?;
        client.close().await;
        let Some(leader) = status.leader.clone() else {
            let what = format!("{} knows no leader (one was lost just now)", printable(&status.name));
            return Err(CliError::new(Exit::NoQuorum, what, "run it again"));
        };
        if via == Via::Leader
            && let Some(member) = members.iter().find(|member| member.name == leader)
        {
            addrs.retain(|addr| *addr != member.addr);
            addrs.insert(0, member.addr.clone());
        }
        let (cluster, version) = (status.cluster, status.version);
        Ok(Self { addrs, certs, identity, timeout, cluster, leader, version, members })
    }

    /// A client on a connection of its own.
    pub(super) fn client(&self) -> Result<Client, CliError> {
        connect(self.addrs.clone(), &self.identity, self.timeout)
    }

    /// How many agents hold the log and vote.
    pub(super) fn voters(&self) -> usize {
        self.members.iter().filter(|member| member.raft == "voter" || member.raft == "leader").count()
    }
}

fn connect(addrs: Vec<String>, identity: &Arc<Identity>, timeout: Duration) -> Result<Client, CliError> {
    Client::new(ConnectOptions::new(addrs, identity.clone()).timeout(timeout))
        .map_err(|e| CliError::from_sentence(Exit::Error, &e.to_string()))
}

/// Which agent a connection speaks with, and which one leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Spoken {
    agent: String,
    leader: Option<String>,
}

impl Spoken {
    pub(super) async fn with(client: &Client) -> Result<Self, CliError> {
        let status = client.status().await.map_err(|e| find::error(e, false))?;
        Ok(Self { agent: status.name, leader: status.leader })
    }

    /// Does the agent pass on what it is given?
    pub(super) fn is_forwarding(&self) -> bool {
        self.leader.as_ref() != Some(&self.agent)
    }
}
