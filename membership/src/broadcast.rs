//! Records on their way: each is sent a number of times, the more urgent first, of equally urgent ones the least sent.
//!
//! What foca tells (who is suspect, down or alive) shares the packets: it comes before all but the most urgent records,
//! and those displace it, who is alive first. It never judges whether a record is news: the roster does.

use crate::dialect::Dialect;
use crate::packet;
use crate::record::Record;
use crate::status::Queue;
use crate::types::{Life, Mono};
use std::collections::{BTreeMap, BTreeSet};

/// Records that may wait at once in small clusters; in large ones two for each member. What is pushed out is not lost:
/// exchanges carry it.
const QUEUED_MIN: usize = 64;
/// Bytes that may wait at once, however many members there are: a thousand records of the usual size, which are as many as
/// gossip among thousands sends often enough in two minutes. A longer queue would only make all of it later.
pub(crate) const QUEUED_BYTES_MAX: usize = 128 << 10;
/// How many records that do not fit a packet are passed over before it is sent as it is.
const MISFITS_MAX: usize = 8;

/// How urgent a record is; smaller is sooner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Urgency {
    /// Somebody goes, or refutes what was said in its name.
    Word,
    /// Who somebody is and where.
    Card,
    /// Only tags have changed.
    Tags,
}

/// Smaller is sent sooner.
type Order = (Urgency, u8, u64);

#[derive(Debug)]
struct Item {
    order: Order,
    life: Life,
    bytes: Box<[u8]>,
    remaining: u8,
    since: Mono,
}

#[derive(Debug, Default)]
pub(crate) struct Broadcasts {
    items: BTreeMap<u64, Item>,
    queue: BTreeSet<(Order, u64)>,
    sequence: u64,
    bytes: usize,
    dropped: u64,
}

