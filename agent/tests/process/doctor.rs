//! The doctor on broken clusters made by hand: each answer right, with its code, its evidence and its exit code; and nothing
//! found where nothing is wrong.

use crate::cluster::{Cluster, name_of, wait_until};
use crate::data::{copy_dir, entries};
use crate::told::{PATIENCE, finding, first_code, json, wait_first};
use quorate_certs::{Authority, ClusterId, Date, Role, Subject, Validity};
use serde_json::Value;
use std::fs;
use std::net::UdpSocket;
use std::path::Path;

/// What `doctor` through this agent says, as JSON, and its exit code.
fn asked(cluster: &Cluster, name: &str) -> (i32, Value) {
    let said = cluster.ask(name, &["doctor", "--format", "json", "--timeout", PATIENCE]);
    (said.code, json(&said))
}

/// The same of a data directory, with the certificate of `name`.
fn looked(cluster: &Cluster, name: &str, data: &Path) -> (i32, Value) {
    let certs = cluster.certs(name);
    let args = ["doctor", "--format", "json", "--timeout", PATIENCE, "--data", data.to_str().unwrap()];
    let said = cluster.run(&[&args[..], &["--certs", certs.to_str().unwrap()]].concat());
    (said.code, json(&said))
}

/// One bit of the `nth` entry with records of a stopped agent flips.
fn damage(cluster: &Cluster, name: &str, nth: usize) -> String {
    let (path, at) = entries(cluster, name).swap_remove(nth);
    let mut bytes = fs::read(&path).unwrap();
    bytes[at + 170] ^= 8;
    fs::write(&path, bytes).unwrap();
    path.file_name().unwrap().to_str().unwrap().to_owned()
}

/// Three healthy agents: nothing is found, as text and as JSON. Then two die: the quorum is down, who is missing and what is
/// needed, and no consequence beside it. Offline, the directory of a dead one: it does not run, the others are named.
#[test]
fn a_healthy_cluster_and_one_without_a_quorum() {
    let mut cluster = Cluster::of(3);
    for name in ["n1", "n2", "n3"] {
        cluster.wait_status(name, "health", |s| s.healthy);
        let (code, answer) =
            wait_until("nothing is found", || Some(asked(&cluster, name)).filter(|(code, _)| *code == 0));
        assert_eq!((code, &answer["findings"], &answer["healthy"]), (0, &Value::Array(vec![]), &Value::Bool(true)));
    }
    let said = cluster.ask("n1", &["doctor"]);
    assert!(said.ok().starts_with("✓ leader n") && said.out.contains("needs 2 of 3 voters"), "{}", said.out);

    // One is down: a warning, and 9.
    cluster.kill("n3");
    wait_first(|| asked(&cluster, "n1"), 9, "E0131", &["n3", "last connected"]);
    let (code, answer) = looked(&cluster, "n3", &cluster.data("n3"));
    assert_eq!((code, first_code(&answer).as_str()), (9, "E0150"), "{answer}");
    let evidence = finding(&answer, "E0150").unwrap()["evidence"].as_str().unwrap();
    assert!(evidence.contains("n1") && evidence.contains("n2") && evidence.contains("log "), "{evidence}");

    cluster.kill("n2");
    let answer = wait_first(|| asked(&cluster, "n1"), 6, "E0130", &["n2", "n3", "last connected"]);
    assert_eq!(answer["findings"].as_array().unwrap().len(), 1, "no consequence beside it: {answer}");
    let next = answer["findings"][0]["next"].to_string();
    assert!(next.contains("any 1 of n2 and n3") && next.contains("only if they are lost for good"), "{next}");
    let said = cluster.ask("n1", &["doctor", "--timeout", PATIENCE]);
    assert_eq!(said.code, 6, "{}", said.err);
    assert!(said.out.contains("✗ NO LEADER") && said.out.contains("[E0130]"), "{}", said.out);
    assert!(said.err.contains("E0130") && said.err.contains("quorate explain"), "{}", said.err);
    // `status` tells the same code.
    let status = cluster.ask("n1", &["status", "--format", "json"]).json();
    let codes = status["problem_codes"].as_array().unwrap();
    assert_eq!(codes.len(), status["problems"].as_array().unwrap().len());
    assert!(codes.iter().any(|code| code == "E0131"), "{status}");
}

