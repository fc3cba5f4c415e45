//! Bytes that change in the files of an agent that does not run, as disks do it.
//!
//! It never touches a file that is in use, nor more than was asked for, and says exactly what it changed.

use super::draw::Draw;
use super::plan::Harm;
use std::fs::{self, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// So many bytes at the end of the log stay as they are when bytes become zero: there they would look never written, and
/// the disk would have forgotten what it acknowledged, which no log can know by itself.
const TAIL_BYTES: u64 = 64 << 10;
/// Of a thousand damages, so many are not in the log itself but in what lies beside it.
const BESIDE: u32 = 250;
/// Ends the name of a segment.
const SEGMENT: &str = "wal";
/// Damage of several agents keeps from the parts of the others at least this share of a part, on both sides.
const APART: u64 = 4;

/// What was changed, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hurt {
    pub(super) file: PathBuf,
    pub(super) offset: u64,
    pub(super) bytes: u64,
}

/// A file and how much of it is in use.
struct Piece {
    path: PathBuf,
    used: u64,
}

/// Which part of the log may be damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Any, and what lies beside it.
    Any,
    /// The one of this number of so many.
    Nth(u64, u64),
}

/// The bytes of the log that are in use in this data directory.
pub(super) fn used(data: &Path) -> io::Result<u64> {
    Ok(segments(data)?.iter().map(|piece| piece.used).sum())
}

/// Damages the log in this data directory.
pub(super) fn inflict(data: &Path, harm: Harm, part: Part, draw: &mut Draw) -> io::Result<Vec<Hurt>> {
    let segments = segments(data)?;
    let all: u64 = segments.iter().map(|piece| piece.used).sum();
    let (from, to) = match part {
        Part::Any => (0, all),
        Part::Nth(nth, of) => {
            let long = all / of.max(1);
            (nth * long + long / APART, (nth + 1) * long - long / APART)
        }
    };
    let beside = beside(data)?;
    // Of what is kept in two copies, one at a time: both at once are lost like the whole disk.
    let beside = beside.get(draw.below(beside.len() as u64) as usize);
    let mut hurt = Vec::new();
    let times = match harm {
        Harm::Flip(bits) => bits,
        Harm::Zero(_) => 1,
    };
    for _ in 0..times {
        let place = match beside {
            Some(piece) if part == Part::Any && draw.chance(BESIDE) => {
                Some((piece.path.clone(), draw.below(piece.used), piece.used))
            }
            _ => {
                let to = if matches!(harm, Harm::Zero(_)) { to.min(all.saturating_sub(TAIL_BYTES)) } else { to };
                (from < to).then(|| locate(&segments, draw.between(from, to - 1), to)).flatten()
            }
        };
        let Some((path, offset, end)) = place else { continue };
        let bytes = match harm {
            Harm::Flip(_) => 1,
            Harm::Zero(bytes) => u64::from(bytes).min(end - offset),
        };
        let bit = matches!(harm, Harm::Flip(_)).then(|| draw.below(8) as u8);
        if change(&path, offset, bytes, bit)? {
            hurt.push(Hurt { file: path, offset, bytes });
        }
    }
    Ok(hurt)
}

/// The file and the offset in it of a byte of all segments, and where what may be changed of that file ends.
fn locate(segments: &[Piece], at: u64, to: u64) -> Option<(PathBuf, u64, u64)> {
    let mut before = 0;
    for piece in segments {
        if at < before + piece.used {
            return Some((piece.path.clone(), at - before, piece.used.min(to - before)));
        }
        before += piece.used;
    }
    None
}

/// Flips one bit, or makes bytes zero. False if they were zero already.
fn change(path: &Path, offset: u64, bytes: u64, bit: Option<u8>) -> io::Result<bool> {
    let mut file = OpenOptions::new().read(true).write(true).open(path)?;
    let mut before = vec![0; usize::try_from(bytes).unwrap_or(0)];
    file.seek(SeekFrom::Start(offset))?;
    file.read_exact(&mut before)?;
    let after: Vec<u8> = match bit {
        Some(bit) => before.iter().map(|byte| byte ^ (1 << bit)).collect(),
        None => vec![0; before.len()],
    };
    file.seek(SeekFrom::Start(offset))?;
    file.write_all(&after)?;
    file.sync_all()?;
    Ok(after != before)
}

