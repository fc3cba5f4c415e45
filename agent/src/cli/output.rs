//! What people and scripts see: data on stdout, everything else on stderr, one line an error, one exit code a cause.
//!
//! It never lets text from remote machines reach a terminal raw.

use crate::limits::printable;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use std::cell::RefCell;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::process::ExitCode;

/// How results and errors are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    // For people.
    Text,
    // For programs: one object, or one a line.
    Json,
}

/// The exit codes of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// A closed pipe: whoever read has seen enough.
    Ok = 0,
    /// Something else.
    Error = 1,
    /// What was typed is not understood.
    Usage = 2,
    /// No agent answers.
    Unreachable = 3,
    /// The certificate is refused or its role is too weak.
    NotAuthorised = 4,
    /// Something else changed meanwhile.
    Conflict = 5,
    /// No leader or quorum; surely not applied.
    NoQuorum = 6,
    /// Nobody can say whether it was applied.
    Unknown = 7,
    /// Not there, or trimmed.
    NotFound = 8,
    /// `--check` found something.
    Unhealthy = 9,
    /// It would endanger the cluster.
    Refused = 10,
    /// Bytes that are not what was written.
    Corrupt = 11,
    /// Another process uses the data directory.
    InUse = 75,
    /// A configuration that cannot be used.
    Config = 78,
    /// A `--wait` timed out.
    WaitTimeout = 124,
    /// Ctrl-C, where there was something to clean up.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

impl Exit {
    /// The word for programs.
    fn code(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Error => "error",
            Self::Usage => "usage",
            Self::Unreachable => "unreachable",
            Self::NotAuthorised => "not_authorised",
            Self::Conflict => "conflict",
            Self::NoQuorum => "no_quorum",
            Self::Unknown => "unknown",
            Self::NotFound => "not_found",
            Self::Unhealthy => "unhealthy",
            Self::Refused => "refused",
            Self::Corrupt => "corrupt",
            Self::InUse => "in_use",
            Self::Config => "bad_config",
            Self::WaitTimeout => "wait_timeout",
            Self::Interrupted => "interrupted",
        }
    }
}

/// Whether a failed command changed anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// Surely not.
    NotApplied,
    /// Nobody can say.
    Unknown,
    /// The command never changes anything.
    None,
}

/// An error as it is shown: `error: <message>; <hint>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CliError {
    pub(crate) exit: Exit,
    /// What, and in parentheses why.
    pub(crate) message: String,
    /// What to do next; may be empty.
    pub(crate) hint: String,
    pub(crate) outcome: Outcome,
    /// What programs are told, where that is more exact than the exit code.
    pub(crate) word: Option<&'static str>,
}

impl CliError {
    /// An error of a command that changed nothing.
    pub(crate) fn new(exit: Exit, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { exit, message: message.into(), hint: hint.into(), outcome: Outcome::None, word: None }
    }

    /// The system refused something.
    pub(crate) fn system(what: &str, why: &dyn std::fmt::Display, next: &str) -> Self {
        Self::new(Exit::Error, format!("{what} ({why})"), next)
    }

    /// An error whose text already ends with `; <next>`.
    pub(crate) fn from_sentence(exit: Exit, text: &str) -> Self {
        let (message, hint) = text.rsplit_once("; ").unwrap_or((text, ""));
        Self::new(exit, message, hint)
    }

    /// The same with a word of its own for programs.
    pub(crate) fn word(self, word: &'static str) -> Self {
        Self { word: Some(word), ..self }
    }

    /// The same with another outcome.
    pub(crate) fn outcome(self, outcome: Outcome) -> Self {
        Self { outcome, ..self }
    }

    /// Did the command end early because somebody wanted it to, rather than because something went wrong?
    pub(crate) fn is_quiet(&self) -> bool {
        matches!(self.exit, Exit::Interrupted | Exit::Ok)
    }

