//! `quorate log dump`: what is in which segment of a log that no agent uses, and on request every entry.
//!
//! It changes nothing: the log is opened through a door that can only read. What is damaged is for `quorate verify` to
//! judge; here it is only named.

use super::Global;
use super::output::{self, CliError, Exit, Ui, thousands, time};
use crate::limits::printable;
use crate::server::Unused;
use clap::{Args, Subcommand};
use quorate_raft::wal::{self, Damage, EntryHeader, EntryKind, Meta, Seen, Verified};
use serde::Serialize;
use std::path::PathBuf;

/// What can be done with a log that no agent uses.
#[derive(Debug, Subcommand)]
pub(crate) enum LogCommand {
    /// List its segments, and with --entries what each of them holds
    Dump(DumpArgs),
}

/// Arguments of the dump.
#[derive(Debug, Args)]
pub(crate) struct DumpArgs {
    /// The data directory of an agent that does not run
    #[arg(long, env = "QUORATE_DATA", hide_env = true, value_name = "DIR")]
    data: PathBuf,
    /// List every entry, those that a truncation has superseded too
    #[arg(long, env = "QUORATE_ENTRIES", hide_env = true, value_parser = super::switch(), num_args = 0..=1,
        require_equals = true, default_missing_value = "true", default_value = "false", hide_default_value = true,
        hide_possible_values = true)]
    entries: bool,
}

#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Line<'a> {
    Meta(&'a MetaObject),
    Segment(&'a SegmentObject),
    Entry(&'a EntryObject),
    Damage(&'a DamageObject),
}

#[derive(Serialize)]
struct Versioned<'a> {
    v: u32,
    #[serde(flatten)]
    line: Line<'a>,
}

#[derive(Serialize)]
struct MetaObject {
    cluster: String,
    node: String,
    log_id: Option<String>,
    boot_epoch: u64,
    term: u64,
    vote: Option<String>,
    /// The index of the first entry that is kept.
    first_index: u64,
}

#[derive(Serialize)]
struct SegmentObject {
    file: String,
    seq: u64,
    base_index: u64,
    bytes: u64,
    used_bytes: u64,
    entries: u64,
    superseded_entries: u64,
    records: u64,
    first_index: Option<u64>,
    last_index: Option<u64>,
    first_term: Option<u64>,
    last_term: Option<u64>,
    first_offset: Option<u64>,
    next_offset: Option<u64>,
    first_time: Option<String>,
    last_time: Option<String>,
}

#[derive(Serialize)]
struct EntryObject {
    file: String,
    at: u64,
    in_force: bool,
    index: u64,
    term: u64,
    entry: &'static str,
    offset: u64,
    records: u32,
    time: String,
    lamport: u64,
    bytes: u64,
    chain: String,
}

#[derive(Serialize)]
struct DamageObject {
    file: String,
    offset: u64,
    what: String,
}

/// Carries out the command.
pub(crate) fn run(_global: &Global, command: LogCommand, ui: &Ui) -> Result<(), CliError> {
    let LogCommand::Dump(args) = command;
    dump(&args, ui)
}

fn dump(args: &DumpArgs, ui: &Ui) -> Result<(), CliError> {
    let data = printable(&args.data.display().to_string());
    let nothing = || {
        let what = format!("there is no log in {data} (nothing to list)");
        CliError::new(Exit::NotFound, what, "name the --data directory of an agent")
    };
    let unused = Unused::open(&args.data).map_err(|error| {
        let exit = if error.exit_code() == 75 { Exit::InUse } else { Exit::Config };
        CliError::from_sentence(exit, &error.to_string())
    })?;
    let unused = unused.ok_or_else(nothing)?;
    let mut walk = Walk { ui, with_entries: args.entries, segments: Vec::new(), told: Ok(()) };
    let found = wal::verify(unused.log(), &mut |seen| {
        walk.see(&seen);
        None
    });
    walk.told?;
    let found = found.map_err(|error| match error {
        wal::Error::Missing => nothing(),
        wal::Error::Locked => {
            CliError::new(Exit::InUse, format!("{data} is in use by an agent"), "stop that agent first")
        }
        error => CliError::from_sentence(Exit::Error, &error.to_string()),
    })?;
    tell(ui, &found, &walk.segments)
}

/// What is remembered while the files go by: one line a segment, never an entry.
struct Walk<'a> {
    ui: &'a Ui,
    with_entries: bool,
    segments: Vec<SegmentObject>,
    told: Result<(), CliError>,
}

impl Walk<'_> {
    fn see(&mut self, seen: &Seen<'_>) {
        match seen {
            Seen::Segment { name, seq, base, bytes } => {
                if self.with_entries && !self.ui.is_json() && self.told.is_ok() {
                    self.told = self.ui.line(&printable(name));
                }
                self.segments.push(SegmentObject {
                    file: (*name).to_owned(),
                    seq: *seq,
                    base_index: base.0,
                    bytes: *bytes,
                    used_bytes: wal::SEGMENT_HEADER_BYTES as u64,
                    entries: 0,
                    superseded_entries: 0,
                    records: 0,
                    first_index: None,
                    last_index: None,
                    first_term: None,
                    last_term: None,
                    first_offset: None,
                    next_offset: None,
                    first_time: None,
                    last_time: None,
                });
            }
            Seen::Entry { entry, at, end, in_force } => {
                let Some(segment) = self.segments.last_mut() else { return };
                segment.take(entry.header(), *end, *in_force);
                if self.with_entries && self.told.is_ok() {
                    self.told = tell_entry(self.ui, &entry_object(&segment.file, *at, *in_force, entry.header()));
                }
            }
            Seen::Progress { .. } => {}
        }
    }
}

