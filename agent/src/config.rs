//! What an agent is told: `config.toml`, its keys, their bounds and defaults, and the options they become.
//!
//! It never reads the environment or the command line, and never repairs a value: what is out of bounds is refused
//! with file, line, reason and next step.

use crate::limits::{self, shown};
use quorate_certs::{CertsError, Identity};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use toml::de::DeTable;

/// The UDP port of an agent unless said otherwise.
pub const PORT_DEFAULT: u16 = 7373;
/// Most bytes of a configuration file.
pub const CONFIG_BYTES_MAX: u64 = 1 << 20;
/// Most seeds in `join`.
pub const SEEDS_MAX: usize = 64;
/// Most voters that `voters_target` may ask for; more cost every append a wider quorum.
pub const VOTERS_TARGET_MAX: u32 = 7;
/// Read to look for damage, in MiB a second: a log of 100 GiB in seven minutes, a fraction of what any disk can, and less
/// while writes suffer.
const SCRUB_MIB_PER_SECOND_DEFAULT: u32 = 256;
/// Faster than any disk today.
const SCRUB_MIB_PER_SECOND_MAX: u32 = 4096;
/// Most bytes that `disk_reserve_bytes` may keep free: a TiB. A tenth of the file system is never exceeded anyway.
pub const DISK_RESERVE_BYTES_MAX: u64 = 1 << 40;
/// Bounds of `heartbeat_ms`.
pub const HEARTBEAT_MS: std::ops::RangeInclusive<u64> = 5..=5_000;
/// The longest election timeout, in milliseconds.
pub const ELECTION_TIMEOUT_MS_MAX: u64 = 60_000;
/// An election timeout holds at least this many heartbeats, so that one lost packet deposes nobody.
pub const HEARTBEATS_PER_ELECTION_MIN: u64 = 3;

/// How gossip paces itself: for one machine, one site or several sites.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GossipProfile {
    /// All agents on one machine: fast probes.
    Local,
    /// One site.
    #[default]
    Lan,
    /// Several sites: slow and patient.
    Wan,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// The keys of `config.toml`. A key that is absent has its default.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The agent's name; by default the one in its certificate, and never another.
    pub name: Option<String>,
    /// The data directory. Required, except with `dev`.
    pub data: Option<PathBuf>,
    /// The UDP address to listen on.
    pub bind: SocketAddr,
    /// `HOST:PORT` at which others reach this agent; by default the address a seed saw.
    pub advertise: Option<String>,
    /// `HOST:PORT` of members to join.
    pub join: Vec<String>,
    /// Found a new cluster if nobody answers; ignored on a directory that holds a log.
    pub bootstrap: bool,
    /// Found a new cluster together with so many agents in all, all told the same; 0 for not. Ignored on a directory that
    /// holds a log.
    pub expect: u32,
    /// The directory with `ca.pem`, `cert.pem` and `key.pem`.
    pub certs: Option<PathBuf>,
    /// A log filter: `info`, or e.g. `info,quorate::server=debug`.
    pub log: String,
    /// How log lines are written.
    pub log_format: LogFormat,
    /// One machine, loopback only, certificates made on the spot.
    pub dev: bool,
    /// Most bytes of one record's value.
    pub record_bytes_max: usize,
    /// How often a leader shows that it lives, in milliseconds.
    pub heartbeat_ms: u64,
    /// Shortest election timeout, in milliseconds.
    pub election_timeout_ms_min: u64,
    /// Longest election timeout, in milliseconds.
    pub election_timeout_ms_max: u64,
    /// How many voters the autopilot grows the cluster to; odd.
    pub voters_target: u32,
    /// How fast the log is read to look for damage, in MiB a second; 0 for never.
    pub scrub_mib_per_second: u32,
    /// Free bytes below which the agent takes no more entries; 0 for none.
    pub disk_reserve_bytes: u64,
    /// How gossip paces itself. Members need not agree on it: each judges the others by its own patience.
    #[serde(alias = "gossip_profile")]
    pub profile: GossipProfile,
    /// Labels that all members see.
    pub tags: BTreeMap<String, String>,
}

