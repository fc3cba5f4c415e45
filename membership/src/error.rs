//! Why something that our own caller gave us was refused. State is never changed by a refusal.
//!
//! What a peer says wrongly is not an error but an alarm: see [`Output::Alarm`](crate::Output::Alarm).

use crate::bounds::{KEY_BYTES_MAX, TAGS_BYTES_MAX, TAGS_MAX, VALUE_BYTES_MAX};

/// A refusal, with the reason in words for the operator.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The node id is zero.
    #[error("the node id is zero; take it from the node key")]
    ZeroNode,
    /// Not a name of architecture §6.
    #[error("the name {0:?} is not legal: 1 to 63 of a-z, 0-9 and '-', neither first nor last a '-'")]
    Name(String),
    /// Not a version that fits the table of members.
    #[error("the version {0:?} is not legal: at most 64 printable ASCII characters")]
    Version(String),
    /// A tag's key.
    #[error("the tag key {0:?} is not legal: 1 to {KEY_BYTES_MAX} of a-z, A-Z, 0-9, '.', '_', '-' and '/'")]
    TagKey(String),
    /// A tag's value.
    #[error("the value of tag {0:?} is not legal: at most {VALUE_BYTES_MAX} bytes without control characters")]
    TagValue(String),
    /// Too many tags.
    #[error("{0} tags are too many; at most {TAGS_MAX}")]
    TooManyTags(usize),
    /// Together too long.
    #[error("the tags take {0} bytes together; at most {TAGS_BYTES_MAX}")]
    TagsTooLong(usize),
    /// An option outside its bounds.
    #[error("option {option}: {why}")]
    Option {
        /// Its name.
        option: &'static str,
        /// What is wrong with it.
        why: &'static str,
    },
}
