//! The client: append to the log and read it, through any agent of the cluster.
//!
//! It never imports the node or the server, and never repeats what may already have been applied.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use quorate::client::{Client, ConnectOptions};
//! use quorate::record::Record;
//! let identity = quorate_certs::Identity::load("certs/ci".as_ref())?;
//! let client = Client::connect(ConnectOptions::new(["10.0.0.1:7373"], identity)).await?;
//! let ack = client.append(&[Record::of("hello")]).await?;
//! let mut tail = client.tail(Default::default());
//! while let Some(item) = tail.next().await {
//!     println!("{}: {:?}", item?.offset, ack.first);
//! }
//! # Ok(()) }
//! ```

mod append;
mod contact;
mod error;
mod session;
mod tail;

pub use crate::api::{
    Appended, AutopilotDecision, AutopilotExplained, AutopilotMember, AutopilotState, Member, Operated, ReadLevel,
    Start, Status, TagsChange, TagsOf, TailFrom, Transferred, Verb,
};
pub use error::{ClientError, StartError};
pub use tail::{EntryTail, Item, Tail};

use crate::api::{Answer, Ask, AutopilotAnswer, AutopilotAsk, Code, Effect, Failure};
use crate::facts::Picture;
use crate::limits::RECORD_BYTES_MAX_DEFAULT;
use crate::wire::rpc::{Request, Response};
use error::may_pass;
use quorate_certs::Identity;
use quorate_transport::Limits;
use quorate_transport::rpc::RpcClient;
use session::{CallError, Session};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long a request may take unless said otherwise.
pub const TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);
/// A connection without a sign of life for this long is gone: what a tail waits at a silent agent.
const IDLE: Duration = Duration::from_secs(3);
/// Most addresses remembered.
const ADDRESSES_MAX: usize = 64;
/// The agent must answer before we stop listening, or a true answer would become an unknown outcome.
const ANSWER_MARGIN_MAX: Duration = Duration::from_millis(250);
/// How often the members are asked for: they may all be replaced, one after another, while one of them serves us.
const LEARN_EVERY: Duration = Duration::from_secs(5);
/// The first pause before a request is repeated; it doubles up to [`RETRY_PAUSE_MAX`].
const RETRY_PAUSE: Duration = Duration::from_millis(10);
/// The longest pause before a request is repeated.
const RETRY_PAUSE_MAX: Duration = Duration::from_millis(100);

/// With whom to speak, as whom, and how patiently.
#[derive(Clone, Debug)]
pub struct ConnectOptions {
    /// `HOST:PORT` of agents; names are resolved, and every address is tried.
    pub addrs: Vec<String>,
    /// Who asks.
    pub identity: Arc<Identity>,
    /// How long a request may take, connecting included. Default 10 s.
    pub timeout: Duration,
    /// Most bytes of a record's value, as far as is known: for a larger one the agent is asked for the cluster's limit
    /// first, and what exceeds that is refused before it is sent.
    pub record_bytes_max: usize,
    /// Speak with these addresses only, and learn no others: to ask one agent about itself.
    pub pinned: bool,
}

impl ConnectOptions {
    /// These addresses and this identity; everything else by default.
    pub fn new<A: Into<String>>(addrs: impl IntoIterator<Item = A>, identity: impl Into<Arc<Identity>>) -> Self {
        Self {
            addrs: addrs.into_iter().map(Into::into).collect(),
            identity: identity.into(),
            timeout: TIMEOUT_DEFAULT,
            record_bytes_max: RECORD_BYTES_MAX_DEFAULT,
            pinned: false,
        }
    }

    /// The same with another patience.
    #[must_use]
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// The same, but only with the agents named.
    #[must_use]
    pub fn pinned(self) -> Self {
        Self { pinned: true, ..self }
    }
}

/// A connection to the cluster, through whichever agent serves. Cheap to clone; clones share it.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

