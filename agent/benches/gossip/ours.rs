//! Agents of ours, asked for their members until they say what is awaited. It measures nothing but times.

use super::Fleet;
use quorate::client::{Client, ConnectOptions, Member};
use quorate::descriptor::Descriptor;
use quorate_certs::{AgentName, Authority, ClusterId, Identity, Role, Subject, Validity};
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

const PATIENCE: Duration = Duration::from_secs(120);
/// Between two questions to one agent, for each agent there is: fifty agents shall not be kept busy with answers.
const ASK_AGAIN: Duration = Duration::from_millis(2);

struct Agent {
    child: Child,
    addr: String,
    client: Client,
}

pub(crate) struct Quorate {
    agents: Vec<Agent>,
    profile: String,
    admin: Arc<Identity>,
    runtime: Runtime,
    full: Duration,
    dir: TempDir,
}

fn name(agent: usize) -> String {
    format!("n{agent}")
}

impl Quorate {
    pub(crate) fn start(n: usize, profile: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let id = ClusterId::random().unwrap();
        let authority = Authority::create(id).unwrap();
        let admin = Subject::client(id, Role::Admin, AgentName::new("bench").unwrap());
        let admin = Identity::from_issued(&authority.issue(&admin, Validity::default()).unwrap()).unwrap();
        for agent in 0..n {
            let subject = Subject::agent(id, AgentName::new(&name(agent)).unwrap());
            authority.issue_to(&subject, Validity::default(), &dir.path().join("pki")).unwrap();
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let admin = Arc::new(admin);
        let mut fleet = Self { agents: Vec::new(), profile: profile.into(), admin, runtime, full: Duration::ZERO, dir };
        let first = fleet.spawn(0, None);
        let first = fleet.listening(first);
        let begun = Instant::now();
        fleet.agents.push(first);
        let children: Vec<Child> = (1..n).map(|agent| fleet.spawn(agent, None)).collect();
        for child in children {
            let agent = fleet.listening(child);
            fleet.agents.push(agent);
        }
        let all: Vec<usize> = (0..n).collect();
        let seen = fleet.until(&all, move |members| members.iter().filter(|m| m.state == "alive").count() == n);
        fleet.full = seen.into_iter().max().unwrap().duration_since(begun);
        fleet
    }

    fn spawn(&self, agent: usize, addr: Option<&str>) -> Child {
        let (dir, name) = (self.dir.path(), name(agent));
        let log = fs::File::options().create(true).append(true).open(dir.join(format!("{name}.log"))).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_quorate"));
        command.arg("agent").args(["--bind", addr.unwrap_or("127.0.0.1:0")]);
        if self.profile != "lan" {
            command.args(["--profile", &self.profile]);
        }
        command.arg("--certs").arg(dir.join("pki").join(&name)).arg("--data").arg(dir.join(format!("{name}.data")));
        command.env("QUORATE_RUNTIME_DIR", dir.join("run"));
        match self.agents.get(usize::from(agent == 0)).or(self.agents.first()) {
            Some(other) => command.args(["--join", &other.addr]),
            None => command.arg("--bootstrap"),
        };
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap()
    }

    fn listening(&self, child: Child) -> Agent {
        let begun = Instant::now();
        let descriptor = loop {
            if let Some(found) = descriptor(&self.dir.path().join("run"), child.id()) {
                break found;
            }
            assert!(begun.elapsed() < PATIENCE, "an agent does not come up");
            sleep(Duration::from_millis(5));
        };
        let _inside = self.runtime.enter();
        let options = ConnectOptions::new([descriptor.addr.clone()], Arc::clone(&self.admin)).pinned();
        let client = Client::new(options.timeout(Duration::from_secs(10))).unwrap();
        Agent { child, addr: descriptor.addr, client }
    }

    /// Asks these agents until each has said it; when each did.
    fn until(&self, agents: &[usize], said: impl Fn(&[Member]) -> bool + Clone + Send + 'static) -> Vec<Instant> {
        let pause = ASK_AGAIN * u32::try_from(self.agents.len()).unwrap();
        self.runtime.block_on(async {
            let mut asking = JoinSet::new();
            for agent in agents {
                let (client, said) = (self.agents[*agent].client.clone(), said.clone());
                asking.spawn(async move {
                    let begun = Instant::now();
                    loop {
                        match client.members().await {
                            Ok(members) if said(&members) => return Instant::now(),
                            last => assert!(begun.elapsed() < PATIENCE, "it never says so: {last:?}"),
                        }
                        tokio::time::sleep(pause).await;
                    }
                });
            }
            asking.join_all().await
        })
    }

    fn others(&self, agent: usize) -> Vec<usize> {
        (0..self.agents.len()).filter(|other| *other != agent).collect()
    }
}

impl Fleet for Quorate {
    fn full(&self) -> Duration {
        self.full
    }

    fn pids(&self) -> Vec<u32> {
        self.agents.iter().map(|agent| agent.child.id()).collect()
    }

    fn kill(&mut self, agent: usize) -> (Duration, Duration) {
        let begun = Instant::now();
        self.agents[agent].child.kill().unwrap();
        self.agents[agent].child.wait().unwrap();
        let gone = name(agent);
        let seen = self.until(&self.others(agent), move |members| {
            members.iter().any(|member| member.name == gone && member.state == "failed")
        });
        let (first, last) = (seen.iter().min().unwrap(), seen.iter().max().unwrap());
        (first.duration_since(begun), last.duration_since(begun))
    }

    fn restart(&mut self, agent: usize) {
        let addr = self.agents[agent].addr.clone();
        let child = self.spawn(agent, Some(&addr));
        self.agents[agent] = self.listening(child);
        let back = name(agent);
        self.until(&self.others(agent), move |members| {
            members.iter().any(|member| member.name == back && member.state == "alive")
        });
    }
}

impl Drop for Quorate {
    fn drop(&mut self) {
        for agent in &mut self.agents {
            let _ = agent.child.kill();
            let _ = agent.child.wait();
        }
    }
}

fn descriptor(run: &Path, pid: u32) -> Option<Descriptor> {
    let files = fs::read_dir(run).ok()?.flatten();
    files.filter(|file| !file.file_name().to_string_lossy().starts_with('.')).find_map(|file| {
        let descriptor: Descriptor = serde_json::from_slice(&fs::read(file.path()).ok()?).ok()?;
        (descriptor.pid == pid).then_some(descriptor)
    })
}
