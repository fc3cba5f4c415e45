//! Bounds: how far a search goes, and what it has shown.
//!
//! It never says how the search is done.

use std::fmt;

/// What agents see of each other before they found a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Looking {
    /// What is so at that moment, except of those who do not answer.
    True,
    /// Nothing: any set of founders may be proposed and agreed to at any time.
    Blind,
}

/// How far to go.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Machines.
    pub machines: usize,
    /// How many each expects.
    pub expect: usize,
    /// Crashes in all; in [`super::explore`] only those that take what was told too early, the others are never counted there.
    pub crashes: u8,
    /// Disks lost in all.
    pub wipes: u8,
    /// Times that somebody loses patience.
    pub call_offs: u8,
    /// No proposal of a later round than this is made: who does not look could go on for ever.
    pub rounds: u64,
    /// What is seen.
    pub looking: Looking,
    /// A wiped machine comes back with a lower id than all others, not a higher one.
    pub reborn_low: bool,
    /// States after which the search ends unfinished.
    pub states_max: usize,
    /// From one state in so many, see whether a group forms; 0 for none.
    pub probe_every: u64,
}

/// What a search has shown.
#[derive(Clone, Debug, Default)]
pub struct Explored {
    /// Different states.
    pub states: usize,
    /// Steps between them.
    pub steps: u64,
    /// The longest shortest way to one of them.
    pub depth: u32,
    /// Every state that is at most so many steps away was seen, and every step from there but the last was tried.
    pub whole_to: u32,
    /// States in which a log is founded.
    pub founded: u64,
    /// States from which a group was seen to form.
    pub formed: u64,
    /// States that need a person, since most founders of an open proposal have lost their disks.
    pub blocked: u64,
    /// Proposals that were not made, since their round is out of bounds.
    pub late: u64,
    /// Every state within the bounds was seen.
    pub is_whole: bool,
    /// The first promise that was broken, and how it came to that.
    pub violation: Option<String>,
}

impl fmt::Display for Explored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { states, steps, depth, whole_to, founded, formed, blocked, late, is_whole, .. } = self;
        match is_whole {
            true => write!(f, "whole: yes, {states} states, {steps} steps, depth {depth}, {founded} with a log")?,
            false => write!(f, "whole: no (every state to depth {whole_to}), {states} states, {steps} steps")?,
        }
        if *late > 0 {
            write!(f, ", {late} proposals beyond the last round")?;
        }
        if formed + blocked > 0 {
            write!(f, "; of those tried without further faults {formed} formed, {blocked} need a person")?;
        }
        Ok(())
    }
}
