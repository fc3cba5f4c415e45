//! The disk's own figure: appends and `fdatasync`, as a write-ahead log does them and nothing else.
//!
//! It never leaves a file behind: what it writes has no name.

use crate::cli::bench::latency::Latencies;
use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Barrier;
use std::time::{Duration, Instant};

/// Bytes that are zero-filled before, and written again from the start when the end is reached: a file that has its
/// blocks already, as a log that fills its segments ahead.
const FILE_BYTES_MIN: usize = 16 << 20;
/// What the file holds at least of the largest append.
const APPENDS_MIN: usize = 16;

/// Appends of `bytes` bytes, each followed by `fdatasync`, of so many `writers` at once, each to a file of its own in
/// `dir`, for `span`.
pub(super) fn measure(dir: &Path, bytes: usize, writers: usize, span: Duration) -> io::Result<Latencies> {
    let bytes = bytes.max(1);
    // All are zero-filled before the first begins.
    let files = (0..writers).map(|_| zero_filled(dir, bytes)).collect::<io::Result<Vec<_>>>()?;
    let start = Barrier::new(writers);
    std::thread::scope(|scope| {
        let writing: Vec<_> = files.into_iter().map(|file| scope.spawn(|| write(file, bytes, &start, span))).collect();
        let mut all = Latencies::default();
        for writer in writing {
            let ended = writer.join().map_err(|_| io::Error::other("a writer ended early"))?;
            all.add(&ended?);
        }
        Ok(all)
    })
}

fn zero_filled(dir: &Path, bytes: usize) -> io::Result<File> {
    let mut file = tempfile::tempfile_in(dir)?;
    let zeros = vec![0; 1 << 20];
    let mut left = bytes.saturating_mul(APPENDS_MIN).max(FILE_BYTES_MIN);
    while left > 0 {
        let now = left.min(zeros.len());
        file.write_all(&zeros[..now])?;
        left -= now;
    }
    file.sync_all()?;
    file.seek(SeekFrom::Start(0))?;
    Ok(file)
}

fn write(mut file: File, bytes: usize, start: &Barrier, span: Duration) -> io::Result<Latencies> {
    let append = vec![7; bytes];
    let end = file.metadata()?.len();
    let mut at = 0;
    let mut all = Latencies::default();
    start.wait();
    let began = Instant::now();
    while began.elapsed() < span {
        if at + bytes as u64 > end {
            at = file.seek(SeekFrom::Start(0))?;
        }
        let since = Instant::now();
        file.write_all(&append)?;
        file.sync_data()?;
        all.record(since.elapsed());
        at += bytes as u64;
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// More writes than the file holds at once, by several at once, and nothing stays.
    #[test]
    fn every_append_is_counted_and_nothing_stays() {
        let dir = tempfile::tempdir().unwrap();
        let told = measure(dir.path(), 4 << 20, 2, Duration::from_millis(50)).unwrap().percentiles();
        assert!(told.samples >= 2 && told.p50_us > 0.0 && told.p99_us >= told.p50_us, "{told:?}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        assert!(measure(&dir.path().join("nowhere"), 256, 1, Duration::from_millis(1)).is_err());
    }
}
