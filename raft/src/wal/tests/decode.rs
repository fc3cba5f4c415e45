//! Bytes from peers and disks: every decoder answers, none panics, and what it accepts it writes back the same.

use bytes::Bytes;
use std::time::Duration;

use super::*;
use crate::wal::sim::SimDisk;

/// A second each; `QUORATE_FUZZ_SECONDS` makes it longer.
fn time() -> Duration {
    let seconds = std::env::var("QUORATE_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs_f64(seconds.unwrap_or(1.0))
}

/// What a fuzzer chooses: only noise; make the checksum right again; bytes to change; the noise.
type Edits = (bool, bool, Vec<(u16, u8)>, Vec<u8>);

/// Random bytes, or a good encoding with a few bytes changed; half of the time its checksum is made right again, so
/// that the fields behind it are reached.
fn spoil(good: &[u8], crc_at: Option<usize>, (raw, mend, edits, noise): &Edits) -> Vec<u8> {
    if *raw {
        return noise.clone();
    }
    let mut bytes = good.to_vec();
    for (at, value) in edits.iter().take(4) {
        let at = usize::from(*at) % bytes.len();
        bytes[at] = *value;
    }
    if let (true, Some(at)) = (*mend, crc_at) {
        let crc = crc32c::crc32c(&bytes[..at]).to_le_bytes();
        bytes[at..at + 4].copy_from_slice(&crc);
    }
    bytes.truncate(bytes.len() - noise.len() % 3);
    bytes
}

#[test]
fn entries_decode_or_refuse() {
    let good = after(None, 3, b"some payload").bytes().to_vec();
    bolero::check!().with_test_time(time()).with_type::<Edits>().for_each(|edits: &Edits| {
        let bytes = Bytes::from(spoil(&good, Some(92), edits));
        if let Ok(entry) = Entry::decode(bytes.clone()) {
            assert_eq!(entry.bytes(), &bytes);
            assert_eq!(entry.header().encoded_len(), bytes.len());
            assert_eq!(decode_header(&bytes), Ok(*entry.header()));
            assert_eq!(entry.crc(), crc32c::crc32c(&bytes));
            let _ = entry.follows(entry.header());
        }
    });
}

#[test]
fn many_entries_decode_or_refuse() {
    let good: Vec<u8> = chain_of(None, 3, [0, 9, 100]).iter().flat_map(|e| e.bytes().to_vec()).collect();
    bolero::check!().with_test_time(time()).with_type::<Edits>().for_each(|edits: &Edits| {
        let bytes = Bytes::from(spoil(&good, None, edits));
        if let Ok(entries) = Entry::decode_many(bytes.clone(), 3) {
            let again: Vec<u8> = entries.iter().flat_map(|e| e.bytes().to_vec()).collect();
            assert_eq!(again, bytes);
        }
    });
}

#[test]
fn frames_decode_or_refuse() {
    let mut good = Vec::new();
    frame::encode(&mut good, 5, 4096, 4096, &after(None, 3, b"x"));
    bolero::check!().with_test_time(time()).with_type::<Edits>().for_each(|edits: &Edits| {
        let bytes = spoil(&good, Some(52), edits);
        if let Some(header) = frame::decode_header(&bytes, 5, 4096) {
            assert!(header.total_len() <= frame::framed_len(ENTRY_BYTES_MAX));
        }
    });
}

/// The very frame that belongs here, of another segment or from another place, is not accepted.
#[test]
fn a_frame_is_bound_to_its_place() {
    let mut frame = Vec::new();
    frame::encode(&mut frame, 5, 8192, 4096, &after(None, 3, b"x"));
    assert!(frame::decode_header(&frame, 5, 8192).is_some());
    assert!(frame::decode_header(&frame, 6, 8192).is_none());
    assert!(frame::decode_header(&frame, 5, 8200).is_none());
}

#[test]
fn metas_decode_or_refuse() {
    let disk = SimDisk::new(1);
    create(&disk.attach(), Meta { log_id: Some(LOG_ID), ..meta() }).unwrap();
    let good = disk.contents("meta.a").unwrap();
    bolero::check!().with_test_time(time()).with_type::<Edits>().for_each(|edits: &Edits| {
        drop(meta::decode(&spoil(&good, Some(508), edits), "meta.a"));
    });
}

#[test]
fn sidecars_decode_or_count_for_nothing() {
    let mut facts = sidecar::Facts::new(7);
    let mut at = SEGMENT_HEADER_BYTES as u64;
    let mut last = chain_of(None, 2, [5; 6]).last().map(|e| *e.header());
    for term in [2, 2, 3, 5] {
        let entry = after_of(last.as_ref(), term, EntryKind::Configuration, 0, b"who votes");
        let end = at + frame::framed_len(entry.bytes().len());
        facts.push(entry.header(), Some(&entry), at, end, 200);
        (at, last) = (end, Some(*entry.header()));
    }
    let of = sidecar::Of { uid: 1, seq: 3, base: 7, len: at };
    let good = facts.encode(of).unwrap();
    assert_eq!(sidecar::decode(&good.clone().into()), Some((of, facts)));
    let crc_at = good.len() - 4;
    bolero::check!().with_test_time(time()).with_type::<Edits>().for_each(|edits: &Edits| {
        let bytes = Bytes::from(spoil(&good, Some(crc_at), edits));
        if let Some((of, facts)) = sidecar::decode(&bytes) {
            assert_eq!(facts.encode(of).unwrap(), bytes);
        }
    });
}

/// A meta of version 1 still opens: it knows no suspect position, and nothing of the last entry.
#[test]
fn a_meta_of_version_1_is_read() {
    let disk = SimDisk::new(1);
    create(&disk.attach(), Meta { log_id: Some(LOG_ID), ..meta() }).unwrap();
    for name in ["meta.a", "meta.b"] {
        let mut bytes = disk.contents(name).unwrap();
        bytes[8] = 1;
        let crc = crc32c::crc32c(&bytes[..508]).to_le_bytes();
        bytes[508..].copy_from_slice(&crc);
        for (at, byte) in bytes.iter().enumerate() {
            disk.set_byte(name, at as u64, *byte);
        }
    }
    let log = open(disk.attach(), small(1)).unwrap();
    assert_eq!((log.meta.suspect, log.meta.log_id, log.meta.boot_epoch), (None, Some(LOG_ID), 1));
    assert_eq!(disk.contents("meta.a").unwrap()[8], 2);
}

/// A whole sidecar of anything, beside any segment: a start finds the same log.
#[test]
fn no_sidecar_changes_a_log() {
    let disk = SimDisk::new(1);
    create(&disk.attach(), meta()).unwrap();
    let mut log = open(disk.attach(), small(1)).unwrap();
    let entries = chain_of(None, 1, [700; 20]);
    for group in entries.chunks(4) {
        log.writer.write(&append(group.to_vec())).unwrap();
        log.writer.sync().unwrap();
    }
    log.writer.mark_idle();
    drop(log);
    let sidecars: Vec<String> = disk.names().into_iter().filter(|n| n.ends_with(".idx")).collect();
    assert!(sidecars.len() > 1);
    // Bug 48: one that is cut, empty, of another segment, or gone claims nothing.
    for name in &sidecars {
        let len = disk.contents(name).unwrap().len() as u64;
        let other = disk.contents(sidecars.iter().find(|n| *n != name).unwrap()).unwrap();
        for case in 0..5 {
            let image = disk.fork();
            match case {
                0 => assert!(image.vanish(name)),
                1 => assert!(image.cut(name, 0)),
                2 => assert!(image.cut(name, len - 1)),
                3 => assert!(image.flip_bit(name, len / 2, 1)),
                _ => {
                    image.cut(name, other.len() as u64);
                    for (at, byte) in other.iter().enumerate() {
                        image.set_byte(name, at as u64, *byte);
                    }
                }
            }
            let log = open(image.attach(), Options { verify_at_open_bytes: 0, ..small(2) }).unwrap();
            assert_eq!(all(&log.reader), entries, "{case} of {name}");
            assert_eq!(log.recovered.runs.len(), 1);
        }
    }
}

/// A whole segment file of anything: a start opens it or refuses it, and what it opens it opens again.
#[test]
fn segments_open_or_refuse() {
    let disk = SimDisk::new(1);
    create(&disk.attach(), meta()).unwrap();
    let mut log = open(disk.attach(), small(1)).unwrap();
    log.writer.write(&append(chain_of(None, 1, [0, 50, 700]))).unwrap();
    log.writer.sync().unwrap();
    drop(log);
    let name = disk.names().into_iter().find(|n| n.ends_with(".wal")).unwrap();
    bolero::check!().with_test_time(time()).with_type::<(u16, Vec<(u16, u8)>)>().for_each(
        |(cut, edits): &(u16, Vec<(u16, u8)>)| {
            let image = disk.fork();
            for (at, value) in edits {
                image.set_byte(&name, u64::from(*at) % 8192, *value);
            }
            if cut % 4 == 0 {
                image.cut(&name, u64::from(*cut) % 8192);
            }
            match open(image.attach(), small(2)) {
                Ok(log) => {
                    let found = log.recovered.clone();
                    drop(log);
                    let again = open(image.attach(), small(3)).unwrap().recovered;
                    assert_eq!((again.damaged, again.last, again.suspect), (found.damaged, found.last, found.suspect));
                }
                Err(Error::Corrupt { file, .. } | Error::Newer { file, .. }) => {
                    assert!(file.contains(&name[..16]), "{file}");
                }
                Err(other) => panic!("{other}"),
            }
        },
    );
}

/// The bytes of version 1 never change: other nodes and old disks hold them.
#[test]
fn the_bytes_of_version_1() {
    let fields = EntryFields {
        seed: 0x1122_3344_5566_7788,
        index: LogIndex(7),
        term: Term(3),
        kind: EntryKind::Normal,
        base_offset: 41,
        count: 2,
        time: Wall(-5),
        lamport: 97,
        shard: 6,
        session: 0xabcd,
        seq: 12,
    };
    let entry = Entry::seal(fields, 99, b"payload");
    let text = hex(entry.bytes());
    let expected = "51450101070000000200000006000000887766554433221107000000000000000300000000000000290000000000\
                    0000fbffffffffffffff6100000000000000cdab0000000000000c00000000000000";
    assert_eq!(&text[..160], expected);
    assert_eq!(&text[192..], hex(b"payload"));
    let Entry { .. } = Entry::decode(entry.bytes().clone()).unwrap();
    assert_eq!(&text[160..192], GOLDEN_SEALS);
    let mut frame = Vec::new();
    frame::encode(&mut frame, 0x0102_0304_0506_0708, 4096, 4096, &entry);
    assert_eq!(hex(&frame[..56]), GOLDEN_FRAME);
    assert_eq!(&frame[56..159], &entry.bytes()[..]);
    assert_eq!(frame.len(), 160);
}

/// Chain, payload checksum, header checksum.
const GOLDEN_SEALS: &str = "6478ad1c89d06bde7069e3f4dfe596ba";
const GOLDEN_FRAME: &str = "5146524d67000000000000000010000007000000000000002900000000000000fbffffffffffff7f\
                           0000000000000000e5b50ce555e6e4dc";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
