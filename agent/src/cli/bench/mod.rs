//! `quorate bench`: how fast appends are acknowledged, beside what the machine could do at best.
//!
//! It never measures with an append that is not durable on a quorum: there is no such append.

#![allow(dead_code)] // Parts of what is to come are there already.

mod arguments;
mod latency;
mod load;
mod payload;
mod report;
mod target;

use super::Global;
use super::find::{self, Whom};
use super::output::{CliError, Exit, Ui, thousands};
use crate::limits::printable;
pub(crate) use arguments::BenchArgs;
use load::{Appender, Window};
use payload::Payload;
use report::{Report, Row};
use std::sync::Arc;
use target::{Spoken, Target};

/// Measures, and says what it measured as it goes.
pub(crate) fn run(global: &Global, args: &BenchArgs, ui: &Ui) -> Result<(), CliError> {
    super::logging::start_client(global.log.as_deref())?;
    let runtime = super::runtime()?;
    let ended = runtime.block_on(perform(global, args, ui));
    // A resolver that hangs must not keep the command.
    runtime.shutdown_background();
    ended
}

async fn perform(global: &Global, args: &BenchArgs, ui: &Ui) -> Result<(), CliError> {
    let target = Target::look(find::route(global, Whom::Any)?, args.via, global.timeout).await?;
    if !ui.is_json() {
        ui.line(&format!(
            "{} agents vote, {} leads; records of {} bytes, {} an append, {} connections",
            target.voters(),
            printable(&target.leader),
            thousands(args.size.into()),
            args.batch,
            args.clients
        ))?;
        ui.line(&Row::header())?;
        ui.flush()?;
    }
    let mut rows = Vec::new();
    for &in_flight in &args.in_flight {
        for run in 1..=args.runs {
            let row = Row { in_flight, run, ..one_run(&target, args, in_flight).await? };
            if !ui.is_json() {
                ui.line(&row.line())?;
                ui.flush()?;
            }
            rows.push(row);
        }
    }
    if ui.is_json() {
        ui.json(&Report {
            v: 1,
            version: target.version.clone(),
            agents: target.voters(),
            leader: target.leader.clone(),
            size: args.size,
            batch: args.batch,
            clients: args.clients,
            runs: rows,
        })?;
    }
    Ok(())
}

async fn one_run(target: &Target, args: &BenchArgs, in_flight: u32) -> Result<Row, CliError> {
    let mut id = [0; 8];
    getrandom::fill(&mut id).map_err(|e| CliError::system("cannot get a random number", &e, ""))?;
    let payload = Arc::new(Payload::new(u64::from_le_bytes(id), args.size as usize));
    let mut sinks = Vec::new();
    let mut forwarded = Vec::new();
    for _ in 0..args.clients.min(in_flight) {
        let client = target.client()?;
        forwarded.push(Spoken::with(&client).await?.is_forwarding());
        sinks.push(Appender { client, payload: payload.clone(), batch: args.batch.into() });
    }
    let window = Window::after(args.warm_up, args.duration);
    let measured = load::closed(&sinks, in_flight, window, false).await.map_err(|e| find::error(e, true))?;
    for (sink, forwarded) in sinks.iter().zip(&mut forwarded) {
        *forwarded |= Spoken::with(&sink.client).await?.is_forwarding();
        sink.client.close().await;
    }
    let mut row = Row::of(&measured, args.size, args.batch, args.duration);
    row.forwarded = forwarded.iter().map(|&forwarded| u32::from(forwarded)).sum();
    if measured.latency.percentiles().samples == 0 {
        let why = measured.failure.unwrap_or_else(|| "no append ended in time".into());
        return Err(CliError::new(Exit::NoQuorum, format!("nothing was acknowledged ({why})"), "see `quorate status`"));
    }
    Ok(row)
}
