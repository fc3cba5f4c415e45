//! What the write-ahead log costs: batches of one size, each made durable, beside a raw write and `fdatasync` of as many
//! bytes in a zero-filled file.
//!
//! With `QUORATE_BENCH_OPEN_GIB=10` also a log of so many GiB: how long a start takes, with the system's cache as it is, and
//! how fast a scrub reads it past the cache.
//!
//! `cargo bench -p quorate-raft --bench wal`; the disk is that of the target directory, or of `QUORATE_BENCH_DIR`.

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use quorate_raft::wal::{
    Batch, CHAIN_GENESIS, Disk, Entry, EntryFields, EntryHeader, EntryKind, Meta, Options, OsDisk, ScrubCursor,
};
use quorate_raft::wal::{Writer, create, open};
use quorate_raft::{LogIndex, NodeId, Term, Wall};
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

const LOG_ID: [u8; 16] = *b"0123456789abcdef";
/// Bytes of one record, for the count of records.
const RECORD_BYTES: usize = 256;
/// A log that has grown by this much gives way to a new one, so that the disk does not fill, in bytes.
const LOG_BYTES_MAX: u64 = 256 << 20;
/// The raw file; written again from its start when its end is reached.
const RAW_BYTES: u64 = 64 << 20;

fn dir() -> TempDir {
    let within =
        std::env::var_os("QUORATE_BENCH_DIR").map_or_else(|| env!("CARGO_TARGET_TMPDIR").into(), PathBuf::from);
    tempfile::tempdir_in(within).expect("a directory for the log")
}

/// A log that takes batches of one size for ever.
struct Log {
    writer: Writer,
    last: Option<EntryHeader>,
    payload: Vec<u8>,
    records: u32,
    written: u64,
    _dir: TempDir,
}

impl Log {
    fn new(bytes: usize) -> Self {
        let dir = dir();
        let disk: Arc<dyn Disk> = Arc::new(OsDisk::open(dir.path().join("log")).expect("a directory"));
        create(&disk, Meta::new([7; 16], NodeId::new(42).expect("not zero"))).expect("an empty directory");
        let writer = open(disk, Options::default()).expect("a new log").writer;
        let records = u32::try_from(bytes.div_ceil(RECORD_BYTES)).expect("few records");
        Self { writer, last: None, payload: vec![7; bytes], records, written: 0, _dir: dir }
    }

    /// The next entry. Sealing it is the leader's work and not the log's.
    fn next(&mut self) -> Batch {
        if self.written > LOG_BYTES_MAX {
            *self = Self::new(self.payload.len());
        }
        self.written += self.payload.len() as u64;
        let fields = EntryFields {
            seed: u64::from_le_bytes(LOG_ID[..8].try_into().expect("eight bytes")),
            index: self.last.map_or(LogIndex(1), |last| last.index.next()),
            term: Term(1),
            kind: EntryKind::Normal,
            base_offset: self.last.map_or(0, |last| last.next_offset()),
            count: self.records,
            time: Wall(1),
            lamport: 1,
            shard: 0,
            session: 0,
            seq: 0,
        };
        let entry = Entry::seal(fields, self.last.map_or(CHAIN_GENESIS, |last| last.chain), &self.payload);
        self.last = Some(*entry.header());
        Batch { log_id: Some(LOG_ID), append: vec![entry], ..Batch::default() }
    }
}

/// The least that any log does.
struct Raw {
    file: File,
    at: u64,
    payload: Vec<u8>,
    _dir: TempDir,
}

impl Raw {
    fn new(bytes: usize) -> Self {
        let dir = dir();
        let mut file = File::create(dir.path().join("raw")).expect("a file");
        let zeros = vec![0; 1 << 20];
        for _ in 0..RAW_BYTES / zeros.len() as u64 {
            file.write_all(&zeros).expect("space");
        }
        file.sync_all().expect("a disk");
        file.seek(SeekFrom::Start(0)).expect("a file");
        Self { file, at: 0, payload: vec![7; bytes], _dir: dir }
    }

    fn write(&mut self) {
        if self.at + self.payload.len() as u64 > RAW_BYTES {
            self.at = self.file.seek(SeekFrom::Start(0)).expect("a file");
        }
        self.file.write_all(&self.payload).expect("space");
        self.file.sync_data().expect("a disk");
        self.at += self.payload.len() as u64;
    }
}

fn durable(criterion: &mut Criterion) {
    for bytes in [256_usize, 4 << 10, 64 << 10, 256 << 10, 1 << 20] {
        let mut benches = criterion.benchmark_group(format!("durable batch of {bytes} bytes"));
        benches.throughput(Throughput::ElementsAndBytes {
            elements: bytes.div_ceil(RECORD_BYTES) as u64,
            bytes: bytes as u64,
        });
        benches.bench_function(BenchmarkId::from_parameter("log"), |bencher| {
            let log = std::cell::RefCell::new(Log::new(bytes));
            bencher.iter_batched(
                || log.borrow_mut().next(),
                |batch| {
                    let writer = &mut log.borrow_mut().writer;
                    writer.write(&batch).expect("a legal batch");
                    writer.sync().expect("a disk");
                    batch
                },
                BatchSize::PerIteration,
            );
        });
        benches.bench_function(BenchmarkId::from_parameter("raw write and fdatasync"), |bencher| {
            let mut raw = Raw::new(bytes);
            bencher.iter(|| raw.write());
        });
    }
}

/// One long log: written once, opened a few times, scrubbed in part.
fn long(criterion: &mut Criterion) {
    let Some(gib) = std::env::var("QUORATE_BENCH_OPEN_GIB").ok().and_then(|gib| gib.parse::<u64>().ok()) else {
        return;
    };
    let dir = dir();
    let disk: Arc<dyn Disk> = Arc::new(OsDisk::open(dir.path().join("log")).expect("a directory"));
    create(&disk, Meta::new([7; 16], NodeId::new(42).expect("not zero"))).expect("an empty directory");
    let mut log = Log { _dir: dir, ..Log::new(1 << 20) };
    log.writer = open(disk.clone(), Options::default()).expect("a new log").writer;
    for _ in 0..gib << 10 {
        log.written = 0;
        let batch = log.next();
        log.writer.write(&batch).expect("space");
    }
    let Log { writer, _dir, .. } = log;
    writer.close().expect("a disk");
    let mut benches = criterion.benchmark_group(format!("log of {gib} GiB"));
    benches.sample_size(10);
    benches.bench_function("open", |bencher| {
        bencher.iter_with_large_drop(|| open(disk.clone(), Options::default()).expect("the log"));
    });
    let opened = open(disk, Options::default()).expect("the log");
    let mut cursor = ScrubCursor::default();
    benches.throughput(Throughput::Bytes(64 << 20));
    benches.bench_function("scrub 64 MiB", |bencher| {
        bencher.iter(|| {
            let step = opened.reader.scrub(cursor, 64 << 20).expect("the log");
            assert!(step.damaged.is_empty());
            cursor = step.next.unwrap_or_default();
        });
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2));
    targets = durable, long
}
criterion_main!(benches);
