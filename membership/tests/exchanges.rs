//! Exchanges: what two members who hold the same tell each other, what it costs when they do not, and who they believe.

use crate::cluster::*;
use quorate_membership::{Event, Input, Local, Membership, Mono, Now, Options, Output, State, Tags};

fn core(node: u64, tags: Tags) -> Membership {
    let name = format!("agent-{node}");
    let local = Local { node, name, addr: addr(node), epoch: 1, boot: 11, version: "0.1.0".to_string(), tags };
    // Nobody answers probes in these stories, and nobody is to be suspected for it.
    let hour = std::time::Duration::from_secs(3600);
    let options = Options { probe_period: hour, suspicion: hour, ..Options::default() };
    Membership::new(options, local, node, at(0)).unwrap()
}

fn at(s: u64) -> Now {
    Now { mono: Mono(s * S), wall_us: 0 }
}

fn outputs(core: &mut Membership, s: u64, input: Input) -> Vec<Output> {
    core.handle(at(s), input);
    std::iter::from_fn(|| core.poll_output()).collect()
}

fn contact(node: u64) -> Input {
    let (name, addr) = (format!("agent-{node}"), addr(node));
    Input::Contact { node, name, addr, epoch: 1, boot: 11, version: "0.1.0".to_string() }
}

/// Two of `n` members, each connected with all others, knowing all their records.
fn two_of(n: u64) -> (Membership, Membership) {
    let zone = |i: u64| Tags::new([("zone".to_owned(), format!("z{}", i % 3))].into()).unwrap();
    let mut two = [core(1, zone(1)), core(2, zone(2))];
    for i in 1..=n {
        for (me, knows) in two.iter_mut().enumerate().filter(|(me, _)| i != *me as u64 + 1) {
            let mut other = core(i, zone(i));
            let words = outputs(&mut other, 0, contact(me as u64 + 1));
            outputs(knows, 0, contact(i));
            for word in words {
                if let Output::Datagram { bytes, .. } = word {
                    outputs(knows, 0, Input::Datagram { from: i, bytes });
                }
            }
        }
    }
    let [a, b] = two;
    assert!([&a, &b].iter().all(|core| core.members().all(|m| m.tags.get("zone").is_some())));
    assert_eq!((a.members().count(), b.members().count()), (n as usize, n as usize));
    (a, b)
}

/// The bytes of a conversation over streams that the first of two begins, and how many requests it took.
fn converse(a: &mut Membership, b: &mut Membership, mut request: Vec<u8>, s: u64) -> (usize, usize) {
    let (mut bytes, mut requests) = (0, 0);
    loop {
        let answer = outputs(b, s, Input::Exchange { from: 1, bytes: request.clone() });
        let answer = answer
            .into_iter()
            .find_map(|o| if let Output::ExchangeReply { bytes, .. } = o { Some(bytes) } else { None });
        let answer = answer.expect("one answer to each request");
        requests += 1;
        bytes += request.len() + answer.len();
        let next = outputs(a, s, Input::ExchangeReply { from: 2, bytes: answer });
        let next = next.into_iter().find_map(|o| match o {
            Output::Exchange { to: 2, bytes, .. } => Some(bytes),
            _ => None,
        });
        match next {
            Some(next) => request = next,
            None => return (bytes, requests),
        }
    }
}

/// What the first asks the second when they meet, which among few members begins an exchange.
fn asks(a: &mut Membership, s: u64) -> Vec<u8> {
    let mut asked = outputs(a, s, Input::Lost { node: 2 });
    asked.extend(outputs(a, s, contact(2)));
    let request = asked.into_iter().find_map(|o| match o {
        Output::Exchange { to: 2, bytes, .. } => Some(bytes),
        _ => None,
    });
    request.expect("a contact among few members begins an exchange")
}

/// They meet for the first time, which takes whole tables if these are small.
fn meet(a: &mut Membership, b: &mut Membership, s: u64) {
    let request = asks(a, s);
    converse(a, b, request, s);
}

