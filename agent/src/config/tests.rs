//! What `config.toml` may hold, and how it is refused.

use super::*;

fn refused(text: &str) -> String {
    Config::parse(text, "q.toml").unwrap_err().to_string()
}

#[test]
fn the_sample_names_every_key_and_equals_the_defaults() {
    let sample = include_str!("../../../config.toml");
    assert_eq!(Config::parse(sample, "config.toml").unwrap(), Config::default());
    // Keys without a default are shown as comments; with those taken off, the sample must still be a configuration.
    let live: String = sample
        .lines()
        .map(|line| {
            let key = line.strip_prefix("# ").filter(|rest| rest.contains(" = ") && !rest.contains("  "));
            format!("{}\n", key.unwrap_or(line))
        })
        .collect();
    let table = DeTable::parse(&live).unwrap();
    let shown: Vec<String> = table.get_ref().keys().map(|k| k.get_ref().to_string()).collect();
    for key in KEYS {
        assert!(shown.iter().any(|k| k == key), "the sample lacks {key}");
    }
    assert!(Config::parse(&live, "config.toml").is_ok(), "{:?}", Config::parse(&live, "config.toml"));
}

#[test]
fn the_list_of_keys_is_the_struct() {
    let full = Config {
        name: Some("a".into()),
        data: Some("d".into()),
        advertise: Some("h:1".into()),
        certs: Some("c".into()),
        ..Config::default()
    };
    let value = toml::Value::try_from(full).unwrap();
    let mut keys: Vec<_> = value.as_table().unwrap().keys().map(String::as_str).collect();
    let mut known = KEYS.to_vec();
    keys.sort_unstable();
    known.sort_unstable();
    assert_eq!(keys, known);
}

#[test]
fn an_unknown_key_names_file_line_and_the_nearest_key() {
    let said = refused("bootstrap = true\nadvertize = \"h:1\"\n");
    assert_eq!(said, "q.toml line 2 (there is no key \"advertize\"); did you mean advertise?");
    assert!(refused("log-format = \"json\"").contains("did you mean log_format?"));
    assert!(refused("completely_else = 1").contains("the keys are name, data"));
    assert!(refused("\"\\u001b[2J\" = 1").contains("\\u{1b}[2J"));
}

#[test]
fn a_wrong_type_or_broken_syntax_names_the_line() {
    for (text, line) in [("\nbind = 3", "line 2"), ("bind = ", "line 1"), ("\n\n[tags\n", "line 3")] {
        let said = refused(text);
        assert!(said.contains(line), "{said}");
        assert!(!said.contains('\n'), "{said}");
    }
}

#[test]
fn every_bound_is_kept_at_the_bound_and_one_past() {
    for (good, past) in [
        ("record_bytes_max = 1", "record_bytes_max = 0"),
        ("record_bytes_max = 4194304", "record_bytes_max = 4194305"),
        ("heartbeat_ms = 5", "heartbeat_ms = 4"),
        ("election_timeout_ms_min = 150", "election_timeout_ms_min = 149"),
        ("election_timeout_ms_max = 251", "election_timeout_ms_max = 250"),
        ("election_timeout_ms_max = 60000", "election_timeout_ms_max = 60001"),
        ("voters_target = 7", "voters_target = 9"),
        ("scrub_mib_per_second = 4096", "scrub_mib_per_second = 4097"),
        ("scrub_mib_per_second = 0", "scrub_mib_per_second = -1"),
        ("voters_target = 1", "voters_target = 2"),
        ("disk_reserve_bytes = 0", "disk_reserve_bytes = -1"),
        ("disk_reserve_bytes = 1099511627776", "disk_reserve_bytes = 1099511627777"),
        ("name = \"a\"", "name = \"A\""),
        ("advertise = \"h:1\"", "advertise = \"h\""),
        ("advertise = \"1.2.3.4:1\"", "advertise = \"0.0.0.0:1\""),
        ("join = [\"[::1]:1\"]", "join = [\"::1:1\"]"),
        ("tags = { a = \"1\" }", "tags = { \"a b\" = \"1\" }"),
    ] {
        assert!(Config::parse(good, "q").is_ok(), "{good}: {:?}", Config::parse(good, "q"));
        assert!(Config::parse(past, "q").is_err(), "{past}");
    }
}

#[test]
fn a_loopback_advertise_with_a_remote_seed_is_refused_with_the_reason() {
    let config = |advertise: Option<&str>, bind: &str, seed: &str| Config {
        advertise: advertise.map(str::to_owned),
        bind: bind.parse().unwrap(),
        join: vec![seed.into()],
        ..Config::default()
    };
    for lonely in [
        config(Some("127.0.0.1:1"), "[::]:1", "10.0.0.1:1"),
        config(Some("localhost:1"), "[::]:1", "db.example:1"),
        config(None, "[::1]:1", "10.0.0.1:1"),
    ] {
        let said = lonely.refuse_lonely_advertise().unwrap_err().to_string();
        assert!(said.contains("loopback"), "{said}");
    }
    for fine in [
        config(Some("127.0.0.1:1"), "[::]:1", "127.0.0.2:1"),
        config(None, "[::]:1", "10.0.0.1:1"),
        config(None, "127.0.0.1:1", "localhost:2"),
    ] {
        assert_eq!(fine.refuse_lonely_advertise(), Ok(()));
    }
}

#[test]
fn the_profile_is_read_under_its_former_name_too() {
    assert_eq!(Config::default().profile, GossipProfile::Lan);
    for (word, profile) in [("local", GossipProfile::Local), ("lan", GossipProfile::Lan), ("wan", GossipProfile::Wan)] {
        for key in ["profile", "gossip_profile"] {
            assert_eq!(Config::parse(&format!("{key} = \"{word}\""), "q.toml").unwrap().profile, profile);
        }
    }
    assert!(refused("profile = \"moon\"").contains("q.toml line 1"), "{}", refused("profile = \"moon\""));
    assert!(refused("profil = \"lan\"").contains("did you mean profile?"));
}
