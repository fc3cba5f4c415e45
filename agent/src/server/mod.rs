//! The shell: sockets, threads, files and signals around one [`Node`]. It takes no decisions.
//!
//! [`Agent::start`] embeds an agent in a program; [`run`] is `quorate agent`.

mod aside;
mod backlog;
mod context;
mod data;
mod disk;
mod error;
mod event_loop;
pub(crate) mod facts;
mod fatal;
mod files;
mod keys;
#[cfg(feature = "cli")]
pub(crate) mod look;
mod mend;
mod network;
mod priority;
mod reads;
#[cfg(feature = "cli")]
pub(crate) mod recovery;
mod remembered;
mod rpc;
mod scrub;
mod signals;
mod tail;
#[cfg(feature = "cli")]
mod unused;

#[cfg(feature = "cli")]
pub(crate) use aside::FORMATION;
pub use error::Error;
#[cfg(feature = "cli")]
pub(crate) use unused::Unused;

use crate::config::{AgentHooks, AgentOptions, GossipProfile};
use crate::descriptor::{Descriptor, Published as PublishedDescriptor};
use crate::machine::settings::Settings;
use crate::node::{self, Boot, Formation, Node};
use crate::pledge::{Keys, Record};
use context::Context;
use data::Data;
use event_loop::{Clock, Ended, EventLoop, Face, Sources};
use network::SharedGate;
use quorate_certs::Identity;
use quorate_raft::BootId;
use quorate_raft::wal::Recovered;
use quorate_transport::{Code, Endpoint, Limits, LocalNode, Options as TransportOptions, Refused};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use time::macros::format_description;
use tokio::sync::{mpsc, oneshot, watch};

