//! What a start says and does, to the byte and to the entry.

use super::*;
use crate::wal::sim::{Injection, Op, SimDisk};
use crate::wal::{frame, segment, sidecar};
use crate::{HardState, Position};

const TERM: u64 = 9;

pub(super) fn segments(disk: &SimDisk) -> Vec<String> {
    disk.names().into_iter().filter(|n| n.ends_with(".wal")).collect()
}

pub(super) fn len_of(disk: &SimDisk, name: &str) -> u64 {
    disk.contents(name).unwrap().len() as u64
}

/// One segment with five entries of the terms 3 and 4, of which the first `synced` were synced one by one, and the others
/// not at all; the term of the node is higher. `ats`: where each begins, and where the last one ends.
struct Five {
    disk: SimDisk,
    name: String,
    entries: Vec<Entry>,
    ats: [u64; 6],
}

impl Five {
    fn new(synced: usize, after_all: impl FnOnce(&mut Opened)) -> Self {
        let disk = SimDisk::new(3);
        create(&disk.attach(), meta()).unwrap();
        let mut log = open(disk.attach(), small(1)).unwrap();
        let hard_state = Some(HardState { term: Term(TERM), vote: None });
        log.writer.write(&Batch { hard_state, log_id: Some(LOG_ID), ..Batch::default() }).unwrap();
        let mut entries = chain_of(None, 3, [300, 310]);
        entries.extend(chain_of(entries.last().map(|e| *e.header()), 4, [320, 330, 340]));
        for entry in &entries[..synced] {
            log.writer.write(&append(vec![entry.clone()])).unwrap();
            log.writer.sync().unwrap();
        }
        log.writer.write(&append(entries[synced..].to_vec())).unwrap();
        after_all(&mut log);
        drop(log);
        Self::of(disk, entries)
    }

    /// Closed in peace.
    fn closed() -> Self {
        let five = Self::new(5, |_| {});
        let disk = SimDisk::new(3);
        create(&disk.attach(), meta()).unwrap();
        let mut log = open(disk.attach(), small(1)).unwrap();
        let hard_state = Some(HardState { term: Term(TERM), vote: None });
        log.writer.write(&Batch { hard_state, ..append(five.entries.clone()) }).unwrap();
        log.writer.close().unwrap();
        Self::of(disk, five.entries)
    }

    fn of(disk: SimDisk, entries: Vec<Entry>) -> Self {
        disk.crash_keeping(|_| true);
        let name = segments(&disk).pop().unwrap();
        let mut ats = [SEGMENT_HEADER_BYTES as u64; 6];
        for (n, entry) in entries.iter().enumerate() {
            ats[n + 1] = ats[n] + frame::framed_len(entry.bytes().len());
        }
        Self { disk, name, entries, ats }
    }

    /// The frame header of this entry is damaged.
    fn spoil_frame(&self, index: u64) {
        assert!(self.disk.flip_bit(&self.name, self.ats[index as usize - 1] + 20, 1));
    }

    /// The header of this entry is damaged, the one of its frame is not.
    fn spoil_entry(&self, index: u64) {
        assert!(self.disk.flip_bit(&self.name, self.ats[index as usize - 1] + 56 + 20, 1));
    }

    fn spoil_payload(&self, index: u64) {
        assert!(self.disk.flip_bit(&self.name, self.ats[index as usize - 1] + 56 + 96 + 20, 1));
    }

    /// Where the last byte stands that is not zero.
    fn written(&self) -> u64 {
        self.disk.contents(&self.name).unwrap().iter().rposition(|b| *b != 0).unwrap() as u64 + 1
    }

    fn open(&self) -> Opened {
        open(self.disk.attach(), small(9)).unwrap()
    }

    /// As an older version leaves it, which knows nothing of the last entry.
    fn forget_last(&self) {
        for name in ["meta.a", "meta.b"] {
            let mut bytes = self.disk.contents(name).unwrap();
            (bytes[8], bytes[20]) = (1, bytes[20] & 1);
            bytes[152..280].fill(0);
            let crc = crc32c::crc32c(&bytes[..508]).to_le_bytes();
            bytes[508..].copy_from_slice(&crc);
            for (at, byte) in bytes.iter().enumerate() {
                self.disk.set_byte(name, at as u64, *byte);
            }
        }
    }

    fn forget_sidecar(&self) {
        self.disk.vanish(&sidecar::name_of(&self.name));
    }
}

