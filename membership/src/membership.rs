//! Membership, the conductor: routes inputs to foca and to the roster, and carries their effects out.
//!
//! It never decides what a record or an update is worth: `roster` and foca do.

use crate::broadcast::{Broadcasts, Urgency};
use crate::dialect::Dialect;
use crate::doubt::Doubt;
use crate::entry::{Contact, Seen, is_dialable};
use crate::error::Error;
use crate::health::Health;
use crate::identity::Identity;
use crate::io::{Event, Input, Output};
use crate::lie::Lie;
use crate::member::{Member, State, is_name, is_version};
use crate::options::{EXCHANGE_WAIT_MIN, Options};
use crate::packet;
use crate::record::{LAMPORT_HEARD_MAX, LAMPORT_LIMIT, RECORD_JUMP_MAX, Record};
use crate::roster::{Merge, OwnTags, Roster};
use crate::status::{Counters, Counts, Phase, Status};
use crate::suspicion::Suspicion;
use crate::swim::{Effects, Swim, Way};
use crate::tag_store::TagNews;
use crate::tags::Tags;
use crate::timers::{Due, FocaTimer, Timers};
use crate::types::{Life, Mono, Now};
use crate::under_way::{Comparing, Fetching, Paths, Watch};
use foca::Message;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

/// Up to this many present members a contact always exchanges tables; beyond, only if it is news.
const SMALL_CLUSTER: usize = 32;
/// The same alarm about the same peer is raised once in this time; all are counted.
const ALARM_INTERVAL: Duration = Duration::from_secs(10);
/// The most different alarms in that time.
const ALARMS_MAX: usize = 256;

/// Who this node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Local {
    /// Its node id, also its Raft id; not zero.
    pub node: u64,
    /// Its human name.
    pub name: String,
    /// Where others shall dial it; unspecified until that is known.
    pub addr: SocketAddr,
    /// Boot epoch: greater than in every former life; persisted by the caller before this core is made.
    pub epoch: u64,
    /// Random per process.
    pub boot: u64,
    /// Software version.
    pub version: String,
    /// Its tags.
    pub tags: Tags,
}

