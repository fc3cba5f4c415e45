//! Every bound, met exactly and passed by one.

use bytes::Bytes;

use super::*;
use crate::wal::sim::SimDisk;

fn opened(disk: &SimDisk, options: Options) -> Opened {
    if !exists(&disk.attach()).unwrap() {
        create(&disk.attach(), meta()).unwrap();
    }
    open(disk.attach(), options).unwrap()
}

#[test]
fn the_largest_payload_is_sealed_written_and_read() {
    let payload = vec![9; ENTRY_PAYLOAD_BYTES_MAX];
    let entry = after(None, 1, &payload);
    assert_eq!(entry.bytes().len(), ENTRY_BYTES_MAX);
    assert_eq!(Entry::decode(entry.bytes().clone()).unwrap().payload(), payload);
    let disk = SimDisk::new(1);
    let mut log = opened(&disk, small(1));
    log.writer.write(&append(vec![entry.clone()])).unwrap();
    log.writer.sync().unwrap();
    assert_eq!(log.reader.read(LogIndex(1), LogIndex(1), 0).unwrap(), std::slice::from_ref(&entry));
    drop(log);
    disk.crash_keeping(|_| false);
    assert_eq!(all(&opened(&disk, small(2)).reader), [entry]);
}

#[test]
#[should_panic(expected = "exceeds the format")]
fn a_larger_payload_is_never_sealed() {
    let _ = after(None, 1, &vec![9; ENTRY_PAYLOAD_BYTES_MAX + 1]);
}

/// The length is refused before anything of that length is looked for.
#[test]
fn a_larger_payload_is_never_decoded() {
    let mut bytes = after(None, 1, b"").bytes().to_vec();
    let announce = |bytes: &mut Vec<u8>, len: usize| {
        bytes[4..8].copy_from_slice(&(len as u32).to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..92]).to_le_bytes();
        bytes[92..96].copy_from_slice(&crc);
    };
    announce(&mut bytes, ENTRY_PAYLOAD_BYTES_MAX);
    assert_eq!(Entry::decode(bytes.clone().into()).unwrap_err(), EntryError::Short);
    announce(&mut bytes, ENTRY_PAYLOAD_BYTES_MAX + 1);
    let too_long = EntryError::TooLong(ENTRY_PAYLOAD_BYTES_MAX as u32 + 1);
    assert_eq!(Entry::decode(bytes.clone().into()).unwrap_err(), too_long);
    assert_eq!(Entry::decode_many(bytes.into(), 1).unwrap_err(), too_long);
}

#[test]
fn an_entry_is_neither_shorter_nor_longer_than_it_says() {
    let bytes = after(None, 1, b"abc").bytes().to_vec();
    for len in 0..bytes.len() {
        assert_eq!(Entry::decode(Bytes::copy_from_slice(&bytes[..len])).unwrap_err(), EntryError::Short);
    }
    let more = [&bytes[..], b"x"].concat();
    assert_eq!(Entry::decode(more.clone().into()).unwrap_err(), EntryError::Trailing);
    assert_eq!(Entry::decode_many(more.into(), 2).unwrap_err(), EntryError::Short);
    let two: Bytes = [&bytes[..], &bytes[..]].concat().into();
    assert_eq!(Entry::decode_many(two.clone(), 2).unwrap().len(), 2);
    assert_eq!(Entry::decode_many(two, 1).unwrap_err(), EntryError::TooMany);
    assert_eq!(Entry::decode_many(Bytes::new(), 0).unwrap().len(), 0);
}

/// Slices share the bytes they came in.
#[test]
fn decoding_many_copies_nothing() {
    let bytes: Bytes = chain_of(None, 1, [10, 20]).iter().flat_map(|e| e.bytes().to_vec()).collect();
    let entries = Entry::decode_many(bytes.clone(), 9).unwrap();
    assert_eq!(entries[1].payload().as_ptr(), bytes[2 * ENTRY_HEADER_BYTES + 10..].as_ptr());
}

#[test]
fn only_the_successor_follows() {
    let first = after(None, 2, b"a");
    let next = after(Some(first.header()), 2, b"b");
    let head = *first.header();
    assert_eq!(next.follows(&head), Ok(()));
    let wrong = [
        EntryHeader { seed: 1, ..head },
        EntryHeader { index: LogIndex(2), ..head },
        EntryHeader { index: LogIndex(u64::MAX), ..head },
        EntryHeader { term: Term(3), ..head },
        EntryHeader { count: 1, ..head },
        EntryHeader { base_offset: u64::MAX, ..head },
        EntryHeader { time: Wall(i64::MAX), ..head },
        EntryHeader { chain: 0, ..head },
    ];
    for previous in wrong {
        assert!(matches!(next.follows(&previous), Err(EntryError::NotNext(_))), "{previous:?}");
    }
    assert_eq!(first.chains_to(CHAIN_GENESIS), Ok(()));
    assert!(first.chains_to(1).is_err());
}

