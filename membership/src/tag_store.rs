//! What is held of one node's tags: of each key its value, or that it was deleted, and when it was written.
//!
//! It never asks anybody for what is missing. Only the node itself writes its tags, each change at a later Lamport time;
//! so whoever holds all up to a time needs only what is newer, and a hash over all of it tells whether two hold the same.
//!
//! ```text
//! tags   none u8 = 0                                          never had any
//!        told u8 (1: what changed follows, 2: it is to be fetched) | version u64 | floor u64 | hash 16 bytes
//!        and if told is 1:  base u64 | count u16 | cell*      the cells written after base; all of them if base is 0
//! cell   at u64 | key (length u8, bytes) | 0 if it was deleted, or 1 | value (length u16, bytes)
//! ```

use crate::bounds::{INLINE_BYTES_MAX, TAGS_BYTES_MAX, TAGS_MAX, TOMBSTONES_MAX};
use crate::tags::{Tags, is_key, is_value};
use crate::wire::{self, Malformed};
use bytes::{Buf, BufMut};
use std::collections::BTreeMap;

/// The first half of SHA-256: whoever fetches tags from a third party must not be given others with the same hash.
pub(crate) type Hash = [u8; 16];

/// A key's value, and when it was written. Of two writings of one key the later one holds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Cell {
    pub(crate) at: u64,
    /// Nothing: it was deleted.
    pub(crate) value: Option<String>,
}

/// What a record or an answer tells of a node's tags.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TagNews {
    /// The time of the latest writing; zero: never written, or told in the first version of the protocol.
    pub(crate) version: u64,
    /// Deletions up to here are forgotten: whoever holds less than this needs all.
    pub(crate) floor: u64,
    pub(crate) hash: Hash,
    /// Nothing: too large to be told here. Apart, for a record at rest has none.
    pub(crate) delta: Option<Box<Delta>>,
}

/// Changed keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Delta {
    /// All that was written after this is here.
    pub(crate) base: u64,
    pub(crate) cells: Vec<(String, Cell)>,
}

/// What became of news.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Adopted {
    /// It is held now, or was already.
    Held,
    /// Something is missing: it has to be fetched.
    Behind,
    /// Older than what is held.
    Older,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(crate) struct TagStore {
    version: u64,
    floor: u64,
    hash: Hash,
    cells: BTreeMap<String, Cell>,
    view: Tags,
    bytes: usize,
}

/// That of a node that never had any tags.
pub(crate) static NONE: TagStore =
    TagStore { version: 0, floor: 0, hash: [0; 16], cells: BTreeMap::new(), view: Tags::NONE, bytes: 0 };

impl TagStore {
    pub(crate) fn view(&self) -> &Tags {
        &self.view
    }

    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    pub(crate) fn hash(&self) -> &Hash {
        &self.hash
    }

    /// What it takes, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// What it claims to hold is what it is told to be.
    pub(crate) fn holds(&self, news: &TagNews) -> bool {
        (news.version, news.hash) == (self.version, self.hash)
    }

    /// The node itself wishes for these tags from now on; says whether that changes anything.
    pub(crate) fn write(&mut self, wish: &Tags, at: u64) -> bool {
        if self.view == *wish {
            return false;
        }
        for (key, cell) in &mut self.cells {
            if cell.value.is_some() && wish.get(key).is_none() {
                *cell = Cell { at, value: None };
            }
        }
        for (key, value) in wish.as_map() {
            if self.view.get(key) != Some(value) {
                self.cells.insert(key.clone(), Cell { at, value: Some(value.clone()) });
            }
        }
        let mut graves: Vec<u64> = self.cells.values().filter(|c| c.value.is_none()).map(|c| c.at).collect();
        if graves.len() > TOMBSTONES_MAX {
            graves.sort_unstable();
            self.floor = graves[graves.len() - TOMBSTONES_MAX / 2 - 1];
            let floor = self.floor;
            self.cells.retain(|_, cell| cell.value.is_some() || cell.at > floor);
        }
        self.version = at;
        self.settle();
        true
    }

    /// The node itself writes all of it again, later than what somebody else has said in its name.
    pub(crate) fn write_again(&mut self, at: u64) {
        self.cells.retain(|_, cell| cell.value.is_some());
        self.cells.values_mut().for_each(|cell| cell.at = at);
        (self.version, self.floor) = (at, at);
        self.settle();
    }

