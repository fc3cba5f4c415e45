//! The command line: what can be typed, and what then happens. One file a command.
//!
//! It holds no logic of the cluster: a command is a client, or hands options to the server.

mod agent;
mod append;
mod autopilot;
mod bench;
mod certs;
mod cluster;
mod demo;
mod dev;
mod doctor;
mod drain;
mod explain;
mod find;
mod forget;
mod home;
mod leave;
mod log;
mod logging;
mod members;
mod operate;
mod output;
mod process;
mod record;
mod recover;
mod remove;
mod replica;
mod seat;
mod status;
mod story;
mod tags;
mod tail;
#[cfg(unix)]
mod torture;
mod transfer;
mod verify;

use crate::limits::printable;
use clap::builder::BoolishValueParser;
use clap::error::ContextValue;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use output::{CliError, Exit, Format, Ui};
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

const AFTER_HELP: &str = "\
Every flag has an environment variable: --addr is QUORATE_ADDR, --log-format is QUORATE_LOG_FORMAT.
Without --addr a command speaks with an agent of yours that runs on this machine.

Exit codes:
   0 ok                     5 conflict                      10 refused for safety
   1 error                  6 no leader or quorum:          11 corruption
   2 usage                    not applied, safe to retry    75 data directory in use
   3 agent not reachable    7 outcome unknown               78 bad configuration
   4 not authorised         8 not found or trimmed         124 a --wait timed out
                            9 unhealthy";

/// Machines that find each other, prove who they are and agree on one ordered, durable log.
#[derive(Debug, Parser)]
#[command(name = "quorate", version, after_help = AFTER_HELP, max_term_width = 110)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Flags that every command knows.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// The agent to speak with; needs --certs
    #[arg(long, global = true, env = "QUORATE_ADDR", hide_env = true, value_name = "HOST:PORT", value_parser = address)]
    pub(crate) addr: Option<String>,
    /// Which of the agents on this machine to speak with
    #[arg(long, global = true, env = "QUORATE_AGENT", hide_env = true, value_name = "NAME", value_parser = name)]
    pub(crate) agent: Option<String>,
    /// The directory with ca.pem, cert.pem and key.pem
    #[arg(long, global = true, env = "QUORATE_CERTS", hide_env = true, value_name = "DIR")]
    pub(crate) certs: Option<PathBuf>,
    /// How results and errors are written
    #[arg(long, global = true, env = "QUORATE_FORMAT", hide_env = true, value_enum, default_value = "text")]
    pub(crate) format: Format,
    /// How long to wait at most
    #[arg(
        long,
        global = true,
        env = "QUORATE_TIMEOUT",
        hide_env = true,
        value_name = "SPAN",
        default_value = "10s",
        value_parser = span
    )]
    pub(crate) timeout: Duration,
    /// What is logged to stderr: error, warn, info, debug, trace, also per module
    #[arg(long, global = true, env = "QUORATE_LOG", hide_env = true, value_name = "LEVEL")]
    pub(crate) log: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show a real cluster of three agents survive what kills clusters, in under half a minute
    Demo(demo::DemoArgs),
    /// Run an agent
    Agent(Box<agent::AgentArgs>),
    /// List the members as an agent sees them
    Members(members::MembersArgs),
    /// Show or change the tags of an agent; they survive its restart
    Tags(tags::TagsArgs),
    /// Show cluster, leader, voters, log and problems on one screen
    Status(status::StatusArgs),
    /// Say why there is no leader, why an agent is not a member, and what else is wrong
    Doctor(doctor::DoctorArgs),
    /// Explain a code that `doctor` and `status` tell
    Explain(explain::ExplainArgs),
    /// Append records to the log
    Append(append::AppendArgs),
    /// Read records from the log
    Tail(tail::TailArgs),
    /// Make an agent leave the cluster for good
    Leave,
    /// Drop a failed agent for good
    Forget(forget::ForgetArgs),
    /// Hand leadership over to another voter
    Transfer(transfer::TransferArgs),
    /// Move work away from an agent, so that it can be stopped and nobody notices
    Drain(drain::DrainArgs),
    /// Take an agent out of the cluster for good, dead or alive
    Remove(remove::RemoveArgs),
    /// Give a learner a vote, and let it keep it
    Promote(seat::SeatArgs),
    /// Make a voter a learner, and let it stay one
    Demote(seat::SeatArgs),
    /// Show and set what the autopilot goes by, and why each agent has its role
    #[command(subcommand)]
    Autopilot(autopilot::AutopilotCommand),
    /// Check every checksum of a data directory that no agent uses
    Verify(verify::VerifyArgs),
    /// Look into a log that no agent uses
    #[command(subcommand)]
    Log(log::LogCommand),
    /// Go on with one disk when the quorum is lost for good
    Recover(recover::RecoverArgs),
    /// Measure appends beside what the disk and the network could do at best
    Bench(bench::BenchArgs),
    /// Torture a real cluster: kill, pause, partition, damage and wipe it under load, and check every promise
    #[cfg(unix)]
    Torture(torture::TortureArgs),
    /// Make and check certificates
    #[command(subcommand)]
    Certs(certs::CertsCommand),
}

