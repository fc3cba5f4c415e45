//! Every limit and every legal character of what users name, in one place.
//!
//! It never truncates or repairs: what is out of bounds is refused with the bound.

use std::collections::BTreeMap;

/// Most bytes of one record's value. Default of the option `record_bytes_max`.
pub const RECORD_BYTES_MAX_DEFAULT: usize = 1 << 20;
/// Bytes kept free on an agent's disk unless configured: what is on its way when the mark is passed (64 MiB in flight, a
/// segment of 64 MiB that is being begun), and as much again for checkpoints, side files and a fast disk between two looks.
pub const DISK_RESERVE_BYTES_DEFAULT: u64 = 256 << 20;
/// The most that `record_bytes_max` may be set to.
pub const RECORD_BYTES_MAX_CEILING: usize = 4 << 20;
/// Most bytes of all that is not the value in one record: stream, key, type, headers, ids.
pub const RECORD_OVERHEAD_MAX: usize = 64 << 10;
/// Most bytes of one encoded batch; one record of the largest size always fits.
pub const BATCH_BYTES_MAX: usize = RECORD_BYTES_MAX_CEILING + RECORD_OVERHEAD_MAX + 64;
/// Most records in one batch.
pub const BATCH_RECORDS_MAX: usize = 16_384;
/// Most bytes of a stream's name.
pub const STREAM_BYTES_MAX: usize = 128;
/// Most bytes of a key.
pub const KEY_BYTES_MAX: usize = 1024;
/// Most bytes of a record's type, correlation id or causation id.
pub const LABEL_BYTES_MAX: usize = 256;
/// Most headers on one record.
pub const HEADERS_MAX: usize = 64;
/// Most bytes of a header's name.
pub const HEADER_NAME_BYTES_MAX: usize = 128;
/// Most bytes of a header's value.
pub const HEADER_VALUE_BYTES_MAX: usize = 8192;
/// Most bytes of an agent's name.
pub const NAME_BYTES_MAX: usize = 63;
/// Most tags on one agent.
pub const TAGS_MAX: usize = 1024;
/// Most bytes of a tag's key.
pub const TAG_KEY_BYTES_MAX: usize = 64;
/// Most bytes of a tag's value.
pub const TAG_VALUE_BYTES_MAX: usize = 60 << 10;
/// Most bytes of all tags of one agent together, with two more for each: every agent holds those of all others.
pub const TAGS_BYTES_MAX: usize = 64 << 10;
/// Most different streams in one log: each costs memory on every agent.
pub const STREAMS_MAX: usize = 1_000_000;
/// The stream of a record whose writer named none.
pub const STREAM_DEFAULT: &str = "default";

/// What is wrong with a name, a tag, a stream, a key or a size; says the bound.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} {shown} is not legal: {why}")]
pub struct Illegal {
    /// What it is: `stream`, `key`, `agent name` ...
    pub what: &'static str,
    /// The offending text, escaped and shortened.
    pub shown: String,
    /// The rule it breaks.
    pub why: String,
}

fn illegal(what: &'static str, text: &str, why: impl Into<String>) -> Illegal {
    Illegal { what, shown: shown(text), why: why.into() }
}

/// `text` as it may be shown to a person: quoted, escaped, at most 64 characters.
#[must_use]
pub fn shown(text: &str) -> String {
    let cut: String = text.chars().take(64).collect();
    let more = if cut.len() < text.len() { "…" } else { "" };
    format!("{cut:?}{more}")
}

/// Remote text made safe for a terminal or a log line: control and format characters are escaped.
#[must_use]
pub fn printable(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            let raw = !c.is_control() && !is_format(c);
            let escaped: Box<dyn Iterator<Item = char>> =
                if raw { Box::new(std::iter::once(c)) } else { Box::new(c.escape_default()) };
            escaped
        })
        .collect()
}

