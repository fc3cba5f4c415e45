//! Why an agent does not start, or stops: whose fault it is and what to do.

use quorate_certs::CertsError;
use quorate_raft::wal;
use quorate_transport::{BindError, KeyError};
use std::io;
use std::path::{Path, PathBuf};

/// An agent that did not start, or that had to stop.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Another process has the data directory.
    #[error("data directory {} is in use by another agent (it holds the lock); stop that one first, or choose another --data", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// The data directory cannot be used.
    #[error("cannot {action} {} ({source}); check that the directory exists, is writable and belongs to this user", path.display())]
    Data {
        /// What was tried.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file or directory is open to others, and must not be.
    #[error("{} {what} (mode {mode:04o}); {next}", path.display())]
    Loose {
        /// The file or directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// What is wrong with them.
        what: &'static str,
        /// What to do.
        next: String,
    },
    /// A file of the data directory does not hold what it should.
    #[error("{} {what}; {next}", path.display())]
    Foreign {
        /// The file or directory.
        path: PathBuf,
        /// What is wrong.
        what: String,
        /// What to do.
        next: &'static str,
    },
    /// The log is damaged.
    #[error("the log in {} is damaged: {source}", path.display())]
    Corrupt {
        /// The directory.
        path: PathBuf,
        /// Which file and offset.
        source: wal::Error,
    },
    /// The log is damaged, and nobody else has a copy of it.
    #[error(
        "the log in {} is damaged, and no other member has a copy of it: {file} at byte {offset}: {what} (entries {first} to \
         {last}); restore the directory from a backup, or give up what is damaged with `quorate recover --data DIR`",
        path.display()
    )]
    Unrepairable {
        /// The directory.
        path: PathBuf,
        /// The file in it.
        file: String,
        /// Where in it, in bytes.
        offset: u64,
        /// What is wrong there.
        what: String,
        /// The first entry that is lost.
        first: u64,
        /// The last entry that may be lost.
        last: u64,
    },
    /// The log cannot be opened.
    #[error("the log in {} cannot be opened: {source}", path.display())]
    Log {
        /// The directory.
        path: PathBuf,
        /// Why not.
        source: wal::Error,
    },
    /// The options contradict each other.
    #[error("{0}")]
    Options(String),
    /// The certificates cannot be used.
    #[error(transparent)]
    Certs(#[from] CertsError),
    /// The node key cannot be used.
    #[error("the node key cannot be used ({0}); restore it, or wipe the data directory to join as a new node")]
    Key(#[from] KeyError),
    /// The address cannot be listened on.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The system refused something every program needs.
    #[error("the system refused {what} ({source})")]
    System {
        /// What.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The agent had to stop.
    #[error("the agent stopped: {0}")]
    Stopped(String),
}

impl Error {
    /// The exit code of a process that ends with this error, as in the contract of the command line.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::InUse { .. } => 75,
            Self::Corrupt { .. } | Self::Unrepairable { .. } => 11,
            Self::Certs(_) | Self::Options(_) | Self::Bind(_) | Self::Foreign { .. } | Self::Key(_) => 78,
            Self::Data { .. } | Self::Loose { .. } => 78,
            Self::Log { .. } | Self::System { .. } | Self::Stopped(_) => 1,
        }
    }

    /// What the log in this data directory says.
    pub(crate) fn of_log(path: &Path, source: wal::Error) -> Self {
        match source {
            wal::Error::Locked => Self::InUse { path: path.into() },
            wal::Error::Corrupt { .. } => Self::Corrupt { path: path.into(), source },
            wal::Error::Io { action, source, .. } => Self::Data { action, path: path.into(), source },
            source => Self::Log { path: path.into(), source },
        }
    }
}
