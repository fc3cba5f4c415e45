//! A disk without room, at any call: nothing is lost, votes go on, and with room so does everything else.

use std::io;

use super::*;
use crate::wal::sim::{Injection, Op, SimDisk};
use crate::{HardState, PersistTicket};

fn opened(disk: &SimDisk, seed: u64) -> Opened {
    if !exists(&disk.attach()).unwrap() {
        create(&disk.attach(), meta()).unwrap();
    }
    open(disk.attach(), small(seed)).unwrap()
}

fn used(disk: &SimDisk) -> u64 {
    disk.names().iter().map(|n| disk.contents(n).unwrap().len() as u64).sum()
}

fn vote(term: u64) -> Batch {
    Batch { hard_state: Some(HardState { term: Term(term), vote: NodeId::new(term) }), ..Batch::default() }
}

/// Each call that can find the disk full does once, in a life of rotations, truncations and votes. What was refused passes
/// when it is tried again; what killed the writer is survived by a start that finds no free byte.
#[test]
fn a_disk_that_is_full_at_any_call_loses_nothing() {
    let (mut refused, mut died) = (0, 0);
    for op in [Op::Create, Op::Write, Op::Rename, Op::SetLen, Op::Remove] {
        for skip in 0.. {
            let disk = SimDisk::new(skip);
            let mut log = opened(&disk, 1);
            let mut injection = Injection::error(op, "", io::ErrorKind::StorageFull);
            injection.skip = skip;
            disk.inject(injection);
            let mut written: Vec<Entry> = Vec::new();
            for round in 1..12 {
                let keep = if round == 8 { written.len() - 3 } else { written.len() };
                let truncate_from = (keep < written.len()).then_some(LogIndex(keep as u64 + 1));
                written.truncate(keep);
                let append = chain_of(written.last().map(|e| *e.header()), round, [700, 600, 900]);
                let batch = Batch { log_id: Some(LOG_ID), truncate_from, append, ..vote(round) };
                let mut tries = 0;
                while let Err(error) = log.writer.write(&batch).and_then(|()| log.writer.sync()) {
                    tries += 1;
                    assert!(tries < 3 && !matches!(error, Error::RefusedEntry { .. }), "{op:?} {skip}: {error}");
                    if error.is_retriable() {
                        refused += 1;
                        continue;
                    }
                    // It aborts, and starts with no byte free.
                    died += 1;
                    drop(log);
                    disk.kill();
                    disk.set_capacity(Some(used(&disk)));
                    log = open(disk.attach(), small(2)).unwrap();
                    assert!(all(&log.reader).len() >= keep, "{op:?} {skip}");
                    log.writer.write(&vote(log.meta.hard_state.term.0 + 20)).unwrap();
                    disk.heal();
                    return_to(&mut log, &batch);
                    break;
                }
                written.extend(batch.append);
                // The fault is over, and the term is beyond the script's.
                if log.writer.meta().hard_state.term.0 >= 20 {
                    break;
                }
            }
            assert_eq!(all(&log.reader), written, "{op:?} {skip}");
            drop(log);
            disk.heal();
            disk.crash_keeping(|_| false);
            assert_eq!(all(&open(disk.attach(), small(3)).unwrap().reader), written, "{op:?} {skip}");
            if disk.counters().errors == 0 {
                break;
            }
        }
    }
    println!("{refused} refused, {died} died");
    assert!(refused > 10 && died > 10, "{refused} refused, {died} died");
}

/// What a batch wanted of the log, whatever part of it survived.
fn return_to(log: &mut Opened, batch: &Batch) {
    let first = batch.append[0].header().index;
    let truncate_from = (log.reader.last_index() >= first).then_some(first);
    let again = Batch { hard_state: None, truncate_from, ..batch.clone() };
    log.writer.write(&again).unwrap();
    log.writer.sync().unwrap();
}

