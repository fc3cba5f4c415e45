//! Repair: proven on both sides, in pieces, at any moment of which the power may go.

use super::heal::{End, Truth, judge, life, repair_all, segments};
use super::*;
use crate::wal::sim::SimDisk;

/// A log with damage of every kind: a frame, a header, neighbours, a segment that is gone and the end of the one before.
fn damaged() -> (SimDisk, Truth) {
    let (disk, truth) = life(End::Closed);
    let names = segments(&disk);
    let frame = frame::framed_len(ENTRY_HEADER_BYTES + 200);
    disk.flip_bit(&names[0], 4096 + 2 * frame + 200, 1);
    disk.flip_bit(&names[0], 4096 + 4 * frame + 9, 1);
    disk.flip_bit(&names[0], 4096 + 5 * frame + 99, 1);
    disk.flip_bit(&names[1], 4096 + 8 * frame + 300, 1);
    disk.vanish(&names[2]);
    (disk, truth)
}

/// The entries of the wrong history, of the wrong place, or not all of them: refused, and nothing has changed.
#[test]
fn only_what_stood_there_is_taken() {
    let (disk, truth) = damaged();
    let mut log = open(disk.attach(), small(9)).unwrap();
    let ranges = log.reader.damaged();
    let shape: Vec<_> = ranges.iter().map(|r| (r.first.0, r.last.0)).collect();
    assert_eq!(shape, [(3, 3), (5, 6), (18, 25)]);
    let before: Vec<_> = disk.names().into_iter().map(|n| (n.clone(), disk.contents(&n))).collect();
    let other = chain_of(Some(*truth.entries[1].header()), 1, [201]);
    let mut forged = truth.entries[2].bytes().to_vec();
    forged[ENTRY_HEADER_BYTES] ^= 1;
    let crc = crc32c::crc32c(&forged[ENTRY_HEADER_BYTES..]).to_le_bytes();
    forged[88..92].copy_from_slice(&crc);
    let crc = crc32c::crc32c(&forged[..92]).to_le_bytes();
    forged[92..96].copy_from_slice(&crc);
    let forged = Entry::decode(forged.into()).unwrap();
    // It follows, and is as long, but the next one does not follow it.
    let twin = after(Some(truth.entries[1].header()), 1, &[9; 200]);
    for wrong in [&other[..], &[forged], &[twin], &truth.entries[3..4], &truth.entries[5..6], &truth.entries[18..20]] {
        match log.writer.repair(wrong) {
            Err(Error::NotRepaired { .. }) => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(matches!(log.writer.repair(&[]), Err(Error::Refused(_))));
    // A piece that fits, then one that does not: the range begins anew.
    assert_eq!(log.writer.repair(&truth.entries[17..20]).unwrap(), Repaired::Wants(LogIndex(21)));
    assert!(matches!(log.writer.repair(&truth.entries[22..25]), Err(Error::NotRepaired { .. })));
    assert_eq!(log.reader.damaged(), ranges);
    let after: Vec<_> = disk.names().into_iter().map(|n| (n.clone(), disk.contents(&n))).collect();
    assert_eq!(before, after);
    assert_eq!(repair_all(&mut log, &truth, 3), 3);
    assert_eq!(all(&log.reader), truth.entries);
    assert!(log.reader.points() > 3);
    // Appends go on.
    let more = chain_of(log.writer.last().copied(), 9, [10]);
    log.writer.write(&append(more)).unwrap();
    log.writer.sync().unwrap();
}

/// What this life wrote and is damaged while it still takes frames: it takes no more, and is made good.
#[test]
fn the_active_segment_is_repaired() {
    let (disk, mut log, entries) = super::cut::six();
    let frame = frame::framed_len(ENTRY_HEADER_BYTES + 100);
    disk.flip_bit(&segments(&disk)[0], 4096 + 2 * frame + 60, 1);
    assert!(log.reader.read(LogIndex(3), LogIndex(3), 0).is_err());
    let whole = Repaired::Whole { first: LogIndex(3), last: LogIndex(3) };
    assert_eq!(log.writer.repair(&entries[2..3]).unwrap(), whole);
    assert_eq!(all(&log.reader), entries);
    let more = chain_of(entries.last().map(|e| *e.header()), 1, [7]);
    log.writer.write(&append(more.clone())).unwrap();
    log.writer.sync().unwrap();
    drop(log);
    disk.crash_keeping(|_| false);
    assert_eq!(all(&open(disk.attach(), small(2)).unwrap().reader), [entries, more].concat());
}

/// Copies are made beside the writer, which goes on meanwhile: what it wrote stays. Where it dropped what was being repaired,
/// or what follows, or more was found to be damaged, the copies are thrown away, and a new beginning passes.
#[test]
fn what_changes_while_copies_are_made_counts() {
    let place = |log: &mut Opened, repairer: &mut Repairer, entries: &[Entry], between: &dyn Fn(&mut Opened)| {
        let Ok(Given::Proven(proven)) = repairer.give(entries) else { panic!("they fit") };
        between(log);
        log.writer.put_in_place(proven)
    };
    let cut = |log: &mut Opened, from: usize, truth: &Truth| {
        let next = chain_of(from.checked_sub(2).map(|at| *truth.entries[at].header()), 9, [30]);
        let batch = Batch { truncate_from: Some(LogIndex(from as u64)), ..append(next) };
        log.writer.write(&batch).unwrap();
        log.writer.sync().unwrap();
    };
    let (disk, truth) = damaged();
    let frame = frame::framed_len(ENTRY_HEADER_BYTES + 200);
    let opened = |disk: &SimDisk| {
        let log = open(disk.attach(), small(9)).unwrap();
        let repairer = log.writer.repairer();
        (log, repairer)
    };

    // Appends do not disturb it.
    let run = disk.fork();
    let (mut log, mut repairer) = opened(&run);
    let more = chain_of(log.writer.last().copied(), 9, [10, 700, 700, 700]);
    let appended = |log: &mut Opened| {
        log.writer.write(&append(more.clone())).unwrap();
        log.writer.sync().unwrap();
    };
    let whole = Repaired::Whole { first: LogIndex(3), last: LogIndex(3) };
    assert_eq!(place(&mut log, &mut repairer, &truth.entries[2..3], &appended).unwrap(), whole);
    assert_eq!(log.reader.read(LogIndex(1), LogIndex(4), usize::MAX).unwrap(), truth.entries[..4]);
    assert_eq!(log.reader.last_index().0, truth.entries.len() as u64 + 4);

    // The range is dropped, the entry behind it is, a part of it is, and more of the neighbourhood is found to be damaged.
    let rot = |log: &mut Opened, disk: &SimDisk| {
        disk.flip_bit(&segments(disk)[0], 4096 + 6 * frame + 100, 1);
        assert!(log.reader.read(LogIndex(7), LogIndex(7), 0).is_err());
    };
    type Change<'a> = &'a dyn Fn(&mut Opened, &SimDisk);
    let changes: [(&str, Change<'_>); 3] = [
        ("the range is dropped", &|log, _| cut(log, 3, &truth)),
        ("more is damaged", &|log, disk| rot(log, disk)),
        ("what came before is dropped", &|log, _| cut(log, 2, &truth)),
    ];
    for (what, change) in changes {
        let run = disk.fork();
        let (mut log, mut repairer) = opened(&run);
        let refused = place(&mut log, &mut repairer, &truth.entries[4..6], &|log| change(log, &run));
        assert!(matches!(refused, Err(Error::NotRepaired { .. })), "{what}: {refused:?}");
        assert!(run.names().iter().all(|name| !name.ends_with(".tmp")), "{what}: a copy is left");
        while let Some(range) = log.reader.damaged().first().cloned() {
            let entries = &truth.entries[range.first.0 as usize - 1..range.last.0 as usize];
            let Ok(Given::Proven(proven)) = repairer.give(entries) else { panic!("{what}: they fit") };
            log.writer.put_in_place(proven).unwrap();
        }
        let there = all(&log.reader);
        let kept = there.iter().zip(&truth.entries).take_while(|(a, b)| a == b).count();
        assert_eq!(there.len(), if what == "more is damaged" { truth.entries.len() } else { kept + 1 }, "{what}");
    }
}

/// No room for the copy: nothing changes, and later it passes.
#[test]
fn a_full_disk_delays_a_repair() {
    let (disk, truth) = damaged();
    let mut log = open(disk.attach(), small(9)).unwrap();
    let used: usize = disk.names().iter().map(|n| disk.contents(n).unwrap().len()).sum();
    disk.set_capacity(Some(used as u64 + 3000));
    let error = log.writer.repair(&truth.entries[2..3]).unwrap_err();
    assert!(error.is_retriable(), "{error}");
    assert_eq!(log.reader.damaged().len(), 3);
    disk.heal();
    assert_eq!(repair_all(&mut log, &truth, 3), 3);
    assert_eq!(all(&log.reader), truth.entries);
}

/// The power goes at every step of the repairs, and any subset of up to six unsynced things survives: the next start finds
/// the damage or the entries, never anything else, and the repair passes then.
#[test]
fn every_crash_of_a_repair_is_survived() {
    let (disk, truth) = damaged();
    let before = judge(&disk.fork(), &truth);
    assert_eq!(before.lost.len(), 11);
    let (mut images, mut half, mut sweep) = (0_u64, 0_u64, Sweep::new());
    for steps in 0.. {
        assert!(steps < 1_000);
        let run = disk.fork();
        run.power_off_after(steps);
        let finished = open(run.attach(), small(30)).is_ok_and(|mut log| {
            let mut done = true;
            for range in log.reader.damaged() {
                for piece in truth.entries[range.first.0 as usize - 1..range.last.0 as usize].chunks(3) {
                    done = done && log.writer.repair(piece).is_ok();
                }
            }
            done && log.reader.damaged().is_empty()
        });
        let unsynced = run.unsynced();
        let free = unsynced.len().min(6);
        let fixed = unsynced.len() - free;
        for others in [false, true] {
            for subset in 0..1_u32 << free {
                if fixed == 0 && others || !sweep.takes() {
                    continue;
                }
                let image = run.fork();
                image.crash_keeping(|item| match unsynced.iter().position(|u| u == item) {
                    Some(at) if at >= fixed => subset & (1 << (at - fixed)) != 0,
                    Some(_) => others,
                    None => true,
                });
                images += 1;
                let mut log = open(image.attach(), small(31)).unwrap();
                let left: Vec<u64> = log.reader.damaged().iter().flat_map(|r| r.first.0..=r.last.0).collect();
                assert!(left.iter().all(|index| before.lost.contains(index)), "{left:?}");
                half += u64::from(!left.is_empty() && left.len() < before.lost.len());
                assert_eq!(log.recovered.last.as_ref(), truth.entries.last().map(Entry::header));
                repair_all(&mut log, &truth, 4);
                assert_eq!(all(&log.reader), truth.entries);
                drop(log);
                image.crash_keeping(|_| false);
                let log = open(image.attach(), small(32)).unwrap();
                assert_eq!((all(&log.reader).len(), log.recovered.damaged.len()), (truth.entries.len(), 0));
            }
        }
        if finished {
            println!("{steps} steps of a repair, {images} crash images, {half} of them half repaired, 0 bad");
            assert!(steps > 30 && half > 10 / sweep.every);
            break;
        }
    }
}
