//! Warm connections under the gossip core: how many there are, how often members greet, and that nobody is suspected for
//! being cold. Real cores, the policy of this module, and a network of handshakes and milliseconds.

use super::*;
use quorate_membership::{Event, Input, Local, Membership, Now, Options, Output, State, Tags, is_only_news};
use std::net::SocketAddr;

const MS: u64 = 1_000;
const S: u64 = 1_000_000;
/// A handshake on a LAN: some round trips and two signatures.
const HANDSHAKE: u64 = 8 * MS;
/// What a dial to nobody takes.
const NO_ANSWER: u64 = 3 * S;
/// How often the policies have their turn.
const TURN: u64 = 100 * MS;

enum Happening {
    Turn,
    Datagram(u64, Vec<u8>),
    Asked(u64, Vec<u8>),
    Answered(u64, Vec<u8>),
    Greeted(u64),
    NoAnswer(u64),
    Closed(u64),
}

struct Agent {
    core: Membership,
    warm: Warm,
    up: BTreeMap<u64, ()>,
    alive: bool,
    woken: u64,
    failed: Vec<(u64, u64)>,
    suspected: usize,
    most: usize,
}

struct World {
    now: u64,
    agents: BTreeMap<u64, Agent>,
    queue: BTreeMap<(u64, u64), (u64, Happening)>,
    sequence: u64,
    handshakes: u64,
    closed: u64,
    dials: u64,
}

fn addr(node: u64) -> SocketAddr {
    SocketAddr::from(([10, 0, (node >> 8) as u8, node as u8], 7373))
}

fn mono(at: u64) -> quorate_raft::Mono {
    quorate_raft::Mono(at)
}

impl World {
    fn of(n: u64, room: usize) -> Self {
        let mut world = Self {
            now: S,
            agents: BTreeMap::new(),
            queue: BTreeMap::new(),
            sequence: 0,
            handshakes: 0,
            closed: 0,
            dials: 0,
        };
        for node in 1..=n {
            let local = Local {
                node,
                name: format!("a{node}"),
                addr: addr(node),
                epoch: 1,
                boot: 11,
                version: "1".into(),
                tags: Tags::default(),
            };
            let core = Membership::new(Options::lan(), local, node * 7919, world.clock()).unwrap();
            let mut warm = Warm::with_room(room);
            warm.resize(n as usize);
            let agent = Agent {
                core,
                warm,
                up: BTreeMap::new(),
                alive: true,
                woken: 0,
                failed: Vec::new(),
                suspected: 0,
                most: 0,
            };
            world.agents.insert(node, agent);
            world.at(world.now + node * 997 % TURN, node, Happening::Turn);
        }
        world
    }

    fn clock(&self) -> Now {
        Now { mono: quorate_membership::Mono(self.now), wall_us: 0 }
    }

    fn at(&mut self, at: u64, node: u64, what: Happening) {
        self.sequence += 1;
        self.queue.insert((at, self.sequence), (node, what));
    }

    fn input(&mut self, node: u64, input: Input) -> Option<Vec<u8>> {
        let clock = self.clock();
        let agent = self.agents.get_mut(&node).unwrap();
        agent.core.handle(clock, input);
        let mut reply = None;
        while let Some(output) = self.agents.get_mut(&node).unwrap().core.poll_output() {
            match output {
                Output::Datagram { to, bytes, .. } => self.speak(node, to, Word::Datagram(bytes)),
                Output::Exchange { to, bytes, .. } => self.speak(node, to, Word::Exchange(bytes)),
                Output::ExchangeReply { bytes, .. } => reply = Some(bytes),
                Output::SeedsWanted if node != 1 => self.dial(node, 1),
                Output::Reconnect { node: to, .. } => {
                    let agent = &self.agents[&node];
                    if !agent.core.is_alive(to) && !agent.up.contains_key(&to) {
                        self.dial(node, to);
                    }
                }
                Output::Event(Event::Failed(member)) => {
                    let now = self.now;
                    self.agents.get_mut(&node).unwrap().failed.push((now, member.node));
                }
                Output::Event(Event::Suspected(_)) => self.agents.get_mut(&node).unwrap().suspected += 1,
                _ => {}
            }
        }
        reply
    }

