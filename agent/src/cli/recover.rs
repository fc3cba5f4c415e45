//! `quorate recover`: one surviving disk goes on alone when the quorum of its log is lost for good.
//!
//! It never acts before the id of the history that ends was typed back, and never destroys that history.

use super::Global;
use super::output::{self, CliError, Exit, Ui, thousands, time};
use crate::limits::printable;
use crate::server::recovery::{self, Kept};
use crate::server::{Error, Unused};
use ::time::macros::format_description;
use clap::Args;
use indicatif::ProgressBar;
use serde::Serialize;
use std::io::{self, BufRead, IsTerminal};
use std::path::PathBuf;

/// Longest line that is read as an answer, in bytes.
const ANSWER_BYTES_MAX: u64 = 256;

/// Its arguments.
#[derive(Debug, Args)]
#[command(after_help = "\
Run it on every disk that survived, without an answer: it only looks then. Choose the one with the highest
position (term, then entry), and answer there with the log id. Never recover two disks of one log: they would
be two histories.")]
pub(crate) struct RecoverArgs {
    /// The data directory of an agent that does not run
    #[arg(long, env = "QUORATE_DATA", hide_env = true, value_name = "DIR")]
    data: PathBuf,
    /// The id of the log that ends, instead of typing it
    #[arg(long, env = "QUORATE_CONFIRM", hide_env = true, value_name = "LOG-ID")]
    confirm: Option<String>,
}

#[derive(Serialize)]
struct RecoverObject {
    v: u32,
    recovered: bool,
    old_log_id: String,
    log_id: Option<String>,
    node: String,
    /// Of the last entry that is kept: the disk to choose has the highest term, then the highest index.
    term: u64,
    index: u64,
    entries: u64,
    records: u64,
    /// The offset from which on records that were acknowledged elsewhere may be lost.
    may_be_lost_from: u64,
    last_time: String,
    voters: Vec<VoterObject>,
    damage: Option<DamageObject>,
    old_history: Option<String>,
}

#[derive(Serialize)]
struct VoterObject {
    id: String,
    name: Option<String>,
    this: bool,
}

#[derive(Serialize)]
struct DamageObject {
    file: String,
    offset: u64,
    what: String,
    entries_lost_behind: u64,
    records_lost_behind: u64,
}

/// Says what would be kept and what may be lost; does it if the log id is typed back.
pub(crate) fn run(_global: &Global, args: &RecoverArgs, ui: &Ui) -> Result<(), CliError> {
    let data = printable(&args.data.display().to_string());
    let unused = match Unused::open(&args.data).map_err(failed)? {
        Some(unused) => unused,
        None => return Err(nothing(&data)),
    };
    let bar = output::bytes_bar();
    let kept = recovery::look(&unused, &mut follow(&bar));
    bar.finish_and_clear();
    let kept = kept.map_err(failed)?.ok_or_else(|| nothing(&data))?;
    refuse_needless(&kept)?;
    if !ui.is_json() {
        lines(&kept).iter().try_for_each(|line| ui.line(line))?;
        ui.flush()?;
    }
    let old = hex::encode(kept.log_id);
    if let Err(error) = confirm(args, &old, ui) {
        if ui.is_json() {
            ui.json(&object(&kept, None, None))?;
        }
        return Err(error);
    }
    let (new_id, seed) = entropy()?;
    let at = ::time::OffsetDateTime::now_utc();
    let format = format_description!("[year][month][day]T[hour][minute][second]Z");
    let at = at.format(&format).unwrap_or_else(|_| "unknown".into());
    let bar = output::bytes_bar();
    let aside = recovery::carry_out(unused, &kept, new_id, seed, &at, &mut follow(&bar));
    bar.finish_and_clear();
    let aside = aside.map_err(failed)?;
    let aside = printable(&aside.display().to_string());
    if ui.is_json() {
        return ui.json(&object(&kept, Some(&new_id), Some(aside)));
    }
    ui.line("")?;
    ui.line(&format!("new log   {}", hex::encode(new_id)))?;
    ui.line(&format!("old log   kept in {aside}"))?;
    ui.note("start this agent now: it votes alone");
    ui.note("on every other machine of the old cluster: move its data directory away before its agent starts again");
    Ok(())
}

fn follow(bar: &ProgressBar) -> impl FnMut(u64, u64) + '_ {
    |bytes, of| {
        bar.set_length(of);
        bar.set_position(bytes);
    }
}

fn failed(error: Error) -> CliError {
    let exit = match error.exit_code() {
        75 => Exit::InUse,
        11 => Exit::Corrupt,
        78 => Exit::Config,
        _ => Exit::Error,
    };
    CliError::from_sentence(exit, &error.to_string())
}

