//! Datagrams that are no part of any conversation: noise, bait for version negotiation, drafts, packets of forgotten
//! connections. (Rows 17 and 22.)

use std::time::Duration;

use quorate_transport::Limits;

use crate::bystanders::Bystanders;
use crate::common::World;
use crate::raw::{Forger, INITIAL_BYTES, noise_initial};
use crate::strangers::agent_at;

/// Numbers that are the same in every run.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next() as u8).collect()
    }
}

/// A long header of this version.
fn long_header(version: u32, length: usize, noise: &mut Noise) -> Vec<u8> {
    let mut packet = vec![0xc0];
    packet.extend_from_slice(&version.to_be_bytes());
    packet.push(8);
    packet.extend(noise.bytes(8));
    packet.push(8);
    packet.extend(noise.bytes(8));
    packet.extend(noise.bytes(length.saturating_sub(packet.len())));
    packet
}

async fn answers(forger: &mut Forger, pair: &Bystanders, packets: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut heard = Vec::new();
    for some in packets.chunks(64) {
        some.iter().for_each(|packet| forger.send(pair.addr, packet));
        // The honest pair shares the socket: when it was served, so were these.
        pair.beats(1).await;
        heard.extend(forger.drain());
    }
    pair.beats(3).await;
    heard.extend(forger.drain());
    heard
}

/// Noise of every length and kind: nothing comes back that is larger than what was sent, no connection and no memory is
/// held for it, no line is logged, and the honest pair goes on.
#[tokio::test]
async fn noise_is_dropped() {
    let world = World::new();
    let pair = Bystanders::of(
        agent_at(&world, "attacked", 1, Limits::default()),
        agent_at(&world, "honest", 10, Limits::default()),
    )
    .await;
    let (mut forger, mut noise) = (Forger::at(2), Noise(7));
    let connections = pair.endpoint.stats().connections;

    let mut random: Vec<Vec<u8>> = (0..2_000).map(|length| noise.bytes(length % 1_500)).collect();
    // Short headers of connections that nobody knows, of all lengths.
    random.extend((0..1_000).map(|length| {
        let mut packet = noise.bytes(length % 1_400 + 1);
        packet[0] = 0x40 | (packet[0] & 0x3f);
        packet
    }));
    let heard = answers(&mut forger, &pair, &random).await;
    println!("noise: {} bytes sent, {} heard in {} packets", forger.sent, forger.received, heard.len());
    assert!(forger.received * 10 <= forger.sent, "{} for {}", forger.received, forger.sent);

    // Versions that are none of ours in packets too short to be honest.
    let mut forger = Forger::at(3);
    let bait: Vec<_> = (0..500).map(|length| long_header(0x0a0a_0a0a, 20 + length * 2, &mut noise)).collect();
    assert!(answers(&mut forger, &pair, &bait).await.is_empty(), "an answer to a short packet of an unknown version");

    // Long headers of our version that begin nothing.
    let mut forger = Forger::at(4);
    let orphans: Vec<_> = (0..300)
        .map(|number| {
            let mut packet = long_header(1, 300 + number, &mut noise);
            packet[0] = [0xd0, 0xe0, 0xf0][number % 3] | 0x03;
            packet
        })
        .collect();
    assert!(answers(&mut forger, &pair, &orphans).await.is_empty(), "an answer to an orphan");

    assert!(pair.lines().is_empty(), "{:?}", pair.lines());
    assert_eq!(pair.endpoint.stats().connections, connections);
    pair.end().await;
}

/// Drafts and future versions are told the one version there is, in fewer bytes than they sent.
#[tokio::test]
async fn only_version_1_is_spoken() {
    let world = World::new();
    let pair = Bystanders::of(
        agent_at(&world, "attacked", 1, Limits::default()),
        agent_at(&world, "honest", 10, Limits::default()),
    )
    .await;
    let mut noise = Noise(9);
    for version in (0xff00_001d..=0xff00_0022).chain([0x6b33_43cf, 0x0a1a_2a3a, 0xffff_ffff]) {
        let mut forger = Forger::at(2);
        let heard = answers(&mut forger, &pair, &[long_header(version, INITIAL_BYTES, &mut noise)]).await;
        assert_eq!(heard.len(), 1, "version {version:x}");
        let answer = &heard[0];
        assert!(answer.len() < INITIAL_BYTES);
        assert_eq!(answer[1..5], [0; 4], "it is a version negotiation");
        let offered: Vec<u32> = answer[23..].chunks(4).map(|v| u32::from_be_bytes(v.try_into().unwrap())).collect();
        let real: Vec<u32> = offered.into_iter().filter(|v| v & 0x0f0f_0f0f != 0x0a0a_0a0a).collect();
        assert_eq!(real, [1], "version {version:x}");
    }
    assert!(pair.lines().is_empty(), "{:?}", pair.lines());
    pair.end().await;
}

/// First packets whose content is noise: they cost keys and a decryption each, and get neither an answer larger than
/// themselves nor a slot that lasts, nor a line each.
#[tokio::test]
async fn first_packets_of_noise_hold_nothing() {
    let world = World::new();
    let limits = Limits { handshakes_max: 16, ..Limits::default() };
    let attacked = agent_at(&world, "attacked", 1, limits);
    let pair = Bystanders::of(attacked, agent_at(&world, "honest", 10, Limits::default())).await;
    let mut forger = Forger::at(2);
    let packets: Vec<_> = (0..3_000).map(noise_initial).collect();
    let heard = answers(&mut forger, &pair, &packets).await;
    println!("{} bytes sent, {} heard in {} packets", forger.sent, forger.received, heard.len());
    assert!(forger.received <= forger.sent);
    assert!(heard.iter().all(|answer| answer.len() <= INITIAL_BYTES));
    pair.until("no slot is held", || pair.endpoint.stats().handshakes == 0).await;
    pair.until("no connection is left", || pair.endpoint.stats().connections <= 2).await;
    let late = agent_at(&world, "late", 3, Limits::default());
    tokio::time::timeout(Duration::from_secs(10), late.endpoint.dial(pair.addr, None)).await.unwrap().unwrap();
    pair.end().await;
}
