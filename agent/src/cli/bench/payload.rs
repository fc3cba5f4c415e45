//! The records of a load: each carries its number, and bytes that follow from it.
//!
//! It never makes two records alike, so that a lost, doubled or altered one can be told.

use crate::limits::RECORD_BYTES_MAX_CEILING;
use crate::record::{BATCH_HEADER_BYTES, RECORD_HEADER_BYTES, Record};
use bytes::{BufMut, Bytes, BytesMut};

/// The stream that is written.
pub(super) const STREAM: &str = "bench";
/// The head of a value: the load and the number, 16 hexadecimal digits each.
pub(super) const SIZE_MIN: usize = 32;
/// The largest value there is.
pub(super) const SIZE_MAX: usize = RECORD_BYTES_MAX_CEILING;
/// Where in the filling a value begins follows from its number, so that neighbours differ. A prime.
const SHIFTS: u64 = 251;

/// Bytes of an append of `batch` records with values of `size` bytes, as it goes to the disk, without the entry's header.
pub(super) fn batch_bytes(size: u32, batch: u32) -> u64 {
    let record = u64::from(size) + (RECORD_HEADER_BYTES + STREAM.len()) as u64;
    BATCH_HEADER_BYTES as u64 + u64::from(batch) * record
}

/// How the records of one load look.
#[derive(Clone, Debug)]
pub(super) struct Payload {
    /// Which load: records of others stand in the log as well.
    run: u64,
    /// Bytes of a value.
    size: usize,
    filling: Bytes,
}

impl Payload {
    /// `size` is between [`SIZE_MIN`] and [`SIZE_MAX`].
    pub(super) fn new(run: u64, size: usize) -> Self {
        let size = size.clamp(SIZE_MIN, SIZE_MAX);
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let letters = (0..size as u64 + SHIFTS).map(|_| {
            // xorshift: letters, so that `quorate tail` stays readable, and no pattern that something could exploit.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            b'a' + (state % 26) as u8
        });
        Self { run, size, filling: letters.collect() }
    }

    /// The record with this number.
    pub(super) fn record(&self, number: u64) -> Record {
        let mut value = BytesMut::with_capacity(self.size);
        put_hex(&mut value, self.run);
        put_hex(&mut value, number);
        let shift = usize::try_from(number % SHIFTS).unwrap_or(0);
        value.extend_from_slice(&self.filling[shift..shift + self.size - SIZE_MIN]);
        Record { stream: STREAM.into(), ..Record::of(value.freeze()) }
    }

    /// The load.
    pub(super) fn run(&self) -> u64 {
        self.run
    }

    /// The load that a record says it is of.
    pub(super) fn run_of(record: &Record) -> Option<u64> {
        get_hex(record.value.get(..16)?)
    }

    /// The number of a record of this load: `None` if it is of no load, or of another one.
    pub(super) fn number(&self, record: &Record) -> Option<u64> {
        let number = get_hex(record.value.get(16..SIZE_MIN)?)?;
        (record.stream == STREAM && Self::run_of(record) == Some(self.run)).then_some(number)
    }
}

fn put_hex(out: &mut BytesMut, n: u64) {
    for i in (0..16).rev() {
        out.put_u8(b"0123456789abcdef"[(n >> (4 * i)) as usize & 15]);
    }
}

fn get_hex(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits).ok().and_then(|digits| u64::from_str_radix(digits, 16).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_has_the_bytes_that_are_said() {
        for (size, batch) in [(32, 1), (256, 3), (4096, 7)] {
            let payload = Payload::new(7, size as usize);
            let records: Vec<_> = (0..u64::from(batch)).map(|n| payload.record(n)).collect();
            let encoded = crate::record::encode_batch(records.iter()).unwrap();
            assert_eq!(encoded.len() as u64, batch_bytes(size, batch));
        }
    }

    #[test]
    fn a_record_has_its_size_and_carries_its_number() {
        for size in [SIZE_MIN, SIZE_MIN + 1, 256, 4096] {
            let payload = Payload::new(7, size);
            for number in [0, 1, 250, 251, u64::MAX] {
                let record = payload.record(number);
                assert_eq!(record.value.len(), size);
                assert_eq!(payload.number(&record), Some(number));
                assert_eq!(Payload::new(8, size).number(&record), None);
            }
            assert_ne!(payload.record(1), payload.record(2));
        }
        assert_eq!(Payload::new(7, 64).number(&Record::of("hello")), None);
    }
}
