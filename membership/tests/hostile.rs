//! Hostile input: lies and garbage cost nothing but an alarm.

use crate::cluster::*;
use quorate_membership::{Error, Event, Input, Local, Membership, Mono, Now, Options, Output, State, Tags};

fn core(options: Options) -> Membership {
    let local = Local {
        node: 1,
        name: "victim".to_string(),
        addr: addr(1),
        epoch: 5,
        boot: 55,
        version: "1".to_string(),
        tags: Tags::default(),
    };
    Membership::new(options, local, 1, Now::default()).unwrap()
}

fn outputs(core: &mut Membership, input: Input) -> Vec<Output> {
    core.handle(Now { mono: Mono(S), wall_us: 0 }, input);
    std::iter::from_fn(|| core.poll_output()).collect()
}

fn meet(core: &mut Membership, node: u64) -> Vec<Output> {
    let contact = Input::Contact {
        node,
        name: format!("n{node}"),
        addr: addr(node),
        epoch: 1,
        boot: 11,
        version: "1".to_string(),
    };
    outputs(core, contact)
}

fn alarms(outputs: &[Output]) -> Vec<&'static str> {
    outputs.iter().filter_map(|o| if let Output::Alarm { what, .. } = o { Some(*what) } else { None }).collect()
}

/// The wire format, built here a second time: the tables in the docs must suffice for it.
struct Bytes(Vec<u8>);

impl Bytes {
    fn id(mut self, node: u64, epoch: u64, boot: u64, bump: u32) -> Self {
        for part in [node, epoch, boot] {
            self.0.extend(part.to_be_bytes());
        }
        self.0.extend(bump.to_be_bytes());
        self.0.extend([4, 10, 0, (node >> 8) as u8, node as u8]);
        self.0.extend(7373u16.to_be_bytes());
        self
    }

    fn u8(mut self, value: u8) -> Self {
        self.0.push(value);
        self
    }

    fn u16(mut self, value: u16) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    fn u32(mut self, value: u32) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    fn datagram(self) -> Vec<u8> {
        let mut out = vec![1];
        out.extend((self.0.len() as u16).to_be_bytes());
        out.extend(self.0);
        out
    }
}

const PING: u8 = 0;
const GOSSIP: u8 = 8;
const TURN_UNDEAD: u8 = 10;

fn header(src: u64, message: u8) -> Bytes {
    Bytes(vec![]).id(src, 1, 11, 0).u16(0).id(1, 5, 55, 0).u8(message)
}

#[test]
fn a_core_is_not_made_of_what_is_illegal() {
    let local = Local {
        node: 1,
        name: "a".repeat(63),
        addr: addr(1),
        epoch: 1,
        boot: 1,
        version: "v".repeat(64),
        tags: Tags::default(),
    };
    let make = |local: &Local| Membership::new(Options::default(), local.clone(), 1, Now::default()).map(|_| ());
    assert_eq!(make(&local), Ok(()));
    assert_eq!(make(&Local { node: 0, ..local.clone() }), Err(Error::ZeroNode));
    for name in ["", "-a", "a-", "A", "a.b", "a b", &"a".repeat(64)] {
        assert_eq!(make(&Local { name: name.to_string(), ..local.clone() }), Err(Error::Name(name.to_string())));
    }
    for version in ["v".repeat(65), "\u{1b}".to_string(), "é".to_string()] {
        assert_eq!(make(&Local { version: version.clone(), ..local.clone() }), Err(Error::Version(version)));
    }
}

#[test]
fn a_datagram_speaks_only_for_its_connection() {
    let mut core = core(Options::default());
    meet(&mut core, 2);
    meet(&mut core, 3);
    let ping = || header(3, PING).u8(7).u16(0).datagram();
    let out = outputs(&mut core, Input::Datagram { from: 2, bytes: ping() });
    assert_eq!(alarms(&out), ["a datagram that speaks for another node than its connection"]);
    assert!(!out.iter().any(|o| matches!(o, Output::Datagram { .. })), "no answer: {out:?}");
    let out = outputs(&mut core, Input::Datagram { from: 3, bytes: ping() });
    assert!(alarms(&out).is_empty());
    assert!(out.iter().any(|o| matches!(o, Output::Datagram { to: 3, .. })), "the honest one is answered: {out:?}");
    let later = Bytes(vec![]).id(3, 2, 11, 0).u16(0).id(1, 5, 55, 0).u8(PING).u8(7).u16(0).datagram();
    let out = outputs(&mut core, Input::Datagram { from: 3, bytes: later });
    assert_eq!(alarms(&out), ["a datagram that speaks for a later life than its connection has proven"]);
    let stranger = header(9, PING).u8(7).u16(0).datagram();
    let out = outputs(&mut core, Input::Datagram { from: 9, bytes: stranger });
    assert_eq!(out, [], "no connection was ever reported");
}

