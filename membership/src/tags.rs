//! Tags: what an operator says of a node, in keys and values that every member learns.
//!
//! They are never larger than what fits one gossip packet beside everything else, so they need no fetching.

use crate::bounds::{KEY_BYTES_MAX, TAGS_BYTES_MAX, TAGS_MAX, VALUE_BYTES_MAX};
use crate::error::Error;
use crate::wire::{self, Malformed};
use bytes::{Buf, BufMut};
use std::collections::BTreeMap;

/// Validated tags of one node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tags(BTreeMap<String, String>);

impl Tags {
    /// Checks every limit; the message says which one was passed.
    pub fn new(tags: BTreeMap<String, String>) -> Result<Self, Error> {
        if tags.len() > TAGS_MAX {
            return Err(Error::TooManyTags(tags.len()));
        }
        for (key, value) in &tags {
            let legal = |b: u8| b.is_ascii_alphanumeric() || b"._-/".contains(&b);
            if key.is_empty() || key.len() > KEY_BYTES_MAX || !key.bytes().all(legal) {
                return Err(Error::TagKey(key.clone()));
            }
            if value.len() > VALUE_BYTES_MAX || value.chars().any(char::is_control) {
                return Err(Error::TagValue(key.clone()));
            }
        }
        let bytes = Self::measure(&tags);
        if bytes > TAGS_BYTES_MAX {
            return Err(Error::TagsTooLong(bytes));
        }
        Ok(Self(tags))
    }

    fn measure(tags: &BTreeMap<String, String>) -> usize {
        tags.iter().map(|(key, value)| 2 + key.len() + value.len()).sum()
    }

    /// The tags, by key.
    #[must_use]
    pub fn as_map(&self) -> &BTreeMap<String, String> {
        &self.0
    }

    /// The value of one tag.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// Count u8, then key and value of each.
    pub(crate) fn encode(&self, buf: &mut impl BufMut) {
        buf.put_u8(u8::try_from(self.0.len()).expect("validated: at most 32 tags"));
        for (key, value) in &self.0 {
            wire::put_text(buf, key);
            wire::put_text(buf, value);
        }
    }

    pub(crate) fn decode(buf: &mut impl Buf) -> wire::Result<Self> {
        let mut tags = BTreeMap::new();
        for _ in 0..wire::get_u8(buf)? {
            tags.insert(wire::get_text(buf)?, wire::get_text(buf)?);
        }
        Self::new(tags).map_err(|_| Malformed("illegal tags"))
    }
}

impl TryFrom<BTreeMap<String, String>> for Tags {
    type Error = Error;

    fn try_from(tags: BTreeMap<String, String>) -> Result<Self, Error> {
        Self::new(tags)
    }
}
