//! The format against its promises, and the store on a disk that loses, fills and rots.

use super::*;
use crate::machine::registry::{Command, Registration};
use crate::record::{Record, encode_batch};
use bytes::BytesMut;
use quorate_raft::wal::sim::SimDisk;
use quorate_raft::wal::{CHAIN_GENESIS, Entry, EntryFields, EntryKind};
use quorate_raft::{Term, Wall};
use std::collections::BTreeSet;

/// The state at entry `index`, with so many streams.
pub(super) fn example(index: u64, streams: usize) -> Checkpoint {
    let mut registry = Registry::default();
    let register =
        |node, name: &str| Command::Register(Registration { node, name: name.into(), epoch: node, boot: 7 * node });
    [register(1, "a"), register(2, "b"), register(3, "b"), register(4, "d"), register(5, "e")]
        .into_iter()
        .for_each(|command| registry.apply(command));
    registry.apply(Command::Depart { node: 4 });
    registry.apply(Command::Forget { node: 5, name: "e".into() });
    let (mut log, mut flight) = (LogMachine::default(), crate::machine::log::InFlight::default());
    for at in 0..streams {
        let record = Record { stream: format!("stream-{at}"), ..Record::of("v") };
        let mut batch = BytesMut::from(encode_batch([record].iter()).unwrap().as_ref());
        let given = flight.number(&log, &mut batch).unwrap();
        flight.keep(given);
        log.apply(at as u64, 1, &batch).unwrap();
        flight.clear();
    }
    let log_id = *b"a log of a test!";
    let fields = EntryFields {
        seed: seed(&log_id),
        index: LogIndex(index),
        term: Term(4),
        kind: EntryKind::Noop,
        base_offset: streams as u64,
        count: 0,
        time: Wall(1_700_000_000_000_000),
        lamport: 12,
        shard: 0,
        session: 0,
        seq: 0,
    };
    let voters: BTreeSet<NodeId> = [1, 2, 3].into_iter().filter_map(NodeId::new).collect();
    Checkpoint {
        cluster: *b"a test's cluster",
        log_id,
        node: NodeId::new(3).unwrap(),
        last: *Entry::seal(fields, CHAIN_GENESIS, b"").header(),
        lamport: 12,
        record_bytes_max: 1 << 20,
        configuration: (LogIndex(2), Configuration { voters, ..Configuration::default() }),
        runs: vec![Run { first: LogIndex(1), term: Term(1) }, Run { first: LogIndex(3), term: Term(4) }],
        boots: vec![(1, 2, 3), (2, 9, 8)],
        registry,
        log,
    }
}

fn bytes_of(checkpoint: &Checkpoint) -> Vec<u8> {
    let mut bytes = Vec::new();
    let len = encode(checkpoint, |piece| {
        bytes.extend_from_slice(piece);
        Ok::<(), ()>(())
    });
    assert_eq!(len, Ok(bytes.len() as u64));
    bytes
}

fn read(bytes: &[u8]) -> Result<Checkpoint, Invalid> {
    decode(bytes.len() as u64, |at, buf| {
        let piece = bytes.get(at as usize..at as usize + buf.len()).ok_or(std::io::ErrorKind::UnexpectedEof)?;
        buf.copy_from_slice(piece);
        Ok(())
    })
}

#[test]
fn what_was_written_is_read_however_many_chunks_it_takes() {
    for streams in [0, 1, 20_000] {
        let checkpoint = example(9, streams);
        assert_eq!(read(&bytes_of(&checkpoint)).unwrap(), checkpoint);
    }
}

/// Format version 1, as it was when it was released: a file of it must be read by every later program.
#[test]
fn a_file_of_the_first_version_is_read_for_ever() {
    let golden = include_bytes!("../../tests/data/checkpoint-v1.ckpt");
    assert_eq!(read(golden).unwrap(), example(9, 3));
    assert_eq!(bytes_of(&example(9, 3)), golden, "the format changed: it needs another version");
}

#[test]
fn any_flipped_bit_any_cut_and_any_tail_are_found() {
    let good = bytes_of(&example(9, 3));
    for at in 0..good.len() {
        for bit in 0..8 {
            let mut bad = good.clone();
            bad[at] ^= 1 << bit;
            assert!(read(&bad).is_err(), "bit {bit} of byte {at}");
            assert!(verify_all(&bad).is_err(), "bit {bit} of byte {at}");
        }
        assert!(read(&good[..at]).is_err(), "cut at {at}");
    }
    assert!(read(&[&good[..], &[0]].concat()).is_err());
    verify_all(&good).unwrap();
}

fn verify_all(bytes: &[u8]) -> Result<(), Invalid> {
    verify(bytes.len() as u64, |at, buf| {
        let piece = bytes.get(at as usize..at as usize + buf.len()).ok_or(std::io::ErrorKind::UnexpectedEof)?;
        buf.copy_from_slice(piece);
        Ok(())
    })
}

#[test]
#[should_panic(expected = "no reader accepts")]
fn parts_that_contradict_each_other_are_never_written() {
    let mut checkpoint = example(9, 3);
    checkpoint.log = LogMachine::at(2);
    bytes_of(&checkpoint);
}

// ---- the store ----

fn load(store: &Store, like: &Checkpoint) -> Loaded {
    store.load(like.cluster, like.node, Some(like.log_id), |_| Ok(()))
}

