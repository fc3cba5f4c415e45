//! Names of files that more than one part of the log must know.

/// The two copies of meta.
pub(super) const META_FILES: [&str; 2] = ["meta.a", "meta.b"];
/// Ends the name of a sidecar.
pub(super) const SIDECAR_SUFFIX: &str = ".idx";
/// Ends the name of a file that is being prepared.
pub(super) const TMP_SUFFIX: &str = ".tmp";
