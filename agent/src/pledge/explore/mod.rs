//! Explore: every state that the protocol can reach with a few agents and a bounded number of faults, one by one.
//!
//! It drives the production `Member` and `Sight`; what it makes up is only the world around them. It knows no time: whatever
//! a clock could bring about may happen at any moment.
//!
//! # The world
//! Machines are started in any order. What was told once may reach anybody at any later time, any number of times, in any
//! order, or never. A crash takes what was not saved; a wipe takes all, and the machine comes back as another node. Whoever
//! looks around sees others as they are, or does not see them at all ([`Looking::True`]); or nobody looks, and any three may
//! be proposed at any moment ([`Looking::Blind`]), which is what the promise about shared founders must bear.
//!
//! # The promises
//! - No two logs are ever founded that share a founder. Where agents look before they pledge: no two at all.
//! - From a state, without further faults, all agents come to be of one log ([`Bounds::probe_every`]).
//!
//! # Two searches
//! [`explore_plain`] keeps all of that world in its states, and comes to an end with three machines and hardly a fault.
//! [`explore`] visits for many states only one that can do all that they can: `lean` says which, and why nothing is lost by
//! that. `tests` holds the one against the other.
//!
//! Whole worlds, with any number of crashes; of agents that see each other unless it says blind, where rounds are bounded:
//!
//! | machines | wipes | call-offs | states | steps |
//! |---|---|---|---:|---:|
//! | 3 | 0 | 0 | 61 | 276 |
//! | 3 | 0 | 1 | 3,477 | 23,652 |
//! | 3 | 1 | 0 | 562 | 2,463 |
//! | 3 | 1 | 1 | 32,928 | 212,949 |
//! | 3 | 2 | 1 | 254,466 | 1,552,278 |
//! | 4 | 0 | 0 | 2,007 | 10,496 |
//! | 4 | 0 | 1 | 442,010 | 2,850,008 |
//! | 4 | 1 | 0 | 38,427 | 202,048 |
//! | 5 | 0 | 0 | 3,771 | 21,820 |
//! | 5 | 0 | 1 | 776,506 | 5,519,844 |
//! | 5 | 1, new id high | 0 | 74,442 | 439,191 |
//! | 5 | 1, new id low | 0 | 82,632 | 486,862 |
//! | 3, blind, 2 rounds | 1 | 1 | 103,540 | 374,073 |
//! | 4, blind, 3 rounds | 0 | 0 | 14,809 | 50,816 |
//! | 4, blind, 2 rounds | 0 | 1 | 1,198,862 | 5,597,388 |
//! | 4, blind, 2 rounds | 1 | 0 | 809,717 | 2,801,756 |
//! | 5, blind, 1 round | 0 | 0 | 57,617 | 270,420 |
//!
//! | file | idea |
//! |---|---|
//! | `bounds` | how far to go, and what was shown |
//! | `world` | machines, what they see, the promises |
//! | `calm` | from here on nothing fails: does a group form? |
//! | `plain`, `walk` | the whole world; searched, or walked through at random |
//! | `rumour`, `essence`, `table`, `lean`, `search` | the least of it that can still do everything |

mod bounds;
mod calm;
mod essence;
mod lean;
mod plain;
mod rumour;
mod search;
mod table;
#[cfg(test)]
mod tests;
mod walk;
mod world;

pub use bounds::{Bounds, Explored, Looking};
pub use search::explore;
pub use walk::{explore_plain, hunt, wander};
