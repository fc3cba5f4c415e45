//! The offset grammar: one parser for every place where somebody names a position in the log.
//!
//! It never asks the log: `+5`, `-5` and times stay relative until the log answers.
//!
//! ```text
//! start     the first readable record
//! end       the committed end: only what comes later
//! N         offset N
//! +N        N records after the first readable one
//! -N        N records before the committed end
//! A:B       from offset A up to, but not including, offset B
//! @TIME     the first record at or after a time, e.g. @2026-11-20T15:00:00Z (RFC 3339, any zone)
//! @-SPAN    the same, that long ago, e.g. @-1h
//! ```

use crate::api::Start;
use crate::duration;
use crate::limits::shown;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A position, or a range of positions, in the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Where to start.
    pub start: Start,
    /// Stop before this offset.
    pub until: Option<u64>,
}

/// Why a text names no place in the log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OffsetError {
    /// None of the forms.
    #[error("{0} is none of start, end, N, +N, -N, A:B, @2026-11-20T15:00:00Z, @-1h")]
    Form(String),
    /// A number beyond 64 bits.
    #[error("{0} does not fit 64 bits")]
    Number(String),
    /// A range that ends before it starts.
    #[error("the range {from}:{to} ends before it starts")]
    Backwards {
        /// Its first offset.
        from: u64,
        /// Its end.
        to: u64,
    },
    /// Not a time.
    #[error("{0} is not a time such as @2026-11-20T15:00:00Z")]
    Time(String),
    /// Not a span.
    #[error("{text} is not a time ago such as @-1h: {why}")]
    Ago {
        /// The text.
        text: String,
        /// The rule it breaks.
        why: duration::DurationError,
    },
}

/// Reads a place; `now` is the wall clock in microseconds since the Unix epoch, for `@-SPAN`.
pub fn parse(text: &str, now: i64) -> Result<Place, OffsetError> {
    let whole = |start| Ok(Place { start, until: None });
    match text {
        "start" => return whole(Start::First),
        "end" => return whole(Start::End),
        _ => {}
    }
    if let Some(moment) = text.strip_prefix('@') {
        return whole(Start::Time(time(text, moment, now)?));
    }
    if let Some(digits) = text.strip_prefix('+') {
        return whole(Start::AfterFirst(number(text, digits)?));
    }
    if let Some(digits) = text.strip_prefix('-') {
        return whole(Start::BeforeEnd(number(text, digits)?));
    }
    if let Some((from, to)) = text.split_once(':') {
        let (from, to) = (number(text, from)?, number(text, to)?);
        if to < from {
            return Err(OffsetError::Backwards { from, to });
        }
        return Ok(Place { start: Start::Offset(from), until: Some(to) });
    }
    whole(Start::Offset(number(text, text)?))
}

fn number(text: &str, digits: &str) -> Result<u64, OffsetError> {
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(OffsetError::Form(shown(text)));
    }
    digits.parse().map_err(|_| OffsetError::Number(shown(digits)))
}

fn time(text: &str, moment: &str, now: i64) -> Result<i64, OffsetError> {
    if let Some(span) = moment.strip_prefix('-') {
        let span = duration::parse(span).map_err(|why| OffsetError::Ago { text: shown(text), why })?;
        // A span is at most ten years, so its microseconds always fit.
        return Ok(now.saturating_sub(i64::try_from(span.as_micros()).unwrap_or(i64::MAX)));
    }
    let bad = || OffsetError::Time(shown(text));
    let moment = OffsetDateTime::parse(moment, &Rfc3339).map_err(|_| bad())?;
    i64::try_from(moment.unix_timestamp_nanos().div_euclid(1_000)).map_err(|_| bad())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: i64 = 1_800_000_000_000_000;

    #[test]
    fn every_form_of_the_contract_is_read() {
        let at = |start| Ok(Place { start, until: None });
        for (text, place) in [
            ("start", at(Start::First)),
            ("end", at(Start::End)),
            ("0", at(Start::Offset(0))),
            ("42", at(Start::Offset(42))),
            ("18446744073709551615", at(Start::Offset(u64::MAX))),
            ("+5", at(Start::AfterFirst(5))),
            ("-5", at(Start::BeforeEnd(5))),
            ("3:7", Ok(Place { start: Start::Offset(3), until: Some(7) })),
            ("3:3", Ok(Place { start: Start::Offset(3), until: Some(3) })),
            ("@1970-01-01T00:00:01Z", at(Start::Time(1_000_000))),
            ("@1970-01-01T01:00:01.5+01:00", at(Start::Time(1_500_000))),
            ("@-1h", at(Start::Time(NOW - 3_600_000_000))),
        ] {
            assert_eq!(parse(text, NOW), place, "{text}");
        }
    }

    #[test]
    fn what_names_no_place_says_why() {
        for (text, why) in [
            ("", "none of start"),
            ("first", "none of start"),
            ("++1", "none of start"),
            ("1:", "none of start"),
            (":1", "none of start"),
            ("1:2:3", "none of start"),
            (" 1", "none of start"),
            ("18446744073709551616", "64 bits"),
            ("7:3", "ends before it starts"),
            ("@", "not a time"),
            ("@yesterday", "not a time"),
            ("@-1", "ms, s, m, h, d"),
        ] {
            let said = parse(text, NOW).unwrap_err().to_string();
            assert!(said.contains(why), "{text}: {said}");
        }
    }

    proptest! {
        #[test]
        fn junk_never_panics(text in "\\PC{0,24}") {
            let _ = parse(&text, NOW);
        }

        #[test]
        fn numbers_mean_themselves(n: u64) {
            prop_assert_eq!(parse(&n.to_string(), NOW), Ok(Place { start: Start::Offset(n), until: None }));
        }
    }
}
