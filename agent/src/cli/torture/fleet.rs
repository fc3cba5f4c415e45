//! The agents that are tortured: their identities, directories and processes, each behind the proxy.
//!
//! It decides nothing: it does to an agent what it is told, and says what became of it.

use super::proxy::Proxy;
use crate::cli::cluster::certs_failed;
use crate::cli::output::{CliError, Exit};
use crate::cli::process::{Launch, Process};
use crate::client::{Client, ConnectOptions};
use crate::descriptor;
use quorate_certs::{AgentName, Authority, ClusterId, Identity, Role, Subject, Validity};
use rustix::process::Signal;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long an agent may take to stop after SIGTERM; then it is killed.
const STOP: Duration = Duration::from_secs(10);
/// Between two looks at a process.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// The exit code of an agent whose port another program has.
const BAD_CONFIG: i32 = 78;

/// One agent.
pub(super) struct Agent {
    pub(super) name: String,
    pub(super) certs: PathBuf,
    pub(super) data: PathBuf,
    pub(super) log: PathBuf,
    process: Option<Process>,
    /// SIGSTOP was sent and no SIGCONT yet.
    is_paused: bool,
    /// The blow that has it in its hands.
    pub(super) busy: Option<usize>,
    /// Ending by itself is what it was told.
    pub(super) may_end: bool,
    /// It was asked to leave, and may do so in a later life still.
    pub(super) may_leave: bool,
}

/// Where agents are, and which life of theirs it is: for those who only talk to them.
pub(super) struct Directory {
    /// By agent: the socket of the proxy.
    pub(super) public: Vec<SocketAddr>,
    real: Vec<Mutex<SocketAddr>>,
    lives: Vec<AtomicU64>,
    app: Arc<Identity>,
    ops: Arc<Identity>,
}

impl Directory {
    /// Where it really listens now.
    fn real(&self, agent: usize) -> SocketAddr {
        *self.real[agent].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How often it was started.
    pub(super) fn life(&self, agent: usize) -> u64 {
        self.lives[agent].load(Ordering::SeqCst)
    }

    /// A client of one agent that may append, through the proxy.
    pub(super) fn pinned(&self, agent: usize, timeout: Duration) -> Result<Client, CliError> {
        let options = ConnectOptions::new([self.public[agent].to_string()], self.app.clone());
        connect(options.timeout(timeout).pinned())
    }

    /// A client that may append and goes where it is served, through the proxy, beginning at this agent.
    pub(super) fn roaming(&self, first: usize, timeout: Duration) -> Result<Client, CliError> {
        let mut addrs: Vec<_> = self.public.iter().map(ToString::to_string).collect();
        let by = first % addrs.len().max(1);
        addrs.rotate_left(by);
        connect(ConnectOptions::new(addrs, self.app.clone()).timeout(timeout))
    }

    /// A client for an administrator, past the proxy: whatever happens to the network, this one sees an agent that lives.
    pub(super) fn operator(&self, agent: usize, timeout: Duration) -> Result<Client, CliError> {
        let options = ConnectOptions::new([self.real(agent).to_string()], self.ops.clone());
        connect(options.timeout(timeout).pinned())
    }
}

fn connect(options: ConnectOptions) -> Result<Client, CliError> {
    Client::new(options).map_err(|e| CliError::from_sentence(Exit::Error, &e.to_string()))
}

/// An agent that ended though nobody ended it.
#[derive(Clone, Debug)]
pub(super) struct Death {
    pub(super) agent: usize,
    pub(super) status: ExitStatus,
}

impl Death {
    /// It found its port taken while it was down: no fault of its own.
    pub(super) fn is_port_taken(&self, log: &str) -> bool {
        let last = log.lines().rev().take(5).collect::<Vec<_>>().join("\n");
        self.status.code() == Some(BAD_CONFIG) && last.contains("is in use")
    }

