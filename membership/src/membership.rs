//! Membership, the conductor: routes inputs to foca and to the roster, and carries their effects out.
//!
//! It never decides what a record or an update is worth: `roster` and foca do.

use crate::bounds::{HEARSAY_TAG_BYTES_MAX, HELD_BYTES_MAX};
use crate::broadcast::{Broadcasts, QUEUED_BYTES_MAX, Urgency};
use crate::dialect::Dialect;
use crate::doubt::Doubt;
use crate::entry::Contact;
use crate::error::Error;
use crate::health::Health;
use crate::identity::Identity;
use crate::io::{Input, Output};
use crate::member::{Member, State, is_name, is_version};
use crate::merging::OwnTags;
use crate::options::{EXCHANGE_WAIT_MIN, Options};
use crate::pool::Pool;
use crate::record::Record;
use crate::roster::Roster;
use crate::status::{Counters, Counts, Load, Loads, Phase, Status};
use crate::suspicion::Suspicion;
use crate::swim::{Swim, UPDATE_BYTES_MAX, UPDATES_MAX, Way};
use crate::tag_store::TagNews;
use crate::tags::Tags;
use crate::timers::{Due, Timers};
use crate::types::{Life, Mono, Now};
use crate::under_way::{Comparing, Fetching, Paths, Watch};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

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
        let identity = Identity { node: local.node, life, bump: 0, place: local.addr.into() };
        let mut rng = SmallRng::seed_from_u64(seed);
        let swim = Swim::new(identity, &options, SmallRng::seed_from_u64(rng.random()));
        let mut roster = Roster::new(local.node, options.members_max, options.introduction_patience);
        let record = Record {
            node: local.node,
            life,
            lamport: 1,
            leaving: false,
            place: local.addr.into(),
            name: local.name.as_str().into(),
            version: local.version.as_str().into(),
            tags: TagNews::default(),
        };
        let contact = Contact { life, name: local.name.into(), addr: local.addr, version: local.version.into() };
        roster.contact(local.node, contact, now);
        roster.speak(record, OwnTags::Write(local.tags), now);
        roster.observe(swim.me(), now);
        let mut broadcasts = Broadcasts::default();
        if let Some(record) = roster.get(local.node).and_then(|entry| entry.told()) {
            broadcasts.push(&record, Urgency::Card, options.transmissions(1), 1, now.mono);
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

    /// Where several cores run in one process (a simulation), what they hold alike is held once from now on. Nothing else
    /// changes: a core does the same with a pool as without.
    pub fn share(&mut self, pool: Pool) {
        self.roster.pool = Some(pool);
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
                let (name, version) = (name.into(), version.into());
                self.contact(node, Contact { life: Life { epoch, boot }, name, addr, version });
            }
            Input::Lost { node } => self.lost(node),
            Input::Released { node } => self.roster.lost(node),
            Input::Exchange { from, bytes } => self.answer_exchange(from, &bytes),
            Input::ExchangeReply { from, bytes } => self.hear_exchange_reply(from, &bytes),
            Input::SetTags(tags) => self.set_tags(tags),
            Input::SetAddr(addr) => self.publish(|record| record.place = addr.into()),
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
    pub fn members(&self) -> impl Iterator<Item = Member> {
        self.roster.visible().map(|entry| entry.member())
    }

    /// One member.
    #[must_use]
    pub fn member(&self, node: u64) -> Option<Member> {
        self.roster.get(node).filter(|entry| entry.seen.is_some()).map(|entry| entry.member())
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
        let others = self.roster.visible().filter(|entry| entry.node != self.me && entry.state != State::Left);
        others.filter(|entry| entry.place.is_dialable()).map(|entry| (entry.node, entry.addr())).collect()
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
    pub fn datagrams_blocked(&self) -> impl Iterator<Item = Member> {
        self.paths.blocked().filter_map(|node| self.member(node))
    }

    /// What waits in this core, and how full it is.
    #[must_use]
    pub fn loads(&self) -> Loads {
        let (tag_bytes, unproven) = self.roster.quotas.tag_bytes();
        let held = |depth, bytes, bytes_max| Load { depth, bytes: Some(bytes), bytes_max, ..Load::default() };
        Loads {
            updates: Load {
                depth: self.swim.backlog(),
                depth_max: Some(UPDATES_MAX),
                bytes: None,
                bytes_max: UPDATES_MAX * UPDATE_BYTES_MAX,
                dropped: self.swim.dropped(),
            },
            records: Load {
                depth: self.broadcasts.len(),
                depth_max: Some(Broadcasts::room(self.roster.present())),
                bytes: Some(self.broadcasts.bytes()),
                bytes_max: QUEUED_BYTES_MAX,
                dropped: self.broadcasts.dropped(),
            },
            tags: held(self.fetching.wanted(), tag_bytes, HELD_BYTES_MAX),
            tags_unproven: held(0, unproven, HEARSAY_TAG_BYTES_MAX),
        }
    }

    /// A picture for people, metrics and policies.
    #[must_use]
    pub fn status(&self) -> Status {
        let mut counts = Counts::default();
        for entry in self.roster.visible() {
            *match entry.state {
                State::Alive => &mut counts.alive,
                State::Suspect => &mut counts.suspect,
                State::Leaving => &mut counts.leaving,
                State::Left => &mut counts.left,
                State::Failed => &mut counts.failed,
            } += 1;
        }
        let (tag_bytes, tag_bytes_unproven) = self.roster.quotas.tag_bytes();
        Status {
            node: self.me,
            phase: self.phase,
            alone: self.is_alone(),
            lamport: self.lamport,
            counts,
            members: self.members().collect(),
            health: self.health.score(),
            datagrams_blocked: self.paths.blocked().collect(),
            name_conflicts: self.roster.name_conflicts(),
            updates_backlog: self.swim.backlog(),
            updates_dropped: self.swim.dropped(),
            records_backlog: self.broadcasts.len(),
            queue: self.broadcasts.picture(self.now.mono),
            tag_bytes,
            tag_bytes_unproven,
            tags_wanted: self.fetching.wanted(),
            counters: self.counters,
        }
    }

    pub(crate) fn is_alone(&self) -> bool {
        self.roster.is_alone()
    }
}
