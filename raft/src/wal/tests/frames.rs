//! Frames, and the window through which they are read: each wrong field, each cut and each unreadable place alone.

use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::formats::crc_at;
use super::*;
use crate::wal::frame::{FRAME_HEADER_BYTES, Place, Window};

/// Bytes in memory, of which some cannot be read.
#[derive(Default)]
struct Bad {
    bytes: Vec<u8>,
    bad: std::ops::Range<u64>,
    reads: AtomicU64,
    forgotten: Mutex<Vec<(u64, u64)>>,
}

impl File for Bad {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        let end = offset + buf.len() as u64;
        if offset < self.bad.end && self.bad.start < end {
            return Err(io::ErrorKind::Other.into());
        }
        // As the system does: no byte can be read anywhere.
        if !buf.is_empty() {
            let from = self.bytes.get(offset as usize..end as usize).ok_or(io::ErrorKind::UnexpectedEof)?;
            buf.copy_from_slice(from);
        }
        Ok(())
    }

    fn write_at(&self, _bytes: &[u8], _offset: u64) -> io::Result<()> {
        unreachable!("a window only reads")
    }

    fn sync_data(&self) -> io::Result<()> {
        unreachable!("a window only reads")
    }

    fn sync_all(&self) -> io::Result<()> {
        unreachable!("a window only reads")
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.bytes.len() as u64)
    }

    fn forget_cached(&self, offset: u64, len: u64) {
        self.forgotten.lock().unwrap().push((offset, len));
    }

    fn set_len(&self, _len: u64) -> io::Result<()> {
        unreachable!("a window only reads")
    }
}

fn of(bytes: &[u8]) -> Arc<Bad> {
    Arc::new(Bad { bytes: bytes.to_vec(), ..Bad::default() })
}

/// Bytes none of which is zero, nor like a neighbour.
fn noise(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at % 251) as u8 + 1).collect()
}

#[test]
fn a_window_is_the_file() {
    let bytes = noise(10_000);
    let file = of(&bytes);
    let mut window = Window::new(file.clone(), 9_990, 1_000);
    assert_eq!(window.end(), 9_990);
    for at in (0..9_990).step_by(8) {
        assert_eq!(window.get(at as u64, 8).unwrap(), &bytes[at..(at + 8).min(9_990)], "{at}");
    }
    assert_eq!(file.reads.load(Ordering::Relaxed), 10, "a step at a time, and none twice");
    window.get(2_000, 8).unwrap();
    window.get(2_000, 1_000).unwrap();
    assert_eq!(file.reads.load(Ordering::Relaxed), 11, "nor where it stands already");
    // Back and forth, more than a step, over the end and beyond it.
    for (at, len) in [(500, 10), (480, 30), (8_000, 1_500), (8_100, 1_400), (7_999, 2), (0, 9_990), (9_000, 2_000)] {
        assert_eq!(window.get(at as u64, len).unwrap(), &bytes[at..(at + len).min(9_990)], "{at} {len}");
    }
    assert!(window.get(9_990, 8).unwrap().is_empty() && window.get(20_000, 8).unwrap().is_empty());
    // What it holds costs no read.
    window.get(3_000, 8).unwrap();
    let held = [(2_999, 1), (2_999, 2), (3_000, 0), (3_000, 1_000), (3_999, 1), (3_999, 2), (3_500, 501)];
    assert_eq!(held.map(|(at, len)| window.holds(at, len)), [false, false, true, true, true, false, false]);
    assert!(file.forgotten.lock().unwrap().is_empty());
    let mut cold = Window::new(file.clone(), 9_990, 1_000).cold();
    cold.get(2_000, 8).unwrap();
    assert_eq!(*file.forgotten.lock().unwrap(), [(2_000, 1_000)]);
}

/// What cannot be read is an error, or where that is asked for, damage of no more bytes than a disk remaps.
#[test]
fn an_unreadable_place_is_an_error_or_damage() {
    let bytes = noise(40_000);
    let file = Arc::new(Bad { bytes: bytes.clone(), bad: 20_000..20_512, ..Bad::default() });
    let end = 50_000;
    assert!(Window::new(file.clone(), 40_000, 30_000).get(0, 100).is_err());
    let mut window = Window::new(file, end, 60_000).lenient();
    let got = window.get(0, 50_000).unwrap();
    let mut expected = bytes;
    expected[16_384..20_480].fill(0xff);
    expected[20_480..24_576].fill(0xff);
    expected.resize(50_000, 0xff);
    assert_eq!(got, expected);
    let mut window = window;
    assert_eq!(window.get(100, 10).unwrap(), &expected[100..110]);
}

const UID: u64 = 5;

/// The frame of `entry` at `at`, with some bytes of its header changed and its own checksum right.
fn framed(at: u64, entry: &Entry, edits: &[(usize, &[u8])]) -> Vec<u8> {
    let mut frame = Vec::new();
    frame::encode(&mut frame, UID, at, 0, entry);
    for (at, bytes) in edits {
        frame[*at..*at + bytes.len()].copy_from_slice(bytes);
    }
    let seed = crc32c::crc32c(&[UID.to_le_bytes(), at.to_le_bytes()].concat());
    let crc = crc32c::crc32c_append(seed, &frame[..52]).to_le_bytes();
    frame[52..56].copy_from_slice(&crc);
    frame
}

