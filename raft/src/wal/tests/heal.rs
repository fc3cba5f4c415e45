//! Damage is named, never served, never taken for the end of the log, and made good by the entries of a peer.

use super::*;
use crate::wal::sim::SimDisk;
use std::collections::BTreeSet;

/// What was acked: all entries of the log.
pub(super) struct Truth {
    pub(super) entries: Vec<Entry>,
    /// Everything was durable when the last sidecar was written.
    pub(super) is_marked: bool,
}

/// What a damaged disk has become.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    /// Entries that cannot be given.
    pub(super) lost: BTreeSet<u64>,
    /// Entries that are no longer in the log, below a suspect position.
    pub(super) cut: u64,
    pub(super) damaged: Vec<DamagedRange>,
    pub(super) mended: Vec<String>,
}

fn lazy(seed: u64) -> Options {
    Options { verify_at_open_bytes: 0, ..small(seed) }
}

/// Reads every entry alone and all together: each is the true one, or its damage is named.
fn lost(log: &Opened, truth: &Truth) -> BTreeSet<u64> {
    let mut lost = BTreeSet::new();
    for index in 1..=log.reader.last_index().0 {
        let index = LogIndex(index);
        match log.reader.read(index, index, 0) {
            Ok(found) => assert_eq!(found, truth.entries[index.0 as usize - 1..index.0 as usize]),
            Err(Error::Corrupt { entries: Some((first, last)), file, .. }) => {
                assert!(first <= index && index <= last, "{index} in {first}..={last} of {file}");
                lost.insert(index.0);
            }
            Err(other) => panic!("entry {index}: {other}"),
        }
    }
    lost
}

fn indexes(ranges: &[DamagedRange]) -> BTreeSet<u64> {
    ranges.iter().flat_map(|range| range.first.0..=range.last.0).collect()
}

/// Opens it in all ways, reads, scrubs and verifies: all of them say the same.
pub(super) fn judge(image: &SimDisk, truth: &Truth) -> Verdict {
    let offline = verify(image.attach().as_ref(), &mut |_| None).unwrap();
    let hurried = image.fork();
    let log = open(image.attach(), small(9)).unwrap();
    let verdict = verdict_of(&log, truth);
    assert_eq!(indexes(&log.recovered.damaged), verdict.lost, "a whole read at the start finds all of it");
    if verdict.cut == 0 {
        let mut told = BTreeSet::new();
        for (first, last) in offline.damaged.iter().filter_map(|d| d.entries) {
            told.extend(first.0..=last.unwrap_or(log.reader.last_index()).0);
        }
        assert_eq!(told, verdict.lost, "offline: {:?}", offline.damaged);
    } else {
        assert!(!offline.damaged.is_empty());
    }
    // The same where the start reads no more than it must: a scrub finds the rest.
    let log = open(hurried.attach(), lazy(9)).unwrap();
    assert_eq!(log.reader.last_index().0, truth.entries.len() as u64 - verdict.cut);
    let (mut cursor, mut found) = (ScrubCursor::default(), log.reader.damaged().len());
    loop {
        let step = log.reader.scrub(cursor, 700).unwrap();
        found += step.damaged.len();
        let Some(next) = step.next else { break };
        assert_ne!(next, cursor);
        cursor = next;
    }
    assert_eq!(indexes(&log.reader.damaged()), verdict.lost, "a scrub finds all of it");
    assert!(found >= log.reader.damaged().len());
    drop(log);
    // And where nobody scrubs, reads do.
    let log = open(hurried.attach(), lazy(10)).unwrap();
    assert_eq!(verdict_of(&log, truth).lost, verdict.lost, "reads find all of it");
    verdict
}

