//! The segments of a directory: what is there, and what is known of what is not.
//!
//! It reads names and header blocks only, and changes nothing.

use std::sync::Arc;

use super::disk::Disk;
use super::error::{Context, Error};
use super::frame::{self, Window};
use super::meta::Meta;
use super::segment::{self, Name, Previous, SEGMENT_BYTES_MAX, SEGMENT_HEADER_BYTES, Segment, SegmentHeader};

/// A segment of the log, whether its file is there or not.
pub(super) struct Found {
    pub(super) segment: Arc<Segment>,
    pub(super) base: u64,
    /// Of the file; `None` if there is none.
    pub(super) len: Option<u64>,
    /// Its header block, if that is good.
    header: Option<SegmentHeader>,
    /// What its header block must be, and what is wrong with the one that it has.
    pub(super) block: Option<(Vec<u8>, String)>,
    /// The length that its successor remembers.
    pub(super) sealed_len: Option<u64>,
}

impl Found {
    fn missing(seq: u64, base: u64, uid: u64) -> Self {
        let segment = Arc::new(Segment { name: segment::name_of(seq, base, uid), seq, uid });
        Self { segment, base, len: None, header: None, block: None, sealed_len: None }
    }
}

/// All segments, ascending and without a gap.
///
/// # Errors
/// [`Error::Corrupt`] if a file is foreign, or missing without anything that tells which entries it held.
pub(super) fn segments(disk: &dyn Disk, names: &[String], meta: &Meta) -> Result<Vec<Found>, Error> {
    let mut found = Vec::new();
    for name in names {
        match (segment::classify(name), segment::parse(name)) {
            (Name::Segment(seq), Some((_, base, uid))) => found.push(read(disk, name, (seq, base, uid), meta)?),
            (Name::Segment(_) | Name::Strange, _) => {
                return Err(Error::corrupt(name, 0, "this is not the name of a segment"));
            }
            _ => {}
        }
    }
    found.sort_by(|a, b| (a.segment.seq, &a.segment.name).cmp(&(b.segment.seq, &b.segment.name)));
    if let Some(twice) = found.windows(2).find_map(|w| match w {
        [a, b] if a.segment.seq == b.segment.seq => Some(&b.segment.name),
        _ => None,
    }) {
        return Err(Error::corrupt(twice, 0, "there is another segment of this number"));
    }
    let mut found = add_missing(found, names, meta)?;
    for at in 0..found.len() {
        let next = found.get(at + 1).and_then(|next| next.header);
        let before = at.checked_sub(1).and_then(|at| found.get(at)).map(previous_of);
        if let Some(this) = found.get_mut(at) {
            this.sealed_len = next.map(|next| next.previous.len);
            rebuild(disk, this, before, next, meta)?;
        }
    }
    Ok(found)
}

fn previous_of(found: &Found) -> Option<Previous> {
    Some(Previous { uid: found.segment.uid, len: found.len?, base: found.base })
}

fn read(disk: &dyn Disk, name: &str, (seq, base, uid): (u64, u64, u64), meta: &Meta) -> Result<Found, Error> {
    let file = disk.open(name).context("open", name)?;
    let len = file.len().context("measure", name)?;
    if len > SEGMENT_BYTES_MAX {
        return Err(Error::corrupt(name, SEGMENT_BYTES_MAX, "the file is longer than any segment"));
    }
    if base == 0 || seq == 0 {
        return Err(Error::corrupt(name, 0, "this is not the name of a segment"));
    }
    let mut block = vec![0; SEGMENT_HEADER_BYTES.min(len as usize)];
    file.read_at(&mut block, 0).context("read", name)?;
    let mut found = Found { len: Some(len), ..Found::missing(seq, base, uid) };
    match SegmentHeader::decode(&block, name) {
        Ok(header) if header.cluster != meta.cluster || header.node != meta.node => {
            return Err(Error::corrupt(name, 0, "the segment belongs to another node or cluster"));
        }
        Ok(header) if Some(header.log_id) != meta.log_id => {
            return Err(Error::corrupt(name, 0, "the segment belongs to another log id"));
        }
        Ok(header) => found.header = Some(header),
        Err(Error::Corrupt { what, .. }) => found.block = Some((Vec::new(), what)),
        Err(other) => return Err(other),
    }
    Ok(found)
}

