//! Text of users, files and certificates: configuration, descriptor, places in the log, spans, names, and what is shown.

use crate::fed::{BYTES_ANYWAY, BYTES_LAID_BY_HAND, feed, feed_each, turn};
use quorate::config::Config;
use quorate::descriptor::Descriptor;
use quorate::limits::{check_header, check_key, check_label, check_name, check_stream, printable, shown};
use quorate::{duration, offsets};
use quorate_certs::{AgentName, Authority, ClusterId, Identity, Role, Subject, Validity};
use quorate_transport::sanitize;

fn text(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

fn each(examples: &[&str]) -> Vec<Vec<u8>> {
    examples.iter().map(|e| e.as_bytes().to_vec()).collect()
}

#[test]
fn configurations() {
    let _turn = turn();
    let whole = include_str!("../../../config.toml");
    let small =
        "name = \"a1\"\nbind = \"[::]:7373\"\njoin = [\"10.0.0.1:7373\"]\nheartbeat_ms = 50\n[tags]\nrack = \"r1\"\n";
    feed(each(&[whole, small]), BYTES_ANYWAY, |bytes| {
        if let Err(error) = Config::parse(&text(bytes), "config.toml") {
            let said = error.to_string();
            assert!(!said.contains('\n') && !said.contains('\u{1b}'), "{said:?}");
        }
    });
}

/// A file of a megabyte that is only depth ends in words, not with the stack.
#[test]
fn deep_files() {
    let _turn = turn();
    let mut deep = Vec::new();
    for (open, close) in [("[", "]"), ("{a=", "}"), ("a.", "a=1")] {
        let n = (1 << 20) / 4;
        deep.push((format!("{open} open"), format!("tags = {}", open.repeat(n)).into_bytes()));
        deep.push((
            format!("{open}{close}"),
            format!("tags = {}{}", open.repeat(1000), close.repeat(1000)).into_bytes(),
        ));
    }
    deep.push(("dotted key".into(), format!("{}a = 1", "a.".repeat(100_000)).into_bytes()));
    feed_each(&deep, 64 << 20, |bytes| assert!(Config::parse(&text(bytes), "config.toml").is_err()));
    let json = [("arrays".to_owned(), vec![b'['; 1 << 20]), ("objects".to_owned(), br#"{"v":"#.repeat(1 << 18))];
    feed_each(&json, BYTES_ANYWAY, |bytes| assert!(serde_json::from_slice::<Descriptor>(bytes).is_err()));
}

#[test]
fn descriptors() {
    let _turn = turn();
    let good = r#"{"v":1,"name":"a1","node":"00000000000000aa","cluster":"c","log_id":null,"addr":"127.0.0.1:1","advertise":null,"data":"d","certs":"i","pid":7,"dev":false}"#;
    assert!(serde_json::from_str::<Descriptor>(good).is_ok());
    feed(each(&[good]), BYTES_LAID_BY_HAND, |bytes| {
        if let Ok(descriptor) = serde_json::from_slice::<Descriptor>(bytes) {
            let again = serde_json::to_vec(&descriptor).unwrap();
            assert_eq!(serde_json::from_slice::<Descriptor>(&again).unwrap(), descriptor);
        }
    });
}

/// Places and spans: what is refused is told in one line without a control character, however it was written.
#[test]
fn places_and_spans() {
    let _turn = turn();
    let examples =
        ["start", "42", "+5", "-5", "3:7", "@2026-11-20T15:00:00.5+01:00", "@-1h", "250ms", "18446744073709551615d"];
    feed(each(&examples), BYTES_LAID_BY_HAND, |bytes| {
        let text = text(bytes);
        for error in [
            offsets::parse(&text, 1_800_000_000_000_000).err().map(|e| e.to_string()),
            offsets::parse(&text, i64::MIN).err().map(|e| e.to_string()),
            duration::parse(&text).err().map(|e| e.to_string()),
        ] {
            assert!(error.is_none_or(|said| !said.chars().any(char::is_control)));
        }
    });
}

/// Names and everything like a name, and what is shown of the text of others.
#[test]
fn names_and_what_is_shown() {
    let _turn = turn();
    feed(
        each(&["a1", "orders.eu/west:1", "../../etc/passwd", "\u{1b}]0;x\u{7}", "\u{202e}", "größe"]),
        BYTES_LAID_BY_HAND,
        |bytes| {
            let text = text(bytes);
            let name = check_name(&text);
            assert_eq!(name.is_ok(), AgentName::new(&text).is_ok(), "one rule for names");
            let refusals = [
                name.err(),
                check_stream(&text).err(),
                check_key(&text).err(),
                check_label("type", &text).err(),
                check_header(&text, &text).err(),
            ];
            for said in refusals.into_iter().flatten().map(|e| e.to_string()) {
                assert!(!said.chars().any(char::is_control), "{said:?}");
            }
            for safe in [printable(&text), shown(&text), sanitize(&text)] {
                assert!(!safe.chars().any(char::is_control), "{safe:?}");
            }
            if check_name(&text).is_ok() {
                assert_eq!(printable(&text), text);
            }
        },
    );
}

/// Certificates: whoever is read from one has a legal name, and one spelling.
#[test]
fn certificates() {
    let _turn = turn();
    let id = ClusterId::from_bytes([0xab; 16]);
    let authority = Authority::create(id).unwrap();
    let name = || AgentName::new("a1").unwrap();
    let mut examples = Vec::new();
    for subject in [Subject::agent(id, name()), Subject::client(id, Role::Append, name())] {
        let issued = authority.issue(&subject, Validity::default()).unwrap();
        examples.push(Identity::from_issued(&issued).unwrap().chain()[0].to_vec());
        examples.push(subject.uri().into_bytes());
    }
    feed(examples, BYTES_LAID_BY_HAND, |bytes| {
        let read = [Subject::from_der(&bytes.to_vec().into()), Subject::from_uri(&text(bytes))];
        for subject in read.into_iter().flatten() {
            assert_eq!(Subject::from_uri(&subject.uri()).as_ref(), Ok(&subject));
            assert!(check_name(subject.name().as_str()).is_ok());
        }
    });
}
