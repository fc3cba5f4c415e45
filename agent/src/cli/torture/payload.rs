//! Records that tell which append they are of, and whether a byte of them was altered.
//!
//! It never makes two equal ones.

use crate::record::Record;

/// The stream that is written.
const STREAM: &str = "torture";
/// Hexadecimal digits of the number at the head of a value.
const DIGITS: usize = 16;
/// Values have between these many bytes: most are small, some fill a good part of a frame.
const BYTES: (usize, usize) = (32, 3_000);

/// The record of this number: all of it follows from the number.
pub(super) fn record(number: u64) -> Record {
    // One in sixteen is large.
    let len = if number % 16 == 3 { BYTES.1 - (number % 997) as usize } else { BYTES.0 + (number % 89) as usize };
    let mut value = format!("{number:0DIGITS$x} ");
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    while value.len() < len {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        value.push(char::from(b'a' + (state >> 59) as u8 % 26));
    }
    Record { stream: STREAM.into(), key: format!("k{}", number % 50), ..Record::of(value) }
}

/// The number of a record that stands at `offset`. One that was altered, or that we never wrote, has a number that no append
/// ever has.
pub(super) fn number(of: &Record, offset: u64) -> u64 {
    let digits = of.value.get(..DIGITS).and_then(|digits| std::str::from_utf8(digits).ok());
    let number = digits.and_then(|digits| u64::from_str_radix(digits, 16).ok());
    number.filter(|number| record(*number) == *of).unwrap_or(u64::MAX - offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_tells_its_number_and_an_altered_one_is_nobodys() {
        for n in [0, 1, 3, 19, 0xdead_beef] {
            assert_eq!(number(&record(n), 5), n);
            let mut altered = record(n);
            let mut value = altered.value.to_vec();
            let last = value.len() - 1;
            value[last] ^= 1;
            altered.value = value.into();
            assert_eq!(number(&altered, 5), u64::MAX - 5);
            altered = record(n);
            altered.key.push('x');
            assert_eq!(number(&altered, 6), u64::MAX - 6);
        }
    }
}
