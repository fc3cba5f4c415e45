//! What may be written and what is shown: bounds at the bound and one past it, and text that no terminal obeys.

use crate::cluster::{Cluster, PATIENCE};
use crate::said::Said;
use quorate::client::{Client, ClientError, ConnectOptions, TailFrom};
use quorate::limits::{BATCH_RECORDS_MAX, RECORD_BYTES_MAX_CEILING};
use quorate::record::Record;
use quorate_certs::{Identity, Role};

const MIB: usize = 1 << 20;

/// Records of 0 bytes and of exactly the limit are stored and read back; one byte more is refused before it is sent;
/// so are streams, keys, types and headers beyond their limits or with characters that are not legal (behaviour 8).
#[test]
fn records_at_the_bound_and_one_past() {
    let mut cluster = Cluster::new();
    cluster.start("n1", &["--bootstrap"]);
    cluster.wait_group(1, 0);
    let certs = cluster.client_certs("writer", Role::Append);
    let append = |args: &[&str], input: &[u8]| {
        let args = [&["append", "-"][..], args].concat();
        Said::to(&mut cluster.ask_command("n1", &certs, &args), input)
    };
    assert_eq!(cluster.ask_as("n1", &certs, &["append", ""]).ok(), "0\n", "an empty value");
    assert_eq!(append(&[], b"\n").ok(), "1\n", "an empty line");
    let full = vec![b'x'; MIB];
    assert_eq!(append(&[], &full).ok(), "2\n");
    let refused = append(&["--format", "json"], &[&full[..], b"y"].concat());
    let error = refused.json_error(1);
    assert_eq!(error["outcome"], "not_applied");
    assert!(error["message"].as_str().unwrap().contains("1048576"), "{error}");

    let (long, over) = (|n: usize| "s".repeat(n), |n: usize| "s".repeat(n + 1));
    for (flag, max) in [("--stream", 128), ("--key", 1024), ("--type", 256), ("--correlation", 256)] {
        assert_eq!(cluster.ask_as("n1", &certs, &["append", "v", flag, &long(max)]).code, 0, "{flag} of {max}");
        let said = cluster.ask_as("n1", &certs, &["append", "v", flag, &over(max)]);
        assert!(said.one_error(2).contains(&max.to_string()), "{flag}: {}", said.err);
    }
    for (flag, bad) in
        [("--stream", "a\u{1b}b"), ("--stream", ""), ("--key", "a\u{1b}[2Jb"), ("--type", "a\nb"), ("-H", "a\u{1b}=b")]
    {
        let said = cluster.ask_as("n1", &certs, &["append", "v", flag, bad]);
        assert_eq!(said.code, 2, "{flag} {bad:?}: {}", said.err);
        assert!(!said.err.contains('\u{1b}'), "{:?}", said.err);
    }

    // What is stored is what was written, to the byte.
    let client = cluster.pinned("n1");
    let mut tail = client.tail(TailFrom::default());
    let sizes: Vec<_> = (0..3).map(|_| cluster.block_on(tail.next()).unwrap().unwrap().stored.record.value).collect();
    assert_eq!(sizes.iter().map(|v| v.len()).collect::<Vec<_>>(), [0, 0, MIB]);
    assert!(sizes[2] == full);
    // The agent decides for itself: a client that does not check is refused by it.
    let identity = Identity::load(&certs).unwrap();
    let mut options = ConnectOptions::new([cluster.addr("n1").to_string()], identity);
    options.record_bytes_max = 2 * MIB;
    let careless = cluster.block_on(async { Client::connect(options).await.unwrap() });
    let error = cluster.block_on(careless.append(&[Record::of(vec![b'x'; MIB + 1])])).unwrap_err();
    assert_eq!(error.effect(), quorate::api::Effect::NotApplied, "{error}");
    let ClientError::Failed(failure) = &error else { panic!("{error:?}") };
    assert!(failure.hint.contains("1048576"), "{failure:?}");
}

/// The largest records and the largest batches that a log can have pass through every agent, leader or not.
#[test]
fn the_largest_records_and_batches_pass_through_every_agent() {
    let mut cluster = Cluster::new();
    let config = cluster.path("large.toml");
    std::fs::write(&config, format!("record_bytes_max = {RECORD_BYTES_MAX_CEILING}\n")).unwrap();
    cluster.start("n1", &["--bootstrap", "--config", config.to_str().unwrap()]);
    let seed = cluster.addr("n1").to_string();
    cluster.start("n2", &["--join", &seed]);
    cluster.start("n3", &["--join", &seed]);
    cluster.wait_group(3, 0);
    let identity = std::sync::Arc::new(Identity::load(&cluster.client_certs("admin", Role::Admin)).unwrap());
    let full = vec![b'x'; RECORD_BYTES_MAX_CEILING];
    let mut expected = 0;
    for name in cluster.running() {
        let mut options = ConnectOptions::new([cluster.addr(&name).to_string()], identity.clone()).pinned();
        options.record_bytes_max = RECORD_BYTES_MAX_CEILING;
        options.timeout = PATIENCE;
        let client = cluster.block_on(Client::connect(options)).unwrap();
        let acked = cluster.block_on(client.append(&[Record::of(full.clone())])).unwrap();
        assert_eq!(acked.first, expected, "through {name}");
        // As many records as a batch may have, and as many bytes.
        let many = vec![Record::of(""); BATCH_RECORDS_MAX];
        let acked = cluster.block_on(client.append(&many)).unwrap();
        assert_eq!((acked.first, acked.last), (expected + 1, expected + BATCH_RECORDS_MAX as u64), "through {name}");
        expected = acked.last + 1;
    }
    // And they come back out of every one of them.
    for name in cluster.running() {
        let (_, values) = crate::history::read(&cluster, &name);
        assert_eq!(values.len() as u64, expected, "from {name}");
        assert_eq!(values.iter().filter(|value| value.len() == RECORD_BYTES_MAX_CEILING).count(), 3, "from {name}");
    }
}

