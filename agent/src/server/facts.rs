//! Facts that only the shell knows: who could not be reached, who failed to get in, the certificate; and what other agents say.
//!
//! It judges nothing and changes nothing.

use crate::api::{Answer, Ask};
use crate::facts::{CertificateFacts, DialFacts, Facts, KnockFacts, Picture, Trouble};
use crate::node::Denied;
use crate::wire::rpc::{Request, Response};
use quorate_certs::{Identity, Refusal};
use quorate_transport::rpc::RpcClient;
use quorate_transport::{DialError, Endpoint, Refused};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// How long each other agent has to answer: as long as a person waits without a doubt.
pub(crate) const ASKED_FOR: Duration = Duration::from_secs(2);
/// Sources of refused connections, and join addresses, remembered at most.
const REMEMBERED_MAX: usize = 64;
/// A refused connection is told of for so long: three times the longest pause between two tries.
const KNOCKS_FOR: Duration = Duration::from_secs(30);

struct Event {
    trouble: Trouble,
    count: u64,
    at: Instant,
}

#[derive(Default)]
struct State {
    /// By source and what was wrong.
    knocks: BTreeMap<(String, String), Event>,
    /// By join address, while it does not lead in.
    dials: BTreeMap<String, Event>,
    certificate: Option<CertificateFacts>,
}

/// What the shell remembers for those who ask. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Seen(Arc<Mutex<State>>);

impl Seen {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock; if something did, the maps are still whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// New handshakes use this identity.
    pub(super) fn identity(&self, identity: &Identity, dir: &Path) {
        self.state().certificate = Some(certificate(identity, dir));
    }

    /// The same after its files were read again from where they were.
    pub(super) fn renewed(&self, identity: &Identity) {
        let dir = self.state().certificate.as_ref().map(|known| known.dir.clone()).unwrap_or_default();
        self.identity(identity, Path::new(&dir));
    }

    /// Somebody failed to get in.
    pub(super) fn refused(&self, from: SocketAddr, why: &Refused, refusal: Option<&Refusal>, times: u64) {
        let detail = refusal.map_or_else(|| why.code.word().to_owned(), |refusal| refusal.code().to_owned());
        let word = if refusal.is_some() { "not_trusted" } else { "we_refused" };
        let trouble = Trouble { word: word.into(), detail: detail.clone(), text: why.to_string() };
        let key = (from.ip().to_canonical().to_string(), detail);
        note(&mut self.state().knocks, key, trouble, times);
    }

    /// This join address did not lead in.
    pub(super) fn dial_failed(&self, seed: &str, trouble: Trouble) {
        note(&mut self.state().dials, seed.to_owned(), trouble, 1);
    }

    /// It does.
    pub(super) fn dial_answered(&self, seed: &str) {
        self.state().dials.remove(seed);
    }

    /// Adds what only the shell knows.
    pub(super) fn complete(&self, facts: &mut Facts, endpoint: &Endpoint, data: &Path) {
        facts.bind = endpoint.local_addr().to_string();
        facts.data = data.display().to_string();
        let stats = endpoint.stats();
        for member in &mut facts.members {
            member.rtt_us = endpoint.rtt(member.node).and_then(|rtt| u64::try_from(rtt.as_micros()).ok());
            member.trouble = endpoint.trouble(member.node).filter(|_| !member.connected).map(|e| trouble(&e));
            for link in stats.links.iter().filter(|link| link.node == member.node && !link.bulk) {
                member.sent_packets += link.sent_packets;
                member.lost_packets += link.lost_packets;
            }
        }
        let ago = |at: Instant| u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX);
        let state = self.state();
        let knocks = state.knocks.iter().filter(|(_, event)| event.at.elapsed() < KNOCKS_FOR);
        let knock = |((from, _), event): (&(String, String), &Event)| KnockFacts {
            from: from.clone(),
            trouble: event.trouble.clone(),
            count: event.count,
            ago_ms: ago(event.at),
        };
        facts.knocks = knocks.map(knock).collect();
        let dial = |(seed, event): (&String, &Event)| DialFacts {
            seed: seed.clone(),
            trouble: event.trouble.clone(),
            ago_ms: ago(event.at),
            count: event.count,
        };
        facts.dials = state.dials.iter().map(dial).collect();
        facts.certificate.clone_from(&state.certificate);
    }
}

fn note<K: Ord + Clone>(events: &mut BTreeMap<K, Event>, key: K, trouble: Trouble, times: u64) {
    let now = Instant::now();
    if !events.contains_key(&key) && events.len() >= REMEMBERED_MAX {
        let oldest = events.iter().min_by_key(|(_, event)| event.at).map(|(key, _)| key.clone());
        oldest.and_then(|key| events.remove(&key));
    }
    let event = events.entry(key).or_insert_with(|| Event { trouble: Trouble::default(), count: 0, at: now });
    event.trouble = trouble;
    event.count = event.count.saturating_add(times);
    event.at = now;
}

