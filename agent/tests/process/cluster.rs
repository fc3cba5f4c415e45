//! A cluster of agent processes in a temporary directory, with an authority of its own.
//!
//! It signals only what it started, waits for conditions and never for time, and shows the agents' logs when a test
//! fails.

use crate::said::Said;
use quorate::client::{Client, ClientError, ConnectOptions, Member, Status};
use quorate::descriptor::Descriptor;
use quorate_certs::{AgentName, Authority, ClusterId, Identity, Role, Subject, Validity};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// How long a condition may take to become true: far more than anything should, on a machine that does much else.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at a condition.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// How long one agent may take to answer a question of the harness.
const ANSWER: Duration = Duration::from_secs(3);
/// Lines of each agent's log that a failed test shows.
const LOG_LINES: usize = 80;

/// Asks what is true until it is: for what every test waits on.
#[track_caller]
pub(crate) fn wait_until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(started.elapsed() < PATIENCE, "waited {PATIENCE:?} in vain until {what}");
        thread::sleep(LOOK_AGAIN);
    }
}

struct Agent {
    child: Child,
    addr: SocketAddr,
    running: bool,
}

/// Agents under one authority.
pub(crate) struct Cluster {
    dir: TempDir,
    authority: Authority,
    id: ClusterId,
    admin: Arc<Identity>,
    runtime: Runtime,
    agents: BTreeMap<String, Agent>,
    /// One pinned client an address.
    clients: RefCell<BTreeMap<SocketAddr, Client>>,
}

impl Cluster {
    /// An authority and no agent yet.
    pub(crate) fn new() -> Self {
        Self::within(ClusterId::random().unwrap())
    }

    /// The same under a given cluster id: like every cluster, with an authority of its own.
    pub(crate) fn within(id: ClusterId) -> Self {
        Self::under(Authority::create(id).unwrap(), id)
    }

    /// The same under a given authority.
    pub(crate) fn under(authority: Authority, id: ClusterId) -> Self {
        let dir = tempfile::Builder::new().prefix("quorate-process-").tempdir().unwrap();
        let admin = authority.issue(&Subject::client(id, Role::Admin, name_of("harness")), Validity::default());
        let admin = Arc::new(Identity::from_issued(&admin.unwrap()).unwrap());
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        Self { dir, authority, id, admin, runtime, agents: BTreeMap::new(), clients: RefCell::default() }
    }

    /// `n` agents, `n1` the founder, with as many voters as that makes.
    #[track_caller]
    pub(crate) fn of(n: usize) -> Self {
        let mut cluster = Self::new();
        cluster.start("n1", &["--bootstrap"]);
        let seed = cluster.addr("n1").to_string();
        for i in 2..=n {
            cluster.start(&format!("n{i}"), &["--join", &seed]);
        }
        let voters = if n.is_multiple_of(2) { n - 1 } else { n }.min(5);
        cluster.wait_group(voters, n.min(7) - voters);
        for name in cluster.running() {
            let everybody = |all: &[Member]| all.len() == n && all.iter().all(|m| m.state == "alive");
            cluster.wait_member(&name, "everybody as alive", everybody);
        }
        cluster
    }

    pub(crate) fn id(&self) -> ClusterId {
        self.id
    }

    pub(crate) fn authority(&self) -> &Authority {
        &self.authority
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn data(&self, name: &str) -> PathBuf {
        self.path("data").join(name)
    }

    // ---- identities ----

    /// The directory of an agent's identity, issued at the first use.
    pub(crate) fn certs(&self, name: &str) -> PathBuf {
        self.issue(&Subject::agent(self.id, name_of(name)), Validity::default())
    }

    /// The directory of a client's identity, issued at the first use.
    pub(crate) fn client_certs(&self, name: &str, role: Role) -> PathBuf {
        self.issue(&Subject::client(self.id, role, name_of(name)), Validity::default())
    }

    pub(crate) fn issue(&self, subject: &Subject, validity: Validity) -> PathBuf {
        let pki = self.path("pki");
        let dir = pki.join(subject.name().as_str());
        if !dir.exists() {
            self.authority.issue_to(subject, validity, &pki).unwrap();
        }
        dir
    }

    // ---- processes ----

    /// The program in an environment of its own: no variable of the machine's, no directory shared with another test.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_quorate"));
        for (key, _) in std::env::vars_os().filter(|(key, _)| key.to_string_lossy().starts_with("QUORATE_")) {
            command.env_remove(key);
        }
        command.env("QUORATE_RUNTIME_DIR", self.path("run"));
        command.env("XDG_DATA_HOME", self.path("share")).env("TMPDIR", self.dir.path());
        command.args(args).stdin(Stdio::null());
        command
    }

