//! Tags: shown and changed while agents run, known to all, and there again after a restart.

use crate::cluster::{Cluster, wait_until};
use quorate_certs::Role;

/// `quorate tags`: of the agent that is asked and of another one by name; set and deleted; heard by everybody; there after
/// a kill, except where a flag says otherwise; text and JSON.
#[test]
fn tags_are_changed_while_agents_run_and_survive_a_restart() {
    let mut cluster = Cluster::of(3);
    let none = cluster.ask("n1", &["tags"]);
    assert_eq!(none.ok(), "");
    assert_eq!(none.err, "n1 has no tags; give it one with `quorate tags --set KEY=VALUE`\n");
    let set = cluster.ask("n1", &["tags", "--set", "zone=a", "--set", "note=one, two=2"]);
    assert_eq!(set.ok(), "note=one, two=2\nzone=a\n");
    // Another agent is asked for a third one's.
    let large = "x".repeat(20_000);
    let set = cluster
        .ask("n2", &["tags", "n3", "--set", &format!("inventory={large}"), "--set", "zone=b", "--format", "json"]);
    let told = set.json();
    assert_eq!((&told["v"], &told["name"], &told["tags"]["zone"]), (&1.into(), &"n3".into(), &"b".into()));
    assert_eq!(told["tags"]["inventory"].as_str().map(str::len), Some(20_000));
    for at in ["n1", "n2", "n3"] {
        cluster.wait_member(at, "the tags of all", |all| {
            let tag = |name: &str, key: &str| {
                all.iter().find(|m| m.name == name).and_then(|m| m.tags.get(key)).cloned().unwrap_or_default()
            };
            tag("n1", "zone") == "a" && tag("n3", "zone") == "b" && tag("n3", "inventory") == large
        });
        let found = cluster.ask(at, &["members", "--tag", "zone=b", "--format", "json"]).json();
        let names: Vec<_> = found["members"].as_array().unwrap().iter().map(|m| m["name"].clone()).collect();
        assert_eq!(names, ["n3"]);
    }
    let deleted = cluster.ask("n1", &["tags", "--delete", "note", "--delete", "never-was"]);
    assert_eq!((deleted.ok(), deleted.err.as_str()), ("zone=a\n", "n1 had no tag never-was\n"));

    cluster.kill("n1");
    cluster.kill("n3");
    cluster.restart("n1", &[]);
    // A flag wins for its key, and only for that.
    cluster.restart("n3", &["--tag", "zone=c"]);
    let kept = wait_until("n1 answers", || Some(cluster.ask("n1", &["tags"])).filter(|said| said.code == 0));
    assert_eq!(kept.ok(), "zone=a\n");
    let kept = wait_until("n3 answers", || Some(cluster.ask("n3", &["tags"])).filter(|said| said.code == 0));
    assert_eq!(kept.ok(), format!("inventory={large}\nzone=c\n"));
    let set = cluster.ask("n3", &["tags", "--set", "zone=d"]);
    assert_eq!(set.ok(), format!("inventory={large}\nzone=d\n"));
    assert_eq!(set.err, "n3 is started with the tag zone=c, which holds again after its next start\n");
}

/// What a newcomer gets wrong: each mistake has its exit code, and names the key, the bound and what to do.
#[test]
fn mistakes_with_tags_are_named() {
    let mut cluster = Cluster::of(3);
    let usage = |args: &[&str]| {
        let said = cluster.ask("n1", args);
        assert_eq!(said.code, 2, "{args:?}: {}", said.err);
        said.err
    };
    assert!(usage(&["tags", "--set", "zone"]).contains("key=value"));
    assert!(
        usage(&["tags", "--set", "a b=c"]).contains("\"a b\" is not legal: 1 to 64 characters of A-Z a-z 0-9 . _ -")
    );
    assert!(usage(&["tags", "--delete", "zone=a"]).contains("--delete zone"));
    assert!(usage(&["tags", "--set", "zone=a", "--set", "zone=b"]).contains("the tag zone is set twice"));
    assert!(usage(&["tags", "--set", "zone=a", "--delete", "zone"]).contains("both set and deleted"));
    assert!(usage(&["tags", "--set", &format!("k{}=v", "k".repeat(64))]).contains("1 to 64 characters"));
    let long = usage(&["tags", "--set", &format!("blob={}", "x".repeat(61_441))]);
    assert!(long.contains("at most 61440 bytes, this has 61441, in the tag blob"), "{long}");
    assert!(usage(&["tags", "--set", "zone=\u{1b}[31m"]).contains("control characters"));

    // Together with what is there it is too much: nothing changes.
    cluster.ask("n1", &["tags", "--set", &format!("blob={}", "x".repeat(40_000))]).ok();
    let more = format!("more={}", "y".repeat(40_000));
    let said = cluster.ask("n1", &["tags", "--set", &more]);
    let said = said.one_error(1);
    assert!(said.contains("at most 65536 bytes together") && said.contains("`quorate tags n1`"), "{said}");
    let error = cluster.ask("n1", &["tags", "--set", &more, "--format", "json"]).json_error(1);
    assert_eq!(error["outcome"], "not_applied");
    assert!(cluster.ask("n1", &["tags"]).ok().starts_with("blob=xxx"));
    assert_eq!(cluster.ask("n1", &["tags"]).ok().lines().count(), 1);

    assert!(cluster.ask("n1", &["tags", "nobody"]).one_error(8).contains("nobody"));
    assert_eq!(cluster.ask("n1", &["tags", "No_Name"]).code, 2);
    // Who may read may look; only an operator changes.
    let reader = cluster.client_certs("reader", Role::Read);
    assert!(cluster.ask_as("n1", &reader, &["tags", "n2"]).ok().is_empty());
    assert!(cluster.ask_as("n1", &reader, &["tags", "--set", "zone=a"]).one_error(4).contains("admin"));

    cluster.kill("n3");
    let said = wait_until("it is not reachable", || {
        let said = cluster.ask("n1", &["tags", "n3", "--set", "zone=a", "--timeout", "2s"]);
        // The client turns to the other agent before it gives up: either may be the last to say so.
        said.err.contains("cannot be reached from n").then_some(said)
    });
    assert!(said.one_error(6).contains("quorate members n3"), "{}", said.err);
}
