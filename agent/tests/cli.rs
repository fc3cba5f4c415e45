//! The command line without an agent: what is refused, how it is said, and with which exit code.

#![allow(clippy::unwrap_used)]

use assert_cmd::Command;
use std::fs;
use std::path::Path;
use tempfile::TempDir;

/// A machine of its own: no agent, no variable, no directory shared with another test.
struct Machine {
    dir: TempDir,
}

struct Said {
    code: i32,
    out: String,
    err: String,
}

impl Machine {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { dir }
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    fn write(&self, name: &str, text: &str) -> String {
        fs::write(self.dir.path().join(name), text).unwrap();
        self.path(name)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::cargo_bin("quorate").unwrap();
        for (key, _) in std::env::vars_os().filter(|(key, _)| key.to_string_lossy().starts_with("QUORATE_")) {
            command.env_remove(key);
        }
        command.env("QUORATE_RUNTIME_DIR", self.path("run")).env("XDG_DATA_HOME", self.path("share"));
        command.args(args);
        command
    }

    fn run(&self, args: &[&str]) -> Said {
        said(&mut self.command(args))
    }

    /// A cluster's authority and one agent, `a1`, and one client, `ci`.
    fn with_certs() -> Self {
        let machine = Self::new();
        let out = machine.path("certs");
        assert_eq!(machine.run(&["certs", "init", "--out", &out]).code, 0);
        assert_eq!(machine.run(&["certs", "issue", "agent", "a1", "--out", &out]).code, 0);
        assert_eq!(machine.run(&["certs", "issue", "client", "ci", "--role", "append", "--out", &out]).code, 0);
        machine
    }
}

fn said(command: &mut Command) -> Said {
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    Said { code: output.status.code().unwrap(), out: text(&output.stdout), err: text(&output.stderr) }
}

impl Said {
    /// It failed with this code, one line on stderr and nothing on stdout.
    #[track_caller]
    fn one_error(&self, code: i32) -> &str {
        assert_eq!(self.code, code, "{}", self.err);
        assert_eq!(self.out, "");
        let lines: Vec<_> = self.err.lines().collect();
        assert_eq!(lines.len(), 1, "{}", self.err);
        assert!(lines[0].starts_with("error: ") && lines[0].contains("; "), "{}", self.err);
        lines[0]
    }

    fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap()
    }

    fn json_error(&self) -> serde_json::Value {
        assert_eq!(self.err.lines().count(), 1, "{}", self.err);
        serde_json::from_str(&self.err).unwrap()
    }
}

#[test]
fn what_is_not_understood_is_a_usage_error() {
    let machine = Machine::new();
    for args in [
        &[][..],
        &["fly"],
        &["members", "--fly"],
        &["append"],
        &["tail", "-o", "yesterday"],
        &["tail", "--read", "lease"],
        &["members", "--wait", "cats=3"],
        &["members", "--state", "dead"],
        &["append", "x", "--batch", "0"],
        &["status", "--timeout", "10"],
        &["status", "--addr", "nowhere"],
        &["certs", "issue", "agent", "A1", "--out", "x"],
        &["certs", "issue", "client", "ci", "--role", "root", "--out", "x"],
        &["append", "x", "--stream", "a b"],
        &["append", "x", "-H", "novalue"],
        &["demo", "--nodes", "2"],
    ] {
        let said = machine.run(args);
        assert_eq!(said.code, 2, "{args:?}: {}", said.err);
        assert_eq!(said.out, "", "{args:?}");
        assert!(!said.err.is_empty(), "{args:?}");
    }
}

#[test]
fn help_and_version_are_data() {
    let machine = Machine::new();
    let version = machine.run(&["--version"]);
    assert_eq!((version.code, version.out.as_str()), (0, concat!("quorate ", env!("CARGO_PKG_VERSION"), "\n")));
    let help = machine.run(&["--help"]);
    assert_eq!((help.code, help.err.as_str()), (0, ""));
    assert!(help.out.contains("Exit codes") && help.out.contains("append"));
}

#[test]
fn errors_in_json_are_one_object_with_code_outcome_and_hint() {
    let machine = Machine::new();
    let nobody = machine.run(&["members", "--format", "json"]);
    assert_eq!((nobody.code, nobody.out.as_str()), (3, ""));
    let error = nobody.json_error();
    assert_eq!((&error["v"], &error["error"]["code"]), (&1.into(), &"unreachable".into()));
    assert_eq!(error["error"]["outcome"], "none");
    assert!(error["error"]["message"].is_string() && error["error"]["hint"].is_string());

    let usage = machine.run(&["members", "--format=json", "--fly"]);
    assert_eq!((usage.code, &usage.json_error()["error"]["code"]), (2, &"usage".into()));
    let by_variable = said(machine.command(&["members"]).env("QUORATE_FORMAT", "json"));
    assert_eq!(by_variable.json_error()["error"]["code"], "unreachable");
}