#[test]
fn invented_members_fill_no_memory() {
    let options = Options { members_max: 100, ..Options::default() };
    let mut core = core(options);
    meet(&mut core, 2);
    let mut invented = 1000;
    for _ in 0..200 {
        let mut bytes = header(2, GOSSIP).u16(20);
        for _ in 0..20 {
            invented += 1;
            bytes = bytes.id(invented, 1, 1, 0).u16(0).u8((invented % 3) as u8);
        }
        outputs(&mut core, Input::Datagram { from: 2, bytes: bytes.datagram() });
    }
    assert_eq!(core.members().count(), 100);
    let mut table = Bytes(vec![1, 1]);
    for node in 100_000..110_000 {
        table = table.id(node, 1, 1, 0).u16(0).u8(2).u32(0).u8(0);
    }
    let out = outputs(&mut core, Input::Exchange { from: 2, bytes: table.0 });
    assert!(matches!(out.last(), Some(Output::ExchangeReply { to: 2, .. })));
    assert_eq!(core.members().count(), 100);
    assert_eq!(core.member(2).unwrap().state, State::Alive);
}

#[test]
fn who_is_here_takes_the_place_of_who_was_invented() {
    let mut core = core(Options { members_max: 10, ..Options::default() });
    meet(&mut core, 2);
    let mut table = Bytes(vec![1, 1]);
    for node in 100..120 {
        table = table.id(node, 1, 1, 0).u16(0).u8(2).u32(0).u8(0);
    }
    outputs(&mut core, Input::Exchange { from: 2, bytes: table.0 });
    assert_eq!(core.members().count(), 10);
    for node in 3..=10 {
        assert_eq!(alarms(&meet(&mut core, node)), [""; 0]);
        assert!(core.is_alive(node));
    }
    assert_eq!(core.members().count(), 10);
    assert_eq!(alarms(&meet(&mut core, 11)), ["no room for another member: raise members_max"]);
}

#[test]
fn a_table_larger_than_a_message_goes_in_turns() {
    let mut core = core(Options { exchange_bytes_max: 64 << 10, ..Options::default() });
    for from in 2..=21 {
        meet(&mut core, from);
        let mut table = Bytes(vec![1, 1]);
        for node in (from - 2) * 250..(from - 1) * 250 {
            table = table.id(1000 + node, 1, 1, 0).u16(0).u8(2).u32(0).u8(0);
        }
        outputs(&mut core, Input::Exchange { from, bytes: table.0 });
    }
    let mut told = std::collections::BTreeSet::new();
    for _ in 0..5 {
        let out = outputs(&mut core, Input::Exchange { from: 2, bytes: vec![1, 1] });
        let Some(Output::ExchangeReply { bytes, .. }) = out.last() else { panic!("no reply: {out:?}") };
        assert!(bytes.len() <= 64 << 10);
        // Version and kind; the row of this node, which alone has a record; rows without.
        let rows = &bytes[2 + 43 + 50..];
        told.extend(rows.chunks(43).map(|row| u64::from_be_bytes(row[..8].try_into().unwrap())));
    }
    assert!((1000..6000).all(|node| told.contains(&node)), "{} told", told.len());
}

#[test]
fn the_same_lie_is_alarmed_once_in_ten_seconds() {
    let mut core = core(Options::default());
    meet(&mut core, 2);
    let lie = |core: &mut Membership| alarms(&outputs(core, Input::Datagram { from: 2, bytes: vec![9] })).len();
    assert_eq!((lie(&mut core), lie(&mut core), lie(&mut core)), (1, 0, 0));
    assert_eq!(core.status().counters.refused, 3);
}

#[test]
fn being_called_dead_without_end_is_answered_with_patience() {
    let mut core = core(Options::default());
    meet(&mut core, 2);
    let mut bump = 0;
    for i in 0..6000 {
        let bytes = Bytes(vec![]).id(2, 1, 11, 0).u16(0).id(1, 5, 55, bump).u8(TURN_UNDEAD).datagram();
        core.handle(Now { mono: Mono(S + i * 10 * MS), wall_us: 0 }, Input::Datagram { from: 2, bytes });
        while core.poll_output().is_some() {}
        bump = u32::try_from(core.status().counters.renewals).unwrap();
    }
    // One minute of it: at 0, 1, 3, 7, 15, 31 s.
    assert_eq!(core.status().counters.renewals, 6);
}