/// What is cut is counted, the file ends where the log does, and a sidecar says so to the next start.
#[test]
fn a_torn_tail_is_cut_to_the_byte() {
    for torn in [false, true] {
        let five = Five::new(5, |_| {});
        let (end, keep) = if torn { (five.ats[4], 4) } else { (five.ats[5], 5) };
        let mut cut = 0;
        if torn {
            // From the first boundary of sectors in its body on, the last entry was never written.
            let from = (five.ats[4] + 56).next_multiple_of(512);
            for at in from..five.ats[5] {
                five.disk.set_byte(&five.name, at, 0);
            }
            cut = five.written() - end;
            assert!((1..512).contains(&cut));
        }
        let log = five.open();
        assert_eq!(all(&log.reader), five.entries[..keep]);
        let found = &log.recovered;
        assert_eq!((found.torn_bytes_cut, &found.suspect, &found.suspect_tail), (cut, &None, &None));
        assert_eq!((found.damaged.len(), found.mended.len(), found.segments), (0, 0, 1));
        assert_eq!(found.last.as_ref(), Some(five.entries[keep - 1].header()));
        assert_eq!(found.verified_bytes, five.entries[..keep].iter().map(|e| e.bytes().len() as u64).sum::<u64>());
        assert_eq!((len_of(&five.disk, &five.name), log.reader.bytes_on_disk()), (end, end), "cut to its frames");
        let (of, facts) = sidecar::read(five.disk.attach().as_ref(), &five.name).unwrap();
        assert_eq!((of.len, facts.end, facts.next), (end, end, keep as u64 + 1));
    }
}

/// The highest position that a start may have acknowledged and cannot prove: exact where a frame behind the damage tells,
/// else what fits into the bytes.
#[test]
fn a_suspect_position_is_as_low_as_can_be_proven() {
    let fit = |from: u64, to: u64| (to - from).div_ceil(152);
    type Spoil = fn(&Five);
    let cases: [(&str, Spoil, usize); 5] = [
        ("good frames follow", |five| five.spoil_frame(3), 3),
        ("the last one may be of any term", |five| (five.spoil_frame(3), five.spoil_entry(5)).0, 3),
        ("more follows the last good frame", |five| [3, 5].iter().for_each(|n| five.spoil_frame(*n)), 3),
        ("nothing good follows", |five| [3, 4, 5].iter().for_each(|n| five.spoil_frame(*n)), 3),
        ("only the payload", |five| five.spoil_payload(5), 5),
    ];
    for (at, (what, spoil, first)) in cases.into_iter().enumerate() {
        let five = Five::new(0, |_| {});
        spoil(&five);
        let (index, term) = match at {
            0 | 4 => (5, 4),
            1 => (5, TERM),
            2 => (4 + fit(five.ats[4], five.written()), TERM),
            _ => (3 + fit(five.ats[2], five.written()) - 1, TERM),
        };
        let before = five.disk.contents(&five.name);
        let up_to = Position { index: LogIndex(index), term: Term(term) };
        let log = five.open();
        let tail = log.recovered.suspect_tail.clone().unwrap();
        assert_eq!((log.recovered.suspect, tail.up_to, log.meta.suspect), (Some(up_to), up_to, Some(up_to)), "{what}");
        assert_eq!((&tail.file, tail.at), (&five.name, five.ats[first - 1]), "{what}");
        assert_eq!(all(&log.reader), five.entries[..first - 1], "{what}");
        assert_eq!((log.recovered.torn_bytes_cut, log.recovered.damaged.len()), (0, 0), "{what}");
        assert_eq!(five.disk.contents(&five.name), before, "the bytes stay in the file: {what}");
        drop(log);
        // Nor does the next start believe or cut them.
        let log = five.open();
        assert_eq!(all(&log.reader), five.entries[..first - 1], "{what}");
        assert_eq!((log.recovered.suspect, &log.recovered.suspect_tail), (Some(up_to), &None), "{what}");
        assert_eq!((log.recovered.torn_bytes_cut, log.recovered.damaged.len()), (0, 0), "{what}");
        assert_eq!(five.disk.contents(&five.name), before, "the bytes stay in the file: {what}");
    }
}