    /// Makes view and hash agree with the cells.
    fn settle(&mut self) {
        let living = self.cells.iter().filter_map(|(key, cell)| Some((key.clone(), cell.value.clone()?)));
        let living: BTreeMap<String, String> = living.collect();
        if *self.view.as_map() != living {
            self.view = Tags::new(living).unwrap_or_default();
        }
        self.hash = hash(self.version, self.floor, &self.cells);
        self.bytes = all_bytes(&self.cells);
    }

    /// Never had any.
    pub(crate) fn is_none(&self) -> bool {
        self.version == 0 && self.cells.is_empty()
    }

    /// What to tell: all, or what was written last, as far as it fits beside a record.
    pub(crate) fn news(&self) -> TagNews {
        let news = TagNews { version: self.version, floor: self.floor, hash: self.hash, delta: None };
        if self.is_none() {
            return TagNews { delta: Some(Box::default()), ..news };
        }
        let mut newest: Vec<_> = self.cells.iter().collect();
        newest.sort_by(|a, b| b.1.at.cmp(&a.1.at).then(a.0.cmp(b.0)));
        let (mut bytes, mut fit) = (0, 0);
        for (key, cell) in &newest {
            bytes += cell_bytes(key, cell);
            if bytes > INLINE_BYTES_MAX {
                break;
            }
            fit += 1;
        }
        // What was written at one time is told together or not at all.
        let base = newest.get(fit).map_or(0, |(_, cell)| cell.at);
        let is_whole = fit == newest.len();
        if !is_whole && (base == 0 || base == self.version) {
            return news;
        }
        TagNews { delta: Some(Box::new(self.since(base))), ..news }
    }

    /// All for who holds nothing, else what is newer than what they hold.
    pub(crate) fn news_since(&self, held: u64) -> TagNews {
        let base = if held < self.floor || held > self.version { 0 } else { held };
        TagNews { version: self.version, floor: self.floor, hash: self.hash, delta: Some(Box::new(self.since(base))) }
    }

    fn since(&self, base: u64) -> Delta {
        let newer = self.cells.iter().filter(|(_, cell)| base == 0 || cell.at > base);
        Delta { base, cells: newer.map(|(key, cell)| (key.clone(), cell.clone())).collect() }
    }

    /// Takes over what is told; `own`: by the node itself, whose word counts for more than what is held.
    pub(crate) fn adopt(&mut self, news: &TagNews, own: bool) -> Adopted {
        if self.holds(news) {
            return Adopted::Held;
        }
        if news.version < self.version && !own {
            return Adopted::Older;
        }
        let Some(delta) = &news.delta else { return Adopted::Behind };
        let fits = delta.base == 0 || (delta.base <= self.version && self.version >= news.floor);
        if !fits {
            return Adopted::Behind;
        }
        let mut cells = if delta.base == 0 { BTreeMap::new() } else { self.cells.clone() };
        for (key, cell) in &delta.cells {
            // Last writer wins. The one writer never writes a key twice at one time; if a liar did, one of both wins
            // everywhere.
            if cells.get(key).is_none_or(|held: &Cell| (held.at, &held.value) < (cell.at, &cell.value)) {
                cells.insert(key.clone(), cell.clone());
            }
        }
        cells.retain(|_, cell| cell.value.is_some() || cell.at > news.floor);
        if hash(news.version, news.floor, &cells) != news.hash {
            return Adopted::Behind;
        }
        let living = cells.iter().filter_map(|(key, cell)| Some((key.clone(), cell.value.clone()?)));
        let Ok(view) = Tags::new(living.collect()) else { return Adopted::Older };
        let bytes = all_bytes(&cells);
        *self = Self { version: news.version, floor: news.floor, hash: news.hash, cells, view, bytes };
        Adopted::Held
    }
}

fn hash(version: u64, floor: u64, cells: &BTreeMap<String, Cell>) -> Hash {
    if version == 0 && cells.is_empty() {
        return Hash::default();
    }
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    let mut bytes = Vec::with_capacity(64);
    bytes.put_u64(version);
    bytes.put_u64(floor);
    for (key, cell) in cells {
        put_cell(&mut bytes, key, cell);
        context.update(&bytes);
        bytes.clear();
    }
    context.update(&bytes);
    let mut half = Hash::default();
    half.copy_from_slice(&context.finish().as_ref()[..16]);
    half
}

