//! Errors of the log, sorted by what the caller has to do.
//!
//! None of them is ever swallowed here, and none is retried here.

use std::io;

use super::damaged::DamagedRange;
use super::disk;
use super::entry::EntryError;
use crate::LogIndex;

/// Why the log refused. Each variant says whether anything changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Someone else has this directory open. Nothing changed.
    #[error("the data directory is in use by another process; stop that one first")]
    Locked,
    /// `create` found a log. Nothing changed.
    #[error("there is a log already ({file}); open it, or choose an empty directory")]
    Exists {
        /// What was found.
        file: String,
    },
    /// `open` found no log. Nothing changed.
    #[error("there is no log in this directory; create it first")]
    Missing,
    /// Bytes that were durable are damaged or gone. Nothing changed: the log is never cut to make it open.
    #[error("{file} is damaged at byte {offset}: {what}; keep this directory and restore the node from its peers")]
    Corrupt {
        /// The file.
        file: String,
        /// Where in it.
        offset: u64,
        /// What is wrong there.
        what: String,
        /// The entries that cannot be given, first and last, if it is known which.
        entries: Option<(LogIndex, LogIndex)>,
    },
    /// The entries for a damaged range are not the ones that stood there. Nothing changed; what was given of this range
    /// before is forgotten.
    #[error("entries {first} to {last} are not repaired: {why}; ask another peer")]
    NotRepaired {
        /// The first entry of the range.
        first: LogIndex,
        /// The last one.
        last: LogIndex,
        /// What does not fit.
        why: String,
    },
    /// Written by a newer version. Nothing changed.
    #[error("{file} was written by a newer version ({what}); upgrade this node")]
    Newer {
        /// The file.
        file: String,
        /// What is not known here.
        what: String,
    },
    /// The system failed. From a write or a sync: the writer is dead, abort the process and recover from the disk.
    #[error("cannot {action} {file}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        file: String,
        /// What the system said.
        source: io::Error,
    },
    /// There is no room to append. Nothing of the batch was written and the writer lives: make room and retry, or
    /// refuse the proposal. A batch without entries may still pass.
    #[error("cannot prepare space for the next entries in {file}: {source}; free disk space and retry")]
    NotPrepared {
        /// The file that was being prepared.
        file: String,
        /// What the system said.
        source: io::Error,
    },
    /// The batch contradicts the log or the meta; the caller is at fault. Nothing changed.
    #[error("the batch is refused: {0}")]
    Refused(&'static str),
    /// An entry of the batch is not the next one; the caller is at fault. Nothing changed.
    #[error("entry {index} of the batch is refused: {source}")]
    RefusedEntry {
        /// Which.
        index: LogIndex,
        /// Why.
        source: EntryError,
    },
    /// The writer failed before; nothing it did since the last successful sync is known. Abort and recover.
    #[error("the writer has failed before ({0}) and is never retried; restart the agent")]
    Poisoned(String),
    /// A read before the first entry that is kept.
    #[error("entry {asked} is no longer kept; the first one is {first}")]
    Trimmed {
        /// What was asked for.
        asked: LogIndex,
        /// The first entry there is.
        first: LogIndex,
    },
}

impl Error {
    pub(super) fn corrupt(file: &str, offset: u64, what: impl Into<String>) -> Self {
        Self::Corrupt { file: file.to_owned(), offset, what: what.into(), entries: None }
    }

    pub(super) fn of_range(range: &DamagedRange) -> Self {
        let DamagedRange { file, at, what, first, last } = range.clone();
        Self::Corrupt { file, offset: at, what, entries: Some((first, last)) }
    }

    /// Is this only about space, and worth a retry?
    #[must_use]
    pub fn is_retriable(&self) -> bool {
        matches!(self, Self::NotPrepared { .. })
    }

    /// Does it say that entries cannot be given back, now or at all, and nothing else?
    #[must_use]
    pub fn is_of_repair(&self) -> bool {
        self.is_retriable() || matches!(self, Self::NotRepaired { .. } | Self::Refused(_) | Self::RefusedEntry { .. })
    }
}

/// Turns an `io::Error` into an [`Error`] that says what was tried and where.
pub(super) trait Context<T> {
    fn context(self, action: &'static str, file: &str) -> Result<T, Error>;
    /// For space that nobody relies on yet: every failure is one of preparing.
    fn preparing(self, file: &str) -> Result<T, Error>;
    /// For growing a file in use: a full disk harms nothing, anything else is fatal.
    fn growing(self, file: &str) -> Result<T, Error>;
}

impl<T> Context<T> for io::Result<T> {
    fn context(self, action: &'static str, file: &str) -> Result<T, Error> {
        self.map_err(|source| Error::Io { action, file: file.to_owned(), source })
    }

    fn preparing(self, file: &str) -> Result<T, Error> {
        self.map_err(|source| Error::NotPrepared { file: file.to_owned(), source })
    }

    fn growing(self, file: &str) -> Result<T, Error> {
        match self {
            Err(source) if disk::is_full(&source) => Err(Error::NotPrepared { file: file.to_owned(), source }),
            other => other.context("write zeros to", file),
        }
    }
}