fn at(loaded: &Loaded) -> Option<u64> {
    loaded.checkpoint.as_ref().map(|c| c.index().0)
}

#[test]
fn the_newest_is_loaded_and_two_are_kept() {
    let disk = SimDisk::new(1);
    let store = Store::new(disk.attach());
    for index in [5, 9, 11, 100] {
        store.save(&example(index, 3)).unwrap();
    }
    assert_eq!(store.list().unwrap(), [LogIndex(11), LogIndex(100)]);
    let loaded = load(&store, &example(1, 0));
    assert_eq!((at(&loaded), loaded.passed_over.len()), (Some(100), 0));
    assert_eq!(loaded.checkpoint, Some(example(100, 3)));
}

/// A crash at each step of a save, with each draw of what survives: the start finds the newest one that was confirmed, or
/// the one that was being saved.
#[test]
fn a_crash_at_any_step_of_a_save_leaves_a_checkpoint() {
    for step in 0.. {
        for draw in 0..8 {
            let disk = SimDisk::new(draw);
            disk.set_torn_sectors(true);
            let store = Store::new(disk.attach());
            store.save(&example(5, 3)).unwrap();
            store.save(&example(9, 300)).unwrap();
            disk.power_off_after(step);
            let saved = store.save(&example(12, 600));
            disk.crash();
            disk.heal();
            let store = Store::new(disk.attach());
            let loaded = load(&store, &example(1, 0));
            let allowed: &[u64] = if saved.is_ok() { &[12] } else { &[9, 12] };
            assert!(at(&loaded).is_some_and(|at| allowed.contains(&at)), "step {step}, draw {draw}: {loaded:?}");
            store.save(&example(20, 3)).unwrap();
            assert_eq!(at(&load(&store, &example(1, 0))), Some(20));
            let left: Vec<String> = disk.names();
            assert_eq!(left.len(), 2, "step {step}, draw {draw}: {left:?}");
            if saved.is_ok() && draw == 7 {
                assert!(step >= 7, "only {step} steps were crashed in");
                return;
            }
        }
    }
}

#[test]
fn a_damaged_one_is_named_and_the_older_one_taken_and_then_none() {
    let disk = SimDisk::new(1);
    let store = Store::new(disk.attach());
    store.save(&example(5, 3)).unwrap();
    store.save(&example(9, 3)).unwrap();
    assert!(disk.flip_bit("9-4.ckpt", 200, 3));
    let loaded = load(&store, &example(1, 0));
    assert_eq!(at(&loaded), Some(5));
    let told = loaded.passed_over[0].to_string();
    assert!(told.contains("9-4.ckpt") && told.contains("byte 128"), "{told}");
    assert!(disk.names().contains(&"9-4.ckpt.broken".to_owned()));
    // The next start does not stumble over it again, and the next save removes it.
    assert_eq!(load(&store, &example(1, 0)).passed_over, []);
    disk.flip_bit("5-4.ckpt", 300, 0);
    let loaded = load(&store, &example(1, 0));
    assert_eq!((at(&loaded), loaded.passed_over.len()), (None, 1));
    store.save(&example(12, 3)).unwrap();
    assert_eq!(disk.names(), ["12-4.ckpt"]);
}

/// After a hard stop the newest file is empty, or a stub: the start goes on with the older one.
#[test]
fn an_empty_or_tiny_newest_file_is_passed_over() {
    for len in [0, 1, 8, 127, 128, 175, 176, 500] {
        let disk = SimDisk::new(1);
        let store = Store::new(disk.attach());
        store.save(&example(5, 3)).unwrap();
        store.save(&example(9, 3)).unwrap();
        disk.cut("9-4.ckpt", len);
        let loaded = load(&store, &example(1, 0));
        assert_eq!((at(&loaded), loaded.passed_over.len()), (Some(5), 1), "{len} bytes");
    }
}

#[test]
fn one_that_the_log_does_not_bear_out_or_of_another_node_is_passed_over() {
    let disk = SimDisk::new(1);
    let store = Store::new(disk.attach());
    store.save(&example(5, 3)).unwrap();
    store.save(&example(9, 3)).unwrap();
    let like = example(1, 0);
    let stands = |last: &EntryHeader| if last.index.0 <= 7 { Ok(()) } else { Err("ahead of the log".to_owned()) };
    let loaded = store.load(like.cluster, like.node, Some(like.log_id), stands);
    assert_eq!((at(&loaded), loaded.passed_over.len()), (Some(5), 1));
    let loaded = store.load(like.cluster, NodeId::new(77).unwrap(), Some(like.log_id), |_| Ok(()));
    assert_eq!((at(&loaded), loaded.passed_over.len()), (None, 1));
}

/// A full disk costs no checkpoint that is there, and leaves no stub that takes the last bytes.
#[test]
fn a_full_disk_is_a_failed_save_and_no_more() {
    let disk = SimDisk::new(1);
    let store = Store::new(disk.attach());
    store.save(&example(5, 3)).unwrap();
    disk.set_capacity(Some(2000));
    let trouble = store.save(&example(9, 3000)).unwrap_err().to_string();
    assert!(trouble.contains("9-4.ckpt"), "{trouble}");
    assert_eq!(disk.names(), ["5-4.ckpt"]);
    disk.set_capacity(None);
    store.save(&example(9, 3000)).unwrap();
    assert_eq!(at(&load(&store, &example(1, 0))), Some(9));
}
