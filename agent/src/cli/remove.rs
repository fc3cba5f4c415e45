//! `quorate remove NAME [--replace-with NAME]`: an agent goes for good, dead or alive.
//!
//! It never touches its data directory: a person may want to look at it.

use super::Global;
use super::operate::{operate, tolerance};
use super::output::{CliError, Ui};
use crate::client::Verb;
use crate::limits::printable;
use clap::Args;
use serde::Serialize;

/// Its arguments.
#[derive(Debug, Args)]
pub(crate) struct RemoveArgs {
    /// The agent
    #[arg(value_name = "NAME", value_parser = super::name)]
    name: String,
    /// The learner that gets its vote, in the same change, once it has caught up
    #[arg(long, env = "QUORATE_REPLACE_WITH", hide_env = true, value_name = "NAME", value_parser = super::name)]
    replace_with: Option<String>,
}

#[derive(Serialize)]
struct RemoveObject<'a> {
    v: u32,
    name: &'a str,
    node: String,
    removed: bool,
    changed: bool,
    heir: Option<&'a str>,
    voters: &'a [String],
    tolerates: u32,
    ms: u64,
    certificate_revoked: bool,
}

/// Asks for it and waits until it is committed.
pub(crate) async fn run(global: &Global, args: &RemoveArgs, ui: &Ui) -> Result<(), CliError> {
    let verb = Verb::Remove { replace_with: args.replace_with.clone() };
    let others: Vec<&str> = args.replace_with.as_deref().into_iter().collect();
    let done = operate(global, ui, &args.name, verb, &others).await?;
    // Whoever asks again hears of the end of it, not of how it came about.
    let heir =
        done.heir.as_deref().or(args.replace_with.as_deref().filter(|heir| done.voters.iter().any(|v| v == heir)));
    if ui.is_json() {
        return ui.json(&RemoveObject {
            v: 1,
            name: &done.name,
            node: format!("{:016x}", done.node),
            removed: true,
            changed: done.changed,
            heir,
            voters: &done.voters,
            tolerates: done.tolerates,
            ms: done.ms,
            certificate_revoked: false,
        });
    }
    let name = printable(&done.name);
    let how =
        if done.changed { format!("{name} removed in {} ms", done.ms) } else { format!("{name} is removed already") };
    let heir = heir.map(|heir| format!(", {} votes in its place", printable(heir))).unwrap_or_default();
    ui.line(&format!("{how}{heir}; {}", tolerance(&done)))?;
    ui.note("its disk is not let in again, and its certificate is not revoked: with a fresh data directory it may join as a new node");
    Ok(())
}
