//! Which agent a command speaks with, and as whom.
//!
//! It never reads identity files that a descriptor outside this user's private directory names.

use super::Global;
use super::output::{CliError, Exit, Outcome};
use crate::api::{Code, Effect, Failure};
use crate::client::{Client, ClientError, ConnectOptions};
use crate::descriptor::{self, Descriptor};
use crate::limits::printable;
use quorate_certs::{CertsError, Identity};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// May any agent of the cluster answer, or is it about one?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whom {
    /// Any will do, and another one if that fails.
    Any,
    /// The one that was named, and no other.
    One,
}

/// Where the agents are that a command speaks with, and as whom it does.
pub(crate) struct Route {
    /// `HOST:PORT`, the most wanted first.
    pub(crate) addrs: Vec<String>,
    /// The directory of the identity files.
    pub(crate) certs: PathBuf,
    /// What they hold.
    pub(crate) identity: Identity,
}

/// The way to the agents that `--addr`, `--agent` or this machine name.
pub(crate) fn route(global: &Global, whom: Whom) -> Result<Route, CliError> {
    let to = |addrs, certs: &Path| Ok(Route { addrs, certs: certs.to_owned(), identity: load(certs)? });
    match (&global.addr, &global.certs) {
        (Some(addr), Some(certs)) => to(vec![addr.clone()], certs),
        (Some(addr), None) => {
            let local = descriptor::find().alive.into_iter().find(|agent| agent.addr == *addr);
            let Some(agent) = local else {
                let what = format!("--addr {addr} needs --certs (no agent of yours on this machine listens there)");
                return Err(CliError::new(Exit::Usage, what, "add --certs DIR with the identity to speak as"));
            };
            to(vec![addr.clone()], &agent.certs)
        }
        (None, certs) => {
            let agents = choose(descriptor::find(), global.agent.as_deref(), whom)?;
            let (certs, identity) = match certs {
                Some(certs) => (certs.clone(), load(certs)?),
                None => load_any(&agents)?,
            };
            Ok(Route { addrs: agents.into_iter().map(|agent| agent.addr).collect(), certs, identity })
        }
    }
}

/// A client for the agents that `--addr`, `--agent` or this machine name. Nothing is sent yet.
pub(crate) fn client(global: &Global, whom: Whom) -> Result<Client, CliError> {
    let Route { addrs, identity, .. } = route(global, whom)?;
    let options = ConnectOptions::new(addrs, Arc::new(identity)).timeout(global.timeout);
    let options = if whom == Whom::One { options.pinned() } else { options };
    Client::new(options).map_err(|e| CliError::from_sentence(Exit::Error, &e.to_string()))
}

fn load(certs: &Path) -> Result<Identity, CliError> {
    Identity::load(certs).map_err(|e| identity_error(&e))
}

/// Agents of one log may run as one user with different files; the first that can be read serves.
fn load_any(agents: &[Descriptor]) -> Result<(PathBuf, Identity), CliError> {
    let mut last = None;
    for agent in agents {
        match Identity::load(&agent.certs) {
            Ok(identity) => return Ok((agent.certs.clone(), identity)),
            Err(error) => last = Some(error),
        }
    }
    Err(last.map_or_else(|| CliError::new(Exit::Unreachable, "no agent is known", ""), |e| identity_error(&e)))
}