fn nothing(data: &str) -> CliError {
    let what = format!("there is no log to recover in {data} (it holds no entry that can be read)");
    CliError::new(Exit::NotFound, what, "name the --data directory of an agent that was in the cluster")
}

/// A history is not ended for nothing: whoever votes alone only has to be started.
fn refuse_needless(kept: &Kept) -> Result<(), CliError> {
    let alone = recovery::voters(kept).iter().all(|(node, _)| *node == kept.meta.node);
    if alone && kept.damage.is_none() {
        let what = "nothing is lost (this node is the only voter, and its log is whole)";
        return Err(CliError::new(Exit::Refused, what, "start its agent"));
    }
    Ok(())
}

/// The id of the history that ends has to be typed back: whoever does that has read which one it is.
fn confirm(args: &RecoverArgs, old: &str, ui: &Ui) -> Result<(), CliError> {
    let answer = match &args.confirm {
        Some(answer) => answer.clone(),
        None => {
            if io::stdin().is_terminal() {
                ui.note("\nto end this history, type its log id (nothing is changed yet):");
            }
            let mut line = String::new();
            let mut stdin = io::Read::take(io::stdin().lock(), ANSWER_BYTES_MAX);
            stdin.read_line(&mut line).map_err(|e| CliError::system("cannot read the answer", &e, "use --confirm"))?;
            line
        }
    };
    let refused = |what: String| Err(CliError::new(Exit::Refused, what, format!("to go on, answer with {old}")));
    match answer.trim() {
        answer if answer == old => Ok(()),
        "" => refused("nothing was changed (the log id was not typed back)".into()),
        other => refused(format!("nothing was changed ({} is not the id of this log)", printable(other))),
    }
}

fn entropy() -> Result<([u8; 16], u64), CliError> {
    let (mut id, mut seed) = ([0; 16], [0; 8]);
    getrandom::fill(&mut id)
        .and_then(|()| getrandom::fill(&mut seed))
        .map_err(|e| CliError::system("the system gave no random bytes", &e, "try again"))?;
    Ok((id, u64::from_le_bytes(seed)))
}

fn object(kept: &Kept, new_id: Option<&[u8; 16]>, old_history: Option<String>) -> RecoverObject {
    RecoverObject {
        v: 1,
        recovered: new_id.is_some(),
        old_log_id: hex::encode(kept.log_id),
        log_id: new_id.map(hex::encode),
        node: kept.meta.node.to_string(),
        term: kept.last.term.0,
        index: kept.last.index.0,
        entries: kept.entries,
        records: kept.records,
        may_be_lost_from: kept.last.next_offset(),
        last_time: time(kept.last.time.0, 6),
        voters: recovery::voters(kept)
            .into_iter()
            .map(|(node, name)| VoterObject { id: node.to_string(), name, this: node == kept.meta.node })
            .collect(),
        damage: kept.damage.as_ref().map(|damage| DamageObject {
            file: damage.file.clone(),
            offset: damage.offset,
            what: damage.what.clone(),
            entries_lost_behind: kept.entries_behind_damage,
            records_lost_behind: kept.records_behind_damage,
        }),
        old_history,
    }
}

fn lines(kept: &Kept) -> Vec<String> {
    let row = |name: &str, value: String| format!("{name:<9} {value}");
    let next = kept.last.next_offset();
    let voters: Vec<String> = recovery::voters(kept)
        .into_iter()
        .map(|(node, name)| {
            let name = name.map_or_else(|| node.to_string(), |name| printable(&name));
            if node == kept.meta.node { format!("{name} (this one)") } else { name }
        })
        .collect();
    let mut lines = vec![
        row("log", hex::encode(kept.log_id)),
        row("position", format!("term {}, entry {}", kept.last.term, thousands(kept.last.index.0))),
        row("voters", voters.join(", ")),
        row("kept", format!("{} records, {}", thousands(kept.records), output::bytes(kept.bytes))),
        row("until", format!("offset {} of {}", next.saturating_sub(1), time(kept.last.time.0, 3))),
        row("lost", format!("every record from offset {next} on that other voters acknowledged without this disk")),
        row("", "records at the end of this log may never have been acknowledged; they are kept".into()),
    ];
    if let Some(damage) = &kept.damage {
        let (entries, records) = (kept.entries_behind_damage, kept.records_behind_damage);
        let place = format!("{} at byte {}: {}", damage.file, damage.offset, damage.what);
        lines.push(row("damaged", printable(&place)));
        if entries > 0 {
            let what = format!("{} entries with {} records behind the damage", thousands(entries), thousands(records));
            lines.push(row("", format!("lost with it: {what} (offsets have no holes)")));
        }
    }
    lines
}