fn verdict_of(log: &Opened, truth: &Truth) -> Verdict {
    let is_marked = truth.is_marked;
    let lost = lost(log, truth);
    let there = log.reader.last_index().0;
    let acked = truth.entries.len() as u64;
    assert!(there <= acked, "{there} entries of {acked}");
    if there < acked {
        let last = truth.entries[acked as usize - 1].header().position();
        let suspect = log.recovered.suspect.expect("what may have been acked is remembered");
        assert!(suspect.is_at_least_as_up_to_date_as(last), "{suspect:?} is below {last:?}");
        assert_eq!(log.meta.suspect, log.recovered.suspect);
    }
    let last = there.checked_sub(1).map(|at| *truth.entries[at as usize].header());
    assert_eq!(log.recovered.last, last);
    // The shape is known through all damage.
    for entry in &truth.entries[..there as usize] {
        let head = entry.header();
        let term = log.recovered.runs.iter().rev().find(|run| run.first <= head.index).map(|run| run.term);
        // If nothing marked the last entries, the terms of damaged ones may be told by nobody.
        if !lost.contains(&head.index.0) || log.recovered.mended.is_empty() && is_marked {
            assert_eq!(term, Some(head.term), "term of {}", head.index);
        }
    }
    let damaged = log.reader.damaged();
    assert_eq!(indexes(&damaged), lost);
    Verdict {
        lost,
        cut: acked - there,
        damaged,
        mended: log.recovered.mended.iter().map(|(file, _)| file.clone()).collect(),
    }
}

/// Gives all that is missing back, a few entries at a time.
pub(super) fn repair_all(log: &mut Opened, truth: &Truth, piece: usize) -> u64 {
    let mut repaired = 0;
    while let Some(range) = log.reader.damaged().first().cloned() {
        assert!(repaired < 1_000, "{range:?} stays damaged");
        let mut next = range.first;
        loop {
            let from = next.0 as usize - 1;
            let to = (from + piece).min(range.last.0 as usize);
            match log.writer.repair(&truth.entries[from..to]).unwrap() {
                Repaired::Wants(wanted) => {
                    assert_eq!(wanted.0 as usize, to + 1);
                    assert!(log.reader.read(range.first, range.first, 0).is_err(), "not before it is proven");
                    next = wanted;
                }
                Repaired::Whole { first, last } => {
                    assert_eq!((first, last), (range.first, range.last));
                    break;
                }
            }
        }
        repaired += 1;
    }
    repaired
}

/// After a repair nothing tells that there was damage, whatever a crash takes.
pub(super) fn heal(image: &SimDisk, truth: &Truth, verdict: &Verdict) -> u64 {
    let there = truth.entries.len() - verdict.cut as usize;
    let mut log = open(image.attach(), small(20)).unwrap();
    let repaired = repair_all(&mut log, truth, 2);
    assert_eq!(all(&log.reader), truth.entries[..there]);
    drop(log);
    image.crash_keeping(|_| false);
    let offline = verify(image.attach().as_ref(), &mut |_| None).unwrap();
    assert_eq!(offline.damaged, [], "after a repair");
    let mut log = open(image.attach(), small(21)).unwrap();
    assert_eq!(log.recovered.damaged, []);
    assert_eq!(all(&log.reader), truth.entries[..there]);
    // And the log goes on.
    let more = chain_of(log.writer.last().copied(), 99, [10, 20]);
    log.writer.write(&append(more.clone())).unwrap();
    log.writer.sync().unwrap();
    image.crash_keeping(|_| false);
    let log = open(image.attach(), small(22)).unwrap();
    assert_eq!(all(&log.reader), [&truth.entries[..there], &more].concat());
    repaired
}

pub(super) fn segments(disk: &SimDisk) -> Vec<String> {
    disk.names().into_iter().filter(|n| n.ends_with(".wal")).collect()
}

/// Several segments, one truncation, group commits of several frames; everything is durable, the last sync included.
pub(super) fn first_life() -> (SimDisk, Vec<Entry>) {
    let disk = SimDisk::new(3);
    create(&disk.attach(), meta()).unwrap();
    let mut log = open(disk.attach(), small(1)).unwrap();
    let mut entries = chain_of(None, 1, [200; 30]);
    for group in entries.chunks(3) {
        log.writer.write(&append(group.to_vec())).unwrap();
        log.writer.sync().unwrap();
    }
    entries.truncate(25);
    let more = chain_of(entries.last().map(|e| *e.header()), 2, [333, 20, 700, 61]);
    log.writer.write(&Batch { truncate_from: Some(LogIndex(26)), ..append(more.clone()) }).unwrap();
    log.writer.sync().unwrap();
    entries.extend(more);
    drop(log);
    (disk, entries)
}

