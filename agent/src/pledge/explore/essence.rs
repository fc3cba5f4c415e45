//! Essence: the least that a machine must hold to be able to do all that it can do.
//!
//! It never holds more than the machine does; why less is enough is said in `lean`.

use super::super::member::Member;
use super::super::record::{Pledge, Record};
use super::super::word::Verdict;
use super::super::words::{Said, Words};
use super::rumour::Rumour;
use super::world::{Machine, member_of};
use std::collections::BTreeMap;

/// Of a pledge: its own words, and those of others without which it could not have said them. That is the certificate for a
/// vote for life; for a part in somebody's ballot, that this was begun; and if it is asked for, all votes for a known verdict.
fn least_words(pledge: &Pledge, me: u64, with_proof: bool) -> Words {
    let own = pledge.words.of(me);
    let voted_for_life = own.and_then(|said| said.voted).is_some_and(|(_, verdict, _)| verdict == Verdict::Lives);
    let proves = with_proof && pledge.lives;
    let (at, founders) = (pledge.words.ballot_of(me), pledge.proposal.founders());
    let leader = at.owner().and_then(|rank| founders.get(rank)).map(|owner| owner.node);
    let mut least = BTreeMap::new();
    for founder in founders {
        let Some(said) = pledge.words.of(founder.node) else { continue };
        if founder.node == me {
            least.insert(me, said.clone());
            continue;
        }
        let leads = leader == Some(founder.node);
        let kept = Said {
            pledged: said.pledged.filter(|_| voted_for_life || proves),
            promised: said.promised.filter(|(ballot, ..)| leads && *ballot == at),
            voted: said.voted.filter(|_| proves),
        };
        if kept != Said::default() {
            least.insert(founder.node, kept);
        }
    }
    Words(least)
}

/// The essence of a member, up. `with_proof`: others will be helped by what it knows, so that a group forms without faults.
pub(super) fn essence(member: &Member, with_proof: bool) -> Machine {
    let (me, record) = (member.me(), member.record());
    let pledge = record
        .pledge
        .as_ref()
        .map(|pledge| Pledge { words: least_words(pledge, me.node, with_proof), ..pledge.clone() });
    // Who is of a log raises its floor to whatever it is asked for before it declines.
    let floor = if member.log().is_some() { 0 } else { record.floor };
    let record = Record { floor, pledge };
    Machine::new(member_of(me.name.clone(), me.node, member.expect(), record, member.log()), true)
}

/// The essence of a founder whose log is settled: nobody asks what it has said about that.
pub(super) fn without_words(member: &Member) -> Machine {
    let (me, record) = (member.me(), member.record());
    let pledge = record.pledge.as_ref().map(|pledge| Pledge { words: Words::default(), ..pledge.clone() });
    let record = Record { pledge, ..record.clone() };
    Machine::new(member_of(me.name.clone(), me.node, member.expect(), record, member.log()), true)
}

/// May this machine still say anything about a proposal that changes what becomes of it?
pub(super) fn is_concerned(member: &Member, rumour: &Rumour) -> bool {
    let proposal = &rumour.proposal;
    if proposal.founder(member.me().node).is_none() || member.log().is_some() {
        return false;
    }
    match &member.record().pledge {
        Some(pledge) if pledge.proposal == *proposal => true,
        _ => member.record().floor < proposal.round(),
    }
}
