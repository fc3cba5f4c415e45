//! Names: one rule at every entrance, and nothing of what was refused reaches a terminal or a path as it was.

use crate::cluster::{Cluster, PATIENCE};
use crate::said::Said;
use quorate::config::Config;
use quorate::limits::{check_name, check_tags};
use quorate::record::Record;
use quorate_certs::{AgentName, Role, Subject};
use quorate_membership::{Error, Local, Membership, Now, Options, Tags};
use std::fs;

/// What is no name, and why somebody would try it.
fn bad_names() -> Vec<(&'static str, String)> {
    vec![
        ("empty", String::new()),
        ("a path", "../../x".into()),
        ("an absolute path", "/etc/passwd".into()),
        ("here", ".".into()),
        ("a path on another system", "..\\x".into()),
        ("ended early", "a1\0.example".into()),
        ("too long", "a".repeat(64)),
        ("far too long", "a".repeat(300)),
        ("a homoglyph", "\u{430}1".into()),
        ("another digit", "a\u{ff11}".into()),
        ("a flag", "-a".into()),
        ("a long flag", "--help".into()),
        ("a hyphen last", "a-".into()),
        ("upper case", "A1".into()),
        ("two labels", "a.b".into()),
        ("two words", "a b".into()),
        ("two lines", "a\nb".into()),
        ("escapes", "a\u{1b}[2J\u{1b}]0;pwn\u{7}".into()),
        ("one escape in one byte", "a\u{9b}31m".into()),
        ("right to left", "a\u{202e}1".into()),
        ("invisible", "a\u{200b}1".into()),
        ("percent", "a%2f..%2fb".into()),
        ("shell", "$(id)".into()),
    ]
}

fn good_names() -> [String; 4] {
    ["a".into(), "0".into(), "a-1--b".into(), "z".repeat(63)]
}

/// Does an entrance take this name, in this zone?
type Takes = fn(&str, &str) -> bool;

fn membership_takes(name: &str) -> bool {
    let addr = "10.0.0.1:7373".parse().unwrap();
    let local =
        Local { node: 1, name: name.into(), addr, epoch: 1, boot: 1, version: "1".into(), tags: Tags::default() };
    match Membership::new(Options::default(), local, 1, Now::default()) {
        Ok(_) => true,
        Err(Error::Name(_)) => false,
        Err(other) => panic!("{other}"),
    }
}

/// Library, certificate, configuration, gossip: they agree on every name.
#[test]
fn all_entrances_have_one_rule() {
    let zone = format!("{}.quorate.internal", "ab".repeat(16));
    let entrances: [(&str, Takes); 6] = [
        ("agent", |name, _| check_name(name).is_ok()),
        ("certificates", |name, _| AgentName::new(name).is_ok()),
        ("an agent's certificate", |name, zone| Subject::from_uri(&format!("spiffe://{zone}/agent/{name}")).is_ok()),
        ("a client's certificate", |name, zone| {
            Subject::from_uri(&format!("spiffe://{zone}/client/read/{name}")).is_ok()
        }),
        ("configuration", |name, _| {
            let text = format!("name = {}", serde_json::to_string(name).unwrap());
            Config::parse(&text, "config.toml").is_ok()
        }),
        ("gossip", |name, _| membership_takes(name)),
    ];
    for (entrance, takes) in entrances {
        for name in good_names() {
            assert!(takes(&name, &zone), "{entrance} refuses {name}");
        }
        for (why, name) in bad_names() {
            assert!(!takes(&name, &zone), "{entrance} takes {why}: {name:?}");
        }
    }
    // A key of a tag has its own alphabet, and never more than that.
    for key in ["", "a b", "a=b", "a\u{1b}[2J", "\u{430}", "a\0"] {
        assert!(check_tags(&[(key.to_owned(), String::new())].into()).is_err(), "{key:?}");
        assert!(Tags::new([(key.to_owned(), String::new())].into()).is_err(), "{key:?}");
    }
}

