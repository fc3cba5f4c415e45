//! What peers say to each other; bodies are named as in the dissertation.

use serde::{Deserialize, Serialize};

use crate::LogIndex;

/// One message between cores. Serialized as it is, without entry bytes: those travel beside it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    // helper: term, fence { admitted, from_boot, to_boot }, body
}

impl Message {
    /// The entries that this append announces (first, last), whose bytes the caller adds or has parsed; `None` for
    /// any other message and for an empty append.
    #[must_use]
    pub fn entries(&self) -> Option<(LogIndex, LogIndex)> {
        None
    }
}
