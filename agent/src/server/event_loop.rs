//! The one task that owns the node: inputs in, outputs out, next deadline. It takes no decision.

use super::aside::FORMATION;
use super::context::{self, Asked, Context, Replies};
use super::disk::{Disk, Done, Job};
use super::facts::{self, Seen};
use super::fatal::fatal;
use super::files;
use super::network::{self, SharedGate};
use super::reads::{Fetch, Read};
use super::remembered;
use super::rpc;
use crate::api::{Answer, Failure};
use crate::facts::Picture;
use crate::node::{Input, Level, Node, Output, Published, Reply, Request};
use crate::wire::rpc::Response;
use bytes::Bytes;
use quorate_certs::ClusterId;
use quorate_raft::wal::Reader;
use quorate_raft::{Mono, Now, Wall};
use quorate_transport::{Endpoint, Event, Events};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinSet;

/// Inputs handled before outputs of a slower kind get a turn.
const TURN_MAX: usize = 256;
/// And for how long: what a client may ask at once can take a second to answer, and heartbeats leave at the end of a turn.
const TURN_TIME_MAX: Duration = Duration::from_millis(5);

/// An alarm that is heard so late rang while this process did not run: stopped, or starved of the processor.
const OVERSLEPT: Duration = Duration::from_millis(20);
/// So long it then listens before it judges anybody by its clock. What came in meanwhile waits in the socket: the tasks of the
/// transport run while the loop rests, and need far less for all of it.
const LISTEN: Duration = Duration::from_millis(2);

/// Questions for which other agents are asked at once: each costs as many handshakes as there are agents.
pub(super) const GATHERING_MAX: usize = 4;

/// The process's clocks, as the node wants them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    origin: Instant,
}

impl Clock {
    pub(super) fn start() -> Self {
        Self { origin: Instant::now() }
    }

    pub(super) fn now(self) -> Now {
        let mono = Mono(u64::try_from(self.origin.elapsed().as_micros()).unwrap_or(u64::MAX));
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_micros());
        Now { mono, wall: Wall(i64::try_from(wall).unwrap_or(i64::MAX)) }
    }

    fn instant(self, mono: Mono) -> tokio::time::Instant {
        // A deadline beyond a day is a deadline a day away: the node is asked again then.
        let micros = mono.0.min(self.now().mono.0.saturating_add(86_400_000_000));
        (self.origin + Duration::from_micros(micros)).into()
    }
}

/// Why the loop ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// Somebody told the agent to stop.
    Stopped,
    /// The agent has left the cluster.
    Departed,
    /// The transport works no more.
    Broken(String),
}

/// What changes while the agent runs and others in this process want to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Face {
    pub(super) log_id: Option<[u8; 16]>,
}

/// Everything the loop holds.
pub(super) struct EventLoop {
    pub(super) node: Node,
    pub(super) clock: Clock,
    pub(super) cluster: ClusterId,
    pub(super) data: PathBuf,
    pub(super) endpoint: Endpoint,
    pub(super) disk: Disk,
    pub(super) reader: Reader,
    pub(super) gate: Arc<SharedGate>,
    pub(super) published: watch::Sender<Arc<Published>>,
    pub(super) face: watch::Sender<Face>,
    /// By our number of a request: where its answer goes, how its asker names it, and what it costs.
    pub(super) waiters: BTreeMap<u64, (Replies, u64, usize)>,
    pub(super) next_request: u64,
    pub(super) exchanges: BTreeMap<u64, oneshot::Sender<Bytes>>,
    pub(super) inputs: mpsc::UnboundedSender<Input>,
    pub(super) context: Context,
    pub(super) streams: JoinSet<()>,
    /// What it remembers for those who ask why.
    pub(super) seen: Seen,
    /// How many questions may make it ask other agents at once.
    pub(super) gathering: Arc<Semaphore>,
    /// The node has said its last word.
    pub(super) ended: Option<Ended>,
}

/// Where inputs come from.
pub(super) struct Sources {
    pub(super) events: Events,
    pub(super) done: mpsc::UnboundedReceiver<Done>,
    pub(super) requests: mpsc::Receiver<Asked>,
    pub(super) inputs: mpsc::UnboundedReceiver<Input>,
    pub(super) stop: watch::Receiver<bool>,
}