/// Somebody is announced by a third party, and no record of it ever arrives.
#[test]
fn a_member_without_a_record_is_introduced_late_unproven_and_asked() {
    let mut core = core(Options::default());
    meet(&mut core, 2);
    let bytes = header(2, GOSSIP).u16(1).id(7, 1, 1, 0).u16(0).u8(0).datagram();
    let out = outputs(&mut core, Input::Datagram { from: 2, bytes });
    assert!(!out.iter().any(|o| matches!(o, Output::Event(Event::Joined(_)))), "not yet: {out:?}");
    assert!(core.is_alive(7), "but it counts");
    core.handle(Now { mono: Mono(3 * S), wall_us: 0 }, Input::Timeout);
    let out: Vec<_> = std::iter::from_fn(|| core.poll_output()).collect();
    let joined =
        |o: &Output| matches!(o, Output::Event(Event::Joined(m)) if m.node == 7 && m.name.is_empty() && !m.proven);
    assert!(out.iter().any(joined), "{out:?}");
    assert!(out.iter().any(|o| matches!(o, Output::Exchange { to: 7, .. })), "{out:?}");
}

#[test]
fn nobody_else_speaks_for_a_later_life_of_this_node() {
    let mut core = core(Options::default());
    meet(&mut core, 2);
    let bytes = header(2, GOSSIP).u16(1).id(1, 6, 66, 0).u16(0).u8(0).datagram();
    let out = outputs(&mut core, Input::Datagram { from: 2, bytes });
    assert_eq!(alarms(&out).len(), 1, "{out:?}");
    assert_eq!(core.member(1).unwrap().epoch, 5);
    assert_eq!(core.status().counters.renewals, 0);
}

#[test]
fn a_third_party_cannot_end_a_member_by_its_table() {
    let mut c = Cluster::of(3, 31);
    c.form(10 * S);
    c.run(2 * S);
    c.forget_events();
    let boot = c.agents[&3].boot;
    let table = Bytes(vec![1, 1]).id(3, 1, boot, 0).u16(0).u8(2).u32(0).u8(0).0;
    for _ in 0..20 {
        c.input(1, Input::ExchangeReply { from: 2, bytes: table.clone() });
        c.run(S);
    }
    assert!(c.is_whole());
    assert!(!c.events(1).contains(&"failed 3".to_string()), "{:?}", c.events(1));
}

#[test]
fn a_ping_request_makes_us_dial_only_members() {
    let mut core = core(Options::default());
    meet(&mut core, 2);
    let bytes = header(2, 2).id(77, 1, 1, 0).u8(3).u16(0).datagram();
    let out = outputs(&mut core, Input::Datagram { from: 2, bytes });
    assert!(!out.iter().any(|o| matches!(o, Output::Datagram { to: 77, .. })), "{out:?}");
}