    fn speak(&mut self, node: u64, to: u64, word: Word) {
        let now = mono(self.now);
        let agent = self.agents.get_mut(&node).unwrap();
        if agent.up.contains_key(&to) {
            agent.warm.used(to, now);
            return self.carry(node, to, word);
        }
        let is_news = matches!(&word, Word::Datagram(bytes) if is_only_news(bytes));
        if agent.warm.say(to, now, word, Options::lan().probe_period, is_news) {
            self.dial(node, to);
        }
    }

    fn carry(&mut self, node: u64, to: u64, word: Word) {
        let at = self.now + MS;
        match word {
            Word::Datagram(bytes) => self.at(at, to, Happening::Datagram(node, bytes)),
            Word::Exchange(bytes) => self.at(at, to, Happening::Asked(node, bytes)),
        }
    }

    fn dial(&mut self, node: u64, to: u64) {
        self.dials += 1;
        if self.agents.get(&to).is_some_and(|agent| agent.alive) {
            self.at(self.now + HANDSHAKE, node, Happening::Greeted(to));
        } else {
            self.at(self.now + NO_ANSWER, node, Happening::NoAnswer(to));
        }
    }

    fn connect(&mut self, node: u64, with: u64) {
        let now = mono(self.now);
        let agent = self.agents.get_mut(&node).unwrap();
        if agent.up.insert(with, ()).is_some() {
            return;
        }
        agent.most = agent.most.max(agent.up.len());
        let waiting = agent.warm.up(with, now);
        let (name, addr) = (format!("a{with}"), addr(with));
        self.input(node, Input::Contact { node: with, name, addr, epoch: 1, boot: 11, version: "1".into() });
        waiting.into_iter().for_each(|word| self.carry(node, with, word));
    }

    fn close(&mut self, node: u64, with: u64) {
        let agent = self.agents.get_mut(&node).unwrap();
        if agent.up.remove(&with).is_some() {
            agent.warm.down(with);
            self.input(node, Input::Released { node: with });
        }
    }

    fn happen(&mut self, node: u64, what: Happening) {
        if !self.agents[&node].alive {
            return;
        }
        let now = mono(self.now);
        let heard = |world: &mut Self, from: u64| {
            let agent = world.agents.get_mut(&node).unwrap();
            agent.warm.used(from, now);
            agent.up.contains_key(&from)
        };
        match what {
            Happening::Turn => {
                let agent = self.agents.get_mut(&node).unwrap();
                let members = agent.core.alive_count();
                let closed = agent.warm.take_unwanted(now, members, |_| false);
                self.closed += closed.len() as u64;
                for with in closed {
                    self.close(node, with);
                    self.at(self.now + MS, with, Happening::Closed(node));
                }
                self.at(self.now + TURN, node, Happening::Turn);
            }
            Happening::Datagram(from, bytes) => {
                if heard(self, from) {
                    self.input(node, Input::Datagram { from, bytes });
                }
            }
            Happening::Asked(from, bytes) => {
                if heard(self, from)
                    && let Some(bytes) = self.input(node, Input::Exchange { from, bytes })
                {
                    self.at(self.now + MS, from, Happening::Answered(node, bytes));
                }
            }
            Happening::Answered(from, bytes) => {
                if heard(self, from) {
                    self.input(node, Input::ExchangeReply { from, bytes });
                }
            }
            Happening::Greeted(to) => {
                if self.agents[&to].alive {
                    self.handshakes += 1;
                    self.connect(to, node);
                    self.connect(node, to);
                }
            }
            Happening::NoAnswer(to) => self.agents.get_mut(&node).unwrap().warm.failed(to, now),
            Happening::Closed(with) => self.close(node, with),
        }
    }

    fn run(&mut self, span: u64) {
        let end = self.now + span;
        loop {
            let timer = self.agents.iter().filter(|(_, a)| a.alive);
            let timer = timer.filter_map(|(n, a)| Some((a.core.poll_timeout()?.0, *n))).min();
            let next = self.queue.first_key_value().map(|((at, _), _)| *at);
            match (timer, next) {
                (Some((at, node)), next) if next.is_none_or(|next| at <= next) && at <= end => {
                    self.now = self.now.max(at);
                    self.agents.get_mut(&node).unwrap().woken += 1;
                    self.input(node, Input::Timeout);
                }
                (_, Some(at)) if at <= end => {
                    self.now = self.now.max(at);
                    if let Some(((_, _), (node, what))) = self.queue.pop_first() {
                        self.happen(node, what);
                    }
                }
                _ => break,
            }
        }
        self.now = end;
    }

