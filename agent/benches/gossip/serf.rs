//! Agents of Serf, as its own log lines tell of them. It measures nothing but times.

use super::Fleet;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::UdpSocket;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(120);

/// What an agent's log said of another one, and when the line came.
struct Said {
    at: Instant,
    by: usize,
    of: usize,
    failed: bool,
}

pub(crate) struct Serf {
    agents: Vec<Child>,
    addrs: Vec<String>,
    rpc: Vec<String>,
    profile: String,
    lines: Receiver<Said>,
    said: Sender<Said>,
    full: Duration,
}

impl Serf {
    pub(crate) fn start(n: usize, profile: &str) -> Self {
        let (said, lines) = channel();
        let ports: Vec<UdpSocket> = (0..2 * n).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
        let mut addrs: Vec<String> = ports.iter().map(|port| port.local_addr().unwrap().to_string()).collect();
        drop(ports);
        let rpc = addrs.split_off(n);
        let mut serf =
            Self { agents: Vec::new(), addrs, rpc, profile: profile.into(), lines, said, full: Duration::ZERO };
        let first = serf.spawn(0);
        serf.agents.push(first);
        // It tells of itself when it listens.
        let begun = serf.until("the first listens", false, |by, of| (by, of) == (0, 0), 1).pop_first().unwrap().1;
        for agent in 1..n {
            let child = serf.spawn(agent);
            serf.agents.push(child);
        }
        let seen = serf.until("all are full", false, |by, of| by != of, n * (n - 1));
        serf.full = seen.values().max().unwrap().saturating_duration_since(begun);
        serf
    }

    fn spawn(&self, agent: usize) -> Child {
        let mut command = Command::new("serf");
        command.args(["agent", "-node", &format!("n{agent}"), "-bind", &self.addrs[agent]]);
        command.args(["-rpc-addr", &self.rpc[agent], "-profile", &self.profile, "-log-level", "info"]);
        if agent > 0 || !self.agents.is_empty() {
            command.args(["-join", &self.addrs[usize::from(agent == 0)]]);
        }
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let said = self.said.clone();
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                let Some((_, event)) = line.split_once("EventMember") else { continue };
                let failed = event.starts_with("Failed");
                let name = event.split_once(": n").and_then(|(_, rest)| rest.split_whitespace().next());
                let Some(of) = name.and_then(|name| name.parse().ok()) else { continue };
                if (failed || event.starts_with("Join"))
                    && said.send(Said { at: Instant::now(), by: agent, of, failed }).is_err()
                {
                    return;
                }
            }
        });
        child
    }

    /// Reads lines until so many different pairs have said it; when each did first.
    fn until(
        &self,
        what: &str,
        failed: bool,
        counts: impl Fn(usize, usize) -> bool,
        pairs: usize,
    ) -> BTreeMap<(usize, usize), Instant> {
        let mut seen = BTreeMap::new();
        while seen.len() < pairs {
            let said = self.lines.recv_timeout(PATIENCE);
            let said = said.unwrap_or_else(|_| panic!("waited in vain until {what}: {} of {pairs}", seen.len()));
            if said.failed == failed && counts(said.by, said.of) {
                seen.entry((said.by, said.of)).or_insert(said.at);
            }
        }
        seen
    }
}

impl Fleet for Serf {
    fn full(&self) -> Duration {
        self.full
    }

    fn pids(&self) -> Vec<u32> {
        self.agents.iter().map(Child::id).collect()
    }

    fn kill(&mut self, agent: usize) -> (Duration, Duration) {
        while self.lines.try_recv().is_ok() {}
        let begun = Instant::now();
        self.agents[agent].kill().unwrap();
        self.agents[agent].wait().unwrap();
        let others = self.agents.len() - 1;
        let seen = self.until("all know", true, |by, of| of == agent && by != agent, others);
        let (first, last) = (seen.values().min().unwrap(), seen.values().max().unwrap());
        (first.duration_since(begun), last.duration_since(begun))
    }

    fn restart(&mut self, agent: usize) {
        self.agents[agent] = self.spawn(agent);
        let others = self.agents.len() - 1;
        self.until("all have it again", false, |by, of| of == agent && by != agent, others);
    }
}

impl Drop for Serf {
    fn drop(&mut self) {
        for child in &mut self.agents {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
