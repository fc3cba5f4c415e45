//! Pages about clocks, disks and what an agent is ill of by itself.
//!
//! Named as the causes are, so that the table of codes finds them.

use super::Page;

pub(in crate::diagnosis) const ClockOff: Page = Page {
    means: "Ages and certificates depend on clocks, promises of the log do not. A clock that is 10 s off the others makes its agent hand leadership over.",
    seen: "Each message carries the time of its sender: an agent compares with its leader, a leader with the median of the voters.",
    todo: &[
        "Set the clock right: `timedatectl`, `chronyc tracking`.",
        "Look why NTP does not: a firewall on UDP 123, a virtual machine without a clock source.",
    ],
    never: "Do not set all other clocks to follow the wrong one.",
};

pub(in crate::diagnosis) const ClockJumped: Page = Page {
    means: "The wall clock was set by five seconds or more at once. Nothing is lost by it, but times of records stand still or hurry for a while.",
    seen: "Between two looks the wall clock moved by seconds against the monotonic one.",
    todo: &[
        "Find out who set it: NTP after a suspension, a person, a hypervisor.",
        "Let NTP slew the clock instead of stepping it.",
    ],
    never: "Do not run two services that both set the clock.",
};

pub(in crate::diagnosis) const ProcessStalled: Page = Page {
    means: "The agent did not run for five seconds or more. The others took it for dead meanwhile, and elected without it.",
    seen: "Its policies have a turn every 100 ms; once they had none for that long.",
    todo: &[
        "Look for a suspended machine, SIGSTOP, a debugger, a container at its CPU limit.",
        "Look for missing memory: `vmstat 1`, `dmesg | grep -i oom`.",
    ],
    never: "Do not pin agents to CPUs that others use up.",
};

pub(in crate::diagnosis) const DiskFull: Page = Page {
    means: "Below its reserve a disk takes no more entries; its agent goes on voting and answering, and hands leadership over. Where no quorum has room, appends are refused.",
    seen: "The file system has less free than the reserve (`disk_reserve_bytes`, at most a tenth of it), or a write found no room.",
    todo: &[
        "See what takes the room: `df -h DATA; du -xsh DATA`.",
        "Free some, or enlarge the file system: everything resumes by itself.",
        "Give the data directory a file system of its own.",
    ],
    never: "Never delete files in DATA/log: they are the log.",
};

pub(in crate::diagnosis) const DiskReadOnly: Page = Page {
    means: "The file system of the data directory takes no writes. An agent cannot start there, and one that runs ends at its next write.",
    seen: "The system says that the file system is mounted read-only.",
    todo: &[
        "See why: `dmesg | tail -50`; an error of the disk makes the kernel do it.",
        "Check the disk before you write to it again.",
        "Then `mount -o remount,rw`, and start the agent: it reads what is really there.",
    ],
    never: "Do not remount a failing disk and go on: replace it, and let the agent join as a new node.",
};

pub(in crate::diagnosis) const DiskSlow: Page = Page {
    means: "An acknowledged record is on the disks of a quorum. A disk that needs longer for one sync than an election takes holds everybody up.",
    seen: "A write waits for more than an election timeout, or nine of ten syncs are slower than the shortest one.",
    todo: &[
        "See who else uses it: `iostat -x 1`.",
        "Measure it alone: `quorate doctor --data DIR --measure` with the agent stopped, `quorate bench` with it.",
        "Move the data directory, or raise `election_timeout_min` and `election_timeout_max` on all agents.",
    ],
    never: "Do not put the data directories of several voters on one disk.",
};

pub(in crate::diagnosis) const DamageLost: Page = Page {
    means: "Entries of the log cannot be read, and no member that is there has them whole. They are named, never invented.",
    seen: "Every checksum is verified when it is read; the members were asked, or there are none.",
    todo: &[
        "Restore the directory of one member from a backup, and start it: it gives the entries to the others.",
        "Start members that are down: one of them may hold them.",
        "Or give them up: `quorate recover --data DIR` says what is lost, and asks.",
    ],
    never: "Do not delete or edit segment files: what is readable in them would be lost too.",
};

pub(in crate::diagnosis) const DamageRepairing: Page = Page {
    means: "Entries of the log cannot be read on this disk; others have them. The agent gets them back by itself, and does not lead meanwhile.",
    seen: "A checksum does not match, in a file and at a byte that are named. What comes back is checked by term, checksum and chain of hashes.",
    todo: &[
        "Wait: `quorate status` shows what is repaired.",
        "Look at the disk that rots: `smartctl -a`; replace it if it does so again.",
        "With the agent stopped, `quorate verify --data DIR` names all damage.",
    ],
    never: "Do not wipe the directory while it is being repaired, unless the others have a quorum without it.",
};

pub(in crate::diagnosis) const DiskForgot: Page = Page {
    means: "This disk had acknowledged entries that it does not hold any more. A quorum may have counted on it, so it does not lead, and votes only for who holds them.",
    seen: "Its own start, or the leader that remembers what it acknowledged, says so.",
    todo: &[
        "Start the other members: who holds these entries gives them back by itself.",
        "Find out how the disk forgot: a cache without a battery, a backup that was put back, a snapshot of a virtual machine.",
    ],
    never: "Do not use disks that lie about syncs: no replication helps against all of them at once.",
};

pub(in crate::diagnosis) const CheckpointTrouble: Page = Page {
    means: "The state of the machines could not be saved, or a saved one could not be read. It is a cache: the next start only takes longer.",
    seen: "Writing or reading a file in DATA/checkpoints failed.",
    todo: &["Look at the reason in the evidence: room, rights, a bad disk.", "It is tried again by itself."],
    never: "Do not restart the agent over it: nothing is lost.",
};

pub(in crate::diagnosis) const RaftHalted: Page = Page {
    means: "Raft of this agent has stopped, because what it holds contradicts what others have committed, or itself. The agent stays up to tell.",
    seen: "The core says why: a conflict below what is committed, an answer of most voters, or a disk that contradicts itself.",
    todo: &[
        "Keep a copy of the data directory and of the log of the process.",
        "Restart the agent: what it reads then may be sound.",
        "If it stops again and the others have a quorum, wipe the directory to join as a new node.",
    ],
    never: "Do not wipe it while the others have no quorum: it may hold what they need.",
};

pub(in crate::diagnosis) const MachineStopped: Page = Page {
    means: "The log goes on, and this agent no longer applies it: reads through it would be stale, so it does not serve them.",
    seen: "Applying an entry failed, or an entry that is committed cannot be read here.",
    todo: &[
        "Read the reason in the evidence and in its log.",
        "Ask another agent meanwhile: `--addr HOST:PORT`.",
        "Restart it; if it stops at the same entry on all agents, report it.",
    ],
    never: "Do not append the same records again: they are in the log.",
};

pub(in crate::diagnosis) const HistoriesDiffer: Page = Page {
    means: "Two members hold different entries at the same place of one log. That never happens without a lost promise: a disk, a lying member, or a defect.",
    seen: "Members compare hashes of their histories; who most voters contradict stops by itself.",
    todo: &[
        "Stop both and keep copies of their directories.",
        "Compare: `quorate log dump --data DIR --entries`.",
        "Wipe the one that most others contradict, and report it with the copies.",
    ],
    never: "Do not choose by which one is longer.",
};
