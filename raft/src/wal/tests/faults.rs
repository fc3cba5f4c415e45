//! A full disk, failing calls, and syncs that fail once and then pretend.

use std::io;

use super::crash::{Run, run, script};
use super::*;
use crate::HardState;
use crate::wal::sim::{Fault, Injection, Op, SimDisk};

fn opened(disk: &SimDisk) -> Opened {
    if !exists(&disk.attach()).unwrap() {
        create(&disk.attach(), meta()).unwrap();
    }
    open(disk.attach(), small(1)).unwrap()
}

/// At any size of the disk: a batch that does not fit is refused whole, a vote passes, and with space it goes on.
#[test]
fn a_full_disk_refuses_and_recovers() {
    let mut refused = 0;
    for spare in (0..30_000).step_by(997) {
        let disk = SimDisk::new(spare);
        let mut log = opened(&disk);
        disk.set_capacity(Some(2 * META_BYTES as u64 + spare));
        let mut written: Vec<Entry> = Vec::new();
        for round in 0..12 {
            let batch = append(chain_of(written.last().map(|e| *e.header()), 1, [400, 700]));
            match log.writer.write(&batch) {
                Ok(()) => written.extend(batch.append),
                Err(error) => {
                    assert!(error.is_retriable(), "{error}");
                    refused += 1;
                    assert_eq!(log.reader.last_index().0 as usize, written.len());
                }
            }
            let hard_state = Some(HardState { term: Term(round), vote: None });
            log.writer.write(&Batch { hard_state, ..Batch::default() }).unwrap();
            log.writer.sync().unwrap();
        }
        // It must also start with no byte free.
        drop(log);
        disk.crash_keeping(|_| false);
        let used: usize = disk.names().iter().map(|n| disk.contents(n).unwrap().len()).sum();
        disk.set_capacity(Some(used as u64));
        let mut log = open(disk.attach(), small(2)).unwrap();
        assert_eq!(all(&log.reader), written);
        assert_eq!(log.meta.hard_state.term, Term(11));
        let more = append(chain_of(written.last().map(|e| *e.header()), 12, [900]));
        assert!(log.writer.write(&more).unwrap_err().is_retriable());
        disk.heal();
        log.writer.write(&more).unwrap();
        log.writer.sync().unwrap();
        written.extend(more.append);
        disk.crash_keeping(|_| false);
        assert_eq!(all(&open(disk.attach(), small(3)).unwrap().reader), written);
    }
    assert!(refused > 50, "only {refused} refusals");
}

/// A failed write or sync ends the writer for good; the reader lives (R16, D3).
#[test]
fn a_failed_writer_stays_dead() {
    for (op, file) in [(Op::Write, ".wal"), (Op::Sync, ".wal"), (Op::Write, "meta"), (Op::Sync, "meta.b")] {
        let disk = SimDisk::new(1);
        let mut log = opened(&disk);
        let first = chain_of(None, 1, [100, 100]);
        log.writer.write(&append(first.clone())).unwrap();
        log.writer.sync().unwrap();
        disk.inject(Injection::error(op, file, io::ErrorKind::Other));
        let hard_state = Some(HardState { term: Term(1), vote: None });
        let second = chain_of(first.last().map(|e| *e.header()), 1, [50]);
        let batch = Batch { hard_state, ..append(second) };
        let result = log.writer.write(&batch).and_then(|()| log.writer.sync());
        assert!(matches!(result, Err(Error::Io { .. })), "{result:?}");
        for _ in 0..2 {
            assert!(matches!(log.writer.sync(), Err(Error::Poisoned(_))));
            assert!(matches!(log.writer.write(&Batch::default()), Err(Error::Poisoned(_))));
        }
        assert_eq!(log.reader.read(LogIndex(1), LogIndex(2), usize::MAX).unwrap(), first);
    }
}

/// A sync fails, the system calls the pages clean, and the process restarts: it reports what was synced before and of the
/// rest what is really on the platter, and that is still there when the machine dies (fsyncgate) (D3).
#[test]
fn what_a_failed_sync_lost_is_not_reported() {
    for seed in 0..50 {
        let disk = SimDisk::new(seed);
        let mut log = opened(&disk);
        let first = chain_of(None, 1, [100, 700]);
        log.writer.write(&append(first.clone())).unwrap();
        log.writer.sync().unwrap();
        let second = chain_of(first.last().map(|e| *e.header()), 1, [600, 30, 800]);
        log.writer.write(&append(second.clone())).unwrap();
        disk.inject(Injection::error(Op::Sync, ".wal", io::ErrorKind::Other));
        log.writer.sync().unwrap_err();
        disk.kill();
        let log = open(disk.attach(), small(2)).unwrap();
        let found = all(&log.reader);
        assert!(found.starts_with(&first) && [first, second].concat().starts_with(&found));
        disk.crash_keeping(|_| false);
        assert_eq!(all(&open(disk.attach(), small(3)).unwrap().reader), found);
    }
}

