//! Descriptors: how programs on one machine find the agents that run on it.
//!
//! It never speaks to an agent, and never trusts a directory that others could write to: a descriptor names the
//! identity files with which the reader will speak.
//!
//! A descriptor is a JSON file in the runtime directory. Its agent holds an exclusive lock on it while it lives, so a
//! reader that gets the lock knows that the agent is dead. A change is a new file under a new name, after which the old
//! one goes: no name ever changes its meaning, so a reader can remove a dead one without a race.

use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// The environment variable that names the runtime directory.
pub const RUNTIME_DIR_VARIABLE: &str = "QUORATE_RUNTIME_DIR";
/// Most bytes of a descriptor; larger files are not ours.
pub const DESCRIPTOR_BYTES_MAX: u64 = 64 << 10;
/// Most descriptors that are looked at in one directory.
pub const DESCRIPTORS_MAX: usize = 1_024;

const SUFFIX: &str = "agent.json";

/// What a running agent tells the other programs of its user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Descriptor {
    /// The version of this format, 1.
    pub v: u32,
    /// The agent's name.
    pub name: String,
    /// Its node id, hex.
    pub node: String,
    /// The cluster id, hex.
    pub cluster: String,
    /// The log id, hex; `None` before the agent belongs to a log.
    pub log_id: Option<String>,
    /// The address it listens on, as this machine can dial it (loopback if it listens on all).
    pub addr: String,
    /// The address it advertises, once known.
    pub advertise: Option<String>,
    /// Its data directory.
    pub data: PathBuf,
    /// The directory of its identity files.
    pub certs: PathBuf,
    /// Its process.
    pub pid: u32,
    /// Was it started with `--dev`.
    pub dev: bool,
}

/// Why there is no runtime directory to use, or a descriptor cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum DescriptorError {
    /// A directory that is not ours alone.
    #[error("{} cannot hold descriptors ({why}); {next}", path.display())]
    Unsafe {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
        /// What to do.
        next: &'static str,
    },
    /// The system refused.
    #[error("cannot write {} ({source}); check its owner and the free space, or set {RUNTIME_DIR_VARIABLE}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Where descriptors may be, the best place first. The variable, if set, is the only place.
#[must_use]
pub fn candidates() -> Vec<PathBuf> {
    if let Some(dir) = std::env::var_os(RUNTIME_DIR_VARIABLE).filter(|dir| !dir.is_empty()) {
        return vec![dir.into()];
    }
    let mut all = Vec::new();
    if cfg!(target_os = "linux") {
        all.push(PathBuf::from("/run/quorate"));
    }
    if let Some(dir) = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty()) {
        all.push(Path::new(&dir).join("quorate"));
    }
    all.push(std::env::temp_dir().join(format!("quorate-{}", owner())));
    all
}

/// The first usable candidate, made if it is absent: a directory of mode 0700 that is ours.
pub fn runtime_dir() -> Result<PathBuf, DescriptorError> {
    let mut last = None;
    for dir in candidates() {
        match usable(&dir, true) {
            Ok(true) => return Ok(dir),
            Ok(false) => {}
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| DescriptorError::Unsafe {
        path: std::env::temp_dir(),
        why: "no runtime directory can be made",
        next: "set QUORATE_RUNTIME_DIR to a directory of your own",
    }))
}

/// Is `dir` ours alone? `Ok(false)` if it is absent (and was not to be made). A symbolic link is never followed.
pub(crate) fn usable(dir: &Path, make: bool) -> Result<bool, DescriptorError> {
    let io = |source| DescriptorError::Io { path: dir.into(), source };
    if make {
        match make_private(dir) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(io(e)),
            _ => {}
        }
    }
    let meta = match fs::symlink_metadata(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        other => other.map_err(io)?,
    };
    let refuse = |why, next| Err(DescriptorError::Unsafe { path: dir.into(), why, next });
    if !meta.is_dir() {
        return refuse("it is no directory", "remove it or set QUORATE_RUNTIME_DIR to a directory of your own");
    }
    if !ours(&meta) {
        return refuse("it belongs to another user", "set QUORATE_RUNTIME_DIR to a directory of your own");
    }
    if !private(&meta) {
        return refuse("other users may enter it", "run chmod 700 on it");
    }
    Ok(true)
}

#[cfg(unix)]
fn make_private(dir: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().mode(0o700).create(dir)
}

#[cfg(not(unix))]
fn make_private(dir: &Path) -> io::Result<()> {
    fs::create_dir(dir)
}

