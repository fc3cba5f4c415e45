//! Files that are born whole, private and once: temporary name, fsync, then a link that fails if the name is taken.
//! Never overwrites, and never narrows the mode of a file that was readable for a moment.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use crate::CertsError;
use crate::name::entropy;

/// The largest file read as a certificate or a key, in bytes; ours have about 1 KiB.
pub(crate) const FILE_BYTES_MAX: u64 = 256 * 1024;

/// Who may read a new file.
#[derive(Clone, Copy)]
pub(crate) enum Privacy {
    /// The owner only (0600).
    Secret,
    /// Everybody (0644, less the umask).
    Public,
}

/// Creates `dir` and its parents with mode 0700; a directory that exists stays as it is.
pub(crate) fn private_dir(dir: &Path) -> Result<(), CertsError> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir).map_err(|source| io_error(dir, "create the directory", source))
}

/// Creates the directory `dir` with these files, all at once or not at all.
pub(crate) fn new_dir(dir: &Path, files: &[(&str, Privacy, &[u8])]) -> Result<(), CertsError> {
    if fs::symlink_metadata(dir).is_ok() {
        return Err(CertsError::Exists(dir.to_owned()));
    }
    let temporary = beside(dir)?;
    private_dir(&temporary)?;
    let filled = files.iter().try_for_each(|(name, privacy, bytes)| {
        let path = temporary.join(name);
        write_synced(&path, *privacy, bytes).map_err(|source| io_error(&path, "write", source))
    });
    let published = filled.and_then(|()| {
        sync_dir(&temporary)?;
        // A directory replaces only an empty one; a full one makes the rename fail and stays whole.
        fs::rename(&temporary, dir).map_err(|source| match source.kind() {
            io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists => CertsError::Exists(dir.to_owned()),
            _ => io_error(dir, "create the directory", source),
        })
    });
    if published.is_err() {
        let _ = fs::remove_dir_all(&temporary);
    }
    published?;
    sync_dir(&parent(dir))
}

/// Creates the file `path` with these bytes, whole or not at all; fails if the name is taken.
pub(crate) fn new_file(path: &Path, privacy: Privacy, bytes: &[u8]) -> Result<(), CertsError> {
    if fs::symlink_metadata(path).is_ok() {
        return Err(CertsError::Exists(path.to_owned()));
    }
    let temporary = beside(path)?;
    let linked = write_synced(&temporary, privacy, bytes).and_then(|()| fs::hard_link(&temporary, path));
    let _ = fs::remove_file(&temporary);
    linked.map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => CertsError::Exists(path.to_owned()),
        _ => io_error(path, "write", source),
    })?;
    sync_dir(&parent(path))
}

/// Reads a small file; `needed` and `next` speak to the user if there is none.
pub(crate) fn read(path: &Path, needed: &'static str, next: &'static str) -> Result<Vec<u8>, CertsError> {
    let file = File::open(path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => CertsError::Missing { path: path.to_owned(), needed, next },
        _ => io_error(path, "read", source),
    })?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|source| io_error(path, "read", source))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        let why = format!("it is larger than {FILE_BYTES_MAX} bytes");
        return Err(CertsError::Malformed { path: path.to_owned(), why });
    }
    Ok(bytes)
}

/// Refuses a key file that others than its owner may read. Elsewhere than on unix there are no such bits to look at.
#[cfg(unix)]
pub(crate) fn refuse_loose(path: &Path) -> Result<(), CertsError> {
    use std::os::unix::fs::PermissionsExt;
    // Follows links on purpose: what counts is who can read the bytes.
    let Ok(metadata) = fs::metadata(path) else { return Ok(()) };
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o077 == 0 { Ok(()) } else { Err(CertsError::Loose { path: path.to_owned(), mode }) }
}

/// Refuses a key file that others than its owner may read. Elsewhere than on unix there are no such bits to look at.
#[cfg(not(unix))]
pub(crate) fn refuse_loose(_path: &Path) -> Result<(), CertsError> {
    Ok(())
}

fn write_synced(path: &Path, privacy: Privacy, bytes: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(match privacy {
            Privacy::Secret => 0o600,
            Privacy::Public => 0o644,
        });
    }
    #[cfg(not(unix))]
    let _ = privacy;
    let mut file = options.open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// A name in the same directory that nobody else uses.
fn beside(path: &Path) -> Result<PathBuf, CertsError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    Ok(parent(path).join(format!(".{name}.{}.new", hex::encode(entropy::<8>()?))))
}

fn parent(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// Makes new names in `dir` survive a crash. Only unix lets a directory be opened for that.
fn sync_dir(dir: &Path) -> Result<(), CertsError> {
    if cfg!(unix) {
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(|source| io_error(dir, "sync the directory", source))?;
    }
    Ok(())
}

fn io_error(path: &Path, doing: &'static str, source: io::Error) -> CertsError {
    CertsError::Io { path: path.to_owned(), doing, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_written_once_and_nothing_else_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.key");
        new_file(&path, Privacy::Secret, b"one").unwrap();
        assert!(matches!(new_file(&path, Privacy::Secret, b"two"), Err(CertsError::Exists(_))));
        assert_eq!(fs::read(&path).unwrap(), b"one");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_directory_appears_whole_and_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a1");
        let files: [(&str, Privacy, &[u8]); 2] =
            [("cert.pem", Privacy::Public, b"c"), ("key.pem", Privacy::Secret, b"k")];
        new_dir(&path, &files).unwrap();
        assert!(matches!(new_dir(&path, &files), Err(CertsError::Exists(_))));
        // A name that cannot be written leaves nothing behind.
        assert!(new_dir(&dir.path().join("a2"), &[("no/such", Privacy::Public, b"")]).is_err());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_at_the_limit_is_read_and_one_byte_more_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("big");
        let limit = usize::try_from(FILE_BYTES_MAX).unwrap();
        fs::write(&path, vec![b'x'; limit]).unwrap();
        assert_eq!(read(&path, "", "").unwrap().len(), limit);
        fs::write(&path, vec![b'x'; limit + 1]).unwrap();
        assert!(matches!(read(&path, "", ""), Err(CertsError::Malformed { .. })));
    }
}
