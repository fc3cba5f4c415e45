//! Stories on a real directory.

use super::*;

fn temp() -> (tempfile::TempDir, Arc<dyn Disk>) {
    let dir = tempfile::tempdir().unwrap();
    let disk = dyn_disk(OsDisk::open(dir.path().join("a/b")).unwrap());
    (dir, disk)
}

/// What was synced is there after a restart, in order, with the summary that Raft starts from.
#[test]
fn a_log_comes_back() {
    let (_dir, disk) = temp();
    assert!(!exists(&disk).unwrap());
    assert!(matches!(open(disk.clone(), small(1)), Err(Error::Missing)));
    create(&disk, meta()).unwrap();
    assert!(exists(&disk).unwrap());
    assert!(matches!(create(&disk, meta()), Err(Error::Exists { .. })));

    let mut log = open(disk.clone(), small(1)).unwrap();
    assert_eq!(log.meta.boot_epoch, 1);
    assert!(matches!(open(disk.clone(), small(1)), Err(Error::Locked)));
    let first = chain_of(None, 1, [100; 50]);
    let second = chain_of(first.last().map(|e| *e.header()), 2, [1000; 50]);
    log.writer.write(&append(first.clone())).unwrap();
    for entry in &second {
        log.writer.write(&append(vec![entry.clone()])).unwrap();
    }
    log.writer.sync().unwrap();
    let written = [first, second].concat();
    assert_eq!(all(&log.reader), written);
    drop(log);

    let mut log = open(disk.clone(), small(2)).unwrap();
    assert_eq!(log.meta.boot_epoch, 2);
    assert_eq!(all(&log.reader), written);
    assert_eq!(log.recovered.runs.len(), 2);
    assert_eq!(log.recovered.last.as_ref(), written.last().map(Entry::header));
    for entry in &written {
        let h = entry.header();
        assert_eq!(log.reader.header(h.index).unwrap().as_ref(), Some(h));
        assert_eq!(log.reader.seek_offset(h.base_offset).unwrap(), Some(h.index));
        assert_eq!(log.reader.seek_offset(h.base_offset + 1).unwrap(), Some(h.index));
        assert_eq!(log.reader.seek_time(h.time).unwrap(), Some(h.index));
        assert_eq!(log.reader.seek_time(Wall(h.time.0 - 1)).unwrap(), Some(h.index));
    }
    assert_eq!(log.reader.seek_offset(200).unwrap(), None);
    assert_eq!(log.reader.seek_time(Wall(i64::MAX)).unwrap(), None);

    let third = after(Some(written[59].header()), 3, b"other");
    let batch = Batch { truncate_from: Some(LogIndex(61)), append: vec![third.clone()], ..Batch::default() };
    log.writer.write(&batch).unwrap();
    log.writer.sync().unwrap();
    let kept = [&written[..60], &[third]].concat();
    assert_eq!(all(&log.reader), kept);
    drop(log);
    let log = open(disk, small(3)).unwrap();
    assert_eq!(all(&log.reader), kept);
    assert_eq!(log.recovered.runs.iter().map(|r| r.first.0).collect::<Vec<_>>(), [1, 51, 61]);
}

/// Tells the readers to end, also where the writer fails: else nobody would hear of it.
struct Stop<'a>(&'a std::sync::atomic::AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, std::sync::atomic::Ordering::Relaxed);
    }
}

/// Readers on other threads, while entries are appended, replaced and segments are sealed: each read is a piece of a
/// history that was once in force, and after the last write it is the log.
#[test]
fn readers_read_while_the_writer_writes() {
    let (_dir, disk) = temp();
    create(&disk, meta()).unwrap();
    let mut log = open(disk, small(1)).unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    let mut model: Vec<Entry> = Vec::new();
    std::thread::scope(|scope| {
        let stopping = Stop(&stop);
        let readers: Vec<_> = (0..3_u64)
            .map(|id| {
                let (reader, stop) = (log.reader.clone(), &stop);
                scope.spawn(move || {
                    let mut reads = 0_u64;
                    let mut from = id;
                    while !stop.load(std::sync::atomic::Ordering::Relaxed) || reads == 0 {
                        from = from * 31 % reader.last_index().0.max(1) + 1;
                        let got = reader.read(LogIndex(from), LogIndex(from + 40), 9_000).unwrap();
                        for (at, pair) in got.windows(2).enumerate() {
                            assert_eq!(pair[1].follows(pair[0].header()), Ok(()), "entry {at} after {from}");
                        }
                        if let Some(first) = got.first() {
                            assert_eq!(first.header().index, LogIndex(from));
                            reader.seek_offset(first.header().base_offset).unwrap();
                            reader.seek_time(first.header().time).unwrap();
                        }
                        reads += 1;
                    }
                    reads
                })
            })
            .collect();
        for round in 0..(300 / Sweep::new().every).max(20) {
            let keep = if round % 10 == 9 { model.len() - 3 } else { model.len() };
            let truncate_from = (keep < model.len()).then_some(LogIndex(keep as u64 + 1));
            model.truncate(keep);
            let entries = chain_of(model.last().map(|e| *e.header()), 1 + round / 10, [round as usize, 300, 20]);
            log.writer.write(&Batch { truncate_from, ..append(entries.clone()) }).unwrap();
            if round % 3 == 0 {
                log.writer.sync().unwrap();
            }
            model.extend(entries);
        }
        drop(stopping);
        for reader in readers {
            assert!(reader.join().unwrap() > 0);
        }
    });
    assert_eq!(all(&log.reader), model);
}

/// Nobody but the owner may read the log.
#[cfg(unix)]
#[test]
fn files_belong_to_their_owner() {
    use std::os::unix::fs::PermissionsExt;
    let (dir, disk) = temp();
    create(&disk, meta()).unwrap();
    let mut log = open(disk, small(1)).unwrap();
    log.writer.write(&append(chain_of(None, 1, [1]))).unwrap();
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let path = dir.path().join("a/b");
    assert_eq!(mode(&path), 0o700);
    let mut files = 0;
    for file in std::fs::read_dir(&path).unwrap() {
        assert_eq!(mode(&file.unwrap().path()), 0o600);
        files += 1;
    }
    assert_eq!(files, 4);
}
