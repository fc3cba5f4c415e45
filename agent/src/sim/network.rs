//! Network: connections between processes as the transport keeps them, and what may get through.
//!
//! Like QUIC: the frames of one lane of one connection arrive in order or not at all, datagrams as they like; what
//! cannot get through waits, until the connection has been silent for too long. It knows no meaning of any byte.

use super::plan::Knobs;
use super::random::Random;
use crate::node::Class;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;

/// One side of a connection.
#[derive(Clone, Debug)]
pub(super) struct End {
    pub(super) machine: usize,
    pub(super) life: u64,
    pub(super) node: u64,
    pub(super) addr: SocketAddr,
    /// It is up on this side; the other side may think otherwise.
    pub(super) up: bool,
    /// When this side last heard anything.
    pub(super) heard: u64,
    /// Since when something that it said has had no answer.
    pub(super) said: Option<u64>,
}

impl End {
    /// Is it the same process? Machines count their lives each for itself, also those on copies of one disk.
    pub(super) fn is_of(&self, other: &Self) -> bool {
        (self.machine, self.life) == (other.machine, other.life)
    }
}

/// One connection; end 0 has dialled.
#[derive(Clone, Debug)]
pub(super) struct Link {
    pub(super) ends: [End; 2],
    /// When the last frame to each end arrives, by lane: a later one does not overtake it.
    last: [[u64; 2]; 2],
    /// Frames that wait for a way to each end.
    pub(super) stalled: [VecDeque<(Class, Bytes)>; 2],
    /// What was sent on the bulk lane before is lost.
    pub(super) bulk_epoch: u64,
}

/// All connections and the state of the ways between machines.
pub(super) struct Network {
    pub(super) links: BTreeMap<u64, Link>,
    next: u64,
    /// Nothing gets from the first to the second machine.
    pub(super) cut: BTreeSet<(usize, usize)>,
    /// These read nothing from their connections.
    pub(super) not_reading: BTreeSet<usize>,
    /// The connection of these breaks under their next frame.
    pub(super) breaking: BTreeSet<usize>,
    /// Gossip that may come again: from whom to whom, when it was sent.
    pub(super) old_gossip: BTreeMap<(usize, usize), VecDeque<OldGossip>>,
    pub(super) loss: u64,
    pub(super) duplicate: u64,
    pub(super) reorder: u64,
    pub(super) delay_us_min: u64,
    pub(super) delay_us_max: u64,
}

/// After a lost packet, until it is sent again.
const RESEND_US: u64 = 60_000;
/// How much longer a packet takes at most that others overtake.
const OVERTAKEN_US: u64 = 3_000_000;
/// Gossip packets kept for each way, to come again.
const OLD_GOSSIP_MAX: usize = 24;

/// A gossip packet that may come again.
#[derive(Clone, Debug)]
pub(super) struct OldGossip {
    pub(super) sent: u64,
    /// Who sent it: a machine may have become another node since.
    pub(super) node: u64,
    pub(super) bytes: Vec<u8>,
}

/// How a frame gets through.
pub(super) struct Passage {
    /// When it arrives.
    pub(super) arrives: u64,
    /// How often it was lost on the way.
    pub(super) lost: u64,
    /// It took far longer than others.
    pub(super) late: bool,
}

impl Network {
    pub(super) fn new(knobs: &Knobs) -> Self {
        Self {
            links: BTreeMap::new(),
            next: 0,
            cut: BTreeSet::new(),
            not_reading: BTreeSet::new(),
            breaking: BTreeSet::new(),
            old_gossip: BTreeMap::new(),
            loss: knobs.loss,
            duplicate: knobs.duplicate,
            reorder: knobs.reorder,
            delay_us_min: knobs.delay_us_min,
            delay_us_max: knobs.delay_us_max,
        }
    }

    /// How long one packet takes.
    pub(super) fn delay(&self, random: &mut Random) -> u64 {
        random.between(self.delay_us_min, self.delay_us_max)
    }

    /// Does anything get from one machine to the other?
    pub(super) fn is_open(&self, from: usize, to: usize) -> bool {
        !self.cut.contains(&(from, to))
    }

    pub(super) fn insert(&mut self, dialler: End, acceptor: End) -> u64 {
        self.next += 1;
        let stalled = [VecDeque::new(), VecDeque::new()];
        let link = Link { ends: [dialler, acceptor], last: [[0; 2]; 2], stalled, bulk_epoch: 0 };
        self.links.insert(self.next, link);
        self.next
    }

    /// Something is said to this end.
    pub(super) fn say(&mut self, link: u64, to: usize, at: u64) {
        if let Some(link) = self.links.get_mut(&link) {
            link.ends[1 - to].said.get_or_insert(at);
        }
    }

    /// How much longer this packet takes than others; mostly no longer.
    pub(super) fn detour(&self, random: &mut Random) -> u64 {
        if random.chance(self.reorder) { random.between(1, OVERTAKEN_US) } else { 0 }
    }

    /// A gossip packet is kept, to come again: the first ones, then ever newer ones.
    pub(super) fn remember_gossip(&mut self, from: usize, to: usize, at: u64, node: u64, bytes: &[u8]) {
        let kept = self.old_gossip.entry((from, to)).or_default();
        if kept.len() >= OLD_GOSSIP_MAX {
            // Half of them stay as old as they are.
            kept.remove(OLD_GOSSIP_MAX / 2);
        }
        kept.push_back(OldGossip { sent: at, node, bytes: bytes.to_vec() });
    }

    /// How a frame sent now gets to this end.
    pub(super) fn arrival(&mut self, link: u64, to: usize, class: Class, at: u64, random: &mut Random) -> Passage {
        let detour = self.detour(random);
        let (mut arrives, late) = (at + self.delay(random) + detour, detour > 0);
        let mut lost = 0;
        while lost < 5 && random.chance(self.loss) {
            arrives += RESEND_US;
            lost += 1;
        }
        let Some(link) = self.links.get_mut(&link) else { return Passage { arrives, lost, late } };
        let last = &mut link.last[to][lane(class)];
        *last = arrives.max(*last + 1);
        Passage { arrives: *last, lost, late }
    }

    /// Frames to this end must not arrive before.
    pub(super) fn not_before(&mut self, link: u64, to: usize, at: u64) {
        if let Some(link) = self.links.get_mut(&link) {
            for last in &mut link.last[to] {
                *last = at.max(*last);
            }
        }
    }

    /// The connection on which a process reaches a node: the one it dialled, else the other.
    pub(super) fn route(&self, machine: usize, life: u64, node: u64) -> Option<(u64, usize)> {
        let mine = |end: &End| end.machine == machine && end.life == life && end.up;
        let side = |side: usize| {
            let found = self.links.iter().find(|(_, l)| mine(&l.ends[side]) && l.ends[1 - side].node == node);
            found.map(|(id, _)| (*id, 1 - side))
        };
        side(0).or_else(|| side(1))
    }

    /// Connections on which this process still is.
    pub(super) fn of(&self, machine: usize, life: u64) -> Vec<(u64, usize)> {
        let mut all = Vec::new();
        for (id, link) in &self.links {
            for (side, end) in link.ends.iter().enumerate() {
                if end.machine == machine && end.life == life && end.up {
                    all.push((*id, side));
                }
            }
        }
        all
    }
}

pub(super) fn lane(class: Class) -> usize {
    match class {
        Class::Peer => 0,
        Class::Bulk => 1,
    }
}
