//! What processes and the machine have used, as the kernel counts it (Linux; elsewhere nothing is told).
//!
//! It never guesses: a process that cannot be read is left out, and a sum that misses one is not told.

use super::load::Window;
use serde::Serialize;
use tokio::time::sleep_until;

/// One process at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(super) struct Process {
    /// CPU seconds since it started, its own and the kernel's for it.
    pub(super) cpu_s: f64,
    /// Resident bytes.
    pub(super) rss: u64,
    /// The most resident bytes it ever had.
    pub(super) rss_peak: u64,
    /// Open descriptors.
    pub(super) descriptors: u64,
}

/// CPU seconds of the whole machine since it started.
#[derive(Clone, Copy, Debug, Default)]
struct Machine {
    busy_s: f64,
    stolen_s: f64,
}

/// What was used in the window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(super) struct Used {
    /// CPU seconds of all agents together, if all of them could be read.
    pub(super) agents_cpu_s: Option<f64>,
    /// CPU seconds of the load itself.
    pub(super) clients_cpu_s: Option<f64>,
    /// CPU seconds of everything else on this machine.
    pub(super) others_cpu_s: Option<f64>,
    /// CPU seconds that a hypervisor kept for others.
    pub(super) stolen_cpu_s: Option<f64>,
}

/// Waits for the window and tells what was used in it.
pub(super) async fn within(window: Window, agents: &[u32], clients: &[u32]) -> Used {
    sleep_until(window.from).await;
    let before = Snapshot::take(agents, clients);
    sleep_until(window.to).await;
    Snapshot::take(agents, clients).since(&before)
}

struct Snapshot {
    agents: Option<f64>,
    clients: Option<f64>,
    machine: Option<Machine>,
}

impl Snapshot {
    fn take(agents: &[u32], clients: &[u32]) -> Self {
        let sum = |pids: &[u32]| pids.iter().map(|pid| cpu_s(*pid)).sum::<Option<f64>>();
        let agents = if agents.is_empty() { None } else { sum(agents) };
        Self { agents, clients: sum(clients), machine: machine() }
    }

    fn since(&self, before: &Self) -> Used {
        let less = |after: Option<f64>, before: Option<f64>| Some((after? - before?).max(0.0));
        let (agents, clients) = (less(self.agents, before.agents), less(self.clients, before.clients));
        let machine = |of: fn(&Machine) -> f64| less(self.machine.as_ref().map(of), before.machine.as_ref().map(of));
        let ours = agents.zip(clients).map(|(a, c)| a + c);
        Used {
            agents_cpu_s: agents,
            clients_cpu_s: clients,
            others_cpu_s: machine(|machine| machine.busy_s).zip(ours).map(|(busy, ours)| (busy - ours).max(0.0)),
            stolen_cpu_s: machine(|machine| machine.stolen_s),
        }
    }
}

/// CPUs that this process may use.
pub(super) fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, Into::into)
}

#[cfg(target_os = "linux")]
mod kernel {
    use super::{Machine, Process};
    use std::fs;

    fn ticks_per_s() -> f64 {
        rustix::param::clock_ticks_per_second() as f64
    }

    /// The fields behind the command's name, which may hold anything: user and system time are the 12th and 13th.
    fn stat_cpu_ticks(stat: &str) -> Option<u64> {
        let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
        let mut next = || fields.next()?.parse::<u64>().ok();
        Some(next()? + next()?)
    }

    /// `VmRSS:     1234 kB`
    fn status_bytes(status: &str, key: &str) -> Option<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
        Some(line.split_ascii_whitespace().next()?.parse::<u64>().ok()? * 1024)
    }

    /// `cpu  user nice system idle iowait irq softirq steal guest guest_nice`
    fn machine_ticks(stat: &str) -> Option<(u64, u64)> {
        let line = stat.lines().find(|line| line.starts_with("cpu "))?;
        let fields: Option<Vec<u64>> = line.split_ascii_whitespace().skip(1).map(|n| n.parse().ok()).collect();
        let fields = fields?;
        let at = |i: usize| fields.get(i).copied().unwrap_or(0);
        Some((at(0) + at(1) + at(2) + at(5) + at(6), at(7)))
    }

    pub(super) fn cpu_s(pid: u32) -> Option<f64> {
        Some(stat_cpu_ticks(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)? as f64 / ticks_per_s())
    }

    pub(super) fn process(pid: u32) -> Option<Process> {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count();
        Some(Process {
            cpu_s: cpu_s(pid)?,
            rss: status_bytes(&status, "VmRSS")?,
            rss_peak: status_bytes(&status, "VmHWM")?,
            descriptors: descriptors as u64,
        })
    }

    pub(super) fn machine() -> Option<Machine> {
        let (busy, stolen) = machine_ticks(&fs::read_to_string("/proc/stat").ok()?)?;
        Some(Machine { busy_s: busy as f64 / ticks_per_s(), stolen_s: stolen as f64 / ticks_per_s() })
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn the_kernels_files_read_as_written() {
            let stat = "42 (a) b) c) S 1 42 42 0 -1 4194560 1 2 3 4 700 31 0 0 20 0 4 0 9 10 11";
            assert_eq!(stat_cpu_ticks(stat), Some(731));
            let status = "Name:\tx\nVmHWM:\t  2048 kB\nVmRSS:\t    10 kB\n";
            assert_eq!(status_bytes(status, "VmHWM"), Some(2 << 20));
            assert_eq!(status_bytes(status, "VmSwap"), None);
            let machine = "cpu  100 20 30 1000 5 6 7 8 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n";
            assert_eq!(machine_ticks(machine), Some((163, 8)));
            for junk in ["", "42", "42 (x) S 1", "cpu x y"] {
                assert_eq!((stat_cpu_ticks(junk), machine_ticks(junk)), (None, None), "{junk}");
            }
        }

        #[test]
        fn this_process_is_seen() {
            let here = process(std::process::id()).unwrap();
            assert!(here.rss > 0 && here.rss_peak >= here.rss && here.descriptors >= 3, "{here:?}");
            assert!(machine().unwrap().busy_s > 0.0);
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod kernel {
    use super::{Machine, Process};

    pub(super) fn cpu_s(_: u32) -> Option<f64> {
        None
    }

    pub(super) fn process(_: u32) -> Option<Process> {
        None
    }

    pub(super) fn machine() -> Option<Machine> {
        None
    }
}

use kernel::{cpu_s, machine};

/// A process as it is now.
pub(super) fn process(pid: u32) -> Option<Process> {
    kernel::process(pid)
}