/// What a certificate says of itself; of its key, nothing.
pub(crate) fn certificate(identity: &Identity, dir: &Path) -> CertificateFacts {
    CertificateFacts {
        dir: dir.display().to_string(),
        subject: identity.subject().to_string(),
        not_before: identity.not_before().unix(),
        not_after: identity.not_after().unix(),
    }
}

/// A failed attempt in the words of the facts.
pub(crate) fn trouble(error: &DialError) -> Trouble {
    let policy = |why: &Refused| Denied::word_of(&why.text).unwrap_or_else(|| why.code.word()).to_owned();
    let (word, detail) = match error {
        DialError::NoAnswer { .. } => ("no_answer", String::new()),
        DialError::NotTrusted { why, .. } => ("not_trusted", why.code().to_owned()),
        DialError::TheyRefused { why, .. } => ("they_refused", why.code().to_owned()),
        DialError::Closed { why, .. } => ("closed", policy(why)),
        DialError::WeRefused { why, .. } => ("we_refused", policy(why)),
        DialError::Version { .. } => ("version", String::new()),
        DialError::OtherNode { .. } => ("other_node", String::new()),
        DialError::Address { .. } => ("address", String::new()),
        DialError::Myself { .. } => ("myself", String::new()),
        _ => ("failed", String::new()),
    };
    Trouble { word: word.into(), detail, text: error.to_string() }
}

/// Asks those that the node named, all at once, and each for [`ASKED_FOR`] at most.
pub(super) async fn ask_others(rpc: RpcClient, picture: &mut Picture) {
    let asked: Vec<String> = picture.others.iter().map(|heard| heard.addr.clone()).collect();
    let answers = ask_all(&rpc, asked).await;
    for (heard, answer) in picture.others.iter_mut().zip(answers) {
        match answer {
            Ok(facts) => heard.facts = Some(facts),
            Err(trouble) => heard.trouble = Some(trouble),
        }
    }
}

/// The facts of the agents at these addresses, in their order.
pub(crate) async fn ask_all(rpc: &RpcClient, addrs: Vec<String>) -> Vec<Result<Facts, Trouble>> {
    let mut all = JoinSet::new();
    let count = addrs.len();
    for (at, addr) in addrs.into_iter().enumerate() {
        let rpc = rpc.clone();
        all.spawn(async move {
            let answer = tokio::time::timeout(ASKED_FOR, ask(&rpc, &addr)).await;
            let text = || format!("no answer from {addr} within {} ms", ASKED_FOR.as_millis());
            let late = || Trouble { word: "no_answer".into(), detail: String::new(), text: text() };
            (at, answer.unwrap_or_else(|_| Err(late())))
        });
    }
    let mut answers: Vec<Option<Result<Facts, Trouble>>> = (0..count).map(|_| None).collect();
    while let Some(ended) = all.join_next().await {
        if let Ok((at, answer)) = ended
            && let Some(place) = answers.get_mut(at)
        {
            *place = Some(answer);
        }
    }
    let failed = || Err(failure("the attempt broke off".into()));
    answers.into_iter().map(|answer| answer.unwrap_or_else(failed)).collect()
}

fn failure(text: String) -> Trouble {
    Trouble { word: "failed".into(), detail: String::new(), text }
}

/// One question to one agent.
async fn ask(rpc: &RpcClient, addr: &str) -> Result<Facts, Trouble> {
    let unresolved = |why: &dyn std::fmt::Display| Trouble {
        word: "unresolved".into(),
        detail: String::new(),
        text: format!("{} does not resolve: {why}", crate::limits::shown(addr)),
    };
    let found = tokio::net::lookup_host(addr).await.map_err(|e| unresolved(&e))?;
    let mut last = unresolved(&"it has no address");
    for socket in found.take(2) {
        match rpc.connect(socket, ASKED_FOR).await {
            Ok(connection) => return converse(&connection).await.map_err(failure),
            Err(error) => last = trouble(&error),
        }
    }
    Err(last)
}

async fn converse(connection: &quorate_transport::rpc::RpcConnection) -> Result<Facts, String> {
    let mut stream = connection.open().await.map_err(|e| e.to_string())?;
    let ask = Request::Ask(Ask::Facts { others: false });
    stream.send(ask.encode(1)).await.map_err(|e| e.to_string())?;
    let frame = stream.recv().await.map_err(|e| e.to_string())?.ok_or("the agent ended the conversation")?;
    match Response::decode(frame) {
        Ok((1, Response::Answer(Answer::Facts(picture)))) => Ok(picture.own),
        Ok((_, Response::Failed(failure))) => Err(failure.what),
        _ => Err("the agent does not know this question; compare the versions".into()),
    }
}