/// Parses the arguments of this process, runs the command and answers with the contract's exit code.
#[must_use]
pub fn main() -> ExitCode {
    run(std::env::args_os().collect())
}

fn run(args: Vec<OsString>) -> ExitCode {
    let parsed = command().try_get_matches_from(&args).and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) => return usage(&args, error),
    };
    let ui = Ui::new(cli.global.format);
    match dispatch(cli, &ui).and_then(|()| ui.finish()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => ui.fail(&error),
    }
}

/// The tree of commands, reading the environment. An empty variable counts as unset, as in `QUORATE_JOIN=`.
fn command() -> clap::Command {
    fn heed(command: clap::Command) -> clap::Command {
        let empty = |arg: &clap::Arg| arg.get_env().and_then(std::env::var_os).is_some_and(|value| value.is_empty());
        command
            // clap cannot take a variable off again; this one is never set, since no shell can.
            .mut_args(|arg| if empty(&arg) { arg.env("QUORATE-EMPTY") } else { arg })
            .mut_subcommands(heed)
    }
    heed(Cli::command())
}

fn dispatch(cli: Cli, ui: &Ui) -> Result<(), CliError> {
    let Cli { global, command } = cli;
    match command {
        Command::Agent(args) => agent::run(&global, &args),
        Command::Certs(command) => certs::run(&global, command, ui),
        Command::Demo(args) => demo::run(&global, &args, ui),
        Command::Bench(args) => bench::run(&global, &args, ui),
        Command::Verify(args) => verify::run(&global, &args, ui),
        Command::Explain(args) => explain::run(&args, ui),
        Command::Log(command) => log::run(&global, command, ui),
        Command::Recover(args) => recover::run(&global, &args, ui),
        #[cfg(unix)]
        Command::Torture(args) => torture::run(&global, &args, ui),
        command => {
            logging::start_client(global.log.as_deref())?;
            let runtime = runtime()?;
            let ended = runtime.block_on(async {
                match command {
                    Command::Members(args) => members::run(&global, &args, ui).await,
                    Command::Tags(args) => tags::run(&global, &args, ui).await,
                    Command::Status(args) => status::run(&global, &args, ui).await,
                    Command::Doctor(args) => doctor::run(&global, &args, ui).await,
                    Command::Append(args) => append::run(&global, args, ui).await,
                    Command::Tail(args) => tail::run(&global, &args, ui).await,
                    Command::Leave => leave::run(&global, ui).await,
                    Command::Forget(args) => forget::run(&global, &args, ui).await,
                    Command::Transfer(args) => transfer::run(&global, &args, ui).await,
                    Command::Drain(args) => drain::run(&global, &args, ui).await,
                    Command::Remove(args) => remove::run(&global, &args, ui).await,
                    Command::Promote(args) => seat::run(&global, &args, true, ui).await,
                    Command::Demote(args) => seat::run(&global, &args, false, ui).await,
                    Command::Autopilot(command) => autopilot::run(&global, command, ui).await,
                    #[cfg(unix)]
                    Command::Torture(_) => Ok(()),
                    Command::Agent(_)
                    | Command::Certs(_)
                    | Command::Demo(_)
                    | Command::Bench(_)
                    | Command::Verify(_)
                    | Command::Explain(_)
                    | Command::Log(_)
                    | Command::Recover(_) => Ok(()),
                }
            });
            // A resolver that hangs must not keep a command beyond its timeout.
            runtime.shutdown_background();
            ended
        }
    }
}

