//! How one record is shown, to people and to programs.
//!
//! It never changes a value: what JSON cannot say goes out as Base64.

use super::output;
use crate::client::Item;
use crate::limits::printable;
use serde::Serialize;
use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// A record as the contract lays it out.
#[derive(Serialize)]
pub(crate) struct RecordObject<'a> {
    offset: u64,
    shard: u32,
    term: u64,
    time: String,
    lamport: u64,
    stream: &'a str,
    seq: u64,
    key: &'a str,
    r#type: &'a str,
    headers: BTreeMap<&'a str, &'a str>,
    correlation_id: Option<&'a str>,
    causation_id: Option<&'a str>,
    producer: Option<ProducerObject>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Value<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_b64: Option<String>,
}

#[derive(Serialize)]
struct ProducerObject {
    session: String,
    seq: u64,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Value<'a> {
    Json(&'a RawValue),
    Text(&'a str),
}

impl<'a> RecordObject<'a> {
    pub(crate) fn of(item: &'a Item) -> Self {
        let record = &item.stored.record;
        let some = |text: &'a str| (!text.is_empty()).then_some(text);
        let text = std::str::from_utf8(&record.value).ok();
        let value = text.map(|text| match serde_json::from_str::<&RawValue>(text) {
            Ok(raw) => Value::Json(raw),
            Err(_) => Value::Text(text),
        });
        Self {
            offset: item.offset,
            shard: item.shard,
            term: item.term,
            time: output::time(item.time, 6),
            lamport: item.lamport,
            stream: &record.stream,
            seq: item.stored.seq,
            key: &record.key,
            r#type: &record.kind,
            headers: record.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect(),
            correlation_id: some(&record.correlation),
            causation_id: some(&record.causation),
            producer: item.producer.map(|(session, seq)| ProducerObject { session: format!("{session:016x}"), seq }),
            value_b64: value.is_none().then(|| base64(&record.value)),
            value,
        }
    }
}

/// One line for people: offset, time, stream, key, value.
pub(crate) fn line(item: &Item) -> String {
    let record = &item.stored.record;
    let key = if record.key.is_empty() { "-" } else { &record.key };
    let value = match std::str::from_utf8(&record.value) {
        Ok(text) => printable(text),
        Err(_) => record.value.escape_ascii().to_string(),
    };
    let (time, stream) = (output::time(item.time, 3), printable(&record.stream));
    format!("{}  {time}  {stream}  {}  {value}", item.offset, printable(key))
}

/// Standard Base64 with padding (RFC 4648 §4).
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let all = chunk.iter().fold(0_u32, |all, byte| all << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for i in 0..4 {
            let six = (all >> (18 - 6 * i)) & 63;
            out.push(if i <= chunk.len() { char::from(ALPHABET[six as usize]) } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Record, Stored};
    use bytes::Bytes;

    fn item(value: &'static [u8]) -> Item {
        let record = Record {
            stream: "orders".into(),
            key: "alice".into(),
            kind: "order.created".into(),
            headers: vec![("b".into(), "2".into()), ("a".into(), "1".into())],
            correlation: String::new(),
            causation: "41".into(),
            value: Bytes::from_static(value),
        };
        let (time, stored) = (1_764_000_000_123_456, Stored { seq: 7, record });
        Item { offset: 42, term: 3, time, lamport: 97, shard: 0, producer: None, stored }
    }

    fn json(value: &'static [u8]) -> String {
        serde_json::to_string(&RecordObject::of(&item(value))).unwrap()
    }

    #[test]
    fn a_record_is_the_object_of_the_contract() {
        assert_eq!(
            json(b"{\"total\": 42.0}"),
            r#"{"offset":42,"shard":0,"term":3,"time":"2025-11-24T16:00:00.123456Z","lamport":97,"stream":"orders","seq":7,"key":"alice","type":"order.created","headers":{"a":"1","b":"2"},"correlation_id":null,"causation_id":"41","producer":null,"value":{"total": 42.0}}"#
        );
    }

    #[test]
    fn a_value_is_json_else_text_else_base64() {
        for (value, end) in [
            (&b"123456789012345678901234567890"[..], r#""value":123456789012345678901234567890}"#),
            (b"null", r#""value":null}"#),
            (b"", r#""value":""}"#),
            (b"hello \"you\"", r#""value":"hello \"you\""}"#),
            (b"{\"a\":1} x", r#""value":"{\"a\":1} x"}"#),
            (b"\xff\xfe\x00", r#""value_b64":"//4A"}"#),
            (b"\xff", r#""value_b64":"/w=="}"#),
            (b"\xff\xff", r#""value_b64":"//8="}"#),
        ] {
            let said = json(value);
            assert!(said.ends_with(end), "{said}");
        }
    }

    #[test]
    fn a_line_for_people_never_carries_what_a_terminal_obeys() {
        assert_eq!(line(&item(b"a\x1b[2J\nb")), "42  2025-11-24T16:00:00.123Z  orders  alice  a\\u{1b}[2J\\nb");
        assert!(line(&item(b"\xff\x1b")).ends_with("\\xff\\x1b"));
    }
}