/// The core. See the crate's page for its shape.
#[derive(Debug)]
pub struct Membership {
    pub(crate) options: Options,
    pub(crate) me: u64,
    pub(crate) swim: Swim,
    pub(crate) roster: Roster,
    pub(crate) broadcasts: Broadcasts,
    pub(crate) timers: Timers,
    pub(crate) outbox: VecDeque<Output>,
    pub(crate) rng: SmallRng,
    pub(crate) now: Now,
    pub(crate) lamport: u64,
    pub(crate) phase: Phase,
    /// Foca was told to leave: from here on nothing that comes in can bring this node back.
    pub(crate) departed: bool,
    /// Being declared failed is not believed before this, so that a peer that holds a higher identity of this node
    /// cannot drive it through renewals without end.
    pub(crate) renew_from: Mono,
    pub(crate) renew_wait: Duration,
    /// The same for false counts of its renewals; apart, because only outbidding ends the renewals.
    pub(crate) outbid_from: Mono,
    /// Not before this does it tell again, unasked, what it really says of itself.
    pub(crate) speak_from: Mono,
    /// Members that others have declared failed and this node only suspects; at most one each.
    pub(crate) doubts: BTreeMap<u64, Doubt>,
    /// What this node itself looks into; at most one for each member.
    pub(crate) suspicions: BTreeMap<u64, Suspicion>,
    pub(crate) health: Health,
    pub(crate) watch: Watch,
    pub(crate) paths: Paths,
    /// When it last forgave itself that it had not run in time.
    pub(crate) forgiven: Mono,
    /// Refuting counts against its own health again from then on.
    pub(crate) refuted_from: Mono,
    pub(crate) last_gossip: Option<Mono>,
    /// The next wait between two exchanges: short after joining, when everybody's table still fills.
    pub(crate) exchange_wait: Duration,
    /// Where the next table starts, for those that do not fit one message.
    pub(crate) table_cursor: u64,
    /// Exchanges under way, and what is settled by them.
    pub(crate) comparing: Comparing,
    /// Tags that are asked for.
    pub(crate) fetching: Fetching,
    pub(crate) counters: Counters,
    /// When each alarm was last raised: a log must not be flooded by who lies with every packet.
    pub(crate) alarmed: BTreeMap<(u64, &'static str), Mono>,
    /// Node ids that are gone for good.
    pub(crate) forgotten: BTreeSet<u64>,
    /// Those who have not confirmed yet that they know that this node goes, if all others were told directly.
    pub(crate) awaited: Option<BTreeSet<u64>>,
}

impl Membership {
    /// A core that knows nobody yet. Its first [`poll_timeout`](Self::poll_timeout) is `now`: it wants seeds.
    pub fn new(options: Options, local: Local, seed: u64, now: Now) -> Result<Self, Error> {
        options.validate()?;
        if local.node == 0 {
            return Err(Error::ZeroNode);
        }
        if !is_name(&local.name) {
            return Err(Error::Name(local.name));
        }
        if !is_version(&local.version) {
            return Err(Error::Version(local.version));
        }
        let life = Life { epoch: local.epoch, boot: local.boot };
        let identity = Identity { node: local.node, life, bump: 0, addr: local.addr };
        let mut rng = SmallRng::seed_from_u64(seed);
        let swim = Swim::new(identity, &options, SmallRng::seed_from_u64(rng.random()));
        let mut roster = Roster::new(local.node, options.members_max, options.introduction_patience);
        let record = Record {
            node: local.node,
            life,
            lamport: 1,
            leaving: false,
            addr: local.addr,
            name: local.name.clone(),
            version: local.version.clone(),
            tags: TagNews::default(),
        };
        let contact = Contact { life, name: local.name, addr: local.addr, version: local.version };
        roster.contact(local.node, contact, now);
        roster.speak(record, OwnTags::Write(local.tags), now);
        roster.observe(swim.me(), now);
        let mut broadcasts = Broadcasts::default();
        if let Some(record) = roster.get(local.node).and_then(|entry| entry.told()) {
            broadcasts.push(record, Urgency::Card, options.transmissions(1), 1, now.mono);
        }
        // Users need not be told that they are here.
        roster.drain_events();
        let mut timers = Timers::default();
        timers.set(Due::Reconnect, now.mono);
        Ok(Self {
            me: local.node,
            swim,
            roster,
            broadcasts,
            timers,
            outbox: VecDeque::new(),
            rng,
            now,
            lamport: 1,
            phase: Phase::Member,
            departed: false,
            renew_from: Mono(0),
            renew_wait: Duration::ZERO,
            outbid_from: Mono(0),
            speak_from: Mono(0),
            doubts: BTreeMap::new(),
            suspicions: BTreeMap::new(),
            health: Health::default(),
            watch: Watch::default(),
            paths: Paths::default(),
            forgiven: Mono(0),
            refuted_from: Mono(0),
            last_gossip: None,
            exchange_wait: EXCHANGE_WAIT_MIN,
            table_cursor: 0,
            comparing: Comparing::default(),
            fetching: Fetching::default(),
            counters: Counters::default(),
            alarmed: BTreeMap::new(),
            forgotten: BTreeSet::new(),
            awaited: None,
            options,
        })
    }

