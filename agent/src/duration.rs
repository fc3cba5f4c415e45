//! Spans of time as people write them: `250ms`, `10s`, `5m`, `2h`, `7d`.
//!
//! It never guesses a unit: a bare number is refused.

use std::time::Duration;

/// The longest span that can be written: ten years. Longer ones are typing errors.
pub const DURATION_MAX: Duration = Duration::from_secs(3_650 * 86_400);

/// Why a text is not a span of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// No digits, or something else than digits before the unit.
    #[error("a duration is a whole number with a unit, such as 250ms, 10s, 5m, 2h or 7d")]
    Shape,
    /// No unit, or an unknown one.
    #[error("the unit is one of ms, s, m, h, d")]
    Unit,
    /// Beyond [`DURATION_MAX`].
    #[error("at most 3650d")]
    TooLong,
}

/// Reads a span: digits, then one of `ms`, `s`, `m`, `h`, `d`.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    if number.is_empty() {
        return Err(DurationError::Shape);
    }
    let millis_per_unit: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(DurationError::Unit),
    };
    let number: u64 = number.parse().map_err(|_| DurationError::TooLong)?;
    let millis = number.checked_mul(millis_per_unit).ok_or(DurationError::TooLong)?;
    let span = Duration::from_millis(millis);
    if span > DURATION_MAX { Err(DurationError::TooLong) } else { Ok(span) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_read_as_written() {
        for (text, millis) in [("0s", 0), ("250ms", 250), ("10s", 10_000), ("5m", 300_000), ("1h", 3_600_000)] {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        assert_eq!(parse("3650d"), Ok(DURATION_MAX));
    }

    #[test]
    fn what_is_not_a_span_says_which_rule_it_breaks() {
        for (text, why) in [
            ("", DurationError::Shape),
            ("s", DurationError::Shape),
            ("-1s", DurationError::Shape),
            ("10", DurationError::Unit),
            ("10 s", DurationError::Unit),
            ("1.5s", DurationError::Unit),
            ("10S", DurationError::Unit),
            ("3651d", DurationError::TooLong),
            ("99999999999999999999d", DurationError::TooLong),
            ("18446744073709551615d", DurationError::TooLong),
        ] {
            assert_eq!(parse(text), Err(why), "{text}");
        }
    }
}
