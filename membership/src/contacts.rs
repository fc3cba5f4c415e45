//! Contacts: what follows from a connection that is up, or gone.
//!
//! They never decide who is who: the caller's handshake has proven that.

use crate::entry::Contact;
use crate::identity::Identity;
use crate::io::Output;
use crate::member::{is_name, is_version};
use crate::membership::Membership;
use crate::place::is_dialable;
use rand::RngExt;

/// Up to this many present members a contact always exchanges tables; beyond, only if it is news.
const SMALL_CLUSTER: usize = 32;

impl Membership {
    /// A connection with a proven peer is up.
    pub(crate) fn contact(&mut self, node: u64, contact: Contact) {
        if node == 0 || node == self.me {
            return self.alarm(node, "a connection with this node's own id");
        }
        if !is_name(&contact.name) || !is_version(&contact.version) {
            return self.alarm(node, "a connection with an illegal name or version");
        }
        if self.departed || self.forgotten.contains(&node) {
            return;
        }
        if self.roster.get(node).is_none() && self.roster.is_full() {
            if let Some(forgotten) = self.roster.make_room() {
                let effects = self.swim.forget(forgotten);
                self.carry_out(effects);
            }
            if self.roster.is_full() {
                return self.alarm(node, "no room for another member: raise members_max");
            }
        }
        let entry = self.roster.get(node);
        if entry.and_then(|entry| entry.contact()).is_some_and(|known| contact.life < known.life) {
            // The connection of a former process, reported late.
            return;
        }
        let was_present = entry.is_some_and(|entry| entry.is_present() && entry.life() == Some(contact.life));
        let seen = entry.and_then(|entry| entry.seen);
        let known = seen.filter(|seen| seen.identity.life == contact.life);
        let rumour = seen.filter(|seen| seen.identity.life > contact.life);
        let life = contact.life;
        let addr = contact.addr;
        self.roster.contact(node, contact, self.now);
        let identity = known.map_or(Identity { node, life, bump: 0, place: addr.into() }, |seen| seen.identity);
        if let Some(rumour) = rumour {
            let effects = self.swim.replace(rumour.identity, identity);
            self.carry_out(effects);
        } else if known.is_none() {
            let effects = self.swim.apply(vec![foca::Member::alive(identity)], true);
            self.carry_out(effects);
        }
        if !was_present {
            // It answers with a sample of its table, or with the news that it holds us for dead.
            let effects = self.swim.announce(identity);
            self.carry_out(effects);
        }
        if !was_present || self.roster.present() <= SMALL_CLUSTER {
            self.exchange_with(node);
        }
        self.ask_again(node);
    }

    /// Whether this node is to do what would be too much if all did it: always among few members, else by chance.
    pub(crate) fn is_one_of_few(&mut self) -> bool {
        let present = self.roster.present();
        present <= SMALL_CLUSTER || self.rng.random_range(0..present) < self.options.fanout
    }

    pub(crate) fn lost(&mut self, node: u64) {
        self.roster.lost(node);
        if !self.departed {
            self.suspect_if_probes_are_late(node);
        }
        if !self.departed
            && let Some(entry) = self.roster.get(node)
            && entry.is_present()
            && is_dialable(entry.addr())
        {
            self.outbox.push_back(Output::Reconnect { node, addr: entry.addr() });
        }
    }
}
