//! `quorate promote NAME` and `quorate demote NAME`: who votes, said by a person.
//!
//! What a person has said the autopilot does not undo; `--undo` gives the decision back to it.

use super::Global;
use super::operate::{operate, tolerance};
use super::output::{CliError, Ui};
use crate::client::Verb;
use crate::limits::printable;
use clap::Args;
use serde::Serialize;

/// The arguments of both.
#[derive(Debug, Args)]
pub(crate) struct SeatArgs {
    /// The agent
    #[arg(value_name = "NAME", value_parser = super::name)]
    name: String,
    /// Also if the number of voters becomes even, which bears no more failures than one voter less
    #[arg(long, env = "QUORATE_ALLOW_EVEN", hide_env = true, value_parser = super::switch(), conflicts_with = "undo")]
    allow_even: bool,
    /// Let the autopilot decide again whether it votes
    #[arg(long, env = "QUORATE_UNDO", hide_env = true, value_parser = super::switch())]
    undo: bool,
}

#[derive(Serialize)]
struct SeatObject<'a> {
    v: u32,
    name: &'a str,
    raft: &'a str,
    pinned: Option<&'a str>,
    changed: bool,
    heir: Option<&'a str>,
    voters: &'a [String],
    tolerates: u32,
    ms: u64,
}

/// Asks for it and waits until it is committed.
pub(crate) async fn run(global: &Global, args: &SeatArgs, votes: bool, ui: &Ui) -> Result<(), CliError> {
    let (verb, pinned) = match (args.undo, votes) {
        (true, _) => (Verb::Unpin, None),
        (false, true) => (Verb::Promote { allow_even: args.allow_even }, Some("voter")),
        (false, false) => (Verb::Demote { allow_even: args.allow_even }, Some("learner")),
    };
    let done = operate(global, ui, &args.name, verb, &[]).await?;
    if ui.is_json() {
        return ui.json(&SeatObject {
            v: 1,
            name: &done.name,
            raft: &done.raft,
            pinned,
            changed: done.changed,
            heir: done.heir.as_deref(),
            voters: &done.voters,
            tolerates: done.tolerates,
            ms: done.ms,
        });
    }
    let name = printable(&done.name);
    let is = match done.raft.as_str() {
        "none" => "neither voter nor learner",
        raft => raft,
    };
    let now = if done.changed { "now" } else { "already" };
    let heir = done.heir.as_deref().map(|heir| format!(", {} votes in its place", printable(heir))).unwrap_or_default();
    let voters = done.voters.len();
    let tolerance = tolerance(&done);
    if args.undo {
        return ui.line(&format!("the autopilot decides {now} whether {name} votes; it is {is}"));
    }
    ui.line(&format!("{name} is {is} {now}{heir}; {voters} voters, {tolerance}"))?;
    let word = if votes { "promote" } else { "demote" };
    ui.note(&format!("the autopilot leaves it so: `quorate {word} --undo {name}` lets it decide again"));
    Ok(())
}