/// What `profile` was called when it had no flag; still read.
const PROFILE_FORMERLY: &str = "gossip_profile";

/// All keys, as they are written in the file; a test keeps this list equal to the struct.
const KEYS: [&str; 20] = [
    "name",
    "data",
    "bind",
    "advertise",
    "join",
    "bootstrap",
    "expect",
    "certs",
    "log",
    "log_format",
    "dev",
    "record_bytes_max",
    "heartbeat_ms",
    "election_timeout_ms_min",
    "election_timeout_ms_max",
    "voters_target",
    "scrub_mib_per_second",
    "disk_reserve_bytes",
    "profile",
    "tags",
];

impl Default for Config {
    fn default() -> Self {
        Self {
            name: None,
            data: None,
            bind: SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, PORT_DEFAULT)),
            advertise: None,
            join: Vec::new(),
            bootstrap: false,
            expect: 0,
            certs: None,
            log: "info".into(),
            log_format: LogFormat::Text,
            dev: false,
            record_bytes_max: limits::RECORD_BYTES_MAX_DEFAULT,
            heartbeat_ms: 50,
            election_timeout_ms_min: 250,
            election_timeout_ms_max: 500,
            voters_target: 5,
            scrub_mib_per_second: SCRUB_MIB_PER_SECOND_DEFAULT,
            disk_reserve_bytes: limits::DISK_RESERVE_BYTES_DEFAULT,
            profile: GossipProfile::Lan,
            tags: BTreeMap::new(),
        }
    }
}

/// A configuration that cannot be used. Nothing was started or written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}; {next}")]
pub struct ConfigError {
    /// Which thing, and what is wrong with it.
    pub message: String,
    /// What to do.
    pub next: String,
}

impl ConfigError {
    /// An error about `what`.
    pub fn new(what: impl fmt::Display, why: impl fmt::Display, next: impl Into<String>) -> Self {
        Self { message: format!("{what} ({why})"), next: next.into() }
    }
}

impl From<CertsError> for ConfigError {
    /// The errors of certificates end with the next step too.
    fn from(error: CertsError) -> Self {
        let text = error.to_string();
        let (message, next) = text.rsplit_once("; ").unwrap_or((&text, "see `quorate certs verify`"));
        Self { message: message.to_owned(), next: next.to_owned() }
    }
}

/// A key whose value breaks its bound.
struct Bad {
    key: &'static str,
    why: String,
    next: String,
}

fn bad<T>(key: &'static str, why: impl fmt::Display, next: impl Into<String>) -> Result<T, Bad> {
    Err(Bad { key, why: why.to_string(), next: next.into() })
}