#[test]
fn garbage_never_panics_and_every_request_is_answered() {
    let seconds = std::env::var("QUORATE_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok());
    let time = std::time::Duration::from_secs(seconds.unwrap_or(1));
    bolero::check!().with_test_time(time).for_each(|input: &[u8]| {
        let mut core = core(Options::default());
        meet(&mut core, 2);
        let (kind, bytes) = input.split_first().map_or((0, vec![]), |(kind, rest)| (*kind, rest.to_vec()));
        match kind % 4 {
            0 => drop(outputs(&mut core, Input::Datagram { from: 2, bytes })),
            // An honest header, and garbage behind it.
            1 => {
                let mut honest = header(2, kind / 4 % 11);
                honest.0.extend(bytes);
                drop(outputs(&mut core, Input::Datagram { from: 2, bytes: honest.datagram() }));
            }
            2 => drop(outputs(&mut core, Input::ExchangeReply { from: 2, bytes })),
            _ => {
                let out = outputs(&mut core, Input::Exchange { from: 2, bytes });
                assert_eq!(out.iter().filter(|o| matches!(o, Output::ExchangeReply { .. })).count(), 1);
            }
        }
    });
}

/// Real datagrams and tables with bytes flipped, cut and grown: lies of every kind, and yet all find together.
#[test]
fn a_damaged_conversation_neither_panics_nor_lasts() {
    for seed in 1..=5 {
        let mut c = Cluster::of(4, seed);
        c.damage_per_mille = 100;
        c.run(15 * S);
        c.damage_per_mille = 0;
        let whole = |c: &Cluster| (1..=4).all(|of| c.all_see(of, State::Alive)) && c.is_on_its_own();
        let took = c.run_while_not(300 * S, "repair", whole);
        let known = c.agents[&1].core.members().count();
        println!("seed {seed}: whole {} ms after the last lie; {known} members known", took / MS);
        assert!(c.agents.values().any(|agent| !agent.alarms.is_empty()));
    }
}

#[test]
fn a_rumour_of_a_later_life_cannot_end_who_can_be_spoken_to() {
    let mut c = Cluster::of(3, 33);
    c.form(10 * S);
    c.run(2 * S);
    c.forget_events();
    let rumour = Bytes(vec![1, 1]).id(3, 900, 9, 0).u16(0).u8(0).u32(0).u8(0).0;
    c.input(1, Input::ExchangeReply { from: 2, bytes: rumour.clone() });
    c.run(60 * S);
    assert!(c.is_whole(), "{}", c.picture());
    assert_eq!(c.events(1), [""; 0]);
    // Who cannot speak to it believes the rumour, until it can.
    c.cut(&[1], &[3]);
    c.run(20 * S);
    c.input(1, Input::ExchangeReply { from: 2, bytes: rumour });
    assert_eq!(c.agents[&1].core.member(3).unwrap().epoch, 900);
    c.heal();
    let took = c.form(60 * S);
    println!("the rumour ended {} ms after the cut healed", took / MS);
}

#[test]
fn a_false_count_of_renewals_is_outbid() {
    let mut c = Cluster::of(3, 34);
    c.form(10 * S);
    c.run(2 * S);
    let boot = c.agents[&3].boot;
    let lie = Bytes(vec![1, 1]).id(3, 1, boot, 60_000).u16(0).u8(0).u32(0).u8(0).0;
    c.input(1, Input::ExchangeReply { from: 2, bytes: lie });
    c.run_while_not(60 * S, "it is outbid", |c| c.agents[&3].core.status().counters.renewals == 1);
    let took = c.form(60 * S);
    println!("back {} ms after the lie", took / MS);
    c.run(60 * S);
    assert!(c.is_whole());
}

// ---- a member that lies, in a cluster of others ----

/// The member that lies in these stories: its connections and its life are real, its words are not.
const EVIL: u64 = 5;

fn honest() -> std::ops::RangeInclusive<u64> {
    1..=4
}

/// Four honest members and a liar, all connected.
fn with_a_liar(seed: u64) -> Cluster {
    let mut c = Cluster::of(EVIL, seed);
    c.form(20 * S);
    c.run(35 * S);
    c.forget_events();
    c
}

impl Cluster {
    fn id(&self, bytes: Bytes, node: u64) -> Bytes {
        bytes.id(node, self.agents[&node].epoch, self.agents[&node].boot, 0)
    }

    /// The liar sends each honest member a packet of gossip; `members` adds what it says of others, and how many.
    fn lie(&mut self, count: u16, members: impl Fn(&Self, u64, Bytes) -> Bytes) {
        for to in honest() {
            let bytes = self.id(self.id(Bytes(vec![]), EVIL).u16(0), to).u8(GOSSIP).u16(count);
            let bytes = members(self, to, bytes).datagram();
            self.input(to, Input::Datagram { from: EVIL, bytes });
        }
    }

    /// The liar tells each honest member a table.
    fn lie_by_table(&mut self, rows: impl Fn(&Self, u64, Bytes) -> Bytes) {
        for to in honest() {
            let bytes = rows(self, to, Bytes(vec![1, 1])).0;
            self.input(to, Input::Exchange { from: EVIL, bytes });
        }
    }

    /// What an honest member has been told of honest ones since events were forgotten.
    fn news_of_the_honest(&self, of: u64, what: &str) -> usize {
        let honest: Vec<String> = honest().map(|n| format!("{what} {n}")).collect();
        self.events(of).iter().filter(|event| honest.contains(event)).count()
    }

    fn refused(&self, of: u64) -> u64 {
        self.agents[&of].core.status().counters.refused
    }
}

/// A record as the tables in the documentation lay it out.
fn record(node: u64, boot: u64, lamport: u64, leaves: bool, ip: [u8; 4], name: &str, version: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for part in [node, 1, boot, lamport] {
        out.extend(part.to_be_bytes());
    }
    out.push(leaves.into());
    out.push(4);
    out.extend(ip);
    out.extend(80u16.to_be_bytes());
    for text in [name, version] {
        out.push(text.len() as u8);
        out.extend(text.as_bytes());
    }
    out.push(0);
    out
}

/// Mass failures: everybody is said to be down, again and again, for a minute. Nobody is taken for failed.
#[test]
fn who_can_be_spoken_to_is_not_down_because_one_says_so() {
    let mut c = with_a_liar(41);
    for round in 0..120 {
        let all_but = |to: u64| honest().filter(move |n| *n != to);
        let state = if round % 2 == 0 { 2 } else { 1 };
        c.lie(3, |c, to, bytes| {
            all_but(to).fold(bytes, |bytes, n| {
                let seen = c.agents[&to].core.member(n).is_some();
                assert!(seen);
                c.id(bytes, n).u16(round / 4).u8(state)
            })
        });
        c.lie_by_table(|c, to, bytes| {
            all_but(to).fold(bytes, |bytes, n| c.id(bytes, n).u16(round / 4).u8(2).u32(0).u8(0))
        });
        c.run(500 * MS);
        for of in honest() {
            assert_eq!(c.news_of_the_honest(of, "failed"), 0, "round {round}: {:?}", c.events(of));
        }
    }
    assert!(honest().all(|of| c.news_of_the_honest(of, "suspected") > 0), "the lies were heard");
    c.form(10 * S);
}

/// To be told that one is down oneself costs a renewal now and then, and nothing else.
#[test]
fn victims_that_are_told_of_their_own_death_stay_in_sight() {
    let mut c = with_a_liar(42);
    for _ in 0..60 {
        c.lie(1, |c, to, bytes| c.id(bytes, to).u16(0).u8(2));
        c.run(500 * MS);
        assert!(honest().all(|of| c.news_of_the_honest(of, "failed") == 0));
    }
    c.form(10 * S);
    assert!(honest().all(|of| c.agents[&of].core.status().counters.renewals < 8));
}

/// An incarnation or a count of renewals that nobody can have is refused, of others and of oneself; and a newcomer that
/// heard the lie first believes the victim's own word as soon as it hears that.
#[test]
fn counters_at_their_ends_are_refused() {
    let mut c = with_a_liar(43);
    let last_bump = (1 << 31) - 1;
    let all: Vec<u64> = honest().collect();
    for (incarnation, bump, state) in [
        (u16::MAX, 0, 0),
        (u16::MAX, 0, 1),
        (u16::MAX - 1, 0, 1),
        (0, last_bump, 0),
        (0, last_bump, 1),
        (9, last_bump, 2),
    ] {
        let refused: Vec<u64> = honest().map(|of| c.refused(of)).collect();
        c.lie(4, |c, _, bytes| {
            all.iter().fold(bytes, |bytes, n| bytes.id(*n, 1, c.agents[n].boot, bump).u16(incarnation).u8(state))
        });
        c.lie_by_table(|c, _, bytes| {
            let row =
                |bytes: Bytes, n: &u64| bytes.id(*n, 1, c.agents[n].boot, bump).u16(incarnation).u8(state).u32(0).u8(0);
            all.iter().fold(bytes, row)
        });
        c.run(5 * S);
        for (of, before) in honest().zip(refused) {
            assert!(c.refused(of) > before, "case {incarnation} {bump} {state}");
            assert_eq!(c.events(of), [""; 0], "case {incarnation} {bump} {state}");
            assert_eq!(c.agents[&of].core.status().counters.renewals, 0);
        }
    }
    // The newcomer knows only the liar.
    c.start(6, vec![addr(EVIL)]);
    c.cut(&[6], &[1, 2, 3, 4]);
    c.run(3 * S);
    for (incarnation, bump) in [(u16::MAX, 0), (0, last_bump)] {
        let victims = [(2, incarnation, bump), (3, incarnation, bump)];
        let row = |bytes: Bytes, (n, inc, bump): (u64, u16, u32)| {
            bytes.id(n, 1, c.agents[&n].boot, bump).u16(inc).u8(0).u32(0).u8(0)
        };
        let table = victims.into_iter().fold(Bytes(vec![1, 1]), row).0;
        c.input(6, Input::Exchange { from: EVIL, bytes: table });
    }
    c.heal();
    let took = c.form(120 * S);
    println!("all in sight of each other {} ms after the newcomer can hear them", took / MS);
}

/// Records in the name of others, with a time near the end of the range: the address, version and intent of a member
/// are what it says itself.
#[test]
fn nobody_puts_words_in_the_mouth_of_another() {
    let mut c = with_a_liar(44);
    let before: Vec<_> = honest().map(|n| c.agents[&1].core.member(n).unwrap().clone()).collect();
    for lamport in [(1u64 << 62) - 1, 1 << 61, 1 << 46, 1 << 40] {
        for leaves in [true, false] {
            c.lie(0, |_, _, bytes| bytes);
            for to in honest() {
                let victim = to % 4 + 1;
                let said = record(
                    victim,
                    c.agents[&victim].boot,
                    lamport,
                    leaves,
                    [169, 254, 169, 254],
                    &format!("agent-{victim}"),
                    "9.9",
                );
                let mut bytes = c.id(c.id(Bytes(vec![]), EVIL).u16(0), to).u8(GOSSIP).u16(1);
                bytes = c.id(bytes, victim).u16(0).u8(2);
                let mut bytes = bytes.datagram();
                bytes.extend((said.len() as u16).to_be_bytes());
                bytes.extend(said);
                c.input(to, Input::Datagram { from: EVIL, bytes });
            }
            c.run(5 * S);
            for (of, gone) in honest().flat_map(|of| [(of, "left"), (of, "failed")]) {
                assert_eq!(c.news_of_the_honest(of, gone), 0, "{lamport} {leaves}: {:?}", c.events(of));
            }
        }
    }
    c.form(30 * S);
    for known in before {
        for of in honest() {
            let now = c.agents[&of].core.member(known.node).unwrap();
            assert_eq!((now.addr, &now.version, &now.name), (known.addr, &known.version, &known.name));
        }
    }
    // And each of them can still say something new.
    for n in honest() {
        let tags = Tags::new([("rack".to_owned(), format!("r{n}"))].into()).unwrap();
        c.input(n, Input::SetTags(tags));
    }
    let heard = |c: &Cluster| {
        honest().all(|of| {
            honest().all(|n| c.agents[&of].core.member(n).is_some_and(|m| m.tags.get("rack") == Some(&format!("r{n}"))))
        })
    };
    c.run_while_not(60 * S, "tags spread", heard);
}

/// Lamport time is pushed to where it cannot hurt, and no further.
#[test]
fn the_clock_does_not_stick() {
    let mut c = with_a_liar(45);
    for to in honest() {
        let said = record(EVIL, c.agents[&EVIL].boot, (1 << 62) - 1, false, [10, 0, 0, 5], "agent-5", "0.1.0");
        let mut bytes = c.id(c.id(Bytes(vec![]), EVIL).u16(0), to).u8(GOSSIP).u16(0).datagram();
        bytes.extend((said.len() as u16).to_be_bytes());
        bytes.extend(said);
        c.input(to, Input::Datagram { from: EVIL, bytes });
    }
    for round in 0..3 {
        for n in honest() {
            let before = c.agents[&n].core.member(n).unwrap().lamport;
            let tags = Tags::new([("round".to_owned(), round.to_string())].into()).unwrap();
            c.input(n, Input::SetTags(tags));
            assert!(c.agents[&n].core.member(n).unwrap().lamport > before);
            assert!(c.agents[&n].core.lamport() <= 1 << 61);
        }
        let heard = |c: &Cluster| {
            honest().all(|of| {
                honest().all(|n| {
                    c.agents[&of].core.member(n).is_some_and(|m| m.tags.get("round") == Some(&round.to_string()))
                })
            })
        };
        c.run_while_not(60 * S, "tags spread", heard);
    }
}

/// A hundred thousand invented members: no more than the quota are remembered, real ones are found and their failures
/// noticed, and when the liar is gone, so are its inventions, in a bounded time.
#[test]
fn inventions_are_few_and_are_forgotten() {
    let mut c = with_a_liar(46);
    let mut next = 1_000;
    for round in 0..250 {
        for to in honest() {
            let mut table = Bytes(vec![1, 1]);
            for _ in 0..100 {
                next += 1;
                table = table.id(next, 1, 1, 0).u16(0).u8((round % 3) as u8).u32(0).u8(0);
            }
            c.input(to, Input::Exchange { from: EVIL, bytes: table.0 });
        }
        if round % 50 == 0 {
            c.run(100 * MS);
        }
    }
    assert_eq!(next, 101_000);
    // What honest members repeat of it counts against them at the others.
    let most = c.agents.values().map(|agent| agent.core.members().count()).max().unwrap();
    println!("{most} members known at the height of it");
    assert!(most <= 4 * 256 + 5, "{most}");
    c.start(6, vec![addr(1)]);
    let seen = |c: &Cluster| honest().all(|of| c.agents[&of].core.is_alive(6));
    let took = c.run_while_not(240 * S, "a newcomer is seen", seen);
    println!("a newcomer is seen by all after {} s", took / S);
    c.crash(EVIL);
    let clean = |c: &Cluster| honest().all(|of| c.agents[&of].core.members().all(|m| m.node <= 6));
    let took = c.run_while_not(3_600 * S, "the inventions are forgotten", clean);
    println!("clean {} s after the liar was gone", took / S);
    assert!(honest().all(|of| honest().chain([6]).all(|n| c.agents[&of].core.is_alive(n))));
}

/// What proves a lie says so, every time; what an honest member may only have repeated does not.
#[test]
fn a_proven_lie_is_told_apart_from_hearsay() {
    use quorate_membership::Lie;
    let mut core = core(Options::default());
    meet(&mut core, 2);
    meet(&mut core, 3);
    let lies = |out: &[Output]| -> Vec<_> {
        out.iter().filter_map(|o| if let Output::Alarm { lie, .. } = o { Some(*lie) } else { None }).collect()
    };
    for _ in 0..3 {
        let other = header(3, PING).u8(7).u16(0).datagram();
        assert_eq!(lies(&outputs(&mut core, Input::Datagram { from: 2, bytes: other })), [Some(Lie::OtherNode)]);
        let cut = vec![1, 0, 9, 9];
        assert_eq!(lies(&outputs(&mut core, Input::Datagram { from: 2, bytes: cut.clone() })), [Some(Lie::Malformed)]);
        let reply = outputs(&mut core, Input::Exchange { from: 2, bytes: cut });
        assert!(matches!(lies(&reply)[..], [Some(Lie::Malformed)]), "{reply:?}");
    }
    // A newer version is no liar.
    assert_eq!(lies(&outputs(&mut core, Input::Datagram { from: 2, bytes: vec![3, 0, 0] })), [None]);
    let impostor = header(2, GOSSIP).u16(1).id(1, 6, 66, 0).u16(0).u8(0).datagram();
    assert_eq!(lies(&outputs(&mut core, Input::Datagram { from: 2, bytes: impostor })), [None]);
}

/// Where a connected member is, others do not know better: their word is kept, and believed once it says the same itself,
/// or cannot be asked any more.
#[test]
fn where_a_member_is_it_says_itself_while_it_can_be_asked() {
    let said_by = |from: u64, lamport: u64| {
        let said = record(3, 11, lamport, false, [10, 9, 9, 9], "n3", "1");
        let mut bytes = header(from, GOSSIP).u16(0).datagram();
        bytes.extend((said.len() as u16).to_be_bytes());
        bytes.extend(said);
        Input::Datagram { from, bytes }
    };
    let elsewhere = std::net::SocketAddr::from(([10, 9, 9, 9], 80));
    for confirmed in [said_by(3, 7), Input::Lost { node: 3 }] {
        let mut core = core(Options::default());
        meet(&mut core, 2);
        meet(&mut core, 3);
        let lost = matches!(confirmed, Input::Lost { .. });
        outputs(&mut core, said_by(2, 7));
        assert_eq!(core.member(3).unwrap().addr, addr(3));
        outputs(&mut core, confirmed);
        if lost {
            outputs(&mut core, said_by(2, 8));
        }
        assert_eq!(core.member(3).unwrap().addr, elsewhere);
    }
}

/// A liar tells of one member after another, each time something new, as fast as it can. What waits to be passed on stays
/// within its bound, that somebody failed still finds room, and what was left out is counted.
#[test]
fn a_flood_of_updates_waits_within_its_bound() {
    let mut core = core(Options::default());
    (2..=1_300).for_each(|node| drop(meet(&mut core, node)));
    let status = core.status();
    assert_eq!(status.updates_backlog, 512, "who is alive takes half of the room");
    assert!(status.updates_dropped > 700, "{} dropped", status.updates_dropped);
    let flood = |core: &mut Membership, from: u64, incarnation: u16, state: u8| {
        for nodes in (3..=1_300u64).collect::<Vec<_>>().chunks(20) {
            let mut packet = header(from, GOSSIP).u16(nodes.len() as u16);
            for node in nodes {
                packet = packet.id(*node, 1, 11, 0).u16(incarnation).u8(state);
            }
            outputs(core, Input::Datagram { from, bytes: packet.datagram() });
            let status = core.status();
            assert!(status.updates_backlog <= 1024, "{}", status.updates_backlog);
            assert!(status.queue.bytes <= 128 << 10, "{}", status.queue.bytes);
        }
    };
    for incarnation in 1..=3 {
        flood(&mut core, 2, incarnation, 0);
    }
    assert_eq!(core.status().counts.alive, 1_300, "all of it was taken over all the same");
    flood(&mut core, 2, 3, 1);
    let status = core.status();
    assert!((513..=1024).contains(&status.updates_backlog), "news of suspects found room: {}", status.updates_backlog);
    // This node is suspected itself, and answers in the very next packet: what is said of it never waits.
    let packet = header(2, PING).u8(1).u16(1).id(1, 5, 55, 0).u16(0).u8(1);
    let out = outputs(&mut core, Input::Datagram { from: 2, bytes: packet.datagram() });
    assert!(out.iter().any(|o| matches!(o, Output::Datagram { to: 2, .. })), "it answers");
}

/// A liar invents members, each with the largest tags, again and again. It fills its own share and no more: tags of members
/// that a connection has proven arrive, and so do those that another peer tells of.
#[test]
fn one_liar_leaves_room_for_the_tags_of_all_others() {
    const LIAR: u64 = 2;
    const LARGE: usize = 60 << 10;
    let mut core = core(Options::default());
    (LIAR..=4).for_each(|node| drop(meet(&mut core, node)));
    let row = |node: u64, news: &[u8]| {
        let record = Bytes(vec![]).row(node, news);
        [&[2, 1][..], &record].concat()
    };
    // As many as a peer may tell of; each record brings its tags along.
    for node in 1_000..1_256 {
        let bytes = row(node, &tags(LARGE, node));
        outputs(&mut core, Input::Exchange { from: LIAR, bytes });
    }
    let status = core.status();
    assert!(status.tag_bytes_unproven >= 4 << 20, "it fills its share: {}", status.tag_bytes_unproven);
    assert!(status.tag_bytes_unproven <= (4 << 20) + (64 << 10), "and no more: {}", status.tag_bytes_unproven);
    let holds = |core: &Membership, node: u64| core.member(node).is_some_and(|m| m.tags.get("k").is_some());
    assert!(holds(&core, 1_000) && !holds(&core, 1_255));
    // One that was invented, or not: somebody else tells of it.
    outputs(&mut core, Input::Exchange { from: 3, bytes: row(2_000, &tags(LARGE, 2_000)) });
    assert!(holds(&core, 2_000), "another peer has a share of its own");
    outputs(&mut core, Input::Exchange { from: 4, bytes: row(4, &tags(LARGE, 4)) });
    assert!(holds(&core, 4), "what is proven always finds room");
    // Once one of the liar's members proves to be real, it counts no more against the liar.
    meet(&mut core, 1_255);
    outputs(&mut core, Input::Exchange { from: 1_255, bytes: row(1_255, &tags(LARGE, 1_255)) });
    assert!(holds(&core, 1_255));
    let before = core.status();
    meet(&mut core, 1_000);
    let after = core.status();
    assert_eq!(after.tag_bytes, before.tag_bytes);
    assert!(after.tag_bytes_unproven < before.tag_bytes_unproven, "proven now");
}

impl Bytes {
    /// A row of a table: alive, with a record whose tags are these.
    fn row(self, node: u64, tags: &[u8]) -> Vec<u8> {
        let mut out = self.id(node, 1, 11, 0).u16(0).u8(0).u32(0).u8(1).0;
        for part in [node, 1, 11, 5] {
            out.extend(part.to_be_bytes());
        }
        out.push(0);
        out.extend([4, 10, 0, (node >> 8) as u8, node as u8]);
        out.extend(7373u16.to_be_bytes());
        let name = format!("n{node}");
        out.push(name.len() as u8);
        out.extend(name.as_bytes());
        out.extend([1, b'1']);
        out.extend(tags);
        out
    }
}

/// Tags with one key, told as a whole, with their true hash.
fn tags(bytes: usize, salt: u64) -> Vec<u8> {
    let mut cell = 5_u64.to_be_bytes().to_vec();
    cell.extend([1, b'k', 1]);
    cell.extend((bytes as u16).to_be_bytes());
    cell.extend(std::iter::repeat_n(b'a' + (salt % 26) as u8, bytes));
    let hashed = [&5_u64.to_be_bytes()[..], &0_u64.to_be_bytes(), &cell].concat();
    let hash = ring::digest::digest(&ring::digest::SHA256, &hashed);
    let mut out = vec![1];
    out.extend(5_u64.to_be_bytes());
    out.extend(0_u64.to_be_bytes());
    out.extend(&hash.as_ref()[..16]);
    out.extend(0_u64.to_be_bytes());
    out.extend(1_u16.to_be_bytes());
    out.extend(cell);
    out
}
