//! Pages about how agents find each other, reach each other and agree.
//!
//! Named as the causes are, so that the table of codes finds them.

use super::Page;

pub(in crate::diagnosis) const TwoHistories: Page = Page {
    means: "Two agents were started with --bootstrap under one authority. Each founded a log. They gossip, and never share Raft: neither side loses anything.",
    seen: "Connected agents say that they belong to logs with different ids.",
    todo: &[
        "Decide which log to keep: read both with `quorate tail`.",
        "Append what you need of the other one to the one that stays.",
        "On each agent of the other side: stop it, set its directory aside, start it with --join.",
    ],
    never: "Never start more than one agent with --bootstrap.",
};

pub(in crate::diagnosis) const AdvertiseUnreachable: Page = Page {
    means: "The agent tells others an address at which only its own machine can reach it.",
    seen: "It advertises loopback, or no address at all, while other machines belong to the cluster.",
    todo: &[
        "Start it with --advertise HOST:PORT, an address that the others can dial.",
        "With --bind on [::] or on that address, not on 127.0.0.1.",
    ],
    never: "Do not advertise an address behind NAT without a rule that forwards UDP to it.",
};

pub(in crate::diagnosis) const VersionGate: Page = Page {
    means: "The two programs have no version of the protocol or of the files in common.",
    seen: "The greeting ended with the ranges of both sides, or a file says a format that this program does not know.",
    todo: &[
        "Compare: `quorate --version` on both machines.",
        "Upgrade the older one: one version at a time, followers first, the leader last.",
    ],
    never: "Do not downgrade an agent whose files were written by a later version.",
};

pub(in crate::diagnosis) const DatagramsBlocked: Page = Page {
    means: "Gossip travels in datagrams, and is repeated over streams before anybody is suspected. Here only the streams arrive.",
    seen: "Probes by datagram to a member get no answer, those over a stream do.",
    todo: &[
        "Check that large UDP packets pass: `ping -M do -s 1224 HOST`.",
        "Look for a firewall or a tunnel with a smaller MTU between the two.",
        "Look at the load of that agent.",
    ],
    never: "Do not ignore it: failures take longer to tell from loss until then.",
};

pub(in crate::diagnosis) const LinkBroken: Page = Page {
    means: "The member lives, as others or gossip say, and this agent cannot reach it. Raft needs a connection of its own, so the two are as good as down to each other.",
    seen: "Dialling it gets no answer over UDP, while another agent is connected with it, or gossip of others calls it alive; a handshake needs packets of 1,200 bytes and more. Or the two are connected since before, small packets pass, and Raft has had no answer for five seconds.",
    todo: &[
        "Let UDP to and from the ports of both through every firewall.",
        "Check the path: `ping -M do -s 1224 HOST`; a smaller MTU drops what a handshake and large entries need.",
        "Check that each advertises an address that the other can dial: `quorate members`.",
    ],
    never: "Do not forget the member: it lives, and comes back when the path does.",
};

pub(in crate::diagnosis) const AgentDown: Page = Page {
    means: "No agent runs on this data directory.",
    seen: "Nobody holds its lock.",
    todo: &[
        "Start it: `quorate agent --data DIR --certs DIR`.",
        "If it ended by itself, its last lines of log say why: `journalctl -u quorate -n 50`.",
        "If it does not start, this command names what keeps it from that before this.",
    ],
    never: "Do not wipe the directory because the agent does not start: it may hold what the others need.",
};

pub(in crate::diagnosis) const AgentSilent: Page = Page {
    means: "A process holds the data directory and does not answer in time.",
    seen: "Its descriptor and lock are there, and its port does not answer a handshake.",
    todo: &[
        "See its state: `ps -o pid,stat,wchan:20 -p PID` (T is stopped, D waits for a disk).",
        "Stopped: `kill -CONT PID`.",
        "Waiting for a disk: look at the disk; restart the agent when it is well.",
    ],
    never: "Do not start a second agent on the same directory: it is refused, and rightly.",
};

pub(in crate::diagnosis) const NobodyFounded: Page = Page {
    means: "A cluster begins when exactly one agent founds its log. All that are here wait for somebody else to do it.",
    seen: "No agent that is connected belongs to a log, and none was told to found one.",
    todo: &["Start exactly one agent with --bootstrap.", "Start all others with --join HOST:PORT of one that runs."],
    never: "Never start two agents with --bootstrap: each founds a log of its own.",
};