impl Config {
    /// Reads and checks the file at `path`.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let what = || format!("cannot read {}", path.display());
        let io = |e: std::io::Error| ConfigError::new(what(), e.to_string(), "check the path given with --config");
        let bytes_len = std::fs::metadata(path).map_err(io)?.len();
        if bytes_len > CONFIG_BYTES_MAX {
            let why = format!("it has {bytes_len} bytes, at most {CONFIG_BYTES_MAX} are read");
            return Err(ConfigError::new(what(), why, "is this the right file?"));
        }
        let text = std::fs::read_to_string(path).map_err(io)?;
        Self::parse(&text, &path.display().to_string())
    }

    /// Reads and checks `text`; `file` is what errors call it.
    pub fn parse(text: &str, file: &str) -> Result<Self, ConfigError> {
        let at = |line: usize| format!("{file} line {line}");
        let syntax = |e: toml::de::Error| {
            let line = e.span().map_or(1, |span| line_of(text, span.start));
            ConfigError::new(at(line), one_line(e.message()), "correct it; config.toml of the project shows every key")
        };
        let table = DeTable::parse(text).map_err(syntax)?;
        let lines: BTreeMap<&str, usize> =
            table.get_ref().keys().map(|key| (key.get_ref().as_ref(), line_of(text, key.span().start))).collect();
        if let Some((key, line)) = lines.iter().find(|(key, _)| !KEYS.contains(key) && **key != PROFILE_FORMERLY) {
            let why = format!("there is no key {}", shown(key));
            let next = match nearest(key, &KEYS) {
                Some(nearest) => format!("did you mean {nearest}?"),
                None => format!("the keys are {}", KEYS.join(", ")),
            };
            return Err(ConfigError::new(at(*line), why, next));
        }
        let config: Self = toml::from_str(text).map_err(syntax)?;
        config.bounds().map_err(|bad| {
            let line = lines.get(bad.key).copied().unwrap_or(1);
            ConfigError::new(format!("{}: {}", at(line), bad.key), bad.why, bad.next)
        })?;
        Ok(config)
    }

    /// Checks every bound again, after flags and environment were laid over the file; errors name the flag.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.bounds().map_err(|bad| ConfigError::new(format!("--{}", bad.key.replace('_', "-")), bad.why, bad.next))
    }

    fn bounds(&self) -> Result<(), Bad> {
        if let Some(name) = &self.name
            && let Err(why) = limits::check_name(name)
        {
            return bad("name", why, "choose another name, such as a1");
        }
        if self.data.as_ref().is_some_and(|path| path.as_os_str().is_empty()) {
            return bad("data", "it is empty", "name a directory, such as /var/lib/quorate");
        }
        if let Some(address) = &self.advertise {
            if let Err(why) = host_and_port(address) {
                return bad("advertise", why, "write it as HOST:PORT, such as 10.0.0.1:7373");
            }
            if address.parse::<SocketAddr>().is_ok_and(|a| a.ip().is_unspecified() || a.port() == 0) {
                return bad("advertise", format!("nobody can dial {address}"), "name an address that others can reach");
            }
        }
        if self.join.len() > SEEDS_MAX {
            return bad("join", format!("at most {SEEDS_MAX} seeds, these are {}", self.join.len()), "name fewer");
        }
        for seed in &self.join {
            if let Err(why) = host_and_port(seed) {
                return bad("join", why, "write each as HOST:PORT, such as 10.0.0.1:7373");
            }
        }
        if self.expect > 0 && !crate::pledge::is_expectable(self.expect as usize) {
            let why = format!("1, 3, 5 or 7 agents can found a log together, and this is {}", self.expect);
            return bad("expect", why, "start as many agents as you like with one of these: those beyond it join");
        }
        if self.expect > 0 && self.bootstrap {
            let why = "--bootstrap founds a log alone, --expect together with others";
            return bad("expect", why, "leave one of the two out");
        }
        if let Err(why) = limits::check_tags(&self.tags) {
            let key = if self.tags.is_empty() { "tags" } else { "tag" };
            return bad(key, why, "write tags as key=value");
        }
        self.tunables()
    }

    fn tunables(&self) -> Result<(), Bad> {
        let ceiling = limits::RECORD_BYTES_MAX_CEILING;
        if self.record_bytes_max == 0 || self.record_bytes_max > ceiling {
            return bad("record_bytes_max", format!("1 to {ceiling}, this is {}", self.record_bytes_max), CHOOSE);
        }
        if !HEARTBEAT_MS.contains(&self.heartbeat_ms) {
            let (low, high) = (HEARTBEAT_MS.start(), HEARTBEAT_MS.end());
            return bad("heartbeat_ms", format!("{low} to {high}, this is {}", self.heartbeat_ms), CHOOSE);
        }
        let least = self.heartbeat_ms * HEARTBEATS_PER_ELECTION_MIN;
        if self.election_timeout_ms_min < least {
            let why = format!("at least {HEARTBEATS_PER_ELECTION_MIN} heartbeats, which is {least}");
            return bad("election_timeout_ms_min", why, "raise it or lower heartbeat_ms");
        }
        let (low, high) = (self.election_timeout_ms_min, self.election_timeout_ms_max);
        if high <= low || high > ELECTION_TIMEOUT_MS_MAX {
            let why = format!("more than election_timeout_ms_min ({low}), at most {ELECTION_TIMEOUT_MS_MAX}");
            return bad("election_timeout_ms_max", why, "twice the shortest is a good choice");
        }
        if self.voters_target.is_multiple_of(2) || self.voters_target > VOTERS_TARGET_MAX {
            let why = format!("an odd number up to {VOTERS_TARGET_MAX}, this is {}", self.voters_target);
            return bad("voters_target", why, "use 3 or 5: an even number of voters tolerates no more failures");
        }
        if self.scrub_mib_per_second > SCRUB_MIB_PER_SECOND_MAX {
            let why = format!("0 to {SCRUB_MIB_PER_SECOND_MAX}, this is {}", self.scrub_mib_per_second);
            return bad("scrub_mib_per_second", why, CHOOSE);
        }
        if self.disk_reserve_bytes > DISK_RESERVE_BYTES_MAX {
            let why = format!("at most {DISK_RESERVE_BYTES_MAX}, this is {}", self.disk_reserve_bytes);
            return bad("disk_reserve_bytes", why, CHOOSE);
        }
        Ok(())
    }
}

