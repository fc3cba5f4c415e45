//! Pledge: how agents that were told to expect each other (`--expect N`) come to found exactly one log, as one pure core.
//!
//! It never touches a clock, socket, file, entropy or log line, and knows nothing of Raft: in the end it says `Found`, or
//! it steps aside for a log that is there.
//!
//! # The protocol
//! 1. **Look.** A fresh agent that sees anybody with a log joins it. It founds nothing while it cannot be sure: while more
//!    join addresses or known members are silent than a living group could hide behind (a majority of N), while somebody
//!    it sees has pledged itself to others, or expects another number (`scene.rs`). Silence is never taken for an empty disk.
//! 2. **Propose.** Of the fresh agents the N with the lowest ids are the founders. A [`Proposal`] names them, their keys and
//!    a round; its hash is the id of the log to come, so all who see the same propose the same.
//! 3. **Pledge.** A founder signs the proposal once that is on its disk, and then signs no other one until this one is dead.
//!    The signatures of all N are the certificate (`words.rs`).
//! 4. **Decide.** A certificate alone is not enough: somebody may have given up meanwhile. The founders vote, by the rules of
//!    single-decree Paxos, on whether the proposal *lives* or is *dead*. In ballot 0 there is nothing to choose: whoever holds
//!    the certificate votes for life. Later ballots call off a proposal whose founders do not answer; they choose life if any
//!    founder that they reach has voted for it or holds the certificate. A majority of the founders decides.
//! 5. **Found.** Each founder that holds the certificate and knows that a majority has voted for life writes the same first
//!    entry, byte for byte. Of a dead proposal nobody has written anything: its founders are free for the next round.
//!
//! A pledge is released in two ways only: by that vote, or by one founder's signed word that it will never found this log,
//! which it gives if it has not pledged itself and cannot any more: its floor is at or above the round. It raises the floor
//! so when it belongs to another log, or hears that the proposal is being called off.
//!
//! # Why two live logs cannot share a founder
//! A log needs the pledges of all its founders, and one founder holds one pledge at a time. A pledge ends only when its
//! proposal is dead: by a founder that never pledged (no certificate exists, so nobody may vote for life), or by a majority
//! that voted for death in one ballot (by Paxos, no majority ever votes for life). An agent whose disk is lost comes back as
//! another node, and its old word stands. `explore` goes through every state of this with up to five agents.
//!
//! # What stays blocked
//! If a majority of the founders of one proposal lose their disks before it is decided, the others cannot know what those
//! had voted. They wait, say so, and a person wipes them. Nothing is lost by that: no log was ever written.
//!
//! | file | idea |
//! |---|---|
//! | `content`, `proposal` | who is to found a log, and its id |
//! | `word`, `words` | what founders have signed about a proposal, and what follows from it |
//! | `keys` | signatures, as a trait |
//! | `record`, `layout` | what is on disk, and the bytes of everything |
//! | `report` | what one agent tells another |
//! | `member` | the protocol without time |
//! | `scene` | who is there: may this agent found a log, and with whom? |
//! | `pact` | the core: `member` and `scene` with clocks |
//! | `status` | in words for people |
//! | `explore` | every state of it |

mod content;
#[cfg(any(test, feature = "sim"))]
pub mod explore;
mod keys;
mod layout;
mod member;
mod pact;
mod proposal;
mod record;
mod report;
mod scene;
mod status;
mod word;
mod words;

pub use content::Founder;
#[cfg(any(test, feature = "sim"))]
pub use keys::SymbolicKeys;
pub use keys::{Keys, NoKeys, PublicKey, Signature};
pub use member::{Answer, Member};
pub use pact::{Input, Options, Output, Pact};
pub use proposal::{EXPECT_MAX, Proposal, ProposalId, is_expectable};
pub use record::{Pledge, Record};
pub use report::Report;
pub use scene::{Heard, Scene, Sight};
pub use status::Status;
pub use word::{Ballot, Verdict, Vote, Word};
pub use words::{Said, Words};
