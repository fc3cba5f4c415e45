//! Records and how a batch of them is laid out inside an entry: one format for client, log and reader.
//!
//! It never interprets a value. A batch is encoded once, by the client; the leader only fills in the stream sequence
//! numbers, before the checksum is made.
//!
//! ```text
//! batch   0  u8   version = 1
//!         1  u8   reserved = 0
//!         2  u16  reserved = 0
//!         4  u32  count of records
//!         8  records, one after another
//! record  0  u32  length of what follows
//!         4  u64  stream sequence number; zero until the leader sets it
//!        12  u8   stream length, 13 u8 reserved = 0, 14 u16 key length, 16 u16 type length
//!        18  u16  correlation length, 20 u16 causation length, 22 u16 number of headers
//!        24  stream, key, type, correlation, causation, then headers {u16, u16, name, value}, then the value
//! ```
//! All integers are little-endian. Not protected here: the entry's CRC covers the whole batch.

use crate::limits::{self, BATCH_BYTES_MAX, BATCH_RECORDS_MAX, Illegal};
use bytes::{BufMut, Bytes, BytesMut};

const VERSION: u8 = 1;
/// Bytes before the first record of a batch.
pub const BATCH_HEADER_BYTES: usize = 8;
/// Bytes before the texts of a record, its length field included.
pub const RECORD_HEADER_BYTES: usize = 24;

/// One record as a user writes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// The stream it belongs to; never empty.
    pub stream: String,
    /// Its key; empty for none.
    pub key: String,
    /// Its type; empty for none.
    pub kind: String,
    /// Names and values, in the writer's order.
    pub headers: Vec<(String, String)>,
    /// What request caused the chain of records; empty for none.
    pub correlation: String,
    /// What record caused this one; empty for none.
    pub causation: String,
    /// The value; may be empty.
    pub value: Bytes,
}

/// One record as it stands in a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its number in its stream, from 1.
    pub seq: u64,
    /// The record.
    pub record: Record,
}

/// Why bytes are not a batch. Remote input: never trusted, never echoed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The batch ends too early or goes on too long.
    #[error("the batch does not have the length it announces")]
    Length,
    /// Written by a newer version.
    #[error("batch version {0} is not known; upgrade this agent")]
    Version(u8),
    /// A count of zero or too many.
    #[error("a batch holds 1 to {BATCH_RECORDS_MAX} records")]
    Count,
    /// A text that is not UTF-8.
    #[error("a stream, key, type, header or id is not UTF-8")]
    Text,
    /// A stream, key or size that breaks a limit.
    #[error("a record breaks a limit")]
    Limit,
}

impl Record {
    /// A record of the default stream with this value.
    pub fn of(value: impl Into<Bytes>) -> Self {
        Self { stream: limits::STREAM_DEFAULT.into(), value: value.into(), ..Self::default() }
    }

    /// Do all parts keep their limits? `value_max` is the cluster's largest value.
    pub fn check(&self, value_max: usize) -> Result<(), Illegal> {
        let headers = self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let Self { stream, key, kind, correlation, causation, value, .. } = self;
        Parts { stream, key, kind, correlation, causation, headers, value }.check(value_max)
    }

    /// Bytes of this record in a batch.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        let headers: usize = self.headers.iter().map(|(n, v)| 4 + n.len() + v.len()).sum();
        let texts =
            self.stream.len() + self.key.len() + self.kind.len() + self.correlation.len() + self.causation.len();
        RECORD_HEADER_BYTES + texts + headers + self.value.len()
    }

    fn encode(&self, out: &mut BytesMut) {
        out.put_u32_le((self.encoded_len() - 4) as u32);
        out.put_u64_le(0);
        out.put_u8(self.stream.len() as u8);
        out.put_u8(0);
        for len in [self.key.len(), self.kind.len(), self.correlation.len(), self.causation.len(), self.headers.len()] {
            out.put_u16_le(len as u16);
        }
        for text in [&self.stream, &self.key, &self.kind, &self.correlation, &self.causation] {
            out.put_slice(text.as_bytes());
        }
        for (name, value) in &self.headers {
            out.put_u16_le(name.len() as u16);
            out.put_u16_le(value.len() as u16);
            out.put_slice(name.as_bytes());
            out.put_slice(value.as_bytes());
        }
        out.put_slice(&self.value);
    }
}

