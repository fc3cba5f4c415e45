//! Header blocks, names and metas: what is good comes back whole, and each wrong field is met by its own answer.

use super::*;
use crate::wal::segment::{self, Name, Previous, SegmentHeader};
use crate::wal::sim::SimDisk;
use crate::{HardState, Position};

/// Makes the checksum right that stands at `at`, of everything before it.
pub(super) fn crc_at(bytes: &mut [u8], at: usize) {
    let crc = crc32c::crc32c(&bytes[..at]).to_le_bytes();
    bytes[at..at + 4].copy_from_slice(&crc);
}

fn header() -> SegmentHeader {
    let previous = Previous { uid: 5, len: 6_000, base: 3 };
    let node = NodeId::new(42).unwrap();
    SegmentHeader { cluster: [7; 16], node, log_id: LOG_ID, uid: 0xabc, seq: 0x1f, base_index: 42, previous }
}

#[test]
fn each_field_of_a_header_block_is_checked() {
    let good = header();
    let (block, name) = (good.encode(), good.name());
    assert_eq!(name, "000000000000001f-00000000000000000042-0000000000000abc.wal");
    assert_eq!(block.len(), SEGMENT_HEADER_BYTES);
    assert_eq!(SegmentHeader::decode(&block, &name).unwrap(), good);
    assert_eq!(SegmentHeader::decode(&[&block[..], &[1; 9]].concat(), &name).unwrap(), good);
    let edited = |edits: &[(usize, u8)]| {
        let mut block = block.clone();
        edits.iter().for_each(|(at, value)| block[*at] = *value);
        crc_at(&mut block, SEGMENT_HEADER_BYTES - 4);
        SegmentHeader::decode(&block, &name)
    };
    let is_corrupt = |found: Result<SegmentHeader, Error>| matches!(found, Err(Error::Corrupt { .. }));
    assert!(is_corrupt(SegmentHeader::decode(&block[..SEGMENT_HEADER_BYTES - 1], &name)));
    let mut flipped = block.clone();
    flipped[30] ^= 1;
    assert!(is_corrupt(SegmentHeader::decode(&flipped, &name)), "the checksum");
    assert!(is_corrupt(edited(&[(0, b'X')])), "the magic");
    assert!(is_corrupt(edited(&[(40, 0)])), "a node of zero");
    assert!(is_corrupt(edited(&[(20, 1)])), "the length of the block");
    for at in [112, 500, SEGMENT_HEADER_BYTES - 5] {
        assert!(is_corrupt(edited(&[(at, 1)])), "something at {at}");
    }
    assert!(is_corrupt(SegmentHeader::decode(&block, "000000000000001f-00000000000000000042-0000000000000abd.wal")));
    for zero in [SegmentHeader { seq: 0, ..good }, SegmentHeader { base_index: 0, ..good }] {
        assert!(is_corrupt(SegmentHeader::decode(&zero.encode(), &zero.name())), "{zero:?}");
    }
    for (at, value) in [(8, 0), (8, 3), (16, 1), (19, 128)] {
        assert!(matches!(edited(&[(at, value)]), Err(Error::Newer { .. })), "{value} at {at}");
    }
    assert_eq!(edited(&[(12, 1)]).unwrap(), good, "an unknown compatible feature");
    // Version 1 knows no base of the segment before.
    assert!(is_corrupt(edited(&[(8, 1)])));
    let previous = Previous { base: 0, ..good.previous };
    assert_eq!(edited(&[(8, 1), (104, 0)]).unwrap(), SegmentHeader { previous, ..good });
}