    pub(super) fn words(&self) -> String {
        match (self.status.code(), self.status.signal()) {
            (Some(code), _) => format!("exit code {code}"),
            (None, Some(signal)) => format!("signal {signal}"),
            (None, None) => "somehow".into(),
        }
    }
}

/// All of them.
pub(super) struct Fleet {
    pub(super) agents: Vec<Agent>,
    pub(super) directory: Arc<Directory>,
    runtime: PathBuf,
    proxy: Arc<Proxy>,
    spare: PathBuf,
}

impl Fleet {
    /// Makes directories and certificates below `home`; starts nothing.
    pub(super) fn prepare(home: &Path, nodes: usize, proxy: Arc<Proxy>) -> Result<Self, CliError> {
        let (runtime, certs, spare) = (home.join("run"), home.join("certs"), home.join("spare"));
        let make = |dir: &Path| {
            std::fs::create_dir(dir).map_err(|e| CliError::system(&format!("cannot make {}", dir.display()), &e, ""))
        };
        make(&spare)?;
        let cluster = ClusterId::random().map_err(|e| certs_failed(&e))?;
        let authority = Authority::create(cluster).map_err(|e| certs_failed(&e))?;
        authority.save(&certs).map_err(|e| certs_failed(&e))?;
        let named = |text: &str| AgentName::new(text).map_err(|e| certs_failed(&e.into()));
        let issue = |subject| authority.issue_to(&subject, Validity::default(), &certs).map_err(|e| certs_failed(&e));
        let (mut agents, mut real) = (Vec::with_capacity(nodes), Vec::with_capacity(nodes));
        for i in 0..nodes {
            let name = format!("n{}", i + 1);
            let certs = issue(Subject::agent(cluster, named(&name)?))?;
            let dir = home.join(&name);
            make(&dir)?;
            let (data, log) = (dir.join("data"), dir.join("log"));
            agents.push(Agent {
                name,
                certs,
                data,
                log,
                process: None,
                is_paused: false,
                busy: None,
                may_end: false,
                may_leave: false,
            });
            let port = free_port()?;
            proxy.set_real(i, port);
            real.push(Mutex::new(port));
        }
        let client = |role, name| -> Result<Arc<Identity>, CliError> {
            let dir = issue(Subject::client(cluster, role, named(name)?))?;
            Identity::load(&dir).map(Arc::new).map_err(|e| certs_failed(&e))
        };
        let (app, ops) = (client(Role::Append, "app")?, client(Role::Admin, "ops")?);
        descriptor::usable(&runtime, true).map_err(|e| CliError::from_sentence(Exit::Error, &e.to_string()))?;
        let public = (0..nodes).map(|i| proxy.public(i)).collect();
        let lives = (0..nodes).map(|_| AtomicU64::new(0)).collect();
        let directory = Arc::new(Directory { public, real, lives, app, ops });
        Ok(Self { agents, directory, runtime, proxy, spare })
    }

    pub(super) fn len(&self) -> usize {
        self.agents.len()
    }

    pub(super) fn name(&self, agent: usize) -> &str {
        &self.agents[agent].name
    }

    /// A place for a copy of a directory.
    pub(super) fn spare(&self, name: &str) -> PathBuf {
        self.spare.join(name)
    }

    /// Was it started, and not ended by us since?
    pub(super) fn runs(&self, agent: usize) -> bool {
        self.agents[agent].process.is_some()
    }

    /// Could it answer, if nothing is wrong with it?
    pub(super) fn is_awake(&self, agent: usize) -> bool {
        self.runs(agent) && !self.agents[agent].is_paused
    }

    /// Starts it on its directory. `found`: it may found the cluster; nobody may later, or a cut could make two of them.
    pub(super) fn start(&mut self, agent: usize, found: bool) -> Result<(), CliError> {
        let data = self.agents[agent].data.clone();
        let real = self.directory.real(agent);
        let process = self.launch(agent, &data, &real.to_string(), Some(self.directory.public[agent]), found)?;
        self.directory.lives[agent].fetch_add(1, Ordering::SeqCst);
        let it = &mut self.agents[agent];
        (it.process, it.is_paused, it.may_end) = (Some(process), false, false);
        Ok(())
    }

    /// A second process of this agent on another directory, at another address.
    pub(super) fn start_on(&self, agent: usize, data: &Path) -> Result<Process, CliError> {
        self.launch(agent, data, "127.0.0.1:0", None, false)
    }

    fn launch(
        &self,
        agent: usize,
        data: &Path,
        bind: &str,
        advertise: Option<SocketAddr>,
        bootstrap: bool,
    ) -> Result<Process, CliError> {
        let it = &self.agents[agent];
        let others = (0..self.len()).filter(|other| *other != agent);
        let join: Vec<_> = others.map(|other| self.directory.public[other].to_string()).collect();
        let advertise = advertise.map(|addr| addr.to_string());
        let launch = Launch {
            name: &it.name,
            certs: &it.certs,
            data,
            log: &it.log,
            runtime: &self.runtime,
            bind,
            advertise: advertise.as_deref(),
            join: &join,
            bootstrap,
        };
        launch.spawn()
    }

