//! `quorate demo`.

use super::Global;
use super::output::{CliError, Ui};
use clap::Args;

/// Its arguments.
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// How many agents
    #[arg(long, env = "QUORATE_NODES", hide_env = true, value_name = "N", default_value_t = 3)]
    nodes: u32,
}

pub(crate) fn run(_: &Global, _: &DemoArgs, _: &Ui) -> Result<(), CliError> {
    Ok(())
}