/// Bidirectional overrides, invisible separators and tags can make a line read as another one. The same characters as in
/// the transport's `sanitize`.
fn is_format(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// An agent's name: `[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?`.
pub fn check_name(name: &str) -> Result<(), Illegal> {
    let ok = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = name.as_bytes();
    let rule = "1 to 63 characters of a-z, 0-9 and -, first and last not -";
    match (bytes.first(), bytes.last()) {
        (Some(&a), Some(&z))
            if ok(a) && ok(z) && bytes.len() <= NAME_BYTES_MAX && bytes.iter().all(|&b| ok(b) || b == b'-') =>
        {
            Ok(())
        }
        _ => Err(illegal("agent name", name, rule)),
    }
}

/// A stream's name: 1 to 128 of `A-Z a-z 0-9 . _ : / -`.
pub fn check_stream(stream: &str) -> Result<(), Illegal> {
    let ok = |b: u8| b.is_ascii_alphanumeric() || b"._:/-".contains(&b);
    if stream.is_empty() || stream.len() > STREAM_BYTES_MAX || !stream.bytes().all(ok) {
        let why = format!("1 to {STREAM_BYTES_MAX} characters of A-Z a-z 0-9 . _ : / -");
        return Err(illegal("stream", stream, why));
    }
    Ok(())
}

fn check_text(what: &'static str, text: &str, max: usize) -> Result<(), Illegal> {
    if text.len() > max {
        return Err(illegal(what, text, format!("at most {max} bytes, this has {}", text.len())));
    }
    if text.chars().any(char::is_control) {
        return Err(illegal(what, text, "control characters are not allowed"));
    }
    Ok(())
}

/// A key: at most 1,024 bytes of UTF-8 without control characters; may be empty.
pub fn check_key(key: &str) -> Result<(), Illegal> {
    check_text("key", key, KEY_BYTES_MAX)
}

/// A record's type, correlation id or causation id: at most 256 bytes of UTF-8 without control characters.
pub fn check_label(what: &'static str, text: &str) -> Result<(), Illegal> {
    check_text(what, text, LABEL_BYTES_MAX)
}

/// One header: a name of 1 to 128 bytes, a value of at most 8,192, no control characters in the name.
pub fn check_header(name: &str, value: &str) -> Result<(), Illegal> {
    if name.is_empty() {
        return Err(illegal("header name", name, "it is empty"));
    }
    check_text("header name", name, HEADER_NAME_BYTES_MAX)?;
    if value.len() > HEADER_VALUE_BYTES_MAX {
        let why = format!("at most {HEADER_VALUE_BYTES_MAX} bytes, this has {}", value.len());
        return Err(illegal("header value", value, why));
    }
    Ok(())
}

/// Tags: at most 1,024, keys of 1 to 64 of `A-Z a-z 0-9 . _ -`, values of at most 60 KiB, 64 KiB together.
pub fn check_tags(tags: &BTreeMap<String, String>) -> Result<(), Illegal> {
    let ok = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    if tags.len() > TAGS_MAX {
        return Err(illegal("tags", "", format!("at most {TAGS_MAX}, these are {}", tags.len())));
    }
    for (key, value) in tags {
        if key.is_empty() || key.len() > TAG_KEY_BYTES_MAX || !key.bytes().all(ok) {
            let why = format!("1 to {TAG_KEY_BYTES_MAX} characters of A-Z a-z 0-9 . _ -");
            return Err(illegal("tag key", key, why));
        }
        if let Err(illegal) = check_text("tag value", value, TAG_VALUE_BYTES_MAX) {
            return Err(Illegal { why: format!("{}, in the tag {key}", illegal.why), ..illegal });
        }
    }
    let total: usize = tags.iter().map(|(k, v)| 2 + k.len() + v.len()).sum();
    if total > TAGS_BYTES_MAX {
        let largest = tags.iter().max_by_key(|(_, v)| v.len()).map_or("", |(k, _)| k);
        let why = format!("at most {TAGS_BYTES_MAX} bytes together, these have {total}; the largest is {largest}");
        return Err(illegal("tags", "", why));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_at_the_bound_and_one_past() {
        assert!(check_name(&"a".repeat(63)).is_ok());
        assert!(check_name(&"a".repeat(64)).is_err());
        for bad in ["", "-a", "a-", "A", "a b", "a_b", "ä", "a\u{1b}[31m"] {
            assert!(check_name(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn streams_keys_and_tags_at_the_bound_and_one_past() {
        assert!(check_stream(&"s".repeat(STREAM_BYTES_MAX)).is_ok());
        assert!(check_stream(&"s".repeat(STREAM_BYTES_MAX + 1)).is_err());
        assert!(check_stream("").is_err());
        assert!(check_key("").is_ok());
        assert!(check_key(&"k".repeat(KEY_BYTES_MAX)).is_ok());
        assert!(check_key(&"k".repeat(KEY_BYTES_MAX + 1)).is_err());
        assert!(check_key("a\u{1b}b").is_err());
        let tags = |n: usize| (0..n).map(|i| (format!("k{i}"), "v".into())).collect();
        assert!(check_tags(&tags(TAGS_MAX)).is_ok());
        assert!(check_tags(&tags(TAGS_MAX + 1)).is_err());
        let one = |bytes: usize| [("k".to_owned(), "v".repeat(bytes))].into();
        assert!(check_tags(&one(TAG_VALUE_BYTES_MAX)).is_ok());
        let why = check_tags(&one(TAG_VALUE_BYTES_MAX + 1)).unwrap_err().why;
        assert!(why.contains("61440 bytes") && why.ends_with("in the tag k"), "{why}");
        let two = |bytes: usize| {
            let half = TAGS_BYTES_MAX / 2 - 3;
            [("a".to_owned(), "v".repeat(half)), ("b".to_owned(), "v".repeat(half + bytes))].into()
        };
        assert!(check_tags(&two(0)).is_ok());
        assert!(check_tags(&two(1)).unwrap_err().why.contains("the largest is b"));
    }

    #[test]
    fn remote_text_never_carries_an_escape() {
        assert_eq!(printable("a\u{1b}[2Jb\u{202e}c"), "a\\u{1b}[2Jb\\u{202e}c");
        assert_eq!(printable("plain — ünï"), "plain — ünï");
    }
}