/// The command line: refused as a usage error, told in one printable line, and no file is made anywhere.
#[test]
fn the_command_line_refuses_bad_names_in_one_printable_line() {
    let cluster = Cluster::new();
    let out = cluster.path("out");
    fs::create_dir(&out).unwrap();
    let dir = out.to_str().unwrap();
    cluster.run(&["certs", "init", "--out", dir]).ok();
    let listing = || {
        let mut names: Vec<_> = fs::read_dir(&out).unwrap().map(|f| f.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let before = listing();
    for (why, name) in bad_names().into_iter().filter(|(_, name)| !name.contains('\0')) {
        let wait = format!("{name}=alive");
        let config = cluster.path("evil.toml");
        fs::write(&config, format!("name = {}\ndev = true\n", serde_json::to_string(&name).unwrap())).unwrap();
        for args in [
            &["certs", "issue", "agent", "--out", dir, "--", &name][..],
            &["certs", "issue", "client", "--role", "read", "--out", dir, "--", &name],
            &["members", "--", &name],
            &["members", &format!("--wait={wait}")],
            &["status", &format!("--agent={name}")],
            &["agent", "--dev", &format!("--name={name}")],
            &["agent", "--config", config.to_str().unwrap()],
        ] {
            let said = cluster.run(args);
            assert!(matches!(said.code, 2 | 78), "{why}, {args:?}: {} {}", said.code, said.err);
            assert!(said.took < PATIENCE);
            printable(&said);
        }
        assert_eq!(listing(), before, "{why}");
    }
    assert!(!out.parent().unwrap().parent().unwrap().join("x").exists());
}

/// No control character but the line's end, no bidirectional override.
#[track_caller]
fn printable(said: &Said) {
    for text in [&said.out, &said.err] {
        let evil =
            |c: char| (c.is_control() && c != '\n') || matches!(c, '\u{202a}'..='\u{202e}' | '\u{200b}'..='\u{200f}');
        assert!(!text.chars().any(evil), "{text:?}");
    }
}

/// Records and tags are their writers' own, and no terminal obeys them: text output escapes what a terminal would, whether
/// it is one or a pipe (a pipe often ends in one: `| less -R`, a CI log); JSON carries the very bytes, escaped as JSON is.
#[test]
fn no_terminal_obeys_a_record_or_a_tag() {
    const EVIL: &str = "\u{1b}]0;pwn\u{7}\u{1b}[2J\r\nFAKE  line\u{9b}31m\u{202e}\u{2028}";
    let mut cluster = Cluster::new();
    cluster.start("n1", &["--bootstrap", "--tag", "rack=gr\u{f6}\u{df}er\u{202e}"]);
    cluster.wait_group(1, 0);
    let binary = Record { value: vec![0xff, 0x1b, b'[', b'A'].into(), ..Record::of("") };
    // What the limits refuse cannot be written at all; the value is the writer's own, and so are a header's.
    let header = Record { headers: vec![("h".into(), EVIL.into())], ..Record::of(EVIL) };
    for (record, is_legal) in [
        (Record::of(EVIL), true),
        (header, true),
        (binary, true),
        (Record { key: "k\u{202e}\u{feff}".into(), ..Record::of("x") }, true),
        (Record { key: EVIL.into(), ..Record::of("x") }, false),
        (Record { kind: EVIL.into(), ..Record::of("x") }, false),
        (Record { stream: EVIL.into(), ..Record::of("x") }, false),
    ] {
        let client = cluster.client("n1");
        assert_eq!(cluster.block_on(client.append(&[record])).is_ok(), is_legal);
    }
    let read = cluster.client_certs("reader", Role::Read);
    let text = cluster.ask_as("n1", &read, &["tail"]);
    assert_eq!((text.code, text.out.lines().count()), (0, 4), "{}", text.out);
    printable(&text);
    assert!(text.out.contains("\\u{1b}]0;pwn\\u{7}"), "{}", text.out);
    let json = cluster.ask_as("n1", &read, &["tail", "--format", "json"]);
    assert_eq!((json.code, json.out.lines().count()), (0, 4));
    printable(&json);
    let first: serde_json::Value = serde_json::from_str(json.out.lines().next().unwrap()).unwrap();
    assert_eq!(first["value"], EVIL, "JSON carries the value unchanged");
    for args in [&["members"][..], &["members", "--format", "json"], &["status"], &["status", "--format", "json"]] {
        let said = cluster.ask_as("n1", &read, args);
        assert_eq!(said.code, 0);
        printable(&said);
    }
    // What is asked for and is not there is not repeated raw either.
    for args in [
        &["tail", "--stream", EVIL][..],
        &["tail", "--key", EVIL],
        &["tail", "-o", EVIL],
        &["append", "x", "--stream", EVIL],
    ] {
        let said = cluster.ask_as("n1", &read, args);
        assert_eq!(said.code, 2, "{args:?}");
        printable(&said);
    }
    assert!(!cluster.log("n1").contains('\u{1b}'));
}