    /// Runs a command to its end.
    #[track_caller]
    pub(crate) fn run(&self, args: &[&str]) -> Said {
        Said::by(&mut self.command(args))
    }

    /// Runs a command through the agent `name`, as an administrator.
    #[track_caller]
    pub(crate) fn ask(&self, name: &str, args: &[&str]) -> Said {
        self.ask_as(name, &self.client_certs("admin", Role::Admin), args)
    }

    /// Runs a command through the agent `name` with the identity in `certs`.
    #[track_caller]
    pub(crate) fn ask_as(&self, name: &str, certs: &Path, args: &[&str]) -> Said {
        Said::by(&mut self.ask_command(name, certs, args))
    }

    pub(crate) fn ask_command(&self, name: &str, certs: &Path, args: &[&str]) -> Command {
        let mut command = self.command(args);
        command.arg("--addr").arg(self.addr(name).to_string()).arg("--certs").arg(certs);
        command
    }

    /// `quorate agent` for `name`, with its identity, its data directory and these arguments.
    pub(crate) fn agent_command(&self, name: &str, bind: &str, args: &[&str]) -> Command {
        let mut command = self.command(&["agent", "--bind", bind]);
        command.arg("--certs").arg(self.certs(name)).arg("--data").arg(self.data(name)).args(args);
        command
    }

    /// Starts an agent at a port that the system chooses.
    #[track_caller]
    pub(crate) fn start(&mut self, name: &str, args: &[&str]) {
        let command = self.agent_command(name, "127.0.0.1:0", args);
        self.spawn(name, command).unwrap_or_else(|code| panic!("agent {name} ended with {code}"));
    }

    /// Starts an agent with the certificate of `name` on the data directory `data`; the harness calls it `alias`.
    #[track_caller]
    pub(crate) fn start_as(&mut self, alias: &str, name: &str, data: &Path, bind: &str, args: &[&str]) {
        wait_until("the port is free", || {
            let mut command = self.command(&["agent", "--bind", bind]);
            command.arg("--certs").arg(self.certs(name)).arg("--data").arg(data).args(args);
            match self.spawn(alias, command) {
                Ok(()) => Some(()),
                Err(78) if self.log(alias).contains("is in use") => None,
                Err(code) => panic!("agent {alias} ended with {code}"),
            }
        });
    }

    /// Starts an agent again at its former address, with its data.
    #[track_caller]
    pub(crate) fn restart(&mut self, name: &str, args: &[&str]) {
        let bind = self.addr(name).to_string();
        wait_until("the former port is free again", || {
            let command = self.agent_command(name, &bind, args);
            match self.spawn(name, command) {
                Ok(()) => Some(()),
                // While it was down, a client of another test may have been given its port.
                Err(78) if self.log(name).contains("is in use") => None,
                Err(code) => panic!("agent {name} ended with {code}"),
            }
        });
    }

    /// Starts `command` as the agent `name` and returns when it listens; an error is its exit code.
    #[track_caller]
    pub(crate) fn spawn(&mut self, name: &str, command: Command) -> Result<(), i32> {
        self.spawn_in(&self.path("run"), name, command)
    }

    /// The same for an agent whose runtime directory is `run`.
    #[track_caller]
    pub(crate) fn spawn_in(&mut self, run: &Path, name: &str, mut command: Command) -> Result<(), i32> {
        fs::create_dir_all(self.path("data")).unwrap();
        let log = File::options().create(true).append(true).open(self.log_path(name)).unwrap();
        let mut child = command.stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let started = wait_until("the agent listens", || match child.try_wait().unwrap() {
            Some(status) => Some(Err(status.code().unwrap_or(-1))),
            None => descriptor_of(run, child.id()).map(|descriptor| Ok(descriptor.addr.parse().unwrap())),
        });
        let (addr, running) = match started {
            Ok(addr) => (addr, true),
            Err(_) => (self.agents.get(name).map_or(SocketAddr::from(([127, 0, 0, 1], 9)), |a| a.addr), false),
        };
        self.agents.insert(name.to_owned(), Agent { child, addr, running });
        started.map(|_| ())
    }