/// Suspicion is raised by a start, never lowered.
#[test]
fn the_higher_suspicion_stays() {
    for (old, stays) in [((1, 1), false), ((4, 4), false), ((99, 4), true), ((1, TERM), true)] {
        let old = Position { index: LogIndex(old.0), term: Term(old.1) };
        for damage in [false, true] {
            let five = Five::new(0, |log| {
                log.writer.write(&Batch { suspect: Some(Some(old)), ..Batch::default() }).unwrap();
            });
            if damage {
                five.spoil_frame(3);
            }
            let found = five.open().recovered;
            let new = Position { index: LogIndex(5), term: Term(4) };
            assert_eq!(found.suspect_tail.map(|tail| tail.up_to), damage.then_some(new));
            assert_eq!(found.suspect, Some(if stays || !damage { old } else { new }), "{old:?}");
        }
    }
}

/// The last entry of a log that was closed is known without its bytes: the range is named, and the log keeps its length.
#[test]
fn damage_at_the_end_of_a_closed_log_is_a_range() {
    type Spoil = fn(&Five);
    let cases: [(u64, Spoil); 5] = [
        (5, |five| five.spoil_payload(5)),
        (5, |five| five.spoil_entry(5)),
        (5, |five| five.spoil_frame(5)),
        (4, |five| [4, 5].iter().for_each(|n| five.spoil_frame(*n))),
        (2, |five| [2, 3, 4, 5].iter().for_each(|n| five.spoil_frame(*n))),
    ];
    for (first, spoil) in cases {
        for with_sidecar in [true, false] {
            let five = Five::closed();
            spoil(&five);
            if !with_sidecar {
                five.forget_sidecar();
            }
            let before = five.disk.contents(&five.name);
            for _ in 0..2 {
                let log = five.open();
                let found = &log.recovered;
                let ranges: Vec<_> = found.damaged.iter().map(|r| (r.at, r.first.0, r.last.0)).collect();
                assert_eq!(ranges, [(five.ats[first as usize - 1], first, 5)]);
                assert_eq!((found.suspect, &found.suspect_tail, found.torn_bytes_cut), (None, &None, 0));
                assert_eq!(found.last.as_ref(), Some(five.entries[4].header()));
                assert_eq!(log.writer.last(), Some(five.entries[4].header()));
                assert_eq!(found.runs.last().map(|run| run.term), Some(Term(4)));
                assert_eq!(log.reader.last_index(), LogIndex(5));
                assert_eq!(five.disk.contents(&five.name), before, "not a byte is changed");
            }
            let mut log = five.open();
            let whole = Repaired::Whole { first: LogIndex(first), last: LogIndex(5) };
            assert_eq!(log.writer.repair(&five.entries[first as usize - 1..]).unwrap(), whole);
            assert_eq!(all(&log.reader), five.entries);
        }
    }
}

/// An older version knew how far the log was durable, and not with which entry: without that nobody can append behind
/// it, and the log ends before it, suspect.
#[test]
fn a_last_entry_that_nobody_knows_is_suspect() {
    let five = Five::closed();
    five.forget_last();
    five.forget_sidecar();
    five.spoil_entry(5);
    let log = five.open();
    let up_to = Position { index: LogIndex(5), term: Term(TERM) };
    assert_eq!((log.recovered.suspect, log.recovered.damaged.len()), (Some(up_to), 0));
    let tail = log.recovered.suspect_tail.as_ref().unwrap();
    assert_eq!((tail.at, tail.up_to), (five.ats[4], up_to));
    assert_eq!(all(&log.reader), five.entries[..4]);
    assert_eq!(log.recovered.last.as_ref(), Some(five.entries[3].header()));
    // Two of them: the first is the start of the damage, the second the highest position.
    let five = Five::closed();
    five.forget_last();
    five.forget_sidecar();
    five.spoil_entry(4);
    five.spoil_entry(5);
    let log = five.open();
    assert_eq!((log.recovered.suspect, all(&log.reader).len()), (Some(up_to), 3));
    // The whole log.
    let five = Five::closed();
    five.forget_last();
    five.forget_sidecar();
    (1..=5).for_each(|n| five.spoil_entry(n));
    let log = five.open();
    assert_eq!((log.recovered.suspect, log.recovered.last, log.reader.last_index().0), (Some(up_to), None, 0));
}

