//! Cuts near damage: what a truncation takes along, and what it waits for.

use super::heal::segments;
use super::*;
use crate::wal::sim::SimDisk;
use crate::{HardState, PersistTicket};

/// Six entries of one size, on disk, and an open log.
pub(super) fn six() -> (SimDisk, Opened, Vec<Entry>) {
    let disk = SimDisk::new(1);
    create(&disk.attach(), meta()).unwrap();
    let mut log = open(disk.attach(), small(1)).unwrap();
    let entries = chain_of(None, 1, [100; 6]);
    log.writer.write(&append(entries.clone())).unwrap();
    log.writer.sync().unwrap();
    (disk, log, entries)
}

/// The payload of this entry rots.
fn rot(disk: &SimDisk, index: u64) {
    let frame = frame::framed_len(ENTRY_HEADER_BYTES + 100);
    let name = segments(disk).remove(0);
    assert!(disk.flip_bit(&name, 4096 + (index - 1) * frame + frame / 2, 1));
}

/// Drops all from `from` on for two entries of a later term.
fn cut(entries: &[Entry], from: u64) -> Batch {
    let before = from.checked_sub(2).map(|at| *entries[at as usize].header());
    Batch { truncate_from: Some(LogIndex(from)), ..append(chain_of(before, 2, [60; 2])) }
}

/// The entry before the cut cannot be read, and nobody knew: nothing is written, the writer lives, and votes overtake the
/// write. With the entry given back the same write passes.
#[test]
fn a_cut_behind_what_cannot_be_read_waits_for_its_repair() {
    let (disk, mut log, entries) = six();
    rot(&disk, 3);
    let mut queue = Queue::default();
    let hard_state = Some(HardState { term: Term(2), vote: None });
    queue.push(PersistTicket(1), Batch { hard_state, ..cut(&entries, 4) });
    for _ in 0..2 {
        match queue.write_next(&mut log.writer) {
            Some(Err(Error::Corrupt { entries: Some(range), .. })) => assert_eq!(range, (LogIndex(3), LogIndex(3))),
            other => panic!("{other:?}"),
        }
        assert_eq!(log.reader.last_index(), LogIndex(6), "nothing was dropped");
    }
    assert_eq!(queue.overtake(&mut log.writer).unwrap().map(|(_, state)| Some(state)), Some(hard_state));
    let whole = Repaired::Whole { first: LogIndex(3), last: LogIndex(3) };
    assert_eq!(log.writer.repair(&entries[2..3]).unwrap(), whole);
    assert!(queue.write_next(&mut log.writer).unwrap().is_ok());
    log.writer.sync().unwrap();
    let expected = [&entries[..3], &cut(&entries, 4).append].concat();
    assert_eq!(all(&log.reader), expected);
    drop(log);
    disk.crash_keeping(|_| false);
    let log = open(disk.attach(), small(2)).unwrap();
    assert_eq!((all(&log.reader), log.recovered.damaged.len()), (expected, 0));
}

/// A cut at the first entry of a damaged range takes the range along, whatever of it lies in which segment.
#[test]
fn a_cut_takes_a_range_along_as_a_whole() {
    for (from, lost) in [(3, vec![3, 4]), (3, vec![3, 6]), (2, vec![3, 4, 5]), (1, vec![1, 2])] {
        let (disk, mut log, entries) = six();
        for index in &lost {
            rot(&disk, *index);
            assert!(log.reader.read(LogIndex(*index), LogIndex(*index), 0).is_err());
        }
        assert!(!log.reader.damaged().is_empty());
        log.writer.write(&cut(&entries, from)).unwrap();
        log.writer.sync().unwrap();
        let expected = [&entries[..from as usize - 1], &cut(&entries, from).append].concat();
        assert_eq!((all(&log.reader), log.reader.damaged()), (expected.clone(), vec![]), "{from} {lost:?}");
        drop(log);
        disk.crash_keeping(|_| false);
        let log = open(disk.attach(), small(2)).unwrap();
        assert_eq!((all(&log.reader), log.recovered.damaged), (expected, vec![]), "{from} {lost:?}");
    }
}
