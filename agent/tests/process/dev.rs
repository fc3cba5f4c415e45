//! `quorate agent --dev`: a cluster on one machine without any configuration.

use crate::cluster::Cluster;
use crate::said::Said;

/// The founder makes everything it needs, the second takes the cluster from the first one's descriptor, and commands
/// need no flags; it says where the data lives and whether it is kept.
#[test]
fn two_agents_without_configuration() {
    let mut cluster = Cluster::new();
    let kept = cluster.path("kept");
    let agent =
        |cluster: &Cluster, name: &str| cluster.command(&["agent", "--dev", "--bind", "127.0.0.1:0", "--name", name]);
    let mut founder = agent(&cluster, "a");
    founder.arg("--data").arg(&kept);
    cluster.spawn("a", founder).unwrap();
    cluster.wait_log("a", &["data in", "(kept)"]);
    assert!(
        !cluster.log("a").contains("WARN"),
        "what it makes by itself it does not complain of: {}",
        cluster.log("a")
    );
    let mut second = agent(&cluster, "b");
    second.args(["--join", &cluster.addr("a").to_string()]);
    cluster.spawn("b", second).unwrap();
    cluster.wait_log("b", &["data in", "removed when the agent ends"]);
    assert_eq!(cluster.run(&["members", "--wait", "alive=2,b=learner", "--timeout", "50s"]).code, 0);
    assert_eq!(cluster.run(&["append", "hello"]).ok(), "0\n");
    let tail = cluster.run(&["tail", "--agent", "b", "--read", "linear"]);
    assert!(tail.ok().ends_with("  hello\n"), "{}", tail.out);

    // It stays on this machine, and takes no certificates of others.
    for refused in [
        &["--bind", "0.0.0.0:0"][..],
        &["--advertise", "10.0.0.1:1"],
        &["--join", "10.0.0.1:7373"],
        &["--join", "127.0.0.1:9"],
        &["--certs", "somewhere"],
    ] {
        let said = Said::by(&mut cluster.command(&[&["agent", "--dev", "--name", "c"][..], refused].concat()));
        said.one_error(78);
    }

    cluster.signal("b", "INT");
    assert_eq!(cluster.ended("b"), 0);
    cluster.signal("a", "INT");
    assert_eq!(cluster.ended("a"), 0);
    let log = cluster.log("b");
    let data = log.split("data in ").nth(1).unwrap().split(" (").next().unwrap();
    assert!(!std::path::Path::new(data).exists(), "{data} is removed");
    assert!(kept.join("log").is_dir());

    // The one that was kept comes back with what it had.
    let mut again = agent(&cluster, "a");
    again.arg("--data").arg(&kept);
    cluster.spawn("a", again).unwrap();
    let tail = cluster.run(&["tail", "--read", "linear"]);
    assert!(tail.ok().ends_with("  hello\n"), "{}", tail.out);
    assert_eq!(cluster.run(&["append", "again"]).ok(), "1\n");
}
