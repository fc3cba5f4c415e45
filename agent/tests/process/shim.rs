//! Shims between the program and libc: a C file of a few lines, made with the compiler that the build needs anyway and loaded
//! by the dynamic linker. Where there is none, a test says so and proves nothing.
#![cfg(target_os = "linux")]

use crate::cluster::Cluster;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// What a test says that cannot have one.
pub(crate) const NO_SHIM: &str = "skipped: no C compiler makes a shim here";

/// What `LD_PRELOAD` takes; `None` where it cannot be made.
pub(crate) fn make(cluster: &Cluster, source: &str) -> Option<PathBuf> {
    let (file, shim) = (cluster.path("shim.c"), cluster.path("shim.so"));
    fs::write(&file, source).unwrap();
    let made = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&shim).arg(&file).arg("-ldl").status();
    made.is_ok_and(|status| status.success()).then_some(shim)
}
