//! A cluster of agents of its own on this machine: their certificates, their processes, their addresses.
//!
//! It ends only processes that it started, and never leaves one behind.

use crate::api::{Member, Status};
use crate::cli::find::{self, Route};
use crate::cli::output::{CliError, Exit};
use crate::cli::process::{Launch, Process};
use crate::client::{Client, ConnectOptions};
use crate::descriptor::{self, Descriptor};
use crate::limits::printable;
use quorate_certs::{AgentName, Authority, CertsError, ClusterId, Identity, Role, Subject, Validity};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often a condition is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// How long one question may take.
const QUESTION: Duration = Duration::from_secs(2);
/// How many voters a cluster grows to by itself.
const VOTERS_MAX: usize = 5;
/// Bytes from the end of a log that are looked at for its last lines.
const LOG_BYTES: u64 = 16 << 10;

struct Agent {
    name: String,
    /// Chosen by the system at its first start, kept from then on.
    addr: Option<String>,
    process: Option<Process>,
    /// Ended on purpose.
    killed: bool,
    certs: PathBuf,
    data: PathBuf,
    log: PathBuf,
}

/// All agents, and an identity to ask them.
pub(crate) struct Cluster {
    runtime: PathBuf,
    agents: Vec<Agent>,
    client: PathBuf,
    identity: Arc<Identity>,
}

pub(crate) fn certs_failed(error: &CertsError) -> CliError {
    CliError::from_sentence(Exit::Error, &error.to_string())
}

impl Cluster {
    /// Makes directories and certificates below `home`; starts nothing.
    pub(crate) fn prepare(home: &Path, nodes: usize) -> Result<Self, CliError> {
        let (runtime, certs) = (home.join("run"), home.join("certs"));
        let cluster = ClusterId::random().map_err(|e| certs_failed(&e))?;
        let authority = Authority::create(cluster).map_err(|e| certs_failed(&e))?;
        authority.save(&certs).map_err(|e| certs_failed(&e))?;
        let name = |text: &str| AgentName::new(text).map_err(|e| certs_failed(&e.into()));
        let issue = |subject| authority.issue_to(&subject, Validity::default(), &certs).map_err(|e| certs_failed(&e));
        let mut agents = Vec::with_capacity(nodes);
        for i in 1..=nodes {
            let agent = format!("n{i}");
            let certs = issue(Subject::agent(cluster, name(&agent)?))?;
            let dir = home.join(&agent);
            std::fs::create_dir(&dir).map_err(|e| CliError::system("cannot make a directory", &e, ""))?;
            let (data, log) = (dir.join("data"), dir.join("log"));
            agents.push(Agent { name: agent, addr: None, process: None, killed: false, certs, data, log });
        }
        let client = issue(Subject::client(cluster, Role::Append, name("app")?))?;
        let identity = Arc::new(Identity::load(&client).map_err(|e| certs_failed(&e))?);
        descriptor::usable(&runtime, true).map_err(|e| CliError::from_sentence(Exit::Error, &e.to_string()))?;
        Ok(Self { runtime, agents, client, identity })
    }

    pub(crate) fn len(&self) -> usize {
        self.agents.len()
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.agents.iter().map(|agent| agent.name.clone()).collect()
    }

    fn at(&self, name: &str) -> Result<usize, CliError> {
        let at = self.agents.iter().position(|agent| agent.name == name);
        at.ok_or_else(|| CliError::new(Exit::Error, format!("{} is no agent of this cluster", printable(name)), ""))
    }

    /// The first agent founds; when its address is known, the others join it.
    pub(crate) async fn start_all(&mut self, patience: Duration) -> Result<(), CliError> {
        self.spawn(0)?;
        self.wait_for_address(0, patience).await?;
        for i in 1..self.len() {
            self.spawn(i)?;
        }
        for i in 1..self.len() {
            self.wait_for_address(i, patience).await?;
        }
        Ok(())
    }

    fn spawn(&mut self, i: usize) -> Result<(), CliError> {
        let others: Vec<_> =
            self.agents.iter().enumerate().filter(|(j, _)| *j != i).filter_map(|(_, a)| a.addr.clone()).collect();
        let agent = &mut self.agents[i];
        let launch = Launch {
            name: &agent.name,
            certs: &agent.certs,
            data: &agent.data,
            log: &agent.log,
            runtime: &self.runtime,
            bind: agent.addr.as_deref().unwrap_or("127.0.0.1:0"),
            advertise: None,
            join: &others,
            bootstrap: i == 0,
        };
        agent.process = Some(launch.spawn()?);
        agent.killed = false;
        Ok(())
    }

