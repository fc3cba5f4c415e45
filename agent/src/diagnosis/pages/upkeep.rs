//! Pages about upgrades and about what operators began: levels, drains, seats, departures.
//!
//! Named as the causes are, so that the table of codes finds them.

use super::Page;

pub(in crate::diagnosis) const ProgramTooOld: Page = Page {
    means: "All members have agreed on a feature level that this program does not understand. It would misread what they write, so it is not let in, or stops applying the log where that begins. Nothing is lost.",
    seen: "The registry in the log says a level above what the program supports, or another agent refused it and said so.",
    todo: &[
        "Compare: `quorate --version` there, and VERSION in `quorate members`.",
        "Put the version of the others in its place.",
        "Start it again with the same data directory: it goes on where it stopped.",
    ],
    never: "Do not wipe its disk: that changes nothing, and costs a copy. A level is never lowered, so do not downgrade the others.",
};

pub(in crate::diagnosis) const LevelHeldBack: Page = Page {
    means: "What a newer program can write waits until every member understands it: the feature level of the log is raised by itself then. Some do not, or are not connected to say.",
    seen: "Some agents say that they understand more than the level of the log; of the others, some say that they do not, and some say nothing.",
    todo: &[
        "Upgrade the agents that are named, one at a time, with `quorate drain`.",
        "Start those that are not connected; if one is lost for good: `quorate remove NAME`.",
        "`quorate autopilot state` shows the level; it rises within seconds of the last upgrade.",
    ],
    never: "Do not leave an upgrade half done for weeks: commands that need the level are refused until then.",
};

pub(in crate::diagnosis) const DrainLeft: Page = Page {
    means: "An operator moved work away from an agent, and has not taken that back although it is here. It serves no clients, leads only if nobody else can, and another one cannot be drained as long as the group counts on it.",
    seen: "It was drained before its present start and has run for 30 s since, or it has been drained for ten minutes and runs.",
    todo: &["If the work on it is done: `quorate drain --undo NAME`.", "If it is not: nothing; it stays drained."],
    never: "Do not take this for a fault of the agent: it does what it was told.",
};

pub(in crate::diagnosis) const AutopilotHeld: Page = Page {
    means: "The autopilot would give more agents a vote, or seats to a newer version, and an operator has said that it must not.",
    seen: "Agents without a vote because of `quorate demote` are here, and with them the group could bear more failures; or `upgrade` is off while spares of a newer version stand by.",
    todo: &[
        "Give the decision back: `quorate demote --undo NAME`.",
        "Let it upgrade: `quorate autopilot config --set upgrade=on`.",
    ],
    never: "Do not promote by hand what the autopilot would promote by itself: the next failure finds it pinned again.",
};

pub(in crate::diagnosis) const LeftInGossip: Page = Page {
    means: "Gossip says that the agent has left. Only a committed entry takes a seat away, and there is none: so its vote still counts, and nobody casts it. It was cut off while it left, or its disk was put back.",
    seen: "Its state in `quorate members` is left, and the configuration in the log still has it.",
    todo: &[
        "If it is to stay, start it again with its data directory.",
        "If it is to go: `quorate remove NAME`, which is refused where it would break the quorum.",
    ],
    never: "Do not wipe its disk before its seat is gone: until then the group may need what it holds.",
};