/// Lays records out as one batch. They must have passed [`Record::check`], be at least one, at most
/// [`BATCH_RECORDS_MAX`], and fit [`BATCH_BYTES_MAX`] together.
pub fn encode_batch<'a>(records: impl ExactSizeIterator<Item = &'a Record> + Clone) -> Result<Bytes, Malformed> {
    if records.len() == 0 || records.len() > BATCH_RECORDS_MAX {
        return Err(Malformed::Count);
    }
    let total = BATCH_HEADER_BYTES + records.clone().map(Record::encoded_len).sum::<usize>();
    if total > BATCH_BYTES_MAX {
        return Err(Malformed::Length);
    }
    let mut out = BytesMut::with_capacity(total);
    out.put_u8(VERSION);
    out.put_slice(&[0; 3]);
    out.put_u32_le(records.len() as u32);
    for record in records {
        record.encode(&mut out);
    }
    Ok(out.freeze())
}

/// Where one record lies in its batch, with the parts that the log needs to look at.
#[derive(Clone, Copy, Debug)]
pub struct Outline<'a> {
    /// Offset of the sequence field from the start of the batch.
    pub seq_at: usize,
    /// The stream's name.
    pub stream: &'a str,
    /// The record's body after the fixed header: texts, headers, value.
    body: &'a [u8],
    lens: [usize; 6],
    seq: u64,
}

/// Walks a batch, checking its structure as it goes; the first error ends it.
#[derive(Clone, Debug)]
pub struct Outlines<'a> {
    batch: &'a [u8],
    at: usize,
    left: usize,
}

/// The records of a batch, checked while walking. Refuses a wrong version or count at once.
pub fn outlines(batch: &[u8]) -> Result<Outlines<'_>, Malformed> {
    let header: &[u8; BATCH_HEADER_BYTES] = batch.first_chunk().ok_or(Malformed::Length)?;
    if header[0] != VERSION {
        return Err(Malformed::Version(header[0]));
    }
    let left = u32::from_le_bytes([header[4], header[5], header[6], header[7]]) as usize;
    if left == 0 || left > BATCH_RECORDS_MAX {
        return Err(Malformed::Count);
    }
    Ok(Outlines { batch, at: BATCH_HEADER_BYTES, left })
}

/// How many records the batch announces.
pub fn count(batch: &[u8]) -> Result<u32, Malformed> {
    Ok(outlines(batch)?.left as u32)
}

impl<'a> Outlines<'a> {
    fn step(&mut self) -> Result<Outline<'a>, Malformed> {
        let rest = self.batch.get(self.at..).ok_or(Malformed::Length)?;
        let (head, _) = rest.split_first_chunk::<RECORD_HEADER_BYTES>().ok_or(Malformed::Length)?;
        let u16_at = |i: usize| u16::from_le_bytes([head[i], head[i + 1]]) as usize;
        let len = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let whole = rest.get(..len.saturating_add(4)).ok_or(Malformed::Length)?;
        let body = whole.get(RECORD_HEADER_BYTES..).ok_or(Malformed::Length)?;
        let lens = [head[12] as usize, u16_at(14), u16_at(16), u16_at(18), u16_at(20), u16_at(22)];
        let stream = text(body.get(..lens[0]).ok_or(Malformed::Length)?)?;
        let mut seq = [0; 8];
        seq.copy_from_slice(&head[4..12]);
        let outline = Outline { seq_at: self.at + 4, stream, body, lens, seq: u64::from_le_bytes(seq) };
        self.at += whole.len();
        self.left -= 1;
        if self.left == 0 && self.at != self.batch.len() {
            return Err(Malformed::Length);
        }
        Ok(outline)
    }
}