impl Broadcasts {
    pub(crate) fn len(&self) -> usize {
        self.items.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    pub(crate) fn contains(&self, node: u64) -> bool {
        self.items.contains_key(&node)
    }

    /// The most records that may wait in a cluster of so many.
    pub(crate) fn room(members: usize) -> usize {
        QUEUED_MIN.max(2 * members)
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// For people.
    pub(crate) fn picture(&self, now: Mono) -> Queue {
        let count = |urgency| self.queue.iter().filter(|((of, _, _), _)| *of == urgency).count();
        Queue {
            words: count(Urgency::Word),
            cards: count(Urgency::Card),
            tags: count(Urgency::Tags),
            bytes: self.bytes,
            oldest: self.items.values().map(|item| now.since(item.since)).max().unwrap_or_default(),
            dropped: self.dropped,
        }
    }

    /// Send this record `transmissions` times; an older one of the same node is dropped, and where there is no room for
    /// it in a cluster of so many, the least urgent one.
    pub(crate) fn push(&mut self, record: &Record, urgency: Urgency, transmissions: u8, members: usize, now: Mono) {
        let node = record.node;
        // Who goes still goes when it changes its tags, too.
        let before = self.items.get(&node).filter(|item| item.life == record.life).map(|item| item.order.0);
        let urgency = before.map_or(urgency, |before| before.min(urgency));
        self.remove(node);
        self.sequence += 1;
        let order = (urgency, 0, self.sequence);
        let bytes = record.to_bytes().into_boxed_slice();
        let item = Item { order, life: record.life, bytes, remaining: transmissions, since: now };
        self.bytes += item.bytes.len();
        self.queue.insert((order, node));
        self.items.insert(node, item);
        while self.items.len() > Self::room(members) || self.bytes > QUEUED_BYTES_MAX {
            let Some(&(_, least)) = self.queue.last() else { break };
            self.remove(least);
            self.dropped += 1;
        }
    }

    pub(crate) fn remove(&mut self, node: u64) {
        if let Some(item) = self.items.remove(&node) {
            self.bytes -= item.bytes.len();
            self.queue.remove(&(item.order, node));
        }
    }

    /// How long the record is that must not wait for what foca says.
    pub(crate) fn urgent_bytes(&self) -> Option<usize> {
        let ((urgency, _, _), node) = self.queue.first()?;
        (*urgency == Urgency::Word).then(|| self.items.get(node).map(|item| item.bytes.len()))?
    }

    /// Fills the room left in a packet to a member that speaks this dialect; `encode_first` makes a record of the first
    /// of what is held of a node.
    pub(crate) fn fill(
        &mut self,
        packet: &mut Vec<u8>,
        dialect: Dialect,
        encode_first: impl Fn(u64) -> Option<Vec<u8>>,
    ) {
        let mut sent = Vec::new();
        let mut misfits = 0;
        for &(_, node) in &self.queue {
            let Some(item) = self.items.get(&node) else { continue };
            let fits = match dialect {
                Dialect::First => encode_first(node).is_some_and(|record| packet::append(packet, &record)),
                Dialect::Second => packet::append(packet, &item.bytes),
            };
            if fits {
                sent.push(node);
            } else {
                misfits += 1;
                if misfits == MISFITS_MAX {
                    break;
                }
            }
        }
        for node in sent {
            let Some(item) = self.items.get_mut(&node) else { continue };
            self.queue.remove(&(item.order, node));
            item.remaining = item.remaining.saturating_sub(1);
            if item.remaining == 0 {
                self.remove(node);
            } else {
                item.order.1 = item.order.1.saturating_add(1);
                self.queue.insert((item.order, node));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tag_store::TagNews;

    fn record(node: u64, leaving: bool) -> Record {
        Record {
            node,
            life: Life { epoch: 1, boot: 1 },
            lamport: 1,
            leaving,
            place: crate::place::Place::V4([10, 0, 0, 1], 1),
            name: "n".into(),
            version: "1".into(),
            tags: TagNews::of_first(&crate::tags::Tags::default()),
        }
    }

    fn sent(broadcasts: &mut Broadcasts) -> Vec<u64> {
        let mut packet = vec![0; packet::PACKET_BYTES_MAX - 2 * 60];
        let before: BTreeMap<u64, u8> = broadcasts.items.iter().map(|(n, item)| (*n, item.remaining)).collect();
        broadcasts.fill(&mut packet, Dialect::Second, |_| unreachable!());
        let left = |n: &u64| broadcasts.items.get(n).map(|item| item.remaining);
        before.iter().filter(|(n, was)| left(n) != Some(**was)).map(|(n, _)| *n).collect()
    }

    #[test]
    fn the_urgent_leave_first_whenever_they_came() {
        let mut broadcasts = Broadcasts::default();
        for (node, urgency) in [(1, Urgency::Tags), (2, Urgency::Card), (3, Urgency::Tags), (4, Urgency::Word)] {
            broadcasts.push(&record(node, urgency == Urgency::Word), urgency, 2, 10, Mono(0));
        }
        // Two fit a packet.
        assert_eq!(sent(&mut broadcasts), [2, 4]);
        assert_eq!(sent(&mut broadcasts), [2, 4], "until they were sent often enough");
        assert_eq!(sent(&mut broadcasts), [1, 3]);
    }

    #[test]
    fn what_is_full_drops_the_least_urgent_and_says_so() {
        let mut broadcasts = Broadcasts::default();
        for node in 0..128 {
            let urgency = if node < 100 { Urgency::Tags } else { Urgency::Word };
            broadcasts.push(&record(node + 1, false), urgency, 8, 64, Mono(node));
        }
        let picture = broadcasts.picture(Mono(1_000));
        assert_eq!((picture.words, picture.tags, picture.dropped), (28, 100, 0), "at the bound: two for each member");
        assert_eq!(picture.oldest.as_micros(), 1_000);
        broadcasts.push(&record(999, true), Urgency::Word, 8, 64, Mono(0));
        let picture = broadcasts.picture(Mono(0));
        assert_eq!((picture.words, picture.tags, picture.dropped), (29, 99, 1), "one past it");
        let bytes: usize = broadcasts.items.values().map(|item| item.bytes.len()).sum();
        assert_eq!(picture.bytes, bytes);
        // However many members there are, bytes have a bound of their own.
        for node in 0..100_000 {
            broadcasts.push(&record(node + 1, false), Urgency::Card, 8, 100_000, Mono(0));
        }
        let picture = broadcasts.picture(Mono(0));
        assert!(picture.bytes <= QUEUED_BYTES_MAX && picture.bytes > QUEUED_BYTES_MAX - 200, "{picture:?}");
        assert!(broadcasts.contains(999), "the urgent one is still there");
    }
}