/// A segment takes exactly what it has room for; one byte more begins the next.
#[test]
fn a_segment_is_filled_to_the_last_byte() {
    let first = 100;
    let left = 8192 - SEGMENT_HEADER_BYTES - frame::framed_len(ENTRY_HEADER_BYTES + first) as usize;
    let fits = left - frame::FRAME_HEADER_BYTES - ENTRY_HEADER_BYTES;
    for (second, files) in [(fits - 1, 1), (fits, 1), (fits + 1, 2)] {
        let disk = SimDisk::new(1);
        let mut log = opened(&disk, small(1));
        for size in [first, second] {
            let last = log.writer.last().copied();
            log.writer.write(&append(chain_of(last, 1, [size]))).unwrap();
        }
        assert_eq!(disk.names().iter().filter(|n| n.ends_with(".wal")).count(), files, "{second}");
        let segments = disk.names().into_iter().filter(|n| n.ends_with(".wal"));
        let bytes: usize = segments.filter_map(|n| disk.contents(&n)).map(|c| c.len()).sum();
        assert_eq!(log.reader.bytes_on_disk() as usize, bytes);
    }
}

#[test]
fn a_read_keeps_to_its_bytes_but_for_one_entry() {
    let disk = SimDisk::new(1);
    let mut log = opened(&disk, small(1));
    let entries = chain_of(None, 1, [100; 10]);
    log.writer.write(&append(entries.clone())).unwrap();
    let one = entries[0].bytes().len();
    let count = |from, to, bytes| log.reader.read(LogIndex(from), LogIndex(to), bytes).unwrap().len();
    assert_eq!(count(1, 10, 0), 1);
    assert_eq!(count(1, 10, 3 * one - 1), 2);
    assert_eq!(count(1, 10, 3 * one), 3);
    assert_eq!(count(10, u64::MAX, usize::MAX), 1);
    assert_eq!(count(11, u64::MAX, usize::MAX), 0);
    assert_eq!(count(5, 4, usize::MAX), 0);
    let error = log.reader.read(LogIndex(0), LogIndex(4), 0).unwrap_err();
    assert!(matches!(error, Error::Trimmed { asked: LogIndex(0), first: LogIndex(1) }));
    assert_eq!(log.reader.header(LogIndex(0)).unwrap(), None);
    assert_eq!(log.reader.header(LogIndex(11)).unwrap(), None);
}

/// The index in memory has one point per step, not one per entry.
#[test]
fn the_index_is_sparse() {
    let disk = SimDisk::new(1);
    let options = Options { index_every_bytes: 64 << 10, prepare_bytes: 1 << 20, seed: 1, ..Options::default() };
    let mut log = opened(&disk, options);
    log.writer.write(&append(chain_of(None, 1, [1000; 2000]))).unwrap();
    let points = log.reader.points();
    assert!((20..40).contains(&points), "{points} points for 2 MiB");
    assert_eq!(log.reader.seek_offset(3001).unwrap(), Some(LogIndex(1501)));
}

/// A log that begins after a checkpoint takes exactly the entry after it (S6).
#[test]
fn a_log_may_begin_later() {
    let before = chain_of(None, 4, [10; 20]);
    let head = before[19].header();
    let start = Start { position: head.position(), chain: head.chain, next_offset: head.next_offset() };
    let disk = SimDisk::new(1);
    create(&disk.attach(), Meta { log_id: Some(LOG_ID), start, ..meta() }).unwrap();
    let mut log = opened(&disk, small(1));
    assert_eq!((log.reader.first_index(), log.reader.last_index()), (LogIndex(21), LogIndex(20)));
    let next = after(Some(head), 4, b"next");
    let strange = after(Some(before[18].header()), 4, b"other");
    assert!(matches!(log.writer.write(&append(vec![strange])), Err(Error::RefusedEntry { .. })));
    log.writer.write(&append(vec![next.clone()])).unwrap();
    log.writer.sync().unwrap();
    drop(log);
    let log = opened(&disk, small(2));
    assert_eq!(all(&log.reader), [next]);
    assert_eq!(log.recovered.start, head.position());
    assert!(matches!(log.reader.read(LogIndex(20), LogIndex(21), 0), Err(Error::Trimmed { .. })));
    assert_eq!(log.reader.seek_time(Wall(0)).unwrap(), Some(LogIndex(21)));
}

/// A window says which bytes it has, to the byte at both ends: a scrub stops there, and reads none twice.
#[test]
fn a_window_knows_what_it_holds() {
    let disk = SimDisk::new(1).attach();
    let file = disk.create("bytes").unwrap();
    file.write_at(&[7; 100], 0).unwrap();
    let mut window = frame::Window::new(file, 100, 40);
    assert!(!window.holds(0, 1) && !window.holds(10, 40));
    assert_eq!(window.get(10, 20).unwrap().len(), 20);
    assert!(window.holds(10, 40) && window.holds(30, 20) && window.holds(12, 1) && window.holds(49, 1));
    assert!(!window.holds(9, 2) && !window.holds(10, 41) && !window.holds(50, 1) && !window.holds(49, 2));
    assert_eq!(window.get(90, 20).unwrap().len(), 10);
    assert!(window.holds(90, 10) && !window.holds(90, 11) && !window.holds(10, 1));
}