impl<'a> Iterator for Outlines<'a> {
    type Item = Result<Outline<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        let item = self.step();
        if item.is_err() {
            self.left = 0;
        }
        Some(item)
    }
}

fn text(bytes: &[u8]) -> Result<&str, Malformed> {
    std::str::from_utf8(bytes).map_err(|_| Malformed::Text)
}

impl Outline<'_> {
    /// The number in its stream; zero until a leader has set it.
    #[must_use]
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// The key, without decoding the rest.
    pub fn key(&self) -> Result<&str, Malformed> {
        let start = self.lens[0];
        text(self.body.get(start..start + self.lens[1]).ok_or(Malformed::Length)?)
    }

    /// The parts of the record, where they lie.
    fn parts(&self) -> Result<Parts<'_>, Malformed> {
        let mut rest = self.body;
        let stream = text(take(&mut rest, self.lens[0])?)?;
        let key = text(take(&mut rest, self.lens[1])?)?;
        let kind = text(take(&mut rest, self.lens[2])?)?;
        let correlation = text(take(&mut rest, self.lens[3])?)?;
        let causation = text(take(&mut rest, self.lens[4])?)?;
        if self.lens[5] > limits::HEADERS_MAX {
            return Err(Malformed::Limit);
        }
        let mut headers = Vec::with_capacity(self.lens[5]);
        for _ in 0..self.lens[5] {
            let lens = take(&mut rest, 4)?;
            let (n, v) = (u16::from_le_bytes([lens[0], lens[1]]), u16::from_le_bytes([lens[2], lens[3]]));
            let name = text(take(&mut rest, n.into())?)?;
            headers.push((name, text(take(&mut rest, v.into())?)?));
        }
        Ok(Parts { stream, key, kind, correlation, causation, headers, value: rest })
    }

    /// The whole record; `batch` is the buffer it was found in, which the value goes on sharing.
    pub fn read(&self, batch: &Bytes) -> Result<Stored, Malformed> {
        let Parts { stream, key, kind, correlation, causation, headers, value } = self.parts()?;
        let record = Record {
            stream: stream.into(),
            key: key.into(),
            kind: kind.into(),
            headers: headers.into_iter().map(|(name, value)| (name.into(), value.into())).collect(),
            correlation: correlation.into(),
            causation: causation.into(),
            value: batch.slice_ref(value),
        };
        Ok(Stored { seq: self.seq, record })
    }
}

/// A record where it lies in a batch; of a record without headers nothing is copied.
struct Parts<'a> {
    stream: &'a str,
    key: &'a str,
    kind: &'a str,
    correlation: &'a str,
    causation: &'a str,
    headers: Vec<(&'a str, &'a str)>,
    value: &'a [u8],
}

impl Parts<'_> {
    fn check(&self, value_max: usize) -> Result<(), Illegal> {
        limits::check_stream(self.stream)?;
        limits::check_key(self.key)?;
        limits::check_label("type", self.kind)?;
        limits::check_label("correlation id", self.correlation)?;
        limits::check_label("causation id", self.causation)?;
        if self.headers.len() > limits::HEADERS_MAX {
            let why = format!("at most {}, these are {}", limits::HEADERS_MAX, self.headers.len());
            return Err(Illegal { what: "headers", shown: String::new(), why });
        }
        for (name, value) in &self.headers {
            limits::check_header(name, value)?;
        }
        let headers: usize = self.headers.iter().map(|(n, v)| 4 + n.len() + v.len()).sum();
        let texts = [self.stream, self.key, self.kind, self.correlation, self.causation];
        let overhead = RECORD_HEADER_BYTES + headers + texts.iter().map(|text| text.len()).sum::<usize>();
        if overhead > limits::RECORD_OVERHEAD_MAX {
            let why =
                format!("headers and names take at most {} bytes, these take {overhead}", limits::RECORD_OVERHEAD_MAX);
            return Err(Illegal { what: "record", shown: String::new(), why });
        }
        if self.value.len() > value_max {
            let why = format!("at most {value_max} bytes, this has {}", self.value.len());
            return Err(Illegal { what: "value", shown: String::new(), why });
        }
        Ok(())
    }
}

