//! Everything that can go wrong between a directory and an identity: which file, why, and what to do next.
//! Never holds key material.

use std::io;
use std::path::PathBuf;

use crate::{Date, NameError, SubjectError};

/// What went wrong with certificates and keys on this machine. Nothing was changed on disk unless it says so.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CertsError {
    /// The system gave no entropy.
    #[error("the system gave no random bytes (its entropy source failed); try again")]
    Entropy,
    /// A name, a role or a cluster id is not legal.
    #[error("{0}; choose another one")]
    Name(#[from] NameError),
    /// A file that must be new exists.
    #[error("{} exists (keys and certificates are never overwritten); choose another directory or move it away", .0.display())]
    Exists(PathBuf),
    /// A file that must exist does not.
    #[error("{} is missing ({needed}); {next}", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// What it is needed for.
        needed: &'static str,
        /// The next step.
        next: &'static str,
    },
    /// The system refused an operation on a file.
    #[error("cannot {doing} {} ({source}); check the path, its owner and the free space", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The verb.
        doing: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// Others than the owner can read a private key.
    #[error("{} is readable by others (mode {mode:04o}); run: chmod 600 {}", path.display(), path.display())]
    Loose {
        /// The key file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A file does not hold what its name promises.
    #[error("{} cannot be used ({why}); issue it again with `quorate certs issue`", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong in it.
        why: String,
    },
    /// Key and certificate do not belong together.
    #[error("{} is not the key of {}; copy both files of one issue together", key.display(), certificate.display())]
    KeyMismatch {
        /// The key file.
        key: PathBuf,
        /// The certificate file.
        certificate: PathBuf,
    },
    /// The certificate was not signed by the authority beside it.
    #[error("{} was not issued by the authority in {} ({why}); copy ca.pem and cert.pem of one issue together", certificate.display(), authority.display())]
    OtherAuthority {
        /// The certificate file.
        certificate: PathBuf,
        /// The authority's file.
        authority: PathBuf,
        /// What verification said.
        why: String,
    },
    /// The certificate's time is over.
    #[error("{} expired at {not_after} (it is {now} now); issue a new one with `quorate certs issue`", path.display())]
    Expired {
        /// The certificate file.
        path: PathBuf,
        /// Its end.
        not_after: Date,
        /// This machine's clock.
        now: Date,
    },
    /// The authority's time is over, and with it that of all it vouches for.
    #[error("{}: the authority expired at {not_after} (it is {now} now); make a new one with `quorate certs init`", path.display())]
    AuthorityExpired {
        /// The authority's file.
        path: PathBuf,
        /// Its end.
        not_after: Date,
        /// This machine's clock.
        now: Date,
    },
    /// The certificate's time, or its authority's, has not begun.
    #[error("{} is not valid before {not_before} (it is {now} now); check this machine's clock", path.display())]
    NotYetValid {
        /// The certificate file.
        path: PathBuf,
        /// Its beginning.
        not_before: Date,
        /// This machine's clock.
        now: Date,
    },
    /// The certificate names nobody of ours.
    #[error("{} names no agent or client ({source}); issue it again with `quorate certs issue`", path.display())]
    Subject {
        /// The certificate file.
        path: PathBuf,
        /// Which rule it breaks.
        source: SubjectError,
    },
    /// An authority of one cluster was asked to vouch for another.
    #[error("this authority vouches for cluster {ours} only (asked for {asked}); use the authority of that cluster")]
    OtherCluster {
        /// The cluster of the authority.
        ours: crate::ClusterId,
        /// The cluster asked for.
        asked: crate::ClusterId,
    },
    /// A cryptographic operation failed.
    #[error("cannot {doing} ({why}); this is a fault of this program or of the file it read, please report it")]
    Crypto {
        /// The verb.
        doing: &'static str,
        /// What the library said.
        why: String,
    },
}

impl CertsError {
    pub(crate) fn crypto(doing: &'static str, why: impl ToString) -> Self {
        Self::Crypto { doing, why: why.to_string() }
    }
}
