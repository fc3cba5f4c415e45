//! A point of wall-clock time with a resolution of one second, as certificates hold it.
//! Never does calendar arithmetic beyond days.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

const DAY_SECONDS: i64 = 24 * 60 * 60;

/// Seconds since the Unix epoch; shown and serialized as RFC 3339 in UTC.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Date(i64);

impl Date {
    /// The machine's clock, now.
    pub fn now() -> Self {
        let now = SystemTime::now();
        Self(match now.duration_since(UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
            Err(before) => -i64::try_from(before.duration().as_secs()).unwrap_or(i64::MAX),
        })
    }

    /// The date that lies `seconds` after the Unix epoch.
    pub fn from_unix(seconds: i64) -> Self {
        Self(seconds)
    }

    /// Seconds since the Unix epoch.
    pub fn unix(self) -> i64 {
        self.0
    }

    /// This date moved by `days` (negative: earlier).
    pub fn plus_days(self, days: i64) -> Self {
        self.plus_seconds(days.saturating_mul(DAY_SECONDS))
    }

    /// This date moved by `seconds` (negative: earlier).
    pub fn plus_seconds(self, seconds: i64) -> Self {
        Self(self.0.saturating_add(seconds))
    }

    /// Whole days from `self` until `later`, rounded towards zero.
    pub fn days_until(self, later: Self) -> i64 {
        later.0.saturating_sub(self.0) / DAY_SECONDS
    }

    pub(crate) fn offset(self) -> Option<OffsetDateTime> {
        OffsetDateTime::from_unix_timestamp(self.0).ok()
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.offset().and_then(|at| at.format(&Rfc3339).ok()) {
            Some(text) => f.write_str(&text),
            None => write!(f, "{}s after 1970", self.0),
        }
    }
}

impl fmt::Debug for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl serde::Serialize for Date {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_read_as_rfc_3339() {
        assert_eq!(Date::from_unix(0).to_string(), "1970-01-01T00:00:00Z");
        assert_eq!(Date::from_unix(0).plus_days(365).to_string(), "1971-01-01T00:00:00Z");
        assert_eq!(Date::from_unix(i64::MAX).to_string(), format!("{}s after 1970", i64::MAX));
        assert_eq!(Date::from_unix(0).days_until(Date::from_unix(2 * DAY_SECONDS + 5)), 2);
    }
}
