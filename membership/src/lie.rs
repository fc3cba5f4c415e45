//! Lies: what a peer can prove against itself.
//! Never says what follows from one.

/// What a peer has proven against itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// It spoke for another node than its connection proves.
    OtherNode,
    /// Bytes that no honest peer makes.
    Malformed,
}
