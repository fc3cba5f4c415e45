//! `quorate append`: one value from the command line, or one a line from stdin.
//!
//! It never claims more than it knows: a range is printed when it is durable on a quorum, and an unknown outcome ends
//! the command with its own exit code.

use super::find::{self, Whom};
use super::output::{self, CliError, Exit, Outcome, Ui};
use super::{Global, pair};
use crate::api::Effect;
use crate::client::{Appended, Client, ClientError};
use crate::limits::{BATCH_BYTES_MAX, BATCH_RECORDS_MAX, RECORD_BYTES_MAX_CEILING, STREAM_DEFAULT};
use crate::record::{BATCH_HEADER_BYTES, Record};
use clap::Args;
use serde::Serialize;
use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::{self, BufRead, Read};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Most batches under way at one time.
const IN_FLIGHT_MAX: usize = 64;
/// Batches read ahead of those under way.
const READ_AHEAD: usize = 4;

/// Its arguments.
#[derive(Debug, Args)]
pub(crate) struct AppendArgs {
    /// The value, or - to read values from stdin: a line is one value, verbatim
    #[arg(value_name = "VALUE|-", allow_negative_numbers = true)]
    value: OsString,
    /// The stream
    #[arg(long, env = "QUORATE_STREAM", hide_env = true, value_name = "STREAM", default_value = STREAM_DEFAULT)]
    stream: String,
    /// The key
    #[arg(
        long,
        env = "QUORATE_KEY",
        hide_env = true,
        value_name = "KEY",
        default_value = "",
        hide_default_value = true
    )]
    key: String,
    /// The type, such as order.created
    #[arg(
        long,
        env = "QUORATE_TYPE",
        hide_env = true,
        value_name = "TYPE",
        default_value = "",
        hide_default_value = true
    )]
    r#type: String,
    /// A header; may be given again
    #[arg(short = 'H', long, env = "QUORATE_HEADER", hide_env = true, value_name = "KEY=VALUE", value_parser = pair)]
    header: Vec<(String, String)>,
    /// What request this belongs to
    #[arg(
        long,
        env = "QUORATE_CORRELATION",
        hide_env = true,
        value_name = "ID",
        default_value = "",
        hide_default_value = true
    )]
    correlation: String,
    /// With -: this many lines become one batch, which is appended as a whole or not at all
    #[arg(
        long,
        env = "QUORATE_BATCH",
        hide_env = true,
        value_name = "N",
        default_value_t = 1,
        value_parser = clap::value_parser!(u32).range(1..=BATCH_RECORDS_MAX as i64)
    )]
    batch: u32,
}

#[derive(Serialize)]
struct AppendedObject {
    v: u32,
    first: u64,
    last: u64,
    term: u64,
    time: String,
    deduped: bool,
}

/// Appends, and prints where.
pub(crate) async fn run(global: &Global, args: AppendArgs, ui: &Ui) -> Result<(), CliError> {
    let record = Record {
        stream: args.stream,
        key: args.key,
        kind: args.r#type,
        headers: args.header,
        correlation: args.correlation,
        ..Record::default()
    };
    record.check(0).map_err(|e| CliError::new(Exit::Usage, e.to_string(), "nothing was appended; correct it"))?;
    let client = find::client(global, Whom::Any)?;
    if args.value == "-" {
        lines(&client, record, args.batch as usize, ui).await?;
    } else {
        let value = args.value.into_encoded_bytes();
        let acked = client.append(&[Record { value: value.into(), ..record }]).await;
        show(&acked.map_err(|e| find::error(e, true))?, ui)?;
    }
    client.close().await;
    Ok(())
}

/// Says what was appended. It stands whether or not anybody reads that: who closed the pipe is not interested, and a
/// failure to say it must not look as if nothing had happened.
fn show(acked: &Appended, ui: &Ui) -> Result<(), CliError> {
    match say(acked, ui).and_then(|()| ui.flush()) {
        Err(error) if error.exit == Exit::Ok => Ok(()),
        Err(error) => Err(CliError {
            exit: Exit::Unknown,
            message: format!("appended at offset {}, which could not be said: {}", acked.first, error.message),
            hint: "read the log with `quorate tail` before you append it again".into(),
            outcome: Outcome::Unknown,
            word: None,
        }),
        Ok(()) => Ok(()),
    }
}

