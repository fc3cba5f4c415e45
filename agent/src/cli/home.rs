//! The directory of a cluster that a command starts for itself: removed at the end unless it is to be kept.
//!
//! It never uses a directory that was there before.

use super::output::{CliError, Ui};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Where everything lies.
pub(crate) enum Home {
    /// Removed at the end.
    Temporary(TempDir),
    /// Stays.
    Kept(PathBuf),
}

impl Home {
    /// A new directory that stays.
    pub(crate) fn keep_in(dir: &Path) -> Result<Self, CliError> {
        let refused = |why: std::io::Error| {
            CliError::system(&format!("cannot use {}", dir.display()), &why, "name a directory that does not exist yet")
        };
        std::fs::create_dir(dir).map_err(refused)?;
        Ok(Self::Kept(std::path::absolute(dir).map_err(refused)?))
    }

    /// A new directory that ends with the command, below `within` or where the system keeps such directories. `next`:
    /// what to do if none can be made.
    pub(crate) fn temporary(prefix: &str, within: Option<&Path>, next: &str) -> Result<Self, CliError> {
        let mut builder = tempfile::Builder::new();
        let builder = builder.prefix(prefix);
        let made = match within {
            // Agents are told of it, and must find it from wherever they start.
            Some(dir) => std::path::absolute(dir).and_then(|dir| builder.tempdir_in(dir)),
            None => builder.tempdir(),
        };
        made.map(Self::Temporary).map_err(|e| match within {
            Some(dir) => CliError::system(&format!("cannot make a directory in {}", dir.display()), &e, next),
            None => CliError::system("cannot make a temporary directory", &e, next),
        })
    }

    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Temporary(dir) => dir.path(),
            Self::Kept(dir) => dir,
        }
    }

    /// What to say of a command that failed with its agents here: everything stays for whoever wants to know why, unless
    /// nothing went wrong.
    pub(crate) fn after_failure(self, error: CliError, logs: &[String], ui: &Ui) -> CliError {
        logs.iter().for_each(|line| ui.note(line));
        if error.is_quiet() {
            return error;
        }
        CliError { hint: format!("logs, data and certificates are in {}", self.keep().display()), ..error }
    }

    /// Leaves everything where it is, for whoever wants to know what went wrong.
    pub(crate) fn keep(self) -> PathBuf {
        match self {
            Self::Temporary(dir) => dir.keep(),
            Self::Kept(dir) => dir,
        }
    }
}
