//! Who is refused, by whom, with which words.

use crate::cluster::{Cluster, name_of, wait_until};
use quorate::client::ClientError;
use quorate_certs::{Authority, ClusterId, Date, Identity, Role, Subject, Validity};
use std::net::UdpSocket;

/// A client's certificate of another authority, of another cluster under the same authority, expired or not yet valid
/// is refused by the agent, which logs which it was, and the client is told the same; and an agent of another
/// authority or cluster is refused by the client (behaviour 9).
#[test]
fn strangers_are_refused_as_clients_and_as_servers() {
    // One authority for two clusters: what `--dev` makes.
    let dev = Authority::create_dev().unwrap();
    let other_id = ClusterId::random().unwrap();
    let other = Subject::client(other_id, Role::Admin, name_of("other"));
    let other = dev.issue(&other, Validity::default()).unwrap();
    let other_agent = dev.issue(&Subject::agent(other_id, name_of("far")), Validity::default()).unwrap();
    let mut cluster = Cluster::under(dev, ClusterId::random().unwrap());
    cluster.start("n1", &["--bootstrap"]);
    cluster.wait_group(1, 0);
    let mut stranger = Cluster::within(cluster.id());
    stranger.start("s1", &["--bootstrap"]);

    let now = Date::now();
    let issue = |cluster: &Cluster, validity| {
        let subject = Subject::client(cluster.id(), Role::Admin, name_of("late"));
        cluster.authority().issue(&subject, validity).unwrap()
    };
    let expired = Validity { not_before: now.plus_days(-2), not_after: now.plus_days(-1) };
    let future = Validity { not_before: now.plus_days(1), not_after: now.plus_days(2) };
    for (what, issued) in [
        ("issued by another authority", issue(&stranger, Validity::default())),
        ("belongs to another cluster", other),
        ("expired", issue(&cluster, expired)),
        ("not valid before", issue(&cluster, future)),
    ] {
        let client = cluster.client_as("n1", Identity::unchecked(&issued).unwrap());
        let error = cluster.block_on(client.status()).unwrap_err();
        let ClientError::NotAuthorised { why } = &error else { panic!("{what}: {error:?}") };
        // Both directions are checked at once; which side speaks first is a matter of the handshake.
        assert!(why.contains(what), "{what}: {why}");
        if what != "issued by another authority" {
            cluster.wait_log("n1", &["refused 127.0.0.1", what]);
        }
        // The command line says it with its own exit code, before or after it has asked.
        let dir = cluster.path(&what.replace(' ', "-"));
        issued.save(&dir).unwrap();
        let said = cluster.ask_as("n1", &dir, &["status"]);
        assert!(said.one_error(4).contains(what), "{what}: {}", said.err);
    }

    // The agents of others are refused as servers: they may have our address book, not our trust.
    let said = stranger.ask_as("s1", &cluster.client_certs("admin", Role::Admin), &["status"]);
    assert!(said.one_error(4).contains("another authority"), "{}", said.err);
    let dir = cluster.path("far");
    other_agent.save(&dir).unwrap();
    let mut far = cluster.command(&["agent", "--bind", "127.0.0.1:0", "--bootstrap"]);
    far.arg("--certs").arg(&dir).arg("--data").arg(cluster.data("far"));
    cluster.spawn("far", far).unwrap();
    let said = cluster.ask("far", &["status"]);
    assert!(said.one_error(4).contains("another cluster"), "{}", said.err);

    // A joiner hears from each side which it was.
    let seeds = format!("{},{}", cluster.addr("n1"), stranger.addr("s1"));
    let mut joiner = cluster.command(&["agent", "--bind", "127.0.0.1:0", "--join", &seeds]);
    joiner.arg("--certs").arg(&dir).arg("--data").arg(cluster.data("joiner"));
    cluster.spawn("joiner", joiner).unwrap();
    cluster.wait_log("joiner", &[&format!("join address {}", cluster.addr("n1")), "another cluster"]);
    cluster.wait_log("joiner", &[&format!("join address {}", stranger.addr("s1")), "another authority"]);
    // None of all this disturbed the cluster.
    assert_eq!(cluster.ask("n1", &["append", "x"]).ok(), "0\n");
    assert_eq!(cluster.members("n1").unwrap().len(), 1);
}