fn say(acked: &Appended, ui: &Ui) -> Result<(), CliError> {
    let Appended { first, last, term, time, deduped, .. } = *acked;
    if ui.is_json() {
        ui.json(&AppendedObject { v: 1, first, last, term, time: output::time(time, 6), deduped })
    } else if first == last {
        ui.line(&first.to_string())
    } else {
        ui.line(&format!("{first}..{last}"))
    }
}

/// What the reader of stdin hands over: a batch and the number of its last line, or why it stopped.
type Input = Result<(Vec<Record>, u64), CliError>;

async fn lines(client: &Client, template: Record, per_batch: usize, ui: &Ui) -> Result<(), CliError> {
    let (sender, mut input) = mpsc::channel::<Input>(READ_AHEAD);
    // A thread, because a read from a terminal or a pipe cannot be cancelled; it ends with the process.
    std::thread::spawn(move || {
        read(io::stdin().lock(), &template, per_batch, |batch| sender.blocking_send(batch).is_ok());
    });
    let mut under_way: VecDeque<Batch> = VecDeque::new();
    let mut failed: Option<Failed> = None;
    let mut open = true;
    while open || !under_way.is_empty() {
        let room = open && under_way.len() < IN_FLIGHT_MAX;
        tokio::select! {
            biased;
            next = input.recv(), if room => match next {
                None => open = false,
                Some(Err(error)) => {
                    open = false;
                    failed.get_or_insert(Failed { error, later: 0 });
                }
                Some(Ok((records, line))) => {
                    let client = client.clone();
                    let append = tokio::spawn(async move { client.append(&records).await });
                    under_way.push_back(Batch { append, line });
                }
            },
            // In the order of the lines, so that what was printed is always the outcome of the first lines.
            (line, outcome) = oldest(&mut under_way), if !under_way.is_empty() => match (outcome, &mut failed) {
                (Ok(acked), None) => show(&acked, ui)?,
                (Err(error), None) => {
                    // Nothing new goes out; what is under way still finds its outcome.
                    open = false;
                    let error = find::error(error, true);
                    let message = format!("line {line} of stdin: {}", error.message);
                    failed = Some(Failed { error: CliError { message, ..error }, later: 0 });
                }
                (outcome, Some(failed)) => {
                    let applied = outcome.map_or_else(|error| error.effect() == Effect::Unknown, |_| true);
                    failed.later += u64::from(applied);
                }
            },
        }
    }
    failed.map_or(Ok(()), |failed| Err(failed.verdict()))
}

struct Batch {
    append: JoinHandle<Result<Appended, ClientError>>,
    /// Its last line.
    line: u64,
}

/// The first failure, and how many batches behind it may stand in the log all the same.
struct Failed {
    error: CliError,
    later: u64,
}

impl Failed {
    /// Repeating from the failed line on is safe only if nothing behind it was appended.
    fn verdict(self) -> CliError {
        if self.later == 0 {
            return self.error;
        }
        CliError {
            exit: Exit::Unknown,
            message: format!("{}; {} batches after it stand, or may stand, in the log", self.error.message, self.later),
            hint: "read the log with `quorate tail` before you repeat any line from there on".into(),
            outcome: Outcome::Unknown,
            word: None,
        }
    }
}

/// Waits for the oldest batch. Cancel-safe: it leaves its place only when it is done.
async fn oldest(under_way: &mut VecDeque<Batch>) -> (u64, Result<Appended, ClientError>) {
    let Some(oldest) = under_way.front_mut() else { return std::future::pending().await };
    let done = (&mut oldest.append).await;
    let line = oldest.line;
    under_way.pop_front();
    (line, done.unwrap_or_else(|e| Err(ClientError::Unknown { why: e.to_string() })))
}