    fn agent(&mut self, name: &str) -> &mut Agent {
        self.agents.get_mut(name).unwrap()
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self, name: &str) {
        let agent = self.agent(name);
        agent.child.kill().unwrap();
        agent.child.wait().unwrap();
        agent.running = false;
    }

    /// Sends a signal, by the name that `kill` knows.
    pub(crate) fn signal(&self, name: &str, signal: &str) {
        let pid = self.agents[name].child.id().to_string();
        let status = Command::new("kill").args([&format!("-{signal}"), &pid]).status().unwrap();
        assert!(status.success());
    }

    /// SIGSTOP, and no thread of it runs any more.
    #[track_caller]
    pub(crate) fn pause(&self, name: &str) {
        self.signal(name, "STOP");
        let tasks = format!("/proc/{}/task", self.pid(name));
        // A system without /proc stops without telling when.
        wait_until("every thread has stopped", || {
            let Ok(tasks) = fs::read_dir(&tasks) else { return Some(()) };
            let stopped = |stat: String| stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('T'));
            tasks.flatten().all(|task| fs::read_to_string(task.path().join("stat")).is_ok_and(stopped)).then_some(())
        });
    }

    /// Waits until the agent has ended by itself; its exit code.
    #[track_caller]
    pub(crate) fn ended(&mut self, name: &str) -> i32 {
        let agent = self.agents.get_mut(name).unwrap();
        let status = wait_until("the agent has ended", || agent.child.try_wait().unwrap());
        agent.running = false;
        status.code().unwrap_or(-1)
    }

    /// SIGTERM, and a clean end.
    #[track_caller]
    pub(crate) fn stop(&mut self, name: &str) {
        self.signal(name, "TERM");
        assert_eq!(self.ended(name), 0, "SIGTERM ends an agent cleanly");
    }

    pub(crate) fn addr(&self, name: &str) -> SocketAddr {
        self.agents[name].addr
    }

    pub(crate) fn pid(&self, name: &str) -> u32 {
        self.agents[name].child.id()
    }

    /// The agents that run.
    pub(crate) fn running(&self) -> Vec<String> {
        self.agents.iter().filter(|(_, agent)| agent.running).map(|(name, _)| name.clone()).collect()
    }

    fn log_path(&self, name: &str) -> PathBuf {
        self.path(&format!("{name}.log"))
    }

    /// Everything that the lives of this agent wrote to stderr.
    pub(crate) fn log(&self, name: &str) -> String {
        fs::read_to_string(self.log_path(name)).unwrap_or_default()
    }

    /// Waits for a line of the agent's log that holds all of `parts`.
    #[track_caller]
    pub(crate) fn wait_log(&self, name: &str, parts: &[&str]) -> String {
        wait_until(&format!("the log of {name} holds {parts:?}"), || {
            let log = self.log(name);
            log.lines().find(|line| parts.iter().all(|part| line.contains(part))).map(str::to_owned)
        })
    }

    // ---- questions ----

    /// Runs a future of the client library.
    pub(crate) fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(future)
    }

    /// Runs a future of the client library beside the test.
    pub(crate) fn spawn_task<F>(&self, future: F) -> tokio::task::JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.runtime.spawn(future)
    }

    /// A client that knows all that run, starts with this agent and may go on with the others.
    pub(crate) fn client(&self, name: &str) -> Client {
        let _inside = self.runtime.enter();
        let others = self.running().into_iter().filter(|other| other != name);
        let addrs = std::iter::once(name.to_owned()).chain(others).map(|name| self.addr(&name).to_string());
        Client::new(ConnectOptions::new(addrs, self.admin.clone())).unwrap()
    }

    /// A client of somebody else, told of this agent only.
    pub(crate) fn client_as(&self, name: &str, identity: Identity) -> Client {
        let _inside = self.runtime.enter();
        Client::new(ConnectOptions::new([self.addr(name).to_string()], identity)).unwrap()
    }

    /// A client that speaks with this agent only.
    pub(crate) fn pinned(&self, name: &str) -> Client {
        let addr = self.addr(name);
        self.clients.borrow_mut().entry(addr).or_insert_with(|| self.pinned_for(name, ANSWER)).clone()
    }

    /// The same with another patience.
    pub(crate) fn pinned_for(&self, name: &str, patience: Duration) -> Client {
        let _inside = self.runtime.enter();
        let options = ConnectOptions::new([self.addr(name).to_string()], self.admin.clone());
        Client::new(options.timeout(patience).pinned()).unwrap()
    }

    pub(crate) fn status(&self, name: &str) -> Result<Status, ClientError> {
        let client = self.pinned(name);
        self.block_on(client.status())
    }

    pub(crate) fn members(&self, name: &str) -> Result<Vec<Member>, ClientError> {
        let client = self.pinned(name);
        self.block_on(client.members())
    }

    /// Waits until the picture that this agent gives satisfies `test`.
    #[track_caller]
    pub(crate) fn wait_status(&self, name: &str, what: &str, test: impl Fn(&Status) -> bool) -> Status {
        let mut last = None;
        let started = Instant::now();
        while started.elapsed() < PATIENCE {
            let status = self.status(name);
            match status {
                Ok(status) if test(&status) => return status,
                other => last = Some(other),
            }
            thread::sleep(LOOK_AGAIN);
        }
        panic!("waited {PATIENCE:?} in vain until {name} says {what}; it says {last:#?}");
    }

    /// Waits until one member of this name is in this state and has this role, as `at` sees it.
    #[track_caller]
    pub(crate) fn wait_member(&self, at: &str, what: &str, test: impl Fn(&[Member]) -> bool) -> Vec<Member> {
        wait_until(&format!("{at} lists {what}"), || self.members(at).ok().filter(|members| test(members)))
    }

    /// Waits until every running agent tells of this many voters and learners, and of one leader that runs.
    #[track_caller]
    pub(crate) fn wait_group(&self, voters: usize, learners: usize) -> String {
        self.wait_group_of(&self.running(), voters, learners)
    }

    /// The same of these agents only.
    #[track_caller]
    pub(crate) fn wait_group_of(&self, running: &[String], voters: usize, learners: usize) -> String {
        let mut leaders = BTreeMap::new();
        for name in running {
            let what = format!("{voters} voters, {learners} learners and a leader");
            let status = self.wait_status(name, &what, |status| {
                let leads = status.leader.as_ref().is_some_and(|leader| running.contains(leader));
                leads && status.voters.len() == voters && status.learners.len() == learners
            });
            leaders.insert(status.term, status.leader.unwrap());
        }
        leaders.pop_last().unwrap().1
    }

    /// The leader, as a majority of the running agents that answer sees it.
    #[track_caller]
    pub(crate) fn leader(&self) -> String {
        let running = self.running();
        wait_until("the running agents agree on a leader", || {
            let mut said = running.iter().filter_map(|name| self.status(name).ok()).map(|s| (s.term, s.leader));
            let first = said.next()?;
            let leader = first.1.clone().filter(|leader| running.contains(leader))?;
            said.all(|other| other == first).then_some(leader)
        })
    }

    /// Somebody who runs and is not `name`.
    pub(crate) fn other_than(&self, name: &str) -> String {
        self.running().into_iter().find(|other| other != name).unwrap()
    }
}

/// The descriptor that the process `pid` has published.
fn descriptor_of(run: &Path, pid: u32) -> Option<Descriptor> {
    let files = fs::read_dir(run).ok()?.flatten();
    files.filter(|file| !file.file_name().to_string_lossy().starts_with('.')).find_map(|file| {
        let descriptor: Descriptor = serde_json::from_slice(&fs::read(file.path()).ok()?).ok()?;
        (descriptor.pid == pid).then_some(descriptor)
    })
}

pub(crate) fn name_of(name: &str) -> AgentName {
    AgentName::new(name).unwrap()
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for agent in self.agents.values_mut() {
            let _ = agent.child.kill();
            let _ = agent.child.wait();
        }
        if thread::panicking() {
            for name in self.agents.keys() {
                let log = self.log(name);
                let lines: Vec<_> = log.lines().collect();
                eprintln!("---- log of {name} ----");
                lines[lines.len().saturating_sub(LOG_LINES)..].iter().for_each(|line| eprintln!("{line}"));
            }
        }
    }
}
