//! Why an agent may not connect, in the words that it and its operator read.
//!
//! It never decides: that is done at the gate.

use std::time::Duration;

/// What each refusal says that no other does, and its word: a refusal travels as text beside a code that several share.
const WORDS: [(&str, &str); 9] = [
    ("this data directory is a copy or an old backup", "stale"),
    ("this data directory is a copy or has been copied", "copy"),
    // These two the transport says, which alone sees both of a pair.
    ("another live agent uses its node key", "copy"),
    ("a later start of this node is connected already", "stale"),
    ("which took it over", "superseded"),
    ("this node was dropped by an operator", "forgotten"),
    ("which is alive; stop that agent", "name_held"),
    ("which is silent; it is free in", "name_kept"),
    ("and this program supports only", "level"),
];

/// Why a connection is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// A newer boot of the same disk is known.
    #[error(
        "this data directory is a copy or an old backup: it is in its boot {got}, and the cluster has seen boot {known} of it; wipe it to join as a new node"
    )]
    Stale {
        /// In the Hello.
        got: u64,
        /// Known.
        known: u64,
    },
    /// The same boot of the same disk is known, from another process.
    #[error(
        "this data directory is a copy or has been copied: its boot {epoch} was another process; wipe one of the two to join as a new node"
    )]
    Copy {
        /// In the Hello and known.
        epoch: u64,
    },
    /// Its name was given to another disk.
    #[error(
        "the name of this data directory is held by node {holder:016x}, which took it over; wipe the directory to join as a new node"
    )]
    Superseded {
        /// Who holds the name.
        holder: u64,
    },
    /// An operator has dropped it for good.
    #[error(
        "this node was dropped by an operator (`quorate remove`, `quorate forget`, or `quorate recover` on another disk); wipe its data directory to join as a new node under the same name"
    )]
    Forgotten,
    /// Its program is older than what the cluster has agreed on.
    #[error(
        "the cluster is at feature level {needed} and this program supports only {supports}; upgrade it to the version of the others"
    )]
    Level {
        /// The cluster's level.
        needed: u32,
        /// What the caller supports.
        supports: u32,
    },
    /// Its name belongs to another disk that lives.
    #[error("the name is held by node {holder:016x}, which is alive; stop that agent, or choose another name")]
    NameHeld {
        /// Who holds it.
        holder: u64,
    },
    /// Its name belongs to another disk that has not been silent for long enough.
    #[error("the name is held by node {holder:016x}, which is silent; it is free in about {} s", .left.as_secs())]
    NameKept {
        /// Who holds it.
        holder: u64,
        /// How much longer, if it stays silent.
        left: Duration,
    },
}

impl Denied {
    /// The word for programs of a refusal that came as text: see [`crate::facts::Trouble::detail`].
    #[must_use]
    pub fn word_of(text: &str) -> Option<&'static str> {
        WORDS.iter().find(|(said, _)| text.contains(said)).map(|(_, word)| *word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_is_known_by_its_text() {
        let all = [
            (Denied::Stale { got: 1, known: 2 }, "stale"),
            (Denied::Copy { epoch: 1 }, "copy"),
            (Denied::Superseded { holder: 3 }, "superseded"),
            (Denied::Forgotten, "forgotten"),
            (Denied::NameHeld { holder: 3 }, "name_held"),
            (Denied::NameKept { holder: 3, left: Duration::from_secs(10) }, "name_kept"),
            (Denied::Level { needed: 3, supports: 2 }, "level"),
        ];
        for (denied, word) in all {
            assert_eq!(Denied::word_of(&denied.to_string()), Some(word), "{denied}");
            assert_eq!(WORDS.iter().filter(|(said, _)| denied.to_string().contains(said)).count(), 1, "{denied}");
        }
        assert_eq!(Denied::word_of("another reason"), None);
    }
}
