//! The order of causes: roots first, and what they explain not at all.
//!
//! It never drops what nothing explains.

use super::{Cause, Finding};
use std::collections::BTreeSet;

/// What follows from another cause wherever that stands, as long as it is about the same nodes.
fn is_consequence(cause: Cause) -> bool {
    matches!(
        cause,
        Cause::NoJoinAddress
            | Cause::NobodyFounded
            | Cause::WaitingForExpected
            | Cause::NotAdmitted
            | Cause::LinkBroken
            | Cause::QuorumDown
            | Cause::VoterDown
            | Cause::NoLeader
    )
}

/// One of several findings of one cause about the same thing is enough; the evidence of all is kept. Then the roots first.
pub(super) fn roots_first(found: Vec<Finding>) -> Vec<Finding> {
    let isolated = found.iter().any(|finding| finding.isolates);
    let mut kept: Vec<Finding> = Vec::new();
    for finding in found {
        if isolated && is_consequence(finding.cause) && !finding.isolates {
            continue;
        }
        match kept.iter_mut().find(|other| other.cause == finding.cause && other.about == finding.about) {
            None => kept.push(finding),
            Some(other) => {
                other.severity = other.severity.max(finding.severity);
                other.explains.extend(finding.explains);
                let news = finding.evidence.into_iter().filter(|what| !other.evidence.contains(what));
                let news: Vec<String> = news.collect();
                other.evidence.extend(news);
            }
        }
    }
    let explained: BTreeSet<u64> = kept
        .iter()
        .filter(|finding| !is_consequence(finding.cause))
        .flat_map(|finding| finding.explains.iter().copied())
        .collect();
    // A broken link to a node whose silence has a cause of its own is no cause.
    kept.retain(|finding| {
        let about_links = matches!(finding.cause, Cause::LinkBroken | Cause::VoterDown);
        !(about_links && !finding.explains.is_empty() && finding.explains.is_subset(&explained))
    });
    kept.sort_by_key(|finding| (std::cmp::Reverse(finding.severity), finding.cause));
    kept
}
