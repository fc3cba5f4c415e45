//! What is stored and sent about founding a log together: reading it is bounded, and ends with what was meant or a refusal.

use crate::fed::{BYTES_LAID_BY_HAND, feed, turn};
use bytes::Bytes;
use quorate::pledge::{Founder, Keys, Member, PublicKey, Record, Report, Signature};
use quorate::wire::peer::decode_peer;
use std::sync::Arc;

/// A key that is only a name.
#[derive(Debug)]
struct Named(u64);

impl Keys for Named {
    fn public(&self) -> PublicKey {
        key(self.0)
    }
    fn node_of(&self, key: &PublicKey) -> Option<u64> {
        key.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
    }
    fn sign(&self, _statement: &[u8]) -> Signature {
        [7; 64]
    }
    fn holds(&self, _key: &PublicKey, _statement: &[u8], signature: &Signature) -> bool {
        *signature == [7; 64]
    }
}

fn key(node: u64) -> PublicKey {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&node.to_le_bytes());
    key
}

fn member(node: u64) -> Member {
    let me = Founder { node, key: key(node), name: format!("a{node}") };
    Member::restore(Arc::new(Named(node)), me, [3; 16], (3, 1 << 20), Record::default(), None)
}

fn report(member: &mut Member) -> Report {
    if let Some((change, _)) = member.poll_save() {
        member.saved(change);
    }
    member.report().unwrap()
}

/// Records and reports of three founders on their way: pledged, called off, decided.
fn examples() -> (Vec<Record>, Vec<Report>) {
    let mut three: Vec<Member> = (1..=3).map(member).collect();
    let founders = three.iter().map(|m| m.me().clone()).collect();
    let (mut records, mut reports) = (vec![Record::default()], vec![report(&mut three[0])]);
    three[0].propose(founders, 4);
    for round in 0..6 {
        for at in 0..3 {
            let told = report(&mut three[at]);
            for other in (0..3).filter(|other| *other != at) {
                three[other].hear(at as u64 + 1, &told, true);
            }
            if round == 1 {
                three[at].call_off();
            }
            records.push(three[at].record().clone());
            reports.push(told);
        }
    }
    let mut never = reports[1].clone();
    never.never = Some(([5; 16], [7; 64]));
    never.log = Some([9; 16]);
    reports.push(never);
    (records, reports)
}

/// Length and checksum set right again, so that what stands behind them is reached.
fn mended(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    if bytes.len() >= 20 {
        let len = (bytes.len() - 20) as u32;
        bytes[12..16].copy_from_slice(&len.to_le_bytes());
        let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes[..16]), &bytes[20..]);
        bytes[16..20].copy_from_slice(&crc.to_le_bytes());
    }
    bytes
}

#[test]
fn a_formation_file_is_read_or_refused() {
    let _turn = turn();
    let (records, _) = examples();
    assert!(records.iter().any(|r| r.pledge.as_ref().is_some_and(|p| p.lives)), "some are decided");
    let files: Vec<Vec<u8>> = records.iter().map(|record| record.encode(7)).collect();
    for (file, record) in files.iter().zip(&records) {
        assert_eq!(Record::decode(file), Ok((7, record.clone())));
        for bit in (0..file.len() * 8).step_by(7) {
            let mut bad = file.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Record::decode(&bad).is_err(), "bit {bit}");
        }
    }
    feed(files, BYTES_LAID_BY_HAND, |bytes| {
        if let Ok((node, read)) = Record::decode(&mended(bytes)) {
            assert_eq!(Record::decode(&read.encode(node)), Ok((node, read)));
        }
    });
}

#[test]
fn a_report_about_founding_is_read_or_refused() {
    let _turn = turn();
    let (_, reports) = examples();
    let frames: Vec<Vec<u8>> = reports.iter().map(Report::encode).collect();
    for (frame, report) in frames.iter().zip(&reports) {
        assert_eq!(Report::decode(frame).as_ref(), Ok(report));
    }
    feed(frames, BYTES_LAID_BY_HAND, |bytes| {
        let _ = decode_peer(Bytes::from([&[32], bytes].concat()));
        if let Ok(read) = Report::decode(bytes) {
            assert_eq!(Report::decode(&read.encode()).as_ref(), Ok(&read));
            // And it does no harm to who believes it.
            let mut member = member(2);
            member.hear(1, &read, true);
        }
    });
}
