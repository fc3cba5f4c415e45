//! Rot, lost files and foreign files: named with file and offset, never cut away, never read.

use super::*;
use crate::HardState;
use crate::wal::sim::{Injection, Op, SimDisk};

/// A life and its log after a power loss.
fn written() -> (SimDisk, Vec<Entry>) {
    let (disk, entries) = super::heal::first_life();
    disk.crash_keeping(|_| false);
    (disk, entries)
}

fn segments(disk: &SimDisk) -> Vec<String> {
    disk.names().into_iter().filter(|n| n.ends_with(".wal")).collect()
}

fn corrupt(disk: &SimDisk) -> (String, u64) {
    match open(disk.attach(), small(9)) {
        Err(Error::Corrupt { file, offset, .. }) => (file, offset),
        Err(other) => panic!("{other}"),
        Ok(log) => panic!("opened with {} entries", log.reader.last_index()),
    }
}

/// What a start names first, and it opens.
fn named(disk: &SimDisk) -> (String, u64) {
    let found = open(disk.attach(), small(9)).unwrap().recovered;
    let damaged = found.damaged.first().map(|range| (range.file.clone(), range.at));
    let suspect = found.suspect_tail.as_ref().map(|tail| (tail.file.clone(), tail.at));
    damaged.or(suspect).or(found.mended.first().map(|(file, _)| (file.clone(), 0))).expect("something is named")
}

/// No flipped bit in a frame or a header block gets past a start, also not in the last acked batch (D2).
#[test]
fn every_flipped_bit_is_named() {
    let (disk, entries) = written();
    let names = segments(&disk);
    assert!(names.len() >= 3);
    let (mut images, mut sweep) = (0, Sweep::new());
    for name in &names {
        let len = disk.contents(name).unwrap().iter().rposition(|b| *b != 0).unwrap() as u64;
        for at in (0..=len).filter(|at| *at < 112 || *at > 4090).step_by(5) {
            if !sweep.takes() {
                continue;
            }
            let image = disk.fork();
            assert!(image.flip_bit(name, at, at as u32 % 8));
            let offline = verify(image.attach().as_ref(), &mut |_| None).unwrap();
            if offline.damaged.is_empty() {
                assert_eq!(offline.harmless, 1, "flipped {at} of {name}");
                assert_eq!(all(&open(image.attach(), small(9)).unwrap().reader), entries);
                continue;
            }
            let (file, offset) = named(&image);
            assert_eq!((&file, offset <= at), (name, true), "flipped {at} of {name}");
            images += 1;
        }
    }
    println!("{images} flipped bits, all named");
    assert!(images > 2_000 / sweep.every);
    assert_eq!(all(&open(disk.attach(), small(9)).unwrap().reader), entries);
}

/// One damaged meta is made good by the other; two are the end of this identity.
#[test]
fn one_damaged_meta_is_mended() {
    let (disk, entries) = written();
    for at in 0..META_BYTES as u64 {
        let image = disk.fork();
        let name = ["meta.a", "meta.b"][at as usize % 2];
        assert!(image.flip_bit(name, at, at as u32 % 8));
        let log = open(image.attach(), small(9)).unwrap();
        assert_eq!((all(&log.reader).len(), log.meta.boot_epoch), (entries.len(), 2));
        drop(log);
        assert_eq!(image.contents("meta.a"), image.contents("meta.b"));
    }
    for (a, b) in [(0, 0), (30, 500)] {
        let image = disk.fork();
        image.flip_bit("meta.a", a, 1);
        image.flip_bit("meta.b", b, 1);
        assert!(corrupt(&image).0.starts_with("meta."));
    }
    let image = disk.fork();
    assert!(image.vanish("meta.b"));
    let log = open(image.attach(), small(9)).unwrap();
    assert_eq!(all(&log.reader).len(), entries.len());
    assert_eq!(image.contents("meta.a"), image.contents("meta.b"));
}