    /// The line for people, without `error: `.
    fn line(&self) -> String {
        let text = if self.hint.is_empty() { self.message.clone() } else { format!("{}; {}", self.message, self.hint) };
        printable(&text)
    }
}

impl From<io::Error> for CliError {
    /// From writing to stdout: nobody reads any more, which is no error; or the disk behind it is full.
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::new(Exit::Ok, "", ""),
            _ => Self::system("cannot write to stdout", &error, "check what it is redirected to"),
        }
    }
}

impl From<crate::config::ConfigError> for CliError {
    fn from(error: crate::config::ConfigError) -> Self {
        Self::new(Exit::Config, error.message, error.next)
    }
}

#[derive(Serialize)]
struct ErrorObject<'a> {
    v: u32,
    error: ErrorBody<'a>,
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    code: &'static str,
    message: &'a str,
    outcome: Outcome,
    hint: &'a str,
}

/// The two streams of this process.
pub(crate) struct Ui {
    pub(crate) format: Format,
    out: RefCell<BufWriter<anstream::AutoStream<io::Stdout>>>,
}

impl Ui {
    /// Data goes out in the given format.
    pub(crate) fn new(format: Format) -> Self {
        Self { format, out: RefCell::new(BufWriter::new(anstream::stdout())) }
    }

    /// Is JSON asked for.
    pub(crate) fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// One line of data for people. The caller has made remote text printable.
    pub(crate) fn line(&self, text: &str) -> Result<(), CliError> {
        let mut out = self.out.borrow_mut();
        out.write_all(text.as_bytes())?;
        out.write_all(b"\n")?;
        Ok(())
    }

    /// One JSON object, on one line.
    pub(crate) fn json(&self, object: &impl Serialize) -> Result<(), CliError> {
        let text =
            serde_json::to_string(object).map_err(|e| CliError::system("cannot write JSON", &e, "report this"))?;
        self.line(&json_for_terminals(text))
    }

    /// Shows what was written so far.
    pub(crate) fn flush(&self) -> Result<(), CliError> {
        self.out.borrow_mut().flush()?;
        Ok(())
    }

    /// Ends a command that succeeded: only now is it known that all data went out.
    pub(crate) fn finish(&self) -> Result<(), CliError> {
        self.flush()
    }

    /// A hint, a progress note: for a person at stderr, never for a script.
    pub(crate) fn note(&self, text: &str) {
        if !self.is_json() {
            // On a terminal, what was found comes before the remark about it.
            let _ = self.flush();
            let _ = writeln!(anstream::stderr(), "{text}");
        }
    }

    /// Says why the command failed and answers with its exit code.
    pub(crate) fn fail(&self, error: &CliError) -> ExitCode {
        // What was already found out is data; it goes before the error.
        let _ = self.flush();
        if error.exit != Exit::Ok {
            let _ = writeln!(anstream::stderr(), "{}", self.error_text(error));
        }
        error.exit.into()
    }

    fn error_text(&self, error: &CliError) -> String {
        if !self.is_json() {
            return format!("error: {}", error.line());
        }
        let code = error.word.unwrap_or(error.exit.code());
        let body = ErrorBody { code, message: &error.message, outcome: error.outcome, hint: &error.hint };
        // Our own strings always serialize.
        json_for_terminals(serde_json::to_string(&ErrorObject { v: 1, error: body }).unwrap_or_default())
    }
}

/// The same JSON on one line and without a character that a terminal or an editor would obey.
///
/// Values that are JSON go out as they were written, so they may hold line breaks (between tokens only) and raw control
/// characters beyond ASCII (within strings only): the first are dropped, the second escaped. The meaning is unchanged.
fn json_for_terminals(text: String) -> String {
    let plain = |b: u8| (0x20..0x7f).contains(&b);
    if text.bytes().all(plain) {
        return text;
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let ascii = rest.bytes().position(|b| !b.is_ascii()).unwrap_or(rest.len());
        let (run, after) = rest.split_at(ascii);
        for c in run.chars() {
            match c {
                '\0'..' ' => {}
                '\u{7f}' => out.push_str("\\u007f"),
                c => out.push(c),
            }
        }
        let other = after.bytes().position(|b| b.is_ascii()).unwrap_or(after.len());
        let (run, after) = after.split_at(other);
        if printable(run) == run {
            out.push_str(run);
        } else {
            run.chars().for_each(|c| push_escaped(&mut out, c));
        }
        rest = after;
    }
    out
}

