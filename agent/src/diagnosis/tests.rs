//! Each cause from facts alone: told where it stands, not told where it does not, roots without their consequences.

mod upkeep;

use super::*;
use crate::api::{DamagedEntries, DiskSpace, Latency};
use crate::facts::{
    AutopilotFacts, CertificateFacts, DialFacts, Facts, Heard, KnockFacts, LevelFacts, MemberFacts, Picture, Problem,
    StrangerFacts, Trouble,
};
use proptest::prelude::*;

const NOW_S: i64 = 1_800_000_000;
const LOG: &str = "aa";

fn trouble(word: &str, detail: &str) -> Trouble {
    Trouble { word: word.into(), detail: detail.into(), text: format!("{word} {detail}, in words") }
}

fn member(node: u64) -> MemberFacts {
    MemberFacts {
        node,
        name: format!("n{node}"),
        addr: format!("10.0.0.{node}:7373"),
        state: "alive".into(),
        proven: true,
        connected: true,
        last_up_ms: Some(0),
        log_id: Some(LOG.into()),
        ..MemberFacts::default()
    }
}

/// The first of three voters, with the second as its leader, and nothing wrong.
fn healthy() -> Facts {
    let mut facts = Facts {
        name: "n1".into(),
        node: 1,
        boot: 3,
        up_ms: 60_000,
        advertise: "10.0.0.1:7373".into(),
        data: "/data".into(),
        log_id: Some(LOG.into()),
        members: vec![member(2), member(3)],
        certificate: Some(CertificateFacts {
            dir: "/certs".into(),
            not_before: NOW_S - 10,
            not_after: NOW_S + 86_400,
            ..CertificateFacts::default()
        }),
        ..Facts::default()
    };
    facts.raft.member = true;
    facts.raft.voters = vec![1, 2, 3];
    facts.raft.leader = Some(2);
    facts.raft.own_term_committed = true;
    facts.raft.election_timeout_min_ms = 250;
    facts.raft.election_timeout_max_ms = 500;
    facts.clock.wall_us = NOW_S * 1_000_000;
    facts
}

fn case(own: Facts, others: Vec<Facts>) -> Case {
    let heard = |facts: Facts| Heard {
        node: Some(facts.node),
        name: facts.name.clone(),
        facts: Some(facts),
        ..Heard::default()
    };
    let others = others.into_iter().map(heard).collect();
    Case { picture: Some(Picture { own, others }), now_us: NOW_S * 1_000_000, ..Case::default() }
}

fn causes(case: &Case) -> Vec<Cause> {
    diagnose(case).findings.into_iter().map(|finding| finding.cause).collect()
}

/// What is found when this is changed of a healthy voter.
fn with(change: impl FnOnce(&mut Facts)) -> Vec<Cause> {
    let mut facts = healthy();
    change(&mut facts);
    causes(&case(facts, vec![]))
}

fn leaderless(facts: &mut Facts) {
    facts.raft.leader = None;
    facts.raft.leaderless_ms = Some(41_000);
}

fn gone(member: &mut MemberFacts) {
    (member.connected, member.state, member.last_up_ms) = (false, "failed".into(), Some(39_000));
    member.trouble = Some(trouble("no_answer", ""));
}

/// A joiner without a log.
fn joiner() -> Facts {
    let mut facts = Facts { members: vec![], log_id: None, ..healthy() };
    facts.raft = Default::default();
    facts.formation.seeds = vec!["10.0.0.2:7373".into()];
    facts
}

#[test]
fn a_healthy_voter_has_nothing() {
    let diagnosis = diagnose(&case(healthy(), vec![]));
    assert!(diagnosis.is_healthy(), "{diagnosis:?}");
    assert_eq!((diagnosis.leader.as_deref(), diagnosis.headline[0].starts_with("leader n2")), (Some("n2"), true));
}

#[test]
fn a_lost_quorum_names_who_is_missing_and_nothing_else() {
    let mut facts = healthy();
    leaderless(&mut facts);
    facts.members.iter_mut().for_each(gone);
    let diagnosis = diagnose(&case(facts, vec![]));
    let [finding] = &diagnosis.findings[..] else { panic!("{diagnosis:?}") };
    assert_eq!((finding.cause, diagnosis.no_leader), (Cause::QuorumDown, true));
    let said = finding.evidence.join(" ");
    assert!(said.contains("n2 at 10.0.0.2:7373: gossip says failed") && said.contains("39 s ago"), "{said}");
    assert!(
        finding.next[0].contains("any 1 of n2 and n3") && finding.next[1].contains("quorate recover"),
        "{finding:?}"
    );
    assert!(diagnosis.headline[0].starts_with("NO LEADER for 41 s"), "{diagnosis:?}");
}

