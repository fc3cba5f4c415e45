//! Diagnosis: from facts to causes. Why is there no leader, why is this agent not a member, what is about to go wrong?
//!
//! It never asks anybody, reads no file and knows no clock: facts in, findings out. So an agent that runs and a directory that
//! nobody uses are judged by the same rules, and each rule is tested with facts alone.
//!
//! A rule looks for one cause and says what speaks for it. What another finding explains is not told as a cause of its own
//! (`order.rs`): an expired certificate explains that nobody answers, and that explains that there is no quorum.

mod agents;
mod case;
mod cause;
mod disks;
mod explain;
mod finding;
mod formation;
mod identity;
mod levels;
mod links;
mod local;
mod order;
mod pages;
mod quorum;
#[cfg(test)]
mod tests;
mod trust;
mod unfinished;
mod words;

pub use case::{Case, LocalFacts, LocalTrouble};
pub use cause::{Cause, Severity};
pub use explain::{nearest, page};
pub use finding::{Diagnosis, Finding};

use case::View;

/// What the facts say.
#[must_use]
pub fn diagnose(case: &Case) -> Diagnosis {
    let view = View::of(case);
    let mut found = Vec::new();
    local::look(&view, &mut found);
    trust::look(&view, &mut found);
    identity::look(&view, &mut found);
    agents::look(&view, &mut found);
    disks::look(&view, &mut found);
    links::look(&view, &mut found);
    levels::look(&view, &mut found);
    unfinished::look(&view, &mut found);
    formation::look(&view, &mut found);
    quorum::look(&view, &mut found);
    agents::reported(&view, &mut found);
    let (no_leader, headline) = quorum::headline(&view);
    let findings = order::roots_first(found);
    Diagnosis { agent: view.name(), leader: view.leader(), no_leader, headline, findings }
}