/// Each call of a whole life fails once: the process dies of it or goes on, and nothing promised is lost.
#[test]
fn every_failing_call_is_survived() {
    let script = script();
    let mut fired = 0;
    let every = Sweep::new().every;
    let all_ops = [
        Op::List,
        Op::Open,
        Op::Create,
        Op::Rename,
        Op::Remove,
        Op::SyncDir,
        Op::Read,
        Op::Write,
        Op::Sync,
        Op::Len,
        Op::SetLen,
    ];
    for op in all_ops {
        for skip in (0..).step_by(every as usize) {
            let disk = SimDisk::new(skip);
            disk.inject(Injection { op, name: String::new(), skip, fault: Fault::Error(io::ErrorKind::Other) });
            let run = run(&disk, &script);
            if disk.counters().errors == 0 {
                break;
            }
            fired += 1;
            for crash in [false, true] {
                let image = disk.fork();
                judge(&image, &run, crash);
            }
        }
    }
    println!("{fired} failing calls");
    assert!(fired > 200 / every);
}

fn judge(image: &SimDisk, run: &Run, crash: bool) {
    image.heal();
    if crash {
        image.crash();
    } else {
        image.kill();
    }
    if !exists(&image.attach()).unwrap() {
        assert_eq!(run.model.boot_epoch, 0);
        return;
    }
    let log = open(image.attach(), small(50)).unwrap();
    run.judge(&log);
    let (found, hard_state) = (all(&log.reader), log.meta.hard_state);
    image.crash_keeping(|_| false);
    let log = open(image.attach(), small(51)).unwrap();
    assert_eq!((all(&log.reader), log.meta.hard_state), (found, hard_state));
}

/// A batch that breaks the contract is refused before anything is written.
#[test]
fn a_wrong_batch_changes_nothing() {
    let disk = SimDisk::new(1);
    let mut log = opened(&disk);
    let entries = chain_of(None, 2, [10, 10, 10]);
    let unborn = Batch { append: entries.clone(), ..Batch::default() };
    assert!(matches!(log.writer.write(&unborn), Err(Error::RefusedEntry { .. })));
    let vote = |term, node| Some(HardState { term: Term(term), vote: NodeId::new(node) });
    log.writer.write(&Batch { hard_state: vote(2, 1), ..append(entries.clone()) }).unwrap();
    log.writer.sync().unwrap();
    let last = *entries[2].header();
    let next = after(Some(&last), 2, b"");
    let mut other_chain = last;
    other_chain.chain += 1;
    let steps = disk.steps();
    let batches = [
        Batch { hard_state: vote(1, 1), ..Batch::default() },
        Batch { hard_state: vote(2, 2), ..Batch::default() },
        Batch { hard_state: vote(2, 0), ..Batch::default() },
        Batch { log_id: Some([1; 16]), ..Batch::default() },
        Batch { truncate_from: Some(LogIndex(0)), ..Batch::default() },
        Batch { truncate_from: Some(LogIndex(5)), ..Batch::default() },
        append(vec![after(Some(&last), 1, b"a lower term")]),
        append(vec![after(Some(&other_chain), 2, b"another history")]),
        append(vec![after(Some(entries[1].header()), 2, b"there is one")]),
        append(vec![next.clone(), next.clone()]),
        Batch { truncate_from: Some(LogIndex(3)), ..append(vec![next.clone()]) },
    ];
    for batch in batches {
        let error = log.writer.write(&batch).unwrap_err();
        assert!(matches!(error, Error::Refused(_) | Error::RefusedEntry { .. }), "{error}");
    }
    assert_eq!(disk.steps(), steps);
    log.writer.write(&append(vec![next])).unwrap();
    log.writer.sync().unwrap();
    assert_eq!(all(&log.reader).len(), 4);
}

/// A disk that loses or misplaces a write it confirmed: as soon as anything durable follows, the hole is damage and
/// not a tail.
#[test]
fn a_lost_write_is_missed_once_another_follows() {
    for fault in [Fault::Lost, Fault::Misdirected(1), Fault::Misdirected(4)] {
        let disk = SimDisk::new(1);
        let mut log = opened(&disk);
        let entries = chain_of(None, 1, [700, 700, 700]);
        for (at, entry) in entries.iter().enumerate() {
            if at == 1 {
                disk.inject(Injection { op: Op::Write, name: ".wal".to_owned(), skip: 0, fault });
            }
            log.writer.write(&append(vec![entry.clone()])).unwrap();
            log.writer.sync().unwrap();
        }
        let fired = disk.counters();
        assert_eq!(fired.writes_lost + fired.writes_misdirected, 1);
        disk.crash_keeping(|_| false);
        let log = open(disk.attach(), small(2)).unwrap();
        let lost = |range: &DamagedRange| range.first <= LogIndex(2) && LogIndex(2) <= range.last;
        assert!(log.recovered.damaged.iter().any(lost), "{fault:?}: {:?}", log.recovered);
        assert_eq!(log.recovered.last.as_ref(), Some(entries[2].header()));
    }
}
