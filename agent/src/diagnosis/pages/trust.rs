//! Pages about directories, certificates and identities.
//!
//! Named as the causes are, so that the table of codes finds them.

use super::Page;

pub(in crate::diagnosis) const DirectoryInUse: Page = Page {
    means: "Only one process may use a data directory at a time; its lock is held by a process that has no descriptor for you.",
    seen: "The file LOCK in the directory is locked. Agents of yours are found by their descriptors in the runtime directory; the holder is none of them.",
    todo: &[
        "See who holds it: `fuser -v DATA/LOCK`.",
        "If it is an agent of another user, or one with another QUORATE_RUNTIME_DIR, ask that one: `quorate doctor --addr HOST:PORT --certs DIR`.",
        "If it should not run, stop it (SIGTERM) and start yours.",
    ],
    never: "Do not delete LOCK: the lock is on the open file, and two processes on one log destroy it.",
};

pub(in crate::diagnosis) const DirectoryRefused: Page = Page {
    means: "The agent refuses a directory that it cannot read, or in which others could read its keys or replace its files.",
    seen: "The system denies access, or the mode of the directory or of a key file gives rights to others.",
    todo: &[
        "Give the directory to the user of the agent: `chown -R USER DATA`.",
        "Take the rights of others away: `chmod 700 DATA; chmod 600 DATA/*.key*`.",
        "If the keys may have been read by somebody else, wipe the directory: the agent joins again as a new node.",
    ],
    never: "Do not run the agent as root to get around it: files of root in the directory keep the next start out.",
};

pub(in crate::diagnosis) const DirectoryForeign: Page = Page {
    means: "The node key makes the identity of a disk. The log in this directory was written under another key, or for another cluster.",
    seen: "The meta of the log names another node or cluster than the node key and the certificate.",
    todo: &[
        "Put the key back that belongs to the log (`node.key`, or its copy `node.key.copy`).",
        "Use the certificates of the cluster that the log belongs to.",
        "Else wipe the directory: the agent joins as a new node.",
    ],
    never: "Do not copy keys between agents: two disks with one identity are a danger to the log.",
};

pub(in crate::diagnosis) const CertificateExpired: Page = Page {
    means: "Every connection proves who is there by a certificate, and its time is over. Connections end with it, so the agent is cut off although it runs.",
    seen: "The last valid second of the certificate lies before the clock of its machine, or the other side refuses it with the word `expired`. Both logs say who refused whom.",
    todo: &[
        "Look at it: `quorate certs inspect DIR`.",
        "Issue a new one where the authority is: `quorate certs issue agent NAME --out OUT`.",
        "Put the files in place and send SIGHUP to the agent: no restart is needed.",
    ],
    never: "Do not set the clock back: everything else that looks at it goes wrong then, and the log refuses to go back in time.",
};

pub(in crate::diagnosis) const CertificateNotYetValid: Page = Page {
    means: "The time of the certificate has not begun by the clock of one of the machines. Certificates are backdated by an hour, so mostly that clock is wrong.",
    seen: "The first valid second lies after the clock of the machine that looks at it.",
    todo: &[
        "Compare the clocks: `date -u` on both machines.",
        "Set the wrong one right, and keep it so with NTP.",
        "If the clocks are right, issue the certificate again where the clock is right.",
    ],
    never: "Do not issue certificates on a machine whose clock you have not checked.",
};

pub(in crate::diagnosis) const OtherAuthority: Page = Page {
    means: "Agents trust the authority in their own ca.pem and no other. These two were issued by different ones, so they are strangers.",
    seen: "The handshake fails with the word `other_authority` on one or both sides.",
    todo: &[
        "Compare on both machines: `quorate certs inspect DIR/ca.pem`.",
        "Decide which authority is that of the cluster, and issue the other agent a certificate of it.",
        "Replace all three files (ca.pem, cert.pem, key.pem) together, and send SIGHUP.",
    ],
    never: "Do not copy only ca.pem: then the agent trusts the others, and they do not trust it.",
};

pub(in crate::diagnosis) const OtherCluster: Page = Page {
    means: "The cluster id stands in every certificate and is the boundary of trust: different ids never speak to each other, even under one authority.",
    seen: "The handshake fails with the word `other_cluster`, or the log in the directory names another cluster than the certificate.",
    todo: &[
        "Compare the ids: `quorate certs inspect DIR` on both machines.",
        "Leave addresses of other clusters out of --join.",
        "Or give the agent a certificate of the cluster that it should join, and a data directory of its own.",
    ],
    never: "Do not issue certificates of one cluster from the files of another one's authority by hand.",
};

pub(in crate::diagnosis) const CertificateUnusable: Page = Page {
    means: "The certificate or its key cannot be used at all: missing, not readable, readable by others, of a client, or breaking a rule of X.509.",
    seen: "Loading the three files fails, or the other side refuses the certificate for another reason than its dates, authority and cluster.",
    todo: &[
        "See each finding: `quorate certs verify DIR`.",
        "Issue it again: `quorate certs issue agent NAME --out OUT`.",
        "A key that others may read: `chmod 600 DIR/key.pem`, and issue a new one if somebody did.",
    ],
    never: "Do not reuse one certificate for several agents: the name in it is who they are.",
};

pub(in crate::diagnosis) const DirectoryCopied: Page = Page {
    means: "The directory is the identity of a node. A copy, or a backup that is older than what the cluster has seen, would vote twice or forget its votes, so it is refused.",
    seen: "Each start counts a boot. The cluster has seen a later boot of this node key than this directory is in, or the same boot in another process.",
    todo: &[
        "Find the other one: `quorate members` shows the address of that node.",
        "If it is the right one, stop this one for good.",
        "To use this machine all the same: set the directory aside and start with --join, as a new node.",
    ],
    never: "Do not restore a backup of a data directory into a cluster that has gone on since: it is refused, and rightly.",
};

pub(in crate::diagnosis) const NodeRemoved: Page = Page {
    means: "This disk was dropped for good: by `quorate leave`, `forget` or `remove`, by `recover` on another disk, or because a new disk took over its name.",
    seen: "The replicated registry says so, and the others turn it away with that reason.",
    todo: &[
        "Stop the agent and set its directory aside: `mv DATA DATA.old`.",
        "Start it again with --join: it comes back as a new node, under the same name if that is free.",
    ],
    never: "Do not edit the directory to bring the old node back: what it promised since is lost.",
};

pub(in crate::diagnosis) const NameHeld: Page = Page {
    means: "A name belongs to one disk. Another node holds this name: it lives, or has not been silent for 30 seconds yet.",
    seen: "The others turn the newcomer away and say who holds the name, and for how much longer.",
    todo: &[
        "If the holder is gone, wait 30 s, or `quorate forget NAME`.",
        "If both are meant to run, issue the newcomer a certificate with a name of its own.",
        "If one is a mistake, stop it: `quorate members` shows where it runs.",
    ],
    never: "Do not start the same configuration on two machines: names come from certificates.",
};

pub(in crate::diagnosis) const NodeLeft: Page = Page {
    means: "`quorate leave` removed this node; its data was moved into left-TIME in the same directory, so that the next start is a new node.",
    seen: "There is a left-TIME directory and no node key beside it.",
    todo: &[
        "Start the agent with --join to come back as a new node.",
        "Keep left-TIME as long as you like: nothing reads it.",
    ],
    never: "Do not move the files of left-TIME back: that node is refused.",
};
