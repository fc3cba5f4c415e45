//! A cluster of cores on virtual time, with the network and the transport that an agent would give them.
//!
//! Connections are authenticated and per pair; datagrams may be lost, streams are only late. Everything follows from
//! one seed.

#[path = "looking.rs"]
mod looking;

pub(crate) use looking::{brief, news};
use quorate_membership::{
    Event, Input, Local, Membership, Mono, Now, Options, Output, PACKET_BYTES_MAX, Pool, Tags, is_only_news,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;

pub(crate) type Node = u64;

pub(crate) const MS: u64 = 1_000;
pub(crate) const S: u64 = 1_000_000;
/// How long a transport needs to notice that the other side is gone.
const IDLE_TIMEOUT: u64 = 5 * S;
/// What is said to a member that is not connected waits for the connection, as an agent lets it: so many messages each, each
/// no longer than a probe lasts.
const WAITING_MAX: usize = 8;
/// Where connections are bounded a younger one is not closed for room, as in an agent.
const AGE_MIN: u64 = 5 * S;
/// There dials are bounded, too: so many at once and a second; mere news leaves some of them to other messages.
const DIALS_BURST: u64 = 32;
const DIALS_PER_SECOND: u64 = 16;
const DIALS_RESERVED: u64 = 16;

/// What is said to another member.
#[derive(Debug)]
enum Word {
    Datagram(Vec<u8>),
    Request(Vec<u8>),
}

#[derive(Debug)]
enum Happening {
    /// A timer of a core may be due.
    Wake,
    Datagram {
        from: Node,
        boot: u64,
        bytes: Vec<u8>,
    },
    Request {
        from: Node,
        boot: u64,
        bytes: Vec<u8>,
    },
    Reply {
        from: Node,
        boot: u64,
        bytes: Vec<u8>,
    },
    /// A dial by `from` arrives.
    Dial {
        from: Node,
        boot: u64,
    },
    /// A handshake ended on this side.
    Connected {
        with: Node,
        boot: u64,
    },
    /// The transport gives up on this connection.
    Lost {
        with: Node,
        boot: u64,
        connection: u64,
    },
}

/// A live connection: the other side's boot, a number, since when it is up, and when this side last used it.
#[derive(Clone, Copy, Debug)]
struct Peer {
    boot: u64,
    connection: u64,
    since: u64,
    used: u64,
}

pub(crate) struct Agent {
    pub(crate) core: Membership,
    pub(crate) addr: SocketAddr,
    pub(crate) epoch: u64,
    pub(crate) boot: u64,
    pub(crate) up: bool,
    pub(crate) seeds: Vec<SocketAddr>,
    /// Live connections.
    peers: BTreeMap<Node, Peer>,
    /// A timer of the core is set for then.
    wake_at: Option<u64>,
    dialling: BTreeMap<SocketAddr, u64>,
    /// What waits for a connection with whom, and until when it is worth anything.
    waiting: BTreeMap<Node, VecDeque<(u64, Word)>>,
    /// Dials allowed now, in millionths, and as of when.
    dials: (u64, u64),
    pub(crate) events: Vec<(u64, Event)>,
    pub(crate) alarms: Vec<(Node, &'static str)>,
    pub(crate) left: bool,
}

pub(crate) struct Cluster {
    pub(crate) now: u64,
    pub(crate) agents: BTreeMap<Node, Agent>,
    queue: BTreeMap<(u64, u64), (Node, Happening)>,
    sequence: u64,
    random: u64,
    /// Of 1000 datagrams, so many are lost.
    pub(crate) loss_per_mille: u64,
    /// No datagram passes; streams do.
    pub(crate) datagrams_blocked: bool,
    /// No datagram passes from the one to the other; streams do.
    pub(crate) blocked: BTreeSet<(Node, Node)>,
    /// Of 1000 messages, so many arrive damaged (no transport would let them through; a liar would send them).
    pub(crate) damage_per_mille: u64,
    cut: BTreeSet<(Node, Node)>,
    pub(crate) options: Options,
    pub(crate) datagrams: u64,
    pub(crate) bytes: u64,
    /// Over streams: requests and answers of every kind.
    pub(crate) stream_bytes: u64,
    pub(crate) streams: u64,
    places: BTreeMap<SocketAddr, Node>,
    pub(crate) largest: usize,
    /// Every output of every core, hashed, if anybody asks: two runs with one seed must agree.
    pub(crate) trace: Option<u64>,
    connections: u64,
    /// So many connections an agent keeps; beyond them it closes the one that it has not used for longest.
    pub(crate) connections_max: usize,
    /// How many connections were made, on either side.
    pub(crate) handshakes: u64,
    /// Where thousands run, what their cores hold alike is held once, and events are counted instead of kept.
    pub(crate) pool: Option<Pool>,
    pub(crate) told: BTreeMap<&'static str, u64>,
    /// When each core told what of this one.
    pub(crate) watched: Node,
    pub(crate) watched_news: Vec<(u64, &'static str)>,
}

pub(crate) fn addr(n: u64) -> SocketAddr {
    SocketAddr::from(([10, 0, (n >> 8) as u8, n as u8], 7373))
}

impl Cluster {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            now: S,
            agents: BTreeMap::new(),
            queue: BTreeMap::new(),
            sequence: 0,
            random: seed,
            loss_per_mille: 0,
            datagrams_blocked: false,
            blocked: BTreeSet::new(),
            damage_per_mille: 0,
            cut: BTreeSet::new(),
            options: Options::default(),
            datagrams: 0,
            bytes: 0,
            stream_bytes: 0,
            streams: 0,
            places: BTreeMap::new(),
            largest: 0,
            trace: None,
            connections: 0,
            connections_max: usize::MAX,
            handshakes: 0,
            pool: None,
            told: BTreeMap::new(),
            watched: 0,
            watched_news: vec![],
        }
    }

    /// `n` agents, all started now, all but the first with the first as seed.
    pub(crate) fn of(n: u64, seed: u64) -> Self {
        let mut cluster = Self::new(seed);
        for node in 1..=n {
            let seeds = if node == 1 { vec![] } else { vec![addr(1)] };
            cluster.start(node, seeds);
        }
        cluster
    }

    fn random(&mut self) -> u64 {
        // SplitMix64
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `sides`.
    pub(crate) fn dice(&mut self, sides: u64) -> u64 {
        self.random() % sides
    }

    fn at(&mut self, when: u64, node: Node, what: Happening) {
        self.sequence += 1;
        self.queue.insert((when, self.sequence), (node, what));
    }

    fn delay(&mut self) -> u64 {
        200 + self.random() % 1800
    }

    pub(crate) fn start(&mut self, node: Node, seeds: Vec<SocketAddr>) {
        self.boot(node, addr(node), seeds, Tags::default());
    }

    pub(crate) fn boot(&mut self, node: Node, addr: SocketAddr, seeds: Vec<SocketAddr>, tags: Tags) {
        let name = format!("agent-{node}");
        self.boot_named(node, &name, addr, seeds, tags);
    }

    pub(crate) fn boot_named(&mut self, node: Node, name: &str, addr: SocketAddr, seeds: Vec<SocketAddr>, tags: Tags) {
        let epoch = self.agents.get(&node).map_or(1, |agent| agent.epoch + 1);
        let boot = self.random() | 1;
        let local = Local { node, name: name.to_string(), addr, epoch, boot, version: "0.1.0".to_string(), tags };
        let seed = self.random();
        let mut core = Membership::new(self.options.clone(), local, seed, self.clock()).unwrap();
        if let Some(pool) = &self.pool {
            core.share(pool.clone());
        }
        let agent = Agent {
            core,
            addr,
            epoch,
            boot,
            up: true,
            seeds,
            peers: BTreeMap::new(),
            wake_at: None,
            dialling: BTreeMap::new(),
            waiting: BTreeMap::new(),
            dials: (DIALS_BURST * S, self.now),
            events: vec![],
            alarms: vec![],
            left: false,
        };
        self.agents.insert(node, agent);
        self.places.insert(addr, node);
        self.at(self.now, node, Happening::Wake);
    }

    /// The process dies without a word.
    pub(crate) fn crash(&mut self, node: Node) {
        self.agents.get_mut(&node).unwrap().up = false;
        let boot = self.agents[&node].boot;
        let peers: Vec<_> =
            self.agents.iter().filter(|(_, a)| a.peers.get(&node).is_some_and(|p| p.boot == boot)).collect();
        let peers: Vec<_> = peers.iter().map(|(n, a)| (**n, a.peers[&node].connection)).collect();
        for (peer, connection) in peers {
            self.at(self.now + IDLE_TIMEOUT, peer, Happening::Lost { with: node, boot, connection });
        }
    }

    /// The process is stopped for a while; what reaches it meanwhile is lost.
    pub(crate) fn sleep(&mut self, node: Node, span: u64) {
        self.agents.get_mut(&node).unwrap().up = false;
        self.run(span);
        self.agents.get_mut(&node).unwrap().up = true;
        self.at(self.now, node, Happening::Wake);
    }

    /// The process is stopped until [`wake`](Self::wake); what reaches it meanwhile is lost.
    pub(crate) fn stop(&mut self, node: Node) {
        self.agents.get_mut(&node).unwrap().up = false;
    }

    pub(crate) fn wake(&mut self, node: Node) {
        self.agents.get_mut(&node).unwrap().up = true;
        self.at(self.now, node, Happening::Wake);
    }

    /// The process starts again on the data it had: its seeds, and the addresses it last knew.
    pub(crate) fn restart(&mut self, node: Node, addr: SocketAddr) {
        let mut seeds = self.agents[&node].seeds.clone();
        seeds.extend(self.agents[&node].core.addresses().into_values());
        seeds.sort_unstable();
        seeds.dedup();
        self.boot(node, addr, seeds, Tags::default());
    }

    pub(crate) fn cut(&mut self, left: &[Node], right: &[Node]) {
        for &a in left {
            for &b in right {
                self.cut.insert((a, b));
                self.cut.insert((b, a));
                for (x, y) in [(a, b), (b, a)] {
                    if let Some(Peer { boot, connection, .. }) = self.agents[&x].peers.get(&y).copied() {
                        self.at(self.now + IDLE_TIMEOUT, x, Happening::Lost { with: y, boot, connection });
                    }
                }
            }
        }
    }

    pub(crate) fn heal(&mut self) {
        self.cut.clear();
    }

    pub(crate) fn heal_between(&mut self, left: &[Node], right: &[Node]) {
        self.cut.retain(|(a, b)| !(left.contains(a) && right.contains(b) || left.contains(b) && right.contains(a)));
    }

    /// Requests for tags, of all.
    pub(crate) fn fetches(&self) -> u64 {
        self.agents.values().map(|agent| agent.core.status().counters.fetches).sum()
    }

    pub(crate) fn clock(&self) -> Now {
        Now { mono: Mono(self.now), wall_us: self.now as i64 }
    }

    pub(crate) fn input(&mut self, node: Node, input: Input) -> Option<Vec<u8>> {
        let now = self.clock();
        let agent = self.agents.get_mut(&node).unwrap();
        agent.core.handle(now, input);
        let mut outputs = VecDeque::new();
        while let Some(output) = agent.core.poll_output() {
            outputs.push_back(output);
        }
        let wake = agent.core.poll_timeout();
        let boot = agent.boot;
        let mut reply = None;
        for output in outputs {
            if let Some(trace) = &mut self.trace {
                for byte in format!("{} {node} {output:?}", self.now).bytes() {
                    *trace = (*trace ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
                }
            }
            match output {
                Output::Datagram { to, addr, bytes } => {
                    assert!(bytes.len() <= PACKET_BYTES_MAX, "a datagram of {} bytes", bytes.len());
                    self.datagrams += 1;
                    self.bytes += bytes.len() as u64;
                    self.largest = self.largest.max(bytes.len());
                    self.say(node, boot, to, addr, Word::Datagram(bytes));
                }
                Output::Exchange { to, addr, bytes } => self.say(node, boot, to, addr, Word::Request(bytes)),
                Output::ExchangeReply { bytes, .. } => {
                    assert!(reply.replace(bytes).is_none(), "one reply to a request");
                }
                Output::Reconnect { node: peer, addr } => {
                    if !self.is_connected(node, peer) {
                        self.dial(node, addr);
                    }
                }
                Output::SeedsWanted => {
                    for seed in self.agents[&node].seeds.clone() {
                        self.dial(node, seed);
                    }
                }
                Output::Event(event) => {
                    self.keep(node, event);
                }
                Output::LeaveDone => self.agents.get_mut(&node).unwrap().left = true,
                Output::Alarm { from, what, .. } => self.agents.get_mut(&node).unwrap().alarms.push((from, what)),
                Output::SaveMembers => {}
            }
        }
        self.wake_at(node, wake);
        reply
    }

    fn wake_at(&mut self, node: Node, at: Option<Mono>) {
        if let Some(at) = at.map(|at| at.0.max(self.now))
            && self.agents[&node].wake_at.is_none_or(|set| at < set)
        {
            self.agents.get_mut(&node).unwrap().wake_at = Some(at);
            self.at(at, node, Happening::Wake);
        }
    }

    fn keep(&mut self, node: Node, event: Event) {
        let (what, of) = news(&event);
        if of == self.watched {
            self.watched_news.push((self.now, what));
        }
        if self.pool.is_some() {
            *self.told.entry(what).or_default() += 1;
        } else {
            let now = self.now;
            self.agents.get_mut(&node).unwrap().events.push((now, event));
        }
    }

    /// Says it over a connection, or lets it wait for one.
    fn say(&mut self, node: Node, boot: u64, to: Node, addr: SocketAddr, word: Word) {
        if self.uses(node, to) {
            return self.carry(node, boot, to, word);
        }
        let now = self.now;
        let is_dialled = self.agents[&node].dialling.get(&addr).is_some_and(|until| *until > now);
        let is_news = matches!(&word, Word::Datagram(bytes) if is_only_news(bytes));
        if !is_dialled && !self.may_dial(node, is_news) {
            return;
        }
        let until = now + u64::try_from(self.options.probe_period.as_micros()).unwrap();
        let waiting = self.agents.get_mut(&node).unwrap().waiting.entry(to).or_default();
        waiting.retain(|(until, _)| now <= *until);
        if waiting.len() == WAITING_MAX {
            waiting.pop_front();
        }
        waiting.push_back((until, word));
        self.dial(node, addr);
    }

    fn carry(&mut self, node: Node, boot: u64, to: Node, word: Word) {
        match word {
            Word::Datagram(bytes) => {
                let blocked = self.datagrams_blocked || self.blocked.contains(&(node, to));
                if !blocked && self.random() % 1000 >= self.loss_per_mille {
                    let delay = self.delay();
                    self.at(self.now + delay, to, Happening::Datagram { from: node, boot, bytes });
                }
            }
            Word::Request(bytes) => {
                self.streams += 1;
                self.stream_bytes += bytes.len() as u64;
                let delay = self.stream_delay();
                self.at(self.now + delay, to, Happening::Request { from: node, boot, bytes });
            }
        }
    }

    fn damage(&mut self, mut bytes: Vec<u8>) -> Vec<u8> {
        if self.damage_per_mille > 0 && self.random() % 1000 < self.damage_per_mille && !bytes.is_empty() {
            let at = usize::try_from(self.random()).unwrap() % bytes.len();
            match self.random() % 3 {
                0 => bytes[at] ^= 1 << (self.random() % 8),
                1 => bytes.truncate(at),
                _ => bytes.insert(at, self.random().to_le_bytes()[0]),
            }
        }
        bytes
    }

    /// A stream repeats what was lost: 50 ms for each loss.
    fn stream_delay(&mut self) -> u64 {
        let mut delay = self.delay();
        while self.random() % 1000 < self.loss_per_mille {
            delay += 50 * MS;
        }
        delay
    }

    fn is_connected(&self, from: Node, to: Node) -> bool {
        self.agents[&from].peers.contains_key(&to)
    }

    /// The same, and it is used now.
    fn uses(&mut self, from: Node, to: Node) -> bool {
        let now = self.now;
        let peer = self.agents.get_mut(&from).unwrap().peers.get_mut(&to);
        peer.map(|peer| peer.used = now).is_some()
    }

    /// Room for one more connection: those not used for longest are closed, and both sides know why.
    fn make_room(&mut self, node: Node, but: Node) {
        let peers = &self.agents[&node].peers;
        if peers.len() < self.connections_max || peers.contains_key(&but) {
            return;
        }
        let mut old: Vec<(u64, Node)> =
            peers.iter().filter(|(_, p)| self.now - p.since >= AGE_MIN).map(|(n, p)| (p.used, *n)).collect();
        old.sort_unstable();
        old.truncate(peers.len() + 1 - self.connections_max);
        for (_, peer) in old {
            for (at, with) in [(node, peer), (peer, node)] {
                if self.agents.get_mut(&at).unwrap().peers.remove(&with).is_some() && self.agents[&at].up {
                    self.input(at, Input::Released { node: with });
                }
            }
        }
    }

    /// For what is to be said. Where each is connected with each nobody dials often, and there is no bound.
    fn may_dial(&mut self, node: Node, is_news: bool) -> bool {
        let now = self.now;
        let dials = &mut self.agents.get_mut(&node).unwrap().dials;
        let left = (dials.0 + (now - dials.1) * DIALS_PER_SECOND).min(DIALS_BURST * S);
        let may = left >= if is_news { (DIALS_RESERVED + 1) * S } else { S };
        *dials = (if may { left - S } else { left }, now);
        may || self.connections_max == usize::MAX
    }

    fn reaches(&self, from: Node, to: Node) -> bool {
        !self.cut.contains(&(from, to)) && self.agents.get(&to).is_some_and(|agent| agent.up)
    }

    /// One dial at a time to one address; one that finds nobody ends after a second.
    fn dial(&mut self, from: Node, to: SocketAddr) {
        let now = self.now;
        let agent = self.agents.get_mut(&from).unwrap();
        if agent.dialling.get(&to).is_some_and(|until| *until > now) || to.ip().is_unspecified() {
            return;
        }
        agent.dialling.insert(to, now + S);
        let boot = agent.boot;
        if let Some(target) = self.places.get(&to).copied()
            && target != from
            && self.agents.get(&target).is_some_and(|agent| agent.addr == to && agent.up)
        {
            let delay = self.stream_delay();
            self.at(now + delay, target, Happening::Dial { from, boot });
        }
    }

    fn connect(&mut self, node: Node, with: Node, boot: u64) {
        self.make_room(node, with);
        self.handshakes += 1;
        self.connections += 1;
        let connection = self.connections;
        let (epoch, addr) = {
            let peer = &self.agents[&with];
            (peer.epoch, peer.addr)
        };
        let name = self.agents[&with].core.member(with).unwrap().name.to_string();
        self.agents
            .get_mut(&node)
            .unwrap()
            .peers
            .insert(with, Peer { boot, connection, since: self.now, used: self.now });
        self.agents.get_mut(&node).unwrap().dialling.remove(&addr);
        let version = "0.1.0".to_string();
        self.input(node, Input::Contact { node: with, name, addr, epoch, boot, version });
        let agent = self.agents.get_mut(&node).unwrap();
        let (mine, waiting) = (agent.boot, agent.waiting.remove(&with).unwrap_or_default());
        for (until, word) in waiting {
            if self.now <= until && self.uses(node, with) {
                self.carry(node, mine, with, word);
            }
        }
    }

    fn is_current(&self, node: Node, boot: u64) -> bool {
        self.agents[&node].boot == boot
    }

    fn happen(&mut self, node: Node, what: Happening) {
        if !self.agents[&node].up {
            // A stopped process learns of it when it runs again.
            match what {
                Happening::Lost { .. } => self.at(self.now + S, node, what),
                Happening::Wake => self.agents.get_mut(&node).unwrap().wake_at = None,
                _ => {}
            }
            return;
        }
        match what {
            Happening::Wake => {
                self.agents.get_mut(&node).unwrap().wake_at.take_if(|at| *at <= self.now);
                match self.agents[&node].core.poll_timeout() {
                    Some(at) if at.0 <= self.now => drop(self.input(node, Input::Timeout)),
                    // It was put off meanwhile.
                    later => self.wake_at(node, later),
                }
            }
            Happening::Datagram { from, boot, bytes } => {
                let known = self.agents[&node].peers.get(&from).is_some_and(|peer| peer.boot == boot);
                if known && self.reaches(from, node) {
                    self.input(node, Input::Datagram { from, bytes });
                }
            }
            Happening::Request { from, boot, bytes } => {
                let known = self.agents[&node].peers.get(&from).is_some_and(|peer| peer.boot == boot);
                if known && self.reaches(from, node) {
                    let reply = self.input(node, Input::Exchange { from, bytes }).expect("a reply");
                    self.stream_bytes += reply.len() as u64;
                    let (delay, boot) = (self.stream_delay(), self.agents[&node].boot);
                    self.at(self.now + delay, from, Happening::Reply { from: node, boot, bytes: reply });
                }
            }
            Happening::Reply { from, boot, bytes } => {
                let known = self.agents[&node].peers.get(&from).is_some_and(|peer| peer.boot == boot);
                if known && self.reaches(from, node) {
                    assert!(self.input(node, Input::ExchangeReply { from, bytes }).is_none());
                }
            }
            Happening::Dial { from, boot } => {
                if self.reaches(from, node) && self.reaches(node, from) && self.is_current(from, boot) {
                    let mine = self.agents[&node].boot;
                    let delay = self.stream_delay();
                    self.at(self.now + delay, from, Happening::Connected { with: node, boot: mine });
                    self.connect(node, from, boot);
                }
            }
            Happening::Connected { with, boot } => {
                if self.reaches(with, node) && self.is_current(with, boot) {
                    self.connect(node, with, boot);
                }
            }
            Happening::Lost { with, boot, connection } => {
                let same =
                    self.agents[&node].peers.get(&with).is_some_and(|p| (p.boot, p.connection) == (boot, connection));
                if same && !(self.reaches(with, node) && self.is_current(with, boot)) {
                    self.agents.get_mut(&node).unwrap().peers.remove(&with);
                    self.input(node, Input::Lost { node: with });
                }
            }
        }
    }

    pub(crate) fn run_until(&mut self, end: u64) {
        while let Some(entry) = self.queue.first_entry()
            && entry.key().0 <= end
        {
            let (when, (node, what)) = (entry.key().0, entry.remove());
            self.now = when;
            let what = match what {
                Happening::Datagram { from, boot, bytes } => {
                    Happening::Datagram { from, boot, bytes: self.damage(bytes) }
                }
                Happening::Request { from, boot, bytes } => {
                    Happening::Request { from, boot, bytes: self.damage(bytes) }
                }
                Happening::Reply { from, boot, bytes } => Happening::Reply { from, boot, bytes: self.damage(bytes) },
                other => other,
            };
            self.happen(node, what);
        }
        self.now = end;
    }

    pub(crate) fn run(&mut self, span: u64) {
        self.run_until(self.now + span);
    }

    /// Runs until `done`, in steps of 10 ms; the time it took. Panics after `limit`.
    pub(crate) fn run_while_not(&mut self, limit: u64, story: &str, done: impl Fn(&Self) -> bool) -> u64 {
        let start = self.now;
        while !done(self) {
            assert!(self.now - start < limit, "{story}: not within {} s\n{}", limit / S, self.picture());
            self.run(10 * MS);
        }
        self.now - start
    }
}