/// The founder's limit is the log's: whoever joins follows it (behaviour 8).
#[test]
fn the_founder_decides_how_long_a_record_may_be() {
    let mut cluster = Cluster::new();
    let config = cluster.path("small.toml");
    std::fs::write(&config, "record_bytes_max = 100\n").unwrap();
    cluster.start("n1", &["--bootstrap", "--config", config.to_str().unwrap()]);
    let seed = cluster.addr("n1").to_string();
    cluster.start("n2", &["--join", &seed]);
    cluster.wait_group(1, 1);
    for name in ["n1", "n2"] {
        assert_eq!(cluster.ask(name, &["append", &"x".repeat(100)]).code, 0);
        let refused = cluster.ask(name, &["append", &"x".repeat(101)]);
        assert!(refused.one_error(1).contains("100"), "{name}: {}", refused.err);
    }
}

/// Whatever was written, text output and logs hold no character that a terminal obeys; JSON keeps the bytes, escaped
/// (behaviour 8).
#[test]
fn remote_text_never_reaches_a_terminal_raw() {
    let mut cluster = Cluster::new();
    let evil = "a\u{1b}]0;owned\u{7}\u{9b}31m\u{202e}\r\nb";
    // Tags are free text of another machine too; what is illegal is refused at its source, the rest is escaped.
    let refused = Said::by(&mut cluster.agent_command("n1", "127.0.0.1:0", &["--bootstrap", "--tag", "t=a\u{1b}b"]));
    refused.one_error(78);
    cluster.start("n1", &["--bootstrap", "--tag", "t=a\u{202e}b"]);
    cluster.wait_group(1, 0);
    let record = Record { key: "k\u{202e}".into(), headers: vec![("h".into(), evil.into())], ..Record::of(evil) };
    let client = cluster.pinned("n1");
    cluster.block_on(client.append(&[record, Record::of(&b"\xff\x1b\x9b"[..])])).unwrap();

    let raw = |text: &str| text.chars().any(|c| (c.is_control() && c != '\n') || c == '\u{202e}');
    let tail = cluster.ask("n1", &["tail"]);
    assert!(!raw(tail.ok()), "{:?}", tail.out);
    assert_eq!(tail.out.lines().count(), 2, "{:?}", tail.out);
    assert!(tail.out.contains("a\\u{1b}]0;owned\\u{7}\\u{9b}31m\\u{202e}\\r\\nb"), "{:?}", tail.out);
    let members = cluster.ask("n1", &["members"]);
    assert!(!raw(members.ok()) && members.out.contains("t=a\\u{202e}b"), "{:?}", members.out);
    let json = cluster.ask("n1", &["tail", "--format", "json"]);
    assert!(!raw(json.ok()), "{:?}", json.out);
    let first: serde_json::Value = serde_json::from_str(json.out.lines().next().unwrap()).unwrap();
    assert_eq!(
        (&first["value"], &first["headers"]["h"], &first["key"]),
        (&evil.into(), &evil.into(), &"k\u{202e}".into())
    );
    let second: serde_json::Value = serde_json::from_str(json.out.lines().nth(1).unwrap()).unwrap();
    assert_eq!((&second["value_b64"], second.get("value")), (&"/xub".into(), None));
    assert!(!raw(&cluster.log("n1")));
}

/// The same data directory twice on one machine (behaviour 8).
#[test]
fn a_data_directory_serves_one_agent_at_a_time() {
    let mut cluster = Cluster::new();
    cluster.start("n1", &["--bootstrap"]);
    cluster.wait_group(1, 0);
    let second = Said::by(&mut cluster.agent_command("n1", "127.0.0.1:0", &["--log", "error"]));
    let said = second.one_error(75);
    assert!(said.contains("in use") && said.contains(&cluster.data("n1").display().to_string()), "{said}");
    // The first one did not notice, and the second may follow it.
    assert_eq!(cluster.ask("n1", &["append", "x"]).ok(), "0\n");
    cluster.kill("n1");
    cluster.start("n1", &[]);
    cluster.wait_group(1, 0);
    assert_eq!(cluster.ask("n1", &["append", "y"]).ok(), "1\n");
}
