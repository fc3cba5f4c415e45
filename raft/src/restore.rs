//! Restore: from what the disk gave back to a core that may speak; and the picture of it.
//!
//! It never guesses: what contradicts itself makes a core that is halted and says why.

use alloc::collections::{BTreeMap, BTreeSet};

use crate::configuration::Configurations;
use crate::frontier::Frontier;
use crate::missing::Bar;
use crate::outbox::Outbox;
use crate::progress::Mode;
use crate::proposals::Proposals;
use crate::reads::Forwards;
use crate::role::{Follower, RoleState};
use crate::{
    BootId, Configuration, Halt, HardState, Log, LogIndex, NodeId, Now, Options, PeerStatus, Position, Raft, Role,
    Saved, Status, Term, mutant, prng::Prng,
};

impl Raft {
    /// The member `node` in its life `boot`, from what its disk gave back. All of `saved` counts as durable. `seed`
    /// should differ between nodes and lives, else their election timeouts collide.
    ///
    /// If `saved` contradicts itself the core is halted from the start: see [`Status::halted`].
    #[must_use]
    pub fn restore(options: Options, node: NodeId, boot: BootId, saved: Saved, seed: u64, now: Now) -> Self {
        let halted = examine(&options, boot, &saved).err();
        let saved = if halted.is_some() { Saved::default() } else { saved };
        let mut configurations = Configurations::new();
        for (index, configuration) in saved.configurations {
            configurations.append(index, configuration);
        }
        let committed = saved.committed.max(saved.start.index);
        configurations.forget_before(committed);
        let vote = saved.hard_state.vote.filter(|_| !mutant!(VoteForgottenByStart));
        let hard_state = HardState { vote, ..saved.hard_state };
        let mut raft = Self {
            options,
            node,
            boot,
            now: now.mono,
            prng: Prng::new(seed),
            hard_state,
            log: Log::new(saved.start, saved.runs, saved.last),
            configurations,
            committed,
            frontier: Frontier::new(saved.last, saved.hard_state),
            outbox: Outbox::default(),
            role: RoleState::Follower(Follower::default()),
            election_due: None,
            reluctant: false,
            has_room: true,
            leader_heard: None,
            boots: BTreeMap::new(),
            proposals: Proposals::default(),
            forwards: Forwards::default(),
            transfer: None,
            pre_vote_round: 0,
            halted: None,
            lost: saved.suspect.map(Bar::saved),
            unreadable: alloc::vec![],
            irreparable: false,
            contradicted: None,
            led_at: now.mono,
            taught: BTreeMap::new(),
            told: false,
            unplanned: false,
        };
        if let Some(why) = halted {
            raft.halt(why);
            return raft;
        }
        let configuration = &raft.configurations.current().configuration;
        if configuration.voters == BTreeSet::from([node]) && !configuration.is_joint() {
            // The sole voter has nobody to wait for.
            raft.election_due = Some(now.mono);
        } else if raft.configurations.may_stand(node, committed) {
            raft.reset_election_timer();
        }
        raft
    }

    /// The current term.
    #[must_use]
    pub fn term(&self) -> Term {
        self.hard_state.term
    }

