//! Keys never leave their files.
