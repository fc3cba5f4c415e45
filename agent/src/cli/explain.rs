//! `quorate explain`: what a code means, how it is recognised, what to do, and what not to do.
//!
//! It asks nobody.

use super::output::{CliError, Exit, Ui};
use crate::diagnosis::{self, Cause};
use crate::limits::printable;
use clap::Args;
use serde::Serialize;

/// Its arguments.
#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// The code, such as E0130; without it all are listed
    code: Option<String>,
}

#[derive(Serialize)]
struct CodesObject {
    v: u32,
    codes: Vec<CodeObject>,
}

#[derive(Serialize)]
struct CodeObject {
    code: String,
    severity: diagnosis::Severity,
    title: &'static str,
}

#[derive(Serialize)]
struct PageObject {
    v: u32,
    code: String,
    severity: diagnosis::Severity,
    title: &'static str,
    page: String,
}

/// Prints a page, or the list.
pub(crate) fn run(args: &ExplainArgs, ui: &Ui) -> Result<(), CliError> {
    let Some(text) = &args.code else { return list(ui) };
    let Some(cause) = Cause::of(text) else {
        let near = diagnosis::nearest(text)
            .map_or_else(String::new, |near| format!(" (the nearest is {}: {})", near.code(), near.title()));
        let message = format!("no cause has the code {}{near}", printable(text));
        return Err(CliError::new(Exit::NotFound, message, "`quorate explain` lists all codes"));
    };
    let lines = diagnosis::page(cause);
    if ui.is_json() {
        let (code, severity, title) = (cause.code(), cause.severity(), cause.title());
        return ui.json(&PageObject { v: 1, code, severity, title, page: lines.join("\n") });
    }
    lines.iter().try_for_each(|line| ui.line(line))
}

fn list(ui: &Ui) -> Result<(), CliError> {
    let mut all: Vec<Cause> = Cause::all().collect();
    all.sort_by_key(|cause| cause.code());
    if ui.is_json() {
        let code = |cause: &Cause| CodeObject { code: cause.code(), severity: cause.severity(), title: cause.title() };
        return ui.json(&CodesObject { v: 1, codes: all.iter().map(code).collect() });
    }
    for cause in all {
        ui.line(&format!("{}  {:<8}  {}", cause.code(), cause.severity().to_string(), cause.title()))?;
    }
    Ok(())
}
