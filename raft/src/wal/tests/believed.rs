//! What a start believes without reading it, and what not: sidecars, superseded segments, the bytes it is asked to read.

use super::exact::{len_of, segments};
use super::*;
use crate::Run;
use crate::wal::sim::{Injection, Op, SimDisk};
use crate::wal::{frame, segment, sidecar};

fn lazy() -> Options {
    Options { verify_at_open_bytes: 0, ..small(9) }
}

/// Several segments, closed in peace; before that entries from the first one of the fourth segment on are dropped, so
/// that later segments are superseded as a whole.
fn dropped() -> (SimDisk, Vec<Entry>) {
    let disk = SimDisk::new(3);
    create(&disk.attach(), meta()).unwrap();
    let mut log = open(disk.attach(), small(1)).unwrap();
    let mut entries = chain_of(None, 1, [200; 80]);
    for group in entries.chunks(3) {
        log.writer.write(&append(group.to_vec())).unwrap();
        log.writer.sync().unwrap();
    }
    let bases: Vec<u64> = segments(&disk).iter().map(|n| segment::parse(n).unwrap().1).collect();
    assert!(bases.len() > 5);
    let from = bases[3];
    entries.truncate(from as usize - 1);
    let last = entries.last().map(|e| *e.header());
    let control = after_of(last.as_ref(), 2, EntryKind::Configuration, 0, b"who votes");
    let mut more = vec![control];
    more.extend(chain_of(Some(*more[0].header()), 2, [100, 300, 20]));
    log.writer.write(&Batch { truncate_from: Some(LogIndex(from)), ..append(more.clone()) }).unwrap();
    entries.extend(more);
    log.writer.close().unwrap();
    disk.crash_keeping(|_| true);
    (disk, entries)
}

fn bytes_of(entries: &[Entry]) -> u64 {
    entries.iter().map(|e| e.bytes().len() as u64).sum()
}

/// A start reads the newest segments up to the bytes it is asked for, the others by their sidecars, and counts what it read.
#[test]
fn a_start_reads_what_it_must() {
    let disk = SimDisk::new(3);
    create(&disk.attach(), meta()).unwrap();
    let mut log = open(disk.attach(), small(1)).unwrap();
    let entries = chain_of(None, 1, [200; 60]);
    for group in entries.chunks(3) {
        log.writer.write(&append(group.to_vec())).unwrap();
    }
    log.writer.close().unwrap();
    disk.crash_keeping(|_| true);
    let names = segments(&disk);
    let bases: Vec<usize> = names.iter().map(|n| segment::parse(n).unwrap().1 as usize - 1).collect();
    let lens: Vec<u64> = names.iter().map(|n| len_of(&disk, n)).collect();
    let newest = names.len() - 1;
    assert!(newest > 2);
    let two = lens[newest] + lens[newest - 1];
    for (bytes, from) in [
        (0, newest),
        (lens[newest], newest),
        (two - 1, newest),
        (two, newest - 1),
        (two + lens[newest - 2], newest - 2),
    ] {
        let image = disk.fork();
        let log = open(image.attach(), Options { verify_at_open_bytes: bytes, ..small(9) }).unwrap();
        assert_eq!(log.recovered.verified_bytes, bytes_of(&entries[bases[from]..]), "{bytes} bytes");
        assert_eq!(log.reader.bytes_on_disk(), lens.iter().sum::<u64>());
        assert_eq!((all(&log.reader), log.recovered.segments), (entries.clone(), names.len()));
    }
    let found = open(disk.attach(), small(9)).unwrap().recovered;
    assert_eq!(found.verified_bytes, bytes_of(&entries));
    assert_eq!(found.runs, [Run { first: LogIndex(1), term: Term(1) }]);
}

/// Segments of which nothing is in force any more may go: nobody misses them.
#[test]
fn a_superseded_segment_is_not_missed() {
    let (disk, entries) = dropped();
    let names = segments(&disk);
    let control: Vec<u64> =
        entries.iter().filter(|e| e.header().kind.is_remembered()).map(|e| e.header().index.0).collect();
    for gone in 3..names.len() - 1 {
        for keep_sidecar in [true, false] {
            let image = disk.fork();
            image.vanish(&names[gone]);
            if !keep_sidecar {
                image.vanish(&sidecar::name_of(&names[gone]));
            }
            let log = open(image.attach(), small(9)).unwrap();
            assert_eq!((log.recovered.damaged.len(), all(&log.reader)), (0, entries.clone()), "{}", names[gone]);
            assert_eq!(log.recovered.control.iter().map(|i| i.0).collect::<Vec<_>>(), control);
            assert_eq!(log.recovered.verified_bytes, bytes_of(&entries));
            let left: u64 = segments(&image).iter().map(|n| len_of(&image, n)).sum();
            assert_eq!((log.reader.bytes_on_disk(), log.recovered.segments), (left, names.len() - 1));
        }
    }
}

