//! Keys never leave their files: not into logs, not to stdout, not into descriptors; and the files are private from birth.

use crate::cluster::{Cluster, wait_until};
use quorate_certs::Role;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A key in one of the ways in which it could leak.
struct Secret {
    what: String,
    bytes: Vec<u8>,
}

const BASE64: [&[u8; 64]; 2] = [
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/",
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_",
];

/// Without padding, and without what depends on what stands before and after.
fn base64(bytes: &[u8], alphabet: &[u8; 64]) -> Vec<u8> {
    let whole = bytes.chunks_exact(3).map(|c| u32::from(c[0]) << 16 | u32::from(c[1]) << 8 | u32::from(c[2]));
    whole.flat_map(|all| [18, 12, 6, 0].map(|shift| alphabet[(all >> shift) as usize & 63])).collect()
}

fn unbase64(text: &str) -> Vec<u8> {
    let digits = text.bytes().filter_map(|b| BASE64[0].iter().position(|d| *d == b));
    let bits: Vec<u8> = digits.flat_map(|digit| (0..6).rev().map(move |bit| (digit >> bit & 1) as u8)).collect();
    bits.chunks_exact(8).map(|byte| byte.iter().fold(0, |all, bit| all << 1 | bit)).collect()
}

/// Every way in which 24 bytes of the middle of a key could be written. (Its ends are the same in all keys of a kind.)
fn ways(what: &str, der: &[u8], secret_at: std::ops::Range<usize>) -> Vec<Secret> {
    let secret = &der[secret_at];
    let core = &secret[4..28];
    let hex: String = core.iter().map(|b| format!("{b:02x}")).collect();
    let list: String = core.iter().map(|b| format!("{b}, ")).collect();
    let escaped = core.escape_ascii().to_string();
    let mut all = vec![
        ("raw", core.to_vec()),
        ("hex", hex.clone().into_bytes()),
        ("HEX", hex.to_uppercase().into_bytes()),
        ("a list of numbers", list.trim_end_matches(", ").as_bytes().to_vec()),
        ("escaped", escaped.into_bytes()),
    ];
    for alphabet in BASE64 {
        for shift in 0..3 {
            all.push(("base64", base64(&secret[4 + shift..28], alphabet)));
        }
    }
    all.into_iter().map(|(way, bytes)| Secret { what: format!("{what} in {way}"), bytes }).collect()
}

/// The lines of a PEM file, and the secret inside it.
fn of_pem(what: &str, path: &Path) -> Vec<Secret> {
    let text = fs::read_to_string(path).unwrap();
    let lines: Vec<_> = text.lines().filter(|line| !line.starts_with("-----")).collect();
    let mut all: Vec<_> =
        lines.iter().map(|line| Secret { what: format!("{what} as PEM"), bytes: line.as_bytes().to_vec() }).collect();
    all.extend(of_der(what, &unbase64(&lines.concat())));
    all
}

/// PKCS#8 holds the 32 bytes that matter behind the octet string's head `04 20`.
fn of_der(what: &str, der: &[u8]) -> Vec<Secret> {
    let at = der.windows(2).position(|pair| pair == [4, 32]).expect("a private key of 32 bytes") + 2;
    ways(what, der, at..at + 32)
}

fn found<'a>(secrets: &'a [Secret], text: &[u8]) -> Option<&'a str> {
    let holds = |secret: &&Secret| text.windows(secret.bytes.len()).any(|window| window == secret.bytes);
    secrets.iter().find(holds).map(|secret| secret.what.as_str())
}

fn files_under(dir: &Path, all: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap().flatten() {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            files_under(&entry.path(), all);
        } else if kind.is_file() {
            all.push(entry.path());
        }
    }
}

