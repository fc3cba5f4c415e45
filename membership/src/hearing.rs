//! Hearing: what a datagram may say, and what is taken out before foca hears of it.
//!
//! It never trusts a datagram for more than the connection that it came on.

use crate::entry::Seen;
use crate::hearsay::{Worth, is_beyond};
use crate::identity::Identity;
use crate::io::Output;
use crate::lie::Lie;
use crate::membership::Membership;
use crate::packet::{self, FocaPacket};
use crate::swim::Way;
use foca::{Message, State};
use std::collections::BTreeSet;
use std::time::Duration;

/// The first wait between two renewals; it doubles up to [`RENEW_WAIT_MAX`], and starts again after a calm of that.
const RENEW_WAIT_MIN: Duration = Duration::from_secs(1);
const RENEW_WAIT_MAX: Duration = Duration::from_secs(60);

impl Membership {
    /// A datagram came.
    pub(crate) fn hear(&mut self, from: u64, bytes: &[u8], way: Way) {
        if self.departed {
            return;
        }
        let mut packet = match packet::decode(bytes) {
            Ok(packet) => packet,
            Err(malformed) => return self.accuse(from, malformed.0, malformed.lie()),
        };
        let src = packet.foca.header.src;
        if src.node != from {
            let what = "a datagram that speaks for another node than its connection";
            return self.accuse(from, what, Some(Lie::OtherNode));
        }
        let contact = self.roster.get(from).and_then(|entry| entry.contact());
        match contact.map(|contact| src.life.cmp(&contact.life)) {
            Some(std::cmp::Ordering::Equal) => {}
            Some(std::cmp::Ordering::Greater) => {
                return self.alarm(from, "a datagram that speaks for a later life than its connection has proven");
            }
            // Of a former process, late; or of somebody for whom there was no room.
            Some(std::cmp::Ordering::Less) | None => {
                self.counters.refused += 1;
                return;
            }
        }
        self.counters.datagrams_received += 1;
        self.hear_dialect(from, packet.dialect);
        let incarnation = packet.foca.header.src_incarnation;
        self.hear_own_word(from, &Seen { identity: src, incarnation, liveness: State::Alive });
        // Records first: then a member that foca is about to announce is known by name.
        for record in std::mem::take(&mut packet.records) {
            self.hear_record(from, record, true);
        }
        let Some(changed) = self.censor(from, &mut packet.foca) else { return };
        let encoded;
        let foca_bytes = if changed {
            let Ok(bytes) = packet.foca.encode() else { return };
            encoded = bytes;
            encoded.as_slice()
        } else {
            packet::foca_bytes(bytes)
        };
        let known = self.roster.get(from).and_then(|entry| entry.seen);
        let header = &packet.foca.header;
        let mut changed: BTreeSet<u64> = packet.foca.members.iter().map(|member| member.id().node).collect();
        if known != Some(Seen { identity: src, incarnation: header.src_incarnation, liveness: State::Alive }) {
            changed.insert(from);
        }
        let mut effects = self.swim.hear(&packet.foca, foca_bytes, way);
        effects.changed.append(&mut changed);
        self.answered(from);
        match header.message {
            Message::Ack(_) if way == Way::Datagram => self.paths_passed(from),
            Message::PingReq { .. } => self.nod(from, src),
            _ => {}
        }
        self.carry_out(effects);
    }

    /// Who asks this node to probe another shall know that it was heard, whatever becomes of that (Lifeguard's nack).
    fn nod(&mut self, to: u64, identity: Identity) {
        let Some(addr) = self.roster.get(to).filter(|entry| entry.is_present()).map(|entry| entry.addr()) else {
            return;
        };
        if let Some(nod) = self.swim.nod(identity) {
            self.counters.datagrams_sent += 1;
            self.outbox.push_back(Output::Datagram { to, addr, bytes: packet::wrap(&nod, self.dialect_of(to)) });
        }
    }