impl EventLoop {
    /// Runs until told to stop. Streams of clients are then given the chance to hear their last answer.
    pub(super) async fn run(mut self, mut from: Sources) -> (Ended, JoinSet<()>) {
        self.act();
        let mut stopping = false;
        let mut alarm = pin!(tokio::time::sleep(Duration::ZERO));
        let mut rings = Instant::now();
        let ended = loop {
            if let Some(at) = self.set(alarm.as_mut()) {
                rings = at;
            }
            tokio::select! {
                biased;
                _ = context::stopped(&mut from.stop), if !stopping => {
                    stopping = true;
                    self.input(Input::Stop);
                }
                Some(done) = from.done.recv() => self.done(done),
                event = from.events.recv() => match event {
                    Some(event) => if let Some(broken) = self.event(event) { break broken },
                    None => break Ended::Broken("the transport is gone".into()),
                },
                Some(input) = from.inputs.recv() => self.input(input),
                Some(asked) = from.requests.recv() => self.asked(asked),
                () = alarm.as_mut() => {
                    if !self.is_due() {
                        continue;
                    }
                    // A leader is not silent whose heartbeats were not read, nor a quorum whose answers were not.
                    if rings.elapsed() >= OVERSLEPT {
                        tokio::time::sleep(LISTEN).await;
                    }
                    self.input(Input::Timeout);
                }
            }
            if let Some(broken) = self.turn(&mut from) {
                break broken;
            }
            self.act();
            while self.streams.try_join_next().is_some() {}
            if let Some(ended) = self.ended.take() {
                break ended;
            }
        };
        self.disk.stop();
        (ended, self.streams)
    }

    /// Sets the alarm for when the node wants to be woken. One that is set too early stays: deadlines move on with
    /// nearly every message, and each move of a timer costs more than now and then an alarm that is set again.
    /// Tells when it can ring, if it was set: what was due before is due now.
    fn set(&self, alarm: Pin<&mut tokio::time::Sleep>) -> Option<Instant> {
        let at = self.clock.instant(self.node.poll_timeout().unwrap_or(Mono(u64::MAX)));
        if !alarm.is_elapsed() && at >= alarm.deadline() {
            return None;
        }
        alarm.reset(at);
        Some(Instant::now().max(at.into()))
    }

    /// Does the node want to be woken by now, as the alarm says?
    fn is_due(&self) -> bool {
        self.node.poll_timeout().is_some_and(|at| at <= self.clock.now().mono)
    }

    /// What is ready already shares the turn: one pass over the outputs serves all of it.
    fn turn(&mut self, from: &mut Sources) -> Option<Ended> {
        let begun = Instant::now();
        for _ in 0..TURN_MAX {
            // Each source once a round: none of them can starve another.
            let mut idle = true;
            if let Ok(done) = from.done.try_recv() {
                idle = false;
                self.done(done);
            }
            if let Some(event) = from.events.try_recv() {
                idle = false;
                if let Some(broken) = self.event(event) {
                    return Some(broken);
                }
            }
            if let Ok(asked) = from.requests.try_recv() {
                idle = false;
                self.asked(asked);
            }
            if let Ok(input) = from.inputs.try_recv() {
                idle = false;
                self.input(input);
            }
            if idle || begun.elapsed() >= TURN_TIME_MAX {
                break;
            }
        }
        None
    }

    fn input(&mut self, input: Input) {
        self.node.handle(self.clock.now(), input);
    }

    fn done(&mut self, done: Done) {
        self.input(match done {
            Done::Written(ticket) => Input::Written { ticket },
            Done::HardStateWritten(ticket) => Input::HardStateWritten { ticket },
            Done::Space { space, waits } => Input::Space { free: space.free, total: space.total, waits },
            Done::Refused { why } => Input::WriteRefused { why },
            Done::Checkpointed { index, result } => Input::Checkpointed { index, result },
            Done::Fetched { token, entries } => Input::Fetched { token, entries },
            Done::Damaged { ranges } => Input::Damaged { ranges },
            Done::Repaired { id, result } => Input::Repaired { id, result },
        });
    }

