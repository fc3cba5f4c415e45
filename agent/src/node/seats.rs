//! Seats: an operator says who votes and who learns, and the autopilot leaves that alone until he takes it back.
//!
//! It never makes an even group without being told to, and never one whose majority does not answer.

use super::Node;
use super::operate::{Judged, Wish};
use crate::limits::printable;
use crate::machine::registry::{Command, Seat};
use quorate_raft::{NodeId, Now, Status, mutant};
use std::collections::BTreeSet;

impl Node {
    pub(super) fn judge_promote(&self, now: Now, status: &Status, wish: &Wish, allow_even: bool) -> Judged {
        let name = printable(&wish.name);
        let configuration = &status.configuration;
        let Some(id) = NodeId::new(wish.node).filter(|n| configuration.is_member(*n)) else {
            return self.not_in_group(wish);
        };
        let votes = configuration.voters.contains(&id);
        let pinned = self.registry.pinned(wish.node);
        if matches!(pinned, Some(Seat::Voter { .. })) && votes {
            return if status.configuration_committed {
                Judged::Done
            } else {
                Judged::Wait("its vote to be committed".into())
            };
        }
        let pin = Judged::Write(
            Command::Pin { node: wish.node, seat: Some(Seat::Voter { even: allow_even || mutant!(PromotesToEven) }) },
            format!("{name} shall vote, as an operator says"),
        );
        if votes {
            return pin;
        }
        if self.registry.is_draining(wish.node) {
            return Judged::refused(format!("{name} is drained"), format!("`quorate drain --undo {name}` first"));
        }
        let count = configuration.voters.len() + 1;
        if count > self.options.voters_target {
            let what = format!("{} voters are all that this cluster wants", configuration.voters.len());
            return Judged::refused(what, "demote or remove another voter first, or raise `voters_target`");
        }
        if count.is_multiple_of(2) && !allow_even && !mutant!(PromotesToEven) {
            let what =
                format!("{count} voters bear no more failures than {}, and every append waits for one more", count - 1);
            let spares = self.spares_of(now.mono, status);
            let hint = match spares.iter().find(|spare| **spare != id) {
                Some(_) if count < self.options.voters_target => {
                    "the autopilot promotes two at a time by itself; if it must be even, use --allow-even"
                }
                _ => "add another agent, and both are promoted at once; if it must be even, use --allow-even",
            };
            return Judged::refused(what, hint);
        }
        if !self.is_caught_up(now.mono, status, id) {
            return Judged::Wait(self.lag_of(status, id));
        }
        if matches!(pinned, Some(Seat::Voter { .. })) && wish_is_written(pinned, allow_even) {
            return Judged::Wait("its vote".into());
        }
        let voters: BTreeSet<NodeId> = configuration.voters.iter().copied().chain([id]).collect();
        if !self.is_healthy_majority(now.mono, status, &voters) {
            let what = format!("most of the {count} voters would not answer");
            return Judged::refused(what, "bring the others back first; `quorate members` shows who");
        }
        pin
    }

    pub(super) fn judge_demote(&self, now: Now, status: &Status, wish: &Wish, allow_even: bool) -> Judged {
        let name = printable(&wish.name);
        let configuration = &status.configuration;
        let Some(id) = NodeId::new(wish.node).filter(|n| configuration.is_member(*n)) else {
            return self.not_in_group(wish);
        };
        let votes = configuration.voters.contains(&id);
        let pinned = self.registry.pinned(wish.node);
        let is_pinned = matches!(pinned, Some(Seat::Learner { .. }));
        if is_pinned && !votes {
            return if status.configuration_committed {
                Judged::Done
            } else {
                Judged::Wait("that to be committed".into())
            };
        }
        let pin = Judged::Write(
            Command::Pin { node: wish.node, seat: Some(Seat::Learner { even: allow_even || mutant!(DemotesToEven) }) },
            format!("{name} shall have no vote, as an operator says"),
        );
        if !votes {
            return pin;
        }
        let count = configuration.voters.len();
        if count == 1 && self.spare_for(now.mono, status, id).is_none() {
            let what = format!("{name} is the last voter");
            return Judged::refused(what, "add an agent first, and wait until it has caught up");
        }
        if is_pinned && wish_is_written(pinned, allow_even) {
            return Judged::Wait("its vote to go".into());
        }
        let spare = self.spare_for(now.mono, status, id);
        if spare.is_none() && count % 2 == 1 && !allow_even && !mutant!(DemotesToEven) {
            let (now_borne, then) = ((count - 1) / 2, (count - 2) / 2);
            let what = format!(
                "{} voters would be left, which bear {} instead of {now_borne}, and no learner could vote instead",
                count - 1,
                if then == 1 { "1 failure".into() } else { format!("{then} failures") }
            );
            return Judged::refused(what, "add an agent first; if the group must be even, use --allow-even");
        }
        let what = format!("the cluster would not be safe without the vote of {name}");
        if !mutant!(DemotesTheQuorum) {
            let rest = configuration.voters.iter().copied().filter(|v| *v != id);
            let rest: BTreeSet<NodeId> = rest.chain(spare).collect();
            if let Some(judged) = self.why_short(now.mono, status, &rest, id, &what) {
                return judged;
            }
        }
        if id == self.me && !wish.handed_over && self.heir(now).is_some() {
            return Judged::HandOver;
        }
        pin
    }

    pub(super) fn judge_unpin(&self, wish: &Wish) -> Judged {
        if self.registry.pinned(wish.node).is_none() {
            return Judged::Done;
        }
        let why = format!("the autopilot decides again whether {} votes", printable(&wish.name));
        Judged::Write(Command::Pin { node: wish.node, seat: None }, why)
    }

    fn not_in_group(&self, wish: &Wish) -> Judged {
        let name = printable(&wish.name);
        if self.registry.node(wish.node).is_none() {
            return self.not_admitted(wish);
        }
        let what = format!("{name} does not hold the log: it is neither voter nor learner");
        Judged::refused(
            what,
            "wait until it has joined; or remove an agent that is, if there are as many as there may be",
        )
    }

    /// How far a learner is behind, to be read after "waiting for".
    pub(super) fn lag_of(&self, status: &Status, id: NodeId) -> String {
        let name = self.name_of(id.get());
        match status.peers.get(&id) {
            Some(peer) if self.peers.is_up(id.get()) => {
                let lag = status.committed.0.saturating_sub(peer.matched.0);
                format!("{name} to catch up ({lag} entries behind)")
            }
            _ => format!("{name} to answer"),
        }
    }
}

/// Does the log say so already? Asked again with the permission for an even group, it is written again.
fn wish_is_written(pinned: Option<Seat>, allow_even: bool) -> bool {
    match pinned {
        Some(Seat::Voter { even } | Seat::Learner { even }) => even || !allow_even,
        None => false,
    }
}