fn place(at: u64, frame: &[u8]) -> Place {
    let bytes = [&vec![9; at as usize][..], frame].concat();
    let mut window = Window::new(of(&bytes), bytes.len() as u64, 1 << 20);
    frame::read(&mut window, UID, at).unwrap()
}

#[test]
fn each_field_of_a_frame_header_is_checked() {
    let entry = after(None, 3, b"payload");
    let at = 4096;
    let len = |len: usize| (len as u32).to_le_bytes();
    let decode = |edits: &[(usize, &[u8])]| frame::decode_header(&framed(at, &entry, edits), UID, at);
    let good = decode(&[]).unwrap();
    assert_eq!((good.index, u64::from(good.body_len)), (1, entry.bytes().len() as u64));
    assert_eq!(good.total_len(), frame::framed_len(entry.bytes().len()));
    assert_eq!(frame::decode_header(&framed(at, &entry, &[])[..FRAME_HEADER_BYTES], UID, at), Some(good));
    assert_eq!(frame::decode_header(&framed(at, &entry, &[])[..FRAME_HEADER_BYTES - 1], UID, at), None);
    assert_eq!(decode(&[(0, b"X")]), None, "the magic");
    assert_eq!(decode(&[(44, &[1])]), None, "the zero");
    for (bytes, is_good) in [
        (ENTRY_HEADER_BYTES - 1, false),
        (ENTRY_HEADER_BYTES, true),
        (ENTRY_BYTES_MAX, true),
        (ENTRY_BYTES_MAX + 1, false),
    ] {
        assert_eq!(decode(&[(4, &len(bytes))]).is_some(), is_good, "a body of {bytes}");
    }
    for (frontier, is_good) in [(4095, true), (4096, true), (4097, false)] {
        assert_eq!(decode(&[(12, &len(frontier))]).is_some(), is_good, "durable up to {frontier}");
    }
    let mut flipped = framed(at, &entry, &[]);
    flipped[16] ^= 1;
    assert_eq!(frame::decode_header(&flipped, UID, at), None, "the checksum");
    assert_eq!([0, 1, 7, 8, 9].map(frame::framed_len), [56, 64, 64, 64, 72]);
}

#[test]
fn each_part_of_a_frame_is_checked() {
    // The header reaches over a boundary of sectors.
    let at = 4096 + 480;
    let entry = after(None, 3, &noise(1_001));
    let good = framed(at, &entry, &[]);
    assert!(matches!(place(at, &good), Place::Frame(f) if f.entry == entry && f.header.index == 1));
    assert!(matches!(place(at, &[&good[..], &[3; 8]].concat()), Place::Frame(_)));
    assert!(matches!(place(at, &[]), Place::End));
    let bad_header = |bytes: &[u8]| match place(at, bytes) {
        Place::BadHeader { unwritten } => unwritten,
        other => panic!("{other:?}"),
    };
    let bad_body = |bytes: &[u8]| match place(at, bytes) {
        Place::BadBody { header, unwritten } if header.index == 1 => unwritten,
        other => panic!("{other:?}"),
    };
    let changed = |range: std::ops::Range<usize>, value: u8| {
        let mut bytes = good.clone();
        bytes[range].fill(value);
        bytes
    };
    assert!(bad_header(&good[..55]), "the file ends in the header");
    assert!(bad_header(&changed(0..32, 0)), "its first sector was never written");
    assert!(bad_header(&changed(32..600, 0)), "its second one");
    assert!(!bad_header(&changed(1..32, 0)), "a byte of it was");
    assert!(!bad_header(&noise(56)), "all of it was, right up to the end of the file");
    assert!(bad_body(&good[..good.len() - 1]), "the file ends in the padding");
    assert!(bad_body(&good[..57]), "or in the body");
    assert!(bad_body(&changed(544..1056, 0)), "a sector of the body was never written");
    assert!(!bad_body(&changed(545..1056, 0)), "a byte of it was");
    assert!(!bad_body(&changed(700..701, 0)), "rot");
    assert_eq!(good.len() % 8, 0);
    assert!(56 + entry.bytes().len() < good.len(), "there is padding");
    assert!(!bad_body(&changed(good.len() - 1..good.len(), 1)), "rot in the padding");
}

/// The header counts the sectors of the file that hold nothing but zeros of the body, wherever the frame stands.
#[test]
fn zeros_are_counted_by_the_sectors_of_the_file() {
    for at in (4096..4096 + 1024).step_by(8) {
        for zeros in [0, 1, 500, 2_000] {
            let entry = after(None, 3, &[&[1; 40][..], &vec![0; zeros], &[1; 300], &vec![0; zeros], &[1]].concat());
            let sector = |n: usize| (at as usize + FRAME_HEADER_BYTES + n) / 512;
            let body = entry.bytes();
            let sectors: std::collections::BTreeSet<usize> = (0..body.len()).map(sector).collect();
            let used = (0..body.len()).filter(|n| body[*n] != 0).map(sector).collect();
            let expected = sectors.difference(&used).count();
            let header = frame::decode_header(&framed(at, &entry, &[]), UID, at).unwrap();
            assert_eq!(header.zero_sectors as usize, expected, "{zeros} zeros at {at}");
        }
    }
}