    fn alive(&self) -> impl Iterator<Item = &Agent> {
        self.agents.values().filter(|agent| agent.alive)
    }

    fn is_whole(&self) -> bool {
        let count = self.alive().count();
        self.alive().all(|agent| agent.core.alive_count() == count)
    }

    fn run_until(&mut self, limit: u64, what: &str, done: impl Fn(&Self) -> bool) -> u64 {
        let start = self.now;
        while !done(self) {
            assert!(self.now - start < limit, "{what}: not within {} s", limit / S);
            self.run(200 * MS);
        }
        self.now - start
    }

    fn kill(&mut self, node: u64) {
        self.agents.get_mut(&node).unwrap().alive = false;
        let others: Vec<u64> = self.agents[&node].up.keys().copied().collect();
        // The transport's idle timeout.
        others.into_iter().for_each(|with| self.at(self.now + 4 * S, with, Happening::Closed(node)));
    }
}

/// The story at any size: all find together, hold no more than the bound for long, greet seldom, suspect nobody in peace,
/// and notice who dies.
fn story(n: u64, room: usize, calm: u64) {
    let mut world = World::of(n, room);
    let whole = world.run_until(120 * S, "all find together", World::is_whole);
    world.run(60 * S);
    let (handshakes, closed, dials) = (world.handshakes, world.closed, world.dials);
    let suspected: usize = world.alive().map(|a| a.suspected).sum();
    world.agents.values_mut().for_each(|agent| agent.most = agent.up.len());
    world.run(calm);
    let agents = n as f64 * (calm / S) as f64;
    let rate = (world.handshakes - handshakes) as f64 / agents;
    let most = world.alive().map(|agent| agent.most).max().unwrap();
    let mean = world.alive().map(|agent| agent.up.len()).sum::<usize>() / n as usize;
    let accused = world.alive().map(|a| a.suspected).sum::<usize>() - suspected;
    assert!(world.alive().all(|agent| agent.failed.is_empty()), "nobody died");
    assert_eq!(accused, 0, "nobody is suspected for being cold");
    assert!(world.is_whole());
    // A handshake too many is a race of two who dial each other; a storm would be one for each word.
    assert!(rate < 4.0, "{rate} handshakes a second and agent");
    assert!(most <= room + room / 2, "{most} connections");
    assert!(world.dials - dials < 6 * n * (calm / S));
    world.kill(n);
    let dead = n;
    let begun = world.now;
    let known = world.run_until(60 * S, "it is known to be dead", |world| {
        world.alive().all(|agent| agent.core.member(dead).is_none_or(|m| m.state == State::Failed))
    });
    let first = world.alive().flat_map(|a| &a.failed).filter(|(_, of)| *of == dead).map(|(at, _)| at - begun).min();
    assert!(world.alive().all(|agent| agent.failed.iter().all(|(_, of)| *of == dead)), "and nobody else");
    // Nobody dials the dead without a pause: once a second, then ever more seldom.
    let before = world.dials;
    let greeted = world.handshakes;
    world.run(10 * S);
    let vain = (world.dials - before).saturating_sub(world.handshakes - greeted);
    println!(
        "{n} agents, room for {room}: whole after {:.1} s; connections {mean} on average, {most} at most; \
         {rate:.2} handshakes and {:.2} closings a second and agent; a death known to the first after {:.1} s, to all \
         after {:.1} s; {vain} dials in vain in the 10 s after",
        whole as f64 / S as f64,
        (world.closed - closed) as f64 / agents,
        first.unwrap_or_default() as f64 / S as f64,
        known as f64 / S as f64,
    );
    assert!(vain < 3 * n, "{vain} dials in vain");
}

#[test]
fn seventy_agents_with_room_for_sixteen_stay_together() {
    story(70, 16, 20 * S);
}