const CHOOSE: &str = "choose a value within these bounds";

/// Is this `HOST:PORT` with a port that can be dialled? IPv6 addresses stand in brackets.
pub fn host_and_port(text: &str) -> Result<(), String> {
    let (host, port) = text.rsplit_once(':').ok_or_else(|| format!("{} has no port", shown(text)))?;
    if host.is_empty() || port.parse::<u16>().is_err() {
        return Err(format!("{} is not HOST:PORT", shown(text)));
    }
    let bracketed = host.starts_with('[') && host.ends_with(']');
    if bracketed && text.parse::<SocketAddr>().is_err() {
        return Err(format!("{} holds no IPv6 address", shown(text)));
    }
    if !bracketed && host.contains(':') {
        return Err(format!("{} is ambiguous: an IPv6 address stands in brackets", shown(text)));
    }
    if !bracketed && !host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b)) {
        return Err(format!("{} holds a character that no host name has", shown(text)));
    }
    Ok(())
}

fn line_of(text: &str, at: usize) -> usize {
    1 + text.as_bytes().iter().take(at).filter(|&&b| b == b'\n').count()
}

/// Messages of the TOML parser may quote the file and span lines.
fn one_line(message: &str) -> String {
    limits::printable(&message.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// The known key that is meant.
fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    crate::spelling::nearest(&word.replace('-', "_"), known.iter().copied())
}

/// A complete, checked order to run one agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentOptions {
    /// The name, as in the certificate.
    pub name: String,
    /// The data directory; created if absent.
    pub data: PathBuf,
    /// The UDP address to listen on.
    pub bind: SocketAddr,
    /// `HOST:PORT` at which others reach this agent; `None`: the address a seed sees.
    pub advertise: Option<String>,
    /// `HOST:PORT` of members to join; names are resolved again at each try.
    pub join: Vec<String>,
    /// Found a new cluster if nobody answers.
    pub bootstrap: bool,
    /// Found a new cluster together with so many agents in all; 0 for not.
    pub expect: u32,
    /// The directory with `ca.pem`, `cert.pem` and `key.pem`; read again at SIGHUP.
    pub certs: PathBuf,
    /// Labels that all members see.
    pub tags: BTreeMap<String, String>,
    /// One machine, loopback only.
    pub dev: bool,
    /// Most bytes of one record's value.
    pub record_bytes_max: usize,
    /// How often a leader shows that it lives.
    pub heartbeat: Duration,
    /// Shortest election timeout.
    pub election_timeout_min: Duration,
    /// Longest election timeout.
    pub election_timeout_max: Duration,
    /// How many voters the autopilot grows the cluster to; odd.
    pub voters_target: u32,
    /// Bytes a second that may be read to look for damage; 0 for never.
    pub scrub_bytes_per_second: u64,
    /// Free bytes below which the agent takes no more entries, at most a tenth of its file system; 0 for none.
    pub disk_reserve_bytes: u64,
    /// How gossip paces itself.
    pub gossip_profile: GossipProfile,
}