/// The screen of the design: one voter is dead, the other lives and cannot be reached.
#[test]
fn a_broken_link_is_told_apart_from_a_dead_voter() {
    let mut facts = healthy();
    leaderless(&mut facts);
    facts.members.iter_mut().for_each(gone);
    (facts.members[1].state, facts.members[1].proven) = ("alive".into(), false);
    let found = causes(&case(facts.clone(), vec![]));
    assert_eq!(found, [Cause::LinkBroken, Cause::QuorumDown]);
    // One that answers others lives whatever gossip says.
    facts.members[1].state = "failed".into();
    let mut other = Facts { name: "n4".into(), node: 4, ..healthy() };
    other.raft.leader = None;
    other.members[0].connected = false;
    let found = causes(&case(facts, vec![other]));
    assert!(found.contains(&Cause::LinkBroken), "{found:?}");
}

/// Small packets keep a connection alive through which no entry gets: either end tells it, and both at once are one finding.
#[test]
fn a_connection_that_raft_does_not_get_through_is_broken() {
    let mut leader = Facts { name: "n2".into(), node: 2, ..healthy() };
    (leader.members, leader.raft.leads_ms) = (vec![member(1), member(3)], Some(60_000));
    leader.members[1].unheard_ms = Some(6_000);
    let mut deaf = Facts { name: "n3".into(), node: 3, ..healthy() };
    (deaf.members, deaf.raft.leader, deaf.raft.leaderless_ms) = (vec![member(1), member(2)], None, Some(6_000));
    for others in [vec![leader.clone()], vec![deaf.clone()], vec![leader.clone(), deaf.clone()]] {
        let both = others.len() == 2;
        let found = diagnose(&case(healthy(), others)).findings;
        let about: Vec<_> = found.iter().map(|f| (f.cause, f.about.as_str())).collect();
        assert_eq!(about, [(Cause::LinkBroken, "n2-n3")]);
        assert_eq!(found[0].evidence.len(), 1 + usize::from(both));
        assert!(found[0].next[0].contains("ping -M do"), "{found:?}");
    }
    deaf.raft.leaderless_ms = Some(4_000);
    assert_eq!(causes(&case(healthy(), vec![deaf.clone()])), [], "an election may take that");
    (deaf.raft.leaderless_ms, deaf.disk.hangs_ms) = (Some(9_000), Some(9_000));
    assert_eq!(causes(&case(healthy(), vec![deaf])), [Cause::DiskSlow], "that is why");
    leader.members[1].state = "suspect".into();
    assert_eq!(causes(&case(healthy(), vec![leader])), [], "it may be about to be found dead");
}

#[test]
fn one_dead_voter_of_three_is_a_warning() {
    assert_eq!(with(|f| gone(&mut f.members[1])), [Cause::VoterDown]);
    let diagnosis = diagnose(&case(healthy(), vec![]));
    assert!(!diagnosis.no_leader);
}

/// An expired certificate explains that nobody answers, and that explains that there is no quorum.
#[test]
fn an_expired_certificate_is_the_only_cause() {
    let expired = |f: &mut Facts| {
        leaderless(f);
        f.members.iter_mut().for_each(gone);
        f.members.iter_mut().for_each(|m| m.trouble = Some(trouble("they_refused", "expired")));
        f.certificate.as_mut().unwrap().not_after = NOW_S - 60;
    };
    assert_eq!(with(expired), [Cause::CertificateExpired]);
    let of_a_joiner = |detail: &str, word: &str| {
        let mut facts = joiner();
        facts.dials =
            vec![DialFacts { seed: "10.0.0.2:7373".into(), trouble: trouble(word, detail), ..DialFacts::default() }];
        causes(&case(facts, vec![]))
    };
    assert_eq!(of_a_joiner("other_authority", "not_trusted"), [Cause::OtherAuthority]);
    assert_eq!(of_a_joiner("other_cluster", "they_refused"), [Cause::OtherCluster]);
    assert_eq!(of_a_joiner("not_yet_valid", "they_refused"), [Cause::CertificateNotYetValid]);
    assert_eq!(of_a_joiner("clocks_differ", "they_refused"), [Cause::ClockOff]);
    assert_eq!(of_a_joiner("unfit_key_usage", "they_refused"), [Cause::CertificateUnusable]);
    assert_eq!(of_a_joiner("copy", "closed"), [Cause::DirectoryCopied]);
    assert_eq!(of_a_joiner("forgotten", "closed"), [Cause::NodeRemoved]);
    assert_eq!(of_a_joiner("name_held", "closed"), [Cause::NameHeld]);
    assert!(of_a_joiner("", "version").contains(&Cause::VersionGate));
    assert_eq!(of_a_joiner("", "no_answer"), [Cause::NoJoinAddress]);
}

