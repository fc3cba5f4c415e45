//! Examine: is a message one that an honest peer could send? Parsed at the wall, trusted inside.
//!
//! It changes nothing: a message that fails here is refused with an alarm.

use crate::message::Body;
use crate::{BootId, EntryKind, EntryShape, LogIndex, Message, NodeId, Position, Raft, Run, Term};

/// No honest counter comes near it (at a billion a second it takes a century); beyond it, sums could overflow.
const COUNTER_MAX: u64 = u64::MAX / 4;

/// How far ahead of this node's own term a message may be. An honest cluster needs more than thirty years of elections,
/// four a second, to get there while this node was away; a liar needs as many fsyncs of this node for one such step as it
/// sends messages, and cannot use up the range of terms, after which nobody could ever be elected again.
pub(crate) const TERM_AHEAD_MAX: u64 = 1 << 32;

impl Raft {
    pub(crate) fn examine(&self, from: NodeId, message: &Message, entries: &[EntryShape]) -> Result<(), &'static str> {
        if from == self.node {
            return Err("speaks under the id of this very node; two data directories hold one identity");
        }
        if message.fence.from_boot == BootId::ZERO {
            return Err("does not say which life of it speaks");
        }
        let (mut index, mut term) = (LogIndex::ZERO, message.term);
        let mut seen = |position: Position| {
            index = index.max(position.index);
            term = term.max(position.term);
        };
        match &message.body {
            Body::PreVote { last, .. } | Body::Vote { last, .. } | Body::TimeoutNow { last } => seen(*last),
            Body::Missing { promised } => seen(*promised),
            Body::Append { prev, last, commit, .. } => {
                seen(*prev);
                seen(*last);
                seen(Position { index: *commit, term: Term::ZERO });
            }
            Body::AppendReply { matched, verified, .. } => {
                seen(Position { index: *matched.max(verified), term: Term::ZERO });
            }
            Body::Conflict { prev, last, .. } => seen(Position { index: *prev.max(last), term: Term::ZERO }),
            Body::ReadIndexReply { index: Some(index), .. } => seen(Position { index: *index, term: Term::ZERO }),
            Body::PreVoteReply { .. }
            | Body::VoteReply { .. }
            | Body::StaleTerm
            | Body::ReadIndex { .. }
            | Body::ReadIndexReply { index: None, .. } => {}
        }
        if index.0 > COUNTER_MAX || term.0 > COUNTER_MAX {
            return Err("names an index or a term beyond all reason");
        }
        if message.term.0 > self.hard_state.term.0.saturating_add(TERM_AHEAD_MAX) {
            return Err("names a term further ahead than any cluster gets in a lifetime");
        }
        if term > message.term {
            return Err("names entries of a term later than its own");
        }
        match &message.body {
            Body::AppendReply { matched, verified, .. } if matched > verified => {
                Err("acknowledges more than it has verified")
            }
            Body::TimeoutNow { .. } | Body::Missing { .. } if message.term > self.hard_state.term => {
                // A leader says that only to who has answered it in its term.
                Err("speaks as a leader to whom this node has answered, of a term that it never took part in")
            }
            Body::Append { prev, last, .. } => examine_entries(*prev, *last, entries),
            _ if !entries.is_empty() => Err("brought entries with a message that announces none"),
            Body::Conflict { last, runs, .. } => self.examine_runs(*last, runs),
            _ => Ok(()),
        }
    }

    fn examine_runs(&self, last: LogIndex, runs: &[Run]) -> Result<(), &'static str> {
        let ascending = runs.windows(2).all(|pair| pair[0].first < pair[1].first && pair[0].term < pair[1].term);
        let inside = runs.iter().all(|run| run.first > LogIndex::ZERO && run.first <= last);
        // Peers may be set to tell more runs than this node would; only what no message could hold is refused.
        (ascending && inside).then_some(()).ok_or("told a log whose runs are not in order")
    }
}

/// The entries must be exactly those announced: contiguous from `prev`, up to `last`, terms never decreasing.
fn examine_entries(prev: Position, last: Position, entries: &[EntryShape]) -> Result<(), &'static str> {
    let mut before = prev;
    for entry in entries {
        let at = entry.position;
        if at.index != before.index.next() || at.term < before.term || at.term == Term::ZERO {
            return Err("brought entries that do not follow one another");
        }
        if matches!(&entry.kind, EntryKind::Configuration(configuration) if !configuration.is_legal()) {
            return Err("brought a configuration that is illegal");
        }
        before = at;
    }
    if before != last {
        return Err("brought other entries than the message announces");
    }
    Ok(())
}
