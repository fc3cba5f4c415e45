//! `quorate tail`: records from a place in the log on, one a line.
//!
//! It never invents an order: what the client hands out is the log's.

use super::find::{self, Whom};
use super::output::{CliError, Exit, Ui};
use super::record::{RecordObject, line};
use super::{Global, switch};
use crate::client::{ReadLevel, Start, TailFrom};
use crate::limits::{check_key, check_stream};
use crate::offsets::{self, Place};
use clap::Args;
use std::time::SystemTime;

/// Its arguments.
#[derive(Debug, Args)]
pub(crate) struct TailArgs {
    /// Where to start: start, end, N, +N, -N, A:B, @2026-11-20T15:00:00Z or @-1h
    #[arg(
        short = 'o',
        long,
        env = "QUORATE_OFFSET",
        hide_env = true,
        value_name = "SPEC",
        default_value = "start",
        allow_hyphen_values = true,
        value_parser = place
    )]
    offset: Place,
    /// Go on when the end is reached
    #[arg(short = 'f', long, env = "QUORATE_FOLLOW", hide_env = true, value_parser = switch())]
    follow: bool,
    /// Stop after this many records
    #[arg(short = 'n', long, env = "QUORATE_NUMBER", hide_env = true, value_name = "N")]
    number: Option<u64>,
    /// Only records of this stream
    #[arg(long, env = "QUORATE_STREAM", hide_env = true, value_name = "STREAM")]
    stream: Option<String>,
    /// Only records with this key
    #[arg(long, env = "QUORATE_KEY", hide_env = true, value_name = "KEY")]
    key: Option<String>,
    /// How fresh: committed, linear, or after=OFFSET
    #[arg(long, env = "QUORATE_READ", hide_env = true, value_name = "LEVEL", default_value = "committed", value_parser = read_level)]
    read: ReadLevel,
}

fn place(text: &str) -> Result<Place, offsets::OffsetError> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    offsets::parse(text, i64::try_from(now.as_micros()).unwrap_or(i64::MAX))
}

fn read_level(text: &str) -> Result<ReadLevel, String> {
    match (text, text.strip_prefix("after=")) {
        ("committed", _) => Ok(ReadLevel::Committed),
        ("linear", _) => Ok(ReadLevel::Linear),
        (_, Some(offset)) => offset.parse().map(ReadLevel::After).map_err(|_| "after= takes an offset".into()),
        _ => Err("one of committed, linear, after=OFFSET".into()),
    }
}

/// Prints records until the end, the number or the reader's patience is reached.
pub(crate) async fn run(global: &Global, args: &TailArgs, ui: &Ui) -> Result<(), CliError> {
    let illegal = |e: crate::limits::Illegal| CliError::new(Exit::Usage, e.to_string(), "correct it");
    args.stream.as_deref().map_or(Ok(()), check_stream).map_err(illegal)?;
    args.key.as_deref().map_or(Ok(()), check_key).map_err(illegal)?;
    let Place { start, until } = args.offset;
    // An end that is known makes following pointless, an empty range needs no agent.
    let follow = args.follow && until.is_none();
    if args.number == Some(0) || until.is_some_and(|until| matches!(start, Start::Offset(from) if from >= until)) {
        return Ok(());
    }
    let client = find::client(global, Whom::Any)?;
    let mut tail = client.tail(TailFrom {
        start,
        until,
        follow,
        stream: args.stream.clone(),
        key: args.key.clone(),
        read: args.read,
        hops: 0,
    });
    let mut left = args.number.unwrap_or(u64::MAX);
    while left > 0 {
        if !tail.is_ready() {
            // Nobody waits for what stands in a buffer.
            ui.flush()?;
        }
        let item = match tail.next().await {
            None => break,
            Some(item) => item.map_err(|e| find::error(e, false))?,
        };
        if ui.is_json() {
            ui.json(&RecordObject::of(&item))?;
        } else {
            ui.line(&line(&item))?;
        }
        left -= 1;
    }
    ui.flush()?;
    drop(tail);
    client.close().await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn read_levels_read_as_written() {
        assert_eq!(read_level("committed"), Ok(ReadLevel::Committed));
        assert_eq!(read_level("linear"), Ok(ReadLevel::Linear));
        assert_eq!(read_level("after=7"), Ok(ReadLevel::After(7)));
        for bad in ["", "after", "after=", "after=-1", "lease"] {
            assert!(read_level(bad).is_err(), "{bad}");
        }
    }
}