/// A body that is good by itself and not the one of its frame.
#[test]
fn a_frame_holds_the_entry_that_it_describes() {
    let at = 4096;
    let entry = after(None, 3, b"one payload");
    let body_crc = |body: &[u8]| crc32c::crc32c(body).to_le_bytes();
    // Another history, of the same length and keys, where only its sectors were misdirected.
    let twin = after(None, 3, b"two payload");
    let mut swapped = framed(at, &entry, &[]);
    swapped[FRAME_HEADER_BYTES..FRAME_HEADER_BYTES + twin.bytes().len()].copy_from_slice(twin.bytes());
    assert!(matches!(place(at, &swapped), Place::BadBody { unwritten: false, .. }));
    // Each key of the frame header, wrong alone.
    for key in [8, 16, 24, 32] {
        let wrong = framed(at, &entry, &[(key, &[77])]);
        assert!(matches!(place(at, &wrong), Place::Unreadable(EntryError::Contradiction(_))), "byte {key}");
        let header = frame::decode_header(&wrong, UID, at).unwrap();
        assert_eq!(header.of_entry(entry.bytes()), None, "byte {key}");
    }
    let header = frame::decode_header(&framed(at, &entry, &[]), UID, at).unwrap();
    assert_eq!(header.of_entry(entry.bytes()), Some(*entry.header()));
    assert_eq!(header.of_entry(&entry.bytes()[..ENTRY_HEADER_BYTES]), Some(*entry.header()), "whatever the payload is");
    assert_eq!(header.of_entry(after(None, 3, b"longer than that").bytes()), None);
    // Written whole by a version that nobody knows here.
    let mut newer = entry.bytes().to_vec();
    newer[0] = 99;
    crc_at(&mut newer, 92);
    let mut frame = framed(at, &entry, &[(48, &body_crc(&newer))]);
    frame[FRAME_HEADER_BYTES..FRAME_HEADER_BYTES + newer.len()].copy_from_slice(&newer);
    let found = place(at, &frame);
    assert!(matches!(found, Place::Unreadable(_)), "{found:?}");
}

/// Good frame headers are found wherever they stand behind damage, also on the boundary of two steps.
#[test]
fn a_survey_sees_all_that_follows() {
    let mut entries = chain_of(None, 3, [100, 0, 300, 5]);
    let places = [4096, 4096 + (64 << 10) - 8, 4096 + (64 << 10) + 400, 200_000_u64];
    let mut bytes = vec![0; 300_000];
    let frontiers = [100_u32, 4_000, 3_000, 50];
    for ((entry, at), frontier) in entries.iter().zip(places).zip(frontiers) {
        let frame = framed(at, entry, &[(12, &frontier.to_le_bytes())]);
        bytes[at as usize..at as usize + frame.len()].copy_from_slice(&frame);
    }
    let survey = |bytes: &[u8], from| {
        let mut window = Window::new(of(bytes), bytes.len() as u64, 1 << 12);
        frame::survey(&mut window, UID, from).unwrap()
    };
    let next = |bytes: &[u8], from| {
        let mut window = Window::new(of(bytes), bytes.len() as u64, 1 << 12);
        frame::next(&mut window, UID, from).unwrap().map(|(at, header)| (at, header.index))
    };
    let mut from = 8;
    for (at, index) in places.iter().zip(1..) {
        assert_eq!(next(&bytes, from), Some((*at, index)));
        assert_eq!(next(&bytes, *at), Some((*at, index)));
        from = at + 8;
    }
    assert_eq!(next(&bytes, from), None);
    let last = entries.pop().unwrap();
    let end = 200_000 + frame::framed_len(last.bytes().len());
    let seen = survey(&bytes, 8);
    // The last body ends with a byte that is not zero, and its padding with zeros.
    let written = bytes.iter().rposition(|b| *b != 0).unwrap() as u64 + 1;
    assert_eq!((seen.frontier, seen.written_end), (4_000, written));
    let found = seen.last.unwrap();
    assert_eq!((found.index, found.end, found.entry), (4, end, Some(*last.header())));
    assert_eq!(survey(&bytes, places[2]).frontier, 3_000);
    // Its entry is damaged, but the header of the frame is not.
    bytes[200_000 + FRAME_HEADER_BYTES + 20] ^= 1;
    bytes[299_990] = 1;
    let seen = survey(&bytes, 8);
    let found = seen.last.unwrap();
    assert_eq!((found.index, found.end, found.entry, seen.written_end), (4, end, None, 299_991));
    let nothing = survey(&vec![0; 200_000], 5_000);
    assert_eq!((nothing.frontier, nothing.written_end, nothing.last.is_none()), (0, 5_000, true));
}