/// One thread is enough for a client, and cheaper.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, CliError> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| CliError::system("cannot start the runtime", &e, "check the limits of this process"))
}

/// Help and version are data; everything else is a usage error, in the format that was asked for.
fn usage(args: &[OsString], error: clap::Error) -> ExitCode {
    let error = printable_usage(error);
    if !error.use_stderr() {
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    let json = args.windows(2).any(|w| w[0] == "--format" && w[1] == "json")
        || args.iter().any(|a| a == "--format=json")
        || std::env::var_os("QUORATE_FORMAT").is_some_and(|f| f == "json");
    if json {
        let text = error.to_string();
        // What is wrong may take several lines; what stands behind an empty one is help.
        let lines: Vec<&str> = text.lines().take_while(|line| !line.is_empty()).map(str::trim).collect();
        let line = lines.join(" ").trim_start_matches("error: ").to_owned();
        Ui::new(Format::Json).fail(&CliError::new(Exit::Usage, line, "see `quorate --help`"))
    } else {
        let _ = error.print();
        Exit::Usage.into()
    }
}

/// A usage error repeats what was typed, which a script may have from anybody: no terminal shall obey it.
fn printable_usage(mut error: clap::Error) -> clap::Error {
    let safe = |value: &ContextValue| match value {
        ContextValue::String(text) => Some(ContextValue::String(printable(text))),
        ContextValue::Strings(all) => Some(ContextValue::Strings(all.iter().map(|text| printable(text)).collect())),
        _ => None,
    };
    let words: Vec<_> = error.context().filter_map(|(kind, value)| Some((kind, safe(value)?))).collect();
    for (kind, value) in words {
        error.insert(kind, value);
    }
    error
}

fn address(text: &str) -> Result<String, String> {
    crate::config::host_and_port(text).map(|()| text.to_owned())
}

/// The name of an agent: every entrance has the same rule.
fn name(text: &str) -> Result<String, crate::limits::Illegal> {
    crate::limits::check_name(text).map(|()| text.to_owned())
}

fn span(text: &str) -> Result<Duration, crate::duration::DurationError> {
    crate::duration::parse(text)
}

/// `key=value`, as tags and headers are written.
fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write it as key=value".into()),
    }
}

/// Environment variables of switches may say 1, true, yes or on.
fn switch() -> BoolishValueParser {
    BoolishValueParser::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_of_commands_is_sound() {
        Cli::command().debug_assert();
    }

    /// Of every flag the environment variable is the flag's own name.
    #[test]
    fn every_flag_has_its_environment_variable() {
        fn walk(command: &clap::Command) {
            for arg in command.get_arguments() {
                let Some(long) = arg.get_long().filter(|long| !["help", "version"].contains(long)) else { continue };
                let variable = format!("QUORATE_{}", long.to_uppercase().replace('-', "_"));
                let found = arg.get_env().map(|env| env.to_string_lossy().into_owned());
                assert_eq!(found, Some(variable), "--{long} of {}", command.get_name());
            }
            command.get_subcommands().for_each(walk);
        }
        walk(&Cli::command());
    }

    #[test]
    fn what_is_not_built_is_not_there() {
        let commands: Vec<_> = Cli::command().get_subcommands().map(|c| c.get_name().to_owned()).collect();
        assert_eq!(
            commands,
            [
                "demo",
                "agent",
                "members",
                "tags",
                "status",
                "doctor",
                "explain",
                "append",
                "tail",
                "leave",
                "forget",
                "transfer",
                "drain",
                "remove",
                "promote",
                "demote",
                "autopilot",
                "verify",
                "log",
                "recover",
                "bench",
                "torture",
                "certs"
            ]
        );
    }
}