/// Nobody was told to found: alone, and two joiners of each other. Then a join address where nobody is.
#[test]
fn nobody_founded_and_nobody_answers() {
    let mut cluster = Cluster::new();
    cluster.start("n1", &[]);
    wait_first(|| asked(&cluster, "n1"), 6, "E0110", &["without --bootstrap", "no address to join"]);
    let seed = cluster.addr("n1").to_string();
    cluster.start("n2", &["--join", &seed]);
    wait_first(|| asked(&cluster, "n2"), 6, "E0110", &["connected with n1", "none of them has a log"]);
    cluster.start("e1", &["--expect", "3"]);
    let first = cluster.addr("e1").to_string();
    cluster.start("e2", &["--expect", "3", "--join", &first]);
    let answer = wait_first(|| asked(&cluster, "e2"), 6, "E0112", &["seen: e2 and e1"]);
    assert!(answer["findings"][0]["next"][0].as_str().unwrap().contains("start 1 more"), "{answer}");
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let nowhere = silent.local_addr().unwrap().to_string();
    cluster.start("n3", &["--join", &nowhere]);
    wait_first(|| asked(&cluster, "n3"), 6, "E0111", &[&nowhere, "no answer over UDP"]);
}

/// Certificates: of another authority, of another cluster, expired while it serves.
#[test]
fn certificates_are_told_apart() {
    let id = ClusterId::random().unwrap();
    let mut cluster = Cluster::under(Authority::create_dev().unwrap(), id);
    cluster.start("n1", &["--bootstrap"]);
    cluster.wait_group(1, 0);
    let seed = cluster.addr("n1").to_string();
    let joiner = |cluster: &mut Cluster, name: &str, issued: quorate_certs::Issued| {
        let dir = cluster.path(&format!("certs-{name}"));
        issued.save(&dir).unwrap();
        let mut command = cluster.command(&["agent", "--bind", "127.0.0.1:0", "--join", &seed]);
        command.arg("--certs").arg(&dir).arg("--data").arg(cluster.data(name));
        cluster.spawn(name, command).unwrap();
        dir
    };
    let other = Authority::create(id).unwrap();
    let issued = other.issue(&Subject::agent(id, name_of("n2")), Validity::default()).unwrap();
    let certs = joiner(&mut cluster, "n2", issued);
    let doctor = |name: &str, certs: &Path| {
        let said = cluster.ask_as(name, certs, &["doctor", "--format", "json", "--timeout", PATIENCE]);
        (said.code, json(&said))
    };
    wait_first(|| doctor("n2", &certs), 6, "E0103", &[&seed, "another authority"]);

    let far = ClusterId::random().unwrap();
    let issued = cluster.authority().issue(&Subject::agent(far, name_of("n3")), Validity::default()).unwrap();
    let certs = joiner(&mut cluster, "n3", issued);
    let doctor = |name: &str, certs: &Path| {
        let said = cluster.ask_as(name, certs, &["doctor", "--format", "json", "--timeout", PATIENCE]);
        (said.code, json(&said))
    };
    wait_first(|| doctor("n3", &certs), 6, "E0104", &[&seed, "another cluster"]);

    // One that runs out: its own machine says so although nobody can speak with it any more.
    let until = Date::now().plus_seconds(5);
    let validity = Validity { not_before: until.plus_days(-1), not_after: until };
    let issued = cluster.authority().issue(&Subject::agent(id, name_of("n4")), validity).unwrap();
    let certs = joiner(&mut cluster, "n4", issued);
    wait_until("the certificate has expired", || (Date::now().unix() > until.unix() + 1).then_some(()));
    let look = || {
        let said = cluster.run(&["doctor", "--agent", "n4", "--format", "json", "--timeout", PATIENCE]);
        (said.code, json(&said))
    };
    let answer = wait_first(look, 9, "E0101", &[certs.to_str().unwrap(), "the clock of n4 shows"]);
    assert!(answer["findings"][0]["next"].to_string().contains("kill -HUP"), "{answer}");
    // Offline, a certificate of tomorrow.
    let tomorrow = Validity { not_before: Date::now().plus_days(1), not_after: Date::now().plus_days(9) };
    let issued = cluster.authority().issue(&Subject::agent(id, name_of("n5")), tomorrow).unwrap();
    let dir = cluster.path("certs-n5");
    issued.save(&dir).unwrap();
    fs::create_dir_all(cluster.data("n5")).unwrap();
    fs::set_permissions(cluster.data("n5"), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let data = cluster.data("n5");
    let args = ["doctor", "--format", "json", "--data", data.to_str().unwrap(), "--certs", dir.to_str().unwrap()];
    wait_first(
        || {
            let said = cluster.run(&args);
            (said.code, json(&said))
        },
        9,
        "E0102",
        &["backdated by an hour"],
    );
}

/// A copy of a directory that lives, a name that is held, and a node that was forgotten: told to the one and by the others.
#[test]
fn identities_are_told_apart() {
    let mut cluster = Cluster::of(3);
    let leader = cluster.leader();
    let original = cluster.other_than(&leader);
    let third = cluster.running().into_iter().find(|name| *name != leader && *name != original).unwrap();
    let join = cluster.addr(&leader).to_string();
    let copy = cluster.path("copy");
    copy_dir(&cluster.data(&original), &copy);
    cluster.start_as("clone", &original, &copy, "127.0.0.1:0", &["--join", &join]);
    let answer = wait_first(|| asked(&cluster, "clone"), 9, "E0106", &["this data directory is a copy"]);
    assert!(answer["state"][0].as_str().unwrap().contains("itself follows nobody"), "{answer}");
    wait_first(|| asked(&cluster, &leader), 9, "E0106", &["turned away", &original]);
    cluster.kill("clone");
    let twin = cluster.data("twin");
    cluster.start_as("twin", &original, &twin, "127.0.0.1:0", &["--join", &join]);
    wait_first(|| asked(&cluster, "twin"), 9, "E0108", &["which is alive"]);
    cluster.kill("twin");

    cluster.kill(&third);
    let failed = |all: &[quorate::client::Member]| all.iter().any(|m| m.name == third && m.state == "failed");
    cluster.wait_member(&leader, "the third as failed", failed);
    wait_until("it is forgotten", || (cluster.ask(&leader, &["forget", &third]).code == 0).then_some(()));
    cluster.restart(&third, &[]);
    let answer = wait_first(|| asked(&cluster, &third), 9, "E0107", &["dropped"]);
    assert!(answer["findings"][0]["next"].to_string().contains("mv "), "{answer}");
    // With the agent down: the directory does not know, and those that it knew say so.
    cluster.kill(&third);
    let data = cluster.data(&third);
    let (code, answer) = looked(&cluster, &third, &data);
    assert!(finding(&answer, "E0107").is_some() && code == 9, "{code} {answer}");
}

/// Two foundings under one authority that hear of each other.
#[test]
fn two_histories_are_named() {
    let mut cluster = Cluster::new();
    cluster.start("a1", &["--bootstrap"]);
    cluster.start("b1", &["--bootstrap"]);
    cluster.wait_group_of(&["a1".into()], 1, 0);
    cluster.wait_group_of(&["b1".into()], 1, 0);
    let seed = cluster.addr("a1").to_string();
    cluster.stop("b1");
    cluster.restart("b1", &["--join", &seed]);
    let logs = ["a1", "b1"].map(|name| cluster.wait_status(name, "its log", |s| s.log_id.is_some()).log_id.unwrap());
    for name in ["a1", "b1"] {
        wait_first(|| asked(&cluster, name), 9, "E0114", &[&logs[0], &logs[1], "a1", "b1"]);
    }
}

/// Damage: under an agent that is alone and does not start, file and byte, and exit code 11; a directory that everybody may
/// write; one that was never used; one that has left. Nothing of it is changed by looking.
#[test]
fn directories_are_told_apart() {
    let mut cluster = Cluster::new();
    cluster.start("n1", &["--bootstrap"]);
    cluster.wait_status("n1", "it leads", |s| s.leader.is_some());
    for i in 0..10 {
        cluster.ask("n1", &["append", &format!("value {i} {}", "x".repeat(100))]).ok();
    }
    let data = cluster.data("n1");
    // While it runs, its agent answers, and all is well.
    wait_until("the holder answers", || Some(looked(&cluster, "n1", &data)).filter(|(code, _)| *code == 0));
    cluster.stop("n1");
    let file = damage(&cluster, "n1", 3);
    let list = |dir: &Path| {
        let mut all: Vec<_> = fs::read_dir(dir)
            .unwrap()
            .map(|e| e.unwrap())
            .map(|e| (e.file_name(), e.metadata().unwrap().len()))
            .collect();
        all.sort();
        all
    };
    let before = (list(&data), list(&data.join("log")));
    wait_first(|| looked(&cluster, "n1", &data), 11, "E0124", &[&file, "at byte", "no member can give"]);
    assert_eq!((list(&data), list(&data.join("log"))), before, "looking changes nothing");

    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(&data, fs::Permissions::from_mode(0o777)).unwrap();
    let (_, answer) = looked(&cluster, "n1", &data);
    assert!(finding(&answer, "E0127").is_some_and(|f| f["next"].to_string().contains("chmod 700")), "{answer}");
    fs::set_permissions(&data, fs::Permissions::from_mode(0o700)).unwrap();
    let (code, answer) = looked(&cluster, "n1", &cluster.data("nowhere"));
    assert_eq!((code, first_code(&answer).as_str()), (9, "E0127"), "{answer}");
    assert!(answer["findings"][0]["evidence"].as_str().unwrap().contains("does not exist"), "{answer}");

    // No secret is printed: not a run of bytes of any key.
    let key = fs::read(cluster.certs("n1").join("key.pem")).unwrap();
    let key = String::from_utf8(key).unwrap();
    let line = key.lines().nth(1).unwrap();
    let certs = cluster.certs("n1");
    let said = cluster.run(&["doctor", "--data", data.to_str().unwrap(), "--certs", certs.to_str().unwrap()]);
    assert!(!said.out.contains(line) && !said.err.contains(line), "a key was printed");
    let node_key = hex::encode(fs::read(data.join("node.key")).unwrap());
    assert!(!said.out.contains(&node_key[32..64]), "a key was printed");
}

/// An agent that is stopped (SIGSTOP) holds its directory and does not answer: that is told, and not that it is down.
#[test]
fn an_agent_that_does_not_answer() {
    let cluster = Cluster::of(3);
    let leader = cluster.leader();
    let victim = cluster.other_than(&leader);
    cluster.pause(&victim);
    let data = cluster.data(&victim);
    let answer = wait_first(|| looked(&cluster, &victim, &data), 9, "E0151", &["process", "listens on"]);
    assert!(answer["findings"][0]["next"].to_string().contains("kill -CONT"), "{answer}");
    cluster.signal(&victim, "CONT");
    // When it goes on it says for how long it did not run, as long as that matters.
    let _ = cluster.wait_status(&victim, "a leader", |s| s.leader.is_some());
}

/// `--dev` alone is healthy, and `explain` knows every code that is told.
#[test]
fn a_dev_agent_is_healthy_and_codes_are_explained() {
    let mut cluster = Cluster::new();
    let mut command = cluster.command(&["agent", "--dev", "--name", "d", "--bind", "127.0.0.1:0"]);
    command.arg("--data").arg(cluster.data("d"));
    cluster.spawn("d", command).unwrap();
    let said = wait_until("a dev agent is healthy", || Some(cluster.run(&["doctor"])).filter(|said| said.code == 0));
    assert!(said.out.contains("✓ leader d"), "{}", said.out);
    let codes = cluster.run(&["explain", "--format", "json"]).json();
    for code in codes["codes"].as_array().unwrap() {
        let code = code["code"].as_str().unwrap();
        let page = cluster.run(&["explain", code]);
        for part in [code, "What it means", "How it is recognised", "What to do", "What not to do"] {
            assert!(page.ok().contains(part), "{code}: {}", page.out);
        }
    }
    let said = cluster.run(&["explain", "E0144"]);
    assert!(said.one_error(8).contains("E0142"), "{}", said.err);
    // Nobody there at all is no finding.
    cluster.kill("d");
    assert_eq!(cluster.run(&["doctor"]).code, 3);
    let certs = cluster.client_certs("x", Role::Read);
    let said = cluster.run(&["doctor", "--addr", "127.0.0.1:9", "--certs", certs.to_str().unwrap(), "--timeout", "1s"]);
    assert_eq!(said.code, 3, "{}", said.err);
}