/// What the server asks of the program around it.
pub struct AgentHooks {
    /// On SIGHUP: read the configuration file again and apply what can change while running (the log level). Answers
    /// what was done, or why nothing was.
    pub reload: Box<dyn Fn() -> Result<String, String> + Send + Sync>,
}

impl Default for AgentHooks {
    /// Nothing can be reloaded.
    fn default() -> Self {
        Self { reload: Box::new(|| Ok("nothing to reload".into())) }
    }
}

impl AgentOptions {
    /// Turns a checked configuration into options: data and certificates must be known, and the name is the
    /// certificate's.
    pub fn resolve(config: &Config) -> Result<Self, ConfigError> {
        config.check()?;
        let data = config.data.clone().ok_or_else(|| {
            ConfigError::new(
                "--data is missing",
                "an agent keeps its log there",
                "add --data DIR, or --dev to try it out",
            )
        })?;
        let certs = config.certs.clone().ok_or_else(|| {
            let next = "make them with `quorate certs init` and `quorate certs issue agent NAME`, or use --dev";
            ConfigError::new("--certs is missing", "agents prove who they are by certificates", next)
        })?;
        let identity = Identity::load(&certs)?;
        if !identity.subject().is_agent() {
            let why = format!("it is the certificate of {}", identity.subject());
            let next = "issue one with `quorate certs issue agent NAME`";
            return Err(ConfigError::new(format!("{} is not for an agent", certs.display()), why, next));
        }
        let name = identity.subject().name().as_str().to_owned();
        if let Some(asked) = &config.name
            && *asked != name
        {
            let why = format!("the certificate in {} says {name}", certs.display());
            let next = "leave --name out or use the certificate of that name";
            return Err(ConfigError::new(format!("--name {asked} is not this agent's name"), why, next));
        }
        config.refuse_lonely_advertise()?;
        Ok(Self {
            name,
            data,
            bind: config.bind,
            advertise: config.advertise.clone(),
            join: config.join.clone(),
            bootstrap: config.bootstrap,
            expect: config.expect,
            certs,
            tags: config.tags.clone(),
            dev: config.dev,
            record_bytes_max: config.record_bytes_max,
            heartbeat: Duration::from_millis(config.heartbeat_ms),
            election_timeout_min: Duration::from_millis(config.election_timeout_ms_min),
            election_timeout_max: Duration::from_millis(config.election_timeout_ms_max),
            voters_target: config.voters_target,
            scrub_bytes_per_second: u64::from(config.scrub_mib_per_second) << 20,
            disk_reserve_bytes: config.disk_reserve_bytes,
            gossip_profile: config.profile,
        })
    }
}

impl Config {
    /// A loopback address means "this machine" to everybody: others would dial themselves.
    fn refuse_lonely_advertise(&self) -> Result<(), ConfigError> {
        let remote = self.join.iter().find(|seed| !is_loopback(seed));
        let own = match &self.advertise {
            Some(address) => is_loopback(address).then(|| ("--advertise", address.clone())),
            None => self.bind.ip().is_loopback().then(|| ("--bind", self.bind.to_string())),
        };
        match (own, remote) {
            (Some((flag, own)), Some(seed)) => Err(ConfigError::new(
                format!("{flag} {own} cannot be reached from {seed}"),
                "a loopback address means this machine to whoever dials it",
                "use an address of this machine that the other members reach",
            )),
            _ => Ok(()),
        }
    }
}

/// Does this `HOST:PORT` surely mean this machine? A name other than `localhost` may mean any.
#[must_use]
pub fn is_loopback(address: &str) -> bool {
    match address.parse::<SocketAddr>() {
        Ok(address) => address.ip().to_canonical().is_loopback(),
        Err(_) => address.rsplit_once(':').is_some_and(|(host, _)| host == "localhost"),
    }
}

#[cfg(test)]
mod tests;