fn push_escaped(out: &mut String, c: char) {
    let mut buffer = [0; 4];
    let text: &str = c.encode_utf8(&mut buffer);
    if printable(text) == text {
        out.push(c);
    } else {
        let mut units = [0; 2];
        for unit in c.encode_utf16(&mut units) {
            out.push_str(&format!("\\u{unit:04x}"));
        }
    }
}

/// Microseconds since the Unix epoch as RFC 3339 in UTC, with this many digits of the second.
pub(crate) fn time(micros: i64, digits: u32) -> String {
    let Ok(at) = time::OffsetDateTime::from_unix_timestamp_nanos(i128::from(micros) * 1_000) else {
        return format!("{micros}us");
    };
    let fraction = at.microsecond() / 10_u32.pow(6 - digits.min(6));
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{fraction:0width$}Z",
        at.year(),
        u8::from(at.month()),
        at.day(),
        at.hour(),
        at.minute(),
        at.second(),
        width = digits as usize,
    )
}

/// 1234567 as `1,234,567`.
pub(crate) fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

/// Bytes as people say them.
pub(crate) fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut size = n as f64;
    let mut unit = 0;
    while size >= 1024.0 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{n} B") } else { format!("{size:.1} {}", UNITS[unit]) }
}

/// Bytes of so many bytes. Only on a terminal; data goes to stdout, this never does.
pub(crate) fn bytes_bar() -> ProgressBar {
    let seen = io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
    let target = if seen { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(Some(0), target);
    if let Ok(style) =
        ProgressStyle::with_template("{bar:40} {binary_bytes} of {binary_total_bytes}, {binary_bytes_per_sec}")
    {
        bar.set_style(style);
    }
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_line_in_either_format() {
        let error = CliError::new(Exit::NoQuorum, "nobody leads (2 of 3 are\nsilent)", "start them");
        let text = Ui::new(Format::Text).error_text(&error);
        assert_eq!(text, "error: nobody leads (2 of 3 are\\nsilent); start them");
        let json = Ui::new(Format::Json).error_text(&error.outcome(Outcome::NotApplied));
        assert_eq!(
            json,
            r#"{"v":1,"error":{"code":"no_quorum","message":"nobody leads (2 of 3 are\nsilent)","outcome":"not_applied","hint":"start them"}}"#
        );
    }

    #[test]
    fn json_keeps_its_meaning_without_characters_that_a_terminal_obeys() {
        let text = "{\n \"a\":\t\"\u{9b}2J\u{202e}\u{7f}é日本\"}";
        let safe = json_for_terminals(text.into());
        assert_eq!(safe, "{ \"a\":\"\\u009b2J\\u202e\\u007fé日本\"}");
        let read = |s: &str| serde_json::from_str::<serde_json::Value>(s).unwrap();
        assert_eq!(read(&safe), read(text));
    }

    #[test]
    fn times_sizes_and_counts_read_as_people_write_them() {
        assert_eq!(time(1_764_000_000_123_456, 6), "2025-11-24T16:00:00.123456Z");
        assert_eq!(time(1_764_000_000_023_456, 3), "2025-11-24T16:00:00.023Z");
        assert_eq!(time(-1, 6), "1969-12-31T23:59:59.999999Z");
        assert_eq!(thousands(0), "0");
        assert_eq!(thousands(1_234_567), "1,234,567");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1536), "1.5 KiB");
    }
}