    /// The role at the moment.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role.name()
    }

    /// The leader of the current term, if known; this node itself if it leads.
    #[must_use]
    pub fn leader(&self) -> Option<NodeId> {
        match &self.role {
            RoleState::Leader(_) => Some(self.node),
            RoleState::Follower(follower) => follower.following.as_ref().map(|following| following.leader),
            RoleState::PreCandidate(_) | RoleState::Candidate(_) => None,
        }
    }

    /// Does this node lead?
    #[must_use]
    pub fn is_leader(&self) -> bool {
        matches!(self.role, RoleState::Leader(_))
    }

    /// The commit index.
    #[must_use]
    pub fn committed(&self) -> LogIndex {
        self.committed
    }

    /// Is the commit index one that a leader has told in this life, itself or another? Before that it is what the disk told
    /// at the start, and may be old.
    #[must_use]
    pub fn knows_commit(&self) -> bool {
        self.told || self.own_term_is_committed()
    }

    /// The last entry.
    #[must_use]
    pub fn last(&self) -> Position {
        self.log.last()
    }

    /// The last durable index.
    #[must_use]
    pub fn durable(&self) -> LogIndex {
        self.frontier.last()
    }

    /// The term of the entry at `index`; `None` outside the log.
    #[must_use]
    pub fn term_at(&self, index: LogIndex) -> Option<Term> {
        self.log.term_at(index)
    }

    /// The configuration in force.
    #[must_use]
    pub fn configuration(&self) -> &Configuration {
        &self.configurations.current().configuration
    }

    /// The index of the entry of the configuration in force; its id for compare-and-set.
    #[must_use]
    pub fn configuration_index(&self) -> LogIndex {
        self.configurations.current().index
    }

    /// Why this node's Raft has stopped, if it has.
    #[must_use]
    pub fn halted(&self) -> Option<&Halt> {
        self.halted.as_ref()
    }

    /// Leader: has an entry of its own term been committed?
    #[must_use]
    pub fn own_term_committed(&self) -> bool {
        self.own_term_is_committed()
    }

    /// A picture for people, metrics and autopilot. It copies; the single getters do not.
    #[must_use]
    pub fn status(&self) -> Status {
        let leader = match &self.role {
            RoleState::Leader(leader) => Some(leader),
            _ => None,
        };
        let current = self.configurations.current();
        let peers = leader.into_iter().flat_map(|leader| &leader.peers).filter(|(_, p)| p.departing.is_none());
        Status {
            node: self.node,
            term: self.hard_state.term,
            role: self.role(),
            leader: self.leader(),
            last: self.log.last(),
            durable: self.frontier.last(),
            committed: self.committed,
            own_term_committed: self.own_term_is_committed(),
            quorum_heard: leader.map(|leader| self.quorum_heard(leader)),
            configuration: current.configuration.clone(),
            configuration_index: current.index,
            configuration_committed: current.index <= self.committed,
            transferring: self.transfer.is_some(),
            peers: peers
                .map(|(&peer, progress)| {
                    let replicating = progress.mode == Mode::Replicate;
                    (
                        peer,
                        PeerStatus {
                            matched: progress.matched,
                            last_heard: progress.heard,
                            replicating,
                            has_lost: progress.has_lost,
                            full: progress.full,
                        },
                    )
                })
                .collect(),
            pending: self.proposals.len() + self.forwards.len() + leader.map_or(0, |leader| leader.rounds.len()),
            missing: self.missing().map(|lost| lost.index),
            damaged: self.is_damaged(),
            contradicted_by: self.contradicted.map(|(member, _)| member),
            halted: self.halted.clone(),
        }
    }
}

fn examine(options: &Options, boot: BootId, saved: &Saved) -> Result<(), Halt> {
    let claim = |holds: bool, what: &'static str| if holds { Ok(()) } else { Err(Halt::BadSaved(what)) };
    let Saved { hard_state, start, runs, last, configurations, committed, suspect } = saved;
    claim(boot != BootId::ZERO, "a life without a boot id could not be told from others")?;
    claim(
        options.election_timeout_min <= options.election_timeout_max,
        "the election timeouts are the wrong way round",
    )?;
    let rhythm = !options.heartbeat.is_zero() && options.heartbeat < options.election_timeout_min;
    claim(rhythm, "the heartbeat must be shorter than the election timeout, and not zero")?;
    claim(hard_state.term > Term::ZERO || hard_state.vote.is_none(), "a vote in no term")?;
    claim(start.index <= *last, "the log ends before it starts")?;
    claim((start.index == LogIndex::ZERO) == (start.term == Term::ZERO), "the start of the log has no term")?;
    let first = Position { index: start.index.next(), term: start.term };
    claim(runs.is_empty() == (*last == start.index), "the log has runs without entries, or entries without runs")?;
    claim(runs.first().is_none_or(|run| run.first == first.index && run.term >= first.term), "the log has a gap")?;
    claim(runs.iter().all(|run| run.term > Term::ZERO && run.first <= *last), "a run lies outside the log")?;
    let ascending = runs.windows(2).all(|pair| pair[0].first < pair[1].first && pair[0].term < pair[1].term);
    claim(ascending, "the terms of the log do not ascend")?;
    let last_term = runs.last().map_or(start.term, |run| run.term);
    claim(last_term <= hard_state.term, "an entry is of a later term than the hard state")?;
    claim(
        suspect.is_none_or(|suspect| suspect.term <= hard_state.term && suspect.index > LogIndex::ZERO),
        "what was lost is of a later term than the hard state",
    )?;
    claim(*committed <= *last, "the commit index lies beyond the log")?;
    let legal = configurations.iter().all(|(index, c)| *index <= *last && *index > LogIndex::ZERO && c.is_legal());
    claim(legal, "a configuration is illegal or lies outside the log")?;
    claim(configurations.windows(2).all(|pair| pair[0].0 < pair[1].0), "the configurations do not ascend")
}
