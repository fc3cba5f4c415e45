//! Pages: what `quorate explain CODE` prints. One for each cause; the documentation of the codes.
//!
//! It never says whether a cause applies.
#![allow(non_upper_case_globals)]

mod group;
mod machine;
mod trust;
mod upkeep;

pub(super) use group::*;
pub(super) use machine::*;
pub(super) use trust::*;
pub(super) use upkeep::*;

/// One page.
#[derive(Clone, Copy)]
pub(super) struct Page {
    pub(super) means: &'static str,
    pub(super) seen: &'static str,
    pub(super) todo: &'static [&'static str],
    pub(super) never: &'static str,
}
