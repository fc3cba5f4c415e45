//! Agents on small file systems of their own that somebody else fills: leadership moves, votes go on, refusals say whose disk
//! it is, a start needs no free byte, and with room everything resumes by itself.
#![cfg(target_os = "linux")]

use crate::cluster::{Cluster, wait_until};
use crate::history::{self, Load};
use crate::small_disk::{DISK_BYTES, NO_DISK, SmallDisk, start};
use std::process::Command;
use std::time::{Duration, Instant};

/// The disk of the leader is filled under load: leadership moves, no append fails. It is filled to the last byte and killed:
/// it starts, and its vote elects. With only it and a new leader left, appends are refused in words and with code 6; freed,
/// everything resumes by itself, and the replicas are equal.
#[test]
fn a_full_disk_costs_the_lead_and_nothing_else() {
    let mut cluster = Cluster::new();
    let names = ["n1", "n2", "n3"];
    let disks: Option<Vec<SmallDisk>> = names.iter().map(|name| SmallDisk::on(cluster.data(name))).collect();
    let Some(disks) = disks else {
        return println!("{NO_DISK}");
    };
    let disk_of = |name: &str| &disks[names.iter().position(|n| *n == name).unwrap()];
    start(&mut cluster, &disks[0], "n1", "127.0.0.1:0", &["--bootstrap"]);
    let seed = cluster.addr("n1").to_string();
    for at in [1, 2] {
        start(&mut cluster, &disks[at], names[at], "127.0.0.1:0", &["--join", &seed]);
    }
    let full = cluster.wait_group(3, 0);
    let before = cluster.status(&full).unwrap().space;
    assert!(!before.full && before.total == Some(DISK_BYTES) && before.reserve == DISK_BYTES / 10, "{before:?}");

    // Nearly full, under load.
    let load = Load::on(&cluster, 3);
    load.wait_ack_after(Instant::now());
    let filled = Instant::now();
    disk_of(&full).leave_free(2 << 20);
    let moved = cluster.wait_status(&full, "another leader", |s| s.leader.as_ref().is_some_and(|l| *l != full));
    println!("figure: leadership left a full disk after {:?}", filled.elapsed());
    load.wait_ack_after(Instant::now());
    let status = cluster.wait_status(&full, "its disk is full", |s| s.space.full);
    assert!(status.problems.iter().any(|p| p.contains(&full) && p.contains("are kept free")), "{:?}", status.problems);
    let said = cluster.ask(&full, &["status"]);
    assert!(said.ok().contains("NEARLY FULL"), "{}", said.out);
    let said = cluster.ask(&full, &["doctor", "--format", "json"]);
    assert!(said.code == 9 && said.out.contains("\"E0120\""), "{} {}", said.code, said.out);
    let history = load.stop(&cluster);
    let summary = history.iter().filter(|attempt| !attempt.is_acked()).count();
    assert_eq!(summary, 0, "no append failed");

    // Not a byte, and killed: it starts, and votes.
    disk_of(&full).leave_free(0);
    cluster.kill(&full);
    let bind = cluster.addr(&full).to_string();
    start(&mut cluster, disk_of(&full), &full, &bind, &[]);
    let status = cluster.wait_status(&full, "its disk is full", |s| s.space.full && s.leader.is_some());
    assert!(status.space.free.is_some_and(|free| free < 1 << 20), "{:?}", status.space);
    let old = moved.leader.unwrap();
    let other = names.into_iter().find(|n| *n != full && *n != old).unwrap();
    cluster.kill(&old);
    cluster.wait_status(&full, "the other one leads", |s| s.leader.as_deref() == Some(other));

    // Two are left, and one takes nothing.
    let refused = wait_until("an append is refused for want of room", || {
        let said = cluster.ask(other, &["append", "one", "--format", "json", "--timeout", "5s"]);
        let error: serde_json::Value = serde_json::from_str(&said.err).ok()?;
        (said.code == 6 && error["error"]["code"] == "no_space").then(|| error["error"].clone())
    });
    assert!(refused["message"].as_str().unwrap().contains(&full), "{refused}");
    assert!(refused["hint"].as_str().unwrap().contains("free space"), "{refused}");
    assert_eq!(refused["outcome"], "not_applied");
    let said = cluster.ask(other, &["append", "one", "--timeout", "5s"]);
    assert!(said.one_error(6).contains("nearly full"), "{}", said.err);

    // Room again: nobody does anything else.
    let freed = Instant::now();
    disk_of(&full).free();
    wait_until("appends are taken again", || (cluster.ask(other, &["append", "two"]).code == 0).then_some(()));
    println!("figure: appends resumed {:?} after space was freed", freed.elapsed());
    cluster.wait_status(&full, "its disk is well", |s| !s.space.full);
    let bind = cluster.addr(&old).to_string();
    start(&mut cluster, disk_of(&old), &old, &bind, &[]);
    cluster.wait_group(3, 0);
    assert!(freed.elapsed() < Duration::from_secs(120));
    history::verify(&cluster, &cluster.running(), &history);
}

/// A limit of the system (`RLIMIT_FSIZE`) that bites in the middle of a segment: whoever appends is told so with code 6, reads
/// go on, and nothing that was acked is lost. Without the limit the next start takes appends again.
#[test]
fn a_limit_on_file_sizes_is_a_full_disk() {
    let mut cluster = Cluster::new();
    let agent = cluster.agent_command("n1", "127.0.0.1:0", &["--bootstrap"]);
    let mut command = Command::new("bash");
    // In KiB: less than a segment.
    command.args(["-c", "trap '' XFSZ; ulimit -f 4096; exec \"$0\" \"$@\""]);
    command.arg(agent.get_program()).args(agent.get_args());
    for (key, value) in agent.get_envs() {
        match value {
            Some(value) => command.env(key, value),
            None => command.env_remove(key),
        };
    }
    cluster.spawn("n1", command).unwrap();
    cluster.wait_group(1, 0);
    let value = "x".repeat(100 << 10);
    let mut acked = 0;
    let refused = wait_until("the limit is met", || {
        let said = cluster.ask("n1", &["append", &value, "--timeout", "5s"]);
        match said.code {
            0 => acked += 1,
            // The one that met the limit may still be written.
            7 => {}
            code => return Some((code, said.err)),
        }
        None
    });
    assert!(refused.0 == 6 && refused.1.contains("a quota or a limit"), "{refused:?}");
    assert!((10..=40).contains(&acked), "{acked}");
    // The one that met the limit may be in the log.
    let long =
        |cluster: &Cluster| history::read(cluster, "n1").1.iter().filter(|read| read.len() == value.len()).count();
    assert!((acked..=acked + 1).contains(&long(&cluster)), "{acked} {}", long(&cluster));
    cluster.kill("n1");
    cluster.restart("n1", &[]);
    wait_until("appends are taken again", || (cluster.ask("n1", &["append", "y"]).code == 0).then_some(()));
    assert!((acked..=acked + 1).contains(&long(&cluster)), "{acked} {}", long(&cluster));
}
