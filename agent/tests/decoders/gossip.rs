//! Gossip: datagrams and tables, from a peer whose connection is proven and whose words are not.

use crate::fed::{feed, turn};
use quorate_membership::{Input, Local, Membership, Mono, Now, Options, Output, Tags};
use std::cell::RefCell;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;

/// What a core may take for a packet: an answer, and a table of all that it knows.
const BYTES_ANYWAY: usize = 256 << 10;

fn addr(n: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, n], 7373))
}

fn core(n: u8) -> Membership {
    let tags = Tags::new([("rack".to_owned(), "r1".to_owned())].into()).unwrap();
    let (node, name) = (n.into(), format!("n{n}"));
    let local = Local { node, name, addr: addr(n), epoch: 1, boot: 11, version: "1".into(), tags };
    Membership::new(Options::default(), local, 1, Now::default()).unwrap()
}

fn meet(core: &mut Membership, n: u8) -> Vec<Output> {
    let contact = Input::Contact {
        node: n.into(),
        name: format!("n{n}"),
        addr: addr(n),
        epoch: 1,
        boot: 11,
        version: "1".into(),
    };
    core.handle(Now { mono: Mono(1), wall_us: 0 }, contact);
    std::iter::from_fn(|| core.poll_output()).collect()
}

/// What an honest core says when it meets another one: packets, and a table.
fn examples() -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let (mut datagrams, mut exchanges) = (Vec::new(), vec![vec![1, 0], vec![1, 1]]);
    // Hashes of nothing, eight buckets that differ, no rows; and the tags of members 1 and 2 in their only life.
    exchanges.push([vec![2, 3, 0, 0, 0, 0, 0, 0, 0, 7, 0, 8], vec![0; 32]].concat());
    exchanges.extend([vec![2, 4, 0, 8, 255], vec![2, 5]]);
    let life = [[0, 0, 0, 0, 0, 0, 0, 1], [0, 0, 0, 0, 0, 0, 0, 11]].concat();
    let want = |node| [vec![0, 0, 0, 0, 0, 0, 0, node], life.clone(), vec![0; 8]].concat();
    exchanges.push([vec![2, 6], want(1), want(2)].concat());
    let told = [vec![1], vec![0, 0, 0, 0, 0, 0, 0, 1], vec![0; 8], vec![7; 16], vec![0; 8]].concat();
    let cell = [vec![0, 1], vec![0, 0, 0, 0, 0, 0, 0, 1], b"\x04rack\x01\x00\x02r2".to_vec()].concat();
    exchanges.push([vec![2, 7], vec![0, 0, 0, 0, 0, 0, 0, 2], life, told, cell].concat());
    let mut speaker = core(2);
    for n in [3, 1] {
        for output in meet(&mut speaker, n) {
            match output {
                Output::Datagram { bytes, .. } => datagrams.push(bytes),
                Output::Exchange { bytes, .. } => exchanges.push(bytes),
                _ => {}
            }
        }
    }
    for step in 1..40 {
        speaker.handle(Now { mono: Mono(step * 100_000), wall_us: 0 }, Input::Timeout);
        while let Some(output) = speaker.poll_output() {
            if let Output::Datagram { to: 1, bytes, .. } = output {
                datagrams.push(bytes);
            }
        }
    }
    assert!(datagrams.len() > 2 && exchanges.len() > 3);
    (datagrams, exchanges)
}

fn fresh() -> Membership {
    let mut listener = core(1);
    meet(&mut listener, 2);
    listener
}

fn hear(listener: &RefCell<Membership>, input: Input) -> Vec<Output> {
    let mut listener = listener.borrow_mut();
    listener.handle(Now { mono: Mono(2), wall_us: 0 }, input);
    std::iter::from_fn(|| listener.poll_output()).collect()
}

#[test]
fn datagrams() {
    let _turn = turn();
    let (examples, _) = examples();
    let listener = AssertUnwindSafe(RefCell::new(fresh()));
    feed(examples, BYTES_ANYWAY, |bytes| {
        drop(hear(&listener, Input::Datagram { from: 2, bytes: bytes.to_vec() }));
    });
    let known = listener.borrow().members().count();
    assert!(known <= 2 + 256, "{known} members of one liar");
}

/// Every request has exactly one answer, whatever it was.
#[test]
fn tables() {
    let _turn = turn();
    let (_, examples) = examples();
    let listener = AssertUnwindSafe(RefCell::new(fresh()));
    feed(examples, BYTES_ANYWAY, |bytes| {
        let out = hear(&listener, Input::Exchange { from: 2, bytes: bytes.to_vec() });
        assert_eq!(out.iter().filter(|o| matches!(o, Output::ExchangeReply { .. })).count(), 1);
        drop(hear(&listener, Input::ExchangeReply { from: 2, bytes: bytes.to_vec() }));
    });
    let known = listener.borrow().members().count();
    assert!(known <= 2 + 256, "{known} members of one liar");
}
