//! Machines with a network between them: one network namespace each, and a pair of interfaces for each two of them, so that
//! one way can be narrowed and the others are left alone.
//!
//! Everything lives in namespaces of its own, which end with it; they take root or user namespaces, and `ip`. Where these are
//! not to be had, a test says so and proves nothing.
#![cfg(target_os = "linux")]

use crate::cluster::Cluster;
use crate::said::Said;
use quorate_certs::Role;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

/// What a test says that cannot have one.
pub(crate) const NO_NETWORK: &str =
    "skipped: this system lets nobody make networks (`ip`, and root or user namespaces, are needed)";
/// What an interface takes when nothing is said about it.
const MTU_USUAL: u32 = 1_500;

/// Makes three machines: machine N has the address 10.73.0.N, and the interface `vNM` on the way to machine M.
const SCRIPT: &str = r#"
set -e
mount -t tmpfs none /run
mkdir -p /run/netns
for n in 1 2 3; do
    ip netns add m$n
    ip -n m$n link set lo up
    ip -n m$n addr add 10.73.0.$n/32 dev lo
done
for pair in 1:2 1:3 2:3; do
    a=${pair%:*} b=${pair#*:}
    ip link add v$a$b netns m$a type veth peer name v$b$a netns m$b
    ip -n m$a link set v$a$b up
    ip -n m$b link set v$b$a up
    ip -n m$a addr add 10.74.$a$b.1/24 dev v$a$b
    ip -n m$b addr add 10.74.$a$b.2/24 dev v$b$a
    ip -n m$a route add 10.73.0.$b via 10.74.$a$b.2 src 10.73.0.$a
    ip -n m$b route add 10.73.0.$a via 10.74.$a$b.1 src 10.73.0.$b
done
echo made
exec sleep 86400
"#;

/// Three machines.
pub(crate) struct Network {
    holder: Child,
    as_root: bool,
}

impl Network {
    /// `None` if this system lets nobody make one.
    pub(crate) fn new() -> Option<Self> {
        [true, false].into_iter().find_map(Self::try_new)
    }

    fn try_new(as_root: bool) -> Option<Self> {
        let mut command = Command::new("unshare");
        if !as_root {
            command.args(["--user", "--map-root-user"]);
        }
        command.args(["--net", "--mount", "sh", "-c", SCRIPT]);
        let mut holder = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().ok()?;
        let mut line = String::new();
        let _ = BufReader::new(holder.stdout.take()?).read_line(&mut line);
        let network = Self { holder, as_root };
        (line == "made\n").then_some(network)
    }

    /// A command in the namespaces of the machines. It keeps its process id.
    fn inside(&self) -> Command {
        let mut inside = Command::new("nsenter");
        inside.arg("--target").arg(self.holder.id().to_string()).args(["--mount", "--net"]);
        if !self.as_root {
            inside.args(["--user", "--preserve-credentials"]);
        }
        inside.arg("--").stdin(Stdio::null());
        inside
    }

    /// The same command, on this machine.
    fn on(&self, machine: u32, command: &Command) -> Command {
        let mut on = self.inside();
        on.args(["ip", "netns", "exec", &format!("m{machine}")]).arg(command.get_program()).args(command.get_args());
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => on.env(key, value),
                None => on.env_remove(key),
            };
        }
        on
    }

    /// Starts the agent `nN` on machine N.
    #[track_caller]
    pub(crate) fn start(&self, cluster: &mut Cluster, machine: u32, args: &[&str]) {
        let name = format!("n{machine}");
        let command = cluster.agent_command(&name, &format!("10.73.0.{machine}:7373"), args);
        cluster
            .spawn(&name, self.on(machine, &command))
            .unwrap_or_else(|code| panic!("agent {name} ended with {code}"));
    }

    /// Runs a command on machine N, through the agent there, as an administrator.
    #[track_caller]
    pub(crate) fn ask(&self, cluster: &Cluster, machine: u32, args: &[&str]) -> Said {
        let command = cluster.ask_command(&format!("n{machine}"), &cluster.client_certs("admin", Role::Admin), args);
        Said::by(&mut self.on(machine, &command))
    }

    /// Between these two nothing passes that is larger, and nobody is told.
    pub(crate) fn narrow(&self, a: u32, b: u32, mtu: u32) {
        for (at, to) in [(a, b), (b, a)] {
            let mut ip = self.inside();
            ip.args(["ip", "-n", &format!("m{at}"), "link", "set", &format!("v{at}{to}"), "mtu", &mtu.to_string()]);
            assert!(ip.status().unwrap().success(), "the MTU between {a} and {b}");
        }
    }

    /// As wide as before.
    pub(crate) fn widen(&self, a: u32, b: u32) {
        self.narrow(a, b, MTU_USUAL);
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
