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
