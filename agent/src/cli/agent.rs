//! `quorate agent`: from file, environment and flags to the options of one running agent.
//!
//! It never runs the cluster itself: that is `server`.

use super::output::{CliError, Exit, Format, Ui};
use super::{Global, address, dev, logging, pair, switch};
use crate::config::{AgentHooks, AgentOptions, Config, ConfigError, GossipProfile, LogFormat};
use clap::{Args, ValueEnum};
use std::net::SocketAddr;
use std::path::PathBuf;

/// What one agent can be told on the command line; the rest is in the configuration file.
#[derive(Clone, Debug, Args)]
pub(crate) struct AgentArgs {
    /// A configuration file; flags and environment win over it
    #[arg(long, env = "QUORATE_CONFIG", hide_env = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The agent's name: the one in its certificate; with --dev any
    #[arg(long, env = "QUORATE_NAME", hide_env = true, value_name = "NAME")]
    name: Option<String>,
    /// Where the log and the node key live; required without --dev
    #[arg(long, env = "QUORATE_DATA", hide_env = true, value_name = "DIR")]
    data: Option<PathBuf>,
    /// The UDP address to listen on [default: [::]:7373]
    #[arg(long, env = "QUORATE_BIND", hide_env = true, value_name = "ADDR")]
    bind: Option<SocketAddr>,
    /// The address at which others reach this agent; by default the one a seed sees
    #[arg(long, env = "QUORATE_ADVERTISE", hide_env = true, value_name = "HOST:PORT", value_parser = address)]
    advertise: Option<String>,
    /// Members to join, separated by commas
    #[arg(long, env = "QUORATE_JOIN", hide_env = true, value_name = "HOST:PORT", value_delimiter = ',', value_parser = address)]
    join: Vec<String>,
    /// Found a new cluster if nobody answers; ignored once there is a log
    #[arg(
        long,
        env = "QUORATE_BOOTSTRAP",
        hide_env = true,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        hide_possible_values = true,
        value_parser = switch()
    )]
    bootstrap: Option<bool>,
    /// Found a new cluster together: so many agents in all (1, 3, 5 or 7), each started with the same; ignored once there is a log
    #[arg(long, env = "QUORATE_EXPECT", hide_env = true, value_name = "N")]
    expect: Option<u32>,
    /// A label that all members see; may be given again
    #[arg(long, env = "QUORATE_TAG", hide_env = true, value_name = "KEY=VALUE", value_delimiter = ',', value_parser = pair)]
    tag: Vec<(String, String)>,
    /// One machine, no configuration: certificates are made on the spot
    #[arg(
        long,
        env = "QUORATE_DEV",
        hide_env = true,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        hide_possible_values = true,
        value_parser = switch()
    )]
    dev: Option<bool>,
    /// How log lines are written [default: text]
    #[arg(long, env = "QUORATE_LOG_FORMAT", hide_env = true, value_name = "FORMAT", value_enum)]
    log_format: Option<Format>,
    /// How gossip paces itself: one machine, one site or several [default: lan, with --dev local]
    #[arg(long, env = "QUORATE_PROFILE", hide_env = true, value_name = "PROFILE", value_enum)]
    profile: Option<Profile>,
}

/// [`GossipProfile`] as a word of the command line.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Profile {
    Local,
    Lan,
    Wan,
}

impl From<Profile> for GossipProfile {
    fn from(profile: Profile) -> Self {
        match profile {
            Profile::Local => Self::Local,
            Profile::Lan => Self::Lan,
            Profile::Wan => Self::Wan,
        }
    }
}

/// Runs an agent until it is told to stop.
pub(crate) fn run(global: &Global, args: &AgentArgs) -> Result<(), CliError> {
    if args.expect.is_some_and(|n| n > 0) && args.bootstrap == Some(true) {
        let what = "--bootstrap and --expect are two ways to found a log (alone, or together with others)";
        return Err(CliError::new(Exit::Usage, what.to_owned(), "leave one of the two out"));
    }
    let mut config = resolve(global, args)?;
    let level = logging::start_agent(&config.log, config.log_format)?;
    let ui = Ui::new(global.format);
    let home = if config.dev { Some(dev::prepare(&mut config, &ui)?) } else { None };
    if let Some(profile) = args.profile {
        config.profile = profile.into();
    }
    let options = AgentOptions::resolve(&config)?;
    let (again, now) = ((global.clone(), args.clone()), config.log);
    let running = std::sync::Mutex::new(now);
    let reload = move || {
        let config = resolve(&again.0, &again.1).map_err(|e| e.to_string())?;
        let mut running = running.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if *running == config.log {
            return Ok(format!("log level stays {}", config.log));
        }
        level.set(&config.log)?;
        let said = format!("log level {} becomes {}", *running, config.log);
        *running = config.log;
        Ok(said)
    };
    let ended = serve(options, AgentHooks { reload: Box::new(reload) });
    drop(home);
    ended
}

/// File below environment below flags; clap has already put flags above environment.
fn resolve(global: &Global, args: &AgentArgs) -> Result<Config, ConfigError> {
    let mut config = match &args.config {
        Some(path) => Config::load(path)?,
        None => Config::default(),
    };
    let args = args.clone();
    config.name = args.name.or(config.name);
    config.data = args.data.or(config.data);
    config.bind = args.bind.unwrap_or(config.bind);
    config.advertise = args.advertise.or(config.advertise);
    if !args.join.is_empty() {
        config.join = args.join;
    }
    config.bootstrap = args.bootstrap.unwrap_or(config.bootstrap);
    config.expect = args.expect.unwrap_or(config.expect);
    config.dev = args.dev.unwrap_or(config.dev);
    config.certs = global.certs.clone().or(config.certs);
    if !args.tag.is_empty() {
        config.tags = args.tag.into_iter().collect();
    }
    if let Some(log) = &global.log {
        config.log.clone_from(log);
    }
    config.log_format = match args.log_format {
        Some(Format::Text) => LogFormat::Text,
        Some(Format::Json) => LogFormat::Json,
        None => config.log_format,
    };
    config.profile = args.profile.map_or(config.profile, GossipProfile::from);
    config.check()?;
    Ok(config)
}

/// The one place where options become a running agent.
fn serve(options: AgentOptions, hooks: AgentHooks) -> Result<(), CliError> {
    crate::server::run(options, hooks).map_err(|error| {
        let exit = match error.exit_code() {
            75 => Exit::InUse,
            78 => Exit::Config,
            11 => Exit::Corrupt,
            _ => Exit::Error,
        };
        CliError::from_sentence(exit, &error.to_string())
    })
}