/// The good copy is not touched before the other one is good: a write that tears may follow.
#[test]
fn the_damaged_meta_is_mended_first() {
    for (bad, good) in [("meta.a", "meta.b"), ("meta.b", "meta.a")] {
        let (disk, _) = written();
        disk.flip_bit(bad, 100, 1);
        let untouched = disk.contents(good);
        disk.inject(Injection::error(Op::Write, good, std::io::ErrorKind::Other));
        assert!(matches!(open(disk.attach(), small(9)), Err(Error::Io { .. })));
        assert_eq!(disk.contents(good), untouched);
        disk.crash_keeping(|_| false);
        disk.flip_bit(good, 100, 1);
        assert_eq!(open(disk.attach(), small(9)).unwrap().meta.boot_epoch, 3);
    }
}

/// The newer of two good copies counts: a vote is never given back because the disk rotted.
#[test]
fn a_vote_outlives_either_copy() {
    let (disk, _) = written();
    let mut log = open(disk.attach(), small(9)).unwrap();
    let vote = HardState { term: Term(9), vote: NodeId::new(5) };
    log.writer.write(&Batch { hard_state: Some(vote), ..Batch::default() }).unwrap();
    for name in ["meta.a", "meta.b"] {
        let image = disk.fork();
        image.crash_keeping(|_| false);
        image.set_byte(name, 100, 0xff);
        assert_eq!(open(image.attach(), small(10)).unwrap().meta.hard_state, vote);
    }
}

/// Good bytes at a wrong place are damage: a frame, a block, a whole file.
#[test]
fn misdirected_bytes_are_damage() {
    let (disk, _) = written();
    let names = segments(&disk);
    let copy = |image: &SimDisk, from: (&str, u64), to: (&str, u64), len: u64| {
        let bytes = image.contents(from.0).unwrap();
        for i in 0..len {
            assert!(image.set_byte(to.0, to.1 + i, bytes[(from.1 + i) as usize]));
        }
    };
    let (first, second) = (names[0].as_str(), names[1].as_str());
    let frame = frame::framed_len(ENTRY_HEADER_BYTES + 200);
    // The same place of another segment, another place of the same one, and a header block.
    for (from, to, len) in [
        ((second, 4096), (first, 4096), frame),
        ((first, 4096), (first, 4096 + frame), frame),
        ((second, 0), (first, 0), 4096),
    ] {
        let image = disk.fork();
        copy(&image, from, to, len);
        assert_eq!(named(&image), (first.to_owned(), to.1));
    }
    // The file of another node under its own name.
    let stranger = SimDisk::new(5);
    create(&stranger.attach(), Meta::new([7; 16], NodeId::new(43).unwrap())).unwrap();
    let mut log = open(stranger.attach(), small(1)).unwrap();
    log.writer.write(&append(chain_of(None, 1, [200; 3]))).unwrap();
    log.writer.sync().unwrap();
    drop(log);
    let image = stranger.fork();
    for name in ["meta.a", "meta.b"] {
        let ours = disk.contents(name).unwrap();
        for (at, byte) in ours.iter().enumerate() {
            image.set_byte(name, at as u64, *byte);
        }
    }
    corrupt(&image);
}

