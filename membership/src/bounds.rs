//! Bounds of what an operator says of a node. Numbers only.

/// Bytes of a tag's key.
pub const KEY_BYTES_MAX: usize = 64;
/// Bytes of a tag's value.
pub const VALUE_BYTES_MAX: usize = 255;
/// Tags of one node.
pub const TAGS_MAX: usize = 32;
/// Bytes of all keys and values of one node, each with one more for its length. Serf's limit.
pub const TAGS_BYTES_MAX: usize = 512;