#[test]
fn without_an_agent_a_command_says_what_to_do() {
    let machine = Machine::with_certs();
    let ci = machine.path("certs/ci");
    machine.run(&["status"]).one_error(3);
    machine.run(&["tail", "--agent", "a1"]).one_error(3);
    // Nobody listens on the discard port of loopback.
    let dead = ["--addr", "127.0.0.1:9", "--certs", &ci, "--timeout", "300ms"];
    let gone = machine.run(&[&["append", "x"][..], &dead].concat());
    assert!(gone.one_error(3).contains("127.0.0.1:9"));
    let json = machine.run(&[&["append", "x", "--format", "json"][..], &dead].concat());
    assert_eq!(json.json_error()["error"]["outcome"], "not_applied");
    let waited = machine.run(&[&["members", "--wait", "leader"][..], &dead].concat());
    waited.one_error(124);
    machine.run(&["status", "--addr", "127.0.0.1:9"]).one_error(2);
    // A range without a record needs no agent at all.
    assert_eq!(machine.run(&["tail", "-o", "5:5"]).code, 0);
    assert_eq!(machine.run(&["tail", "-n", "0"]).code, 0);
}

#[test]
fn a_value_beyond_the_limit_is_refused_before_it_is_sent() {
    let machine = Machine::with_certs();
    let ci = machine.path("certs/ci");
    let mut command = machine.command(&["append", "-", "--addr", "127.0.0.1:9", "--certs", &ci, "--timeout", "300ms"]);
    let too_long = said(command.write_stdin(vec![b'x'; (1 << 20) + 1]));
    assert!(too_long.one_error(1).contains("1048576"), "{}", too_long.err);
    // One byte less is legal: what fails then is the address.
    let mut command = machine.command(&["append", "-", "--addr", "127.0.0.1:9", "--certs", &ci, "--timeout", "300ms"]);
    said(command.write_stdin(vec![b'x'; 1 << 20])).one_error(3);
}

#[test]
fn certificates_are_made_once_and_checked() {
    let machine = Machine::with_certs();
    let certs = machine.path("certs");
    for file in ["ca.pem", "ca.key", "a1/ca.pem", "a1/cert.pem", "a1/key.pem", "ci/cert.pem", "ci/key.pem"] {
        assert!(Path::new(&certs).join(file).is_file(), "{file}");
    }
    machine.run(&["certs", "init", "--out", &certs]).one_error(10);
    machine.run(&["certs", "issue", "agent", "a1", "--out", &certs]).one_error(10);
    let inspected = machine.run(&["certs", "inspect", &machine.path("certs/ci"), "--format", "json"]).json();
    assert_eq!((&inspected["v"], &inspected["role"], &inspected["name"]), (&1.into(), &"append".into(), &"ci".into()));
    assert_eq!(machine.run(&["certs", "verify", &certs]).code, 0);
    assert_eq!(machine.run(&["certs", "verify", "--certs", &machine.path("certs/a1")]).code, 0);
    machine.run(&["certs", "inspect"]).one_error(2);
    assert_eq!(machine.run(&["certs", "verify", &machine.path("nothing")]).code, 9);
}

#[cfg(unix)]
#[test]
fn a_key_that_others_can_read_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let machine = Machine::with_certs();
    let key = machine.path("certs/a1/key.pem");
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(machine.path("certs/ca.key")).unwrap().permissions().mode() & 0o777, 0o600);
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let a1 = machine.path("certs/a1");
    let agent = machine.run(&["agent", "--certs", &a1, "--data", &machine.path("data")]);
    assert!(agent.one_error(78).contains("chmod 600"), "{}", agent.err);
    machine.run(&["members", "--addr", "127.0.0.1:9", "--certs", &a1]).one_error(78);
    assert_eq!(machine.run(&["certs", "verify", &a1]).code, 9);
}

#[test]
fn an_agent_that_cannot_start_says_which_setting_is_wrong() {
    let machine = Machine::with_certs();
    let (a1, data) = (machine.path("certs/a1"), machine.path("data"));
    let both = ["--certs", a1.as_str(), "--data", data.as_str()];
    let agent = |more: &[&str]| machine.run(&[&["agent"][..], &both, more].concat());
    assert!(machine.run(&["agent"]).one_error(78).contains("--data"));
    assert!(machine.run(&["agent", "--data", &data]).one_error(78).contains("--certs"));
    assert!(agent(&["--name", "b2"]).one_error(78).contains("a1"));
    let client = machine.run(&["agent", "--certs", &machine.path("certs/ci"), "--data", &data]);
    assert!(client.one_error(78).contains("client ci"));
    let missing = machine.run(&["agent", "--certs", &machine.path("certs/b2"), "--data", &data]);
    assert!(missing.one_error(78).contains("missing"));
    let lonely = agent(&["--advertise", "127.0.0.1:7373", "--join", "10.0.0.1:7373"]);
    assert!(lonely.one_error(78).contains("loopback"));
    agent(&["--log", "a=loud"]).one_error(78);
    agent(&["--tag", "a b=1"]).one_error(78);
    machine.run(&["agent", "--dev", "--join", "10.0.0.1:7373"]).one_error(78);
    machine.run(&["agent", "--dev", "--join", "127.0.0.1:9"]).one_error(78);
    machine.run(&["agent", "--dev", "--bind", "0.0.0.0:0"]).one_error(78);
    assert!(!Path::new(&data).exists(), "nothing was written");
}

