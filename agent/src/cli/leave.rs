//! `quorate leave`: one agent goes for good.
//!
//! It never picks an agent by itself when several run here.

use super::Global;
use super::find::{self, Whom};
use super::output::{CliError, Ui};
use serde::Serialize;

#[derive(Serialize)]
struct Left {
    v: u32,
    left: bool,
}

/// Asks the agent to leave and waits until its removal is committed.
pub(crate) async fn run(global: &Global, ui: &Ui) -> Result<(), CliError> {
    let client = find::client(global, Whom::One)?;
    client.leave().await.map_err(find::error_of_wish)?;
    if ui.is_json() {
        ui.json(&Left { v: 1, left: true })?;
    } else {
        ui.line("left")?;
        ui.note("the removal is committed; the agent sets its data directory aside and stops");
    }
    client.close().await;
    Ok(())
}