/// The segments, in their order: their names sort by it.
fn segments(data: &Path) -> io::Result<Vec<Piece>> {
    pieces(&data.join("log"), |path| path.extension().is_some_and(|end| end == SEGMENT))
}

/// Everything else below the log, in an order of its own.
fn beside(data: &Path) -> io::Result<Vec<Piece>> {
    let mut all = pieces(&data.join("log"), |path| path.extension().is_none_or(|end| end != SEGMENT))?;
    all.retain(|piece| piece.used > 0);
    Ok(all)
}

fn pieces(dir: &Path, wanted: impl Fn(&Path) -> bool) -> io::Result<Vec<Piece>> {
    let mut pieces = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_file() && wanted(&path) {
            pieces.push(Piece { used: written(&path)?, path });
        }
    }
    pieces.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(pieces)
}

/// Up to and with the last byte that is not zero: files are filled with zeros ahead.
fn written(path: &Path) -> io::Result<u64> {
    let bytes = fs::read(path)?;
    Ok(bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last as u64 + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(segments: &[usize]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("log")).unwrap();
        for (i, used) in segments.iter().enumerate() {
            let mut bytes = vec![7; *used];
            bytes.resize(used + 10_000, 0);
            fs::write(dir.path().join(format!("log/{i:020}.wal")), bytes).unwrap();
        }
        dir
    }

    fn differences(dir: &Path, segments: &[usize]) -> Vec<(usize, usize)> {
        let mut all = Vec::new();
        for (i, used) in segments.iter().enumerate() {
            let bytes = fs::read(dir.join(format!("log/{i:020}.wal"))).unwrap();
            assert!(bytes[*used..].iter().all(|byte| *byte == 0), "nothing behind what was written is touched");
            all.extend(bytes[..*used].iter().enumerate().filter(|(_, byte)| **byte != 7).map(|(at, _)| (i, at)));
        }
        all
    }

    #[test]
    fn flipped_bits_are_where_they_are_said_to_be() {
        let segments = [5_000, 3_000];
        let dir = directory(&segments);
        assert_eq!(used(dir.path()).unwrap(), 8_000);
        let hurt = inflict(dir.path(), Harm::Flip(8), Part::Any, &mut Draw::new(3)).unwrap();
        assert_eq!(hurt.len(), 8);
        let changed = differences(dir.path(), &segments);
        assert!(!changed.is_empty() && changed.len() <= 8);
        for (i, at) in changed {
            let name = format!("{i:020}.wal");
            assert!(hurt.iter().any(|h| h.offset == at as u64 && h.file.ends_with(&name)), "{i} {at} in {hurt:?}");
        }
    }

    /// What becomes zero never reaches the end of the log, and a log that is all end is left alone.
    #[test]
    fn the_end_of_the_log_is_never_zeroed() {
        for seed in 0..50 {
            let segments = [100_000, 100_000];
            let dir = directory(&segments);
            let hurt = inflict(dir.path(), Harm::Zero(50_000), Part::Any, &mut Draw::new(seed)).unwrap();
            let changed = differences(dir.path(), &segments);
            assert_eq!(changed.len() as u64, hurt.iter().map(|hurt| hurt.bytes).sum::<u64>());
            assert!(changed.iter().all(|(i, at)| *i == 0 || *at < 100_000 - 65_536));
        }
        let dir = directory(&[9_000]);
        assert!(inflict(dir.path(), Harm::Zero(5), Part::Any, &mut Draw::new(1)).unwrap().is_empty());
    }

    /// Three agents with the same log: no byte of it is damaged at two of them.
    #[test]
    fn parts_do_not_touch() {
        let segments = [50_000, 50_000, 50_000];
        for seed in 0..50 {
            let mut spans = Vec::new();
            for nth in 0..3 {
                let dir = directory(&segments);
                let harm = if seed % 2 == 0 { Harm::Flip(8) } else { Harm::Zero(20_000) };
                inflict(dir.path(), harm, Part::Nth(nth, 3), &mut Draw::new(seed)).unwrap();
                let at: Vec<_> = differences(dir.path(), &segments).iter().map(|(i, at)| i * 50_000 + at).collect();
                assert!(at.iter().all(|at| (at / 50_000) as u64 == nth), "{seed} {nth} {at:?}");
                spans.push(at);
            }
        }
    }
}