/// Names the segments between, before and behind those that are there.
fn add_missing(found: Vec<Found>, names: &[String], meta: &Meta) -> Result<Vec<Found>, Error> {
    // A sidecar outlives its segment, and its name says enough.
    let beside: Vec<(u64, u64, u64)> = names
        .iter()
        .filter(|n| segment::classify(n) == Name::Sidecar)
        .filter_map(|n| segment::parse(&n.replace(super::names::SIDECAR_SUFFIX, segment::SUFFIX)))
        .collect();
    let by_sidecar = |seq: u64| beside.iter().find(|(s, ..)| *s == seq).map(|(_, base, uid)| (*base, *uid));
    let first = meta.start.position.index.0 + 1;
    let mut all: Vec<Found> = Vec::with_capacity(found.len());
    // From the newest back: each tells the one before.
    let mut rest = found.into_iter().rev().peekable();
    if let Some(tail) = meta.tail {
        let newest = rest.peek().map_or(0, |f| f.segment.seq);
        if newest < tail.seq {
            let told = (tail.base > 0).then_some((tail.base, tail.uid)).or_else(|| by_sidecar(tail.seq));
            let Some((base, uid)) = told else { return Err(unknown(tail.seq)) };
            all.push(Found::missing(tail.seq, base, uid));
        }
    }
    loop {
        let wanted = match all.last() {
            Some(last) if last.base <= first || last.segment.seq <= 1 => None,
            Some(last) => Some((last.segment.seq - 1, last.header.map(|h| h.previous))),
            None => None,
        };
        match (rest.peek(), wanted) {
            (Some(next), Some((seq, told))) if next.segment.seq < seq => {
                let told = told.filter(|p| p.uid != 0 && p.base != 0).map(|p| (p.base, p.uid));
                let Some((base, uid)) = told.or_else(|| by_sidecar(seq)) else { return Err(unknown(seq)) };
                all.push(Found::missing(seq, base, uid));
            }
            (None, Some((seq, told))) => {
                let told = told.filter(|p| p.uid != 0 && p.base != 0).map(|p| (p.base, p.uid));
                let Some((base, uid)) = told.or_else(|| by_sidecar(seq)) else { return Err(unknown(seq)) };
                all.push(Found::missing(seq, base, uid));
            }
            (Some(_), _) => all.extend(rest.next()),
            (None, None) => break,
        }
    }
    all.reverse();
    let tail = meta.tail.and_then(|t| all.iter().find(|f| f.segment.seq == t.seq).map(|f| (f, t)));
    match (meta.tail, tail) {
        (Some(tail), Some((found, _))) if found.segment.uid != tail.uid => {
            Err(Error::corrupt(&found.segment.name, 0, "the meta knows another segment of this number"))
        }
        (Some(tail), None) => Err(unknown(tail.seq)),
        _ => Ok(all),
    }
}

fn unknown(seq: u64) -> Error {
    let name = format!("segment number {seq}");
    Error::corrupt(&name, 0, "the file is missing, and nothing tells which entries it held")
}

/// What a damaged header block must have been. That the name is true is proven by what depends on the uid in it: the
/// successor, the meta, or the checksum of a frame.
fn rebuild(
    disk: &dyn Disk,
    this: &mut Found,
    before: Option<Option<Previous>>,
    next: Option<SegmentHeader>,
    meta: &Meta,
) -> Result<(), Error> {
    let (Some((block, what)), Some(len), Some(log_id)) = (&mut this.block, this.len, meta.log_id) else {
        return Ok(());
    };
    let Segment { name, seq, uid } = this.segment.as_ref();
    let by_next = next.is_some_and(|next| next.previous.uid == *uid);
    let by_meta = meta.tail.is_some_and(|tail| (tail.seq, tail.uid) == (*seq, *uid));
    if !by_next && !by_meta {
        let file = disk.open(name).context("open", name)?;
        let mut window = Window::new(file, len, SEGMENT_HEADER_BYTES);
        let proof = frame::next(&mut window, *uid, SEGMENT_HEADER_BYTES as u64).context("read", name)?;
        if proof.is_none_or(|(at, header)| at != SEGMENT_HEADER_BYTES as u64 || header.index != this.base) {
            return Err(Error::corrupt(name, 0, what.clone()));
        }
    }
    // If the file before is missing nobody knows how long it was: the block waits until that is back.
    let Some(previous) = before.unwrap_or(Some(Previous::default())) else { return Ok(()) };
    let header = SegmentHeader {
        cluster: meta.cluster,
        node: meta.node,
        log_id,
        uid: *uid,
        seq: *seq,
        base_index: this.base,
        previous,
    };
    *block = header.encode();
    Ok(())
}
