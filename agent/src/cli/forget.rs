//! `quorate forget NAME`: a failed agent is dropped for good.
//!
//! It never touches a live one: that one leaves by itself.

use super::Global;
use super::find::{self, Whom};
use super::output::{CliError, Exit, Ui};
use crate::limits::{check_name, printable};
use clap::Args;
use serde::Serialize;

/// Its arguments.
#[derive(Debug, Args)]
pub(crate) struct ForgetArgs {
    /// The failed agent
    #[arg(value_name = "NAME")]
    name: String,
}

#[derive(Serialize)]
struct ForgottenObject<'a> {
    v: u32,
    forgotten: &'a str,
    nodes: Vec<String>,
    certificate_revoked: bool,
}

/// Asks the leader to forget it and waits until that is committed.
pub(crate) async fn run(global: &Global, args: &ForgetArgs, ui: &Ui) -> Result<(), CliError> {
    let name = &args.name;
    check_name(name).map_err(|e| CliError::new(Exit::Usage, e.to_string(), "list names with `quorate members`"))?;
    let client = find::client(global, Whom::Any)?;
    let nodes = client.forget(name).await.map_err(find::error_of_wish)?;
    if ui.is_json() {
        let nodes = nodes.iter().map(|node| format!("{node:016x}")).collect();
        ui.json(&ForgottenObject { v: 1, forgotten: name, nodes, certificate_revoked: false })?;
    } else {
        ui.line(&format!("{} is forgotten", printable(name)))?;
        ui.note("its certificate is not revoked: with an empty data directory it may join again as a new node");
    }
    client.close().await;
    Ok(())
}