#[cfg(unix)]
fn ours(meta: &fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    meta.uid() == rustix::process::geteuid().as_raw()
}

/// Elsewhere the per-user temporary directory is the protection.
#[cfg(not(unix))]
fn ours(_: &fs::Metadata) -> bool {
    true
}

#[cfg(unix)]
fn private(meta: &fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    meta.mode() & 0o077 == 0
}

#[cfg(not(unix))]
fn private(_: &fs::Metadata) -> bool {
    true
}

#[cfg(unix)]
fn owner() -> String {
    rustix::process::geteuid().as_raw().to_string()
}

#[cfg(not(unix))]
fn owner() -> String {
    std::env::var("USERNAME").unwrap_or_else(|_| "user".into())
}

/// The descriptor of the agent in this process; removed when dropped.
#[derive(Debug)]
pub struct Published {
    dir: PathBuf,
    path: PathBuf,
    /// Holds the lock.
    _file: File,
    descriptor: Descriptor,
}

impl Published {
    /// Writes `descriptor` into the runtime directory.
    pub fn new(descriptor: Descriptor) -> Result<Self, DescriptorError> {
        Self::within(runtime_dir()?, descriptor)
    }

    /// Writes `descriptor` into `dir`, which the caller has made private.
    fn within(dir: PathBuf, descriptor: Descriptor) -> Result<Self, DescriptorError> {
        let (path, file) = write(&dir, &descriptor)?;
        Ok(Self { dir, path, _file: file, descriptor })
    }

    /// What is published now.
    #[must_use]
    pub fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    /// Publishes `descriptor` in place of the former one; does nothing if they are equal.
    pub fn replace(&mut self, descriptor: Descriptor) -> Result<(), DescriptorError> {
        if descriptor != self.descriptor {
            // The new one is there before the old one goes, so that a reader always sees at least one.
            *self = Self::within(self.dir.clone(), descriptor)?;
        }
        Ok(())
    }
}

impl Drop for Published {
    fn drop(&mut self) {
        // Nobody misses it: a file without its lock counts as dead.
        let _ = fs::remove_file(&self.path);
    }
}

/// Writes under a temporary name, takes the lock, then gives it its final name: nobody can see it unlocked.
fn write(dir: &Path, descriptor: &Descriptor) -> Result<(PathBuf, File), DescriptorError> {
    let mut random = [0; 8];
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| DescriptorError::Io { path, source }
    };
    getrandom::fill(&mut random).map_err(|e| io(dir)(io::Error::other(e)))?;
    let name = format!("{}-{}.{SUFFIX}", descriptor.name, hex::encode(random));
    let (path, temporary) = (dir.join(&name), dir.join(format!(".{name}")));
    let text = serde_json::to_vec_pretty(descriptor).map_err(|e| io(&temporary)(e.into()))?;
    let written = (|| {
        let mut file = new_private_file(&temporary)?;
        lock(&file)?;
        file.write_all(&text)?;
        fs::rename(&temporary, &path)?;
        Ok(file)
    })();
    match written {
        Ok(file) => Ok((path, file)),
        Err(error) => {
            let _ = fs::remove_file(&temporary);
            Err(io(&temporary)(error))
        }
    }
}

fn new_private_file(path: &Path) -> io::Result<File> {
    let mut options = fs::OpenOptions::new();
    options.read(true).write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    options.open(path)
}

// `File::try_lock` is stable since Rust 1.89; there is no exclusive lock in `std` before it.
#[allow(clippy::incompatible_msrv)]
fn lock(file: &File) -> io::Result<()> {
    file.try_lock().map_err(io::Error::from)
}

/// Is the lock held by somebody else, who therefore lives?
#[allow(clippy::incompatible_msrv)]
fn is_locked(file: &File) -> bool {
    matches!(file.try_lock_shared(), Err(fs::TryLockError::WouldBlock))
}

/// What was found on this machine.
#[derive(Debug, Default)]
pub struct Found {
    /// The agents that run, by name; one an agent.
    pub alive: Vec<Descriptor>,
    /// Directories that were not looked at, and why.
    pub refused: Vec<String>,
}

