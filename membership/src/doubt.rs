//! Doubts: members that others call failed, each with the time it has to answer here.
//! Never a reason to act before that time is over.

use crate::entry::Seen;
use crate::types::Mono;

/// A member that others have declared failed, and that has not answered here yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Doubt {
    pub(crate) suspected: Seen,
    pub(crate) until: Mono,
}