/// What knocks at the door of a healthy agent, and what others say of an agent that they shut out.
#[test]
fn others_tell_what_an_agent_cannot_know() {
    let knock = |f: &mut Facts| {
        let trouble = trouble("not_trusted", "expired");
        f.knocks = vec![KnockFacts { from: "10.0.0.9".into(), trouble, count: 4, ago_ms: 10 }];
    };
    assert_eq!(with(knock), [Cause::CertificateExpired]);
    let stranger = |f: &mut Facts| {
        f.strangers =
            vec![StrangerFacts { node: 9, name: "n9".into(), detail: "copy".into(), ..StrangerFacts::default() }];
    };
    assert_eq!(with(stranger), [Cause::DirectoryCopied]);
    // What all say alike is told once, with who says it; and what follows from it not at all.
    let mut kept = joiner();
    let refusal =
        |seed: &str| Trouble { text: format!("{seed} refused: the name is kept"), ..trouble("closed", "name_kept") };
    let dial = |seed: &str| DialFacts { seed: seed.into(), trouble: refusal(seed), ..DialFacts::default() };
    (kept.dials, kept.formation.expect) = (vec![dial("a:1"), dial("b:1")], Some(3));
    let turned_away = |node: u64| {
        let mut facts = Facts { name: format!("n{node}"), node, ..healthy() };
        let (name, why) = ("n1".to_owned(), "the name is kept".to_owned());
        let (node, detail) = (1, "name_kept".to_owned());
        facts.strangers = vec![StrangerFacts { node, name, detail, why, ..StrangerFacts::default() }];
        facts
    };
    let found = diagnose(&case(kept, vec![turned_away(2), turned_away(3)])).findings;
    assert_eq!(found.iter().map(|f| f.cause).collect::<Vec<_>>(), [Cause::NameHeld]);
    assert_eq!(found[0].evidence, ["a:1 and b:1 refuse it: the name is kept"]);
    let mut other = Facts { name: "n2".into(), node: 2, ..healthy() };
    other.registry.forgotten = vec![1];
    let found = |other: Facts| {
        let mut own = joiner();
        own.node = 1;
        let mut case = case(own, vec![other]);
        case.picture.as_mut().unwrap().own.dials.clear();
        causes(&case)
    };
    assert_eq!(found(other.clone()), [Cause::NodeRemoved]);
    other.registry = Default::default();
    other.registry.holders = vec![("n1".into(), 77, 1)];
    assert_eq!(found(other.clone()), [Cause::NameHeld]);
    other.registry = Default::default();
    other.members = vec![MemberFacts { boot: 9, ..member(1) }];
    assert_eq!(found(other), [Cause::DirectoryCopied]);
}

#[test]
fn formation_is_told_by_what_is_missing() {
    let found = |change: fn(&mut Facts)| {
        let mut facts = joiner();
        change(&mut facts);
        causes(&case(facts, vec![]))
    };
    assert_eq!(found(|f| f.formation.seeds.clear()), [Cause::NobodyFounded]);
    let alone = |f: &mut Facts| f.members = vec![MemberFacts { log_id: None, ..member(2) }];
    assert_eq!(found(alone), [Cause::NobodyFounded]);
    assert_eq!(found(|f| f.members = vec![member(2)]), [Cause::NotAdmitted]);
    assert_eq!(found(|f| f.formation.expect = Some(3)), [Cause::WaitingForExpected]);
    assert_eq!(found(|f| f.formation.founding = true), []);
}

