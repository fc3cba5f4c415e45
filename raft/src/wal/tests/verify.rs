//! Verification names all damage, agrees with every start, and changes nothing.

use super::*;
use crate::wal::sim::SimDisk;

/// Several segments, a truncation that reaches back over one of them, control entries, a large entry.
fn written() -> SimDisk {
    let disk = SimDisk::new(3);
    create(&disk.attach(), meta()).unwrap();
    let mut log = open(disk.attach(), small(1)).unwrap();
    let entries = chain_of(None, 1, [200; 40]);
    for group in entries.chunks(4) {
        log.writer.write(&append(group.to_vec())).unwrap();
        log.writer.sync().unwrap();
    }
    let more = chain_of(Some(*entries[11].header()), 2, [100, 20, 3000, 61, 0, 500]);
    log.writer.write(&Batch { truncate_from: Some(LogIndex(13)), ..append(more) }).unwrap();
    log.writer.sync().unwrap();
    drop(log);
    disk.crash_keeping(|_| false);
    disk
}

fn image(disk: &SimDisk) -> Vec<(String, Option<Vec<u8>>)> {
    disk.names().into_iter().map(|name| (name.clone(), disk.contents(&name))).collect()
}

/// What is found, and a proof that nothing was changed on the way.
fn check(disk: &SimDisk) -> Verified {
    let before = image(disk);
    let found = verify(disk.attach().as_ref(), &mut |_| None).unwrap();
    assert_eq!(image(disk), before, "not a byte is changed");
    found
}

fn segments(disk: &SimDisk) -> Vec<String> {
    disk.names().into_iter().filter(|n| n.ends_with(".wal")).collect()
}

#[test]
fn a_good_log_is_counted_and_not_touched() {
    let disk = written();
    let (mut entries, mut in_force, mut files, mut progress) = (0, Vec::new(), Vec::new(), Vec::new());
    let look = &mut |seen: Seen<'_>| {
        match seen {
            Seen::Segment { name, .. } => files.push(name.to_owned()),
            Seen::Entry { entry, in_force: true, .. } => in_force.push(entry.header().index.0),
            Seen::Entry { .. } => entries += 1,
            Seen::Progress { bytes, of } => progress.push((bytes, of)),
        }
        None
    };
    let found = verify(disk.attach().as_ref(), look).unwrap();
    assert_eq!((found.damaged.as_slice(), found.more_damaged), ([].as_slice(), 0));
    assert_eq!((found.entries, found.records, found.last), (18, 36, Some(LogIndex(18))));
    assert_eq!((found.superseded, entries), (28, 28));
    assert_eq!(in_force, (1..=18).collect::<Vec<_>>(), "each once, in order");
    assert_eq!((found.segments, files), (segments(&disk).len(), segments(&disk)));
    assert!(found.torn_tail.is_none() && found.meta.is_some());
    assert!(progress.windows(2).all(|p| p[0].0 <= p[1].0));
    assert_eq!(progress.last().map(|(bytes, of)| bytes == of), Some(true), "{:?}", progress.last());
    // A start agrees.
    let log = open(disk.attach(), small(9)).unwrap();
    assert_eq!(all(&log.reader).len(), 18);
    assert!(matches!(verify(disk.attach().as_ref(), &mut |_| None), Err(Error::Locked)));
    drop(log);
    // The life that just ended wrote nothing but its meta.
    assert!(check(&disk).damaged.is_empty());
}

#[test]
fn nothing_is_nothing() {
    let disk = SimDisk::new(1);
    assert!(matches!(verify(disk.attach().as_ref(), &mut |_| None), Err(Error::Missing)));
    assert!(disk.names().is_empty());
    create(&disk.attach(), meta()).unwrap();
    let found = check(&disk);
    assert_eq!((found.entries, found.segments, found.damaged.len()), (0, 0, 0));
    // A crash in the middle of the creation is none of the disk's fault.
    disk.vanish("meta.b");
    assert!(check(&disk).damaged.is_empty());
    assert!(open(disk.attach(), small(1)).is_ok());
}

