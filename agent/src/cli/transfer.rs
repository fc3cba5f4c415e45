//! `quorate transfer`: leadership goes to another voter.
//!
//! It never chooses the heir: the leader does, unless one is named.

use super::Global;
use super::find::{self, Whom};
use super::output::{CliError, Exit, Ui};
use crate::limits::{check_name, printable};
use clap::Args;
use serde::Serialize;

/// Its arguments.
#[derive(Debug, Args)]
pub(crate) struct TransferArgs {
    /// Who shall lead; by default the most caught-up healthy voter
    #[arg(value_name = "NAME")]
    name: Option<String>,
}

#[derive(Serialize)]
struct TransferObject<'a> {
    v: u32,
    from: &'a str,
    to: &'a str,
    ms: u64,
}

/// Asks for the handover and says who leads now.
pub(crate) async fn run(global: &Global, args: &TransferArgs, ui: &Ui) -> Result<(), CliError> {
    if let Some(name) = &args.name {
        check_name(name).map_err(|e| CliError::new(Exit::Usage, e.to_string(), "list names with `quorate members`"))?;
    }
    let client = find::client(global, Whom::Any)?;
    let done = client.transfer(args.name.as_deref()).await.map_err(|e| find::error(e, true))?;
    if ui.is_json() {
        ui.json(&TransferObject { v: 1, from: &done.from, to: &done.to, ms: done.ms })?;
    } else if done.from == done.to {
        ui.line(&format!("{} leads already", printable(&done.to)))?;
    } else {
        ui.line(&format!("{} leads  ({} ms)", printable(&done.to), done.ms))?;
    }
    client.close().await;
    Ok(())
}
