//! How long an agent takes from the start of its process to its first acknowledged append, with a long log on its disk.
//!
//! `QUORATE_STARTUP_GIB=10 cargo bench -p quorate --bench startup`; by default 1 GiB. The log is written by appends to a real
//! agent, in the directory `QUORATE_STARTUP_DIR` or a temporary one, and removed at the end. A start is measured after a
//! clean stop, after `kill -9`, without checkpoints, and (if the system permits to drop its caches) cold.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use quorate::client::{Client, ConnectOptions};
use quorate::descriptor::Descriptor;
use quorate::record::Record;
use quorate_certs::{AgentName, Authority, ClusterId, Identity, Role, Subject, Validity};
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// Bytes of one record, and appends on their way.
const RECORD_BYTES: usize = 1 << 20;
const UNDER_WAY: usize = 24;
/// Between two looks at whether the agent serves.
const LOOK_AGAIN: Duration = Duration::from_millis(2);
/// Starts of each kind.
const ROUNDS: usize = 3;

struct Bench {
    dir: PathBuf,
    admin: Arc<Identity>,
    runtime: tokio::runtime::Runtime,
    bind: String,
}

struct Started {
    child: Child,
    addr: SocketAddr,
    listens: Duration,
    serves: Duration,
}

fn main() {
    let gib: f64 = std::env::var("QUORATE_STARTUP_GIB").ok().and_then(|text| text.parse().ok()).unwrap_or(1.0);
    let temporary = match std::env::var("QUORATE_STARTUP_DIR") {
        Ok(dir) => tempfile::tempdir_in(dir).unwrap(),
        Err(_) => tempfile::tempdir().unwrap(),
    };
    let mut bench = Bench::new(temporary.path());
    let mut agent = bench.start();
    bench.bind = agent.addr.to_string();
    let began = Instant::now();
    bench.fill(agent.addr, (gib * 1024.0) as usize);
    println!("{gib} GiB of log written in {:.1?}", began.elapsed());
    for round in 0..ROUNDS {
        stop(agent, "TERM");
        agent = bench.measured("after a clean stop", round);
    }
    for round in 0..ROUNDS {
        bench.fill(agent.addr, 20);
        stop(agent, "KILL");
        agent = bench.measured("after kill -9", round);
    }
    for round in 0..ROUNDS {
        stop(agent, "KILL");
        if fs::write("/proc/sys/vm/drop_caches", "3").is_err() {
            println!("cold: this system does not permit to drop its caches");
            agent = bench.start();
            break;
        }
        agent = bench.measured("after kill -9, cold", round);
    }
    stop(agent, "KILL");
    let _ = fs::remove_dir_all(bench.dir.join("data/checkpoints"));
    let agent = bench.measured("without any checkpoint", 0);
    stop(agent, "KILL");
}

impl Bench {
    fn new(dir: &Path) -> Self {
        let id = ClusterId::random().unwrap();
        let authority = Authority::create(id).unwrap();
        let name = AgentName::new("n1").unwrap();
        let admin = Subject::client(id, Role::Admin, AgentName::new("bench").unwrap());
        authority.issue_to(&Subject::agent(id, name), Validity::default(), &dir.join("pki")).unwrap();
        let admin = Identity::from_issued(&authority.issue(&admin, Validity::default()).unwrap()).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        Self { dir: dir.into(), admin: Arc::new(admin), runtime, bind: "127.0.0.1:0".into() }
    }

    fn client(&self, addr: SocketAddr) -> Client {
        let _inside = self.runtime.enter();
        Client::new(ConnectOptions::new([addr.to_string()], Arc::clone(&self.admin)).pinned()).unwrap()
    }

    /// Appends so many megabytes.
    fn fill(&self, addr: SocketAddr, mib: usize) {
        let client = self.client(addr);
        self.runtime.block_on(async {
            let mut under_way = JoinSet::new();
            for n in 0..mib {
                if under_way.len() >= UNDER_WAY {
                    under_way.join_next().await.unwrap().unwrap();
                }
                let client = client.clone();
                under_way.spawn(async move {
                    let value = vec![(n % 251) as u8; RECORD_BYTES];
                    client.append_within(&[Record::of(value)], Duration::from_secs(120)).await.unwrap();
                });
            }
            under_way.join_all().await;
            client.close().await;
        });
    }

    /// Starts the agent and waits until an append is acknowledged.
    fn start(&self) -> Started {
        let log = fs::File::options().create(true).append(true).open(self.dir.join("agent.log")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_quorate"));
        command.args(["agent", "--bootstrap", "--bind", &self.bind]).env("QUORATE_RUNTIME_DIR", self.dir.join("run"));
        command.arg("--certs").arg(self.dir.join("pki/n1")).arg("--data").arg(self.dir.join("data"));
        let begun = Instant::now();
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let addr = loop {
            match descriptor(&self.dir.join("run"), child.id()) {
                Some(descriptor) => break descriptor.addr.parse().unwrap(),
                None => sleep(LOOK_AGAIN),
            }
        };
        let listens = begun.elapsed();
        let client = self.client(addr);
        self.runtime.block_on(async {
            while client.append_within(&[Record::of("first")], Duration::from_secs(120)).await.is_err() {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
            client.close().await;
        });
        Started { child, addr, listens, serves: begun.elapsed() }
    }

    fn measured(&self, what: &str, round: usize) -> Started {
        let started = self.start();
        println!("{what}, {round}: listens after {:.1?}, first ack after {:.1?}", started.listens, started.serves);
        started
    }
}

fn stop(mut agent: Started, signal: &str) {
    let sent = Command::new("kill").args([&format!("-{signal}"), &agent.child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    agent.child.wait().unwrap();
}

fn descriptor(run: &Path, pid: u32) -> Option<Descriptor> {
    let files = fs::read_dir(run).ok()?.flatten();
    files.filter(|file| !file.file_name().to_string_lossy().starts_with('.')).find_map(|file| {
        let descriptor: Descriptor = serde_json::from_slice(&fs::read(file.path()).ok()?).ok()?;
        (descriptor.pid == pid).then_some(descriptor)
    })
}
