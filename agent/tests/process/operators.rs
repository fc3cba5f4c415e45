//! Every documented exit of the commands of operators, in text and in JSON: what was typed wrongly, nobody there, no right, no
//! quorum, nobody knows, nothing of that name, not safe, done.

use crate::cluster::{Cluster, wait_until};
use crate::said::Said;
use quorate_certs::Role;
use serde_json::{Value, json};
use std::path::Path;

/// The four verbs that are about one agent.
const VERBS: [&str; 4] = ["drain", "promote", "demote", "remove"];

/// What an error says to programs.
fn object(said: &Said) -> Value {
    let line = said.err.lines().last().unwrap_or_default();
    serde_json::from_str::<Value>(line).unwrap_or_else(|e| panic!("{e}: {} {}", said.out, said.err))["error"].clone()
}

/// The same command twice: one line for people, which names what is to be done, and one object for programs.
#[track_caller]
fn fails(run: impl Fn(&[&str]) -> Said, args: &[&str], exit: i32, word: &str, outcome: &str, part: &str) {
    let text = run(args);
    assert_eq!(text.code, exit, "{args:?}: {} {}", text.out, text.err);
    let line = text.err.lines().find(|line| line.starts_with("error: ")).unwrap_or_else(|| panic!("{}", text.err));
    assert!(line.contains(part), "{args:?}: {line}");
    let object = object(&run(&[args, &["--format", "json"]].concat()));
    assert_eq!((&object["code"], &object["outcome"]), (&json!(word), &json!(outcome)), "{args:?}: {object}");
    assert!(object["message"].as_str().is_some_and(|message| !message.is_empty()), "{object}");
    // Of a mistyped command the usage says more.
    assert!(exit == 2 || (line.contains("; ") && object["hint"].as_str().is_some_and(|h| !h.is_empty())), "{object}");
}

/// Nobody there, no right, a name that cannot be or that nobody has: each with its exit, and nothing is done.
#[test]
fn mistakes_of_operators_have_their_exits() {
    let cluster = Cluster::of(3);
    let before = cluster.status("n1").unwrap();
    let (admin, weak) = (cluster.client_certs("admin", Role::Admin), cluster.client_certs("weak", Role::Append));
    let nowhere = |args: &[&str]| {
        let to = ["--addr", "127.0.0.1:9", "--certs", admin.to_str().unwrap(), "--timeout", "500ms"];
        cluster.run(&[args, &to[..]].concat())
    };
    let as_whom = |certs: &Path| {
        let certs = certs.to_owned();
        let cluster = &cluster;
        move |args: &[&str]| cluster.ask_as("n1", &certs, args)
    };
    let (asked, unfit) = (as_whom(&admin), as_whom(&weak));
    for verb in VERBS {
        fails(&asked, &[verb], 2, "usage", "none", "required");
        assert!(object(&asked(&[verb, "--format", "json"]))["message"].as_str().unwrap().contains("<NAME>"));
        fails(&asked, &[verb, "N/3"], 2, "usage", "none", "N/3");
        fails(nowhere, &[verb, "n2"], 3, "unreachable", "not_applied", "127.0.0.1:9");
        fails(&unfit, &[verb, "n2"], 4, "not_authorised", "not_applied", "admin");
        fails(&asked, &[verb, "n22"], 8, "not_found", "not_applied", "did you mean n2?");
        fails(&asked, &[verb, "paris"], 8, "not_found", "not_applied", "quorate members");
    }
    fails(&asked, &["remove", "n2", "--replace-with", "paris"], 8, "not_found", "not_applied", "paris");
    fails(&asked, &["remove", "n2", "--replace-with", "n3"], 10, "refused", "not_applied", "votes already");
    fails(&asked, &["remove", "n2", "--replace-with", "N/3"], 2, "usage", "none", "N/3");
    fails(&asked, &["promote", "n2", "--undo", "--allow-even"], 2, "usage", "none", "--allow-even");
    fails(&asked, &["demote", "n2"], 10, "refused", "not_applied", "--allow-even");
    // Drained, so that the next one cannot be; and what is done already is done.
    let third = before.voters.iter().find(|name| Some(*name) != before.leader.as_ref() && *name != "n2").unwrap();
    let other = before.voters.iter().find(|name| *name != third && Some(*name) != before.leader.as_ref()).unwrap();
    cluster.ask("n1", &["drain", other]).ok();
    fails(&asked, &["drain", third], 10, "refused", "not_applied", &format!("quorate drain --undo {other}"));
    fails(&asked, &["remove", third], 10, "refused", "not_applied", &format!("quorate drain --undo {other}"));
    assert_eq!(cluster.ask("n1", &["drain", other, "--format", "json"]).json()["changed"], false);
    cluster.ask("n1", &["drain", other, "--undo"]).ok();
    assert_eq!(cluster.ask("n1", &["drain", other, "--undo", "--format", "json"]).json()["changed"], false);

    // The autopilot and tags.
    for args in
        [&["autopilot", "state"][..], &["autopilot", "config"], &["autopilot", "explain", "n2"], &["tags", "n2"]]
    {
        let outcome = "none";
        fails(nowhere, args, 3, "unreachable", outcome, "127.0.0.1:9");
        assert_eq!(asked(args).code, 0, "{args:?}");
        assert_eq!(asked(&[args, &["--format", "json"]].concat()).json()["v"], 1, "{args:?}");
    }
    assert_eq!(asked(&["autopilot"]).code, 2);
    fails(&asked, &["autopilot", "explain"], 2, "usage", "none", "required");
    fails(&asked, &["autopilot", "explain", "N/3"], 2, "usage", "none", "N/3");
    fails(&asked, &["autopilot", "explain", "n22"], 8, "not_found", "none", "did you mean n2?");
    fails(&asked, &["autopilot", "config", "--set", "replace_after"], 2, "usage", "none", "key=value");
    fails(&asked, &["autopilot", "config", "--set", "replace_aft=5m"], 1, "error", "not_applied", "replace_after");
    fails(&asked, &["autopilot", "config", "--set", "replace_after=soon"], 1, "error", "not_applied", "replace_after");
    fails(&unfit, &["autopilot", "config", "--set", "replace_after=5m"], 4, "not_authorised", "not_applied", "admin");
    fails(&unfit, &["tags", "--set", "zone=a"], 4, "not_authorised", "not_applied", "admin");
    fails(&asked, &["tags", "n22"], 8, "not_found", "none", "n22");
    fails(&asked, &["tags", "--set", "zone"], 2, "usage", "none", "key=value");

    // A code that is not, and one that is.
    let plain = |args: &[&str]| cluster.run(args);
    fails(plain, &["explain", "E9999"], 8, "not_found", "none", "E0190");
    fails(plain, &["explain", "--all"], 2, "usage", "none", "--all");
    assert!(plain(&["explain", "e160"]).ok().starts_with("E0160  "));
    assert_eq!(plain(&["explain", "E0160", "--format", "json"]).json()["code"], "E0160");
    let after = cluster.status("n1").unwrap();
    assert_eq!(
        (after.voters, after.learners, after.draining),
        (before.voters, before.learners, vec![]),
        "nothing is done"
    );
}