/// A sidecar is believed if it speaks of this very file and of all entries that are in force; else frames are, and it is
/// written anew. A good one is not.
#[test]
fn only_a_whole_sidecar_is_believed() {
    let (disk, entries) = dropped();
    let names = segments(&disk);
    let runs = open(disk.fork().attach(), small(9)).unwrap().recovered.runs;
    for (n, name) in [(1, &names[1]), (names.len() - 1, &names[names.len() - 1])] {
        let beside = sidecar::name_of(name);
        let good = disk.contents(&beside).unwrap();
        let (of, facts) = sidecar::read(disk.attach().as_ref(), name).unwrap();
        let one_less = {
            let mut facts = facts.clone();
            let last = *entries[facts.next as usize - 3].header();
            let end = facts.end - frame::framed_len(entries[facts.next as usize - 2].bytes().len());
            facts.cut(facts.next - 1, end, Some(last));
            facts
        };
        let cases = [
            ("it is gone", None),
            ("it speaks of a longer file", Some((sidecar::Of { len: of.len + 8, ..of }, facts.clone()))),
            ("it speaks of a file that takes frames", Some((sidecar::Of { len: 0, ..of }, facts.clone()))),
            ("it does not know the last entry", Some((of, one_less))),
        ];
        for (what, forged) in cases {
            for options in [lazy(), small(9)] {
                let image = disk.fork();
                image.vanish(&beside);
                if let Some((of, facts)) = &forged {
                    sidecar::write(image.attach().as_ref(), name, *of, facts);
                    assert!(image.contents(&beside).is_some_and(|bytes| bytes != good), "{what}");
                }
                image.crash_keeping(|_| true);
                let log = open(image.attach(), options).unwrap();
                assert_eq!((all(&log.reader), log.recovered.damaged.len()), (entries.clone(), 0), "{n}: {what}");
                assert_eq!(log.recovered.runs, runs, "{n}: {what}");
                assert!(
                    log.recovered.verified_bytes
                        >= bytes_of(&entries[facts.base as usize - 1..facts.next as usize - 1])
                );
                assert_eq!(image.contents(&beside).as_ref(), Some(&good), "{n}: {what}: it is written anew");
            }
        }
        // Of a damaged segment nothing is written down.
        let image = disk.fork();
        image.vanish(&beside);
        image.flip_bit(name, SEGMENT_HEADER_BYTES as u64 + 60, 1);
        let log = open(image.attach(), small(9)).unwrap();
        assert_eq!(log.recovered.damaged.len(), 1);
        assert_eq!(image.contents(&beside), None, "{n}");
    }
    for options in [lazy(), small(9)] {
        let image = disk.fork();
        image.inject(Injection::error(Op::Create, ".idx", std::io::ErrorKind::Other));
        assert_eq!(all(&open(image.attach(), options).unwrap().reader), entries);
        assert_eq!(image.counters().errors, 0, "good sidecars are not written again");
    }
}

/// What was read counts, whatever a sidecar says that is whole and wrong.
#[test]
fn frames_count_more_than_a_sidecar() {
    let (disk, entries) = dropped();
    let names = segments(&disk);
    let truth = open(disk.fork().attach(), small(9)).unwrap().recovered;
    for name in [&names[1], &names[names.len() - 1]] {
        let (of, mut facts) = sidecar::read(disk.attach().as_ref(), name).unwrap();
        facts.control = vec![LogIndex(facts.base + 1)];
        facts.remembered.clear();
        let image = disk.fork();
        image.vanish(&sidecar::name_of(name));
        sidecar::write(image.attach().as_ref(), name, of, &facts);
        image.crash_keeping(|_| true);
        let log = open(image.attach(), small(9)).unwrap();
        let found = &log.recovered;
        assert_eq!((&found.control, &found.remembered, &found.runs), (&truth.control, &truth.remembered, &truth.runs));
        assert_eq!(all(&log.reader), entries);
    }
}

/// A file that was cut between two frames, with a sidecar that agrees: the successor remembers how long it was.
#[test]
fn a_cut_file_is_missed_by_its_successor() {
    let (disk, entries) = dropped();
    let name = segments(&disk)[1].clone();
    let (of, mut facts) = sidecar::read(disk.attach().as_ref(), &name).unwrap();
    let end = facts.end - frame::framed_len(ENTRY_HEADER_BYTES + 200);
    (facts.end, facts.points) = (end, facts.points.into_iter().filter(|p| p.at < end).collect());
    disk.cut(&name, end);
    disk.vanish(&sidecar::name_of(&name));
    sidecar::write(disk.attach().as_ref(), &name, sidecar::Of { len: end, ..of }, &facts);
    disk.crash_keeping(|_| true);
    assert!(sidecar::read(disk.attach().as_ref(), &name).is_some(), "it contradicts nothing in itself");
    let log = open(disk.attach(), lazy()).unwrap();
    let lost = facts.next - 1;
    assert_eq!(log.recovered.damaged.iter().map(|r| (r.first.0, r.last.0)).collect::<Vec<_>>(), [(lost, lost)]);
    assert_eq!(log.recovered.last.as_ref(), entries.last().map(Entry::header));
}