/// Damage at the very beginning, of which nothing remembers the term: the lowest that it can have had.
#[test]
fn damage_at_the_beginning_has_a_term() {
    let runs = |five: &Five| five.open().recovered.runs.iter().map(|run| (run.first.0, run.term.0)).collect::<Vec<_>>();
    let five = Five::closed();
    assert_eq!(runs(&five), [(1, 3), (3, 4)]);
    five.forget_sidecar();
    five.spoil_payload(1);
    assert_eq!(runs(&five), [(1, 3), (3, 4)], "the entry tells");
    five.spoil_entry(1);
    assert_eq!(runs(&five), [(1, 1), (2, 3), (3, 4)]);
    five.spoil_entry(2);
    assert_eq!(runs(&five), [(1, 1), (3, 4)]);
    // A log that begins after a checkpoint of the same term, of a lower one, and in the middle of a term.
    for (start, expected) in [(3, vec![(21, 3), (23, 4)]), (2, vec![(21, 2), (22, 3), (23, 4)])] {
        let before = chain_of(None, start, [10; 20]);
        let head = before[19].header();
        let start = Start { position: head.position(), chain: head.chain, next_offset: head.next_offset() };
        let disk = SimDisk::new(1);
        create(&disk.attach(), Meta { log_id: Some(LOG_ID), start, ..meta() }).unwrap();
        let mut log = open(disk.attach(), small(1)).unwrap();
        let mut entries = chain_of(Some(*head), 3, [300, 310]);
        entries.extend(chain_of(entries.last().map(|e| *e.header()), 4, [320, 330, 340]));
        log.writer.write(&append(entries.clone())).unwrap();
        log.writer.close().unwrap();
        let five = Five::of(disk, entries);
        five.forget_sidecar();
        five.spoil_entry(1);
        assert_eq!(runs(&five), expected);
    }
}

/// The newest of meta and sidecar tells how far the log was durable.
#[test]
fn the_later_mark_counts() {
    // An idle mark over three entries; then a vote wrote the meta over all five.
    let late_meta = Five::new(3, |log| {
        log.writer.sync().unwrap();
        let hard_state = Some(HardState { term: Term(TERM + 1), vote: None });
        log.writer.write(&Batch { hard_state, ..Batch::default() }).unwrap();
    });
    late_meta.spoil_frame(5);
    // And the other way round: the meta knows nothing of the entries, the mark all of them.
    let late_mark = Five::new(3, |log| {
        log.writer.sync().unwrap();
        log.writer.mark_idle();
    });
    late_mark.spoil_frame(5);
    for five in [late_meta, late_mark] {
        let log = five.open();
        let ranges: Vec<_> = log.recovered.damaged.iter().map(|r| (r.first.0, r.last.0)).collect();
        assert_eq!((ranges, log.recovered.suspect), (vec![(5, 5)], None));
        assert_eq!(log.recovered.last.as_ref(), Some(five.entries[4].header()));
    }
    // A mark over three entries, and a meta that knows all five.
    let disk = SimDisk::new(3);
    create(&disk.attach(), meta()).unwrap();
    let mut log = open(disk.attach(), small(1)).unwrap();
    let entries = chain_of(None, 3, [300, 310, 320, 330, 340]);
    log.writer.write(&append(entries[..3].to_vec())).unwrap();
    log.writer.sync().unwrap();
    log.writer.mark_idle();
    log.writer.write(&append(entries[3..].to_vec())).unwrap();
    log.writer.sync().unwrap();
    let hard_state = Some(HardState { term: Term(TERM), vote: None });
    log.writer.write(&Batch { hard_state, ..Batch::default() }).unwrap();
    drop(log);
    let five = Five::of(disk, entries);
    assert!(sidecar::read(five.disk.attach().as_ref(), &five.name).is_some_and(|(_, facts)| facts.next == 4));
    five.spoil_frame(5);
    let found = five.open().recovered;
    assert_eq!((found.damaged.len(), found.suspect, found.last), (1, None, Some(*five.entries[4].header())));
}

