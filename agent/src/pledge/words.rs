//! Words: what founders have signed about one proposal, and what follows from it. The voting is single-decree Paxos.
//!
//! It never decides by itself what to say: see `member`.

use super::keys::{Keys, Signature};
use super::proposal::{Proposal, ProposalId};
use super::word::{Ballot, Verdict, Vote, Word, put_word};
use std::collections::BTreeMap;

/// The bytes that a founder signs.
#[must_use]
pub(super) fn statement(id: &ProposalId, by: u64, word: &Word) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(64);
    bytes.extend_from_slice(b"quorate formation 1\0");
    bytes.extend_from_slice(id);
    bytes.extend_from_slice(&by.to_le_bytes());
    put_word(&mut bytes, word);
    bytes
}

/// What one founder has said: of each kind the newest.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Said {
    /// It has pledged itself.
    pub pledged: Option<Signature>,
    /// Its newest promise.
    pub promised: Option<(Ballot, Option<Vote>, Signature)>,
    /// Its newest vote.
    pub voted: Option<(Ballot, Verdict, Signature)>,
}

impl Said {
    /// Its words, to be signed or checked one by one.
    pub fn words(&self) -> impl Iterator<Item = (Word, Signature)> {
        let pledged = self.pledged.map(|s| (Word::Pledged, s));
        let promised = self.promised.map(|(ballot, voted, s)| (Word::Promised { ballot, voted }, s));
        let voted = self.voted.map(|(ballot, verdict, s)| (Word::Voted { ballot, verdict }, s));
        [pledged, promised, voted].into_iter().flatten()
    }

    fn is_news(&self, word: &Word) -> bool {
        match word {
            Word::Pledged => self.pledged.is_none(),
            Word::Promised { ballot, .. } => self.promised.is_none_or(|(known, ..)| known < *ballot),
            Word::Voted { ballot, .. } => self.voted.is_none_or(|(known, ..)| known < *ballot),
            Word::Never => false,
        }
    }

    fn take(&mut self, word: Word, signature: Signature) {
        match word {
            Word::Pledged => self.pledged = Some(signature),
            Word::Promised { ballot, voted } => self.promised = Some((ballot, voted, signature)),
            Word::Voted { ballot, verdict } => self.voted = Some((ballot, verdict, signature)),
            Word::Never => {}
        }
    }
}

/// All that is known to be signed about one proposal, by founder.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Words(pub(super) BTreeMap<u64, Said>);

impl Words {
    /// What this founder has said.
    #[must_use]
    pub fn of(&self, node: u64) -> Option<&Said> {
        self.0.get(&node)
    }

    /// Takes a founder's own word.
    pub(super) fn say(&mut self, by: u64, word: Word, signature: Signature) {
        self.0.entry(by).or_default().take(word, signature);
    }

    /// Takes what is new of these, proven and by founders. True if anything was.
    pub(super) fn merge(&mut self, keys: &dyn Keys, proposal: &Proposal, theirs: &Self, me: u64) -> bool {
        let mut news = false;
        for (by, said) in &theirs.0 {
            // Nobody tells this node what it has said itself.
            let Some(founder) = proposal.founder(*by).filter(|f| f.node != me) else { continue };
            for (word, signature) in said.words() {
                let known = self.0.get(by);
                if known.is_none_or(|known| known.is_news(&word))
                    && keys.holds(&founder.key, &statement(&proposal.id(), *by, &word), &signature)
                {
                    self.say(*by, word, signature);
                    news = true;
                }
            }
        }
        news
    }

    /// Does it lack anything that these hold?
    #[must_use]
    pub fn lacks(&self, other: &Self) -> bool {
        other.0.iter().any(|(by, said)| {
            let known = self.0.get(by);
            said.words().any(|(word, _)| known.is_none_or(|known| known.is_news(&word)))
        })
    }

    /// The founders that have pledged themselves.
    pub fn pledged(&self) -> impl Iterator<Item = u64> {
        self.0.iter().filter(|(_, said)| said.pledged.is_some()).map(|(by, _)| *by)
    }

    /// The ballot below which this founder takes part in none.
    pub(super) fn ballot_of(&self, node: u64) -> Ballot {
        let Some(said) = self.0.get(&node) else { return Ballot::FOUNDING };
        let promised = said.promised.map_or(Ballot::FOUNDING, |(ballot, ..)| ballot);
        promised.max(said.voted.map_or(Ballot::FOUNDING, |(ballot, ..)| ballot))
    }

    /// The newest vote of this founder.
    pub(super) fn vote_of(&self, node: u64) -> Option<(Ballot, Verdict)> {
        self.0.get(&node).and_then(|said| said.voted).map(|(ballot, verdict, _)| (ballot, verdict))
    }

    /// The newest ballot that its owner has begun.
    pub(super) fn newest_begun(&self, proposal: &Proposal) -> Option<Ballot> {
        let begun = self.0.iter().filter_map(|(by, said)| {
            let (ballot, ..) = said.promised?;
            (ballot.owner() == proposal.rank(*by)).then_some(ballot)
        });
        begun.max()
    }

    /// What the owner of a ballot must vote for in it, once a majority has promised: the newest vote among them, if any.
    pub(super) fn promised_to(&self, ballot: Ballot, quorum: usize) -> Option<Option<Verdict>> {
        let promises = self.0.values().filter_map(|said| said.promised).filter(|(at, ..)| *at == ballot);
        let votes: Vec<Option<(Ballot, Verdict)>> = promises.map(|(_, voted, _)| voted).collect();
        (votes.len() >= quorum).then(|| votes.into_iter().flatten().max().map(|(_, verdict)| verdict))
    }

    /// What a majority has voted for in one ballot.
    #[must_use]
    pub fn decided(&self, quorum: usize) -> Option<Verdict> {
        let mut votes: BTreeMap<(Ballot, Verdict), usize> = BTreeMap::new();
        for (ballot, verdict, _) in self.0.values().filter_map(|said| said.voted) {
            *votes.entry((ballot, verdict)).or_default() += 1;
        }
        votes.into_iter().find(|(_, count)| *count >= quorum).map(|((_, verdict), _)| verdict)
    }
}
