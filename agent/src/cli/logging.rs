//! Where log lines go: to stderr, one line an event, nothing in it that a terminal would obey.
//!
//! It decides nothing about what is logged; levels can change while the agent runs.

use super::output::{CliError, Exit};
use crate::config::LogFormat;
use crate::limits::{printable, shown};
use std::io::{self, Write};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

/// What a client command logs unless told otherwise: nothing that is not an error of ours.
const CLIENT_FILTER: &str = "error";

/// Changes what is logged.
#[derive(Clone)]
pub(crate) struct LogLevel(reload::Handle<EnvFilter, Registry>);

impl LogLevel {
    /// Logs by this filter from now on.
    pub(crate) fn set(&self, filter: &str) -> Result<(), String> {
        let filter = parse(filter).map_err(|e| e.message)?;
        self.0.reload(filter).map_err(|e| e.to_string())
    }
}

/// For an agent.
pub(crate) fn start_agent(filter: &str, format: LogFormat) -> Result<LogLevel, CliError> {
    let (filter, handle) = reload::Layer::new(parse(filter)?);
    let registry = tracing_subscriber::registry().with(filter);
    let layer = fmt::layer().with_ansi(false).with_writer(|| Guarded(io::stderr()));
    let started = match format {
        LogFormat::Text => registry.with(layer.with_target(true)).try_init(),
        LogFormat::Json => registry.with(layer.json().flatten_event(true).with_current_span(false)).try_init(),
    };
    started.map_err(|e| CliError::system("cannot start logging", &e, "report this"))?;
    Ok(LogLevel(handle))
}

/// For a client command.
pub(crate) fn start_client(filter: Option<&str>) -> Result<(), CliError> {
    start_agent(filter.unwrap_or(CLIENT_FILTER), LogFormat::Text).map(|_| ())
}

fn parse(filter: &str) -> Result<EnvFilter, CliError> {
    EnvFilter::builder().parse(filter).map_err(|_| {
        let what = format!("--log {} is not understood (it names no level)", shown(filter));
        CliError::new(Exit::Config, what, "use error, warn, info, debug or trace, also per module: info,quorate=debug")
    })
}

/// Writes events so that remote text in them stays text. Each event arrives in one write.
struct Guarded<W>(W);

impl<W: Write> Write for Guarded<W> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let line = event.strip_suffix(b"\n").unwrap_or(event);
        if line.iter().all(|b| (0x20..0x7f).contains(b)) {
            self.0.write_all(event)?;
        } else {
            let mut safe = printable(&String::from_utf8_lossy(line));
            safe.push('\n');
            self.0.write_all(safe.as_bytes())?;
        }
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_stays_one_line_and_obeys_nobody() {
        let mut out = Vec::new();
        Guarded(&mut out).write_all(b"seen a\x1b[31m\nb\xff\n").unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "seen a\\u{1b}[31m\\nb\u{fffd}\n");
    }

    #[test]
    fn a_filter_that_is_none_is_refused() {
        assert!(parse("info,quorate::server=debug").is_ok());
        assert_eq!(parse("quorate=loud").unwrap_err().exit, Exit::Config);
    }
}