/// Before hashes, each exchange was two whole tables. Now two who hold the same say so in some hundred bytes.
#[test]
fn who_holds_the_same_says_so_in_a_few_hundred_bytes() {
    println!("{:>6} {:>14} {:>14} {:>14}", "N", "whole tables", "the same", "one differs");
    for n in [10, 100, 1_000] {
        let (mut a, mut b) = two_of(n);
        // A first-version request is answered with the whole table, as every one was; both sides sent one.
        let whole = outputs(&mut b, 1, Input::Exchange { from: 1, bytes: vec![1, 1] });
        let whole = whole
            .iter()
            .find_map(|o| if let Output::ExchangeReply { bytes, .. } = o { Some(bytes.len()) } else { None });
        let whole = 2 * whole.unwrap();
        let hashes = |core: &mut Membership, other: &mut Membership, s| match n {
            10 => {
                meet(core, other, s);
                asks(core, s)
            }
            // Among many only time begins one: the same hashes, whoever they are for. It is taken for the second's.
            _ => (s..s + 300)
                .find_map(|s| {
                    let out = outputs(core, s, Input::Timeout);
                    out.into_iter().find_map(|o| match o {
                        Output::Exchange { bytes, .. } if bytes[..2] == [2, 3] => Some(bytes),
                        _ => None,
                    })
                })
                .expect("an exchange within five minutes"),
        };
        let request = hashes(&mut a, &mut b, 1);
        let answer = outputs(&mut b, 1, Input::Exchange { from: 1, bytes: request.clone() });
        let Some(Output::ExchangeReply { bytes: answer, .. }) = answer.last() else { panic!("{answer:?}") };
        let same = request.len() + answer.len();
        assert_eq!(answer, &[2, 0], "nothing differs among {n}");
        // The second has changed its tags, which the first has not heard.
        outputs(&mut b, 2, Input::SetTags(Tags::new([("zone".to_owned(), "new".to_owned())].into()).unwrap()));
        let answer = outputs(&mut b, 2, Input::Exchange { from: 1, bytes: request.clone() });
        let Some(Output::ExchangeReply { bytes: answer, .. }) = answer.last() else { panic!("{answer:?}") };
        let differs = request.len() + answer.len();
        println!("{n:>6} {whole:>14} {same:>14} {differs:>14}");
        assert!(same <= 700 && same * 4 < whole, "{same} bytes");
        assert!(differs < 3_000 && differs < whole, "{differs} bytes");
        if n == 10 {
            converse(&mut a, &mut b, request, 2);
            assert_eq!(a.member(2).unwrap().tags.get("zone"), Some("new"));
        }
    }
}

/// Tables that differ on both sides are the same after one conversation, whichever side begins it.
#[test]
fn one_conversation_settles_all_that_differs() {
    let (mut a, mut b) = two_of(20);
    let tags = |v: &str| Tags::new([("zone".to_owned(), v.to_owned())].into()).unwrap();
    meet(&mut a, &mut b, 1);
    for (core, news) in [(&mut a, 5..=7_u64), (&mut b, 12..=13)] {
        let me = core.status().node;
        for i in news {
            let mut other = self::core(i, tags("old"));
            outputs(&mut other, 1, contact(me));
            let said = outputs(&mut other, 1, Input::SetTags(tags("new")));
            let later = outputs(&mut other, 2, Input::Timeout);
            for word in said.into_iter().chain(later) {
                if let Output::Datagram { to, bytes, .. } = word
                    && to == me
                {
                    outputs(core, 2, Input::Datagram { from: i, bytes });
                }
            }
        }
    }
    let new = |core: &Membership| core.members().filter(|m| m.tags.get("zone") == Some("new")).count();
    assert_eq!((new(&a), new(&b)), (3, 2), "each knows what the other does not");
    let request = asks(&mut a, 3);
    let (bytes, requests) = converse(&mut a, &mut b, request, 3);
    assert_eq!((new(&a), new(&b)), (5, 5));
    println!("five of twenty differ: {bytes} bytes in {requests} requests");
    assert!(requests <= 3, "{requests} requests");
    let request = asks(&mut a, 4);
    assert_eq!(converse(&mut a, &mut b, request, 4).0, 2 + 8 + 2 + 8 * 4 + 2, "now they hold the same");
}