impl TagNews {
    /// What a member of the first version says: all, without times.
    pub(crate) fn of_first(tags: &Tags) -> Self {
        let cells: BTreeMap<_, _> =
            tags.as_map().iter().map(|(k, v)| (k.clone(), Cell { at: 0, value: Some(v.clone()) })).collect();
        let hash = hash(0, 0, &cells);
        Self {
            version: 0,
            floor: 0,
            hash,
            delta: Some(Box::new(Delta { base: 0, cells: cells.into_iter().collect() })),
        }
    }

    /// The tags that a member of the first version told.
    pub(crate) fn as_first(&self) -> Option<Tags> {
        let cells = self.delta.as_ref().filter(|_| self.version == 0)?.cells.iter();
        let tags: BTreeMap<_, _> = cells.filter_map(|(k, cell)| Some((k.clone(), cell.value.clone()?))).collect();
        Tags::new(tags).ok()
    }

    pub(crate) fn encode(&self, buf: &mut impl BufMut) {
        let nothing = |delta: &Delta| delta.base == 0 && delta.cells.is_empty();
        let is_of_none = (self.version, self.floor, self.hash) == (0, 0, Hash::default());
        if is_of_none && self.delta.as_deref().is_some_and(nothing) {
            return buf.put_u8(0);
        }
        buf.put_u8(if self.delta.is_some() { 1 } else { 2 });
        buf.put_u64(self.version);
        buf.put_u64(self.floor);
        buf.put_slice(&self.hash);
        if let Some(delta) = &self.delta {
            buf.put_u64(delta.base);
            buf.put_u16(u16::try_from(delta.cells.len()).expect("validated: at most 1,280 cells"));
            delta.cells.iter().for_each(|(key, cell)| put_cell(buf, key, cell));
        }
    }

    /// Reads and validates; leaves what follows. No time in it is later than `lamport`, the time of its record.
    pub(crate) fn decode(buf: &mut impl Buf, lamport: u64) -> wire::Result<Self> {
        let told = match wire::get_u8(buf)? {
            0 => return Ok(Self::of_first(&Tags::default())),
            1 => true,
            2 => false,
            _ => return Err(Malformed("neither tags nor none")),
        };
        let (version, floor) = (wire::get_u64(buf)?, wire::get_u64(buf)?);
        if version > lamport || floor > version {
            return Err(Malformed("tags written after they were told"));
        }
        let mut hash = Hash::default();
        wire::get_exact(buf, &mut hash)?;
        let delta = if told { Some(Box::new(Delta::decode(buf, version)?)) } else { None };
        Ok(Self { version, floor, hash, delta })
    }
}

impl Delta {
    fn decode(buf: &mut impl Buf, version: u64) -> wire::Result<Self> {
        let base = wire::get_u64(buf)?;
        if base > version {
            return Err(Malformed("tags written after they were told"));
        }
        let (mut cells, mut bytes, mut graves): (Vec<(String, Cell)>, usize, usize) = (Vec::new(), 0, 0);
        for _ in 0..wire::get_u16(buf)? {
            let at = wire::get_u64(buf)?;
            let key = wire::get_text(buf)?;
            let value = match wire::get_u8(buf)? {
                0 => None,
                1 => Some(wire::get_long_text(buf)?),
                _ => return Err(Malformed("neither a value nor none")),
            };
            if at > version || !is_key(&key) || !value.as_deref().is_none_or(is_value) {
                return Err(Malformed("illegal tags"));
            }
            if cells.last().is_some_and(|(last, _)| *last >= key) {
                return Err(Malformed("tags out of order"));
            }
            match &value {
                Some(value) => bytes += 2 + key.len() + value.len(),
                None => graves += 1,
            }
            if bytes > TAGS_BYTES_MAX || graves > TOMBSTONES_MAX || cells.len() - graves.min(cells.len()) > TAGS_MAX {
                return Err(Malformed("more tags than a node may have"));
            }
            cells.push((key, Cell { at, value }));
        }
        Ok(Self { base, cells })
    }
}