/// The agents to try: those of the log that is meant.
fn choose(found: descriptor::Found, name: Option<&str>, whom: Whom) -> Result<Vec<Descriptor>, CliError> {
    let refused = if found.refused.is_empty() { String::new() } else { format!(": {}", found.refused.join(", ")) };
    if found.alive.is_empty() {
        let what = format!("no running agent of yours was found on this machine (no descriptor{refused})");
        let next = "start one with `quorate agent`, or name one with --addr HOST:PORT --certs DIR";
        return Err(CliError::new(Exit::Unreachable, what, next));
    }
    let listed = choices(&found.alive);
    let named: Vec<Descriptor> =
        found.alive.into_iter().filter(|agent| name.is_none_or(|name| agent.name == name)).collect();
    let one_log = one_log(&named);
    if named.is_empty() {
        let what = format!("no agent {} runs here (there are {listed})", printable(name.unwrap_or_default()));
        return Err(CliError::new(Exit::Unreachable, what, "choose one of them with --agent NAME"));
    }
    match whom {
        Whom::One if named.len() > 1 => {
            let what = format!("several agents run here ({listed})");
            Err(CliError::new(Exit::Usage, what, "say which one with --agent NAME"))
        }
        Whom::Any if !one_log => {
            let what = format!("agents of several logs run here ({listed})");
            Err(CliError::new(Exit::Usage, what, "choose one with --agent NAME, or with --addr and --certs"))
        }
        _ => Ok(named),
    }
}

/// Those that have no log yet are about to join one; they count by their cluster.
fn one_log(agents: &[Descriptor]) -> bool {
    let logs: BTreeSet<_> = agents.iter().filter_map(|agent| agent.log_id.as_deref()).collect();
    let clusters: BTreeSet<_> = agents.iter().map(|agent| agent.cluster.as_str()).collect();
    logs.len() <= 1 && clusters.len() <= 1
}

fn choices(agents: &[Descriptor]) -> String {
    let each = agents.iter().map(|agent| {
        let log = agent.log_id.as_deref().map_or("no log yet".into(), |id| format!("log {}", &id[..id.len().min(8)]));
        printable(&format!("{} at {}, {log}", agent.name, agent.addr))
    });
    each.collect::<Vec<_>>().join("; ")
}

/// Why identity files cannot be used: bad files are bad configuration, bad dates are not authorised.
pub(crate) fn identity_error(error: &CertsError) -> CliError {
    let exit = match error {
        CertsError::Expired { .. }
        | CertsError::AuthorityExpired { .. }
        | CertsError::NotYetValid { .. }
        | CertsError::OtherAuthority { .. } => Exit::NotAuthorised,
        CertsError::Exists(_) => Exit::Refused,
        _ => Exit::Config,
    };
    CliError::from_sentence(exit, &error.to_string())
}

/// A client's error in the words and codes of the command line. `writes`: the command changes something.
pub(crate) fn error(error: ClientError, writes: bool) -> CliError {
    let plain = |exit, hint: &str| CliError::new(exit, error.to_string(), hint);
    let told = match &error {
        ClientError::Unreachable { .. } => plain(Exit::Unreachable, "check the address and that the agent runs"),
        ClientError::NotAuthorised { .. } => {
            plain(Exit::NotAuthorised, "use a certificate of this cluster with a role that allows it")
        }
        ClientError::Invalid { .. } => plain(Exit::Error, "shorten or rename it"),
        ClientError::Failed(failure) => of_failure(failure),
        ClientError::Unknown { .. } => {
            plain(Exit::Unknown, "read the log with `quorate tail` before you repeat it: it may stand there")
        }
        ClientError::TimedOut { .. } => {
            plain(Exit::NoQuorum, "it is safe to repeat it; `quorate status` says what is missing")
        }
        ClientError::Corrupt { .. } => plain(Exit::Corrupt, "ask another agent with --addr and report this"),
        ClientError::Protocol { .. } => plain(Exit::Error, "compare the versions with `quorate members`"),
    };
    let outcome = match error.effect() {
        _ if !writes => Outcome::None,
        Effect::NotApplied | Effect::None => Outcome::NotApplied,
        Effect::Unknown => Outcome::Unknown,
    };
    // An unknown outcome is exit 7 whatever caused it.
    let exit = if outcome == Outcome::Unknown { Exit::Unknown } else { told.exit };
    CliError { exit, ..told }.outcome(outcome)
}

/// The same for a command that may be given again whatever became of it: it names what shall be, not what to add.
pub(crate) fn error_of_wish(error: ClientError) -> CliError {
    let in_vain = matches!(error, ClientError::Unknown { .. });
    let told = self::error(error, true);
    let hint = "ask again: that is safe, whatever became of this";
    if in_vain { CliError { hint: hint.into(), ..told } } else { told }
}