/// A read never hands out damaged bytes, and says which entry of which file.
#[test]
fn a_read_of_rot_is_refused() {
    let (disk, entries) = written();
    let name = &segments(&disk)[0];
    let frame = frame::framed_len(ENTRY_HEADER_BYTES + 200);
    for (into, what) in [(3, "header"), (60, "entry"), (300, "payload")] {
        let image = disk.fork();
        let mut log = open(image.attach(), Options { verify_at_open_bytes: 0, ..small(9) }).unwrap();
        let at = 4096 + 2 * frame;
        image.flip_bit(name, at + into, 3);
        // It is met on the way to another entry, and named once.
        assert_eq!(log.reader.read(LogIndex(4), LogIndex(4), usize::MAX).unwrap(), entries[3..4]);
        for _ in 0..2 {
            match log.reader.read(LogIndex(3), LogIndex(3), usize::MAX) {
                Err(Error::Corrupt { file, offset, entries, .. }) => {
                    assert_eq!((&file, offset), (name, at), "{what}");
                    assert_eq!(entries, Some((LogIndex(3), LogIndex(3))));
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(log.reader.damaged().len(), 1);
        assert_eq!(log.reader.read(LogIndex(1), LogIndex(2), usize::MAX).unwrap(), entries[..2]);
        assert_eq!(log.reader.read(LogIndex(1), LogIndex(9), usize::MAX).unwrap(), entries[..2], "up to the damage");
        assert!(log.reader.seek_offset(entries[2].header().base_offset).is_err(), "it may be there");
        assert_eq!(log.reader.seek_offset(entries[9].header().base_offset).unwrap(), Some(LogIndex(10)));
        // Readers see the repaired file at once.
        let whole = Repaired::Whole { first: LogIndex(3), last: LogIndex(3) };
        assert_eq!(log.writer.repair(&entries[2..3]).unwrap(), whole);
        assert_eq!(all(&log.reader), entries);
        assert_eq!(log.reader.damaged(), []);
    }
}

/// Two neighbours rot, and the second one's header with it: whoever asks for that one hears of its damage too, and is not
/// told that nothing is there.
#[test]
fn a_damaged_entry_behind_a_damaged_one_is_named() {
    let (disk, entries) = written();
    let name = &segments(&disk)[0];
    let frame = frame::framed_len(ENTRY_HEADER_BYTES + 200);
    // The only way to an entry is from the beginning of its segment.
    let options = Options { verify_at_open_bytes: 0, index_every_bytes: 64 << 10, ..small(9) };
    let log = open(disk.attach(), options).unwrap();
    disk.flip_bit(name, 4096 + 2 * frame + 300, 3);
    disk.flip_bit(name, 4096 + 3 * frame + 3, 3);
    for index in [3, 4, 3, 4] {
        let read = log.reader.read(LogIndex(index), LogIndex(index), usize::MAX);
        assert!(matches!(read, Err(Error::Corrupt { .. })), "{index}: {read:?}");
    }
    assert_eq!(log.reader.read(LogIndex(5), LogIndex(9), usize::MAX).unwrap(), entries[4..9]);
    let damaged: Vec<_> = log.reader.damaged().iter().map(|range| (range.first.0, range.last.0)).collect();
    assert_eq!(damaged, [(3, 4)]);
}

/// Damage that reaches over damage which is known already: all of it is named, and no entry is taken for one behind the end
/// of the log.
#[test]
fn a_file_that_vanishes_around_known_damage_is_named() {
    let (disk, entries) = written();
    let name = segments(&disk)[1].clone();
    let frame = frame::framed_len(ENTRY_HEADER_BYTES + 200);
    for known in [0, 3] {
        let image = disk.fork();
        image.flip_bit(&name, 4096 + known * frame + 100, 1);
        let log = open(image.attach(), small(9)).unwrap();
        let range = log.reader.damaged()[0].clone();
        assert_eq!((&range.file, range.at, range.first), (&name, 4096 + known * frame, range.last));
        image.vanish(&name);
        let first = range.first.0 - known;
        assert!(log.reader.read(LogIndex(first + 1), LogIndex(first + 1), 0).is_err());
        let lost = log.reader.damaged()[0].clone();
        assert_eq!((lost.first.0, &lost.file), (first, &name));
        assert!(lost.last.0 > first + 4, "{lost:?}");
        for entry in &entries {
            let index = entry.header().index;
            match log.reader.read(index, index, 0) {
                Ok(found) => assert_eq!(found, std::slice::from_ref(entry)),
                Err(Error::Corrupt { entries, .. }) => assert_eq!(entries, Some((lost.first, lost.last))),
                Err(other) => panic!("{other}"),
            }
            let is_lost = (lost.first..=lost.last).contains(&index);
            assert_eq!(log.reader.read(index, index, 0).is_err(), is_lost, "{index}");
        }
    }
}

/// The last entry rots while its segment still takes frames: what is appended behind it is found.
#[test]
fn entries_behind_damage_are_found_while_they_are_written() {
    let disk = SimDisk::new(3);
    create(&disk.attach(), meta()).unwrap();
    let options = Options { index_every_bytes: 64 << 10, ..small(1) };
    let mut log = open(disk.attach(), options).unwrap();
    let entries = chain_of(None, 1, [10; 4]);
    log.writer.write(&append(entries[..2].to_vec())).unwrap();
    let frame = frame::framed_len(ENTRY_HEADER_BYTES + 10);
    disk.flip_bit(&segments(&disk)[0], 4096 + frame + 100, 1);
    assert!(log.reader.read(LogIndex(2), LogIndex(2), 0).is_err());
    log.writer.write(&append(entries[2..].to_vec())).unwrap();
    for entry in &entries[2..] {
        let index = entry.header().index;
        assert_eq!(log.reader.read(index, index, 0).unwrap(), std::slice::from_ref(entry));
    }
    assert_eq!(log.reader.seek_offset(entries[3].header().base_offset).unwrap(), Some(LogIndex(4)));
}

/// A frame from the future is not damage: the words say to upgrade.
#[test]
fn a_newer_version_is_not_damage() {
    let (disk, _) = written();
    let name = segments(&disk)[0].clone();
    let mut block = disk.contents(&name).unwrap()[..SEGMENT_HEADER_BYTES].to_vec();
    block[16] = 1;
    let crc = crc32c::crc32c(&block[..4092]).to_le_bytes();
    disk.set_byte(&name, 16, 1);
    for (i, byte) in crc.iter().enumerate() {
        disk.set_byte(&name, 4092 + i as u64, *byte);
    }
    assert!(matches!(open(disk.attach(), small(9)), Err(Error::Newer { .. })));
}

/// Zeros in a payload are not a sector that was never written: rot in the last acked batch is no torn tail.
#[test]
fn rot_in_a_payload_of_zeros_is_no_torn_tail() {
    let disk = SimDisk::new(3);
    create(&disk.attach(), meta()).unwrap();
    let mut log = open(disk.attach(), small(1)).unwrap();
    let first = after(None, 1, b"first");
    let zeros = after(Some(first.header()), 1, &[0; 3000]);
    log.writer.write(&append(vec![first])).unwrap();
    log.writer.sync().unwrap();
    log.writer.write(&append(vec![zeros])).unwrap();
    log.writer.sync().unwrap();
    drop(log);
    disk.crash_keeping(|_| false);
    let at = 4096 + frame::framed_len(ENTRY_HEADER_BYTES + 5);
    let mut sweep = Sweep::new();
    for into in (0..frame::framed_len(ENTRY_HEADER_BYTES + 3000)).filter(|_| sweep.takes()) {
        let image = disk.fork();
        image.flip_bit(&segments(&disk)[0], at + into, into as u32);
        assert_eq!(named(&image).1, at);
        let found = open(image.attach(), small(10)).unwrap().recovered;
        assert_eq!((found.torn_bytes_cut, found.suspect.map(|p| p.index)), (0, Some(LogIndex(2))));
    }
}

/// Nobody knows the term of an entry whose frame is gone. At the very beginning of the log there is none before it to be
/// given out instead, and yet every entry has one.
#[test]
fn damage_at_the_very_beginning_leaves_no_gap_in_the_terms() {
    let (disk, _) = written();
    for name in disk.names().iter().filter(|name| name.ends_with(crate::wal::names::SIDECAR_SUFFIX)) {
        disk.attach().remove(name).unwrap();
    }
    assert!(disk.flip_bit(&segments(&disk)[0], 4096, 1));
    let found = open(disk.attach(), small(9)).unwrap().recovered;
    assert_eq!(found.damaged.first().map(|range| range.first), Some(LogIndex(1)));
    let runs: Vec<_> = found.runs.iter().map(|run| (run.first.0, run.term.0)).collect();
    assert_eq!(runs, [(1, 1), (26, 2)]);
}
