//! What a change of term, role or leader means to this node.
//!
//! It decides nothing: Raft did.

use super::{Level, Node};
use quorate_raft::{Now, Role, mutant};

impl Node {
    /// Term, role or leader changed.
    pub(super) fn role_changed(&mut self, now: Now) {
        let picture = (self.raft.term(), self.raft.leader(), self.raft.role());
        if picture == self.reported {
            return;
        }
        let (old_term, old_leader, old_role) = std::mem::replace(&mut self.reported, picture);
        let (term, leader, role) = picture;
        // Whatever another one said that moved the term is noted where it was heard.
        self.lately.term_is(now.mono, term, self.me);
        match (leader, role) {
            (_, Role::Leader) if old_role != Role::Leader || old_term != term => {
                if !mutant!(NumbersKept) {
                    self.in_flight.clear();
                }
                self.note(Level::Info, format!("this agent leads in term {term}"));
            }
            (Some(leader), _) if Some(leader) != old_leader || old_term != term => {
                let name = self.name_of(leader.get());
                self.note(Level::Info, format!("{name} leads in term {term}"));
            }
            (None, _) if old_leader.is_some() => self.note(Level::Warn, "no leader".to_string()),
            _ => {}
        }
        if old_role == Role::Leader && role != Role::Leader && !self.appends.is_empty() {
            self.tell_forwarders();
        }
        if role != Role::Leader {
            if !mutant!(NumbersKept) {
                self.in_flight.clear();
            }
            self.removals_lost(now);
            self.wishes_lost(now);
        }
        self.leader_changed(now);
        self.hurry(now);
    }
}