#[test]
fn each_name_is_what_it_is() {
    let name = header().name();
    let stem = name.strip_suffix(".wal").unwrap();
    assert_eq!(segment::parse(&name), Some((0x1f, 42, 0xabc)));
    for strange in ["x.wal", &format!("{stem}-1.wal"), &format!("{stem}.idx"), "1-x-1.wal", "x-1-1.wal", "1-1-x.wal"] {
        assert_eq!(segment::parse(strange), None, "{strange}");
    }
    let classes = [
        (name.clone(), Name::Segment(0x1f)),
        (format!("{name}.tmp"), Name::Leftover),
        (format!("{stem}.idx"), Name::Sidecar),
        (format!("{stem}.idx.tmp"), Name::Leftover),
        ("meta.a.tmp".to_owned(), Name::Leftover),
        ("meta.b.tmp".to_owned(), Name::Leftover),
        ("notes.tmp".to_owned(), Name::Foreign),
        ("meta.a".to_owned(), Name::Foreign),
        ("lock".to_owned(), Name::Foreign),
        ("notes.idx".to_owned(), Name::Foreign),
        ("notes.wal".to_owned(), Name::Strange),
        (format!("{stem}-1.wal"), Name::Strange),
        (name.replacen("0000", "000", 1), Name::Strange),
        (name.replace("-0000", "-000"), Name::Strange),
        (name.replace("42", "042"), Name::Strange),
        (name.replace("0abc", "00abc"), Name::Strange),
        (name.replace("1f-", "1x-"), Name::Strange),
    ];
    for (name, class) in classes {
        assert_eq!(segment::classify(&name), class, "{name}");
    }
    assert_eq!(segment::SEGMENT_BYTES_MAX, 1_073_741_824);
}

fn full_meta() -> Meta {
    let last = *after(None, 6, b"last").header();
    let start = Start { position: Position { index: LogIndex(3), term: Term(2) }, chain: 77, next_offset: 9 };
    let tail = Tail { seq: 4, uid: 8, base: 2, durable: 5_000, last: Some(last), ends: true };
    Meta {
        log_id: Some(LOG_ID),
        boot_epoch: 11,
        hard_state: HardState { term: Term(12), vote: NodeId::new(13) },
        start,
        tail: Some(tail),
        suspect: Some(Position { index: LogIndex(14), term: Term(15) }),
        ..meta()
    }
}

fn copy_of(meta: &Meta) -> Vec<u8> {
    let disk = SimDisk::new(1);
    MetaFiles::create(disk.attach().as_ref(), meta).unwrap();
    assert_eq!(disk.contents("meta.a"), disk.contents("meta.b"));
    disk.contents("meta.a").unwrap()
}

/// Whatever is there and not there: it comes back so.
#[test]
fn a_meta_comes_back_whole() {
    let full = full_meta();
    let tail = full.tail.unwrap();
    for bits in 0..32_u32 {
        let is = |bit: u32| bits & (1 << bit) != 0;
        let tail = Tail { last: tail.last.filter(|_| is(2)), ends: is(3), ..tail };
        let meta = Meta {
            log_id: full.log_id.filter(|_| is(0)),
            suspect: full.suspect.filter(|_| is(1)),
            tail: is(4).then_some(tail),
            ..full
        };
        let bytes = copy_of(&meta);
        assert_eq!(bytes.len(), META_BYTES);
        assert_eq!(meta::decode(&bytes, "meta.a").unwrap(), (1, meta));
        assert_eq!(meta.seed(), is(0).then(seed));
    }
}