/// Terms and votes overtake entries that wait for room, entries keep their order, and a crash in between leaves the votes.
#[test]
fn votes_overtake_what_waits_for_room() {
    for crash in [false, true] {
        let disk = SimDisk::new(1);
        let mut log = opened(&disk, 1);
        let first = chain_of(None, 1, [300]);
        log.writer.write(&append(first.clone())).unwrap();
        log.writer.sync().unwrap();
        disk.set_capacity(Some(used(&disk)));
        let more = chain_of(first.last().map(|e| *e.header()), 2, [6000, 6000]);
        let mut queue = Queue::default();
        queue.push(PersistTicket(1), Batch { append: vec![more[0].clone()], ..vote(2) });
        queue.push(PersistTicket(2), vote(3));
        queue.push(PersistTicket(3), append(vec![more[1].clone()]));
        queue.push(PersistTicket(4), vote(5));
        assert!(queue.write_next(&mut log.writer).unwrap().unwrap_err().is_retriable());
        let (ticket, hard_state) = queue.overtake(&mut log.writer).unwrap().unwrap();
        assert_eq!((ticket, Some(hard_state)), (PersistTicket(4), vote(5).hard_state));
        assert!(queue.overtake(&mut log.writer).unwrap().is_none(), "said once");
        if crash {
            disk.crash_keeping(|_| false);
            let log = open(disk.attach(), small(2)).unwrap();
            assert_eq!((all(&log.reader), log.meta.hard_state.term), (first, Term(5)));
            continue;
        }
        disk.heal();
        for expected in 1..=4 {
            let (ticket, _) = queue.write_next(&mut log.writer).unwrap().unwrap();
            assert_eq!(ticket, PersistTicket(expected));
        }
        assert!(queue.is_empty() && queue.write_next(&mut log.writer).is_none());
        log.writer.sync().unwrap();
        disk.crash_keeping(|_| false);
        let log = open(disk.attach(), small(2)).unwrap();
        assert_eq!((all(&log.reader), log.meta.hard_state.term), ([first, more].concat(), Term(5)));
    }
}

/// Zeros are written ahead in steps; where no whole step fits any more, what is needed does.
#[test]
fn the_last_bytes_of_a_disk_are_used() {
    let disk = SimDisk::new(1);
    let mut log = opened(&disk, 1);
    let mut written: Vec<Entry> = Vec::new();
    let mut one = |log: &mut Opened, size| {
        let next = chain_of(written.last().map(|e| *e.header()), 1, [size]);
        log.writer.write(&append(next.clone())).map(|()| written.extend(next))
    };
    one(&mut log, 100).unwrap();
    let capacity = used(&disk) + 400;
    disk.set_capacity(Some(capacity));
    let mut passed = 0;
    while one(&mut log, 100).is_ok() {
        passed += 1;
    }
    assert!(passed > 1 && capacity - used(&disk) < 400, "{passed} passed, {} free", capacity - used(&disk));
    let space = disk.attach().space().unwrap();
    assert!(space.free == capacity - used(&disk) && space.total >= capacity, "{space:?}");
}

/// The system calls pages clean whose sync has failed: a second sync says yes, and the bytes are gone. That is why it is
/// never tried (fsyncgate), and why a start drops what is only cached.
#[test]
fn a_sync_that_is_tried_again_lies() {
    let mut lied = 0;
    for seed in 0..20 {
        let disk = SimDisk::new(seed);
        let file = disk.attach().create("f").unwrap();
        file.set_len(4096).unwrap();
        file.sync_all().unwrap();
        disk.attach().sync_dir().unwrap();
        file.write_at(&[7; 4096], 0).unwrap();
        disk.inject(Injection::error(Op::Sync, "f", io::ErrorKind::Other));
        file.sync_data().unwrap_err();
        file.sync_data().unwrap();
        let mut cached = [0; 4096];
        file.read_at(&mut cached, 0).unwrap();
        assert_eq!(cached, [7; 4096], "the cache has it");
        file.forget_cached(0, 0);
        file.read_at(&mut cached, 0).unwrap();
        disk.crash_keeping(|_| true);
        assert_eq!(disk.contents("f").unwrap(), cached, "what is read then is what is there");
        lied += u32::from(cached != [7; 4096]);
    }
    assert!(lied > 15, "{lied} of 20");
}