    fn asked(&mut self, asked: Asked) {
        let now = self.clock.now();
        for one in asked.requests {
            self.next_request += 1;
            let id = self.next_request;
            self.waiters.insert(id, (asked.replies.clone(), one.id, one.cost));
            let deadline = now.mono.after(one.patience);
            self.node.handle(now, Input::Request(Request { id, who: asked.who.clone(), deadline, what: one.what }));
        }
    }

    fn event(&mut self, event: Event) -> Option<Ended> {
        match event {
            Event::PeerUp(info) => self.input(Input::PeerUp(network::peer(&info))),
            Event::PeerDown { node, reason } => {
                tracing::debug!("connection to node {node:016x} ended: {reason}");
                self.input(Input::PeerDown { node });
            }
            Event::FramesLost { node, .. } => self.input(Input::FramesLost { node }),
            Event::PeerFrame { node, bytes } | Event::BulkFrame { node, bytes } => {
                self.input(network::frame(node, bytes));
            }
            Event::Datagram { node, bytes } => self.input(Input::Datagram { node, bytes: bytes.to_vec() }),
            Event::Exchange { node, request, reply } => {
                self.next_request += 1;
                let token = self.next_request;
                self.exchanges.insert(token, reply);
                self.input(Input::Exchange { node, token, bytes: request.to_vec() });
            }
            Event::Rpc(stream) => drop(self.streams.spawn(rpc::serve(*stream, self.context.clone()))),
            Event::Refused { from, why, suppressed: 0, .. } if network::is_told_by_the_node(why.code) => {
                tracing::debug!("refused {from}: {why}");
            }
            Event::Refused { from, why, refusal, suppressed } => {
                self.seen.refused(from, &why, refusal.as_ref(), suppressed.saturating_add(1));
                let more = if suppressed > 0 { format!(" ({suppressed} more like it)") } else { String::new() };
                tracing::warn!("refused {from}: {why}{more}");
            }
            Event::Broken { why } => return Some(Ended::Broken(why)),
            _ => {}
        }
        None
    }

    /// Carries out what the node asks for.
    fn act(&mut self) {
        while let Some(output) = self.node.poll_output() {
            self.output(output);
        }
    }

    fn output(&mut self, output: Output) {
        match output {
            Output::Write { ticket, batch } => self.disk.write(Job { ticket, batch }),
            Output::Pledge { change, record } => self.pledge(change, &record),
            Output::Send { node, class, message } => {
                if let Some(input) = network::send(&self.endpoint, node, class, &message) {
                    let _ = self.inputs.send(input);
                }
            }
            Output::Datagram { node, bytes, .. } => {
                if let Err(error) = self.endpoint.datagram(node, bytes.into()) {
                    tracing::trace!("gossip to node {node:016x} dropped: {error}");
                }
            }
            Output::Exchange { node, bytes, .. } => {
                tokio::spawn(network::exchange(self.endpoint.clone(), node, bytes, self.inputs.clone()));
            }
            Output::ExchangeReply { token, bytes } => {
                if let Some(reply) = self.exchanges.remove(&token) {
                    let _ = reply.send(bytes.into());
                }
            }
            Output::DialSeed { seed } => {
                tokio::spawn(network::dial_seed(self.endpoint.clone(), seed, self.inputs.clone(), self.seen.clone()));
            }
            Output::Keep { node, addr } => self.endpoint.keep(node, addr),
            Output::Unkeep { node } => self.endpoint.unkeep(node),
            Output::Dial { node, addr } => {
                tokio::spawn(network::dial(self.endpoint.clone(), node, addr, self.inputs.clone()));
            }
            Output::Release { node } => self.endpoint.disconnect(node, &quorate_transport::Code::Ok.into()),
            Output::CutOff { node, offence } => self.endpoint.disconnect(node, &network::refused(offence)),
            Output::Fetch { token, from, to, bytes_max, whom } => {
                self.disk.read(Read::Fetch(Fetch { token, from, to, bytes_max, whom }));
            }
            Output::Repair { id, entries } => self.disk.repair(id, entries),
            Output::Checkpoint(checkpoint) => self.disk.checkpoint(checkpoint),
            Output::Answer { request, result } => self.answer(request, result),
            Output::Published(published) => network::publish(&self.gate, &self.published, published),
            Output::JoinedLog { log_id } => {
                self.endpoint.set_log_id(log_id);
                self.face.send_modify(|face| face.log_id = Some(log_id));
            }
            Output::Remember(known) => self.remember(known),
            Output::SaveTags { id, tags } => self.save_tags(id, tags),
            Output::Departed => self.ended = Some(Ended::Departed),
            Output::Stopped => self.ended = Some(Ended::Stopped),
            Output::Note { level, text } => match level {
                Level::Info => tracing::info!("{text}"),
                Level::Warn => tracing::warn!("{text}"),
                Level::Error => tracing::error!("{text}"),
            },
        }
    }