/// Certificates made, two agents formed, written to, read from, asked, one killed and one left: at trace level, in both
/// formats of the log. Nothing that was said or written holds a key, but the key's own file.
#[test]
fn no_log_descriptor_or_output_holds_a_key() {
    let mut cluster = Cluster::new();
    let pki = cluster.path("made");
    let dir = pki.to_str().unwrap();
    let mut said = Vec::new();
    let mut run = |cluster: &Cluster, args: &[&str]| {
        let one = cluster.run(args);
        said.extend([one.out.into_bytes(), one.err.into_bytes()]);
    };
    run(&cluster, &["certs", "init", "--out", dir, "--log", "trace"]);
    run(&cluster, &["certs", "issue", "agent", "x1", "--out", dir, "--log", "trace"]);
    run(&cluster, &["certs", "issue", "agent", "x1", "--out", dir, "--log", "trace"]);
    run(&cluster, &["certs", "show", dir]);
    run(&cluster, &["certs", "show", &format!("{dir}/x1"), "--format", "json"]);
    cluster.start("n1", &["--bootstrap", "--log", "trace", "--log-format", "json"]);
    let seed = cluster.addr("n1").to_string();
    cluster.start("n2", &["--join", &seed, "--log", "trace"]);
    cluster.wait_group(1, 1);
    let admin = cluster.client_certs("admin", Role::Admin);
    for args in [
        &["append", "x"][..],
        &["tail"],
        &["members"],
        &["status"],
        &["status", "--format", "json"],
        &["tail", "-o", "nonsense"],
    ] {
        let one = cluster.ask_as("n2", &admin, &[args, &["--log", "trace"]].concat());
        said.extend([one.out.into_bytes(), one.err.into_bytes()]);
    }
    // A key that is none, and one that others may read: what is wrong is said without what was read.
    let spoilt = cluster.path("spoilt");
    fs::create_dir(&spoilt).unwrap();
    for name in ["ca.pem", "cert.pem", "key.pem"] {
        fs::copy(admin.join(name), spoilt.join(name)).unwrap();
    }
    for mode in [0o644, 0o600] {
        fs::set_permissions(spoilt.join("key.pem"), fs::Permissions::from_mode(mode)).unwrap();
        let one = cluster.ask_as("n2", &spoilt, &["status", "--log", "trace"]);
        said.extend([one.out.into_bytes(), one.err.into_bytes()]);
        let key = fs::read_to_string(admin.join("key.pem")).unwrap();
        fs::write(spoilt.join("key.pem"), key.replace("-----END", "=-----END")).unwrap();
    }
    let mut secrets = of_pem("the authority's key", &pki.join("ca.key"));
    secrets.extend(of_pem("an issued key", &pki.join("x1/key.pem")));
    secrets.extend(of_pem("a client's key", &admin.join("key.pem")));
    for name in ["n1", "n2"] {
        secrets.extend(of_pem("an agent's key", &cluster.certs(name).join("key.pem")));
        secrets.extend(of_der("a node key", &fs::read(cluster.data(name).join("node.key")).unwrap()));
        let quic = fs::read(cluster.data(name).join("quic.key")).unwrap();
        secrets.extend(ways("a QUIC key", &quic, 0..32));
    }
    let mut written = Vec::new();
    files_under(&cluster.path("run"), &mut written);
    assert!(written.len() >= 2, "two descriptors: {written:?}");
    cluster.kill("n2");
    cluster.stop("n1");
    files_under(&cluster.path("data"), &mut written);
    let is_key = |path: &PathBuf| ["node.key", "node.key.copy", "quic.key"].iter().any(|name| path.ends_with(name));
    let mut texts: Vec<(String, Vec<u8>)> = said.into_iter().map(|text| ("said".to_owned(), text)).collect();
    let others = written.iter().filter(|path| !is_key(path));
    // Segments are zeros for the most part; what was ever written into them stands at their start.
    let start = |path: &PathBuf| {
        fs::read(path).map(|mut bytes| {
            bytes.truncate(1 << 20);
            bytes
        })
    };
    texts.extend(others.filter_map(|path| Some((path.display().to_string(), start(path).ok()?))));
    for name in ["n1", "n2"] {
        let log = cluster.log(name);
        assert!(log.contains("TRACE"), "the log of {name} is not at trace level");
        println!("{name} wrote {} bytes of log", log.len());
        // The start of a process is when keys are read; of the rest, enough.
        texts.push((format!("the log of {name}"), log.into_bytes()[..].iter().copied().take(4 << 20).collect()));
    }
    println!("{} secrets looked for in {} texts", secrets.len(), texts.len());
    for (whose, text) in &texts {
        assert_eq!(found(&secrets, text), None, "in {whose}");
    }
    // The search finds what it looks for, wherever it stands: else it would prove nothing.
    for secret in &secrets {
        let text = [b"something before ", &secret.bytes[..], b" and after"].concat();
        assert!(found(&secrets, &text).is_some(), "{}", secret.what);
    }
}

/// With a umask that hides nothing: keys are 0600 and directories 0700 from birth.
#[test]
fn keys_are_private_whatever_the_umask() {
    let cluster = Cluster::new();
    let (pki, data, run) = (cluster.path("pki0"), cluster.path("data0"), cluster.path("run"));
    let quorate = env!("CARGO_BIN_EXE_quorate");
    let script = format!(
        "umask 0; {quorate} certs init --out {pki} && {quorate} certs issue agent a1 --out {pki} && \
         exec {quorate} agent --bind 127.0.0.1:0 --bootstrap --certs {pki}/a1 --data {data}",
        pki = pki.display(),
        data = data.display()
    );
    let log = fs::File::create(cluster.path("log0")).unwrap();
    let mut child = Command::new("sh")
        .args(["-c", &script])
        .env("QUORATE_RUNTIME_DIR", &run)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap();
    wait_until("the agent has founded its log", || {
        assert_eq!(child.try_wait().unwrap(), None, "{}", fs::read_to_string(cluster.path("log0")).unwrap());
        fs::read_to_string(cluster.path("log0")).unwrap().contains("founded log").then_some(())
    });
    let mut files = Vec::new();
    for dir in [&pki, &data, &run] {
        files_under(dir, &mut files);
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert!(files.len() > 8, "{files:?}");
    let public = ["ca.pem", "cert.pem"];
    for file in files.iter().filter(|file| file.exists()) {
        let is_public = public.iter().any(|name| file.ends_with(name));
        let others = if is_public { 0o022 } else { 0o077 };
        assert_eq!(mode(file) & others, 0, "{} has mode {:o}", file.display(), mode(file));
    }
    for dir in [&pki, &data, &data.join("log"), &run] {
        assert_eq!(mode(dir), 0o700, "{}", dir.display());
    }
}
