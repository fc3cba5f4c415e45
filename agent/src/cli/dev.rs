//! `--dev`: an agent on this machine without any configuration. Makes the authority, the cluster id and the identity
//! that other agents are given by hand.
//!
//! It never leaves loopback, and never uses the authority of a real cluster.

use super::output::{CliError, Exit, Ui};
use crate::config::{Config, ConfigError, GossipProfile, PORT_DEFAULT, is_loopback};
use crate::descriptor;
use quorate_certs::{AgentName, Authority, CertsError, ClusterId, Identity, Scope, Subject, Validity};
use std::net::{Ipv4Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Where identity files lie in the data directory of such an agent.
const IDENTITY: &str = "identity";
/// The name of the authority's directory.
const AUTHORITY: &str = "dev-ca";

/// What must live as long as the agent.
pub(crate) struct DevHome {
    /// Removed when the agent has ended.
    _temporary: Option<TempDir>,
}

/// Fills in what `--dev` stands for; says on stderr where the data lives.
pub(crate) fn prepare(config: &mut Config, ui: &Ui) -> Result<DevHome, CliError> {
    refuse_remote(config)?;
    if config.certs.is_some() {
        let why = "--dev makes its own certificates";
        return Err(ConfigError::new("--certs cannot go with --dev", why, "leave one of the two out").into());
    }
    let name = match &config.name {
        Some(name) => name.clone(),
        None => default_name(),
    };
    let agent = AgentName::new(&name).map_err(|e| refused(&e.into()))?;
    let (data, temporary) = match &config.data {
        Some(data) => (data.clone(), None),
        None => {
            let dir = tempfile::Builder::new().prefix(&format!("quorate-dev-{name}-")).tempdir();
            let dir = dir.map_err(|e| CliError::system("cannot make a temporary directory", &e, "use --data DIR"))?;
            (dir.path().to_owned(), Some(dir))
        }
    };
    let certs = data.join(IDENTITY);
    let joined = config.join.first().map(|seed| cluster_at(seed)).transpose()?;
    let cluster = identity(&certs, agent, joined)?;
    config.name = Some(name.clone());
    config.bootstrap = config.join.is_empty();
    config.bind = bind(config.bind);
    config.certs = Some(certs);
    config.profile = GossipProfile::Local;
    let kept = if temporary.is_some() { "removed when the agent ends; --data DIR keeps it" } else { "kept" };
    ui.note(&format!("{name}: a development agent of cluster {cluster}, on loopback only"));
    ui.note(&format!("{name}: data in {} ({kept})", data.display()));
    ui.note(&format!(
        "{name}: try `quorate append hello` and `quorate tail`; more agents: quorate agent --dev --name b --join {}",
        config.join.first().cloned().unwrap_or_else(|| config.bind.to_string())
    ));
    config.data = Some(data);
    Ok(DevHome { _temporary: temporary })
}

fn refused(error: &CertsError) -> CliError {
    CliError::from_sentence(Exit::Config, &error.to_string())
}

fn refuse_remote(config: &Config) -> Result<(), ConfigError> {
    let next = "leave --dev out and use certificates (`quorate certs`) for more than one machine";
    let default_bind = Config::default().bind;
    if config.bind != default_bind && !config.bind.ip().to_canonical().is_loopback() {
        return Err(ConfigError::new(format!("--bind {}", config.bind), "--dev listens on loopback only", next));
    }
    let remote = config.advertise.iter().chain(&config.join).find(|address| !is_loopback(address));
    match remote {
        Some(address) => {
            Err(ConfigError::new(format!("{address} is not on this machine"), "--dev is for one machine", next))
        }
        None => Ok(()),
    }
}

/// The host's name if it is a legal one, else `dev`.
fn default_name() -> String {
    #[cfg(unix)]
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    #[cfg(not(unix))]
    let host = std::env::var("COMPUTERNAME").unwrap_or_default();
    let short = host.split('.').next().unwrap_or_default().to_ascii_lowercase();
    if AgentName::new(&short).is_ok() { short } else { "dev".into() }
}

/// The usual port on loopback if it is free, else one that the system chooses: known now, so that it can be said.
fn bind(asked: SocketAddr) -> SocketAddr {
    if asked.ip().to_canonical().is_loopback() {
        return asked;
    }
    let on = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let free = |port| UdpSocket::bind(on(port)).and_then(|socket| socket.local_addr());
    free(PORT_DEFAULT).or_else(|_| free(0)).unwrap_or(on(0))
}

/// The cluster of the development agent that listens at `seed`, from its descriptor.
fn cluster_at(seed: &str) -> Result<ClusterId, CliError> {
    let found = descriptor::find();
    let addresses: Vec<SocketAddr> = seed.to_socket_addrs().map(Iterator::collect).unwrap_or_default();
    let listens = |text: &str| text.parse::<SocketAddr>().is_ok_and(|addr| addresses.contains(&addr));
    let there = found.alive.iter().find(|agent| agent.addr == seed || listens(&agent.addr));
    let refuse = |what: String, why: &str| {
        let next = "start one with `quorate agent --dev`, or use certificates (`quorate certs`)";
        Err(CliError::new(Exit::Config, format!("{what} ({why})"), next))
    };
    match there {
        None => {
            let known: Vec<_> = found.alive.iter().filter(|agent| agent.dev).map(|agent| agent.addr.as_str()).collect();
            let why = match known.as_slice() {
                [] => "no agent of yours runs on this machine".to_owned(),
                known => format!("development agents run at {}", known.join(", ")),
            };
            refuse(format!("no development agent of yours listens at {seed}"), &why)
        }
        Some(agent) if !agent.dev => {
            refuse(format!("the agent at {seed} was not started with --dev"), "its authority is not at hand")
        }
        Some(agent) => agent
            .cluster
            .parse()
            .or_else(|_| refuse(format!("the descriptor of {seed} names no cluster"), "it is damaged")),
    }
}

/// Takes the identity in `certs`, or issues one there: for the cluster that is joined, else for a fresh one.
fn identity(certs: &Path, name: AgentName, joined: Option<ClusterId>) -> Result<ClusterId, CliError> {
    if certs.join("cert.pem").exists() {
        let identity = Identity::load(certs).map_err(|e| refused(&e))?;
        return match joined {
            Some(cluster) if cluster != identity.cluster() => Err(CliError::new(
                Exit::Config,
                format!(
                    "{} belongs to cluster {} (the agent to join is of {cluster})",
                    certs.display(),
                    identity.cluster()
                ),
                "use another --data directory",
            )),
            _ => Ok(identity.cluster()),
        };
    }
    let authority = authority()?;
    let cluster = match joined {
        Some(cluster) => cluster,
        None => ClusterId::random().map_err(|e| refused(&e))?,
    };
    let issued = authority.issue(&Subject::agent(cluster, name), Validity::default()).map_err(|e| refused(&e))?;
    issued.save(certs).map_err(|e| refused(&e))?;
    Ok(cluster)
}

/// The development authority of this user, made at the first use.
///
/// It is made beside its place and renamed: of two agents that start at once, one wins and both use the winner's.
fn authority() -> Result<Authority, CliError> {
    let home = authority_home()?;
    let place = home.join(AUTHORITY);
    if !place.join("ca.pem").exists() {
        let io =
            |e: std::io::Error| CliError::system(&format!("cannot make {}", place.display()), &e, "check its owner");
        std::fs::create_dir_all(&home).map_err(io)?;
        let draft = tempfile::Builder::new().prefix("dev-ca-").tempdir_in(&home).map_err(io)?;
        let made = draft.path().join(AUTHORITY);
        Authority::create_dev().and_then(|authority| authority.save(&made)).map_err(|e| refused(&e))?;
        if let Err(error) = std::fs::rename(&made, &place)
            && !place.join("ca.pem").exists()
        {
            return Err(io(error));
        }
    }
    match descriptor::usable(&place, false) {
        Ok(true) => {}
        Ok(false) => return Err(CliError::system("the development authority vanished", &place.display(), "try again")),
        Err(error) => return Err(CliError::from_sentence(Exit::Config, &error.to_string())),
    }
    let authority = Authority::load(&place).map_err(|e| refused(&e))?;
    match authority.scope() {
        Scope::Dev => Ok(authority),
        Scope::Cluster(cluster) => Err(CliError::new(
            Exit::Config,
            format!("{} holds the authority of cluster {cluster} (not one made by --dev)", place.display()),
            "move it away",
        )),
    }
}

/// `$XDG_DATA_HOME/quorate`, else `~/.local/share/quorate`.
fn authority_home() -> Result<PathBuf, CliError> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let home = variable("XDG_DATA_HOME")
        .filter(|path| path.is_absolute())
        .or_else(|| variable("HOME").map(|home| home.join(".local/share")))
        .or_else(|| variable("LOCALAPPDATA"));
    home.map(|home| home.join("quorate")).ok_or_else(|| {
        CliError::new(
            Exit::Config,
            "there is no place for the development authority (HOME is not set)",
            "set XDG_DATA_HOME",
        )
    })
}