/// A member that knows only the first version of the protocol is found out, spoken to in it, and watched as any other.
#[test]
fn a_member_of_the_first_version_is_spoken_to_in_it() {
    let mut core = core(1, Tags::new([("zone".to_owned(), "a".to_owned())].into()).unwrap());
    let first = outputs(&mut core, 1, contact(2));
    let exchange = |out: &[Output]| {
        let all = out
            .iter()
            .filter_map(|o| if let Output::Exchange { to: 2, bytes, .. } = o { Some(bytes.clone()) } else { None });
        all.collect::<Vec<_>>()
    };
    assert_eq!(exchange(&first)[0][0], 2, "at first in the second");
    // It refuses that, as it refuses all that it does not know.
    let answered = outputs(&mut core, 1, Input::ExchangeReply { from: 2, bytes: vec![1, 0] });
    let again = exchange(&answered);
    assert_eq!(again.len(), 1);
    assert_eq!(again[0][..2], [1, 1], "a table in the first");
    let tags = [1, 4, b'z', b'o', b'n', b'e', 1, b'a'];
    assert!(again[0].windows(8).any(|w| w == tags), "with the tags in it");
    // From now on datagrams are, too; and once is enough: it may speak as it likes.
    core.handle(at(1), Input::SetAddr(addr(9)));
    core.handle(at(2), Input::Timeout);
    let spoken: Vec<_> = std::iter::from_fn(|| core.poll_output()).collect();
    let versions: Vec<u8> = spoken
        .iter()
        .filter_map(|o| if let Output::Datagram { to: 2, bytes, .. } = o { Some(bytes[0]) } else { None })
        .collect();
    assert!(!versions.is_empty() && versions.iter().all(|v| *v == 1), "{versions:?}");
    let answered = outputs(&mut core, 2, Input::ExchangeReply { from: 2, bytes: vec![1, 0] });
    assert_eq!(exchange(&answered).len(), 0, "no table for each word of it");
}

/// Somebody tells half of a cluster, in the name of a member, of tags that it never had: at a later time, and at the very
/// time of its own word. Its own word ends both.
#[test]
fn nobody_writes_the_tags_of_another() {
    for same_time in [false, true] {
        let mut c = Cluster::of(4, 60);
        c.form(10 * S);
        let zone = |v: &str| Tags::new([("zone".to_owned(), v.to_owned())].into()).unwrap();
        c.input(3, Input::SetTags(zone("a")));
        let all = |c: &Cluster, v: &str| c.agents.values().all(|a| a.core.member(3).unwrap().tags == zone(v));
        c.run_while_not(10 * S, "the truth", |c| all(c, "a"));
        c.run(40 * S);
        // What an honest core of that very life would say with these tags.
        let victim = &c.agents[&3];
        let (name, addr, epoch, boot) = ("agent-3".to_owned(), victim.addr, victim.epoch, victim.boot);
        let local = Local { node: 3, name, addr, epoch, boot, version: "0.1.0".to_owned(), tags: zone("evil") };
        let mut forger = Membership::new(Options::default(), local, 9, c.clock()).unwrap();
        let lamport = c.agents[&1].core.member(3).unwrap().lamport;
        forger.handle(c.clock(), Input::Witness { lamport: lamport - u64::from(same_time) });
        forger.handle(c.clock(), Input::SetTags(zone("worse")));
        forger.handle(c.clock(), contact_of(&c, 1));
        let table = std::iter::from_fn(|| forger.poll_output())
            .find_map(|o| if let Output::Exchange { bytes, .. } = o { Some(bytes) } else { None });
        let table = table.expect("a table at first contact");
        assert_eq!(table[..2], [2, 1]);
        // The liar, member 4, passes it on as hearsay.
        c.cut(&[3], &[1]);
        c.run(10 * S);
        c.input(1, Input::Exchange { from: 4, bytes: table });
        let believed = c.agents[&1].core.member(3).unwrap().tags == zone("worse");
        assert_eq!(believed, !same_time, "a later time is believed until the member is heard");
        c.heal();
        c.run_while_not(60 * S, "its own word", |c| all(c, "a"));
        c.run(60 * S);
        assert!(all(&c, "a"), "and it lasts");
        assert!(!c.agents[&1].events.iter().any(|(_, e)| matches!(e, Event::Failed(m) if m.node == 2)));
        assert!(c.all_see(2, State::Alive));
    }
}

