//! Bytes made to hurt: lengths that promise gigabytes, depth, types that are not asked for, texts that are none; each in
//! the place of each body that anybody may send.

use crate::fed::{BYTES_ANYWAY, feed_each, turn};
use crate::wire::{peer_messages, requests, responses};
use bytes::Bytes;
use quorate::wire::peer::{decode_peer, encode_peer};
use quorate::wire::rpc::{Request, Response};

/// MessagePack that no message of ours begins with a meaning for.
fn bombs() -> Vec<(String, Vec<u8>)> {
    let with = |head: &[u8], rest: &[u8]| [head, rest].concat();
    let huge = [0xff; 4];
    let mut bombs = vec![
        ("array of 2^32 - 1".to_owned(), with(&[0xdd], &huge)),
        ("map of 2^32 - 1".to_owned(), with(&[0xdf], &huge)),
        ("text of 2^32 - 1".to_owned(), with(&[0xdb], &huge)),
        ("bytes of 2^32 - 1".to_owned(), with(&[0xc6], &huge)),
        ("ext of 2^32 - 1".to_owned(), with(&[0xc9], &with(&huge, &[1]))),
        ("array of 2^16 - 1".to_owned(), vec![0xdc, 0xff, 0xff]),
        ("fixext".to_owned(), vec![0xd8, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        ("never used".to_owned(), vec![0xc1]),
        ("nothing".to_owned(), vec![]),
        ("nil".to_owned(), vec![0xc0]),
        ("not a number".to_owned(), with(&[0xcb], &f64::NAN.to_be_bytes())),
        ("infinity".to_owned(), with(&[0xcb], &f64::INFINITY.to_be_bytes())),
        ("text that is none".to_owned(), vec![0xa4, 0xff, 0xfe, 0xc0, 0x80]),
        ("surrogates".to_owned(), vec![0xa3, 0xed, 0xa0, 0x80]),
        ("2^64 - 1".to_owned(), with(&[0xcf], &[0xff; 8])),
        ("-2^63".to_owned(), with(&[0xd3], &[0x80, 0, 0, 0, 0, 0, 0, 0])),
    ];
    for (what, byte) in [("arrays", 0x91), ("maps", 0x81), ("maps of nil", 0xc0), ("options", 0x92)] {
        for depth in [25, 1_000, 1_000_000] {
            bombs.push((format!("{depth} nested {what}"), vec![byte; depth]));
        }
    }
    // Arrays that each promise everything, inside one another: room ahead must not add up with depth.
    bombs.push(("200 nested promises".to_owned(), [0xdd, 0xff, 0xff, 0xff, 0xff].repeat(200)));
    bombs.push(("a million nils".to_owned(), with(&[0xdd, 0, 0x0f, 0x42, 0x40], &vec![0xc0; 1_000_000])));
    bombs.push(("a million empty texts".to_owned(), with(&[0xdd, 0, 0x0f, 0x42, 0x40], &vec![0xa0; 1_000_000])));
    bombs
}

/// The bombs, bare and in the place of each byte of a good body of each kind.
fn in_the_place_of(good: &[Vec<u8>], head: usize) -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    for (what, bomb) in bombs() {
        for (n, example) in good.iter().enumerate() {
            let places = if bomb.len() > 10_000 { head..head + 1 } else { head..example.len() };
            for at in places.filter(|at| *at <= example.len()) {
                all.push((format!("{what} at {at} of example {n}"), [&example[..at], &bomb[..]].concat()));
            }
        }
    }
    all
}

#[test]
fn bombs_among_agents() {
    let _turn = turn();
    let good: Vec<_> = peer_messages().iter().map(|m| encode_peer(m).concat()).collect();
    feed_each(&in_the_place_of(&good, 1), BYTES_ANYWAY, |bytes| drop(decode_peer(Bytes::copy_from_slice(bytes))));
}

#[test]
fn bombs_of_clients_and_for_clients() {
    let _turn = turn();
    let good: Vec<_> = requests().iter().map(|r| r.encode(1).concat()).collect();
    feed_each(&in_the_place_of(&good, 9), BYTES_ANYWAY, |bytes| drop(Request::decode(Bytes::copy_from_slice(bytes))));
    let good: Vec<_> = responses().iter().map(|r| r.encode(1).concat()).collect();
    feed_each(&in_the_place_of(&good, 9), BYTES_ANYWAY, |bytes| drop(Response::decode(Bytes::copy_from_slice(bytes))));
}

/// One byte after a whole message, and none of it is believed. (A batch and entries fill their frame by design, and say
/// themselves where they end.)
#[test]
fn nothing_may_follow_a_message() {
    let _turn = turn();
    for message in peer_messages() {
        let mut bytes = encode_peer(&message).concat();
        assert_eq!(decode_peer(bytes.clone().into()).as_ref(), Ok(&message));
        bytes.push(0);
        if !matches!(message, quorate::node::PeerMessage::Forward { .. }) {
            assert!(decode_peer(bytes.into()).is_err(), "{message:?}");
        }
    }
    for request in requests() {
        let mut bytes = request.encode(3).concat();
        bytes.push(0xc0);
        if !matches!(request, Request::Append(_)) {
            assert!(Request::decode(bytes.into()).is_err(), "{request:?}");
        }
    }
    for response in responses() {
        let mut bytes = response.encode(3).concat();
        bytes.push(0xc0);
        if !matches!(response, Response::Entries { .. }) {
            assert!(Response::decode(bytes.into()).is_err(), "{response:?}");
        }
    }
}
