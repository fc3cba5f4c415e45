//! Agents of one cluster as processes in a directory, ended with the bench. It measures nothing.

use quorate::client::{Client, ConnectOptions, Member, Status};
use quorate::descriptor::Descriptor;
use quorate::record::Record;
use quorate_certs::{AgentName, Authority, ClusterId, Identity, Role, Subject, Validity};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::runtime::{Handle, Runtime};
use tokio::task::JoinSet;

/// Between two looks at a condition: in quiet stretches nobody looks, so it must cost next to nothing.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
const PATIENCE: Duration = Duration::from_secs(180);
/// The log is filled with records of this size, so many at a time.
const RECORD_BYTES: usize = 64 << 10;
const UNDER_WAY: usize = 64;

struct Agent {
    /// `None` while it is stopped.
    child: Option<Child>,
    addr: String,
    /// Asks this agent and no other.
    client: Option<Client>,
}

pub(crate) struct Fleet {
    agents: BTreeMap<String, Agent>,
    authority: Authority,
    id: ClusterId,
    admin: Arc<Identity>,
    runtime: Runtime,
    dir: TempDir,
}

impl Fleet {
    /// Three voters, `n1` the leader.
    pub(crate) fn new() -> Self {
        let dir = match std::env::var("QUORATE_HEAL_DIR") {
            Ok(dir) => tempfile::tempdir_in(dir).unwrap(),
            Err(_) => tempfile::tempdir().unwrap(),
        };
        let id = ClusterId::random().unwrap();
        let authority = Authority::create(id).unwrap();
        let admin = Subject::client(id, Role::Admin, AgentName::new("bench").unwrap());
        let admin = Identity::from_issued(&authority.issue(&admin, Validity::default()).unwrap()).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let mut fleet = Self { agents: BTreeMap::new(), authority, id, admin: Arc::new(admin), runtime, dir };
        for name in ["n1", "n2", "n3"] {
            fleet.start(name, false);
        }
        let votes = |member: &Member| member.raft == "voter" || member.raft == "leader";
        let three = |fleet: &Self| (fleet.members("n1").iter().filter(|m| votes(m)).count() == 3).then_some(());
        fleet.until("three voters", three);
        fleet
    }

    pub(crate) fn handle(&self) -> &Handle {
        self.runtime.handle()
    }

    /// Starts an agent, with its address and data if it has any, and returns when it listens.
    pub(crate) fn start(&mut self, name: &str, scrubs: bool) {
        let config = self.dir.path().join(format!("{name}.toml"));
        let wanted = std::env::var("QUORATE_HEAL_SCRUB_MIB_PER_SECOND").ok();
        let scrub = if scrubs { wanted } else { Some("0".into()) };
        let scrub = scrub.map_or(String::new(), |rate| format!("scrub_mib_per_second = {rate}\n"));
        fs::write(&config, format!("voters_target = 3\n{scrub}")).unwrap();
        let certs = self.dir.path().join("pki").join(name);
        if !certs.exists() {
            let subject = Subject::agent(self.id, AgentName::new(name).unwrap());
            self.authority.issue_to(&subject, Validity::default(), &self.dir.path().join("pki")).unwrap();
        }
        let log = self.dir.path().join(format!("{name}.log"));
        let log = fs::File::options().create(true).append(true).open(log).unwrap();
        let bind = self.agents.get(name).map_or_else(|| "127.0.0.1:0".into(), |agent| agent.addr.clone());
        let mut command = Command::new(env!("CARGO_BIN_EXE_quorate"));
        command.arg("agent").arg("--config").arg(config).args(["--bind", &bind]).arg("--certs").arg(certs);
        command.arg("--data").arg(self.data(name)).env("QUORATE_RUNTIME_DIR", self.run());
        match self.agents.iter().find(|(other, _)| *other != name) {
            Some((_, agent)) => command.args(["--join", &agent.addr]),
            None => command.arg("--bootstrap"),
        };
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let pid = child.id();
        self.agents.insert(name.into(), Agent { child: Some(child), addr: bind, client: None });
        let addr = self.until("the agent listens", |fleet| Some(descriptor(&fleet.run(), pid)?.addr));
        let client = self.connect(&addr);
        let agent = self.agents.get_mut(name).unwrap();
        (agent.addr, agent.client) = (addr, Some(client));
    }

