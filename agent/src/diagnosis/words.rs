//! Numbers in the words of people.
//!
//! It never shows more digits than anybody reads.

/// `850 ms`, `41 s`, `12 min`, `3 h`, `9 days`.
pub(super) fn span(ms: u64) -> String {
    match ms {
        0..=1_999 => format!("{ms} ms"),
        2_000..=119_999 => format!("{} s", ms / 1_000),
        120_000..=7_199_999 => format!("{} min", ms / 60_000),
        7_200_000..=172_799_999 => format!("{} h", ms / 3_600_000),
        _ => format!("{} days", ms / 86_400_000),
    }
}

/// `12 s ahead`, `3 min behind`.
pub(super) fn ahead(us: i64) -> String {
    let way = if us < 0 { "behind" } else { "ahead" };
    format!("{} {way}", span(us.unsigned_abs() / 1_000))
}

/// `0.9 ms`.
pub(super) fn millis(us: u64) -> String {
    format!("{:.1} ms", us as f64 / 1e3)
}

/// `12.0 MiB`.
pub(super) fn bytes(bytes: u64) -> String {
    match bytes {
        0..=1_023 => format!("{bytes} B"),
        1_024..=1_048_575 => format!("{:.1} KiB", bytes as f64 / f64::from(1 << 10)),
        1_048_576..=1_073_741_823 => format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20)),
        _ => format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30)),
    }
}

/// A moment since 1970 in seconds, as certificates tell it: `2026-11-20T15:00:00Z`.
pub(super) fn date(unix: i64) -> String {
    let format = time::macros::format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z");
    let moment = time::OffsetDateTime::from_unix_timestamp(unix).ok();
    moment.and_then(|moment| moment.format(format).ok()).unwrap_or_else(|| format!("{unix} s since 1970"))
}

/// `a, b and c`; long lists are cut.
pub(super) fn list(names: &[String]) -> String {
    const NAMED_MAX: usize = 8;
    match names {
        [] => "nobody".into(),
        [one] => one.clone(),
        names if names.len() > NAMED_MAX => {
            format!("{} and {} more", names[..NAMED_MAX].join(", "), names.len() - NAMED_MAX)
        }
        [before @ .., last] => format!("{} and {last}", before.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_as_people_say_them() {
        assert_eq!(
            [0, 1_999, 2_000, 119_999, 120_000, 7_200_000].map(span),
            ["0 ms", "1999 ms", "2 s", "119 s", "2 min", "2 h"]
        );
        assert_eq!((span(u64::MAX).is_empty(), ahead(i64::MIN).ends_with("behind")), (false, true));
        assert_eq!((ahead(12_000_000), ahead(-180_000_000)), ("12 s ahead".into(), "3 min behind".into()));
        assert_eq!([0, 1_024, 12 << 20].map(bytes), ["0 B", "1.0 KiB", "12.0 MiB"]);
        assert_eq!((date(0), date(i64::MAX).contains("since 1970")), ("1970-01-01T00:00:00Z".into(), true));
        let names = |n: usize| (0..n).map(|i| format!("n{i}")).collect::<Vec<_>>();
        assert_eq!([0, 1, 3].map(|n| list(&names(n))), ["nobody", "n0", "n0, n1 and n2"]);
        assert!(list(&names(10)).ends_with("n7 and 2 more"));
    }
}
