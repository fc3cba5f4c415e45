//! The feature level: what every member of a log understands, replicated, raised when all of them do, never lowered.
//!
//! It never guesses: who does not say what it supports supports the first level only.
//!
//! | level | brought |
//! |---:|---|
//! | 1 | the log, the registry of names, departures |
//! | 2 | in the registry: what operators want of single agents, settings of the autopilot; a member tells its leader whom it misses |
//!
//! An entry or message that an older program would not understand is written or sent only where the level, or the peer,
//! is known to be high enough. The level is in the registry, so it stands in checkpoints, and a program that is too old
//! for the log on its own disk stops there and says so.
//!
//! The feature bits of a Hello: bit 0 says that the agent was told to found a log, bit 1 that it was told to expect others, now or once, bits 8 to 15 the level that its program
//! supports (zero: the first).

use crate::machine::registry::LEVEL_BASE;

/// What this program understands.
pub const FEATURE_LEVEL: u32 = 2;
/// From this level on the registry holds the settings of the autopilot.
pub(super) const LEVEL_SETTINGS: u32 = 2;
/// From this level on the registry holds what operators want of single agents: drained, pinned, removed.
pub(super) const LEVEL_OPERATE: u32 = 2;
/// From this level on a member tells its leader whom it misses.
pub(super) const LEVEL_MISSED: u32 = 2;

const FOUNDER: u64 = 1;
/// The bit of an agent that was told to expect others.
pub const EXPECTS: u64 = 2;
const SHIFT: u32 = 8;
const MASK: u64 = 0xff;

/// The feature bits of a Hello.
#[must_use]
pub fn features(founder: bool, level: u32) -> u64 {
    (u64::from(founder) * FOUNDER) | ((u64::from(level) & MASK) << SHIFT)
}

/// Was the agent with these bits told to found a log?
#[must_use]
pub fn is_founder(features: u64) -> bool {
    features & FOUNDER != 0
}

/// Was the agent with these bits told to expect others, now or once?
#[must_use]
pub fn expects(features: u64) -> bool {
    features & EXPECTS != 0
}

/// The level that the program with these bits supports.
#[must_use]
pub fn supported(features: u64) -> u32 {
    u32::try_from((features >> SHIFT) & MASK).unwrap_or(0).max(LEVEL_BASE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_say_what_was_put_in_and_older_programs_are_of_the_first_level() {
        for founder in [false, true] {
            let bits = features(founder, FEATURE_LEVEL);
            assert_eq!((is_founder(bits), supported(bits)), (founder, FEATURE_LEVEL));
        }
        assert_eq!((supported(0), supported(1)), (1, 1));
    }
}