    /// The world speaks. Time never goes back: an earlier `now` counts as the latest one.
    pub fn handle(&mut self, now: Now, input: Input) {
        self.now = Now { mono: now.mono.max(self.now.mono), wall_us: now.wall_us };
        if self.phase == Phase::Left {
            if let Input::Exchange { from, .. } = input {
                self.outbox
                    .push_back(Output::ExchangeReply { to: from, bytes: crate::exchange::nothing(Dialect::Second) });
            }
            return;
        }
        self.forgive_own_sleep();
        self.roster.listen_to(input.speaker());
        match input {
            Input::Timeout => {}
            Input::Datagram { from, bytes } => self.hear(from, &bytes, Way::Datagram),
            Input::Contact { node, name, addr, epoch, boot, version } => {
                self.contact(node, Contact { life: Life { epoch, boot }, name, addr, version });
            }
            Input::Lost { node } => self.lost(node),
            Input::Released { node } => self.roster.lost(node),
            Input::Exchange { from, bytes } => self.answer_exchange(from, &bytes),
            Input::ExchangeReply { from, bytes } => self.hear_exchange_reply(from, &bytes),
            Input::SetTags(tags) => self.set_tags(tags),
            Input::SetAddr(addr) => self.publish(|record| record.addr = addr),
            Input::Leave => self.leave(),
            Input::Forget { node } => self.forget(node),
            Input::Witness { lamport } => self.witness(lamport),
        }
        self.roster.listen_to(None);
        self.run_due();
        self.tell();
        self.arm();
    }

    /// The core asks; empty it after each [`handle`](Self::handle).
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outbox.pop_front()
    }

    /// How often this node had to come back after others had declared it failed.
    #[must_use]
    pub fn renewals(&self) -> u64 {
        self.counters.renewals
    }