fn all_bytes(cells: &BTreeMap<String, Cell>) -> usize {
    cells.iter().map(|(key, cell)| cell_bytes(key, cell)).sum()
}

fn cell_bytes(key: &str, cell: &Cell) -> usize {
    8 + 1 + key.len() + 1 + cell.value.as_ref().map_or(0, |value| 2 + value.len())
}

fn put_cell(buf: &mut impl BufMut, key: &str, cell: &Cell) {
    buf.put_u64(cell.at);
    wire::put_text(buf, key);
    buf.put_u8(u8::from(cell.value.is_some()));
    if let Some(value) = &cell.value {
        wire::put_long_text(buf, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(pairs: &[(&str, &str)]) -> Tags {
        Tags::new(pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()).unwrap()
    }

    /// Through the bytes and back, as a peer hears it.
    fn told(news: &TagNews) -> TagNews {
        let mut bytes = Vec::new();
        news.encode(&mut bytes);
        let mut rest = bytes.as_slice();
        let read = TagNews::decode(&mut rest, u64::MAX).unwrap();
        assert!(rest.is_empty());
        assert_eq!(&read, news);
        read
    }

    #[test]
    fn who_hears_each_change_holds_the_same() {
        let (mut owner, mut holder) = (TagStore::default(), TagStore::default());
        for (at, wish) in [
            (3, tags(&[("zone", "a")])),
            (5, tags(&[("zone", "a"), ("rack", "7")])),
            (9, tags(&[("rack", "8")])),
            (12, Tags::default()),
            (13, tags(&[("zone", "a")])),
        ] {
            assert!(owner.write(&wish, at));
            assert!(!owner.write(&wish, at + 1), "the same again is no news");
            assert_eq!(holder.adopt(&told(&owner.news()), false), Adopted::Held);
            assert_eq!((holder.view(), holder.hash()), (&wish, owner.hash()));
        }
    }

    #[test]
    fn a_small_change_of_large_tags_travels_alone() {
        let (mut owner, mut holder) = (TagStore::default(), TagStore::default());
        let large = "x".repeat(VALUE);
        const VALUE: usize = 60 << 10;
        owner.write(&tags(&[("large", &large)]), 1);
        assert_eq!(owner.news().delta, None, "too large to be told");
        assert_eq!(holder.adopt(&owner.news(), false), Adopted::Behind);
        assert_eq!(holder.adopt(&told(&owner.news_since(holder.version())), false), Adopted::Held);
        owner.write(&tags(&[("large", &large), ("small", "y")]), 2);
        let news = owner.news();
        let mut bytes = Vec::new();
        news.encode(&mut bytes);
        assert!(bytes.len() < 80, "{} bytes", bytes.len());
        assert_eq!(holder.adopt(&told(&news), false), Adopted::Held);
        assert_eq!(holder.view().get("small"), Some("y"));
        // Who missed a change in between is told that it is behind, and not half of it.
        owner.write(&tags(&[("large", &large), ("small", "y"), ("second", "z")]), 3);
        let mut late = TagStore::default();
        assert_eq!(late.adopt(&owner.news(), false), Adopted::Behind);
        assert_eq!(late.version(), 0);
    }

    #[test]
    fn what_was_deleted_does_not_come_back() {
        let (mut owner, mut holder) = (TagStore::default(), TagStore::default());
        owner.write(&tags(&[("a", "1"), ("b", "2")]), 1);
        let old = owner.news();
        holder.adopt(&old, false);
        owner.write(&tags(&[("b", "2")]), 2);
        assert_eq!(holder.adopt(&owner.news(), false), Adopted::Held);
        assert_eq!(holder.adopt(&old, false), Adopted::Older);
        assert_eq!(holder.view(), &tags(&[("b", "2")]));
    }

    /// Deletions are forgotten in time; who missed them gets all, and so loses what was deleted.
    #[test]
    fn forgotten_deletions_are_not_missed_by_who_was_away() {
        let (mut owner, mut away) = (TagStore::default(), TagStore::default());
        owner.write(&tags(&[("old", "1")]), 1);
        away.adopt(&owner.news(), false);
        for i in 0..1000_u64 {
            owner.write(&tags(&[(&format!("k{i}"), "v")]), 2 + i);
        }
        assert!(owner.cells.len() <= TOMBSTONES_MAX + 1, "{} cells", owner.cells.len());
        assert_eq!(away.adopt(&owner.news(), false), Adopted::Behind, "it holds less than the floor");
        let news = told(&owner.news_since(away.version()));
        assert_eq!(news.delta.as_ref().map(|delta| delta.base), Some(0));
        assert_eq!(away.adopt(&news, false), Adopted::Held);
        assert_eq!(away.view(), &tags(&[("k999", "v")]));
        assert_eq!(away.hash(), owner.hash());
    }

    /// Somebody has told a holder what the node never said, at a later time. Its own word ends that.
    #[test]
    fn the_word_of_the_node_itself_ends_a_lie() {
        let (mut owner, mut holder, mut liar) = (TagStore::default(), TagStore::default(), TagStore::default());
        owner.write(&tags(&[("zone", "a")]), 1);
        holder.adopt(&owner.news(), false);
        liar.adopt(&owner.news(), false);
        liar.write(&tags(&[("zone", "evil"), ("more", "lies")]), 50);
        assert_eq!(holder.adopt(&liar.news(), false), Adopted::Held, "nobody can know");
        owner.write_again(60);
        assert_eq!(holder.adopt(&owner.news(), false), Adopted::Held);
        assert_eq!(holder.view(), &tags(&[("zone", "a")]));
        // And its own word counts at once, even if it is earlier than the lie.
        holder.adopt(
            &{
                liar.write(&tags(&[("zone", "worse")]), 99);
                liar.news_since(0)
            },
            false,
        );
        assert_eq!(holder.adopt(&owner.news_since(0), false), Adopted::Older);
        assert_eq!(holder.adopt(&owner.news_since(0), true), Adopted::Held);
        assert_eq!(holder.view(), &tags(&[("zone", "a")]));
    }

    #[test]
    fn forged_answers_are_not_held() {
        let (mut owner, mut holder) = (TagStore::default(), TagStore::default());
        owner.write(&tags(&[("zone", "a")]), 1);
        let mut forged = owner.news_since(0);
        forged.delta.as_mut().unwrap().cells[0].1.value = Some("b".into());
        assert_eq!(holder.adopt(&forged, false), Adopted::Behind);
        assert_eq!(holder.view(), &Tags::default());
    }

    #[test]
    fn bounds_hold_at_the_bound_and_one_past() {
        let decode = |cells: Vec<(String, Cell)>, lamport| {
            let mut bytes = Vec::new();
            let news = TagNews { version: 5, floor: 0, hash: [7; 16], delta: Some(Box::new(Delta { base: 0, cells })) };
            news.encode(&mut bytes);
            TagNews::decode(&mut bytes.as_slice(), lamport)
        };
        let cell =
            |i: usize, at, value: Option<&str>| (format!("k{i:04}"), Cell { at, value: value.map(str::to_owned) });
        assert!(decode((0..TAGS_MAX).map(|i| cell(i, 5, Some("v"))).collect(), 5).is_ok());
        assert!(decode((0..TAGS_MAX + 2).map(|i| cell(i, 5, Some("v"))).collect(), 5).is_err());
        assert!(decode((0..TOMBSTONES_MAX).map(|i| cell(i, 5, None)).collect(), 5).is_ok());
        assert!(decode((0..TOMBSTONES_MAX + 1).map(|i| cell(i, 5, None)).collect(), 5).is_err());
        assert!(decode(vec![cell(0, 5, Some("v"))], 4).is_err(), "written after it was told");
        assert!(decode(vec![cell(0, 6, Some("v"))], 9).is_err(), "written after the latest writing");
        assert!(decode(vec![cell(1, 5, Some("v")), cell(0, 5, Some("v"))], 5).is_err(), "out of order");
        let long = "x".repeat(TAGS_BYTES_MAX / 2 - 8);
        assert!(decode(vec![cell(0, 5, Some(&long)), cell(1, 5, Some(&long))], 5).is_ok());
        assert!(decode(vec![cell(0, 5, Some(&long)), cell(1, 5, Some(&long)), cell(2, 5, Some(&long))], 5).is_err());
    }
}