#[test]
fn disks_are_told_apart() {
    assert_eq!(
        with(|f| f.disk.space = DiskSpace { free: Some(1), total: Some(100), reserve: 10, full: true }),
        [Cause::DiskFull]
    );
    assert_eq!(with(|f| f.disk.hangs_ms = Some(4_000)), [Cause::DiskSlow]);
    assert_eq!(
        with(|f| f.disk.fsync = Latency { count: 50, p90_us: 300_000, ..Latency::default() }),
        [Cause::DiskSlow]
    );
    assert_eq!(with(|f| f.disk.fsync = Latency { count: 50, p90_us: 30_000, ..Latency::default() }), []);
    let range =
        |lost| DamagedEntries { file: "1.wal".into(), at: 4_096, first: 3, last: 5, lost, ..DamagedEntries::default() };
    assert_eq!(with(|f| f.disk.health.damaged = vec![range(false)]), [Cause::DamageRepairing]);
    assert_eq!(
        with(|f| f.disk.health.damaged = vec![range(true), range(false)]),
        [Cause::DamageLost, Cause::DamageRepairing]
    );
    assert_eq!(with(|f| f.raft.missing = Some(9)), [Cause::DiskForgot]);
    // The others are judged by the same rules.
    let mut other = Facts { name: "n2".into(), node: 2, ..healthy() };
    other.disk.hangs_ms = Some(9_000);
    let diagnosis = diagnose(&case(healthy(), vec![other]));
    assert_eq!((diagnosis.findings[0].cause, diagnosis.findings[0].about.as_str()), (Cause::DiskSlow, "n2"));
}

#[test]
fn what_an_agent_is_ill_of_by_itself() {
    assert_eq!(with(|f| f.raft.halted = Some("StorageContract".into())), [Cause::RaftHalted]);
    assert_eq!(with(|f| f.raft.machine = Some("why".into())), [Cause::MachineStopped]);
    assert_eq!(with(|f| f.raft.contradicted_by = Some("n3".into())), [Cause::HistoriesDiffer]);
    assert_eq!(with(|f| f.clock.sick = true), [Cause::ClockOff]);
    assert_eq!(with(|f| f.clock.jumped = Some((-60_000_000, 5_000))), [Cause::ClockJumped]);
    assert_eq!(with(|f| f.clock.stalled = Some((9_000, 2_000))), [Cause::ProcessStalled]);
    let churn = |f: &mut Facts| (f.raft.terms_moved, f.raft.movers) = (9, vec![("n3".into(), 8), ("n2".into(), 1)]);
    assert_eq!(with(churn), [Cause::TermChurn]);
    assert_eq!(with(|f| f.members[0].log_id = Some("bb".into())), [Cause::TwoHistories]);
    assert_eq!(with(|f| f.advertise = "127.0.0.1:7373".into()), [Cause::AdvertiseUnreachable]);
    assert_eq!(with(|f| f.raft.departed = true), [Cause::NodeRemoved]);
    let said = |code: Option<&str>| vec![Problem { code: code.map(str::to_owned), text: "something".into() }];
    assert_eq!(with(|f| f.problems = said(None)), [Cause::Reported]);
    assert_eq!(with(|f| f.problems = said(Some("E0116"))), [Cause::DatagramsBlocked]);
    assert_eq!(with(|f| f.problems = said(Some("E9999"))), [Cause::Reported], "a code of a newer agent");
    assert_eq!(with(|f| f.problems = said(Some("E0131"))), [], "the rule about voters judges that");
}

#[test]
fn a_leader_that_cannot_commit_and_a_quorum_that_does_not_elect() {
    let leads = |f: &mut Facts| {
        (f.raft.leader, f.raft.leads_ms, f.raft.own_term_committed) = (Some(1), Some(9_000), false);
    };
    assert_eq!(with(leads), [Cause::FirstEntryUncommitted]);
    assert_eq!(with(leaderless), [Cause::NoLeader]);
    let halted = |f: &mut Facts| {
        leaderless(f);
        f.raft.halted = Some("why".into());
    };
    assert_eq!(with(halted), [Cause::RaftHalted], "what explains it is told alone");
}