/// Several segments of two terms with control entries, one truncation, one segment of an earlier life; all of it acked.
/// The last batch is covered by a clean close, an idle mark or nothing.
pub(super) fn life(end: End) -> (SimDisk, Truth) {
    let (disk, mut entries) = first_life();
    let mut log = open(disk.attach(), small(2)).unwrap();
    let term = Some(crate::HardState { term: Term(4), vote: None });
    log.writer.write(&Batch { hard_state: term, ..Batch::default() }).unwrap();
    for payload in [&[1; 600][..], &[0; 700], b"", &[7; 900]] {
        let control = after_of(entries.last().map(Entry::header), 4, EntryKind::Configuration, 0, b"who votes");
        let normal = after(Some(control.header()), 4, payload);
        log.writer.write(&append(vec![control.clone(), normal.clone()])).unwrap();
        log.writer.sync().unwrap();
        entries.extend([control, normal]);
    }
    match end {
        End::Closed => log.writer.close().unwrap(),
        End::Idle => log.writer.mark_idle(),
        End::Killed => {}
    }
    disk.crash_keeping(|_| true);
    (disk, Truth { entries, is_marked: !matches!(end, End::Killed) })
}

#[derive(Clone, Copy, Debug)]
pub(super) enum End {
    Closed,
    Idle,
    Killed,
}

/// Every few bytes of every file, one flipped bit each: found with the right file, place and range, or harmless; then
/// made good by a peer (D2).
#[test]
fn every_flipped_bit_is_named_or_harmless() {
    for (end, step) in [(End::Closed, 13), (End::Idle, 17), (End::Killed, 19)] {
        let (disk, truth) = life(end);
        assert_eq!(judge(&disk.fork(), &truth), Verdict::default(), "{end:?}");
        let (mut images, mut ranges, mut cuts, mut mended, mut harmless) = (0_u64, 0, 0, 0, 0);
        let mut sweep = Sweep::new();
        for name in disk.names() {
            let len = disk.contents(&name).unwrap().len() as u64;
            for at in (0..len).step_by(step) {
                // The zeros of a header block are all alike.
                if name.ends_with(".wal") && (200..4000).contains(&at) && at % 8 != 0 {
                    continue;
                }
                if !sweep.takes() {
                    continue;
                }
                let image = disk.fork();
                assert!(image.flip_bit(&name, at, at as u32 % 8));
                let verdict = judge(&image.fork(), &truth);
                for range in &verdict.damaged {
                    assert_eq!((&range.file, range.at <= at), (&name, true), "{end:?}: byte {at}: {range:?}");
                }
                assert!(verdict.mended.iter().all(|file| *file == name), "{end:?}: byte {at} of {name}: {verdict:?}");
                images += 1;
                cuts += u64::from(verdict.cut > 0);
                mended += u64::from(!verdict.mended.is_empty());
                let touched = !verdict.lost.is_empty() || verdict.cut > 0 || !verdict.mended.is_empty();
                harmless += u64::from(!touched);
                if verdict.cut > 0 {
                    assert!(matches!(end, End::Killed), "only what nobody marked is suspect: byte {at} of {name}");
                }
                ranges += heal(&image, &truth, &verdict);
            }
        }
        println!(
            "{end:?}: {images} flipped bits: {ranges} ranges repaired, {cuts} suspect tails, {mended} files mended, \
             {harmless} harmless"
        );
        assert!(ranges > 50 / sweep.every && mended > 50 / sweep.every);
    }
}

/// A segment that is missing, or was cut anywhere, is a named range, whichever it is; a peer makes it good.
#[test]
fn missing_and_short_files_are_named() {
    let (mut repaired, mut sweep) = (0, Sweep::new());
    for end in [End::Closed, End::Idle, End::Killed] {
        let (disk, truth) = life(end);
        for name in segments(&disk) {
            let len = disk.contents(&name).unwrap().len() as u64;
            for keep in [None, Some(0), Some(100), Some(4096), Some(4100), Some(5000), Some(len - 8), Some(len - 1)] {
                // A file that ends early looks like one that a crash left so, where nothing says how far it was durable.
                if !truth.is_marked && keep.is_some() && segments(&disk).last() == Some(&name) {
                    continue;
                }
                if !sweep.takes() {
                    continue;
                }
                let image = disk.fork();
                match keep {
                    None => image.vanish(&name),
                    Some(keep) => image.cut(&name, keep),
                };
                let verdict = judge(&image.fork(), &truth);
                assert!(verdict.damaged.iter().all(|range| range.file == name), "{end:?}: {keep:?} of {name}");
                repaired += heal(&image, &truth, &verdict);
            }
        }
    }
    println!("{repaired} ranges repaired");
    assert!(repaired > 30 / sweep.every);
}
