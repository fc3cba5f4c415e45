//! `quorate tags`: the tags of one agent, shown or changed.
//!
//! It never edits them itself: the agent does, saves them, and tells everybody.

use super::Global;
use super::find::{self, Whom};
use super::output::{CliError, Exit, Ui};
use super::pair;
use crate::client::TagsChange;
use crate::limits::{check_tags, printable};
use clap::Args;
use serde::Serialize;
use std::collections::BTreeMap;

/// Its arguments.
#[derive(Debug, Args)]
pub(crate) struct TagsArgs {
    /// Another agent, to which the one that is asked carries the question
    #[arg(value_name = "NAME", value_parser = super::name)]
    name: Option<String>,
    /// Give this key this value; may be given again
    #[arg(long, env = "QUORATE_SET", hide_env = true, value_name = "KEY=VALUE", value_parser = pair)]
    set: Vec<(String, String)>,
    /// Take this key away; may be given again
    #[arg(long, env = "QUORATE_DELETE", hide_env = true, value_name = "KEY", value_parser = key)]
    delete: Vec<String>,
}

/// A key alone. Who writes `--delete zone=a` means `zone`, but may as well mean something else.
fn key(text: &str) -> Result<String, String> {
    if let Some((key, _)) = text.split_once('=') {
        return Err(format!("a tag is deleted by its key alone: --delete {key}"));
    }
    let one = BTreeMap::from([(text.to_owned(), String::new())]);
    check_tags(&one).map(|()| text.to_owned()).map_err(|e| e.to_string())
}

#[derive(Serialize)]
struct TagsObject<'a> {
    v: u32,
    name: &'a str,
    tags: &'a BTreeMap<String, String>,
    notes: &'a [String],
}

/// Asks for them, after the change if there is one.
pub(crate) async fn run(global: &Global, args: &TagsArgs, ui: &Ui) -> Result<(), CliError> {
    let change = change(args)?;
    // Without a name it matters who is asked; with one, whoever is asked carries it there.
    let whom = if args.name.is_some() { Whom::Any } else { Whom::One };
    let client = find::client(global, whom)?;
    let failed = |e| if change.is_empty() { find::error(e, false) } else { find::error_of_wish(e) };
    let told = client.tags(args.name.as_deref(), &change).await.map_err(failed)?;
    client.close().await;
    if ui.is_json() {
        return ui.json(&TagsObject { v: 1, name: &told.name, tags: &told.tags, notes: &told.notes });
    }
    for (key, value) in &told.tags {
        ui.line(&format!("{}={}", printable(key), printable(value)))?;
    }
    told.notes.iter().for_each(|note| ui.note(&printable(note)));
    if told.tags.is_empty() {
        ui.note(&format!("{} has no tags; give it one with `quorate tags --set KEY=VALUE`", printable(&told.name)));
    }
    Ok(())
}

/// What was asked for, if it can be: the agent checks the rest, since it alone knows what it has.
fn change(args: &TagsArgs) -> Result<TagsChange, CliError> {
    let usage = |what: String, hint: &str| CliError::new(Exit::Usage, what, hint);
    let mut set = BTreeMap::new();
    for (key, value) in &args.set {
        if set.insert(key.clone(), value.clone()).is_some() {
            return Err(usage(format!("the tag {} is set twice", printable(key)), "give each key once"));
        }
    }
    if let Some(key) = args.delete.iter().find(|key| set.contains_key(*key)) {
        return Err(usage(format!("the tag {} is both set and deleted", printable(key)), "say which"));
    }
    check_tags(&set).map_err(|e| usage(e.to_string(), "write it as --set key=value"))?;
    Ok(TagsChange { set, delete: args.delete.clone() })
}
