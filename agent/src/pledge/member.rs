//! Member: the protocol of one agent without time. Every step of it is taken because somebody said something, or because
//! the caller thinks that it is time.
//!
//! It never tells what is not durable, and never takes back what it told.

use super::content::Founder;
use super::keys::Keys;
use super::proposal::Proposal;
use super::record::{Pledge, Record};
use super::report::Report;
use super::word::{Ballot, Verdict, Word};
use super::words::{Words, statement};
use quorate_raft::mutant;
use std::sync::Arc;

/// The protocol of one agent.
#[derive(Clone, Debug)]
pub struct Member {
    keys: Arc<dyn Keys>,
    me: Founder,
    cluster: [u8; 16],
    expect: usize,
    record_bytes_max: u64,
    record: Record,
    log: Option<[u8; 16]>,
    /// How often the record has changed in this life, was given out to be saved, and is durable.
    changed: u64,
    ordered: u64,
    durable: u64,
}

/// What came of a report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// The asker has to know: this node never founds that.
    pub never: Option<(super::ProposalId, super::Signature)>,
    /// The asker lacks words that this node has.
    pub lacks: bool,
}

impl Member {
    /// As the disk left it. `expect`: 0 if this agent was not told to expect anybody.
    #[must_use]
    pub fn restore(
        keys: Arc<dyn Keys>,
        me: Founder,
        cluster: [u8; 16],
        (expect, record_bytes_max): (usize, u64),
        record: Record,
        log: Option<[u8; 16]>,
    ) -> Self {
        let mut member =
            Self { keys, me, cluster, expect, record_bytes_max, record, log, changed: 0, ordered: 0, durable: 0 };
        // A log that is there is the proof of what was decided.
        if let Some(pledge) = &mut member.record.pledge
            && log == Some(pledge.proposal.id())
            && !(pledge.lives && pledge.founded)
        {
            (pledge.lives, pledge.founded) = (true, true);
            member.changed += 1;
        }
        member.settle();
        member
    }