/// Both other voters stop while the agent that is asked still takes one of them for its leader: nobody knows what becomes of the
/// command (7). As soon as it knows that there is no leader, it is known that nothing was done (6).
#[test]
fn without_a_quorum_it_is_told_what_is_known() {
    let cluster = Cluster::of(3);
    for verb in VERBS {
        let mut unknown = None;
        let (leader, asked) = wait_until("an outcome is unknown", || {
            let leader = cluster.leader();
            let asked = cluster.other_than(&leader);
            let others: Vec<_> = cluster.running().into_iter().filter(|name| *name != asked).collect();
            others.iter().for_each(|name| cluster.pause(name));
            // About the one that is asked, for what is written after all shall not break the rest of the story.
            let said = cluster.ask(&asked, &[verb, &leader, "--timeout", "2s", "--format", "json"]);
            assert!([6, 7].contains(&said.code), "{verb}: {} {}", said.code, said.err);
            if said.code == 7 {
                unknown = Some(said);
                return Some((leader, asked));
            }
            others.iter().for_each(|name| cluster.signal(name, "CONT"));
            cluster.wait_group(3, 0);
            None
        });
        let error = object(&unknown.unwrap());
        assert_eq!((&error["code"], &error["outcome"]), (&json!("unknown"), &json!("unknown")), "{verb}: {error}");
        assert!(error["hint"].as_str().unwrap().contains("ask again"), "{verb}: {error}");
        cluster.wait_status(&asked, "there is no leader", |s| s.leader.is_none());
        // On a machine that has much else to do the agent, or its answer, may be late, and the outcome open: asked again.
        let run = |args: &[&str]| {
            let args = [args, &["--timeout", "2s"]].concat();
            wait_until("it is known that nothing was done", || {
                Some(cluster.ask(&asked, &args)).filter(|said| ![3, 7].contains(&said.code))
            })
        };
        fails(run, &[verb, &leader], 6, "no_quorum", "not_applied", "no leader");
        if verb == "drain" {
            for args in [&["autopilot", "state"][..], &["autopilot", "config"], &["autopilot", "explain", "n1"]] {
                fails(run, args, 6, "no_quorum", "none", "no leader");
            }
            fails(run, &["autopilot", "config", "--set", "upgrade=off"], 6, "no_quorum", "not_applied", "no leader");
        }
        let others: Vec<_> = cluster.running().into_iter().filter(|name| *name != asked).collect();
        others.iter().for_each(|name| cluster.signal(name, "CONT"));
        // Asked again it is done, or refused, whatever became of it.
        let undo = |args: &[&str]| wait_until("it is undone", || (cluster.ask(&asked, args).code == 0).then_some(()));
        match verb {
            "drain" => undo(&["drain", "--undo", &leader]),
            "remove" => {}
            _ => undo(&[verb, "--undo", &leader]),
        }
        if verb != "remove" {
            cluster.wait_group(3, 0);
        }
    }
}
