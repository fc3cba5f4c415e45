//! Text of strangers on its way to a terminal or a log: no control character comes through, whoever closes and how.
//! (Row 25.)

use std::net::UdpSocket;
use std::sync::Arc;
use std::time::Duration;

use quorate_certs::{Tls, Verdict};
use quorate_transport::{Code, DialError, Event, Limits, Reason};
use rustls::Side;

use crate::by_hand::{Evil, PEER, by_hand};
use crate::bystanders::Bystanders;
use crate::common::{Agent, World, loopback};
use crate::raw::{Forger, close_frame, initial_with};
use crate::strangers::agent_at;

const PWN: &[u8] = b"\x1b]0;pwn\x07\nFAKE \x9b31m \xe2\x80\xae";

fn clean(text: &str) -> bool {
    text.chars().all(|c| !c.is_control() && c != '\u{202e}')
}

/// A dialler that hears it from whoever answers, as an application's close and in a reset of what it thought a peer.
#[tokio::test]
async fn a_close_with_escapes_is_shown_escaped() {
    let world = World::new();
    let a = Agent::start(&world, "a");
    for number in [Code::Busy.number(), Code::Version.number(), Code::NotAdmitted.number(), 0x99, 0] {
        let crypto = Tls::new(&world.agent("rogue")).unwrap().server(&[PEER], &Verdict::new()).unwrap();
        let crypto = quinn::crypto::rustls::QuicServerConfig::try_from(crypto).unwrap();
        let rogue = quinn::Endpoint::server(quinn::ServerConfig::with_crypto(Arc::new(crypto)), loopback()).unwrap();
        let addr = rogue.local_addr().unwrap();
        let answering = tokio::spawn(async move {
            let conn = rogue.accept().await.unwrap().await.unwrap();
            let _ = conn.accept_bi().await;
            conn.close(quinn::VarInt::from_u32(number), PWN);
            conn.closed().await;
            rogue.wait_idle().await;
        });
        let error = a.endpoint.dial(addr, None).await.unwrap_err();
        println!("{number:#x}: {error}");
        assert!(clean(&error.to_string()), "{:?}", error.to_string());
        answering.await.unwrap();
    }
}

/// A peer says goodbye with it.
#[tokio::test]
async fn a_farewell_with_escapes_is_shown_escaped() {
    let world = World::new();
    let mut a = Agent::start(&world, "a");
    let evil = Evil::new(&world, a.addr).await;
    let _streams = evil.greet().await;
    a.up().await;
    evil.conn.close(quinn::VarInt::from_u32(0x77), PWN);
    let reason = a.down().await;
    let Reason::Remote(why) = &reason else { panic!("{reason}") };
    assert!(why.text.contains("pwn") && clean(&reason.to_string()), "{reason}");
    // And one in the middle of its greeting: that is a line of the log.
    let conn = by_hand(&world, a.addr, PEER).await;
    conn.close(quinn::VarInt::from_u32(0x77), PWN);
    let (why, _) = a.refused().await;
    assert!(clean(&why.to_string()), "{why}");
}

/// The keys of first packets are public, so anybody on the way can close a handshake with any text: seen by a dialler.
#[tokio::test]
async fn a_forged_close_of_a_handshake_is_shown_without_its_text() {
    let world = World::new();
    let a = Agent::start(&world, "a");
    let rogue = UdpSocket::bind(loopback()).unwrap();
    let addr = rogue.local_addr().unwrap();
    let answering = std::thread::spawn(move || {
        rogue.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut packet = [0; 2048];
        let (length, from) = rogue.recv_from(&mut packet).unwrap();
        assert!(length >= 1200);
        let (dst, src) = connection_ids(&packet);
        let answer = initial_with(Side::Server, &dst, &src, &[7; 8], &close_frame(PWN));
        rogue.send_to(&answer, from).unwrap();
    });
    let error = a.endpoint.dial(addr, None).await.unwrap_err();
    println!("{error}");
    answering.join().unwrap();
    assert!(matches!(error, DialError::Failed { .. }), "{error:?}");
    assert!(clean(&error.to_string()) && !error.to_string().contains("FAKE"), "{:?}", error.to_string());
}

/// The same as the first packet that an agent gets from a stranger.
#[tokio::test]
async fn a_forged_close_as_a_first_packet_is_logged_without_its_text() {
    let world = World::new();
    let attacked = agent_at(&world, "attacked", 1, Limits::default());
    let pair = Bystanders::of(attacked, agent_at(&world, "honest", 10, Limits::default())).await;
    let mut forger = Forger::at(2);
    for number in 0..20_u8 {
        let id = [number; 8];
        forger.send(pair.addr, &initial_with(Side::Client, &id, &id, &[9; 8], &close_frame(PWN)));
    }
    pair.until("they were looked at", || pair.endpoint.stats().refused >= 20).await;
    println!("{:?}", pair.lines());
    assert!(pair.lines().iter().all(|line| clean(line) && !line.contains("FAKE")), "{:?}", pair.lines());
    pair.until("nothing is left", || pair.endpoint.stats().handshakes == 0).await;
    pair.end().await;
}

/// The version in a Hello is text of the other side too.
#[tokio::test]
async fn a_version_with_escapes_is_shown_escaped() {
    let world = World::new();
    let mut a = Agent::start(&world, "a");
    let mut evil = Evil::new(&world, a.addr).await;
    evil.hello.version = String::from_utf8_lossy(PWN).into_owned();
    let _streams = evil.say(&evil.frame()).await;
    let heard = a.until(|event| match event {
        Event::PeerUp(info) => Some(info.version),
        Event::Refused { why, .. } => Some(why.to_string()),
        _ => None,
    });
    let heard = heard.await;
    assert!(clean(&heard), "{heard:?}");
}

/// Destination and source of a long header.
fn connection_ids(packet: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let dst = 6..6 + usize::from(packet[5]);
    let src = dst.end + 1..dst.end + 1 + usize::from(packet[dst.end]);
    (packet[dst].to_vec(), packet[src].to_vec())
}