/// Reads lines into batches until the end, an error, or nobody wants them any more.
fn read(mut from: impl BufRead, template: &Record, per_batch: usize, mut give: impl FnMut(Input) -> bool) {
    let mut batch = Vec::new();
    let mut bytes = BATCH_HEADER_BYTES;
    let mut line_number = 0_u64;
    loop {
        let value = match read_line(&mut from) {
            Ok(Some(value)) => value,
            Ok(None) => break,
            Err(error) => {
                let what = format!("line {} of stdin cannot be read", line_number + 1);
                give(Err(CliError::system(&what, &error, "the lines before it were appended; correct it")));
                return;
            }
        };
        let record = Record { value: value.into(), ..template.clone() };
        let len = record.encoded_len();
        let full = batch.len() == per_batch || bytes + len > BATCH_BYTES_MAX;
        if full && !batch.is_empty() {
            bytes = BATCH_HEADER_BYTES;
            if !give(Ok((std::mem::take(&mut batch), line_number))) {
                return;
            }
        }
        line_number += 1;
        bytes += len;
        batch.push(record);
        // A batch that is complete goes out at once: somebody may be typing.
        if batch.len() == per_batch {
            bytes = BATCH_HEADER_BYTES;
            if !give(Ok((std::mem::take(&mut batch), line_number))) {
                return;
            }
        }
    }
    if !batch.is_empty() {
        give(Ok((batch, line_number)));
    }
}

/// One line without its line feed; the last one may lack it. Longer lines than any record may be are refused.
fn read_line(from: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let limit = RECORD_BYTES_MAX_CEILING as u64 + 1;
    from.take(limit).read_until(b'\n', &mut line)?;
    match line.last() {
        None => Ok(None),
        Some(b'\n') => {
            line.pop();
            Ok(Some(line))
        }
        Some(_) if line.len() as u64 == limit => {
            Err(io::Error::other(format!("it has more than {RECORD_BYTES_MAX_CEILING} bytes")))
        }
        Some(_) => Ok(Some(line)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batches(text: &[u8], per_batch: usize) -> Vec<(Vec<Vec<u8>>, u64)> {
        let mut all = Vec::new();
        read(text, &Record::of(""), per_batch, |batch| {
            let (records, line) = batch.unwrap();
            all.push((records.iter().map(|record| record.value.to_vec()).collect(), line));
            true
        });
        all
    }

    #[test]
    fn a_line_is_one_value_verbatim() {
        let read = batches(b" a \r\n\n\xffb\nlast", 2);
        let expected: Vec<(Vec<Vec<u8>>, u64)> =
            vec![(vec![b" a \r".to_vec(), b"".to_vec()], 2), (vec![b"\xffb".to_vec(), b"last".to_vec()], 4)];
        assert_eq!(read, expected);
        assert_eq!(batches(b"", 1), []);
        assert_eq!(batches(b"a\nb\nc\n", 2).len(), 2);
    }

    #[test]
    fn a_failure_with_something_behind_it_is_never_called_safe_to_repeat() {
        let error = || CliError::new(Exit::NoQuorum, "line 3", "repeat").outcome(Outcome::NotApplied);
        assert_eq!(Failed { error: error(), later: 0 }.verdict(), error());
        let verdict = Failed { error: error(), later: 2 }.verdict();
        assert_eq!((verdict.exit, verdict.outcome), (Exit::Unknown, Outcome::Unknown));
    }

    #[test]
    fn a_line_of_the_limit_is_read_and_one_byte_more_refused() {
        let mut text = vec![b'x'; RECORD_BYTES_MAX_CEILING];
        text.push(b'\n');
        assert_eq!(batches(&text, 1)[0].0[0].len(), RECORD_BYTES_MAX_CEILING);
        text.insert(0, b'x');
        let mut refused = false;
        read(&text[..], &Record::of(""), 1, |batch| {
            refused = batch.is_err();
            true
        });
        assert!(refused);
    }

    #[test]
    fn a_batch_never_outgrows_its_bound() {
        let line = vec![b'x'; RECORD_BYTES_MAX_CEILING / 2];
        let text = [line.as_slice(), line.as_slice(), line.as_slice()].join(&b'\n');
        let sizes: Vec<_> = batches(&text, 10).iter().map(|(records, _)| records.len()).collect();
        assert_eq!(sizes, [2, 1]);
    }
}