impl SegmentObject {
    fn take(&mut self, header: &EntryHeader, end: u64, in_force: bool) {
        self.used_bytes = end;
        if !in_force {
            self.superseded_entries += 1;
            return;
        }
        self.entries += 1;
        self.records += u64::from(header.count);
        self.first_index.get_or_insert(header.index.0);
        self.first_term.get_or_insert(header.term.0);
        self.first_offset.get_or_insert(header.base_offset);
        self.first_time.get_or_insert_with(|| time(header.time.0, 6));
        self.last_index = Some(header.index.0);
        self.last_term = Some(header.term.0);
        self.next_offset = Some(header.next_offset());
        self.last_time = Some(time(header.time.0, 6));
    }
}

fn entry_object(file: &str, at: u64, in_force: bool, header: &EntryHeader) -> EntryObject {
    EntryObject {
        file: file.to_owned(),
        at,
        in_force,
        index: header.index.0,
        term: header.term.0,
        entry: match header.kind {
            EntryKind::Normal => "records",
            EntryKind::Noop => "noop",
            EntryKind::Configuration => "configuration",
            EntryKind::Founding => "founding",
            EntryKind::Registry => "registry",
        },
        offset: header.base_offset,
        records: header.count,
        time: time(header.time.0, 6),
        lamport: header.lamport,
        bytes: header.encoded_len() as u64,
        chain: format!("{:016x}", header.chain),
    }
}

fn tell_entry(ui: &Ui, entry: &EntryObject) -> Result<(), CliError> {
    if ui.is_json() {
        return ui.json(&Versioned { v: 1, line: Line::Entry(entry) });
    }
    let EntryObject { index, term, offset, records, time, bytes, at, chain, .. } = entry;
    let superseded = if entry.in_force { "" } else { "  superseded" };
    let kind = entry.entry;
    ui.line(&format!(
        "  {index:>10}  term {term:<5} {kind:<13} offset {offset:<10} {records:>5} records  {time}  {bytes:>8} bytes at {at:<9} chain {chain}{superseded}"
    ))
}

fn meta_object(meta: &Meta) -> MetaObject {
    MetaObject {
        cluster: hex::encode(meta.cluster),
        node: meta.node.to_string(),
        log_id: meta.log_id.map(hex::encode),
        boot_epoch: meta.boot_epoch,
        term: meta.hard_state.term.0,
        vote: meta.hard_state.vote.map(|vote| vote.to_string()),
        first_index: meta.start.position.index.0 + 1,
    }
}

fn tell(ui: &Ui, found: &Verified, segments: &[SegmentObject]) -> Result<(), CliError> {
    let damaged: Vec<DamageObject> = found.damaged.iter().map(damage_object).collect();
    if ui.is_json() {
        let meta = found.meta.as_ref().map(meta_object);
        let meta = meta.iter().map(Line::Meta);
        let lines = meta.chain(segments.iter().map(Line::Segment)).chain(damaged.iter().map(Line::Damage));
        return lines.map(|line| Versioned { v: 1, line }).try_for_each(|line| ui.json(&line));
    }
    if let Some(meta) = &found.meta {
        let MetaObject { cluster, node, log_id, boot_epoch, term, vote, .. } = meta_object(meta);
        ui.line(&format!("cluster  {cluster}"))?;
        ui.line(&format!("log      {}", log_id.as_deref().unwrap_or("none yet")))?;
        ui.line(&format!("node     {node}, boot {boot_epoch}"))?;
        ui.line(&format!("term     {term}, vote {}", vote.as_deref().unwrap_or("none")))?;
    }
    for segment in segments {
        ui.line(&segment_line(segment))?;
    }
    for DamageObject { file, offset, what } in &damaged {
        ui.line(&printable(&format!("damaged  {file} at byte {offset}: {what}")))?;
    }
    Ok(())
}

fn damage_object(damage: &Damage) -> DamageObject {
    DamageObject { file: damage.file.clone(), offset: damage.offset, what: damage.what.clone() }
}

fn segment_line(segment: &SegmentObject) -> String {
    let SegmentObject { file, bytes, used_bytes, records, superseded_entries, .. } = segment;
    let size = format!("{} of {} used", output::bytes(*used_bytes), output::bytes(*bytes));
    let span = match (segment.first_index, segment.last_index, segment.first_offset, segment.next_offset) {
        (Some(first), Some(last), Some(from), Some(next)) => {
            let offsets = if next > from { format!(", offsets {from}..{}", next - 1) } else { String::new() };
            let terms = match (segment.first_term, segment.last_term) {
                (Some(a), Some(b)) if a != b => format!("terms {a}..{b}"),
                (Some(a), _) => format!("term {a}"),
                _ => String::new(),
            };
            let times = match (&segment.first_time, &segment.last_time) {
                (Some(a), Some(b)) => format!(", {a} to {b}"),
                _ => String::new(),
            };
            format!("entries {first}..{last}{offsets}, {} records, {terms}{times}", thousands(*records))
        }
        _ => "no entry in force".to_owned(),
    };
    let superseded = match superseded_entries {
        0 => String::new(),
        n => format!(", {} superseded", thousands(*n)),
    };
    printable(&format!("{file}  {size}: {span}{superseded}"))
}