/// Requests that wait for the loop.
const REQUESTS_MAX: usize = 4096;
/// How long a stopping agent waits for its clients to hear their last answer.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// A running agent inside this process. Dropping it stops it.
#[derive(Debug)]
pub struct Agent {
    addr: SocketAddr,
    name: String,
    stop: watch::Sender<bool>,
    reload: mpsc::UnboundedSender<Arc<Identity>>,
    ended: Option<oneshot::Receiver<Result<(), Error>>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Agent {
    /// Starts an agent on a thread of its own and returns once it listens. It forms or joins its cluster afterwards.
    ///
    /// # Errors
    /// Whatever keeps it from listening: see [`Error`]. Nothing runs then.
    pub fn start(options: AgentOptions) -> Result<Self, Error> {
        let (stop, stopped) = watch::channel(false);
        let (reload, reloads) = mpsc::unbounded_channel();
        let (started, starting) = std::sync::mpsc::channel();
        let (ending, ended) = oneshot::channel();
        let name = options.name.clone();
        let body = move || {
            let runtime = quorate_transport::runtime();
            let runtime = match runtime {
                Ok(runtime) => runtime,
                Err(source) => return drop(started.send(Err(Error::System { what: "a runtime", source }))),
            };
            runtime.block_on(async {
                match Running::start(options, stopped, reloads) {
                    Ok(running) => {
                        let _ = started.send(Ok(running.addr));
                        let _ = ending.send(running.run().await);
                    }
                    Err(error) => drop(started.send(Err(error))),
                }
            });
        };
        let thread = thread::Builder::new().name("agent".into()).spawn(body);
        let thread = thread.map_err(|source| Error::System { what: "a thread", source })?;
        match starting.recv() {
            Ok(Ok(addr)) => Ok(Self { addr, name, stop, reload, ended: Some(ended), thread: Some(thread) }),
            Ok(Err(error)) => {
                let _ = thread.join();
                Err(error)
            }
            Err(_) => Err(Error::Stopped("it ended before it listened".into())),
        }
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Tells it to stop: it hands leadership over, finishes what was begun, and closes its connections. That takes an
    /// election timeout at most.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Takes this identity for new connections.
    pub fn set_identity(&self, identity: Arc<Identity>) {
        let _ = self.reload.send(identity);
    }

    /// Waits until it has ended, by itself or by [`stop`](Self::stop). Cancel-safe; answers once.
    ///
    /// # Errors
    /// Why it had to stop.
    pub async fn ended(&mut self) -> Result<(), Error> {
        let Some(ended) = &mut self.ended else { return Ok(()) };
        let result = ended.await.unwrap_or_else(|_| Err(Error::Stopped("its thread died".into())));
        self.ended = None;
        result
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Runs an agent until a signal, `quorate leave`, or an error ends it: `quorate agent`.
///
/// # Errors
/// Why it did not start, or had to stop; [`Error::exit_code`] is the exit code that goes with it.
pub fn run(options: AgentOptions, hooks: AgentHooks) -> Result<(), Error> {
    let certs = options.certs.clone();
    let mut agent = Agent::start(options)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|source| Error::System { what: "a runtime", source })?;
    runtime.block_on(signals::watch(&mut agent, &certs, &hooks))
}

/// An agent that listens.
struct Running {
    addr: SocketAddr,
    data: Data,
    event_loop: EventLoop,
    sources: Sources,
    endpoint: Endpoint,
    stopping: watch::Sender<bool>,
    reloads: mpsc::UnboundedReceiver<Arc<Identity>>,
    face: watch::Receiver<Face>,
    descriptor: Option<PublishedDescriptor>,
    threads: Vec<thread::JoinHandle<()>>,
    seen: facts::Seen,
}

impl Running {
    /// Opens the data directory, listens, and restores the node.
    fn start(
        options: AgentOptions,
        stop: watch::Receiver<bool>,
        reloads: mpsc::UnboundedReceiver<Arc<Identity>>,
    ) -> Result<Self, Error> {
        let identity = Arc::new(Identity::load(&options.certs)?);
        let data = Data::open(&options.data)?;
        let mut random = [0; 48];
        keys::entropy(&mut random)?;
        let opened = data.open_log(identity.cluster(), word(&random, 0))?;
        if opened.recovered.torn_bytes_cut > 0 {
            tracing::info!(
                "cut {} bytes that were never synced off the end of the log",
                opened.recovered.torn_bytes_cut
            );
        }
        let (store, checkpoints) = data.checkpoints(&opened);
        let control = data.control(&opened, &checkpoints)?;
        data.refuse_unrepairable(&opened, &checkpoints, &control)?;
        let record = data.record(opened.recovered.last.is_some())?;
        let boot_id = word(&random, 8).max(1);
        let (inputs, input_queue) = mpsc::unbounded_channel();
        let gate = Arc::new(SharedGate::new(inputs.clone()));
        let advertise = advertised(&options)?;
        let local = LocalNode {
            key: data.node_key()?,
            name: identity.subject().name().clone(),
            boot_epoch: opened.meta.boot_epoch,
            boot_id,
            log_id: opened.meta.log_id,
            advertise,
            version: env!("CARGO_PKG_VERSION").into(),
            features: features(&options, &record),
        };
        let transport = TransportOptions {
            bind: options.bind,
            identity: Arc::clone(&identity),
            secrets: data.secrets,
            local,
            gate: Arc::clone(&gate) as Arc<dyn quorate_transport::Gate>,
            limits: Limits::default(),
        };
        let (endpoint, events) = Endpoint::bind(transport)?;
        let seen = facts::Seen::default();
        seen.identity(&identity, &std::path::absolute(&options.certs).unwrap_or_else(|_| options.certs.clone()));
        let addr = endpoint.local_addr();
        let clock = Clock::start();
        let keys = Arc::new(keys::FoundingKeys(data.node_key()?));
        let node_options = node_options(&options, advertise.unwrap_or(addr), &random, boot_id, keys);
        // What was found since it was opened counts as found by the start: nobody tells of it again.
        let recovered = Recovered { damaged: opened.reader.damaged(), ..opened.recovered };
        let boot =
            Boot { meta: opened.meta, recovered, checkpoints, control, known: data.known(), tags: data.tags(), record };
        let node = Node::restore(node_options, boot, clock.now()).map_err(|e| Error::Options(e.to_string()))?;

        let (done_sender, done) = mpsc::unbounded_channel();
        let (requests, request_queue) = mpsc::channel(REQUESTS_MAX);
        let (published, published_receiver) = watch::channel(Arc::default());
        let (face_sender, face) = watch::channel(Face { log_id: opened.meta.log_id });
        let (stopping, stop_streams) = watch::channel(false);
        let reader = opened.reader.clone();
        let (disk, threads) =
            disk::Disk::start(opened.writer, opened.reader, options.scrub_bytes_per_second, store, done_sender)
                .map_err(|source| Error::System { what: "a thread", source })?;
        let context = Context {
            requests,
            published: published_receiver,
            disk: disk.clone(),
            endpoint: endpoint.clone(),
            backlog: backlog::Backlog::default(),
            stop: stop_streams,
        };
        let descriptor = publish_descriptor(&options, &identity, addr, advertise, endpoint.node(), opened.meta.log_id);
        tracing::info!(
            "agent {} (node {:016x}, cluster {}) listens on {addr}",
            options.name,
            endpoint.node(),
            identity.cluster()
        );
        let event_loop = EventLoop {
            node,
            clock,
            cluster: identity.cluster(),
            data: data.path().to_path_buf(),
            endpoint: endpoint.clone(),
            disk,
            reader,
            gate,
            published,
            face: face_sender,
            waiters: BTreeMap::new(),
            next_request: 0,
            exchanges: BTreeMap::new(),
            inputs,
            context,
            streams: tokio::task::JoinSet::new(),
            seen: seen.clone(),
            gathering: Arc::new(tokio::sync::Semaphore::new(event_loop::GATHERING_MAX)),
            ended: None,
        };
        let sources = Sources { events, done, requests: request_queue, inputs: input_queue, stop };
        Ok(Self { addr, data, event_loop, sources, endpoint, stopping, reloads, face, descriptor, threads, seen })
    }

    async fn run(self) -> Result<(), Error> {
        let Self { data, event_loop, sources, endpoint, stopping, reloads, face, descriptor, threads, seen, .. } = self;
        let companions = [
            tokio::spawn(reload_identity(endpoint.clone(), reloads, seen)),
            tokio::spawn(keep_descriptor(descriptor, face)),
        ];
        let (ended, mut streams) = event_loop.run(sources).await;
        stopping.send_replace(true);
        let last_words = async { while streams.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(LAST_WORDS, last_words).await;
        endpoint.close(&Refused::new(Code::GoingAway, "the agent stops")).await;
        for companion in companions {
            companion.abort();
            let _ = companion.await;
        }
        drop(streams);
        // The threads end when the loop's handles are gone; whatever was queued is durable then.
        for thread in threads {
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
        match ended {
            Ended::Stopped => Ok(()),
            Ended::Departed => set_aside(data),
            Ended::Broken(why) => Err(Error::Stopped(why)),
        }
    }
}

fn set_aside(data: Data) -> Result<(), Error> {
    let format = format_description!("[year][month][day]T[hour][minute][second]Z");
    let time = time::OffsetDateTime::now_utc().format(&format).unwrap_or_else(|_| "unknown".into());
    let place = data.set_aside(&time)?;
    tracing::info!("left the cluster; the data of this node is in {}", place.display());
    Ok(())
}

async fn reload_identity(endpoint: Endpoint, mut reloads: mpsc::UnboundedReceiver<Arc<Identity>>, seen: facts::Seen) {
    while let Some(identity) = reloads.recv().await {
        match endpoint.set_identity(&identity) {
            Ok(()) => {
                seen.renewed(&identity);
                tracing::info!("new connections use the certificate read again");
            }
            Err(error) => tracing::error!("keeping the certificate in use: {error}"),
        }
    }
}

/// Keeps the descriptor true while the agent lives; dropping it takes it away.
async fn keep_descriptor(descriptor: Option<PublishedDescriptor>, mut face: watch::Receiver<Face>) {
    let Some(mut published) = descriptor else { return };
    while face.changed().await.is_ok() {
        let log_id = face.borrow_and_update().log_id.map(hex::encode);
        let next = Descriptor { log_id, ..published.descriptor().clone() };
        if let Err(error) = published.replace(next) {
            tracing::warn!("cannot update the descriptor of this agent: {error}");
        }
    }
    std::future::pending::<()>().await;
}

fn publish_descriptor(
    options: &AgentOptions,
    identity: &Identity,
    addr: SocketAddr,
    advertise: Option<SocketAddr>,
    node: u64,
    log_id: Option<[u8; 16]>,
) -> Option<PublishedDescriptor> {
    let absolute = |path: &Path| -> PathBuf { std::path::absolute(path).unwrap_or_else(|_| path.into()) };
    let local = if addr.ip().is_unspecified() {
        SocketAddr::new(std::net::Ipv4Addr::LOCALHOST.into(), addr.port())
    } else {
        addr
    };
    let descriptor = Descriptor {
        v: 1,
        name: options.name.clone(),
        node: format!("{node:016x}"),
        cluster: identity.cluster().to_string(),
        log_id: log_id.map(hex::encode),
        addr: local.to_string(),
        advertise: advertise.map(|a| a.to_string()),
        data: absolute(&options.data),
        certs: absolute(&options.certs),
        pid: std::process::id(),
        dev: options.dev,
    };
    match PublishedDescriptor::new(descriptor) {
        Ok(published) => Some(published),
        Err(error) => {
            tracing::warn!("commands on this machine need --addr and --certs to find this agent: {error}");
            None
        }
    }
}

/// The address to advertise; `None` until a peer tells how it sees this agent.
fn advertised(options: &AgentOptions) -> Result<Option<SocketAddr>, Error> {
    use std::net::ToSocketAddrs;
    let Some(text) = &options.advertise else { return Ok(None) };
    let mut addresses = text.to_socket_addrs().map_err(|error| {
        Error::Options(format!("--advertise {text} does not resolve ({error}); give an address that others can reach"))
    })?;
    let none = || Error::Options(format!("--advertise {text} has no address; give one that others can reach"));
    addresses.next().map(Some).ok_or_else(none)
}

fn word(random: &[u8; 48], at: usize) -> u64 {
    random.get(at..).and_then(|r| r.first_chunk()).map_or(0, |b| u64::from_le_bytes(*b))
}

/// What the Hello of this agent says of it.
fn features(options: &AgentOptions, record: &Record) -> u64 {
    let expects = if options.expect > 0 || !record.is_empty() { node::level::EXPECTS } else { 0 };
    node::level::features(options.bootstrap, node::level::FEATURE_LEVEL) | expects
}

fn node_options(
    options: &AgentOptions,
    advertise: SocketAddr,
    random: &[u8; 48],
    boot: u64,
    keys: Arc<dyn Keys>,
) -> node::Options {
    let membership = match options.gossip_profile {
        GossipProfile::Local => quorate_membership::Options::local(),
        GossipProfile::Lan => quorate_membership::Options::lan(),
        GossipProfile::Wan => quorate_membership::Options::wan(),
    };
    let mut fresh_log_id = [0; 16];
    fresh_log_id.copy_from_slice(&random[32..]);
    node::Options {
        name: options.name.clone(),
        version: env!("CARGO_PKG_VERSION").into(),
        tags: options.tags.clone(),
        advertise,
        formation: Formation {
            bootstrap: options.bootstrap,
            seeds: options.join.clone(),
            look_for: node::LOOK_FOR_DEFAULT,
            expect: options.expect as usize,
        },
        keys,
        fresh_log_id,
        boot: BootId(boot),
        seed: word(random, 16),
        raft: quorate_raft::Options {
            heartbeat: options.heartbeat,
            election_timeout_min: options.election_timeout_min,
            election_timeout_max: options.election_timeout_max,
            ..quorate_raft::Options::default()
        },
        membership,
        record_bytes_max: options.record_bytes_max,
        voters_target: options.voters_target as usize,
        replicas_max: node::REPLICAS_MAX_DEFAULT,
        name_hold: node::NAME_HOLD_DEFAULT,
        growth_patience: node::GROWTH_PATIENCE_DEFAULT,
        autopilot: Settings::default(),
        feature_level: node::level::FEATURE_LEVEL,
        checkpoint_entries: node::CHECKPOINT_ENTRIES_DEFAULT,
        checkpoint_bytes: node::CHECKPOINT_BYTES_DEFAULT,
        disk_reserve_bytes: options.disk_reserve_bytes,
    }
}
