//! Checkpoint files: whatever stands in one, reading it is bounded and ends with a checkpoint or a reason.

use crate::fed::{BYTES_ANYWAY, feed, turn};
use quorate::checkpoint::{decode, encode, verify};
use std::io;

/// A file of format version 1.
const GOLDEN: &[u8] = include_bytes!("../data/checkpoint-v1.ckpt");

fn reader(bytes: &[u8]) -> impl FnMut(u64, &mut [u8]) -> io::Result<()> + '_ {
    |at, buf| {
        let from = usize::try_from(at).map_err(io::Error::other)?;
        let piece = bytes.get(from..).and_then(|rest| rest.get(..buf.len())).ok_or(io::ErrorKind::UnexpectedEof)?;
        buf.copy_from_slice(piece);
        Ok(())
    }
}

/// Sets every checksum right again, so that what stands behind them is reached: of the header, of each chunk, of the footer.
fn mended(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    if bytes.len() < 128 {
        return bytes;
    }
    let uid = xxhash_rust::xxh3::xxh3_64(&bytes[..104]);
    bytes[104..112].copy_from_slice(&uid.to_le_bytes());
    let crc = crc32c::crc32c(&bytes[..124]);
    bytes[124..128].copy_from_slice(&crc.to_le_bytes());
    let (mut at, mut content, mut chunks) = (128, Vec::new(), 0_u64);
    while let Some(prefix) = bytes.get(at..).and_then(|rest| rest.first_chunk::<4>()) {
        let n = u32::from_le_bytes(*prefix) as usize;
        let len = bytes.len();
        let body = if n == 0 { 44 } else { n + 4 };
        if at + body + 4 > len {
            break;
        }
        if n == 0 {
            let hash = xxhash_rust::xxh3::xxh3_128(&content);
            bytes[at + 8..at + 16].copy_from_slice(&(len as u64).to_le_bytes());
            bytes[at + 16..at + 32].copy_from_slice(&hash.to_le_bytes());
            bytes[at + 32..at + 40].copy_from_slice(&chunks.to_le_bytes());
        } else {
            content.extend_from_slice(&bytes[at + 4..at + 4 + n]);
            chunks += 1;
        }
        let seed = [uid.to_le_bytes(), (at as u64).to_le_bytes()].concat();
        let crc = crc32c::crc32c_append(crc32c::crc32c(&seed), &bytes[at..at + body]);
        bytes[at + body..at + body + 4].copy_from_slice(&crc.to_le_bytes());
        if n == 0 {
            break;
        }
        at += body + 4;
    }
    bytes
}

#[test]
fn a_checkpoint_file_is_read_or_refused() {
    let _turn = turn();
    assert!(decode(GOLDEN.len() as u64, reader(GOLDEN)).is_ok());
    feed(vec![GOLDEN.to_vec()], BYTES_ANYWAY, |bytes| {
        let _ = decode(bytes.len() as u64, reader(bytes));
        let _ = verify(bytes.len() as u64, reader(bytes));
    });
}

/// With checksums that are right, so that every length, count and order behind them is a stranger's.
#[test]
fn a_checkpoint_file_that_lies_behind_good_checksums_is_read_or_refused() {
    let _turn = turn();
    assert_eq!(mended(GOLDEN), GOLDEN, "a good file stays as it is");
    feed(vec![GOLDEN.to_vec()], BYTES_ANYWAY, |bytes| {
        let bytes = mended(bytes);
        if let Ok(read) = decode(bytes.len() as u64, reader(&bytes)) {
            // What is taken can be written, and is read as the same.
            let mut again = Vec::new();
            let written = encode(&read, |piece| {
                again.extend_from_slice(piece);
                Ok::<(), ()>(())
            });
            assert_eq!(written, Ok(again.len() as u64));
            assert_eq!(decode(again.len() as u64, reader(&again)).ok(), Some(read));
        }
    });
}
