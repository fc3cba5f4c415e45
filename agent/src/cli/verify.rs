//! `quorate verify`: every checksum of a data directory that no agent uses, and all that is damaged in it.
//!
//! It changes nothing: the log is opened through a door that can only read.

use super::Global;
use super::output::{self, CliError, Exit, Ui, thousands};
use crate::codec;
use crate::limits::printable;
use crate::machine::registry::Command;
use crate::node::Founding;
use crate::record;
use crate::server::{FORMATION, Unused};
use clap::Args;
use quorate_raft::wal::{self, Damage, Entry, EntryKind, Seen, TornTail, Verified};
use quorate_raft::{Configuration, LogIndex};
use serde::Serialize;
use std::path::PathBuf;
use std::time::Instant;

/// Its arguments.
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// The data directory of an agent that does not run
    #[arg(long, env = "QUORATE_DATA", hide_env = true, value_name = "DIR")]
    data: PathBuf,
}

#[derive(Serialize)]
struct VerifyObject {
    v: u32,
    records: u64,
    segments: usize,
    damaged: Vec<DamageObject>,
    /// Damages that are not listed, since there are too many.
    more_damaged: u64,
    entries: u64,
    superseded_entries: u64,
    bytes: u64,
    torn_tail: Option<TornObject>,
    mib_per_s: f64,
}

#[derive(Serialize)]
struct DamageObject {
    file: String,
    offset: u64,
    what: String,
    first_index: Option<u64>,
    last_index: Option<u64>,
    first_offset: Option<u64>,
    last_offset: Option<u64>,
}

#[derive(Serialize)]
struct TornObject {
    file: String,
    offset: u64,
    bytes: u64,
}

/// Checks the directory, and ends with 11 if anything in it is damaged.
pub(crate) fn run(_global: &Global, args: &VerifyArgs, ui: &Ui) -> Result<(), CliError> {
    let data = printable(&args.data.display().to_string());
    let unused = match Unused::open(&args.data) {
        Ok(Some(unused)) => unused,
        Ok(None) => return Err(nothing(&data)),
        Err(error) => {
            let exit = if error.exit_code() == 75 { Exit::InUse } else { Exit::Config };
            return Err(CliError::from_sentence(exit, &error.to_string()));
        }
    };
    let started = Instant::now();
    let bar = output::bytes_bar();
    let mut look = |seen: Seen<'_>| match seen {
        Seen::Entry { entry, .. } => what_is_wrong_in(entry),
        Seen::Progress { bytes, of } => {
            bar.set_length(of);
            bar.set_position(bytes);
            None
        }
        Seen::Segment { .. } => None,
    };
    let found = wal::verify(unused.log(), &mut look);
    bar.finish_and_clear();
    let mut found = found.map_err(|error| match error {
        wal::Error::Missing => nothing(&data),
        wal::Error::Locked => {
            CliError::new(Exit::InUse, format!("{data} is in use by an agent"), "stop that agent first")
        }
        error @ wal::Error::Newer { .. } => CliError::from_sentence(Exit::Error, &error.to_string()),
        error => CliError::new(Exit::Config, format!("{data} cannot be read ({error})"), "check who may read it"),
    })?;
    if let Some(what) = unused.formation_damage() {
        found.damaged.push(Damage { file: FORMATION.into(), offset: 0, what, entries: None, records: None });
    }
    let mib_per_s = found.bytes as f64 / f64::from(1 << 20) / started.elapsed().as_secs_f64().max(1e-6);
    if ui.is_json() {
        ui.json(&object(&found, mib_per_s))?;
    } else {
        for line in lines(&found, mib_per_s) {
            ui.line(&line)?;
        }
    }
    let places = found.damaged.len() as u64 + found.more_damaged;
    if places == 0 {
        return Ok(());
    }
    let many = if places == 1 { "1 place".to_owned() } else { format!("{} places", thousands(places)) };
    let next = "keep it as it is; the others hold the log: wipe the directory to let this agent join as a new node";
    Err(CliError::new(Exit::Corrupt, format!("{data} is damaged (in {many})"), next))
}

fn nothing(data: &str) -> CliError {
    let what = format!("there is no log in {data} (nothing to verify)");
    CliError::new(Exit::NotFound, what, "name the --data directory of an agent")
}

/// What the payload of an entry lacks that its checksum cannot know.
fn what_is_wrong_in(entry: &Entry) -> Option<String> {
    let (header, payload) = (entry.header(), entry.payload());
    match header.kind {
        EntryKind::Normal => match record::decode_batch(&payload) {
            Ok(records) if records.len() == header.count as usize => None,
            Ok(records) => Some(format!("it holds {} records, its header says {}", records.len(), header.count)),
            Err(error) => Some(error.to_string()),
        },
        EntryKind::Founding => codec::decode::<Founding>(&payload, "founding entry").err().map(|e| e.to_string()),
        EntryKind::Registry => codec::decode::<Command>(&payload, "registration").err().map(|e| e.to_string()),
        EntryKind::Configuration => {
            codec::decode::<Configuration>(&payload, "configuration").err().map(|e| e.to_string())
        }
        EntryKind::Noop => None,
    }
}