    /// SIGTERM, and a clean end.
    pub(crate) fn stop(&mut self, name: &str) {
        let agent = self.agents.get_mut(name).unwrap();
        let mut child = agent.child.take().unwrap();
        assert!(Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
        assert!(child.wait().unwrap().success());
    }

    /// For good: nothing of it is left.
    pub(crate) fn leave(&mut self, name: &str) {
        let client = self.agents[name].client.clone().unwrap();
        let _ = self.runtime.block_on(client.leave());
        let mut agent = self.agents.remove(name).unwrap();
        agent.child.take().unwrap().wait().unwrap();
        for path in fs::read_dir(self.dir.path()).unwrap().flatten().map(|entry| entry.path()) {
            if path.is_dir() && path.file_name().unwrap().to_string_lossy().starts_with(&format!("{name}.data")) {
                fs::remove_dir_all(path).unwrap();
            }
        }
    }

    /// Makes this agent the leader.
    pub(crate) fn lead(&self, name: &str) {
        let client = self.client(name);
        self.until("it leads", |fleet| {
            let leads = fleet.try_status(name).is_some_and(|status| status.raft == "leader");
            let asked = leads || fleet.runtime.block_on(client.transfer(Some(name))).is_ok();
            (leads && asked).then_some(())
        });
    }

    /// Appends so many megabytes.
    pub(crate) fn fill(&self, mib: usize) {
        let begun = Instant::now();
        let client = self.client("n1");
        self.runtime.block_on(async {
            let mut under_way = JoinSet::new();
            for n in 0..mib * ((1 << 20) / RECORD_BYTES) {
                if under_way.len() >= UNDER_WAY {
                    under_way.join_next().await.unwrap().unwrap();
                }
                let client = client.clone();
                under_way.spawn(async move {
                    let value = vec![(n % 251) as u8; RECORD_BYTES];
                    client.append_within(&[Record::of(value)], PATIENCE).await.unwrap();
                });
            }
            under_way.join_all().await;
        });
        println!("{mib} MiB of log written on three disks in {:.1?}", begun.elapsed());
    }

    /// Asks what is true until it is.
    pub(crate) fn until<T>(&self, what: &str, mut look: impl FnMut(&Self) -> Option<T>) -> T {
        let begun = Instant::now();
        loop {
            if let Some(found) = look(self) {
                return found;
            }
            assert!(begun.elapsed() < PATIENCE, "waited {PATIENCE:?} in vain until {what}");
            sleep(LOOK_AGAIN);
        }
    }

    pub(crate) fn client(&self, name: &str) -> Client {
        self.connect(&self.agents[name].addr)
    }

    fn connect(&self, addr: &str) -> Client {
        let _inside = self.runtime.enter();
        let options = ConnectOptions::new([addr.to_owned()], Arc::clone(&self.admin)).pinned();
        Client::new(options.timeout(Duration::from_secs(10))).unwrap()
    }

    pub(crate) fn status(&self, name: &str) -> Status {
        self.try_status(name).unwrap()
    }

    pub(crate) fn try_status(&self, name: &str) -> Option<Status> {
        self.runtime.block_on(self.agents[name].client.as_ref()?.status()).ok()
    }

    /// As this agent sees them.
    pub(crate) fn members(&self, name: &str) -> Vec<Member> {
        let client = self.agents[name].client.as_ref().unwrap();
        self.runtime.block_on(client.members()).unwrap_or_default()
    }

    /// The files of its log, the newest last.
    pub(crate) fn segments(&self, name: &str) -> Vec<PathBuf> {
        let files = fs::read_dir(self.data(name).join("log")).unwrap().flatten().map(|file| file.path());
        let mut segments: Vec<_> = files.filter(|path| path.extension().is_some_and(|end| end == "wal")).collect();
        segments.sort();
        segments
    }

    fn data(&self, name: &str) -> PathBuf {
        self.dir.path().join(format!("{name}.data"))
    }

    fn run(&self) -> PathBuf {
        self.dir.path().join("run")
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for child in self.agents.values_mut().filter_map(|agent| agent.child.as_mut()) {
            let _ = child.kill();
            let _ = child.wait();
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