struct Shared {
    rpc: RpcClient,
    timeout: Duration,
    record_bytes_max: AtomicUsize,
    pinned: bool,
    /// What the user named.
    named: Vec<String>,
    /// `HOST:PORT`, the one that served last first.
    addrs: Mutex<Vec<String>>,
    /// Held while connecting, so that callers that come together share one connection.
    session: tokio::sync::Mutex<Option<Arc<Session>>>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("addrs", &*self.shared.addrs()).finish_non_exhaustive()
    }
}

impl Client {
    /// Connects to the first agent that answers.
    pub async fn connect(options: ConnectOptions) -> Result<Self, ClientError> {
        let deadline = Instant::now() + options.timeout;
        let client = Self::new(options).map_err(|e| ClientError::Unreachable { why: e.to_string() })?;
        client.shared.session(deadline).await?;
        Ok(client)
    }

    /// A client that connects with its first request. Must be called inside a tokio runtime.
    pub fn new(options: ConnectOptions) -> Result<Self, StartError> {
        if options.addrs.is_empty() {
            return Err(StartError::NoAddress);
        }
        let limits = Limits { rpc_idle: IDLE, ..Limits::default() };
        let rpc = RpcClient::new(&options.identity, env!("CARGO_PKG_VERSION"), 0, limits)
            .map_err(|e| StartError::Socket(e.to_string()))?;
        let shared = Shared {
            rpc,
            timeout: options.timeout,
            record_bytes_max: AtomicUsize::new(options.record_bytes_max),
            pinned: options.pinned,
            named: options.addrs.clone(),
            addrs: Mutex::new(options.addrs),
            session: tokio::sync::Mutex::new(None),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The members, as the answering agent sees them.
    pub async fn members(&self) -> Result<Vec<Member>, ClientError> {
        match self.ask(Ask::Members, true).await? {
            Answer::Members(members) => Ok(members),
            _ => Err(unexpected("members")),
        }
    }

    /// A picture of the answering agent and what it knows of the cluster.
    pub async fn status(&self) -> Result<Status, ClientError> {
        match self.ask(Ask::Status, true).await? {
            Answer::Status(status) => Ok(*status),
            _ => Err(unexpected("status")),
        }
    }

    /// What may explain why the cluster does not serve, as the answering agent knows it; with `others` it asks them too.
    pub async fn facts(&self, others: bool) -> Result<Picture, ClientError> {
        match self.ask(Ask::Facts { others }, true).await? {
            Answer::Facts(picture) => Ok(*picture),
            _ => Err(unexpected("facts")),
        }
    }

    /// Makes the answering agent leave the cluster for good. Use a pinned client: which agent answers matters here.
    pub async fn leave(&self) -> Result<(), ClientError> {
        let deadline = Instant::now() + self.shared.timeout;
        let frame = |id: u64, left: Duration| Request::Ask(Ask::Leave { timeout_ms: answer_within(left) }).encode(id);
        match self.request(frame, deadline, false).await? {
            Response::Answer(Answer::Removed) => Ok(()),
            _ => Err(unexpected("leave")),
        }
    }

    /// Hands leadership over to the agent of that name, or to the most caught-up healthy voter.
    pub async fn transfer(&self, to: Option<&str>) -> Result<Transferred, ClientError> {
        let deadline = Instant::now() + self.shared.timeout;
        let frame = |id: u64, left: Duration| {
            Request::Ask(Ask::Transfer { to: to.map(str::to_owned), timeout_ms: answer_within(left) }).encode(id)
        };
        match self.request(frame, deadline, false).await? {
            Response::Answer(Answer::Transferred(transferred)) => Ok(transferred),
            _ => Err(unexpected("transfer")),
        }
    }

    /// The settings of the autopilot, key and value of each, after these were set for the whole cluster.
    pub async fn autopilot_config(&self, set: Vec<(String, String)>) -> Result<Vec<(String, String)>, ClientError> {
        match self.autopilot(AutopilotAsk::Config { set }).await? {
            AutopilotAnswer::Config { settings } => Ok(settings),
            _ => Err(unexpected("autopilot config")),
        }
    }

    /// What the autopilot of the leader sees and wants.
    pub async fn autopilot_state(&self) -> Result<AutopilotState, ClientError> {
        match self.autopilot(AutopilotAsk::State).await? {
            AutopilotAnswer::State(state) => Ok(state),
            _ => Err(unexpected("autopilot state")),
        }
    }

    /// Why the agent of that name has the role that it has.
    pub async fn autopilot_explain(&self, name: &str) -> Result<AutopilotExplained, ClientError> {
        match self.autopilot(AutopilotAsk::Explain { name: name.to_owned() }).await? {
            AutopilotAnswer::Explained(explained) => Ok(explained),
            _ => Err(unexpected("autopilot explain")),
        }
    }

    async fn autopilot(&self, ask: AutopilotAsk) -> Result<AutopilotAnswer, ClientError> {
        let deadline = Instant::now() + self.shared.timeout;
        let frame = |id: u64, left: Duration| {
            Request::Ask(Ask::Autopilot { ask: ask.clone(), timeout_ms: answer_within(left) }).encode(id)
        };
        match self.request(frame, deadline, false).await? {
            Response::Answer(Answer::Autopilot(answer)) => Ok(*answer),
            _ => Err(unexpected("autopilot")),
        }
    }

    /// Drops the failed agent of that name for good: all nodes that were ever forgotten under it. Its certificate stays
    /// valid: it may join again as a new node.
    pub async fn forget(&self, name: &str) -> Result<Vec<u64>, ClientError> {
        let deadline = Instant::now() + self.shared.timeout;
        let frame = |id: u64, left: Duration| {
            Request::Ask(Ask::Forget { name: name.to_owned(), timeout_ms: answer_within(left) }).encode(id)
        };
        match self.request(frame, deadline, false).await? {
            Response::Answer(Answer::Forgotten { nodes, .. }) => Ok(nodes),
            _ => Err(unexpected("forget")),
        }
    }

    /// The tags of the agent of that name, or of the answering one, after this change. Changed tags are saved for the next
    /// start of that agent.
    pub async fn tags(&self, name: Option<&str>, change: &TagsChange) -> Result<TagsOf, ClientError> {
        let deadline = Instant::now() + self.shared.timeout;
        let frame = |id: u64, left: Duration| {
            let (name, change) = (name.map(str::to_owned), change.clone());
            Request::Ask(Ask::Tags { name, change, timeout_ms: answer_within(left) }).encode(id)
        };
        match self.request(frame, deadline, change.is_empty()).await? {
            Response::Answer(Answer::Tags(tags)) => Ok(tags),
            _ => Err(unexpected("tags")),
        }
    }

    /// Does something with the agent of that name, and answers when that is done. A connection that is lost costs nothing:
    /// what is asked again is done once. Only a removal is not asked again, for the name may be another disk's by then.
    pub async fn operate(&self, name: &str, verb: Verb) -> Result<Operated, ClientError> {
        let deadline = Instant::now() + self.shared.timeout;
        let again = !matches!(verb, Verb::Remove { .. });
        let frame = |id: u64, left: Duration| {
            let (name, verb) = (name.to_owned(), verb.clone());
            Request::Ask(Ask::Operate { name, verb, timeout_ms: answer_within(left) }).encode(id)
        };
        let mut unknown = None;
        loop {
            match self.request(frame, deadline, false).await {
                Ok(Response::Answer(Answer::Operated(done))) => {
                    // What a lost answer told of was done for this very call.
                    return Ok(Operated { changed: done.changed || unknown.is_some(), ..done });
                }
                Ok(_) => return Err(unexpected("operator")),
                Err(error @ ClientError::Unknown { .. }) if again && Instant::now() + RETRY_PAUSE_MAX < deadline => {
                    unknown = Some(error);
                    sleep(RETRY_PAUSE_MAX).await;
                }
                // Nothing was done now; of the time before nobody can say.
                Err(ClientError::Unreachable { .. } | ClientError::TimedOut { .. }) if unknown.is_some() => {
                    return Err(unknown.unwrap_or_else(|| unexpected("operator")));
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Answers once everything acknowledged before the call can be read at the answering agent: with the offset up to
    /// which, exclusively.
    pub async fn barrier(&self) -> Result<u64, ClientError> {
        match self.ask(Ask::Barrier, true).await? {
            Answer::Readable { next } => Ok(next),
            _ => Err(unexpected("barrier")),
        }
    }

    /// Answers once the answering agent can read up to `next`, exclusively: with the offset up to which it can.
    pub async fn wait_for(&self, next: u64) -> Result<u64, ClientError> {
        match self.ask(Ask::Await { next }, true).await? {
            Answer::Readable { next } => Ok(next),
            _ => Err(unexpected("await")),
        }
    }

    /// Records from `from` on; it goes on through another agent when one fails.
    #[must_use]
    pub fn tail(&self, from: TailFrom) -> Tail {
        Tail::new(self.entries(from))
    }

    /// The same as whole entries, as they stand in the log.
    #[must_use]
    pub fn entries(&self, from: TailFrom) -> EntryTail {
        EntryTail::new(self.clone(), from)
    }

    /// Says good-bye, so that agents need not wait for the idle timeout.
    pub async fn close(&self) {
        self.shared.rpc.close().await;
    }

    async fn ask(&self, ask: Ask, repeatable: bool) -> Result<Answer, ClientError> {
        let deadline = Instant::now() + self.shared.timeout;
        let request = Request::Ask(ask);
        let frame = |id: u64, _: Duration| request.encode(id);
        match self.request(frame, deadline, repeatable).await? {
            Response::Answer(answer) => Ok(answer),
            _ => Err(unexpected("question")),
        }
    }

    /// One request, repeated while that is safe and there is time. `frame` gets the id and the time left.
    async fn request(
        &self,
        frame: impl Fn(u64, Duration) -> Vec<bytes::Bytes>,
        deadline: Instant,
        repeatable: bool,
    ) -> Result<Response, ClientError> {
        let mut pause = RETRY_PAUSE;
        // What an agent said last: more than that there was no time left to ask again.
        let mut said = None;
        loop {
            let session = self.shared.session(deadline).await?;
            let left = deadline.saturating_duration_since(Instant::now());
            let last = match session.call(|id| frame(id, left), deadline).await {
                Ok(Response::Failed(failure)) => {
                    let again = may_pass(failure.code) && (repeatable || failure.effect == Effect::NotApplied);
                    let error = of_failure(failure);
                    if !again {
                        return Err(error);
                    }
                    said = Some(error.clone());
                    error
                }
                Ok(response) => return Ok(response),
                Err(CallError::NotSent(why)) => ClientError::TimedOut { why },
                Err(CallError::Sent(why)) if repeatable => ClientError::TimedOut { why },
                Err(CallError::Sent(why)) => return Err(ClientError::Unknown { why }),
                Err(CallError::TimedOut { sent }) => {
                    let why = "the agent did not answer in time".to_owned();
                    return Err(if sent && !repeatable {
                        ClientError::Unknown { why }
                    } else {
                        said.unwrap_or(ClientError::TimedOut { why })
                    });
                }
            };
            if Instant::now() + pause >= deadline {
                return Err(last);
            }
            if matches!(&last, ClientError::Failed(f) if f.code == Code::Unavailable) {
                self.shared.leave(&session).await;
            }
            sleep(pause).await;
            pause = (pause * 2).min(RETRY_PAUSE_MAX);
        }
    }
}

/// The milliseconds that an agent is given to answer when this much is left for its asker.
fn answer_within(left: Duration) -> u32 {
    let margin = (left / 4).min(ANSWER_MARGIN_MAX);
    u32::try_from((left - margin).as_millis()).unwrap_or(u32::MAX).max(1)
}

fn of_failure(failure: Failure) -> ClientError {
    match failure.code {
        Code::Unknown => ClientError::Unknown { why: failure.what },
        _ => ClientError::Failed(failure),
    }
}

fn unexpected(what: &str) -> ClientError {
    ClientError::Protocol { why: format!("another answer than the one to {what}") }
}

impl Shared {
    fn addrs(&self) -> std::sync::MutexGuard<'_, Vec<String>> {
        self.addrs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The session in use, or a new one with an agent that answers.
    async fn session(self: &Arc<Self>, deadline: Instant) -> Result<Arc<Session>, ClientError> {
        let Ok(mut slot) = tokio::time::timeout_at(deadline, self.session.lock()).await else {
            return Err(ClientError::Unreachable { why: "still connecting".into() });
        };
        if let Some(session) = slot.as_ref() {
            if session.is_good() {
                return Ok(session.clone());
            }
            // Requests on it keep it alive until they are answered; only new ones go elsewhere.
            if !self.pinned {
                self.addrs().rotate_left(1);
            }
        }
        let session = Arc::new(self.connect(deadline).await?);
        *slot = Some(session.clone());
        if !self.pinned {
            tokio::spawn(learn(Arc::downgrade(self), Arc::downgrade(&session)));
        }
        Ok(session)
    }

    /// A session with the first agent that answers. One that goes away between the handshake and the first stream is
    /// as good as one that did not answer.
    async fn connect(&self, deadline: Instant) -> Result<Session, ClientError> {
        loop {
            let addrs = self.addrs().clone();
            let (addr, connection) = contact::contact(&self.rpc, &addrs, deadline).await?;
            self.put_first(&addr);
            match Session::start(connection).await {
                Ok(session) => return Ok(session),
                Err(error) if Instant::now() + RETRY_PAUSE >= deadline => return Err(error),
                Err(_) => sleep(RETRY_PAUSE).await,
            }
            self.addrs().rotate_left(1);
        }
    }

    /// Leaves an agent that cannot serve now; the next request goes to another one.
    async fn leave(&self, session: &Arc<Session>) {
        let mut slot = self.session.lock().await;
        if !self.pinned && slot.as_ref().is_some_and(|current| Arc::ptr_eq(current, session)) {
            *slot = None;
            self.addrs().rotate_left(1);
        }
    }

    /// Takes in where the members are. What the user named stays; what was learned goes when nobody is there any more.
    /// An agent that calls another one failed may itself be the one that is cut off, so that address is kept.
    fn remember(&self, members: &[Member]) {
        let mut addrs = self.addrs();
        let is_there = |addr: &String| members.iter().any(|m| m.addr == *addr && m.state != "left");
        let serving = addrs.first().cloned();
        addrs.retain(|addr| serving.as_ref() == Some(addr) || self.named.contains(addr) || is_there(addr));
        // A drained agent would only send us on.
        for member in members.iter().filter(|member| member.state == "alive" && !member.draining) {
            if addrs.len() < ADDRESSES_MAX && !addrs.contains(&member.addr) && member.addr.contains(':') {
                addrs.push(member.addr.clone());
            }
        }
    }

    fn put_first(&self, addr: &str) {
        let mut addrs = self.addrs();
        if let Some(at) = addrs.iter().position(|known| known == addr) {
            addrs[..=at].rotate_right(1);
        }
    }
}

/// Asks for the members while the session lives, so that the client outlives the agents it was told of.
async fn learn(shared: std::sync::Weak<Shared>, session: std::sync::Weak<Session>) {
    while let Some(current) = session.upgrade() {
        let deadline = Instant::now() + TIMEOUT_DEFAULT;
        let answer = current.call(|id| Request::Ask(Ask::Members).encode(id), deadline).await;
        let Some(shared) = shared.upgrade() else { return };
        match answer {
            Ok(Response::Answer(Answer::Members(members))) => shared.remember(&members),
            Ok(_) | Err(CallError::TimedOut { .. }) => {}
            Err(CallError::Sent(_) | CallError::NotSent(_)) => return,
        }
        drop((current, shared));
        sleep(LEARN_EVERY).await;
    }
}

#[cfg(test)]
mod tests;
