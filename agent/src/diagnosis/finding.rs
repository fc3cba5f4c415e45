//! Findings: one cause, what speaks for it, and what to do.
//!
//! It never holds a key or a token: facts have none.

use super::{Cause, Severity};
use std::collections::BTreeSet;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Which.
    pub cause: Cause,
    /// How bad it is here.
    pub severity: Severity,
    /// Whom or what it is about: the name of an agent, an address, a directory.
    pub about: String,
    /// The cause in the words of this case.
    pub title: String,
    /// What speaks for it, one sentence each.
    pub evidence: Vec<String>,
    /// What to do, in this order; exact commands.
    pub next: Vec<String>,
    /// The nodes whose silence it explains.
    pub(super) explains: BTreeSet<u64>,
    /// It explains that the agent which was asked reaches nobody.
    pub(super) isolates: bool,
}

impl Finding {
    /// A finding without evidence yet, as bad as its cause is.
    pub(super) fn new(cause: Cause, about: impl Into<String>, title: impl Into<String>) -> Self {
        Self {
            cause,
            severity: cause.severity(),
            about: about.into(),
            title: title.into(),
            evidence: Vec::new(),
            next: Vec::new(),
            explains: BTreeSet::new(),
            isolates: false,
        }
    }

    pub(super) fn evidence(mut self, what: impl Into<String>) -> Self {
        self.evidence.push(what.into());
        self
    }

    pub(super) fn next(mut self, what: impl Into<String>) -> Self {
        self.next.push(what.into());
        self
    }

    pub(super) fn severity(self, severity: Severity) -> Self {
        Self { severity, ..self }
    }

    pub(super) fn explains(mut self, node: u64) -> Self {
        self.explains.insert(node);
        self
    }

    pub(super) fn isolates(self) -> Self {
        Self { isolates: true, ..self }
    }
}

/// All that is wrong, the roots first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnosis {
    /// The agent that was asked, or whose directory was looked at.
    pub agent: Option<String>,
    /// The leader, if one is known.
    pub leader: Option<String>,
    /// It is known that there is none.
    pub no_leader: bool,
    /// What comes before the findings: the state of leader and quorum, a line each.
    pub headline: Vec<String>,
    /// What was found.
    pub findings: Vec<Finding>,
}

impl Diagnosis {
    /// Nothing is wrong.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.findings.is_empty() && !self.no_leader
    }

    /// Was anything of this cause found?
    #[must_use]
    pub fn has(&self, cause: Cause) -> bool {
        self.findings.iter().any(|finding| finding.cause == cause)
    }
}