fn object(found: &Verified, mib_per_s: f64) -> VerifyObject {
    VerifyObject {
        v: 1,
        records: found.records,
        segments: found.segments,
        damaged: found.damaged.iter().map(damage_object).collect(),
        more_damaged: found.more_damaged,
        entries: found.entries,
        superseded_entries: found.superseded,
        bytes: found.bytes,
        torn_tail: found.torn_tail.as_ref().map(|TornTail { file, offset, bytes }| TornObject {
            file: file.clone(),
            offset: *offset,
            bytes: *bytes,
        }),
        mib_per_s: (mib_per_s * 10.0).round() / 10.0,
    }
}

fn damage_object(damage: &Damage) -> DamageObject {
    DamageObject {
        file: damage.file.clone(),
        offset: damage.offset,
        what: damage.what.clone(),
        first_index: damage.entries.map(|(first, _)| first.0),
        last_index: damage.entries.and_then(|(_, last)| last).map(|last| last.0),
        first_offset: damage.records.map(|(first, _)| first),
        last_offset: damage.records.and_then(|(_, last)| last),
    }
}

fn lines(found: &Verified, mib_per_s: f64) -> Vec<String> {
    let row = |name: &str, value: String| format!("{name:<9} {value}");
    let last = found.last.map_or_else(String::new, |LogIndex(last)| format!(", the last is {}", thousands(last)));
    let mut lines = vec![
        row("records", thousands(found.records)),
        row("entries", format!("{}{last}", thousands(found.entries))),
        row("segments", thousands(found.segments as u64)),
        row("bytes", format!("{}, {mib_per_s:.1} MiB/s", output::bytes(found.bytes))),
    ];
    if let Some(TornTail { file, offset, bytes }) = &found.torn_tail {
        let what = "written before a crash and never acknowledged; no damage, the next start cuts them";
        lines.push(row("torn", format!("{bytes} bytes at byte {offset} of {}: {what}", printable(file))));
    }
    match found.damaged.as_slice() {
        [] => lines.push(row("damaged", "none".into())),
        damaged => {
            lines.push("damaged".into());
            lines.extend(damaged.iter().map(|damage| format!("  - {}", printable(&sentence(damage)))));
        }
    }
    if found.harmless > 0 {
        let what = "where nothing in force stands: superseded entries, or zeros behind the last one";
        lines.push(row("harmless", format!("{} damaged places {what}", thousands(found.harmless))));
    }
    if !found.sidecars_useless.is_empty() {
        let what = "of no use after a crash or by rot; the next start reads their segments and writes them anew";
        lines.push(row("sidecars", format!("{} {what}", thousands(found.sidecars_useless.len() as u64))));
    }
    if found.more_damaged > 0 {
        lines.push(format!("  and {} places more", thousands(found.more_damaged)));
    }
    lines
}

fn sentence(damage: &Damage) -> String {
    let span = |what: &str, first: u64, last: Option<u64>| match last {
        Some(last) if last == first => format!("{what} {first}"),
        Some(last) => format!("{what} {first} to {last}"),
        None => format!("{what} {first} and following"),
    };
    let entries = damage.entries.map(|(first, last)| span("entry", first.0, last.map(|l| l.0)));
    let records = damage.records.map(|(first, last)| span("offset", first, last));
    let costs: Vec<String> = entries.into_iter().chain(records).collect();
    let costs = if costs.is_empty() { String::new() } else { format!(" ({})", costs.join(", ")) };
    format!("{} at byte {}: {}{costs}", damage.file, damage.offset, damage.what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_reads_as_the_contract_says() {
        let damage = Damage {
            file: "x.wal".into(),
            offset: 4096,
            what: "entry 3 does not match its checksum".into(),
            entries: Some((LogIndex(3), Some(LogIndex(3)))),
            records: Some((4, Some(5))),
        };
        let torn = TornTail { file: "y.wal".into(), offset: 5000, bytes: 7 };
        let mut found = Verified { records: 1_234, segments: 2, entries: 700, bytes: 2_048, ..Verified::default() };
        assert_eq!(
            lines(&found, 12.34),
            ["records   1,234", "entries   700", "segments  2", "bytes     2.0 KiB, 12.3 MiB/s", "damaged   none"]
        );
        found.damaged.push(damage);
        found.torn_tail = Some(torn);
        found.last = Some(LogIndex(701));
        let said = lines(&found, 1.0).join("\n");
        assert!(
            said.contains("x.wal at byte 4096: entry 3 does not match its checksum (entry 3, offset 4 to 5)"),
            "{said}"
        );
        assert!(said.contains("7 bytes at byte 5000 of y.wal") && said.contains("no damage"), "{said}");
        let json = serde_json::to_string(&object(&found, 1.25)).unwrap();
        assert_eq!(
            json,
            r#"{"v":1,"records":1234,"segments":2,"damaged":[{"file":"x.wal","offset":4096,"what":"entry 3 does not match its checksum","first_index":3,"last_index":3,"first_offset":4,"last_offset":5}],"more_damaged":0,"entries":700,"superseded_entries":0,"bytes":2048,"torn_tail":{"file":"y.wal","offset":5000,"bytes":7},"mib_per_s":1.3}"#
        );
    }
}