    /// While it was down another program was given its port: it moves, behind the same public address.
    pub(super) fn move_port(&mut self, agent: usize) -> Result<(), CliError> {
        let port = free_port()?;
        *self.directory.real[agent].lock().unwrap_or_else(PoisonError::into_inner) = port;
        self.proxy.set_real(agent, port);
        Ok(())
    }

    fn failed(&self, agent: usize, what: &str, e: &dyn std::fmt::Display) -> CliError {
        CliError::system(&format!("cannot {what} {}", self.name(agent)), e, "")
    }

    /// `kill -9`, without waiting for its end.
    pub(super) fn strike(&mut self, agent: usize) -> Result<(), CliError> {
        let struck = self.agents[agent].process.as_mut().map_or(Ok(()), Process::kill);
        struck.map_err(|e| self.failed(agent, "kill", &e))
    }

    /// `kill -9`, and waits until it is gone.
    pub(super) async fn kill(&mut self, agent: usize) -> Result<(), CliError> {
        self.strike(agent)?;
        let Some(process) = self.agents[agent].process.take() else { return Ok(()) };
        self.agents[agent].is_paused = false;
        let gone = process.reap().await.map_err(|e| self.failed(agent, "wait for", &e))?;
        gone.map(|_| ()).ok_or_else(|| self.failed(agent, "end", &"kill -9 was sent"))
    }

    /// SIGTERM, and waits until it is gone. False if it had to be killed.
    pub(super) async fn stop(&mut self, agent: usize) -> Result<bool, CliError> {
        self.agents[agent].may_end = true;
        self.signal(agent, Signal::TERM)?;
        let give_up_at = Instant::now() + STOP;
        let mut has_ended = false;
        while !has_ended && Instant::now() < give_up_at {
            sleep(LOOK_AGAIN).await;
            has_ended = self.agents[agent].process.as_mut().is_none_or(|process| process.has_ended().is_some());
        }
        self.kill(agent).await?;
        Ok(has_ended)
    }

    pub(super) fn pause(&mut self, agent: usize) -> Result<(), CliError> {
        self.agents[agent].is_paused = true;
        self.signal(agent, Signal::STOP)
    }

    pub(super) fn resume(&mut self, agent: usize) -> Result<(), CliError> {
        self.agents[agent].is_paused = false;
        self.signal(agent, Signal::CONT)
    }

    fn signal(&mut self, agent: usize, signal: Signal) -> Result<(), CliError> {
        let sent = self.agents[agent].process.as_mut().map_or(Ok(()), |process| process.signal(signal));
        sent.map_err(|e| self.failed(agent, "signal", &e))
    }

    /// Those that ended by themselves since the last look.
    pub(super) async fn deaths(&mut self) -> Result<Vec<Death>, CliError> {
        let mut deaths = Vec::new();
        for agent in 0..self.len() {
            let ended = self.agents[agent].process.as_mut().and_then(Process::has_ended);
            let Some(status) = ended else { continue };
            self.kill(agent).await?;
            deaths.push(Death { agent, status });
        }
        Ok(deaths)
    }

    /// How often this stands in the logs of all agents.
    pub(super) fn count_in_logs(&self, what: &str) -> u64 {
        let logs = self.agents.iter().filter_map(|agent| std::fs::read(&agent.log).ok());
        logs.map(|log| String::from_utf8_lossy(&log).matches(what).count() as u64).sum()
    }
}

/// A port that was free a moment ago. Whoever takes it meanwhile is found out when the agent starts.
fn free_port() -> Result<SocketAddr, CliError> {
    let bound = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|socket| socket.local_addr());
    bound.map_err(|e| CliError::system("cannot have a UDP port", &e, "check the limits of this process"))
}

/// Copies a directory and all below it. What vanishes meanwhile is left out: the agent may be running.
pub(super) fn copy_dir(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    std::fs::set_permissions(to, std::fs::metadata(from)?.permissions())?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        let copied = if entry.file_type()?.is_dir() {
            copy_dir(&entry.path(), &target)
        } else {
            std::fs::copy(entry.path(), target).map(|_| ())
        };
        match copied {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            other => other?,
        }
    }
    Ok(())
}