fn contact_of(c: &Cluster, node: u64) -> Input {
    let agent = &c.agents[&node];
    let (name, addr, epoch, boot) = (format!("agent-{node}"), agent.addr, agent.epoch, agent.boot);
    Input::Contact { node, name, addr, epoch, boot, version: "0.1.0".to_string() }
}

/// A member that answers every word with a request for more gets no more than one answer for each.
#[test]
fn unasked_answers_cost_nothing() {
    let (mut a, mut b) = two_of(20);
    meet(&mut a, &mut b, 1);
    // "All differs, and I know nobody": would be answered with all that is known.
    let all_differs = vec![2, 4, 0, 8, 0xff];
    for _ in 0..3 {
        let out = outputs(&mut a, 1, Input::ExchangeReply { from: 2, bytes: all_differs.clone() });
        assert!(!out.iter().any(|o| matches!(o, Output::Exchange { .. })), "{out:?}");
    }
    let out = outputs(&mut a, 1, Input::ExchangeReply { from: 2, bytes: vec![2, 7] });
    assert!(!out.iter().any(|o| matches!(o, Output::Exchange { .. })));
    // Wants without end are no wants.
    let wants = [vec![2, 6], vec![1; 65 * 32]].concat();
    let out = outputs(&mut a, 1, Input::Exchange { from: 2, bytes: wants });
    assert!(out.iter().any(|o| matches!(o, Output::Alarm { lie: Some(_), .. })), "{out:?}");
}

/// When a core among forty others, with whom it has compared tables, begins to compare with whom, in the `span` from then on.
fn compared_with(span: u64, answers: impl Fn(usize) -> bool) -> Vec<(u64, u64)> {
    let mut core = core(1, Tags::default());
    for node in 2..=41 {
        outputs(&mut core, 0, contact(node));
    }
    let (mut all, mut now) = (vec![], 0);
    while now < span * S {
        now = core.poll_timeout().map_or(span * S, |at| at.0.max(now));
        core.handle(Now { mono: Mono(now), wall_us: 0 }, Input::Timeout);
        let said: Vec<_> = std::iter::from_fn(|| core.poll_output()).collect();
        for output in said {
            // Hashes: see the table of messages.
            if let Output::Exchange { to, bytes, .. } = output
                && bytes.starts_with(&[2, 3])
            {
                all.push((now / S, to));
                if answers(all.len()) {
                    core.handle(
                        Now { mono: Mono(now), wall_us: 0 },
                        Input::ExchangeReply { from: to, bytes: vec![2, 0] },
                    );
                    while core.poll_output().is_some() {}
                }
            }
        }
    }
    all
}

/// Among many, turns to compare tables are minutes apart. One that gets no answer must not be lost: another is asked.
#[test]
fn who_does_not_answer_is_not_the_only_one_asked_in_a_turn() {
    let answered = compared_with(600, |_| true);
    let turns = answered.len();
    assert!((10..=22).contains(&turns), "some at first, then one a minute: {answered:?}");

    let silent = compared_with(600, |_| false);
    println!("{turns} exchanges in 600 s if all answer, {} if nobody does", silent.len());
    assert!(silent.len() > turns * 2 && silent.len() <= (turns + 2) * 3, "two more in each turn: {silent:?}");
    let again: Vec<_> = silent.windows(2).filter(|two| two[1].0 - two[0].0 == 5).collect();
    assert!(again.len() >= turns && again.iter().all(|two| two[0].1 != two[1].1), "with another: {silent:?}");

    // All but every second one: each turn ends with an answer, and no more are asked.
    let half = compared_with(600, |count| count % 2 == 0);
    assert!(half.len() <= turns * 2 + 3, "{half:?}");
}
