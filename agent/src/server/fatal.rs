//! The end of the process where a disk fails.
//!
//! It never returns and never retries: only a restart reads what the disk really holds.

use std::fmt::Display;

/// Nothing after this point may be acknowledged, so nothing runs after this point.
pub(super) fn fatal(action: &str, error: &dyn Display) -> ! {
    tracing::error!(
        "cannot {action}: {error}; the agent aborts and reads what the disk really holds at its next start"
    );
    std::process::abort();
}
