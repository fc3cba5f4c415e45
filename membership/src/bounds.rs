//! Bounds of what an operator says of a node. Numbers only.

/// Bytes of a tag's key.
pub const KEY_BYTES_MAX: usize = 64;
/// Bytes of a tag's value.
pub const VALUE_BYTES_MAX: usize = 60 << 10;
/// Tags of one node.
pub const TAGS_MAX: usize = 1024;
/// Bytes of all keys and values of one node, each with one more for its length (Serf: 512, for they must fit one packet
/// there).
pub const TAGS_BYTES_MAX: usize = 64 << 10;

/// Deleted tags that a node remembers, so that each deletion is one small piece of news; older ones are forgotten, and
/// whoever did not hear of them fetches all.
pub(crate) const TOMBSTONES_MAX: usize = 256;
/// Encoded bytes of changed tags that travel with a record; what does not fit is fetched over a stream.
pub(crate) const INLINE_BYTES_MAX: usize = 200;
/// What one node may hold of the tags of all others, in bytes: a thousand members with all they may have. Beyond it,
/// what is new and large is not fetched; and what is known of unproven members makes room for the others.
pub(crate) const HELD_BYTES_MAX: usize = 64 << 20;
/// Of that, what may be held of members that no connection has ever proven, in bytes: a liar can invent such members. A
/// quarter: a newcomer gets the tags of all by the word of a few, and proves most members in time.
pub(crate) const HEARSAY_TAG_BYTES_MAX: usize = 16 << 20;
/// And of that, what may be held on the word of one peer, in bytes: four peers have to lie to fill it.
pub(crate) const INTRODUCER_TAG_BYTES_MAX: usize = 4 << 20;

/// What a member of the first version of the protocol knows of: tags that fit one packet.
pub(crate) mod first {
    pub(crate) const VALUE_BYTES_MAX: usize = 255;
    pub(crate) const TAGS_MAX: usize = 32;
    pub(crate) const TAGS_BYTES_MAX: usize = 512;
}