#[test]
fn the_file_yields_to_the_environment_and_the_environment_to_flags() {
    let machine = Machine::with_certs();
    let file =
        machine.write("q.toml", &format!("name = \"x\"\ncerts = {:?}\ndata = \"d\"\n", machine.path("certs/a1")));
    let agent = ["agent", "--config", file.as_str()];
    assert!(machine.run(&agent).one_error(78).contains("--name x "));
    assert!(said(machine.command(&agent).env("QUORATE_NAME", "y")).one_error(78).contains("--name y "));
    let flagged = [&agent[..], &["--name", "z"]].concat();
    assert!(said(machine.command(&flagged).env("QUORATE_NAME", "y")).one_error(78).contains("--name z "));
    // An empty variable is as good as none.
    assert!(
        said(machine.command(&agent).env("QUORATE_NAME", "").env("QUORATE_JOIN", ""))
            .one_error(78)
            .contains("--name x ")
    );
}

#[test]
fn a_configuration_file_with_a_mistake_is_refused_with_line_and_reason() {
    let machine = Machine::new();
    for (text, says) in [
        ("\nadvertize = \"h:1\"\n", "line 2 (there is no key \"advertize\"); did you mean advertise?"),
        ("bind = 7\n", "line 1"),
        ("heartbeat_ms = 1\n", "heartbeat_ms (5 to 5000, this is 1)"),
        ("[tags\n", "line 1"),
    ] {
        let file = machine.write("q.toml", text);
        let said = machine.run(&["agent", "--config", &file]);
        assert!(said.one_error(78).contains(says), "{}", said.err);
    }
    let absent = machine.run(&["agent", "--config", &machine.path("absent.toml")]);
    assert!(absent.one_error(78).contains("absent.toml"));
}

/// The zoo of certificates (`certs/tests/zoo`): what the library says of each, the command line says in one line.
#[cfg(unix)]
#[test]
fn the_zoo_is_judged_in_one_line_each() {
    use std::os::unix::fs::PermissionsExt;
    let zoo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../certs/tests/zoo");
    let ours = fs::read_to_string(zoo.join("ours")).unwrap();
    let file = |name: &str, kind: &str| {
        let own = fs::read(zoo.join(format!("animals/{name}.{kind}.pem")));
        own.or_else(|_| fs::read(zoo.join(format!("animals/good.{kind}.pem")))).unwrap()
    };
    let machine = Machine::new();
    let plain = |text: &str| text.chars().all(|c| c == '\n' || !c.is_control()) && text.lines().count() == 1;
    let mut seen = [0, 0];
    let mut lines = ours.lines();
    while let (Some(name), Some(_), Some(_), Some(start)) = (lines.next(), lines.next(), lines.next(), lines.next()) {
        let dir = machine.path(name);
        fs::create_dir(&dir).unwrap();
        for kind in ["ca", "cert", "key"] {
            fs::write(format!("{dir}/{kind}.pem"), file(name, kind)).unwrap();
        }
        fs::set_permissions(format!("{dir}/key.pem"), fs::Permissions::from_mode(0o600)).unwrap();
        let good = start.ends_with("   ok");
        seen[usize::from(good)] += 1;
        let said = machine.run(&["certs", "verify", &dir]);
        assert!(plain(&said.out), "{name}: {}", said.out);
        if good {
            assert_eq!((said.code, said.err.as_str()), (0, ""), "{name}");
            assert!(said.out.starts_with("ok "), "{name}: {}", said.out);
        } else {
            assert!(said.out.starts_with("error "), "{name}: {}", said.out);
            assert_eq!(said.code, 9, "{name}");
            assert!(plain(&said.err), "{name}: {}", said.err);
        }
        let said = machine.run(&["certs", "inspect", &format!("{dir}/cert.pem")]);
        assert!(said.code == 0 || said.code == 78, "{name}: {}", said.code);
        assert!(said.code == 0 || plain(&said.err), "{name}: {}", said.err);
        assert!((said.out + &said.err).chars().all(|c| c == '\n' || !c.is_control()), "{name}");
    }
    assert!(seen[0] > 50 && seen[1] > 30, "{seen:?}");
    // Who would speak with one is told whether it is not authorised or wrongly configured.
    for (name, code) in
        [("expired", 4), ("root-expired", 4), ("root-stranger", 4), ("good", 3), ("version-1", 78), ("name-nul", 78)]
    {
        machine
            .run(&["status", "--addr", "127.0.0.1:9", "--certs", &machine.path(name), "--timeout", "300ms"])
            .one_error(code);
    }
}