#[test]
fn a_directory_without_an_agent() {
    let local = || LocalFacts { data: "/data".into(), node: Some(1), name: Some("n1".into()), ..LocalFacts::default() };
    let found = |local: LocalFacts| causes(&Case { local: Some(local), now_us: NOW_S * 1_000_000, ..Case::default() });
    assert_eq!(found(local()), [Cause::AgentDown]);
    assert_eq!(found(LocalFacts { locked: true, ..local() }), [Cause::DirectoryInUse]);
    let holder = Some(("n1".to_owned(), 7, "127.0.0.1:1".to_owned()));
    assert_eq!(found(LocalFacts { locked: true, holder, ..local() }), [Cause::AgentSilent]);
    assert_eq!(found(LocalFacts { read_only: true, ..local() }), [Cause::DiskReadOnly, Cause::AgentDown]);
    assert_eq!(found(LocalFacts { node: None, left: vec!["left-x".into()], ..local() })[0], Cause::NodeLeft);
    for (word, cause) in [
        ("permission", Cause::DirectoryRefused),
        ("loose", Cause::DirectoryRefused),
        ("foreign", Cause::DirectoryForeign),
        ("damaged", Cause::DamageLost),
        ("newer", Cause::VersionGate),
    ] {
        let troubles = vec![LocalTrouble { word: word.into(), text: "why".into() }];
        assert_eq!(found(LocalFacts { troubles, ..local() })[0], cause);
    }
    assert_eq!(
        found(LocalFacts { fsync_us: Some((900_000, 1_000_000)), ..local() }),
        [Cause::AgentDown, Cause::DiskSlow]
    );
}

/// A source of arbitrary facts: from few numbers, nodes and words, so that they meet.
struct Draw<'a>(std::slice::Iter<'a, u8>);

impl Draw<'_> {
    fn byte(&mut self) -> u8 {
        self.0.next().copied().unwrap_or(0)
    }
    fn flip(&mut self) -> bool {
        self.byte() & 1 == 1
    }
    fn number(&mut self) -> u64 {
        match self.byte() % 6 {
            0 => 0,
            1 => u64::MAX,
            2 => 70_000,
            _ => self.byte().into(),
        }
    }
    fn signed(&mut self) -> i64 {
        [0, i64::MIN, i64::MAX, NOW_S, -5][usize::from(self.byte() % 5)]
    }
    fn word(&mut self) -> String {
        const WORDS: [&str; 17] = [
            "",
            "no_answer",
            "not_trusted",
            "they_refused",
            "closed",
            "expired",
            "copy",
            "left",
            "name_kept",
            "forgotten",
            "version",
            "alive",
            "failed",
            "127.0.0.1:1",
            "10.0.0.1:2",
            "E0131",
            "\u{1b}[2Jé",
        ];
        WORDS[usize::from(self.byte() % 17)].to_owned()
    }
    fn maybe<T>(&mut self, make: impl FnOnce(&mut Self) -> T) -> Option<T> {
        if self.flip() { Some(make(self)) } else { None }
    }
    fn some<T>(&mut self, mut make: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..self.byte() % 4).map(|_| make(self)).collect()
    }
    fn trouble(&mut self) -> Trouble {
        Trouble { word: self.word(), detail: self.word(), text: self.word() }
    }
    fn node(&mut self) -> u64 {
        u64::from(self.byte() % 5)
    }
    fn member(&mut self) -> MemberFacts {
        MemberFacts {
            node: self.node(),
            name: self.word(),
            addr: self.word(),
            state: self.word(),
            since_ms: self.number(),
            proven: self.flip(),
            connected: self.flip(),
            last_up_ms: self.maybe(Self::number),
            trouble: self.maybe(Self::trouble),
            log_id: self.maybe(Self::word),
            boot: self.number(),
            full: self.flip(),
            unheard_ms: self.maybe(Self::number),
            supports: self.maybe(|d| u32::from(d.byte())),
            version: self.word(),
            ..MemberFacts::default()
        }
    }
    fn facts(&mut self) -> Facts {
        let mut facts = Facts { name: self.word(), node: self.node(), boot: self.number(), ..Facts::default() };
        (facts.up_ms, facts.advertise, facts.log_id) = (self.number(), self.word(), self.maybe(Self::word));
        facts.members = self.some(Self::member);
        facts.formation.seeds = self.some(Self::word);
        facts.formation.expect = self.maybe(|d| u32::from(d.byte()));
        facts.formation.waiting = self.maybe(Self::word);
        let raft = &mut facts.raft;
        (raft.member, raft.term, raft.leader) = (self.flip(), self.number(), self.maybe(Self::node));
        (raft.voters, raft.outgoing) = (self.some(Self::node), self.some(Self::node));
        raft.learners = self.some(Self::node);
        (raft.leads_ms, raft.leaderless_ms) = (self.maybe(Self::number), self.maybe(Self::number));
        (raft.halted, raft.missing, raft.departed) = (self.maybe(Self::word), self.maybe(Self::number), self.flip());
        (raft.terms_moved, raft.election_timeout_min_ms, raft.election_timeout_max_ms) =
            (self.number(), self.number(), self.number());
        facts.registry.forgotten = self.some(Self::node);
        facts.registry.superseded = self.some(|d| (d.node(), d.node()));
        facts.registry.holders = self.some(|d| (d.word(), d.node(), d.number()));
        facts.registry.draining = self.some(|d| (d.node(), d.number()));
        facts.registry.pinned = self.some(|d| (d.node(), ["voter", "learner"][usize::from(d.flip())].to_owned()));
        facts.level = LevelFacts { log: u32::from(self.byte() % 4), supports: u32::from(self.byte() % 4) };
        facts.autopilot = AutopilotFacts { voters_target: u32::from(self.byte() % 8), upgrade_off: self.flip() };
        facts.dials =
            self.some(|d| DialFacts { seed: d.word(), trouble: d.trouble(), ago_ms: d.number(), count: d.number() });
        facts.knocks =
            self.some(|d| KnockFacts { from: d.word(), trouble: d.trouble(), ago_ms: d.number(), count: d.number() });
        facts.disk.hangs_ms = self.maybe(Self::number);
        facts.disk.space.free = self.maybe(Self::number);
        facts.disk.space.reserve = self.number();
        facts.clock.wall_us = self.signed();
        facts.clock.jumped = self.maybe(|d| (d.signed(), d.number()));
        facts.clock.stalled = self.maybe(|d| (d.number(), d.number()));
        facts.certificate = self.maybe(|d| CertificateFacts {
            not_before: d.signed(),
            not_after: d.signed(),
            ..CertificateFacts::default()
        });
        facts.problems = self.some(|d| Problem { code: d.maybe(Self::word), text: d.word() });
        facts
    }
}

