//! Word: one statement of a founder about a proposal, and its bytes as they are signed.
//!
//! It never says whose it is or about what: see `words`.

/// A try to decide. Zero is the founding itself; others are a count and the rank of the founder that owns them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ballot(pub u64);

/// Ranks fit into so many bits.
const RANK_BITS: u32 = 3;

impl Ballot {
    /// The founding: only life can be voted for.
    pub const FOUNDING: Self = Self(0);

    /// The next one of this founder, above `self`.
    #[must_use]
    pub fn next_of(self, rank: usize) -> Self {
        let count = (self.0 >> RANK_BITS).saturating_add(1);
        Self(count.saturating_mul(1 << RANK_BITS).saturating_add(rank as u64))
    }

    /// The rank of its owner; nobody owns the founding.
    #[must_use]
    pub fn owner(self) -> Option<usize> {
        (self != Self::FOUNDING).then_some((self.0 & ((1 << RANK_BITS) - 1)) as usize)
    }
}

/// What becomes of a proposal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// Its log is founded.
    Lives,
    /// It never is.
    Dead,
}

/// For what was voted, and in which ballot.
pub type Vote = (Ballot, Verdict);

/// One statement of a founder about a proposal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Word {
    /// I found this log and no other one, until this one is dead.
    Pledged,
    /// I take part in no ballot before this one; so far I have voted like this.
    Promised {
        /// Which.
        ballot: Ballot,
        /// The newest vote.
        voted: Option<(Ballot, Verdict)>,
    },
    /// I vote.
    Voted {
        /// In which ballot.
        ballot: Ballot,
        /// For what.
        verdict: Verdict,
    },
    /// I have not pledged myself, and never shall.
    Never,
}

/// As it is signed.
pub(super) fn put_word(out: &mut Vec<u8>, word: &Word) {
    match word {
        Word::Pledged => out.push(1),
        Word::Promised { ballot, voted } => {
            out.push(2);
            out.extend_from_slice(&ballot.0.to_le_bytes());
            put_vote(out, *voted);
        }
        Word::Voted { ballot, verdict } => {
            out.push(4);
            out.extend_from_slice(&ballot.0.to_le_bytes());
            out.push(verdict_byte(*verdict));
        }
        Word::Never => out.push(8),
    }
}

pub(super) fn put_vote(out: &mut Vec<u8>, voted: Option<(Ballot, Verdict)>) {
    out.push(voted.map_or(0, |(_, verdict)| verdict_byte(verdict)));
    out.extend_from_slice(&voted.map_or(0, |(ballot, _)| ballot.0).to_le_bytes());
}

pub(super) fn verdict_byte(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Lives => 1,
        Verdict::Dead => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ballots_belong_to_founders_and_grow() {
        assert_eq!(Ballot::FOUNDING.owner(), None);
        for rank in 0..7 {
            let first = Ballot::FOUNDING.next_of(rank);
            assert_eq!(first.owner(), Some(rank));
            for other in 0..7 {
                assert!(first.next_of(other) > first);
                assert_eq!(first.next_of(other).owner(), Some(other));
            }
        }
        let end = Ballot(u64::MAX).next_of(6);
        assert!(end >= Ballot(u64::MAX - 7), "no overflow at the end");
    }
}