fn take<'a>(rest: &mut &'a [u8], len: usize) -> Result<&'a [u8], Malformed> {
    let (head, tail) = rest.split_at_checked(len).ok_or(Malformed::Length)?;
    *rest = tail;
    Ok(head)
}

/// All records of a batch; values share its buffer.
pub fn decode_batch(batch: &Bytes) -> Result<Vec<Stored>, Malformed> {
    outlines(batch)?.map(|outline| outline?.read(batch)).collect()
}

/// Adds the records of `batch` to those of `whole`, which becomes a batch if it was empty. How many they are; the
/// caller keeps the bounds.
pub fn join(whole: &mut BytesMut, batch: &[u8]) -> Result<u32, Malformed> {
    let more = count(batch)?;
    if whole.is_empty() {
        whole.extend_from_slice(batch);
        return Ok(more);
    }
    let here = count(whole)?;
    whole.extend_from_slice(batch.get(BATCH_HEADER_BYTES..).ok_or(Malformed::Length)?);
    if let Some(field) = whole.get_mut(4..8) {
        field.copy_from_slice(&here.saturating_add(more).to_le_bytes());
    }
    Ok(more)
}

/// Is every record of this batch within its limits? What an agent asks before it lets a stranger's batch in.
pub fn check_batch(batch: &Bytes, value_max: usize) -> Result<u32, Malformed> {
    if batch.len() > BATCH_BYTES_MAX {
        return Err(Malformed::Length);
    }
    let mut n = 0;
    for outline in outlines(batch)? {
        outline?.parts()?.check(value_max).map_err(|_| Malformed::Limit)?;
        n += 1;
    }
    Ok(n)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn some() -> Record {
        Record {
            stream: "orders".into(),
            key: "alice".into(),
            kind: "order.created".into(),
            headers: vec![("a".into(), "1".into()), ("b".into(), String::new())],
            correlation: "c".into(),
            causation: "d".into(),
            value: Bytes::from_static(b"hello"),
        }
    }

    #[test]
    fn a_batch_reads_back_as_written() {
        let records = [some(), Record::of("")];
        let batch = encode_batch(records.iter()).unwrap();
        let back = decode_batch(&batch).unwrap();
        assert_eq!(back.iter().map(|s| &s.record).collect::<Vec<_>>(), records.iter().collect::<Vec<_>>());
        assert_eq!(check_batch(&batch, 5), Ok(2));
        assert_eq!(check_batch(&batch, 4), Err(Malformed::Limit));
    }

    /// What a leader gathers reads back as what its clients sent, in order.
    #[test]
    fn batches_join_to_one_batch() {
        let (one, two) =
            (encode_batch([some()].iter()).unwrap(), encode_batch([Record::of("x"), some()].iter()).unwrap());
        let mut whole = BytesMut::new();
        assert_eq!(join(&mut whole, &one), Ok(1));
        assert_eq!(join(&mut whole, &two), Ok(2));
        let records: Vec<_> = decode_batch(&whole.freeze()).unwrap().into_iter().map(|s| s.record).collect();
        assert_eq!(records, [some(), Record::of("x"), some()]);
        assert!(join(&mut BytesMut::new(), b"junk").is_err());
    }

    #[test]
    fn every_cut_and_every_excess_is_refused() {
        let batch = encode_batch([some(), some()].iter()).unwrap();
        for len in 0..batch.len() {
            assert!(decode_batch(&batch.slice(..len)).is_err(), "{len}");
        }
        let longer = Bytes::from([batch.as_ref(), b"x"].concat());
        assert_eq!(decode_batch(&longer), Err(Malformed::Length));
    }

    proptest! {
        #[test]
        fn junk_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200), count in 1u8..4) {
            let mut junk = vec![1, 0, 0, 0, count, 0, 0, 0];
            junk.extend(bytes);
            let _ = check_batch(&Bytes::from(junk), 100);
        }
    }
}