proptest! {
    /// Facts come from remote machines: whatever they are, there is an answer, each finding has evidence and a next step, and
    /// no cause is told twice about one thing.
    #[test]
    fn any_facts_are_judged(bytes in proptest::collection::vec(any::<u8>(), 0..2_000)) {
        let mut draw = Draw(bytes.iter());
        let picture = draw.maybe(|d| Picture {
            own: d.facts(),
            others: d.some(|d| Heard { node: d.maybe(Draw::node), name: d.word(), addr: d.word(), facts: d.maybe(Draw::facts), trouble: d.maybe(Draw::trouble) }),
        });
        let local = draw.maybe(|d| LocalFacts {
            data: d.word(),
            troubles: d.some(|d| LocalTrouble { word: d.word(), text: d.word() }),
            locked: d.flip(),
            node: d.maybe(Draw::node),
            boot: d.number(),
            fsync_us: d.maybe(|d| (d.number(), d.number())),
            ..LocalFacts::default()
        });
        let probes = draw.some(|d| Heard { facts: d.maybe(Draw::facts), trouble: d.maybe(Draw::trouble), ..Heard::default() });
        let case = Case { picture, local, probes, unreachable: draw.maybe(Draw::trouble), now_us: draw.signed() };
        let diagnosis = diagnose(&case);
        let mut told = std::collections::BTreeSet::new();
        for finding in &diagnosis.findings {
            prop_assert!(!finding.evidence.is_empty() && !finding.next.is_empty(), "{:?}", finding);
            prop_assert!(told.insert((finding.cause, finding.about.clone())), "{:?} twice", finding);
        }
        let order: Vec<_> = diagnosis.findings.iter().map(|f| (std::cmp::Reverse(f.severity), f.cause)).collect();
        prop_assert!(order.is_sorted());
    }
}