/// Entries were dropped and none took their place: the newest segment is empty, and the last entry stands in the one
/// before. If that is damaged, the meta knows it; and the entry itself does, as far as it is good.
#[test]
fn the_last_entry_before_an_empty_segment_is_known() {
    let (disk, entries) = {
        let disk = SimDisk::new(3);
        create(&disk.attach(), meta()).unwrap();
        let mut log = open(disk.attach(), small(1)).unwrap();
        let entries = chain_of(None, 1, [200; 6]);
        log.writer.write(&append(entries.clone())).unwrap();
        log.writer.write(&Batch { truncate_from: Some(LogIndex(5)), ..Batch::default() }).unwrap();
        log.writer.close().unwrap();
        disk.crash_keeping(|_| true);
        (disk, entries)
    };
    let names = segments(&disk);
    assert_eq!(names.len(), 2);
    // An empty segment has a sidecar as well, and it is a good one.
    let image = disk.fork();
    image.vanish(&sidecar::name_of(&names[1]));
    assert_eq!(open(image.attach(), small(9)).unwrap().recovered.last.as_ref(), Some(entries[3].header()));
    assert!(sidecar::read(image.attach().as_ref(), &names[1]).is_some_and(|(_, facts)| facts.next == 5));
    let log = open(image.attach(), small(9)).unwrap();
    assert!(log.reader.shared.view().at_rest(2).is_none(), "there is nothing in it to scrub");
    assert!(log.reader.shared.view().at_rest(1).is_some_and(|(segment, ..)| segment.seq == 1));
    drop(log);
    let frame = frame::framed_len(ENTRY_HEADER_BYTES + 200);
    for (into, is_old) in [(20, false), (76, false), (200, false), (200, true)] {
        let five = Five { disk: disk.fork(), name: names[0].clone(), entries: entries.clone(), ats: [0; 6] };
        five.disk.flip_bit(&names[0], 4096 + 3 * frame + into, 1);
        five.forget_sidecar();
        if is_old {
            five.forget_last();
        }
        let log = five.open();
        assert_eq!(log.recovered.last.as_ref(), Some(entries[3].header()), "byte {into}");
        assert_eq!(log.recovered.damaged.iter().map(|r| (r.first.0, r.last.0)).collect::<Vec<_>>(), [(4, 4)]);
        assert_eq!(log.reader.read(LogIndex(1), LogIndex(9), usize::MAX).unwrap(), entries[..3]);
    }
}

/// The newest file is gone. What meta and sidecar know of is a range; unless the log was closed, it may have held more.
#[test]
fn a_newest_file_that_is_gone_is_a_range_or_suspect() {
    let fit = (segment::SEGMENT_BYTES_MAX - SEGMENT_HEADER_BYTES as u64).div_ceil(152);
    let marked = Five::new(5, |log| log.writer.mark_idle());
    let behind = (segment::SEGMENT_BYTES_MAX - marked.ats[5]).div_ceil(152);
    let of_term = |index| Some(Position { index: LogIndex(index), term: Term(TERM) });
    for (what, five, lost, suspect) in [
        ("closed", Five::closed(), 5, None),
        ("killed", Five::new(0, |_| {}), 0, of_term(fit)),
        ("killed behind a mark", marked, 5, of_term(5 + behind)),
    ] {
        five.disk.vanish(&five.name);
        for again in [false, true] {
            let log = five.open();
            let ranges: Vec<_> = log.recovered.damaged.iter().map(|r| (r.first.0, r.last.0)).collect();
            assert_eq!(ranges, if lost > 0 { vec![(1, lost)] } else { vec![] }, "{what}");
            assert_eq!(log.recovered.suspect, suspect, "{what}");
            assert_eq!(log.recovered.suspect_tail.is_some(), suspect.is_some() && !again, "{what}");
            assert_eq!((log.reader.last_index().0, log.recovered.segments), (lost, 0), "{what}");
            assert_eq!((log.reader.bytes_on_disk(), segments(&five.disk).len()), (0, 0), "{what}");
        }
    }
}

/// What no sync has proven is written again before it counts, all of it, a step at a time.
#[test]
fn all_that_is_unproven_is_written_again() {
    let options = Options { segment_bytes: 8 << 20, ..small(1) };
    let disk = SimDisk::new(3);
    create(&disk.attach(), meta()).unwrap();
    let mut log = open(disk.attach(), options.clone()).unwrap();
    log.writer.write(&append(chain_of(None, 1, [250_000; 10]))).unwrap();
    drop(log);
    disk.kill();
    for (skip, fails) in [(0, true), (1, true), (2, true), (3, false)] {
        let image = disk.fork();
        image.inject(Injection { skip, ..Injection::error(Op::Write, ".wal", std::io::ErrorKind::Other) });
        let opened = open(image.attach(), options.clone());
        assert_eq!(opened.is_err(), fails, "after {skip} writes");
    }
}
