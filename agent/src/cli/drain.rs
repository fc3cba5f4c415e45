//! `quorate drain NAME [--undo]`: work goes elsewhere, so that an agent can be stopped and nobody notices.
//!
//! It never stops the agent.

use super::Global;
use super::operate::{operate, tolerance};
use super::output::{CliError, Ui};
use crate::client::{Operated, Verb};
use crate::limits::printable;
use clap::Args;
use serde::Serialize;

/// Its arguments.
#[derive(Debug, Args)]
pub(crate) struct DrainArgs {
    /// The agent
    #[arg(value_name = "NAME", value_parser = super::name)]
    name: String,
    /// It is back: clients, votes and leadership may return
    #[arg(long, env = "QUORATE_UNDO", hide_env = true, value_parser = super::switch())]
    undo: bool,
}

#[derive(Serialize)]
struct DrainObject<'a> {
    v: u32,
    name: &'a str,
    draining: bool,
    changed: bool,
    raft: &'a str,
    heir: Option<&'a str>,
    voters: &'a [String],
    tolerates: u32,
    ms: u64,
}

/// Asks for it and waits until work has gone elsewhere.
pub(crate) async fn run(global: &Global, args: &DrainArgs, ui: &Ui) -> Result<(), CliError> {
    let verb = if args.undo { Verb::Undrain } else { Verb::Drain };
    let done = operate(global, ui, &args.name, verb, &[]).await?;
    if ui.is_json() {
        return ui.json(&DrainObject {
            v: 1,
            name: &done.name,
            draining: !args.undo,
            changed: done.changed,
            raft: &done.raft,
            heir: done.heir.as_deref(),
            voters: &done.voters,
            tolerates: done.tolerates,
            ms: done.ms,
        });
    }
    for line in said(&done, args.undo) {
        ui.line(&line)?;
    }
    if !args.undo && !done.present {
        ui.note("it does not answer: it is drained when it comes back");
    }
    Ok(())
}

fn said(done: &Operated, undo: bool) -> Vec<String> {
    let name = printable(&done.name);
    let heir = done.heir.as_deref().map(|heir| format!("{} votes in its place", printable(heir)));
    let first = match (undo, done.changed) {
        (true, false) => return vec![format!("{name} is not drained; {}", tolerance(done))],
        (true, true) => return vec![format!("{name} serves again; {}", tolerance(done))],
        (false, true) => format!("{name} drained in {} ms", done.ms),
        (false, false) => format!("{name} is drained already"),
    };
    let undo = format!("{}: `quorate drain --undo {name}` when it is back", tolerance(done));
    heir.into_iter().fold(vec![format!("{first}; {undo}")], |mut lines, heir| {
        lines.push(heir);
        lines
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_tolerated_now_is_said() {
        let done = Operated { name: "h3".into(), changed: true, ms: 310, ..Operated::default() };
        let expected =
            "h3 drained in 310 ms; the cluster tolerates 0 failures now: `quorate drain --undo h3` when it is back";
        assert_eq!(said(&done, false), [expected]);
        let spare = Operated { heir: Some("h4".into()), tolerates: 1, ..done.clone() };
        assert_eq!(said(&spare, false)[1], "h4 votes in its place");
        assert!(said(&spare, false)[0].contains("tolerates 1 failure now"));
        assert_eq!(said(&done, true), ["h3 serves again; the cluster tolerates 0 failures now"]);
        let again = Operated { changed: false, ..done };
        assert!(said(&again, false)[0].starts_with("h3 is drained already; "));
        assert!(said(&again, true)[0].starts_with("h3 is not drained; "));
    }
}