pub(in crate::diagnosis) const NoJoinAddress: Page = Page {
    means: "The agent was told whom to join, and nobody answers there. It never founds a log by itself.",
    seen: "Every join address failed; the evidence tells how each did.",
    todo: &[
        "Check that an agent runs at the address, and listens on it, not on loopback.",
        "Let UDP through every firewall in between.",
        "If this is to be the first agent, start it with --bootstrap.",
    ],
    never: "Do not use --bootstrap to get an agent going whose cluster exists: that founds another one.",
};

pub(in crate::diagnosis) const WaitingForExpected: Page = Page {
    means: "The agents were told to found the cluster when so many have come together, and fewer have. Silence never counts as consent.",
    seen: "The agent names those that it has seen.",
    todo: &[
        "Start the missing agents with the same --expect, and --join to one that runs.",
        "If one of them is lost, replace it by another machine with the same command.",
    ],
    never: "Do not start one with --bootstrap meanwhile, and do not lower --expect on some of them only.",
};

pub(in crate::diagnosis) const NotAdmitted: Page = Page {
    means: "The agent is connected with members, and the leader has not made it a member of the group yet: everyone joins as a learner, one change at a time.",
    seen: "It belongs to no group, and a leader says what it waits for, or no leader speaks to it.",
    todo: &[
        "Wait some seconds; the reason in the evidence says for what.",
        "If there is no leader, ask a member: `quorate doctor --addr HOST:PORT --certs DIR`.",
    ],
    never: "Do not restart it in a loop: each start begins the wait again.",
};

pub(in crate::diagnosis) const TermChurn: Page = Page {
    means: "Leaders are elected again and again. Each election costs a moment in which nothing is committed.",
    seen: "The term moved six times or more within a minute; the evidence names who moved it.",
    todo: &[
        "Look at the busiest one first: its disk, its network, its CPU: `quorate doctor --agent NAME` there.",
        "Packets lost on the way make candidates: look at the links between the voters.",
        "If all are slow, raise the election timeouts on all agents.",
    ],
    never: "Do not restart all agents at once: that is one more election.",
};

pub(in crate::diagnosis) const FirstEntryUncommitted: Page = Page {
    means: "Somebody was elected, and serves only once an entry of its own term is on the disks of a quorum. That takes too long.",
    seen: "The leader has led for several election timeouts, and its first entry is not committed.",
    todo: &[
        "Look at the disks of the voters: hanging or slow syncs.",
        "Hand leadership over: `quorate transfer`, or stop the leader.",
    ],
    never: "Do not append in a loop: nothing is taken before that entry is committed.",
};

pub(in crate::diagnosis) const QuorumDown: Page = Page {
    means: "More than half of the voters are needed to elect a leader and to acknowledge anything; fewer can be reached. Nothing that was acknowledged is lost.",
    seen: "The agent is connected with too few voters, and for those that are missing nothing but their absence was found.",
    todo: &[
        "Start the missing voters with their data directories: as many as are named are enough.",
        "If their machines are gone and the disks are not, put the disks into others: addresses may change.",
        "Only if their disks are lost for good: `quorate recover --data DIR` on the survivor with the longest log; it says what may be lost.",
    ],
    never: "Do not recover while a missing disk may come back: its history would be refused from then on.",
};

pub(in crate::diagnosis) const VoterDown: Page = Page {
    means: "A voter cannot be reached. A quorum is left, with less to spare.",
    seen: "Neither the agent that was asked nor the leader is connected with it.",
    todo: &[
        "Start it again with its data directory: it catches up by itself.",
        "If it is lost for good: `quorate forget NAME`, and start a new agent in its place.",
    ],
    never: "Do not forget a voter that comes back soon: it would have to join as a new node.",
};

pub(in crate::diagnosis) const NoLeader: Page = Page {
    means: "Enough voters are connected to elect a leader, they have not, and none of the known causes was found.",
    seen: "No voter that was asked knows a leader, for longer than an election takes.",
    todo: &[
        "Ask again in some seconds: an election may be under way.",
        "Compare what each voter says in the evidence: terms, ends of the logs.",
        "Keep the logs of all voters, and report it.",
    ],
    never: "Do not use `quorate recover`: a quorum is there, and nothing is lost.",
};

pub(in crate::diagnosis) const Reported: Page = Page {
    means: "The agent lists a problem in its status that has no code of its own.",
    seen: "`quorate status` shows the same sentence.",
    todo: &[
        "Read the sentence: it says what, why, and what to do.",
        "`quorate status` on the other agents shows whether they say the same.",
    ],
    never: "Do not take silence of `quorate members` for health: look at the status of each agent.",
};
