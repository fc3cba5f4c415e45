//! Acting: what foca wants done is carried out, and what the roster derived is told.
//!
//! It never judges what came in: by now that is done.

use crate::broadcast::Urgency;
use crate::dialect::Dialect;
use crate::entry::Seen;
use crate::io::{Event, Output};
use crate::membership::Membership;
use crate::packet;
use crate::swim::Effects;
use crate::timers::FocaTimer;
use foca::Message;

impl Membership {
    /// Carries out what foca wants, and takes over what changed in its table.
    pub(crate) fn carry_out(&mut self, effects: Effects) {
        let mut failed = Vec::new();
        for (after, timer) in effects.timers {
            let after = match timer {
                // foca would let each suspect wait as long as the next; here it depends on who else finds the same.
                FocaTimer::ChangeSuspectToDown { member_id, incarnation, .. } => {
                    failed.push((member_id, incarnation));
                    continue;
                }
                FocaTimer::ProbeRandomMember(_) | FocaTimer::SendIndirectProbe { .. } => self.health.stretch(after),
                _ => after,
            };
            self.timers.push_foca(self.now.mono.after(after), timer);
        }
        if effects.renewed {
            self.renewed();
        }
        let (changed, forgotten) = (&effects.changed, &self.forgotten);
        if effects.changed_any || !changed.is_empty() {
            let is_news = |seen: &Seen| effects.changed_any || changed.contains(&seen.identity.node);
            let is_news = |seen: &Seen| is_news(seen) && !forgotten.contains(&seen.identity.node);
            let mut seen: Vec<_> = self.swim.seen().filter(is_news).collect();
            seen.sort_unstable_by_key(|seen| seen.identity.node);
            for seen in seen {
                self.roster.observe(seen, self.now);
            }
        }
        let me = self.roster.get(self.me).and_then(|entry| entry.seen);
        if me != Some(self.swim.me()) {
            if me.is_some_and(|me| self.swim.incarnation() > me.incarnation) {
                self.had_to_refute();
            }
            self.roster.observe(self.swim.me(), self.now);
        }
        if let Some(ended) = effects.ended {
            self.probe_ended(&ended);
        }
        for (identity, incarnation) in failed {
            self.own_probe_failed(identity, incarnation);
        }
        for (header, foca) in effects.packets {
            let to = header.dst.node;
            // A packet may ask us to probe whomever it names: only members are dialled.
            let Some(entry) = self.roster.get(to).filter(|entry| entry.seen.is_some()) else { continue };
            let addr = entry.addr();
            let present = entry.is_present();
            // The accused is told at once (Lifeguard's buddy system): it must not depend on what foca has room for.
            let is_ping = matches!(header.message, Message::Ping(_) | Message::IndirectPing { .. });
            let told = entry.seen.filter(|_| is_ping).and_then(|seen| packet::with_suspicion(&foca, &seen));
            let dialect = entry.dialect().unwrap_or_default();
            let mut foca = told.unwrap_or(foca);
            if let Some(urgent) = self.broadcasts.urgent_bytes().filter(|_| present)
                && let Some(shorter) = packet::make_room(&foca, urgent + 2)
            {
                foca = shorter;
            }
            let mut bytes = packet::wrap(&foca, dialect);
            let roster = &self.roster;
            let encode_first = |node: u64| {
                let entry = roster.get(node)?;
                let mut out = Vec::with_capacity(128);
                entry.record.as_ref()?.encode_first(entry.tags().view(), &mut out);
                Some(out)
            };
            if header.message == Message::Announce {
                let record = match dialect {
                    Dialect::First => encode_first(self.me),
                    Dialect::Second => roster.get(self.me).and_then(|entry| entry.told()).map(|told| told.to_bytes()),
                };
                if let Some(record) = record {
                    packet::append(&mut bytes, &record);
                }
            } else if present {
                self.broadcasts.fill(&mut bytes, dialect, encode_first);
            }
            self.counters.datagrams_sent += 1;
            self.outbox.push_back(Output::Datagram { to, addr, bytes });
        }
    }

    /// Turns what the roster derived into outputs.
    pub(crate) fn tell(&mut self) {
        for event in self.roster.drain_events() {
            if let Event::Suspected(member) = &event {
                // It may only have missed some datagrams.
                self.is_suspected(member.node);
            }
            if let Event::Left(member) = &event
                && !self.departed
            {
                // That it is gone spreads for longer than that it said so: who hears only the former takes it for failed.
                self.spread(member.node, Urgency::Word);
            }
            self.outbox.push_back(Output::Event(event));
        }
        if self.roster.take_addresses_changed() {
            self.outbox.push_back(Output::SaveMembers);
        }
        self.swim.resize(self.roster.present(), &self.options);
    }
}