/// Looks for running agents of this user. What dead agents left behind is removed.
#[must_use]
pub fn find() -> Found {
    let mut found = Found::default();
    for dir in candidates() {
        match usable(&dir, false) {
            Ok(true) => found.alive.extend(alive_in(&dir)),
            Ok(false) => {}
            Err(error) => found.refused.push(error.to_string()),
        }
    }
    found.alive.sort_by(|a, b| (&a.name, a.pid, b.log_id.is_some()).cmp(&(&b.name, b.pid, a.log_id.is_some())));
    // While an agent replaces its descriptor both are there; the one that knows its log sorts first.
    found.alive.dedup_by(|b, a| (&a.name, a.pid, &a.data) == (&b.name, b.pid, &b.data));
    found
}

/// The agents that run and have their descriptor in `dir`.
pub(crate) fn alive_in(dir: &Path) -> Vec<Descriptor> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let mut alive = Vec::new();
    for entry in entries.take(DESCRIPTORS_MAX).flatten() {
        let name = entry.file_name();
        // A hidden one is in the making: to touch its lock would take it from its agent.
        let ours = name.to_str().is_some_and(|name| name.ends_with(SUFFIX) && !name.starts_with('.'));
        if !ours || !entry.file_type().is_ok_and(|kind| kind.is_file()) {
            continue;
        }
        let path = entry.path();
        let Ok(file) = File::open(&path) else { continue };
        if is_locked(&file) {
            alive.extend(read(file));
        } else {
            // Its agent is dead, and the name is never used again.
            let _ = fs::remove_file(&path);
        }
    }
    alive
}

fn read(file: File) -> Option<Descriptor> {
    let mut text = String::new();
    file.take(DESCRIPTOR_BYTES_MAX).read_to_string(&mut text).ok()?;
    let descriptor: Descriptor = serde_json::from_str(&text).ok()?;
    (descriptor.v == 1).then_some(descriptor)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(name: &str) -> Descriptor {
        Descriptor {
            v: 1,
            name: name.into(),
            node: "00000000000000aa".into(),
            cluster: "c".into(),
            log_id: None,
            addr: "127.0.0.1:1".into(),
            advertise: None,
            data: "d".into(),
            certs: "i".into(),
            pid: 7,
            dev: false,
        }
    }

    fn private_dir() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
        }
        assert!(usable(dir.path(), false).unwrap());
        dir
    }

    fn files(dir: &Path) -> usize {
        fs::read_dir(dir).unwrap().count()
    }

    #[test]
    fn a_living_agent_is_found_and_a_gone_one_is_not() {
        let dir = private_dir();
        let a = Published::within(dir.path().into(), some("a")).unwrap();
        let b = Published::within(dir.path().into(), some("b")).unwrap();
        assert_eq!(alive_in(dir.path()).len(), 2);
        drop(b);
        assert_eq!(alive_in(dir.path()), [some("a")]);
        drop(a);
        assert_eq!(files(dir.path()), 0);
    }

    #[test]
    fn what_a_killed_agent_left_is_removed() {
        let dir = private_dir();
        let (path, file) = write(dir.path(), &some("a")).unwrap();
        assert_eq!(alive_in(dir.path()).len(), 1);
        drop(file);
        assert!(path.exists());
        assert!(alive_in(dir.path()).is_empty());
        assert!(!path.exists());
    }

    #[test]
    fn a_replacement_takes_the_place_of_the_former_one() {
        let dir = private_dir();
        let mut a = Published::within(dir.path().into(), some("a")).unwrap();
        let known = Descriptor { log_id: Some("l".into()), ..some("a") };
        a.replace(known.clone()).unwrap();
        assert_eq!(alive_in(dir.path()), [known]);
        assert_eq!(files(dir.path()), 1);
    }

    #[test]
    fn junk_is_not_a_descriptor() {
        let dir = private_dir();
        for (name, text) in [("x.agent.json", "{"), ("y.agent.json", "{\"v\":2}"), ("z.txt", "")] {
            fs::write(dir.path().join(name), text).unwrap();
        }
        assert!(alive_in(dir.path()).is_empty());
    }

    #[cfg(unix)]
    #[test]
    fn a_directory_that_others_may_enter_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let dir = private_dir();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        assert!(matches!(usable(dir.path(), true), Err(DescriptorError::Unsafe { .. })));
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(private_dir().path(), &link).unwrap();
        assert!(matches!(usable(&link, true), Err(DescriptorError::Unsafe { .. })));
    }

    #[test]
    fn an_absent_directory_is_made_private() {
        let dir = private_dir();
        let inner = dir.path().join("q");
        assert!(!usable(&inner, false).unwrap());
        assert!(usable(&inner, true).unwrap());
        assert!(usable(&inner, false).unwrap());
    }
}