fn of_failure(failure: &Failure) -> CliError {
    let exit = match failure.code {
        Code::NoQuorum | Code::Busy | Code::Unavailable | Code::NoSpace => Exit::NoQuorum,
        Code::Unknown => Exit::Unknown,
        Code::NotAuthorised => Exit::NotAuthorised,
        Code::Invalid => Exit::Error,
        Code::NotFound => Exit::NotFound,
        Code::Refused => Exit::Refused,
        Code::Conflict => Exit::Conflict,
        Code::Corrupt => Exit::Corrupt,
        Code::Late => Exit::WaitTimeout,
    };
    let error = CliError::new(exit, failure.what.clone(), failure.hint.clone());
    if failure.code == Code::NoSpace { error.word("no_space") } else { error }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent(name: &str, cluster: &str, log: Option<&str>) -> Descriptor {
        Descriptor {
            v: 1,
            name: name.into(),
            node: "1".into(),
            cluster: cluster.into(),
            log_id: log.map(str::to_owned),
            addr: format!("127.0.0.1:{}", name.len()),
            advertise: None,
            data: name.into(),
            certs: name.into(),
            pid: 1,
            dev: false,
        }
    }

    fn found(alive: Vec<Descriptor>) -> descriptor::Found {
        descriptor::Found { alive, refused: Vec::new() }
    }

    #[test]
    fn any_agent_of_the_only_log_serves() {
        let all = vec![agent("a", "c", Some("l")), agent("b", "c", Some("l")), agent("n", "c", None)];
        assert_eq!(choose(found(all), None, Whom::Any).unwrap().len(), 3);
    }

    #[test]
    fn agents_of_several_logs_are_listed_for_the_user_to_choose() {
        let all = || found(vec![agent("a", "c", Some("l1")), agent("b", "d", Some("l2"))]);
        let said = choose(all(), None, Whom::Any).unwrap_err();
        assert_eq!(said.exit, Exit::Usage);
        assert!(said.message.contains("a at") && said.message.contains("b at"), "{}", said.message);
        assert_eq!(choose(all(), Some("b"), Whom::Any).unwrap()[0].name, "b");
        assert_eq!(choose(all(), Some("z"), Whom::Any).unwrap_err().exit, Exit::Unreachable);
    }

    #[test]
    fn what_is_about_one_agent_never_picks_one_by_itself() {
        let all = || found(vec![agent("a", "c", Some("l")), agent("b", "c", Some("l"))]);
        assert_eq!(choose(all(), None, Whom::One).unwrap_err().exit, Exit::Usage);
        assert_eq!(choose(all(), Some("a"), Whom::One).unwrap().len(), 1);
    }

    #[test]
    fn nobody_running_is_not_reachable() {
        assert_eq!(choose(found(vec![]), None, Whom::Any).unwrap_err().exit, Exit::Unreachable);
    }

    #[test]
    fn what_may_be_asked_again_is_not_looked_for_in_the_log() {
        let unknown = || ClientError::Unknown { why: "late".into() };
        let (wish, append) = (error_of_wish(unknown()), error(unknown(), true));
        assert_eq!((wish.exit, wish.outcome, wish.exit), (Exit::Unknown, Outcome::Unknown, append.exit));
        assert!(wish.hint.starts_with("ask again") && append.hint.contains("quorate tail"), "{wish:?} {append:?}");
    }

    #[test]
    fn an_unknown_outcome_is_never_called_anything_else() {
        let unknown = Failure { code: Code::NoQuorum, effect: Effect::Unknown, what: "w".into(), hint: String::new() };
        assert_eq!(error(ClientError::Failed(unknown.clone()), true).exit, Exit::Unknown);
        assert_eq!(error(ClientError::Failed(unknown), false).exit, Exit::NoQuorum);
        let gone = ClientError::Protocol { why: "x".into() };
        assert_eq!(error(gone, true).outcome, Outcome::Unknown);
    }
}
