//! What keeps an agent from starting: one line each, with what, why and what to do (behaviour 10).

use crate::cluster::Cluster;
use crate::said::Said;
use std::fs;
use std::net::UdpSocket;
use std::path::Path;

fn refused(cluster: &Cluster, bind: &str, more: &[&str], code: i32, parts: &[&str]) {
    let args = [&["--log", "error"][..], more].concat();
    let said = Said::by(&mut cluster.agent_command("n1", bind, &args));
    let line = said.one_error(code);
    assert!(parts.iter().all(|part| line.contains(part)), "{parts:?}: {line}");
}

/// A port in use, an address of another machine, data directories that cannot be written, keys that others can read,
/// and nothing of it leaves anything behind.
#[test]
fn what_the_machine_refuses_is_one_line() {
    let cluster = Cluster::new();
    fs::create_dir_all(cluster.path("data")).unwrap();
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    refused(&cluster, &format!("127.0.0.1:{port}"), &["--bootstrap"], 78, &[&port, "in use", "--bind"]);
    // An address that is kept for documentation (RFC 5737).
    refused(&cluster, "192.0.2.1:7373", &[], 78, &["192.0.2.1", "no address of this machine"]);

    // A file stands where the directory should be: what root sees of a directory that may not be written.
    fs::remove_dir_all(cluster.data("n1")).unwrap();
    fs::write(cluster.data("n1"), "").unwrap();
    refused(&cluster, "127.0.0.1:0", &[], 78, &[&cluster.data("n1").display().to_string(), "writable"]);
    fs::remove_file(cluster.data("n1")).unwrap();
    fs::create_dir(cluster.data("n1")).unwrap();
    fs::write(cluster.data("n1").join("log"), "").unwrap();
    refused(&cluster, "127.0.0.1:0", &[], 78, &["log"]);
    fs::remove_dir_all(cluster.data("n1")).unwrap();

    for (file, why) in [("key.pem", "missing"), ("cert.pem", "missing"), ("ca.pem", "missing")] {
        let path = cluster.certs("n1").join(file);
        let aside = cluster.path("aside");
        fs::rename(&path, &aside).unwrap();
        refused(&cluster, "127.0.0.1:0", &[], 78, &[file, why]);
        fs::write(&path, "junk").unwrap();
        restrict(&path, 0o600);
        refused(&cluster, "127.0.0.1:0", &[], 78, &[file]);
        fs::rename(&aside, &path).unwrap();
    }
    restrict(&cluster.certs("n1").join("key.pem"), 0o640);
    refused(&cluster, "127.0.0.1:0", &[], 78, &["key.pem", "readable by others", "chmod 600"]);
    assert!(!cluster.data("n1").exists(), "nothing was written");
}