    /// When to call [`handle`](Self::handle) with [`Input::Timeout`] if nothing else happens.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Mono> {
        self.timers.next()
    }

    /// All members by node id, this node included, and those who failed or left until they are forgotten.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.roster.visible().map(|entry| &entry.member)
    }

    /// One member.
    #[must_use]
    pub fn member(&self, node: u64) -> Option<&Member> {
        self.roster.get(node).filter(|entry| entry.seen.is_some()).map(|entry| &entry.member)
    }

    /// How many members are present (alive, suspect or leaving), this node included.
    #[must_use]
    pub fn alive_count(&self) -> usize {
        self.roster.present()
    }

    /// It is present: neither gone nor declared failed, though perhaps suspect or leaving.
    #[must_use]
    pub fn is_alive(&self, node: u64) -> bool {
        self.roster.get(node).is_some_and(|entry| entry.is_present())
    }

    /// Where the others were last known to be, without those who left: what to dial at the next start.
    #[must_use]
    pub fn addresses(&self) -> BTreeMap<u64, SocketAddr> {
        let others = self.members().filter(|member| member.node != self.me && member.state != State::Left);
        others.filter(|member| is_dialable(member.addr)).map(|member| (member.node, member.addr)).collect()
    }

    /// The Lamport clock: greater than or equal to all that was heard.
    #[must_use]
    pub fn lamport(&self) -> u64 {
        self.lamport
    }

    /// How far this node mistrusts its own view of the others: 0 is well, [`HEALTH_MAX`](crate::HEALTH_MAX) worst.
    #[must_use]
    pub fn health(&self) -> u8 {
        self.health.score()
    }

    /// Members of which no datagram gets an answer through, while streams with them work.
    pub fn datagrams_blocked(&self) -> impl Iterator<Item = &Member> {
        self.paths.blocked().filter_map(|node| self.member(node))
    }

    /// A picture for people, metrics and policies.
    #[must_use]
    pub fn status(&self) -> Status {
        let mut counts = Counts::default();
        for member in self.members() {
            *match member.state {
                State::Alive => &mut counts.alive,
                State::Suspect => &mut counts.suspect,
                State::Leaving => &mut counts.leaving,
                State::Left => &mut counts.left,
                State::Failed => &mut counts.failed,
            } += 1;
        }
        Status {
            node: self.me,
            phase: self.phase,
            alone: self.is_alone(),
            lamport: self.lamport,
            counts,
            members: self.members().cloned().collect(),
            health: self.health.score(),
            datagrams_blocked: self.paths.blocked().collect(),
            name_conflicts: self.roster.name_conflicts(),
            updates_backlog: self.swim.backlog(),
            records_backlog: self.broadcasts.len(),
            queue: self.broadcasts.picture(self.now.mono),
            tags_wanted: self.fetching.wanted(),
            counters: self.counters,
        }
    }

    pub(crate) fn is_alone(&self) -> bool {
        self.roster.others().next().is_none()
    }

    pub(crate) fn alarm(&mut self, from: u64, what: &'static str) {
        self.accuse(from, what, None);
    }

    /// An alarm about what only a liar says is never left out: whoever owns the connection closes it.
    pub(crate) fn accuse(&mut self, from: u64, what: &'static str, lie: Option<Lie>) {
        self.counters.refused += 1;
        if lie.is_some() {
            return self.outbox.push_back(Output::Alarm { from, what, lie });
        }
        let now = self.now.mono;
        if self.alarmed.get(&(from, what)).is_some_and(|last| now < last.after(ALARM_INTERVAL)) {
            return;
        }
        self.alarmed.retain(|_, last| now < last.after(ALARM_INTERVAL));
        if self.alarmed.len() < ALARMS_MAX {
            self.alarmed.insert((from, what), now);
            self.outbox.push_back(Output::Alarm { from, what, lie });
        }
    }

    /// A connection with a proven peer is up.
    fn contact(&mut self, node: u64, contact: Contact) {
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
        if entry.and_then(|entry| entry.contact.as_ref()).is_some_and(|known| contact.life < known.life) {
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
        let identity = known.map_or(Identity { node, life, bump: 0, addr }, |seen| seen.identity);
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

    fn lost(&mut self, node: u64) {
        self.roster.lost(node);
        if !self.departed {
            self.suspect_if_probes_are_late(node);
        }
        if !self.departed
            && let Some(entry) = self.roster.get(node)
            && entry.is_present()
            && is_dialable(entry.member.addr)
        {
            self.outbox.push_back(Output::Reconnect { node, addr: entry.member.addr });
        }
    }

    pub(crate) fn witness(&mut self, lamport: u64) {
        self.lamport = self.lamport.max(lamport.min(LAMPORT_HEARD_MAX));
    }

    /// Changes this node's own record and spreads it.
    pub(crate) fn publish(&mut self, change: impl FnOnce(&mut Record)) {
        let Some(mut record) = self.own_record_after(0) else { return };
        change(&mut record);
        let urgency = if record.leaving { Urgency::Word } else { Urgency::Card };
        self.speak(record, OwnTags::Keep, urgency);
    }

    fn set_tags(&mut self, tags: Tags) {
        let is_news = self.roster.get(self.me).is_some_and(|entry| *entry.tags.view() != tags);
        if let Some(record) = self.own_record_after(0).filter(|_| is_news) {
            self.speak(record, OwnTags::Write(tags), Urgency::Tags);
        }
    }

    /// This node's own record at a time later than all it knows, and later than what somebody says it has said.
    fn own_record_after(&self, heard: u64) -> Option<Record> {
        let mut record = self.roster.get(self.me).and_then(|entry| entry.record.clone())?;
        record.lamport = (self.lamport.max(record.lamport).max(heard) + 1).min(LAMPORT_LIMIT - 1);
        Some(record)
    }

    fn speak(&mut self, record: Record, tags: OwnTags, urgency: Urgency) {
        self.witness(record.lamport);
        self.roster.speak(record, tags, self.now);
        self.spread(self.me, urgency);
    }

    /// Passes on what is known of a member.
    pub(crate) fn spread(&mut self, node: u64, urgency: Urgency) {
        let members = self.roster.present();
        if let Some(record) = self.roster.get(node).and_then(|entry| entry.told()) {
            let transmissions = self.options.transmissions(members);
            self.broadcasts.push(record, urgency, transmissions, members, self.now.mono);
        }
    }

    /// A record from a peer, of whomever; `spread`: pass it on if it is news. Says whether it was.
    pub(crate) fn hear_record(&mut self, from: u64, record: Record, spread: bool) -> bool {
        if record.node == self.me {
            self.hear_record_of_me(from, &record);
            return false;
        }
        if self.roster.is_contradicted(record.node, record.life) || self.forgotten.contains(&record.node) {
            return false;
        }
        let (node, lamport, own) = (record.node, record.lamport, record.node == from);
        let known = self.roster.get(node).and_then(|entry| entry.record.as_ref());
        let urgency = match known {
            _ if record.leaving => Urgency::Word,
            Some(known) if known.tells_no_more_than_tags(&record) => Urgency::Tags,
            _ => Urgency::Card,
        };
        let merged = self.roster.merge(record, own, self.now);
        let is_behind = self.roster.get(node).is_some_and(|entry| entry.is_behind());
        if is_behind {
            self.want_tags(node, from);
        }
        match merged {
            Merge::News => {
                self.witness(lamport);
                // Tags that are not here yet are passed on when they are: who hears of them can have them of this node.
                if spread && !(is_behind && urgency == Urgency::Tags) {
                    self.spread(node, urgency);
                }
                true
            }
            Merge::Stale => false,
            Merge::Refused(what) => {
                self.alarm(from, what);
                false
            }
        }
    }

    /// Only this node speaks for itself: what else is said of this life is overruled by a later record.
    fn hear_record_of_me(&mut self, from: u64, record: &Record) {
        let Some(entry) = self.roster.get(self.me) else { return };
        let Some(mine) = entry.record.as_ref() else { return };
        if record.life > mine.life {
            self.alarm(from, "somebody speaks for a later life of this node: is its data directory in use twice?");
        } else if record.life == mine.life
            && (record.lamport > mine.lamport
                || (record.lamport == mine.lamport && !mine.tells_the_same(record, entry.tags.view())))
        {
            if record.lamport > mine.lamport.saturating_add(RECORD_JUMP_MAX) {
                // Outbidding that would use up the range. Whoever hears this node itself believes it over others.
                self.alarm(from, "a record of this node from further ahead than it can be");
                return self.speak_for_itself(from);
            }
            let same_tags = entry.tags.holds(&record.tags);
            if let Some(next) = self.own_record_after(record.lamport) {
                let tags = if same_tags { OwnTags::Keep } else { OwnTags::Again };
                self.speak(next, tags, Urgency::Word);
            }
        }
    }

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
            let addr = entry.member.addr;
            let present = entry.is_present();
            // The accused is told at once (Lifeguard's buddy system): it must not depend on what foca has room for.
            let is_ping = matches!(header.message, Message::Ping(_) | Message::IndirectPing { .. });
            let told = entry.seen.filter(|_| is_ping).and_then(|seen| packet::with_suspicion(&foca, &seen));
            let dialect = entry.dialect.unwrap_or_default();
            let mut foca = told.unwrap_or(foca);
            if let Some(urgent) = self.broadcasts.urgent_bytes().filter(|_| present)
                && let Some(shorter) = packet::make_room(&foca, urgent + 2)
            {
                foca = shorter;
            }
            let mut bytes = packet::wrap(&foca, dialect);
            let roster = &self.roster;
            let encode_first = |record: &Record| {
                let mut out = Vec::with_capacity(128);
                let tags = roster.get(record.node).map(|entry| entry.tags.view().clone()).unwrap_or_default();
                record.encode_first(&tags, &mut out);
                out
            };
            if header.message == Message::Announce {
                if let Some(record) = roster.get(self.me).and_then(|entry| entry.told()) {
                    let record = match dialect {
                        Dialect::First => encode_first(&record),
                        Dialect::Second => record.to_bytes(),
                    };
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
    fn tell(&mut self) {
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