/// The bound of the contract at its size. `QUORATE_WARM_AGENTS=500 cargo test --release -p quorate --lib warm` tells more.
#[test]
fn as_many_as_asked_for_stay_together() {
    if let Some(n) = std::env::var("QUORATE_WARM_AGENTS").ok().and_then(|text| text.parse().ok()) {
        story(n, WARM_MAX, 120 * S);
    }
}

#[test]
fn a_member_out_of_reach_is_dialled_ever_more_seldom() {
    let mut warm = Warm::default();
    warm.resize(100);
    let word = || Word::Datagram(vec![1]);
    let (mut dialled, mut at) = (Vec::new(), 0);
    while at < 200 * S {
        if warm.say(7, mono(at), word(), Duration::from_millis(500), false) {
            dialled.push(at / S);
            warm.failed(7, mono(at));
        }
        at += 100 * MS;
    }
    assert_eq!(dialled, [0, 1, 3, 7, 15, 31, 61, 91, 121, 151, 181], "1 s, doubled up to 30 s");
    // Who comes by itself is out of reach no more.
    warm.up(7, mono(at));
    warm.down(7);
    assert!(warm.say(7, mono(at), word(), Duration::from_millis(500), false));
}

#[test]
fn dials_have_a_rate_and_news_wait_behind_probes() {
    let mut warm = Warm::default();
    warm.resize(100);
    let worth = Duration::from_millis(500);
    let mut say = |node: u64, is_news| {
        let dialled = warm.say(node, mono(0), Word::Datagram(vec![1]), worth, is_news);
        if dialled {
            warm.up(node, mono(0));
        }
        dialled
    };
    assert_eq!((1..=100).filter(|node| say(*node, true)).count(), 16);
    assert_eq!((101..=200).filter(|node| say(*node, false)).count(), 16);
    let later = |warm: &mut Warm, at| warm.say(999, mono(at), Word::Datagram(vec![1]), worth, false);
    assert!(!later(&mut warm, 60 * MS) && later(&mut warm, 63 * MS), "sixteen a second");
}

#[test]
fn what_waits_for_a_connection_is_little_and_not_late() {
    let mut warm = Warm::default();
    warm.resize(100);
    let worth = Duration::from_millis(500);
    assert!(warm.say(7, mono(0), Word::Datagram(vec![0]), worth, false));
    for i in 1..=9 {
        assert!(!warm.say(7, mono(u64::from(i) * 50 * MS), Word::Datagram(vec![i]), worth, false), "once is enough");
    }
    let told = warm.up(7, mono(700 * MS));
    assert_eq!(told, [4, 5, 6, 7, 8, 9].map(|i| Word::Datagram(vec![i])), "at most eight, none later than it is worth");
}

#[test]
fn the_least_lately_used_are_closed_first_and_pinned_ones_never() {
    let mut warm = Warm::with_room(10);
    warm.resize(200);
    for node in 0..30 {
        warm.up(node, mono(node * MS));
    }
    assert_eq!(warm.take_unwanted(mono(S), 200, |_| false), [0; 0], "too young to be closed for room");
    warm.used(0, mono(6 * S));
    let closed = warm.take_unwanted(mono(6 * S), 200, |node| node == 2);
    assert_eq!(closed, [1, 3, 4, 5, 6, 7, 8, 9], "a few at a time");
    closed.into_iter().for_each(|node| warm.down(node));
    warm.used(29, mono(50 * S));
    let unused = warm.take_unwanted(mono(61 * S), 200, |node| node == 2);
    assert_eq!(unused.len(), 8);
    assert!(!unused.contains(&29) && !unused.contains(&2));
    // In a cluster where each has its turn within that time a connection lives longer.
    let mut small = Warm::with_room(100);
    small.resize(100);
    small.up(1, mono(0));
    assert_eq!(small.take_unwanted(mono(149 * S), 100, |_| false), [0; 0]);
    assert_eq!(small.take_unwanted(mono(150 * S), 100, |_| false), [1]);
}

#[test]
fn a_cluster_at_the_border_does_not_change_its_mind_with_each_newcomer() {
    let mut warm = Warm::default();
    let mut after = |members| {
        warm.resize(members);
        warm.is_sparse()
    };
    assert_eq!([64, 65, 64, 49, 48, 64, 65].map(&mut after), [false, true, true, true, false, false, true]);
}