fn restrict(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn chmod(path: &std::path::Path, mode: u32) {
    fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
}

/// A data directory of another cluster, one that others may change, one without its key, one with junk for a key, one with
/// damage in the middle of its log: refused, with the file that is meant.
#[test]
fn a_data_directory_that_is_not_what_it_should_be_is_refused() {
    let mut cluster = Cluster::new();
    cluster.start("n1", &["--bootstrap"]);
    cluster.wait_group(1, 0);
    for i in 0..20 {
        assert_eq!(cluster.ask("n1", &["append", &format!("record {i}")]).code, 0);
    }
    cluster.stop("n1");
    let data = cluster.data("n1");

    let stranger = Cluster::new();
    let mut foreign = stranger.command(&["agent", "--bind", "127.0.0.1:0", "--log", "error"]);
    foreign.arg("--certs").arg(stranger.certs("n1")).arg("--data").arg(&data);
    let said = Said::by(&mut foreign);
    let line = said.one_error(78);
    assert!(line.contains(&cluster.id().to_string()) && line.contains(&stranger.id().to_string()), "{line}");

    chmod(&data, 0o777);
    refused(&cluster, "127.0.0.1:0", &[], 78, &["replace its files", "0777", "chmod 700"]);
    chmod(&data, 0o700);
    // The key and its copy: with one of them the other is put back.
    let (key, aside) = (data.join("node.key"), cluster.path("aside.key"));
    fs::rename(&key, &aside).unwrap();
    fs::remove_file(data.join("node.key.copy")).unwrap();
    refused(&cluster, "127.0.0.1:0", &[], 78, &["node.key", "missing", "restore"]);
    fs::write(&key, "junk").unwrap();
    chmod(&key, 0o644);
    refused(&cluster, "127.0.0.1:0", &[], 78, &["node.key", "open to others", "0644", "chmod 600"]);
    chmod(&key, 0o600);
    refused(&cluster, "127.0.0.1:0", &[], 78, &["node key"]);
    fs::rename(&aside, &key).unwrap();

    // A byte in the middle of what was synced long ago.
    let segment = fs::read_dir(data.join("log")).unwrap().map(|e| e.unwrap().path());
    let segment = segment.max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap();
    let mut bytes = fs::read(&segment).unwrap();
    let at = bytes.windows(8).position(|window| window == b"record 3").unwrap();
    bytes[at] ^= 0x40;
    fs::write(&segment, &bytes).unwrap();
    let file = segment.file_name().unwrap().to_str().unwrap();
    refused(&cluster, "127.0.0.1:0", &[], 11, &[file, "at byte", "restore"]);
    bytes[at] ^= 0x40;
    fs::write(&segment, &bytes).unwrap();

    // After all that it starts as if nothing had been.
    cluster.start("n1", &["--bootstrap"]);
    cluster.wait_group(1, 0);
    assert_eq!(cluster.ask("n1", &["append", "after"]).ok(), "20\n");
}

/// What the file says holds, the environment wins over it and the flag over both; a mistake names file, line and the
/// nearest key.
#[test]
fn the_configuration_file_is_heeded() {
    let mut cluster = Cluster::new();
    let file = cluster.path("q.toml");
    fs::write(&file, "bootstrap = true\nlog = \"warn\"\n[tags]\nrack = \"r1\"\n").unwrap();
    cluster.start("n1", &["--config", file.to_str().unwrap()]);
    cluster.wait_group(1, 0);
    assert_eq!(cluster.log("n1"), "", "only warnings are logged, and there is none");
    assert_eq!(cluster.members("n1").unwrap()[0].tags["rack"], "r1");

    // SIGHUP reads the log level again; what cannot be read changes nothing.
    fs::write(&file, "bootstrap = true\nlog = \"info\"\n").unwrap();
    cluster.signal("n1", "HUP");
    cluster.wait_log("n1", &["SIGHUP", "log level warn becomes info"]);
    fs::write(&file, "bootstrap = true\nlogg = \"info\"\n").unwrap();
    cluster.signal("n1", "HUP");
    cluster.wait_log("n1", &["SIGHUP", "stays", "line 2", "did you mean log?"]);
    assert_eq!(cluster.ask("n1", &["status", "--check"]).code, 0);
}

/// A service manager hears when the agent listens and when it stops; log lines can be JSON, one object each.
#[cfg(target_os = "linux")]
#[test]
fn a_service_manager_is_told() {
    let mut cluster = Cluster::new();
    let socket = cluster.path("notify");
    let manager = std::os::unix::net::UnixDatagram::bind(&socket).unwrap();
    manager.set_read_timeout(Some(crate::cluster::PATIENCE)).unwrap();
    let hear = || {
        let mut bytes = [0; 1024];
        let len = manager.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..len].to_vec()).unwrap()
    };
    let mut command = cluster.agent_command("n1", "127.0.0.1:0", &["--bootstrap", "--log-format", "json"]);
    command.env("NOTIFY_SOCKET", &socket);
    cluster.spawn("n1", command).unwrap();
    let ready = hear();
    assert!(ready.contains("READY=1") && ready.contains(&cluster.addr("n1").to_string()), "{ready:?}");
    cluster.stop("n1");
    assert!(hear().contains("STOPPING=1"));
    let log = cluster.log("n1");
    assert!(!log.is_empty());
    for line in log.lines() {
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(event["level"].is_string() && event["message"].is_string() && event["timestamp"].is_string(), "{line}");
    }
}
