//! Records on their way: each is sent a number of times, the least sent first, leave intents before all.
//!
//! It never judges whether a record is news: the roster does.

use crate::packet;
use crate::record::Record;
use std::collections::{BTreeMap, BTreeSet};

/// The most records on their way at once. What is pushed out is not lost: exchanges carry it.
pub(crate) const BACKLOG_MAX: usize = 1024;
/// How many records that do not fit a packet are passed over before it is sent as it is.
const MISFITS_MAX: usize = 8;

/// Smaller is sent sooner.
type Order = (bool, u8, u64);

#[derive(Debug)]
struct Item {
    order: Order,
    bytes: Vec<u8>,
    remaining: u8,
}

#[derive(Debug, Default)]
pub(crate) struct Broadcasts {
    items: BTreeMap<u64, Item>,
    queue: BTreeSet<(Order, u64)>,
    sequence: u64,
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

    /// Send this record `transmissions` times; an older one of the same node is dropped.
    pub(crate) fn push(&mut self, record: &Record, transmissions: u8) {
        self.remove(record.node);
        if self.items.len() >= BACKLOG_MAX
            && let Some(&(_, most_sent)) = self.queue.last()
        {
            self.remove(most_sent);
        }
        self.sequence += 1;
        let item =
            Item { order: (!record.leaving, 0, self.sequence), bytes: record.to_bytes(), remaining: transmissions };
        self.queue.insert((item.order, record.node));
        self.items.insert(record.node, item);
    }

    pub(crate) fn remove(&mut self, node: u64) {
        if let Some(item) = self.items.remove(&node) {
            self.queue.remove(&(item.order, node));
        }
    }

    /// Fills the room left in a packet.
    pub(crate) fn fill(&mut self, packet: &mut Vec<u8>) {
        let mut sent = Vec::new();
        let mut misfits = 0;
        for &(_, node) in &self.queue {
            let Some(item) = self.items.get(&node) else { continue };
            if packet::append(packet, &item.bytes) {
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
                self.items.remove(&node);
            } else {
                item.order.1 = item.order.1.saturating_add(1);
                self.queue.insert((item.order, node));
            }
        }
    }
}