/// All of it, not only the first: a body here, a header there, a block of zeros, a header block and a copy of the meta;
/// with the entries and records that each costs, and everything else still counted.
#[test]
fn all_damage_is_listed_with_what_it_costs() {
    let disk = SimDisk::new(3);
    create(&disk.attach(), meta()).unwrap();
    let mut log = open(disk.attach(), small(1)).unwrap();
    log.writer.write(&append(chain_of(None, 1, [200; 40]))).unwrap();
    log.writer.sync().unwrap();
    let more = chain_of(Some(*chain_of(None, 1, [200; 40])[39].header()), 1, [200; 40]);
    log.writer.write(&append(more)).unwrap();
    log.writer.sync().unwrap();
    drop(log);
    disk.crash_keeping(|_| false);
    let names = segments(&disk);
    let frame = frame::framed_len(ENTRY_HEADER_BYTES + 200);
    let place = |n: u64| SEGMENT_HEADER_BYTES as u64 + n * frame;
    disk.flip_bit(&names[0], place(2) + 100, 1);
    disk.flip_bit(&names[0], place(5) + 8, 1);
    for at in place(7)..place(9) {
        disk.set_byte(&names[0], at, 0);
    }
    disk.flip_bit(&names[1], 70, 1);
    disk.flip_bit("meta.a", 70, 1);
    let found = check(&disk);
    let listed: Vec<_> = found.damaged.iter().map(|d| (d.file.as_str(), d.offset, d.entries, d.records)).collect();
    let entries = |a, b| Some((LogIndex(a), Some(LogIndex(b))));
    assert_eq!(
        listed,
        [
            ("meta.a", 0, None, None),
            (names[1].as_str(), 0, None, None),
            (names[0].as_str(), place(2), entries(3, 3), Some((4, Some(5)))),
            (names[0].as_str(), place(5), entries(6, 6), Some((10, Some(11)))),
            (names[0].as_str(), place(7), entries(8, 9), Some((14, Some(17)))),
        ]
    );
    assert_eq!((found.entries, found.records, found.last), (76, 152, Some(LogIndex(80))));
    // What the caller says of a payload is damage, too.
    let healthy = written();
    let mut look = |seen: Seen<'_>| match seen {
        Seen::Entry { entry, .. } if entry.header().index == LogIndex(3) => Some("no batch".into()),
        _ => None,
    };
    let found = verify(healthy.attach().as_ref(), &mut look).unwrap();
    assert_eq!(found.damaged.len(), 1);
    assert!(found.damaged[0].what.contains("no batch") && found.damaged[0].entries == entries(3, 3));
}

/// Power is lost in the middle of a write, in many ways: what was torn is no damage, and is told as a start cuts it.
/// (D2)
#[test]
fn a_torn_tail_is_no_damage() {
    let mut torn = 0;
    for seed in 0..200 {
        let disk = SimDisk::new(seed);
        create(&disk.attach(), meta()).unwrap();
        let mut log = open(disk.attach(), small(seed)).unwrap();
        let entries = chain_of(None, 1, [300, 200, 700, 40, 900, 100]);
        log.writer.write(&append(entries[..3].to_vec())).unwrap();
        log.writer.sync().unwrap();
        log.writer.write(&append(entries[3..].to_vec())).unwrap();
        disk.crash();
        let found = check(&disk);
        let log = open(disk.attach(), small(seed + 1)).unwrap();
        assert_eq!(found.damaged, [], "seed {seed}");
        assert_eq!(found.last, Some(log.reader.last_index()), "seed {seed}");
        let cut = found.torn_tail.map_or(0, |t| t.bytes);
        assert_eq!(cut, log.recovered.torn_bytes_cut, "seed {seed}");
        torn += u64::from(cut > 0);
    }
    println!("{torn} torn tails of 200 crashes");
    assert!(torn > 20);
}

/// On a real directory nothing can be changed through the read-only door, and a directory in use is left alone.
#[test]
fn the_read_only_door_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let disk = dyn_disk(OsDisk::open(&path).unwrap());
    create(&disk, meta()).unwrap();
    let mut log = open(disk, Options::default()).unwrap();
    log.writer.write(&append(chain_of(None, 1, [200; 40]))).unwrap();
    log.writer.sync().unwrap();
    let door = OsDisk::open_read_only(&path).unwrap();
    assert!(matches!(verify(&door, &mut |_| None), Err(Error::Locked)));
    drop(log);
    assert_eq!(verify(&door, &mut |_| None).unwrap().records, 80);
    assert!(door.create("x").is_err() && door.remove("meta.a").is_err() && door.rename("meta.a", "x").is_err());
    assert!(door.open("meta.a").unwrap().write_at(b"x", 0).is_err());
    assert!(OsDisk::open_read_only(dir.path().join("nowhere")).is_err());
}