    /// Takes out what must not reach foca; says whether there was anything, or nothing if no part may reach it.
    fn censor(&mut self, from: u64, packet: &mut FocaPacket) -> Option<bool> {
        let me = *self.swim.identity();
        if packet.header.message == Message::TurnUndead && packet.header.dst == me && !self.may_renew() {
            return None;
        }
        let mut changed = self.weigh_hearsay(from, packet);
        let count = packet.members.len();
        let (mut impostor, mut bump, mut beyond) = (false, None, false);
        let (may_renew, myself) = (self.may_renew(), self.swim.me());
        let (roster, forgotten, mut room) = (&self.roster, &self.forgotten, self.roster.quota());
        packet.members.retain(|member| {
            let id = member.id();
            if id.node == me.node {
                impostor |= id.life > me.life;
                bump = bump.max((id.life == me.life && id.bump > me.bump).then_some(id.bump));
                // Of former identities foca would keep an entry, of ours it hears what it must refute.
                let told = Seen { identity: *id, incarnation: member.incarnation(), liveness: member.state() };
                if is_beyond(&myself, &told) {
                    beyond = true;
                    return false;
                }
                return *id == me && (member.state() != State::Down || may_renew);
            }
            if roster.is_contradicted(id.node, id.life) || forgotten.contains(&id.node) {
                return false;
            }
            if roster.get(id.node).is_some() {
                return true;
            }
            // A packet does not say for how long somebody has been gone: those who forgot it would remember it afresh, and
            // remind each other for ever. Tables say.
            if member.state() == State::Down {
                return false;
            }
            let fits = room > 0;
            room = room.saturating_sub(1);
            fits
        });
        if impostor {
            self.alarm(from, "somebody speaks for a later life of this node: is its data directory in use twice?");
        }
        if beyond {
            self.alarm(from, "word of this node from further ahead than it can be");
            self.speak_for_itself(from);
        } else if let Some(bump) = bump {
            self.outbid(bump);
        }
        changed |= packet.members.len() != count;
        Some(changed)
    }

    /// Makes of third-party news about known members what it is worth; says whether that is less than was told.
    fn weigh_hearsay(&mut self, from: u64, packet: &mut FocaPacket) -> bool {
        let (mut changed, mut beyond) = (false, false);
        let mut kept = Vec::with_capacity(packet.members.len());
        for member in packet.members.drain(..) {
            let told = Seen { identity: *member.id(), incarnation: member.incarnation(), liveness: member.state() };
            let worth = if told.identity.node == self.me { Worth::Told } else { self.worth(from, &told) };
            changed |= worth != Worth::Told;
            match worth {
                Worth::Told => kept.push(member),
                Worth::Suspicion => kept.extend(self.suspect(&told)),
                Worth::Nothing => {}
                Worth::Beyond => beyond = true,
            }
        }
        packet.members = kept;
        if beyond {
            self.alarm(from, "word of a member from further ahead than it can be");
        }
        changed
    }

    /// Nobody but this node counts its renewals; yet who holds a higher count does not hear it until it is outbid.
    pub(crate) fn outbid(&mut self, bump: u32) {
        if self.now.mono >= self.outbid_from && bump > self.swim.identity().bump {
            self.outbid_from = self.now.mono.after(RENEW_WAIT_MIN);
            let effects = self.swim.outbid(bump);
            self.carry_out(effects);
        }
    }

    pub(crate) fn may_renew(&self) -> bool {
        self.now.mono >= self.renew_from
    }

    /// This node came back from the dead: those who can hear it are told so, for foca does not know who they are.
    pub(crate) fn renewed(&mut self) {
        self.counters.renewals += 1;
        self.had_to_refute();
        let calm = self.now.mono >= self.renew_from.after(RENEW_WAIT_MAX);
        self.renew_wait =
            if calm { RENEW_WAIT_MIN } else { (self.renew_wait * 2).clamp(RENEW_WAIT_MIN, RENEW_WAIT_MAX) };
        self.renew_from = self.now.mono.after(self.renew_wait);
        self.roster.observe(self.swim.me(), self.now);
        let connected = self.roster.visible().filter(|entry| entry.connected && entry.node != self.me);
        let identities = connected.filter_map(|entry| entry.seen).map(|seen| seen.identity);
        let identities: Vec<_> = identities.take(self.options.fanout * 2).collect();
        for identity in identities {
            let effects = self.swim.announce(identity);
            self.carry_out(effects);
        }
    }

    /// A probe got no answer by datagram: the same ping goes over a stream, and so does its answer.
    pub(crate) fn repeat_probe(&mut self, timer: &crate::timers::FocaTimer) {
        if let Some((target, ping)) = self.swim.unanswered(timer) {
            let ping = ping.to_vec();
            self.repeat_ping(target.node, &ping);
        }
    }

    pub(crate) fn repeat_ping(&mut self, node: u64, ping: &[u8]) {
        let Some(entry) = self.roster.get(node).filter(|entry| entry.is_present()) else { return };
        let ping = entry.seen.and_then(|seen| packet::with_suspicion(ping, &seen)).unwrap_or_else(|| ping.to_vec());
        let dialect = entry.dialect().unwrap_or_default();
        let bytes = crate::exchange::datagram(&packet::wrap(&ping, dialect), dialect);
        let addr = entry.addr();
        self.counters.probes_repeated += 1;
        self.outbox.push_back(Output::Exchange { to: node, addr, bytes });
    }
}