    fn answer(&mut self, request: u64, result: Result<Reply, Failure>) {
        let Some((replies, id, cost)) = self.waiters.remove(&request) else { return };
        let response = match result {
            Ok(Reply::Answer(Answer::Facts(picture))) => return self.facts(picture, (replies, id, cost)),
            Ok(Reply::Appended(appended)) => Response::Appended(appended),
            Ok(Reply::Answer(answer)) => Response::Answer(self.completed(answer)),
            Err(failure) => Response::Failed(failure),
        };
        replies.send(id, cost, response);
    }

    /// Adds what only the shell knows, and what other agents say, if they are to be asked.
    fn facts(&self, mut picture: Box<Picture>, (replies, id, cost): (Replies, u64, usize)) {
        picture.own.cluster = self.cluster.to_string();
        picture.own.disk.health.scrub = self.disk.scrubbed();
        self.seen.complete(&mut picture.own, &self.endpoint, &self.data);
        let place = Arc::clone(&self.gathering).try_acquire_owned().ok().filter(|_| !picture.others.is_empty());
        let Some(place) = place else {
            picture.others.clear();
            return replies.send(id, cost, Response::Answer(Answer::Facts(picture)));
        };
        let rpc = self.endpoint.rpc_client();
        tokio::spawn(async move {
            facts::ask_others(rpc, &mut picture).await;
            drop(place);
            replies.send(id, cost, Response::Answer(Answer::Facts(picture)));
        });
    }

    /// Adds what only the shell knows.
    fn completed(&self, answer: Answer) -> Answer {
        match answer {
            Answer::Members(mut members) => {
                for member in &mut members {
                    member.rtt_ms = self.endpoint.rtt(member.id).map(|d| d.as_secs_f64() * 1e3);
                }
                Answer::Members(members)
            }
            Answer::Status(mut status) => {
                status.cluster = self.cluster.to_string();
                status.bytes = self.reader.bytes_on_disk();
                status.disk.scrub = self.disk.scrubbed();
                Answer::Status(status)
            }
            other => other,
        }
    }

    /// On the reader's thread, so that they are written in order and never on the way of an entry. What was not written was not
    /// promised: the agent ends, as it does when the log cannot be written.
    fn pledge(&self, change: u64, record: &crate::pledge::Record) {
        let (path, bytes, inputs) = (self.data.clone(), record.encode(self.endpoint.node()), self.inputs.clone());
        self.disk.read(Read::Query(Box::new(move |_| match files::write(&path, FORMATION, &bytes) {
            Ok(()) => drop(inputs.send(Input::PledgeKept { change })),
            Err(error) => fatal("keep what it has promised about founding a log", &error),
        })));
    }

    fn save_tags(&self, id: u64, tags: BTreeMap<String, String>) {
        let (path, inputs) = (self.data.clone(), self.inputs.clone());
        // As with addresses: in order, and never on the way of a write.
        self.disk.read(Read::Query(Box::new(move |_| {
            let result = remembered::keep_tags(&path, &tags).map_err(|error| error.to_string());
            let _ = inputs.send(Input::TagsSaved { id, result });
        })));
    }

    fn remember(&self, known: Vec<crate::node::Known>) {
        let path = self.data.clone();
        // On the reader's thread: in order, one after another, and never on the way of a write.
        self.disk.read(Read::Query(Box::new(move |_| {
            if let Err(error) = remembered::remember(&path, &known) {
                tracing::warn!("cannot remember the addresses of the members: {error}");
            }
        })));
    }
}
