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