    /// What is, or is about to be, on disk.
    #[must_use]
    pub fn record(&self) -> &Record {
        &self.record
    }
    /// This agent.
    #[must_use]
    pub fn me(&self) -> &Founder {
        &self.me
    }
    /// How many it was told to expect.
    #[must_use]
    pub fn expect(&self) -> usize {
        self.expect
    }
    /// The largest value of a record in the log that it would found.
    #[must_use]
    pub fn record_bytes_max(&self) -> u64 {
        self.record_bytes_max
    }
    /// The log that it belongs to.
    #[must_use]
    pub fn log(&self) -> Option<[u8; 16]> {
        self.log
    }
    /// What it has pledged itself to, while that is open.
    #[must_use]
    pub fn open(&self) -> Option<&Pledge> {
        self.record.pledge.as_ref().filter(|pledge| !pledge.lives)
    }
    /// May it pledge itself, as far as only it is concerned?
    #[must_use]
    pub fn is_free(&self) -> bool {
        let held = self.record.pledge.is_some() && !mutant!(PledgeTwice);
        self.expect > 0 && self.log.is_none() && !held
    }
    /// How often its record has changed in this life.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.changed
    }

    // ---- disk ----

    /// The record to save, if it has changed, and the number of that change.
    pub fn poll_save(&mut self) -> Option<(u64, Record)> {
        if self.ordered == self.changed {
            return None;
        }
        self.ordered = self.changed;
        Some((self.changed, self.record.clone()))
    }

    /// The record as of this change is durable.
    pub fn saved(&mut self, change: u64) {
        self.durable = self.durable.max(change.min(self.ordered));
    }

    /// Is all of it on disk, so that it may be told?
    #[must_use]
    pub fn is_durable(&self) -> bool {
        self.durable == self.changed || mutant!(PledgeUnsynced)
    }

    /// What this node tells others; nothing while it waits for its disk.
    #[must_use]
    pub fn report(&self) -> Option<Report> {
        self.is_durable().then(|| Report {
            key: self.keys.public(),
            expect: self.expect as u8,
            record_bytes_max: self.record_bytes_max,
            floor: self.record.floor,
            log: self.log,
            pledge: self.record.pledge.as_ref().map(|p| (p.proposal.clone(), p.words.clone())),
            never: None,
        })
    }

    /// The log to be founded now: decided, durable, and not yet there.
    #[must_use]
    pub fn founds(&self) -> Option<&Proposal> {
        let pledge = self.record.pledge.as_ref().filter(|pledge| pledge.lives && !pledge.founded)?;
        (self.log.is_none() && self.is_durable()).then_some(&pledge.proposal)
    }

    // ---- steps ----

    /// This node belongs to a log now: what it founded, once that is durable, or what it joined while it was free.
    pub fn joined(&mut self, log: [u8; 16]) {
        self.log = Some(log);
        if let Some(pledge) = self.record.pledge.as_mut().filter(|p| p.proposal.id() == log && !p.founded) {
            (pledge.lives, pledge.founded) = (true, true);
            self.changed += 1;
        }
    }

    /// Pledges itself to a proposal of its own: these founders, this node among them, in the first round that all can take.
    pub fn propose(&mut self, founders: Vec<Founder>, floor: u64) {
        let round = floor.max(self.record.floor).saturating_add(1);
        let proposal = Proposal::new(self.cluster, round, self.record_bytes_max, founders);
        if let Some(proposal) = proposal.filter(|p| self.is_free() && p.is_proven(&*self.keys)) {
            self.pledge(proposal, &Words::default());
        }
    }

    /// Somebody reports. `may_found`: by all that this node sees now, it may found this log with these founders.
    pub fn hear(&mut self, from: u64, report: &Report, may_found: bool) -> Answer {
        let mut answer = Answer::default();
        if let Some((proposal, words)) = &report.pledge {
            answer = self.hear_pledge(proposal, words, may_found);
        }
        if let Some((id, signature)) = &report.never {
            self.hear_never(from, id, signature);
        }
        answer
    }

    fn hear_pledge(&mut self, proposal: &Proposal, words: &Words, may_found: bool) -> Answer {
        let id = proposal.id();
        if let Some(mine) = self.record.pledge.as_mut().filter(|mine| mine.proposal == *proposal) {
            if mine.words.merge(&*self.keys, proposal, words, self.me.node) {
                self.changed += 1;
                self.settle();
            }
            let lacks = self.record.pledge.as_ref().is_some_and(|mine| words.lacks(&mine.words));
            return Answer { never: None, lacks: lacks || self.record.pledge.is_none() };
        }
        let is_mine = proposal.founder(self.me.node).is_some_and(|f| f.key == self.me.key);
        let is_whole = is_mine && proposal.cluster() == self.cluster && proposal.is_proven(&*self.keys);
        if !is_whole || self.log == Some(id) {
            return Answer::default();
        }
        // Who is of another log never founds this one; and what others call off is not worth a pledge: declined, it is dead at
        // once. Either promise must be durable before it is given, the log may not be yet.
        let is_called_off = words.newest_begun(proposal).is_some();
        if proposal.round() > self.record.floor && (self.log.is_some() || is_called_off) {
            self.record.floor = proposal.round();
            self.changed += 1;
        }
        if proposal.round() <= self.record.floor {
            let never = || (id, self.keys.sign(&statement(&id, self.me.node, &Word::Never)));
            return Answer { never: self.is_durable().then(never), lacks: false };
        }
        let fits = proposal.founders().len() == self.expect && proposal.record_bytes_max() == self.record_bytes_max;
        if self.is_free() && fits && may_found {
            self.pledge(proposal.clone(), words);
        }
        Answer::default()
    }

    fn hear_never(&mut self, from: u64, id: &super::ProposalId, signature: &super::Signature) {
        let Some(open) = self.open().filter(|open| open.proposal.id() == *id) else { return };
        let is_proven = open.proposal.founder(from).is_some_and(|founder| {
            from != self.me.node && self.keys.holds(&founder.key, &statement(id, from, &Word::Never), signature)
        });
        if is_proven {
            self.release();
            self.settle();
        }
    }

    /// The others do not answer: begin a ballot, unless one of this node's own is open already.
    pub fn call_off(&mut self) {
        let Some(open) = self.open() else { return };
        if mutant!(ReleasedWithoutProof) {
            return self.release();
        }
        let (me, at) = (self.me.node, open.words.ballot_of(self.me.node));
        let Some(rank) = open.proposal.rank(me) else { return };
        let begun = open.words.newest_begun(&open.proposal).unwrap_or_default();
        let waits = at.owner() == Some(rank) && begun <= at && open.words.vote_of(me).is_none_or(|(b, _)| b < at);
        if !waits {
            self.promise(at.max(begun).next_of(rank));
            self.settle();
        }
    }

    // ---- rules ----

    fn say(&mut self, word: Word) {
        let me = self.me.node;
        if let Some(pledge) = &mut self.record.pledge {
            let signature = self.keys.sign(&statement(&pledge.proposal.id(), me, &word));
            pledge.words.say(me, word, signature);
            self.changed += 1;
        }
    }

    fn pledge(&mut self, proposal: Proposal, words: &Words) {
        let mut pledge = Pledge { proposal, words: Words::default(), lives: false, founded: false };
        pledge.words.merge(&*self.keys, &pledge.proposal, words, self.me.node);
        self.record.pledge = Some(pledge);
        self.say(Word::Pledged);
        self.settle();
    }

    fn promise(&mut self, ballot: Ballot) {
        let voted = self.record.pledge.as_ref().and_then(|p| p.words.vote_of(self.me.node));
        self.say(Word::Promised { ballot, voted: voted.filter(|_| !mutant!(VoteNotTold)) });
    }

    fn release(&mut self) {
        if let Some(pledge) = self.record.pledge.take() {
            self.record.floor = self.record.floor.max(pledge.proposal.round());
            self.changed += 1;
        }
    }

    /// Takes every step that follows from what is known. Who knows the verdict goes on voting: others may not know it yet, and
    /// of each founder's votes only the newest is kept.
    fn settle(&mut self) {
        while let Some(pledge) = &self.record.pledge {
            let (proposal, words, me) = (&pledge.proposal, &pledge.words, self.me.node);
            let quorum = proposal.quorum();
            let certified =
                pledge.is_certified() || mutant!(CertificateOfMajority) && words.pledged().count() >= quorum;
            match words.decided(quorum).filter(|_| !pledge.lives) {
                Some(Verdict::Dead) => return self.release(),
                // Only who holds the certificate founds; it comes with the words of whoever has voted for life.
                Some(Verdict::Lives) if certified => {
                    if let Some(pledge) = &mut self.record.pledge {
                        pledge.lives = true;
                        self.changed += 1;
                    }
                    continue;
                }
                _ => {}
            }
            let (at, voted) = (words.ballot_of(me), words.vote_of(me));
            if at == Ballot::FOUNDING && voted.is_none() && certified {
                self.say(Word::Voted { ballot: at, verdict: Verdict::Lives });
                continue;
            }
            let begun = words.newest_begun(proposal).unwrap_or_default();
            if begun > at {
                self.promise(begun);
                continue;
            }
            match self.next_vote(pledge, at, certified) {
                Some((ballot, verdict)) if voted.is_none_or(|(known, _)| known < ballot) => {
                    self.say(Word::Voted { ballot, verdict });
                }
                _ => return,
            }
        }
    }

    /// The vote that is due after the founding: in its own ballot once a majority has promised, else as the owner did.
    fn next_vote(&self, pledge: &Pledge, at: Ballot, certified: bool) -> Option<(Ballot, Verdict)> {
        let owner = at.owner()?;
        let (ballot, verdict) = if pledge.proposal.rank(self.me.node) == Some(owner) {
            let free = if certified { Verdict::Lives } else { Verdict::Dead };
            (at, pledge.words.promised_to(at, pledge.proposal.quorum())?.unwrap_or(free))
        } else {
            pledge.words.vote_of(pledge.proposal.founders().get(owner)?.node).filter(|(ballot, _)| *ballot == at)?
        };
        (verdict == Verdict::Dead || certified).then_some((ballot, verdict))
    }
}