    /// Port 0 means that only the agent knows its address; its descriptor tells.
    async fn wait_for_address(&mut self, i: usize, patience: Duration) -> Result<(), CliError> {
        let give_up_at = Instant::now() + patience;
        loop {
            self.still_running(i)?;
            let pid = self.agents[i].process.as_ref().map(Process::pid);
            let found = descriptor::alive_in(&self.runtime).into_iter().find(|found| Some(found.pid) == pid);
            if let Some(found) = found {
                self.agents[i].addr = Some(found.addr);
                return Ok(());
            }
            if Instant::now() > give_up_at {
                let what =
                    format!("{} did not come up (no descriptor for {} s)", self.agents[i].name, patience.as_secs());
                return Err(CliError::new(Exit::Error, what, ""));
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    fn still_running(&mut self, i: usize) -> Result<(), CliError> {
        let agent = &mut self.agents[i];
        if agent.killed {
            return Ok(());
        }
        match agent.process.as_mut().and_then(Process::has_ended) {
            None => Ok(()),
            Some(status) => Err(CliError::new(Exit::Error, format!("{} ended by itself ({status})", agent.name), "")),
        }
    }

    /// Ends one agent with `kill -9`; answers with the moment after which it cannot have done anything.
    pub(crate) fn kill(&mut self, name: &str) -> Result<Instant, CliError> {
        let i = self.at(name)?;
        self.signal(i)?;
        Ok(Instant::now())
    }

    /// Ends all agents with `kill -9`, one signal right after the other.
    pub(crate) fn kill_all(&mut self) -> Result<(), CliError> {
        (0..self.len()).try_for_each(|i| self.signal(i))
    }

    fn signal(&mut self, i: usize) -> Result<(), CliError> {
        let agent = &mut self.agents[i];
        agent.killed = true;
        let failed = |e: std::io::Error| CliError::system(&format!("cannot kill {}", agent.name), &e, "");
        agent.process.as_mut().map_or(Ok(()), Process::kill).map_err(failed)
    }

    /// Waits until a killed agent is gone.
    async fn reap(&mut self, i: usize) -> Result<(), CliError> {
        let agent = &mut self.agents[i];
        let Some(process) = agent.process.take() else { return Ok(()) };
        match process.reap().await {
            Ok(Some(_)) => Ok(()),
            Ok(None) => Err(CliError::new(Exit::Error, format!("{} does not end (kill -9 was sent)", agent.name), "")),
            Err(e) => Err(CliError::system(&format!("cannot wait for {}", agent.name), &e, "")),
        }
    }

    /// Starts a killed agent again, with its address and its data.
    pub(crate) async fn restart(&mut self, name: &str) -> Result<(), CliError> {
        let i = self.at(name)?;
        self.reap(i).await?;
        self.spawn(i)
    }

    /// Starts all killed agents again.
    pub(crate) async fn restart_all(&mut self) -> Result<(), CliError> {
        for i in 0..self.len() {
            self.reap(i).await?;
        }
        (0..self.len()).try_for_each(|i| self.spawn(i))
    }

    /// Ends all agents and waits until they are gone.
    pub(crate) async fn end(&mut self) {
        let _ = self.kill_all();
        for i in 0..self.len() {
            let _ = self.reap(i).await;
        }
    }

    /// How any command would find the agents, as a client that may append.
    pub(crate) fn route(&self) -> Result<Route, CliError> {
        let identity = Identity::load(&self.client).map_err(|e| certs_failed(&e))?;
        let addrs = self.agents.iter().filter_map(|agent| agent.addr.clone()).collect();
        Ok(Route { addrs, certs: self.client.clone(), identity })
    }

    /// What the agents that run say of themselves.
    pub(crate) fn running(&self) -> Vec<Descriptor> {
        descriptor::alive_in(&self.runtime)
    }

    /// A client that begins at the agent number `first` (counted round) and may use all of them.
    pub(crate) fn client(&self, first: usize) -> Result<Client, CliError> {
        let mut addrs: Vec<_> = self.agents.iter().filter_map(|agent| agent.addr.clone()).collect();
        let by = first % addrs.len().max(1);
        addrs.rotate_left(by);
        self.connect(addrs, false, Duration::from_secs(10))
    }

    /// A client that speaks with this agent only.
    pub(crate) fn pinned(&self, name: &str) -> Result<Client, CliError> {
        let addrs = self.agents[self.at(name)?].addr.iter().cloned().collect();
        self.connect(addrs, true, Duration::from_secs(10))
    }

    fn connect(&self, addrs: Vec<String>, pinned: bool, timeout: Duration) -> Result<Client, CliError> {
        let options = ConnectOptions::new(addrs, self.identity.clone()).timeout(timeout);
        let options = if pinned { options.pinned() } else { options };
        Client::new(options).map_err(|e| CliError::from_sentence(Exit::Error, &e.to_string()))
    }

    /// Asks the living agents in turn until one answer satisfies.
    async fn until<T>(
        &mut self,
        patience: Duration,
        what: &str,
        mut test: impl FnMut(&[Member]) -> Option<T>,
    ) -> Result<T, CliError> {
        let give_up_at = Instant::now() + patience;
        let mut last = "nobody answered".to_owned();
        for i in 0.. {
            for j in 0..self.len() {
                self.still_running(j)?;
            }
            let addrs: Vec<_> = self.alive(i).into_iter().collect();
            if !addrs.is_empty() {
                let client = self.connect(addrs, true, QUESTION)?;
                match client.members().await {
                    Ok(members) => match test(&members) {
                        Some(found) => return Ok(found),
                        None => last = picture(&members),
                    },
                    Err(error) => last = error.to_string(),
                }
            }
            if Instant::now() > give_up_at {
                break;
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        Err(CliError::new(Exit::Error, format!("{what} did not come true in {} s ({last})", patience.as_secs()), ""))
    }

    /// The address of the `i`-th agent that was not killed, counted round.
    fn alive(&self, i: usize) -> Option<String> {
        let alive: Vec<_> = self.agents.iter().filter(|agent| !agent.killed).collect();
        alive.get(i % alive.len().max(1)).and_then(|agent| agent.addr.clone())
    }

    /// Waits until as many vote as the cluster grows to by itself.
    pub(crate) async fn wait_for_voters(&mut self, patience: Duration) -> Result<usize, CliError> {
        let most = self.len().min(VOTERS_MAX);
        let target = if most.is_multiple_of(2) { most - 1 } else { most };
        self.until(patience, &format!("{target} voters"), |members| {
            let voters = members.iter().filter(|m| m.raft == "voter" || m.raft == "leader").count();
            let all_alive = members.iter().all(|m| m.state == "alive");
            (voters == target && all_alive).then_some(voters)
        })
        .await
    }

    /// The name of the leader that an agent knows of.
    pub(crate) async fn leader(&mut self, patience: Duration) -> Result<String, CliError> {
        let killed: Vec<_> = self.agents.iter().filter(|a| a.killed).map(|agent| agent.name.clone()).collect();
        self.until(patience, "a leader", |members| {
            let leader = members.iter().find(|m| m.raft == "leader" && !killed.contains(&m.name));
            leader.map(|m| m.name.clone())
        })
        .await
    }

    /// Waits until an agent that was started again votes and has committed what the cluster had when this began.
    pub(crate) async fn wait_until_caught_up(&mut self, name: &str, patience: Duration) -> Result<(), CliError> {
        let give_up_at = Instant::now() + patience;
        let goal = self.client(self.at(name)? + 1)?.status().await.map_err(|e| find::error(e, false))?.committed_index;
        let votes = |s: &Status| s.raft == "voter" || s.raft == "leader";
        let i = self.at(name)?;
        loop {
            self.still_running(i)?;
            let client = self.connect(self.agents[i].addr.iter().cloned().collect(), true, QUESTION)?;
            let last = match client.status().await {
                Ok(status) if votes(&status) && status.leader.is_some() && status.committed_index >= goal => {
                    return Ok(());
                }
                Ok(status) => format!("it is {}, committed {} of {goal}", status.raft, status.committed_index),
                Err(error) => error.to_string(),
            };
            if Instant::now() > give_up_at {
                let what = format!("{name} did not become a voter again in {} s ({last})", patience.as_secs());
                return Err(CliError::new(Exit::Error, what, ""));
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// The last lines of every agent's log.
    pub(crate) fn log_tails(&self, lines: usize) -> Vec<String> {
        let mut all = Vec::new();
        for agent in &self.agents {
            all.push(format!("--- the end of {}", agent.log.display()));
            let text = tail_of(&agent.log).unwrap_or_else(|e| format!("(cannot be read: {e})"));
            let last: Vec<_> = text.lines().rev().take(lines).collect();
            all.extend(last.into_iter().rev().map(printable));
        }
        all
    }
}

/// Ctrl-C, or a polite request to end.
pub(crate) async fn interrupted() -> &'static str {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminate) = signal(SignalKind::terminate()) {
            return tokio::select! {
                _ = tokio::signal::ctrl_c() => "Ctrl-C",
                _ = terminate.recv() => "SIGTERM",
            };
        }
    }
    let _ = tokio::signal::ctrl_c().await;
    "Ctrl-C"
}

fn picture(members: &[Member]) -> String {
    let each = members.iter().map(|m| format!("{} {} {}", m.name, m.state, m.raft));
    each.collect::<Vec<_>>().join(", ")
}

pub(crate) fn tail_of(path: &Path) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    let len = file.metadata()?.len();
    file.seek(SeekFrom::Start(len.saturating_sub(LOG_BYTES)))?;
    let mut bytes = Vec::new();
    file.take(LOG_BYTES).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