/// Each role may do what it may, and no more: the refusal names the role that it takes (behaviour 9).
#[test]
fn roles_bound_what_a_client_may_do() {
    let mut cluster = Cluster::new();
    cluster.start("n1", &["--bootstrap"]);
    cluster.wait_group(1, 0);
    let certs = Role::ALL.map(|role| cluster.client_certs(role.as_str(), role));
    let [read, append, admin] = &certs;
    for (args, from) in
        [(&["members"][..], 0), (&["status"], 0), (&["tail"], 0), (&["append", "x"], 1), (&["leave"], 2)]
    {
        for (i, certs) in certs.iter().enumerate() {
            let said = cluster.ask_as("n1", certs, args);
            match (i < from, args[0]) {
                (true, _) => {
                    let needs = [read, append, admin][from].file_name().unwrap().to_str().unwrap();
                    let text = said.one_error(4);
                    assert!(text.contains(&format!("role {needs}")), "{text}");
                }
                // The last agent refuses whoever asks.
                (false, "leave") => assert_eq!(said.code, 10, "{}", said.err),
                (false, _) => assert_eq!(said.code, 0, "{}", said.err),
            }
        }
    }
    // An agent's own certificate is an administrator's, and the append of a reader left no trace.
    assert_eq!(cluster.ask_as("n1", &cluster.certs("n1"), &["status"]).code, 0);
    assert_eq!(cluster.status("n1").unwrap().next, 2);
    // A client's certificate makes no agent.
    let mut agent = cluster.command(&["agent", "--bind", "127.0.0.1:0", "--log", "error"]);
    agent.arg("--certs").arg(admin).arg("--data").arg(cluster.data("x"));
    assert!(crate::said::Said::by(&mut agent).one_error(78).contains("client admin"));
    for bad in ["nowhere", "pki"] {
        cluster.ask_as("n1", &cluster.path(bad), &["status"]).one_error(78);
    }
}

/// An agent whose certificate runs out is refused in both directions, and both logs say so; with new files and SIGHUP
/// it is welcome, without a restart (behaviour 9, and reloading).
#[test]
fn a_certificate_runs_out_and_is_renewed() {
    let mut cluster = Cluster::new();
    // The seed's port is taken by somebody who never answers, until the certificate has expired.
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let seed = silent.local_addr().unwrap().to_string();
    let subject = Subject::agent(cluster.id(), name_of("n2"));
    let until = Date::now().plus_seconds(4);
    let certs = cluster.issue(&subject, Validity { not_before: until.plus_days(-1), not_after: until });
    cluster.start("n2", &["--join", &seed]);
    let pid = cluster.pid("n2");
    wait_until("the certificate has expired", || (Date::now().unix() > until.unix()).then_some(()));
    drop(silent);
    let founder = cluster.agent_command("n1", &seed, &["--bootstrap"]);
    cluster.spawn("n1", founder).unwrap();
    cluster.wait_log("n2", &[&format!("join address {seed}"), "does not trust us", "expired"]);
    cluster.wait_log("n1", &["refused 127.0.0.1", "expired"]);
    let said = cluster.ask("n2", &["status"]);
    assert!(said.one_error(4).contains("expired"), "{}", said.err);

    // SIGHUP with files that cannot be used changes nothing and says why.
    std::fs::rename(&certs, cluster.path("old")).unwrap();
    cluster.signal("n2", "HUP");
    cluster.wait_log("n2", &["SIGHUP", "certificate in use stays", "missing"]);
    cluster.issue(&subject, Validity::default());
    cluster.signal("n2", "HUP");
    cluster.wait_log("n2", &["certificate read again"]);
    cluster.wait_group(1, 1);
    assert_eq!(cluster.pid("n2"), pid);
    assert_eq!(cluster.ask("n2", &["append", "x"]).ok(), "0\n");
}

/// The certificate of a voter runs out while it serves: its connections are cut, all sides say why, the others go on; with
/// new files and SIGHUP it is a voter again, without a restart.
#[test]
fn a_certificate_runs_out_on_live_connections() {
    let mut cluster = Cluster::new();
    cluster.start("n1", &["--bootstrap"]);
    let seed = cluster.addr("n1").to_string();
    cluster.start("n2", &["--join", &seed]);
    let subject = Subject::agent(cluster.id(), name_of("n3"));
    // Time enough to become a voter, also on a slow machine.
    let until = Date::now().plus_seconds(15);
    let certs = cluster.issue(&subject, Validity { not_before: until.plus_days(-1), not_after: until });
    cluster.start("n3", &["--join", &seed]);
    cluster.wait_group(3, 0);
    assert_eq!(cluster.ask("n3", &["append", "in time"]).ok(), "0\n");
    let term = cluster.status("n1").unwrap().term;

    println!("seen: {}", cluster.wait_log("n1", &["refused 127.0.0.1", "the certificate expired", "cert_expired"]));
    println!("seen: {}", cluster.wait_log("n3", &["join address", "does not trust us", "expired"]));
    assert!(Date::now().unix() >= until.unix(), "not before its time");
    cluster.wait_member("n1", "n3 as failed", |all| all.iter().any(|m| m.name == "n3" && m.state == "failed"));
    assert_eq!(cluster.ask("n2", &["append", "without it"]).ok(), "1\n");
    cluster.ask("n3", &["status"]).one_error(4);

    std::fs::rename(&certs, cluster.path("expired")).unwrap();
    cluster.issue(&subject, Validity::default());
    cluster.signal("n3", "HUP");
    cluster.wait_log("n3", &["certificate read again"]);
    cluster.wait_group(3, 0);
    cluster.wait_status("n3", "what it missed", |s| s.next == 2 && s.raft == "voter");
    // A machine that is too busy may cost one; a voter that disturbs costs one after another.
    assert!(cluster.status("n1").unwrap().term <= term + 2, "nobody lost an election over it");
}
