//! Tags: what an operator says of a node, in keys and values that every member learns.
//!
//! They never say when a key was written: that is `tag_store`'s.

use crate::bounds::{KEY_BYTES_MAX, TAGS_BYTES_MAX, TAGS_MAX, VALUE_BYTES_MAX, first};
use crate::error::Error;
use crate::wire::{self, Malformed};
use bytes::{Buf, BufMut};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// Validated tags of one node. Cheap to clone: members are compared and copied with each change of any of them.
#[derive(Clone, Default)]
pub struct Tags(Option<Arc<BTreeMap<String, String>>>);

static NONE: BTreeMap<String, String> = BTreeMap::new();

impl fmt::Debug for Tags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Tags").field(self.as_map()).finish()
    }
}

impl PartialEq for Tags {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b) || a == b,
            (a, b) => a.is_none() && b.is_none(),
        }
    }
}

impl Eq for Tags {}

impl Tags {
    /// No tags at all.
    pub(crate) const NONE: Self = Self(None);

    /// Checks every limit; the message says which one was passed.
    pub fn new(tags: BTreeMap<String, String>) -> Result<Self, Error> {
        if tags.len() > TAGS_MAX {
            return Err(Error::TooManyTags(tags.len()));
        }
        for (key, value) in &tags {
            if !is_key(key) {
                return Err(Error::TagKey(key.clone()));
            }
            if !is_value(value) {
                return Err(Error::TagValue(key.clone()));
            }
        }
        let bytes = measure(&tags);
        if bytes > TAGS_BYTES_MAX {
            return Err(Error::TagsTooLong(bytes));
        }
        Ok(Self((!tags.is_empty()).then(|| Arc::new(tags))))
    }

    /// The tags, by key.
    #[must_use]
    pub fn as_map(&self) -> &BTreeMap<String, String> {
        self.0.as_deref().unwrap_or(&NONE)
    }

    /// The value of one tag.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.as_map().get(key).map(String::as_str)
    }

    /// As a member of the first version takes them: count u8, then key and value of each; none if they are too many.
    pub(crate) fn encode_first(&self, buf: &mut impl BufMut) {
        let tags = if self.fit_first() { self.as_map() } else { &NONE };
        buf.put_u8(u8::try_from(tags.len()).expect("validated: at most 32 tags"));
        for (key, value) in tags {
            wire::put_text(buf, key);
            wire::put_text(buf, value);
        }
    }

    pub(crate) fn decode_first(buf: &mut impl Buf) -> wire::Result<Self> {
        let mut tags = BTreeMap::new();
        for _ in 0..wire::get_u8(buf)? {
            tags.insert(wire::get_text(buf)?, wire::get_text(buf)?);
        }
        let tags = Self::new(tags).map_err(|_| Malformed("illegal tags"))?;
        if tags.fit_first() { Ok(tags) } else { Err(Malformed("more tags than fit a packet")) }
    }

    /// Does a member of the first version learn of them at all?
    pub(crate) fn fit_first(&self) -> bool {
        self.as_map().len() <= first::TAGS_MAX
            && self.as_map().values().all(|value| value.len() <= first::VALUE_BYTES_MAX)
            && measure(self.as_map()) <= first::TAGS_BYTES_MAX
    }
}

pub(crate) fn is_key(key: &str) -> bool {
    let legal = |b: u8| b.is_ascii_alphanumeric() || b"._-/".contains(&b);
    !key.is_empty() && key.len() <= KEY_BYTES_MAX && key.bytes().all(legal)
}

pub(crate) fn is_value(value: &str) -> bool {
    value.len() <= VALUE_BYTES_MAX && !value.chars().any(char::is_control)
}

fn measure(tags: &BTreeMap<String, String>) -> usize {
    tags.iter().map(|(key, value)| 2 + key.len() + value.len()).sum()
}

impl TryFrom<BTreeMap<String, String>> for Tags {
    type Error = Error;

    fn try_from(tags: BTreeMap<String, String>) -> Result<Self, Error> {
        Self::new(tags)
    }
}