#[test]
fn each_field_of_a_meta_is_checked() {
    let full = full_meta();
    let bytes = copy_of(&full);
    let edited = |edits: &[(usize, u8)]| {
        let mut bytes = bytes.clone();
        edits.iter().for_each(|(at, value)| bytes[*at] = *value);
        crc_at(&mut bytes, 508);
        meta::decode(&bytes, "meta.a").map(|(_, meta)| meta)
    };
    assert_eq!(edited(&[]).unwrap(), full);
    let is_corrupt = |found: Result<Meta, Error>| matches!(found, Err(Error::Corrupt { .. }));
    for len in [0, 511, 513] {
        let mut other = bytes.clone();
        other.resize(len, 0);
        assert!(is_corrupt(meta::decode(&other, "meta.a").map(|(_, meta)| meta)), "{len} bytes");
    }
    assert!(is_corrupt(edited(&[(0, b'X')])), "the magic");
    assert!(is_corrupt(edited(&[(48, 0)])), "a node of zero");
    assert!(is_corrupt(edited(&[(20, 31)])), "a flag that nobody knows");
    for at in [176, 280, 507] {
        assert!(is_corrupt(edited(&[(at, 1)])), "something at {at}");
    }
    assert!(is_corrupt(edited(&[(190, 99)])), "the header of the last entry");
    for (at, value) in [(8, 0), (8, 3), (16, 1), (19, 128)] {
        assert!(matches!(edited(&[(at, value)]), Err(Error::Newer { .. })), "{value} at {at}");
    }
    assert_eq!(edited(&[(12, 1)]).unwrap(), full, "an unknown compatible feature");
    // Version 1 knows the log id alone, and ends before the base.
    let first: Vec<(usize, u8)> = (152..280).map(|at| (at, 0)).chain([(8, 1), (20, 1)]).collect();
    let tail = Tail { base: 0, last: None, ends: false, ..full.tail.unwrap() };
    assert_eq!(edited(&first).unwrap(), Meta { suspect: None, tail: Some(tail), ..full });
    for (at, value) in [(20, 3), (20, 5), (20, 9), (152, 1), (279, 1)] {
        assert!(is_corrupt(edited(&[&first[..], &[(at, value)]].concat())), "{value} at {at}");
    }
}

/// The first entry of a log that begins after a checkpoint: each of its keys must be the next one.
#[test]
fn only_the_first_entry_is_the_first() {
    let start = Start { position: Position { index: LogIndex(6), term: Term(3) }, chain: 99, next_offset: 20 };
    let meta = Meta { log_id: Some(LOG_ID), start, ..meta() };
    let fields = |index, term, base_offset| EntryFields {
        seed: seed(),
        index: LogIndex(index),
        term: Term(term),
        kind: EntryKind::Normal,
        base_offset,
        count: 1,
        time: Wall(5),
        lamport: 1,
        shard: 0,
        session: 0,
        seq: 0,
    };
    for (index, term, offset, chain, is_next) in [
        (7, 3, 20, 99, true),
        (7, 4, 20, 99, true),
        (7, 2, 20, 99, false),
        (6, 3, 20, 99, false),
        (8, 3, 20, 99, false),
        (7, 3, 19, 99, false),
        (7, 3, 21, 99, false),
        (7, 3, 20, 98, false),
    ] {
        let entry = Entry::seal(fields(index, term, offset), chain, b"x");
        assert_eq!(meta.check_next(&entry, None).is_ok(), is_next, "{index} {term} {offset} {chain}");
    }
    let entry = Entry::seal(EntryFields { seed: 1, ..fields(7, 3, 20) }, 99, b"x");
    assert!(meta.check_next(&entry, None).is_err());
    assert!(Meta { log_id: None, ..meta }.check_next(&entry, None).is_err());
}

/// Each change is a new generation in both copies; a copy that grew is cut, and what was wrong is told once.
#[test]
fn each_change_of_a_meta_is_a_generation() {
    let disk = SimDisk::new(1);
    create(&disk.attach(), meta()).unwrap();
    let generation = || meta::decode(&disk.contents("meta.a").unwrap(), "meta.a").unwrap().0;
    assert_eq!(generation(), 1);
    let mut log = open(disk.attach(), small(1)).unwrap();
    assert_eq!((generation(), log.recovered.mended.len()), (2, 0));
    for term in 1..4 {
        let hard_state = Some(HardState { term: Term(term), vote: None });
        log.writer.write(&Batch { hard_state, ..Batch::default() }).unwrap();
        assert_eq!(generation(), 2 + term);
        assert_eq!(disk.contents("meta.a"), disk.contents("meta.b"));
    }
    drop(log);
    disk.attach().open("meta.b").unwrap().write_at(&[7; 600], 0).unwrap();
    let log = open(disk.attach(), small(2)).unwrap();
    let mended = &log.recovered.mended;
    assert_eq!((mended.len(), mended[0].0.as_str()), (1, "meta.b"));
    assert!(mended[0].1.contains("length"), "{mended:?}");
    assert_eq!(disk.contents("meta.a"), disk.contents("meta.b"));
    drop(log);
    assert_eq!(open(disk.attach(), small(3)).unwrap().recovered.mended, []);
}
